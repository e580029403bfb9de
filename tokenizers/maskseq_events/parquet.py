"""Event logs in Parquet, one row an event, and MEDS, the standard for health records in Parquet. Needs pyarrow."""

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np

from maskseq.errors import DataError, UsageError
from maskseq.survey import CERTAIN, LIKELY, Claim, Head
from maskseq_events.case import ABSENT_TIME, UNKNOWN, Case, Kind, Value, plain_rows
from maskseq_events.new_table import NewTable
from maskseq_events.survey import ROWS, claim_table
from maskseq_events.table import EventTable, Row, Rows
from maskseq_events.times import TimeLayout

BATCH_ROWS = 65_536


@dataclass(frozen=True)
class _Source:
    """The file that rows are taken from again when they are written."""

    path: Path
    size: int
    modified: int
    numeric: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class Parquet(EventTable):
    """Event logs in Parquet. Null is absent; numbers are read as Python writes them, other types as their text.

    Written back, the rows are taken from the source file, which must still be there, with all its columns, types and
    metadata; values that did not change are equal, though the bytes of a Parquet file depend on who wrote it.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".parquet", ".pq")

    @classmethod
    def recognize(cls, head: Head) -> Claim | None:
        if not head.content.startswith(b"PAR1"):
            return None
        names, _, rows = cls(case="", activity="")._open(head.path)
        claim = claim_table(names, plain_rows([cells for _, _, cells in itertools.islice(rows, ROWS)]))
        return (claim and replace(claim, strength=min(claim.strength, LIKELY))) or super().recognize(head)

    def _open(self, path: Path) -> tuple[Sequence[str], _Source, Iterator[Row]]:
        pa, pq, _ = _arrow()
        try:
            file = pq.ParquetFile(path)
            schema = file.schema_arrow
            names = [field.name for field in schema]
        except FileNotFoundError:
            raise DataError(path, "no such file") from None
        except (pa.ArrowException, OSError, ValueError) as error:  # ValueError: a name that is no text
            raise DataError(path, f"not a readable Parquet file: {_first_line(error)}") from None
        numeric = frozenset(f.name for f in schema if pa.types.is_floating(f.type) or pa.types.is_decimal(f.type))
        status = path.stat()
        if len(set(names)) < len(names):
            raise DataError(path, f"a column name occurs twice: {', '.join(names)}", place="schema")
        return names, _Source(path, status.st_size, status.st_mtime_ns, numeric), self._rows(file, path)

    def _rows(self, file: Any, path: Path) -> Iterator[Row]:
        pa, _, _ = _arrow()
        number = 0
        try:
            for batch in file.iter_batches(BATCH_ROWS):
                for cells in zip(*map(_texts, batch.columns), strict=True):
                    number += 1
                    yield number, cells, cells
        except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
            raise DataError(path, f"damaged Parquet: {_first_line(error)}", place=f"after row {number}") from None

    def _place(self, number: int) -> str:
        return f"row {number}"

    def _kinds(self, header: _Source) -> dict[str, Kind]:
        return dict.fromkeys(header.numeric, "numeric")

    def _owns(self, origin: Rows) -> bool:
        return isinstance(origin.header, _Source)

    def _cells(self, raw: Sequence[Value], header: _Source) -> Sequence[Value]:
        return raw

    def _replaced(self, raw: Sequence[Value], changes: dict[int, Value], header: _Source) -> dict[int, Value]:
        return changes

    def _write_rows(self, header: _Source, rows: Sequence[tuple[int, Any]], path: Path) -> None:
        pa, pq, _ = _arrow()
        status = header.path.stat() if header.path.is_file() else None
        if status is None or (status.st_size, status.st_mtime_ns) != (header.size, header.modified):
            raise DataError(header.path, "the file has changed since its cases were read, and rows are taken from it")
        table = pq.read_table(header.path, partitioning=None)
        table = table.take(pa.array([number - 1 for number, _ in rows]))
        for index in range(table.num_columns):
            changes = {row: raw[index] for row, (_, raw) in enumerate(rows) if isinstance(raw, dict) and index in raw}
            if changes:
                field = table.schema.field(index)
                table = table.set_column(index, field, _changed(table.column(index), changes, field.name, path))
        pq.write_table(table, path)

    def _write_new(self, cases: Sequence[Case], path: Path) -> None:
        pa, pq, _ = _arrow()
        new = NewTable(cases)
        rows = list(new.rows())
        numeric = {name for case in cases for name, kind in case.kinds.items() if kind == "numeric"}
        columns = {}
        for name in new.names:
            column = pa.array([row[name] for row in rows], pa.string())
            kind = pa.timestamp("us", "UTC") if name == "time" else pa.float64() if name in numeric else pa.string()
            try:
                columns[name] = column.cast(kind)
            except pa.ArrowInvalid:  # `?`, or a value that is no number after all
                columns[name] = column
        pq.write_table(pa.table(columns), path)


@dataclass(frozen=True, kw_only=True)
class Meds(Parquet):
    """Health records in the Medical Event Data Standard: a shard of its `data` folder, subjects as cases.

    A row without time is a static fact, and stands first. `numeric_value` and `text_value` are attributes. The bins of
    `numeric_value` are shared by all codes.
    """

    suffixes: ClassVar[tuple[str, ...]] = ()
    missing_time: ClassVar[int] = ABSENT_TIME

    @classmethod
    def recognize(cls, head: Head) -> Claim | None:
        if not head.content.startswith(b"PAR1"):
            return None
        names, _, _ = cls()._open(head.path)
        if not {"subject_id", "time", "code", "numeric_value"} <= set(names):
            return None
        return Claim(strength=CERTAIN, why="the columns of MEDS: subject_id, time, code, numeric_value")

    case: str | None = "subject_id"
    activity: str | tuple[str, ...] | None = "code"
    time: str | None = "time"


@cache
def _arrow() -> tuple[ModuleType, ModuleType, ModuleType]:
    """pyarrow, its Parquet reader and its functions; loaded when the first Parquet file is met."""
    try:
        return import_module("pyarrow"), import_module("pyarrow.parquet"), import_module("pyarrow.compute")
    except ImportError:
        raise UsageError("Parquet needs pyarrow\n\nhint: pip install 'maskseq[events]'") from None


def _texts(column: Any) -> Sequence[Value]:
    """The values of an Arrow column as texts, None for null and NaN."""
    pa, _, _ = _arrow()
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        texts: list[Value] = column.to_pylist()
        return texts
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return _moments(column, kind)
    return [_text(value) for value in column.to_pylist()]


def _moments(column: Any, kind: Any) -> Sequence[Value]:
    """Timestamps as ISO texts with their offset, to the microsecond; of columns with a zone only."""
    pa, _, pc = _arrow()

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
    pa, _, pc = _arrow()
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    rows = sorted(changes)
    mask = np.zeros(len(column), dtype=bool)
    mask[rows] = True
    values = pa.array([_typed(changes[row], kind, name, path) for row in rows], kind)
    changed = pc.replace_with_mask(column.cast(kind).combine_chunks(), pa.array(mask), values)
    return changed if kind == column.type else changed.dictionary_encode().cast(column.type)


def _typed(text: Value, kind: Any, name: str, path: Path) -> Any:
    """A text as a value of an Arrow type; what is unknown is null where the type has no room for `?`."""
    pa, _, _ = _arrow()
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
