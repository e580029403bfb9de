"""Words of k bases: their vocabulary, and where they lie in a sequence. What `kmer` and `codon` tokens are made of."""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import product

import numpy as np
from jaxtyping import Bool, Int, Integer, UInt8

from maskseq.types import Field, Vocabulary
from maskseq_genomics.alphabet import NUCLEOTIDES

BLOCK = 1 << 16  # words: their ids stay in the cache
NOTHING = 255  # fills up the bases of words shorter than k


@dataclass(frozen=True)
class Words:
    """All words of k bases in alphabetical order, then all of k - 1 bases, and so on down to one."""

    k: int

    @cached_property
    def tokens(self) -> tuple[str, ...]:
        return tuple("".join(word) for n in range(self.k, 0, -1) for word in product(NUCLEOTIDES.known, repeat=n))

    def first(self, length: int) -> int:
        """The id of the first word of that many bases."""
        return sum(4**n for n in range(length + 1, self.k + 1))

    @property
    def mask_id(self) -> int:
        return len(self.tokens)

    @cached_property
    def dtype(self) -> np.dtype[np.unsignedinteger]:
        return Vocabulary.of([Field(name="word", tokens=self.tokens)]).dtype

    @cached_property
    def lengths(self) -> UInt8[np.ndarray, "ids"]:
        """Bases of each word; k for `[MASK]`."""
        return np.array([*map(len, self.tokens), self.k], np.uint8)

    @cached_property
    def bases(self) -> UInt8[np.ndarray, "ids k"]:
        """The codes of each word's bases; unknown ones for `[MASK]`, `NOTHING` after the end of shorter words."""
        bases = np.full((len(self.tokens) + 1, self.k), NOTHING, np.uint8)
        for n in range(1, self.k + 1):
            bases[self.first(n) : self.first(n) + 4**n, :n] = np.indices((4,) * n).reshape(n, -1).T
        bases[-1] = NUCLEOTIDES.unknown
        return bases

    @cached_property
    def reverse_complement(self) -> tuple[int, ...]:
        """The id of each word's reverse complement; `[MASK]` stays itself."""
        complement = str.maketrans("ACGT", "TGCA")
        ids = {word: i for i, word in enumerate(self.tokens)}
        return (*(ids[word.translate(complement)[::-1]] for word in self.tokens), self.mask_id)

    def legal(self, bases: UInt8[np.ndarray, "cells length"]) -> Bool[np.ndarray, "cells ids"]:
        """Which words each row of letter codes may stand for: the product of what its letters may stand for."""
        n_cells, length = bases.shape
        allowed = np.ones((n_cells, 1), bool)
        for base in range(length):
            possible = NUCLEOTIDES.possible[bases[:, base]]
            allowed = (allowed[:, :, None] & possible[:, None, :]).reshape(n_cells, -1)
        rows = np.zeros((n_cells, len(self.tokens)), bool)
        rows[:, self.first(length) : self.first(length) + 4**length] = allowed
        return rows


@lru_cache
def words(k: int) -> Words:
    """The vocabulary of words of k bases, made once."""
    return Words(k)


@dataclass(frozen=True)
class Frame:
    """How a sequence is divided: perhaps a shorter word, then whole ones, then perhaps a shorter one."""

    k: int
    step: int
    """Bases from one whole word to the next."""
    lead: int
    whole: int
    tail: int

    @classmethod
    def of(cls, length: int, *, k: int, step: int, phase: int) -> "Frame":
        lead = min(phase, length)
        whole = max((length - lead - k) // step + 1, 0)
        covered = lead + (whole - 1) * step + k if whole else lead
        return cls(k, step, lead, whole, length - covered)

    def __len__(self) -> int:
        return bool(self.lead) + self.whole + bool(self.tail)

    @property
    def wholes(self) -> slice:
        """Which words are whole."""
        return slice(bool(self.lead), bool(self.lead) + self.whole)

    @property
    def length(self) -> int:
        """Bases of the sequence."""
        return self.lead + ((self.whole - 1) * self.step + self.k if self.whole else 0) + self.tail

    @property
    def short(self) -> list[tuple[int, int, int]]:
        """Of the shorter words: index, first base, number of bases."""
        found = [(0, 0, self.lead), (len(self) - 1, self.length - self.tail, self.tail)]
        return [word for word in found if word[2]]

    def spans(self, index: Int[np.ndarray, "some"]) -> tuple[Int[np.ndarray, "some"], Int[np.ndarray, "some"]]:
        """First base and number of bases of some words."""
        starts = self.lead + (index - self.wholes.start) * self.step
        lengths = np.full_like(index, self.k)
        for word, start, length in self.short:
            starts[index == word], lengths[index == word] = start, length
        return starts, lengths

    def _strided(self, base: int) -> slice:
        """Base number `base` of every whole word."""
        first = self.lead + base
        return slice(first, first + (self.whole - 1) * self.step + 1, self.step) if self.whole else slice(0, 0)

    def ids(self, codes: UInt8[np.ndarray, "length"]) -> Integer[np.ndarray, "words"]:
        """Ids of the words of known bases (what comes out for the others means nothing)."""
        vocabulary = words(self.k)
        ids = np.zeros(len(self), vocabulary.dtype)
        whole = ids[self.wholes]
        for first in range(0, self.whole, BLOCK):
            block = whole[first : first + BLOCK]
            for base in range(self.k):
                start = self.lead + first * self.step + base
                block <<= 2
                block |= codes[start : start + (len(block) - 1) * self.step + 1 : self.step]
        for word, start, length in self.short:
            number = int("".join(map(str, codes[start : start + length] & 3)), base=4)
            ids[word] = vocabulary.first(length) + number
        return ids

    def any(self, flags: Bool[np.ndarray, "length"]) -> Bool[np.ndarray, "words"]:
        """Which words lie over a flagged base."""
        found = np.zeros(len(self), bool)
        for base in range(self.k):
            found[self.wholes] |= flags[self._strided(base)]
        for word, start, length in self.short:
            found[word] = flags[start : start + length].any()
        return found

    def cover(self, flags: Bool[np.ndarray, "words"]) -> Bool[np.ndarray, "length"]:
        """Which bases lie under a flagged word."""
        found = np.zeros(self.length, bool)
        for base in range(self.k):
            found[self._strided(base)] |= flags[self.wholes]
        for word, start, length in self.short:
            found[start : start + length] = flags[word]
        return found
