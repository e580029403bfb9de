"""One token a base: the tokenizer to start with. N and the other IUPAC codes are unknown bases, which infill fills."""

from collections.abc import Mapping
from collections.abc import Sequence as Records
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Integer, UInt8

from maskseq.survey import Suggestion
from maskseq.tokenizer import Rule, Symmetry
from maskseq.types import Field
from maskseq_genomics.alphabet import NUCLEOTIDES, both_strands, reverse_complement
from maskseq_genomics.letters import LetterTokenizer
from maskseq_genomics.rules import gc_content, motif, open_frame
from maskseq_genomics.sequence import Sequence
from maskseq_genomics.survey import suggest_nucleotides


@dataclass(frozen=True, kw_only=True)
class NucleotideTokenizer(LetterTokenizer):
    """DNA or RNA, base by base. U is the token T, and comes back as U in records that are RNA.

    *Why single bases*: over 44 tasks at nucleotide resolution they match or beat sub-words (Lindsey et al. 2025,
    doi:10.1093/bioinformatics/btaf456), every base can be masked alone, and the reverse complement is exact.
    """

    alphabet = NUCLEOTIDES
    fields = (Field(name="base", tokens=tuple(NUCLEOTIDES.known)),)

    @classmethod
    def suggest(cls, records: Records[Any]) -> Suggestion | None:
        return suggest_nucleotides(records)

    def symmetries(self) -> tuple[Symmetry[Sequence], ...]:
        complement = (3, 2, 1, 0, 4)  # of A, C, G, T, [MASK]
        return (Symmetry(name="reverse complement", transform=reverse_complement, id_maps=(complement,), reverse=True),)

    def strands(self, ids: Integer[np.ndarray, "length 1"]) -> Records[UInt8[np.ndarray, "letters"]]:
        return both_strands(ids[:, 0])

    def rules(self) -> Mapping[str, Rule]:
        return {"motif": motif, "gc": gc_content, "open-frame": open_frame}
