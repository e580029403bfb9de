"""The record that all genomic formats share and all genomic tokenizers take."""

from dataclasses import dataclass, field, replace
from typing import TypeVar

from maskseq.errors import DataError
from maskseq.types import Record

S = TypeVar("S", bound="Sequence")


@dataclass(frozen=True, kw_only=True)
class Sequence(Record):
    """Bases or amino acids, letter by letter, case included.

    Example: `Sequence(key="chrI", residues=b"ACGTNacgt")`. Formats subclass it to remember how it stood in the file.
    """

    residues: bytes = field(repr=False)
    path: str = field(default="", compare=False)
    """The file that it was read from."""
    line: int = field(default=0, compare=False)
    """The line of that file where it starts, from 1."""
    circular: bool = field(default=False, compare=False)
    """The first residue follows the last, as in a plasmid."""

    def __len__(self) -> int:
        return len(self.residues)

    def cut(self, start: int, stop: int) -> "Sequence":
        """The residues `start:stop` as a plain sequence, named as samtools does: `chrI:1001-2000`."""
        return Sequence(key=f"{self.key}:{start + 1}-{stop}", residues=self.residues[start:stop], path=self.path)

    def turned(self, by: int) -> "Sequence | None":
        """As a plain sequence, which remembers no file."""
        if not self.circular:
            return None
        residues = self.residues[by:] + self.residues[:by]
        return Sequence(key=self.key, residues=residues, path=self.path, circular=True)

    def with_letters(self: S, start: int, stop: int, letters: bytes) -> S:
        """The record with these residues in place of `start:stop`, however many."""
        return replace(self, residues=self.residues[:start] + letters + self.residues[stop:])

    @property
    def is_rna(self) -> bool:
        """Whether its letters contain U and no T."""
        letters = self.residues
        return (b"U" in letters or b"u" in letters) and not (b"T" in letters or b"t" in letters)

    def place(self, position: int) -> str:
        """Where residue `position` (from 0) is found, for a person with the file open."""
        line = f"line {self.line}, " if self.line else ""
        return f"{line}record {self.key!r}, position {position + 1:,}"

    def fault(self, position: int, problem: str) -> DataError:
        """What to raise when residue `position` (from 0) cannot be used."""
        return DataError(self.path, problem, place=self.place(position))
