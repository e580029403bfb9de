"""Rows of CSV and TSV files: every line and every cell that did not change is copied as it was."""

import csv
import io
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from maskseq.errors import DataError
from maskseq.files import create
from maskseq.formats import distinct
from maskseq_events.case import Value
from maskseq_events.files import MARK, encoding_of, read_lines
from maskseq_events.headers import declared_delimiter, delimiter_of
from maskseq_events.row_files import Choose, RowFile

TriedLine = tuple[int, str, list[str] | DataError]
"""The number of a row's first line, its raw text, and its cells, or why it has none."""


@dataclass(frozen=True)
class CsvHeader:
    text: str
    """The header line as it is, with a byte order mark and blank lines if there are any."""
    delimiter: str
    encoding: str

    @property
    def end(self) -> str:
        """What ends the lines."""
        return "\r" if "\r" in self.text and "\n" not in self.text else "\n"


@dataclass(frozen=True, kw_only=True)
class DelimitedRows(RowFile):
    """A row a line, behind a header."""

    delimiter: str | None = None
    """Default: whichever of `,` `;` tab `|` cuts the header into most columns."""
    encoding: str = "utf-8"
    preamble: int = 0
    """Lines before the header that are no part of the table, such as a title."""
    units: bool = False
    """The row behind the header says units."""
    names: tuple[str, ...] = ()
    """Names of the columns, for a file without a header."""
    nothing: str = ""
    """What is written where there is no value."""

    def open(
        self, path: Path, choose: Choose
    ) -> tuple[Sequence[str], CsvHeader, Iterator[tuple[int, str, list[str] | DataError]]]:
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
        header = list(names)
        if self.units:
            text += _heading(rows)[0]
        if len(set(names)) < len(names):
            names = list(distinct(names))
        return names, CsvHeader(text, delimiter, encoding_of(path, self.encoding)), _without_asides(rows, header)

    def _rows(self, lines: "_Recorder", delimiter: str, path: Path, before_them: int) -> Iterator[TriedLine]:
        """Each row with the number of its first line and its raw text, blank lines behind it included."""
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        held: TriedLine | None = None
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

    def owns(self, header: object) -> bool:
        return isinstance(header, CsvHeader)

    def cells(self, raw: str, header: CsvHeader) -> Sequence[str]:
        return next(csv.reader(io.StringIO(raw, newline=""), delimiter=header.delimiter))

    def replaced(self, raw: str, changes: dict[int, Value], header: CsvHeader) -> str:
        spans = _spans(raw, header.delimiter)
        for index in sorted(changes, reverse=True):
            start, stop = spans[index]
            value = changes[index]
            cell = self.nothing if value is None else value
            raw = raw[:start] + _quoted(cell, header.delimiter) + raw[stop:]
        return raw

    def write(self, header: CsvHeader, rows: Sequence[tuple[int, str]], path: Path) -> None:
        with create(path) as file:
            file.write(header.text.encode(header.encoding))
            for i, (_, raw) in enumerate(rows, 1):
                unended = i < len(rows) and not raw.endswith(("\n", "\r"))  # the last line of the file that was read
                file.write((raw + header.end * unended).encode(header.encoding))


def first_row(raw: str, delimiter: str) -> str:
    """The text of a row without the lines behind it that belong to none."""
    lines = _Recorder(io.StringIO(raw, newline=""))
    next(csv.reader(lines, delimiter=delimiter), None)
    return lines.taken()


def is_aside(cells: Sequence[str], header: Sequence[str]) -> bool:
    """Whether a line behind the header is no row: the header again, or a comment."""
    if list(cells) == list(header):
        return True
    remark = cells[0].startswith("#") and (len(cells) == 1 or not cells[0][1:2].isalnum())
    return remark and len(cells) != len(header)


def _without_asides(rows: Iterator[TriedLine], header: Sequence[str]) -> Iterator[TriedLine]:
    """Rows with the lines behind them that are none, as with blank ones."""
    held: TriedLine | None = None
    for number, raw, cells in rows:
        if held is not None and not isinstance(cells, DataError) and is_aside(cells, header):
            held = held[0], held[1] + raw, held[2]
            continue
        if held is not None:
            yield held
        held = number, raw, cells
    if held is not None:
        yield held


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


def _heading(rows: Iterator[TriedLine]) -> tuple[str, list[str]]:
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
