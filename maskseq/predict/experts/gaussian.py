"""Hidden numbers given all known ones of a window, if they are jointly Gaussian: mean and variance in closed form.

    mean = μ_h + Σ_hk Σ_kk⁻¹ (k − μ_k),    variance = Σ_hh − Σ_hk Σ_kk⁻¹ Σ_kh    (Bishop 2006, eq. 2.81 and 2.82)

`Stationary` takes Σ from the covariances at every lag, so that Σ is block-Toeplitz: what series without a common start
allow. `Aligned` counts a mean and a covariance for each position of series that all have one length (heartbeats cut
alike), and shrinks that covariance towards its own tapered block-Toeplitz average (Schäfer & Strimmer 2005,
doi:10.2202/1544-6115.1175); where a long stretch is hidden, towards the identity (Ledoit & Wolf 2004,
doi:10.1016/S0047-259X(03)00096-4).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int

Values = Float[np.ndarray, "length fields"]
WINDOW = 600
"""Numbers in a window that are looked at together, at most."""
DIFFUSE = 10.0
"""Variance of a level, or of a trend, about which nothing is assumed; of z-scored numbers."""
NUGGET = 1e-5
"""Of z-scored numbers: what keeps matrices of equal numbers invertible."""
LONG = 0.25
"""Share of an aligned series from which on a hidden stretch is long."""
ENOUGH = 8
"""Aligned series, at least."""


@dataclass(frozen=True)
class Stationary:
    """Covariances of a window, the same wherever it begins, of z-scored numbers ordered by position, then field."""

    mean: Float[np.ndarray, " fields"]
    std: Float[np.ndarray, " fields"]
    covariance: Float[np.ndarray, "numbers numbers"]

    @classmethod
    def count(cls, series: Sequence[Values], *, window: int = WINDOW) -> "Stationary":
        """Covariances of all pairs of fields at all lags of these series, of the pairs that are known.

        They are tapered as those of the series themselves are, of which fewer are as far apart: without it they need
        not be positive definite (Brockwell & Davis 1991, §7.2).
        """
        mean, std = moments(series)
        n_fields = len(mean)
        width = max(min(max(map(len, series)), window // n_fields), 1)
        products = np.zeros((width, n_fields, n_fields))
        pairs = np.zeros((width, n_fields, n_fields))
        possible = np.zeros(width)
        for values in series:
            z = (values - mean) / std
            known = ~np.isnan(z)
            products += lagged(np.where(known, z, 0), width)
            pairs += lagged(known.astype(np.float64), width)
            possible += np.maximum(len(values) - np.arange(width), 0)
        by_lag = products / np.maximum(pairs, 1) * (possible / possible[0])[:, None, None]
        return cls(mean, std, positive(block_toeplitz(by_lag)))

    @property
    def width(self) -> int:
        """Positions of a window."""
        return len(self.covariance) // len(self.mean)

    def diffuse(self, *, trend: bool = False) -> "Stationary":
        """The same for windows whose level, and trend, are their own: an offset then moves predictions with it."""
        at = np.arange(self.width)
        shapes = [np.ones(self.width)] + ([2 * at / max(self.width - 1, 1) - 1] if trend else [])
        added = sum(DIFFUSE * np.kron(np.outer(shape, shape), np.eye(len(self.mean))) for shape in shapes)
        return replace(self, covariance=self.covariance + added)

    def posterior(self, values: Values) -> tuple[Values, Values]:
        """Means and variances in place of NaN, from the known numbers around; known ones stay, with variance 0."""
        z = (values - self.mean) / self.std
        mean, variance = z.copy(), np.zeros_like(z)
        block = max(self.width // 4, 1)
        for start in range(0, len(z), block):
            stop = min(start + block, len(z))
            wanted = np.isnan(z[start:stop])
            if not wanted.any():
                continue
            first = max(min((start + stop - self.width) // 2, len(z) - self.width), 0)
            seen = z[first : first + self.width]
            asked = np.zeros(seen.shape, bool)
            asked[start - first : stop - first] = wanted
            size = seen.size
            found = conditional(self.covariance[:size, :size], seen.ravel(), asked.ravel())
            mean[start:stop][wanted], variance[start:stop][wanted] = found
        return mean * self.std + self.mean, variance * self.std**2


@dataclass(frozen=True)
class Aligned:
    """A mean and a covariance for each position of series of one length; others are asked of `elsewhere`."""

    mean: Values
    std: Float[np.ndarray, " fields"]
    short: Float[np.ndarray, "numbers numbers"]
    """Covariance shrunk towards its block-Toeplitz average."""
    long: Float[np.ndarray, "numbers numbers"]
    """Shrunk towards the identity."""
    elsewhere: Stationary

    @classmethod
    def count(cls, series: Sequence[Values], elsewhere: Stationary) -> "Aligned | None":
        """None where the series are too few, too long, or not all of one length."""
        lengths = {len(values) for values in series}
        whole = [values for values in series if not np.isnan(values).any()]
        if len(lengths) != 1 or len(whole) < ENOUGH or whole[0].size > 2 * WINDOW:
            return None
        std = elsewhere.std
        z = np.stack(whole) / std
        mean = z.mean(axis=0)
        rows = (z - mean).reshape(len(z), -1)
        counted = rows.T @ rows / len(rows)
        # Of each entry, the variance of its estimate: what shrinking weighs against the distance to the target.
        spread = ((rows**2).T @ rows**2 / len(rows) - counted**2) / len(rows)
        toeplitz = averaged(counted, mean.shape[1])
        identity = np.eye(len(counted)) * np.trace(counted) / len(counted)
        short, long = (shrunk(counted, target, spread) for target in (toeplitz, identity))
        return cls(mean * std, std, short, long, elsewhere)

    def posterior(self, values: Values) -> tuple[Values, Values]:
        """Means and variances in place of NaN; known numbers stay, with variance 0."""
        if values.shape != self.mean.shape:
            return self.elsewhere.posterior(values)
        z = ((values - self.mean) / self.std).ravel()
        hidden = np.isnan(z)
        longest = max(longest_run(column) for column in np.isnan(values).T)
        covariance = self.long if longest >= LONG * len(values) else self.short
        mean, variance = z.copy(), np.zeros_like(z)
        mean[hidden], variance[hidden] = conditional(covariance, z, hidden)
        shape = values.shape
        return mean.reshape(shape) * self.std + self.mean, variance.reshape(shape) * self.std**2


def moments(series: Sequence[Values]) -> tuple[Float[np.ndarray, " fields"], Float[np.ndarray, " fields"]]:
    """Means and standard deviations of the known numbers; 0 and 1 of a field that has none, or only one."""
    whole = np.concatenate(series)
    known = ~np.isnan(whole)
    n = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, whole, 0).sum(axis=0) / n
    std = np.sqrt((np.where(known, whole - mean, 0) ** 2).sum(axis=0) / n)
    return mean, np.where(std > 0, std, 1.0)


def lagged(z: Values, width: int) -> Float[np.ndarray, "lags fields fields"]:
    """Σ_t z[t, a] · z[t + lag, b] at each lag below `width`, by the Fourier transform."""
    size = len(z) + width
    transformed = np.fft.rfft(z, size, axis=0)
    n_fields = z.shape[1]
    found = np.empty((width, n_fields, n_fields))
    for a in range(n_fields):
        each = np.fft.irfft(transformed[:, a, None].conj() * transformed, size, axis=0)
        found[:, a] = each[:width]
    return found


def block_toeplitz(by_lag: Float[np.ndarray, "lags fields fields"]) -> Float[np.ndarray, "numbers numbers"]:
    """Σ[(s, a), (t, b)] = by_lag[t − s, a, b]."""
    width, n_fields, _ = by_lag.shape
    lag = np.arange(width) - np.arange(width)[:, None]
    blocks = np.where((lag >= 0)[..., None, None], by_lag[abs(lag)], by_lag[abs(lag)].swapaxes(2, 3))
    return np.asarray(blocks.transpose(0, 2, 1, 3).reshape(width * n_fields, width * n_fields))


def averaged(covariance: Float[np.ndarray, "numbers numbers"], n_fields: int) -> Float[np.ndarray, "numbers numbers"]:
    """The block-Toeplitz matrix of its means over pairs of positions as far apart, tapered: positive definite, too."""
    width = len(covariance) // n_fields
    blocks = covariance.reshape(width, n_fields, width, n_fields).transpose(0, 2, 1, 3)
    return block_toeplitz(np.stack([np.diagonal(blocks, lag).sum(axis=-1) / width for lag in range(width)]))


def shrunk(
    covariance: Float[np.ndarray, "numbers numbers"],
    target: Float[np.ndarray, "numbers numbers"],
    spread: Float[np.ndarray, "numbers numbers"],
) -> Float[np.ndarray, "numbers numbers"]:
    """The mixture with the target that has the least expected squared error."""
    share = min(spread.sum() / max(((covariance - target) ** 2).sum(), 1e-12), 1.0)
    return np.asarray((1 - share) * covariance + share * target)


def conditional(
    covariance: Float[np.ndarray, "numbers numbers"],
    z: Float[np.ndarray, " numbers"],
    asked: Bool[np.ndarray, " numbers"],
) -> tuple[Float[np.ndarray, " asked"], Float[np.ndarray, " asked"]]:
    """Means and variances of asked numbers, given those that are not NaN; all of mean 0."""
    (known,) = np.nonzero(~np.isnan(z))
    (wanted,) = np.nonzero(asked)
    matrix = covariance[np.ix_(known, known)] + NUGGET * np.eye(len(known))
    half = np.linalg.solve(np.linalg.cholesky(matrix), np.column_stack([covariance[np.ix_(known, wanted)], z[known]]))
    variance = covariance[wanted, wanted] - (half[:, :-1] ** 2).sum(axis=0)
    return half[:, :-1].T @ half[:, -1], np.maximum(variance, NUGGET)


def positive(covariance: Float[np.ndarray, "n n"]) -> Float[np.ndarray, "n n"]:
    """The nearest matrix without negative eigenvalues, which lags counted at different places may cause."""
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray((vectors * values.clip(min=0)) @ vectors.T)


def longest_run(hidden: Bool[np.ndarray, " _"]) -> int:
    """Of hidden numbers side by side, the most."""
    edges: Int[np.ndarray, " _"] = np.flatnonzero(np.diff(hidden, prepend=False, append=False))
    return int((edges[1::2] - edges[::2]).max(initial=0))
