"""How rows of a table of events become cases: which column is what, and what its cells mean."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Int32, Int64

from maskseq.errors import DataError, UsageError
from maskseq.formats import ADDED, Format
from maskseq_events.activities import name_of, parts_of
from maskseq_events.case import (
    UNKNOWN,
    UNKNOWN_TIME,
    Case,
    Kind,
    Parts,
    Value,
    no_time,
    plain_rows,
    time_order,
)
from maskseq_events.durations import DURATION, durations
from maskseq_events.mapping import Columns, find_columns
from maskseq_events.rows import Row, RowError, Rows, with_point
from maskseq_events.times import TimeLayout, YearClock

TOTALS = ("total", "totals", "grand total", "subtotal", "sum", "summe", "gesamt", "gesamtsumme", "totale", "suma")
"""What rows are called that sum up others."""


@dataclass(frozen=True, kw_only=True)
class TableCases(Format[Case]):
    """Options of every table of events. Columns are found by their usual names if they are not given.

    An empty cell of an attribute is absent (it does not apply), `?` is unknown: a hole, blanks or quotes around it or
    not. An activity and a timestamp apply to every event, so there both mean unknown; of several columns that make an
    activity together, an empty one is absent, unless all of them are.
    """

    missing_time: ClassVar[int] = UNKNOWN_TIME
    """What an empty timestamp means."""

    case: str | None = None
    """The column whose values tell cases apart; empty: none does, and `idle` or `session_lines` makes sessions."""
    activity: str | tuple[str, ...] | None = None
    """The column that says what happened, or several that say it together (activity and lifecycle)."""
    time: str | tuple[str, ...] | None = None
    """The column of timestamps, or several that make one together (date and time of day); empty: this log has none."""
    start: str | None = None
    """The column of when an event began, where `time` is when it ended. They make the attribute `duration`, in seconds;
    an unknown start is written from a filled duration."""
    attributes: tuple[str, ...] | None = None
    """Attribute columns to read (default: all others)."""
    case_attributes: tuple[str, ...] = ()
    """Columns whose value belongs to the whole case, as those called `case:…` do."""
    absent: tuple[str, ...] = ("",)
    """Attribute cells that mean: does not apply. The first is written for such a value."""
    unknown: tuple[str, ...] = (UNKNOWN,)
    """Cells that mean: nobody knows. They take precedence over `absent`."""
    empty_unknown: tuple[str, ...] = ()
    """Columns of attributes, or of parts of an activity, in which an empty cell means unknown."""
    decimal: Literal[".", ","] = "."
    """What stands between the whole part of a number and its decimals; with a comma, points may part thousands."""
    time_layout: str | None = None
    """`strptime` pattern, or epoch_s, epoch_ms, epoch_us, epoch_ns, or excel: days since 1899-12-30, as spreadsheets
    count them (default: ISO 8601 and its relatives)."""
    time_zone: str | None = None
    """IANA zone of timestamps that say none (default: UTC)."""
    year: int | None = None
    """The year of the first event of a file, for time layouts that say none, in files in the order of time; it rolls
    over at New Year. Without it, there are no weekdays."""
    sort: bool = True
    """Sort each case by time, ties in file order; else keep the order of the file."""
    max_rows: int = 5_000_000
    """Rows that are held in memory; a longer table is grouped through temporary files."""
    case_above: bool = field(default=False, metadata=ADDED)
    """An empty cell of the case's column says what the row above says, as cells that a spreadsheet has merged."""
    session_lines: int | None = field(default=None, metadata=ADDED)
    """That many events are a session, in a log whose rows do not tell cases apart."""
    idle: float | None = field(default=None, metadata=ADDED)
    """A case ends when nothing happens for longer than this, in seconds; the next is called `KEY#2`."""

    def __post_init__(self) -> None:
        if self.session_lines is not None and self.session_lines < 1:
            raise UsageError(f"session_lines = {self.session_lines} must be at least 1", code="bad-option")
        if self.idle is not None and not self.idle > 0:
            raise UsageError(f"idle = {self.idle} must be a number of seconds above 0", code="bad-option")
        if self.session_lines is not None and self.case:
            raise UsageError(
                f"case = {self.case!r} and session_lines exclude each other; give one of them", code="bad-option"
            )
        if self.case == "" and self.session_lines is None and self.idle is None:
            hint = "say idle = 1800 (seconds), or session_lines = 100"
            raise UsageError(f"what is a session of a log without cases?\n\nhint: {hint}", code="bad-option")
        if self.idle is not None and self.time == "":
            raise UsageError("idle needs timestamps, but time = '' says that there are none", code="bad-option")

    def _roles(self) -> dict[str, Any]:
        """Which columns are case, activity and time; None: found by name."""
        case = "" if self.session_lines is not None else self.case
        return {"case": case, "activity": self.activity, "time": self.time}

    def _columns(self, names: Sequence[str], path: Path) -> Columns:
        """Which column is what."""
        return find_columns(
            names,
            path,
            **self._roles(),
            start=self.start,
            attributes=self.attributes,
            case_attributes=self.case_attributes,
            empty_unknown=self.empty_unknown,
        )

    def _place(self, number: int) -> str:
        return f"line {number}"

    def _kinds(self, header: Any) -> dict[str, Kind]:
        """Types that the file declares."""
        return {}

    def _checked(
        self, cells: Sequence[Any] | DataError, columns: Columns, path: Path, number: int, above: str | None
    ) -> Sequence[Any]:
        """The cells of a row; `DataError` for one that is none of the table. `above`: the case of the row before."""
        if isinstance(cells, DataError):
            raise cells
        if len(cells) != len(columns.names):
            problem = f"{len(cells)} cells, but the header names {len(columns.names)} columns"
            raise DataError(path, problem, place=self._place(number))
        if columns.case is not None and _is_blank(cells[columns.case], self.case_above):
            if not self.case_above or above is None:
                problem = f"no case id in column {columns.names[columns.case]!r}"
                hint = "" if self.case_above else "; if it is that of the row above, say case_above = true"
                raise DataError(path, problem + hint, place=self._place(number))
            cells = [*cells[: columns.case], above, *cells[columns.case + 1 :]]
        if columns.case is not None and str(cells[columns.case]).strip(" :").lower() in TOTALS:
            what = [cells[index] for index in (*columns.activity, *columns.time)]
            if what and all(cell in (None, "") for cell in what):
                problem = f"a row called {cells[columns.case]!r} without activity and time seems to sum up others"
                raise DataError(path, problem, place=self._place(number))
        return cells

    def _dated(self, row: Row, columns: Columns, clock: YearClock | None) -> Row:
        """The row with the years of its timestamps, which do not say them; a clock of none leaves it as it is."""
        if clock is None:
            return row
        number, raw, cells = row
        cells = list(cells)
        for index, year_of in ((columns.moment, clock.dated), (columns.start, clock.begun)):
            if index is not None and cells[index] not in self._holes and cells[index] not in self.absent:
                cells[index] = year_of(cells[index])
        return number, raw, cells

    def _case(self, key: str, group: list[Row], columns: Columns, header: Any, path: Path) -> Case:
        cells = [cells for _, _, cells in group]
        if (plain := plain_rows(cells, self.unknown)) is not cells:
            group = [(number, raw, row) for (number, raw, _), row in zip(group, plain, strict=True)]
        time, offset = no_time(len(group))
        if columns.moment is not None:
            time, offset = self._times(group, columns.moment, columns, path)
            order = time_order(time) if self.sort else None
            if order is not None:
                group, time, offset = [group[i] for i in order], time[order], offset[order]
        numbers, raw, rows = zip(*group, strict=True)
        by_column = list(zip(*rows, strict=True))
        attributes = {name: self._values(name, by_column[index]) for name, index in columns.attributes.items()}
        if columns.start is not None:
            attributes[DURATION] = durations(self._times(group, columns.start, columns, path)[0], time)
        parts = self._parts(columns, by_column)
        case = Case(
            key=key,
            activity=self._names(by_column[columns.activity[0]]) if parts is None else tuple(map(name_of, parts)),
            parts=parts,
            time=time,
            offset=offset,
            attributes=attributes,
            case_attributes={
                name: self._case_value(name, by_column[index], numbers, path)
                for name, index in columns.case_attributes.items()
            },
            kinds={**self._kinds(header), **({} if columns.start is None else {DURATION: "numeric"})},
            unread=self._unread(columns, by_column),
            dated=self._layout.dated,
        )
        return replace(case, origin=Rows(was=case, columns=columns, header=header, numbers=numbers, raw=raw))

    @cached_property
    def _layout(self) -> TimeLayout:
        return TimeLayout(self.time_layout, self.time_zone, self.year)

    @cached_property
    def _holes(self) -> set[str | None]:
        """Cells that say that an activity or timestamp is unknown."""
        return {None, "", UNKNOWN, *self.unknown}

    @cached_property
    def _meanings(self) -> dict[str | None, Value]:
        """Cells of attributes that are no values."""
        return {None: None} | dict.fromkeys(self.absent) | dict.fromkeys(self.unknown, UNKNOWN)

    def _values(self, name: str, cells: Sequence[Any]) -> tuple[Value, ...]:
        meanings = self._meanings | ({"": UNKNOWN, None: UNKNOWN} if name in self.empty_unknown else {})
        if self.decimal == ",":
            return tuple([meanings.get(cell, with_point(cell)) for cell in cells])
        return tuple([meanings.get(cell, cell) for cell in cells])

    def _unread(self, columns: Columns, by_column: Sequence[Sequence[Any]]) -> dict[str, int]:
        """How many unknown cells stand in which columns that are not read."""
        marks = {UNKNOWN, *self.unknown}
        counts = {name: sum(cell in marks for cell in by_column[index]) for name, index in columns.unread.items()}
        return {name: n for name, n in counts.items() if n}

    def _times(
        self, group: Sequence[Row], index: int, columns: Columns, path: Path
    ) -> tuple[Int64[np.ndarray, "events"], Int32[np.ndarray, "events"]]:
        moments = [cells[index] for _, _, cells in group]
        try:
            time, offset = self._layout.parse_all(
                [None if moment in self._holes or moment in self.absent else moment for moment in moments]
            )
        except ValueError as error:
            problem, event = error.args
            of = columns.time if index == columns.moment else (index,)
            named = " and ".join(repr(columns.names[i]) for i in of)
            place = f"{self._place(group[event][0])}, column {named}"
            raise RowError(path, problem, place=place, number=group[event][0]) from None
        if self.missing_time != UNKNOWN_TIME:
            time[[moment is None or moment in self.absent for moment in moments]] = self.missing_time
        return time, offset

    def _joined(self, cells: Sequence[Any], columns: Columns) -> str | None:
        """The timestamp that several columns say together; None if one of them does not say it."""
        texts = [cells[i] for i in columns.time]
        return None if any(text in self._holes or text in self.absent for text in texts) else " ".join(texts)

    def _names(self, cells: Sequence[Any]) -> tuple[str, ...]:
        holes = self._holes  # an activity may well be called "NA"
        return tuple(UNKNOWN if cell in holes else cell for cell in cells)

    def _parts(self, columns: Columns, by_column: Sequence[Sequence[Any]]) -> tuple[Parts, ...] | None:
        """Of several columns that make the activity together, what each says."""
        if len(columns.activity) == 1:
            return None
        answered = []
        for index in columns.activity:
            empty = UNKNOWN if columns.names[index] in self.empty_unknown else None
            meanings = {None: empty, "": empty, UNKNOWN: UNKNOWN} | dict.fromkeys(self.unknown, UNKNOWN)
            answered.append([meanings.get(cell, cell) for cell in by_column[index]])
        return parts_of(answered)

    def _case_value(self, name: str, cells: Sequence[Any], numbers: Sequence[int], path: Path) -> Value:
        """The one value that the rows of a case agree on; rows may leave it out."""
        found: Value = None
        first = 0
        for number, value in zip(numbers, self._values(name, cells), strict=True):
            if value is None or (value == UNKNOWN and found is not None):
                continue
            if found is not None and found != UNKNOWN and value != found:
                place = f"{self._place(number)}, column {name!r}"
                reported = f"{value!r}, but {found!r} at {self._place(first)}: not one value for the case"
                raise RowError(path, reported, place=place, number=number)
            found, first = value, number
        return found


def _is_blank(cell: Any, padded: bool) -> bool:
    """Whether a cell is empty, or, if it may be `padded`, holds nothing but blanks."""
    return cell in (None, "") or (padded and not str(cell).strip())
