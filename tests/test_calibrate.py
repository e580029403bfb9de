"""Calibration recovers what was done to the probabilities, and lowers the error it promises to lower."""

import numpy as np
import pytest
from pydantic import TypeAdapter

from maskseq.errors import UsageError
from maskseq.inference.calibrate import (
    SPANS,
    Calibration,
    calibration_error,
    fit_calibration,
    span_classes,
    tempered,
)
from maskseq.inference.fill import Fill


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
        assert group.ece_after < 0.03
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
