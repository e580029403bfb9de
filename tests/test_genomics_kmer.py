"""k-mers: against plain Python slicing, brute force over all words, and the leak that DNABERT has."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskseq.errors import UsageError
from maskseq.plugins import tokenizer_from_json, tokenizer_to_json
from maskseq_genomics.fasta import Fasta
from maskseq_genomics.kmer import KmerTokenizer
from maskseq_genomics.sequence import Sequence

STANDS_FOR = {
    **{"A": "A", "C": "C", "G": "G", "T": "T", "U": "T", "N": "ACGT"},
    **{"R": "AG", "Y": "CT", "S": "GC", "W": "AT", "K": "GT", "M": "AC"},
    **{"B": "CGT", "D": "AGT", "H": "ACT", "V": "ACG"},
}
FLIP = str.maketrans("ACGT", "CATG")  # another base in the place of each

known = st.text("ACGT", max_size=40)
iupac = st.text("ACGTACGTACGTNRYB", max_size=30)


@st.composite
def tokenizers(draw, largest=4):
    k = draw(st.integers(1, largest))
    overlapping = draw(st.booleans())
    return KmerTokenizer(k=k, overlapping=overlapping, phase=0 if overlapping else draw(st.integers(0, k - 1)))


def sequence(text: str) -> Sequence:
    return Sequence(key="s", residues=text.encode())


def words_of(text: str, tokenizer: KmerTokenizer) -> list[tuple[int, str]]:
    """Start and letters of each word, by slicing."""
    k, phase = tokenizer.k, tokenizer.phase
    if tokenizer.overlapping:
        return [(i, text[i : i + k]) for i in range(max(len(text) - k, 0) + 1)] if text else []
    starts = ([0] if phase and text else []) + list(range(phase, len(text), k))
    stops = [*starts[1:], len(text)] if starts else []
    return [(start, text[start:stop]) for start, stop in zip(starts, stops, strict=True)]


@given(text=known, tokenizer=tokenizers())
def test_words_and_their_spans_are_those_of_slicing(text, tokenizer):
    ids = tokenizer.encode(sequence(text)).ids
    expected = words_of(text, tokenizer)
    assert [tokenizer.fields[0].token(i) for i in ids[:, 0].tolist()] == [word for _, word in expected]
    assert tokenizer.decode(ids) == " ".join(word for _, word in expected)
    np.testing.assert_array_equal(
        tokenizer.units(ids).reshape(-1, 2),
        np.array([(start, start + len(word)) for start, word in expected], int).reshape(-1, 2),
    )


@given(text=iupac, tokenizer=tokenizers(largest=3))
def test_unknown_letters_narrow_words_to_what_they_stand_for(text, tokenizer):
    """Brute force over every token of the vocabulary."""
    encoded = tokenizer.encode(sequence(text))
    legal = {}
    if encoded.legal is not None:
        legal = {cell[0]: row for cell, row in zip(encoded.legal.cells.tolist(), encoded.legal.allowed, strict=True)}
    grammar = tokenizer.allowed(encoded.ids)
    grammatical = (
        {} if grammar is None else {c[0]: r for c, r in zip(grammar.cells.tolist(), grammar.allowed, strict=True)}
    )
    mask = tokenizer.vocabulary.mask_ids[0]
    for index, (_, word) in enumerate(words_of(text, tokenizer)):
        is_known = all(letter in "ACGTU" for letter in word)
        assert (encoded.ids[index, 0] == mask) == (not is_known)
        at_an_end = index in (0, len(encoded.ids) - 1)
        if is_known and not at_an_end:
            assert index not in legal
            continue
        letters = "N" * len(word) if is_known else word  # a known word at an end may become any other of its length
        allowed = np.ones(mask, bool)
        for narrowed in (legal, grammatical):
            allowed &= narrowed.get(index, True)
        for token, ok in zip(tokenizer.fields[0].tokens, allowed, strict=True):
            fits = len(token) == len(letters) and all(b in STANDS_FOR[c] for b, c in zip(token, letters, strict=True))
            if tokenizer.overlapping and not is_known:
                assert fits >= ok  # the grammar may know more: words that overlap a visible one agree with it
                continue
            assert ok == fits


@given(data=st.data(), text=st.text("ACGT", min_size=1, max_size=40), tokenizer=tokenizers())
def test_no_visible_word_depends_on_a_hidden_base(data, text, tokenizer):
    """Whatever the hidden bases are, the words that lie over none of them are the same."""
    masked = data.draw(st.sets(st.integers(0, len(text) - 1)))
    ids = tokenizer.encode(sequence(text)).ids
    units = tokenizer.units(ids)[:, 0]
    visible = np.array([not any(start <= h < stop for h in masked) for start, stop in units], bool)
    other = "".join(c.translate(FLIP) if i in masked else c for i, c in enumerate(text))
    np.testing.assert_array_equal(tokenizer.encode(sequence(other)).ids[visible], ids[visible])


@given(data=st.data(), text=st.text("ACGTacgt", min_size=1, max_size=40), tokenizer=tokenizers())
def test_splice_writes_hidden_bases_only(data, text, tokenizer):
    """Hide runs of bases, take the ids of a sequence that differs there, and get exactly that sequence."""
    first = data.draw(st.integers(0, len(text) - 1))
    masked = range(first, data.draw(st.integers(first, len(text) - 1)) + 1)
    record = sequence(text)
    ids = tokenizer.encode(record).ids
    holes = np.array([[any(start <= h < stop for h in masked)] for start, stop in tokenizer.units(ids)[:, 0]], bool)
    other = "".join(c.upper().translate(FLIP) if i in masked else c for i, c in enumerate(text))
    filled = np.where(holes, tokenizer.encode(sequence(other)).ids, tokenizer.vocabulary.mask_ids[0])
    expected = "".join(o.lower() if c.islower() else o for c, o in zip(text, other, strict=True))
    assert tokenizer.splice(record, filled, holes).residues.decode() == expected
    assert tokenizer.splice(record, ids, holes) == record


@given(data=st.data(), text=st.text("ACGTUNRacgnnn", min_size=1, max_size=30), tokenizer=tokenizers())
def test_splice_fills_unknown_letters_and_leaves_the_letters_beside_them(data, text, tokenizer):
    record = sequence(text)
    ids = tokenizer.encode(record).ids
    holes = ids == tokenizer.vocabulary.mask_ids[0]
    truth = "".join(data.draw(st.sampled_from(STANDS_FOR[c.upper()])) for c in text)
    spelled = truth.replace("T", "U") if "U" in text and "T" not in text else truth
    expected = "".join(
        c if c.upper() in "ACGTU" else (t.lower() if c.islower() else t) for c, t in zip(text, spelled, strict=True)
    )
    assert tokenizer.splice(record, tokenizer.encode(sequence(truth)).ids, holes).residues.decode() == expected
    assert tokenizer.splice(record, ids, holes) == record  # nothing was filled


def test_where_overlapping_words_differ_most_of_them_decide():
    tokenizer = KmerTokenizer(k=3, overlapping=True)
    record = sequence("AAANAAA")
    ids = tokenizer.encode(record).ids
    tokens = tokenizer.fields[0].tokens
    filled = ids.copy()
    filled[1:4, 0] = [tokens.index(word) for word in ("AAC", "AGA", "GAA")]
    assert tokenizer.splice(record, filled, ids == len(tokens)).residues == b"AAAGAAA"


def test_words_of_another_length_are_no_filling():
    tokenizer = KmerTokenizer(k=3)
    record = sequence("ACGTA")
    ids = tokenizer.encode(record).ids
    with pytest.raises(ValueError, match="not as long as the words of record 's'"):
        tokenizer.splice(record, ids[::-1], np.ones_like(ids, bool))


@given(text=iupac, k=st.integers(1, 4))
def test_the_reverse_complement_is_exact_for_overlapping_words(text, k):
    tokenizer = KmerTokenizer(k=k, overlapping=True)
    (symmetry,) = tokenizer.symmetries()
    one = tokenizer.encode(symmetry.transform(sequence(text)))
    two = symmetry.encoded(tokenizer.encode(sequence(text)))
    np.testing.assert_array_equal(one.ids, two.ids)
    assert (one.legal is None) == (two.legal is None)
    if one.legal is not None and two.legal is not None:
        np.testing.assert_array_equal(one.legal.cells, two.legal.cells)
        np.testing.assert_array_equal(one.legal.allowed, two.legal.allowed)
    assert KmerTokenizer(k=k).symmetries() == ()


@given(text=st.text("ACGT", min_size=3, max_size=20), data=st.data())
@settings(max_examples=50)
def test_hidden_overlapping_words_may_only_agree_with_their_visible_neighbours(text, data):
    """Brute force: a word is allowed where it equals all visible words on the bases that they share."""
    k = 3
    tokenizer = KmerTokenizer(k=k, overlapping=True)
    ids = tokenizer.encode(sequence(text)).ids
    n = len(ids)
    masked = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)), bool)
    grammar = tokenizer.allowed(np.where(masked[:, None], tokenizer.vocabulary.mask_ids[0], ids))
    if not masked.any():
        assert grammar is None
        return
    assert grammar is not None
    assert grammar.cells[:, 0].tolist() == np.flatnonzero(masked).tolist()
    known = {j: text[j] for i in range(n) if not masked[i] for j in range(i, i + k)}
    for (index, _), row in zip(grammar.cells.tolist(), grammar.allowed, strict=True):
        for token, ok in zip(tokenizer.fields[0].tokens, row, strict=True):
            agrees = all(known.get(index + j, base) == base for j, base in enumerate(token))
            assert ok == (agrees and len(token) == k) or n == 1


def test_hiding_s_bases_hides_s_plus_k_minus_1_overlapping_words():
    """The leak box of DNABERT: a run of k hidden words hides one base only."""
    tokenizer = KmerTokenizer(k=6, overlapping=True)
    units = tokenizer.units(tokenizer.encode(sequence("ACGT" * 10)).ids)[:, 0]
    for s in (1, 2, 7):
        assert ((units[:, 0] < 20 + s) & (units[:, 1] > 20)).sum() == s + 6 - 1


def test_records_full_of_unknown_bases_need_little_memory():
    encoded = KmerTokenizer(overlapping=True).encode(sequence("ACGTN" * 20_000))
    assert encoded.legal is not None
    assert encoded.legal.allowed.nbytes < 70e6  # all 99,995 words would take 546 MB


@pytest.mark.parametrize("k", range(1, 9))
def test_the_vocabulary_holds_every_word_once(k):
    tokens = KmerTokenizer(k=k).fields[0].tokens
    assert tokens[: 4**k] == tuple("".join(word) for word in product("ACGT", repeat=k))
    assert len(tokens) == len(set(tokens)) == sum(4**n for n in range(1, k + 1))


@pytest.mark.parametrize(
    "options", [{"k": 0}, {"k": 9}, {"k": 3, "phase": 3}, {"overlapping": True, "phase": 1}, {"K": 3}]
)
def test_wrong_options_are_named(options):
    with pytest.raises(UsageError, match=r"k is|phase is|K"):
        KmerTokenizer.from_state(options)


@pytest.mark.parametrize("tokenizer", [KmerTokenizer(), KmerTokenizer(k=3, overlapping=True), KmerTokenizer(phase=2)])
def test_real_genomes_come_back(tokenizer, samples):
    (record,) = Fasta().read(samples / "hpylori_SJM180.fasta.gz")  # one N among 1,658,051 bases
    encoded = tokenizer.encode(record)
    ids, mask = encoded.ids, tokenizer.vocabulary.mask_ids[0]
    assert (ids == mask).sum() == (3 if tokenizer.overlapping else 1)
    assert encoded.legal is not None
    assert encoded.legal.allowed[encoded.legal.cells[:, 0] == np.flatnonzero(ids == mask)[0]].sum() == 4
    words = tokenizer.decode(ids[:1000]).split()
    text = words[0] + "".join(w[-1] for w in words[1:]) if tokenizer.overlapping else "".join(words)
    assert record.residues.startswith(text.encode())
    assert tokenizer.splice(record, ids, ids < mask) == record
    saved = tokenizer_to_json(tokenizer)
    assert tokenizer_from_json(saved, trust_code=True) == tokenizer
