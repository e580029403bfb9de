"""When a method is never worse than another: chance, pooling, and what is claimed of a whole panel. Pure functions.

One comparison is that of `maskseq.evaluation.paired`, which `maskseq evaluate` uses as well.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb

import numpy as np

from maskseq.evaluation.paired import FEWEST_REGIONS, LEVEL, MARGINS, RESAMPLES, Comparison, Metric


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
