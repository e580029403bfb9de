"""One token a codon, for coding sequences."""

from collections import abc
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Int, Integer, UInt8

from maskseq.tokenizer import Tokenizer, Variant
from maskseq.types import Encoded, Field, LegalCells
from maskseq_genomics.genetic_code import DIFFERENCES, genetic_code
from maskseq_genomics.kmer import KmerTokenizer
from maskseq_genomics.sequence import Sequence


@dataclass(frozen=True, kw_only=True)
class CodonTokenizer(Tokenizer[Sequence]):
    """Codons in one reading frame; bases left over at either end are tokens of one or two bases."""

    frame: int = 0
    """Bases before the first codon: 0, 1 or 2."""
    code: int = 1
    """Number of the NCBI genetic code; bacteria have 11, vertebrate mitochondria 2."""
    coding: bool = True
    """Refuse records with a stop codon before their last codon, and never infill one there."""

    def __post_init__(self) -> None:
        if not 0 <= self.frame <= 2:
            raise ValueError(f"frame is {self.frame}; it is 0, 1 or 2")
        if self.code not in DIFFERENCES:
            raise ValueError(f"code is {self.code}; the NCBI genetic codes are {', '.join(map(str, DIFFERENCES))}")

    @cached_property
    def fields(self) -> tuple[Field, ...]:  # type: ignore[override]
        return (Field(name="codon", tokens=self._kmers.fields[0].tokens, source="base"),)

    @cached_property
    def _kmers(self) -> KmerTokenizer:
        return KmerTokenizer(k=3, phase=self.frame)

    @cached_property
    def _stops(self) -> Bool[np.ndarray, "ids"]:
        """Which tokens are stop codons."""
        code = genetic_code(self.code)
        return np.array([code.get(token) == "*" for token in self.fields[0].tokens])

    def encode(self, record: Sequence) -> Encoded:
        encoded = self._kmers.encode(record)
        if self.coding:
            is_stop = np.append(self._stops, False)[encoded.ids[:, 0]]  # [MASK] is none
            whole = np.arange(len(is_stop))[self._kmers.frame(len(record)).wholes]
            early = whole[:-1][is_stop[whole[:-1]]]
            if len(early):
                number = int(early[0] - whole[0])
                stop = self.fields[0].token(int(encoded.ids[early[0], 0]))
                raise record.fault(
                    self.frame + 3 * number,
                    f"stop codon {stop} inside the reading frame (codon {number + 1} of {len(whole)}, genetic code "
                    f"{self.code}); choose another frame or code, or coding=false for sequences that are not coding",
                )
        return encoded

    def decode(self, ids: Integer[np.ndarray, "length 1"]) -> str:
        """The codons with blanks between them; `[MASK]` as NNN."""
        return self._kmers.decode(ids)

    def strands(self, ids: Integer[np.ndarray, "length 1"]) -> abc.Sequence[UInt8[np.ndarray, "letters"]]:
        return self._kmers.strands(ids)

    def translate(self, ids: Integer[np.ndarray, "length 1"]) -> str:
        """The amino acids of the codons, X for unknown ones; bases left over at the ends are not translated."""
        amino_acids = [*genetic_code(self.code).values(), *[""] * (len(self._stops) - 64), "X"]
        return "".join(amino_acids[i] for i in ids[:, 0])

    def units(self, ids: Integer[np.ndarray, "length 1"]) -> Int[np.ndarray, "length 1 2"]:
        return self._kmers.units(ids)

    def allowed(self, ids: Integer[np.ndarray, "length 1"]) -> LegalCells | None:
        """Hidden tokens are codons, but for the ends; in coding sequences only the last codon may be a stop."""
        grammar = self._kmers.allowed(ids)
        if grammar is not None and self.coding:
            last = len(ids) - (1 if ids[-1, 0] < 64 else 2)  # bases left over, or perhaps such, may follow it
            grammar.allowed[grammar.cells[:, 0] < last] &= ~self._stops
        return grammar

    def splice(
        self, record: Sequence, ids: Integer[np.ndarray, "length 1"], holes: Bool[np.ndarray, "length 1"]
    ) -> Sequence:
        return self._kmers.splice(record, ids, holes)

    def variants(self, record: Sequence) -> Iterator[Variant[Sequence]]:
        """Of what is not coding, the other strand and the other frames; the other strand of a gene does not code."""
        if not self.coding:
            for each in self._kmers.variants(record):
                assert isinstance(each.tokenizer, KmerTokenizer)
                yield replace(each, tokenizer=replace(self, frame=each.tokenizer.phase))
