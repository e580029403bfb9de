"""Two methods on the same cells, paired by region: the gain, its 95 % interval, and what is claimed. Pure functions.

A *gain* is what ours has over theirs: the share of bits or of error that is saved, or the difference of two
shares of gaps that are exactly right. A loss is nominal where the 95 % interval of the gain lies below 0, and real
where it lies below −δ.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

Metric = Literal["bits", "squared error", "absolute error", "exact"]
MARGINS: Mapping[Metric, float] = {"bits": 0.01, "squared error": 0.02, "absolute error": 0.02, "exact": 0.01}
"""δ: what is too little to matter."""
SMALL_BITS = 0.02
"""Bits of a cell that are too few to matter, however few the other method needs: some fields are nearly certain."""
RESAMPLES = 10_000
FEWEST_REGIONS = 10
"""With fewer, an interval says nothing, and nothing is claimed."""
MOST_REGIONS = 200
"""Regions are gathered into so many groups at most: enough for an interval, few enough to resample often."""
LEVEL = 0.025
"""How often the interval of a tie lies wholly below 0."""

Outcome = Literal["better than", "no better than", "worse than", "undecided"]
OUTCOMES: tuple[Outcome, ...] = ("worse than", "no better than", "better than", "undecided")
"""The worst first; what is undecided says nothing."""


@dataclass(frozen=True)
class Comparison:
    """One method compared with another on the same masked examples."""

    gain: float
    low: float
    high: float
    p_loss: float
    """One-sided: how probable so low a gain would be if nothing were lost."""

    def loses(self) -> bool:
        return self.high < 0

    def loses_by(self, margin: float) -> bool:
        return self.high < -margin

    def wins(self) -> bool:
        return self.low > 0

    def undecided(self, margin: float) -> bool:
        """The gain and its interval disagree with δ: only more seeds can tell."""
        return (self.gain < -margin) != self.loses_by(margin) or (self.loses() and not self.loses_by(margin))

    def outcome(self, margin: float) -> Outcome:
        """In words: a loss that is too small to matter is "no better than"."""
        return "better than" if self.wins() else "worse than" if self.loses_by(margin) else "no better than"


def margin(metric: Metric, theirs: float) -> float:
    """δ of a comparison with a method of this figure."""
    return max(MARGINS[metric], SMALL_BITS / max(theirs, 1e-9)) if metric == "bits" else MARGINS[metric]


def compared(ours: np.ndarray, theirs: np.ndarray, sizes: np.ndarray, metric: Metric, *, seed: int = 0) -> Comparison:
    """Paired by region: sums of each region's losses (of its exact gaps, for "exact") and how many it has of them."""
    totals = np.stack([ours, theirs, sizes]).astype(np.float64)
    gain = float(_gain(totals.sum(axis=1), metric))
    drawn = np.sort(_gain(resampled(totals, seed=seed), metric))
    low, high = np.quantile(drawn, [LEVEL, 1 - LEVEL])
    at_least = len(drawn) - int(np.searchsorted(drawn, 0.0, side="left"))
    return Comparison(gain, float(low), float(high), (1 + at_least) / (1 + len(drawn)))


def resampled(totals: np.ndarray, *, seed: int = 0, resamples: int = RESAMPLES) -> np.ndarray:
    """Sums [columns, resamples] over regions that are drawn with replacement, the same ones for all columns."""
    rng = np.random.default_rng(seed)
    n = totals.shape[1]
    parts = []
    for first in range(0, resamples, 1000):
        times = rng.multinomial(n, np.full(n, 1 / n), size=min(1000, resamples - first))
        parts.append(totals @ times.T)
    return np.concatenate(parts, axis=1)


def _gain(totals: np.ndarray, metric: Metric) -> np.ndarray:
    ours, theirs, sizes = totals
    if metric == "exact":
        return np.asarray((ours - theirs) / np.maximum(sizes, 1))
    return np.asarray(1 - np.where(ours == theirs, 1.0, ours / np.maximum(theirs, 1e-12)))


def reference(means: Mapping[str, float], metric: Metric) -> str:
    """The method that is best: the largest share of exact gaps, else the smallest loss."""
    best = max if metric == "exact" else min
    return best(means, key=lambda name: means[name])


@dataclass(frozen=True)
class Opponent:
    """The best of some methods, chosen without looking at what it is then compared on."""

    names: tuple[str, ...]
    """One method, or the two that the halves chose; the one that is used on more regions comes first."""
    losses: Float[np.ndarray, " units"]

    @property
    def name(self) -> str:
        return " / ".join(self.names)


def opponent(
    losses: Mapping[str, Float[np.ndarray, " units"]], region: Int[np.ndarray, " units"], metric: Metric
) -> Opponent:
    """The best method by cross-selection: chosen on one half of the regions, used on the other, and the reverse.

    *Why*: the best of twenty methods on the same cells is partly luck, so that a model would have to beat the luck as
    well. A single region cannot be halved: there the choice is made on what is compared.
    """
    regions = np.unique(region)
    if len(regions) < 2:
        chosen = reference({name: float(each.mean()) for name, each in losses.items()}, metric)
        return Opponent((chosen,), np.asarray(losses[chosen], np.float64))
    found = np.empty(len(region))
    names = []
    first = np.isin(region, np.random.default_rng(len(regions)).permutation(regions)[: (len(regions) + 1) // 2])
    for here in (first, ~first):
        chosen = reference({name: float(each[~here].mean()) for name, each in losses.items()}, metric)
        found[here] = losses[chosen][here]
        names.append(chosen)
    return Opponent(tuple(dict.fromkeys(names)), found)


def by_region(
    region: Int[np.ndarray, " units"], *columns: Float[np.ndarray, " units"] | Bool[np.ndarray, " units"]
) -> tuple[np.ndarray, ...]:
    """Sums of each column by region, and how many units each region has; at most `MOST_REGIONS` regions."""
    _, number = np.unique(region, return_inverse=True)
    n = min(int(number.max(initial=-1)) + 1, MOST_REGIONS)
    group = number % max(n, 1)
    return *(np.bincount(group, column, n) for column in columns), np.bincount(group, minlength=n)
