"""Tables that are written row by row: CSV, TSV, JSON Lines, or Parquet where pyarrow is installed.

Texts that a spreadsheet would run as formulas stand in CSV and TSV behind an apostrophe; `unquoted` takes it away.
"""

import csv
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, TextIO, get_args

from maskseq.errors import UsageError
from maskseq.storage.outputs import claimed, explained
from maskseq.storage.standard_json import to_json
from maskseq.storage.terminal import in_one_line

PARQUET_ROWS = 1 << 14

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a text begins with that a spreadsheet takes for a formula."""

Columns = Mapping[str, type]
"""Names, each with the type of its values, of which any may be None."""
Sink = Callable[[Iterable[Mapping[str, Any]]], None]


def columns_of(row: type) -> Columns:
    """Those of a dataclass whose values are numbers, texts, or none; anything else is written as text."""
    kinds = {each.name: (*get_args(each.type), each.type)[0] for each in fields(row)}
    return {name: kind if kind in (int, float) else str for name, kind in kinds.items()}


@contextmanager
def table_writer(path: Path, columns: Columns) -> Iterator[Sink]:
    """Where rows can be put as they come; what kind of table it is, the file's name says.

    The file appears when the block ends without an error.
    """
    with resumed_table(path, columns, "") as (sink, _):
        yield sink


@contextmanager
def resumed_table(path: Path, columns: Columns, state: str) -> Iterator[tuple[Sink, Path]]:
    """The same, and a path called `state` that stays after a kill: the next process goes on from what is there."""
    if path.suffix not in _SINKS:
        raise UsageError(f"{path}: a table is written as {', '.join(_SINKS)}", code="bad-option")
    with claimed(path, state=state) as work:
        with _SINKS[path.suffix](work.content, columns) as sink:

            def named(rows: Iterable[Mapping[str, Any]]) -> None:
                with explained(path):  # here, since other files may be open around this call
                    sink(rows)

            yield named, work.folder / state
        work.publish()


@contextmanager
def table_on_stdout(columns: Columns, *, as_json: bool) -> Iterator[Sink]:
    """Rows as lines on stdout: tab-separated, numbers to four digits, control characters escaped; or JSON."""
    if as_json:
        yield lambda rows: _json_lines(rows, sys.stdout)
        return
    print("\t".join(map(in_one_line, columns)))

    def sink(rows: Iterable[Mapping[str, Any]]) -> None:
        for row in rows:
            print("\t".join(_short(row[name]) for name in columns))

    yield sink


def quoted(value: object) -> object:
    """A value as CSV and TSV hold it: texts that look like formulas behind an apostrophe, but for numbers."""
    if not isinstance(value, str) or not value.lstrip("'").startswith(FORMULA) or _is_number(value):
        return value
    return f"'{value}"


def unquoted(text: str) -> str:
    """The text that `quoted` was given."""
    return text[1:] if text.startswith("'") and text.lstrip("'").startswith(FORMULA) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return not text[:1].isspace()


def _flat(value: object) -> object:
    """A value as a cell holds it: lists and tables as JSON."""
    return to_json(value, ascii=False) if isinstance(value, Mapping | list | tuple) else value


def _short(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    return "" if value is None else in_one_line(str(_flat(value)))


def _json_lines(rows: Iterable[Mapping[str, Any]], file: TextIO) -> None:
    for row in rows:
        file.write(to_json(row) + "\n")


@contextmanager
def _delimited(path: Path, columns: Columns, delimiter: str) -> Iterator[Sink]:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=delimiter, lineterminator="\r\n" if delimiter == "," else "\n")
        writer.writerow(map(quoted, columns))
        yield lambda rows: writer.writerows([quoted(_flat(row[name])) for name in columns] for row in rows)


@contextmanager
def _json(path: Path, columns: Columns) -> Iterator[Sink]:
    with path.open("w", encoding="utf-8") as file:
        yield lambda rows: _json_lines(rows, file)


@contextmanager
def _parquet(path: Path, columns: Columns) -> Iterator[Sink]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise UsageError(
            "writing .parquet needs pyarrow\n\nhint: pip install pyarrow, or write .csv", code="missing-extra"
        ) from None
    types = {int: pa.int64(), float: pa.float64(), str: pa.string()}
    schema = pa.schema([(name, types[kind]) for name, kind in columns.items()])
    waiting: list[Mapping[str, Any]] = []
    with pq.ParquetWriter(path, schema) as writer:

        def sink(rows: Iterable[Mapping[str, Any]]) -> None:
            for row in rows:
                waiting.append({name: _flat(row[name]) for name in columns})
                if len(waiting) == PARQUET_ROWS:
                    flush()

        def flush() -> None:
            writer.write_table(pa.Table.from_pylist(waiting, schema=schema))
            waiting.clear()

        yield sink
        flush()


_SINKS: dict[str, Callable[[Path, Columns], Any]] = {
    ".csv": lambda path, columns: _delimited(path, columns, ","),
    ".tsv": lambda path, columns: _delimited(path, columns, "\t"),
    ".jsonl": _json,
    ".parquet": _parquet,
}
