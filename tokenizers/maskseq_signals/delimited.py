"""Signals in CSV and TSV: a row a time step, a column a channel, and a column of times that is kept as it is."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import numpy as np
from jaxtyping import Float64, Int64

from maskseq.errors import DataError, UsageError
from maskseq.files import create
from maskseq.formats import ADDED, Format, OnBroken, attempted, distinct, stop
from maskseq.survey import Claim, Head
from maskseq_signals.cells import (
    cells_of,
    delimiter_of,
    grouped,
    is_comment,
    is_infinite,
    number,
    number_text,
    quoted,
    spans_of,
    table_begin,
)
from maskseq_signals.files import read_text
from maskseq_signals.long_table import TIME_NAMES
from maskseq_signals.new_table import are_stretches, new_lines
from maskseq_signals.recording import Recording, recorded
from maskseq_signals.row_reader import ColumnText, RowReader, TableHead, taken
from maskseq_signals.table_claims import claim_signals
from maskseq_signals.texts import BLOCK, Texts
from maskseq_signals.timeline import Steps, Timeline, spread
from maskseq_signals.times import is_date
from maskseq_signals.wide_rows import VALUE, Columns, flattened

BOM = "\ufeff"
LOOKED_AT = 20
"""Rows that say whether all of them end with a delimiter."""
SEPARATORS = {".": (",", "'", " ", "\u00a0", "\u202f"), ",": (".", "'", " ", "\u00a0", "\u202f")}
"""What may separate thousands, beside each decimal sign."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """What a recording remembers of its table: every line, and which cells its channels are."""

    lines: Texts
    """All lines of the file with their line ends."""
    rows: Int64[np.ndarray, "length *channels"]
    """The line of each time step, or of each of its values where they have lines of their own; from 0, -1 for one that
    is missing.
    """
    columns: tuple[int, ...]
    """The cell of each channel; of those of a series that runs through them, each."""
    shown: tuple[int | None, ...]
    """Digits behind the point that all cells of a channel have; None where their number varies."""
    delimiter: str
    decimal: str
    thousands: str | None
    was: Float64[np.ndarray, "length channels"]
    """The values as they were read."""
    within: Int64[np.ndarray, "length"] | None = None
    """Which of the columns each time step is, where these are steps of one channel."""

    def cell(self, step: int, channel: int) -> tuple[int, int]:
        """The line and the column of a value."""
        if self.rows.ndim == 2:
            return int(self.rows[step, channel]), self.columns[0]
        return int(self.rows[step]), self.columns[channel if self.within is None else int(self.within[step])]


@dataclass(frozen=True, kw_only=True)
class SignalCsv(Format[Recording]):
    """One recording a file, which is called like the file, or several, which a column names. An empty cell, `NaN`, `NA`
    or `?` is an unknown value.

    The first line is the header, unless all its cells are numbers; a line of units may follow it. Written back, every
    line and every cell that did not change is copied from the file as it was. There is no `suffixes`: a .csv is an
    event log unless a recipe says `format = "signal-csv"`.
    """

    dress = MappingProxyType({"delimiter": (None,), "decimal": (".", ","), "encoding": ("utf-8", "cp1252")})

    time: str | tuple[str, ...] | None = None
    """The column of times (default: the first, if it is called like one or holds no numbers; "": there is none), or
    several that say it together: year, month, day and hour, or a date and a time of day."""
    channels: tuple[str, ...] | None = None
    """Columns to read (default: all but the time)."""
    recording: str | None = None
    """The column that says which recording a row belongs to (default: the file is one)."""
    unknown: tuple[str, ...] = ("", "nan", "na", "n/a", "null", "none", "?")
    """Cells, in lower case, that say that the value is not known; numbers, too, such as -9999."""
    delimiter: str | None = None
    """Default: whichever of `,` `;` tab `|` cuts the first line into most columns."""
    decimal: Literal[".", ","] = "."
    """What stands between the whole part of a number and its decimals."""
    rate: float | None = None
    """Samples a second."""
    encoding: str = "utf-8"
    thousands: str | None = field(default=None, metadata=ADDED)
    """What separates thousands, as in 12,345.6."""
    steps: Steps = field(default="times", metadata=ADDED)
    """What the time steps are. times: rows in the order of their times; missing ones are unknown, and behind more than
    64 of them a new recording begins; rows with equal times, or at irregular ones, are refused. rows: each row is one
    step, whatever its time says. Times that are neither dates nor numbers count as rows."""
    columns: Columns = field(default="channels", metadata=ADDED)
    """What the columns are. channels: each is one. steps: they follow each other within a row, as the months of a year,
    and are one channel, `value`."""
    metric: str | None = field(default=None, metadata=ADDED)
    """The column that says which channel a row's value is of, in a table of a row a measurement; `channels` then is the
    one column of values. Rows of one time (and recording) are one time step."""

    def __post_init__(self) -> None:
        if self.delimiter is not None and len(self.delimiter) != 1:
            raise UsageError(f"delimiter must be one character, not {self.delimiter!r}", code="bad-option")
        if self.metric is not None and self.columns == "steps":
            problem = f"metric = {self.metric!r} and columns = 'steps' exclude each other; give one of them"
            raise UsageError(problem, code="bad-option")
        if self.delimiter == self.decimal:
            raise UsageError(f"{self.delimiter!r} cannot be both the delimiter and the decimal sign", code="bad-option")
        if self.thousands is not None and self.thousands not in SEPARATORS[self.decimal]:
            known = ", ".join(map(repr, SEPARATORS[self.decimal]))
            raise UsageError(
                f"thousands are separated by one of {known} beside {self.decimal!r}, not {self.thousands!r}",
                code="bad-option",
            )

    @classmethod
    def recognize(cls, head: Head) -> Claim | None:
        """All columns but the time hold numbers; those that do not are left out. Commas may be decimal signs where they
        cut no cells.
        """
        if not head.name.endswith((".csv", ".tsv", ".txt")) or len(head.lines) < 3:
            return None
        return claim_signals(cls, head)

    def read(self, path: Path) -> Iterator[Recording]:
        return self._read(path, stop)

    def attempts(self, path: Path) -> Iterator[Recording | DataError]:
        """A row that cannot be read is a missing one if times tell so, else a step of unknown values. It stays in the
        table as it is.
        """
        return attempted(lambda on_broken: self._read(path, on_broken))

    def _read(self, path: Path, on_broken: OnBroken) -> Iterator[Recording]:
        lines = Texts.lines(read_text(path, self.encoding))
        head = self._head(lines, path)
        body = RowReader(
            lines,
            head,
            path,
            plain=self.plain,
            unknown=self.unknown_texts,
            decimal=self.decimal,
            rows_are_steps=self.steps == "rows",
        )
        for rows in np.split(np.arange(len(head.rows)), range(BLOCK, len(head.rows), BLOCK)):
            body.read(rows)
        body.warn_of_infinite()
        if head.time and on_broken is not stop:
            body.refuse_odd_times()
        long = None if head.metric is None else body.measured()
        for at, (problem, name) in sorted(body.broken.items()):
            place = f"line {at + 1}" + f", column {name!r}" * bool(name)
            on_broken(DataError(path, problem, place=place, kept=()))
        if len(body.broken) == len(head.rows):
            raise DataError(path, "no row of values can be read")
        values = body.values
        times: Sequence[str] | None = body.times
        names, texts, owned = tuple(head.names[column] for column in head.columns), body.columns, body.owned()
        units = () if head.units is None else tuple(head.units[column].strip("()[] ") for column in head.columns)
        a_row = len(head.columns) if self.columns == "steps" else 1
        if long is not None:
            values, times, names, units, owned = long.values, long.times, long.names, (), iter(long.owned)

        def line_of(step: int) -> str:
            return f"line {head.rows[long.rows[step].max() if long is not None else step // a_row] + 1}"

        timeline = Timeline(path, line_of, steps=self.steps, decimal=self.decimal)
        if self.columns == "steps":
            values, times, owned = flattened(values, times, owned, timeline)
            names, units, texts = (VALUE,), (), [ColumnText.joined(VALUE, texts)]
        for key, steps in timeline.recordings(owned, times):
            rows = steps // a_row  # -1 stays -1
            if long is not None:
                rows = np.where(steps[:, None] < 0, -1, long.rows[steps])
            channels, lines_of_steps = spread(values, steps), np.where(rows < 0, -1, head.rows[rows])
            lines_of_steps[np.isin(lines_of_steps, list(body.broken))] = -1
            yield recorded(
                path,
                key=key,
                channels=channels,
                names=names,
                units=units,
                rate=self.rate,
                times=None if times is None else taken(times, steps),
                decimals=tuple(each.most_shown for each in texts),
                digits=tuple(each.needed for each in texts),
                unread={name: int(found[rows[rows >= 0]].sum()) // a_row for name, found in body.holes.items()},
                origin=Table(
                    lines=lines,
                    rows=lines_of_steps,
                    columns=head.columns,
                    shown=tuple(each.only_shown for each in texts),
                    delimiter=head.delimiter,
                    decimal=self.decimal,
                    thousands=self.thousands,
                    was=channels.copy(),
                    within=None if a_row == 1 else steps % a_row,
                ),
            )

    def _head(self, lines: Texts, path: Path) -> TableHead:
        """What the first lines say of the others."""
        start = table_begin(lines)
        if start is None:
            raise DataError(path, "the file is empty")
        header = lines[start].rstrip("\r\n")
        delimiter = self.delimiter or delimiter_of(lines[start], but=self.decimal)
        first = cells_of(lines[start], delimiter)
        headless = all(self.number(cell) is not None for cell in first)
        rest = ((at, line.strip("\r\n" + BOM)) for at, line in enumerate(lines) if at > start)
        others = (
            at
            for at, line in rest
            if line and (headless or line != header) and not is_comment(line, delimiter, len(first))
        )
        filled = np.fromiter(chain([start], others), np.int64)
        if headless:
            rows, names = filled, tuple(f"channel_{index}" for index in range(1, len(first) + 1))
        else:
            rows, names = filled[1:], distinct([cell.removeprefix(BOM).strip() for cell in first])
        if not len(rows):
            raise DataError(path, "there is a header but no row of values")
        ended = [cells_of(lines[at], delimiter) for at in rows[:LOOKED_AT].tolist()]
        trailing = all(len(each) == len(names) + 1 and not each[-1].strip() for each in ended)

        def cells(at: int) -> list[str]:
            found = cells_of(lines[at], delimiter)
            if trailing and len(found) == len(names) + 1 and not found[-1].strip():
                found.pop()
            return found if len(found) == len(names) else [""] * len(names)

        units: list[str] | None = None
        if not headless and self.are_units(first, [cells(row) for row in rows[:2].tolist()]):
            units, rows = cells(int(rows[0])), rows[1:]
        usual = (row for row in rows.tolist() if any(cells(row)))
        time = self.time_columns(names, cells(next(usual, int(rows[0]))), path)
        owner = None if self.recording is None else self._named(self.recording, names, path)
        metric = None if self.metric is None else self._named(self.metric, names, path)
        columns = self._columns(names, {*time, owner, metric}, path)
        if metric is not None and (len(columns) != 1 or not time):
            problem = f"with metric = {self.metric!r}, name the one column of values, and that of times"
            hint = f"channels = [NAME] and time = NAME; there are {', '.join(names)}"
            raise UsageError(f"{path}: {problem}\n\nhint: {hint}", code="bad-option")
        return TableHead(delimiter, names, units, rows, time, owner, columns, metric, trailing)

    def write(self, records: Iterable[Recording | DataError], path: Path) -> None:
        """The table that the recordings were read from, with the cells that changed; else a new table of one, or of the
        stretches of one.
        """
        recordings = [record for record in records if not isinstance(record, DataError)]  # of which the lines are kept
        tables = [record.origin for record in recordings if isinstance(record.origin, Table)]
        if not recordings or len(tables) != len(recordings) or any(table.lines != tables[0].lines for table in tables):
            if not are_stretches(recordings):
                reported = f"{len(recordings)} recordings that were not read from one table cannot be written as one"
                raise UsageError(f"{path}: {reported}\n\nhint: write NPZ", code="not-supported")
            lines: Iterable[str] = new_lines(
                recordings, self.delimiter or ("," if self.decimal == "." else ";"), self.decimal
            )
        else:
            changed: dict[int, str] = {}
            for record in recordings:
                _update(changed, record)
            lines = (changed.get(at, line) for at, line in enumerate(tables[0].lines))
        rest = iter(lines)
        with create(path) as file:
            while block := list(islice(rest, BLOCK)):
                file.write("".join(block).encode(self.encoding))

    def time_columns(self, names: Sequence[str], row: Sequence[str], path: Path) -> tuple[int, ...]:
        if self.time:
            several = (self.time,) if isinstance(self.time, str) else self.time
            return tuple(self._named(name, names, path) for name in several)
        if self.time is None and (names[0].lower() in TIME_NAMES or self.is_text(row[0])):
            return (0,)
        return ()

    def _columns(self, names: Sequence[str], others: set[int | None], path: Path) -> tuple[int, ...]:
        if self.channels is not None:
            return tuple(self._named(name, names, path) for name in self.channels)
        columns = tuple(index for index in range(len(names)) if index not in others)
        if not columns:
            raise DataError(path, f"there is no column of values beside {', '.join(map(repr, names))}")
        return columns

    def _named(self, name: str, names: Sequence[str], path: Path) -> int:
        if name not in names:
            raise UsageError(f"{path} has no column {name!r}\n\nhint: it has {', '.join(names)}", code="unknown-name")
        return names.index(name)

    def plain(self, cell: str) -> str:
        """With a decimal point, and without separators of thousands; a point that is none makes it no number."""
        if self.thousands is not None and self._grouped.fullmatch(cell):
            cell = cell.replace(self.thousands, "")
        return cell if self.decimal == "." else cell.replace(".", "'").replace(",", ".")

    @cached_property
    def _grouped(self) -> re.Pattern[str]:
        return grouped(self.thousands or "", self.decimal)

    def grouping(self, cells: Iterable[str]) -> "SignalCsv":
        """With the separator of thousands that some cells show beyond doubt: more than once, or before decimals."""
        others = [cell for cell in set(cells) if cell[-1:].isdigit() and number(self.plain(cell)) is None]
        for separator in SEPARATORS[self.decimal]:
            pattern = grouped(separator, self.decimal)
            sure = [cell for cell in others if cell.count(separator) > 1 or self.decimal in cell]
            if any(map(pattern.fullmatch, sure)):
                return replace(self, thousands=separator)
        return self

    def are_units(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
        """Whether the first of two rows or more is one of units: texts, of which some stand above numbers."""
        if len(rows) < 2 or list(rows[0]) == list(header):
            return False
        if any(self.number(cell) is not None or is_date(cell.strip()) for cell in rows[0]):
            return False
        return any(self.is_text(a) and self.number(b) is not None for a, b in zip(rows[0], rows[1], strict=True))

    @cached_property
    def unknown_texts(self) -> frozenset[str]:
        """As `plain` cells are compared with them."""
        return frozenset(map(self.plain, self.unknown))

    def number(self, cell: str) -> float | None:
        return number(self.plain(cell.strip()))

    def is_text(self, cell: str) -> bool:
        plain = self.plain(cell.strip())
        return number(plain) is None and not is_infinite(plain) and cell.strip().lower() not in self.unknown


def _update(lines: dict[int, str], record: Recording) -> None:
    """Add the lines of a table in which cells have changed in the recording; several recordings may share one."""
    table: Table = record.origin
    if record.channels.shape != table.was.shape:
        raise UsageError(
            f"recording {record.key!r} has other steps or channels than the table it was read from",
            code="not-supported",
        )
    changed = (record.channels != table.was) & ~(np.isnan(record.channels) & np.isnan(table.was))
    cells: dict[int, dict[int, tuple[int, int]]] = {}
    for step, channel in np.argwhere(changed).tolist():
        row, cell = table.cell(step, channel)
        if row >= 0:
            cells.setdefault(row, {})[cell] = step, channel
    for row, places in cells.items():
        line = lines.get(row, table.lines[row])
        spans = spans_of(line, table.delimiter)
        for cell, (step, channel) in sorted(places.items(), reverse=True):
            start, stop = spans[cell]
            value = float(record.channels[step, channel])
            text = number_text(value, table.shown[channel], decimal=table.decimal, thousands=table.thousands)
            text = f'"{text}"' if line[start : start + 1] == '"' else quoted(text, table.delimiter)
            line = line[:start] + text + line[stop:]
        lines[row] = line
