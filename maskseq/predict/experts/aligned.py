"""A Gaussian of series that all have one length (heartbeats cut alike): a mean and a covariance for each position.

The covariance is shrunk towards its own tapered block-Toeplitz average (Schäfer & Strimmer 2005,
doi:10.2202/1544-6115.1175); where a long stretch is hidden, towards the identity (Ledoit & Wolf 2004,
doi:10.1016/S0047-259X(03)00096-4).
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float

from maskseq.model.gaussian import (
    WINDOW,
    Groups,
    Matrices,
    Series,
    Stationary,
    Values,
    block_toeplitz,
    longest_run,
    n_free,
    with_free,
)

ENOUGH = 8
"""Series, at least."""
LONG = 0.1
"""Share of a series from which on a hidden stretch is long."""


@dataclass(frozen=True)
class Aligned:
    """A mean and a covariance for each position of series of one length; others are asked of `elsewhere`."""

    mean: Values
    std: Float[np.ndarray, " fields"]
    short: Matrices
    """Covariance shrunk towards its block-Toeplitz average."""
    long: Matrices
    """Shrunk towards the identity."""
    elsewhere: Stationary
    free: int = 0

    @classmethod
    def count(cls, series: Series, elsewhere: Stationary) -> "Aligned | None":
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
        short, long = (Matrices(shrunk(counted, target, spread)) for target in (toeplitz, identity))
        return cls(mean * std, std, short, long, elsewhere)

    def diffuse(self) -> "Aligned":
        """The same for series whose level is their own."""
        return replace(self, elsewhere=self.elsewhere.diffuse(), free=1)

    def posterior(self, values: Values) -> tuple[Values, Values]:
        """Means and variances in place of NaN; known numbers stay, with variance 0."""
        return self.some(values, np.isnan(values))

    def some(self, values: Values, requested: Bool[np.ndarray, "length fields"]) -> tuple[Values, Values]:
        """The same of requested numbers; what else is NaN need not be found."""
        if values.shape != self.mean.shape:
            return self.elsewhere.some(values, requested)
        z = (values - self.mean) / self.std
        masked, matrices = np.isnan(z), self._matrices(z)
        mean, variance = z.copy(), np.zeros_like(z)
        given = matrices.given(z, masked)
        mean[masked], variance[masked] = with_free(given, z, masked, self.free, matrices.covariance)
        return mean * self.std + self.mean, variance * self.std**2

    def joint(self, values: Values, requested: Bool[np.ndarray, "length fields"]) -> Groups:
        """All requested numbers, as one group."""
        if values.shape != self.mean.shape:
            return self.elsewhere.joint(values, requested)
        z, wanted = (values - self.mean) / self.std, requested & np.isnan(values)
        return [(np.argwhere(wanted), self._matrices(z).given(z, wanted).joint(n_free(z, self.free)))]

    def _matrices(self, z: Values) -> Matrices:
        longest = max(longest_run(column) for column in np.isnan(z).T)
        return self.long if longest >= LONG * len(z) else self.short


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
