"""FASTA, plain or gzipped: records are streamed, and what is not changed is written back byte for byte."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

from maskseq.errors import DataError
from maskseq.files import create
from maskseq.formats import ADDED, Format, OnBroken, attempted, stop
from maskseq.survey import CERTAIN, Claim, Head
from maskseq_genomics import layout
from maskseq_genomics.files import read_text
from maskseq_genomics.layout import PRINTABLE, SPACE
from maskseq_genomics.sequence import Sequence

__all__ = ["Fasta", "FastaSequence", "Sequence"]

WIDTH = 60  # residues a line where no file says otherwise
CIRCULAR = re.compile(rb"(?i)\b(?:circular=(?:true|yes|y)\b|topology[=:] ?circular\b)")
"""How assemblers (`circular=true`) and GenBank (`[topology=circular]`) say so in a header."""
CONTROL = bytes(b for b in range(0x20) if b != ord("\t")) + b"\x7f"


@dataclass(frozen=True, kw_only=True)
class FastaSequence(Sequence):
    """A FASTA record and how it was laid out. The key is the first word of the header."""

    header: bytes
    """The header line, verbatim, without `>` and line end."""
    before: bytes = b""
    """What stands before the `>`: with a file's first record, its byte-order mark, comments and blank lines."""
    width: int = WIDTH
    """Residues a line."""
    newline: bytes = b"\n"
    end: bytes = b"\n"
    """What follows the last residue, comments and blank lines included; empty when the file ends without a line end."""
    body: bytes | None = field(default=None, repr=False)
    """For records with lines of unequal length, blank lines, blanks or comments (lines that begin with `;`): the lines
    verbatim; None for regular ones."""

    @property
    def description(self) -> str:
        """The header after the first word."""
        _, _, rest = self.header.strip().partition(self.header.split()[0])
        return rest.decode(errors="backslashreplace").strip()

    def place(self, position: int) -> str:
        if self.body is None:
            line, column = divmod(position, self.width)
        else:
            line, column = layout.place(self.body, position, self.newline[-1:])
        if not self.line:
            return super().place(position)
        return f"line {self.line + 1 + line}, column {column + 1} (record {self.key!r}, position {position + 1:,})"


@dataclass(frozen=True)
class Fasta(Format[Sequence]):
    """Reads and writes FASTA; residues may be any printable text, which the tokenizer judges."""

    circular: Literal["header", "all", "none"] = field(default="header", metadata=ADDED)
    """Which records are circles: those whose header says `circular=true` or `topology=circular`, all, or none. Bases
    are then learned, filled, scored and embedded across the origin, and `--mask plasmid:4990-10` hides what lies around
    it."""

    suffixes: ClassVar[tuple[str, ...]] = (".fa", ".fasta", ".fna", ".ffn", ".frn", ".faa", ".fas")

    @classmethod
    def recognize(cls, head: Head) -> Claim | None:
        lines = [line for line in head.lines if not line.startswith(";")]
        if not (lines and lines[0].startswith(">")):
            return super().recognize(head)
        return Claim(strength=CERTAIN, why="it begins with '>'")

    def read(self, path: Path) -> Iterator[FastaSequence]:
        return self._read(path, stop)

    def attempts(self, path: Path) -> Iterator[FastaSequence | DataError]:
        return attempted(lambda on_broken: self._read(path, on_broken))

    def _read(self, path: Path, on_broken: OnBroken) -> Iterator[FastaSequence]:
        mark, blocks = read_text(path)
        first = next(blocks)
        end = layout.line_end(first)
        before, blocks = layout.preamble(chain([first], blocks), end)
        line, before = 1 + before.count(end), mark + before
        for text in _texts(blocks, path, end, line):
            try:
                record = _parse(text, end, before=before, path=str(path), line=line)
            except DataError as error:
                error.kept = b"".join([before, b">", *text])
                on_broken(error)
            else:
                says = CIRCULAR.search(record.header) is not None if self.circular == "header" else None
                circular = self.circular == "all" if says is None else says
                yield replace(record, circular=True) if circular else record
            before = b""
            line += text.n_lines(end)

    def write(self, records: Iterable[Sequence | DataError], path: Path) -> None:
        with create(path) as file:
            for record in records:
                file.write(record.kept if isinstance(record, DataError) else _written(record))


class _Text(NamedTuple):
    """A record as it stands in a file, without the `>`."""

    header: bytes
    after_header: bytes
    """The end of the header's line; nothing where no line follows."""
    body: bytes
    last: bytes
    """The end of the last line, which a file may lack."""

    def n_lines(self, end: bytes) -> int:
        return 1 + bool(self.after_header) + self.body.count(end)


def _texts(blocks: Iterator[bytes], path: Path, end: bytes, line: int) -> Iterator[_Text]:
    """The records of a file whose first header is in line number `line`."""
    pieces: list[bytes] = []
    held = b""  # a line end at the end of a block: the next block may begin with `>`
    for block in blocks:
        if not pieces:
            if not block.startswith(b">"):
                found = block.split(end, 1)[0][:40].decode(errors="backslashreplace").strip()
                problem = f"expected a header line that begins with '>', found {found!r}"
                raise DataError(path, problem, place=f"line {line}")
            block = block[1:]
        text = (held + block).removesuffix(end)
        held = end if block.endswith(end) else b""
        first, *others = text.split(end + b">") if b">" in text else [text]  # one byte is found faster than two
        pieces.append(first)
        for other in others:
            yield _Text(*_join(pieces, end), end)
            pieces = [other]
    if not pieces:
        raise DataError(path, "has no records, only comments and blank lines")
    yield _Text(*_join(pieces, end), held)


def _join(pieces: list[bytes], end: bytes) -> tuple[bytes, bytes, bytes]:
    if end not in pieces[0]:
        pieces = [b"".join(pieces)]
    header, after, first = pieces[0].partition(end)
    return header, after, b"".join([first, *pieces[1:]])


def _parse(text: _Text, end: bytes, *, before: bytes, path: str, line: int) -> FastaSequence:
    header = text.header.removesuffix(b"\r")
    newline = text.header[len(header) :] + (text.after_header or text.last)
    if len(header.translate(None, CONTROL)) < len(header):
        problem = "the header has control characters; is this a text file?"
        if b"\r" in header:
            problem = "some lines end in a lone carriage return; convert the file to Unix line ends"
        raise DataError(path, problem, place=f"line {line}")
    words = header.split(None, 1)
    if not words:
        raise DataError(path, "the header has no name; write one after the '>'", place=f"line {line}")

    lines = layout.without_comments(text.body, end)
    content = text.body[: len(lines.rstrip(SPACE))]
    residues = lines.translate(None, SPACE)
    if not residues.isalpha() and residues.translate(None, PRINTABLE):
        raise _unprintable(lines, end, path=path, line=line)
    width = content.find(newline) if newline else 0
    width = width if width > 0 else len(residues) or WIDTH
    return FastaSequence(
        key=words[0].decode(errors="backslashreplace"),
        residues=residues,
        path=path,
        line=line,
        header=header,
        before=before,
        width=width,
        newline=newline,
        end=text.body[len(content) :] + (text.last if text.after_header else b""),
        body=None if layout.is_wrapped(content, len(residues), width, newline) else content,
    )


def _unprintable(body: bytes, end: bytes, *, path: str, line: int) -> DataError:
    at = next(i for i, byte in enumerate(body) if byte not in PRINTABLE and byte not in SPACE)
    above, column = body.count(end, 0, at), at - body.rfind(end, 0, at)
    problem = f"byte 0x{body[at]:02x} in a sequence; is this a text file?"
    if body[at] == ord(">"):
        problem = "'>' inside a sequence; the line break before a header is missing"
    return DataError(path, problem, place=f"line {line + 1 + above}, column {column}")


def _written(record: Sequence) -> bytes:
    """The record as it stands in a file."""
    if not isinstance(record, FastaSequence):
        record = FastaSequence(key=record.key, residues=record.residues, header=record.key.encode())
    content = layout.laid_out(record.residues, width=record.width, newline=record.newline, body=record.body)
    return b"".join([record.before, b">", record.header, record.newline, content, record.end])
