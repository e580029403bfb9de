"""A case of an event log, kept as columns: one activity, one timestamp and a value of each attribute per event."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import chain
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float64, Int32, Int64

from maskseq.types import Record

UNKNOWN = "?"
"""An activity or attribute value that nobody knows: a hole. None, in contrast, is an attribute that does not apply."""
UNKNOWN_TIME = -(2**63)
"""A timestamp that nobody knows."""
ABSENT_TIME = UNKNOWN_TIME + 1
"""An event that has no timestamp by its nature: of a log without time, or a static fact about a patient."""

TIME_FIELDS = ("gap", "hour", "weekday")

Kind = Literal["categorical", "numeric"]
Value = str | None
Parts = tuple[Value, ...]
"""What each of several columns says of one activity: None where it says nothing, `UNKNOWN` where nobody knows."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Case(Record):
    """One case: its events in time order, ties in file order. Values are texts as the file writes them.

    Two cases are equal when key, activities, moments and values are; how their files write them does not matter.
    """

    activity: Sequence[str]
    """What happened, `UNKNOWN` where nobody knows. Of several columns, their parts joined by `+`, for people."""
    time: Int64[np.ndarray, "events"]
    """Microseconds since 1970 UTC, or `UNKNOWN_TIME` or `ABSENT_TIME`."""
    offset: Int32[np.ndarray, "events"]
    """Seconds that the clock on the wall was ahead of UTC, as the file says; 0 where it does not say."""
    attributes: Mapping[str, Sequence[Value]] = field(default_factory=dict)
    """Values of each event."""
    case_attributes: Mapping[str, Value] = field(default_factory=dict)
    """Values that hold for the whole case."""
    kinds: Mapping[str, Kind] = field(default_factory=dict)
    """Of the attributes whose type the file declares, whether they are numbers."""
    parts: Sequence[Parts] | None = None
    """Of each event, what the columns say that make its activity together; None for an activity of one column."""
    dated: bool = True
    """Whether the year of its timestamps is known, and with it the weekdays."""
    unread: Mapping[str, int] = field(default_factory=dict)
    """How many unknown values stand in columns of the file that are not read."""
    origin: Any = None
    """What the format that read the case needs to write it back byte for byte."""

    def __len__(self) -> int:
        return len(self.activity)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Case) and self._content() == other._content()

    __hash__ = None  # type: ignore[assignment]

    def _content(self) -> tuple[object, ...]:
        columns = {name: list(values) for name, values in self.attributes.items()}
        activity = list(self.activity), list(self.parts or ())
        return self.key, activity, self.time.tolist(), columns, dict(self.case_attributes)

    def between(self, start: str, stop: str) -> tuple[int, int]:
        """Moments in ISO 8601, of UTC."""
        if not self.dated:
            raise ValueError("the timestamps of this log say no year; say it as the format's option year")
        try:
            since, until = (np.datetime64(text, "us").astype(np.int64) for text in (start, stop))
        except ValueError:
            raise ValueError("these are no moments such as 2024-01-31T12:00") from None
        inside = np.flatnonzero((self.time >= since) & (self.time < until))
        return (int(inside[0]), int(inside[-1]) + 1) if len(inside) else (0, 0)

    def resized(self, start: int, stop: int, length: int) -> "Case":
        """The case with `length` events of which nothing is known in place of `start:stop`."""

        def put(values: Sequence[Value]) -> tuple[Value, ...]:
            return (*values[:start], *[UNKNOWN] * length, *values[stop:])

        gone = np.arange(start, stop)
        unknown = (UNKNOWN,) * len(self.parts[0]) if self.parts else ()
        return replace(
            self,
            activity=tuple(map(str, put(self.activity))),
            time=np.insert(np.delete(self.time, gone), [start] * length, UNKNOWN_TIME),
            offset=np.insert(np.delete(self.offset, gone), [start] * length, 0),
            attributes={name: put(values) for name, values in self.attributes.items()},
            parts=None if self.parts is None else (*self.parts[:start], *[unknown] * length, *self.parts[stop:]),
            origin=None if self.origin is None else self.origin.resized(start, stop, length),
        )

    def span(self) -> tuple[float, float] | None:
        """The first and the last known moment, in seconds since 1970 UTC; None where nobody knows the year."""
        moments = self.time[self.timed & self.dated]
        return (float(moments.min()) / 1e6, float(moments.max()) / 1e6) if len(moments) else None

    def moments(self) -> Float64[np.ndarray, "events"] | None:
        """Of each event; None where nobody knows the year."""
        return np.where(self.timed, self.time / 1e6, np.nan) if self.dated else None

    def group(self, attribute: str) -> str | None:
        """The value of a case attribute (`case:` may stand before its name), or of an attribute of the first event."""
        name = attribute.removeprefix("case:")
        values = self.attributes.get(attribute, ())
        found = self.case_attributes[name] if name in self.case_attributes else values[0] if len(values) else None
        return None if found == UNKNOWN else found

    def column(self, name: str) -> Sequence[Value] | None:
        """An attribute of events, or their activities; what nobody knows is None."""
        values = self.activity if name == "activity" else self.attributes.get(name)
        return None if values is None else [None if value == UNKNOWN else value for value in values]

    def sources(self) -> set[str]:
        names = [*self.attributes, *(f"case:{name}" for name in self.case_attributes)]
        return {"activity", "time", *map(field_name, names)}

    def unknown_values(self) -> dict[str, int]:
        """By the sources of the `event` tokenizer: `activity`, `time`, and attributes."""
        counts = Counter(self.unread)
        counts["activity"] += list(self.activity).count(UNKNOWN)
        counts["time"] += int((self.time == UNKNOWN_TIME).sum())
        for name, values in self.attributes.items():
            counts[field_name(name)] += list(values).count(UNKNOWN)
        for name, value in self.case_attributes.items():
            counts[field_name(f"case:{name}")] += value == UNKNOWN
        return dict(+counts)

    def cut(self, start: int, stop: int) -> "Case":
        """The events `start:stop` as a case of their own, which no longer belongs to a file."""
        here = slice(start, stop)
        return replace(
            self,
            activity=self.activity[here],
            time=self.time[here],
            offset=self.offset[here],
            attributes={name: values[here] for name, values in self.attributes.items()},
            parts=None if self.parts is None else self.parts[here],
            origin=None,
        )

    def bare(self) -> "Case":
        """Without the text that it was read from."""
        return replace(self, origin=None)

    @property
    def timed(self) -> Bool[np.ndarray, "events"]:
        """Which events have a known timestamp."""
        return self.time > ABSENT_TIME


def field_name(attribute: str) -> str:
    """What the field of an attribute is called."""
    return f"{attribute} (attribute)" if attribute in ("activity", *TIME_FIELDS) else attribute


def padded(cells: Iterable[Value], unknown: Iterable[str] = ()) -> dict[Value, str]:
    """Those cells that say that they are unknown, but with blanks or quotes around it (`" ?"`), as `UNKNOWN`."""
    exact, bare = _marks(tuple(unknown))
    known = list(filter(None, cells))
    text = "".join(known)
    if not any(mark in text for mark in bare):  # as for most rows, which are not to be looked at cell by cell
        return {}
    return {cell: UNKNOWN for cell in set(known) if cell not in exact and cell.strip().strip('"').strip() in bare}


@cache
def _marks(unknown: tuple[str, ...]) -> tuple[set[str], set[str]]:
    """What says that a value is unknown, as it is and without blanks."""
    exact = {UNKNOWN, *unknown}
    return exact, {text.strip() for text in exact} - {""}


def plain_rows(rows: Sequence[Sequence[Any]], unknown: Iterable[str] = ()) -> Sequence[Sequence[Any]]:
    """Rows of cells, in which unknown ones stand without blanks or quotes."""
    holes = padded(chain.from_iterable(rows), unknown)
    return [[holes.get(cell, cell) for cell in cells] for cells in rows] if holes else rows


def no_time(n_events: int) -> tuple[Int64[np.ndarray, "events"], Int32[np.ndarray, "events"]]:
    """Timestamps and offsets of events without time."""
    return np.full(n_events, ABSENT_TIME, dtype=np.int64), np.zeros(n_events, dtype=np.int32)


def time_order(time: Int64[np.ndarray, "events"]) -> Int64[np.ndarray, "events"] | None:
    """The order that sorts a case by time, ties in file order; None when it is in order already.

    An event whose timestamp is unknown stays behind the event that the file puts before it.
    """
    sort_key = time
    if (time == UNKNOWN_TIME).any():
        last = np.maximum.accumulate(np.where(time == UNKNOWN_TIME, -1, np.arange(len(time))))
        sort_key = np.where(last < 0, UNKNOWN_TIME, time[last])
    if (sort_key[1:] >= sort_key[:-1]).all():
        return None
    return np.argsort(sort_key, kind="stable")
