"""When a method is never worse than another: intervals, chance, and what is claimed. Pure functions.

A *gain* is what ours has over theirs: the share of bits or of squared error that is saved, or the difference of two
shares of gaps that are exactly right. A loss is nominal where the 95 % interval of the gain lies below 0, and real
where it lies below −δ.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb
from typing import Literal

import numpy as np

Metric = Literal["bits", "squared error", "exact"]
MARGINS: Mapping[Metric, float] = {"bits": 0.01, "squared error": 0.02, "exact": 0.01}
"""δ: what is too little to matter."""
RESAMPLES = 10_000
FEWEST_REGIONS = 10
"""With fewer, an interval says nothing, and nothing is claimed."""
LEVEL = 0.025
"""How often the interval of a tie lies wholly below 0."""


@dataclass(frozen=True)
class Comparison:
    """One method beside another on the same questions."""

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


def allowed_losses(comparisons: int, *, level: float = LEVEL, sure: float = 0.95) -> int:
    """How many nominal losses chance makes of ties in so many comparisons, but for one panel of twenty."""
    at_most = 0.0
    for losses in range(comparisons + 1):
        at_most += comb(comparisons, losses) * level**losses * (1 - level) ** (comparisons - losses)
        if at_most >= sure:
            return losses
    return comparisons


def holm(p: Sequence[float]) -> list[float]:
    """Each p-value corrected for all of them (Holm 1979)."""
    order = np.argsort(p, kind="stable")
    factors = np.arange(len(p), 0, -1)
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(np.maximum.accumulate(np.asarray(p, float)[order] * factors), 1.0)
    return [float(each) for each in corrected]


def pooled(gains: Mapping[str, Sequence[float]], metric: Metric, *, seed: int = 0) -> tuple[float, float, float]:
    """The mean over families of the mean gain of each, and its 95 % interval: families drawn with replacement.

    Shares that are saved are averaged as ratios, by their logarithms: ten times the loss here and a tenth of it there
    are no gain and no loss.
    """
    scale, back = (np.asarray, np.asarray) if metric == "exact" else (_logarithm, lambda mean: 1 - np.exp(mean))
    means = np.array([np.mean(scale(each)) for each in gains.values()])
    drawn = np.random.default_rng(seed).integers(len(means), size=(RESAMPLES, len(means)))
    low, high = np.quantile(back(means[drawn].mean(axis=1)), [LEVEL, 1 - LEVEL])
    return float(back(means.mean())), float(low), float(high)


def _logarithm(gains: Sequence[float]) -> np.ndarray:
    """Of ours over theirs."""
    return np.asarray(np.log(np.maximum(1 - np.asarray(gains), 1e-9)))


def reference(selection: Mapping[str, float], metric: Metric) -> str:
    """The method that is best on the selection part: the largest share of exact gaps, else the smallest loss."""
    best = max if metric == "exact" else min
    return best(selection, key=lambda name: selection[name])


@dataclass(frozen=True)
class Row:
    """One comparison of the panel."""

    name: str
    family: str
    kind: str
    metric: Metric
    comparison: Comparison
    regions: int

    @property
    def claimed(self) -> bool:
        return self.regions >= FEWEST_REGIONS


@dataclass(frozen=True)
class Verdict:
    """What the rule says of all rows together."""

    comparisons: int
    real: tuple[str, ...]
    """(a) Rows whose interval lies wholly beyond −δ: there must be none."""
    nominal: tuple[str, ...]
    """(b) Rows whose interval lies wholly below 0."""
    allowed: int
    """(b) As many nominal losses as chance allows."""
    after_holm: tuple[str, ...]
    """(b) Rows that are lost at 5 % after Holm's correction: there must be none."""
    pools: Mapping[str, tuple[float, float, float]]
    """(c) By class of protocols: the gain pooled by family, and its interval, whose lower end must be above 0."""
    worst: tuple[Row, ...]
    """(d) The ten with the smallest gain in units of their δ."""

    @property
    def never_worse(self) -> bool:
        """(a) and (b)."""
        return not self.real and len(self.nominal) <= self.allowed and not self.after_holm

    @property
    def better(self) -> bool:
        """(c)."""
        return all(low > 0 for _, low, _ in self.pools.values())


def judged(rows: Sequence[Row]) -> Verdict:
    """The rule, over the rows of which something can be claimed."""
    rows = [row for row in rows if row.claimed]
    corrected = holm([row.comparison.p_loss for row in rows])
    pools: dict[tuple[str, Metric], dict[str, list[float]]] = {}
    for row in rows:
        pools.setdefault((row.kind, row.metric), {}).setdefault(row.family, []).append(row.comparison.gain)
    return Verdict(
        comparisons=len(rows),
        real=tuple(row.name for row in rows if row.comparison.loses_by(MARGINS[row.metric])),
        nominal=tuple(row.name for row in rows if row.comparison.loses()),
        allowed=allowed_losses(len(rows)),
        after_holm=tuple(row.name for row, p in zip(rows, corrected, strict=True) if p < 0.05),
        pools={kind: pooled(families, metric) for (kind, metric), families in pools.items()},
        worst=tuple(sorted(rows, key=lambda row: row.comparison.gain / MARGINS[row.metric])[:10]),
    )
