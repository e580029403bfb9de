"""Scores and embeddings against their definitions."""

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maskseq.errors import UsageError
from maskseq.model.config import EncoderConfig
from maskseq.model.encoder import Encoder
from maskseq.predict.embed import embed_records
from maskseq.predict.encoder import EncoderPredict, windows
from maskseq.predict.protocol import Example, of_ids
from maskseq.scoring.score import chain_log_probs, score_records
from maskseq.tokenizer import Tokenizer
from maskseq.types import Encoded, Field, ListRecord
from maskseq_genomics.kmer import KmerTokenizer
from maskseq_genomics.nucleotide import NucleotideTokenizer
from maskseq_genomics.sequence import Sequence as Dna


class Pairs(Tokenizer[ListRecord]):
    fields = (Field(name="x", tokens=("a", "b")), Field(name="y", tokens=("u", "v", "w")))

    def encode(self, record: ListRecord) -> Encoded:
        return Encoded(np.array(record.values))

    def decode(self, ids: np.ndarray) -> list[list[int]]:
        return ids.tolist()


class Table:
    """An exact joint distribution over all sequences of two positions and two fields."""

    def __init__(self) -> None:
        self.sequences = np.array(list(itertools.product(range(2), range(3), range(2), range(3)))).reshape(-1, 2, 2)
        self.probabilities = np.random.default_rng(0).dirichlet(np.full(len(self.sequences), 0.3))
        self.calls: list[int] = []

    def __call__(self, examples: Sequence[Example], cells: Sequence[np.ndarray]) -> list[np.ndarray]:
        sequences = [each.ids for each in examples]
        self.calls.append(len(sequences))
        return [
            np.log(np.stack([self.conditional(ids, cell) for cell in requested]))
            for ids, requested in zip(sequences, cells, strict=True)
        ]

    def conditional(self, ids: np.ndarray, cell: np.ndarray) -> np.ndarray:
        known = ids != np.array([2, 3])
        weight = self.probabilities * (self.sequences[:, known] == ids[known]).all(axis=1)
        values = self.sequences[:, *cell]
        return np.array([weight[values == v].sum() for v in range(3)]) / weight.sum() + 1e-300


def test_pseudo_likelihood_is_each_cell_given_all_others() -> None:
    table, tokenizer = Table(), Pairs()
    ids = np.array([[0, 1], [1, 2]])
    (score,) = score_records(table, [("r", Encoded(ids))], tokenizer=tokenizer, context=8, stride=None)
    for position, field in itertools.product(range(2), range(2)):
        others = (table.sequences == ids).reshape(-1, 4)
        others = np.delete(others, 2 * position + field, axis=1).all(axis=1)
        mine = others & (table.sequences[:, position, field] == ids[position, field])
        exact = table.probabilities[mine].sum() / table.probabilities[others].sum()
        assert score.bits[position, field] == pytest.approx(-math.log2(exact), rel=1e-5)
    assert score.log_likelihood == pytest.approx(-score.bits.sum() * math.log(2), rel=1e-6)
    assert score.mean_bits == pytest.approx(score.bits.mean())


def test_whole_positions_are_hidden_together_when_asked() -> None:
    table, tokenizer = Table(), Pairs()
    ids = np.array([[0, 1], [1, 2]])
    (score,) = score_records(table, [("r", Encoded(ids))], tokenizer=tokenizer, context=8, stride=None, mode="position")
    other = (table.sequences[:, 1] == ids[1]).all(axis=1)
    mine = other & (table.sequences[:, 0, 0] == 0)
    exact = table.probabilities[mine].sum() / table.probabilities[other].sum()
    assert score.bits[0, 0] == pytest.approx(-math.log2(exact), rel=1e-5)


def test_the_chain_rule_gives_the_exact_joint_in_any_order() -> None:
    table = Table()
    sequences = [table.sequences[i] for i in (5, 17, 29)]
    cells = np.argwhere(np.ones((2, 2), bool))
    orders = [cells, cells[::-1], cells[[2, 0, 3, 1]]]
    found = chain_log_probs(table, sequences, orders, vocabulary=Pairs().vocabulary)
    assert [each.sum() for each in found] == pytest.approx(np.log(table.probabilities[[5, 17, 29]]))
    assert table.calls == [10]  # all three begin with the same, everything hidden
    first_two = chain_log_probs(table, sequences[:1], [cells[:2]], vocabulary=Pairs().vocabulary)[0].sum()
    given = table.probabilities[(table.sequences[:, 1] == sequences[0][1]).all(axis=1)].sum()
    assert first_two == pytest.approx(math.log(table.probabilities[5] / given))


def test_strides_take_as_many_passes_as_they_say_and_score_every_known_cell_once() -> None:
    tokenizer = NucleotideTokenizer()
    ids = np.random.default_rng(0).integers(0, 5, (70, 1)).astype(np.uint8)
    requested: list[np.ndarray] = []

    @of_ids
    def predict(sequences: Sequence[np.ndarray], cells: Sequence[np.ndarray]) -> list[np.ndarray]:
        for seen, each in zip(sequences, cells, strict=True):
            known = ids != 4
            assert np.array_equal(np.argwhere(known & (seen == 4)), each)  # hidden = asked, everything else visible
            assert len(set(each[:, 0] % 8)) == 1
            requested.append(each)
        return [np.full((len(each), 4), np.log(0.25)) for each in cells]

    (score,) = score_records(predict, [("r", Encoded(ids))], tokenizer=tokenizer, context=100, stride=8)
    assert len(requested) == 8
    assert np.array_equal(np.sort(np.concatenate(requested)[:, 0]), np.flatnonzero(ids[:, 0] != 4))
    assert np.array_equal(np.isnan(score.bits), ids == 4)
    assert score.bits[ids != 4] == pytest.approx(2.0)


def test_cells_that_share_raw_units_with_a_scored_one_are_hidden_with_it() -> None:
    """Overlapping 3-mers: to score one, the two on either side must be hidden as well."""
    tokenizer = KmerTokenizer(k=3, overlapping=True)
    ids = tokenizer.encode(Dna(key="x", residues=b"ACGTTGCATGCATTGACGT")).ids
    mask = tokenizer.fields[0].mask_id

    @of_ids
    def predict(sequences: Sequence[np.ndarray], cells: Sequence[np.ndarray]) -> list[np.ndarray]:
        for seen, each in zip(sequences, cells, strict=True):
            near = np.abs(np.arange(len(seen))[:, None] - each[:, 0]).min(axis=1) <= 2
            assert np.array_equal(seen[:, 0] == mask, near)
        return [np.zeros((len(each), mask)) for each in cells]

    list(score_records(predict, [("r", Encoded(ids))], tokenizer=tokenizer, context=64, stride=7))


def test_long_records_are_scored_in_windows_and_batches_change_nothing() -> None:
    tokenizer = NucleotideTokenizer()
    rng = np.random.default_rng(0)
    records = [(f"r{n}", Encoded(rng.integers(0, 5, (n, 1)).astype(np.uint8))) for n in (3, 300, 0, 64, 65, 1)]

    @of_ids
    def predict(sequences: Sequence[np.ndarray], cells: Sequence[np.ndarray]) -> list[np.ndarray]:
        assert max(map(len, sequences)) <= 64
        made = []
        for seen, requested in zip(sequences, cells, strict=True):
            logits = np.random.default_rng(seen.ravel()).normal(size=(len(seen), 4))[requested[:, 0]]
            made.append(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))
        return made

    def scores(batch_positions: int) -> list:
        made = score_records(predict, records, tokenizer=tokenizer, context=64, batch_positions=batch_positions)
        return [(each.key, each.bits.tolist(), each.mean_bits) for each in made]

    small, large = scores(1), scores(10**6)
    assert repr(small) == repr(large)
    assert [key for key, _, _ in small] == [key for key, _ in records]
    for (_, bits, _), (_, encoded) in zip(small, records, strict=True):
        assert np.array_equal(np.isnan(np.array(bits).reshape(-1, 1)), encoded.ids == 4)


@given(st.integers(0, 400), st.integers(1, 50), st.sampled_from([0, 1 / 8, 1 / 4, 1 / 2]))
def test_windows_keep_every_position_once_with_half_the_overlap_on_either_side(
    length: int, context: int, overlap: float
) -> None:
    kept = []
    least = (context - max(int(context * (1 - overlap)), 1)) // 2
    for window, keep in windows(length, context, overlap):
        assert window.stop - window.start == min(context, length)
        assert window.start <= keep.start <= keep.stop <= window.stop
        if keep.start > 0:
            assert keep.start - window.start >= least
        if keep.stop < length:
            assert window.stop - keep.stop >= least
        kept += range(keep.start, keep.stop)
    assert kept == list(range(length))


@pytest.fixture(scope="module")
def model() -> Encoder:
    vocabulary = NucleotideTokenizer().vocabulary
    config = EncoderConfig(
        vocabulary=vocabulary, n_layers=2, hidden_size=32, n_heads=2, intermediate_size=48, init_std=0.3, init="normal"
    )
    return Encoder(config, seed=1)


def masked(model: Encoder, ids: np.ndarray) -> np.ndarray:
    n = len(ids)
    with torch.inference_mode():
        states = model(torch.tensor(ids.astype(int)), torch.arange(n), torch.tensor([0, n], dtype=torch.int32), n)
    return states.hidden_states.numpy()


def test_embeddings_are_the_hidden_states_pooled(model: Encoder) -> None:
    rng = np.random.default_rng(0)
    records = [(str(n), Encoded(rng.integers(0, 5, (n, 1)).astype(np.uint8))) for n in (5, 40, 1, 17)]
    for pooling, pool in {"mean": lambda h: h.mean(0), "max": lambda h: h.max(0), "none": lambda h: h}.items():
        made = dict(embed_records(model, records, pooling=pooling, context=64, batch_tokens=30))
        assert list(made) == [key for key, _ in records]
        for key, encoded in records:
            np.testing.assert_allclose(made[key], pool(masked(model, encoded.ids)), atol=2e-5)


def test_both_strands_embed_alike(model: Encoder) -> None:
    tokenizer = NucleotideTokenizer()
    (symmetry,) = tokenizer.symmetries()
    record = Dna(key="x", residues=b"ACGTNNGATTACANNNCC")
    strands = [(key, tokenizer.encode(r)) for key, r in (("+", record), ("-", symmetry.transform(record)))]
    options = {"context": 64, "symmetries": [symmetry]}
    mean = dict(embed_records(model, strands, **options))
    np.testing.assert_allclose(mean["+"], mean["-"], atol=1e-5)
    each = dict(embed_records(model, strands, pooling="none", **options))
    np.testing.assert_allclose(each["+"], each["-"][::-1], atol=1e-5)
    plain = dict(embed_records(model, strands, context=64))
    assert np.abs(plain["+"] - plain["-"]).max() > 1e-2


def test_long_records_are_embedded_window_by_window(model: Encoder) -> None:
    ids = np.random.default_rng(0).integers(0, 4, (150, 1)).astype(np.uint8)
    (each,) = (states for _, states in embed_records(model, [("x", Encoded(ids))], pooling="none", context=64))
    expected = np.concatenate(
        [masked(model, ids[w])[k.start - w.start : k.stop - w.start] for w, k in windows(150, 64)]
    )
    np.testing.assert_allclose(each, expected, atol=2e-5)
    (mean,) = (vector for _, vector in embed_records(model, [("x", Encoded(ids))], context=64, batch_tokens=64))
    np.testing.assert_allclose(mean, each.mean(axis=0), atol=2e-5)


def test_wrong_requests_are_refused(model: Encoder) -> None:
    ((_, vector),) = embed_records(model, [("x", Encoded(np.zeros((0, 1), np.uint8)))], context=64)
    assert np.isnan(vector).all()  # an empty record has nothing to be embedded
    with pytest.raises(UsageError, match="stride is 0"):
        list(score_records(EncoderPredict(model), [], tokenizer=NucleotideTokenizer(), context=64, stride=0))
