"""Ordinal fields: from probabilities of bins to numbers in physical units, with intervals."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from maskseq.predict.protocol import Fill
from maskseq.predict.stated import Stated

LEVELS = (0.5, 0.8, 0.95)
"""What the intervals are to hold: the value in that share of the cases."""
NOMINAL = np.array([[(1 - level) / 2, (1 + level) / 2] for level in LEVELS])
"""The two quantiles that bound each central interval, if the probabilities are taken at their word."""


@dataclass(frozen=True)
class Posterior:
    """What a distribution over bins says about the value, in the field's unit."""

    mean: Float[np.ndarray, " cells"]
    """Least squared error on average."""
    median: Float[np.ndarray, " cells"]
    """Least absolute error on average."""
    low: Float[np.ndarray, "cells levels"]
    high: Float[np.ndarray, "cells levels"]
    """For each of `LEVELS`, the central interval."""

    @classmethod
    def of(cls, fill: Fill, centres: Sequence[tuple[float, ...] | None]) -> "Posterior":
        """For every filled cell, by the `centres` of its field and given the known cells alone; NaN in other fields."""
        n = len(fill.cells)
        mean, median = np.full((2, n), np.nan)
        low, high = np.full((2, n, len(LEVELS)), np.nan)
        for column, values in enumerate(centres):
            mine = np.flatnonzero(fill.cells[:, 1] == column)
            if values is not None and len(mine):
                tails = None if fill.tails is None else fill.tails[mine]
                answered = None if fill.stated is None else fill.stated.at(mine)
                if answered is None or np.isnan(answered.mean).any():
                    found = posterior(fill.marginals[mine], values, tails=tails)
                else:
                    found = of_stated(answered)
                mean[mine], median[mine], low[mine], high[mine] = found.mean, found.median, found.low, found.high
        return cls(mean, median, low, high)


def posterior(
    probabilities: Float[np.ndarray, "cells outputs"],
    centres: tuple[float, ...],
    *,
    tails: Float[np.ndarray, "cells levels 2"] | None = None,
) -> Posterior:
    """Mean, median and central intervals, given that the value is in one of the bins (controls are left out).

    Within a bin every value counts as equally likely. Bins meet halfway between their centres; the outermost are as
    wide outwards as inwards. A cell that no bin is possible for gives NaN. `tails` are the quantiles that bound the
    intervals (default: `NOMINAL`).
    """
    values = np.asarray(centres, dtype=np.float64)
    cumulative = cumulated(probabilities, len(values))
    edges = bin_edges(values)
    tails = np.broadcast_to(NOMINAL, (len(cumulative), *NOMINAL.shape)) if tails is None else tails
    requested = np.concatenate([np.full((len(tails), 1), 0.5), tails.reshape(len(tails), -1)], axis=1)
    found = np.array([np.interp(q, row, edges) for q, row in zip(requested, cumulative, strict=True)]).reshape(
        requested.shape
    )
    bounds = found[:, 1:].reshape(tails.shape)
    return Posterior(
        mean=np.diff(cumulative, axis=1) @ values, median=found[:, 0], low=bounds[..., 0], high=bounds[..., 1]
    )


def of_stated(stated: Stated) -> Posterior:
    """The same of numbers as they are stated: they may lie beyond all bins, and their intervals need no calibration."""
    bounds = stated.quantile(np.broadcast_to(NOMINAL.ravel(), (len(stated), NOMINAL.size))).reshape(-1, *NOMINAL.shape)
    median = stated.quantile(np.full((len(stated), 1), 0.5))[:, 0]
    return Posterior(mean=stated.mean, median=median, low=bounds[..., 0], high=bounds[..., 1])


def numbers_in(
    ids: Int[np.ndarray, " cells"],
    centres: Float[np.ndarray, " bins"],
    stated: Stated | None,
    ranks: Float[np.ndarray, " cells"] | None,
) -> Float[np.ndarray, " cells"]:
    """A number for each bin that was chosen: by its rank among those that are stated there, of which the outermost bins
    are open; without ranks the stated mean, whatever the bins are; the centre where none is stated.

    NaN for ids that are not bins.
    """
    chosen = ids < len(centres)
    found = np.where(chosen, centres[np.where(chosen, ids, 0)], np.nan)
    if stated is None or not chosen.any():
        return found
    if ranks is None:
        return np.where(chosen, stated.mean, np.nan)
    answered, which = stated.at(chosen), ids[chosen]
    edges = np.concatenate([[-np.inf], bin_edges(centres)[1:-1], [np.inf]])
    ends = np.stack([edges[which], edges[which + 1]], axis=1)
    finite = np.where(np.isinf(ends), answered.mean[:, None], ends)
    below = np.where(np.isinf(ends), [0.0, 1.0], answered.below(finite))
    rank = below[:, 0] + ranks[chosen] * (below[:, 1] - below[:, 0])
    found[chosen] = np.clip(answered.quantile(rank[:, None])[:, 0], ends[:, 0], ends[:, 1])
    return found


def outside_bins(fill: Fill, centres: Sequence[tuple[float, ...] | None]) -> Float[np.ndarray, "samples cells"]:
    """The numbers that values stand for where these lie beyond all bins of their field; NaN elsewhere."""
    found = np.full(fill.values.shape, np.nan)
    for field, values in enumerate(centres):
        if values is not None and fill.numbers is not None:
            edges = bin_edges(np.asarray(values))
            beyond = (fill.numbers < edges[0]) | (fill.numbers > edges[-1])
            found = np.where(beyond & (fill.cells[:, 1] == field), fill.numbers, found)
    return found


def cumulated(probabilities: Float[np.ndarray, "cells outputs"], n_bins: int) -> Float[np.ndarray, "cells edges"]:
    """The probability that the value lies below each edge, given that it is in a bin; NaN where none is possible."""
    weights = probabilities[:, :n_bins].astype(np.float64)
    total = weights.sum(axis=1, keepdims=True)
    weights = np.divide(weights, total, out=np.full_like(weights, np.nan), where=total > 0)
    return np.concatenate([np.zeros((len(weights), 1)), np.cumsum(weights, axis=1)], axis=1)


def bin_edges(centres: Float[np.ndarray, " bins"]) -> Float[np.ndarray, " edges"]:
    """Where bins with these centres meet, and where the outermost end."""
    if len(centres) == 1:
        return np.array([centres[0], centres[0]])
    middle = (centres[:-1] + centres[1:]) / 2
    return np.concatenate([[2 * centres[0] - middle[0]], middle, [2 * centres[-1] - middle[-1]]])


@dataclass(frozen=True)
class PitValues:
    """Where true values stand in their stated distributions: uniform from 0 to 1 if those are honest.

    A bin leaves open where in it the value lies, so that each cell has a range of ranks and not one (the non-randomized
    probability integral transform of Czado, Gneiting & Held 2009, doi:10.1111/j.1541-0420.2009.01191.x).
    """

    low: Float[np.ndarray, " cells"]
    high: Float[np.ndarray, " cells"]

    @classmethod
    def of(
        cls, probabilities: Float[np.ndarray, "cells outputs"], n_bins: int, truth: Int[np.ndarray, " cells"]
    ) -> "PitValues":
        """Of cells whose true value is known and one of the bins."""
        cumulative, rows = cumulated(probabilities, n_bins), np.arange(len(truth))
        return cls(cumulative[rows, truth], cumulative[rows, truth + 1])

    def __len__(self) -> int:
        return len(self.low)

    def at(self, which: Bool[np.ndarray, " cells"]) -> "PitValues":
        return PitValues(self.low[which], self.high[which])

    def share_below(self, rank: float) -> float:
        """Of the true values, the share that ranks lower."""
        width = np.maximum(self.high - self.low, 1e-12)
        return float(np.clip((rank - self.low) / width, 0, 1).mean())

    def tails(self) -> Float[np.ndarray, "levels 2"]:
        """The quantiles that bound intervals which hold what they promise, of cells such as these."""
        grid = np.linspace(0, 1, 1001)
        return np.asarray(np.interp(NOMINAL, [self.share_below(rank) for rank in grid.tolist()], grid))

    def coverage(self, tails: Float[np.ndarray, "levels 2"]) -> list[float]:
        """The share of true values that lies within each interval."""
        return [self.share_below(high) - self.share_below(low) for low, high in tails.tolist()]
