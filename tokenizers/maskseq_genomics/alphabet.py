"""Letters of nucleotides: IUPAC codes, complements, and the look-up tables that make them fast.

A letter has a code: 0–3 for A, C, G, T (U counts as T), 4 for N, from 5 on the other IUPAC codes. Source:
Cornish-Bowden 1985, Nucleic Acids Research 13:3021 (NC-IUB recommendations of 1984).
"""

from dataclasses import replace
from typing import TypeVar

import numpy as np
from jaxtyping import Bool, Integer, UInt8

from maskseq_genomics.sequence import Sequence

S = TypeVar("S", bound=Sequence)

IUPAC = {
    **{"A": "A", "C": "C", "G": "G", "T": "T", "N": "ACGT"},
    **{"R": "AG", "Y": "CT", "S": "CG", "W": "AT", "K": "GT", "M": "AC"},
    **{"B": "CGT", "D": "AGT", "H": "ACT", "V": "ACG"},
}
"""The bases that each letter may stand for, in the order of the codes."""
BASES = "ACGT"
UNKNOWN = 4
"""The code of N. Codes from here on are not one known base."""
POSSIBLE = np.array([[base in bases for base in BASES] for bases in IUPAC.values()])
"""`POSSIBLE[code, base]`: the letter of that code may stand for that base."""

_INVALID = 255
_LOWER = 0x20  # the bit that makes an ASCII letter lower case


def base_codes(record: Sequence) -> UInt8[np.ndarray, "length"]:
    """The code of each letter, case ignored; `DataError` at the first one that is no nucleotide code."""
    codes = np.frombuffer(record.residues.translate(_CODE_OF_LETTER), np.uint8)
    if codes.max(initial=0) == _INVALID:
        position = int(np.argmax(codes == _INVALID))
        letter = chr(record.residues[position])
        if letter in "-.":
            raise record.fault(position, f"{letter!r} is an alignment gap; remove gaps, and write N for unknown bases")
        raise record.fault(position, f"{letter!r} is no nucleotide; the IUPAC codes are {''.join(IUPAC)} and U")
    return codes


def soft_masked(record: Sequence) -> Bool[np.ndarray, "length"]:
    """Which letters are lower case."""
    return (np.frombuffer(record.residues, np.uint8) & _LOWER).astype(bool)


def with_bases(record: S, holes: Bool[np.ndarray, "length"], bases: Integer[np.ndarray, "length"]) -> S:
    """The record with `bases` (0–3, or `UNKNOWN`) at the holes: in the case of the old letter, as U in RNA.

    Where a hole's base is `UNKNOWN`, a known letter becomes N, and one that was unknown already stays.
    """
    letters = np.frombuffer(record.residues, np.uint8).copy()
    known_codes = np.frombuffer(record.residues.translate(_CODE_OF_LETTER), np.uint8)
    positions = np.flatnonzero(holes & ~((bases == UNKNOWN) & (known_codes >= UNKNOWN)))
    written = np.frombuffer(b"ACGUN" if record.is_rna else b"ACGTN", np.uint8)[bases[positions]]
    letters[positions] = written | (letters[positions] & _LOWER)
    return replace(record, residues=letters.tobytes())


def to_text(bases: Integer[np.ndarray, "length"]) -> str:
    """Bases 0–3 as A, C, G, T and `UNKNOWN` as N."""
    letters = np.take(np.frombuffer(b"ACGTN", np.uint8), bases)
    return letters.tobytes().decode()


def reverse_complement(record: S) -> S:
    """The other strand, read in its own direction; IUPAC codes, case and U are kept."""
    table = _COMPLEMENT_RNA if record.is_rna else _COMPLEMENT
    return replace(record, residues=record.residues.translate(table)[::-1])


def _complement_table(base_a: str, base_t: str) -> bytes:
    pair = {"A": base_t, "C": "G", "G": "C", "T": base_a, "U": base_a}
    letter_of = {frozenset(bases): letter for letter, bases in IUPAC.items() if len(bases) > 1}
    for letter, bases in IUPAC.items():
        pair.setdefault(letter, letter_of.get(frozenset(BASES[3 - BASES.index(base)] for base in bases), letter))
    table = bytearray(range(256))
    for letter, other in pair.items():
        table[ord(letter)], table[ord(letter.lower())] = ord(other), ord(other.lower())
    return bytes(table)


def _code_table() -> bytes:
    table = bytearray([_INVALID] * 256)
    for code, letter in [*enumerate(IUPAC), (BASES.index("T"), "U")]:
        table[ord(letter)] = table[ord(letter.lower())] = code
    return bytes(table)


_CODE_OF_LETTER = _code_table()
_COMPLEMENT = _complement_table("A", "T")
_COMPLEMENT_RNA = _complement_table("A", "U")
