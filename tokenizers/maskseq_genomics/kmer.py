"""Words of k bases, side by side (as in Nucleotide Transformer) or overlapping (as in DNABERT)."""

import zlib
from collections import abc
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
from jaxtyping import Bool, Int, Integer, UInt8

from maskseq.tokenizer import Symmetry, Tokenizer, Variant
from maskseq.types import Encoded, Field, LegalCells
from maskseq_genomics.alphabet import NUCLEOTIDES, both_strands, reverse_complement
from maskseq_genomics.by_base import ByBase
from maskseq_genomics.nucleotide import NucleotideTokenizer
from maskseq_genomics.sequence import Sequence
from maskseq_genomics.words import NOTHING, Frame, Words, words

LEGAL_BYTES = 1 << 26  # of the table of legal words; in a record with more unknown bases, later ones are not narrowed


@dataclass(frozen=True, kw_only=True)
class KmerTokenizer(Tokenizer[Sequence]):
    """One token for k bases. A word over an unknown base is unknown, narrowed to the words that its letters allow.

    Side by side, what is left over at either end is a shorter word, a token of its own, so that no base is lost. One
    inserted base changes every later token; `phase` moves the frame. Overlapping words give each base away k times
    (DNABERT's leak): each declares the k bases that it spans, so that masks are planned in bases and hide every word
    over a hidden one.
    """

    k: int = 6
    overlapping: bool = False
    phase: int = 0
    """Bases before the first whole word, side by side only."""

    def __post_init__(self) -> None:
        if not 1 <= self.k <= 8:
            raise ValueError(f"k is {self.k}; words of 1 to 8 bases are supported")
        if not 0 <= self.phase < (1 if self.overlapping else self.k):
            raise ValueError(f"phase is {self.phase}; it is less than k, and 0 for overlapping words")

    @cached_property
    def fields(self) -> tuple[Field, ...]:  # type: ignore[override]
        return (Field(name="kmer", tokens=self._words.tokens, source="base"),)

    @property
    def _words(self) -> Words:
        return words(self.k)

    @property
    def _overlap(self) -> int:
        return self.k - 1 if self.overlapping else 0

    def frame(self, length: int) -> Frame:
        """How a sequence of that many bases is divided into words."""
        return Frame.of(length, k=self.k, step=self.k - self._overlap, phase=self.phase)

    def encode(self, record: Sequence) -> Encoded:
        codes = NUCLEOTIDES.codes(record)
        frame = self.frame(len(codes))
        ids = self._ids(codes, frame)
        partly = ids == self._words.mask_id
        if partly.any():
            partly &= frame.any(codes != NUCLEOTIDES.unknown)
        return Encoded(ids[:, None], self._legal(codes, frame, partly))

    def encode_many(self, records: abc.Sequence[Sequence]) -> list[Encoded]:
        """Without legal cells, which take most of the time for short records."""
        codes = map(NUCLEOTIDES.codes, records)
        return [Encoded(self._ids(each, self.frame(len(each)))[:, None]) for each in codes]

    def _ids(self, codes: Integer[np.ndarray, "length"], frame: Frame) -> Integer[np.ndarray, "words"]:
        ids = frame.ids(codes)
        if codes.max(initial=0) >= NUCLEOTIDES.unknown:
            ids[frame.any(codes >= NUCLEOTIDES.unknown)] = self._words.mask_id
        return ids

    def _legal(
        self, codes: Integer[np.ndarray, "length"], frame: Frame, partly: Bool[np.ndarray, "words"]
    ) -> LegalCells | None:
        narrowed = np.flatnonzero(partly[frame.wholes])[: LEGAL_BYTES // self._words.mask_id] + frame.wholes.start
        narrowed = np.union1d(narrowed, [0, len(frame) - 1][: len(frame)])  # the ids do not tell how long these are
        if not len(narrowed):
            return None
        starts, lengths = frame.spans(narrowed)
        allowed = np.zeros((len(narrowed), self._words.mask_id), bool)
        for length in set(lengths.tolist()):
            rows = lengths == length
            letters = codes[starts[rows, None] + np.arange(length)]
            letters[~partly[narrowed[rows]]] = NUCLEOTIDES.unknown  # a known word at an end: any other of its length
            allowed[rows] = self._words.legal(letters)
        return LegalCells(np.stack([narrowed, np.zeros_like(narrowed)], axis=1), allowed)

    def decode(self, ids: Integer[np.ndarray, "length 1"]) -> str:
        """The words with blanks between them; `[MASK]` as Ns."""
        texts = [*self._words.tokens, NUCLEOTIDES.anything * self.k]
        return " ".join(texts[i] for i in ids[:, 0].tolist())

    def strands(self, ids: Integer[np.ndarray, "length 1"]) -> abc.Sequence[UInt8[np.ndarray, "letters"]]:
        """Of words that overlap, the first base of each, and the others of the last."""
        bases = self._words.bases[ids[:, 0]]
        codes = np.append(bases[:, 0], bases[-1:, 1:]) if self.overlapping else bases.ravel()
        return both_strands(codes[codes != NOTHING])

    def units(self, ids: Integer[np.ndarray, "length 1"]) -> Int[np.ndarray, "length 1 2"]:
        lengths = self._words.lengths[ids[:, 0]].astype(np.int64)
        if self.phase and len(ids) and ids[0, 0] == self._words.mask_id:
            lengths[0] = self.phase  # right where a record starts; in a window, no other word depends on these bases
        stops = np.cumsum(lengths) - self._overlap * np.arange(len(ids))
        return np.stack([stops - lengths, stops], axis=-1)[:, None]

    def allowed(self, ids: Integer[np.ndarray, "length 1"]) -> LegalCells | None:
        """Hidden words are whole, but for the ends, and agree with the visible words that they overlap."""
        masked = np.flatnonzero(ids[:, 0] == self._words.mask_id)
        if not len(masked):
            return None
        letters = np.full(len(ids) + self.k - 1, NUCLEOTIDES.unknown, np.uint8)
        if self.overlapping:
            visible = np.flatnonzero(ids[:, 0] < self._words.first(self.k - 1))  # whole words
            for base in range(self.k):
                letters[visible + base] = self._words.bases[ids[visible, 0], base]
        allowed = self._words.legal(letters[masked[:, None] + np.arange(self.k)])
        if masked[-1] == len(ids) - 1 and (not self.overlapping or len(ids) == 1):
            allowed[-1] = True
        if masked[0] == 0 and self.phase:
            allowed[0] |= self._words.lengths[:-1] == self.phase
        return LegalCells(np.stack([masked, np.zeros_like(masked)], axis=1), allowed)

    def splice(
        self, record: Sequence, ids: Integer[np.ndarray, "length 1"], holes: Bool[np.ndarray, "length 1"]
    ) -> Sequence:
        """Writes the bases that no word outside the holes covers; where words over a base differ, most of them decide.

        In a word that has unknown letters in the record, only those are written.
        """
        frame = self.frame(len(record))
        index = np.flatnonzero(holes)
        starts, lengths = frame.spans(index)
        filled = ids[index, 0]
        wrong = (self._words.lengths[filled] != lengths) & (filled != self._words.mask_id)
        if len(ids) != len(frame) or wrong.any():
            raise ValueError(f"these tokens are not as long as the words of record {record.key!r}")

        unknown = NUCLEOTIDES.codes(record) >= NUCLEOTIDES.unknown
        kept = frame.cover(~holes[:, 0]) | (frame.cover(frame.any(unknown)) & ~unknown)
        positions = np.flatnonzero(~kept)
        votes = np.zeros((len(positions), len(NUCLEOTIDES.known)), np.int64)
        for base in range(self.k):
            letters = self._words.bases[filled, base]
            row = np.searchsorted(positions, starts + base)
            reported = (letters < NUCLEOTIDES.unknown) & np.isin(starts + base, positions)
            np.add.at(votes, (row[reported], letters[reported]), 1)
        codes = np.where(votes.any(axis=1), votes.argmax(axis=1), NUCLEOTIDES.unknown)
        return NUCLEOTIDES.put(record, positions, codes)

    def by_unit(self) -> tuple[Tokenizer[Sequence], abc.Callable[[Any], Any]] | None:
        """Bases, for overlapping words: the words over a base say the same of it, and are written together."""
        return (NucleotideTokenizer(), partial(ByBase, k=self.k)) if self.overlapping else None

    def symmetries(self) -> tuple[Symmetry[Sequence], ...]:
        """The reverse complement, exact for overlapping words only: the frame of the others moves with the length."""
        if not self.overlapping:
            return ()
        maps = (self._words.reverse_complement,)
        return (Symmetry(name="reverse complement", transform=reverse_complement, id_maps=maps, reverse=True),)

    def variants(self, record: Sequence) -> Iterator[Variant[Sequence]]:
        """Side by side: both strands by turns, each in frames from one that the key decides on, 2 k − 1 in all.

        Frames whose first word is unknown are passed over, but for the own one: ids would not tell how long it is.
        """
        if self.overlapping:
            return
        draw = zlib.crc32(record.key.encode())
        other_strand = reverse_complement(record)
        for turn in range(self.k):
            for reverse, start in ((True, draw % self.k), (False, draw // self.k % self.k)):
                seen, phase = other_strand if reverse else record, (start + turn) % self.k
                if (reverse or phase != self.phase) and (phase == self.phase or self._begins_known(seen, phase)):
                    strand = "reverse complement" if reverse else "forward strand"
                    yield Variant(
                        name=f"{strand}, frame {phase}",
                        record=seen,
                        tokenizer=replace(self, phase=phase),
                        reverse=reverse,
                    )

    def _begins_known(self, record: Sequence, phase: int) -> bool:
        """Whether the first word is known when it has `phase` bases, or k for phase 0."""
        codes = NUCLEOTIDES.codes(record.cut(0, phase or self.k))
        return bool(len(codes)) and bool(codes.max() < NUCLEOTIDES.unknown)
