"""Methods weighted by a window's own known numbers: convex, honest, and unmoved by drifts."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskseq.predict.experts.convex import convex_weights
from maskseq.predict.experts.number_blend import (
    NumberBlend,
    PriorErrors,
    hidden_again,
    refuted,
)
from maskseq.predict.experts.number_experts import Numbered, count_numbers, series_of
from maskseq.predict.experts.number_prior import count_blend
from maskseq.predict.experts.sentinels import sentinels
from maskseq.predict.protocol import Example
from maskseq.predict.stated import Stated
from maskseq_signals.recording import Recording
from maskseq_signals.tokenizer import QuantizeTokenizer


def walks(rng: np.random.Generator, length: int, n: int = 3) -> np.ndarray:
    """Smooth channels of which each knows of the next."""
    noise = rng.normal(size=(length + 60, n))
    kernel = np.exp(-np.arange(30) / 8.0)
    smooth = np.stack([np.convolve(column, kernel, mode="valid")[:length] for column in noise.T], axis=1)
    daily = np.sin(2 * np.pi * np.arange(length) / 24 + rng.uniform(0, 6))[:, None]
    return np.asarray(smooth + 0.5 * np.roll(smooth, 1, axis=1) + daily)


def fitted(train: np.ndarray) -> tuple[QuantizeTokenizer, NumberBlend]:
    names = tuple(f"c{i}" for i in range(train.shape[1]))
    record = Recording(key="r", channels=train, names=names)
    tokenizer = QuantizeTokenizer.fit([record], bins=32)
    return tokenizer, count_blend(Numbered([tokenizer.encode(record).ids], [train]), tokenizer, context=96)


@pytest.fixture(scope="module")
def made() -> tuple[np.ndarray, QuantizeTokenizer, NumberBlend]:
    train = walks(np.random.default_rng(0), 3000)
    return train, *fitted(train)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), st.integers(2, 40), st.integers(0, 10**6))
def test_weights_are_the_best_convex_ones(n: int, cells: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    errors = rng.normal(size=(cells, n)) * rng.uniform(0.1, 3, size=n) + rng.normal(size=(cells, 1))
    gram = errors.T @ errors
    found = convex_weights(gram)
    assert found.min() >= 0
    assert found.sum() == pytest.approx(1)
    drawn = gram + 1e-3 * np.diag(gram).min() * np.eye(n)
    others = np.concatenate([rng.dirichlet(np.ones(n), size=200), np.eye(n)])
    assert found @ drawn @ found <= np.einsum("ij,jk,ik->i", others, drawn, others).min() * (1 + 1e-6)


def test_what_is_hidden_again_has_the_shape_of_the_holes() -> None:
    rng = np.random.default_rng(0)
    known = np.ones((200, 3), bool)
    known[50:60] = False
    known[100:110, 1] = False
    again = hidden_again(known, rng)
    assert not (again & ~known).any()
    assert 0 < again.sum() <= 0.2 * known.sum()
    for column in again.T:
        edges = np.flatnonzero(np.diff(column, prepend=False, append=False)).reshape(-1, 2)
        assert ((edges[:, 1] - edges[:, 0]) % 10 == 0).all()
    assert again.all(axis=1).any()
    assert (again.any(axis=1) & ~again.all(axis=1)).any()


def masked_example(
    values: np.ndarray, tokenizer: QuantizeTokenizer, rng: np.random.Generator
) -> tuple[Example, np.ndarray]:
    masked = rng.random(values.shape) < 0.3
    start = int(rng.integers(10, 70))
    masked[start : start + 12, int(rng.integers(values.shape[1]))] = True
    shown = np.where(masked, np.nan, values)
    record = Recording(key="r", channels=shown, names=tuple(c.name for c in tokenizer.channels))
    return Example(tokenizer.encode(record).ids, shown), np.argwhere(masked)


DRIFTS = {
    "none": lambda x, sd: x,
    "offset": lambda x, sd: x + 5 * sd,
    "gain": lambda x, sd: 2 * x,
    "ramp": lambda x, sd: x + 5 * sd * np.linspace(0, 1, len(x))[:, None],
    "re-zeroed": lambda x, sd: x - 3 * sd * (np.arange(x.shape[1]) == 1),
}


LEVEL_FREE = ("Gaussian, any level", "Gaussian, any level and trend", "Gaussian of alike windows", "lines")


def judged(
    blend: NumberBlend, tokenizer: QuantizeTokenizer, test: np.ndarray, drift: str, sd: np.ndarray, windows: int
) -> tuple[float, float, np.ndarray]:
    """Mean z-scored squared error, that of the best method without a level, and coverage at 50, 80 and 95 %."""
    rng = np.random.default_rng(1)
    moved, squares, held = DRIFTS[drift](test, sd), [], []
    for start in rng.integers(0, len(test) - 96, size=windows).tolist():
        values = moved[start : start + 96]
        example, cells = masked_example(values, tokenizer, rng)
        (answered,) = blend.stated([example], [cells])
        others = [blend.experts[name].stated([example], [cells])[0] for name in LEVEL_FREE]
        truth, scale = values[tuple(cells.T)], sd[cells[:, 1]]
        squares.append([(((each.mean - truth) / scale) ** 2).mean() for each in (answered, *others)])
        bounds = answered.quantile(np.broadcast_to([0.25, 0.75, 0.1, 0.9, 0.025, 0.975], (len(cells), 6))).T
        held.append([((low <= truth) & (truth <= high)).mean() for low, high in bounds.reshape(3, 2, -1)])
    errors = np.mean(squares, axis=0)
    return float(errors[0]), float(errors[1:].min()), np.mean(held, axis=0)


@pytest.mark.parametrize("drift", DRIFTS)
def test_under_a_drift_the_blend_is_as_good_as_the_best_method_that_needs_no_level(
    made: tuple[np.ndarray, QuantizeTokenizer, NumberBlend], drift: str
) -> None:
    train, tokenizer, blend = made
    test = walks(np.random.default_rng(5), 2000)
    error, best, coverage = judged(blend, tokenizer, test, drift, train.std(axis=0), 15)
    assert error <= 1.05 * best
    np.testing.assert_allclose(coverage, [0.5, 0.8, 0.95], atol=0.08)


def test_a_drifting_transformer_is_filled_as_one_that_does_not(shared_data: Path) -> None:
    values = np.genfromtxt(shared_data / "signals" / "ETTh1.csv", delimiter=",", skip_header=1, usecols=(1, 3, 7))
    train, test = values[:3000], values[11520:12520]
    tokenizer, blend = fitted(train)
    before, _, usual = judged(blend, tokenizer, test, "none", train.std(axis=0), 6)
    error, _, coverage = judged(blend, tokenizer, test, "offset", train.std(axis=0), 6)
    assert error < 1.05 * before
    np.testing.assert_allclose(coverage, usual, atol=0.08)


def test_sentinels_are_rejected_and_measurements_are_not(
    made: tuple[np.ndarray, QuantizeTokenizer, NumberBlend],
) -> None:
    train, tokenizer, blend = made
    sd, rng = train.std(axis=0), np.random.default_rng(3)
    values = walks(rng, 96)
    for drift in DRIFTS.values():
        assert not sentinels(drift(values, sd), sd).any()
    example, cells = masked_example(values, tokenizer, rng)
    assert example.numbers is not None
    broken = example.numbers.copy()
    wild = ~np.isnan(broken) & (rng.random(broken.shape) < 0.02)
    broken[wild] = -99999
    unknown = tokenizer.vocabulary.masked(example.ids, wild)
    (clean,) = blend.stated([Example(unknown, np.where(wild, np.nan, broken))], [cells])
    (answered,) = blend.stated([Example(example.ids, broken)], [cells])
    np.testing.assert_array_equal(sentinels(broken, sd), wild)
    np.testing.assert_allclose(answered.mean, clean.mean)
    np.testing.assert_allclose(answered.quantiles, clean.quantiles)


def test_an_encoder_takes_part_by_its_bins(made: tuple[np.ndarray, QuantizeTokenizer, NumberBlend]) -> None:
    _, tokenizer, blend = made
    values = walks(np.random.default_rng(7), 96)
    truth = tokenizer.encode(Recording(key="r", channels=values, names=("c0", "c1", "c2"))).ids
    n = max(tokenizer.vocabulary.n_outputs)

    def encoder(examples: object, cells: list[np.ndarray]) -> list[np.ndarray]:
        """Knows the bins."""
        found = [np.full((len(requested), n), -np.inf) for requested in cells]
        for answer, requested in zip(found, cells, strict=True):
            answer[np.arange(len(requested)), truth[tuple(requested.T)]] = 0
        return found

    both = NumberBlend(
        blend.experts | {"encoder": encoder}, tokenizer.vocabulary, blend.frequencies, blend.std, blend.prior
    )
    example, _ = masked_example(values, tokenizer, np.random.default_rng(8))
    assert both.weights_of(example)["encoder"] > 0.5


def test_numbers_are_counted_where_they_are_known() -> None:
    train = walks(np.random.default_rng(0), 400)
    record = Recording(key="r", channels=train, names=("a", "b", "c"))
    tokenizer = QuantizeTokenizer.fit([record], bins=16)
    ids = tokenizer.encode(record).ids
    np.testing.assert_array_equal(series_of(Numbered([ids], [train]), tokenizer)[0], train)
    centres = series_of(Numbered([ids]), tokenizer)[0]
    assert len(np.unique(centres)) <= 48
    predict = count_numbers(Numbered([ids], [train]), tokenizer)["lines"]
    shown = train[:50] + 100.0
    shown[20] = np.nan
    (answered,) = predict.stated(
        [Example(tokenizer.vocabulary.masked(ids[:50], np.isnan(shown)), shown)], [np.array([[20, 0]])]
    )
    assert isinstance(answered, Stated)
    assert answered.mean[0] == pytest.approx((shown[19, 0] + shown[21, 0]) / 2)


def test_a_method_that_a_drift_has_broken_loses_what_it_was_worth_in_training() -> None:
    before = np.array([1.0, 2.0])
    np.testing.assert_allclose(refuted(before, np.array([500.0, 2.0]), 0), [1, 1])
    one, many = (refuted(before, np.array([500.0, 2.0]), n) for n in (1, 100))
    assert 50 < one[0] < many[0] < 500
    np.testing.assert_allclose([one[1], many[1]], 1)
    np.testing.assert_allclose(refuted(before, 3 * before, 1e9), [3, 3])


def test_a_window_where_all_methods_are_fine_does_not_decide() -> None:
    errors = np.array([[1e-6, 1e-4]] * 10 + [[1.0, 0.1]] * 10)
    prior = PriorErrors(("a", "b"), errors, np.ones_like(errors), np.repeat([0, 1], 10), np.ones(20, int))
    squares = (prior.scaled**2).mean(axis=0)
    assert squares[1] < squares[0]
