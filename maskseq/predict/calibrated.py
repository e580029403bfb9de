"""Calibrated probabilities and intervals: applying what `maskseq.calibration.fit` found on held-out holes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int, Integer

from maskseq.predict.posterior import LEVELS, NOMINAL
from maskseq.predict.protocol import Example, Fill, Predict

SPANS = (1, 2, 3, 5, 9, 17, 33, 65)
"""Where each class of span lengths begins; the last one has no end."""


@dataclass(frozen=True, kw_only=True)
class CalibrationGroup:
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

    groups: tuple[CalibrationGroup, ...]

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
        """The same model, its log-probabilities calibrated as those of cells that are masked alone."""

        def calibrated(
            examples: Sequence[Example], cells: Sequence[Integer[np.ndarray, "_ 2"]]
        ) -> list[Float[np.ndarray, "_ _"]]:
            answers = []
            for answer, requested in zip(predict(examples, cells), cells, strict=True):
                temperatures = [self._group(field, 1).marginal_temperature for field in requested[:, 1].tolist()]
                scaled = answer / np.array(temperatures).reshape(-1, 1)
                answers.append(scaled - np.logaddexp.reduce(scaled, axis=1, keepdims=True))
            return answers

        return calibrated

    def _group(self, field: int, span: int) -> CalibrationGroup:
        seen = self._by_field.get(field)
        if seen is None:
            return _UNSEEN
        return next((group for group in reversed(seen) if group.span <= span), seen[0])

    @cached_property
    def _by_field(self) -> dict[int, list[CalibrationGroup]]:
        """Shortest spans first."""
        fields: dict[int, list[CalibrationGroup]] = {}
        for group in sorted(self.groups, key=lambda group: group.span):
            fields.setdefault(group.field, []).append(group)
        return fields


_UNSEEN = CalibrationGroup(
    field=0, span=1, temperature=1.0, marginal_temperature=1.0, n_cells=0, ece_before=np.nan, ece_after=np.nan
)


def span_classes(cells: Int[np.ndarray, "cells 2"]) -> Int[np.ndarray, " cells"]:
    """How many neighbouring positions of a cell's field are filled with it, rounded down to one of `SPANS`."""
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
