"""Event logs in CSV and TSV."""

import csv
import io
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

from maskseq.errors import DataError, UsageError
from maskseq.files import create
from maskseq.formats import ADDED, distinct
from maskseq.survey import Claim, Head
from maskseq_events.case import Case, Value, plain_rows
from maskseq_events.claims import claim_table, with_options
from maskseq_events.files import MARK, encoding_of, read_lines
from maskseq_events.headers import are_units, declared_delimiter, delimiter_of, table_start
from maskseq_events.new_table import NewTable
from maskseq_events.rows import Rows, Tried
from maskseq_events.table import EventTable


@dataclass(frozen=True)
class _CsvHeader:
    text: str
    """The header line as it is, with a byte order mark and blank lines if there are any."""
    delimiter: str
    encoding: str

    @property
    def end(self) -> str:
        """What ends the lines."""
        return "\r" if "\r" in self.text and "\n" not in self.text else "\n"


@dataclass(frozen=True, kw_only=True)
class Csv(EventTable):
    """Event logs in CSV or TSV, one row an event, with a header.

    A first line `sep=;`, as spreadsheets write it, names the delimiter.

    A column name that occurs again gets a number: `Variant`, `Variant#2`. Written back, every line and every cell
    that did not change is copied from the file as it was, quotes and line ends included.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".csv", ".tsv")
    dress = MappingProxyType({"delimiter": (None,), "decimal": (".", ","), "encoding": ("utf-8", "cp1252")})

    delimiter: str | None = None
    """Default: whichever of `,` `;` tab `|` cuts the header into most columns."""
    encoding: str = "utf-8"
    preamble: int = field(default=0, metadata=ADDED)
    """Lines before the header that are no part of the table, such as a title."""
    units: bool = field(default=False, metadata=ADDED)
    """The row behind the header says units, and is no event."""
    names: tuple[str, ...] = field(default=(), metadata=ADDED)
    """Names of the columns, for a file without a header."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.delimiter is not None and len(self.delimiter) != 1:
            raise UsageError(f"delimiter must be one character, not {self.delimiter!r}")

    @classmethod
    def recognize(cls, head: Head) -> Claim | None:
        if not head.name.endswith((*cls.suffixes, ".txt")) or not head.lines:
            return None
        skipped, lines = table_start(head)
        try:
            names, *rows = csv.reader(lines, delimiter=delimiter_of(lines[0]), strict=True)
        except csv.Error:
            return super().recognize(head)
        units = are_units(rows)
        claim = claim_table(list(distinct(names)), plain_rows(rows[units:]), super().recognize(head))
        claim = claim and with_options(
            claim, **{"preamble": skipped} if skipped else {}, **{"units": True} if units else {}
        )
        return claim and claim.encoded(head)

    def _open(self, path: Path) -> tuple[Sequence[str], _CsvHeader, Iterator[Tried]]:
        read = read_lines(path, self.encoding)
        skipped = list(itertools.islice(read, self.preamble))
        first = next(read, "")
        declared = declared_delimiter(first)
        if declared:
            skipped.append(first)
            first = next(read, "")
        delimiter = self.delimiter or declared or delimiter_of(first)
        rows = self._rows(_Recorder(itertools.chain([first] if first else [], read)), delimiter, path, len(skipped))
        text, names = "".join(skipped), list(self.names)
        if not names:
            line, names = _heading(rows)
            text += line
        if not names:
            raise DataError(path, "the file is empty")
        names[0] = names[0].removeprefix(MARK)
        if self.units:
            text += _heading(rows)[0]
        if len(set(names)) < len(names):
            names = list(distinct(names))
        return names, _CsvHeader(text, delimiter, encoding_of(path, self.encoding)), rows

    def _rows(
        self, lines: "_Recorder", delimiter: str, path: Path, before_them: int
    ) -> Iterator[tuple[int, str, list[str] | DataError]]:
        """Each row with the number of its first line and its raw text, blank lines behind it included."""
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        held: tuple[int, str, list[str] | DataError] | None = None
        number, before = before_them + 1, ""
        while True:
            cells: list[str] | DataError | None
            try:
                cells = next(reader, None)
            except csv.Error as error:
                hint = " (a quote is opened and never closed)" if "unexpected end" in str(error) else ""
                cells = DataError(path, f"not valid CSV: {error}{hint}", place=f"line {number}")
            if cells is None:
                break
            raw, before = before + lines.taken(), ""
            if not cells and held is not None:
                held = (held[0], held[1] + raw, held[2])
            elif cells:
                if held is not None:
                    yield held
                held = (number, raw, cells)
            else:  # blank lines before the header
                before = raw
            number = before_them + reader.line_num + 1
        if held is not None:
            yield held

    def _owns(self, origin: Rows) -> bool:
        return isinstance(origin.header, _CsvHeader)

    def _cells(self, raw: str, header: _CsvHeader) -> Sequence[str]:
        return next(csv.reader(io.StringIO(raw, newline=""), delimiter=header.delimiter))

    def _replaced(self, raw: str, changes: dict[int, Value], header: _CsvHeader) -> str:
        spans = _spans(raw, header.delimiter)
        for index in sorted(changes, reverse=True):
            start, stop = spans[index]
            value = changes[index]
            cell = self.absent[0] if value is None else value
            raw = raw[:start] + _quoted(cell, header.delimiter) + raw[stop:]
        return raw

    def _beside(self, raw: str, header: _CsvHeader) -> str:
        line = raw.rstrip("\r\n")
        return line + ("\r\n" if raw[len(line) :].startswith("\r\n") else header.end)

    def _write_rows(self, header: _CsvHeader, rows: Sequence[tuple[int, str]], path: Path) -> None:
        with create(path) as file:
            file.write(header.text.encode(header.encoding))
            for i, (_, raw) in enumerate(rows, 1):
                unended = i < len(rows) and not raw.endswith(("\n", "\r"))  # the last line of the file that was read
                file.write((raw + header.end * unended).encode(header.encoding))

    def _write_new(self, cases: Sequence[Case], path: Path) -> None:
        table = NewTable(cases)
        delimiter = self.delimiter or ("\t" if ".tsv" in path.name.lower() else ",")
        text = io.StringIO(newline="")
        writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")
        writer.writerow(table.names)
        writer.writerows(["" if value is None else value for value in row.values()] for row in table.rows())
        with create(path) as file:
            file.write(text.getvalue().encode(self.encoding))


class _Recorder:
    """Lines for `csv.reader` that can tell which text the last row was made of."""

    def __init__(self, lines: Iterable[str]) -> None:
        self.lines = iter(lines)
        self.used: list[str] = []

    def __iter__(self) -> "_Recorder":
        return self

    def __next__(self) -> str:
        line = next(self.lines)
        self.used.append(line)
        return line

    def taken(self) -> str:
        text = "".join(self.used)
        self.used.clear()
        return text


def _heading(rows: Iterator[tuple[int, str, list[str] | DataError]]) -> tuple[str, list[str]]:
    """The text and the cells of the next row, which must be valid."""
    _, text, cells = next(rows, (0, "", []))
    if isinstance(cells, DataError):
        raise cells
    return text, cells


def _spans(raw: str, delimiter: str) -> list[tuple[int, int]]:
    """Where each cell of a row stands in its text."""
    cell = re.compile(rf'"(?:[^"]|"")*"|[^{re.escape(delimiter)}\r\n]*')
    spans, position = [], 0
    while True:
        match = cell.match(raw, position)
        assert match is not None
        spans.append(match.span())
        position = match.end()
        if raw[position : position + 1] != delimiter:
            return spans
        position += 1


def _quoted(text: str, delimiter: str) -> str:
    if any(character in text for character in (delimiter, '"', "\r", "\n")):
        return '"' + text.replace('"', '""') + '"'
    return text
