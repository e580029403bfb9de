"""Mixtures of simple methods, and who is offered for which vocabulary."""

import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskseq.baselines.baselines import Baselines
from maskseq.baselines.mixtures import EQUAL, FITTED, Mixture
from maskseq.predict.blend import Blend, Gate, holes
from maskseq.predict.experts import remembered as module
from maskseq.predict.experts.markov import Markov, best_order
from maskseq.predict.experts.remembered import Remembered
from maskseq.predict.protocol import Example
from maskseq.tokenizer import Tokenizer
from maskseq.types import Encoded, Field, ListRecord, Vocabulary
from maskseq_genomics.nucleotide import NucleotideTokenizer

LEVELS = tuple(np.linspace(-1.5, 1.5, 31).tolist())


@dataclass(frozen=True, kw_only=True)
class Levels(Tokenizer[ListRecord]):
    """31 levels of a signal."""

    fields = (Field(name="level", tokens=tuple(map(str, range(31))), centres=LEVELS),)

    def encode(self, record: ListRecord) -> Encoded:
        return Encoded(np.array(record.values, dtype=np.uint8)[:, None])

    def decode(self, ids: np.ndarray) -> list[int]:
        return ids[:, 0].tolist()


ABC = Vocabulary.of([Field(name="x", tokens=tuple("abc"))])


class Says:
    """The same distribution whatever is asked."""

    def __init__(self, *probabilities: float) -> None:
        self.answer, self.calls = np.log(np.array(probabilities)), 0

    def __call__(self, examples: Sequence[Any], cells: Sequence[Any]) -> list[np.ndarray]:
        self.calls += 1
        return [np.tile(self.answer, (len(requested), 1)) for requested in cells]


def requested(n: int) -> tuple[list[Example], list[np.ndarray]]:
    return [Example(np.full((n, 1), 3))], [np.stack([np.arange(n), np.zeros(n, int)], axis=1)]


def test_mixtures_are_by_formula() -> None:
    a, b = Says(0.7, 0.2, 0.1), Says(0.1, 0.1, 0.8)
    (mean,) = Mixture({"a": a, "b": b}, ABC)(*requested(2))
    np.testing.assert_allclose(np.exp(mean[0]), [0.4, 0.15, 0.45], atol=1e-5)
    gate = Gate(np.array([[1.0, 0.5]] * 3), 0)
    (product,) = Blend({"a": a, "b": b}, gate, ABC)(*requested(2))
    expected = np.array([0.7, 0.2, 0.1]) * np.sqrt([0.1, 0.1, 0.8])
    np.testing.assert_allclose(np.exp(product[0]), expected / expected.sum(), atol=1e-5)


def test_weights_stay_equal_for_few_cells_and_follow_the_better_method_for_many() -> None:
    good, bad = Says(0.7, 0.2, 0.1), Says(0.1, 0.1, 0.8)
    truth = np.random.default_rng(0).choice(3, p=[0.7, 0.2, 0.1], size=3000)
    mixture = Mixture({"good": good, "bad": bad}, ABC)
    for n in (50, 300, 3000):
        fitted = mixture.fitted(*requested(n), truth[:n])
        weights = fitted.gate.weights[2]
        if n == 50:
            assert weights.tolist() == [0.5, 0.5]
        else:
            assert weights[0] > 2 * weights[1]
    np.testing.assert_allclose(np.exp(fitted(*requested(5))[0][0]), [0.7, 0.2, 0.1], atol=0.05)


def test_fitted_weights_minimise_the_penalised_loss() -> None:
    """No small step from them is better."""
    rng = np.random.default_rng(0)
    log_probs = np.log(rng.dirichlet(np.ones(3), size=(2, 400)))
    truth = np.array([rng.choice(3, p=np.exp(row)) for row in log_probs[0]])
    gate = Gate.fit(log_probs, truth, np.zeros(400, int), 1)

    def loss(weights: np.ndarray) -> float:
        mixed = np.einsum("m,mni->ni", weights, log_probs)
        mixed -= np.logaddexp.reduce(mixed, axis=1, keepdims=True)
        free = np.log(np.expm1(weights)) - np.log(np.expm1(0.5))
        return float(-mixed[np.arange(400), truth].mean() + 3 * (free**2).sum() / 400)

    best = loss(gate.weights[0])
    for step in np.random.default_rng(1).normal(scale=0.02, size=(20, 2)):
        assert loss(gate.weights[0] + step) >= best - 1e-9


def test_answers_are_remembered() -> None:
    says = Says(0.2, 0.3, 0.5)
    remembered = Remembered(says)
    first = remembered(*requested(3))
    first[0][:] = 0
    np.testing.assert_array_equal(remembered(*requested(3))[0], says(*requested(3))[0])
    remembered(*requested(4))
    assert says.calls == 3  # two of them through `remembered`


def test_answers_are_remembered_whoever_else_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several threads, while there is room for the answers of one."""
    monkeypatch.setattr(module, "REMEMBERED", 1)
    says = Says(0.2, 0.3, 0.5)
    remembered, expected = Remembered(says), says(*requested(1))[0]
    switched = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as threads:
            asked = [threads.submit(remembered, *requested(1 + i % 5)) for i in range(400)]
            for each in asked:
                np.testing.assert_array_equal(each.result()[0][0], expected[0])
    finally:
        sys.setswitchinterval(switched)
    assert remembered.size == sum(each.nbytes for answers in remembered.kept.values() for each in answers)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.booleans(), max_size=12))
def test_holes_are_measured(masked: list[bool]) -> None:
    found = holes(np.array(masked, bool)[:, None])[:, 0].tolist()
    text = "".join("x" if each else "." for each in masked)
    expected = [len(part) for part in text.replace(".", " . ").split() for _ in part if part != "."]
    assert [size for size in found if size] == expected


@pytest.mark.parametrize("order", [1, 2, 3])
def test_the_order_of_a_chain_is_found(order: int) -> None:
    rng = np.random.default_rng(order)
    table = rng.dirichlet(np.full(3, 0.2), size=(3,) * order)
    ids = [0] * order
    for _ in range(6000):
        ids.append(int(rng.choice(3, p=table[tuple(ids[-order:])])))
    assert best_order([np.array(ids)], n_ids=3, largest=3**6) == order
    assert best_order([np.array(ids)], n_ids=3, largest=9) == 1


def test_orders_are_chosen_by_each_id_left_out() -> None:
    """Counted again without each id in turn."""
    ids = np.random.default_rng(0).integers(3, size=60)
    worth = {}
    for order in (1, 2, 3):
        total = []
        for at in range(order, len(ids)):
            context, count, hits = ids[at - order : at], 0, 0
            for other in range(order, len(ids)):
                if other != at and (ids[other - order : other] == context).all():
                    count, hits = count + 1, hits + int(ids[other] == ids[at])
            total.append(np.log((hits + 0.5) / (count + 1.5)))
        worth[order] = np.mean(total)
    assert best_order([ids], n_ids=3, largest=3**4) == max(worth, key=lambda order: worth[order])
    assert Markov.count([ids], n_ids=3, order=1).order == 1


def test_genomes_have_tables_copies_and_mixtures() -> None:
    rng = np.random.default_rng(0)
    genome = rng.integers(4, size=(3000, 1)).astype(np.uint8)
    baselines = Baselines([genome], NucleotideTokenizer(), 5, every=True, selection=[Encoded(genome[:1500])])
    assert {"12 + 12 neighbours", "copies", "best Markov chain", EQUAL, FITTED} <= set(baselines.predicts)
    masked = genome[:2900].copy()  # of all of it, all would be left out
    masked[100:105] = 4
    cells = np.array([[position, 0] for position in range(100, 105)])
    for name, predict in baselines.predicts.items():
        (answer,) = predict([Example(masked)], [cells])
        assert answer.shape == (5, 4), name
        np.testing.assert_allclose(np.exp(answer).sum(axis=1), 1, rtol=1e-6, err_msg=name)
    (copied,) = baselines.predicts["copies"]([Example(masked)], [cells])
    assert (copied.argmax(axis=1) == genome[100:105, 0]).all()
    assert baselines.repeats is not None


def test_signals_have_gaussians_lines_and_seasons() -> None:
    rng = np.random.default_rng(0)
    at = np.arange(2000)
    wave = np.sin(2 * np.pi * at / 24) + 0.1 * rng.normal(size=2000)
    ids = np.clip(np.round((wave + 1.5) * 10), 0, 30).astype(np.uint8)[:, None]
    baselines = Baselines([ids], Levels(), 2, every=True, selection=[Encoded(ids)])
    assert {"Gaussian", "Gaussian, any level", "lines", "last value", "season of 24", FITTED} <= set(baselines.predicts)
    assert baselines.repeats is None
    masked = ids.copy()
    masked[1000:1012] = 31
    cells = np.array([[position, 0] for position in range(1000, 1012)])
    errors = {}
    for name, predict in baselines.predicts.items():
        (answer,) = predict([Example(masked)], [cells])
        np.testing.assert_allclose(np.exp(answer).sum(axis=1), 1, rtol=1e-6, err_msg=name)
        errors[name] = float(((np.exp(answer) @ np.array(LEVELS) - wave[1000:1012]) ** 2).mean())
    assert errors["Gaussian"] < 0.1 < errors["lines"]
    assert errors["season of 24"] < 0.1
