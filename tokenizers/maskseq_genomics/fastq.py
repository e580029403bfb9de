"""FASTQ, plain or gzipped: reads of any number of lines, streamed and written back byte for byte."""

import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import UInt8

from maskseq.errors import DataError, UsageError
from maskseq.files import create
from maskseq.formats import Format, OnBroken, attempted, stop
from maskseq.survey import CERTAIN, Claim, Head
from maskseq_genomics import layout
from maskseq_genomics.files import lines_of, read_text
from maskseq_genomics.layout import PRINTABLE, SPACE
from maskseq_genomics.sequence import Sequence

QUALITIES = bytes(range(0x21, 0x7F))
LINE_END = b"\r\n"
LOOK_AHEAD = 256  # lines that are read at a time
FIRST_READ = re.compile(rb"\s*@[^\r\n]*(?:\r\n?|\n)(?:[^@+]*[\r\n])?\+")


@dataclass(frozen=True, kw_only=True)
class Read(Sequence):
    """A read and its qualities, which stay as they are when its bases are filled. The key is the name's first word."""

    header: bytes
    """The first line, verbatim, without `@` and line end."""
    before: bytes = b""
    """What stands before the `@`: with a file's first read, its byte-order mark and blank lines."""
    newline: bytes = b"\n"
    """The end of the first line."""
    body: bytes | None = field(default=None, repr=False)
    """The lines of the bases, verbatim, where they are more than one."""
    rest: bytes = field(repr=False)
    """What follows the bases, verbatim: the line that begins with `+`, the qualities, line ends, blank lines."""

    @property
    def qualities(self) -> UInt8[np.ndarray, "length"]:
        """The Phred quality of each base (offset 33)."""
        _, *lines = re.split(rb"[\r\n]", self.rest.lstrip(SPACE))  # without the line that begins with `+`
        return np.frombuffer(b"".join(lines).translate(None, SPACE), np.uint8) - np.uint8(33)

    def with_letters(self, start: int, stop: int, letters: bytes) -> "Read":
        if len(letters) != stop - start:
            raise UsageError(
                f"{self.key}: a read has a quality for each base, so none can be added or left out",
                code="not-supported",
            )
        return super().with_letters(start, stop, letters)

    def place(self, position: int) -> str:
        line, column = (0, position) if self.body is None else layout.place(self.body, position, self.newline[-1:])
        return f"line {self.line + 1 + line}, column {column + 1} (read {self.key!r})"


@dataclass(frozen=True)
class Fastq(Format[Sequence]):
    """Reads and writes FASTQ."""

    suffixes: ClassVar[tuple[str, ...]] = (".fastq", ".fq")

    @classmethod
    def recognize(cls, head: Head) -> Claim | None:
        if not FIRST_READ.match(head.content):
            return super().recognize(head)
        return Claim(strength=CERTAIN, why="lines of reads: '@', bases, '+', qualities")

    def read(self, path: Path) -> Iterator[Read]:
        return self._read(path, stop)

    def attempts(self, path: Path) -> Iterator[Read | DataError]:
        return attempted(lambda on_broken: self._read(path, on_broken))

    def _read(self, path: Path, on_broken: OnBroken) -> Iterator[Read]:
        """The reads; behind a broken one it goes on at the next line that may be the first of another."""
        mark, blocks = read_text(path)
        lines = _FastqLines(lines_of(blocks))
        before = b"".join([mark, *lines.take(lines.blank(0))])
        if not lines[0]:
            raise DataError(path, "has no reads, only blank lines")
        while lines[0]:
            try:
                read = _next(lines, before=before, path=str(path))
            except DataError as error:
                passed = lines.take(1)
                while lines[0] and not lines.may_begin():
                    passed += lines.take(1)
                error.kept = b"".join([before, *passed])
                on_broken(error)
            else:
                yield read
            before = b""

    def write(self, records: Iterable[Sequence | DataError], path: Path) -> None:
        with create(path) as file:
            for record in records:
                file.write(record.kept if isinstance(record, DataError) else _written(record))


def _written(record: Sequence) -> bytes:
    """The read as it stands in a file."""
    if not isinstance(record, Read) or len(record.qualities) != len(record):
        raise UsageError(
            f"record {record.key!r} has no quality for each of its {len(record)} bases, which FASTQ needs"
            f"\n\nhint: write FASTA instead, by an output name that ends in .fa",
            code="not-supported",
        )
    bases = layout.laid_out(record.residues, width=len(record), newline=record.newline, body=record.body)
    return b"".join([record.before, b"@", record.header, record.newline, bases, record.rest])


class _FastqLines:
    """The lines of a file from the first one on that was not taken; nothing where the file has ended."""

    def __init__(self, lines: Iterator[bytes]) -> None:
        self._lines = lines
        self._ahead: deque[bytes] = deque()
        self.number = 1
        """Of line 0."""

    def __getitem__(self, index: int) -> bytes:
        ahead = self._ahead
        if len(ahead) <= index:
            ahead.extend(islice(self._lines, max(index + 1 - len(ahead), LOOK_AHEAD)))
        return ahead[index] if index < len(ahead) else b""

    def take(self, n: int) -> list[bytes]:
        self.number += n
        return [self._ahead.popleft() for _ in range(n)]

    def blank(self, index: int) -> int:
        """The first line from `index` on that is not blank."""
        while (line := self[index]) and line.isspace():
            index += 1
        return index

    def may_begin(self) -> bool:
        """Whether line 0 may be the first of a read: qualities may begin with `@`, but bases do not follow them."""
        return self[0].startswith(b"@") and self[1][:1] not in b"@+"


def _next(lines: _FastqLines, *, before: bytes, path: str) -> Read:
    """Take a read; where it is broken, nothing is taken."""

    def fault(index: int, problem: str) -> DataError:
        return DataError(path, problem, place=f"line {lines.number + index}")

    first = lines[0]
    header = first.rstrip(LINE_END)[1:]
    if not first.startswith(b"@"):
        raise fault(0, f"expected a line that begins with '@', found {_shown(first.rstrip(LINE_END))}")
    words = header.split(None, 1)
    if not words:
        raise fault(0, "the read has no name; write one after the '@'")
    key = words[0].decode(errors="backslashreplace")

    plus, bases = 1, b""
    while (line := lines[plus]) and not line.startswith(b"+"):
        letters = line.strip(LINE_END)
        if letters.startswith(b"@"):
            raise fault(plus, f"expected a line that begins with '+', found {_shown(letters)}")
        if not letters.isalpha() and letters.translate(None, PRINTABLE):
            raise fault(plus, f"read {key!r} has characters that are no letters")
        plus += 1
        bases = line if plus == 2 else b""
    if plus > 2:
        bases = b"".join(lines[index] for index in range(1, plus))
    residues = bases.translate(None, SPACE)
    if not line or (residues and not lines[plus + 1]):
        raise fault(plus - (not line), f"the file ends inside read {key!r}; get a whole copy")
    if line.rstrip() not in (b"+", b"+" + header.rstrip()):
        raise fault(plus, f"this name is not that of read {key!r} in line {lines.number}")

    stop, n_qualities = plus + 1, 0
    while n_qualities < len(residues) and (line := lines[stop]) and (plus > 2 or stop == plus + 1):
        scores = line.rstrip(LINE_END)
        if scores.translate(None, QUALITIES):
            raise fault(stop, f"read {key!r} has characters that are no qualities")
        n_qualities += len(scores)
        stop += 1
    if n_qualities != len(residues):
        raise fault(plus + 1, f"read {key!r} has {len(residues)} bases but {n_qualities} qualities")
    number, content = lines.number, bases.rstrip(SPACE)
    taken = lines.take(lines.blank(stop))
    return Read(
        key=key,
        residues=residues,
        path=path,
        line=number,
        header=header,
        before=before,
        newline=first[1 + len(header) :],
        body=None if content == residues else content,
        rest=b"".join([bases[len(content) :], *taken[plus:]]),
    )


def _shown(line: bytes) -> str:
    return repr(line[:40].decode(errors="backslashreplace"))
