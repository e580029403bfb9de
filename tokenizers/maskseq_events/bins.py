"""Numbers to ordinal bins with centres: quantile bins for attributes, logarithmic bins for time gaps."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from jaxtyping import Float64, Int64

MAX_DISTINCT = 100_000
TAIL = 9
"""Values of an outermost bin may lie this many times as far out as their mean: of an exponential tail,
1 in 20,000 lies farther."""


@dataclass(frozen=True, kw_only=True)
class ValueBins:
    """Bin i holds the values in [edges[i-1], edges[i]); the first and the last bin are open."""

    edges: tuple[float, ...]
    """Inner edges, increasing: one fewer than bins."""
    centres: tuple[float, ...]
    """The mean of the training values of each bin: what the bin is decoded to, increasing."""

    def __post_init__(self) -> None:
        if len(self.centres) != len(self.edges) + 1:
            raise ValueError(f"{len(self.edges)} inner edges make {len(self.edges) + 1} bins, not {len(self.centres)}")
        if not all(a < b for values in (self.edges, self.centres) for a, b in pairwise(values)):
            raise ValueError("edges and centres of bins must increase")

    def widths_beyond(self, values: Float64[np.ndarray, "n"]) -> Float64[np.ndarray, "n"]:
        """How far values lie outside what was fitted on, in widths of that range; 0 inside, NaN of NaN.

        The ends are not on record: the outermost bins say by their means how far their values reach.
        """
        if self.edges:
            low = self.centres[0] - TAIL * (self.edges[0] - self.centres[0])
            high = self.centres[-1] + TAIL * (self.centres[-1] - self.edges[-1])
        else:
            low = high = self.centres[0]
        width = (high - low) or abs(high) or 1.0
        return np.maximum(np.maximum(low - values, values - high), 0) / width

    def texts(self, *, whole: bool) -> tuple[str, ...]:
        """Each centre as a file would write it, as short as still lies in the bin; `whole` numbers stay whole."""
        return tuple(self._text(index, whole) for index in range(len(self.centres)))

    def _text(self, index: int, whole: bool) -> str:
        centre = self.centres[index]
        shorter = (str(round(centre)) if whole else "", f"{centre:.6g}")
        return next((t for t in shorter if t and np.searchsorted(self.edges, float(t), "right") == index), repr(centre))

    def labels(self) -> tuple[str, ...]:
        """A name for each bin that a reader understands: `[1.5, 3.0)`."""
        if not self.edges:
            return ("any",)
        inner = [f"[{a!r}, {b!r})" for a, b in pairwise(self.edges)]
        return (f"< {self.edges[0]!r}", *inner, f">= {self.edges[-1]!r}")


@dataclass
class NumberCounts:
    """How often each number occurred. Beyond `MAX_DISTINCT` different numbers they are rounded to 4 digits.

    The outcome does not depend on the order of the numbers: rounding is idempotent.
    """

    counts: Counter[float] = field(default_factory=Counter)
    rounded: bool = False

    def add(self, numbers: Iterable[float]) -> None:
        """Count each number once."""
        self.counts.update(map(_round, numbers) if self.rounded else numbers)
        self._bound()

    def add_times(self, number: float, times: int) -> None:
        """Count one number several times."""
        self.counts[_round(number) if self.rounded else number] += times
        self._bound()

    def _bound(self) -> None:
        if not self.rounded and len(self.counts) > MAX_DISTINCT:
            self.rounded = True
            exact, self.counts = self.counts, Counter()
            for number, count in exact.items():
                self.counts[_round(number)] += count

    def sorted(self) -> tuple[Float64[np.ndarray, "n"], Int64[np.ndarray, "n"]]:
        """The different numbers, increasing, and how often each occurred."""
        values = np.array(sorted(self.counts), dtype=np.float64)
        return values, np.array([self.counts[value] for value in values.tolist()], dtype=np.int64)


def _round(number: float) -> float:
    return float(f"{number:.4g}")


def quantile_bins(values: Float64[np.ndarray, "n"], counts: Int64[np.ndarray, "n"], n_bins: int) -> ValueBins:
    """At most `n_bins` bins of about equal counts; equal values share a bin, so ties make fewer bins.

    `values` are the different training values, increasing; no more than `n_bins` of them keep a bin each.
    """
    if len(values) <= n_bins:
        starts = np.arange(1, len(values))
    else:
        below = np.cumsum(counts)  # of each value, the training values up to and with it
        targets = np.arange(1, n_bins) * (below[-1] / n_bins)
        nearest = np.searchsorted(below, targets)
        starts = np.unique(np.clip(nearest + 1, 1, len(values) - 1))
    firsts = np.array([0, *starts])
    means = np.add.reduceat(values * counts, firsts) / np.add.reduceat(counts, firsts)
    alone = np.diff([*firsts, len(values)]) == 1
    centres = np.where(alone, values[firsts], means)  # a mean would differ from its only value in the last digit
    return ValueBins(edges=tuple(values[starts].tolist()), centres=tuple(centres.tolist()))


def gap_bins(values: Float64[np.ndarray, "n"], counts: Int64[np.ndarray, "n"], n_bins: int) -> ValueBins:
    """Bins of time gaps in whole microseconds: backwards, zero, then `n_bins` of equal width in the logarithm.

    The logarithmic bins span the positive training gaps; a bin without any is decoded to its geometric middle.
    """
    positive = values[values > 0]
    low, high = (positive[0], max(positive[-1], positive[0] + 1)) if len(positive) else (1.0, 2.0)
    between = np.unique(np.round(np.geomspace(low, high, n_bins + 1))[1:-1])
    edges = np.array([0.0, 1.0, *between[(between > 1)]])
    bounds = np.array([min(-1e6, values.min(initial=0)), *edges, edges[-1] + max(high - edges[-1], 1)])
    which = np.searchsorted(edges, values, side="right")
    sums = np.bincount(which, weights=values * counts, minlength=len(edges) + 1)
    sizes = np.bincount(which, weights=counts, minlength=len(edges) + 1)
    middle = np.array([-1e6, 0.0, *np.sqrt(bounds[2:-1] * bounds[3:])])
    centres = np.where(sizes > 0, sums / np.maximum(sizes, 1), middle)
    return ValueBins(edges=tuple(edges.tolist()), centres=tuple(centres.tolist()))
