"""When samples were taken, as far as files say it."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from maskseq_signals.recording import Recording
from maskseq_signals.times import to_moments

LOOKED_AT = 1 << 10
"""Times of a recording by which its step is known."""
ALIKE = 1.15
"""How many times as long as another one a step may be and still count as the same: months differ, clocks drift."""


@dataclass(frozen=True)
class TimeStep:
    """How far apart the steps of recordings are."""

    length: float
    seconds: bool = True
    """In seconds; False: in whatever the numbers in a column of times count."""

    @classmethod
    def of(cls, record: Recording) -> "TimeStep | None":
        """The usual one, where the recording says it."""
        if record.rate:
            return cls(1 / record.rate)
        times = [time for time in (record.times or ())[:LOOKED_AT] if time]
        try:
            moments = to_moments(times)
        except ValueError:
            return None
        if len(moments) < 2:
            return None
        seconds = moments.dtype.kind == "M"
        length = float(np.median(np.diff(moments.astype(np.int64) / 1e6 if seconds else moments)))
        return cls(length, seconds) if length > 0 and math.isfinite(length) else None

    @classmethod
    def common(cls, steps: Iterable["TimeStep | None"]) -> "TimeStep | None":
        """That of several recordings; None where one does not say it, or they differ."""
        found = list(steps)
        first = found[0] if found else None
        return first if first and all(each and first.is_like(each) for each in found) else None

    def is_like(self, other: "TimeStep") -> bool:
        """Whether it may be the same. Nobody knows what numbers count, if not seconds."""
        return self.seconds != other.seconds or 1 / ALIKE <= self.length / other.length <= ALIKE

    def __str__(self) -> str:
        return f"{self.length:,.6g}{' s' * self.seconds}"


def unlike(trained: TimeStep | None, record: Recording) -> str | None:
    """In words, that a recording has other steps than those that were trained on."""
    step = TimeStep.of(record) if trained else None
    if trained is None or step is None or trained.is_like(step):
        return None
    return f"time steps of {step}, but the run was trained on steps of {trained}; bring them to that first"


def step_of(records: Sequence[Recording], n_steps: int) -> float | None:
    """Seconds from one step to the next, if the first recording says it."""
    first = records[0]
    if first.rate:
        return 1 / first.rate
    try:
        moments = to_moments([time for time in (first.times or ())[:n_steps] if time])
    except ValueError:
        return None
    if len(moments) < 2 or moments.dtype.kind != "M":
        return None
    return float(np.median(np.diff(moments.astype(np.int64)))) / 1e6 or None


def clock(records: Sequence[Recording], n_steps: int) -> dict[str, object]:
    """The sampling rate, as files say it, and how regular the times of the first table are."""
    rates = sorted({record.rate for record in records if record.rate is not None})
    found: dict[str, object] = {}
    if rates:
        found["samples a second"] = ", ".join(f"{rate:g}" for rate in rates)
    times = [time for time in (records[0].times or ())[:n_steps] if time]
    try:
        moments = to_moments(times)
    except ValueError:
        return found
    if len(moments) < 2:
        return found
    dated = moments.dtype.kind == "M"
    steps = np.diff(moments.astype(np.int64) / 1e6 if dated else moments)
    usual = float(np.median(steps))
    reported = f"{usual:,g} s" if dated else f"{usual:g}"
    odd, equal, back = (int(which.sum()) for which in (steps != usual, steps == 0, steps < 0))
    found["time step"] = reported + (" throughout" if not odd else f", but for {odd:,} steps of {len(steps):,}")
    if equal or back:
        found["time stamps"] = f"{equal:,} equal to the one before, {back:,} before it"
    return found
