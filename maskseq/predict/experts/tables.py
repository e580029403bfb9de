"""Bidirectional context tables: how often each id stood between these neighbours, with back-off to fewer of them.

They take seconds to count and beat many published networks: 5 + 5 bases predict a hidden base of E. coli with 1.845
bits, an order-11 Markov chain with 1.977. A model that does not beat them has learned nothing.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Integer, UInt64

from maskseq.predict.experts.left_out import OwnRecords
from maskseq.predict.protocol import Example
from maskseq.tokenizer import Symmetry
from maskseq.types import Vocabulary

MAX_KEY = (1 << 64) - 1
"""What 64 bits hold."""
STRENGTHS = 2.0 ** np.arange(-3, 9)
SAMPLE = 200_000
"""Training cells by whose likelihood, each left out in turn, strengths and depths are chosen."""


@dataclass(frozen=True)
class Neighbours:
    """The known ids around some cells of a field, as one row of digits for each cell.

    Digits are ids, or `n_ids` beyond either end of a sequence.
    """

    left: Int[np.ndarray, "depth cells"]
    """Nearest first."""
    right: Int[np.ndarray, "depth cells"]
    seen_left: Int[np.ndarray, " cells"]
    """How many of `left` are known, before the first that is not."""
    seen_right: Int[np.ndarray, " cells"]

    @classmethod
    def of(
        cls,
        line: Integer[np.ndarray, "line"],
        known: Bool[np.ndarray, "line"],
        places: Integer[np.ndarray, " cells"],
        *,
        depth: int,
    ) -> "Neighbours":
        """Those of some places of a line of digits, which has `depth` digits beyond either of them."""
        steps = np.arange(1, depth + 1)[:, None]
        left, right = places - steps, places + steps
        seen = [np.cumprod(known[side], axis=0).sum(axis=0) for side in (left, right)]
        return cls(line[left], line[right], seen[0], seen[1])

    def __getitem__(self, cells: Any) -> "Neighbours":
        return Neighbours(self.left[:, cells], self.right[:, cells], self.seen_left[cells], self.seen_right[cells])

    def code(self, level: tuple[int, int], base: int) -> UInt64[np.ndarray, " cells"]:
        """One number for the nearest `level` ids on either side, with room for one digit more.

        It wraps around where 64 bits do not suffice.
        """
        code = np.zeros(self.left.shape[1], np.uint64)
        for digit in (*self.left[: level[0]], *self.right[: level[1]]):
            code = code * np.uint64(base) + digit.astype(np.uint64)
        return code % np.uint64(MAX_KEY // base)


@dataclass(frozen=True)
class Counts:
    """How often each id stood in each context, of those that occur."""

    n_ids: int
    keys: UInt64[np.ndarray, " entries"]
    """Context code times number of ids, plus id; sorted, so that the ids in a context stand side by side."""
    times: Int[np.ndarray, " entries"]

    @classmethod
    def of(cls, codes: UInt64[np.ndarray, " cells"], ids: Integer[np.ndarray, " cells"], n_ids: int) -> "Counts":
        return cls(n_ids, *np.unique(codes * np.uint64(n_ids) + ids.astype(np.uint64), return_counts=True))

    def of_contexts(self, codes: UInt64[np.ndarray, " cells"]) -> Int[np.ndarray, " cells"]:
        """How often each of these contexts occurs."""
        return self._of_keys(codes * np.uint64(self.n_ids), self.n_ids)

    def of_ids(
        self, codes: UInt64[np.ndarray, " cells"], ids: Integer[np.ndarray, " cells"]
    ) -> Int[np.ndarray, " cells"]:
        """How often each of these ids stood in the context beside it."""
        return self._of_keys(codes * np.uint64(self.n_ids) + ids.astype(np.uint64), 1)

    def of_all_ids(self, codes: UInt64[np.ndarray, " cells"]) -> Int[np.ndarray, "cells ids"]:
        """How often each id stood in these contexts."""
        first, last = self._entries(codes * np.uint64(self.n_ids), self.n_ids)
        sizes = last - first
        cell = np.repeat(np.arange(len(codes)), sizes)
        entry = np.arange(len(cell)) + np.repeat(last - np.cumsum(sizes), sizes)
        found = np.zeros((len(codes), self.n_ids), np.int64)
        found[cell, (self.keys[entry] % np.uint64(self.n_ids)).astype(np.int64)] = self.times[entry]
        return found

    def _of_keys(self, keys: UInt64[np.ndarray, " cells"], n: int) -> Int[np.ndarray, " cells"]:
        """How often the `n` keys from each of these on occur."""
        first, last = self._entries(keys, n)
        return np.asarray(self._before[last] - self._before[first])

    def _entries(
        self, keys: UInt64[np.ndarray, " cells"], n: int
    ) -> tuple[Int[np.ndarray, " cells"], Int[np.ndarray, " cells"]]:
        """Where the entries of these keys begin and end."""
        return np.searchsorted(self.keys, keys), np.searchsorted(self.keys, keys + np.uint64(n))

    @cached_property
    def _before(self) -> Int[np.ndarray, " _"]:
        """How often all keys before each one occur."""
        return np.cumsum(np.pad(self.times, (1, 0)))


@dataclass(frozen=True)
class Level:
    """What is known of ids between so many ids on the left and on the right."""

    counts: Counts
    strength: float
    """How many observations the shallower level's distribution is worth."""
    left_out: Float[np.ndarray, " sample"]
    """The probability of each cell of the sample, itself left out of the counts."""


@dataclass(frozen=True)
class OwnCells:
    """Cells of a field that were counted of the records that are asked about."""

    around: Neighbours
    ids: Integer[np.ndarray, " own"]
    example: Int[np.ndarray, " own"]
    """Whose record each is of."""
    requested: Int[np.ndarray, " cells"]
    """The example of each requested cell."""

    def __getitem__(self, cells: Int[np.ndarray, " some"]) -> "OwnCells":
        """The same for some of the requested cells."""
        return OwnCells(self.around, self.ids, self.example, self.requested[cells])

    def times(
        self, codes: UInt64[np.ndarray, " cells"], level: tuple[int, int], n_ids: int
    ) -> Int[np.ndarray, "cells ids"]:
        """How often each id stood in the contexts of these requested cells, in the record of each."""
        usable = (self.around.seen_left >= level[0]) & (self.around.seen_right >= level[1])
        n, there = np.count_nonzero(usable), self.around.code(level, n_ids + 1)[usable]
        example = np.concatenate([self.example[usable], self.requested]).astype(np.uint64)
        _, which = np.unique(np.stack([example, np.concatenate([there, codes])]), axis=1, return_inverse=True)
        contexts, mine = np.unique(which.ravel()[n:], return_inverse=True)
        counts = np.zeros((len(contexts), n_ids), np.int64)
        found = np.isin(which.ravel()[:n], contexts)
        np.add.at(counts, (np.searchsorted(contexts, which.ravel()[:n][found]), self.ids[usable][found]), 1)
        return counts[mine]


class FieldTable:
    """The table of one field: P(id | neighbours), interpolated from the nearest neighbours to all of them.

    P_level = (count + strength · P_shallower) / (total + strength), down to the uniform distribution. The strength of
    each level, and how deep it pays to go, maximise the likelihood of training cells that are left out of the counts in
    turn, so nothing has to be set. Levels are counted when they are first asked for.
    """

    def __init__(self, neighbours: Neighbours, ids: Integer[np.ndarray, " cells"], n_ids: int) -> None:
        self.neighbours, self.ids, self.n_ids = neighbours, ids, n_ids
        self.levels: dict[tuple[int, int], Level] = {}
        step = max(len(ids) // SAMPLE, 1)
        self.sample, self.sampled = neighbours[::step], ids[::step]

    @cached_property
    def depth(self) -> int:
        """How many neighbours on either side give the sample the best likelihood."""
        deepest = len(self.neighbours.left)
        worth = [np.log(self._level((depth, depth)).left_out).mean() for depth in range(deepest + 1)]
        return int(np.argmax(worth))

    def probabilities(self, around: Neighbours, own: OwnCells | None = None) -> Float[np.ndarray, "cells ids"]:
        """A distribution for each cell, from the known ids next to it on both sides; `own` do not count."""
        answer = np.empty((len(around.seen_left), self.n_ids))
        seen = np.minimum(np.stack([around.seen_left, around.seen_right]), self.depth)
        for level in np.unique(seen, axis=1).T.tolist():
            mine = np.flatnonzero((seen == np.array(level)[:, None]).all(axis=0))
            answer[mine] = self._interpolated(around[mine], (level[0], level[1]), None if own is None else own[mine])
        return answer

    def _interpolated(
        self, around: Neighbours, level: tuple[int, int], own: OwnCells | None
    ) -> Float[np.ndarray, "cells ids"]:
        shallower = _shallower(level)
        n_cells = len(around.seen_left)
        below = np.full((n_cells, self.n_ids), 1 / self.n_ids) if shallower is None else (
            self._interpolated(around, shallower, own)
        )  # fmt: skip
        table = self._level(level)
        codes = around.code(level, self.n_ids + 1)
        counts = table.counts.of_all_ids(codes)
        if own is not None:
            counts = np.maximum(counts - own.times(codes, level, self.n_ids), 0)
        return np.asarray((counts + table.strength * below) / (counts.sum(axis=1, keepdims=True) + table.strength))

    def _level(self, level: tuple[int, int]) -> Level:
        if level not in self.levels:
            usable = (self.neighbours.seen_left >= level[0]) & (self.neighbours.seen_right >= level[1])
            codes = self.neighbours.code(level, self.n_ids + 1)
            counts = Counts.of(codes[usable], self.ids[usable], self.n_ids)
            totals, hits = self._without_itself(counts, level)
            shallower = _shallower(level)
            below = 1 / self.n_ids if shallower is None else self._level(shallower).left_out
            gains = [np.log((hits + s * below) / (totals + s)).sum() for s in STRENGTHS]
            strength = float(STRENGTHS[int(np.argmax(gains))])
            self.levels[level] = Level(counts, strength, (hits + strength * below) / (totals + strength))
        return self.levels[level]

    def _without_itself(
        self, counts: Counts, level: tuple[int, int]
    ) -> tuple[Int[np.ndarray, " sample"], Int[np.ndarray, " sample"]]:
        """How often the context of each sampled cell was seen, and how often with its id, without the cell itself."""
        codes = self.sample.code(level, self.n_ids + 1)
        itself = (self.sample.seen_left >= level[0]) & (self.sample.seen_right >= level[1])
        return counts.of_contexts(codes) - itself, np.maximum(counts.of_ids(codes, self.sampled) - itself, 0)


def _shallower(level: tuple[int, int]) -> tuple[int, int] | None:
    """One neighbour less on the longer side, or on both: a path that a mirror image shares."""
    left, right = level
    if left == right:
        return (left - 1, right - 1) if left else None
    return (left - 1, right) if left > right else (left, right - 1)


class ContextTables:
    """A table for each field, as a `Predict`: what `infill`, `score` and `evaluate` ask of a model, asked of counts."""

    def __init__(
        self,
        sequences: Iterable[Integer[np.ndarray, "_ _"]],
        *,
        vocabulary: Vocabulary,
        symmetries: Sequence[Symmetry[Any]] = (),
        depth: int = 5,
        records: OwnRecords | None = None,
    ) -> None:
        """Count training sequences, and each as every symmetry shows it. `depth` is the most neighbours on a side.

        `records` are those of which the sequences are the views: each is left out where it is asked about.
        """
        self.vocabulary, self.depth, self.records = vocabulary, depth, records
        self.views = views = list(_with_images(sequences, symmetries))
        known = [vocabulary.known(ids) for ids in views]
        self.fields = []
        for field, n_ids in enumerate(vocabulary.n_outputs):
            cells = [np.flatnonzero(each[:, field]) for each in known]
            around = self._neighbours(views, cells, field)
            ids = [view[positions, field] for view, positions in zip(views, cells, strict=True)]
            self.fields.append(FieldTable(around, np.concatenate(ids), n_ids))

    def __call__(
        self, examples: Sequence[Example], cells: Sequence[Integer[np.ndarray, "_ 2"]]
    ) -> list[Float[np.ndarray, "_ _"]]:
        """Log-probabilities of the asked cells, from their neighbours in the same field."""
        ends = np.cumsum([0, *map(len, cells)])
        log_probs = np.full((ends[-1], max(self.vocabulary.n_outputs)), -np.inf)
        fields = np.concatenate([requested[:, 1] for requested in cells]) if len(cells) else np.zeros(0, int)
        for field, table in enumerate(self.fields):
            rows = np.flatnonzero(fields == field)
            if len(rows):
                requested = [each[each[:, 1] == field, 0] for each in cells]
                around = self._neighbours([each.ids for each in examples], requested, field)
                own = self._own(examples, field, np.repeat(np.arange(len(examples)), list(map(len, requested))))
                log_probs[rows, : table.n_ids] = np.log(table.probabilities(around, own))
        return np.split(log_probs, ends[1:-1])

    def _own(self, examples: Sequence[Example], field: int, requested: Int[np.ndarray, " cells"]) -> OwnCells | None:
        """What was counted of the records of these examples; None where that is nothing."""
        parts, cells, whose = [], [], []
        for number, example in enumerate(examples if self.records else ()):
            assert self.records is not None
            for view, start, stop in self.records.of(example):
                first = max(start - self.depth, 0)
                parts.append(self.views[view][first : stop + self.depth])
                inside = np.arange(start, stop)
                known = self.vocabulary.known(self.views[view][start:stop])[:, field]
                cells.append(inside[known] - first)
                whose.append(np.full(len(cells[-1]), number))
        if not parts:
            return None
        ids = [part[where, field] for part, where in zip(parts, cells, strict=True)]
        return OwnCells(self._neighbours(parts, cells, field), np.concatenate(ids), np.concatenate(whose), requested)

    def _neighbours(
        self,
        sequences: Sequence[Integer[np.ndarray, "_ _"]],
        positions: Sequence[Integer[np.ndarray, " _"]],
        field: int,
    ) -> Neighbours:
        """Of positions of each sequence: all sequences on one line, with `depth` digits for the ends between them."""
        end, depth = self.vocabulary.n_outputs[field], self.depth
        lengths = np.array([len(ids) for ids in sequences])
        starts = np.cumsum(lengths + depth) - lengths
        line = np.full(int((lengths + depth).sum()) + depth, end, np.int64)
        inside = np.repeat(starts - (np.cumsum(lengths) - lengths), lengths) + np.arange(lengths.sum())
        known = np.ones(len(line), bool)  # the ends are
        line[inside] = np.concatenate([ids[:, field] for ids in sequences])
        known[inside] = line[inside] != self.vocabulary.mask_ids[field]
        places = np.concatenate([start + where for start, where in zip(starts, positions, strict=True)])
        return Neighbours.of(line, known, places, depth=depth)


def _with_images(
    sequences: Iterable[Integer[np.ndarray, "_ _"]], symmetries: Sequence[Symmetry[Any]]
) -> Iterator[Integer[np.ndarray, "_ _"]]:
    for ids in sequences:
        yield ids
        for symmetry in symmetries:
            yield symmetry.ids(ids)
