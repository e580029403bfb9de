"""Tables of what stands together in one event: P(id | the event's other known fields and the nearest known neighbours).

All fields of all positions lie on one line, side by side, so that another field of the event is a neighbour like any
other, and `NeighbourIndex` counts, backs off and fits strengths as for one field. Neighbours are looked at in the order
in which each tells most beyond those before it (greedily, the conditional entropy of training cells left out in turn).
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int, Integer

from maskseq.predict.experts.context_index import Line
from maskseq.predict.experts.evidence import Answers, Evident
from maskseq.predict.experts.left_out import OwnPlaces, OwnRecords
from maskseq.predict.experts.neighbour_index import Answer, NeighbourIndex, Requests
from maskseq.predict.experts.tables import STRENGTHS
from maskseq.predict.protocol import Example
from maskseq.types import Vocabulary

REACH = 8
"""How far away the nearest known neighbour of the same field may be."""
WIDTH = 5
"""Of the known fields and neighbours, those that a context holds: the first of their order."""
SORTED = 3
"""Of those, by which places are sorted: many contexts share them."""
SAMPLE = 1 << 13
"""Training cells by which the order is chosen."""


class CrossFieldTables(Evident):
    """Tables across the fields of an event as a `Predict`."""

    n_supports = 2

    def __init__(
        self,
        sequences: Sequence[Integer[np.ndarray, "_ _"]],
        *,
        vocabulary: Vocabulary,
        records: OwnRecords | None = None,
    ) -> None:
        """Count training sequences.

        `records` are those of which the sequences are the views: each is left out where it is asked about.
        """
        super().__init__()
        self.vocabulary, self.records = vocabulary, records
        self.line = Line.of_events(sequences, vocabulary, REACH)
        first = self.line.places[:: vocabulary.n_fields]
        self.fields = [CrossField(self.line, first, field, vocabulary) for field in range(vocabulary.n_fields)]

    def answers(self, examples: Sequence[Example], cells: Sequence[Integer[np.ndarray, "_ 2"]]) -> Answers:
        """Log-probabilities of the asked cells, and how many training cells stand behind each."""
        line = Line.of_events([each.ids for each in examples], self.vocabulary, REACH)
        requests = Requests.of(line, cells, self.vocabulary.n_fields)
        found = Answer(np.zeros((len(requests), line.n_ids)), np.zeros(len(requests)))
        for field, table in enumerate(self.fields):
            (mine,) = np.nonzero(requests.fields == field)
            if not len(mine):
                continue
            own = None if self.records is None else self.records.places(
                examples, self.line, table.index.places, n_slots=self.vocabulary.n_fields
            )  # fmt: skip
            answer = table.answer(requests[mine], own)
            found.probabilities[mine], found.support[mine] = answer
        return found.of_examples(cells)


class CrossField:
    """The table of one field."""

    def __init__(self, line: Line, first: Int[np.ndarray, " positions"], field: int, vocabulary: Vocabulary) -> None:
        """`first` are the places of the first field."""
        self.n_fields = vocabulary.n_fields
        self.index = NeighbourIndex(
            line,
            first + first.dtype.type(field),
            n_outputs=vocabulary.n_outputs[field : field + 1],
            shares=self.n_fields,
            n_sorted=SORTED,
        )
        self.others = [other - field for other in range(self.n_fields) if other != field]

    def answer(self, requests: Requests, own: OwnPlaces | None) -> Answer:
        """Of cells of this field."""
        known, steps = requests.line.known, self.n_fields * np.arange(1, REACH + 1)
        paths = np.empty((len(requests), len(self.order)), np.int64)
        for column, offset in enumerate(self.order):
            if abs(offset) == self.n_fields:  # a neighbour of the same field, the nearest known one
                sign = offset // self.n_fields
                paths[:, column] = offset * _nearest(known[requests.places[:, None] + sign * steps])
            else:
                paths[:, column] = np.where(known[requests.places + offset], offset, 0)
        paths = np.take_along_axis(paths, np.argsort(paths == 0, axis=1, kind="stable"), axis=1)[:, :WIDTH]
        requests = replace(requests, fields=np.zeros_like(requests.fields)).along(
            paths, np.count_nonzero(paths, axis=1)
        )
        return self.index.probabilities(requests, [self.order[:WIDTH]], np.zeros(len(paths), np.int64), own)

    @cached_property
    def order(self) -> tuple[int, ...]:
        """All neighbours, as offsets, the most telling first."""
        line, index = self.index.line, self.index
        left = [-self.n_fields, self.n_fields, *self.others]
        places = index.places[:: max(len(index.places) // SAMPLE, 1)].astype(np.int64)
        if not len(places):
            return tuple(left)
        ids, below = line.digits[places].astype(np.int64), np.full(len(places), 1 / index.n_outputs[0])
        context = np.zeros(len(places), np.int64)
        chosen: list[int] = []
        while left:
            tried = [_refined(context, line.digits[places + each].astype(np.int64), ids, below) for each in left]
            worth = [np.log(each[1]).mean() for each in tried]
            if len(chosen) == WIDTH:
                chosen += [left[i] for i in np.argsort(worth, kind="stable")[::-1].tolist()]
                break
            best = int(np.argmax(worth))
            context, below = tried[best]
            chosen.append(left.pop(best))
        return tuple(chosen)


def _nearest(known: np.ndarray) -> Int[np.ndarray, " cells"]:
    """How far away the nearest known neighbour is, 0 for none."""
    return np.where(known.any(axis=1), known.argmax(axis=1) + 1, 0)


def _refined(
    context: Int[np.ndarray, " cells"],
    digits: Int[np.ndarray, " cells"],
    ids: Int[np.ndarray, " cells"],
    below: Float[np.ndarray, " cells"],
) -> tuple[Int[np.ndarray, " cells"], Float[np.ndarray, " cells"]]:
    """Contexts that hold one neighbour more, and the probability of each id in them, itself left out."""
    _, inner = np.unique(context * (digits.max() + 1) + digits, return_inverse=True)
    _, both, times = np.unique(inner * (ids.max() + 1) + ids, return_inverse=True, return_counts=True)
    totals, hits = np.bincount(inner)[inner] - 1, times[both] - 1
    answers = (hits + STRENGTHS[:, None] * below) / (totals + STRENGTHS[:, None])
    best = np.log(answers).mean(axis=1).argmax()
    return inner, answers[best]
