"""Proteins: the letters of IUPAC-IUB, and what the ambiguous ones stand for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskseq.errors import DataError
from maskseq_genomics.fasta import Fasta
from maskseq_genomics.protein import ProteinTokenizer
from maskseq_genomics.sequence import Sequence

KNOWN = "ACDEFGHIKLMNPQRSTVWYUO*"
AMBIGUOUS = {"X": KNOWN, "B": "DN", "Z": "EQ", "J": "IL"}
TOKENIZER = ProteinTokenizer()


def sequence(text: str) -> Sequence:
    return Sequence(key="p", residues=text.encode())


@given(st.text(KNOWN + KNOWN.lower() + "XBZJxbzj", max_size=40))
def test_letters_are_tokens_or_narrowed(text):
    encoded = TOKENIZER.encode(sequence(text))
    tokens = TOKENIZER.fields[0].tokens
    legal = {}
    if encoded.legal is not None:
        legal = {cell[0]: row for cell, row in zip(encoded.legal.cells.tolist(), encoded.legal.allowed, strict=True)}
    for position, letter in enumerate(text.upper()):
        if letter in KNOWN:
            assert tokens[encoded.ids[position, 0]] == letter
        else:
            assert encoded.ids[position, 0] == len(tokens)
            allowed = legal.get(position, np.ones(len(tokens), bool))
            assert {t for t, ok in zip(tokens, allowed, strict=True) if ok} == set(AMBIGUOUS[letter])
    assert TOKENIZER.decode(encoded.ids) == "".join(c if c in KNOWN else "X" for c in text.upper())


def test_holes_are_filled_in_the_case_of_the_letter():
    record = sequence("MKxXbU")  # selenocysteine is no uracil
    filled = np.full((6, 1), TOKENIZER.fields[0].tokens.index("T"), np.uint8)
    holes = np.array([0, 0, 1, 1, 1, 0], bool)[:, None]
    assert TOKENIZER.splice(record, filled, holes).residues == b"MKtTtU"


@pytest.mark.parametrize(
    ("letter", "message"), [("-", "alignment gap"), ("1", "no amino acid"), ("?", "no amino acid")]
)
def test_other_letters_are_named_by_line(letter, message, tmp_path):
    (tmp_path / "x.faa").write_text(f">p\nMKV\nA{letter}V\n")
    (record,) = Fasta().read(tmp_path / "x.faa")
    with pytest.raises(DataError, match=rf"line 3, column 2 .*{message}"):
        TOKENIZER.encode(record)
