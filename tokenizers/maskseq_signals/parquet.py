"""Signals in Parquet: a row a time step, a column a channel; of one recording, or of several that a column names."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float64, Int64

from maskseq.errors import DataError, UsageError
from maskseq.files import create
from maskseq.tokenizer import ADDED, Format
from maskseq_signals.files import plain_name
from maskseq_signals.recording import Recording, recorded
from maskseq_signals.timeline import Steps, Timeline, spread


@dataclass(frozen=True, kw_only=True)
class Rows:
    """What a recording remembers of its table."""

    table: Any
    """The `pyarrow.Table` that it was read from, shared by all recordings of the file."""
    rows: Int64[np.ndarray, "length"]
    """The row of each time step; -1 for one that is missing."""
    was: Float64[np.ndarray, "length channels"]


@dataclass(frozen=True, kw_only=True)
class SignalParquet(Format[Recording]):
    """Numeric columns are channels, null and NaN unknown values. Other columns come back as they were.

    There is no `suffixes`: a .parquet is an event log unless a recipe says `format = "signal-parquet"`. Written back,
    values and types are the same, but not the bytes of the file, as Parquet leaves its encoding to the writer.
    """

    suffixes: ClassVar[tuple[str, ...]] = ()

    time: str | None = None
    """The column of times (default: the first of timestamps or dates; "": there is none)."""
    channels: tuple[str, ...] | None = None
    """Columns to read (default: all of numbers, but those of times and recordings)."""
    recording: str | None = None
    """The column that says which recording a row belongs to (default: the file is one, called like the file)."""
    rate: float | None = None
    """Samples a second."""
    steps: Steps = field(default="times", metadata=ADDED)
    """As in `signal-csv`: "times" takes the rows in order of their times, "rows" takes each for one step."""

    def read(self, path: Path) -> Iterator[Recording]:
        table = _loaded(path)
        names = self._channels(table, path)
        values = np.stack([_numbers(table.column(name), path, name) for name in names], axis=1)
        whole = [_is_whole(table.schema.field(name).type) for name in names]
        time = self._time(table) if self.time is None else self.time
        times = _times(table.column(time)) if time else None
        timeline = Timeline(path, lambda row: f"row {row + 1}", steps=self.steps)
        for key, rows in timeline.recordings(self._rows(table, path), times):
            channels = spread(values, rows)
            yield recorded(
                path,
                key=key,
                channels=channels,
                names=names,
                rate=self.rate,
                times=None if times is None else tuple(times[row] if row >= 0 else "" for row in rows.tolist()),
                decimals=tuple(0 if each else None for each in whole),
                origin=Rows(table=table, rows=rows, was=channels.copy()),
            )

    def write(self, records: Iterable[Recording], path: Path) -> None:
        """The table that the recordings were read from, with the values that changed; else a new table of one."""
        arrow, parquet = _arrow()
        recordings = list(records)
        origins = [record.origin for record in recordings if isinstance(record.origin, Rows)]
        if recordings and len(origins) == len(recordings) and len({id(origin.table) for origin in origins}) == 1:
            table = _updated(recordings)
        elif len(recordings) == 1:
            (record,) = recordings
            columns = {name: record.channels[:, i] for i, name in enumerate(record.names)}
            table = arrow.table(({"time": list(record.times)} if record.times else {}) | columns)
        else:
            told = f"{len(recordings)} recordings that were not read from one table cannot be written as one"
            raise UsageError(f"{path}: {told}\n\nhint: write NPZ")
        with create(path) as file:
            parquet.write_table(table, file)

    def _channels(self, table: Any, path: Path) -> tuple[str, ...]:
        arrow, _ = _arrow()
        found = ", ".join(table.column_names)
        for name in (*(self.channels or ()), *filter(None, (self.time, self.recording))):
            if name not in table.column_names:
                raise UsageError(f"{path} has no column {name!r}\n\nhint: it has {found}")
        numeric = [
            field.name
            for field in table.schema
            if arrow.types.is_integer(field.type) or arrow.types.is_floating(field.type)
        ]
        chosen = self.channels or tuple(name for name in numeric if name not in (self.time, self.recording))
        if not chosen:
            raise DataError(path, f"there is no column of numbers; the columns are {found}", place="schema")
        asked = (*chosen, *filter(None, (self.time, self.recording)))
        twice = next((name for name in asked if table.column_names.count(name) > 1), None)
        if twice is not None:
            raise DataError(path, f"the column name {twice!r} occurs twice", place="schema")
        wrong = next((name for name in chosen if name not in numeric), None)
        if wrong is not None:
            raise DataError(path, f"{table.schema.field(wrong).type}, not numbers", place=f"column {wrong!r}")
        return chosen

    def _time(self, table: Any) -> str | None:
        """The first column of moments that is not asked for as something else."""
        arrow, _ = _arrow()
        others = (*(self.channels or ()), self.recording)
        temporal = (arrow.types.is_timestamp, arrow.types.is_date)
        columns = (field.name for field in table.schema if any(is_kind(field.type) for is_kind in temporal))
        return next((name for name in columns if name not in others), None)

    def _rows(self, table: Any, path: Path) -> Iterator[tuple[str, Int64[np.ndarray, "rows"]]]:
        """Each recording and its rows, in the order of the file."""
        if self.recording is None:
            yield plain_name(path), np.arange(len(table))
            return
        keys = table.column(self.recording).combine_chunks().dictionary_encode()
        if keys.null_count:
            raise DataError(path, "a row of no recording", place=f"column {self.recording!r}")
        number = keys.indices.to_numpy(zero_copy_only=False)
        order = np.argsort(number, kind="stable")
        edges = np.searchsorted(number[order], np.arange(len(keys.dictionary) + 1))
        for index, key in enumerate(keys.dictionary.to_pylist()):
            yield str(key), order[edges[index] : edges[index + 1]]


def _arrow() -> tuple[Any, Any]:
    """The modules pyarrow and pyarrow.parquet; loaded when the first Parquet file is met."""
    try:
        return import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError:
        raise UsageError("Parquet needs pyarrow\n\nhint: pip install 'maskseq[signals]'") from None


def _loaded(path: Path) -> Any:
    arrow, parquet = _arrow()
    try:
        with path.open("rb") as file:  # given a path, it would read all files of a folder
            table = parquet.ParquetFile(file).read()
    except FileNotFoundError:
        raise DataError(path, "no such file") from None
    except (arrow.ArrowException, OSError, ValueError) as error:  # ValueError: a name that is no text
        raise DataError(path, f"not a readable Parquet file: {str(error).splitlines()[0]}") from None
    if not len(table):
        raise DataError(path, "there is no row of values")
    return table


def _numbers(column: Any, path: Path, name: str) -> Float64[np.ndarray, "length"]:
    values = column.cast("float64", safe=False).to_numpy()
    endless = np.flatnonzero(np.isinf(values))
    if len(endless):
        raise DataError(path, "the value is infinite", place=f"row {endless[0] + 1}, column {name!r}")
    return np.asarray(values, dtype=np.float64)


def _times(column: Any) -> list[str]:
    """As text; what text has no room for, such as nanoseconds, is left out."""
    arrow, _ = _arrow()
    kind = column.type
    if arrow.types.is_timestamp(kind):
        column = column.cast(arrow.timestamp("us", kind.tz and "UTC"), safe=False)
    elif arrow.types.is_duration(kind):
        column = column.cast("int64")
    return [str(value) for value in column.to_pylist()]


def _is_whole(kind: Any) -> bool:
    arrow, _ = _arrow()
    return bool(arrow.types.is_integer(kind))


def _updated(recordings: Sequence[Recording]) -> Any:
    """The table with the cells that changed; columns without any are the very same."""
    arrow, _ = _arrow()
    table = recordings[0].origin.table
    for index, name in enumerate(recordings[0].names):
        new: dict[int, float | None] = {}
        for record in recordings:
            now, was = record.channels[:, index], record.origin.was[:, index]
            changed = np.flatnonzero((now != was) & ~(np.isnan(now) & np.isnan(was)) & (record.origin.rows >= 0))
            rows, values = record.origin.rows[changed].tolist(), now[changed].tolist()
            new |= {row: None if value != value else value for row, value in zip(rows, values, strict=True)}
        if not new:
            continue
        field = table.schema.field(name)
        cells = table.column(name).to_pylist()
        for row, value in new.items():
            cells[row] = round(value) if value is not None and _is_whole(field.type) else value
        table = table.set_column(table.schema.get_field_index(name), field, arrow.array(cells, type=field.type))
    return table
