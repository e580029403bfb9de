"""Tables of sequences in CSV, TSV, JSON Lines and Parquet: which rows belong together, in which order, and back."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import numpy as np

from maskseq.errors import DataError, UsageError
from maskseq.files import open_bytes, plain_name
from maskseq.formats import Format, OnBroken, attempted, distinct, most_alike, stop
from maskseq.survey import Claim, Head
from maskseq_events.case import UNKNOWN, Value, plain_rows
from maskseq_events.columns import to_number
from maskseq_events.delimited_rows import DelimitedRows
from maskseq_events.grouping import group_rows
from maskseq_events.json_rows import JsonRows
from maskseq_events.parquet_rows import ParquetRows
from maskseq_events.row_files import ColumnChoice, RowFile
from maskseq_events.rows import POINT, with_point
from maskseq_events.times import TimeLayout
from maskseq_tables.claims import claim_rows
from maskseq_tables.record import Order, TableRows

NOBODY_KNOWS = (UNKNOWN, "", "NA", "N/A", "NaN", "nan", "NULL", "null", "<NA>", "#N/A")
"""How programs write that a value is unknown; `none` may well be a value."""
JSON_LINES, PARQUET = (".jsonl", ".ndjson"), (".parquet", ".pq")
Placed = tuple[int, Any, Sequence[Value], float, int]
"""The number of a row, what it was read from, its cells, its place in the order, and the offset of a time."""


@dataclass(frozen=True)
class _Origin:
    """What a sequence remembers of its file."""

    file: RowFile
    header: Any
    names: tuple[str, ...]
    numbers: tuple[int, ...]
    raw: tuple[Any, ...]
    was: Mapping[str, Sequence[Value]]
    """The columns as they were read."""


@dataclass(frozen=True, kw_only=True)
class KeyedTable(Format[TableRows]):
    """Tables of sequences: rows that share a key are a sequence.

    What is unknown is a hole; what does not apply (`absent`) is a value of its own. Written back, everything that did
    not change is as it was: bytes in CSV, TSV and JSON Lines; schema, types and values in Parquet.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".csv", ".tsv", *JSON_LINES, *PARQUET)
    dress = MappingProxyType({"delimiter": (None,), "decimal": (".", ","), "encoding": ("utf-8", "cp1252")})

    key: str = ""
    """The column whose values tell sequences apart; empty: all rows are one sequence."""
    order: str = ""
    """The column of numbers or times that rows of a sequence are sorted by; empty: they stand in their order."""
    columns: tuple[str, ...] | None = None
    """Columns to read (default: all others)."""
    unknown: tuple[str, ...] = NOBODY_KNOWS
    """Cells that mean: nobody knows. So does null, unless `absent` lists the empty text."""
    absent: tuple[str, ...] = ()
    """Cells that mean: does not apply. They take precedence over `unknown`; the first is written for such a value."""
    ties: Literal["keep", "refuse"] | None = None
    """Rows of a sequence with the same place in the order: keep them in the order of the file, or refuse them (default:
    keep those of times, refuse those of numbers)."""
    time_layout: str | None = None
    """`strptime` pattern, or epoch_s, epoch_ms, epoch_us, of an order of times (default: numbers, else ISO 8601)."""
    time_zone: str | None = None
    """IANA zone of times that say none (default: UTC)."""
    decimal: Literal[".", ","] = "."
    """What stands between the whole part of a number and its decimals."""
    delimiter: str | None = None
    """Of CSV; default: whichever of `,` `;` tab `|` cuts the header into most columns."""
    encoding: str = "utf-8"
    preamble: int = 0
    """Lines before the header that are no part of the table, such as a title."""
    units: bool = False
    """The row behind the header says units."""
    names: tuple[str, ...] = ()
    """Names of the columns, for a CSV file without a header."""
    max_rows: int = 5_000_000
    """Rows that are held in memory; a longer table is grouped through temporary files."""

    def __post_init__(self) -> None:
        if self.delimiter is not None and len(self.delimiter) != 1:
            raise UsageError(f"delimiter must be one character, not {self.delimiter!r}", code="bad-option")
        if self.key and self.key == self.order:
            raise UsageError(f"column {self.key!r} is given as key and as order", code="bad-option")
        both = sorted({self.key, self.order} & set(self.columns or ()) - {""})
        if both and self.key in both:
            raise UsageError(
                f"column {self.key!r} is the key, and cannot be one of the columns to read", code="bad-option"
            )

    @classmethod
    def recognize(cls, head: Head) -> Claim | None:
        return claim_rows(head, super().recognize(head))

    def read(self, path: Path) -> Iterator[TableRows]:
        return self._read(path, None, stop)

    def attempts(self, path: Path) -> Iterator[TableRows | DataError]:
        """A row that does not fit the table is left out of its sequence, and written back as it was."""
        return attempted(lambda on_broken: self._read(path, None, on_broken))

    def preview(self, path: Path, n_units: int) -> Iterator[TableRows]:
        """The sequences of the first rows, twice as many as asked, as they may go on behind the rows that are read."""
        return self._read(path, 2 * n_units, stop)

    def write(self, records: Iterable[TableRows | DataError], path: Path) -> None:
        """Rows in the order of the file they came from, which are all held in memory."""
        first: _Origin | None = None
        rows: list[tuple[int, Any]] = []
        for record in records:
            if isinstance(record, DataError):
                rows.extend(record.kept or ())
                continue
            origin = record.origin
            if not isinstance(origin, _Origin):
                raise UsageError(
                    f"{path}: {record.key!r} does not come from a table, and has no rows to be written to",
                    code="not-supported",
                )
            first = first or origin
            if (origin.names, origin.header) != (first.names, first.header):
                raise UsageError(
                    f"{path}: sequences of different files cannot be written into one table", code="not-supported"
                )
            rows.extend(self._updated(record, origin))
        if first is None:
            raise UsageError(f"{path}: there are no sequences to write", code="too-little-data")
        first.file.write(first.header, sorted(rows, key=lambda row: row[0]), path)

    # Files to sequences

    def _read(self, path: Path, n_rows: int | None, on_broken: OnBroken) -> Iterator[TableRows]:
        file = self._file(path)
        names, header, rows = file.open(path, lambda names: self._chosen(names, path))
        names = tuple(distinct(names))
        key, order, read = self._roles(names, path)
        reader = _OrderReader(self, None if order is None else names[order])

        def keyed() -> Iterator[tuple[str, Placed]]:
            for number, raw, cells in islice(rows, n_rows):
                try:
                    yield self._placed(number, raw, cells, names, key, order, reader)
                except ValueError as error:
                    place = file.place(number)
                    broken = error if isinstance(error, DataError) else DataError(path, str(error), place=place)
                    broken.kept = [(number, raw)]
                    on_broken(broken)

        empty = True
        for name, group in group_rows(keyed(), max_rows=self.max_rows):
            empty = False
            if order is not None:
                group = sorted(group, key=lambda row: row[3])
                group = self._without_ties(group, names[order], name, reader, path, file, on_broken)
            yield self._sequence(name, group, read, names, reader, file, header)
        if empty:
            raise DataError(path, "there are no rows in this file")

    def _placed(
        self,
        number: int,
        raw: Any,
        cells: Sequence[Any] | DataError,
        names: tuple[str, ...],
        key: int | None,
        order: int | None,
        reader: "_OrderReader",
    ) -> tuple[str, Placed]:
        if isinstance(cells, DataError):
            raise cells
        if len(cells) != len(names):
            raise ValueError(f"{len(cells)} cells, but the header names {len(names)} columns")
        if key is not None and (cells[key] is None or cells[key] in self._nothing):
            raise ValueError(f"no value in column {names[key]!r}, which tells sequences apart")
        place, offset = (0.0, 0) if order is None else reader.place(cells[order])
        return "all" if key is None else str(cells[key]), (number, raw, tuple(cells), place, offset)

    def _without_ties(
        self,
        group: list[Placed],
        column: str,
        key: str,
        reader: "_OrderReader",
        path: Path,
        file: RowFile,
        on_broken: OnBroken,
    ) -> list[Placed]:
        """The rows, each at a place of its own, where that is asked for."""
        if self.ties == "keep" or (self.ties is None and reader.timed):
            return group
        kept: list[Placed] = []
        for row in group:
            if kept and row[3] == kept[-1][3]:
                before = file.place(kept[-1][0])
                problem = (
                    f"the same value in column {column!r} as {before} of {key!r}, so that their order is open; "
                    f"ties = 'keep' takes that of the file"
                )
                on_broken(DataError(path, problem, place=file.place(row[0]), kept=[(row[0], row[1])]))
            else:
                kept.append(row)
        return kept

    def _sequence(
        self,
        key: str,
        group: list[Placed],
        read: dict[str, int],
        names: tuple[str, ...],
        reader: "_OrderReader",
        file: RowFile,
        header: Any,
    ) -> TableRows:
        numbers, raw, cells, places, offsets = zip(*group, strict=True)
        by_column = list(zip(*plain_rows(cells, self.unknown), strict=True))
        order = None
        if reader.column is not None:
            offset = np.array(offsets, np.int32) if reader.timed else None
            order = Order(name=reader.column, values=np.array(places, np.float64), offset=offset)
        others = {name: by_column[i] for i, name in enumerate(names) if name not in read and name != self.key}
        unread = {name: sum(cell == UNKNOWN for cell in column) for name, column in others.items()}
        columns = {name: self._values(by_column[index]) for name, index in read.items()}
        return TableRows(
            key=key,
            n_rows=len(group),
            columns=columns,
            order=order,
            numeric=frozenset(file.numeric(header)),
            unread={name: n for name, n in unread.items() if n},
            origin=_Origin(file, header, names, numbers, raw, columns),
        )

    def _file(self, path: Path) -> RowFile:
        """How the rows of a file stand in it: by its name, or by how a Parquet file begins."""
        name = plain_name(path)
        with open_bytes(path) as file:
            start = file.read(4)
        if name.endswith(PARQUET) or start == b"PAR1":
            return ParquetRows(unknown=self.unknown)
        if name.endswith(JSON_LINES):
            return JsonRows(encoding=self.encoding, unknown=(*self.unknown, *self.absent))
        return DelimitedRows(
            delimiter=self.delimiter or ("\t" if name.endswith(".tsv") else None),
            encoding=self.encoding,
            preamble=self.preamble,
            units=self.units,
            names=self.names,
            nothing=next(iter(self.absent), ""),
        )

    def _chosen(self, names: Sequence[str], path: Path) -> ColumnChoice:
        key, order, read = self._roles(tuple(distinct(names)), path)
        needed = {index for index in (key, order) if index is not None}
        listed = set(read.values()) | needed
        return ColumnChoice(listed if self.columns is not None else needed, listed)

    def _roles(self, names: Sequence[str], path: Path) -> tuple[int | None, int | None, dict[str, int]]:
        """Where key and order are, and the columns that are read: the order is one of them."""

        def find(name: str) -> int:
            if name not in names:
                raise DataError(path, f"there is no column {name!r}; the columns are {most_alike(name, names, 40)}")
            return list(names).index(name)

        key = find(self.key) if self.key else None
        order = find(self.order) if self.order else None
        wanted = names if self.columns is None else self.columns
        read = {name: find(name) for name in dict.fromkeys(wanted) if name != self.key}
        return key, order, read if order is None else {self.order: order} | read

    @cached_property
    def _nothing(self) -> frozenset[str]:
        return frozenset((UNKNOWN, "", *self.unknown, *self.absent))

    @cached_property
    def _meanings(self) -> dict[Value, Value]:
        """Cells that are no values."""
        absent: dict[Value, Value] = dict.fromkeys(self.absent)
        return (
            {None: None if "" in self.absent else UNKNOWN} | dict.fromkeys((UNKNOWN, *self.unknown), UNKNOWN) | absent
        )

    def _values(self, cells: Sequence[Any]) -> tuple[Value, ...]:
        meanings = self._meanings
        if self.decimal == ",":
            return tuple([meanings.get(cell, with_point(cell)) for cell in cells])
        return tuple([meanings.get(cell, cell) for cell in cells])

    # Sequences to files

    def _updated(self, record: TableRows, origin: _Origin) -> Iterator[tuple[int, Any]]:
        changes: list[dict[int, Value]] = [{} for _ in origin.numbers]
        for name, was in origin.was.items():
            now = record.columns[name]
            if now is was:
                continue
            index = origin.names.index(name)
            for row, (before, after) in enumerate(zip(was, now, strict=True)):
                if before != after and after != UNKNOWN:
                    changes[row][index] = self._text(after)
                elif before != after:  # known before, hidden by the user, and not filled
                    changes[row][index] = self.unknown[0] if self.unknown else UNKNOWN
        for number, raw, changed in zip(origin.numbers, origin.raw, changes, strict=True):
            yield number, origin.file.replaced(raw, changed, origin.header) if changed else raw

    def _text(self, value: Value) -> Value:
        if value is None:
            return next(iter(self.absent), None) or None
        return value.replace(".", ",") if self.decimal == "," and POINT.fullmatch(value) else value


class _OrderReader:
    """Cells of the order column as places: numbers, or times where the first one is none."""

    def __init__(self, table: KeyedTable, column: str | None) -> None:
        self.column = column
        self._layout = TimeLayout(table.time_layout, table.time_zone)
        self._table = table
        self._timed: bool | None = True if table.time_layout else None

    @property
    def timed(self) -> bool:
        return bool(self._timed)

    def place(self, cell: Any) -> tuple[float, int]:
        """`ValueError` says what is wrong with the cell."""
        if cell is None or cell in self._table._nothing:
            raise ValueError(f"no value in column {self.column!r}, by which rows are ordered")
        text = str(cell).strip()
        number = to_number(with_point(text) if self._table.decimal == "," else text)
        if self._timed is None and number is not None:
            self._timed = False
        if self._timed is False:
            if number is None:
                raise ValueError(f"column {self.column!r} is ordered by numbers, but {text[:40]!r} is not one")
            return number, 0
        try:
            moment, offset = self._layout.parse(text)
        except ValueError as error:
            raise ValueError(f"column {self.column!r}, by which rows are ordered: {error}") from None
        self._timed = True  # not before: the first row may be the broken one
        return float(moment), offset
