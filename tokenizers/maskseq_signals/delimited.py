"""Signals in CSV and TSV: a row a time step, a column a channel, and a column of times that is kept as it is."""

import io
import math
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64

from maskseq.errors import DataError, DataWarning, UsageError
from maskseq.files import create
from maskseq.formats import ADDED, Format, OnBroken, attempted, distinct, stop
from maskseq.survey import LIKELY, POSSIBLE, Claim, Head
from maskseq_signals.cells import (
    cells_of,
    delimiter_of,
    grouped,
    is_infinite,
    needed_decimals,
    number,
    number_text,
    quoted,
    shown_decimals,
    spans_of,
)
from maskseq_signals.files import read_text, recording_name
from maskseq_signals.long_table import TIME_NAMES, told_apart
from maskseq_signals.missing_codes import missing_codes
from maskseq_signals.recording import Recording, recorded
from maskseq_signals.timeline import Steps, Timeline, spread
from maskseq_signals.times import is_date, odd_times

BOM = "\ufeff"
DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")
SEPARATORS = {".": (",", "'", " ", "\u00a0", "\u202f"), ",": (".", "'", " ", "\u00a0", "\u202f")}
"""What may separate thousands, beside each decimal sign."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """What a recording remembers of its table: every line, and which cells its channels are."""

    lines: tuple[str, ...]
    """All lines of the file with their line ends."""
    rows: tuple[int | None, ...]
    """The line of each time step, from 0; None for one that is missing."""
    columns: tuple[int, ...]
    """The cell of each channel."""
    shown: tuple[int | None, ...]
    """Digits behind the point that all cells of a channel have; None where their number varies."""
    delimiter: str
    decimal: str
    thousands: str | None
    was: Float64[np.ndarray, "length channels"]
    """The values as they were read."""


@dataclass(frozen=True, kw_only=True)
class SignalCsv(Format[Recording]):
    """One recording a file, which is called like the file, or several, which a column names. An empty cell, `NaN`, `NA`
    or `?` is an unknown value.

    The first line is the header, unless all its cells are numbers; a line of units may follow it. Written back, every
    line and every cell that did not change is copied from the file as it was. There is no `suffixes`: a .csv is an
    event log unless a recipe says `format = "signal-csv"`.
    """

    dress = MappingProxyType({"delimiter": (None,), "decimal": (".", ","), "encoding": ("utf-8", "cp1252")})

    time: str | None = None
    """The column of times (default: the first, if it is called like one or holds no numbers; "": there is none)."""
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

    def __post_init__(self) -> None:
        if self.delimiter is not None and len(self.delimiter) != 1:
            raise UsageError(f"delimiter must be one character, not {self.delimiter!r}")
        if self.delimiter == self.decimal:
            raise UsageError(f"{self.delimiter!r} cannot be both the delimiter and the decimal sign")
        if self.thousands is not None and self.thousands not in SEPARATORS[self.decimal]:
            known = ", ".join(map(repr, SEPARATORS[self.decimal]))
            raise UsageError(
                f"thousands are separated by one of {known} beside {self.decimal!r}, not {self.thousands!r}"
            )

    @classmethod
    def recognize(cls, head: Head) -> Claim | None:
        """All columns but the time hold numbers; those that do not are left out. Commas may be decimal signs where they
        cut no cells.
        """
        if not head.name.endswith((".csv", ".tsv", ".txt")) or len(head.lines) < 3:
            return None
        delimiter = delimiter_of(head.lines[0])
        first, *rows = ([cell.strip() for cell in cells_of(line, delimiter)] for line in head.lines[:1000])
        if any(len(row) != len(first) for row in rows):
            return None
        commas = delimiter != "," and any(DECIMAL_COMMA.fullmatch(cell) for row in rows for cell in row)
        reader = cls(decimal="," if commas else ".")._grouping(cell for row in rows for cell in row)
        headless = all(reader._number(cell) is not None for cell in first)
        names = tuple(f"channel_{i}" for i in range(1, len(first) + 1)) if headless else distinct(first)
        if not headless and reader._are_units(first, rows):
            rows = rows[1:]
        columns = [list(column) for column in zip(*rows, strict=True)]
        usual = time = reader._time_column(names, rows[0], head.path)
        dates = [i for i, name in enumerate(names) if name.lower() in TIME_NAMES or all(map(is_date, columns[i]))]
        apart = told_apart(names, columns, dates, decimal=reader.decimal)
        time, owner = apart or (time, None)
        known = [any(reader._number(cell) is not None for cell in column) for column in columns]
        plain = [known[i] and not any(map(reader._text, column)) for i, column in enumerate(columns)]
        numeric = [name for i, name in enumerate(names) if i not in (time, owner) and plain[i]]
        dated = time in dates
        others = [repr(name) for i, name in enumerate(names) if i not in (time, owner) and not plain[i]]
        if not numeric or (others and not dated):
            return None
        options: dict[str, Any] = {"decimal": ","} if commas else {}
        options |= {"thousands": reader.thousands} if reader.thousands else {}
        if owner is not None and time is not None:
            options |= {"recording": names[owner]} | ({} if time == usual else {"time": names[time]})
        plain_cells = [[*map(reader._plain, columns[names.index(name)])] for name in numeric]
        codes = [code.replace(".", reader.decimal) for code in missing_codes(plain_cells)]
        options |= {"unknown": [*reader.unknown, *codes]} if codes else {}
        options |= {"channels": numeric} if others else {}
        why = "; ".join(
            [
                _content(names, len(numeric), time, owner, others) + (" (with decimal commas)" if commas else ""),
                *([f"{names[owner]!r} tells recordings apart"] if owner is not None else []),
                *([f"{', '.join(map(repr, codes))} stands for no value"] if codes else []),
                *([f"{', '.join(others[:5])}{', …' if len(others) > 5 else ''} left out"] if others else []),
            ]
        )
        strength = LIKELY if dated and not others else POSSIBLE
        return Claim(strength=strength, why=why, options=options).encoded(head)

    def read(self, path: Path) -> Iterator[Recording]:
        return self._read(path, stop)

    def attempts(self, path: Path) -> Iterator[Recording | DataError]:
        """A row that cannot be read is a missing one if times tell so, else a step of unknown values. It stays in the
        table as it is.
        """
        return attempted(lambda on_broken: self._read(path, on_broken))

    def _read(self, path: Path, on_broken: OnBroken) -> Iterator[Recording]:
        lines = tuple(io.StringIO(read_text(path, self.encoding), newline=""))
        filled = [at for at, line in enumerate(lines) if line.strip("\r\n" + BOM)]
        if not filled:
            raise DataError(path, "the file is empty")
        delimiter = self.delimiter or delimiter_of(lines[filled[0]], but=self.decimal)
        cells = {at: cells_of(lines[at], delimiter) for at in filled}
        first = cells[filled[0]]
        if all(self._number(cell) is not None for cell in first):
            rows, names = filled, tuple(f"channel_{index}" for index in range(1, len(first) + 1))
        else:
            rows, names = filled[1:], distinct([cell.removeprefix(BOM).strip() for cell in first])
        if not rows:
            raise DataError(path, "there is a header but no row of values")
        broken: dict[int, tuple[str, str]] = {}
        """Why rows cannot be read, and the column that says so."""
        for row in rows:
            if len(cells[row]) != len(names):
                broken[row] = f"{len(cells[row])} cells, but the first line has {len(names)}", ""
                cells[row] = [""] * len(names)
        units: list[str] | None = None
        if rows != filled and self._are_units(first, [cells[row] for row in rows[:2]]):
            units, rows = cells[rows[0]], rows[1:]
        whole = cells[next((row for row in rows if row not in broken), rows[0])]
        time = self._time_column(names, whole, path)
        owner = None if self.recording is None else self._named(self.recording, names, path)
        columns = self._columns(names, {time, owner}, path)
        texts = [[self._plain(cells[at][column].strip()) for at in rows] for column in columns]
        numbers = [self._numbers(told, path, rows, names[c], broken) for told, c in zip(texts, columns, strict=True)]
        values = np.array([[known[text] for text in told] for told, known in zip(texts, numbers, strict=True)]).T
        digits = [
            [(needed_decimals(text), shown_decimals(text)) for text, value in known.items() if value == value]
            for known in numbers
        ]
        if time is not None and on_broken is not stop:
            odd = odd_times([cells[at][time] for at in rows if at not in broken], decimal=self.decimal)
            for at in rows:
                if cells[at][time] in odd:
                    broken.setdefault(at, (f"the time {cells[at][time]!r} cannot be understood", names[time]))
        for at, (problem, name) in sorted(broken.items()):
            place = f"line {at + 1}" + f", column {name!r}" * bool(name)
            on_broken(DataError(path, problem, place=place, kept=()))
        placed = owner is None and (time is None or self.steps == "rows")  # a row is a step, whatever it says
        owned: dict[str, list[int]] = {} if owner is not None else {recording_name(path): []}
        for row, at in enumerate(rows):
            if at in broken:
                values[row] = np.nan
            if at not in broken or placed:
                key = recording_name(path) if owner is None else cells[at][owner].strip()
                owned.setdefault(key, []).append(row)
        if len(broken) == len(rows):
            raise DataError(path, "no row of values can be read")
        others = {name: c for c, name in enumerate(names) if c not in {*columns, time, owner}}
        times = None if time is None else [cells[at][time] for at in rows]
        timeline = Timeline(path, lambda row: f"line {rows[row] + 1}", steps=self.steps, decimal=self.decimal)
        for key, steps in timeline.recordings(((key, np.array(own)) for key, own in owned.items()), times):
            channels = spread(values, steps)
            yield recorded(
                path,
                key=key,
                channels=channels,
                names=tuple(names[column] for column in columns),
                units=tuple("" if units is None else units[column].strip("()[] ") for column in columns),
                rate=self.rate,
                times=None if times is None else tuple(times[row] if row >= 0 else "" for row in steps.tolist()),
                decimals=tuple(max((shown for _, shown in some), default=None) for some in digits),
                digits=tuple(max((needed for needed, _ in some), default=None) for some in digits),
                unread={
                    name: self._holes([cells[rows[row]][c] for row in steps.tolist() if row >= 0])
                    for name, c in others.items()
                },
                origin=Table(
                    lines=lines,
                    rows=tuple(rows[row] if row >= 0 and rows[row] not in broken else None for row in steps.tolist()),
                    columns=columns,
                    shown=tuple(some[0][1] if len({shown for _, shown in some}) == 1 else None for some in digits),
                    delimiter=delimiter,
                    decimal=self.decimal,
                    thousands=self.thousands,
                    was=channels.copy(),
                ),
            )

    def write(self, records: Iterable[Recording | DataError], path: Path) -> None:
        """The table that the recordings were read from, with the cells that changed; else a new table of one, or of the
        stretches of one.
        """
        recordings = [record for record in records if not isinstance(record, DataError)]  # of which the lines are kept
        tables = [record.origin for record in recordings if isinstance(record.origin, Table)]
        if not recordings or len(tables) != len(recordings) or len({table.lines for table in tables}) > 1:
            if not _are_stretches(recordings):
                told = f"{len(recordings)} recordings that were not read from one table cannot be written as one"
                raise UsageError(f"{path}: {told}\n\nhint: write NPZ")
            lines = _new(recordings, self.delimiter or ("," if self.decimal == "." else ";"), self.decimal)
        else:
            lines = list(tables[0].lines)
            for record in recordings:
                _update(lines, record)
        with create(path) as file:
            file.write("".join(lines).encode(self.encoding))

    def _time_column(self, names: Sequence[str], row: Sequence[str], path: Path) -> int | None:
        if self.time:
            return self._named(self.time, names, path)
        if self.time is None and (names[0].lower() in TIME_NAMES or self._text(row[0])):
            return 0
        return None

    def _columns(self, names: Sequence[str], others: set[int | None], path: Path) -> tuple[int, ...]:
        if self.channels is not None:
            return tuple(self._named(name, names, path) for name in self.channels)
        columns = tuple(index for index in range(len(names)) if index not in others)
        if not columns:
            raise DataError(path, f"there is no column of values beside {', '.join(map(repr, names))}")
        return columns

    def _named(self, name: str, names: Sequence[str], path: Path) -> int:
        if name not in names:
            raise UsageError(f"{path} has no column {name!r}\n\nhint: it has {', '.join(names)}")
        return names.index(name)

    def _plain(self, cell: str) -> str:
        """With a decimal point, and without separators of thousands; a point that is none makes it no number."""
        if self.thousands is not None and self._grouped.fullmatch(cell):
            cell = cell.replace(self.thousands, "")
        return cell if self.decimal == "." else cell.replace(".", "'").replace(",", ".")

    @cached_property
    def _grouped(self) -> re.Pattern[str]:
        return grouped(self.thousands or "", self.decimal)

    def _grouping(self, cells: Iterable[str]) -> "SignalCsv":
        """With the separator of thousands that some cells show beyond doubt: more than once, or before decimals."""
        others = [cell for cell in set(cells) if cell[-1:].isdigit() and number(self._plain(cell)) is None]
        for separator in SEPARATORS[self.decimal]:
            pattern = grouped(separator, self.decimal)
            sure = [cell for cell in others if cell.count(separator) > 1 or self.decimal in cell]
            if any(map(pattern.fullmatch, sure)):
                return replace(self, thousands=separator)
        return self

    def _are_units(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
        """Whether the first of two rows or more is one of units: texts, of which some stand above numbers."""
        if len(rows) < 2 or list(rows[0]) == list(header):
            return False
        if any(self._number(cell) is not None or is_date(cell.strip()) for cell in rows[0]):
            return False
        return any(self._text(a) and self._number(b) is not None for a, b in zip(rows[0], rows[1], strict=True))

    def _holes(self, cells: Sequence[str]) -> int:
        """How many cells say that they are unknown; an empty cell of a column that is no channel may mean anything."""
        return sum(self._plain(cell.strip().lower()) in self._unknown for cell in cells if cell.strip())

    @cached_property
    def _unknown(self) -> frozenset[str]:
        """As `_plain` cells are compared with them."""
        return frozenset(map(self._plain, self.unknown))

    def _number(self, cell: str) -> float | None:
        return number(self._plain(cell.strip()))

    def _text(self, cell: str) -> bool:
        plain = self._plain(cell.strip())
        return number(plain) is None and not is_infinite(plain) and cell.strip().lower() not in self.unknown

    def _numbers(
        self, texts: Sequence[str], path: Path, rows: Sequence[int], name: str, broken: dict[int, tuple[str, str]]
    ) -> dict[str, float]:
        """What each different text of a column says; rows whose text says nothing are added to the broken ones."""
        numbers = {}
        for text in dict.fromkeys(texts):
            unknown = text.lower() in self._unknown
            value = None if unknown else number(text)
            if value is None and not unknown:
                if is_infinite(text):
                    place = f"line {rows[texts.index(text)] + 1}, column {name!r}"
                    told = f"{texts.count(text):,} values of {text!r}, the first in {place}: read as unknown"
                    warnings.warn(f"{path}: {told}", DataWarning, stacklevel=3)
                else:
                    hint = "if the column is no channel, list those that are: channels = [...]"
                    for row, other in zip(rows, texts, strict=True):
                        if other == text:
                            broken.setdefault(row, (f"{text!r} is no finite number; {hint}", name))
            numbers[text] = np.nan if value is None else value
        return numbers


def _content(names: Sequence[str], n: int, time: int | None, owner: int | None, others: Sequence[str]) -> str:
    """Which columns hold what, for the user to read."""
    if others:
        return f"numbers in {n} of {len(names)} columns" + (
            f", and times in {names[time]!r}" if time is not None else ""
        )
    if time is None:
        return "numbers in all columns"
    but = f"{names[time]!r} and {names[owner]!r}" if owner is not None else f"the first, {names[time]!r}"
    return f"numbers in all columns but {but}"


def _update(lines: list[str], record: Recording) -> None:
    """Change the cells of a table's lines that have changed in the recording."""
    table: Table = record.origin
    if record.channels.shape != table.was.shape:
        raise UsageError(f"recording {record.key!r} has other steps or channels than the table it was read from")
    changed = (record.channels != table.was) & ~(np.isnan(record.channels) & np.isnan(table.was))
    for step in np.flatnonzero(changed.any(axis=1)).tolist():
        row = table.rows[step]
        if row is None:
            continue
        line = lines[row]
        spans = spans_of(line, table.delimiter)
        for channel in sorted(np.flatnonzero(changed[step]).tolist(), key=lambda c: -table.columns[c]):
            start, stop = spans[table.columns[channel]]
            value = float(record.channels[step, channel])
            text = number_text(value, table.shown[channel], decimal=table.decimal, thousands=table.thousands)
            text = f'"{text}"' if line[start : start + 1] == '"' else quoted(text, table.delimiter)
            line = line[:start] + text + line[stop:]
        lines[row] = line


def _are_stretches(recordings: Sequence[Recording]) -> bool:
    """Whether these are one recording, or its stretches in order of time."""
    channels = {record.names for record in recordings}
    timed = all(record.rate and record.times is None for record in recordings)
    ends = [(record.start, record.start + len(record) / (record.rate or 1)) for record in recordings]
    after = all(start > end for (_, end), (start, _) in pairwise(ends))
    return len(recordings) == 1 or (len(channels) == 1 and timed and after)


def _new(recordings: Sequence[Recording], delimiter: str, decimal: str) -> list[str]:
    """With their times; else the seconds on their clock, if their rate is known, or the number of each step."""
    first = recordings[0]
    rows = [["time" if first.times or first.rate else "step", *first.names]]
    for record in recordings:
        times = record.times or (_seconds(record, record.rate) if record.rate else map(str, range(len(record))))
        for time, values in zip(times, record.channels.tolist(), strict=True):
            texts = (number_text(v, d, decimal=decimal) for v, d in zip(values, record.decimals, strict=True))
            rows.append([time, *texts])
    return [delimiter.join(quoted(cell, delimiter) for cell in row) + "\n" for row in rows]


def _seconds(record: Recording, rate: float) -> list[str]:
    """When each step was, with digits enough to tell it from the next."""
    times = (record.start + np.arange(len(record)) / rate).tolist()
    digits = max(9, len(str(int(abs(times[-1])))) + max(math.ceil(math.log10(rate)), 0) + 2)
    return [f"{time:.{digits}g}" for time in times]
