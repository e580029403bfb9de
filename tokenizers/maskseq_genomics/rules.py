"""What a biologist may ask of bases that are filled in: motifs, GC content, reading frames without stops."""

import math
import re

import numpy as np

from maskseq.constraints import Automaton, count_between
from maskseq.errors import UsageError
from maskseq.types import LegalCells
from maskseq_genomics.alphabet import NUCLEOTIDES
from maskseq_genomics.genetic_code import DIFFERENCES, genetic_code


def motif(text: str, start: int, stop: int) -> LegalCells:
    """`NNRYN`: the bases from `start` on are ones that these IUPAC letters stand for."""
    letters = NUCLEOTIDES.letters.tobytes().decode()
    codes = [letters.find(letter) for letter in text.upper().replace("U", "T")]
    if not codes or min(codes) < 0:
        raise UsageError(f"motif {text!r} is not made of the IUPAC letters {letters}", code="bad-option")
    if stop - start not in (1, len(codes)):
        raise UsageError(
            f"motif {text!r} has {len(codes)} letters, but the stretch that it is to fill {stop - start}",
            code="bad-option",
        )
    positions = np.arange(start, start + len(codes))
    return LegalCells(np.stack([positions, np.zeros_like(positions)], axis=1), NUCLEOTIDES.possible[codes])


def gc_content(text: str, start: int, stop: int) -> Automaton:
    """`0.4..0.6`: the share of G and C among the bases of the stretch."""
    shares = re.fullmatch(r"(\d*\.?\d+)\.\.(\d*\.?\d+)", text)
    low, high = map(float, shares.groups()) if shares else (1.0, 0.0)
    if not 0 <= low <= high <= 1:
        raise UsageError(
            f"GC content {text!r} does not read LOW..HIGH with shares from 0 to 1, such as 0.4..0.6", code="bad-option"
        )
    n = stop - start
    fewest, most = math.ceil(low * n - 1e-9), math.floor(high * n + 1e-9)
    if fewest > most:
        raise UsageError(f"no number of G and C among {n} bases is a share of {text}", code="bad-option")
    return count_between(np.array([letter in "GC" for letter in NUCLEOTIDES.known]), fewest, most).on(start, stop)


def open_frame(text: str, start: int, stop: int) -> Automaton:
    """`11`: no stop codon of this genetic code (its NCBI number) in the reading frame that begins at `start`."""
    if not text.isdecimal() or int(text) not in DIFFERENCES:
        raise UsageError(
            f"there is no genetic code {text!r}; the NCBI's are {', '.join(map(str, DIFFERENCES))}", code="unknown-name"
        )
    code, bases = genetic_code(int(text)), NUCLEOTIDES.known
    begun = ["", *bases, *(a + b for a in bases for b in bases)]  # a state is what has been read of the codon
    state = {letters: number for number, letters in enumerate(begun)}
    after = [
        [state.get(letters + base, -1 if code.get(letters + base) == "*" else 0) for base in bases] for letters in begun
    ]
    return Automaton(np.array(after), np.ones(len(begun), bool)).on(start, stop)
