"""Say 80 % and be right in 80 % of the cases: temperatures for reported probabilities, fitted on held-out holes.

A value committed late is given earlier ones that may be wrong, and knows nothing of it; the longer the hole, the more
confident and the less right it gets. One temperature for each field and class of span lengths corrects that (Guo et al.
2017, arXiv 1706.04599). Intervals of ordinal fields are moved to the quantiles that held what they promise (Kuleshov et
al. 2018, arXiv 1807.00263). It changes what is reported, never which value is committed.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Integer

from maskseq.errors import UsageError
from maskseq.predict.calibrated import Calibration, CalibrationGroup, span_classes, tempered
from maskseq.predict.posterior import LEVELS, NOMINAL, PitValues
from maskseq.predict.protocol import Fill

HALF_BLOCK = 64
"""Positions that are fitted on together, before as many that are judged."""


def fit_calibration(
    fills: Iterable[tuple[Fill, Integer[np.ndarray, "_ _"]]],
    *,
    centres: Sequence[tuple[float, ...] | None] = (),
    n_records: int | None = None,
    min_cells: int = 200,
) -> Calibration:
    """Fit on fills of known cells, each with the sequence that had been there.

    `centres` are those of the vocabulary: ordinal fields get intervals. `n_records`: after how many fills the same
    records come again, with other holes. A group with fewer than `min_cells` shares what is fitted on its whole field.
    What would make the other half worse than it was is not used. `UsageError` if there is nothing to fit.
    """
    cells = _Cells.of(fills, n_records)
    if not len(cells.truth):
        raise UsageError(
            "there is nothing to calibrate on: no known cell was masked\n\nhint: hold out more data",
            code="too-little-data",
        )
    groups = []
    for field, span in sorted(set(zip(cells.field.tolist(), cells.span.tolist(), strict=True))):
        in_field = cells.field == field
        mine = in_field & (cells.span == span)
        fitted_on = mine if np.count_nonzero(mine) >= min_cells else in_field
        n_bins = len(centres[field] or ()) if field < len(centres) else 0
        groups.append(_fit_group(cells, field, span, mine, fitted_on, n_bins))
    return Calibration(groups=tuple(groups))


def _fit_group(
    cells: "_Cells",
    field: int,
    span: int,
    mine: Bool[np.ndarray, " cells"],
    fitted_on: Bool[np.ndarray, " cells"],
    n_bins: int,
) -> CalibrationGroup:
    halves = [(fitted_on & (cells.second_half != half), mine & (cells.second_half == half)) for half in (False, True)]
    halves = [(learn, judge) for learn, judge in halves if learn.any() and judge.any()]
    temperature, after = _fit_temperature(cells.probabilities, cells, fitted_on, halves)
    confidence = cells.confidence.copy()
    for judge, found in after:
        confidence[judge] = cells.confident(judge, found)
    marginal, after = _fit_temperature(cells.marginals, cells, fitted_on, halves)
    judged = [(learn, judge, found) for (learn, judge), (_, found) in zip(halves, after, strict=True)]
    intervals = _fit_intervals(cells, mine, fitted_on, n_bins, marginal, judged) if n_bins else {}
    return CalibrationGroup(
        field=field,
        span=span,
        temperature=temperature,
        marginal_temperature=marginal,
        n_cells=int(np.count_nonzero(mine)),
        ece_before=calibration_error(cells.confidence[mine], cells.right[mine]),
        ece_after=calibration_error(confidence[mine], cells.right[mine]),
        **intervals,
    )


def _fit_intervals(
    cells: "_Cells",
    mine: Bool[np.ndarray, " cells"],
    fitted_on: Bool[np.ndarray, " cells"],
    n_bins: int,
    temperature: float,
    halves: Sequence[tuple[Bool[np.ndarray, " cells"], Bool[np.ndarray, " cells"], float]],
) -> dict[str, Any]:
    """What a group says of intervals; nothing where its cells have no numbers. A half is learned from, judged, at T."""
    plain, fitted = cells.ranks(mine, 1.0, n_bins), cells.ranks(fitted_on, temperature, n_bins)
    pairs = [(cells.ranks(learn, found, n_bins), cells.ranks(judge, found, n_bins)) for learn, judge, found in halves]
    pairs = [(learn, judge) for learn, judge in pairs if len(learn) and len(judge)]
    if not (len(plain) and len(fitted) and pairs):
        return {}
    before = plain.coverage(NOMINAL)
    held = np.average(
        [judge.coverage(learn.tails()) for learn, judge in pairs], axis=0, weights=[len(judge) for _, judge in pairs]
    )
    helps = np.abs(held - LEVELS).sum() < np.abs(np.array(before) - LEVELS).sum()
    tails = fitted.tails() if helps else NOMINAL
    return {
        "tails": tuple((low, high) for low, high in tails.tolist()),
        "coverage_before": tuple(before),
        "coverage_after": tuple(held.tolist()) if helps else tuple(before),
    }


def _fit_temperature(
    probabilities: Float[np.ndarray, "cells outputs"],
    cells: "_Cells",
    fitted_on: Bool[np.ndarray, " cells"],
    halves: Sequence[tuple[Bool[np.ndarray, " cells"], Bool[np.ndarray, " cells"]]],
) -> tuple[float, list[tuple[Bool[np.ndarray, " cells"], float]]]:
    """The temperature, and for each half that of the other; all 1 if these make the halves' truth less probable."""
    found = [fit_temperature(probabilities[learn], cells.truth[learn]) for learn, _ in halves]
    judged = [(probabilities[judge], cells.truth[judge]) for _, judge in halves]
    gain = sum(
        nats_of(*each, 1.0) - nats_of(*each, temperature) for each, temperature in zip(judged, found, strict=True)
    )
    if gain <= 0:
        return 1.0, [(judge, 1.0) for _, judge in halves]
    return fit_temperature(probabilities[fitted_on], cells.truth[fitted_on]), [
        (judge, temperature) for (_, judge), temperature in zip(halves, found, strict=True)
    ]


def calibration_error(
    confidence: Float[np.ndarray, " cells"], right: Bool[np.ndarray, " cells"], bins: int = 15
) -> float:
    """Mean distance between stated probability and share of right answers, over bins of equal width; NaN if empty."""
    if not len(right):
        return float("nan")
    which = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    gaps = np.bincount(which, confidence - right, minlength=bins)
    return float(np.abs(gaps).sum() / len(right))


def fit_temperature(probabilities: Float[np.ndarray, "cells outputs"], truth: Int[np.ndarray, " cells"]) -> float:
    """The temperature, of 0.05 to 20, under which the true values are most probable; 1 where all are alike.

    The log-loss is convex in 1/T: Newton's method, halved where a step leaves what its slopes allow.
    """
    logs, true = _logs(probabilities, truth)
    possible = logs > -np.inf
    finite = np.where(possible, logs, 0)
    low, high, inverse = 0.05, 20.0, 1.0
    for _ in range(60):
        scaled = np.exp(
            inverse * (logs - logs.max(axis=1, keepdims=True, initial=-np.inf)), where=possible, out=np.zeros_like(logs)
        )
        scaled /= scaled.sum(axis=1, keepdims=True)
        mean = np.einsum("co,co->c", scaled, finite)
        slope = float(np.sum(mean - true))
        spread = float(np.einsum("co,co,co->", scaled, finite, finite) - np.sum(mean**2))
        if abs(slope) <= 1e-12 * len(logs) and spread <= 1e-12 * len(logs):
            break
        low, high = (inverse, high) if slope < 0 else (low, inverse)
        step = inverse - slope / spread if spread > 0 else low
        before, inverse = inverse, step if low < step < high else (low + high) / 2
        if abs(inverse - before) <= 1e-9 * before:
            break
    return 1 / inverse


def nats_of(
    probabilities: Float[np.ndarray, "cells outputs"], truth: Int[np.ndarray, " cells"], temperature: float
) -> float:
    """Log-loss of the true values at a temperature; those held impossible do not count."""
    logs, true = _logs(probabilities, truth)
    return float(np.sum(np.logaddexp.reduce(logs / temperature, axis=1) - true / temperature))


def _logs(
    probabilities: Float[np.ndarray, "cells outputs"], truth: Int[np.ndarray, " cells"]
) -> tuple[Float[np.ndarray, "some others"], Float[np.ndarray, " some"]]:
    """Of cells whose truth is held possible: logarithms of what any of them may be, and of the truth."""
    given = probabilities[np.arange(len(truth)), truth]
    rows = probabilities[given > 0]
    with np.errstate(divide="ignore"):
        return np.log(rows[:, rows.any(axis=0)].astype(np.float64)), np.log(given[given > 0].astype(np.float64))


@dataclass(frozen=True)
class _Cells:
    """Cells whose truth is known, of all records."""

    probabilities: Float[np.ndarray, "cells outputs"]
    marginals: Float[np.ndarray, "cells outputs"]
    value: Int[np.ndarray, " cells"]
    truth: Int[np.ndarray, " cells"]
    field: Int[np.ndarray, " cells"]
    span: Int[np.ndarray, " cells"]
    second_half: Bool[np.ndarray, " cells"]
    """Records take turns, and so do blocks of the positions of each."""

    @classmethod
    def of(cls, fills: Iterable[tuple[Fill, Integer[np.ndarray, "_ _"]]], n_records: int | None) -> "_Cells":
        parts: list[Sequence[np.ndarray]] = []
        for number, (fill, truth) in enumerate(fills):
            record = number if n_records is None else number % n_records
            half = (record + fill.cells[:, 0] // HALF_BLOCK) % 2 == 1
            true = truth[tuple(fill.cells.T)].astype(np.int64)
            known = true < fill.marginals.shape[1]
            n_samples = len(fill.values)
            parts.append(
                (
                    fill.probabilities[:, known].reshape(-1, fill.marginals.shape[1]),
                    np.tile(fill.marginals[known], (n_samples, 1)),
                    fill.values[:, known].ravel().astype(np.int64),
                    np.tile(true[known], n_samples),
                    np.tile(fill.cells[known, 1], n_samples),
                    np.tile(span_classes(fill.cells)[known], n_samples),
                    np.tile(half[known], n_samples),
                )
            )
        if not parts:
            none, nobody = np.empty(0, np.int64), np.empty((0, 1))
            return cls(nobody, nobody, none, none, none, none, none.astype(bool))
        return cls(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    @property
    def right(self) -> Bool[np.ndarray, " cells"]:
        return np.asarray(self.value == self.truth)

    @cached_property
    def confidence(self) -> Float[np.ndarray, " cells"]:
        return self.confident(np.ones(len(self.value), bool), 1.0)

    def confident(self, which: Bool[np.ndarray, " cells"], temperature: float) -> Float[np.ndarray, " some"]:
        """The probability stated for the values of these cells at a temperature."""
        scaled = tempered(self.probabilities[which], np.full(np.count_nonzero(which), temperature))
        return np.asarray(scaled[np.arange(len(scaled)), self.value[which]])

    def ranks(self, which: Bool[np.ndarray, " cells"], temperature: float, n_bins: int) -> PitValues:
        """Of these cells that have a value in a bin, where it stands in the marginals at a temperature.

        Cells that no bin is left possible for are passed over: no interval can be made of them.
        """
        rows = which & (self.truth < n_bins)
        scaled = tempered(self.marginals[rows], np.full(np.count_nonzero(rows), temperature))
        possible = scaled[:, :n_bins].sum(axis=1) > 0
        return PitValues.of(scaled[possible], n_bins, self.truth[rows][possible])
