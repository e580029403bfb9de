"""Hidden numbers given all known ones of a window, if they are jointly Gaussian: mean and variance in closed form.

    mean = μ_h + Σ_hk Σ_kk⁻¹ (k − μ_k),    variance = Σ_hh − Σ_hk Σ_kk⁻¹ Σ_kh    (Bishop 2006, eq. 2.81 and 2.82)

`Stationary` takes Σ from the covariances at every lag, so that Σ is block-Toeplitz: what series without a common start
allow. `predict/experts/aligned.py` counts it for each position, `local.py` on the training windows that are most alike.

Where nothing is assumed of a window's level, and trend, these are estimated by generalised least squares, which is the
limit of their variance growing without bounds (Rasmussen & Williams 2006, §2.7): x → a·x + b then moves means and
standard deviations the same way. The scale is that of the window's own differences.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

T = TypeVar("T")
Values = Float[np.ndarray, "length fields"]
Series = Sequence[Float[np.ndarray, "_ fields"]]
"""Numbers of sequences of any lengths."""
Groups = list[tuple[Int[np.ndarray, "cells 2"], Float[np.ndarray, "cells cells"]]]
"""Cells that are drawn together, and their covariance, up to a scale. The first ones may be of earlier groups: what
these hold is given then."""
WINDOW = 768
"""Numbers in a window that are looked at together, at most."""
DIFFUSE = 10.0
"""Variance of the level of a field of which nothing is known; of z-scored numbers."""
NUGGET = 1e-5
"""Of z-scored numbers: what keeps matrices of equal numbers invertible."""
SIZES, MASKS = 8, 32
"""Sizes of windows, and masks, whose matrices are kept."""
BLOCK = 0.25
"""Of a window, the stretch in its middle of which numbers are requested."""
DARK = 2 / 3
"""Share of unknown numbers above which a stretch between two blocks does not keep them apart."""
ENOUGH = 8
"""Pairs of numbers that tell a scale, at least."""


@dataclass(frozen=True)
class Conditioned:
    """What some known numbers say of requested ones, whatever their values are."""

    known: Int[np.ndarray, " known"]
    weights: tuple[Float[np.ndarray, "_ _"], ...]
    """Of known numbers in the means of requested ones: the product of these matrices, which costs more than they do."""
    covariance: Float[np.ndarray, "requested requested"]
    """Of requested numbers, given the known ones."""
    shapes: Float[np.ndarray, "known shapes"]
    tests: Float[np.ndarray, "shapes known"]
    """Shapes times the inverse covariance of the known numbers."""
    rest: Float[np.ndarray, "requested shapes"]
    """Shapes at requested numbers, less what the known ones say of them."""

    @classmethod
    def of(
        cls,
        covariance: Float[np.ndarray, "numbers numbers"],
        known: Bool[np.ndarray, " numbers"],
        requested: Bool[np.ndarray, " numbers"],
        shapes: Float[np.ndarray, "numbers shapes"],
        precision: Float[np.ndarray, "numbers numbers"] | None = None,
    ) -> "Conditioned":
        """By Cholesky's factor of the known numbers' covariance; or, cheaper where there is one, from the inverse of
        the whole, by that of the masked numbers' block.
        """
        (seen,), (wanted,), (masked,) = (np.nonzero(each) for each in (known, requested, ~known))
        if precision is None:
            factor = _factor(covariance[np.ix_(seen, seen)] + NUGGET * np.eye(len(seen)))
            across = covariance[np.ix_(wanted, seen)]
            solved = _solved(factor, np.column_stack([across.T, shapes[seen]])).T
            weights: tuple[Float[np.ndarray, "_ _"], ...] = (solved[: len(wanted)],)
            tests = solved[len(wanted) :]
            left = covariance[np.ix_(wanted, wanted)] - weights[0] @ across.T
        else:
            # Of a block of the covariance, from blocks of its inverse (Bishop 2006, eq. 2.73 and 2.87).
            factor = _factor(precision[np.ix_(masked, masked)])
            between = precision[np.ix_(masked, seen)]
            place = np.searchsorted(masked, wanted)
            product = precision @ np.where(known[:, None], shapes, 0)
            solved = _solved(factor, np.column_stack([np.eye(len(masked))[:, place], product[masked]]))
            inverse, moved = solved[:, : len(wanted)], solved[:, len(wanted) :]
            weights, left = (-inverse.T, between), inverse[place] - NUGGET * np.eye(len(wanted))
            tests = (product[seen] - between.T @ moved).T
        rest = shapes[wanted] - _product(weights, shapes[seen])
        left[np.diag_indices(len(wanted))] = np.maximum(np.diagonal(left), NUGGET)
        return cls(seen, weights, left, shapes[seen], tests, rest)

    def posterior(
        self, z: Float[np.ndarray, " numbers"], n_shapes: int
    ) -> tuple[Float[np.ndarray, " requested"], Float[np.ndarray, " requested"]]:
        """Means and variances, whatever the sizes of the first shapes are."""
        values, left = z[self.known], np.diagonal(self.covariance)
        mean = _product(self.weights, values)
        if not n_shapes:
            return mean, left
        tests, rest = self.tests[:n_shapes], self.rest[:, :n_shapes]
        information = tests @ self.shapes[:, :n_shapes]
        sizes = np.linalg.solve(information, tests @ values)
        return mean + rest @ sizes, left + np.einsum("rs,sr->r", rest, np.linalg.solve(information, rest.T))

    def at(self, rows: Int[np.ndarray, " some"]) -> "Conditioned":
        """Of some of the requested numbers."""
        return replace(
            self,
            weights=(self.weights[0][rows], *self.weights[1:]),
            covariance=self.covariance[np.ix_(rows, rows)],
            rest=self.rest[rows],
        )

    def joint(self, n_shapes: int) -> Float[np.ndarray, "requested requested"]:
        """The covariance of requested numbers, whatever the sizes of the first shapes are."""
        if not n_shapes:
            return self.covariance
        rest = self.rest[:, :n_shapes]
        information = self.tests[:n_shapes] @ self.shapes[:, :n_shapes]
        return np.asarray(self.covariance + rest @ np.linalg.solve(information, rest.T))


def _product(matrices: Sequence[np.ndarray], values: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*m"]:
    """Of matrices and what they are applied to, the last one first."""
    for matrix in reversed(matrices):
        values = matrix @ values
    return values


def _factor(matrix: Float[np.ndarray, "n n"]) -> torch.Tensor:
    factor: torch.Tensor = torch.linalg.cholesky(torch.from_numpy(matrix))
    return factor


def _solved(factor: torch.Tensor, columns: Float[np.ndarray, "n columns"]) -> Float[np.ndarray, "n columns"]:
    """The inverse of a matrix, by its factor, times some columns."""
    return np.asarray(torch.cholesky_solve(torch.from_numpy(np.ascontiguousarray(columns)), factor).numpy())


@dataclass(frozen=True)
class Matrices:
    """A covariance, and what was computed of it last: all methods that share it, and windows with the same mask."""

    covariance: Float[np.ndarray, "numbers numbers"]
    inverses: dict[int, Float[np.ndarray, "_ _"]] = field(default_factory=dict)
    masks: dict[bytes, Conditioned] = field(default_factory=dict)

    def precision(self, size: int) -> Float[np.ndarray, "size size"]:
        """The inverse of the covariance of a window's first `size` numbers."""
        found = self.inverses.pop(size, None)
        if found is None:
            found = np.linalg.inv(self.covariance[:size, :size] + NUGGET * np.eye(size))
        return _kept(self.inverses, size, found, SIZES)

    def given(self, z: Values, requested: Bool[np.ndarray, "length fields"]) -> Conditioned:
        """What the known numbers of a window say of others."""
        masked = np.isnan(z)
        key = repr(z.shape).encode() + masked.tobytes()
        found = self.masks.pop(key, None)
        if found is None:
            whole, precision = self.covariance[: z.size, : z.size], self.precision(z.size)
            found = Conditioned.of(whole, ~masked.ravel(), masked.ravel(), shapes_of(z, 2), precision)
        return _kept(self.masks, key, found, MASKS).at(np.flatnonzero(requested[masked]))


def _kept(kept: dict[Any, T], key: Any, value: T, most: int) -> T:
    """Put at the end of what is kept, of which the oldest go."""
    kept[key] = value
    while len(kept) > most:
        del kept[next(iter(kept))]
    return value


@dataclass(frozen=True)
class Stationary:
    """Covariances of a window, the same wherever it begins, of z-scored numbers ordered by position, then field."""

    mean: Float[np.ndarray, " fields"]
    std: Float[np.ndarray, " fields"]
    matrices: Matrices
    free: int = 0
    """Of what shapes nothing is assumed: 0: none; 1: a level of each field; 2: its level and trend."""

    @classmethod
    def count(cls, series: Series, *, window: int = WINDOW) -> "Stationary":
        """Covariances of all pairs of fields at all lags of these series, of the pairs that are known.

        They are tapered as those of the series themselves are, of which fewer are as far apart: without it they need
        not be positive definite (Brockwell & Davis 1991, §7.2).
        """
        mean, std = moments(series)
        width = max(min(max(map(len, series)), window // len(mean)), 1)
        return cls(mean, std, Matrices(positive(block_toeplitz(cls.lags_of(series, mean, std, width=width)))))

    @staticmethod
    def lags_of(
        series: Series, mean: Float[np.ndarray, " fields"], std: Float[np.ndarray, " fields"], *, width: int
    ) -> Float[np.ndarray, "lags fields fields"]:
        """Covariances at each lag of z-scored series, tapered."""
        n_fields = len(mean)
        products = np.zeros((width, n_fields, n_fields))
        pairs = np.zeros((width, n_fields, n_fields))
        possible = np.zeros(width)
        for values in series:
            z = (values - mean) / std
            known = ~np.isnan(z)
            products += lagged(np.where(known, z, 0), width)
            pairs += lagged(known.astype(np.float64), width)
            possible += np.maximum(len(values) - np.arange(width), 0)
        return np.asarray(products / np.maximum(pairs, 1) * (possible / possible[0])[:, None, None])

    @property
    def covariance(self) -> Float[np.ndarray, "numbers numbers"]:
        return self.matrices.covariance

    @property
    def width(self) -> int:
        """Positions of a window."""
        return len(self.covariance) // len(self.mean)

    def diffuse(self, *, trend: bool = False) -> "Stationary":
        """The same for windows whose level, and trend, are their own: an offset then moves predictions with it."""
        return replace(self, free=2 if trend else 1)

    def posterior(self, values: Values) -> tuple[Values, Values]:
        """Means and variances in place of NaN, from the known numbers around; known ones stay, with variance 0."""
        return self.some(values, np.isnan(values))

    def some(self, values: Values, requested: Bool[np.ndarray, "length fields"]) -> tuple[Values, Values]:
        """The same of requested numbers; what else is NaN need not be found."""
        z = (values - self.mean) / self.std
        mean, variance = z.copy(), np.zeros_like(z)
        for first, block, wanted in blocks_of(z, self.width, requested):
            now = wanted[block.start - first : block.stop - first]
            mean[block][now], variance[block][now] = self.of_window(z[first : first + self.width], wanted)
        return mean * self.std + self.mean, variance * self.std**2

    def of_window(
        self, z: Values, requested: Bool[np.ndarray, "length fields"]
    ) -> tuple[Float[np.ndarray, " asked"], Float[np.ndarray, " asked"]]:
        """Means and variances of asked numbers of a window no longer than `width`."""
        return with_free(self.matrices.given(z, requested), z, requested, self.free, self.covariance)

    def joint(self, values: Values, requested: Bool[np.ndarray, "length fields"]) -> Groups:
        """Requested numbers that may be drawn in one step: block by block, each with those of the blocks before it that
        its window holds, so that it is drawn given them.

        A block that the stretch before it leaves in the dark waits until what is there is drawn: of a long hole nothing
        but the ends is known.
        """
        z = (values - self.mean) / self.std
        found: Groups = []
        drawn = np.zeros(z.shape, bool)
        apart = max(int(BLOCK * self.width), 1)
        for first, block, wanted in blocks_of(z, self.width, requested):
            dark = np.isnan(z[max(block.start - apart, 0) : block.start]).mean() if block.start else 0.0
            if not found or dark <= DARK:
                window = slice(first, first + self.width)
                together = wanted | drawn[window]
                given = self.matrices.given(z[window], together)
                cells = np.argwhere(together) + np.array([first, 0])
                found.append((cells, given.joint(n_free(z[window], self.free))))
                drawn[window] |= wanted
        return found


def with_free(
    given: Conditioned,
    z: Values,
    requested: Bool[np.ndarray, "length fields"],
    free: int,
    covariance: Float[np.ndarray, "numbers numbers"],
) -> tuple[Float[np.ndarray, " asked"], Float[np.ndarray, " asked"]]:
    """What is known of a window says, with free shapes and, with these, the scale of the window's own differences.

    A field of which nothing is known keeps the level of training, with the variance `DIFFUSE`.
    """
    if not free:
        return given.posterior(z.ravel(), 0)
    known, fields = ~np.isnan(z), np.nonzero(requested)[1]
    # Equal but for rounding, of which far from 0 there is much.
    level = np.where(known, z, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    z = z - level
    mean, variance = given.posterior(z.ravel(), n_free(z, free))
    variance = variance * relative_scale(z, covariance)
    return mean + level[fields], np.where(known.any(axis=0)[fields], variance, variance + DIFFUSE)


def n_free(z: Values, free: int) -> int:
    """How many of the shapes of a window are free."""
    known = np.count_nonzero(~np.isnan(z), axis=0)
    return sum(int(np.count_nonzero(known > power)) for power in range(free))


def shapes_of(z: Values, free: int) -> Float[np.ndarray, "numbers shapes"]:
    """A level, and a trend, of each field that has enough known numbers to tell them."""
    length, n_fields = z.shape
    at = 2 * np.arange(length) / max(length - 1, 1) - 1
    known = np.count_nonzero(~np.isnan(z), axis=0)
    shapes = [
        np.outer(at**power, np.eye(n_fields)[i]) for power in range(free) for i in range(n_fields) if known[i] > power
    ]
    return np.stack([shape.ravel() for shape in shapes], axis=1) if shapes else np.empty((z.size, 0))


def relative_scale(z: Values, covariance: Float[np.ndarray, "numbers numbers"]) -> float:
    """Of a window, its squared differences over those that its covariance expects, half a hole apart.

    1 where it has too few.
    """
    length, masked = len(z), np.isnan(z)
    number = np.arange(z.size).reshape(z.shape)
    longest = max(longest_run(column) for column in masked.T)
    for apart in (max(min(longest // 2, length // 4), 1), 1):
        differences = z[apart:] - z[:-apart]
        there = ~np.isnan(differences)
        first, second = number[:-apart][there], number[apart:][there]
        expected = covariance[first, first] + covariance[second, second] - 2 * covariance[first, second]
        if len(first) >= ENOUGH and expected.sum() > 0:
            return max(float((differences[there] ** 2).sum() / expected.sum()), NUGGET)
    return 1.0


def blocks_of(
    z: Values, width: int, requested: Bool[np.ndarray, "length fields"]
) -> Iterator[tuple[int, slice, Bool[np.ndarray, "width fields"]]]:
    """Where windows begin, their blocks, and which masked numbers of the window are requested of the block: if any."""
    for first, block in windows_of(z, width):
        wanted = np.zeros(z[first : first + width].shape, bool)
        wanted[block.start - first : block.stop - first] = requested[block] & np.isnan(z[block])
        if wanted.any():
            yield first, block, wanted


def windows_of(z: Values, width: int) -> Iterator[tuple[int, slice]]:
    """Blocks of a series, each from a masked number on, and where the window of `width` around each begins."""
    size = max(int(BLOCK * width), 1)
    (masked,) = np.nonzero(np.isnan(z).any(axis=1))
    stop = 0
    while len(left := masked[np.searchsorted(masked, stop) :]):
        start, stop = int(left[0]), min(int(left[0]) + size, len(z))
        yield max(min((start + stop - width) // 2, len(z) - width), 0), slice(start, stop)


def moments(series: Series) -> tuple[Float[np.ndarray, " fields"], Float[np.ndarray, " fields"]]:
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


def positive(covariance: Float[np.ndarray, "n n"]) -> Float[np.ndarray, "n n"]:
    """The nearest matrix without negative eigenvalues, which lags counted at different places may cause."""
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray((vectors * values.clip(min=0)) @ vectors.T)


def longest_run(masked: Bool[np.ndarray, " _"]) -> int:
    """Of hidden numbers side by side, the most."""
    edges: Int[np.ndarray, " _"] = np.flatnonzero(np.diff(masked, prepend=False, append=False))
    return int((edges[1::2] - edges[::2]).max(initial=0))
