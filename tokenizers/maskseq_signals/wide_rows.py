"""Tables whose rows are stretches of one series: a column a month of a year, or an hour of a day."""

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from itertools import pairwise
from typing import Literal

import numpy as np
from jaxtyping import Float64, Int64, Shaped

from maskseq_signals.texts import Texts
from maskseq_signals.timeline import Timeline
from maskseq_signals.times import odd_times, to_moments

Columns = Literal["channels", "steps"]
VALUE = "value"
"""What the channel is called that the columns are steps of."""
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
NUMBERED = re.compile(r"(\D*?)[ _.-]*(\d{1,2})")
NUMBERS = {4: ("q", "quarter"), 12: ("", "m", "month"), 24: ("", "h", "hr", "hour")}
"""How so many steps may be called before their numbers; with other names, as sensors, they need not be steps."""
CLOCK = re.compile(r"(\D*)(\d{1,2})[:h](\d{2})(?::00)?(?:\s*-.*)?")
A_YEAR, A_DAY = (4, 12), (24, 48, 96, 144, 288, 1440)
"""Steps that a row of a year or of a day may have."""
YEARLY, DAILY = (365, 366), (1, 1)
"""Days from one row to the next, at least and at most."""


def steps_within(names: Sequence[str], times: Sequence[str]) -> list[str]:
    """The columns, of some in their order, that follow each other in time within a row; empty where none do.

    Their names count (`Jan` to `Dec`, `Q1` to `Q4`, `0` to `23`, `00:00` to `23:30`), and the rows are years or days.
    Of numbers and clock times there must be no more than these.
    """
    few = odd_times(times)
    try:
        moments = _as_dates(to_moments([text for text in times if text not in few]))
    except ValueError:
        return []
    if moments.dtype.kind != "M" or len(moments) < 2:
        return []
    days = float(np.median(np.abs(np.diff(moments.astype(np.int64))))) / 86_400e6
    plain = [name.strip().lower() for name in names]
    for counts, (fewest, most) in ((A_YEAR, YEARLY), (A_DAY, DAILY)):
        for n in reversed(counts) if fewest <= days <= most else ():
            for first in range(len(names) - n + 1):
                if _consecutive(plain[first : first + n], plain[:first] + plain[first + n :]):
                    return list(names[first : first + n])
    return []


def _consecutive(names: Sequence[str], others: Sequence[str]) -> bool:
    """Whether names are those of months, quarters, hours or parts of hours, all of a year or a day, and `others` do
    not go on with them.
    """
    n = len(names)
    if n == len(MONTHS) and all(map(str.startswith, names, MONTHS)):
        return True
    if all(clocks := [CLOCK.fullmatch(name) for name in names]):
        minutes = [60 * int(clock[2]) + int(clock[3]) for clock in clocks if clock]
        prefixes = {clock[1] for clock in clocks if clock}
        more = (clock[1] for clock in map(CLOCK.fullmatch, others) if clock)
        return {b - a for a, b in pairwise(minutes)} == {1440 // n} and len(prefixes) == 1 and prefixes.isdisjoint(more)
    numbered = [_numbered(name) for name in names]
    prefix, first = numbered[0] or ("", -1)
    begins = (0, 1) if n == 24 else (1,)
    expected: list[tuple[str, int] | None] = [(prefix, first + i) for i in range(-1, n + 1)]
    return (
        prefix in NUMBERS.get(n, ())
        and first in begins
        and numbered == expected[1:-1]
        and {expected[0], expected[-1]}.isdisjoint(map(_numbered, others))
    )


def _numbered(name: str) -> tuple[str, int] | None:
    """What is before the number at a name's end, and the number."""
    match = NUMBERED.fullmatch(name)
    return (match[1], int(match[2])) if match else None


def flattened(
    values: Float64[np.ndarray, "rows columns"],
    times: Sequence[str] | None,
    owned: Iterable[tuple[str, Int64[np.ndarray, "_"]]],
    timeline: Timeline,
) -> tuple[Float64[np.ndarray, "steps 1"], Sequence[str] | None, Iterator[tuple[str, Int64[np.ndarray, "_"]]]]:
    """All cells as steps of one channel, their times, and the steps of each recording; step `s` is of row `s // n`.

    `DataError`, or a warning of the timeline, where the times of owned rows are not those of steps.
    """
    n, parts = values.shape[1], list(owned)
    rows = np.sort(np.concatenate([part for _, part in parts]))
    moments = None if times is None else timeline.moments([times[row] for row in rows.tolist()], rows * n)
    found = None if moments is None or len(rows) < 2 else cell_times(_as_dates(moments), n)
    if found is not None and times is not None and len(rows) < len(times):  # nothing is known of the other rows
        place = np.full(len(times), -1)
        place[rows] = np.arange(len(rows))
        found = Texts.of(found[n * at + i] if at >= 0 else "" for at in place.tolist() for i in range(n))
    steps = ((key, (part[:, None] * n + np.arange(n)).ravel()) for key, part in parts)
    return values.reshape(-1, 1), found, steps


def cell_times(moments: Shaped[np.ndarray, "rows"], n: int) -> Texts:
    """When each of the `n` cells of rows was that begin at these moments."""
    if moments.dtype.kind == "M":
        days = moments.astype("datetime64[D]")
        if 12 % n == 0 and (days == days.astype("datetime64[Y]")).all():  # months and quarters, of unequal length
            months = days.astype("datetime64[M]")[:, None] + np.arange(0, 12, 12 // n)
            return Texts.of(months.ravel().astype(str))
    between = np.diff(np.unique(moments)).astype(np.float64)
    step = float(np.median(between)) / n if len(between) else 0.0
    starts = moments.tolist()
    if moments.dtype.kind != "M":
        return Texts.of(repr(start + i * step) for start in starts for i in range(n))
    return Texts.of((start + i * timedelta(microseconds=step)).isoformat(" ") for start in starts for i in range(n))


def _as_dates(moments: Shaped[np.ndarray, "rows"]) -> Shaped[np.ndarray, "rows"]:
    """Whole numbers from 1000 to 2999 as years, in microseconds; others as they are."""
    if moments.dtype.kind == "i" and len(moments) and 1000 <= moments.min() <= moments.max() < 3000:
        return (moments - 1970).astype("datetime64[Y]").astype("datetime64[us]")
    return moments
