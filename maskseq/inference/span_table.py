"""The most frequent span between these neighbours: what fills gaps of known length from counts alone."""

from collections import Counter, defaultdict
from collections.abc import Iterable

import numpy as np
from jaxtyping import Bool, Integer

START, STOP = -1, -2
Span = tuple[int, ...]
Context = tuple[Span, Span]


class SpanTable:
    """Of one field: for each context on both sides, the span of a given length that stood there most often.

    It tries the widest context first, and fewer neighbours where that was never seen; the last of them on the left.
    Ties go to the span that came first. Beyond the ends of a sequence stand marks of their own, so that beginnings and
    endings are known as such.
    """

    def __init__(
        self, sequences: Iterable[Integer[np.ndarray, " _"]], length: int, depth: int = 5, end: int | None = None
    ) -> None:
        """Count spans of `length` ids, with up to `depth` neighbours on either side.

        `end` is the id that marks the end inside of sequences, if there is one: known, and never filled in.
        """
        self.length, self.depth, self.end = length, depth, end
        self.levels = [*((each, each) for each in range(depth, 0, -1)), (1, 0), (0, 0)]
        counts: list[defaultdict[Context, Counter[Span]]] = [defaultdict(Counter) for _ in self.levels]
        for ids in sequences:
            padded = self._padded(ids.tolist())
            for first in range(depth, len(padded) - depth - length + 1):
                span = tuple(padded[first : first + length])
                if STOP in span:
                    continue
                for level, table in zip(self.levels, counts, strict=True):
                    table[self._context(padded, first, level)][span] += 1
        self.best = [{context: found.most_common(1)[0][0] for context, found in table.items()} for table in counts]

    def fill(self, ids: Integer[np.ndarray, "length"], hidden: Bool[np.ndarray, "length"]) -> Span:
        """The span for the one gap of a sequence; neighbours must be known up to the depth that is looked at."""
        padded = self._padded(ids.tolist())
        first = int(np.flatnonzero(hidden)[0]) + self.depth
        for level, best in zip(self.levels, self.best, strict=True):
            found = best.get(self._context(padded, first, level))
            if found is not None:
                return found
        return (0,) * self.length

    def _padded(self, ids: list[int]) -> list[int]:
        inside = [STOP if each == self.end else each for each in ids]
        return [START] * self.depth + inside + [STOP] * self.depth

    def _context(self, padded: list[int], first: int, level: tuple[int, int]) -> Context:
        after = first + self.length
        return tuple(padded[first - level[0] : first]), tuple(padded[after : after + level[1]])
