"""Timestamps from what tokens say of them: gaps, hours and weekdays. Time never runs backwards."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int32, Int64

from maskseq_events.bins import ValueBins
from maskseq_events.case import ABSENT_TIME, UNKNOWN_TIME
from maskseq_events.times import DAY, HOUR, SECOND, WEEK

FIRST_MONDAY = 4 * DAY  # 1970-01-05
NO_CLUE = -1


@dataclass(frozen=True)
class Clues:
    """What the tokens say of each event's moment; microseconds."""

    gap: Int64[np.ndarray, "events"]
    """Since the event before, as decoded; ≥ 0."""
    low: Int64[np.ndarray, "events"]
    high: Int64[np.ndarray, "events"]
    """The gap's bin is [low, high]."""
    hour: Int64[np.ndarray, "events"]
    """0–23 on the clock on the wall, or `NO_CLUE`."""
    weekday: Int64[np.ndarray, "events"]
    """0–6 from Monday, or `NO_CLUE`."""

    @classmethod
    def of(
        cls,
        gaps: Int64[np.ndarray, "events"],
        hours: Int64[np.ndarray, "events"],
        weekdays: Int64[np.ndarray, "events"],
        bins: ValueBins,
    ) -> "Clues":
        """From ids of the three time fields; reserved ids say nothing, and a gap backwards is taken as zero."""
        known = gaps < len(bins.centres)
        index = np.where(known, gaps, 0)
        edges = np.array([0, *np.maximum(bins.edges, 0), bins.edges[-1] * 16 + WEEK], dtype=np.int64)
        low = np.where(known, edges[index], 0)
        high = np.where(known, np.maximum(edges[index + 1] - 1, 0), WEEK - 1)
        gap = np.where(known, np.maximum(np.asarray(bins.centres), 0)[index], 0).astype(np.int64)
        return cls(gap, low, high, np.where(hours < 24, hours, NO_CLUE), np.where(weekdays < 7, weekdays, NO_CLUE))


def place(
    clues: Clues,
    time: Int64[np.ndarray, "events"],
    offset: Int32[np.ndarray, "events"],
    holes: Bool[np.ndarray, "events"],
) -> Int64[np.ndarray, "events"]:
    """Give the `holes` moments that agree with their clues as far as the known moments around them allow.

    A run of holes between two known moments shares the time between them in proportion to its gaps; one with a known
    moment on one side only is counted from there. Moments lie between their neighbours always. Holes of a case without
    any known moment stay unknown: no clue says on which day it was.
    """
    placed = np.where(holes, UNKNOWN_TIME, time)
    for first, last in _runs(holes):
        earlier = np.flatnonzero(placed[:first] > ABSENT_TIME)
        later = np.flatnonzero(placed[last:] > ABSENT_TIME)
        run = np.arange(first, last)
        before = int(placed[earlier[-1]]) if len(earlier) else None
        after = int(placed[last + later[0]]) if len(later) else None
        if before is not None:
            _forwards(placed, clues, offset, run, before, after)
        elif after is not None:
            _backwards(placed, clues, offset, run, after)
    return placed


def first_moment(clues: Clues, event: int, start: int) -> int:
    """The first moment from `start` on, in UTC, that shows the hour and weekday of this event."""
    return _nearest(start, start, start + WEEK - 1, int(clues.hour[event]), int(clues.weekday[event]), 0)


def _forwards(
    placed: Int64[np.ndarray, "events"],
    clues: Clues,
    offset: Int32[np.ndarray, "events"],
    run: Int64[np.ndarray, "run"],
    before: int,
    after: int | None,
) -> None:
    scale, extra = 1.0, 0.0
    if after is not None:
        total = float(clues.gap[run[0] : run[-1] + 2].sum())  # the gap of the known event behind the run too
        room = max(after - before, 0)
        scale, extra = (room / total, 0.0) if total > 0 else (0.0, room / (len(run) + 1))
    plan, previous = float(before), before
    for event in run:
        latest = None if after is None else max(after, previous)
        plan = (previous if after is None else plan) + clues.gap[event] * scale + extra
        wish = _clip(int(plan), previous, latest)
        low = _clip(min(previous + int(clues.low[event]), wish), previous, latest)
        high = _clip(max(previous + int(clues.high[event]), wish), previous, latest)
        previous = _nearest(wish, low, high, int(clues.hour[event]), int(clues.weekday[event]), int(offset[event]))
        placed[event] = previous


def _backwards(
    placed: Int64[np.ndarray, "events"],
    clues: Clues,
    offset: Int32[np.ndarray, "events"],
    run: Int64[np.ndarray, "run"],
    after: int,
) -> None:
    following = after
    for event in run[::-1]:
        behind = event + 1
        wish, low, high = (following - int(x[behind]) for x in (clues.gap, clues.high, clues.low))
        following = _nearest(wish, low, high, int(clues.hour[event]), int(clues.weekday[event]), int(offset[event]))
        placed[event] = following


def _nearest(wish: int, low: int, high: int, hour: int, weekday: int, offset: int) -> int:
    """The moment in [low, high] nearest to `wish` at which the clock shows `hour` on `weekday`.

    Where there is none, of that hour on any day; where there is none either, `wish` itself.
    """
    if hour == NO_CLUE:
        return wish
    slots = [(hour * HOUR, DAY)]
    if weekday != NO_CLUE:
        slots.insert(0, (FIRST_MONDAY + weekday * DAY + hour * HOUR, WEEK))
    for slot, period in slots:
        slot -= offset * SECOND
        start = slot + (wish - slot) // period * period  # the last slot that began by `wish`
        near = [_into(wish, s, s + HOUR - 1, low, high) for s in (start, start + period)]
        moments = [moment for moment in near if moment is not None]
        if moments:
            return min(moments, key=lambda moment: abs(moment - wish))
    return wish


def _into(wish: int, start: int, stop: int, low: int, high: int) -> int | None:
    """The moment nearest to `wish` in both [start, stop] and [low, high], if they meet."""
    first, last = max(start, low), min(stop, high)
    return None if first > last else min(max(wish, first), last)


def _clip(value: int, low: int, high: int | None) -> int:
    value = max(value, low)
    return value if high is None else min(value, high)


def _runs(flags: Bool[np.ndarray, "events"]) -> list[tuple[int, int]]:
    """Half-open ranges of consecutive true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.view(np.int8), [0]])))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]
