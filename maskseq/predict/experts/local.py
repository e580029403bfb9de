"""The Gaussian of the training windows that are most alike: no training, and good at long holes.

Windows are compared by their known numbers; where nothing is assumed of a level, once it is taken away from both. Their
covariance is half that of all windows (`gaussian.Stationary`), which knows what a few hundred windows do not.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Float32

from maskseq.corpus.budget import within
from maskseq.model.gaussian import (
    Conditioned,
    Groups,
    Series,
    Stationary,
    Values,
    blocks_of,
    shapes_of,
    with_free,
)

LIBRARY = 1 << 22
"""Numbers of training windows that are compared with, at most."""
NEAREST = (300, 1500)
"""How many are taken, at least and at most."""
SHARE = 0.25
"""Of all of them, in between."""
FEWEST = 100
"""Training windows below which there is no choice."""
MOST_FIELDS = 8
"""A window of more channels covers few steps, and each costs half a second: a file would take hours."""
TOGETHER = 32
"""Windows that are compared with training windows at a time."""
GLOBAL = 0.5
"""Of the covariance of all windows in that of the nearest."""


@dataclass(frozen=True)
class Local:
    """Training series, z-scored, and the covariances of all."""

    series: Series
    plain: Stationary
    """With or without free levels."""
    _libraries: dict[int, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    """Of the last length."""

    @classmethod
    def count(cls, series: Series, plain: Stationary) -> "Local | None":
        """None where training data are no more than a few windows, or have many channels."""
        if len(plain.mean) > MOST_FIELDS:
            return None
        whole = [(values - plain.mean) / plain.std for values in series]
        kept = [z for z in whole if not np.isnan(z).all()]
        if sum(max(len(z) - min(plain.width, len(z)) + 1, 0) for z in kept) < FEWEST:
            return None
        return cls(kept, plain)

    def posterior(self, values: Values) -> tuple[Values, Values]:
        """Means and variances in place of NaN; known numbers stay, with variance 0."""
        return self.some(values, np.isnan(values))

    def some(self, values: Values, requested: Bool[np.ndarray, "length fields"]) -> tuple[Values, Values]:
        """The same of requested numbers; what else is NaN need not be found."""
        plain = self.plain
        z = (values - plain.mean) / plain.std
        mean, variance = z.copy(), np.zeros_like(z)
        blocks = list(blocks_of(z, plain.width, requested))
        for some in within(blocks, (lambda block: 1, TOGETHER)):
            windows = [z[first : first + plain.width] for first, _, _ in some]
            alike = self._alike(windows)
            for (first, block, wanted), window, rows in zip(some, windows, alike, strict=True):
                now = wanted[block.start - first : block.stop - first]
                mean[block][now], variance[block][now] = self._of_window(window, wanted, rows)
        return mean * plain.std + plain.mean, variance * plain.std**2

    def joint(self, values: Values, requested: Bool[np.ndarray, "length fields"]) -> Groups:
        """As the Gaussian of all windows."""
        return self.plain.joint(values, requested)

    def _alike(self, windows: Sequence[Values]) -> list[Float32[np.ndarray, "nearest numbers"] | None]:
        """Of each window the training windows that are most alike, free levels taken away; None where none are known.

        All windows of a length are compared at once: what takes the time is to read the training windows.
        """
        found: list[Float32[np.ndarray, "nearest numbers"] | None] = [None] * len(windows)
        for length in {len(z) for z in windows}:
            library, squares = self.library(length)
            mine = [i for i, z in enumerate(windows) if len(z) == length and not np.isnan(z).all()]
            if len(library) < FEWEST or not mine:
                continue
            masks = [~np.isnan(windows[i]) for i in mine]
            columns = []
            for i, known in zip(mine, masks, strict=True):
                z = windows[i]
                weights = known / np.maximum(known.sum(axis=0), 1)
                shown = np.where(known, z - _level(z, known, free=bool(self.plain.free)), 0).ravel()
                each = np.einsum("lf,fg->lfg", weights, np.eye(z.shape[1])).reshape(z.size, -1)
                columns.append(np.column_stack([shown, each]).astype(np.float32))
            products = np.split(library @ np.concatenate(columns, axis=1), len(mine), axis=1)
            lengths = (squares @ np.stack([known.ravel() for known in masks], axis=1).astype(np.float32)).T
            n = min(max(int(SHARE * len(library)), NEAREST[0]), NEAREST[1], len(library))
            for i, known, product, squared in zip(mine, masks, products, lengths, strict=True):
                distance = squared - 2 * product[:, 0]
                if self.plain.free:  # what remains when the mean of what is known is taken away, field by field
                    distance -= product[:, 1:] ** 2 @ known.sum(axis=0).astype(np.float32)
                chosen = np.argpartition(distance, n - 1)[:n]
                rows = library[chosen]
                if self.plain.free:
                    rows = (rows.reshape(n, *known.shape) - product[chosen, None, 1:]).reshape(n, -1)
                found[i] = rows
        return found

    def _of_window(
        self,
        z: Values,
        requested: Bool[np.ndarray, "length fields"],
        rows: Float32[np.ndarray, "nearest numbers"] | None,
    ) -> tuple[Float[np.ndarray, " asked"], Float[np.ndarray, " asked"]]:
        if rows is None:
            return self.plain.of_window(z, requested)
        known, size = ~np.isnan(z), z.size
        middle = (1 - GLOBAL) * rows.mean(axis=0)
        rows = rows - middle
        covariance = GLOBAL * self.plain.covariance[:size, :size] + (1 - GLOBAL) * (rows.T @ rows).astype(
            np.float64
        ) / len(rows)
        given = Conditioned.of(covariance, known.ravel(), requested.ravel(), shapes_of(z, self.plain.free))
        moved = middle.reshape(z.shape) + _level(z, known, free=bool(self.plain.free))
        found, variance = with_free(given, z - moved, requested, self.plain.free, covariance)
        return found + moved[requested], variance

    def library(self, length: int) -> tuple[Float[np.ndarray, "windows numbers"], Float[np.ndarray, "windows numbers"]]:
        """Windows of training series without unknown numbers, as many as there is room for, and their squares."""
        if length not in self._libraries:
            n_fields = len(self.plain.mean)
            total = sum(max(len(z) - length + 1, 0) for z in self.series)
            step = max(-(-total * length * n_fields // LIBRARY), 1)
            cut = [z[start : start + length] for z in self.series for start in range(0, len(z) - length + 1, step)]
            found = np.array(cut, np.float32).reshape(len(cut), length * n_fields)
            found = found[~np.isnan(found).any(axis=1)]
            self._libraries.clear()
            self._libraries[length] = found, found**2
        return self._libraries[length]


def _level(z: Values, known: Bool[np.ndarray, "length fields"], *, free: bool) -> Float[np.ndarray, "1 fields"]:
    """The mean of what is known of each field where levels are free; else 0."""
    if not free:
        return np.zeros((1, z.shape[1]))
    weights = known / np.maximum(known.sum(axis=0), 1)
    return np.asarray((np.where(known, z, 0) * weights).sum(axis=0, keepdims=True))
