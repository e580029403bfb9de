"""Data frames of pandas, polars, Arrow or another library that narwhals knows: read as files are, and given back.

A frame is written to a temporary file, which a format reads: whatever a format does to a file, it does to a frame.
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

from maskseq.errors import DataError, UsageError
from maskseq.formats import Format

TABLE = "table"
"""The format of a frame about which nothing else is known."""
CALLED = "data frame"
"""What stands in errors in place of the temporary file."""


def is_frame(data: object) -> bool:
    """Whether it is a table in memory: it says so by the Arrow or by the data frame interface."""
    return not isinstance(data, type) and any(
        hasattr(data, name) for name in ("__arrow_c_stream__", "__dataframe__", "__narwhals_dataframe__")
    )


@dataclass(frozen=True)
class TableInMemory:
    """A frame, and how it is turned into files and back."""

    given: Any
    """A `narwhals.DataFrame`."""

    @classmethod
    def of(cls, frame: Any) -> "TableInMemory":
        """From a frame of any library; `UsageError` for what is none, or cannot be read yet."""
        nw, _ = _libraries()
        try:
            return cls(nw.from_native(frame, eager_only=True))
        except (TypeError, ValueError) as error:
            problem = str(error).strip().partition("\n")[0]
            raise UsageError(
                f"this is not a data frame that can be read: {problem}\n\n"
                f"hint: pandas, polars and Arrow tables are; a lazy frame needs .collect(), columns unique names",
                code="not-supported",
            ) from None

    @contextmanager
    def as_file(self, format: type[Format[Any]] | None) -> Iterator[Path]:
        """As a file that the format reads, Parquet if it may be; CSV where the format is found by the file.

        Errors about the file name the frame instead.
        """
        with TemporaryDirectory() as folder:
            file = Path(folder) / ("frame.parquet" if format and ".parquet" in format.suffixes else "frame.csv")
            self._write(file)
            try:
                yield file
            except DataError as error:
                if error.path != str(file):
                    raise
                raise DataError(CALLED, error.problem, place=error.place, code=error.code) from error.__cause__

    def with_cells_of(self, file: Path) -> Any:
        """The frame of the same library and types, with those cells of a file of the same rows that are others."""
        nw, _ = _libraries()
        before, after = self.given.to_arrow(), self._read(file)
        if any(len(column) != len(before) for column in after.values()):
            raise UsageError(
                f"{CALLED}: rows were added or left out, for which it has no place\n\nhint: fill a file",
                code="not-supported",
            )
        changed = []
        for name in self.given.columns:
            was, now = before.column(name).to_pylist(), after[name]
            rows = [n for n, (old, new) in enumerate(zip(was, now, strict=True)) if old != new and new == new]
            if rows:
                column = self.given[name]
                if isinstance(column.dtype, nw.Categorical | nw.Enum):  # a value may be new to them
                    column = column.cast(nw.String)
                changed.append(column.scatter(rows, [now[row] for row in rows]))
        return self.given.with_columns(*changed).to_native()

    def like_it(self, file: Path) -> Any:
        """A Parquet file as a frame of the same library."""
        nw, pq = _libraries()
        return nw.from_arrow(pq.read_table(file), backend=self.given.implementation).to_native()

    def _write(self, file: Path) -> None:
        _, pq = _libraries()
        import pyarrow as pa

        try:
            table = self.given.to_arrow().select(self.given.columns)  # without the index that pandas adds
        except pa.ArrowException as error:
            problem = " ".join(str(each) for each in error.args).partition("\n")[0]
            raise UsageError(
                f"{CALLED}: a column holds values of several kinds: {problem}\n\n"
                f"hint: give it one type, as frame['NAME'].astype(str) does",
                code="not-supported",
            ) from None
        if file.suffix == ".parquet":
            pq.write_table(table, file)
        else:
            self.given.write_csv(str(file))

    def _read(self, file: Path) -> Mapping[str, Sequence[Any]]:
        """The columns of a file, in the types of the frame."""
        import pyarrow as pa

        _, pq = _libraries()
        if file.suffix == ".parquet":
            table = pq.read_table(file)
            return {name: table.column(name).to_pylist() for name in table.column_names}
        with file.open(newline="", encoding="utf-8") as lines:
            names, *rows = csv.reader(lines)
        schema, columns = self.given.to_arrow().schema, zip(*rows, strict=True)
        texts = {name: pa.array([cell or None for cell in column]) for name, column in zip(names, columns, strict=True)}
        return {name: column.cast(schema.field(name).type).to_pylist() for name, column in texts.items()}


def _libraries() -> tuple[ModuleType, ModuleType]:
    """narwhals, and Arrow's reader of Parquet."""
    try:
        import narwhals
        import pyarrow.parquet
    except ImportError as error:
        raise UsageError(
            f"data frames need {error.name}\n\nhint: pip install 'maskseq[frames]'", code="missing-extra"
        ) from None
    return narwhals, pyarrow.parquet
