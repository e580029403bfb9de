"""The labels of records and of their units, from wherever a task file says that they are."""

import csv
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Shaped

from maskseq.errors import DataError, UsageError, nearest
from maskseq.formats import most_alike
from maskseq.tasks.config import LabelSource
from maskseq.tokenizer import Tokenizer
from maskseq.types import Record

Read = Callable[[Path], Iterable[Record]]
"""Reads the records of a second file as those of the data are read."""
BACKGROUND = "0"
"""The class of positions that no line of a BED file covers."""
SHOWN = 5
"""Keys that a message lists."""


@runtime_checkable
class RecordLabels(Protocol):
    """Gives the label of a record, and says at the end what did not fit."""

    def of(self, name: str, record: Record) -> str:
        """The label of the record that is called `name`; `DataError` where it has none."""
        ...

    def check(self) -> list[str]:
        """After the last record: what to warn of."""
        ...


@runtime_checkable
class UnitLabels(Protocol):
    """The same for the raw units of a record; "" where a unit has none."""

    def of(self, name: str, record: Record) -> Shaped[np.ndarray, " units"]: ...

    def check(self) -> list[str]: ...


def record_labels(source: LabelSource, tokenizer: Tokenizer[Any]) -> RecordLabels:
    """Those of a column or a table of keys and labels. `UsageError` for a column that the model sees."""
    if source.file is not None:
        return TableLabels.read(Path(source.file), source.key, source.column or "label")
    return ColumnLabels(checked_column(source.column or "", tokenizer))


def unit_labels(source: LabelSource, tokenizer: Tokenizer[Any], read: Read | None = None) -> UnitLabels:
    """Those of a BED file, of a second file of the same shape, which `read` reads, or of a column of the units."""
    if source.bed is not None:
        return BedLabels.read(Path(source.bed))
    if source.file is not None:
        return FileLabels.read(Path(source.file), source.column or "label", read)
    return UnitColumnLabels(checked_column(source.column or "", tokenizer))


def checked_column(column: str, tokenizer: Tokenizer[Any]) -> str:
    """The column, unless one of the model's fields is made from it: then the answer would be part of the question."""
    plain = column.removeprefix("case:")
    for each in tokenizer.fields:
        if {each.name, each.source} & {column, plain, f"case:{plain}"}:
            raise UsageError(
                f"labels.column = {column!r} is also a field that the encoder reads ({each.name!r}): the label would "
                f"leak into its own prediction\n\nhint: pretrain a run without that field, or name another column",
                code="bad-option",
            )
    return column


@dataclass(frozen=True)
class ColumnLabels:
    """An attribute of the record itself."""

    column: str

    def of(self, name: str, record: Record) -> str:
        value = record.group(self.column)
        if value is None or not value.strip():
            raise DataError(
                f"record {name!r}",
                f"has no label: there is no attribute {self.column!r}, or it is empty\n\n"
                f"hint: labels.column names a column of the table, or of an event log an attribute of the case",
                code="bad-label",
            )
        return value.strip()

    def check(self) -> list[str]:
        return []


@dataclass
class TableLabels:
    """A file of keys and labels."""

    path: Path
    labels: Mapping[str, str]
    seen: set[str] = field(default_factory=set)
    missing: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path, key: str, column: str) -> "TableLabels":
        labels: dict[str, str] = {}
        for line, row in _rows(path, (key, column)):
            name, label = row[key], row[column]
            if not label:
                raise DataError(path, f"the label of {name!r} is empty", place=f"line {line}", code="bad-label")
            if labels.setdefault(name, label) != label:
                raise DataError(
                    path,
                    f"{name!r} has two labels, {labels[name]!r} and {label!r}",
                    place=f"line {line}",
                    code="bad-label",
                )
        if not labels:
            raise DataError(path, "has a header but no labels", code="bad-label")
        return cls(path, labels)

    def of(self, name: str, record: Record) -> str:
        for known in (name, record.key):
            if known in self.labels:
                self.seen.add(known)
                return self.labels[known]
        self.missing.append(name)
        return ""

    def check(self) -> list[str]:
        if self.missing:
            known = most_alike(self.missing[0], self.labels, SHOWN)
            raise DataError(
                self.path,
                f"has no label for {len(self.missing):,} records: {listed(self.missing)}; it has {known}",
                code="bad-label",
            )
        unused = [key for key in self.labels if key not in self.seen]
        return [f"{self.path}: {len(unused):,} keys are of no record: {listed(unused)}"] if unused else []


@dataclass(frozen=True)
class UnitColumnLabels:
    """A column of the log or table, with a value for each unit."""

    column: str

    def of(self, name: str, record: Record) -> Shaped[np.ndarray, " units"]:
        values = record.column(self.column)
        if values is None:
            known = sorted(record.sources() or ())
            hint = nearest(self.column, known) if known else "its format keeps no columns but the fields"
            raise DataError(
                f"record {name!r}", f"has no column {self.column!r} of its units\n\nhint: {hint}", code="unknown-name"
            )
        return np.array(["" if value is None else value for value in values], dtype=object)

    def check(self) -> list[str]:
        return []


@dataclass
class FileLabels:
    """A second file with the same records, each as long as in the data: a label for each unit."""

    path: Path
    labels: Mapping[str, Sequence[str | None]]
    seen: set[str] = field(default_factory=set)
    missing: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path, column: str, read: Read | None) -> "FileLabels":
        """Letters behind `>` lines, or a column of records."""
        labels: dict[str, Sequence[str | None]] = {}
        if letters := _letters(path):
            return cls(path, letters)
        for record in read(path) if read else ():
            values = record.column(column)
            if values is None:
                known = sorted(record.sources() or ())
                raise DataError(
                    path,
                    f"record {record.key!r} has no column {column!r}\n\nhint: {nearest(column, known)}",
                    code="bad-label",
                )
            labels[record.key] = values
        if not labels:
            raise DataError(path, "holds no records with labels", code="bad-label")
        return cls(path, labels)

    def of(self, name: str, record: Record) -> Shaped[np.ndarray, " units"]:
        known = next((each for each in (name, record.key) if each in self.labels), None)
        if known is None:
            self.missing.append(name)
            return np.full(len(record), "", dtype=object)
        self.seen.add(known)
        values = self.labels[known]
        if len(values) != len(record):
            raise DataError(
                self.path,
                f"{known!r} has {len(values):,} labels here, and the record has {len(record):,} units",
                code="bad-label",
            )
        return np.array(["" if value is None else value for value in values], dtype=object)

    def check(self) -> list[str]:
        if self.missing:
            known = most_alike(self.missing[0], self.labels, SHOWN)
            raise DataError(
                self.path,
                f"lacks {len(self.missing):,} records of the data: {listed(self.missing)}; it has {known}",
                code="bad-label",
            )
        unused = [key for key in self.labels if key not in self.seen]
        return [f"{self.path}: {len(unused):,} records are not in the data: {listed(unused)}"] if unused else []


@dataclass
class BedLabels:
    """Stretches of records, from 0, the end excluded."""

    path: Path
    stretches: Mapping[str, Sequence[tuple[int, int, int, str]]]
    """By record: line, start, stop and class."""
    seen: set[str] = field(default_factory=set)

    @classmethod
    def read(cls, path: Path) -> "BedLabels":
        found: dict[str, list[tuple[int, int, int, str]]] = {}
        for number, text in enumerate(_text(path).splitlines(), 1):
            if not text.strip() or text.startswith(("#", "track", "browser")):
                continue
            cells = text.split("\t") if "\t" in text else text.split()
            try:
                start, stop = int(cells[1]), int(cells[2])
            except (IndexError, ValueError):
                problem = "is not a line of a BED file: a name, a start and an end are needed"
                raise DataError(path, problem, place=f"line {number}", code="malformed-data") from None
            if not 0 <= start < stop:
                raise DataError(
                    path, f"the stretch {start} to {stop} is empty", place=f"line {number}", code="malformed-data"
                )
            label = cells[3].strip() if len(cells) > 3 and cells[3].strip() not in ("", ".") else "1"
            found.setdefault(cells[0], []).append((number, start, stop, label))
        if not found:
            raise DataError(path, "lists no stretches", code="empty-data")
        return cls(path, found)

    def of(self, name: str, record: Record) -> Shaped[np.ndarray, " units"]:
        labels = np.full(len(record), BACKGROUND, dtype=object)
        known = next((each for each in (name, record.key) if each in self.stretches), None)
        if known is not None:
            self.seen.add(known)
            for line, start, stop, label in self.stretches[known]:
                if stop > len(record):
                    problem = f"the stretch ends at {stop:,}, but {name!r} has {len(record):,} units"
                    raise DataError(self.path, problem, place=f"line {line}", code="outside-record")
                before = labels[start:stop]
                if ((before != BACKGROUND) & (before != label)).any():
                    raise DataError(
                        self.path, "overlaps a stretch of another class", place=f"line {line}", code="bad-label"
                    )
                labels[start:stop] = label
        return labels

    def check(self) -> list[str]:
        unused = [key for key in self.stretches if key not in self.seen]
        if not self.seen:
            raise DataError(self.path, f"no record has a name that stands in it: {listed(unused)}", code="unknown-name")
        return [f"{self.path}: no record is called {listed(unused)}"] if unused else []


def listed(names: Collection[str]) -> str:
    """The first few names, for a message."""
    shown = ", ".join(list(names)[:SHOWN])
    return shown + f" and {len(names) - SHOWN:,} more" * (len(names) > SHOWN)


def _letters(path: Path) -> dict[str, Sequence[str | None]]:
    """For a FASTA file, whatever its letters are; nothing of other files. `.` and `-` are not labels."""
    try:
        with path.open("rb") as file:
            if file.read(1) != b">":
                return {}
    except OSError:  # `_text` says so
        pass
    found: dict[str, list[str | None]] = {}
    name = ""
    for number, line in enumerate(_text(path).splitlines(), 1):
        if line.startswith(">"):
            name = (line[1:].split() or [""])[0]
            if not name or name in found:
                problem = f"the name {name!r} is empty or stands twice"
                raise DataError(path, problem, place=f"line {number}", code="bad-label")
            found[name] = []
        else:
            found[name] += [None if letter in ".-" else letter for letter in line.strip()]
    return dict(found)


def _rows(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    """Line numbers and these columns of a delimited file."""
    text = _text(path)
    header = text.partition("\n")[0]
    delimiter = next((each for each in ("\t", ",", ";") if each in header), ",")
    reader = csv.reader(StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows = _read(reader, path)
    names = [name.strip() for name in next(rows, [])]
    for column in columns:
        if column not in names:
            raise DataError(
                path, f"has no column {column!r}\n\nhint: {nearest(column, names)}", place="line 1", code="unknown-name"
            )
    for row in rows:
        if not row:
            continue
        if len(row) != len(names):
            problem = f"has {len(row)} cell(s), the header {len(names)}"
            raise DataError(path, problem, place=f"line {reader.line_num}", code="malformed-data")
        yield reader.line_num, {column: row[names.index(column)].strip() for column in columns}


def _read(reader: Any, path: Path) -> Iterator[list[str]]:
    try:
        yield from reader
    except csv.Error as error:
        raise DataError(
            path, f"cannot be read as a table: {error}", place=f"line {reader.line_num}", code="malformed-data"
        ) from None


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise UsageError(f"{path}: there is no such file of labels", code="missing-file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(path, f"cannot be read as text ({error})", code="malformed-data") from None
