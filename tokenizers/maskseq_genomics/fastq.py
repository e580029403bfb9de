"""FASTQ, plain or gzipped: reads of four lines, streamed and written back byte for byte."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import UInt8

from maskseq.errors import DataError, UsageError
from maskseq.files import create
from maskseq.survey import CERTAIN, Claim, Head
from maskseq.tokenizer import Format, OnBroken, attempted
from maskseq_genomics.fasta import PRINTABLE
from maskseq_genomics.files import lines_of, read_text
from maskseq_genomics.sequence import Sequence

QUALITIES = bytes(range(0x21, 0x7F))


@dataclass(frozen=True, kw_only=True)
class Read(Sequence):
    """A read and its qualities, which stay as they are when its bases are filled. The key is the name's first word."""

    header: bytes
    """The first line, verbatim, without `@` and newline."""
    before: bytes = b""
    """What stands before the `@`: the byte-order mark of a file, with its first read."""
    rest: bytes = field(repr=False)
    """What follows the bases, verbatim: the line that begins with `+`, the qualities, line ends."""

    @property
    def qualities(self) -> UInt8[np.ndarray, "length"]:
        """The Phred quality of each base (offset 33)."""
        return np.frombuffer(self.rest.rstrip()[-len(self) :], np.uint8) - np.uint8(33)

    def with_letters(self, start: int, stop: int, letters: bytes) -> "Read":
        if len(letters) != stop - start:
            raise UsageError(f"{self.key}: a read has a quality for each base, so none can be added or left out")
        return super().with_letters(start, stop, letters)

    def place(self, position: int) -> str:
        return f"line {self.line + 1}, column {position + 1} (read {self.key!r})"


@dataclass(frozen=True)
class Fastq(Format[Sequence]):
    """Reads and writes FASTQ."""

    suffixes: ClassVar[tuple[str, ...]] = (".fastq", ".fq")

    @classmethod
    def recognize(cls, head: Head) -> Claim | None:
        if not (head.content.startswith(b"@") and len(head.lines) > 2 and head.lines[2].startswith("+")):
            return super().recognize(head)
        return Claim(strength=CERTAIN, why="lines of reads: '@', bases, '+', qualities")

    def read(self, path: Path) -> Iterator[Read]:
        before, blocks = read_text(path)
        for number, (lines, end) in enumerate(_fours(blocks)):
            yield _parse(lines, end, before=b"" if number else before, path=str(path), line=4 * number + 1)

    def attempts(self, path: Path) -> Iterator[Read | DataError]:
        return attempted(lambda on_broken: _whole_reads(path, on_broken))

    def write(self, records: Iterable[Sequence | DataError], path: Path) -> None:
        with create(path) as file:
            for record in records:
                if isinstance(record, DataError):
                    file.write(record.kept)
                    continue
                if not isinstance(record, Read) or len(record.rest.splitlines()[-1]) != len(record):
                    raise UsageError(
                        f"record {record.key!r} has no quality for each of its {len(record)} bases, which FASTQ needs"
                        f"\n\nhint: write FASTA instead, by an output name that ends in .fa"
                    )
                file.write(b"".join([record.before, b"@", record.header, b"\n", record.residues, record.rest]))


def _fours(blocks: Iterator[bytes]) -> Iterator[tuple[list[bytes], bytes]]:
    """Lines by fours, without newlines, and the newline after the fourth; the file may end without it."""
    lines, held = [b""], list[bytes]()
    for block in blocks:
        held.append(block)
        if b"\n" not in block:  # a line of many blocks is joined once
            continue
        lines[-1:] = b"".join([lines[-1], *held]).split(b"\n")
        held.clear()
        n_whole = (len(lines) - 1) // 4 * 4
        for first in range(0, n_whole, 4):
            yield lines[first : first + 4], b"\n"
        del lines[:n_whole]
    lines[-1] += b"".join(held)
    if lines != [b""]:
        yield lines, b""


def _whole_reads(path: Path, on_broken: OnBroken) -> Iterator[Read]:
    """The reads that are whole; behind a broken one, reading goes on where four lines make a read again."""
    before, blocks = read_text(path)
    lines = lines_of(blocks)
    broken: DataError | None = None
    window, number = [*islice(lines, 4)], 1
    while window:
        *plain, last = (line.removesuffix(b"\n") for line in window)
        end, own = window[-1][len(last) :], before if number == 1 else b""
        try:
            read = _parse([*plain, last], end, before=own, path=str(path), line=number)
        except DataError as error:
            broken = broken or error
            broken.kept = (broken.kept or b"") + own + window[0]
            window, number = [*window[1:], *islice(lines, 1)], number + 1
            continue
        if broken is not None:
            on_broken(broken)
            broken = None
        yield read
        window, number = [*islice(lines, 4)], number + 4
    if broken is not None:
        on_broken(broken)


def _parse(lines: list[bytes], end: bytes, *, before: bytes, path: str, line: int) -> Read:
    first = lines[0]
    if not first.startswith(b"@"):
        raise DataError(path, f"expected a line that begins with '@', found {_shown(first)}", place=f"line {line}")
    words = first[1:].split(None, 1)
    if not words:
        raise DataError(path, "the read has no name; write one after the '@'", place=f"line {line}")
    key = words[0].decode(errors="backslashreplace")
    if len(lines) < 4:
        problem = f"the file ends inside read {key!r}; get a whole copy"
        raise DataError(path, problem, place=f"line {line + len(lines) - 1}")
    _, bases, plus, qualities = lines
    if not plus.startswith(b"+"):
        problem = f"expected a line that begins with '+', found {_shown(plus)}; reads must have one line of bases"
        raise DataError(path, problem, place=f"line {line + 2}")
    if plus.rstrip() not in (b"+", b"+" + first[1:].rstrip()):
        raise DataError(path, f"this name is not that of read {key!r} in line {line}", place=f"line {line + 2}")
    residues, scores = bases.removesuffix(b"\r"), qualities.removesuffix(b"\r")
    if not residues:
        raise DataError(path, f"read {key!r} has no bases; remove it", place=f"line {line + 1}")
    if not residues.isalpha() and residues.translate(None, PRINTABLE):
        raise DataError(path, f"read {key!r} has characters that are no letters", place=f"line {line + 1}")
    if len(scores) != len(residues):
        problem = f"read {key!r} has {len(residues)} bases but {len(scores)} qualities"
        raise DataError(path, problem, place=f"line {line + 3}")
    if scores.translate(None, QUALITIES):
        raise DataError(path, f"read {key!r} has characters that are no qualities", place=f"line {line + 3}")
    rest = b"".join([bases[len(residues) :], b"\n", plus, b"\n", qualities, end])
    return Read(key=key, residues=residues, path=path, line=line, header=first[1:], before=before, rest=rest)


def _shown(line: bytes) -> str:
    return repr(line[:40].decode(errors="backslashreplace"))
