"""Tokenizers without an exact symmetry see the other strand and other frames, always on their record's side."""

from pathlib import Path

import numpy as np
import pytest

from maskseq.corpus.build import build_from_records
from maskseq.corpus.reader import Corpus
from maskseq.corpus.splits import SplitConfig
from maskseq.corpus.unknown_runs import UnknownRuns
from maskseq.errors import UsageError
from maskseq.testing import check_tokenizer
from maskseq.tokenizer import Tokenizer
from maskseq_genomics.alphabet import reverse_complement
from maskseq_genomics.bpe import BpeTokenizer
from maskseq_genomics.codon import CodonTokenizer
from maskseq_genomics.kmer import KmerTokenizer
from maskseq_genomics.nucleotide import NucleotideTokenizer
from maskseq_genomics.sequence import Sequence

BPE = BpeTokenizer(merges=(("A", "C"), ("G", "T"), ("AC", "GT"), ("A", "A"), ("T", "AC")))
TOKENIZERS = {
    "6-mers": KmerTokenizer(k=6),
    "5-mers from 3": KmerTokenizer(k=5, phase=3),
    "BPE": BPE,
    "codons": CodonTokenizer(coding=False),
}


def genome(n: int, seed: int, *, share_unknown: float = 0.0, key: str = "chr") -> Sequence:
    rng = np.random.default_rng(seed)
    residues = rng.choice(list(b"ACGT"), size=n).astype(np.uint8)
    residues[rng.random(n) < share_unknown] = ord("N")
    return Sequence(key=key, residues=residues.tobytes())


def bases_of(corpus: Corpus, sequences: np.ndarray, record: Sequence) -> set[int]:
    """Which bases of the record the sequences depend on, in its own coordinates: from what is stored, spelled out."""
    found: set[int] = set()
    for i in sequences.tolist():
        if corpus.key(i) != record.key:
            continue
        number = corpus.variant(i)
        seen = record
        units = corpus.tokenizer.units
        if number:
            variant = list(corpus.tokenizer.variants(record))[abs(number) - 1]
            assert variant.reverse == (number < 0)
            seen, units = variant.record, variant.tokenizer.units
            whole = variant.tokenizer.encode(seen).ids
        else:
            whole = corpus.tokenizer.encode(seen).ids
        start, stop = int(corpus.starts[i]), int(corpus.starts[i] + corpus.lengths[i])
        np.testing.assert_array_equal(corpus.read(i).ids, whole[start:stop])
        covered = {
            u for first, last in units(whole)[start:stop, 0].tolist() for u in range(first, min(last, len(seen)))
        }
        found |= {len(record) - 1 - u for u in covered} if number < 0 else covered
    return found


@pytest.mark.parametrize("share_unknown", [0.0, 0.05])
@pytest.mark.parametrize("name", TOKENIZERS)
def test_no_variant_carries_held_out_bases_into_training(name: str, share_unknown: float, tmp_path: Path) -> None:
    record = genome(3001, 0, share_unknown=share_unknown)
    corpus = build_from_records(
        [record, genome(500, 1, key="other")],
        output=tmp_path / "c",
        tokenizer=TOKENIZERS[name],
        split=SplitConfig(regions=("chr:1001-1203",), guard=0),
        variants=12,
        unknown=UnknownRuns(cut_from=0),
    )
    n_variants = len(list(TOKENIZERS[name].variants(record)))
    assert n_variants >= 1
    assert {corpus.variant(i) for i in corpus.sequences("validation")} >= {0, -1}
    trained = bases_of(corpus, corpus.sequences("train"), record)
    held_out = bases_of(corpus, corpus.sequences("validation"), record)
    region = set(range(1000, 1203))
    assert not trained & region
    assert held_out <= region
    assert len(trained) > 2700  # all but the words that lie across the edges
    assert len(held_out) > 190


def test_both_strands_and_all_frames_of_words_exist_and_the_key_decides_which_comes_first() -> None:
    tokenizer = KmerTokenizer(k=4)
    first = set()
    for key in "abcdefghijklmnopqrstuvwxyz":
        record = genome(101, 0, key=key)
        seen = [(v.reverse, v.tokenizer.phase) for v in tokenizer.variants(record)]
        assert sorted([*seen, (False, 0)]) == [(reverse, phase) for reverse in (False, True) for phase in range(4)]
        assert seen[0][0]
        first.add(seen[0])
        for variant in tokenizer.variants(record):
            assert variant.record == (reverse_complement(record) if variant.reverse else record)
    assert len(first) == 4


def test_exact_symmetries_and_coding_sequences_have_no_variants() -> None:
    record = Sequence(key="gene", residues=b"ATGAAACCCTAA")
    for tokenizer in (NucleotideTokenizer(), KmerTokenizer(overlapping=True), CodonTokenizer()):
        assert not list(tokenizer.variants(record))


def test_records_are_counted_apart_from_their_variants_and_stay_on_one_side(tmp_path: Path) -> None:
    records = [genome(300 + 7 * i, i, key=f"read{i}") for i in range(40)]
    split = SplitConfig(by="record", validation=0.2)
    corpora = {
        n: build_from_records(records, output=tmp_path / str(n), tokenizer=KmerTokenizer(), split=split, variants=n)
        for n in (0, 1, 3)
    }
    sides = {
        n: [{corpus.key(i) for i in corpus.sequences(name)} for name in ("train", "validation")]
        for n, corpus in corpora.items()
    }
    assert sides[0] == sides[1] == sides[3]
    assert not sides[3][0] & sides[3][1]
    for n, corpus in corpora.items():
        assert (corpus.manifest["records"], corpus.manifest["variant_records"]) == (40, 40 * n)
        assert len(corpus.lengths) == 40 * (1 + n)
        assert corpus.manifest["units"] == sum(map(len, records))
        assert corpus.manifest["split"]["duplicate_records"] == corpus.manifest["split"]["repeated_keys"] == 0


def test_a_record_and_its_reverse_complement_stand_on_one_side(tmp_path: Path) -> None:
    """Which nothing but the variants can tell, where the tokenizer has no symmetry."""
    originals = [genome(200 + i, i, key=f"r{i}") for i in range(50)]
    turned = [Sequence(key=f"turned {r.key}", residues=reverse_complement(r).residues) for r in originals]
    split = SplitConfig(by="record", validation=0.3)
    corpus = build_from_records([*originals, *turned], output=tmp_path / "c", tokenizer=KmerTokenizer(), split=split)
    sides = [{corpus.key(i).split()[-1] for i in corpus.sequences(name)} for name in ("train", "validation")]
    assert not sides[0] & sides[1]
    assert corpus.manifest["split"]["duplicate_records"] == 50


@pytest.mark.parametrize("name", TOKENIZERS)
def test_variants_keep_the_contract(name: str) -> None:
    records = [
        genome(n, n, share_unknown=share, key=str(n)) for n, share in ((400, 0.0), (401, 0.2), (7, 0.0), (3, 0.5))
    ]
    assert "variants" in check_tokenizer(TOKENIZERS[name], records).checked


def test_a_negative_number_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="variants is -1"):
        build_from_records([genome(9, 0)], output=tmp_path / "c", tokenizer=KmerTokenizer(), variants=-1)


@pytest.mark.parametrize("soft_mask_weight", [1.0, 0.1])
def test_records_are_encoded_together_as_alone(soft_mask_weight: float) -> None:
    tokenizer: Tokenizer[Sequence] = NucleotideTokenizer(soft_mask_weight=soft_mask_weight)
    texts = [b"ACGT", b"RYNacgt", b"", b"NNNN", b"acgu", b"TTTTK"]
    records = [Sequence(key=str(i), residues=text) for i, text in enumerate(texts)]
    for together, record in zip(tokenizer.encode_many(records), records, strict=True):
        alone = tokenizer.encode(record)
        np.testing.assert_array_equal(together.ids, alone.ids)
        assert (together.weights is None) == (alone.weights is None)
        assert alone.weights is None or (alone.weights == together.weights).all()
        assert (together.legal is None) == (alone.legal is None)
        if alone.legal is not None and together.legal is not None:
            np.testing.assert_array_equal(together.legal.cells, alone.legal.cells)
            np.testing.assert_array_equal(together.legal.allowed, alone.legal.allowed)
    wrong = [records[0], Sequence(key="bad", residues=b"AC-T", path="a.fa", line=7)]
    with pytest.raises(ValueError, match=r"a\.fa: line 7, record 'bad', position 3"):
        tokenizer.encode_many(wrong)
