"""Is the product better than counting? Field by field against the best simple method, and the worst of all fields."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int

from maskseq.evaluation.paired import (
    FEWEST_REGIONS,
    MARGINS,
    OUTCOMES,
    Metric,
    Outcome,
    by_region,
    compared,
    margin,
    opponent,
)
from maskseq.evaluation.results import Interval, Result, stored_as

CELLS, GAPS, CASES = "cells", "whole gaps", "cases"
ALL_FIELDS = "all fields"
MOST_BITS = 40.0
"""What a probability of 0 costs."""
CHOICE = "on one half of the records or stretches, compared on the other, and the reverse"
"""How the best simple method is chosen."""


@dataclass(frozen=True, kw_only=True)
class FieldComparison(Result):
    """One field under one protocol, cell by cell or as whole gaps: the product and the best simple method."""

    protocol: str
    field: str
    of: Literal["cells", "whole gaps", "cases"]
    metric: Metric
    """Bits of single cells, the share of gaps exactly right, the squared error of numbers (z-scored), or the absolute
    error of times."""
    n: int
    """Cells, gaps or cases that are scored."""
    regions: int
    """Records, or stretches of long ones, that the interval is drawn over."""
    by: Mapping[str, float]
    """The metric of all methods."""
    best_simple: str = stored_as("best simple method")
    """Chosen without looking at what it is compared on (`CHOICE`); two names where the halves chose differently."""
    theirs: float = stored_as("of the best simple method")
    ours: float | None = stored_as("of the product", default=None)
    gain: float | None = None
    """The share of bits or of error that is saved, or the difference of two shares."""
    gain_interval: Interval | None = stored_as("gain, 95 %", default=None)
    verdict: Outcome | None = None

    @property
    def severity(self) -> tuple[int, float]:
        """The worst first: by verdict, then by the gain in units of its margin."""
        return OUTCOMES.index(self.verdict or "undecided"), (self.gain or 0.0) / margin(self.metric, self.theirs)

    @property
    def briefly(self) -> str:
        """The gain of a protocol with its interval, over which method, and the verdict."""
        if self.gain is None or self.gain_interval is None or self.verdict is None:
            return f"{self.protocol}: {shown(self.theirs, self.metric)} ({self.best_simple})"
        gain = gained(self.gain, self.gain_interval, self.metric, self.regions)
        return f"{self.protocol} {gain} over {self.best_simple}, {self.verdict.removesuffix(' than')}"

    @property
    def in_words(self) -> str:
        """One line: what, the figures, the gain and its interval."""
        what = f"{self.field}, {self.of} of {self.protocol}"
        if self.ours is None or self.gain is None or self.gain_interval is None:
            return f"{what}: {shown(self.theirs, self.metric)} ({self.best_simple})"
        return (
            f"{what}: {shown(self.ours, self.metric)}, {self.best_simple} {shown(self.theirs, self.metric)}; "
            f"gain {gained(self.gain, self.gain_interval, self.metric, self.regions)}"
        )


@dataclass(frozen=True, kw_only=True)
class Verdict(Result):
    """The headline: how the product does where it does worst. A good mean does not make up for a lost field."""

    outcome: Outcome
    worst: FieldComparison
    counts: Mapping[str, int]
    """How many comparisons came out how."""
    in_words: str

    @classmethod
    def of(cls, comparisons: Sequence[FieldComparison]) -> "Verdict | None":
        """None where nothing was compared."""
        judged = [each for each in comparisons if each.verdict is not None]
        if not judged:
            return None
        worst = min(judged, key=lambda each: each.severity)
        counts = {str(name): n for name in OUTCOMES if (n := sum(each.verdict == name for each in judged))}
        outcome = worst.verdict or "undecided"
        summary = ", ".join(f"{n} {name.removesuffix(' than')}" for name, n in counts.items())
        return cls(
            outcome=outcome,
            worst=worst,
            counts=counts,
            in_words=f"{HEADLINES[outcome]}: {worst.in_words} [{summary}]",
        )


HEADLINES: Mapping[Outcome, str] = {
    "better than": "better than counting in every field; the smallest gain is",
    "no better than": "no better than counting in its worst field",
    "worse than": "worse than counting in its worst field",
    "undecided": "too little data for a verdict",
}


def shown(value: float, metric: Metric) -> str:
    """A figure with its unit."""
    return {
        "bits": f"{value:.4f} bits",
        "exact": f"{value:.2%} exact",
        "squared error": f"MSE {value:.4f}",
        "absolute error": f"MAE {value:.4g}",
    }[metric]


def gained(value: float, interval: Sequence[float], metric: Metric, regions: int) -> str:
    """A gain with its interval: points of exact share, or per cent of bits or of error that are saved.

    With a single region no interval can be computed, and the text says so.
    """
    gain, low, high = (f"{100 * each:+.1f}" for each in (value, *interval))
    spread = f"{low} to {high}" if regions > 1 else "one stretch, no interval"
    return f"{gain} ({spread}) {'points' if metric == 'exact' else '%'}"


def compare_field(
    losses: Mapping[str, Float[np.ndarray, " units"]],
    region: Int[np.ndarray, " units"],
    *,
    product: str | None,
    simple: Iterable[str],
    metric: Metric,
    **named: Any,
) -> FieldComparison:
    """One field: losses (for "exact": 1.0 where right) of all methods by cell or gap; `named` says which field it is.

    Nothing is claimed with fewer than `FEWEST_REGIONS` regions, nor where neither side gets one gap in a hundred right.
    """
    if metric == "bits":
        losses = {name: np.minimum(each, MOST_BITS) for name, each in losses.items()}
    losses = {name: np.asarray(each, np.float64) for name, each in losses.items()}
    best = opponent({name: losses[name] for name in simple if name in losses}, region, metric)
    n_regions = len(np.unique(region))
    figures = FieldComparison(
        metric=metric,
        n=len(region),
        regions=n_regions,
        by={name: float(each.mean()) for name, each in losses.items()},
        best_simple=best.name,
        theirs=float(best.losses.mean()),
        **named,
    )
    if product is None or product not in losses:
        return figures
    own, other, sizes = by_region(region, losses[product], best.losses)
    found = compared(own, other, sizes, metric)
    ours = figures.by[product]
    rare = metric == "exact" and max(ours, figures.theirs) < MARGINS[metric]
    return replace(
        figures,
        ours=ours,
        gain=found.gain,
        gain_interval=(found.low, found.high),
        verdict="undecided" if rare or n_regions < FEWEST_REGIONS else found.outcome(margin(metric, figures.theirs)),
    )
