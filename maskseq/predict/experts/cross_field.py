"""Tables of what stands together in one event: P(id | the event's other known fields and the nearest known neighbours).

All fields of all positions lie on one line, side by side, so that another field of the event is a neighbour like any
other, and `FieldIndex` counts, backs off and fits strengths as for one field. Neighbours are looked at in the order in
which each tells most beyond those before it (greedily, the conditional entropy of training cells left out in turn).
"""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int, Integer

from maskseq.predict.experts.context_index import Line
from maskseq.predict.experts.deep_tables import FieldIndex
from maskseq.predict.experts.evidence import Answers, Evident
from maskseq.predict.experts.left_out import OwnRecords
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
        self.n_fields = vocabulary.n_fields
        self.line = self._line(sequences)
        first = self.line.places[:: self.n_fields]
        self.fields = [
            CrossField(self.line, first, field, n_ids, self.n_fields)
            for field, n_ids in enumerate(vocabulary.n_outputs)
        ]

    def answers(self, examples: Sequence[Example], cells: Sequence[Integer[np.ndarray, "_ 2"]]) -> Answers:
        """Log-probabilities of the asked cells, and how many training cells stand behind each."""
        ends = np.cumsum([0, *map(len, cells)])
        log_probs = np.full((ends[-1], max(self.vocabulary.n_outputs)), -np.inf)
        support = np.zeros(ends[-1])
        positions, fields = np.concatenate([np.empty((0, 2), np.int64), *cells]).T
        of_example = np.repeat(np.arange(len(examples)), np.diff(ends))
        line = self._line([each.ids for each in examples])
        places = line.starts[of_example] + positions * self.n_fields + fields
        for field, table in enumerate(self.fields):
            rows = np.flatnonzero(fields == field)
            if not len(rows):
                continue
            index = table.index
            own = None if self.records is None else self.records.places(
                examples, self.line, index.places, n_slots=self.n_fields
            )  # fmt: skip
            for path, mine in table.grouped(line, places[rows]).items():
                left_out = None if own is None else (own, of_example[rows[mine]])
                here = places[rows[mine]]
                found = index.probabilities(line, here, path, len(path), own=left_out, like=table.order[:WIDTH])
                log_probs[rows[mine], : index.n_ids] = np.log(found.probabilities)
                support[rows[mine]] = found.support
        return np.split(log_probs, ends[1:-1]), support

    def _line(self, sequences: Sequence[Integer[np.ndarray, "_ _"]]) -> Line:
        n_outputs = np.array(self.vocabulary.n_outputs)
        most = int(n_outputs.max())
        columns = [np.where(ids < n_outputs, ids, most).ravel() for ids in sequences]
        return Line(columns, most, (REACH + 1) * self.n_fields)


class CrossField:
    """The table of one field."""

    def __init__(self, line: Line, first: Int[np.ndarray, " positions"], field: int, n_ids: int, n_fields: int) -> None:
        """`first` are the places of the first field."""
        places = first + first.dtype.type(field)
        self.index = FieldIndex(line, places=places, n_ids=n_ids, shares=n_fields, n_sorted=SORTED)
        self.n_fields = n_fields
        self.others = [other - field for other in range(n_fields) if other != field]

    def grouped(self, line: Line, places: Int[np.ndarray, " cells"]) -> dict[tuple[int, ...], Int[np.ndarray, " _"]]:
        """Cells by the path through what is known around them."""
        steps = self.n_fields * np.arange(1, REACH + 1)
        far = [_nearest(line.known[places[:, None] + sign * steps]) for sign in (-1, 1)]
        others = line.known[places[:, None] + np.array(self.others, np.int64)]
        patterns, which = np.unique(np.column_stack([*far, others]), axis=0, return_inverse=True)
        found: dict[tuple[int, ...], list[int]] = {}
        for i, (left, right, *known) in enumerate(patterns.tolist()):
            there = {each for each, seen in zip(self.others, known, strict=True) if seen}
            around = {-self.n_fields: -left * self.n_fields, self.n_fields: right * self.n_fields}
            path = [around.get(each, each) for each in self.order if each in there or around.get(each)]
            found.setdefault(tuple(path[:WIDTH]), []).append(i)
        return {path: np.flatnonzero(np.isin(which.ravel(), group)) for path, group in found.items()}

    @cached_property
    def order(self) -> tuple[int, ...]:
        """All neighbours, as offsets, the most telling first."""
        line, index = self.index.line, self.index
        left = [-self.n_fields, self.n_fields, *self.others]
        places = index.places[:: max(len(index.places) // SAMPLE, 1)].astype(np.int64)
        if not len(places):
            return tuple(left)
        ids, below = line.digits[places].astype(np.int64), np.full(len(places), 1 / index.n_ids)
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
