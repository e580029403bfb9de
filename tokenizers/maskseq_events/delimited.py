"""Event logs in CSV and TSV."""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from maskseq.errors import DataError, UsageError
from maskseq.files import create
from maskseq.names import distinct
from maskseq.survey import Claim, Head
from maskseq_events.case import Case, Value, plain_rows
from maskseq_events.claims import claim_table
from maskseq_events.files import encoding_of, read_lines
from maskseq_events.new_table import NewTable
from maskseq_events.rows import Row, Rows
from maskseq_events.table import EventTable


@dataclass(frozen=True)
class _Header:
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

    A column name that occurs again gets a number: `Variant`, `Variant#2`. Written back, every line and every cell
    that did not change is copied from the file as it was, quotes and line ends included.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".csv", ".tsv")

    delimiter: str | None = None
    """Default: whichever of `,` `;` tab `|` cuts the header into most columns."""
    encoding: str = "utf-8"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.delimiter is not None and len(self.delimiter) != 1:
            raise UsageError(f"delimiter must be one character, not {self.delimiter!r}")

    @classmethod
    def recognize(cls, head: Head) -> Claim | None:
        if not head.name.endswith((*cls.suffixes, ".txt")) or not head.lines:
            return None
        try:
            names, *rows = csv.reader(head.lines, delimiter=_delimiter(head.lines[0]), strict=True)
        except csv.Error:
            return super().recognize(head)
        claim = claim_table(list(distinct(names)), plain_rows(rows), super().recognize(head), lines=True)
        return claim and claim.encoded(head)

    def _open(self, path: Path) -> tuple[Sequence[str], _Header, Iterator[Row]]:
        lines = _Recorder(read_lines(path, self.encoding))
        first = next(lines, "")
        delimiter = self.delimiter or _delimiter(first)
        rows = self._rows(lines.again(first), delimiter, path)
        _, text, names = next(rows, (0, "", []))
        if not names:
            raise DataError(path, "the file is empty")
        names[0] = names[0].removeprefix("\ufeff")
        if len(set(names)) < len(names):
            names = list(distinct(names))
        return names, _Header(text, delimiter, encoding_of(path, self.encoding)), rows

    def _rows(self, lines: "_Recorder", delimiter: str, path: Path) -> Iterator[tuple[int, str, list[str]]]:
        """Each row with the number of its first line and its raw text, blank lines behind it included."""
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        held: tuple[int, str, list[str]] | None = None
        number, before = 1, ""
        try:
            for cells in reader:
                raw, before = before + lines.taken(), ""
                if not cells and held is not None:
                    held = (held[0], held[1] + raw, held[2])
                elif cells:
                    if held is not None:
                        yield held
                    held = (number, raw, cells)
                else:  # blank lines before the header
                    before = raw
                number = reader.line_num + 1
        except csv.Error as error:
            hint = " (a quote is opened and never closed)" if "unexpected end" in str(error) else ""
            raise DataError(path, f"not valid CSV: {error}{hint}", place=f"line {number}") from None
        if held is not None:
            yield held

    def _owns(self, origin: Rows) -> bool:
        return isinstance(origin.header, _Header)

    def _cells(self, raw: str, header: _Header) -> Sequence[str]:
        return next(csv.reader(io.StringIO(raw, newline=""), delimiter=header.delimiter))

    def _replaced(self, raw: str, changes: dict[int, Value], header: _Header) -> str:
        spans = _spans(raw, header.delimiter)
        for index in sorted(changes, reverse=True):
            start, stop = spans[index]
            value = changes[index]
            cell = self.absent[0] if value is None else value
            raw = raw[:start] + _quoted(cell, header.delimiter) + raw[stop:]
        return raw

    def _beside(self, raw: str, header: _Header) -> str:
        line = raw.rstrip("\r\n")
        return line + ("\r\n" if raw[len(line) :].startswith("\r\n") else header.end)

    def _write_rows(self, header: _Header, rows: Sequence[tuple[int, str]], path: Path) -> None:
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

    def again(self, first: str) -> "_Recorder":
        """From the start, of which `first` was taken."""
        return _Recorder(line for part in ([first], self.lines) for line in part if line)

    def taken(self) -> str:
        text = "".join(self.used)
        self.used.clear()
        return text


def _delimiter(header: str) -> str:
    plain = re.sub(r'"[^"]*"', "", header)
    counts = Counter({delimiter: plain.count(delimiter) for delimiter in ",;\t|"})
    return counts.most_common(1)[0][0]


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
