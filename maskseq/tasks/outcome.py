"""Outcomes that are defined on the record itself, for tasks of running cases."""

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np

from maskseq.errors import DataError, UsageError
from maskseq.types import Record

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
DAY = 86_400.0


@dataclass(frozen=True)
class Outcome:
    """`contains VALUE`, `duration > 7d`, `duration` or `remaining`."""

    kind: Literal["contains", "longer", "duration", "remaining"]
    value: str = ""
    """What `contains` looks for."""
    seconds: float = 0.0
    """Longer than that is the outcome `longer`."""

    @classmethod
    def of(cls, text: str) -> "Outcome":
        """Read it from a task file; `UsageError` says how outcomes are written."""
        if text in ("duration", "remaining"):
            return cls("duration" if text == "duration" else "remaining")
        if (found := re.fullmatch(r"contains\s+(.+)", text.strip())) is not None:
            return cls("contains", value=found[1])
        if (found := re.fullmatch(r"duration\s*>\s*(\d+(?:\.\d+)?)\s*([smhdw])", text.strip())) is not None:
            return cls("longer", seconds=float(found[1]) * SECONDS[found[2]])
        raise UsageError(
            f"labels.outcome = {text!r} is not understood\n\n"
            f"hint: it can be 'contains VALUE', 'duration > 7d' (s, m, h, d, w), 'duration' or 'remaining'",
            code="bad-option",
        )

    @property
    def is_number(self) -> bool:
        return self.kind in ("duration", "remaining")

    def times(self, record: Record) -> tuple[float, np.ndarray]:
        """The last moment of a record and those of its units, in seconds; `DataError` where it has none."""
        moments = record.moments()
        known = np.array([]) if moments is None else moments[~np.isnan(moments)]
        if moments is None or not len(known):
            raise DataError(
                f"record {record.key!r}", f"has no times, which the outcome {self.kind!r} needs", code="not-supported"
            )
        return float(known.max()), moments

    def duration(self, record: Record) -> float:
        """Seconds from the first known moment to the last."""
        end, moments = self.times(record)
        return end - float(np.nanmin(moments))

    def elapsed(self, record: Record, n: int) -> float:
        """Seconds that have passed within the first `n` units."""
        _, moments = self.times(record)
        seen = moments[:n][~np.isnan(moments[:n])]
        return float(seen.max() - seen.min()) if len(seen) else 0.0

    def left(self, record: Record, n: int) -> float | None:
        """Seconds from the last known moment of the first `n` units to the end; None where none of them is known."""
        end, moments = self.times(record)
        seen = moments[:n][~np.isnan(moments[:n])]
        return end - float(seen.max()) if len(seen) else None
