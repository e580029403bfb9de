"""Context tables of any depth, which look past hidden neighbours: P(id | the nearest known ids on both sides).

Counted and interpolated as in `maskseq.predict.experts.neighbour_index`. With `past_holes`, neighbours count from the
nearest known one on either side, and how far away it is belongs to the context.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int, Integer

from maskseq.predict.experts.context_index import Line
from maskseq.predict.experts.evidence import Answers, Evident
from maskseq.predict.experts.left_out import OwnRecords
from maskseq.predict.experts.neighbour_index import NeighbourIndex, Requests, paths_of
from maskseq.predict.protocol import Example
from maskseq.types import Vocabulary

DEPTH = 12
"""Neighbours on a side, at most, and how far away they may be."""
PAIRS = 8
"""Known neighbours on both sides beyond which more of them on one side are not looked at: each such view is a sort."""
SORTED = 8
"""Neighbours that the places of genomes are sorted by: one in 65,536 of them is left, for four ids."""
NEAR = 2
"""Masked neighbours on a side up to which tables have strengths of their own."""


class DeepTables(Evident):
    """Deep tables of all fields as a `Predict`."""

    def __init__(
        self,
        sequences: Sequence[Integer[np.ndarray, "_ _"]],
        *,
        vocabulary: Vocabulary,
        left: int = DEPTH,
        right: int = DEPTH,
        by_pairs: bool = False,
        past_holes: bool = True,
        records: OwnRecords | None = None,
    ) -> None:
        """Count training sequences, with views of them (`symmetries`) among them where there are some.

        Args:
            sequences: Ids of training sequences.
            vocabulary: Theirs.
            left: Neighbours on the left, at most.
            right: Neighbours on the right, at most; 0 makes a table of prefixes.
            by_pairs: One neighbour more on both sides at each level, so that a mirror image has the same levels.
            past_holes: Where a neighbour is hidden, begin with the nearest known one, and not with none.
            records: Of which the sequences are the views: what a record has added is left out where it is asked about.
        """
        super().__init__()
        self.vocabulary, self.left, self.right, self.past_holes = vocabulary, left, right, past_holes
        self.records = records
        self.n_supports = 2 if past_holes and vocabulary.n_fields == 1 and right else 1
        self.room = max(left, right)
        line = Line.of_events(sequences, vocabulary, self.room)
        self.index = NeighbourIndex(
            line,
            line.places,
            n_outputs=vocabulary.n_outputs,
            by_pairs=by_pairs,
            n_sorted=None if past_holes else SORTED,
        )

    @property
    def step(self) -> int:
        """One in so many training positions is counted."""
        return self.index.step

    def answers(self, examples: Sequence[Example], cells: Sequence[Integer[np.ndarray, "_ 2"]]) -> Answers:
        """Log-probabilities of the asked cells, and how many training cells stand behind each."""
        requests = self._requests(examples, cells)
        sides, which = np.unique(self._sides(requests), axis=0, return_inverse=True)
        n_fields, which = self.vocabulary.n_fields, which.ravel()
        paths = [self._path(*each) for each in sides.tolist()]
        likes = [tuple(n_fields * step for step in self._like(*each)) for each in sides.tolist()]
        requests = requests.along(paths_of(paths)[which] * n_fields, np.array([*map(len, paths)], np.int64)[which])
        own = None if self.records is None else self.records.places(
            examples, self.index.line, self.index.places, n_slots=n_fields
        )  # fmt: skip
        return self.index.probabilities(requests, likes, which, own).of_examples(cells)

    def _requests(self, examples: Sequence[Example], cells: Sequence[Integer[np.ndarray, "_ 2"]]) -> Requests:
        line = Line.of_events([each.ids for each in examples], self.vocabulary, self.room)
        return Requests.of(line, cells, self.vocabulary.n_fields)

    def _sides(self, requests: Requests) -> Int[np.ndarray, "cells 2"]:
        """Of each side what tells its paths apart: past holes, how many masked neighbours come first, or else how many
        known ones.
        """
        found = []
        for sign, most in ((-1, self.left), (1, self.right)):
            steps = sign * self.vocabulary.n_fields * np.arange(1, most + 1)
            other = requests.line.known[requests.places[:, None] + steps]
            if self.past_holes:
                other = ~other
            found.append(np.cumprod(other, axis=1).sum(axis=1))
        return np.stack(found, axis=1)

    def _path(self, left: int, right: int) -> tuple[int, ...]:
        """The neighbours to look at, in positions, where the sides are such (`_sides`)."""
        if self.past_holes:
            # From the nearest known neighbour on, so that all cells as far from theirs share a view.
            return merged(range(left + 1, self.left + 1), range(right + 1, self.right + 1))
        shorter = min(left, right)
        if left == right or shorter >= PAIRS:
            return merged(range(1, self.left + 1), range(1, self.right + 1))
        # All cells that know `shorter` neighbours on one side share a view, however many they know on the other.
        lengths = (self.left, shorter) if left > right else (shorter, self.right)
        return merged(*(range(1, length + 1) for length in lengths))

    def _like(self, left: int, right: int) -> tuple[int, ...]:
        """The path that lends its strengths: where many neighbours are masked, one where fewer are."""
        if not self.past_holes:
            return self._path(left, right)
        return self._path(
            *(
                min(masked, NEAR) if masked < most else masked
                for masked, most in ((left, self.left), (right, self.right))
            )
        )


def merged(left: Sequence[int], right: Sequence[int]) -> tuple[int, ...]:
    """Offsets of neighbours at these distances, one on each side in turn."""
    path: list[int] = []
    for i in range(max(len(left), len(right))):
        path += [-left[i]] if i < len(left) else []
        path += [right[i]] if i < len(right) else []
    return tuple(path)
