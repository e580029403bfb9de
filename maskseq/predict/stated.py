"""Numbers as a predictor states them: a mean and quantiles, in physical units, not bound to any bins.

Between quantiles, and beyond the outermost, a number's normal score is linear in it: the quantiles of a Gaussian give
that Gaussian, and every distribution has the tails of one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from jaxtyping import Bool, Float, Int

RANKS = np.array([0.005, 0.025, 0.05, 0.1, 0.175, 0.25, 0.375, 0.5, 0.625, 0.75, 0.825, 0.9, 0.95, 0.975, 0.995])
"""Which quantiles are stated."""


SCORES = np.array([NormalDist().inv_cdf(rank) for rank in RANKS.tolist()])
"""The same quantiles of the standard normal distribution."""


def normal_scores(ranks: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """Quantiles of the standard normal distribution."""
    import torch  # plug-ins import this module, and their tests load no torch

    return np.asarray(torch.special.ndtri(torch.from_numpy(np.asarray(ranks, np.float64))))


def normal_ranks(scores: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """The share of the standard normal distribution below."""
    import torch

    return np.asarray(torch.special.ndtr(torch.from_numpy(np.asarray(scores, np.float64))))


@dataclass(frozen=True)
class Stated:
    """What is stated of some cells; NaN of cells without numbers."""

    mean: Float[np.ndarray, " cells"]
    quantiles: Float[np.ndarray, "cells ranks"]
    """At `RANKS`, increasing."""

    @classmethod
    def gaussian(cls, mean: Float[np.ndarray, " cells"], variance: Float[np.ndarray, " cells"]) -> "Stated":
        return cls(mean, mean[:, None] + np.sqrt(variance)[:, None] * SCORES)

    @classmethod
    def joined(cls, parts: Sequence["Stated | None"]) -> "Stated | None":
        """Those of several stretches of cells, one after the other; None where one of them has none."""
        there = [part for part in parts if part is not None]
        if not there or len(there) < len(parts):
            return None
        return cls(np.concatenate([part.mean for part in there]), np.concatenate([part.quantiles for part in there]))

    def __len__(self) -> int:
        return len(self.mean)

    def at(self, which: Int[np.ndarray, " some"] | Bool[np.ndarray, " cells"]) -> "Stated":
        """Some of the cells."""
        return Stated(self.mean[which], self.quantiles[which])

    def below(self, numbers: Float[np.ndarray, "cells n"]) -> Float[np.ndarray, "cells n"]:
        """The probability that each cell's number is less than each of these."""
        return normal_ranks(self.scores(numbers))

    def scores(self, numbers: Float[np.ndarray, "cells n"]) -> Float[np.ndarray, "cells n"]:
        """How many standard deviations each is from the middle: the normal score of its rank."""
        least = 1e-12 * np.maximum(np.abs(self.quantiles).max(axis=1, keepdims=True, initial=0), 1e-300)
        apart = self.quantiles + least * np.arange(len(RANKS))  # equal quantiles have no one rank
        return _linear(numbers, apart, np.broadcast_to(SCORES, apart.shape))

    def given(self, score: Float[np.ndarray, " cells"], spread: Float[np.ndarray, " cells"]) -> "Stated":
        """The same where normal scores are not standard normal, but around `score` with a deviation of `spread`.

        That is what is left of a number whose score is known to depend on those of others (a Gaussian copula; Nelsen
        2006, §2.3). The mean moves as the median does.
        """
        middle = np.stack([score, np.zeros(len(score))], axis=1)
        wanted = np.concatenate([score[:, None] + spread[:, None] * SCORES, middle], axis=1)
        found = _linear(wanted, np.broadcast_to(SCORES, self.quantiles.shape), self.quantiles)
        return Stated(self.mean + found[:, -2] - found[:, -1], found[:, :-2])

    def quantile(self, ranks: Float[np.ndarray, "cells n"]) -> Float[np.ndarray, "cells n"]:
        """The numbers that each cell's number is below with these probabilities."""
        scores = normal_scores(np.clip(ranks, 1e-12, 1 - 1e-12))
        return _linear(scores, np.broadcast_to(SCORES, self.quantiles.shape), self.quantiles)


def _linear(
    requested: Float[np.ndarray, "cells n"],
    at: Float[np.ndarray, "cells knots"],
    values: Float[np.ndarray, "cells knots"],
) -> Float[np.ndarray, "cells n"]:
    """Row by row, linear between knots, and beyond the outermost as between them and the next."""
    which = np.clip((at[:, :, None] < requested[:, None, :]).sum(axis=1) - 1, 0, at.shape[1] - 2)
    low, high = np.take_along_axis(at, which, axis=1), np.take_along_axis(at, which + 1, axis=1)
    first, second = np.take_along_axis(values, which, axis=1), np.take_along_axis(values, which + 1, axis=1)
    return np.asarray(first + (second - first) * (requested - low) / (high - low))
