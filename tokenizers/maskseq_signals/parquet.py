"""Signals in Parquet: a row a time step, a column a channel; of one recording, or of several that a column names."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float64, Int64

from maskseq.errors import DataError, UsageError
from maskseq.files import create
from maskseq.formats import ADDED, Format
from maskseq.survey import LIKELY, POSSIBLE, Choice, Claim, Head
from maskseq_signals.cells import decimals_of_values
from maskseq_signals.files import recording_name
from maskseq_signals.long_table import TIME_NAMES, told_apart
from maskseq_signals.recording import Recording, recorded
from maskseq_signals.timeline import Steps, Timeline, spread
from maskseq_signals.wide_rows import VALUE, Columns, flattened, steps_within

ROWS = 1000
"""Rows by which a table is recognized."""


@dataclass(frozen=True, kw_only=True)
class ParquetOrigin:
    """What a recording remembers of its table."""

    table: Any
    """The `pyarrow.Table` that it was read from, shared by all recordings of the file."""
    rows: Int64[np.ndarray, "length"]
    """The row of each time step; -1 for one that is missing."""
    was: Float64[np.ndarray, "length channels"]
    columns: tuple[str, ...]
    """That of each channel; of those of a series that runs through them, each."""
    within: Int64[np.ndarray, "length"] | None = None
    """Which of the columns each time step is, where these are steps of one channel."""

    def of_column(self, index: int) -> tuple[int, Int64[np.ndarray, "_"]]:
        """The channel that a column holds, and the time steps that it has cells for."""
        if self.within is None:
            return index, np.flatnonzero(self.rows >= 0)
        return 0, np.flatnonzero((self.rows >= 0) & (self.within == index))


@dataclass(frozen=True, kw_only=True)
class SignalParquet(Format[Recording]):
    """Columns of numbers, decimals and booleans are channels, null and NaN unknown values. Other columns come back as
    they were.

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
    columns: Columns = field(default="channels", metadata=ADDED)
    """As in `signal-csv`: "steps" takes the columns for steps of one channel that follow each other within a row."""

    @classmethod
    def recognize(cls, head: Head) -> Claim | None:
        """Columns of numbers beside moments; a column of few different values may tell recordings apart."""
        if not head.content.startswith(b"PAR1"):
            return None
        table = _loaded(head.path, ROWS)
        names, kinds = table.column_names, [field.type for field in table.schema]
        if len(set(names)) < len(names):
            return None
        moments = [i for i, kind in enumerate(kinds) if _is_moment(kind)]
        counted = [i for i, kind in enumerate(kinds) if _is_whole(kind) and names[i].lower() in TIME_NAMES]
        dates = [*moments, *counted]
        columns = [_times(column) if i in moments else _texts(column) for i, column in enumerate(table.columns)]
        time, owner = told_apart(names, columns, dates, decimal=".") or (dates[0] if dates else None, None)
        numeric = [n for i, n in enumerate(names) if i not in (time, owner) and _is_number(kinds[i])]
        others = [n for i, n in enumerate(names) if i not in (time, owner, *moments) and not _is_number(kinds[i])]
        if not numeric or (others and time is None):
            return None
        wide = [] if time is None else steps_within(numeric, columns[time])
        options: dict[str, Any] = {}
        if time is not None and (owner is not None or time not in moments[:1]):
            options["time"] = names[time]
        why = f"numbers in {len(numeric)} of {len(names)} columns"
        if owner is not None:
            options["recording"] = names[owner]
            why += f"; {names[owner]!r} tells recordings apart"
        why += f"; {', '.join(map(repr, others[:5]))}{', …' if len(others) > 5 else ''} left out" if others else ""
        strength = LIKELY if time is not None and not others else POSSIBLE
        as_channels = options | ({"channels": numeric} if others else {})
        if not wide:
            return Claim(strength=strength, why=why, options=as_channels)
        options |= {"columns": "steps"} | ({"channels": wide} if wide != numeric or others else {})
        channels = Choice(why=why, options=as_channels)
        why += f"; {wide[0]!r} to {wide[-1]!r} are steps of one series"
        return Claim(strength=strength, why=why, options=options, instead=(channels,))

    def read(self, path: Path) -> Iterator[Recording]:
        table = _loaded(path)
        names = self._channels(table, path)
        values = np.stack([_numbers(table.column(name), path, name) for name in names], axis=1)
        digits = tuple(_digits(table.column(name)) for name in names)
        time = self._time(table) if self.time is None else self.time
        times: Sequence[str] | None = _times(table.column(time)) if time else None
        owned, columns, a_row = self._rows(table, path), names, len(names) if self.columns == "steps" else 1
        timeline = Timeline(path, lambda step: f"row {step // a_row + 1}", steps=self.steps)
        if self.columns == "steps":
            values, times, owned = flattened(values, times, owned, timeline)
            known = [each for each in digits if each is not None]
            names, digits = (VALUE,), (max(known) if len(known) == len(digits) else None,)
        for key, steps in timeline.recordings(owned, times):
            channels = spread(values, steps)
            yield recorded(
                path,
                key=key,
                channels=channels,
                names=names,
                rate=self.rate,
                times=None if times is None else tuple(times[step] if step >= 0 else "" for step in steps.tolist()),
                decimals=digits,
                origin=ParquetOrigin(
                    table=table,
                    rows=steps if a_row == 1 else steps // a_row,  # -1 stays -1
                    was=channels.copy(),
                    columns=columns,
                    within=None if a_row == 1 else steps % a_row,
                ),
            )

    def write(self, records: Iterable[Recording], path: Path) -> None:
        """The table that the recordings were read from, with the values that changed; else a new table of one."""
        arrow, parquet = _arrow()
        recordings = list(records)
        origins = [record.origin for record in recordings if isinstance(record.origin, ParquetOrigin)]
        if recordings and len(origins) == len(recordings) and len({id(origin.table) for origin in origins}) == 1:
            table = _updated(recordings)
        elif len(recordings) == 1:
            (record,) = recordings
            columns = {name: record.channels[:, i] for i, name in enumerate(record.names)}
            table = arrow.table(({"time": list(record.times)} if record.times else {}) | columns)
        else:
            reported = f"{len(recordings)} recordings that were not read from one table cannot be written as one"
            raise UsageError(f"{path}: {reported}\n\nhint: write NPZ", code="not-supported")
        with create(path) as file:
            parquet.write_table(table, file)

    def _channels(self, table: Any, path: Path) -> tuple[str, ...]:
        found = ", ".join(table.column_names)
        for name in (*(self.channels or ()), *filter(None, (self.time, self.recording))):
            if name not in table.column_names:
                raise UsageError(f"{path} has no column {name!r}\n\nhint: it has {found}", code="unknown-name")
        numeric = [field.name for field in table.schema if _is_number(field.type)]
        chosen = self.channels or tuple(name for name in numeric if name not in (self.time, self.recording))
        if not chosen:
            raise DataError(path, f"there is no column of numbers; the columns are {found}", place="schema")
        requested = (*chosen, *filter(None, (self.time, self.recording)))
        twice = next((name for name in requested if table.column_names.count(name) > 1), None)
        if twice is not None:
            raise DataError(path, f"the column name {twice!r} occurs twice", place="schema")
        wrong = next((name for name in chosen if name not in numeric), None)
        if wrong is not None:
            raise DataError(path, f"{table.schema.field(wrong).type}, not numbers", place=f"column {wrong!r}")
        return chosen

    def _time(self, table: Any) -> str | None:
        """The first column of moments that is not asked for as something else."""
        others = (*(self.channels or ()), self.recording)
        columns = (field.name for field in table.schema if _is_moment(field.type))
        return next((name for name in columns if name not in others), None)

    def _rows(self, table: Any, path: Path) -> Iterator[tuple[str, Int64[np.ndarray, "rows"]]]:
        """Each recording and its rows, in the order of the file."""
        if self.recording is None:
            yield recording_name(path), np.arange(len(table))
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
        raise UsageError(
            "Parquet needs pyarrow\n\nhint: pip install 'maskseq[signals]'", code="missing-extra"
        ) from None


def _loaded(path: Path, rows: int | None = None) -> Any:
    """The table, or its first rows."""
    arrow, parquet = _arrow()
    try:
        with path.open("rb") as file:  # given a path, it would read all files of a folder
            content = parquet.ParquetFile(file)
            if rows is None:
                table = content.read()
            else:
                first = next(content.iter_batches(rows), None)
                table = arrow.Table.from_batches([] if first is None else [first], content.schema_arrow)
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


def _texts(column: Any) -> list[str]:
    return ["" if value is None else str(value) for value in column.to_pylist()]


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


def _is_number(kind: Any) -> bool:
    types = _arrow()[0].types
    kinds = (types.is_integer, types.is_floating, types.is_decimal, types.is_boolean)
    return any(is_kind(kind) for is_kind in kinds)


def _is_moment(kind: Any) -> bool:
    types = _arrow()[0].types
    return bool(types.is_timestamp(kind) or types.is_date(kind))


def _digits(column: Any) -> int | None:
    """Digits behind the point of what is known; None if there are as many as a float can have."""
    arrow, _ = _arrow()
    if arrow.types.is_decimal(column.type):
        return max(int(column.type.scale), 0)
    if arrow.types.is_floating(column.type):
        return decimals_of_values(column.to_numpy())
    return 0


def _cell(value: float, kind: Any) -> Any:
    """A number as the type of its column has it."""
    types = _arrow()[0].types
    if types.is_boolean(kind):
        return value >= 0.5
    if types.is_decimal(kind):
        return Decimal(f"{value:.{max(kind.scale, 0)}f}")
    return round(value) if _is_whole(kind) else value


def _updated(recordings: Sequence[Recording]) -> Any:
    """The table with the cells that changed; columns without any are the very same."""
    arrow, _ = _arrow()
    table = recordings[0].origin.table
    for index, name in enumerate(recordings[0].origin.columns):
        new: dict[int, float | None] = {}
        for record in recordings:
            channel, steps = record.origin.of_column(index)
            now, was = record.channels[steps, channel], record.origin.was[steps, channel]
            changed = np.flatnonzero((now != was) & ~(np.isnan(now) & np.isnan(was)))
            rows, values = record.origin.rows[steps[changed]].tolist(), now[changed].tolist()
            new |= {row: None if value != value else value for row, value in zip(rows, values, strict=True)}
        if not new:
            continue
        field = table.schema.field(name)
        cells = table.column(name).to_pylist()
        for row, value in new.items():
            cells[row] = None if value is None else _cell(value, field.type)
        try:
            column = arrow.array(cells, type=field.type)
        except (arrow.ArrowException, OverflowError) as error:
            problem = f"a value of channel {name!r} does not fit into its column of {field.type} ({error})"
            raise UsageError(problem, code="bad-option") from None
        table = table.set_column(table.schema.get_field_index(name), field, column)
    return table
