"""Simple ways to say how abnormal a sequence is, counted on normal ones: what a model has to beat, parts of a score.

A combination of such counts is hard to beat on logs (Landauer et al. 2023, arXiv:2309.02854). Each gives a sequence a
number, the larger the more abnormal.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int, Integer

from maskseq.types import Vocabulary

Ids = Integer[np.ndarray, "_ _"]
GRAMS = (2, 3)
"""Lengths of n-grams."""
TRANSITIONS = "transitions"
VARIANTS = 2000
"""Training sequences, the most frequent ones, that others are compared with."""
LONGEST = 512
"""Positions up to which sequences are compared as a whole."""
AT_ONCE = 1 << 18
"""Cells of a table of distances."""


@runtime_checkable
class Detector(Protocol):
    """Gives a sequence a number."""

    least: ClassVar[float]
    """What is added to what is usual, so that the first small difference is not an anomaly."""

    def __call__(self, ids: Ids) -> float: ...


def detectors(sequences: Iterable[Ids], vocabulary: Vocabulary, fields: Sequence[str] = ()) -> dict[str, Detector]:
    """Those that suit a vocabulary, by name: each looks at the first field without numbers, `never seen` at all fields.

    None for numbers alone, and none that compare whole sequences where training sequences are long. Only these `fields`
    are looked at (none: all).
    """
    requested = [i for i, name in enumerate(vocabulary.names) if not fields or name in fields]
    column = next((i for i in requested if vocabulary.centres[i] is None), None)
    training = list(sequences)
    if column is None or not training:
        return {}
    lengths = np.array([len(ids) for ids in training])
    texts = Counter(tuple(ids[:, column].tolist()) for ids in training)
    found: dict[str, Detector] = {"never seen": NeverSeen.count(training, vocabulary, requested)}
    grams = {n: Grams.count(texts, n, column) for n in GRAMS}
    found |= {TRANSITIONS: Transitions(grams[GRAMS[0]]), **{f"{n}-grams": each for n, each in grams.items()}}
    if np.median(lengths) <= LONGEST:
        common = [text for text, _ in texts.most_common(VARIANTS) if len(text) <= LONGEST]
        found["length"] = Length(np.sort(lengths))
        found["counts"] = NearestCounts.of(common, column, vocabulary.n_rows[column])
        found["edit distance"] = EditDistance.of(common, column)
    return found


@dataclass(frozen=True)
class NeverSeen:
    """How many cells have a value that is none of the training data."""

    least: ClassVar[float] = 1.0
    seen: Bool[np.ndarray, "fields ids"]

    @classmethod
    def count(cls, sequences: Sequence[Ids], vocabulary: Vocabulary, requested: Sequence[int]) -> "NeverSeen":
        seen = np.ones((vocabulary.n_fields, max(vocabulary.n_rows)), bool)
        seen[list(requested)] = False
        columns = np.arange(vocabulary.n_fields)
        for ids in sequences:
            seen[columns, ids] = True
        seen[columns, list(vocabulary.mask_ids)] = True  # what nobody knows is not abnormal
        for field in requested:
            other = vocabulary.other_ids[field]
            if other is not None:
                seen[field, other] = False  # it stands for every value that training has not
        return cls(seen)

    def __call__(self, ids: Ids) -> float:
        return float(np.count_nonzero(~self.seen[np.arange(ids.shape[1]), ids]))


@dataclass(frozen=True)
class Length:
    """How rare a sequence's length is: −log₂ of the share of training sequences whose length is as far out."""

    least: ClassVar[float] = 1.0
    lengths: Int[np.ndarray, " sequences"]
    """In order."""

    def __call__(self, ids: Ids) -> float:
        n = len(self.lengths)
        shorter, longer = np.searchsorted(self.lengths, len(ids), "right"), np.searchsorted(self.lengths, len(ids))
        share = (min(int(shorter), n - int(longer)) + 1) / (n + 1)
        return float(-np.log2(min(2 * share, 1.0)))


@dataclass(frozen=True)
class Grams:
    """How rare the rarest n-gram is, the beginning and the end included: −log₂ of its share of those of its context."""

    least: ClassVar[float] = 1.0
    counts: Counter[tuple[int, ...]]
    contexts: Counter[tuple[int, ...]]
    n: int
    column: int

    @classmethod
    def count(cls, texts: Counter[tuple[int, ...]], n: int, column: int) -> "Grams":
        counts: Counter[tuple[int, ...]] = Counter()
        contexts: Counter[tuple[int, ...]] = Counter()
        for text, times in texts.items():
            for gram in _grams(text, n):
                counts[gram] += times
                contexts[gram[:-1]] += times
        return cls(counts, contexts, n, column)

    def __call__(self, ids: Ids) -> float:
        return float(self.bits(ids).max())

    def bits(self, ids: Ids) -> Float[np.ndarray, " grams"]:
        """−log₂ of the share of each, from left to right."""
        shares = [
            (self.counts[gram] + 0.5) / (self.contexts[gram[:-1]] + 1)
            for gram in _grams(tuple(ids[:, self.column].tolist()), self.n)
        ]
        return np.asarray(-np.log2(shares))


@dataclass(frozen=True)
class Transitions:
    """How rare the transitions into and out of one value are together, where they are rarest.

    *Why*: a value that does not belong breaks both, a rare but normal course only one.
    """

    least: ClassVar[float] = 1.0
    pairs: Grams

    def __call__(self, ids: Ids) -> float:
        bits = self.pairs.bits(ids)
        return float((bits[1:] + bits[:-1]).max() if len(bits) > 1 else bits[0])


def _grams(text: tuple[int, ...], n: int) -> Iterable[tuple[int, ...]]:
    padded = (-1,) * (n - 1) + text + (-2,)
    return zip(*(padded[i:] for i in range(n)), strict=False)


@dataclass(frozen=True)
class NearestCounts:
    """How far its counts of values are from the nearest ones in training, as a share of both together."""

    least: ClassVar[float] = 0.1
    known: Float[np.ndarray, "sequences ids"]
    column: int

    @classmethod
    def of(cls, texts: Sequence[tuple[int, ...]], column: int, n_ids: int) -> "NearestCounts":
        counted = [np.bincount(np.array(text, np.int64), minlength=n_ids) for text in texts]
        return cls(np.unique(np.stack(counted), axis=0).astype(np.float64), column)

    def __call__(self, ids: Ids) -> float:
        mine = np.bincount(ids[:, self.column].astype(np.int64), minlength=self.known.shape[1])
        apart = np.abs(self.known - mine).sum(axis=1) / np.maximum(self.known.sum(axis=1) + mine.sum(), 1)
        return float(apart.min())


@dataclass(frozen=True)
class EditDistance:
    """Levenshtein's distance to the nearest training sequence, over the longer one's length."""

    least: ClassVar[float] = 0.1
    known: Int[np.ndarray, "sequences longest"]
    """−1 behind the end."""
    lengths: Int[np.ndarray, " sequences"]
    column: int

    @classmethod
    def of(cls, texts: Sequence[tuple[int, ...]], column: int) -> "EditDistance":
        lengths = np.array([len(text) for text in texts])
        known = np.full((len(texts), int(lengths.max())), -1, np.int64)
        for row, text in zip(known, texts, strict=True):
            row[: len(text)] = text
        return cls(known, lengths, column)

    def __call__(self, ids: Ids) -> float:
        text = ids[:, self.column]
        if len(text) > LONGEST:
            return 1.0
        return min(self._nearest(text, some) for some in self._alike(len(text)))

    def _alike(self, length: int) -> list[Int[np.ndarray, " some"]]:
        """Those of about this length first, in blocks."""
        order = np.argsort(np.abs(self.lengths - length), kind="stable")
        n = max(AT_ONCE // self.known.shape[1], 1)
        return [order[i : i + n] for i in range(0, len(order), n)]

    def _nearest(self, text: Integer[np.ndarray, " length"], some: Int[np.ndarray, " some"]) -> float:
        known, lengths = self.known[some], self.lengths[some]
        steps = np.arange(known.shape[1] + 1)
        above = np.broadcast_to(steps, (len(some), len(steps))).copy()
        for value in text.tolist():
            best = above + 1  # without this value
            best[:, 1:] = np.minimum(best[:, 1:], above[:, :-1] + (known != value))
            above = np.minimum.accumulate(best - steps, axis=1) + steps  # or with values of the other one in between
        apart = above[np.arange(len(some)), lengths] / np.maximum(lengths, len(text))
        return float(apart.min())
