"""How often each id stood between known neighbours, interpolated from none of them to all.

P_level = (count + strength · P_shallower) / (total + strength), from the uniform distribution through one neighbour
more at each level (MacKay & Peto 1995, doi:10.1017/S1351324900000218), as in `maskseq.predict.experts.tables`, but

- a strength belongs to a level and to a kind of context: how often it was seen, and whether always with one id;
- a level that sees the same places as the one before replaces it, because it repeats the same evidence.

Each cell has a path of its own: which neighbours are looked at, and in which order. Places are sorted by the first ones
of a path, which many cells share; what is left then is compared one by one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, Integer

from maskseq.predict.experts.context_index import ContextIndex, Line, runs, unrolled
from maskseq.predict.experts.evidence import Answers
from maskseq.predict.experts.left_out import OwnPlaces, OwnRanks
from maskseq.predict.experts.tables import STRENGTHS

KINDS = 20
"""Of contexts, each with a strength of its own: ten sizes, and whether all ids seen there are the same."""
FEWER = 4
"""So many times less, where hidden cells stand between or only one side is known: such views are many."""
FLOOR = 3e-4
"""Of the uniform distribution in every answer: the one repeat in thousands that is wrong must not cost 30 bits."""
SAMPLE = 1 << 16
"""Training cells by whose likelihood, each left out in turn, strengths and depths are chosen: of all fields."""
FEWEST = 1 << 10
"""Of one field."""
SHARED = 0.3
"""Of the evidence on contexts half and twice as often seen, what counts for a kind's strength as well."""
PATIENCE = 4
"""Levels more without any gain, after which deeper ones are not tried."""
MAX_PLACES = 1 << 25
"""Training cells that are sorted, views included; of more, every so many. About 1 GB while they are."""
MAX_LEFT = 1 << 23
"""Places that are looked at one by one beyond what they are sorted by, for all cells of a view together."""
PAYS = 4
"""So many times all places: looking at more of them one by one takes longer than sorting them by more neighbours."""
MAX_KEPT = 1 << 30
"""Bytes of sorted places that are kept; what was used longest ago is sorted again if it is needed."""
MAX_COUNTS, BATCH = 1 << 22, 64
"""Counts that are held at a time, and cells that are answered at a time, at least."""

Law = Float[np.ndarray, "depths kinds"]
"""How many observations the shallower level is worth, at each depth and for each kind of context; NaN where a depth is
no level, or does not pay."""


class Answer(NamedTuple):
    """Distributions, and how many training cells stand behind each: of the deepest context that was seen at all."""

    probabilities: Float[np.ndarray, "cells ids"]
    support: Float[np.ndarray, " cells"]

    def of_examples(self, cells: Sequence[Integer[np.ndarray, "_ 2"]]) -> Answers:
        """As log-probabilities of the cells of each example."""
        with np.errstate(divide="ignore"):  # of ids that a field does not have
            log_probs = np.log(self.probabilities)
        return np.split(log_probs, np.cumsum([len(each) for each in cells])[:-1]), self.support


@dataclass(frozen=True)
class Requests:
    """Cells that are asked about, with the neighbours of each."""

    line: Line
    places: Int[np.ndarray, " cells"]
    fields: Int[np.ndarray, " cells"]
    paths: Int[np.ndarray, "cells steps"]
    """Offsets of neighbours, in the order in which they are looked at."""
    used: Int[np.ndarray, " cells"]
    """How many of them are known, before the first that is not."""
    examples: Int[np.ndarray, " cells"]
    """The example that each stands in."""

    @classmethod
    def of(cls, line: Line, cells: Sequence[Integer[np.ndarray, "_ 2"]], n_fields: int) -> "Requests":
        """Cells (position, field) of the sequences of a line of events, without neighbours yet."""
        positions, fields = np.concatenate([np.empty((0, 2), np.int64), *cells]).T.astype(np.int64)
        examples = np.repeat(np.arange(len(cells)), [len(each) for each in cells])
        places = line.starts[examples] + positions * n_fields + fields
        return cls(
            line, places, fields, np.empty((len(places), 0), np.int64), np.zeros(len(places), np.int64), examples
        )

    def along(self, paths: Int[np.ndarray, "cells steps"], lengths: Int[np.ndarray, " cells"]) -> "Requests":
        """The same cells, with neighbours: so many of each path, up to the first that is not known."""
        known = np.cumprod(self.line.known[self.places[:, None] + paths], axis=1).sum(axis=1)
        return replace(self, paths=paths, used=np.minimum(known, lengths))

    def __getitem__(self, cells: Any) -> "Requests":
        rows = (each[cells] for each in (self.places, self.fields, self.paths, self.used, self.examples))
        return Requests(self.line, *rows)

    def __len__(self) -> int:
        return len(self.places)

    def wanted(self, steps: int) -> Integer[np.ndarray, "cells steps"]:
        """What stands at the first steps of the path of each."""
        return np.asarray(self.line.digits[self.places[:, None] + self.paths[:, :steps]])


class NeighbourIndex:
    """The tables of some fields: sorted views of all places, by the first neighbours of a path that is asked for."""

    def __init__(
        self,
        line: Line,
        places: Int[np.ndarray, " places"],
        *,
        n_outputs: Sequence[int],
        by_pairs: bool = False,
        shares: int = 1,
        n_sorted: int | None = None,
    ) -> None:
        """Count at the places whose id is known.

        Args:
            line: All ids.
            places: Those of the line that are looked at, increasing: of a position, one for each field.
            n_outputs: Ids of each field.
            by_pairs: A level adds a neighbour on both sides, as long as there is one: a mirror image shares it.
            shares: How many indices share the memory for sorted places.
            n_sorted: Neighbours that places are sorted by, where many paths share the first ones (default: all).
        """
        self.line, self.by_pairs, self.shares, self.n_sorted = line, by_pairs, shares, n_sorted
        self.n_outputs, self.n_ids = np.array(n_outputs), line.n_ids
        self.step = -(-len(places) // MAX_PLACES) or 1
        """One in so many training positions is looked at: 1 unless there are more than `MAX_PLACES` cells."""
        fields = np.tile(np.arange(len(n_outputs), dtype=np.int16), len(places) // len(n_outputs))
        if self.step > 1:
            kept = np.arange(len(places)) // len(n_outputs) % self.step == 0
            places, fields = places[kept], fields[kept]
        whole = line.digits[places] < self.n_outputs[fields]
        self.places, self.fields = places[whole], fields[whole]
        self.kept: dict[tuple[int, ...], ContextIndex] = {}
        self.fitted: dict[tuple[int, tuple[int, ...]], Law] = {}
        """By field and path."""

    def probabilities(
        self,
        requests: Requests,
        likes: Sequence[tuple[int, ...]],
        like: Int[np.ndarray, " cells"],
        own: OwnPlaces | None = None,
    ) -> Answer:
        """Of some cells.

        `likes[like]` is a path whose law serves each of them. `own` is what counts for the records of the examples.
        """
        pairs, law = np.unique(requests.fields * max(len(likes), 1) + like, return_inverse=True)
        found = [self.law(int(each) // len(likes), likes[int(each) % len(likes)]) for each in pairs]
        depths = max((len(each) for each in found), default=0)
        laws = np.full((len(found), depths, KINDS), np.nan)
        for row, each in zip(laws, found, strict=True):
            row[: len(each)] = each
        uniform = np.arange(self.n_ids) < self.n_outputs[requests.fields][:, None]
        uniform = uniform / self.n_outputs[requests.fields][:, None]
        result = Answer(uniform.copy(), np.zeros(len(requests)))
        steps = min(max(depths - 1, 0), requests.paths.shape[1])
        requests = replace(requests, paths=requests.paths[:, :steps])
        law = law.ravel()
        self._fill(result, requests, np.arange(len(requests)), laws, law, own, self.n_sorted or steps)
        return Answer((1 - FLOOR) * result.probabilities + FLOOR * uniform, result.support)

    def law(self, field: int, path: tuple[int, ...]) -> Law:
        """That of a path, fitted when it is first asked for."""
        if (field, path) not in self.fitted:
            self.fitted[field, path] = self._fit(field, path)
        return self.fitted[field, path]

    def levels(self, path: tuple[int, ...]) -> list[int]:
        """How many neighbours of a path each level looks at."""
        if not self.by_pairs:
            return list(range(len(path) + 1))
        pairs = 0
        while 2 * pairs + 1 < len(path) and path[2 * pairs] == -path[2 * pairs + 1]:
            pairs += 1
        return [*range(0, 2 * pairs + 1, 2), *range(2 * pairs + 1, len(path) + 1)]

    def _fill(
        self,
        result: Answer,
        requests: Requests,
        cells: Int[np.ndarray, " some"],
        laws: Float[np.ndarray, "laws depths kinds"],
        law: Int[np.ndarray, " cells"],
        own: OwnPlaces | None,
        n_sorted: int,
    ) -> None:
        """Answer some of the cells, those together whose paths begin alike."""
        steps = requests.paths.shape[1]
        prefixes, which = np.unique(requests.paths[cells, :n_sorted], axis=0, return_inverse=True)
        by_prefix = np.split(
            cells[np.argsort(which.ravel(), kind="stable")], np.cumsum(np.bincount(which.ravel()))[:-1]
        )
        most = max(MAX_COUNTS // (self.n_ids * (steps + 1)), BATCH)
        for prefix, mine in zip(map(tuple, prefixes.tolist()), by_prefix, strict=True):
            index = self._sorted(prefix)
            for first in range(0, len(mine), most):
                some = mine[first : first + most]
                seen = Contexts.of(index, requests[some], own, self._limit(prefix, steps))
                if seen is None:  # too much is left to be looked at one by one
                    self._fill(result, requests, some, laws, law, own, 2 * n_sorted)
                    continue
                result.probabilities[some], result.support[some] = _interpolated(
                    seen, laws[law[some]], requests.used[some], result.probabilities[some]
                )

    def _limit(self, prefix: tuple[int, ...], steps: int) -> int | None:
        """How many places may be looked at one by one; None: all, because nothing is left to sort them by."""
        return None if len(prefix) >= steps else min(MAX_LEFT, PAYS * len(self.places))

    def _sorted(self, path: tuple[int, ...]) -> ContextIndex:
        found = self.kept.pop(path, None)
        if found is None:
            groups = self.fields if len(self.n_outputs) > 1 else None
            found = ContextIndex(self.line, self.places, path, groups, len(self.n_outputs))
        self.kept[path] = found  # the last one used is the last of the dictionary
        each = len(self.places) * (2 * self.places.itemsize + 8 + self.line.digits.itemsize + 4 * self.n_ids / 64)
        while len(self.kept) > max(MAX_KEPT / self.shares // max(each, 1), 1):
            del self.kept[next(iter(self.kept))]
        return found

    def _fit(self, field: int, path: tuple[int, ...]) -> Law:
        """Strengths, and how deep it pays to go, by the likelihood of training cells that are left out in turn."""
        law = np.full((len(path) + 1, KINDS), np.nan)
        places = self.places[self.fields == field]
        wanted = SAMPLE // max(len(self.n_outputs), self.shares)
        if 2 * max(map(abs, path), default=0) > len(path) * len(self.n_outputs):
            wanted //= FEWER
        places = places[:: max(len(places) // max(wanted, FEWEST), 1)].astype(np.int64)
        if not len(places):
            return law[:0]
        n = len(places)
        paths = np.broadcast_to(np.array(path, np.int64), (n, len(path)))
        requests = Requests(self.line, places, np.full(n, field), paths, np.full(n, len(path)), np.zeros(n, np.int64))
        n_sorted = self.n_sorted or len(path)
        seen: Contexts | None = None
        while seen is None:
            prefix = path[:n_sorted]
            seen = Contexts.of(self._sorted(prefix), requests, None, self._limit(prefix, len(path)))
            n_sorted *= 2
        ids = self.line.digits[places].astype(np.int64)
        answer = below = np.full(n, 1 / self.n_outputs[field])
        settled, size, open_ = 0.0, np.full(n, -1), np.arange(n)
        worth: list[tuple[float, int]] = []
        for level in self.levels(path):
            sizes = seen.sizes[level, open_]
            some = sizes > 1  # others than the cell itself
            settled += np.log(answer[~some]).sum()
            open_, below, answer, size, sizes = (each[some] for each in (open_, below, answer, size, sizes))
            if not len(open_):
                break
            below = np.where(sizes == size, below, answer)
            size = sizes
            counts = seen.counts(np.full(len(open_), level), open_)
            rows = np.arange(len(open_))
            counts[rows, ids[open_]] -= 1
            hits, totals, kinds = counts[rows, ids[open_]], counts.sum(axis=1), _kinds(counts)
            gains = np.log((hits[:, None] + STRENGTHS * below[:, None]) / (totals[:, None] + STRENGTHS))
            by_kind = np.stack([np.bincount(kinds, gain, KINDS) for gain in gains.T])
            by_kind = _smoothed(by_kind)
            law[level] = np.where(by_kind.any(axis=0), STRENGTHS[by_kind.argmax(axis=0)], STRENGTHS[-1])
            answer = (hits + law[level, kinds] * below) / (totals + law[level, kinds])
            worth.append((settled + np.log(answer).sum(), -level))
            if len(worth) > PATIENCE and max(worth) not in worth[-PATIENCE:]:
                break
        return law[: 1 - max(worth)[1]] if worth else law[:0]


class Contexts:
    """Of some cells, the places that share their context: none of their neighbours, the first one, the first two, …"""

    def __init__(self, index: ContextIndex, requests: Requests, own: OwnRanks | None) -> None:
        """Those that the index is sorted by; see `of`."""
        self.index, self.requests, self.own = index, requests, own
        self.n_sorted = min(len(index.path), requests.paths.shape[1])
        group = requests.fields
        self.low, self.high = index.stretches(
            index.edges[group], index.edges[group + 1], requests.wanted(self.n_sorted)
        )
        self.sizes = self.high - self.low
        """At each depth, how many places there are."""
        if own is not None:
            self.own_low, self.own_high = own.inside(self.low, self.high)
            self.sizes = self.sizes - (self.own_high - self.own_low)
        self.left: list[tuple[Int[np.ndarray, " left"], Int[np.ndarray, " left"]]] = []
        """At each depth beyond the sorted ones, pairs of a cell and a place."""

    @classmethod
    def of(cls, index: ContextIndex, requests: Requests, own: OwnPlaces | None, limit: int | None) -> "Contexts | None":
        """Those at all depths; None if more places than a limit would have to be looked at one by one."""
        ranks = None if own is None else OwnRanks(index, own, requests.examples)
        seen, steps = cls(index, requests, ranks), requests.paths.shape[1]
        deeper = (requests.used > seen.n_sorted) & (seen.sizes[-1] > 0)
        if seen.n_sorted == steps:
            return seen
        if limit is not None and seen.sizes[-1, deeper].sum() > limit:
            return None
        (cells,) = np.nonzero(deeper)
        which, rank = unrolled(seen.low[-1, cells], seen.high[-1, cells])
        cell = cells[which]
        if ranks is not None:
            others = ~ranks.holds(cell, rank)
            cell, rank = cell[others], rank[others]
        place = index.places[rank].astype(np.int64)
        wanted, sizes = requests.wanted(steps), [seen.sizes]
        for step in range(seen.n_sorted, steps):
            same = index.line.digits[place + requests.paths[cell, step]] == wanted[cell, step]
            cell, place = cell[same], place[same]
            seen.left.append((cell, place))
            sizes.append(np.bincount(cell, minlength=len(requests))[None])
        seen.sizes = np.concatenate(sizes)
        return seen

    def counts(
        self, depths: Int[np.ndarray, " entries"], cells: Int[np.ndarray, " entries"]
    ) -> Int[np.ndarray, "entries ids"]:
        """How often each id stands at the places of some cells at some depths."""
        n_ids = self.index.line.n_ids
        found = np.zeros((len(cells), n_ids), np.int64)
        (rows,) = np.nonzero(depths <= self.n_sorted)
        at = depths[rows], cells[rows]
        found[rows] = self.index.tally(self.low[at], self.high[at])
        if self.own is not None:
            found[rows] -= self.own.tally(self.own_low[at], self.own_high[at])
        for depth, (cell, place) in enumerate(self.left, self.n_sorted + 1):
            (rows,) = np.nonzero(depths == depth)
            if not len(rows):
                continue
            row = np.full(len(self.requests), len(rows))
            row[cells[rows]] = np.arange(len(rows))
            flat = row[cell] * n_ids + self.index.line.digits[place]
            found[rows] = np.bincount(flat, minlength=(len(rows) + 1) * n_ids).reshape(-1, n_ids)[:-1]
        return found


def paths_of(paths: Sequence[Sequence[int]]) -> Int[np.ndarray, "paths steps"]:
    """Paths as rows, 0 behind the end of each."""
    rows = np.zeros((len(paths), max(map(len, paths), default=0)), np.int64)
    for row, path in zip(rows, paths, strict=True):
        row[: len(path)] = path
    return rows


def _interpolated(
    seen: Contexts,
    laws: Float[np.ndarray, "cells depths kinds"],
    used: Int[np.ndarray, " cells"],
    uniform: Float[np.ndarray, "cells ids"],
) -> Answer:
    """All levels at once: the weight of each is what the deeper ones leave it.

    Of levels that see the same places the deepest stays.
    """
    n_cells, n_depths = len(used), min(len(seen.sizes), laws.shape[1])
    depth_of_row = np.arange(n_depths)
    there = ~np.isnan(laws[:, :n_depths, 0]) & (depth_of_row <= used[:, None]) & (seen.sizes[:n_depths].T > 0)
    cells, depths = np.nonzero(there)
    sizes = seen.sizes[depths, cells]
    deepest = np.pad((cells[1:] != cells[:-1]) | (sizes[1:] != sizes[:-1]), (0, 1), constant_values=True)[: len(cells)]
    cells, depths = cells[deepest], depths[deepest]
    counts = seen.counts(depths, cells)
    totals = counts.sum(axis=1)
    strengths = laws[cells, depths, _kinds(counts)]
    left = np.ones((n_cells, n_depths + 1))
    left[cells, depths] = strengths / (totals + strengths)
    left = np.cumprod(left[:, ::-1], axis=1)[:, ::-1]
    """What each level and the deeper ones leave to the shallower."""
    probabilities, support = uniform * left[:, :1], np.zeros(n_cells)
    if len(cells):
        first = runs(cells)
        weights = left[cells, depths + 1] / (totals + strengths)
        probabilities[cells[first]] += np.add.reduceat(weights[:, None] * counts, first, axis=0)
        last = np.append(first[1:], len(cells)) - 1
        support[cells[last]] = totals[last]
    return Answer(probabilities, support)


def _smoothed(gains: Float[np.ndarray, "strengths kinds"]) -> Float[np.ndarray, "strengths kinds"]:
    """Kinds of similar sizes lend each other some of their evidence."""
    padded = np.pad(gains, ((0, 0), (2, 2)))
    return np.asarray(gains + SHARED * (padded[:, 4:] + padded[:, :-4]))


def _kinds(counts: Int[np.ndarray, "cells ids"]) -> Int[np.ndarray, " cells"]:
    """Contexts by how often they were seen, in powers of two, and whether always with the same id."""
    totals = counts.sum(axis=1)
    sizes = np.minimum(np.ceil(np.log2(np.maximum(totals, 1))).astype(np.int64), KINDS // 2 - 1)
    return np.asarray(2 * sizes + (counts.max(axis=1) == totals))
