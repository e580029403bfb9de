"""FASTA, plain or gzipped: records are streamed, and what is not changed is written back byte for byte."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np

from maskseq.errors import DataError
from maskseq.files import create
from maskseq.survey import CERTAIN, Claim, Head
from maskseq.tokenizer import Format, OnBroken, attempted, stop
from maskseq_genomics.files import read_text
from maskseq_genomics.sequence import Sequence

__all__ = ["Fasta", "FastaSequence", "Sequence"]

WIDTH = 60  # residues a line where no file says otherwise
SPACE = b" \t\r\n"
PRINTABLE = bytes(b for b in range(0x21, 0x7F) if b != ord(">"))
CONTROL = bytes(b for b in range(0x20) if b != ord("\t")) + b"\x7f"
IS_SPACE = np.isin(np.arange(256), list(SPACE))


@dataclass(frozen=True, kw_only=True)
class FastaSequence(Sequence):
    """A FASTA record and how it was laid out. The key is the first word of the header."""

    header: bytes
    """The header line, verbatim, without `>` and line end."""
    before: bytes = b""
    """What stands before the `>`: the byte-order mark of a file, with its first record."""
    width: int = WIDTH
    """Residues a line."""
    newline: bytes = b"\n"
    end: bytes = b"\n"
    """What follows the last residue; empty when the file ends without a line end."""
    body: bytes | None = field(default=None, repr=False)
    """For records with lines of unequal length, blank lines or blanks: the lines verbatim; None for regular ones."""

    @property
    def description(self) -> str:
        """The header after the first word."""
        _, _, rest = self.header.strip().partition(self.header.split()[0])
        return rest.decode(errors="backslashreplace").strip()

    def place(self, position: int) -> str:
        if self.body is None:
            line, column = divmod(position, self.width)
        else:
            at = int(np.flatnonzero(~IS_SPACE[np.frombuffer(self.body, np.uint8)])[position])
            line, column = self.body.count(b"\n", 0, at), at - (self.body.rfind(b"\n", 0, at) + 1)
        if not self.line:
            return super().place(position)
        return f"line {self.line + 1 + line}, column {column + 1} (record {self.key!r}, position {position + 1:,})"


@dataclass(frozen=True)
class Fasta(Format[Sequence]):
    """Reads and writes FASTA; residues may be any printable text, which the tokenizer judges."""

    suffixes: ClassVar[tuple[str, ...]] = (".fa", ".fasta", ".fna", ".ffn", ".frn", ".faa", ".fas")

    @classmethod
    def recognize(cls, head: Head) -> Claim | None:
        if not head.content.startswith(b">"):
            return super().recognize(head)
        return Claim(strength=CERTAIN, why="it begins with '>'")

    def read(self, path: Path) -> Iterator[FastaSequence]:
        return self._read(path, stop)

    def attempts(self, path: Path) -> Iterator[FastaSequence | DataError]:
        return attempted(lambda on_broken: self._read(path, on_broken))

    def _read(self, path: Path, on_broken: OnBroken) -> Iterator[FastaSequence]:
        line = 1
        before, blocks = read_text(path)
        for header, break_, body, newline in _texts(blocks, path):
            own = before if line == 1 else b""
            try:
                record = _parse(header, body, newline, before=own, path=str(path), line=line)
            except DataError as error:
                error.kept = b"".join([own, b">", header, break_, body, newline])
                on_broken(error)
            else:
                yield record
            line += body.count(b"\n") + len(break_) + 1

    def write(self, records: Iterable[Sequence | DataError], path: Path) -> None:
        with create(path) as file:
            for record in records:
                file.write(record.kept if isinstance(record, DataError) else _lay_out(record))


def _texts(blocks: Iterator[bytes], path: Path) -> Iterator[tuple[bytes, bytes, bytes, bytes]]:
    """Of each record, the header without `>`, the newline behind it, if another line follows, the lines after it, and
    the last newline, which a file may lack.
    """
    pieces: list[bytes] = []
    held = b""  # a newline at the end of a block: the next block may begin with `>`
    for block in blocks:
        if not pieces:
            if not block.startswith(b">"):
                line = block.split(b"\n", 1)[0][:40].decode(errors="backslashreplace").strip()
                raise DataError(path, f"expected a header line that begins with '>', found {line!r}", place="line 1")
            block = block[1:]
        text = (held + block).removesuffix(b"\n")
        held = b"\n" if block.endswith(b"\n") else b""
        first, *others = text.split(b"\n>") if b">" in text else [text]  # one byte is found faster than two
        pieces.append(first)
        for other in others:
            yield *_join(pieces), b"\n"
            pieces = [other]
    yield *_join(pieces), held


def _join(pieces: list[bytes]) -> tuple[bytes, bytes, bytes]:
    if b"\n" not in pieces[0]:
        pieces = [b"".join(pieces)]
    header, break_, first = pieces[0].partition(b"\n")
    return header, break_, b"".join([first, *pieces[1:]])


def _parse(header: bytes, body: bytes, last_newline: bytes, *, before: bytes, path: str, line: int) -> FastaSequence:
    newline = b"\r\n" if header.endswith(b"\r") else b"\n"
    header = header.removesuffix(b"\r")
    if len(header.translate(None, CONTROL)) < len(header):
        problem = "the header has control characters; is this a text file?"
        if b"\r" in header:
            problem = "the lines end in a lone carriage return; convert the file to Unix line ends"
        raise DataError(path, problem, place=f"line {line}")
    words = header.split(None, 1)
    if not words:
        raise DataError(path, "the header has no name; write one after the '>'", place=f"line {line}")
    key = words[0].decode(errors="backslashreplace")

    content = body.rstrip(SPACE)
    residues = content.translate(None, SPACE)
    if not residues:
        raise DataError(path, f"record {key!r} has no sequence; remove it or complete it", place=f"line {line}")
    if not residues.isalpha() and residues.translate(None, PRINTABLE):
        raise _unprintable(content, path=path, line=line)
    width = content.find(newline)
    width = width if width > 0 else len(residues)
    return FastaSequence(
        key=key,
        residues=residues,
        path=path,
        line=line,
        header=header,
        before=before,
        width=width,
        newline=newline,
        end=body[len(content) :] + last_newline,
        body=None if _is_regular(content, len(residues), width, newline) else content,
    )


def _is_regular(content: bytes, n_residues: int, width: int, newline: bytes) -> bool:
    """Whether `content` is what `_wrap` makes of its residues."""
    if n_residues == len(content):
        return True
    n_breaks = (n_residues - 1) // width
    line = width + len(newline)
    return len(content) - n_residues == n_breaks * len(newline) and all(
        content[width + i :: line] == newline[i : i + 1] * n_breaks for i in range(len(newline))
    )  # so all the space there is lies where the breaks belong


def _unprintable(body: bytes, *, path: str, line: int) -> DataError:
    at = next(i for i, byte in enumerate(body) if byte not in PRINTABLE and byte not in SPACE)
    above, column = body.count(b"\n", 0, at), at - body.rfind(b"\n", 0, at)
    problem = f"byte 0x{body[at]:02x} in a sequence; is this a text file?"
    if body[at] == ord(">"):
        problem = "'>' inside a sequence; the line break before a header is missing"
    return DataError(path, problem, place=f"line {line + 1 + above}, column {column}")


def _lay_out(record: Sequence) -> bytes:
    """The record as it stands in a file."""
    if not isinstance(record, FastaSequence):
        record = FastaSequence(key=record.key, residues=record.residues, header=record.key.encode())
    body = record.body
    if body is None or len(body.translate(None, SPACE)) != len(record):
        content = _wrap(record.residues, record.width, record.newline)
    else:
        letters = np.frombuffer(body, np.uint8).copy()
        letters[~IS_SPACE[letters]] = np.frombuffer(record.residues, np.uint8)
        content = letters.tobytes()
    return b"".join([record.before, b">", record.header, record.newline, content, record.end])


def _wrap(residues: bytes, width: int, newline: bytes) -> bytes:
    """Break into lines of `width`; the last one has no line end."""
    if len(residues) <= width:
        return residues
    n_lines = (len(residues) - 1) // width  # whole lines that another one follows
    lines = np.empty((n_lines, width + len(newline)), np.uint8)
    lines[:, :width] = np.frombuffer(residues, np.uint8, n_lines * width).reshape(n_lines, width)
    lines[:, width:] = np.frombuffer(newline, np.uint8)
    return lines.tobytes() + residues[n_lines * width :]
