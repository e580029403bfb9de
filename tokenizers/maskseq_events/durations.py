"""Events of which a table says when they began and when they ended: how long they took, and back."""

from decimal import Decimal

import numpy as np
from jaxtyping import Int64

from maskseq_events.case import ABSENT_TIME, UNKNOWN, UNKNOWN_TIME, Value
from maskseq_events.times import SECOND

DURATION = "duration"
"""The attribute, in seconds."""


def durations(start: Int64[np.ndarray, "events"], end: Int64[np.ndarray, "events"]) -> tuple[Value, ...]:
    """Seconds from start to end, as short texts; unknown where one of them is, absent where one does not apply."""
    known = (start > ABSENT_TIME) & (end > ABSENT_TIME)
    unknown = (start == UNKNOWN_TIME) | (end == UNKNOWN_TIME)
    return tuple(
        _text(s) if k else UNKNOWN if u else None
        for s, k, u in zip((end - start).tolist(), known.tolist(), unknown.tolist(), strict=True)
    )


def started(end: int, duration: Value) -> int | None:
    """When an event began that ended at `end`; None where its duration is not known."""
    if end <= ABSENT_TIME or duration in (None, UNKNOWN):
        return None
    return end - int(Decimal(str(duration)) * SECOND)


def _text(micros: int) -> str:
    whole, part = divmod(abs(micros), SECOND)
    text = f"{whole}.{part:06d}".rstrip("0").rstrip(".")
    return f"-{text}" if micros < 0 else text
