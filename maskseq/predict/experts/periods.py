"""The period of a series, found: candidates by the periodogram, chosen by the autocorrelation."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

LONGEST = 1 << 17
"""Positions of a series that are looked at."""
CYCLES = 3
"""Periods that a series must hold, at least."""
PEAK = 8.0
"""Times the median power around it that a candidate has."""
LEAST = 0.1
"""Autocorrelation at the period, above its least value since the one before, at least."""
CLOSE = 0.9
"""Of the best autocorrelation, what a shorter period must have to be taken: multiples of a period are periods."""


def found_period(series: Sequence[Float[np.ndarray, "length fields"]]) -> int | None:
    """The shortest period, in positions, that the longest of these series repeats with; None if it does not."""
    values = max(series, key=len, default=np.empty((0, 1)))[:LONGEST]
    n = len(values)
    if n < 4 * CYCLES:
        return None
    z = np.stack([_detrended(column) for column in values.T], axis=1)
    power = (np.abs(np.fft.rfft(z * np.hanning(n)[:, None], axis=0)) ** 2).sum(axis=1)
    again = (np.fft.irfft(np.abs(np.fft.rfft(z, 2 * n, axis=0)) ** 2, axis=0)[:n]).sum(axis=1)
    correlation = again / np.arange(n, 0, -1) / max(again[0] / n, 1e-12)
    found = {}
    for k in range(CYCLES, n // 2 + 1):
        around = power[max(k // 2, 1) : 2 * k + 8]
        if power[k] == power[max(k - 2, 1) : k + 3].max() and power[k] > PEAK * np.median(around):
            period = _climbed(correlation, round(n / k))
            if 2 <= period <= n // CYCLES:
                rise = correlation[period] - correlation[period // 2 : period].min()
                if rise > LEAST and correlation[period] > max(LEAST, 4 / np.sqrt(n)):
                    found[period] = min(float(correlation[period]), float(correlation[2 * period] + LEAST))
    good = [period for period, height in found.items() if height >= CLOSE * max(found.values()) > 0]
    return min(good, default=None)


def _detrended(column: Float[np.ndarray, " length"]) -> Float[np.ndarray, " length"]:
    """Z-scored, without a quadratic trend; unknown values are 0."""
    at = np.linspace(-1, 1, len(column))
    known = ~np.isnan(column)
    if known.sum() < 3:
        return np.zeros(len(column))
    rest = np.where(known, column - np.polynomial.Polynomial.fit(at[known], column[known], 2)(at), 0)
    return np.asarray(rest / (rest.std() or 1))


def _climbed(correlation: Float[np.ndarray, " length"], period: int) -> int:
    """The top of the hill that a period stands on."""
    while 1 < period < len(correlation) - 1:
        best = period + int(np.argmax(correlation[period - 1 : period + 2])) - 1
        if best == period:
            break
        period = best
    return period
