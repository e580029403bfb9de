"""Sequences as a column of a CSV or TSV table (as in GUE), or one a line; everything else comes back verbatim."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from maskseq.errors import DataError
from maskseq.files import create
from maskseq.formats import Format, OnBroken, attempted, stop
from maskseq.survey import CERTAIN, Claim, Head
from maskseq_genomics.files import lines_of, read_text
from maskseq_genomics.layout import PRINTABLE
from maskseq_genomics.sequence import Sequence
from maskseq_genomics.survey import looks_like_a_sequence

DELIMITERS = (b",", b"\t", b";")


@dataclass(frozen=True, kw_only=True)
class Row(Sequence):
    """A line with a sequence in it."""

    before: bytes = field(default=b"", repr=False)
    """What stands in the line before the sequence, verbatim."""
    after: bytes = field(default=b"\n", repr=False)
    """What follows the sequence, verbatim, line end and blank lines included."""
    header: bytes = field(default=b"", repr=False)
    """The first line of the file, verbatim, where it names columns."""
    label: str = ""
    """The class of the sequence, where there is a column for it."""

    def group(self, attribute: str) -> str | None:
        """The value of a column of the table."""
        if attribute == "label" and self.label:
            return self.label
        header = self.header.removeprefix(b"\xef\xbb\xbf").rstrip(b"\r\n")
        line = (self.before + self.residues + self.after).rstrip(b"\r\n")
        for delimiter in DELIMITERS if header else ():
            names = [_value(cell) for cell in _cells(header, delimiter, Path(self.path), 1)]
            if attribute in names:
                return _value(_cells(line, delimiter, Path(self.path), self.line)[names.index(attribute)])
        return None

    def place(self, position: int) -> str:
        return f"line {self.line}, letter {position + 1:,} of the sequence" if self.line else super().place(position)


@dataclass(frozen=True)
class SequenceTable(Format[Sequence]):
    """Reads and writes tables whose first line names the columns, separated by comma, tab or semicolon."""

    column: str = "sequence"
    label: str = "label"
    """The column of classes, if there is one."""
    key: str = ""
    """The column that names the rows; without one, their number does, from 1."""

    @classmethod
    def recognize(cls, head: Head) -> Claim | None:
        """One column holds sequences in all rows."""
        if len(head.lines) < 2 or head.lines[0].startswith((">", "@", ";")):
            return None
        lines = [line.encode() for line in head.lines[:200]]
        for delimiter in DELIMITERS:
            try:
                names, *rows = ([_value(c) for c in _cells(line, delimiter, head.path, 0)] for line in lines)
            except DataError:  # quotes that this delimiter tears apart
                continue
            if any(len(row) != len(names) for row in rows) or len(set(names)) < len(names):
                continue
            for name, column in zip(names, zip(*rows, strict=True), strict=True):
                filled = [cell for cell in column if cell]
                if filled and all(map(looks_like_a_sequence, filled)) and not looks_like_a_sequence(name):
                    options = {} if name == "sequence" else {"column": name}
                    return Claim(strength=CERTAIN, why=f"column {name!r} holds sequences", options=options)
        return None

    def read(self, path: Path) -> Iterator[Row]:
        return self._read(path, stop)

    def attempts(self, path: Path) -> Iterator[Row | DataError]:
        return attempted(lambda on_broken: self._read(path, on_broken))

    def _read(self, path: Path, on_broken: OnBroken) -> Iterator[Row]:
        mark, lines = _lines(path)
        first, header, header_end = next(lines)
        delimiter, names = self._columns(header, path, first)
        column, number = names.index(self.column), 0
        for number, (line, text, end) in enumerate(lines, 1):
            try:
                cells = _cells(text, delimiter, path, line)
                if len(cells) != len(names):
                    raise DataError(path, f"has {len(cells)} cell(s), the header {len(names)}", place=f"line {line}")
                start = sum(map(len, cells[:column])) + column
                before, residues, after = _around(text, start, start + len(cells[column]), path, line)
            except DataError as error:
                error.kept = text + end
                on_broken(error)
                continue
            values = dict(zip(names, map(_value, cells), strict=True)) if self.key or self.label in names else {}
            yield Row(
                key=values[self.key] if self.key else str(number),
                residues=residues,
                path=str(path),
                line=line,
                before=before,
                after=after + end,
                header=mark + header + header_end,
                label=values.get(self.label, ""),
            )
        if not number:
            raise DataError(path, "has a header but no rows")

    def _columns(self, header: bytes, path: Path, line: int) -> tuple[bytes, list[str]]:
        """What separates the columns, and their names."""
        for delimiter in DELIMITERS:
            names = [_value(cell) for cell in _cells(header, delimiter, path, line)]
            if self.column in names and (not self.key or self.key in names):
                return delimiter, names
        wanted = " or ".join(repr(name) for name in (self.column, self.key) if name)
        found = header[:60].decode(errors="backslashreplace")
        problem = f"has no column {wanted}, but {found!r}; name the right one as the format's option column or key"
        raise DataError(path, problem, place=f"line {line}")

    def write(self, records: Iterable[Sequence | DataError], path: Path) -> None:
        _write(records, path, header=self.column.encode() + b"\n")


@dataclass(frozen=True)
class SequenceLines(Format[Sequence]):
    """Reads and writes text files of one sequence a line, which is named by its line number."""

    @classmethod
    def recognize(cls, head: Head) -> Claim | None:
        if head.lines and all(looks_like_a_sequence(line.strip()) for line in head.lines[:200]):
            return Claim(strength=CERTAIN, why="a sequence a line")
        return None

    def read(self, path: Path) -> Iterator[Row]:
        return self._read(path, stop)

    def attempts(self, path: Path) -> Iterator[Row | DataError]:
        return attempted(lambda on_broken: self._read(path, on_broken))

    def _read(self, path: Path, on_broken: OnBroken) -> Iterator[Row]:
        mark, lines = _lines(path)
        for line, text, end in lines:
            own, mark = mark, b""
            try:
                before, residues, after = _around(text, 0, len(text), path, line)
            except DataError as error:
                error.kept = own + text + end
                on_broken(error)
                continue
            before = own + before
            yield Row(key=str(line), residues=residues, path=str(path), line=line, before=before, after=after + end)

    def write(self, records: Iterable[Sequence | DataError], path: Path) -> None:
        _write(records, path, header=b"")


def _lines(path: Path) -> tuple[bytes, Iterator[tuple[int, bytes, bytes]]]:
    """What stands before the first line that is not blank, and the lines from there on."""
    mark, blocks = read_text(path)
    lines, before = lines_of(blocks), [mark]
    for number, line in enumerate(lines, 1):
        if line.strip():
            return b"".join(before), _numbered(chain([line], lines), number)
        before.append(line)
    raise DataError(path, "has only blank lines")


def _numbered(lines: Iterable[bytes], first: int) -> Iterator[tuple[int, bytes, bytes]]:
    """Number, text and line end of each line; blank lines count to the line end before them."""
    pending: tuple[int, bytes, bytes] | None = None
    for number, raw in enumerate(lines, first):
        if pending is not None and not raw.strip():
            pending = (*pending[:2], pending[2] + raw)
            continue
        if pending is not None:
            yield pending
        text = raw.rstrip(b"\r\n")
        pending = number, text, raw[len(text) :]
    if pending is not None:
        yield pending


def _cells(text: bytes, delimiter: bytes, path: Path, line: int) -> list[bytes]:
    """The cells of a line, verbatim; a delimiter between quotes separates nothing."""
    cells: list[bytes] = []
    for piece in text.split(delimiter):
        if cells and cells[-1].count(b'"') % 2:
            cells[-1] += delimiter + piece
        else:
            cells.append(piece)
    if cells[-1].count(b'"') % 2:
        raise DataError(path, "a quote is not closed in its line", place=f"line {line}")
    return cells


def _value(cell: bytes) -> str:
    """What a cell says, without quotes."""
    text = cell.strip().decode(errors="backslashreplace")
    return text[1:-1].replace('""', '"') if len(text) > 1 and text[0] == text[-1] == '"' else text


def _around(text: bytes, start: int, stop: int, path: Path, line: int) -> tuple[bytes, bytes, bytes]:
    """What is before the sequence in the cell `start:stop` of a line, the sequence, and what is after it."""
    residues = text[start:stop].strip(b' \t"')
    if not residues:  # it would stand between the quotes, if there are any
        first = start + text[start:stop].find(b'"') + 1
        return text[:first], b"", text[first:]
    if not residues.isalpha() and residues.translate(None, PRINTABLE):
        raise DataError(path, "the sequence has characters that are no letters", place=f"line {line}")
    first = text.index(residues, start, stop)
    return text[:first], residues, text[first + len(residues) :]


def _write(records: Iterable[Sequence | DataError], path: Path, *, header: bytes) -> None:
    started = False
    kept: list[bytes] = []  # of rows that come before the first record, which has the header
    with create(path) as file:
        for record in records:
            if isinstance(record, DataError):
                kept.append(record.kept)
                continue
            row = record if isinstance(record, Row) else Row(key=record.key, residues=record.residues, header=header)
            file.write(b"".join([b"" if started else row.header, *kept, row.before, row.residues, row.after]))
            started = True
            kept.clear()
        file.write(b"".join(kept))
