"""Which amino acid each codon means, in all the genetic codes of the NCBI.

Source: A. Elzanowski and J. Ostell, The Genetic Codes, NCBI Taxonomy, version 4.6. Codons that one code reads both as
an amino acid and as a stop (codes 27, 28, 31) count as the amino acid, as in the table's `ncbieaa` rows.
"""

from functools import cache
from itertools import product

STANDARD = "KNKNTTTTRSRSIIMIQHQHPPPPRRRRLLLLEDEDAAAAGGGGVVVV*Y*YSSSS*CWCLFLF"
"""Code 1, codons in alphabetical order, `*` for stop."""

DIFFERENCES: dict[int, dict[str, str]] = {
    1: {},
    2: {"*": "AGA AGG", "M": "ATA", "W": "TGA"},
    3: {"M": "ATA", "T": "CTA CTC CTG CTT", "W": "TGA"},
    4: {"W": "TGA"},
    5: {"S": "AGA AGG", "M": "ATA", "W": "TGA"},
    6: {"Q": "TAA TAG"},
    9: {"N": "AAA", "S": "AGA AGG", "W": "TGA"},
    10: {"C": "TGA"},
    11: {},
    12: {"S": "CTG"},
    13: {"G": "AGA AGG", "M": "ATA", "W": "TGA"},
    14: {"N": "AAA", "S": "AGA AGG", "Y": "TAA", "W": "TGA"},
    15: {"Q": "TAG"},
    16: {"L": "TAG"},
    21: {"N": "AAA", "S": "AGA AGG", "M": "ATA", "W": "TGA"},
    22: {"L": "TAG", "*": "TCA"},
    23: {"*": "TTA"},
    24: {"S": "AGA", "K": "AGG", "W": "TGA"},
    25: {"G": "TGA"},
    26: {"A": "CTG"},
    27: {"Q": "TAA TAG", "W": "TGA"},
    28: {"Q": "TAA TAG", "W": "TGA"},
    29: {"Y": "TAA TAG"},
    30: {"E": "TAA TAG"},
    31: {"E": "TAA TAG", "W": "TGA"},
    32: {"W": "TAG"},
    33: {"S": "AGA", "K": "AGG", "Y": "TAA", "W": "TGA"},
}
"""Of each code, by its number, the codons that mean something else than in code 1."""


@cache
def genetic_code(number: int) -> dict[str, str]:
    """The amino acid of each codon in alphabetical order, `*` for stop."""
    code = dict(zip(map("".join, product("ACGT", repeat=3)), STANDARD, strict=True))
    for amino_acid, codons in DIFFERENCES[number].items():
        code.update(dict.fromkeys(codons.split(), amino_acid))
    return code
