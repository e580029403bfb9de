"""BED: windows of a genome, for training on parts of it. Coordinates are 0-based and half-open."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, ClassVar

from maskseq.errors import DataError, UsageError, nearest
from maskseq.files import GZIP, is_file, plain_name
from maskseq.formats import Format
from maskseq.storage.outputs import derived
from maskseq.survey import LIKELY, Claim, Head
from maskseq_genomics.alphabet import reverse_complement
from maskseq_genomics.fasta import Fasta
from maskseq_genomics.files import read_text
from maskseq_genomics.sequence import Sequence
from maskseq_genomics.twobit import TwoBit

DOES_NOT_FIT = "does not fit the FASTA file; make it anew with samtools faidx"
OTHER_LINES = (b"#", b"track", b"browser")


@dataclass(frozen=True, kw_only=True)
class BedWindow(Sequence):
    """Bases `start:stop` of a sequence of the genome, read along `strand`. The key is that of `bedtools getfasta`."""

    chromosome: str
    start: int
    stop: int
    strand: str = ""
    """`+`, `-`, or nothing where the BED file gives none."""

    def place(self, position: int) -> str:
        base = self.stop - position if self.strand == "-" else self.start + position + 1
        return f"{self.chromosome}, base {base:,} (window {self.key!r} of line {self.line})"


@dataclass(frozen=True)
class Bed(Format[Sequence]):
    """Reads the windows that a BED file lists from a genome in FASTA or 2bit.

    They come sequence by sequence, in the order of the genome. A FASTA index (`.fai`, of `samtools faidx`) beside a
    plain FASTA file is used if there is one: then only the windows are read, not the genome.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".bed",)

    genome: Path | str = ""
    """The FASTA or 2bit file that the coordinates refer to."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "genome", str(self.genome))  # options of formats are kept as JSON

    def sources(self, path: Path) -> list[Path]:
        if not self.genome:
            raise UsageError(
                f"{path}: a BED file has coordinates only\n\n"
                f"hint: name the genome that they refer to (a FASTA or 2bit file), as the format's option genome: "
                f"--set data.format_options.genome=FILE",
                code="bad-option",
            )
        return [path, Path(self.genome)]

    @classmethod
    def recognize(cls, head: Head) -> Claim | None:
        """The genome is taken from the same folder where there is but one."""
        rows = [line.split("\t") for line in head.lines if not line.encode().startswith(OTHER_LINES)]
        if not rows or not all(len(row) > 2 and row[1].isdecimal() and row[2].strip().isdecimal() for row in rows):
            return super().recognize(head)
        beside = [path for path in head.path.parent.iterdir() if _is_genome(path)]
        options = {"genome": str(beside[0].resolve())} if len(beside) == 1 else {}
        reported = f", its genome is {beside[0].name}" if options else ""
        return Claim(strength=LIKELY, why=f"rows of a name, a start and an end{reported}", options=options)

    def read(self, path: Path) -> Iterator[BedWindow]:
        path, genome = self.sources(path)
        wanted = _windows(path)
        for name, bases in _sequences(genome):
            for window in wanted.pop(name, ()):
                if window.stop > len(bases):
                    problem = f"the window ends at {window.stop:,}, but {name!r} has {len(bases):,} bases"
                    raise DataError(path, problem, place=f"line {window.line}")
                found = replace(window, residues=bases[window.start : window.stop], path=str(self.genome))
                yield reverse_complement(found) if window.strand == "-" else found
        for name, windows in wanted.items():
            problem = f"the genome {self.genome} has no sequence {name!r}{_hint(name, genome)}"
            raise DataError(path, problem, place=f"line {windows[0].line}")

    def write(self, records: Iterable[Sequence], path: Path) -> None:
        """Windows are written as FASTA: a BED file has no place for bases."""
        if not plain_name(path).endswith(Fasta.suffixes):
            raise UsageError(
                f"{path}: windows of a genome are written as FASTA\n\nhint: give the output a name that ends in .fa",
                code="not-supported",
            )
        Fasta().write(records, path)

    def written_as(self, path: Path) -> tuple[Format[Sequence], Path]:
        return Fasta(), derived(path, ".fa")


def _is_genome(path: Path) -> bool:
    return plain_name(path).endswith((*Fasta.suffixes, *TwoBit.suffixes))


def _windows(path: Path) -> dict[str, list[BedWindow]]:
    """The windows of each sequence, still without bases."""
    found: dict[str, list[BedWindow]] = {}
    for number, line in enumerate(_lines(path), 1):
        if line.strip() and not line.startswith(OTHER_LINES):
            window = _window(line, number, path)
            found.setdefault(window.chromosome, []).append(window)
    if not found:
        raise DataError(path, "lists no windows")
    return found


def _lines(path: Path) -> list[bytes]:
    _, blocks = read_text(path)
    return b"".join(blocks).splitlines()


def _window(line: bytes, number: int, path: Path) -> BedWindow:
    place = f"line {number}"
    columns = [c.decode(errors="backslashreplace") for c in (line.split(b"\t") if b"\t" in line else line.split())]
    if len(columns) < 3:
        raise DataError(path, f"has {len(columns)} column(s); sequence, start and end are needed", place=place)
    name, *ends = columns[:3]
    try:
        start, stop = map(int, ends)
    except ValueError:
        raise DataError(path, f"start {ends[0]!r} and end {ends[1]!r} are no whole numbers", place=place) from None
    if not 0 <= start < stop:
        problem = (
            f"the window {start:,} to {stop:,} is empty or begins before 0; BED counts from 0 and excludes the end"
        )
        raise DataError(path, problem, place=place)
    strand = columns[5].strip() if len(columns) > 5 else "."
    if strand not in ("+", "-", "."):
        raise DataError(path, f"the strand in column 6 is {strand!r}; it is +, - or .", place=place)
    strand = strand.strip(".")
    key = f"{name}:{start}-{stop}" + (f"({strand})" if strand else "")
    return BedWindow(key=key, residues=b"", line=number, chromosome=name, start=start, stop=stop, strand=strand)


def _sequences(genome: Path) -> Iterator[tuple[str, "bytes | _Indexed"]]:
    """Name and bases of each sequence, one after the other."""
    index = genome.with_name(genome.name + ".fai")
    if _is_current(index, genome):
        with genome.open("rb") as file:
            for number, line in enumerate(_lines(index), 1):
                yield _Indexed.parse(line, number, file, index)
        return
    for record in (TwoBit() if genome.name.lower().endswith(TwoBit.suffixes) else Fasta()).read(genome):
        yield record.key, record.residues


def _is_current(index: Path, genome: Path) -> bool:
    """Whether there is an index of plain bytes that is not older than the file."""
    if not (is_file(index) and is_file(genome)) or index.stat().st_mtime < genome.stat().st_mtime:
        return False
    with genome.open("rb") as file:
        return file.read(len(GZIP)) != GZIP


@dataclass(frozen=True)
class _Indexed:
    """A sequence of a FASTA file with an index, which says where its bases are (samtools-faidx(5))."""

    file: BinaryIO
    index: Path
    n_bases: int
    offset: int
    line_bases: int
    line_bytes: int

    @classmethod
    def parse(cls, line: bytes, number: int, file: BinaryIO, index: Path) -> "tuple[str, _Indexed]":
        name, *columns = line.split(b"\t")
        try:
            n_bases, offset, line_bases, line_bytes = map(int, columns)
        except ValueError:
            line_bases = 0
        if not 0 < line_bases <= line_bytes:
            problem = "is no line of a FASTA index; make it anew with samtools faidx"
            raise DataError(index, problem, place=f"line {number}")
        size = os.fstat(file.fileno()).st_size
        if not (0 <= offset <= size and 0 <= n_bases <= size):
            raise DataError(index, DOES_NOT_FIT, place=f"line {number}")
        return name.decode(errors="backslashreplace"), cls(file, index, n_bases, offset, line_bases, line_bytes)

    def __len__(self) -> int:
        return self.n_bases

    def __getitem__(self, bases: slice) -> bytes:
        first = self._byte(bases.start)
        self.file.seek(first)
        found = self.file.read(self._byte(bases.stop - 1) + 1 - first).translate(None, b"\r\n")
        if len(found) != bases.stop - bases.start or b">" in found:
            raise DataError(self.index, DOES_NOT_FIT)
        return found

    def _byte(self, base: int) -> int:
        return self.offset + base // self.line_bases * self.line_bytes + base % self.line_bases


def _hint(name: str, genome: Path) -> str:
    names = [other for other, _ in _sequences(genome)]
    return "; " + nearest(name, names, f"it has {', '.join(names[:5])}{' …' if names[5:] else ''}", cutoff=0.5)
