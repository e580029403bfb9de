"""Calibration recovers what was done to the probabilities, and lowers the error it promises to lower."""

from dataclasses import replace

import numpy as np
import pytest
from pydantic import TypeAdapter

from maskseq.calibration.fit import calibration_error, fit_calibration
from maskseq.errors import UsageError
from maskseq.predict.calibrated import SPANS, Calibration, CalibrationGroup, span_classes, tempered
from maskseq.predict.posterior import LEVELS, NOMINAL, PitValues, Posterior, bin_edges
from maskseq.predict.protocol import Example, Fill


def made_fill(rng: np.random.Generator, runs: list[int], sharpness: dict[int, float]) -> tuple[Fill, np.ndarray]:
    """Holes of these lengths whose truth is drawn from honest distributions; those stated are honest ** sharpness."""
    positions = np.concatenate(
        [start + np.arange(run) for start, run in zip(np.cumsum([1] + [r + 1 for r in runs]), runs, strict=False)]
    )
    cells = np.stack([positions, np.zeros_like(positions)], axis=1)
    honest = rng.dirichlet(np.full(5, 0.5), len(cells))
    truth = np.full((positions[-1] + 2, 1), 9)
    truth[positions, 0] = [rng.choice(5, p=p) for p in honest]
    exponent = np.repeat([sharpness[run] for run in runs], runs)
    stated = honest ** exponent[:, None]
    stated /= stated.sum(axis=1, keepdims=True)
    values = stated.argmax(axis=1)[None]
    zeros = np.zeros((1, len(cells)))
    fill = Fill(
        cells=cells,
        values=values,
        probabilities=stated[None].astype(np.float32),
        log_prob=np.log(stated.max(axis=1))[None],
        legal_mass=zeros,
        other_mass=zeros,
        marginals=stated.astype(np.float32),
        step=zeros.astype(int),
        n_passes=np.array([1]),
    )
    return fill, truth


SHARPNESS = {1: 1.0, 4: 2.0, 30: 0.5}


@pytest.fixture(scope="module")
def fills() -> list[tuple[Fill, np.ndarray]]:
    rng = np.random.default_rng(0)
    return [made_fill(rng, [1] * 60 + [4] * 15 + [30] * 2, SHARPNESS) for _ in range(40)]


def test_temperatures_undo_what_made_the_probabilities_dishonest(fills: list[tuple[Fill, np.ndarray]]) -> None:
    calibration = fit_calibration(fills)
    found = {group.span: group for group in calibration.groups}
    for run, sharpness in SHARPNESS.items():
        group = found[{1: 1, 4: 3, 30: 17}[run]]
        assert group.temperature == pytest.approx(sharpness, rel=0.06)
        assert group.ece_after < 0.04
        assert group.n_cells == 40 * {1: 60, 4: 60, 30: 60}[run]
    assert found[3].ece_before > 0.1


def test_applied_to_new_fills_it_lowers_the_calibration_error(fills: list[tuple[Fill, np.ndarray]]) -> None:
    calibration = fit_calibration(fills)
    rng = np.random.default_rng(1)
    before, after, right = [], [], []
    for _ in range(40):
        fill, truth = made_fill(rng, [4] * 30, SHARPNESS)
        better = calibration.apply(fill)
        assert np.array_equal(better.values, fill.values)
        np.testing.assert_allclose(better.probabilities.sum(axis=2), 1, rtol=1e-5)
        before.append(np.exp(fill.log_prob[0]))
        after.append(np.exp(better.log_prob[0]))
        right.append(fill.values[0] == truth[fill.cells[:, 0], 0])
    right = np.concatenate(right)
    assert calibration_error(np.concatenate(before), right) > 0.1
    assert calibration_error(np.concatenate(after), right) < 0.03


def test_small_groups_share_the_temperature_of_their_field(fills: list[tuple[Fill, np.ndarray]]) -> None:
    rng = np.random.default_rng(2)
    only = [made_fill(rng, [4] * 30 + [2], {4: 2.0, 2: 2.0}) for _ in range(20)]
    groups = {group.span: group for group in fit_calibration(only, min_cells=200).groups}
    assert groups[2].n_cells == 40
    assert groups[2].temperature == pytest.approx(groups[3].temperature, rel=0.02)


CENTRES = tuple(np.linspace(-3.0, 7.0, 40).tolist())


def measured(rng: np.random.Generator, n: int, bias: float, boldness: float) -> tuple[Fill, np.ndarray, np.ndarray]:
    """Single holes of an ordinal field whose values are normal around what is stated, off by a bias and too boldly."""
    middle = rng.uniform(0, 4, n)
    values = rng.normal(middle, 0.8)
    edges = bin_edges(np.array(CENTRES))
    bins = np.clip(np.searchsorted(edges[1:-1], values), 0, 39)
    stated = np.exp(-(((np.array(CENTRES) - middle[:, None] - bias) * boldness / 0.8) ** 2) / 2)
    stated /= stated.sum(axis=1, keepdims=True)
    cells = np.stack([2 * np.arange(n), np.zeros(n, int)], axis=1)
    truth = np.full((2 * n, 1), 40)
    truth[cells[:, 0], 0] = bins
    zeros = np.zeros((1, n))
    fill = Fill(
        cells=cells,
        values=stated.argmax(axis=1)[None],
        probabilities=stated[None].astype(np.float32),
        log_prob=np.log(stated.max(axis=1))[None],
        legal_mass=zeros,
        other_mass=zeros,
        marginals=stated.astype(np.float32),
        step=zeros.astype(int),
        n_passes=np.array([1]),
    )
    return fill, truth, values


def held(fill: Fill, values: np.ndarray) -> np.ndarray:
    """The share of the values, as they were before they became bins, within each interval."""
    found = Posterior.of(fill, [CENTRES])
    return ((found.low <= values[:, None]) & (values[:, None] <= found.high)).mean(axis=0)


@pytest.mark.parametrize(("bias", "boldness"), [(0.0, 1.0), (0.0, 2.0), (0.0, 0.5), (0.6, 1.5)])
def test_intervals_hold_what_they_promise_on_new_data(bias: float, boldness: float) -> None:
    rng = np.random.default_rng(3)
    fills = [measured(rng, 500, bias, boldness)[:2] for _ in range(8)]
    calibration = fit_calibration(fills, centres=[CENTRES])
    fill, _, values = measured(rng, 20_000, bias, boldness)
    assert held(calibration.apply(fill), values) == pytest.approx(LEVELS, abs=0.02)
    (group,) = calibration.groups
    assert group.coverage_after == pytest.approx(LEVELS, abs=0.03)
    assert group.coverage_before == pytest.approx(held(fill, values), abs=0.03)
    if boldness != 1.0 or bias:
        assert np.abs(held(fill, values) - LEVELS).max() > 0.1


def test_what_does_not_carry_over_is_not_used() -> None:
    """Two kinds of records that are off in opposite directions: what mends the one makes the other worse."""
    rng = np.random.default_rng(5)
    fills = [measured(rng, 60, *((0.9, 0.4) if number % 2 else (-0.9, 2.5)))[:2] for number in range(12)]
    fills = [
        (replace(fill, cells=np.stack([np.arange(60), np.zeros(60, int)], axis=1)), truth[fill.cells[:, 0]])
        for fill, truth in fills
    ]
    (group,) = fit_calibration(fills, centres=[CENTRES]).groups
    assert (group.temperature, group.marginal_temperature) == (1.0, 1.0)
    assert group.ece_after == group.ece_before
    (mixed,) = fit_calibration(fills[::2], centres=[CENTRES]).groups
    assert mixed.temperature > 5


def test_ranks_are_uniform_where_distributions_are_honest() -> None:
    rng = np.random.default_rng(0)
    honest = rng.dirichlet(np.ones(6), 20_000)
    truth = np.array([rng.choice(6, p=p) for p in honest])
    ranks = PitValues.of(honest, 6, truth)
    assert [ranks.share_below(rank) for rank in (0.1, 0.5, 0.9)] == pytest.approx([0.1, 0.5, 0.9], abs=0.01)
    assert ranks.tails() == pytest.approx(NOMINAL, abs=0.01)


def test_scores_take_the_temperature_of_single_cells() -> None:
    group = {"n_cells": 1, "ece_before": 0.0, "ece_after": 0.0, "temperature": 9.0}
    calibration = Calibration(
        groups=(
            CalibrationGroup(field=0, span=1, marginal_temperature=2.0, **group),
            CalibrationGroup(field=0, span=5, marginal_temperature=4.0, **group),
        )
    )
    stated = np.log([[0.64, 0.36], [0.9, 0.1]])
    predict = calibration.of_single_cells(lambda sequences, cells: [stated])
    (answer,) = predict([Example(np.zeros((2, 2), int))], [np.array([[0, 0], [1, 1]])])
    assert np.exp(answer) == pytest.approx(np.array([[0.8 / 1.4, 0.6 / 1.4], [0.9, 0.1]]))


def test_spans_that_were_not_seen_are_taken_for_shorter_ones(fills: list[tuple[Fill, np.ndarray]]) -> None:
    calibration = fit_calibration(fills)  # seen: 1, 3 and 17
    rng = np.random.default_rng(1)
    fill, _ = made_fill(rng, [10], {10: 2.0})
    by_hand = tempered(fill.probabilities, np.full(10, {g.span: g.temperature for g in calibration.groups}[3]))
    np.testing.assert_allclose(calibration.apply(fill).probabilities, by_hand, rtol=1e-5)


def test_calibration_error_by_hand() -> None:
    confidence = np.array([0.95, 0.95, 0.95, 0.95, 0.55, 0.55])
    right = np.array([True, True, True, False, True, True])
    assert calibration_error(confidence, right) == pytest.approx(4 / 6 * 0.2 + 2 / 6 * 0.45)
    assert calibration_error(np.array([1.0]), np.array([True])) == 0.0
    assert np.isnan(calibration_error(np.empty(0), np.empty(0, bool)))


def test_spans_are_runs_within_a_field() -> None:
    cells = np.array([[0, 0], [0, 1], [1, 0], [2, 0], [2, 1], [3, 1], [5, 0], [6, 1]])
    assert span_classes(cells).tolist() == [3, 1, 3, 3, 2, 2, 1, 1]
    assert span_classes(np.empty((0, 2), int)).tolist() == []
    long = np.stack([np.arange(500), np.zeros(500, int)], axis=1)
    assert set(span_classes(long).tolist()) == {SPANS[-1]}


def test_temperature_keeps_the_impossible_impossible() -> None:
    rows = tempered(np.array([[0.5, 0.25, 0.25, 0.0], [1.0, 0.0, 0.0, 0.0]]), np.array([0.5, 3.0]))
    assert rows == pytest.approx(np.array([[4 / 6, 1 / 6, 1 / 6, 0], [1, 0, 0, 0]]))


def test_a_calibration_is_saved_as_json(fills: list[tuple[Fill, np.ndarray]]) -> None:
    adapter = TypeAdapter(Calibration)
    calibration = fit_calibration(fills[:4])
    assert adapter.validate_json(adapter.dump_json(calibration)) == calibration


def test_nothing_to_fit_is_said() -> None:
    with pytest.raises(UsageError, match="nothing to calibrate on"):
        fit_calibration([])
