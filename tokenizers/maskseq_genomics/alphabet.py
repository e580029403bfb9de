"""Letters: which tokens they stand for, look-up tables that make them fast, complements.

Sources: IUPAC nucleotide codes and their complements, Cornish-Bowden 1985, Nucleic Acids Research 13:3021;
amino acids, IUPAC-IUB JCBN 1984, European Journal of Biochemistry 138:9 (J: UniProt; O: JCBN newsletter 2009).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

import numpy as np
from jaxtyping import Bool, Integer, UInt8

from maskseq.tokenizer import UNKNOWN_LETTER
from maskseq_genomics.sequence import Sequence

S = TypeVar("S", bound=Sequence)

_INVALID = 255
_LOWER = 0x20  # the bit that makes an ASCII letter lower case


@dataclass(frozen=True)
class Alphabet:
    """Every letter has a code: first the known letters, which are the tokens, then `anything`, then the ambiguous."""

    name: str
    known: str
    anything: str
    """The letter of a residue of which nothing is known."""
    ambiguous: Mapping[str, str]
    """Of the other letters, the known ones that they may stand for."""
    synonyms: Mapping[str, str]

    @property
    def unknown(self) -> int:
        """The code of `anything`: codes from here on are not one known letter."""
        return len(self.known)

    @cached_property
    def letters(self) -> UInt8[np.ndarray, "codes"]:
        """The upper-case letter of each code."""
        return np.frombuffer("".join([self.known, self.anything, *self.ambiguous]).encode(), np.uint8)

    @cached_property
    def possible(self) -> Bool[np.ndarray, "codes known"]:
        """`possible[code, token]`: a letter of that code may stand for that token."""
        stands_for = [*self.known, self.known, *self.ambiguous.values()]
        return np.array([[token in tokens for token in self.known] for tokens in stands_for])

    @cached_property
    def _code_of_letter(self) -> bytes:
        table = bytearray([_INVALID] * 256)
        for code, letter in enumerate(self.letters.tolist()):
            for synonym in [chr(letter), *(s for s, of in self.synonyms.items() if of == chr(letter))]:
                table[ord(synonym.upper())] = table[ord(synonym.lower())] = code
        return bytes(table)

    def codes(self, record: Sequence) -> UInt8[np.ndarray, "length"]:
        """The code of each letter, case ignored; `DataError` at the first one that has none."""
        codes = np.frombuffer(record.residues.translate(self._code_of_letter), np.uint8)
        if codes.max(initial=0) == _INVALID:
            position = int(np.argmax(codes == _INVALID))
            letter = chr(record.residues[position])
            if letter in "-.":
                problem = f"{letter!r} is an alignment gap; remove gaps, and write {self.anything} for what is unknown"
            else:
                letters = "".join(sorted([*self.letters.tobytes().decode(), *self.synonyms]))
                problem = f"{letter!r} is no {self.name}; the letters are {letters}"
            raise record.fault(position, problem)
        return codes

    def text(self, codes: Integer[np.ndarray, "length"]) -> str:
        """Codes as upper-case letters."""
        return np.take(self.letters, codes).tobytes().decode()

    def put(self, record: S, positions: Integer[np.ndarray, "holes"], codes: Integer[np.ndarray, "holes"]) -> S:
        """The record with other letters at `positions`, in the case of the old ones, and U for T in RNA.

        Where the code is `unknown`, a known letter becomes `anything`; one that was not known already stays.
        """
        spelling = self.letters.copy()
        if "U" in self.synonyms and record.is_rna:
            spelling[self.known.index("T")] = ord("U")
        letters = np.frombuffer(record.residues, np.uint8).copy()
        old = letters[positions]
        old_codes = np.frombuffer(old.tobytes().translate(self._code_of_letter), np.uint8)
        stays = (codes == self.unknown) & (old_codes >= self.unknown)
        letters[positions] = np.where(stays, old, spelling[codes] | (old & _LOWER))
        return replace(record, residues=letters.tobytes())


NUCLEOTIDES = Alphabet(
    name="nucleotide",
    known="ACGT",
    anything="N",
    ambiguous={
        **{"R": "AG", "Y": "CT", "S": "CG", "W": "AT", "K": "GT", "M": "AC"},
        **{"B": "CGT", "D": "AGT", "H": "ACT", "V": "ACG"},
    },
    synonyms={"U": "T"},
)
AMINO_ACIDS = Alphabet(
    name="amino acid",
    known="ACDEFGHIKLMNPQRSTVWYUO*",
    anything="X",
    ambiguous={"B": "DN", "Z": "EQ", "J": "IL"},
    synonyms={},
)
"""The twenty, selenocysteine U, pyrrolysine O, and the stop `*` that ends translated sequences."""


def soft_masked(record: Sequence) -> Bool[np.ndarray, "length"]:
    """Which letters are lower case."""
    return (np.frombuffer(record.residues, np.uint8) & _LOWER).astype(bool)


def reverse_complement(record: S) -> S:
    """The other strand, read in its own direction; IUPAC codes, case and U are kept."""
    table = _COMPLEMENT_RNA if record.is_rna else _COMPLEMENT
    return replace(record, residues=record.residues.translate(table)[::-1])


def both_strands(
    codes: Integer[np.ndarray, "length"],
) -> tuple[UInt8[np.ndarray, "length"], UInt8[np.ndarray, "length"]]:
    """Codes of bases as letters, and as the other strand reads them."""
    known = codes < NUCLEOTIDES.unknown
    letters = np.where(known, codes, UNKNOWN_LETTER).astype(np.uint8)
    return letters, np.where(known, 3 - codes, UNKNOWN_LETTER).astype(np.uint8)[::-1]


def _complement_table(base_a: str, base_t: str) -> bytes:
    pair = {"A": base_t, "C": "G", "G": "C", "T": base_a, "U": base_a, "N": "N"}
    letter_of = {frozenset(bases): letter for letter, bases in NUCLEOTIDES.ambiguous.items()}
    for letter, bases in NUCLEOTIDES.ambiguous.items():
        pair[letter] = letter_of[frozenset(NUCLEOTIDES.known[3 - NUCLEOTIDES.known.index(base)] for base in bases)]
    table = bytearray(range(256))
    for letter, other in pair.items():
        table[ord(letter)], table[ord(letter.lower())] = ord(other), ord(other.lower())
    return bytes(table)


_COMPLEMENT = _complement_table("A", "T")
_COMPLEMENT_RNA = _complement_table("A", "U")
