"""The longest matches of both flanks: what stood in training where the known ids around a cell stood.

Seeds of known ids are looked up in training; each place that shares one is a *diagonal*, and each diagonal is scored by
all known ids within `FLANK` of the cell: the log-likelihood ratio of a copy with `ERROR` wrong ids over chance. The
answer is the posterior mixture of the ids on the diagonals and the uniform distribution. The seed-and-extend idea is
that of BLAST (Altschul et al. 1990, doi:10.1016/S0022-2836(05)80360-2).
"""

from collections.abc import Sequence
from functools import cache

import numpy as np
from jaxtyping import Bool, Float, Int, Integer

from maskseq.predict.experts.context_index import ContextIndex, Line
from maskseq.predict.experts.evidence import Answers, Evident
from maskseq.predict.experts.left_out import OwnRecords
from maskseq.predict.protocol import Example
from maskseq.types import Vocabulary

FLANK = 32
"""Known ids on either side by which a match is scored."""
ERROR = 0.1
"""Of ids in a copy, those that differ: a match counts ln 3.6 = 1.28 and a mismatch −2.0 of four ids."""
SEED_BITS = 24
"""A seed is as long as chance finds it once in 16 million places: 12 of four ids."""
PRIOR = 0.05
"""Cells that lie in a copy of something in training, before anything is looked at."""
MOST = 64
"""Places of one seed that are looked at; commoner ones say nothing that their neighbours do not."""
TINY = 1e-300
ODDS = (-5.0, -1.0, 1.0, 4.0, 10.0, 25.0)
"""Log-odds of a copy between classes of evidence."""
DISTANCES = (2, 4, 8)
"""To the nearest other masked cell, between classes."""
BATCH = 4096
"""Cells at a time."""


class CopyPredict(Evident):
    """Copies from training as a `Predict`, for sequences of one field."""

    n_supports = (len(ODDS) + 1) * (len(DISTANCES) + 1)

    def __init__(
        self,
        sequences: Sequence[Integer[np.ndarray, "_ _"]],
        *,
        vocabulary: Vocabulary,
        records: OwnRecords | None = None,
    ) -> None:
        """Index training sequences and views of them.

        `records` are those of which the sequences are the views: a record is no copy of itself, nor of another one that
        holds the same from its beginning to its end.
        """
        super().__init__()
        self.vocabulary, self.records = vocabulary, records
        (self.n_ids,) = vocabulary.n_outputs
        self.seed = max(int(np.ceil(SEED_BITS / np.log2(max(self.n_ids, 2)))), 3)
        self.line = Line([ids[:, 0] for ids in sequences], self.n_ids, 2 * FLANK + self.seed)
        places = self.line.places
        places = places[windows(self.line.digits < self.n_ids, self.seed)[places]]
        self.index = ContextIndex(self.line, places, tuple(range(self.seed)))
        self.match, self.mismatch = np.log((1 - ERROR) * self.n_ids), np.log(ERROR * self.n_ids / (self.n_ids - 1))

    def answers(self, examples: Sequence[Example], cells: Sequence[Integer[np.ndarray, "_ 2"]]) -> Answers:
        """Log-probabilities of the asked cells, and of each the log-odds that it lies in a copy at all."""
        ends = np.cumsum([0, *map(len, cells)])
        line = Line([each.ids[:, 0] for each in examples], self.n_ids, 2 * FLANK + self.seed)
        positions = np.concatenate([np.empty(0, np.int64), *(requested[:, 0] for requested in cells)])
        example = np.repeat(np.arange(len(examples)), np.diff(ends))
        places = (line.starts[example] + positions).astype(np.int64)
        whole = windows(line.digits < self.n_ids, self.seed)
        own = OwnPlacesOfCopies(self, examples)
        answer, odds = np.empty((len(places), self.n_ids)), np.empty(len(places))
        for first in range(0, len(places), BATCH):
            part = slice(first, first + BATCH)
            cell, shift = self._diagonals(line, whole, places[part])
            kept = ~own.at(example[part][cell], positions[part][cell], places[part][cell] + shift)
            answer[part], odds[part] = self._mixed(line, places[part], cell[kept], shift[kept])
        return np.split(np.log(answer), ends[1:-1]), odds

    def support(
        self, examples: Sequence[Example], cells: Sequence[Integer[np.ndarray, "_ 2"]]
    ) -> Int[np.ndarray, " cells"]:
        """The log-odds that a cell lies in a copy, and how far away the nearest other masked cell is, as a class."""
        odds = self._looked_up(examples, cells)[1]
        far = [np.empty(0, np.int64)]
        for example, requested in zip(examples, cells, strict=True):
            masked = np.flatnonzero(example.ids[:, 0] >= self.n_ids)
            beyond = np.concatenate([[-len(example.ids)], masked, [2 * len(example.ids)]])
            before = requested[:, 0] - beyond[np.searchsorted(beyond, requested[:, 0]) - 1]
            after = beyond[np.searchsorted(beyond, requested[:, 0], side="right")] - requested[:, 0]
            far.append(np.minimum(before, after))
        near = np.searchsorted(DISTANCES, np.concatenate(far), side="right")
        return np.asarray(np.searchsorted(ODDS, odds) * (len(DISTANCES) + 1) + near)

    def _mixed(
        self,
        line: Line,
        places: Int[np.ndarray, " cells"],
        cell: Int[np.ndarray, " pairs"],
        shift: Int[np.ndarray, " pairs"],
    ) -> tuple[Float[np.ndarray, "cells ids"], Float[np.ndarray, " cells"]]:
        """Distributions and log-odds of cells, from the diagonals that they lie on."""
        near = np.array([step for step in range(-FLANK, FLANK + 1) if step])
        ours = line.digits[places[cell][:, None] + near]
        theirs = self.line.digits[(places[cell] + shift)[:, None] + near]
        there = self.line.digits[places[cell] + shift].astype(np.int64)
        scored = ours < self.n_ids
        score = (np.where(ours == theirs, self.match, self.mismatch) * scored).sum(axis=1)
        # Each training place is as likely a source; the best score is taken out, so that nothing overflows.
        score += np.log(PRIOR / max(len(self.index.places), 1))
        score[there >= self.n_ids] = -np.inf
        top = np.full(len(places), np.log(1 - PRIOR))
        np.maximum.at(top, cell, score)
        weight = np.exp(score - top[cell])
        chance = np.exp(np.log(1 - PRIOR) - top)
        copied = np.bincount(cell, weight, len(places))
        flat = cell * self.n_ids + np.minimum(there, self.n_ids - 1)
        by_id = np.bincount(flat, weight, len(places) * self.n_ids).reshape(len(places), self.n_ids)
        other = ERROR / (self.n_ids - 1)
        mixed = chance[:, None] / self.n_ids + (1 - ERROR - other) * by_id + other * copied[:, None]
        odds = np.log(np.maximum(copied, TINY)) - np.log(np.maximum(chance, TINY))
        return np.asarray(mixed / (chance + copied)[:, None]), np.asarray(odds)

    def _diagonals(
        self, line: Line, whole: Bool[np.ndarray, " line"], places: Int[np.ndarray, " cells"]
    ) -> tuple[Int[np.ndarray, " pairs"], Int[np.ndarray, " pairs"]]:
        """Pairs of a cell and how far right of it the training place stands that shares a seed with it."""
        starts = places[:, None] + np.arange(-FLANK, FLANK - self.seed + 2)
        owner, step = np.nonzero(whole[starts])
        seeds, which = np.unique(starts[owner, step], return_inverse=True)
        low, high = self.index.found(line.digits[seeds[:, None] + np.array(self.index.path)])
        sizes = np.where(high - low > MOST, 0, high - low)[which.ravel()]
        pair = np.repeat(np.arange(len(owner)), sizes)
        rank = low[which.ravel()][pair] + np.arange(len(pair)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        shift = self.index.places[rank].astype(np.int64) - starts[owner, step][pair]
        # As one number each, which sort faster than pairs.
        span = len(self.line.digits) + len(line.digits)
        found = np.unique(owner[pair] * (2 * span) + shift + span)
        return found // (2 * span), found % (2 * span) - span


class OwnPlacesOfCopies:
    """Which places of training hold the record itself that an example belongs to."""

    def __init__(self, copies: CopyPredict, examples: Sequence[Example]) -> None:
        self.copies, self.examples = copies, examples
        starts = copies.line.starts
        found = [(-1, 0, 0)]
        for i, example in enumerate(examples):
            own = () if copies.records is None else copies.records.of(example, copies=True)
            found += [(i, int(starts[view]) + start, int(starts[view]) + stop) for view, start, stop in own]
        self.example, self.first, self.stop = np.array(sorted(found), np.int64).T
        self.same = cache(self._same)

    def at(
        self,
        example: Int[np.ndarray, " pairs"],
        position: Int[np.ndarray, " pairs"],
        place: Int[np.ndarray, " pairs"],
    ) -> Bool[np.ndarray, " pairs"]:
        """Whether a place counts for the record of an example: by its name, or because it is the same altogether."""
        size = len(self.copies.line.digits)
        before = np.searchsorted(self.example * size + self.first, example * size + place, side="right") - 1
        found = (self.example[before] == example) & (place < self.stop[before])
        if self.copies.records is None:
            return np.asarray(found)
        view = np.searchsorted(self.copies.line.starts, place, side="right") - 1
        whole = np.array([len(each.ids) if each.start == 0 else -1 for each in self.examples], np.int64)
        at_ends = (place - self.copies.line.starts[view] == position) & (
            self.copies.line.lengths[view] == whole[example]
        )
        pairs, which = np.unique(np.stack([example, view])[:, at_ends], axis=1, return_inverse=True)
        same = np.array([self.same(i, each) for i, each in pairs.T.tolist()], bool)
        found[at_ends] |= same[which.ravel()]
        return np.asarray(found)

    def _same(self, example: int, view: int) -> bool:
        """Whether all known ids of an example are those of a view of the same length."""
        ids, start = self.examples[example].ids[:, 0], int(self.copies.line.starts[view])
        there = self.copies.line.digits[start : start + len(ids)]
        return bool(((ids == there) | (ids >= self.copies.n_ids)).all())


def windows(good: Bool[np.ndarray, " line"], length: int) -> Bool[np.ndarray, " line"]:
    """Whether all of the `length` entries from each one on are good."""
    total = np.cumsum(np.pad(good, (1, length)))
    return np.asarray(total[length : len(good) + length] - total[: len(good)] == length)


class Repeats:
    """Which cells of the first field stand in an exact repeat of training: with both flanks as they stand there."""

    def __init__(self, sequences: Sequence[Integer[np.ndarray, "_ _"]], *, n_ids: int, flank: int = 12) -> None:
        """Index training sequences and views of them by `flank` ids on both sides."""
        self.flank = flank
        self.path = tuple(step for step in range(-flank, flank + 1) if step)
        line = Line([ids[:, 0] for ids in sequences], n_ids, flank)
        self.index = ContextIndex(line, line.places, self.path)

    def __call__(
        self, sequences: Sequence[Integer[np.ndarray, "_ _"]], cells: Sequence[Integer[np.ndarray, "_ 2"]]
    ) -> list[Bool[np.ndarray, " _"]]:
        """Of cells of sequences as they truly are; a flank that an end cuts short counts with that end."""
        requested = Line([ids[:, 0] for ids in sequences], self.index.line.n_ids, self.flank)
        places = np.concatenate([start + each[:, 0] for start, each in zip(requested.starts, cells, strict=True)])
        low, high = self.index.found(requested.digits[places[:, None] + np.array(self.path)])
        return np.split(high > low, np.cumsum([len(each) for each in cells])[:-1])
