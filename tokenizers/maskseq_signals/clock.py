"""When samples were taken, as far as files say it."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np

from maskseq_signals.recording import Recording


def clock(records: Sequence[Recording], n_steps: int) -> dict[str, object]:
    """The sampling rate, as files say it, and how regular the times of the first table are."""
    rates = sorted({record.rate for record in records if record.rate is not None})
    found: dict[str, object] = {}
    if rates:
        found["samples a second"] = ", ".join(f"{rate:g}" for rate in rates)
    times = records[0].times
    moments = _moments(times[:n_steps]) if times else None
    if not times or moments is None or len(moments) < 2:
        return found
    steps = np.diff(moments)
    usual = float(np.median(steps))
    told = f"{usual:,g} s" if is_date(times[0]) else f"{usual:g}"
    odd, equal, back = (int(which.sum()) for which in (steps != usual, steps == 0, steps < 0))
    found["time step"] = told + (" throughout" if not odd else f", but for {odd:,} steps of {len(steps):,}")
    if equal or back:
        found["time stamps"] = f"{equal:,} equal to the one before, {back:,} before it"
    return found


def _moments(times: Sequence[str]) -> list[float] | None:
    """Times as numbers, dates as seconds; None where they are neither."""
    try:
        if is_date(times[0]):
            return [_date(text).timestamp() for text in times]
        return [float(text) for text in times]
    except ValueError:
        return None


def is_date(text: str) -> bool:
    """Whether a text is a date in ISO 8601, so written with slashes, or as day.month.year."""
    try:
        _date(text)
    except ValueError:
        return False
    return True


def _date(text: str) -> datetime:
    text = re.sub(r"^(\d\d)\.(\d\d)\.(\d{4})(?!\d)", r"\3-\2-\1", text.strip())
    moment = datetime.fromisoformat(text.replace("/", "-"))
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
