"""VCF, plain or gzipped: small variants of a genome, streamed. One that lists several alternatives is several."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from maskseq.errors import DataError
from maskseq.variants import ListedVariant, VariantFormat
from maskseq_genomics.files import read_blocks
from maskseq_genomics.sequence import Sequence

BASES = re.compile("[ACGTN]+", re.IGNORECASE)
NO_BASES = re.compile(r"\*|\.|<.*>|.*[\[\]].*|\..+|.+\.")
"""Alternatives that are no sequences: deleted upstream, none, symbolic, breakends (VCF 4.3, sections 1.6.1 and 5.4)."""


@dataclass(frozen=True, kw_only=True)
class SmallVariant(ListedVariant[Sequence]):
    """Bases in place of others, both spelled out."""

    was: bytes
    becomes: bytes

    def pair(self, record: Sequence, start: int, stop: int) -> tuple[Sequence, Sequence]:
        found = record.residues[self.start : self.stop].upper().replace(b"U", b"T")
        if found != self.was:
            there = found.decode(errors="backslashreplace") or f"its end, at {len(record):,}"
            raise DataError(
                self.path,
                f"the reference allele is {self.was.decode()}, but {self.key!r} has {there} there; "
                f"were the variants called against another genome?",
                place=self.place,
            )
        before = Sequence(key=self.key, residues=record.residues[start:stop], path=record.path)
        changed = record.residues[start : self.start] + self.becomes + record.residues[self.stop : stop]
        return before, Sequence(key=self.key, residues=changed, path=record.path)


@dataclass(frozen=True)
class Vcf(VariantFormat[Sequence]):
    """Reads CHROM, POS, ID, REF and ALT; what is no sequence (`<DEL>`, `*`, breakends) is passed over."""

    suffixes: ClassVar[tuple[str, ...]] = (".vcf",)
    columns: ClassVar[tuple[str, ...]] = ("chrom", "pos", "id", "ref", "alt")

    def read(self, path: Path) -> Iterator[SmallVariant]:
        for number, line in enumerate(_lines(path), 1):
            if not line.startswith("#") and line.strip():
                yield from _variants(line, path, f"line {number}")


def _variants(line: str, path: Path, place: str) -> Iterator[SmallVariant]:
    cells = line.split("\t")
    if len(cells) < 5:
        raise DataError(path, f"has {len(cells)} column(s); CHROM, POS, ID, REF and ALT are needed", place=place)
    chromosome, position, name, reference, alternatives = cells[:5]
    if not position.isdecimal() or int(position) < 1:
        raise DataError(path, f"the position {position!r} is no whole number from 1 on", place=place)
    if not BASES.fullmatch(reference):
        raise DataError(path, f"the reference allele {reference!r} is no sequence of bases", place=place)
    for alternative in alternatives.split(","):
        if NO_BASES.fullmatch(alternative):
            continue
        if not BASES.fullmatch(alternative):
            raise DataError(path, f"the alternative {alternative!r} is no sequence of bases", place=place)
        yield SmallVariant(
            key=chromosome,
            start=int(position) - 1,
            stop=int(position) - 1 + len(reference),
            length=len(alternative),
            columns=(chromosome, position, name, reference, alternative),
            path=str(path),
            place=place,
            was=reference.upper().encode(),
            becomes=alternative.upper().encode(),
        )


def _lines(path: Path) -> Iterator[str]:
    held = b""
    for block in read_blocks(path):
        *whole, held = (held + block).split(b"\n")
        for line in whole:
            yield line.decode(errors="backslashreplace").rstrip("\r")
    if held:
        yield held.decode(errors="backslashreplace").rstrip("\r")
