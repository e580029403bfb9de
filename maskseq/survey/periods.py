"""The period of a series: candidates by the periodogram, chosen by the autocorrelation, refined by harmonics."""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float

LONGEST = 1 << 17
"""Positions of a series that are looked at."""
CYCLES = 3
"""Periods that a series must hold, at least."""
PEAK = 8.0
"""Times the median power around it that a candidate has."""
BANDS = 16
"""Of an octave, in each of which that median is taken once."""
LEAST = 0.1
"""Autocorrelation at the period, above its least value since the one before, at least."""
HIGH, HILLS = 0.5, 8
"""Autocorrelation of a hill that is a candidate without a peak of the periodogram, and how many of them."""
ALONE, STRICTER = 8, 2.0
"""Single fields that are tried, spread over all, and how much clearer the period of one must be."""
FINER = 8
"""Frequencies between those of the periodogram, to refine by."""
HARMONICS = 4
CALENDAR = (7, 12, 24, 48, 52, 60, 96, 144, 168, 288, 336, 365, 672, 1008, 1440, 2016, 3600, 8760, 10080)
"""Days, weeks and years in steps of minutes to months."""
SNAP = 0.005
DATED = 0.02
"""As near a period is to one of the calendar that is that one, where it is known how long a step is."""
CYCLE = {"minute": 60.0, "hour": 3600.0, "day": 86_400.0, "week": 7 * 86_400.0, "year": 365.2425 * 86_400}
"""Seconds of what a calendar repeats with."""
CLOSE = 0.9
"""Of the best autocorrelation, what a shorter period must have to be taken: multiples of a period are periods."""


def found_period(series: Sequence[Float[np.ndarray, "_ fields"]], *, step: float | None = None) -> int | None:
    """The shortest period, in positions, that the longest of these series repeats with; None if it does not.

    That of all fields together or, if they have none, the clearest of single ones. `step`: seconds from one position to
    the next, where they are known: hours, days, weeks and years are candidates then.
    """
    dated = () if step is None else calendar(step)
    values = max(series, key=len, default=np.empty((0, 1)))[:LONGEST]
    if len(values) < 4 * CYCLES:
        return None
    z = np.stack([_detrended(column) for column in values.T], axis=1)
    together = _of_channels(z, 1.0, dated)
    if together is not None or z.shape[1] == 1:
        return None if together is None else together[0]
    some = np.unique(np.linspace(0, z.shape[1] - 1, ALONE).round().astype(int)).tolist()
    each = [_of_channels(z[:, column : column + 1], STRICTER, dated) for column in some]
    return max((found for found in each if found is not None), key=lambda found: found[1], default=(None, 0.0))[0]


def calendar(step: float) -> tuple[int, ...]:
    """What a calendar repeats with, in steps of so many seconds, of which it is a whole number or many."""
    steps = [seconds / step for seconds in CYCLE.values()]
    return tuple(round(n) for n in steps if n >= 4 and abs(n - round(n)) <= SNAP * n)


def _of_channels(
    z: Float[np.ndarray, "length fields"], strictness: float, dated: Sequence[int]
) -> tuple[int, float] | None:
    """The period of z-scored series, and the autocorrelation there."""
    n = len(z)
    hann = np.hanning(n)[:, None]
    power = (np.abs(np.fft.rfft(z * hann, axis=0)) ** 2).sum(axis=1)
    again = (np.fft.irfft(np.abs(np.fft.rfft(z, 2 * n, axis=0)) ** 2, axis=0)[:n]).sum(axis=1)
    correlation = again / np.arange(n, 0, -1) / max(again[0] / n, 1e-12)
    least = LEAST * strictness
    found = {}
    hills = _hills(correlation[: n // CYCLES + 1])
    for period in {*_peaks(power, n, correlation, PEAK * strictness), *hills, *dated}:
        if 2 <= period <= n // CYCLES:
            rise = min(_rise(correlation, period), 2 * _rise(correlation, 2 * period))
            height = min(correlation[period], correlation[2 * period] + LEAST)
            if rise > least and height > max(least, 4 / np.sqrt(n)):
                found[period] = float(height)
    enough = CLOSE * max(found.values(), default=0.0) - 2 / np.sqrt(n)  # what noise alone makes of equal ones
    good = [period for period, height in found.items() if height >= enough]
    if not good:
        return None
    period = min(good)
    fine = (np.abs(np.fft.rfft(z * hann, FINER * n, axis=0)) ** 2).sum(axis=1)
    refined = _refined(fine, FINER * n, period)
    near = [each for each in dated if abs(each - refined) <= DATED * each]
    return near[0] if near else _snapped(refined), found[period]


def _peaks(
    power: Float[np.ndarray, " frequencies"], n: int, correlation: Float[np.ndarray, " length"], peak: float
) -> Iterator[int]:
    """Candidates: peaks of the periodogram above the power around them, moved to the top of their hill."""
    usual: dict[int, float] = {}
    for k in range(CYCLES, n // 2 + 1):
        if power[k] == power[max(k - 2, 1) : k + 3].max():
            band = int(BANDS * np.log2(k))
            if band not in usual:
                middle = 2 ** (band / BANDS)
                usual[band] = float(np.median(power[max(int(middle / 2), 1) : int(2 * middle) + 8]))
            if power[k] > peak * usual[band]:
                yield _climbed(correlation, round(n / k))


def _hills(correlation: Float[np.ndarray, " lags"]) -> list[int]:
    """More of them: high hills of the autocorrelation, of what is narrow and has as much power in many harmonics."""
    inner = correlation[1:-1]
    tops = 1 + np.flatnonzero((inner > correlation[:-2]) & (inner >= correlation[2:]) & (inner > HIGH))
    return [int(top) for top in tops[np.argsort(-correlation[tops])][:HILLS]]


def _rise(correlation: Float[np.ndarray, " length"], period: int) -> float:
    """Of the hill at a period, its height above the valley before it."""
    return float(correlation[period] - correlation[period // 2 : period].min())


def _refined(power: Float[np.ndarray, " frequencies"], size: int, period: int) -> float:
    """The period nearby whose harmonics have the most power.

    A hill of the autocorrelation is flat, and noise moves its top.
    """
    reach = max(0.04, 1.5 / period)
    periods = period * np.linspace(1 - reach, 1 + reach, 161)
    harmonics = np.arange(1, max(min(HARMONICS, period // 2 - 1), 1) + 1)
    at = harmonics[:, None] * size / periods
    total = np.interp(at, np.arange(len(power)), power).sum(axis=0)
    return float(periods[np.argmax(total)])


def _snapped(period: float) -> int:
    """A whole number of steps, that of a calendar if one is as near as can be told."""
    nearest = min(CALENDAR, key=lambda each: abs(each - period))
    return nearest if abs(nearest - period) <= SNAP * period else max(round(period), 2)


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
