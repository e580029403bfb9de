"""Rows of Parquet files, with all columns, types and metadata of the file. Needs pyarrow."""

import json
import warnings
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from maskseq.errors import DataError, UsageError
from maskseq.formats import distinct
from maskseq_events.case import UNKNOWN, Value
from maskseq_events.row_files import Choose, RowFile
from maskseq_events.rows import Row
from maskseq_events.times import TimeLayout

BATCH_ROWS = 65_536


@dataclass(frozen=True)
class ParquetSource:
    """The file that rows are taken from again when they are written."""

    path: Path
    size: int
    modified: int
    numeric: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class ParquetRows(RowFile):
    """Null is nothing; numbers are read as Python writes them, other types as their text.

    Written back, the rows are taken from the source file, which must still be there; values that did not change are
    equal, though the bytes of a Parquet file depend on who wrote it.
    """

    unknown: tuple[str, ...] = (UNKNOWN,)
    """Texts of columns that are not read, which say that a value is unknown."""

    def place(self, number: int) -> str:
        return f"row {number}"

    def numeric(self, header: ParquetSource) -> Collection[str]:
        return header.numeric

    def open(self, path: Path, choose: Choose) -> tuple[Sequence[str], ParquetSource, Iterator[Row]]:
        pa, _, _ = arrow()
        file, plain = _opened(path)
        names = list(distinct(plain))
        needed, read = choose(names)
        twice = [plain[index] for index in sorted(needed) if plain.count(plain[index]) > 1]
        if twice:
            raise DataError(path, f"the column name {twice[0]!r} occurs twice", place="schema")
        types = [field.type for field in file.schema_arrow]
        numeric = [n for n, t in zip(names, types, strict=True) if pa.types.is_floating(t) or pa.types.is_decimal(t)]
        status = path.stat()
        source = ParquetSource(path, status.st_size, status.st_mtime_ns, frozenset(numeric))
        return names, source, self._rows(file, path, needed, read)

    def _rows(self, file: Any, path: Path, needed: Collection[int], read: Collection[int]) -> Iterator[Row]:
        """Rows with the cells of columns that are read, and with the holes of others that hold text.

        What is not needed may be of any type: a value that has no text is none.
        """
        pa, _, _ = arrow()
        fields = list(file.schema_arrow)
        wanted = [i for i, field in enumerate(fields) if i in read or _holds_text(field.type)]
        number, odd = 0, dict[str, str]()
        try:
            for batch in file.iter_batches(BATCH_ROWS, columns=sorted({fields[i].name for i in wanted})):
                found: dict[str, list[Any]] = {}
                for name, column in zip(batch.schema.names, batch.columns, strict=True):
                    found.setdefault(name, []).append(column)
                texts: list[Sequence[Value]] = [[None] * batch.num_rows] * len(fields)
                for i in wanted:
                    name, column = fields[i].name, found[fields[i].name].pop(0)
                    if i not in read:
                        texts[i] = _holes(column, self.unknown)
                        continue
                    texts[i], problem = _any_texts(column)
                    if problem and i in needed:
                        reported = f"a value of the type {fields[i].type} has no text: {problem}"
                        raise DataError(path, reported, place=f"column {name!r}")
                    if problem and name not in odd:
                        odd[name] = problem
                for cells in zip(*texts, strict=True):
                    number += 1
                    yield number, cells, cells
        except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
            raise _damaged(path, error, place=f"after row {number}") from None
        for name, problem in odd.items():
            reported = f"values of column {name!r} that have no text are left out: {problem}"
            warnings.warn(f"{path.name}: {reported}", stacklevel=2)

    def owns(self, header: object) -> bool:
        return isinstance(header, ParquetSource)

    def cells(self, raw: Sequence[Value], header: ParquetSource) -> Sequence[Value]:
        return raw

    def replaced(self, raw: Sequence[Value], changes: dict[int, Value], header: ParquetSource) -> dict[int, Value]:
        return changes

    def write(self, header: ParquetSource, rows: Sequence[tuple[int, Any]], path: Path) -> None:
        pa, pq, _ = arrow()
        status = header.path.stat() if header.path.is_file() else None
        if status is None or (status.st_size, status.st_mtime_ns) != (header.size, header.modified):
            raise DataError(header.path, "the file has changed since its rows were read, and rows are taken from it")
        table = pq.ParquetFile(header.path).read()
        if [number for number, _ in rows] != list(range(1, len(table) + 1)):
            table = table.take(pa.array([number - 1 for number, _ in rows]))
        for index in range(table.num_columns):
            changes = {row: raw[index] for row, (_, raw) in enumerate(rows) if isinstance(raw, dict) and index in raw}
            if changes:
                field = table.schema.field(index)
                table = table.set_column(index, field, _changed(table.column(index), changes, field.name, path))
        pq.write_table(table, path)


def first_rows(path: Path, n: int) -> tuple[list[str], list[tuple[Value, ...]]]:
    """The names of the columns as they are, and the texts of the first rows; a value without a text is nothing."""
    file, names = _opened(path)
    pa, _, _ = arrow()
    try:
        batch = next(file.iter_batches(n), None)
        texts = [] if batch is None else [_any_texts(column)[0] for column in batch.columns]
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise _damaged(path, error, place="first rows") from None
    return names, list(zip(*texts, strict=True))


def names_of(path: Path) -> list[str]:
    """The names of the columns as they are."""
    return _opened(path)[1]


@cache
def arrow() -> tuple[ModuleType, ModuleType, ModuleType]:
    """pyarrow, its Parquet reader and its functions; loaded when the first Parquet file is met."""
    try:
        return import_module("pyarrow"), import_module("pyarrow.parquet"), import_module("pyarrow.compute")
    except ImportError:
        raise UsageError("Parquet needs pyarrow\n\nhint: pip install 'maskseq[events]'", code="missing-extra") from None


def _damaged(path: Path, error: Exception, *, place: str) -> DataError:
    """What Arrow found in the data of a file whose schema it could read."""
    return DataError(path, f"damaged Parquet: {_first_line(error)}", place=place)


def _opened(path: Path) -> tuple[Any, list[str]]:
    """The file, and the names of its columns as they are."""
    pa, pq, _ = arrow()
    try:
        file = pq.ParquetFile(path)
        return file, [field.name for field in file.schema_arrow]
    except FileNotFoundError:
        raise DataError(path, "no such file") from None
    except (pa.ArrowException, OSError, ValueError) as error:  # ValueError: a name that is no text
        raise DataError(path, f"not a readable Parquet file: {_first_line(error)}") from None


def _holds_text(kind: Any) -> bool:
    pa, _, _ = arrow()
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _holes(column: Any, unknown: Sequence[str]) -> Sequence[Value]:
    """Which texts of a column say that they are unknown; of the others, which may even be none, nothing."""
    pa, _, pc = arrow()
    texts = column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
    bare = pc.ascii_trim_whitespace(pc.ascii_trim(pc.ascii_trim_whitespace(texts), characters='"'))
    marks = pa.array(sorted({UNKNOWN, *(mark.strip() for mark in unknown)} - {""}), texts.type)
    return [UNKNOWN if hole else None for hole in pc.is_in(bare, value_set=marks).to_pylist()]


def _any_texts(column: Any) -> tuple[Sequence[Value], str]:
    """The values of a column as texts; and why, if some have none, which are left out."""
    pa, _, _ = arrow()
    try:
        return _texts(column), ""
    except (pa.ArrowException, ValueError, OverflowError) as error:
        problem = _first_line(error)
    texts: list[Value] = []
    for index in range(len(column)):
        try:
            texts += _texts(column.slice(index, 1))
        except (pa.ArrowException, ValueError, OverflowError):
            texts.append(None)
    return texts, problem


def _texts(column: Any) -> Sequence[Value]:
    """The values of an Arrow column as texts, None for null and NaN."""
    pa, _, _ = arrow()
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        texts: list[Value] = column.to_pylist()
        return texts
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return _moments(column, kind)
    return [_text(value) for value in column.to_pylist()]


def _moments(column: Any, kind: Any) -> Sequence[Value]:
    """Timestamps as ISO texts with their offset, to the microsecond; of columns with a zone only."""
    pa, _, pc = arrow()

    zone = getattr(kind, "tz", None)
    utc = np.asarray(column.cast(pa.timestamp("us", zone), safe=False).cast(pa.int64()).fill_null(0))
    wall = utc
    if zone:
        wall = np.asarray(pc.local_timestamp(column).cast(pa.timestamp("us"), safe=False).cast(pa.int64()).fill_null(0))
    minutes = (wall - utc) // 60_000_000
    texts = np.datetime_as_string(wall.astype("M8[us]")).tolist()
    known = column.is_valid().to_pylist()
    if zone is None:
        return [text if there else None for text, there in zip(texts, known, strict=True)]
    shown = {m: f"{'-' if m < 0 else '+'}{abs(m) // 60:02d}:{abs(m) % 60:02d}" for m in set(minutes.tolist())}
    pairs = zip(texts, minutes.tolist(), known, strict=True)
    return [text + shown[m] if there else None for text, m, there in pairs]


def _text(value: Any) -> Value:
    if value is None or value != value:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes):
        return value.decode()
    return json.dumps(value, default=str) if isinstance(value, list | dict) else str(value)


def _changed(column: Any, changes: dict[int, Value], name: str, path: Path) -> Any:
    """The column with some rows given other values, in its own type."""
    pa, _, pc = arrow()
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    rows = sorted(changes)
    mask = np.zeros(len(column), dtype=bool)
    mask[rows] = True
    values = pa.array([_typed(changes[row], kind, name, path) for row in rows], kind)
    changed = pc.replace_with_mask(column.cast(kind).combine_chunks(), pa.array(mask), values)
    return changed if kind == column.type else changed.dictionary_encode().cast(column.type)


def _typed(text: Value, kind: Any, name: str, path: Path) -> Any:
    """A text as a value of an Arrow type; what is unknown is null where the type has no room for `?`."""
    pa, _, _ = arrow()
    if text is None or (text == UNKNOWN and not (pa.types.is_string(kind) or pa.types.is_large_string(kind))):
        return None
    if pa.types.is_timestamp(kind):
        moment, offset = TimeLayout().parse(text)
        wall = moment if kind.tz else moment + offset * 1_000_000
        return pa.scalar(wall, pa.timestamp("us", kind.tz)).cast(kind)
    try:
        return pa.scalar(text).cast(kind)
    except pa.ArrowException:
        raise DataError(path, f"{text!r} does not fit its type {kind}", place=f"column {name!r}") from None


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
