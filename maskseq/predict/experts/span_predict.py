"""Spans between known neighbours as a distribution: what `maskseq.baselines.span_table` says, but for every cell.

P(id at a place of the gap) is interpolated from the spans of the gap's length that stood in training between the same
neighbours, from none of them to all, as `maskseq.predict.experts.deep_tables` does. The spans that agree with what is
known are those of the innermost neighbours; what is hidden further out ends the context there.
"""

from collections import defaultdict
from collections.abc import Sequence
from functools import cache, partial

import numpy as np
from jaxtyping import Integer

from maskseq.predict.experts.context_index import Line
from maskseq.predict.experts.deep_tables import FieldIndex, merged
from maskseq.predict.experts.evidence import Answers, Evident
from maskseq.predict.experts.left_out import OwnPlaces, OwnRecords
from maskseq.predict.protocol import Example
from maskseq.types import Vocabulary

LONGEST = 64
"""Positions of a gap; longer ones are looked at from both ends, `LONGEST // 2` positions at a time."""


class SpanPredict(Evident):
    """Every asked cell from the spans that stood between the neighbours of its gap, as a `Predict`."""

    def __init__(
        self,
        sequences: Sequence[Integer[np.ndarray, "_ _"]],
        *,
        vocabulary: Vocabulary,
        depth: int = 5,
        records: OwnRecords | None = None,
    ) -> None:
        """Learn from training sequences, with up to `depth` neighbours on either side of a gap.

        `records` are those of which the sequences are the views: each is left out where it is asked about.
        """
        super().__init__()
        self.vocabulary, self.depth, self.records = vocabulary, depth, records
        self.columns = [[ids[:, field] for ids in sequences] for field in range(vocabulary.n_fields)]
        self.index = cache(self._index)

    def answers(self, examples: Sequence[Example], cells: Sequence[Integer[np.ndarray, "_ 2"]]) -> Answers:
        """Log-probabilities of the asked cells, and how many spans of training stand behind each."""
        ends = np.cumsum([0, *map(len, cells)])
        log_probs = np.full((ends[-1], max(self.vocabulary.n_outputs)), -np.inf)
        support = np.zeros(ends[-1])
        of_example = np.repeat(np.arange(len(examples)), np.diff(ends))
        for field, n_ids in enumerate(self.vocabulary.n_outputs):
            line = Line([each.ids[:, field] for each in examples], n_ids, self.depth)
            known, room = line.known, np.arange(len(line.digits))
            next_known = np.minimum.accumulate(np.where(known, room, len(room))[::-1])[::-1]
            last_known = np.maximum.accumulate(np.where(known, room, -1))
            groups: dict[tuple[int, tuple[int, ...], int, int], list[tuple[int, int]]] = defaultdict(list)
            own_of = cache(partial(self._own, examples, field))
            for i, requested in enumerate(cells):
                for row in np.flatnonzero(requested[:, 1] == field).tolist():
                    place = int(line.starts[i] + requested[row, 0])
                    first, stop = int(last_known[place - 1]) + 1, int(next_known[place + 1])
                    first, stop = max(first, place - LONGEST // 2), min(stop, place + LONGEST // 2)
                    path, used = self._path(known, first, stop)
                    groups[stop - first, path, used, place - first].append((int(ends[i]) + row, first))
            for (length, path, used, target), found in groups.items():
                rows, firsts = np.array(found).T
                index = self.index(field, length)
                own = own_of(length)
                left_out = None if own is None else (own, of_example[rows])
                answer = index.probabilities(line, firsts, path, used, target, left_out)
                log_probs[rows, :n_ids] = np.log(answer.probabilities)
                support[rows] = answer.support
        return np.split(log_probs, ends[1:-1]), support

    def _path(self, known: np.ndarray, first: int, stop: int) -> tuple[tuple[int, ...], int]:
        """The neighbours of a gap, nearest first, and how many are known before the first that is not."""
        path = around(stop - first, self.depth)
        return path, int(np.cumprod(known[first + np.array(path, int)]).sum())

    def _own(self, examples: Sequence[Example], field: int, length: int) -> OwnPlaces | None:
        if self.records is None:
            return None
        index = self.index(field, length)
        return self.records.places(examples, index.line, index.places, before=length - 1)

    def _index(self, field: int, length: int) -> FieldIndex:
        line = Line(self.columns[field], self.vocabulary.n_outputs[field], self.depth + length)
        return FieldIndex(line, length=length)


def around(length: int, depth: int) -> tuple[int, ...]:
    """Offsets of the neighbours of a span from its first place, one on each side in turn."""
    path = merged(range(1, depth + 1), range(1, depth + 1))
    return tuple(offset if offset < 0 else offset + length - 1 for offset in path)
