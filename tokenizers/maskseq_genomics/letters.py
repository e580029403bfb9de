"""One token a letter: what the nucleotide and the protein tokenizers share."""

from collections import abc
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from jaxtyping import Bool, Integer

from maskseq.errors import DataError
from maskseq.tokenizer import Tokenizer
from maskseq.types import Encoded, LegalCells
from maskseq_genomics.alphabet import Alphabet, soft_masked
from maskseq_genomics.sequence import Sequence


@dataclass(frozen=True, kw_only=True)
class LetterTokenizer(Tokenizer[Sequence]):
    """Residue by residue. Ambiguous letters are unknown cells, narrowed to what they may stand for."""

    alphabet: ClassVar[Alphabet]

    soft_mask_weight: float = 1.0
    """Loss weight of lower-case letters. In genomes whose repeats are lower case, 0.1 keeps them from dominating the
    loss (as GPN does: Benegas et al. 2023, doi:10.1073/pnas.2311219120); elsewhere lower case may mean low quality or
    nothing, hence 1."""

    def __post_init__(self) -> None:
        if not 0 <= self.soft_mask_weight < np.inf:
            raise ValueError(f"soft_mask_weight is {self.soft_mask_weight}; a loss weight is 0 or more")

    def encode(self, record: Sequence) -> Encoded:
        alphabet = self.alphabet
        codes = alphabet.codes(record)
        legal = None
        if codes.max(initial=0) > alphabet.unknown:
            partly = np.flatnonzero(codes > alphabet.unknown)
            legal = LegalCells(np.stack([partly, np.zeros_like(partly)], axis=1), alphabet.possible[codes[partly]])
        weights = None
        if self.soft_mask_weight != 1:
            weights = np.where(soft_masked(record), np.float32(self.soft_mask_weight), np.float32(1))[:, None]
        ids = np.minimum(codes, alphabet.unknown)[:, None]  # `unknown` is the id of [MASK]
        return Encoded(ids, legal, weights, circular=record.circular)

    def encode_many(self, records: abc.Sequence[Sequence]) -> list[Encoded]:
        together = Sequence(key="", residues=b"".join([record.residues for record in records]))
        try:
            encoded = self.encode(together)
        except DataError:
            return super().encode_many(records)  # which says where
        stops = np.cumsum([len(record) for record in records]).tolist()
        cut = (encoded.cut(stop - len(record), stop) for record, stop in zip(records, stops, strict=True))
        return [replace(each, circular=record.circular) for each, record in zip(cut, records, strict=True)]

    def resized(self, record: Sequence, start: int, stop: int, length: int) -> Sequence:
        return record.with_letters(start, stop, self.alphabet.anything.encode() * length)

    def decode(self, ids: Integer[np.ndarray, "length 1"]) -> str:
        return self.alphabet.text(ids[:, 0])

    def splice(
        self, record: Sequence, ids: Integer[np.ndarray, "length 1"], holes: Bool[np.ndarray, "length 1"]
    ) -> Sequence:
        positions = np.flatnonzero(holes)
        return self.alphabet.put(record, positions, ids[positions, 0])
