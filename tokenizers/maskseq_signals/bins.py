"""Numbers to ordinal bins and back. Whatever the scheme, what is kept is the same: inner edges, and a centre each."""

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from jaxtyping import Float64, Int64, Integer


@dataclass(frozen=True, kw_only=True)
class Bins:
    """Bin i holds the values in [edges[i-1], edges[i]); the first and the last bin are open."""

    edges: tuple[float, ...]
    """Inner edges, increasing: one fewer than bins."""
    centres: tuple[float, ...]
    """What each bin is decoded to; it lies in its bin."""

    def __post_init__(self) -> None:
        if len(self.centres) != len(self.edges) + 1:
            raise ValueError(f"{len(self.edges)} inner edges make {len(self.edges) + 1} bins, not {len(self.centres)}")
        if not all(a < b for a, b in pairwise(self.edges)):
            raise ValueError("edges of bins must increase")
        if (self.ids(np.array(self.centres)) != np.arange(len(self.centres))).any():
            raise ValueError("the centre of a bin must lie in it")

    def ids(self, values: Float64[np.ndarray, "length"]) -> Int64[np.ndarray, "length"]:
        """The bin of each value; of NaN, some bin."""
        return np.searchsorted(self._edges, values, side="right")

    def values(self, ids: Integer[np.ndarray, "length"]) -> Float64[np.ndarray, "length"]:
        """The centre of each bin; NaN for ids that are none."""
        return _looked_up(self._centres, ids)

    def short_values(self, ids: Integer[np.ndarray, "length"]) -> Float64[np.ndarray, "length"]:
        """The same, each rounded to a tenth of the distance to its neighbours if it stays in its bin then."""
        return _looked_up(self._short, ids)

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """A name for each bin: its rounded centre. No two are equal, for each lies in its own bin."""
        return tuple(f"{value:.17g}" if abs(value) >= 1e16 else repr(value) for value in self._short.tolist())

    @cached_property
    def decimals(self) -> int:
        """Digits behind the point that tell the two closest centres apart, and one more."""
        return fitting_decimals(float(np.diff(self._centres).min(initial=np.inf)))

    @cached_property
    def _short(self) -> Float64[np.ndarray, "bins"]:
        gaps = np.concatenate([[np.inf], np.diff(self._centres), [np.inf]])
        nearest = np.minimum(gaps[:-1], gaps[1:]).tolist()
        return np.array([self._shortened(i, gap) for i, gap in enumerate(nearest)])

    def _shortened(self, index: int, gap: float) -> float:
        centre = self.centres[index]
        enough = fitting_decimals(gap) if math.isfinite(gap) else 6
        for decimals in range(enough, enough + 8):
            short = round(centre, decimals) + 0.0  # no -0.0
            if np.searchsorted(self._edges, short, side="right") == index:
                return short
        return centre

    @cached_property
    def _edges(self) -> Float64[np.ndarray, "edges"]:
        return np.array(self.edges, dtype=np.float64)

    @cached_property
    def _centres(self) -> Float64[np.ndarray, "bins"]:
        return np.array(self.centres, dtype=np.float64)


def widths_beyond(values: Float64[np.ndarray, "length"], low: float, high: float) -> Float64[np.ndarray, "length"]:
    """How far values lie outside a range, in widths of it; 0 inside, NaN of NaN."""
    width = (high - low) or abs(high) or 1.0
    return np.maximum(np.maximum(low - values, values - high), 0) / width


def fitting_decimals(distance: float) -> int:
    """Digits behind the point whose last is worth a tenth of the distance or less; at most 300."""
    return min(max(1 - math.floor(math.log10(distance)), 0), 300) if math.isfinite(distance) else 6


def _looked_up(table: Float64[np.ndarray, "bins"], ids: Integer[np.ndarray, "length"]) -> Float64[np.ndarray, "length"]:
    inside = ids < len(table)
    return np.where(inside, table[np.where(inside, ids, 0)], np.nan)


def uniform_bins(low: float, high: float, n_bins: int) -> Bins:
    """Bins of equal width from `low` to `high`; one bin if they are equal. In between, no value is further from its
    centre than half a width.
    """
    finest = 4 * np.spacing(max(abs(low), abs(high)))  # below, edges would coincide in float64
    n_bins = int(min(n_bins, max((high - low) // finest, 1)))
    points = np.linspace(low, high, 2 * n_bins + 1)
    return Bins(edges=tuple(points[2:-1:2].tolist()), centres=tuple(points[1::2].tolist()))


def quantile_bins(values: Float64[np.ndarray, "n"], n_bins: int) -> Bins:
    """At most `n_bins` bins of about equal counts; the centre of each is the mean of its values.

    Equal values share a bin, so ties make fewer bins; where there are no more different values than bins, each value
    has its own. `values` are in any order, without NaN.
    """
    distinct_values, counts = np.unique(values, return_counts=True)
    if len(distinct_values) <= n_bins:
        starts = np.arange(1, len(distinct_values))
    else:
        below = np.cumsum(counts)
        targets = np.arange(1, n_bins) * (below[-1] / n_bins)
        starts = np.unique(np.clip(np.searchsorted(below, targets) + 1, 1, len(distinct_values) - 1))
    firsts = np.array([0, *starts])
    lasts = np.array([*starts, len(distinct_values)]) - 1
    means = np.add.reduceat(distinct_values * counts, firsts) / np.add.reduceat(counts, firsts)
    centres = np.clip(means, distinct_values[firsts], distinct_values[lasts])  # rounding may carry a mean outside
    return Bins(edges=tuple(distinct_values[starts].tolist()), centres=tuple(centres.tolist()))


def mulaw_bins(middle: float, reach: float, n_bins: int, mu: float) -> Bins:
    """Bins of equal width after μ-law companding (ITU-T G.711) of what deviates from `middle` by up to `reach`.

    Deviations are resolved in proportion to their size, down to about reach / μ: spikes and a quiet base line at once.
    """
    if reach <= 4 * np.spacing(abs(middle)):
        return Bins(edges=(), centres=(middle,))
    companded = np.linspace(-1, 1, 2 * n_bins + 1)
    points = middle + reach * np.sign(companded) * np.expm1(np.abs(companded) * np.log1p(mu)) / mu
    edges = np.unique(points[2:-1:2])
    if len(edges) < n_bins - 1:  # closer to the middle than float64 can tell
        points = np.sort(np.concatenate([points[[0, -1]], edges]))
        return Bins(edges=tuple(edges.tolist()), centres=tuple(((points[:-1] + points[1:]) / 2).tolist()))
    return Bins(edges=tuple(edges.tolist()), centres=tuple(points[1::2].tolist()))
