"""Methods that state numbers, weighted by what they say of the window's own known numbers, hidden once more.

Which method is best changes with a drift, and held-out training data do not show it. So known numbers of a window are
hidden in the shape of its holes, and convex weights (Breiman 1996, doi:10.1007/BF00117832: non-negative least squares
on errors) are fitted on these errors and on cross-fitted errors of training data. Errors are scaled by window, so that
a wild one says no more than a calm one. A method that errs more in the window than it did in training, beside the
best, is taken to have done so there too: a drift has broken it. The same numbers tell how wide intervals have to be:
few of them leave it to training data.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int, Integer

from maskseq.predict.blend import holes
from maskseq.predict.experts.convex import convex_weights
from maskseq.predict.experts.numbers import binned, numbers_of
from maskseq.predict.experts.sentinels import sentinels
from maskseq.predict.posterior import bin_edges, cumulated, posterior
from maskseq.predict.protocol import Example, Factors, Predict, PredictJointly, PredictNumbers
from maskseq.predict.stated import RANKS, SCORES, Stated
from maskseq.types import Vocabulary

FORM = 2
"""Raised where a window's weights would be others: an interrupted infill does not go on with those."""
AGAIN = 0.2
"""Of a window's known numbers, the share that is hidden again, at most."""
ROLLS = 12
"""How often the holes are moved to find places for them."""
PRIOR = 1.0
"""Weight of an error in training beside one of the window's own."""
CALM = 0.3
"""Of the usual squared error, what that of a window is raised by before errors are scaled: ratios of tiny errors, where
all methods are good enough, would outweigh those that matter."""
DOUBT = 4
"""Holes after which a method is believed to be as much worse here than in training as it was in them."""
CLASSES = (1, 3, 9, 33, 97)
"""Lengths of holes from which on a class begins."""
SCALE_CELLS = 4
"""Own errors that say as much of the scale of intervals as training does."""
PRIOR_SHAPE = 25
"""What the shape of errors in training counts for, in own errors."""
FOLDS = 4
"""Parts of a window's own errors, each of which weights are fitted without, to see how wide intervals have to be."""
KEPT = 1 << 14
"""Windows whose weights are kept: samplers ask about the same one many times."""


@dataclass(frozen=True)
class PriorErrors:
    """Errors of methods at numbers hidden in training data, which they had not been counted on."""

    names: tuple[str, ...]
    errors: Float[np.ndarray, "cells methods"]
    """In standard deviations of the field."""
    variances: Float[np.ndarray, "cells methods"]
    """Stated, in the same unit squared."""
    window: Int[np.ndarray, " cells"]
    """Which window each is of."""
    length: Int[np.ndarray, " cells"]
    """Of the holes of that window."""

    def like(self, length: float, names: Sequence[str]) -> "PriorErrors":
        """Those of holes about as long, in the order of `names`; a method that is not there errs as the others do."""
        group = np.searchsorted(CLASSES, self.length, side="right")
        wanted = int(np.searchsorted(CLASSES, max(length, 1), side="right"))
        nearest = group[np.argmin(np.abs(group - wanted))] if len(group) else 0
        rows = np.flatnonzero(group == nearest)
        place = [self.names.index(name) if name in self.names else -1 for name in names]
        errors, variances = (
            np.column_stack([each[rows].mean(axis=1) if i < 0 else each[rows, i] for i in place])
            for each in (self.errors, self.variances)
        )
        return PriorErrors(tuple(names), errors, variances, self.window[rows], self.length[rows])

    def mean_squares(self, residual: Float[np.ndarray, " cells"]) -> Float[np.ndarray, " cells"]:
        """Of each cell's window, of residuals of all cells."""
        _, number = np.unique(self.window, return_inverse=True)
        return np.asarray((np.bincount(number, residual**2) / np.bincount(number))[number])

    @property
    def scaled(self) -> Float[np.ndarray, "cells methods"]:
        """Over the root mean square of the best method in each window, and a share of what is usual."""
        _, number = np.unique(self.window, return_inverse=True)
        sizes = np.bincount(number)
        squares = np.stack([np.bincount(number, column**2) for column in self.errors.T], axis=1) / sizes[:, None]
        least = squares.min(axis=1) + CALM * self.usual
        return np.asarray(self.errors / np.sqrt(least + 1e-12)[number, None])

    @property
    def usual(self) -> float:
        """The mean square of the best method."""
        return float((self.errors**2).mean(axis=0).min())


@dataclass(frozen=True)
class Fit:
    """What was found for a window."""

    weights: Float[np.ndarray, " methods"]
    shape: Float[np.ndarray, " ranks"]
    """Quantiles of errors over their stated standard deviations, at `RANKS`."""


class NumberBlend:
    """Methods as one that states numbers. All fields are ordinal; one that states bins only is taken at their means."""

    def __init__(
        self,
        experts: Mapping[str, Predict],
        vocabulary: Vocabulary,
        frequencies: Sequence[Float[np.ndarray, " _"]],
        std: Float[np.ndarray, " fields"],
        prior: PriorErrors | None = None,
    ) -> None:
        """`frequencies` and `std` are those of training; without a prior, few own numbers leave weights equal."""
        self.experts, self.vocabulary, self.frequencies = dict(experts), vocabulary, frequencies
        self.std = np.asarray(std, np.float64)
        self.prior = prior
        self.kept: dict[bytes, Fit] = {}

    def __call__(
        self, examples: Sequence[Example], cells: Sequence[Integer[np.ndarray, "_ 2"]]
    ) -> list[Float[np.ndarray, "_ _"]]:
        """Log-probabilities of the asked cells."""
        return self.of_bins(self.stated(examples, cells), cells)

    def of_bins(
        self, stated: Sequence[Stated], cells: Sequence[Integer[np.ndarray, "_ 2"]]
    ) -> list[Float[np.ndarray, "_ _"]]:
        """The mass of the stated numbers in each bin, and a little of the frequencies."""
        return [
            binned(answered, requested, self.vocabulary, self.frequencies)
            for answered, requested in zip(stated, cells, strict=True)
        ]

    def stated(self, examples: Sequence[Example], cells: Sequence[Integer[np.ndarray, "_ 2"]]) -> list[Stated]:
        """What the methods say together."""
        seen = [self._without_sentinels(each) for each in examples]
        fits = self._fits(seen)
        answered = [stated_by(each, seen, cells, self.vocabulary) for each in self.experts.values()]
        found = []
        for i, (fit, requested) in enumerate(zip(fits, cells, strict=True)):
            means = np.stack([each[i].mean for each in answered], axis=1)
            variances = np.stack([spread_of(each[i]) ** 2 for each in answered], axis=1)
            mean, variance = together(fit.weights, means, variances)
            quantiles = mean[:, None] + np.sqrt(variance)[:, None] * fit.shape
            found.append(Stated(mean, quantiles.reshape(len(requested), len(RANKS))))
        return found

    def jointly(self, example: Example, cells: Integer[np.ndarray, "cells 2"]) -> Factors:
        """As the weightiest method says that knows of it; nothing if none does."""
        weights = self.weights_of(example)
        knowing = {name: each for name, each in self.experts.items() if isinstance(each, PredictJointly)}
        for name in sorted(knowing, key=lambda name: -weights[name]):
            if found := knowing[name].jointly(self._without_sentinels(example), cells):
                return found
        return []

    def weights_of(self, example: Example) -> dict[str, float]:
        """How much each method counts in a window."""
        (fit,) = self._fits([self._without_sentinels(example)])
        return dict(zip(self.experts, fit.weights.tolist(), strict=True))

    def rejected(self, example: Example) -> Bool[np.ndarray, "length fields"]:
        """Given numbers that are no measurements."""
        known = self.vocabulary.known(example.ids) if example.given is None else example.given
        return sentinels(np.where(known, numbers_of(example, self.vocabulary), np.nan), self.std)

    def _without_sentinels(self, example: Example) -> Example:
        """What is no measurement is unknown."""
        values = numbers_of(example, self.vocabulary)
        known = self.vocabulary.known(example.ids) if example.given is None else example.given
        wrong = self.rejected(example)
        if wrong.any():
            values, known = np.where(wrong, np.nan, values), known & ~wrong
        return replace(example, ids=self.vocabulary.masked(example.ids, wrong), numbers=values, given=known)

    def _fits(self, examples: Sequence[Example]) -> list[Fit]:
        """Weights of windows, from what is given in them alone: those that are not known yet, all together."""
        keys = [_key(each) for each in examples]
        new = {key: each for key, each in zip(keys, examples, strict=True) if key not in self.kept}
        if new:
            again = [_hidden_again(each, key) for key, each in new.items()]
            requested = [np.argwhere(mask) for mask in again]
            seen = [_without(each, mask, self.vocabulary) for each, mask in zip(new.values(), again, strict=True)]
            answered = [stated_by(each, seen, requested, self.vocabulary) for each in self.experts.values()]
            for i, (key, example) in enumerate(new.items()):
                scale = self.std[requested[i][:, 1]][:, None]
                truth = _numbers(example)[tuple(requested[i].T)][:, None]
                means = np.stack([each[i].mean for each in answered], axis=1)
                spreads = np.stack([spread_of(each[i]) for each in answered], axis=1)
                self.kept[key] = self._fit(example, (means - truth) / scale, (spreads / scale) ** 2)
        found = [self.kept[key] for key in keys]
        while len(self.kept) > KEPT:
            del self.kept[next(iter(self.kept))]
        return found

    def _fit(
        self,
        example: Example,
        errors: Float[np.ndarray, "cells methods"],
        variances: Float[np.ndarray, "cells methods"],
    ) -> Fit:
        n_own, n = errors.shape
        sizes = holes(~_given(example))
        length = float(sizes[sizes > 0].mean()) if sizes.any() else 1.0
        prior = None if self.prior is None else self.prior.like(length, [*self.experts])
        n_apart = n_own / length  # errors within a hole are alike
        gram = np.zeros((n, n))
        least = (errors**2).sum(axis=0).min() if n_own else 0.0
        if prior is not None:
            least = (least + SCALE_CELLS * prior.usual) / (n_own + SCALE_CELLS)
            scaled = prior.scaled
            here = (errors**2).sum(axis=0) / (max(n_own, 1) * least + 1e-12)
            worse = refuted((scaled**2).mean(axis=0), here, n_apart)
            gram += PRIOR * np.sqrt(np.outer(worse, worse)) * (scaled.T @ scaled)
        else:
            least = least / max(n_own, 1)
        gram += errors.T @ errors / (least + 1e-12)
        weights = convex_weights(gram)
        own = np.empty(n_own)
        for part in np.array_split(np.arange(n_own), min(FOLDS, n_own) or 1):  # weights fit their own errors too well
            without = gram - errors[part].T @ errors[part] / (least + 1e-12)
            own[part] = residuals(convex_weights(without), errors[part], variances[part])
        before = SCORES if prior is None else residuals(weights, prior.errors, prior.variances)
        usual = float((before**2).mean()) + 1e-12

        def scale_of(squares: Float[np.ndarray, "*windows"]) -> Float[np.ndarray, "*windows"]:
            """Own errors say it, the fewer the more as in training."""
            own_log = n_apart * np.log(squares + 1e-12)
            return np.asarray(np.exp((SCALE_CELLS * np.log(usual) + own_log) / (SCALE_CELLS + n_apart) / 2))

        # Errors in training as they are where the scale of a window is found in the same way.
        scale = scale_of(np.array((own**2).mean() if n_own else usual))
        scaled_before = before / (np.sqrt(usual) if prior is None else scale_of(prior.mean_squares(before)))
        pool = np.concatenate([own / scale, scaled_before])
        counts = np.repeat([n_apart / max(n_own, 1), PRIOR_SHAPE / len(before)], [n_own, len(before)])
        return Fit(weights, scale * symmetric_quantiles(pool, counts) * student(SCALE_CELLS + n_apart))


def refuted(
    before: Float[np.ndarray, " methods"], here: Float[np.ndarray, " methods"], n_holes: float
) -> Float[np.ndarray, " methods"]:
    """How many times as large errors of training would have to be, beside those of the best method, to be like a
    window's own: what a method was worth there says little where a drift has broken it.
    """
    before = before / (before.min() + 1e-12) + 1e-12
    return np.asarray(np.maximum((n_holes * here + DOUBT * before) / ((n_holes + DOUBT) * before), 1))


def student(freedom: float) -> Float[np.ndarray, " ranks"]:
    """Quantiles of Student's t over those of the normal distribution: a scale that few numbers tell is not known.

    By the expansion of Cornish and Fisher (Abramowitz & Stegun 1972, 26.7.5).
    """
    square = SCORES**2
    return np.asarray(1 + (square + 1) / (4 * freedom) + (5 * square**2 + 16 * square + 3) / (96 * freedom**2))


def stated_by(
    predict: Predict, examples: Sequence[Example], cells: Sequence[Integer[np.ndarray, "_ 2"]], vocabulary: Vocabulary
) -> list[Stated]:
    """What a method states, or what its probabilities of bins say."""
    if isinstance(predict, PredictNumbers):
        return list(predict.stated(examples, cells))
    answers = predict(examples, cells)
    return [
        of_probabilities(np.exp(np.asarray(each)), requested, vocabulary)
        for each, requested in zip(answers, cells, strict=True)
    ]


def of_probabilities(
    probabilities: Float[np.ndarray, "cells outputs"], cells: Integer[np.ndarray, "cells 2"], vocabulary: Vocabulary
) -> Stated:
    """Numbers as probabilities of bins say them: evenly spread within each."""
    mean, quantiles = np.full(len(cells), np.nan), np.full((len(cells), len(RANKS)), np.nan)
    for field, centres in enumerate(vocabulary.centres):
        mine = np.flatnonzero(cells[:, 1] == field)
        if centres is not None and len(mine):
            mean[mine] = posterior(probabilities[mine], centres).mean
            below, edges = cumulated(probabilities[mine], len(centres)), bin_edges(np.asarray(centres))
            quantiles[mine] = [np.interp(RANKS, row, edges) for row in below]
    return Stated(mean, quantiles)


def spread_of(stated: Stated) -> Float[np.ndarray, " cells"]:
    """The standard deviation of the Gaussian with the same middle four fifths."""
    low, high = np.searchsorted(RANKS, [0.1 - 1e-9, 0.9 - 1e-9])
    return np.asarray((stated.quantiles[:, high] - stated.quantiles[:, low]) / (SCORES[high] - SCORES[low]) + 1e-12)


def together(
    weights: Float[np.ndarray, " methods"],
    means: Float[np.ndarray, "cells methods"],
    variances: Float[np.ndarray, "cells methods"],
) -> tuple[Float[np.ndarray, " cells"], Float[np.ndarray, " cells"]]:
    """The weighted mean, and the weighted mean of variances.

    *Why* not the variance of the mixture: under a drift a method of little weight is far off, and would widen it.
    """
    return means @ weights, variances @ weights


def residuals(
    weights: Float[np.ndarray, " methods"],
    errors: Float[np.ndarray, "cells methods"],
    variances: Float[np.ndarray, "cells methods"],
) -> Float[np.ndarray, " cells"]:
    """Errors of the mixture over its stated standard deviations."""
    error, variance = together(weights, errors, variances)
    return np.asarray(error / np.sqrt(variance + 1e-24))


def symmetric_quantiles(
    errors: Float[np.ndarray, " n"], counts: Float[np.ndarray, " n"]
) -> Float[np.ndarray, " ranks"]:
    """Quantiles at `RANKS` of errors that are as often of the other sign."""
    order = np.argsort(np.abs(errors))
    sizes, below = np.abs(errors)[order], np.cumsum(counts[order]) - counts[order] / 2
    share = np.abs(2 * RANKS - 1)
    return np.asarray(np.sign(RANKS - 0.5) * np.interp(share, below / counts.sum(), sizes))


def _given(example: Example) -> Bool[np.ndarray, "length fields"]:
    assert example.given is not None
    return np.asarray(example.given & ~np.isnan(_numbers(example)))


def _numbers(example: Example) -> Float[np.ndarray, "length fields"]:
    assert example.numbers is not None
    return example.numbers


def _key(example: Example) -> bytes:
    """All that the weights of a window come from: what is given, and where."""
    given = _given(example)
    content = np.where(given, _numbers(example), np.nan)
    return hashlib.blake2b(content.tobytes() + repr(content.shape).encode(), digest_size=16).digest()


def _hidden_again(example: Example, key: bytes) -> Bool[np.ndarray, "length fields"]:
    """Given numbers to hide: the holes of the window, moved to where they do not meet one another."""
    given = _given(example)
    rng = np.random.default_rng(list(key[:8]))
    return hidden_again(given, rng)


def hidden_again(
    given: Bool[np.ndarray, "length fields"], rng: np.random.Generator
) -> Bool[np.ndarray, "length fields"]:
    """Some of what is given, in the shape of what is not: stretches that are hidden together stay together.

    Apart from the holes where there is room, else beside them.
    """
    length, n_fields = given.shape
    again = np.zeros(given.shape, bool)
    room = int(AGAIN * given.sum())
    stretches: dict[tuple[int, int], list[int]] = {}
    for column in range(n_fields):
        edges = np.flatnonzero(np.diff(~given[:, column], prepend=False, append=False)).reshape(-1, 2)
        for start, stop in edges.tolist():
            stretches.setdefault((start, stop), []).append(column)
    order = [*stretches]
    for apart in (1, 0):
        for _ in range(ROLLS):
            for which in rng.permutation(len(order)).tolist():
                start, stop = order[which]
                columns, size = stretches[order[which]], stop - start
                if size * len(columns) > max(room, n_fields if size == 1 else 0) or size >= length:
                    continue
                first = int(rng.integers(length - size + 1))
                around = slice(max(first - apart, 0), first + size + apart)
                if given[around, columns].all() and not again[around, columns].any():
                    again[first : first + size, columns] = True
                    room -= size * len(columns)
            if room <= 0:
                return again
    return again


def _without(example: Example, masked: Bool[np.ndarray, "length fields"], vocabulary: Vocabulary) -> Example:
    """The window as the record gave it, with more hidden."""
    kept = _given(example) & ~masked
    numbers = np.where(kept, _numbers(example), np.nan)
    return replace(example, ids=vocabulary.masked(example.ids, ~kept), numbers=numbers, given=kept)
