"""Signals in CSV and TSV: a row a time step, a column a channel, and a column of times that is kept as it is."""

import io
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64

from maskseq.errors import DataError, UsageError
from maskseq.files import create
from maskseq.formats import distinct
from maskseq.survey import LIKELY, POSSIBLE, Claim, Head
from maskseq.tokenizer import ADDED, Format
from maskseq_signals.files import plain_name, read_text
from maskseq_signals.long_table import told_apart
from maskseq_signals.missing_codes import missing_codes
from maskseq_signals.recording import Recording, recorded
from maskseq_signals.timeline import Steps, Timeline, spread
from maskseq_signals.times import is_date

TIME_NAMES = {"date", "time", "timestamp", "datetime", "year", "month", "day", "index", "step", "t", ""}
BOM = "\ufeff"
DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")
MOST_DECIMALS = 1074
"""Digits behind the point of the smallest double; a text may have more (1e-999999999), a number not."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """What a recording remembers of its table: every line, and which cells its channels are."""

    lines: tuple[str, ...]
    """All lines of the file with their line ends."""
    rows: tuple[int | None, ...]
    """The line of each time step, from 0; None for one that is missing."""
    columns: tuple[int, ...]
    """The cell of each channel."""
    fixed: tuple[bool, ...]
    """Of each channel, whether all its cells have the same number of decimals."""
    delimiter: str
    decimal: str
    was: Float64[np.ndarray, "length channels"]
    """The values as they were read."""


@dataclass(frozen=True, kw_only=True)
class SignalCsv(Format[Recording]):
    """One recording a file, which is called like the file, or several, which a column names. An empty cell, `NaN`, `NA`
    or `?` is an unknown value.

    The first line is the header, unless all its cells are numbers. Written back, every line and every cell that did
    not change is copied from the file as it was. There is no `suffixes`: a .csv is an event log unless a recipe says
    `format = "signal-csv"`.
    """

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
    steps: Steps = field(default="times", metadata=ADDED)
    """What the time steps are. times: rows in the order of their times; missing ones are unknown, and behind more than
    64 of them a new recording begins; rows with equal times, or at irregular ones, are refused. rows: each row is one
    step, whatever its time says. Times that are neither dates nor numbers count as rows."""

    def __post_init__(self) -> None:
        if self.delimiter is not None and len(self.delimiter) != 1:
            raise UsageError(f"delimiter must be one character, not {self.delimiter!r}")
        if self.delimiter == self.decimal:
            raise UsageError(f"{self.delimiter!r} cannot be both the delimiter and the decimal sign")

    @classmethod
    def recognize(cls, head: Head) -> Claim | None:
        """All columns but the time hold numbers; those that do not are left out. Commas may be decimal signs where they
        cut no cells.
        """
        if not head.name.endswith((".csv", ".tsv", ".txt")) or len(head.lines) < 3:
            return None
        delimiter = _delimiter(head.lines[0])
        first, *rows = ([cell.strip() for cell in _cells(line, delimiter)] for line in head.lines[:1000])
        if any(len(row) != len(first) for row in rows):
            return None
        commas = delimiter != "," and any(DECIMAL_COMMA.fullmatch(cell) for row in rows for cell in row)
        reader = cls(decimal="," if commas else ".")
        headless = all(reader._number(cell) is not None for cell in first)
        names = tuple(f"channel_{i}" for i in range(1, len(first) + 1)) if headless else distinct(first)
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
        lines = tuple(io.StringIO(read_text(path, self.encoding), newline=""))
        filled = [number for number, line in enumerate(lines) if line.strip("\r\n" + BOM)]
        if not filled:
            raise DataError(path, "the file is empty")
        delimiter = self.delimiter or _delimiter(lines[filled[0]], but=self.decimal)
        cells = {number: _cells(lines[number], delimiter) for number in filled}
        first = cells[filled[0]]
        if all(self._number(cell) is not None for cell in first):
            rows, names = filled, tuple(f"channel_{index}" for index in range(1, len(first) + 1))
        else:
            rows, names = filled[1:], distinct([cell.removeprefix(BOM).strip() for cell in first])
        if not rows:
            raise DataError(path, "there is a header but no row of values")
        for number in rows:
            if len(cells[number]) != len(names):
                problem = f"{len(cells[number])} cells, but the first line has {len(names)}"
                raise DataError(path, problem, place=f"line {number + 1}")
        time = self._time_column(names, cells[rows[0]], path)
        owner = None if self.recording is None else self._named(self.recording, names, path)
        columns = self._columns(names, {time, owner}, path)
        texts = [[self._plain(cells[number][column].strip()) for number in rows] for column in columns]
        numbers = [self._numbers(told, path, rows, names[c]) for told, c in zip(texts, columns, strict=True)]
        values = np.array([[known[text] for text in told] for told, known in zip(texts, numbers, strict=True)]).T
        digits = [{_decimals(text) for text, number in known.items() if number == number} for known in numbers]
        owned: dict[str, list[int]] = {}
        if owner is None:
            owned[plain_name(path)] = list(range(len(rows)))
        else:
            for row, number in enumerate(rows):
                owned.setdefault(cells[number][owner].strip(), []).append(row)
        others = {name: c for c, name in enumerate(names) if c not in {*columns, time, owner}}
        times = None if time is None else [cells[number][time] for number in rows]
        timeline = Timeline(path, lambda row: f"line {rows[row] + 1}", steps=self.steps, decimal=self.decimal)
        for key, steps in timeline.recordings(((key, np.array(own)) for key, own in owned.items()), times):
            channels = spread(values, steps)
            yield recorded(
                path,
                key=key,
                channels=channels,
                names=tuple(names[column] for column in columns),
                rate=self.rate,
                times=None if times is None else tuple(times[row] if row >= 0 else "" for row in steps.tolist()),
                decimals=tuple(max(some, default=None) for some in digits),
                unread={
                    name: self._holes([cells[rows[row]][c] for row in steps.tolist() if row >= 0])
                    for name, c in others.items()
                },
                origin=Table(
                    lines=lines,
                    rows=tuple(rows[row] if row >= 0 else None for row in steps.tolist()),
                    columns=columns,
                    fixed=tuple(len(some) == 1 for some in digits),
                    delimiter=delimiter,
                    decimal=self.decimal,
                    was=channels.copy(),
                ),
            )

    def write(self, records: Iterable[Recording], path: Path) -> None:
        """The table that the recordings were read from, with the cells that changed; else a new table of one, or of the
        stretches of one.
        """
        recordings = list(records)
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
        """With a decimal point; a point that is none makes it no number."""
        return cell if self.decimal == "." else cell.replace(".", "'").replace(",", ".")

    def _holes(self, cells: Sequence[str]) -> int:
        """How many cells say that they are unknown; an empty cell of a column that is no channel may mean anything."""
        return sum(self._plain(cell.strip().lower()) in self._unknown for cell in cells if cell.strip())

    @cached_property
    def _unknown(self) -> frozenset[str]:
        """As `_plain` cells are compared with them."""
        return frozenset(map(self._plain, self.unknown))

    def _number(self, cell: str) -> float | None:
        return _number(self._plain(cell))

    def _text(self, cell: str) -> bool:
        return self._number(cell) is None and cell.strip().lower() not in self.unknown

    def _numbers(self, texts: Sequence[str], path: Path, rows: Sequence[int], name: str) -> dict[str, float]:
        """What each different text of a column says."""
        numbers = {}
        for text in set(texts):
            unknown = text.lower() in self._unknown
            number = None if unknown else _number(text)
            if number is None and not unknown:
                raise DataError(
                    path,
                    f"{text!r} is no finite number; if the column is no channel, list those that are: channels = [...]",
                    place=f"line {rows[texts.index(text)] + 1}, column {name!r}",
                )
            numbers[text] = np.nan if number is None else number
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
        spans = _spans(line, table.delimiter)
        for channel in sorted(np.flatnonzero(changed[step]).tolist(), key=lambda c: -table.columns[c]):
            start, stop = spans[table.columns[channel]]
            decimals = record.decimals[channel] if table.fixed[channel] else None
            text = _number_text(float(record.channels[step, channel]), decimals).replace(".", table.decimal)
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
            texts = map(_number_text, values, record.decimals)
            rows.append([time, *(text.replace(".", decimal) for text in texts)])
    return [delimiter.join(_quoted(cell, delimiter) for cell in row) + "\n" for row in rows]


def _seconds(record: Recording, rate: float) -> list[str]:
    """When each step was, with digits enough to tell it from the next."""
    times = (record.start + np.arange(len(record)) / rate).tolist()
    digits = max(9, len(str(int(abs(times[-1])))) + max(math.ceil(math.log10(rate)), 0) + 2)
    return [f"{time:.{digits}g}" for time in times]


def _number_text(value: float, decimals: int | None) -> str:
    """As short as it reads back to the same number, but with trailing zeros where the column has them."""
    if np.isnan(value):
        return ""
    padded = f"{value:.{decimals or 0}f}"
    return padded if float(padded) == value else repr(value)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if np.isfinite(number) else None


def _decimals(text: str) -> int:
    """Digits behind the point: of 3.10, two; of 1.5e-3, four."""
    try:
        exponent = Decimal(text.strip()).as_tuple().exponent
    except InvalidOperation:  # an exponent beyond all bounds
        return MOST_DECIMALS
    return min(max(-int(exponent), 0), MOST_DECIMALS)


def _delimiter(line: str, *, but: str = "") -> str:
    plain = re.sub(r'"[^"]*"', "", line)
    return Counter({each: plain.count(each) for each in ",;\t|" if each != but}).most_common(1)[0][0]


def _cells(line: str, delimiter: str) -> list[str]:
    if '"' not in line:
        return line.rstrip("\r\n").split(delimiter)
    spans = _spans(line, delimiter)
    return [line[a:b][1:-1].replace('""', '"') if line[a : a + 1] == '"' else line[a:b] for a, b in spans]


def _spans(line: str, delimiter: str) -> list[tuple[int, int]]:
    """Where each cell of a row stands in its line."""
    cell = re.compile(rf'"(?:[^"]|"")*"|[^{re.escape(delimiter)}\r\n]*')
    spans, position = [], 0
    while True:
        match = cell.match(line, position)
        assert match is not None
        spans.append(match.span())
        position = match.end()
        if line[position : position + 1] != delimiter:
            return spans
        position += 1


def _quoted(text: str, delimiter: str) -> str:
    if any(character in text for character in (delimiter, '"', "\r", "\n")):
        return '"' + text.replace('"', '""') + '"'
    return text
