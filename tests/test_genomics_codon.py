"""Codons: against the genetic codes as the NCBI prints them, and the reading frame of real genes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskseq.errors import DataError, UsageError
from maskseq_genomics.codon import CodonTokenizer
from maskseq_genomics.fasta import Fasta
from maskseq_genomics.genetic_code import DIFFERENCES, genetic_code
from maskseq_genomics.sequence import Sequence

# Rows of the NCBI's page, codons in its order T, C, A, G.
NCBI = {
    1: "FFLLSSSSYY**CC*WLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG",
    2: "FFLLSSSSYY**CCWWLLLLPPPPHHQQRRRRIIMMTTTTNNKKSS**VVVVAAAADDEEGGGG",
    4: "FFLLSSSSYY**CCWWLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG",
    6: "FFLLSSSSYYQQCC*WLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG",
    11: "FFLLSSSSYY**CC*WLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG",
    12: "FFLLSSSSYY**CC*WLLLSPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG",
}


def sequence(text: str) -> Sequence:
    return Sequence(key="gene", residues=text.encode())


@pytest.mark.parametrize("number", NCBI)
def test_codes_are_the_rows_of_the_ncbi(number):
    codons = [a + b + c for a in "TCAG" for b in "TCAG" for c in "TCAG"]
    assert "".join(genetic_code(number)[codon] for codon in codons) == NCBI[number]


@pytest.mark.parametrize("number", DIFFERENCES)
def test_codes_are_those_of_biopython(number):
    tables = pytest.importorskip("Bio.Data.CodonTable").unambiguous_dna_by_id
    expected = tables[number].forward_table
    assert all(genetic_code(number)[codon] == expected.get(codon, "*") for codon in genetic_code(number))
    assert set(DIFFERENCES) == set(tables)


def test_a_real_gene_translates(samples):
    """The first gene of phage lambda, nu1: bases 191 to 736 of NC_001416."""
    (genome,) = Fasta().read(samples / "lambda_virus.fa.gz")
    tokenizer = CodonTokenizer(code=11)
    ids = tokenizer.encode(Sequence(key="nu1", residues=genome.residues[190:736])).ids
    protein = tokenizer.translate(ids)
    assert protein.startswith("MEVNKKQLADIFGASIRTIQNWQEQGMPVLRGGGKGNEVLYDSAAVIKWYAERDAEIENEKLRREVEELRQASEADLQPG")
    assert len(protein) == 182
    assert protein.index("*") == 181


@given(st.text("ACG", min_size=1, max_size=40), st.integers(0, 2))
def test_frames_cut_the_sequence_where_they_say(text, frame):
    tokenizer = CodonTokenizer(frame=frame)
    ids = tokenizer.encode(sequence(text)).ids
    expected = [text[:frame]] * bool(frame) + [text[i : i + 3] for i in range(frame, len(text), 3)]
    assert tokenizer.decode(ids) == " ".join(expected)
    whole = [codon for codon in expected if len(codon) == 3]
    assert tokenizer.translate(ids) == "".join(genetic_code(1)[codon] for codon in whole)
    assert tokenizer.splice(sequence(text), ids, np.ones_like(ids, bool)) == sequence(text)


def test_early_stops_are_named_and_the_last_codon_may_be_one():
    CodonTokenizer().encode(sequence("ATGAAATAA"))
    CodonTokenizer(code=2).encode(sequence("ATGTGAAAA"))  # tryptophan in vertebrate mitochondria
    CodonTokenizer(coding=False).encode(sequence("ATGTGAAAA"))
    with pytest.raises(DataError, match=r"position 4: stop codon TGA inside the reading frame \(codon 2 of 3"):
        CodonTokenizer().encode(sequence("ATGTGAAAA"))
    with pytest.raises(DataError, match=r"position 5: stop codon TAA inside the reading frame \(codon 2 of 3"):
        CodonTokenizer(frame=1).encode(sequence("CATGTAAATGC"))


def test_infill_writes_no_stop_inside_a_gene():
    tokenizer = CodonTokenizer()
    tokens = tokenizer.fields[0].tokens
    ids = tokenizer.encode(sequence("ATGNNNAAANNN")).ids
    grammar = tokenizer.allowed(ids)
    assert grammar is not None
    assert grammar.cells.tolist() == [[1, 0], [3, 0]]
    inside, last = ({t for t, ok in zip(tokens, row, strict=True) if ok} for row in grammar.allowed)
    codons = {a + b + c for a in "ACGT" for b in "ACGT" for c in "ACGT"}
    assert inside == codons - {"TAA", "TAG", "TGA"}
    assert last >= codons
    free = CodonTokenizer(coding=False).allowed(ids)
    assert free is not None
    assert {t for t, ok in zip(tokens, free.allowed[0], strict=True) if ok} == codons


def test_a_partly_known_codon_is_narrowed_to_what_its_letters_allow():
    encoded = CodonTokenizer().encode(sequence("ANGAAA"))
    assert encoded.legal is not None
    tokens = CodonTokenizer().fields[0].tokens
    assert [t for t, ok in zip(tokens, encoded.legal.allowed[0], strict=True) if ok] == ["AAG", "ACG", "AGG", "ATG"]


@pytest.mark.parametrize("options", [{"frame": 3}, {"code": 7}, {"table": 1}])
def test_wrong_options_are_named(options):
    with pytest.raises(UsageError, match=r"frame is 3|genetic codes are 1, 2, 3|table"):
        CodonTokenizer.from_state(options)
