"""Say 80 % and be right in 80 % of the cases: temperatures for reported probabilities, fitted on held-out holes.

A value committed late is given earlier ones that may be wrong, and knows nothing of it; the longer the hole, the more
confident and the less right it gets. One temperature for each field and class of span lengths mends that (Guo et al.
2017, arXiv 1706.04599). Intervals of ordinal fields are moved to the quantiles that held what they promise (Kuleshov et
al. 2018, arXiv 1807.00263). It changes what is reported, never which value is committed.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Integer

from maskseq.errors import UsageError
from maskseq.predict.posterior import LEVELS, NOMINAL, Ranks
from maskseq.predict.protocol import Fill, Predict

SPANS = (1, 2, 3, 5, 9, 17, 33, 65)
"""Where each class of span lengths begins; the last one has no end."""
HALF_BLOCK = 64
"""Positions that are fitted on together, before as many that are judged."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """The cells of a field in holes of similar length."""

    field: int
    span: int
    """The shortest of the class, one of `SPANS`."""
    temperature: float
    """Of the distributions that values are committed from."""
    marginal_temperature: float
    """Of the distributions given the known cells alone."""
    n_cells: int
    ece_before: float
    ece_after: float
    """Expected calibration error, of each half of the positions with the temperature fitted on the other half."""
    tails: tuple[tuple[float, float], ...] | None = None
    """Ordinal fields: the quantiles of the marginals that bound intervals of `LEVELS`."""
    coverage_before: tuple[float, ...] | None = None
    coverage_after: tuple[float, ...] | None = None
    """The share of true values within each interval, of each half of the positions as above."""

    def __post_init__(self) -> None:
        if not (0 < self.temperature < np.inf and 0 < self.marginal_temperature < np.inf):
            raise ValueError("a temperature is a number above 0")
        if any(each is not None and len(each) != len(LEVELS) for each in (self.tails, self.coverage_before)):
            raise ValueError(f"intervals have {len(LEVELS)} levels")
        if not all(0 <= share <= 1 for pair in self.tails or () for share in pair):
            raise ValueError("the tails of intervals are shares")


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What was fitted, by field and span length.

    Spans of a length that was not seen are taken for the longest shorter ones that were (or the shortest); fields that
    were not seen are left as they are.
    """

    groups: tuple[Group, ...]

    def apply(self, fill: Fill) -> Fill:
        """The same fill with calibrated probabilities and intervals."""
        classes = zip(fill.cells[:, 1].tolist(), span_classes(fill.cells).tolist(), strict=True)
        groups = [self._group(field, span) for field, span in classes]
        probabilities = tempered(fill.probabilities, np.array([group.temperature for group in groups]))
        marginals = tempered(fill.marginals, np.array([group.marginal_temperature for group in groups]))
        chosen = np.take_along_axis(probabilities, fill.values[..., None].astype(np.int64), axis=2)[..., 0]
        return replace(
            fill,
            probabilities=probabilities.astype(np.float32),
            marginals=marginals.astype(np.float32),
            log_prob=np.log(np.maximum(chosen, np.finfo(np.float64).tiny)),
            tails=np.array([group.tails or NOMINAL for group in groups]).reshape(-1, *NOMINAL.shape),
        )

    def of_single_cells(self, predict: Predict) -> Predict:
        """The same model, its log-probabilities calibrated as those of cells that are hidden alone."""

        def calibrated(
            sequences: Sequence[Integer[np.ndarray, "_ _"]], cells: Sequence[Integer[np.ndarray, "_ 2"]]
        ) -> list[Float[np.ndarray, "_ _"]]:
            answers = []
            for answer, asked in zip(predict(sequences, cells), cells, strict=True):
                temperatures = [self._group(field, 1).marginal_temperature for field in asked[:, 1].tolist()]
                scaled = answer / np.array(temperatures).reshape(-1, 1)
                answers.append(scaled - np.logaddexp.reduce(scaled, axis=1, keepdims=True))
            return answers

        return calibrated

    def _group(self, field: int, span: int) -> Group:
        seen = self._by_field.get(field)
        if seen is None:
            return _UNSEEN
        return next((group for group in reversed(seen) if group.span <= span), seen[0])

    @cached_property
    def _by_field(self) -> dict[int, list[Group]]:
        """Shortest spans first."""
        fields: dict[int, list[Group]] = {}
        for group in sorted(self.groups, key=lambda group: group.span):
            fields.setdefault(group.field, []).append(group)
        return fields


_UNSEEN = Group(
    field=0, span=1, temperature=1.0, marginal_temperature=1.0, n_cells=0, ece_before=np.nan, ece_after=np.nan
)


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
        raise UsageError("there is nothing to calibrate on: no known cell was hidden\n\nhint: hold out more data")
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
) -> Group:
    halves = [(fitted_on & (cells.second_half != half), mine & (cells.second_half == half)) for half in (False, True)]
    halves = [(learn, judge) for learn, judge in halves if learn.any() and judge.any()]
    temperature, after = _fit_temperature(cells.probabilities, cells, fitted_on, halves)
    confidence = cells.confidence.copy()
    for judge, found in after:
        confidence[judge] = cells.confident(judge, found)
    marginal, after = _fit_temperature(cells.marginals, cells, fitted_on, halves)
    judged = [(learn, judge, found) for (learn, judge), (_, found) in zip(halves, after, strict=True)]
    intervals = _fit_intervals(cells, mine, fitted_on, n_bins, marginal, judged) if n_bins else {}
    return Group(
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


def span_classes(cells: Int[np.ndarray, "cells 2"]) -> Int[np.ndarray, " cells"]:
    """Of each cell, how many neighbouring positions of its field are filled with it, rounded down to one of `SPANS`."""
    order = np.lexsort((cells[:, 0], cells[:, 1]))
    position, field = cells[order].T
    breaks = (np.diff(position, prepend=-2) != 1) | (np.diff(field, prepend=-1) != 0)
    run = np.cumsum(breaks) - 1
    lengths = np.bincount(run, minlength=1)[run] if len(run) else run
    classes = np.empty(len(cells), np.int64)
    classes[order] = np.asarray(SPANS)[np.searchsorted(SPANS, lengths, side="right") - 1]
    return classes


def tempered(
    probabilities: Float[np.ndarray, "*samples cells outputs"], temperatures: Float[np.ndarray, " cells"]
) -> Float[np.ndarray, "*samples cells outputs"]:
    """Distributions raised to 1/T and normalised; what was impossible stays so."""
    with np.errstate(divide="ignore"):
        logits = np.log(probabilities.astype(np.float64)) / temperatures[:, None]
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True, initial=-1e300))
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True))


def fit_temperature(probabilities: Float[np.ndarray, "cells outputs"], truth: Int[np.ndarray, " cells"]) -> float:
    """The temperature under which the true values are most probable.

    The log-likelihood is concave in 1/T, so that a golden-section search finds its maximum.
    """
    low, high, ratio = np.log(0.05), np.log(20.0), (np.sqrt(5) - 1) / 2
    for _ in range(40):  # to 3e-8 of the range
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        losses = [nats_of(probabilities, truth, float(np.exp(each))) for each in (left, right)]
        low, high = (low, right) if losses[0] <= losses[1] else (left, high)
    return float(np.exp((low + high) / 2))


def nats_of(
    probabilities: Float[np.ndarray, "cells outputs"], truth: Int[np.ndarray, " cells"], temperature: float
) -> float:
    """Log-loss of the true values at a temperature; those held impossible do not count."""
    given = probabilities[np.arange(len(truth)), truth]
    rows, truth = probabilities[given > 0].astype(np.float64), truth[given > 0]
    with np.errstate(divide="ignore"):
        logits = np.log(rows) / temperature
    return float(np.sum(np.logaddexp.reduce(logits, axis=1) - logits[np.arange(len(truth)), truth]))


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

    def ranks(self, which: Bool[np.ndarray, " cells"], temperature: float, n_bins: int) -> Ranks:
        """Of these cells that have a value in a bin, where it stands in the marginals at a temperature.

        Cells that no bin is left possible for are passed over: no interval can be made of them.
        """
        rows = which & (self.truth < n_bins)
        scaled = tempered(self.marginals[rows], np.full(np.count_nonzero(rows), temperature))
        possible = scaled[:, :n_bins].sum(axis=1) > 0
        return Ranks.of(scaled[possible], n_bins, self.truth[rows][possible])
