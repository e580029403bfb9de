"""What `maskseq init` is told of sequences: their letters, and where a recipe for them begins."""

import math
from collections import Counter
from collections.abc import Sequence as Records
from typing import Any

import numpy as np

from maskseq.survey import Size, Suggestion
from maskseq_genomics.alphabet import AMINO_ACIDS, NUCLEOTIDES, Alphabet
from maskseq_genomics.sequence import Sequence

LETTERS = 4_000_000
"""How many letters are looked at."""
FRAME = tuple(range(5, 23))
"""Distances between letters: 6, 9, … 21, each between its neighbours."""
FRAME_LETTERS, FEWEST_PAIRS, FRAMED = 500_000, 10_000, 0.008
SHORTEST_DNA, SHORTEST_PROTEIN = 8, 20
"""Letters that a cell of a table must have to look like a sequence: words such as ACT are none."""


def letters_of(records: Records[Any]) -> Counter[str] | None:
    """How often each letter occurs, case included; None where these are no sequences."""
    counts: Counter[str] = Counter()
    left = LETTERS
    for record in records:
        if not isinstance(record, Sequence):
            return None
        counts.update(record.residues[:left].decode(errors="replace"))
        left -= len(record)
        if left <= 0:
            break
    return counts


def written_in(alphabet: Alphabet, letters: Counter[str]) -> bool:
    """Whether all letters are of this alphabet."""
    return set("".join(letters).upper()) <= {*alphabet.letters.tobytes().decode(), *alphabet.synonyms}


def suggest_nucleotides(records: Records[Any]) -> Suggestion | None:
    """For DNA and RNA."""
    letters = letters_of(records)
    if letters is None or not _mostly_bases(letters) or _has_stops(records):
        return None
    total = letters.total()
    upper = Counter({letter: letters[letter] + letters[letter.lower()] for letter in map(str.upper, letters)})
    known = sum(upper[base] for base in "ACGTU")
    ambiguous = {letter: n for letter, n in upper.items() if letter in NUCLEOTIDES.ambiguous}
    lower = sum(n for letter, n in letters.items() if letter.islower()) / total
    found: dict[str, object] = {
        "letters": "RNA" if upper["U"] and not upper["T"] else "DNA",
        "GC": f"{(upper['G'] + upper['C']) / max(known, 1):.1%}",
    }
    if ambiguous:
        found["ambiguous letters"] = ", ".join(f"{letter} {n:,}" for letter, n in sorted(ambiguous.items()))
    comments = {"tokenizer.name": "one token a base, both strands"}
    if lower:
        found["lower case"] = f"{lower:.1%} of the letters"
    if 0.01 < lower < 0.99:
        comments["tokenizer.name"] += "; if lower case marks repeats, soft_mask_weight = 0.1 lets them count less"
    framed = has_frames(records)
    found["codons"] = "letters three apart are alike, as in genes" if framed else "no sign of them"
    if any(hasattr(record, "quality") for record in records):
        found["base qualities"] = "written back as they are; nothing is learned from them"
    # So deep that each context occurs about thirty times, on both strands: a cell is among its own counts.
    everywhere = known / total * Size.of(records).units
    depth = min(max(int(math.log(max(2 * everywhere / 30, 1), 16)), 0), 4)
    model: dict[str, Any] = {"ngram_prior": {"depth": depth}}
    if framed:
        model["phase_embeddings"] = {"periods": [3]}
    return Suggestion(
        found=found | _duplicates(records),
        context=256,
        recipe={
            "model": model,
            "masking": {
                "ratio": 0.15,
                "tokens": {"weight": 0.85, "replacement": {"mask": 1.0}},
                "spans": {"weight": 0.15, "mean_length": 8},
            },
        }
        | _by_record(records),
        comments=comments
        | {
            "model.ngram_prior": f"it starts from what {depth} bases on either side say",
            "model.phase_embeddings": "codons",
            "masking.ratio": "share of the bases; spans are runs of about eight",
        },
    )


def has_frames(records: Records[Any]) -> bool:
    """Whether there are genes in it, by the letters: those three apart are alike more often than their neighbours are.

    Each multiple of three is compared with the distances on either side of it, so that neither the letters' shares nor
    short words count. By this bacteria, phages and yeast have 0.015 to 0.022, human promoters 0.003, and noise 0.
    """
    alike, pairs, left = np.zeros(len(FRAME)), np.zeros(len(FRAME)), FRAME_LETTERS
    for record in records:
        letters = np.frombuffer(record.residues[:left].upper(), np.uint8)
        left -= len(letters)
        for place, distance in enumerate(FRAME):
            if len(letters) > distance:
                alike[place] += np.count_nonzero(letters[distance:] == letters[:-distance])
                pairs[place] += len(letters) - distance
        if left <= 0:
            break
    if pairs[-1] < FEWEST_PAIRS:
        return False
    share = (alike / pairs).reshape(-1, 3)
    return float((share[:, 1] - (share[:, 0] + share[:, 2]) / 2).mean()) > FRAMED


def suggest_proteins(records: Records[Any]) -> Suggestion | None:
    """For amino acids: sequences that are not of bases."""
    letters = letters_of(records)
    if letters is None or (_mostly_bases(letters) and not _has_stops(records)):
        return None
    return Suggestion(
        found={"letters": f"amino acids, {len(set(''.join(letters).upper()))} different"} | _duplicates(records),
        context=512,
        recipe={"masking": {"ratio": 0.15, "tokens": {"weight": 0.7}, "spans": {"weight": 0.3, "mean_length": 4}}}
        | _by_record(records),
        comments={"tokenizer.name": "one token an amino acid", "masking.ratio": "share of the residues"},
    )


def looks_like_a_sequence(text: str) -> bool:
    """Whether a cell of a table holds DNA, RNA or a protein."""
    letters = Counter(text)
    return text.isascii() and (
        (len(text) >= SHORTEST_DNA and written_in(NUCLEOTIDES, letters))
        or (len(text) >= SHORTEST_PROTEIN and text.isupper() and written_in(AMINO_ACIDS, letters) and len(letters) > 5)
    )


def _mostly_bases(letters: Counter[str]) -> bool:
    """Of a protein's letters, about three of ten could be bases; what is wrong with the others, encoding will say."""
    return sum(n for letter, n in letters.items() if letter.upper() in "ACGTUN") > 0.8 * letters.total()


def _has_stops(records: Records[Sequence]) -> bool:
    """Whether sequences end in the stop of a translation, whatever letters come before."""
    return any(record.residues.endswith(b"*") for record in records)


def _duplicates(records: Records[Sequence]) -> dict[str, object]:
    full = [record.residues for record in records if len(record)]
    copies = len(full) - len(set(full))
    return {"exact duplicates": f"{copies:,} records, which the split keeps on one side"} if copies else {}


def _by_record(records: Records[Sequence]) -> dict[str, Any]:
    """Many short records are held out whole."""
    return {"data": {"split": {"by": "record"}}} if len(records) >= 100 else {}
