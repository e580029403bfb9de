"""VCF, plain or gzipped: small variants of a genome, streamed. One that lists several alternatives is several."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from maskseq.errors import DataError
from maskseq.variants import Listed, ListedVariant, Unscored, VariantFormat
from maskseq_genomics.files import lines_of, read_text
from maskseq_genomics.sequence import Sequence

BASES = re.compile("[ACGTN]+", re.IGNORECASE)
WHOLE_NUMBER = re.compile("-?[0-9]{1,18}")
OTHER_ALTERNATIVES = (
    (r"\.", "it lists no alternative"),
    (r"\*", "the base is deleted by another variant (*)"),
    (r"<.*>", "a symbolic alternative does not spell its bases"),
    (r".*[\[\]].*|\..+|.+\.", "a breakend does not spell its bases"),
)
"""Alternatives that are no sequences (VCF 4.3, sections 1.6.1 and 5.4), and why they have no score."""


@dataclass(frozen=True, kw_only=True)
class SmallVariant(ListedVariant[Sequence]):
    """Bases in place of others, both spelled out."""

    was: bytes
    becomes: bytes

    def pair(self, record: Sequence, start: int, stop: int) -> tuple[Sequence, Sequence]:
        found = record.residues[self.start : self.stop].upper().replace(b"U", b"T")
        if found != self.was:
            there = found[:40].decode(errors="backslashreplace")
            raise DataError(
                self.path,
                f"the reference allele is {self.was[:40].decode()}, but {self.key!r} has {there} there; "
                f"were the variants called against another genome?",
                place=self.place,
            )
        before = Sequence(key=self.key, residues=record.residues[start:stop], path=record.path)
        changed = record.residues[start : self.start] + self.becomes + record.residues[self.stop : stop]
        return before, Sequence(key=self.key, residues=changed, path=record.path)


@dataclass(frozen=True)
class Vcf(VariantFormat[Sequence]):
    """Reads CHROM, POS, ID, REF and ALT: an entry for every alternative of every line.

    What is broken, or is no sequence (`<DEL>`, `*`, breakends), is listed without a score.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".vcf",)
    columns: ClassVar[tuple[str, ...]] = ("chrom", "pos", "id", "ref", "alt")

    def read(self, path: Path) -> Iterator[Listed[Sequence]]:
        _, blocks = read_text(path)
        for number, raw in enumerate(lines_of(blocks), 1):
            line = raw.decode(errors="backslashreplace").rstrip("\r\n")
            if not line.startswith("#") and line.strip():
                yield from _variants(line, path, f"line {number}")


def _variants(line: str, path: Path, place: str) -> Iterator[Listed[Sequence]]:
    cells = line.split("\t")
    chromosome, position, name, reference, alternatives = (*cells, "", "", "", "", "")[:5]
    problem = _problem(len(cells), position, reference)
    broken = f"{place}: {problem}" if problem else ""
    for alternative in alternatives.split(","):
        columns = (chromosome, position, name, reference, alternative)
        reason = broken or _no_sequence(alternative)
        if reason:
            yield Unscored(columns=columns, reason=reason)
            continue
        yield SmallVariant(
            key=chromosome,
            start=int(position) - 1,
            stop=int(position) - 1 + len(reference),
            length=len(alternative),
            columns=columns,
            path=str(path),
            place=place,
            was=reference.upper().encode(),
            becomes=alternative.upper().encode(),
        )


def _problem(n_cells: int, position: str, reference: str) -> str:
    """What makes a whole line useless."""
    if n_cells < 5:
        return f"it has {n_cells} column(s); CHROM, POS, ID, REF and ALT, separated by tabs, are needed"
    if not WHOLE_NUMBER.fullmatch(position):
        return f"the position {position[:40]!r} is not a whole number"
    if int(position) < 1:
        return f"position {int(position):,} lies before the first base{' (a telomere)' * (int(position) == 0)}"
    if not BASES.fullmatch(reference):
        return f"the reference allele {reference[:40]!r} is not written in A, C, G, T and N"
    return ""


def _no_sequence(alternative: str) -> str:
    """Why an alternative cannot be put in place of the reference."""
    if BASES.fullmatch(alternative):
        return ""
    found = (reason for pattern, reason in OTHER_ALTERNATIVES if re.fullmatch(pattern, alternative))
    return next(found, f"the alternative {alternative[:40]!r} is not written in A, C, G, T and N")
