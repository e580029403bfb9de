"""When samples were taken, as far as files say it."""

from collections.abc import Sequence

import numpy as np

from maskseq_signals.recording import Recording
from maskseq_signals.times import to_moments


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
