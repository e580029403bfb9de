"""Context tables of any depth, which look past hidden neighbours: P(id | the nearest known ids on both sides).

P_level = (count + strength · P_shallower) / (total + strength), from the uniform distribution through one neighbour
more at each level (MacKay & Peto 1995, doi:10.1017/S1351324900000218), as in `maskseq.predict.experts.tables`, but

- a strength belongs to a level and to a kind of context: how often it was seen, and whether always with one id;
- a level that sees the same places as the one before replaces it, because it repeats the same evidence;
- with `past_holes`, neighbours count from the nearest known one on either side, and how far away it is belongs to the
  context.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from jaxtyping import Bool, Float, Int, Integer

from maskseq.predict.experts.context_index import ContextIndex, Line, Stretches, WithoutOwn
from maskseq.predict.experts.evidence import Answers, Evident
from maskseq.predict.experts.left_out import OwnPlaces, OwnRecords
from maskseq.predict.experts.tables import STRENGTHS
from maskseq.predict.protocol import Example
from maskseq.types import Vocabulary

DEPTH = 12
"""Neighbours on a side, at most, and how far away they may be."""
PAIRS = 8
"""Known neighbours on both sides beyond which more of them on one side are not looked at: each such view is a sort."""
KINDS = 20
"""Of contexts, each with a strength of its own: ten sizes, and whether all ids seen there are the same."""
FEWER = 16
"""So many times less, where hidden cells stand between or only one side is known: such views are many."""
FLOOR = 3e-4
"""Of the uniform distribution in every answer: the one repeat in thousands that is wrong must not cost 30 bits."""
SAMPLE = 1 << 16
"""Training cells by whose likelihood, each left out in turn, strengths and depths are chosen."""
MAX_PLACES = 1 << 25
"""Training cells of a field that are sorted, views included; of more, every so many. About 1 GB while they are."""
SORTED = 8
"""Neighbours that the places of genomes are sorted by: one in 65,536 of them is left, for four ids."""
MAX_LEFT = 1 << 23
"""Places that are looked at one by one beyond that, for all cells of a call together."""
NEAR = 2
"""Masked neighbours on a side up to which tables have strengths of their own."""
MAX_KEPT = 1 << 30
"""Bytes of sorted places that are kept; what was used longest ago is sorted again if it is needed."""


class Answer(NamedTuple):
    """Distributions, and how many training cells stand behind each: of the deepest context that was seen at all."""

    probabilities: Float[np.ndarray, "cells ids"]
    support: Float[np.ndarray, " cells"]


Own = tuple[OwnPlaces, Int[np.ndarray, " cells"]]


class FieldIndex:
    """The tables of one field: one sorted view for each pattern of known neighbours that is asked for."""

    def __init__(
        self,
        line: Line,
        *,
        length: int = 1,
        by_pairs: bool = False,
        places: Int[np.ndarray, " places"] | None = None,
        n_ids: int | None = None,
        shares: int = 1,
        n_sorted: int | None = None,
    ) -> None:
        """Count at the places where `length` known ids begin.

        Args:
            line: All ids.
            length: Known ids at each place.
            by_pairs: A level adds a neighbour on both sides, as long as there is one: a mirror image shares it.
            places: Those of the line that are looked at (default: all).
            n_ids: Ids that stand there (default: all of the line).
            shares: How many indices share the memory for sorted places.
            n_sorted: Neighbours that places are sorted by, where many paths share the first ones (default: all).
        """
        self.n_sorted = n_sorted
        self.line, self.by_pairs, self.shares = line, by_pairs, shares
        self.n_ids = line.n_ids if n_ids is None else n_ids
        places = line.places if places is None else places
        whole = np.ones(len(places), bool)
        for offset in range(length):
            whole &= line.digits[places + offset] < self.n_ids
        places = places[whole]
        self.step = -(-len(places) // MAX_PLACES) or 1
        """One in so many training cells is looked at: 1 unless there are more than `MAX_PLACES`."""
        self.places = places[:: self.step]
        self.kept: dict[tuple[int, ...], ContextIndex] = {}
        self.fitted: dict[tuple[tuple[int, ...], int], Float[np.ndarray, "levels kinds"]] = {}
        """How many observations the shallower level is worth, for the levels of a path that pay and each kind of
        context: of cells at each offset from the sorted places that was asked for."""

    def probabilities(
        self,
        line: Line,
        places: Int[np.ndarray, " cells"],
        path: tuple[int, ...],
        used: int,
        target: int = 0,
        own: Own | None = None,
        like: tuple[int, ...] | None = None,
    ) -> Answer:
        """Of cells at `target` from some places of another line, which know their first `used` neighbours of `path`.

        `own` is what counts for the records that the cells are of, and the example that each cell stands in. `like`
        is a path whose strengths serve this one.
        """
        of_levels = self.strengths(like or path, target)
        every = self._sharing(line.digits, places, path, target)
        seen = every if own is None else WithoutOwn(every, own[0].stretches(every, own[1]))
        result, support = np.full((len(places), self.n_ids), 1 / self.n_ids), np.zeros(len(places))
        cells = np.arange(len(places))
        answer = below = result.copy()
        done = 0
        for level, strengths in zip(self.levels(path), of_levels, strict=False):
            if level > used:
                break
            size = seen.sizes
            for step in range(done, level):
                seen.narrow(step, line.digits[places[cells] + path[step]])
            done = level
            sizes = seen.sizes
            some = sizes > 0  # where nothing is left, nothing changes any more
            if not some.all():
                cells, below, answer, size, sizes = cells[some], below[some], answer[some], size[some], sizes[some]
                seen.keep(some)
            if not len(cells):
                break
            below = np.where((sizes == size)[:, None], below, answer)
            counts = seen.counts()
            totals = counts.sum(axis=1, keepdims=True)
            strength = strengths[_kinds(counts)][:, None]
            answer = (counts + strength * below) / (totals + strength)
            result[cells], support[cells] = answer, totals[:, 0]
        return Answer((1 - FLOOR) * result + FLOOR / self.n_ids, support)

    def strengths(self, path: tuple[int, ...], target: int = 0) -> Float[np.ndarray, "levels kinds"]:
        """Those of the levels of a path, fitted when they are first asked for."""
        if (path, target) not in self.fitted:
            self.fitted[path, target] = self._fit(path, target)
        return self.fitted[path, target]

    def levels(self, path: tuple[int, ...]) -> list[int]:
        """How many neighbours of a path each level looks at."""
        if not self.by_pairs:
            return list(range(len(path) + 1))
        pairs = 0
        while 2 * pairs + 1 < len(path) and path[2 * pairs] == -path[2 * pairs + 1]:
            pairs += 1
        return [*range(0, 2 * pairs + 1, 2), *range(2 * pairs + 1, len(path) + 1)]

    def _sorted(self, path: tuple[int, ...]) -> ContextIndex:
        found = self.kept.pop(path, None) or ContextIndex(self.line, self.places, path, n_ids=self.n_ids)
        self.kept[path] = found  # the last one used is the last of the dictionary
        each = len(self.places) * (self.places.itemsize + 8 + self.line.digits.itemsize + 4 * self.n_ids / 64)
        while len(self.kept) > max(MAX_KEPT / self.shares // max(each, 1), 1):
            del self.kept[next(iter(self.kept))]
        return found

    def _sharing(
        self,
        digits: Integer[np.ndarray, " line"],
        places: Int[np.ndarray, " cells"],
        path: tuple[int, ...],
        target: int,
    ) -> Stretches:
        """All places, to be narrowed for these cells; not too many are to be looked at one by one."""
        first = path[: self.n_sorted]
        index = self._sorted(first)
        if len(first) < len(path):
            found = Stretches.whole(index, path, len(places), target)
            for step, offset in enumerate(first):
                found.narrow(step, digits[places + offset])
            index = self._sorted(path) if found.sizes.sum() > MAX_LEFT else index
        return Stretches.whole(index, path, len(places), target)

    def _fit(self, path: tuple[int, ...], target: int) -> Float[np.ndarray, "levels kinds"]:
        """Strengths, and how deep it pays to go, by the likelihood of training cells that are left out in turn."""
        if not len(self.places):
            return np.empty((0, KINDS))
        digits, n_ids = self.line.digits, self.n_ids
        wanted = SAMPLE if 2 * max(map(abs, path), default=0) <= len(path) else SAMPLE // FEWER
        places = self.places[:: max(len(self.places) // wanted, 1)].astype(np.int64)
        ids = digits[places + target].astype(np.int64)
        seen = self._sharing(digits, places, path, target)
        answer = below = np.full(len(places), 1 / n_ids)
        settled = 0.0
        strengths, worth = [], []
        done = 0
        for level in self.levels(path):
            size = seen.sizes
            for step in range(done, level):
                seen.narrow(step, digits[places + path[step]])
            done = level
            sizes = seen.sizes
            some = sizes > 1  # others than the cell itself
            if not some.all():
                settled += np.log(answer[~some]).sum()
                places, ids, below, answer, size, sizes = (
                    each[some] for each in (places, ids, below, answer, size, sizes)
                )
                seen.keep(some)
            if not len(places):
                break
            below = np.where(sizes == size, below, answer)
            counts = seen.counts()
            counts[np.arange(len(ids)), ids] -= 1
            hits, totals, kinds = counts[np.arange(len(ids)), ids], counts.sum(axis=1), _kinds(counts)
            gains = np.log((hits[:, None] + STRENGTHS * below[:, None]) / (totals[:, None] + STRENGTHS))
            by_kind = np.stack([np.bincount(kinds, gain, KINDS) for gain in gains.T])
            of_level = np.where(by_kind.any(axis=0), STRENGTHS[by_kind.argmax(axis=0)], STRENGTHS[-1])
            answer = (hits + of_level[kinds] * below) / (totals + of_level[kinds])
            strengths.append(of_level)
            worth.append(settled + np.log(answer).sum())
        if not strengths:
            return np.empty((0, KINDS))
        return np.array(strengths[: int(np.argmax(worth)) + 1])


class DeepTables(Evident):
    """Deep tables of all fields as a `Predict`."""

    def __init__(
        self,
        sequences: Sequence[Integer[np.ndarray, "_ _"]],
        *,
        vocabulary: Vocabulary,
        left: int = DEPTH,
        right: int = DEPTH,
        by_pairs: bool = False,
        past_holes: bool = True,
        records: OwnRecords | None = None,
    ) -> None:
        """Count training sequences, with views of them (`symmetries`) among them where there are some.

        Args:
            sequences: Ids of training sequences.
            vocabulary: Theirs.
            left: Neighbours on the left, at most.
            right: Neighbours on the right, at most; 0 makes a table of prefixes.
            by_pairs: One neighbour more on both sides at each level, so that a mirror image has the same levels.
            past_holes: Where a neighbour is hidden, begin with the nearest known one, and not with none.
            records: Of which the sequences are the views: what a record has added is left out where it is asked about.
        """
        super().__init__()
        self.vocabulary, self.left, self.right, self.past_holes = vocabulary, left, right, past_holes
        self.records = records
        self.n_supports = 2 if past_holes and vocabulary.n_fields == 1 and right else 1
        self.room = max(left, right)
        self.fields = [
            FieldIndex(
                Line([ids[:, field] for ids in sequences], n_ids, self.room),
                by_pairs=by_pairs,
                shares=vocabulary.n_fields,
                n_sorted=None if past_holes else SORTED,
            )
            for field, n_ids in enumerate(vocabulary.n_outputs)
        ]

    @property
    def step(self) -> int:
        """One in so many training cells is counted, at least in one field."""
        return max(field.step for field in self.fields)

    def answers(self, examples: Sequence[Example], cells: Sequence[Integer[np.ndarray, "_ 2"]]) -> Answers:
        """Log-probabilities of the asked cells, and how many training cells stand behind each."""
        ends = np.cumsum([0, *map(len, cells)])
        log_probs = np.full((ends[-1], max(self.vocabulary.n_outputs)), -np.inf)
        support = np.zeros(ends[-1])
        positions, fields = np.concatenate([np.empty((0, 2), np.int64), *cells]).T
        of_example = np.repeat(np.arange(len(examples)), np.diff(ends))
        for field, index in enumerate(self.fields):
            rows = np.flatnonzero(fields == field)
            if not len(rows):
                continue
            line = Line([each.ids[:, field] for each in examples], index.line.n_ids, self.room)
            places = (line.starts[of_example] + positions)[rows].astype(np.int64)
            own = None if self.records is None else self.records.places(examples, index.line, index.places)
            for (path, used), mine in self._grouped(line, places).items():
                left_out = None if own is None else (own, of_example[rows[mine]])
                found = index.probabilities(line, places[mine], path, used, own=left_out, like=self._like(path))
                log_probs[rows[mine], : line.n_ids] = np.log(found.probabilities)
                support[rows[mine]] = found.support
        return np.split(log_probs, ends[1:-1]), support

    def _grouped(
        self, line: Line, places: Int[np.ndarray, " cells"]
    ) -> dict[tuple[tuple[int, ...], int], Int[np.ndarray, " _"]]:
        """Cells by the path through their known neighbours, and how much of it is known."""
        steps = np.arange(1, self.room + 1)
        known = [line.known[places[:, None] + sign * steps] for sign in (-1, 1)]
        return grouped(np.concatenate(known, axis=1), self._path)

    def _like(self, path: tuple[int, ...]) -> tuple[int, ...]:
        """The path that lends its strengths: where many neighbours are masked, one where fewer are."""
        if not self.past_holes:
            return path
        sides = []
        for sign, most in ((-1, self.left), (1, self.right)):
            known = [each * sign for each in path if each * sign > 0]
            sides.append(range(min(known[0], NEAR + 1), most + 1) if known else range(0))
        return merged(*sides)

    def _path(self, pattern: Bool[np.ndarray, " neighbours"]) -> tuple[tuple[int, ...], int]:
        """The neighbours to look at, of those on the left and on the right that are known, and how many of them are."""
        left, right = pattern[: self.left], pattern[self.room :][: self.right]
        if self.past_holes:
            # From the nearest known neighbour on, so that all cells as far from theirs share a view.
            first = [int(np.argmax(side)) if side.any() else len(side) for side in (left, right)]
            path = merged(range(first[0] + 1, self.left + 1), range(first[1] + 1, self.right + 1))
            seen = [left[-offset - 1] if offset < 0 else right[offset - 1] for offset in path]
            return path, int(np.cumprod(seen).sum())
        n_left, n_right = (int(np.cumprod(side).sum()) for side in (left, right))
        shorter = min(n_left, n_right)
        if n_left == n_right or shorter >= PAIRS:
            return merged(range(1, self.left + 1), range(1, self.right + 1)), 2 * shorter
        # All cells that know `shorter` neighbours on one side share a view, however many they know on the other.
        lengths = (self.left, shorter) if n_left > n_right else (shorter, self.right)
        return merged(*(range(1, length + 1) for length in lengths)), n_left + n_right


Key = TypeVar("Key", bound=Hashable)


def grouped(
    rows: Bool[np.ndarray, "cells _"], key: Callable[[Bool[np.ndarray, " _"]], Key]
) -> dict[Key, Int[np.ndarray, " _"]]:
    """Which rows have each key; of equal rows one is asked."""
    patterns, which = np.unique(rows, axis=0, return_inverse=True)
    found: dict[Key, list[int]] = {}
    for i, pattern in enumerate(patterns):
        found.setdefault(key(pattern), []).append(i)
    return {each: np.flatnonzero(np.isin(which.ravel(), group)) for each, group in found.items()}


def merged(left: Sequence[int], right: Sequence[int]) -> tuple[int, ...]:
    """Offsets of neighbours at these distances, one on each side in turn."""
    path: list[int] = []
    for i in range(max(len(left), len(right))):
        path += [-left[i]] if i < len(left) else []
        path += [right[i]] if i < len(right) else []
    return tuple(path)


def _kinds(counts: Int[np.ndarray, "cells ids"]) -> Int[np.ndarray, " cells"]:
    """Contexts by how often they were seen, in powers of two, and whether always with the same id."""
    totals = counts.sum(axis=1)
    sizes = np.minimum(np.ceil(np.log2(np.maximum(totals, 1))).astype(np.int64), KINDS // 2 - 1)
    return np.asarray(2 * sizes + (counts.max(axis=1) == totals))
