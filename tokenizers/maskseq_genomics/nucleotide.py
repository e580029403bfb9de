"""One token a base: the tokenizer to start with. N and the other IUPAC codes are unknown bases, which infill fills."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Integer

from maskseq.tokenizer import Symmetry, Tokenizer
from maskseq.types import Encoded, Field, LegalCells
from maskseq_genomics.alphabet import (
    POSSIBLE,
    UNKNOWN,
    base_codes,
    reverse_complement,
    soft_masked,
    to_text,
    with_bases,
)
from maskseq_genomics.sequence import Sequence


@dataclass(frozen=True, kw_only=True)
class NucleotideTokenizer(Tokenizer[Sequence]):
    """DNA or RNA, base by base. U is the token T, and comes back as U in records that are RNA.

    *Why single bases*: over 44 tasks at nucleotide resolution they match or beat sub-words (Lindsey et al. 2025,
    doi:10.1093/bioinformatics/btaf456), every base can be masked alone, and the reverse complement is exact.
    """

    soft_mask_weight: float = 1.0
    """Loss weight of lower-case bases. In genomes whose repeats are lower case, 0.1 keeps them from dominating the
    loss (as GPN does: Benegas et al. 2023, doi:10.1073/pnas.2311219120); elsewhere lower case may mean low quality or
    nothing, hence 1."""

    fields = (Field(name="base", tokens=("A", "C", "G", "T")),)

    def __post_init__(self) -> None:
        if not 0 <= self.soft_mask_weight < np.inf:
            raise ValueError(f"soft_mask_weight is {self.soft_mask_weight}; a loss weight is 0 or more")

    def encode(self, record: Sequence) -> Encoded:
        codes = base_codes(record)
        legal = None
        if codes.max(initial=0) > UNKNOWN:
            partly = np.flatnonzero(codes > UNKNOWN)
            legal = LegalCells(np.stack([partly, np.zeros_like(partly)], axis=1), POSSIBLE[codes[partly]])
        ids = np.minimum(codes, UNKNOWN)[:, None]  # the code of N is the id of [MASK]
        return Encoded(ids, legal, self._weights(record))

    def _weights(self, record: Sequence) -> Float32[np.ndarray, "length 1"] | None:
        if self.soft_mask_weight == 1:
            return None
        return np.where(soft_masked(record), np.float32(self.soft_mask_weight), np.float32(1))[:, None]

    def decode(self, ids: Integer[np.ndarray, "length 1"]) -> str:
        return to_text(ids[:, 0])

    def splice(
        self, record: Sequence, ids: Integer[np.ndarray, "length 1"], holes: Bool[np.ndarray, "length 1"]
    ) -> Sequence:
        return with_bases(record, holes[:, 0], ids[:, 0])

    def symmetries(self) -> tuple[Symmetry[Sequence], ...]:
        complement = (3, 2, 1, 0, UNKNOWN)
        return (Symmetry(name="reverse complement", transform=reverse_complement, id_maps=(complement,), reverse=True),)
