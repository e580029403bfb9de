"""Ordinal fields: from probabilities of bins to numbers in physical units."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class Posterior:
    """What a distribution over bins says about the value, in the field's unit."""

    mean: Float[np.ndarray, " cells"]
    """Least squared error on average."""
    median: Float[np.ndarray, " cells"]
    """Least absolute error on average."""
    low: Float[np.ndarray, " cells"]
    high: Float[np.ndarray, " cells"]
    """The central interval that holds the value with the asked probability."""


def posterior(
    probabilities: Float[np.ndarray, "cells outputs"], centres: tuple[float, ...], *, level: float = 0.9
) -> Posterior:
    """Mean, median and central interval, given that the value is in one of the bins (controls are left out).

    Within a bin every value counts as equally likely. Bins meet halfway between their centres; the outermost are as
    wide outwards as inwards. A cell that no bin is possible for gives NaN.
    """
    values = np.asarray(centres, dtype=np.float64)
    weights = probabilities[:, : len(values)].astype(np.float64)
    total = weights.sum(axis=1, keepdims=True)
    weights = np.divide(weights, total, out=np.full_like(weights, np.nan), where=total > 0)
    edges = bin_edges(values)
    cumulative = np.concatenate([np.zeros((len(weights), 1)), np.cumsum(weights, axis=1)], axis=1)

    def quantile(q: float) -> Float[np.ndarray, " cells"]:
        return np.array([np.interp(q, row, edges) for row in cumulative])

    return Posterior(
        mean=weights @ values,
        median=quantile(0.5),
        low=quantile((1 - level) / 2),
        high=quantile((1 + level) / 2),
    )


def bin_edges(centres: Float[np.ndarray, " bins"]) -> Float[np.ndarray, " edges"]:
    """Where bins with these centres meet, and where the outermost end."""
    if len(centres) == 1:
        return np.array([centres[0], centres[0]])
    middle = (centres[:-1] + centres[1:]) / 2
    return np.concatenate([[2 * centres[0] - middle[0]], middle, [2 * centres[-1] - middle[-1]]])
