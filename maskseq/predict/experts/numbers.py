"""Methods that state a mean and a variance for hidden numbers, as `Predict`s over bins.

So lines, seasons and Gaussians are judged by the same figures as a model: bits, CRPS, coverage and squared error.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Integer

from maskseq.predict.posterior import bin_edges
from maskseq.predict.protocol import Example
from maskseq.types import Vocabulary

Values = Float[np.ndarray, "length fields"]
Series = Sequence[Float[np.ndarray, "_ fields"]]
"""Numbers of sequences of any lengths."""
Posterior = Callable[[Values], tuple[Values, Values]]
"""Numbers of one sequence, NaN where hidden or unknown → means and variances."""
FLOOR = 1e-3
"""Of the frequencies of bins in every answer: tails are heavier than a Gaussian's."""
DISTANCES = 16
"""Groups of distances to the known numbers on both sides."""
HIDDEN = (1, 2, 4, 8, 16, 32, 64)
"""Lengths of stretches that are hidden to see how a simple fill errs."""
FITTED = 200
"""Stretches of training data in which errors are counted, at most."""
STRETCH = 512


class NumberPredict:
    """Means and variances as log-probabilities of bins. For vocabularies whose fields are all ordinal."""

    def __init__(
        self, posterior: Posterior, vocabulary: Vocabulary, frequencies: Sequence[Float[np.ndarray, " ids"]]
    ) -> None:
        """`frequencies` are the shares of ids in training, field by field; controls have theirs in every answer."""
        self.posterior, self.vocabulary, self.frequencies = posterior, vocabulary, frequencies

    def __call__(
        self, examples: Sequence[Example], cells: Sequence[Integer[np.ndarray, "_ 2"]]
    ) -> list[Float[np.ndarray, "_ _"]]:
        """Log-probabilities of the asked cells, from the known numbers of their sequence."""
        answers = []
        for example, asked in zip(examples, cells, strict=True):
            answer = np.full((len(asked), max(self.vocabulary.n_outputs)), -np.inf)
            values = numbers_of(example.ids, self.vocabulary)
            values[tuple(asked.T)] = np.nan
            mean, variance = self.posterior(values)
            for field, shares in enumerate(self.frequencies):
                rows = np.flatnonzero(asked[:, 1] == field)
                places = asked[rows, 0]
                answer[rows, : len(shares)] = self._of_field(mean[places, field], variance[places, field], field)
            answers.append(answer)
        return answers

    def _of_field(
        self, mean: Float[np.ndarray, " cells"], variance: Float[np.ndarray, " cells"], field: int
    ) -> Float[np.ndarray, "cells ids"]:
        centres = np.asarray(self.vocabulary.centres[field])
        shares = self.frequencies[field]
        edges = bin_edges(centres)
        within = (np.diff(edges).mean() / 2) ** 2 / 3  # a bin holds all its numbers
        z = (edges[1:-1] - mean[:, None]) / np.sqrt(variance + within + 1e-12)[:, None]
        below = torch.special.ndtr(torch.from_numpy(z)).numpy()
        bins = np.diff(below, axis=1, prepend=0, append=1)
        found = np.tile(shares, (len(mean), 1))
        found[:, : len(centres)] = bins * shares[: len(centres)].sum()
        with np.errstate(divide="ignore"):
            return np.asarray(np.log((1 - FLOOR) * found + FLOOR * shares))


@dataclass(frozen=True)
class Spread:
    """A simple fill with variances: those of its errors in training, by field and distance to what is known."""

    fill: Callable[[Values], Values]
    mean: Float[np.ndarray, " fields"]
    variance: Float[np.ndarray, "fields distances"]

    @classmethod
    def count(cls, fill: Callable[[Values], Values], series: Series, *, seed: int = 0) -> "Spread":
        """Hide stretches of training series, and see how the fill errs."""
        whole = np.concatenate(series)
        known = ~np.isnan(whole)
        n = np.maximum(known.sum(axis=0), 1)
        mean = np.where(known, whole, 0).sum(axis=0) / n
        prior = np.where(known, (whole - mean) ** 2, 0).sum(axis=0) / n
        squared, seen = np.zeros((2, len(mean), DISTANCES))
        rng = np.random.default_rng(seed)
        for _ in range(FITTED):
            values = series[int(rng.integers(len(series)))]
            first = int(rng.integers(max(len(values) - STRETCH, 0) + 1))
            values = values[first : first + STRETCH]
            length = min(int(rng.choice(HIDDEN)), max(len(values) // 2, 1))
            shown = values.copy()
            for start in rng.integers(max(len(values) - length, 0) + 1, size=max(len(values) // (16 * length), 1)):
                shown[start : start + length] = np.nan
            error = np.where(np.isnan(filled := fill(shown)), mean, filled) - values
            there = np.isnan(shown) & ~np.isnan(values)
            group = distance_groups(shown)
            for field in range(len(mean)):
                mine = there[:, field]
                squared[field] += np.bincount(group[mine, field], error[mine, field] ** 2, DISTANCES)
                seen[field] += np.bincount(group[mine, field], minlength=DISTANCES)
        # What was hardly seen is like the next nearer distance, and at worst like the field's own variance.
        variance = np.empty_like(squared)
        before = prior
        for group_ in range(DISTANCES):
            before = variance[:, group_] = (squared[:, group_] + 2 * before) / (seen[:, group_] + 2)
        return cls(fill, mean, variance)

    def posterior(self, values: Values) -> tuple[Values, Values]:
        """Means and variances in place of NaN."""
        filled = self.fill(values)
        variance = np.take_along_axis(self.variance.T, distance_groups(values), axis=0)
        return np.where(np.isnan(filled), self.mean, filled), variance


def numbers_of(ids: Integer[np.ndarray, "length fields"], vocabulary: Vocabulary) -> Values:
    """The centres of known bins, field by field; NaN elsewhere."""
    columns: list[Any] = []
    for field, centres in enumerate(vocabulary.centres):
        known = np.append(np.asarray(centres, np.float64), np.nan)
        columns.append(known[np.minimum(ids[:, field], len(known) - 1)])
    return np.stack(columns, axis=1)


def distance_groups(values: Values) -> Integer[np.ndarray, "length fields"]:
    """Of each number, how far away known ones of its field are: the harmonic mean of both sides, in powers of √2.

    *Why* that mean: the variance of a random walk between two known values is proportional to it.
    """
    length = len(values)
    at = np.arange(length)[:, None]
    known = ~np.isnan(values)
    nowhere = 1 << DISTANCES
    before = np.maximum(at - np.maximum.accumulate(np.where(known, at, -nowhere), axis=0), 1)
    after = np.maximum(np.minimum.accumulate(np.where(known, at, length + nowhere)[::-1], axis=0)[::-1] - at, 1)
    return np.asarray(
        np.minimum(np.ceil(2 * np.log2(2 * before * after / (before + after)) - 1e-9).astype(np.int64), DISTANCES - 1)
    )
