"""How odd a record is: its oddest cell, compared with what is usual for its field, and its rarest transitions.

A number of bits means something else in each field: in one every cell is a surprise, in another next to none. So the
oddest cell of each field is divided by the oddest of that field in most normal records. A second opinion is heard, that
of an expert which sees only the other fields of an event: where two events have changed places, its attributes say one
activity and its neighbours another, and a blend of the two is surprised by neither.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from maskseq.scoring.detectors import TRANSITIONS, Detector
from maskseq.scoring.score import Score
from maskseq.types import Encoded

MOST = 0.75
"""The share of normal records whose oddest cell is not above what counts as usual."""
LEAST = 1.0
"""Bits that are added to what is usual: in a field without surprises, the first small one is not an anomaly."""
POSITIONS = 4000
"""Of normal records that are scored to find what is usual."""


@dataclass(frozen=True)
class Usual:
    """What normal records look like to each predictor and each detector."""

    fields: tuple[str, ...]
    oddest: Mapping[str, Float[np.ndarray, " fields"]]
    """By predictor as in `Score.tails`: what the oddest cell of a normal record is below."""
    counted: Mapping[str, float]
    """The same of each detector."""
    detectors: Mapping[str, Detector]

    @classmethod
    def of(cls, scores: Iterable[Score], fields: Sequence[str], detectors: Mapping[str, Detector]) -> "Usual":
        """By scores of normal records that nothing was counted on."""
        normal = list(scores)
        names = dict.fromkeys(name for score in normal for name in score.tails)
        oddest = {
            name: _quantile([_highest(score.tails[name]) for score in normal if name in score.tails], len(fields))
            for name in names
        }
        found = {
            name: [detect(score.ids) for score in normal if score.ids is not None] for name, detect in detectors.items()
        }
        return cls(
            tuple(fields),
            oddest,
            {name: float(_quantile([np.array([v]) for v in each], 1)[0]) for name, each in found.items()},
            detectors,
        )

    def cells(self, score: Score) -> Float[np.ndarray, "length fields"]:
        """How odd each cell is, 1 being as odd as usual in a record; NaN where nothing is scored."""
        ratios = [each / (self.oddest[name] + LEAST) for name, each in score.tails.items() if name in self.oddest]
        return np.fmax.reduce(ratios) if ratios else np.full(score.bits.shape, np.nan)

    def parts(self, score: Score) -> dict[str, float]:
        """How odd a record is by its cells of each field, and by each detector, the oddest first."""
        highest = _highest(self.cells(score))
        found = {name: float(value) for name, value in zip(self.fields, highest, strict=True) if value == value}
        if score.ids is not None and len(score.ids):
            for name, each in self.detectors.items():
                own = f"{name} of records" if name in self.fields else name
                found[own] = each(score.ids) / (self.counted[name] + each.least)
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    def odd(self, parts: Mapping[str, float]) -> float:
        """One number for a record, 1 being as usual: its oddest cell and, where there are any, its transitions."""
        cells = max((value for name, value in parts.items() if name in self.fields), default=math.nan)
        return (cells + parts[TRANSITIONS]) / 2 if TRANSITIONS in parts else cells


def normal_records(
    records: Iterable[tuple[str, Encoded]], context: int, positions: int
) -> Iterator[tuple[str, Encoded]]:
    """As many of them as have about so many positions; of long ones, segments that the model sees at once."""
    for key, encoded in records:
        for start in range(0, len(encoded), context):
            if positions <= 0:
                return
            segment = encoded.cut(start, start + context)
            yield key, segment
            positions -= len(segment)


def _highest(tails: Float[np.ndarray, "length fields"]) -> Float[np.ndarray, " fields"]:
    return np.asarray(np.fmax.reduce(tails, axis=0, initial=np.nan))


def _quantile(records: Sequence[Float[np.ndarray, " fields"]], n: int) -> Float[np.ndarray, " fields"]:
    """Of those that have a value; 0 where none has."""
    rows = np.stack(records) if records else np.full((1, n), np.nan)
    return np.array(
        [np.quantile(column[~np.isnan(column)], MOST) if (column == column).any() else 0 for column in rows.T]
    )
