"""All places of a line of ids, sorted by their neighbours: how often each id stood in any context, wide or narrow.

*Why* sorted places and no table of codes: one sort, nearest neighbours first, serves all depths at once, because the
places of a context and of each narrower one are stretches of the sorted places. It is exact for any number of ids and
neighbours, and needs 4 bytes a place, however deep it is.
"""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Int, Int32, Integer, UInt, UInt64

BLOCK = 64
"""Sorted places between two of which counts of each id are stored; those within are counted when they are asked for."""


class Line:
    """The ids of one field of several sequences, end to end, with marks for their ends between them."""

    def __init__(self, columns: Sequence[Integer[np.ndarray, " _"]], n_ids: int, room: int) -> None:
        """`room` marks stand beyond either end, so that neighbours up to so far away need no check."""
        self.n_ids, self.room = n_ids, room
        self.end, self.unknown = n_ids, n_ids + 1
        lengths = np.array([len(column) for column in columns], np.int64)
        self.starts = np.cumsum(lengths + room) - lengths
        """Where each sequence begins."""
        self.digits = np.full(int((lengths + room).sum()) + room, self.end, np.min_scalar_type(self.unknown))
        for start, column in zip(self.starts.tolist(), columns, strict=True):
            self.digits[start : start + len(column)] = np.minimum(column, self.unknown)
            self.digits[start : start + len(column)][column >= n_ids] = self.unknown
        self.lengths = lengths

    @property
    def places(self) -> Int[np.ndarray, " positions"]:
        """Of all positions, in their order."""
        shift = self.starts - (np.cumsum(self.lengths) - self.lengths)
        inside = np.repeat(shift, self.lengths) + np.arange(self.lengths.sum())
        return inside.astype(np.int32 if len(self.digits) < 1 << 31 else np.int64)

    @cached_property
    def known(self) -> Bool[np.ndarray, " line"]:
        """The ends of a sequence are known, too."""
        return np.asarray(self.digits != self.unknown)


class ContextIndex:
    """Places sorted by the digits at the offsets of a path, the first offset first."""

    def __init__(
        self,
        line: Line,
        places: Int[np.ndarray, " places"],
        path: tuple[int, ...],
        groups: Int[np.ndarray, " places"] | None = None,
        n_ids: int | None = None,
    ) -> None:
        """`groups` are sorted by before anything else, so that each has a stretch of its own.

        `n_ids` are those that are counted (default: all of the line).
        """
        self.line, self.path, self.n_ids = line, path, line.n_ids if n_ids is None else n_ids
        words = packed(line.digits, places, path, line.unknown + 1)
        keys = [*words[::-1]] if groups is None else [*words[::-1], groups]
        order = np.argsort(keys[0], kind="stable") if len(keys) == 1 else np.lexsort(keys)
        self.places = places[order]
        self.words: UInt[np.ndarray, " places"] | None = None
        """The beginning of each context as one number, in order: finds a context at once. Not of several groups."""
        if groups is None:
            digits = min(digits_of_words(line.unknown + 1), len(path))
            self.words = words[0][order].astype(np.min_scalar_type((line.unknown + 1) ** digits - 1))
        self._targets: dict[int, tuple[np.ndarray, Int32[np.ndarray, "blocks ids"]]] = {}

    def narrowed(
        self,
        low: Int[np.ndarray, " cells"],
        high: Int[np.ndarray, " cells"],
        step: int,
        wanted: Integer[np.ndarray, " cells"],
    ) -> tuple[Int[np.ndarray, " cells"], Int[np.ndarray, " cells"]]:
        """Of stretches that agree on `path[:step]`, those with the wanted digit at `path[step]`."""
        wide = wanted.astype(np.int64)
        low = self._bound(low, high, self.path[step], wide)
        return low, self._bound(low, high, self.path[step], wide + 1)

    def found(
        self, step: int, word: UInt64[np.ndarray, " cells"]
    ) -> tuple[Int[np.ndarray, " cells"], Int[np.ndarray, " cells"]] | None:
        """The stretches of contexts whose `step + 1` first digits are a number; None where 64 bits are too few."""
        base = self.line.unknown + 1
        rest = min(digits_of_words(base), len(self.path)) - step - 1
        if self.words is None or rest < 0:
            return None
        unit = np.uint64(base**rest)
        low, last = word * unit, word * unit + (unit - np.uint64(1))
        low, last = (each.astype(self.words.dtype) for each in (low, last))  # else all words would be converted
        return np.searchsorted(self.words, low), np.searchsorted(self.words, last, side="right")

    def counts(
        self, low: Int[np.ndarray, " cells"], high: Int[np.ndarray, " cells"], target: int = 0
    ) -> Int[np.ndarray, "cells ids"]:
        """How often each id stands at this offset from the places of each stretch."""
        if len(low) > BLOCK:  # many share one
            _, first, which = np.unique(low * (len(self.places) + 1) + high, return_index=True, return_inverse=True)
            if len(first) < len(low):
                return self.counts(low[first], high[first], target)[which.ravel()]
        ids, stored = self._target(target)
        short = high - low <= BLOCK
        found = np.where(short[:, None], 0, stored[high // BLOCK] - stored[low // BLOCK]).astype(np.int64)
        # Short stretches are counted; of long ones, what their last block has too little and their first too much.
        for start, stop, sign in (
            (np.where(short, low, high // BLOCK * BLOCK), high, 1),
            (low // BLOCK * BLOCK, np.where(short, low // BLOCK * BLOCK, low), -1),
        ):
            sizes = stop - start
            cell = np.repeat(np.arange(len(low)), sizes)
            seen = ids[np.arange(len(cell)) + np.repeat(stop - np.cumsum(sizes), sizes)].astype(np.int64)
            counted = seen < self.n_ids
            flat = cell[counted] * self.n_ids + seen[counted]
            found += sign * np.bincount(flat, minlength=found.size).reshape(found.shape)
        return np.asarray(found)

    def _bound(
        self, low: Int[np.ndarray, " cells"], high: Int[np.ndarray, " cells"], offset: int, least: Int[np.ndarray, "_"]
    ) -> Int[np.ndarray, " cells"]:
        """Where digits of at least this begin: bisection of all stretches at a time."""
        low, high = low.copy(), high.copy()
        (open_,) = np.nonzero(low < high)
        while len(open_):
            middle = (low[open_] + high[open_]) // 2
            below = self.line.digits[self.places[middle] + offset] < least[open_]
            low[open_[below]] = middle[below] + 1
            high[open_[~below]] = middle[~below]
            open_ = open_[low[open_] < high[open_]]
        return low

    def _target(self, target: int) -> tuple[np.ndarray, Int32[np.ndarray, "blocks ids"]]:
        if target not in self._targets:
            n_ids = self.n_ids
            ids = self.line.digits[self.places + target]
            counted = np.flatnonzero(ids < n_ids)
            n_blocks = len(ids) // BLOCK + 1
            each = np.bincount(counted // BLOCK * n_ids + ids[counted], minlength=n_blocks * n_ids)
            stored = np.zeros((n_blocks + 1, n_ids), np.int32)
            np.cumsum(each.reshape(n_blocks, n_ids), axis=0, out=stored[1:])
            self._targets[target] = ids, stored
        return self._targets[target]


class Stretches:
    """Of cells, the places that share their context so far.

    They are stretches of sorted places as long as these are sorted by the context, and then what is left of them.
    """

    def __init__(
        self,
        index: ContextIndex,
        path: tuple[int, ...],
        low: Int[np.ndarray, " cells"],
        high: Int[np.ndarray, " cells"],
        target: int = 0,
    ) -> None:
        """`index` is sorted by the beginning of the path; `target` is where the ids stand that are counted."""
        self.index, self.path, self.low, self.high, self.target = index, path, low, high, target
        self.word = np.zeros(len(low), np.uint64)
        self.cell: Int[np.ndarray, " left"] | None = None
        self.place = np.empty(0, np.int64)

    @classmethod
    def whole(cls, index: ContextIndex, path: tuple[int, ...], n_cells: int, target: int = 0) -> "Stretches":
        """All places, for each cell."""
        return cls(index, path, np.zeros(n_cells, np.int64), np.full(n_cells, len(index.places)), target)

    def narrow(self, step: int, wanted: Integer[np.ndarray, " cells"]) -> None:
        """Keep the places that have the wanted digit at this step of the path."""
        if step < len(self.index.path):
            self.word = self.word * np.uint64(self.index.line.unknown + 1) + wanted.astype(np.uint64)
            found = self.index.found(step, self.word)
            self.low, self.high = found or self.index.narrowed(self.low, self.high, step, wanted)
            return
        if self.cell is None:
            sizes = self.high - self.low
            self.cell = np.repeat(np.arange(len(sizes)), sizes)
            rank = np.arange(len(self.cell)) + np.repeat(self.high - np.cumsum(sizes), sizes)
            self.place = self.index.places[rank].astype(np.int64)
        same = self.index.line.digits[self.place + self.path[step]] == wanted[self.cell]
        self.cell, self.place = self.cell[same], self.place[same]

    def keep(self, which: Bool[np.ndarray, " cells"]) -> None:
        """Look at these cells only."""
        if self.cell is not None:
            kept = which[self.cell]
            self.cell, self.place = (np.cumsum(which) - 1)[self.cell[kept]], self.place[kept]
        self.low, self.high, self.word = self.low[which], self.high[which], self.word[which]

    @property
    def sizes(self) -> Int[np.ndarray, " cells"]:
        if self.cell is None:
            return np.asarray(self.high - self.low)
        return np.bincount(self.cell, minlength=len(self.low))

    def counts(self) -> Int[np.ndarray, "cells ids"]:
        """How often each id stands at the target."""
        if self.cell is None:
            return self.index.counts(self.low, self.high, self.target)
        n_ids, n_cells = self.index.n_ids, len(self.low)
        ids = self.index.line.digits[self.place + self.target].astype(np.int64)
        known = ids < n_ids
        return np.bincount((self.cell * n_ids + ids)[known], minlength=n_cells * n_ids).reshape(n_cells, n_ids)


class WithoutOwn:
    """Stretches less those of each cell's own record."""

    def __init__(self, every: Stretches, own: Stretches) -> None:
        self.every, self.own = every, own

    def narrow(self, step: int, wanted: Integer[np.ndarray, " cells"]) -> None:
        self.every.narrow(step, wanted)
        self.own.narrow(step, wanted)

    def keep(self, which: Bool[np.ndarray, " cells"]) -> None:
        """Look at these cells only."""
        self.every.keep(which)
        self.own.keep(which)

    @property
    def sizes(self) -> Int[np.ndarray, " cells"]:
        return np.asarray(self.every.sizes - self.own.sizes)

    def counts(self) -> Int[np.ndarray, "cells ids"]:
        return np.asarray(self.every.counts() - self.own.counts())


def digits_of_words(base: int) -> int:
    """How many digits 64 bits hold."""
    return next(n for n in range(64, 0, -1) if base**n <= 1 << 64)


def packed(
    digits: Integer[np.ndarray, " line"], places: Int[np.ndarray, " places"], offsets: Sequence[int], base: int
) -> UInt64[np.ndarray, "words places"]:
    """The digits at these offsets from each place as digits of numbers, as many to a number as 64 bits hold."""
    room = digits_of_words(base)
    words = np.zeros((max(-(-len(offsets) // room), 1), len(places)), np.uint64)
    for i, offset in enumerate(offsets):
        word = words[i // room]
        word *= np.uint64(base)
        word += digits[places + offset].astype(np.uint64)
    return words
