"""BPE: trained like Hugging Face's, encoded like a merge-by-merge reference, measured in bases."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskseq.errors import UsageError
from maskseq.plugins import tokenizer_from_json, tokenizer_to_json
from maskseq_genomics.fasta import Fasta
from maskseq_genomics.sequence import Sequence

pytest.importorskip("tokenizers")

from maskseq_genomics import bpe
from maskseq_genomics.bpe import BpeTokenizer

STANDS_FOR = {"N": "ACGT", "R": "AG", "Y": "CT", "B": "CGT"}
TOKENIZER = BpeTokenizer(
    merges=(("A", "C"), ("T", "T"), ("AC", "G"), ("TT", "TT"), ("G", "G"), ("ACG", "ACG"), ("A", "A"), ("AA", "C"))
)


@pytest.fixture(scope="module")
def fitted(samples):
    return BpeTokenizer.fit(Fasta().read(samples / "lambda_virus.fa.gz"), size=256)


def sequence(text: str) -> Sequence:
    return Sequence(key="s", residues=text.encode())


def tokens_of(ids: np.ndarray, tokenizer: BpeTokenizer = TOKENIZER) -> list[str]:
    return [tokenizer.fields[0].token(i) for i in ids[:, 0].tolist()]


def merged(text: str) -> list[str]:
    """Apply each merge, in order, from left to right: the definition of BPE (Sennrich et al. 2016)."""
    tokens = list(text)
    for left, right in TOKENIZER.merges:
        joined, i = [], 0
        while i < len(tokens):
            pair = tokens[i : i + 2] == [left, right]
            joined.append(left + right if pair else tokens[i])
            i += 2 if pair else 1
        tokens = joined
    return tokens


@given(st.text("ACGT", max_size=60))
def test_tokens_are_those_of_merging_in_order(text):
    assert tokens_of(TOKENIZER.encode(sequence(text)).ids) == merged(text)
    assert tokens_of(TOKENIZER.encode(sequence(text.lower())).ids) == merged(text)


@given(text=st.text("ACGTACGTNRYBn", max_size=60), block=st.integers(1, 20))
def test_unknown_letters_and_block_ends_cut_tokens(text, block):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bpe, "BLOCK", block)
        encoded = TOKENIZER.encode(sequence(text))
    expected, unknown = [], []
    for start in range(0, len(text), block):
        known = ""
        for letter in [*text[start : start + block].upper(), "end"]:
            if letter in "ACGT":
                known += letter
                continue
            expected += merged(known)
            known = ""
            if letter != "end":
                unknown.append((len(expected), letter))
                expected.append("[MASK]")
    assert tokens_of(encoded.ids) == expected
    assert (encoded.legal is None) == (not unknown)
    if encoded.legal is not None:
        assert encoded.legal.cells.tolist() == [[position, 0] for position, _ in unknown]
        for (_, letter), row in zip(unknown, encoded.legal.allowed, strict=True):
            assert {t for t, ok in zip(TOKENIZER.tokens, row, strict=True) if ok} == set(STANDS_FOR[letter])


@given(st.text("ACGTACGTNR", max_size=60))
def test_units_tile_the_record(text):
    ids = TOKENIZER.encode(sequence(text)).ids
    spans = TOKENIZER.units(ids)[:, 0].tolist()
    assert [s for s, _ in spans[1:]] == [e for _, e in spans[:-1]]
    assert "".join("N" if t == "[MASK]" else t for t in tokens_of(ids)) == text.replace("R", "N")
    assert [text[s:e] for (s, e), t in zip(spans, tokens_of(ids), strict=True) if t != "[MASK]"] == [
        t for t in tokens_of(ids) if t != "[MASK]"
    ]


def test_long_runs_of_n_take_one_row_of_legal_ids():
    encoded = TOKENIZER.encode(sequence("ACG" + "N" * 3_000_000))
    assert encoded.legal is not None
    assert encoded.legal.allowed.shape == (3_000_000, len(TOKENIZER.tokens))
    assert encoded.legal.allowed.strides[0] == 0


def test_many_iupac_codes_count_as_n_before_they_fill_the_memory(monkeypatch):
    monkeypatch.setattr(bpe, "LEGAL_BYTES", 3 * len(TOKENIZER.tokens))
    three, four = (TOKENIZER.encode(sequence(text)).legal for text in ("RRN", "RRNR"))
    assert three is not None
    assert four is not None
    assert three.allowed.sum(axis=1).tolist() == [2, 2, 4]
    assert four.allowed.sum(axis=1).tolist() == [4, 4, 4, 4]


def test_splice_takes_any_tokens_of_the_same_number_of_bases():
    record = sequence("ACGnnTTr")
    ids = TOKENIZER.encode(record).ids
    assert tokens_of(ids) == ["ACG", "[MASK]", "[MASK]", "TT", "[MASK]"]
    assert TOKENIZER.splice(record, ids, np.ones_like(ids, bool)) == record
    other = np.array([[TOKENIZER.tokens.index(t)] for t in ("ACG", "AC", "T", "T", "G")], np.uint8)
    holes = np.array([0, 1, 0, 0, 1], bool)[:, None]
    assert TOKENIZER.splice(record, other, holes).residues == b"ACGacTTg"
    with pytest.raises(ValueError, match="the tokens have 5 bases where record 's' has 8"):
        TOKENIZER.splice(record, other[1:], holes[1:])


def test_a_change_is_felt_in_its_own_block_only():
    text = "ACGTTGGA" * 1200
    one, two = (TOKENIZER.encode(sequence(t)) for t in (text, "G" * 50 + text[50:]))
    last_of_first_block = [int(np.searchsorted(TOKENIZER.units(e.ids)[:, 0, 1], bpe.BLOCK)) for e in (one, two)]
    for encoded, last in zip((one, two), last_of_first_block, strict=True):
        assert TOKENIZER.units(encoded.ids)[last, 0, 1] == bpe.BLOCK
    assert one.ids[last_of_first_block[0] + 1 :].tolist() == two.ids[last_of_first_block[1] + 1 :].tolist()


def test_fitted_on_a_genome(fitted, samples):
    (record,) = Fasta().read(samples / "lambda_virus.fa.gz")
    ids = fitted.encode(record).ids
    assert len(fitted.tokens) == 256
    assert fitted.decode(ids).replace(" ", "").encode() == record.residues
    assert len(record) / len(ids) > 3  # at 256 tokens; single bases would give 1, 4-mers 4
    assert max(map(len, fitted.tokens)) <= 16
    assert fitted == BpeTokenizer.fit([record], size=256)
    assert tokenizer_from_json(tokenizer_to_json(fitted), trust_code=True).encode(record).ids.tolist() == ids.tolist()


def test_fitting_reads_no_more_than_the_sample():
    def endless():
        while True:
            yield sequence("ACGTNNGATTACA" * 100)

    assert BpeTokenizer.fit(endless(), size=8, sample=10_000).tokens[:4] == ("A", "C", "G", "T")


@pytest.mark.parametrize("options", [{"size": 3}, {"longest": 0}, {"sample": 0}])
def test_wrong_options_are_named(options):
    with pytest.raises(UsageError, match="they are at least 4, 1 and 1"):
        BpeTokenizer.fit([], **options)
    with pytest.raises(UsageError, match="joins tokens that no earlier merge makes"):
        BpeTokenizer.from_state({"merges": [["AC", "G"]]})
