"""Methods that state a mean and a variance for hidden numbers, as `Predict`s over bins.

So lines, seasons and Gaussians are judged by the same figures as a model: bits, CRPS, coverage and squared error.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Integer

from maskseq.model.gaussian import Groups
from maskseq.predict.posterior import bin_edges
from maskseq.predict.protocol import Example, Factors
from maskseq.predict.stated import Stated
from maskseq.types import Vocabulary

Values = Float[np.ndarray, "length fields"]
Series = Sequence[Float[np.ndarray, "_ fields"]]
"""Numbers of sequences of any lengths."""
Posterior = Callable[[Values], tuple[Values, Values]]
"""Numbers of one sequence, NaN where hidden or unknown → means and variances."""
Some = Callable[[Values, Bool[np.ndarray, "length fields"]], tuple[Values, Values]]
"""The same, of those that are requested."""
Joint = Callable[[Values, Bool[np.ndarray, "length fields"]], Groups]
"""Numbers of one sequence and which of the unknown ones are requested → groups of these, and their covariances."""
FLOOR = 1e-3
"""Of the frequencies of bins in every answer: tails are heavier than a Gaussian's."""
DISTANCES = 16
"""Groups of distances to the known numbers on both sides."""
HIDDEN = (1, 2, 4, 8, 16, 32, 64)
"""Lengths of stretches that are hidden to see how a simple fill errs."""
FITTED = 200
"""Stretches of training data in which errors are counted, at most."""
STRETCH = 512
ALONE = 1e-6
"""Of each number's variance, what it has for itself: so that factors exist."""
KEPT = 1 << 24
"""Bytes of means that a method keeps."""


class NumberPredict:
    """Means and variances as stated numbers, and as log-probabilities of bins. All fields are ordinal."""

    def __init__(
        self,
        posterior: Posterior,
        vocabulary: Vocabulary,
        frequencies: Sequence[Float[np.ndarray, " _"]],
        joint: Joint | None = None,
        some: Some | None = None,
    ) -> None:
        """`frequencies` are the shares of ids in training, field by field; controls have theirs in every answer.

        `some` is the posterior of requested numbers, of a method that need not find all.
        """
        self.posterior, self.vocabulary, self.frequencies = posterior, vocabulary, frequencies
        self.joint, self.some = joint, some
        edges = [bin_edges(np.asarray(centres)) for centres in vocabulary.centres]
        self.rounding = np.array([(np.diff(each).mean() / 2) ** 2 / 3 for each in edges])
        """Variances within bins, of which nothing is known where numbers are centres."""
        self.kept: dict[bytes, tuple[Values, Values]] = {}
        """What was found last: mixtures, blends and figures ask about the same windows."""
        self.size = 0

    def __call__(
        self, examples: Sequence[Example], cells: Sequence[Integer[np.ndarray, "_ 2"]]
    ) -> list[Float[np.ndarray, "_ _"]]:
        """Log-probabilities of the asked cells, from the known numbers of their sequence."""
        return self.of_bins(self.stated(examples, cells), cells)

    def stated(self, examples: Sequence[Example], cells: Sequence[Integer[np.ndarray, "_ 2"]]) -> list[Stated]:
        """Gaussians of the asked cells."""
        found = []
        for example, requested in zip(examples, cells, strict=True):
            at = tuple(requested.T)
            values = numbers_of(example, self.vocabulary)
            values[at] = np.nan
            mean, variance = self._found(values, at)
            rounded = self.rounding[requested[:, 1]] if example.numbers is None else 0.0
            found.append(Stated.gaussian(mean[at], variance[at] + rounded + 1e-12))
        return found

    def jointly(self, example: Example, cells: Integer[np.ndarray, "cells 2"]) -> Factors:
        """By the covariances of the method; nothing of one that has none."""
        if self.joint is None:
            return []
        values, at = numbers_of(example, self.vocabulary), tuple(cells.T)
        values[at] = np.nan
        requested, place = np.zeros(values.shape, bool), np.zeros(values.shape, np.int64)
        requested[at], place[at] = True, np.arange(len(cells))
        return [
            (place[tuple(group.T)], _correlations(covariance)) for group, covariance in self.joint(values, requested)
        ]

    def _found(self, values: Values, at: tuple[Int[np.ndarray, " cells"], ...]) -> tuple[Values, Values]:
        requested = np.full(values.shape, self.some is None)
        requested[at] = True
        asked = values.tobytes() + requested.tobytes()
        key = hashlib.blake2b(asked, digest_size=16, key=repr(values.shape).encode()).digest()
        if key not in self.kept:
            self.kept[key] = self.posterior(values) if self.some is None else self.some(values, requested)
            self.size += values.nbytes
            while self.size > KEPT and len(self.kept) > 1:
                self.size -= self.kept.pop(next(iter(self.kept)))[0].nbytes
        return self.kept[key]

    def of_bins(
        self, stated: Sequence[Stated], cells: Sequence[Integer[np.ndarray, "_ 2"]]
    ) -> list[Float[np.ndarray, "_ _"]]:
        """The mass of the stated numbers in each bin, and a little of the frequencies."""
        return [
            binned(answered, requested, self.vocabulary, self.frequencies)
            for answered, requested in zip(stated, cells, strict=True)
        ]


def _correlations(covariance: Float[np.ndarray, "cells cells"]) -> Float[np.ndarray, "cells cells"]:
    """The Cholesky factor of what is correlated as these are."""
    sd = np.sqrt(np.diagonal(covariance))
    correlation = (1 - ALONE) * covariance / np.outer(sd, sd) + ALONE * np.eye(len(sd))
    return np.asarray(np.linalg.cholesky(correlation))


def binned(
    stated: Stated,
    cells: Integer[np.ndarray, "cells 2"],
    vocabulary: Vocabulary,
    frequencies: Sequence[Float[np.ndarray, " _"]],
) -> Float[np.ndarray, "cells ids"]:
    """Log-probabilities of ids: stated numbers over bins, of which the outermost are open."""
    answer = np.full((len(cells), max(vocabulary.n_outputs)), -np.inf)
    for field, shares in enumerate(frequencies):
        rows = np.flatnonzero(cells[:, 1] == field)
        if not len(rows):
            continue
        edges = bin_edges(np.asarray(vocabulary.centres[field]))[1:-1]
        below = stated.at(rows).below(np.broadcast_to(edges, (len(rows), len(edges))))
        found = np.tile(shares, (len(rows), 1))
        n_bins = len(edges) + 1
        found[:, :n_bins] = np.diff(below, axis=1, prepend=0, append=1) * shares[:n_bins].sum()
        with np.errstate(divide="ignore"):
            answer[rows, : len(shares)] = np.log((1 - FLOOR) * found + FLOOR * shares)
    return answer


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


def numbers_of(example: Example, vocabulary: Vocabulary) -> Values:
    """What is known of an example's numbers: as they were read, or the centres of their bins; NaN elsewhere."""
    centres = centres_of(example.ids, vocabulary)
    return centres if example.numbers is None else np.where(np.isnan(example.numbers), centres, example.numbers)


def centres_of(ids: Integer[np.ndarray, "length fields"], vocabulary: Vocabulary) -> Values:
    """The centres of known bins, field by field; NaN elsewhere."""
    columns: list[Any] = []
    for field, centres in enumerate(vocabulary.centres):
        known = np.append(np.asarray(centres or (), np.float64), np.nan)
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
