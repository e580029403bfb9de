"""The most frequent span between these neighbours: what fills gaps of known length from counts alone."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import numpy as np
from jaxtyping import Bool, Int, Int32, Integer, UInt64

START, STOP = -1, -2
Span = tuple[int, ...]


class SpanTable:
    """Of one field: for each context on both sides, the span of a given length that stood there most often.

    It tries the widest context first, and fewer neighbours where that was never seen; the last of them on the left.
    Ties go to the span that came first. Beyond the ends of a sequence stand marks of their own, so that beginnings and
    endings are known as such.

    *Why* nothing is counted beforehand: a genome has millions of contexts, of which few are ever asked for. All places
    are sorted by their neighbours, the nearest first, so that those in any context, wide or narrow, are one stretch of
    the sorted ones; their spans are counted when it is asked for.
    """

    def __init__(
        self,
        sequences: Iterable[Integer[np.ndarray, " _"]],
        length: int,
        depth: int = 5,
        end: int | None = None,
        fillable: Bool[np.ndarray, " ids"] | None = None,
    ) -> None:
        """Learn spans of `length` ids, with up to `depth` neighbours on either side.

        `end` is the id that marks the end inside of sequences, if there is one: known, and never filled in. `fillable`
        are the ids that a fill may have, `[OTHER]` not among them (default: all); spans of others do not count.
        """
        self.length, self.depth, self.end = length, depth, end
        self.levels = [(-1,), (length,), *((-each, length + each - 1) for each in range(2, depth + 1))]
        """From the narrowest context on, where the neighbours are that each adds to the one before."""
        self.line = np.concatenate([self._padded(ids) for ids in sequences])
        never = self.line < 0
        if fillable is not None:
            never |= ~np.append(fillable, False)[np.clip(self.line, 0, len(fillable))]
        marks = np.cumsum(np.pad(never, (1, 0)))  # before each place
        places = np.flatnonzero(marks[length:] == marks[:-length])
        self.places = places[np.lexsort(self._packed(places, [each for level in self.levels for each in level])[::-1])]

    def fill(self, ids: Integer[np.ndarray, "length"], masked: Bool[np.ndarray, "length"]) -> Span:
        """The span for the one gap of a sequence; neighbours must be known up to the depth that is looked at."""
        padded = self._padded(ids)
        first = int(np.flatnonzero(masked)[0]) + self.depth
        found = low, high = 0, len(self.places)
        for level in self.levels:
            for offset in level:
                low, high = self._narrowed(low, high, offset, int(padded[first + offset]))
            if low == high:
                break
            found = low, high
        return self._most_frequent(*found)

    def _narrowed(self, low: int, high: int, offset: int, wanted: int) -> tuple[int, int]:
        """Of places that are sorted by this neighbour, where those with the wanted one begin and end."""

        def neighbour(place: np.int64) -> Any:
            return self.line[place + offset]

        low = bisect_left(self.places, wanted, low, high, key=neighbour)
        return low, bisect_right(self.places, wanted, low, high, key=neighbour)

    @cache  # noqa: B019 (as long-lived as the table)
    def _most_frequent(self, low: int, high: int) -> Span:
        if low == high:
            return (0,) * self.length
        places = np.sort(self.places[low:high])
        spans = self._packed(places, range(self.length))
        order = np.lexsort(spans)  # stable: of equal spans the first comes first
        spans = spans[:, order]
        new = np.flatnonzero(np.pad((spans[:, 1:] != spans[:, :-1]).any(axis=0), (1, 0), constant_values=True))
        counts = np.diff(new, append=len(places))
        place = places[order[new[counts == counts.max()]].min()]
        return tuple(self.line[place : place + self.length].tolist())

    def _packed(self, places: Int[np.ndarray, " places"], offsets: Sequence[int]) -> UInt64[np.ndarray, "words places"]:
        """The ids at these offsets from each place as digits of numbers, as many to a number as 64 bits hold."""
        base = int(self.line.max(initial=0)) + 1 - STOP
        room = next(n for n in range(64, 0, -1) if base**n <= 1 << 64)
        words = np.zeros((-(-len(offsets) // room), len(places)), np.uint64)
        for i, offset in enumerate(offsets):
            word = words[i // room]
            word *= np.uint64(base)
            word += (self.line[places + offset] - STOP).astype(np.uint64)
        return words

    def _padded(self, ids: Integer[np.ndarray, " _"]) -> Int32[np.ndarray, " _"]:
        padded = np.pad(ids.astype(np.int32), self.depth, constant_values=(START, STOP))
        if self.end is not None:
            padded[padded == self.end] = STOP
        return padded
