"""Spans between known neighbours as a distribution: what `maskseq.baselines.span_table` says, but for every cell.

P(id at a place of a hole) is interpolated from the spans that stood in training between the same neighbours, from none
of them to all, as `maskseq.predict.experts.neighbour_index` does. The spans that count agree with all that is known
around the place: the nearest known cells on either side, those of a half-filled hole among them, and those behind
other masked cells.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int, Integer

from maskseq.predict.experts.context_index import Line
from maskseq.predict.experts.deep_tables import merged
from maskseq.predict.experts.evidence import Answers, Evident
from maskseq.predict.experts.left_out import OwnRecords
from maskseq.predict.experts.neighbour_index import NeighbourIndex, Requests
from maskseq.predict.protocol import Example
from maskseq.types import Vocabulary

REACH = 32
"""Positions away that a known cell may be."""
SORTED = 2
"""Neighbours that places are sorted by: where other cells of a hole are known, few paths are alike beyond."""
FAR = 4
"""Distances to the nearest known cells from which on strengths are shared."""


class SpanPredict(Evident):
    """Every asked cell from the spans that stood between the known cells around it, as a `Predict`."""

    def __init__(
        self,
        sequences: Sequence[Integer[np.ndarray, "_ _"]],
        *,
        vocabulary: Vocabulary,
        depth: int = 5,
        records: OwnRecords | None = None,
    ) -> None:
        """Learn from training sequences, with up to `depth` known cells on either side.

        `records` are those of which the sequences are the views: each is left out where it is asked about.
        """
        super().__init__()
        self.vocabulary, self.depth, self.records = vocabulary, depth, records
        line = Line.of_events(sequences, vocabulary, REACH)
        self.index = NeighbourIndex(line, line.places, n_outputs=vocabulary.n_outputs, n_sorted=SORTED)

    def answers(self, examples: Sequence[Example], cells: Sequence[Integer[np.ndarray, "_ 2"]]) -> Answers:
        """Log-probabilities of the asked cells, and how many training cells stand behind each."""
        line, n_fields = (
            Line.of_events([each.ids for each in examples], self.vocabulary, REACH),
            self.vocabulary.n_fields,
        )
        requests = Requests.of(line, cells, n_fields)
        paths = np.zeros((len(requests), 2 * self.depth), np.int64)
        known = line.known.reshape(-1, n_fields)
        for field in range(n_fields):
            (mine,) = np.nonzero(requests.fields == field)
            paths[mine] = self._paths(np.flatnonzero(known[:, field]), requests.places[mine] // n_fields)
        lengths = np.count_nonzero(paths, axis=1)
        nearest = np.stack([_first(-paths), _first(paths)], axis=1)
        sides, which = np.unique(np.minimum(nearest, FAR), axis=0, return_inverse=True)
        likes = [tuple(n_fields * step for step in self._like(*each)) for each in sides.tolist()]
        own = None if self.records is None else self.records.places(
            examples, self.index.line, self.index.places, n_slots=n_fields
        )  # fmt: skip
        requests = requests.along(n_fields * paths, lengths)
        return self.index.probabilities(requests, likes, which.ravel(), own).of_examples(cells)

    def _paths(
        self, known: Int[np.ndarray, " known"], rows: Int[np.ndarray, " cells"]
    ) -> Int[np.ndarray, "cells steps"]:
        """How far away the nearest known cells of a field are, one on each side in turn; 0 behind the last one."""
        steps = np.arange(self.depth)
        before = np.searchsorted(known, rows)[:, None] - 1 - steps
        after = np.searchsorted(known, rows, side="right")[:, None] + steps
        there = np.concatenate([[-(1 << 40)], known, [1 << 40]])  # nobody is so far away
        sides = [there[np.clip(each + 1, 0, len(known) + 1)] - rows[:, None] for each in (before, after)]
        paths = np.stack(sides, axis=2).reshape(len(rows), 2 * self.depth)
        paths[np.abs(paths) > REACH] = 0
        return np.take_along_axis(paths, np.argsort(paths == 0, axis=1, kind="stable"), axis=1)

    def _like(self, left: int, right: int) -> tuple[int, ...]:
        """The path that lends its strengths: of a hole of the same size whose neighbours are all known."""
        sides = [range(first, first + self.depth) if first else range(0) for first in (left, right)]
        return merged(*sides)


def _first(paths: Int[np.ndarray, "cells steps"]) -> Int[np.ndarray, " cells"]:
    """The first number above 0 of each row; 0 for none."""
    above = paths > 0
    return np.asarray(np.where(above.any(axis=1), paths[np.arange(len(paths)), above.argmax(axis=1)], 0))
