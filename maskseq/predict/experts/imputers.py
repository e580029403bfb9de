"""Simple ways to fill gaps of numbers; on many signals they beat published networks.

All work on one record's values, NaN where hidden or unknown, column by column unless said otherwise.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from jaxtyping import Float

from maskseq.errors import UsageError

Values = Float[np.ndarray, "length fields"]


def linear(values: Values) -> Values:
    """Straight lines between known neighbours, constant beyond the outermost; NaN where a column knows nothing."""
    return _by_column(values, lambda at, known, of: np.interp(at, known, of))


def last(values: Values) -> Values:
    """The last known value carried forward, the first one backward (LOCF)."""

    def carried(at: np.ndarray, known: np.ndarray, of: np.ndarray) -> np.ndarray:
        return np.asarray(of[np.maximum(np.searchsorted(known, at, side="right") - 1, 0)])

    return _by_column(values, carried)


def mean(values: Values) -> Values:
    """The mean of what is known of the record."""
    return _by_column(values, lambda at, known, of: np.full(len(at), of.mean()))


def seasonal(values: Values, period: int) -> Values:
    """The mean of the values one period before and after, of those that are known; else `linear`."""
    padded = np.pad(values, ((period, period), (0, 0)), constant_values=np.nan)
    both = np.stack([padded[: -2 * period], padded[2 * period :]])
    known = ~np.isnan(both)
    total = np.where(known, both, 0).sum(axis=0)
    found = np.divide(total, known.sum(axis=0), out=linear(values), where=known.any(axis=0))
    return np.where(np.isnan(values), found, values)


def spline(values: Values) -> Values:
    """Cubic splines through the known values (SciPy), constant beyond the outermost; `linear` below 4 of them."""
    from scipy.interpolate import CubicSpline

    def smooth(at: np.ndarray, known: np.ndarray, of: np.ndarray) -> np.ndarray:
        if len(known) < 4:
            return np.asarray(np.interp(at, known, of))
        return np.asarray(CubicSpline(known, of)(np.clip(at, known[0], known[-1])))

    return _by_column(values, smooth)


def neighbours(values: Values, n: int = 5) -> Values:
    """The mean of the n time steps whose known columns are nearest (scikit-learn's `KNNImputer`)."""
    from sklearn.impute import KNNImputer

    return _with_all_columns(values, KNNImputer(n_neighbors=n, keep_empty_features=True).fit_transform)


def iterative(values: Values) -> Values:
    """Each column regressed on the others, in rounds (scikit-learn's `IterativeImputer`, MICE's mean)."""
    from sklearn.experimental import enable_iterative_imputer  # noqa: F401
    from sklearn.impute import IterativeImputer

    return _with_all_columns(values, IterativeImputer(random_state=0, keep_empty_features=True).fit_transform)


def mixed(values: Values, period: int) -> Values:
    """Halfway between `linear` and `seasonal`."""
    return np.asarray((linear(values) + seasonal(values, period)) / 2)


IMPUTERS: Mapping[str, Callable[[Values], Values]] = MappingProxyType(
    {"linear": linear, "last": last, "mean": mean, "spline": spline, "neighbours": neighbours, "iterative": iterative}
)


def imputer(name: str) -> Callable[[Values], Values]:
    """One of `IMPUTERS`, or `seasonal-N` or `mixed-N` with a period of N steps; `UsageError` for other names."""
    kind, _, period = name.partition("-")
    if kind in ("seasonal", "mixed") and period.isdecimal() and int(period) > 0:
        fill = seasonal if kind == "seasonal" else mixed
        return lambda values: fill(values, int(period))
    if name not in IMPUTERS:
        known = ", ".join(IMPUTERS)
        raise UsageError(
            f"unknown baseline {name!r}; there are {known}, covariances, seasonal-N and mixed-N, N steps long",
            code="unknown-name",
        )
    return IMPUTERS[name]


def _by_column(values: Values, fill: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]) -> Values:
    filled = values.copy()
    for column in range(values.shape[1]):
        missing = np.isnan(values[:, column])
        known = np.flatnonzero(~missing)
        if missing.any() and len(known):
            filled[missing, column] = fill(np.flatnonzero(missing), known, values[known, column])
    return filled


def _with_all_columns(values: Values, fill: Callable[[Values], Values]) -> Values:
    empty = np.isnan(values).all(axis=0)
    filled = values.copy()
    if not empty.all():
        filled[:, ~empty] = fill(values[:, ~empty])
    return filled
