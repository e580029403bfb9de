"""Gaussians, simple fills with variances and periods against formulas and made series."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskseq.model import gaussian
from maskseq.model.gaussian import Conditioned, Stationary
from maskseq.predict.experts import imputers
from maskseq.predict.experts.aligned import Aligned, averaged, shrunk
from maskseq.predict.experts.numbers import NumberPredict, Spread, distance_groups
from maskseq.predict.protocol import Example
from maskseq.survey.periods import found_period
from maskseq.types import Field, Vocabulary


def walk(rng: np.random.Generator, length: int, phi: float = 0.9) -> np.ndarray:
    """An autoregressive series of variance 1, whose covariance at a lag is phi ** lag."""
    noise = rng.normal(size=length + 200) * np.sqrt(1 - phi**2)
    series = np.zeros(length + 200)
    for i in range(1, len(series)):
        series[i] = phi * series[i - 1] + noise[i]
    return series[200:]


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 3), st.integers(2, 30), st.integers(1, 12), st.integers(0, 10**6))
def test_lagged_products_are_those_of_a_loop(n_fields: int, length: int, width: int, seed: int) -> None:
    z = np.random.default_rng(seed).normal(size=(length, n_fields))
    expected = np.zeros((width, n_fields, n_fields))
    for lag in range(min(width, length)):
        expected[lag] = z[: length - lag].T @ z[lag:]
    np.testing.assert_allclose(gaussian.lagged(z, width), expected, atol=1e-9)


def test_series_of_any_lengths_are_counted() -> None:
    rng = np.random.default_rng(0)
    series = [rng.normal(size=(length, 2)) for length in (9, 40, 17)]
    for _ in range(10):  # shapes are checked on series drawn at random
        mean, std = gaussian.moments(series)
        np.testing.assert_allclose(mean, np.concatenate(series).mean(axis=0))
        np.testing.assert_allclose(std, np.concatenate(series).std(axis=0))
        assert Stationary.count(series).width == 40
        assert Aligned.count(series, Stationary.count(series)) is None
        Spread.count(imputers.linear, series)
        found_period(series)


@pytest.mark.parametrize("share", [0.02, 0.2, 0.45])
@pytest.mark.parametrize("length", [60, 41])
@pytest.mark.parametrize("free", [0, 1, 2])
def test_conditionals_by_the_inverse_are_those_by_the_covariance(share: float, length: int, free: int) -> None:
    rng = np.random.default_rng(1)
    series = [np.stack([walk(rng, 400, 0.999), walk(rng, 400, 0.5)], axis=1) for _ in range(3)]
    counted = Stationary.count(series, window=120)
    z = series[0][:length].copy()
    z[rng.random(z.shape) < share] = np.nan
    requested = np.isnan(z) & (rng.random(z.shape) < 0.7)
    covariance, known = counted.covariance[: z.size, : z.size], ~np.isnan(z.ravel())
    found = [
        gaussian.with_free(
            Conditioned.of(covariance, known, requested.ravel(), gaussian.shapes_of(z, 2), precision),
            z,
            requested,
            free,
            covariance,
        )
        for precision in (None, counted.matrices.precision(z.size))
    ]
    np.testing.assert_allclose(found[1][0], found[0][0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found[1][1], found[0][1], rtol=1e-4, atol=1e-5)


def test_free_shapes_are_the_limit_of_a_growing_variance() -> None:
    rng = np.random.default_rng(2)
    counted = Stationary.count([np.stack([walk(rng, 500), walk(rng, 500)], axis=1)], window=60)
    z = np.stack([walk(rng, 30), walk(rng, 30)], axis=1) + np.array([3.0, -2.0])
    requested = np.zeros(z.shape, bool)
    requested[12:20, 0] = True
    z[requested] = np.nan
    known = ~np.isnan(z.ravel())
    shapes = gaussian.shapes_of(z, 2)
    wide = counted.covariance + 1e4 * shapes @ shapes.T
    exact, limit = (
        Conditioned.of(covariance, known, requested.ravel(), shapes).posterior(z.ravel(), n_shapes)
        for covariance, n_shapes in ((counted.covariance, 4), (wide, 0))
    )
    np.testing.assert_allclose(exact[0], limit[0], atol=2e-3)
    np.testing.assert_allclose(exact[1], limit[1], rtol=2e-2)


def test_block_toeplitz_matrices_are_their_tapered_averages() -> None:
    by_lag = np.random.default_rng(0).normal(size=(5, 2, 2))
    by_lag[0] = by_lag[0] + by_lag[0].T
    matrix = gaussian.block_toeplitz(by_lag)
    np.testing.assert_allclose(matrix, matrix.T)
    for s, t, a, b in np.ndindex(5, 5, 2, 2):
        assert matrix[2 * s + a, 2 * t + b] == (by_lag[t - s, a, b] if t >= s else by_lag[s - t, b, a])
    taper = 1 - abs(np.arange(5)[:, None] - np.arange(5)) / 5
    np.testing.assert_allclose(averaged(matrix, 2), matrix * np.kron(taper, np.ones((2, 2))))


def test_conditionals_are_those_of_the_inverse() -> None:
    """By the precision matrix, another formula for the same (Bishop 2006, eq. 2.73)."""
    rng = np.random.default_rng(0)
    root = rng.normal(size=(6, 6))
    covariance = root @ root.T
    z = rng.normal(size=6)
    z[[1, 4]] = np.nan
    given = Conditioned.of(covariance, ~np.isnan(z), np.isnan(z), np.empty((6, 0)))
    mean, variance = given.posterior(z, 0)
    precision = np.linalg.inv(covariance + gaussian.NUGGET * np.diag(~np.isnan(z)))
    h, k = [1, 4], [0, 2, 3, 5]
    within = np.linalg.inv(precision[np.ix_(h, h)])
    np.testing.assert_allclose(mean, -within @ precision[np.ix_(h, k)] @ z[k], rtol=1e-6)
    np.testing.assert_allclose(variance, np.diag(within), rtol=1e-6)


def test_a_stationary_gaussian_predicts_as_well_as_the_law_allows() -> None:
    """Between two known neighbours an autoregressive number has the variance (1 − φ²) / (1 + φ²)."""
    rng = np.random.default_rng(0)
    model = Stationary.count([walk(rng, 20_000)[:, None]], window=60)
    values = walk(rng, 20_000)[:, None]
    masked = values.copy()
    masked[50::100] = np.nan
    mean, variance = model.posterior(masked)
    lawful = (1 - 0.81) / (1 + 0.81)
    error = (mean - values)[50::100]
    assert (error**2).mean() == pytest.approx(lawful, rel=0.25)
    assert variance[50::100].mean() == pytest.approx(lawful, rel=0.1)
    known = ~np.isnan(masked)
    np.testing.assert_allclose(mean[known], values[known])
    assert (variance[known] == 0).all()


def test_short_smooth_series_are_predicted_nearly_as_by_lines() -> None:
    """Unbiased covariances of these are not positive definite, and their nearest such matrix predicts nonsense."""
    rng = np.random.default_rng(0)
    at = np.linspace(0, 1, 150)
    made = [np.interp(at, [0, 0.3, 0.4, 0.6, 0.7, 1], [0, 0, 1, 1, 0, 0]) * rng.normal(1, 0.05) for _ in range(40)]
    series = [(each + 0.003 * rng.normal(size=150))[:, None] for each in made]
    model = Stationary.count(series[:20])
    errors = np.zeros(2)
    for truth in series[20:]:
        shown = truth.copy()
        shown[rng.random(150) < 0.3] = np.nan
        for i, filled in enumerate((model.posterior(shown)[0], imputers.linear(shown))):
            errors[i] += ((filled - truth) ** 2).sum()
    assert errors[0] < 2.5 * errors[1]


def test_a_diffuse_level_moves_with_an_offset() -> None:
    rng = np.random.default_rng(0)
    model = Stationary.count([np.stack([walk(rng, 5000), walk(rng, 5000)], axis=1)], window=100)
    values = np.stack([walk(rng, 50), walk(rng, 50)], axis=1)
    values[20:28, 0] = np.nan
    moved = values + np.array([3.0, 0.0])
    error = {
        name: abs(each.posterior(moved)[0] - each.posterior(values)[0] - [3.0, 0.0]).max()
        for name, each in (("plain", model), ("level", model.diffuse()), ("trend", model.diffuse(trend=True)))
    }
    assert error["plain"] > 0.3
    assert error["level"] < 0.05
    assert error["trend"] < 0.05
    sloped = values + 0.1 * np.arange(50)[:, None]
    off = abs(model.diffuse(trend=True).posterior(sloped)[0] - model.diffuse(trend=True).posterior(values)[0])
    np.testing.assert_allclose(off[20:28, 0], 0.1 * np.arange(20, 28), atol=0.15)


def test_aligned_series_have_means_and_covariances_of_their_own() -> None:
    """A beat at a fixed place: who knows positions fills it, who does not cannot."""
    rng = np.random.default_rng(0)
    beat = 5 * np.exp(-0.5 * ((np.arange(40) - 20) / 2.0) ** 2)

    def one() -> np.ndarray:
        return (beat * rng.normal(1, 0.1) + 0.1 * walk(rng, 40))[:, None]

    train = [one() for _ in range(60)]
    plain = Stationary.count(train)
    aligned = Aligned.count(train, plain)
    assert aligned is not None
    errors = np.zeros(2)
    for _ in range(30):
        truth = one()
        for masked_length in (8, 20):  # short, and long
            shown = truth.copy()
            shown[16 : 16 + masked_length] = np.nan
            for i, each in enumerate((plain, aligned)):
                errors[i] += ((each.posterior(shown)[0] - truth) ** 2).sum()
    assert errors[1] < 0.2 * errors[0]
    cut = one()[:30]
    cut[5] = np.nan
    np.testing.assert_array_equal(aligned.posterior(cut)[0], plain.posterior(cut)[0])
    assert Aligned.count([*train, one()[:30]], plain) is None


def test_shrunk_covariances_are_covariances() -> None:
    """Only the ends vary, together: plain averages along diagonals have negative eigenvalues."""
    rng = np.random.default_rng(0)
    train = [1e-3 * rng.normal(size=(60, 1)) for _ in range(12)]
    for each in train:
        each[[0, -1]] += rng.normal() ** 5
    averages = averaged(sum(each @ each.T for each in train) / 12, 1)
    assert np.linalg.eigvalsh(averages).min() > -1e-9
    assert np.linalg.eigvalsh(averages / (1 - abs(np.arange(60)[:, None] - np.arange(60)) / 60)).min() < -0.1
    aligned = Aligned.count(train, Stationary.count(train))
    assert aligned is not None
    for matrices in (aligned.short, aligned.long):
        assert np.linalg.eigvalsh(matrices.covariance).min() > -1e-9
    shown = train[0].copy()
    shown[::2] = np.nan
    assert np.isfinite(aligned.posterior(shown)[0]).all()


def test_shrinking_to_the_identity_is_that_of_scikit_learn() -> None:
    from sklearn.covariance import ledoit_wolf

    rows = np.random.default_rng(0).normal(size=(30, 12)) @ np.random.default_rng(1).normal(size=(12, 12))
    rows -= rows.mean(axis=0)
    expected, _ = ledoit_wolf(rows, assume_centered=True)
    counted = rows.T @ rows / len(rows)
    spread = ((rows**2).T @ rows**2 / len(rows) - counted**2) / len(rows)
    target = np.eye(12) * np.trace(counted) / 12
    np.testing.assert_allclose(shrunk(counted, target, spread), expected, rtol=1e-9)


def test_simple_fills_state_the_variance_of_their_errors() -> None:
    rng = np.random.default_rng(0)
    spread = Spread.count(imputers.linear, [walk(rng, 4000)[:, None] for _ in range(3)])
    values = walk(rng, 8000)[:, None]
    for length in (1, 16):
        shown = values.copy()
        for start in range(10, 7900, 60):
            shown[start : start + length] = np.nan
        mean, variance = spread.posterior(shown)
        masked = np.isnan(shown)
        assert ((mean - values)[masked] ** 2).mean() == pytest.approx(variance[masked].mean(), rel=0.35)
    assert spread.variance[0, 0] < spread.variance[0, 3] < spread.variance[0, 6]
    nothing = np.full((20, 1), np.nan)
    assert not np.isnan(np.stack(spread.posterior(nothing))).any()


def test_distances_are_harmonic_means_of_both_sides() -> None:
    values = np.full((12, 1), np.nan)
    values[[3, 9]] = 1.0
    groups = distance_groups(values)[:, 0].tolist()
    for i, (before, after) in {4: (1, 5), 5: (2, 4), 6: (3, 3), 7: (4, 2), 8: (5, 1), 10: (1, 1e9)}.items():
        assert groups[i] == int(np.ceil(2 * np.log2(2 / (1 / before + 1 / after)) - 1e-6))
    assert distance_groups(np.array([[1.0], [np.nan], [1.0]])).tolist() == [[0], [0], [0]]


def test_gaussians_over_bins_are_their_integrals() -> None:
    centres = (-1.0, 0.0, 1.0, 2.0)
    vocabulary = Vocabulary.of([Field(name="x", tokens=tuple("abcd"), centres=centres, controls=("[ABSENT]",))])
    shares = [np.array([0.2, 0.2, 0.2, 0.2, 0.2])]
    seen = []

    def posterior(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        seen.append(values.copy())
        return np.full(values.shape, 0.4), np.full(values.shape, 0.25)

    predict = NumberPredict(posterior, vocabulary, shares)
    (answer,) = predict([Example(np.array([[0], [5], [4], [3]]))], [np.array([[1, 0], [3, 0]])])
    np.testing.assert_array_equal(seen[0][:, 0], [-1, np.nan, np.nan, np.nan])
    draws = np.random.default_rng(0).normal(0.4, np.sqrt(0.25 + 1 / 12), size=400_000)
    bins = np.bincount(np.digitize(draws, [-0.5, 0.5, 1.5]), minlength=4) / len(draws)
    np.testing.assert_allclose(np.exp(answer[0, :4]), 0.8 * bins, atol=0.003)
    assert np.exp(answer[0]).sum() == pytest.approx(1)
    assert np.exp(answer[0, 4]) == pytest.approx(0.2)


@pytest.mark.parametrize("period", [7, 24, 96, 168, 200, 288, 1440])
@pytest.mark.parametrize("noise", [0.05, 0.2, 1.0])
@pytest.mark.parametrize("shape", ["sine", "tooth", "bump"])
def test_periods_are_found(period: int, noise: float, shape: str) -> None:
    rng = np.random.default_rng(period)
    at = np.arange(max(12 * period, 600))
    phase = at % period / period
    made = {
        "sine": np.sin(2 * np.pi * phase),
        "tooth": np.interp(phase, [0, 0.25, 1], [0, 2, 0]),
        "bump": np.exp(-0.5 * ((phase - 0.3) / 0.08) ** 2),
    }[shape]
    series = made + noise * made.std() * rng.normal(size=len(at)) + 3 * made.std() * at / len(at)
    series[rng.random(len(at)) < 0.1] = np.nan
    assert found_period([series[:, None]]) == pytest.approx(period, abs=max(0.5, 0.01 * period))


@pytest.mark.parametrize("seed", range(6))
def test_where_steps_are_dated_a_week_is_a_week(seed: int) -> None:
    """Four cycles of a broad wave: its own best period is off by a step or two."""
    rng = np.random.default_rng(seed)
    at = np.arange(4 * 168)
    made = np.interp(at % 168 / 168, [0, 0.25, 1], [0, 2, 0])
    series = made + 0.3 * made.std() * rng.normal(size=len(at)) + 3 * made.std() * at / len(at)
    assert found_period([series[:, None]], step=3600.0) == 168
    assert found_period([rng.normal(size=(2000, 1))], step=3600.0) is None


def test_a_period_of_one_channel_among_others_is_found() -> None:
    rng = np.random.default_rng(0)
    channels = [walk(rng, 2000, 0.9) for _ in range(8)]
    channels[7] = np.sin(2 * np.pi * np.arange(2000) / 50) + 0.1 * rng.normal(size=2000)
    assert found_period([np.stack(channels, axis=1)]) == 50


def test_no_period_is_found_where_there_is_none() -> None:
    rng = np.random.default_rng(0)
    alarms = [found_period([walk(rng, 2000, phi)[:, None]]) for phi in (0.0, 0.5, 0.9, 0.99) for _ in range(5)]
    assert sum(alarm is not None for alarm in alarms) <= 1
    assert found_period([np.zeros((50, 1))]) is None
    assert found_period([]) is None
