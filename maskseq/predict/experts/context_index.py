"""All places of a line of ids, sorted by their neighbours: how often each id stood in any context, wide or narrow.

*Why* sorted places and no table of codes: one sort, nearest neighbours first, serves all depths at once, because the
places of a context and of each narrower one are stretches of the sorted places. It is exact for any number of ids and
neighbours, and needs 4 bytes a place and 8 for each number that neighbours are packed into.
"""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Int, Int32, Integer, Shaped, UInt64

from maskseq.types import Vocabulary

BLOCK = 64
"""Ids between two of which counts of each are stored; those within are counted when they are asked for."""
WORDS = (np.uint8, np.uint16, np.uint32, np.uint64)
WHOLE = 1 << 64
"""One more than the largest number of 64 bits."""
SHORT = 1 << 16
"""The same of 16 bits."""


class Line:
    """The ids of one field of several sequences, end to end, with marks for their ends between them."""

    def __init__(
        self, columns: Sequence[Integer[np.ndarray, " _"]], n_ids: int, room: int, nearest: int | None = None
    ) -> None:
        """`room` marks stand beyond either end, so that neighbours up to so far away need no check.

        The `nearest` of them are others than those further away (default: all are the same): a sequence that ends
        right here is not one that ended before.
        """
        self.n_ids, self.room = n_ids, room
        self.end, self.unknown, beyond = n_ids, n_ids + 1, n_ids if nearest is None else n_ids + 2
        self.base = max(self.unknown, beyond) + 1
        """Digits."""
        lengths = np.array([len(column) for column in columns], np.int64)
        self.starts = np.cumsum(lengths + room) - lengths
        """Where each sequence begins."""
        self.digits = np.full(int((lengths + room).sum()) + room, beyond, np.min_scalar_type(self.base - 1))
        for start, column in zip(self.starts.tolist(), columns, strict=True):
            stop, near = start + len(column), room if nearest is None else nearest
            self.digits[start - near : stop + near] = self.end
            self.digits[start:stop] = np.where(column < n_ids, column, self.unknown)
        self.lengths = lengths

    @classmethod
    def of_events(cls, sequences: Sequence[Integer[np.ndarray, "_ _"]], vocabulary: Vocabulary, reach: int) -> "Line":
        """All fields of all positions, side by side: the neighbour of a field is `n_fields` places away.

        `reach` is how many positions away neighbours may be.
        """
        n_outputs = np.array(vocabulary.n_outputs)
        most = int(n_outputs.max())
        columns = [np.where(ids < n_outputs, ids, most).ravel() for ids in sequences]
        return cls(columns, most, (reach + 1) * len(n_outputs), len(n_outputs))  # the next one's marks lie beyond

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


class Tally:
    """Ids in some order: how often each stands in any stretch of them."""

    def __init__(self, ids: Integer[np.ndarray, " ids"], n_ids: int) -> None:
        """Those from `n_ids` on are not counted."""
        self.ids, self.n_ids = ids, n_ids
        counted = np.flatnonzero(ids < n_ids)
        n_blocks = len(ids) // BLOCK + 1
        each = np.bincount(counted // BLOCK * n_ids + ids[counted], minlength=n_blocks * n_ids)
        self.stored: Int32[np.ndarray, "blocks ids"] = np.zeros((n_blocks + 1, n_ids), np.int32)
        """How often each stands before a block."""
        np.cumsum(each.reshape(n_blocks, n_ids), axis=0, out=self.stored[1:])

    def __call__(
        self, low: Int[np.ndarray, " stretches"], high: Int[np.ndarray, " stretches"]
    ) -> Int[np.ndarray, "stretches ids"]:
        if len(low) > BLOCK:  # many are the same
            _, first, which = np.unique(low * (len(self.ids) + 1) + high, return_index=True, return_inverse=True)
            if len(first) < len(low):
                return self(low[first], high[first])[which.ravel()]
        short = high - low <= BLOCK
        found = np.zeros((len(low), self.n_ids), np.int64)
        if not short.all():
            found[~short] = self.stored[high[~short] // BLOCK] - self.stored[low[~short] // BLOCK]
        # Short stretches are counted; of long ones, what their last block has too little and their first too much.
        self._add(found, np.where(short, low, high // BLOCK * BLOCK), high, 1)
        if not short.all():
            self._add(found, low // BLOCK * BLOCK, np.where(short, low // BLOCK * BLOCK, low), -1)
        return found

    def _add(
        self,
        found: Int[np.ndarray, "stretches ids"],
        start: Int[np.ndarray, " stretches"],
        stop: Int[np.ndarray, " stretches"],
        sign: int,
    ) -> None:
        which, at = unrolled(start, stop)
        ids = self.ids[at].astype(np.int64)
        counted = ids < self.n_ids
        flat = which[counted] * self.n_ids + ids[counted]
        found += sign * np.bincount(flat, minlength=found.size).reshape(found.shape)


class ContextIndex:
    """Places sorted by the digits at the offsets of a path, the first offset first."""

    def __init__(
        self,
        line: Line,
        places: Int[np.ndarray, " places"],
        path: Sequence[int],
        groups: Int[np.ndarray, " places"] | None = None,
        n_groups: int = 1,
    ) -> None:
        """`places` increase. `groups` are sorted by before anything else, so that each has a stretch of its own."""
        self.line, self.path = line, tuple(path)
        self.given, self.places = places, places[by_digits(line.digits, places, self.path, line.base, groups, n_groups)]
        sizes = [len(places)] if groups is None else np.bincount(groups, minlength=n_groups)
        self.edges = np.cumsum([0, *sizes])
        """Where the stretch of each group begins, and where the last one ends."""
        self._words: list[Integer[np.ndarray, " places"]] = []

    def stretches(
        self,
        low: Int[np.ndarray, " cells"],
        high: Int[np.ndarray, " cells"],
        wanted: Integer[np.ndarray, "cells steps"],
        *,
        every: bool = True,
    ) -> tuple[Int[np.ndarray, "depths cells"], Int[np.ndarray, "depths cells"]]:
        """Of the stretches of groups, those with the wanted digits at the first steps of the path: none, one, …

        Not `every`: the last ones are looked for, and of the others as few as that takes.
        """
        base, n_steps = np.uint64(self.line.base), wanted.shape[1]
        lows, highs = [low[None]], [high[None]]
        for number, (first, stop) in enumerate(self._blocks):
            if first >= n_steps:
                break
            words = self._word(number)
            low, high = lows[-1][-1], highs[-1][-1]
            # Where a stretch begins is a number for its context, in their order: words begin with it.
            beginning = low.astype(np.uint64)
            last = min(stop, n_steps)
            least = np.empty((last - first, len(low)), np.uint64)
            units = np.array([int(base) ** (stop - step - 1) for step in range(first, last)], np.uint64)[:, None]
            for step in range(first, last):
                beginning = beginning * base + wanted[:, step].astype(np.uint64)
                least[step - first] = beginning
            if not every:
                least, units = least[-1:], units[-1:]
            least *= units
            most = least + (units - np.uint64(1))
            least, most = (each.astype(words.dtype) for each in (least, most))  # else all words would be converted
            there = low < high
            order = np.argsort(least[-1], kind="stable")  # what is looked for in its order is found faster
            found = np.empty((2, *least.shape), np.int64)
            found[0][:, order] = np.searchsorted(words, least[:, order])
            found[1][:, order] = np.searchsorted(words, most[:, order], side="right")
            lows.append(np.where(there, found[0], low))
            highs.append(np.where(there, found[1], low))
        return np.concatenate(lows), np.concatenate(highs)

    def found(
        self, wanted: Integer[np.ndarray, "cells steps"]
    ) -> tuple[Int[np.ndarray, " cells"], Int[np.ndarray, " cells"]]:
        """The stretches with all the wanted digits, where there are no groups."""
        n = len(wanted)
        low, high = self.stretches(np.zeros(n, np.int64), np.full(n, len(self.places)), wanted, every=False)
        return low[-1], high[-1]

    @cached_property
    def tally(self) -> Tally:
        """Of the ids at the places, in their order."""
        return Tally(self.line.digits[self.places], self.line.n_ids)

    @cached_property
    def ranks(self) -> Int[np.ndarray, " places"]:
        """Where each of the places that were given, which increase, stands among the sorted ones."""
        at = np.empty(len(self.line.digits), self.places.dtype)
        at[self.places] = np.arange(len(self.places))
        return np.asarray(at[self.given])

    @cached_property
    def _blocks(self) -> list[tuple[int, int]]:
        """Which steps of the path each word has room for, behind the number of the place where its stretch begins."""
        base, found, first = self.line.base, [], 0
        while first < len(self.path):
            numbers = 1 if not first and len(self.edges) == 2 else len(self.places) + 1
            room = next((n for n in range(64, 0, -1) if numbers * base**n <= WHOLE), 1)
            found.append((first, min(first + room, len(self.path))))
            first += room
        return found

    def _word(self, number: int) -> Integer[np.ndarray, " places"]:
        """Words that places are sorted by, given the stretch that the steps of earlier words leave."""
        base = self.line.base
        while len(self._words) <= number:
            first, stop = self._blocks[len(self._words)]
            if first:
                new = runs(self._words[-1])
                starts = np.repeat(new, np.diff(new, append=len(self.places)))
            else:
                starts = np.repeat(self.edges[:-1], np.diff(self.edges))
            (word,) = packed(self.line.digits, self.places, self.path[first:stop], base)
            largest = (int(starts.max(initial=0)) + 1) * base ** (stop - first) - 1
            word += starts.astype(np.uint64) * np.uint64(base ** (stop - first))
            self._words.append(word.astype(next(each for each in WORDS if largest <= np.iinfo(each).max)))
        return self._words[number]


def by_digits(
    digits: Integer[np.ndarray, " line"],
    places: Int[np.ndarray, " places"],
    path: Sequence[int],
    base: int,
    groups: Int[np.ndarray, " places"] | None,
    n_groups: int,
) -> Int[np.ndarray, " places"]:
    """The order of places by group, then by the digits at the offsets of a path; equal ones as they are.

    By numbers of 16 bits, the last digits first: these are sorted by counting, without comparisons.
    """
    if base > SHORT:
        words = packed(digits, places, path, base)
        keys = [*words[::-1]] if groups is None else [*words[::-1], groups]
        return np.argsort(keys[0], kind="stable") if len(keys) == 1 else np.lexsort(keys)
    steps = [*path]
    order: Int[np.ndarray, " places"] | None = None
    while steps or groups is not None:
        word, unit = np.zeros(len(places), np.uint16), 1
        now = places if order is None else places[order]
        while steps and unit * base <= SHORT:
            word += digits[now + steps.pop()].astype(np.uint16) * np.uint16(unit)
            unit *= base
        if not steps and groups is not None and unit * n_groups <= SHORT:
            word += (groups if order is None else groups[order]).astype(np.uint16) * np.uint16(unit)
            groups = None
        found = np.argsort(word, kind="stable")
        order = found if order is None else order[found]
    return np.arange(len(places)) if order is None else order


def unrolled(
    start: Int[np.ndarray, " stretches"], stop: Int[np.ndarray, " stretches"]
) -> tuple[Int[np.ndarray, " inside"], Int[np.ndarray, " inside"]]:
    """All that lies in some stretches: in which of them, and where."""
    sizes = stop - start
    which = np.repeat(np.arange(len(sizes)), sizes)
    return which, np.arange(len(which)) + np.repeat(stop - np.cumsum(sizes), sizes)


def runs(values: Shaped[np.ndarray, " sorted"]) -> Int[np.ndarray, " runs"]:
    """Where each run of equal values begins."""
    if not len(values):
        return np.empty(0, np.int64)
    return np.flatnonzero(np.pad(values[1:] != values[:-1], (1, 0), constant_values=True))


def digits_of_words(base: int) -> int:
    """How many digits 64 bits hold."""
    return next(n for n in range(64, 0, -1) if base**n <= WHOLE)


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
