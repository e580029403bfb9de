"""Say 80 % and be right in 80 % of the cases: temperatures for reported probabilities, fitted on held-out holes.

A value committed late is given earlier ones that may be wrong, and knows nothing of it; the longer the hole, the more
confident and the less right it gets. One temperature for each field and class of span lengths mends that (Guo et al.
2017, arXiv 1706.04599). It changes what is reported, never what is filled.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int, Integer

from maskseq.errors import UsageError
from maskseq.inference.fill import Fill

SPANS = (1, 2, 3, 5, 9, 17, 33, 65)
"""Where each class of span lengths begins; the last one has no end."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """The cells of a field in holes of similar length."""

    field: int
    span: int
    """The shortest of the class, one of `SPANS`."""
    temperature: float
    n_cells: int
    ece_before: float
    ece_after: float
    """Expected calibration error, of each half of the records with the temperature fitted on the other half."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Temperatures by field and span length; groups that were not seen keep 1."""

    groups: tuple[Group, ...]

    def apply(self, fill: Fill) -> Fill:
        """The same fill with calibrated probabilities."""
        table = {(group.field, group.span): group.temperature for group in self.groups}
        spans = span_classes(fill.cells)
        keys = zip(fill.cells[:, 1].tolist(), spans.tolist(), strict=True)
        temperatures = np.array([table.get(key, 1.0) for key in keys])
        probabilities = tempered(fill.probabilities, temperatures)
        chosen = np.take_along_axis(probabilities, fill.values[..., None].astype(np.int64), axis=2)[..., 0]
        return replace(
            fill,
            probabilities=probabilities.astype(np.float32),
            marginals=tempered(fill.marginals, temperatures).astype(np.float32),
            log_prob=np.log(np.maximum(chosen, np.finfo(np.float64).tiny)),
        )


def fit_calibration(fills: Iterable[tuple[Fill, Integer[np.ndarray, "_ _"]]], *, min_cells: int = 200) -> Calibration:
    """Fit temperatures on fills of known cells, each with the sequence that had been there.

    A group with fewer than `min_cells` shares the temperature of its field; `UsageError` if there is nothing to fit.
    """
    held_out = _HeldOut.of(fills)
    if not len(held_out.truth):
        raise UsageError("there is nothing to calibrate on: no known cell was hidden\n\nhint: hold out more data")
    groups = []
    for field, span in sorted(set(zip(held_out.field.tolist(), held_out.span.tolist(), strict=True))):
        in_field = held_out.field == field
        mine = in_field & (held_out.span == span)
        fitted_on = mine if np.count_nonzero(mine) >= min_cells else in_field
        after = held_out.confidence.copy()
        for half in (False, True):
            learn, judge = fitted_on & (held_out.second_half != half), mine & (held_out.second_half == half)
            if learn.any() and judge.any():
                after[judge] = held_out.confident(judge, held_out.fit(learn))
        groups.append(
            Group(
                field=field,
                span=span,
                temperature=held_out.fit(fitted_on),
                n_cells=int(np.count_nonzero(mine)),
                ece_before=calibration_error(held_out.confidence[mine], held_out.right[mine]),
                ece_after=calibration_error(after[mine], held_out.right[mine]),
            )
        )
    return Calibration(groups=tuple(groups))


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


@dataclass(frozen=True)
class _HeldOut:
    """Cells whose truth is known, of all records."""

    probabilities: Float[np.ndarray, "cells outputs"]
    value: Int[np.ndarray, " cells"]
    truth: Int[np.ndarray, " cells"]
    field: Int[np.ndarray, " cells"]
    span: Int[np.ndarray, " cells"]
    second_half: Bool[np.ndarray, " cells"]
    """Records take turns."""

    @classmethod
    def of(cls, fills: Iterable[tuple[Fill, Integer[np.ndarray, "_ _"]]]) -> "_HeldOut":
        parts: list[Sequence[np.ndarray]] = []
        for number, (fill, truth) in enumerate(fills):
            true = truth[tuple(fill.cells.T)].astype(np.int64)
            known = true < fill.marginals.shape[1]
            n_samples = len(fill.values)
            parts.append(
                (
                    fill.probabilities[:, known].reshape(-1, fill.marginals.shape[1]),
                    fill.values[:, known].ravel().astype(np.int64),
                    np.tile(true[known], n_samples),
                    np.tile(fill.cells[known, 1], n_samples),
                    np.tile(span_classes(fill.cells)[known], n_samples),
                    np.full(n_samples * np.count_nonzero(known), number % 2 == 1),
                )
            )
        if not parts:
            none = np.empty(0, np.int64)
            return cls(np.empty((0, 1)), none, none, none, none, none.astype(bool))
        return cls(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    @property
    def right(self) -> Bool[np.ndarray, " cells"]:
        return np.asarray(self.value == self.truth)

    @property
    def confidence(self) -> Float[np.ndarray, " cells"]:
        return self.confident(np.ones(len(self.value), bool), 1.0)

    def confident(self, which: Bool[np.ndarray, " cells"], temperature: float) -> Float[np.ndarray, " some"]:
        """The probability stated for the values of these cells at a temperature."""
        scaled = tempered(self.probabilities[which], np.full(np.count_nonzero(which), temperature))
        return np.asarray(scaled[np.arange(len(scaled)), self.value[which]])

    def fit(self, which: Bool[np.ndarray, " cells"]) -> float:
        """The temperature under which the true values are most probable; those held impossible do not count.

        The log-likelihood is concave in 1/T, so that a golden-section search finds its maximum.
        """
        truth = self.truth[which]
        given = self.probabilities[which][np.arange(len(truth)), truth]
        rows, truth = self.probabilities[which][given > 0].astype(np.float64), truth[given > 0]
        with np.errstate(divide="ignore"):
            logits = np.log(rows)
        chosen = logits[np.arange(len(truth)), truth]

        def loss(log_temperature: float) -> float:
            inverse = np.exp(-log_temperature)
            return float(np.sum(np.logaddexp.reduce(logits * inverse, axis=1) - chosen * inverse))

        low, high, ratio = np.log(0.05), np.log(20.0), (np.sqrt(5) - 1) / 2
        for _ in range(40):  # to 3e-8 of the range
            left, right = high - ratio * (high - low), low + ratio * (high - low)
            low, high = (low, right) if loss(left) <= loss(right) else (left, high)
        return float(np.exp((low + high) / 2))
