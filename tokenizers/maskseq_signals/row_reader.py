"""The rows of a table of numbers, read a block at a time: cells are kept as numbers, and texts are not kept."""

import warnings
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float64, Int, Int64

from maskseq.errors import DataWarning
from maskseq_signals.cells import cells_of, is_infinite, needed_decimals, number, shown_decimals
from maskseq_signals.date_columns import joined_moment
from maskseq_signals.files import recording_name
from maskseq_signals.pivot import Pivoted, pivoted
from maskseq_signals.texts import Texts
from maskseq_signals.times import odd_times

REMEMBERED = 1 << 16
"""Different texts of a column whose numbers are kept, as most columns have few."""


@dataclass(frozen=True)
class TableHead:
    """What the first lines of a table say of the others."""

    delimiter: str
    names: tuple[str, ...]
    """Of all columns."""
    units: list[str] | None
    """The cells of the line of units, if there is one."""
    rows: Int64[np.ndarray, "rows"]
    """The line of each row of values."""
    time: tuple[int, ...]
    """Several say it together; none: there is no time."""
    owner: int | None
    """The column that says which recording a row belongs to."""
    columns: tuple[int, ...]
    """Those that are channels."""
    metric: int | None = None
    """The column that says which channel the value of a row is of."""
    trailing: bool = False
    """Whether rows end with a delimiter."""

    @property
    def others(self) -> list[int]:
        """The other columns."""
        return sorted({*range(len(self.names))} - {*self.columns, *self.time, self.owner, self.metric})

    def moment(self, row: Sequence[str]) -> str:
        """When a row was."""
        if len(self.time) == 1:
            return row[self.time[0]]
        return joined_moment([self.names[i] for i in self.time], [row[i] for i in self.time])


@dataclass
class ColumnText:
    """How the numbers of a column are written."""

    name: str
    known: dict[str, float] = field(default_factory=dict)
    """What texts say; NaN for those that say that there is no value."""
    needed: int | None = None
    """The most digits behind the point, without zeros at the end; None: there is no number."""
    most_shown: int | None = None
    """The same with zeros."""
    fewest_shown: int | None = None
    infinite: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Texts that say infinity: how many, and the line of the first."""

    @classmethod
    def joined(cls, name: str, columns: "Sequence[ColumnText]") -> "ColumnText":
        """How the numbers of several columns are written, as those of one."""
        needed, most, fewest = (
            [digits for each in columns if (digits := getattr(each, part)) is not None]
            for part in ("needed", "most_shown", "fewest_shown")
        )
        return cls(
            name,
            needed=max(needed, default=None),
            most_shown=max(most, default=None),
            fewest_shown=min(fewest, default=None),
        )

    @property
    def only_shown(self) -> int | None:
        """Digits behind the point that all numbers have; None where they differ."""
        return self.most_shown if self.most_shown == self.fewest_shown else None

    def learn(self, text: str, value: float) -> float:
        """Remember what a text says."""
        if len(self.known) >= REMEMBERED:
            self.known.clear()
        self.known[text] = value
        if value == value:
            needed, shown = needed_decimals(text), shown_decimals(text)
            self.needed = max(needed, needed if self.needed is None else self.needed)
            self.most_shown = max(shown, shown if self.most_shown is None else self.most_shown)
            self.fewest_shown = min(shown, shown if self.fewest_shown is None else self.fewest_shown)
        return value


class RowReader:
    """Gathers what the rows hold; `read` takes them in order, block by block."""

    def __init__(
        self,
        lines: Texts,
        head: TableHead,
        path: Path,
        *,
        plain: Callable[[str], str],
        unknown: frozenset[str],
        decimal: str,
        rows_are_steps: bool,
    ) -> None:
        """`plain` writes numbers as Python does; `unknown` are plain texts that say that there is no value."""
        self.lines, self.head, self.path, self.plain, self.unknown = lines, head, path, plain, unknown
        self.decimal = decimal
        self.placed = head.owner is None and head.metric is None and (not head.time or rows_are_steps)
        """A row is a step, whatever it says."""
        n_rows = len(head.rows)
        self.values: Float64[np.ndarray, "rows channels"] = np.full((n_rows, len(head.columns)), np.nan)
        self.holes = {head.names[column]: np.zeros(n_rows, bool) for column in head.others}
        """Of columns that are no channels, whether a cell says that it is unknown."""
        self.columns = [ColumnText(head.names[column]) for column in head.columns]
        self.broken: dict[int, tuple[str, str]] = {}
        """Of lines that cannot be read: why, and the column that says so."""
        self._times: list[Texts] = []
        self._owners: dict[tuple[str, str], array[int]] = {}
        self._metrics: dict[str, ColumnText] = {}

    def read(self, rows: Int[np.ndarray, " block"]) -> None:
        """Take in some rows, counted from 0."""
        head, lines = self.head, self.head.rows[rows].tolist()
        cells = [cells_of(self.lines[at], head.delimiter) for at in lines]
        for i, (at, row) in enumerate(zip(lines, cells, strict=True)):
            if head.trailing and len(row) == len(head.names) + 1 and not row[-1].strip():
                cells[i] = row[:-1]
            elif len(row) != len(head.names):
                self.broken[at] = f"{len(row)} cells, but the first line has {len(head.names)}", ""
                cells[i] = [""] * len(head.names)
        for channel, column in enumerate(head.columns):
            texts = [self.plain(row[column].strip()) for row in cells]
            metrics = None if head.metric is None else [row[head.metric].strip() for row in cells]
            self.values[rows, channel] = self._numbers(texts, lines, self.columns[channel], metrics)
        for name, found in self.holes.items():
            column = head.names.index(name)
            found[rows] = [self._says_unknown(row[column]) for row in cells]
        if head.time:
            self._times.append(Texts.of(map(head.moment, cells)))
        wrong = [i for i, at in enumerate(lines) if at in self.broken]
        self.values[rows[wrong]] = np.nan
        if not self.placed:
            left, apart = set(wrong), (head.owner, head.metric)
            for i, row in enumerate(rows.tolist() if apart != (None, None) else ()):
                if i not in left:
                    owner, metric = ("" if column is None else cells[i][column].strip() for column in apart)
                    self._owners.setdefault((owner, metric), array("q")).append(row)

    @property
    def times(self) -> Texts | None:
        """The cells of the column of times."""
        if not self.head.time:
            return None
        if len(self._times) > 1:
            self._times = [Texts.joined(self._times)]
        return self._times[0]

    def owned(self) -> Iterator[tuple[str, Int64[np.ndarray, "_"]]]:
        """The rows of each recording."""
        if self.head.owner is not None:
            return ((key, np.array(rows, np.int64)) for (key, _), rows in self._owners.items())
        rows = np.arange(len(self.head.rows))
        return iter([(recording_name(self.path), rows if self.placed else rows[~self._is_broken()])])

    def measured(self) -> Pivoted:
        """The values of a table of a row a measurement, as time steps of channels."""
        assert self.times is not None
        name = "" if self.head.owner is not None else recording_name(self.path)
        groups = ((key or name, metric, np.array(rows)) for (key, metric), rows in self._owners.items())
        found = pivoted(self.values[:, 0], self.times, groups)
        self.columns = [self._metrics[name] for name in found.names]
        again = set(found.again.tolist())
        metrics = {row: metric for (_, metric), rows in self._owners.items() for row in rows if row in again}
        for row in found.again.tolist():
            column = self.head.names[self.head.metric or 0]
            problem = f"a second value of {metrics[row]!r} at {self.times[row]!r}"
            self.broken.setdefault(int(self.head.rows[row]), (problem, column))
        if found.missing:
            n = found.rows.size
            reported = f"{found.missing:,} of {n:,} values of {len(found.names)} channels have no row"
            warnings.warn(f"{self.path}: {reported}: read as unknown, not written back", DataWarning, stacklevel=4)
        return found

    def refuse_odd_times(self) -> None:
        """Count rows as broken whose time cannot be understood, unlike those of most others."""
        assert self.times is not None
        (rows,) = np.nonzero(~self._is_broken())
        odd = odd_times(taken(self.times, rows), decimal=self.decimal)
        name = self.head.names[self.head.time[0]]
        for row, text in zip(rows.tolist(), taken(self.times, rows) if odd else (), strict=bool(odd)):
            if text in odd:
                self.broken[int(self.head.rows[row])] = f"the time {text!r} cannot be understood", name
                self.values[row] = np.nan
        if odd:
            left = self._is_broken()
            kept = {key: [r for r in own if not left[r]] for key, own in self._owners.items()}
            self._owners = {key: array("q", own) for key, own in kept.items() if own}

    def warn_of_infinite(self) -> None:
        """Values that no number can stand for."""
        for column in (*self.columns, *self._metrics.values()):
            for text, (n, line) in column.infinite.items():
                place = f"line {line + 1}, column {column.name!r}"
                found = f"{n:,} values of {text!r}, the first in {place}: read as unknown"
                warnings.warn(f"{self.path}: {found}", DataWarning, stacklevel=4)

    def _is_broken(self) -> Bool[np.ndarray, " rows"]:
        return np.isin(self.head.rows, list(self.broken))

    def _numbers(
        self, texts: Sequence[str], lines: Sequence[int], column: ColumnText, metrics: Sequence[str] | None
    ) -> list[float]:
        """`metrics`: which of several channels in this column each is of."""
        found = []
        for i, (text, line) in enumerate(zip(texts, lines, strict=True)):
            if metrics is not None:
                column = self._metrics.get(metrics[i]) or self._metrics.setdefault(metrics[i], ColumnText(metrics[i]))
            value = column.known.get(text)
            if value is None:
                value = self._number(text, line, column)
            elif value != value and text in column.infinite:
                n, first = column.infinite[text]
                column.infinite[text] = n + 1, first
            found.append(value)
        return found

    def _number(self, text: str, line: int, column: ColumnText) -> float:
        """What a text says that is not remembered; what says nothing breaks its row."""
        if text.lower() in self.unknown:
            return column.learn(text, np.nan)
        value = number(text)
        if value is not None:
            return column.learn(text, value)
        if is_infinite(text):
            n, first = column.infinite.get(text, (0, line))
            column.infinite[text] = n + 1, first
            return column.learn(text, np.nan)
        hint = "if the column is no channel, list those that are: channels = [...]"
        self.broken.setdefault(line, (f"{text!r} is no finite number; {hint}", column.name))
        return np.nan

    def _says_unknown(self, cell: str) -> bool:
        """An empty cell of a column that is no channel may mean anything."""
        return bool(cell.strip()) and self.plain(cell.strip().lower()) in self.unknown


def taken(texts: Sequence[str], rows: Int[np.ndarray, " rows"]) -> Sequence[str]:
    """The texts of some rows; "" where a row is -1."""
    if np.array_equal(rows, np.arange(len(texts))):
        return texts
    return Texts.of(texts[row] if row >= 0 else "" for row in rows.tolist())
