"""Bases to ids and back: against letter-by-letter references, the IUPAC definitions and real genomes."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskseq.errors import DataError, UsageError
from maskseq.plugins import format_for, load, tokenizer_from_json, tokenizer_to_json
from maskseq.types import Encoded
from maskseq_genomics.alphabet import reverse_complement
from maskseq_genomics.fasta import Fasta
from maskseq_genomics.nucleotide import NucleotideTokenizer
from maskseq_genomics.sequence import Sequence

# Written by hand from the IUPAC definitions, not computed: the reference for the tables in the package.
STANDS_FOR = {
    **{"A": "A", "C": "C", "G": "G", "T": "T", "U": "T", "N": "ACGT"},
    **{"R": "AG", "Y": "CT", "S": "GC", "W": "AT", "K": "GT", "M": "AC"},
    **{"B": "CGT", "D": "AGT", "H": "ACT", "V": "ACG"},
}
COMPLEMENT = dict(zip("ACGTRYSWKMBDHVN", "TGCAYRSWMKVHDBN", strict=True))

TOKENIZER = NucleotideTokenizer()
letters = st.text("ACGTacgtNnRYSWKMBDHVryswkmbdhv", max_size=60)
rna_letters = st.text("ACGUacguNnRYSWKMBDHVryswkmbdhv", max_size=60)


def sequence(text: str) -> Sequence:
    return Sequence(key="s", residues=text.encode())


def holes_at(length: int, *positions: int) -> np.ndarray:
    holes = np.zeros((length, 1), bool)
    holes[list(positions)] = True
    return holes


def assert_same(one: Encoded, two: Encoded) -> None:
    np.testing.assert_array_equal(one.ids, two.ids)
    assert (one.legal is None) == (two.legal is None)
    if one.legal is not None and two.legal is not None:
        np.testing.assert_array_equal(one.legal.cells, two.legal.cells)
        np.testing.assert_array_equal(one.legal.allowed, two.legal.allowed)
    assert (one.weights is None) == (two.weights is None)
    if one.weights is not None:
        np.testing.assert_array_equal(one.weights, two.weights)


@given(letters | rna_letters)
def test_ids_and_legal_bases_follow_the_iupac_definitions(text):
    encoded = TOKENIZER.encode(sequence(text))
    legal = {}
    if encoded.legal is not None:
        legal = {cell[0]: row for cell, row in zip(encoded.legal.cells.tolist(), encoded.legal.allowed, strict=True)}
    for position, letter in enumerate(text.upper()):
        bases = STANDS_FOR[letter]
        assert encoded.ids[position, 0] == ("ACGT".index(bases) if len(bases) == 1 else 4)
        if 1 < len(bases) < 4:
            assert "".join(b for b, ok in zip("ACGT", legal[position], strict=True) if ok) == "".join(sorted(bases))
        else:
            assert position not in legal
    assert encoded.ids.dtype == np.uint8


@given(letters)
def test_reverse_complement_follows_the_iupac_definitions(text):
    expected = "".join(COMPLEMENT[c] if c.isupper() else COMPLEMENT[c.upper()].lower() for c in reversed(text))
    assert reverse_complement(sequence(text)).residues.decode() == expected
    assert reverse_complement(reverse_complement(sequence(text))) == sequence(text)


def test_complements_are_the_complements_of_the_base_sets():
    pair = {"A": "T", "C": "G", "G": "C", "T": "A"}
    for letter, bases in STANDS_FOR.items():
        other = reverse_complement(sequence(letter + ("C" if letter == "U" else ""))).residues.decode()[-1]
        assert {pair[b] for b in bases} == set(STANDS_FOR[other])


def test_reverse_complement_of_rna_is_rna():
    assert reverse_complement(sequence("ACGUacguNR")).residues == b"YNacguACGU"


@given(text=letters | rna_letters, weight=st.sampled_from([1.0, 0.1]))
def test_the_declared_symmetry_is_exact(text, weight):
    tokenizer = NucleotideTokenizer(soft_mask_weight=weight)
    (symmetry,) = tokenizer.symmetries()
    record = sequence(text)
    assert_same(tokenizer.encode(symmetry.transform(record)), symmetry.encoded(tokenizer.encode(record)))
    assert_same(symmetry.encoded(symmetry.encoded(tokenizer.encode(record))), tokenizer.encode(record))


@given(letters | rna_letters)
def test_decode_is_readable(text):
    expected = "".join(STANDS_FOR[c] if len(STANDS_FOR[c]) == 1 else "N" for c in text.upper())
    assert TOKENIZER.decode(TOKENIZER.encode(sequence(text)).ids) == expected


@given(data=st.data(), text=letters | rna_letters)
def test_splice_writes_the_holes_and_nothing_else(data, text):
    record = sequence(text)
    masked = data.draw(st.lists(st.booleans(), min_size=len(text), max_size=len(text)))
    bases = data.draw(st.lists(st.integers(0, 3), min_size=len(text), max_size=len(text)))
    ids = np.array(bases, np.uint8)[:, None]
    filled = TOKENIZER.splice(record, ids, np.array(masked, bool)[:, None]).residues.decode()
    is_rna = "U" in text.upper() and "T" not in text.upper()
    for before, after, hole, base in zip(text, filled, masked, bases, strict=True):
        letter = ("ACGU" if is_rna else "ACGT")[base]
        assert after == ((letter if before.isupper() else letter.lower()) if hole else before)


@given(letters)
def test_true_bases_put_back_into_holes_restore_the_record(text):
    record = sequence(text)
    ids = TOKENIZER.encode(record).ids
    assert TOKENIZER.splice(record, ids, ids < 4) == record


def test_a_hole_left_open_is_written_as_n_but_what_was_known_of_it_stays():
    ids = np.full((5, 1), 4, np.uint8)
    assert TOKENIZER.splice(sequence("aCRnG"), ids, holes_at(5, 0, 1, 2, 3)).residues == b"nNRnG"


def test_splice_keeps_the_layout_of_the_file(tmp_path):
    (tmp_path / "in.fa").write_bytes(b">a desc\r\nACGTN\r\nNNnnA\r\nC")
    (record,) = Fasta().read(tmp_path / "in.fa")
    encoded = TOKENIZER.encode(record)
    filled = TOKENIZER.splice(record, np.full_like(encoded.ids, 2), encoded.ids == 4)
    Fasta().write([filled], tmp_path / "out.fa")
    assert (tmp_path / "out.fa").read_bytes() == b">a desc\r\nACGTG\r\nGGggA\r\nC"


def test_soft_masked_bases_weigh_what_is_asked():
    assert TOKENIZER.encode(sequence("AcgN")).weights is None
    weights = NucleotideTokenizer(soft_mask_weight=0.1).encode(sequence("AcgN")).weights
    np.testing.assert_array_equal(weights, np.array([[1], [0.1], [0.1], [1]], np.float32))
    with pytest.raises(UsageError, match="loss weight is 0 or more"):
        NucleotideTokenizer.from_state({"soft_mask_weight": -1})
    with pytest.raises(UsageError, match="soft_mask"):
        NucleotideTokenizer.from_state({"soft_mask": 1})


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("ACGT\nACET\n", "line 5, column 3 (record 'b', position 7): 'E' is no nucleotide"),
        ("ACGT\n\n AC T-\n", "line 6, column 6 (record 'b', position 8): '-' is an alignment gap; remove gaps"),
        ("AC.T\n", "line 4, column 3 (record 'b', position 3): '.' is an alignment gap"),
        ("AC*\n", "line 4, column 3 (record 'b', position 3): '*' is no nucleotide"),
        ("1 ACGT\n", "line 4, column 1 (record 'b', position 1): '1' is no nucleotide"),
        ("A" * 60 + "\n" + "A" * 60 + "\nxA\n", "line 6, column 1 (record 'b', position 121): 'x' is no nucleotide"),
    ],
)
def test_other_letters_are_refused_with_their_place_in_the_file(body, message, tmp_path):
    path = tmp_path / "in.fa"
    path.write_text(">a\nACGT\n>b\n" + body)
    _, record = Fasta().read(path)
    with pytest.raises(DataError) as caught:
        TOKENIZER.encode(record)
    assert str(caught.value).startswith(f"{path}: {message}")


def test_letters_of_records_without_a_file_are_named_too():
    with pytest.raises(DataError, match=r"^record 's', position 2: 'q' is no nucleotide"):
        TOKENIZER.encode(sequence("aq"))


def test_the_empty_sequence_is_no_special_case():
    assert TOKENIZER.encode(sequence("")).ids.shape == (0, 1)
    assert TOKENIZER.decode(np.zeros((0, 1), np.uint8)) == ""


@pytest.mark.parametrize(
    ("name", "bases", "unknown"),
    [
        ("hpylori_SJM180.fasta.gz", 1_658_051, 1),
        ("lambda_virus.fa.gz", 48_502, 0),
        ("mirbase_hairpin.fa.gz", 2_949_871, 331),
        ("ecoli_like_454AllContigs.fna.gz", 5_483_536, None),
    ],
)
def test_real_files_round_trip(name, bases, unknown, shared_data):
    """Counts of bases and of unknown letters are those that the files' provenance states."""
    path = shared_data / "genomics" / name
    records = list(Fasta().read(path))
    encoded = [TOKENIZER.encode(record) for record in records]
    assert sum(map(len, encoded)) == bases
    if unknown is not None:
        assert sum(int((e.ids == 4).sum()) for e in encoded) == unknown
    text = "".join(TOKENIZER.decode(e.ids) for e in encoded)
    letters = b"".join(line for line in gzip.decompress(path.read_bytes()).split(b"\n") if line[:1] != b">")
    plain = letters.decode().upper().replace("U", "T")
    assert text == "".join(c if c in "ACGT" else "N" for c in plain)
    for record, e in zip(records[:500], encoded, strict=False):
        assert TOKENIZER.splice(record, e.ids, e.ids < 4) == record


def test_the_doors_of_the_core_lead_here(samples):
    assert load("tokenizers", "nucleotide") is NucleotideTokenizer
    assert isinstance(format_for(Path("x.FA.GZ")), Fasta)
    saved = tokenizer_to_json(NucleotideTokenizer(soft_mask_weight=0.5))
    assert saved["name"] == "nucleotide"
    assert tokenizer_from_json(saved) == NucleotideTokenizer(soft_mask_weight=0.5)
    (record,) = format_for(samples / "lambda_virus.fa.gz").read(samples / "lambda_virus.fa.gz")
    assert len(record) == 48_502
