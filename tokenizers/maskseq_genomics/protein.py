"""One token an amino acid."""

from collections.abc import Sequence as Records
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Integer, UInt8

from maskseq.survey import Suggestion
from maskseq.tokenizer import UNKNOWN_LETTER
from maskseq.types import Field
from maskseq_genomics.alphabet import AMINO_ACIDS
from maskseq_genomics.letters import LetterTokenizer
from maskseq_genomics.survey import suggest_proteins


@dataclass(frozen=True, kw_only=True)
class ProteinTokenizer(LetterTokenizer):
    """Protein, residue by residue: the twenty amino acids, U, O and the stop `*`. X, B, Z and J are unknown."""

    alphabet = AMINO_ACIDS
    fields = (Field(name="residue", tokens=tuple(AMINO_ACIDS.known)),)

    def strands(self, ids: Integer[np.ndarray, "length 1"]) -> Records[UInt8[np.ndarray, "letters"]]:
        known = ids[:, 0] < AMINO_ACIDS.unknown
        return (np.where(known, ids[:, 0], UNKNOWN_LETTER).astype(np.uint8),)

    @classmethod
    def suggest(cls, records: Records[Any]) -> Suggestion | None:
        return suggest_proteins(records)
