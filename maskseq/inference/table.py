"""A table of what was filled and how surely: one row for each filled cell and sample, written as CSV or Parquet."""

import csv
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_args

import numpy as np
from jaxtyping import Int, Integer

from maskseq.errors import UsageError
from maskseq.inference.chunks import Filled
from maskseq.inference.fill import Fill
from maskseq.inference.ordinal import posterior
from maskseq.tokenizer import Tokenizer

BLOCK = 1 << 16
PARQUET_ROWS = 1 << 14


@dataclass(frozen=True)
class Row:
    """One filled cell in one sample."""

    key: str
    """The record's."""
    start: int
    stop: int
    """The raw units that the cell depends on, from 1, both inclusive: base 7, or bases 7 to 12 of a 6-mer."""
    field: str
    sample: int
    value: str
    probability: float
    """Of the value, given all that was known or filled when it was committed; calibrated if a calibration was given."""
    alternatives: tuple[tuple[str, float], ...]
    """The most probable other values, and their probabilities."""
    number: float | None
    """Ordinal fields: the value in the field's unit; then mean, median and interval given the known cells alone."""
    mean: float | None
    median: float | None
    low: float | None
    high: float | None
    outside: float
    """The probability that the true value is none that the vocabulary knows (`[OTHER]`)."""
    step: int
    """The forward pass after which it was committed."""
    truth: str | None = None
    """What had been there, where a known value was hidden on purpose."""


def rows(
    filled: Filled,
    ids: Integer[np.ndarray, "length fields"],
    tokenizer: Tokenizer[Any],
    *,
    alternatives: int = 3,
    level: float = 0.9,
) -> Iterator[Row]:
    """The rows of one record, whose `ids` are those from before it was filled: known ones in a hole are the truth."""
    fill = filled.fill
    units = unit_ranges(tokenizer, fill.written(ids), fill.cells)
    numbers = [_numbers(fill, tokenizer, field, level) for field in range(len(tokenizer.fields))]
    for cell, (position, column) in enumerate(fill.cells.tolist()):
        field = tokenizer.fields[column]
        before = int(ids[position, column])
        mean, median, low, high = numbers[column].get(cell, (None, None, None, None))
        for sample, value in enumerate(fill.values[:, cell].tolist()):
            probabilities = fill.probabilities[sample, cell]
            best = [
                i for i in np.argsort(-probabilities, kind="stable").tolist() if i != value and probabilities[i] > 0
            ]
            centres = field.centres or ()
            yield Row(
                key=filled.key,
                start=int(units[cell, 0]) + 1,
                stop=int(units[cell, 1]),
                field=field.name,
                sample=sample,
                value=field.token(value),
                probability=float(np.exp(fill.log_prob[sample, cell])),
                alternatives=tuple((field.token(i), float(probabilities[i])) for i in best[:alternatives]),
                number=centres[value] if value < len(centres) else None,
                mean=mean,
                median=median,
                low=low,
                high=high,
                outside=float(fill.other_mass[sample, cell]),
                step=int(fill.step[sample, cell]),
                truth=None if before == field.mask_id else field.token(before),
            )


def unit_ranges(
    tokenizer: Tokenizer[Any], ids: Integer[np.ndarray, "length fields"], cells: Int[np.ndarray, "cells 2"]
) -> Int[np.ndarray, "cells 2"]:
    """The half-open range of raw units of each (sorted) cell, from 0, a block of a long record at a time."""
    ranges = np.zeros((len(cells), 2), np.int64)
    end = 0  # of the position before the block, which every block but the first reads again
    for start in range(0, len(ids), BLOCK):
        begin = max(start - 1, 0)
        units = tokenizer.units(ids[begin : start + BLOCK])
        origin = end - int(units[0, 0, 1]) if start else 0
        first, last = np.searchsorted(cells[:, 0], [start, start + BLOCK]).tolist()
        ranges[first:last] = origin + units[cells[first:last, 0] - begin, cells[first:last, 1]]
        end = origin + int(units[-1, 0, 1])
    return ranges


Sink = Callable[[Iterable[Row]], None]


@contextmanager
def table_writer(path: Path) -> Iterator[Sink]:
    """Where rows can be written as they come: `.csv`, or `.parquet` where pyarrow is installed.

    The file appears when the block ends without an error.
    """
    sinks = {".csv": _csv_sink, ".parquet": _parquet_sink}
    if path.suffix not in sinks:
        raise UsageError(f"{path}: a table of fills is written as {' or '.join(sinks)}")
    aside = path.with_name(path.name + ".tmp")
    try:
        with sinks[path.suffix](aside) as sink:
            yield sink
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def write_table(table: Iterable[Row], path: Path) -> None:
    """Write all rows of a table, of any length."""
    with table_writer(path) as sink:
        sink(table)


@contextmanager
def _csv_sink(path: Path) -> Iterator[Sink]:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([field.name for field in fields(Row)])
        yield lambda table: writer.writerows(_plain(row).values() for row in table)


@contextmanager
def _parquet_sink(path: Path) -> Iterator[Sink]:
    try:
        import pyarrow as pa  # type: ignore[import-untyped]
        import pyarrow.parquet as pq  # type: ignore[import-untyped]
    except ImportError:
        raise UsageError("writing .parquet needs pyarrow\n\nhint: pip install pyarrow, or write .csv") from None
    types: dict[Any, Any] = {int: pa.int64(), float: pa.float64()}
    kinds = {each.name: (*get_args(each.type), each.type)[0] for each in fields(Row)}
    schema = pa.schema([(name, types.get(kind, pa.string())) for name, kind in kinds.items()])
    waiting: list[dict[str, Any]] = []
    with pq.ParquetWriter(path, schema) as writer:

        def sink(table: Iterable[Row]) -> None:
            for row in table:
                waiting.append(_plain(row))
                if len(waiting) == PARQUET_ROWS:
                    flush()

        def flush() -> None:
            writer.write_table(pa.Table.from_pylist(waiting, schema=schema))
            waiting.clear()

        yield sink
        flush()


def _plain(row: Row) -> dict[str, Any]:
    """The row with its alternatives as JSON, probabilities to 6 digits."""
    return vars(row) | {"alternatives": json.dumps([[value, round(p, 6)] for value, p in row.alternatives])}


def _numbers(
    fill: Fill, tokenizer: Tokenizer[Any], column: int, level: float
) -> dict[int, tuple[float, float, float, float]]:
    """Mean, median and interval of every cell of an ordinal field; nothing for other fields."""
    centres = tokenizer.fields[column].centres
    mine = np.flatnonzero(fill.cells[:, 1] == column)
    if centres is None:
        return {}
    p = posterior(fill.marginals[mine], centres, level=level)
    numbers = zip(p.mean.tolist(), p.median.tolist(), p.low.tolist(), p.high.tolist(), strict=True)
    return dict(zip(mine.tolist(), numbers, strict=True))
