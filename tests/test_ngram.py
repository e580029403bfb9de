"""Context tables inside the encoder: counted by the formula, looked up as counted, left alone by training."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))

from corpora import Letters, random_texts

import maskseq
from maskseq.corpus.reader import Corpus
from maskseq.model.config import EncoderConfig
from maskseq.model.encoder import Encoder
from maskseq.model.priors.config import NgramPriorConfig
from maskseq.model.priors.ngram import STRENGTHS, combinations, context_table
from maskseq.predict.experts.tables import ContextTables
from maskseq.predict.protocol import Example
from maskseq.types import Field, Vocabulary

BASES = Vocabulary.of([Field(name="base", tokens=tuple("ACG"))])
TWO = Vocabulary.of([Field(name="sky", tokens=tuple("sc")), Field(name="wind", tokens=("weak", "strong", "storm"))])
MASK = BASES.mask_ids[0]
sequences = st.lists(st.lists(st.integers(0, MASK), min_size=0, max_size=12), min_size=1, max_size=4)


def tables(model: Encoder) -> list[nn.Module]:
    return list(model.embeddings.priors["ngram_prior"].children())


def brute_force(texts: list[list[int]], around: tuple[int, ...]) -> list[float]:
    """P(id | around) by recursion over pairs, `[MASK]` matching anything; strengths by leaving one out."""
    depth = len(around) // 2
    padded = [[MASK] * depth + text + [MASK] * depth for text in texts]
    cells = [
        (tuple(text[i - depth : i] + text[i + 1 : i + 1 + depth]), text[i])
        for text in padded
        for i in range(depth, len(text) - depth)
        if text[i] < MASK
    ]

    def matching(context: tuple[int, ...]) -> list[int]:
        fits = [id for seen, id in cells if all(c in (MASK, s) for c, s in zip(context, seen, strict=True))]
        return [fits.count(id) for id in range(MASK)]

    def narrowed(context: tuple[int, ...], pairs: int) -> tuple[int, ...]:
        outer = depth - pairs
        return tuple(c if outer <= i < 2 * depth - outer else MASK for i, c in enumerate(context))

    def probabilities(context: tuple[int, ...], pairs: int) -> list[float]:
        below = probabilities(context, pairs - 1) if pairs else [1 / MASK] * MASK
        counts, s = matching(narrowed(context, pairs)), strength(pairs)
        return [(n + s * p) / (sum(counts) + s) for n, p in zip(counts, below, strict=True)]

    strengths: dict[int, float] = {}

    def strength(pairs: int) -> float:
        if pairs not in strengths:
            digits = range(MASK + 1)
            inner = [()]
            for _ in range(2 * pairs):
                inner = [(*context, digit) for context in inner for digit in digits]
            reported = []
            for context in inner:
                whole = (MASK,) * (depth - pairs) + context + (MASK,) * (depth - pairs)
                below = probabilities(whole, pairs - 1) if pairs else [1 / MASK] * MASK
                reported.append((matching(whole), below))
            gains = [
                sum(
                    n * math.log((n - 1 + s * p) / (sum(counts) - 1 + s))
                    for counts, below in reported
                    for n, p in zip(counts, below, strict=True)
                    if n
                )
                for s in STRENGTHS
            ]
            strengths[pairs] = float(STRENGTHS[int(np.argmax(gains))])
        return strengths[pairs]

    return probabilities(around, depth)


@given(sequences)
@settings(max_examples=30, deadline=None)
def test_tables_are_counted_as_the_formula_says(texts: list[list[int]]) -> None:
    arrays = [np.array(text, np.uint8) for text in texts]
    table = context_table(arrays, n_rows=MASK + 1, n_outputs=MASK, mask_id=MASK, depth=1)
    for code in range((MASK + 1) ** 2):
        expected = np.log(brute_force(texts, (code // (MASK + 1), code % (MASK + 1))))
        np.testing.assert_allclose(table[code], expected - expected.mean(), atol=1e-5)


def test_deeper_tables_are_counted_as_the_formula_says() -> None:
    rng = np.random.default_rng(0)
    texts = [rng.integers(0, MASK + 1, size=n).tolist() for n in (25, 3, 14)]
    arrays = [np.array(text, np.uint8) for text in texts]
    table = context_table(arrays, n_rows=MASK + 1, n_outputs=MASK, mask_id=MASK, depth=2)
    for code in rng.integers(0, (MASK + 1) ** 4, size=12).tolist():
        digits = tuple(code // (MASK + 1) ** power % (MASK + 1) for power in (3, 2, 1, 0))
        expected = np.log(brute_force(texts, digits))
        np.testing.assert_allclose(table[code], expected - expected.mean(), atol=1e-5)


def test_a_chain_is_predicted_as_well_as_by_the_context_tables_that_evaluate_uses() -> None:
    rng = np.random.default_rng(1)
    steps = rng.dirichlet([0.4] * 3, size=(3, 3))
    ids = [0, 1]
    for _ in range(12_000):
        ids.append(int(rng.choice(3, p=steps[ids[-2], ids[-1]])))
    train, test = np.array(ids[:10_000], np.uint8)[:, None], np.array(ids[10_000:], np.uint8)[:, None]
    table = context_table([train[:, 0]], n_rows=4, n_outputs=3, mask_id=3, depth=2)
    codes = combinations(torch.tensor(test, dtype=torch.int64), torch.arange(len(test)), 2, 2, BASES)[:, 0].numpy()
    log_p = table[codes] - np.logaddexp.reduce(table[codes], axis=1, keepdims=True)
    ours = -log_p[np.arange(len(test)), test[:, 0]].mean()
    cells = np.argwhere(np.ones_like(test))
    (requested,) = ContextTables([train], vocabulary=BASES, depth=2)([Example(test)], [cells])
    theirs = -requested[np.arange(len(test)), test[:, 0]].mean()
    assert ours == pytest.approx(theirs, abs=0.01)


def test_the_encoder_adds_what_the_table_says_of_each_field() -> None:
    shape = {"n_layers": 1, "hidden_size": 16, "n_heads": 2, "intermediate_size": 8, "embedding_norm": False}
    with_table = Encoder(EncoderConfig(vocabulary=TWO, ngram_prior=NgramPriorConfig(depth=1), **shape), seed=0)
    bare = Encoder(EncoderConfig(vocabulary=TWO, **shape), seed=0)
    bare.load_state_dict({name: with_table.state_dict()[name] for name in bare.state_dict()})
    rng = np.random.default_rng(2)
    texts = [np.stack([rng.integers(0, 2, size=n), rng.integers(0, 3, size=n)], axis=1) for n in (30, 50)]
    with_table.embeddings.count(texts)

    ids = torch.tensor([[0, 3], [2, 1], [1, 0], [0, 2]])  # the third row of each field is [MASK] where one stands
    positions = torch.arange(4)
    expected, _ = bare.embeddings(ids, positions)
    for field, mask in enumerate(TWO.mask_ids):
        column = [mask, *ids[:, field].tolist(), mask]
        module = tables(with_table)[field]
        rows = [column[i] * TWO.n_rows[field] + column[i + 2] for i in range(4)]
        table = context_table(
            [text[:, field] for text in texts],
            n_rows=TWO.n_rows[field],
            n_outputs=TWO.n_outputs[field],
            mask_id=mask,
            depth=1,
        )
        expected = expected + torch.tensor(table[rows]) @ module.project.weight.T
    found, prior = with_table.embeddings(ids, positions)
    torch.testing.assert_close(found, expected)
    assert not prior


def test_what_is_hidden_says_nothing_of_itself() -> None:
    ids = torch.tensor([[0], [1], [2], [1]])
    other = ids.clone()
    other[2] = 0
    one, two = (combinations(each, torch.arange(4), 2, 1, BASES)[2] for each in (ids, other))
    assert torch.equal(one, two)


def test_a_run_counts_its_training_data_on_both_strands_once_and_goes_on_with_that(tmp_path: Path) -> None:
    records = random_texts(60, 40, seed=3)
    recipe = {
        "blend": False,
        "data": {"split": {"selection": 0.3}},
        "tokenizer": {},
        "model": {"preset": "nano", "n_layers": 1, "ngram_prior": {"depth": 1}, "phase_embeddings": {"periods": [3]}},
        "packing": {"row_tokens": 128, "context": 64},
        "training": {"tokens": 800, "rows": 1, "precision": "fp32"},
    }
    run = maskseq.pretrain(recipe, output=tmp_path / "run", tokenizer=Letters(), records=records)
    (complement,) = Letters().symmetries()
    train = [encoded.ids for _, encoded in Corpus.open(tmp_path / "run" / "corpus", trust_code=True).each("train")]
    assert 0 < len(train) < len(records)
    vocabulary = Letters().vocabulary
    for field in range(2):
        expected = context_table(
            [view[:, field] for ids in train for view in (ids, complement.ids(ids))],
            n_rows=vocabulary.n_rows[field],
            n_outputs=vocabulary.n_outputs[field],
            mask_id=vocabulary.mask_ids[field],
            depth=1,
        )
        np.testing.assert_array_equal(tables(run.model)[field].log_p.numpy(), expected)
        assert tables(run.model)[field].project.weight.std() > 0

    recipe["training"] |= {"tokens": 1600}
    more = maskseq.pretrain(
        recipe, output=tmp_path / "more", tokenizer=Letters(), records=records, branch=tmp_path / "run"
    )
    for before, after in zip(tables(run.model), tables(more.model), strict=True):
        assert torch.equal(before.log_p, after.log_p)
        assert not torch.equal(before.project.weight, after.project.weight)
