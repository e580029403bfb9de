"""A record to fill, divided into chunks: which windows the model sees of it, and what comes of them.

A record longer than the context is divided into chunks of context/2 positions, counted from its own start, so that a
chunk is the same whatever else is filled. Each chunk that has holes is run in a window of one context with (but for the
ends of the record) a quarter of it on either side; it sees what chunks to its left have put into that window.

A circular record is read from the middle of its longest known stretch on, so that no hole is near an end.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from typing import Any

import numpy as np
from jaxtyping import Bool, Int, Integer

from maskseq.constraints import Constraint, intersection, joined, narrowed, propagate
from maskseq.contract.brief import brief
from maskseq.errors import UsageError
from maskseq.infill.sampler_state import check_feasible
from maskseq.predict.protocol import Fill
from maskseq.types import Encoded, LegalCells, Vocabulary


@brief
@dataclass(frozen=True)
class Task:
    """A record whose `holes` are to be filled."""

    key: str
    """The record's: it names the randomness, and the record in errors."""
    encoded: Encoded
    holes: Bool[np.ndarray, "length fields"]
    rules: Sequence[LegalCells | Constraint] = ()
    """What the fill must keep, about the record as a whole, in its own positions."""
    payload: Any = None
    """What the caller needs again with the result."""


@brief
@dataclass(frozen=True)
class Filled:
    """What came of a task."""

    task: Task
    fill: Fill
    """Of the whole record. In a later chunk, `marginals` are given what sample 0 holds to the left as well."""
    left: list[tuple[int, int]]
    """Stretches of positions, half-open, without any known cell and too long to fill: they were left as they are."""
    rejected: Bool[np.ndarray, "length fields"] | None = None
    """Known cells around holes that the predictor took for no measurements (None: it believes all that it sees)."""


@dataclass(frozen=True)
class Window:
    """Cells `first:last` of a job, and the window `start:stop` that they are filled in."""

    first: int
    last: int
    start: int
    stop: int
    wave: int
    """Chunks of a wave do not see one another's fills."""
    origin: int
    """The position that names its randomness."""


class WindowPlan:
    """A task under way."""

    def __init__(self, task: Task, vocabulary: Vocabulary, samples: int, context: int, fill_long_holes: bool) -> None:
        self.task, self.vocabulary = task, vocabulary
        self.rules = joined([rule for rule in task.rules if not isinstance(rule, LegalCells)])
        narrowings = [each for each in (task.encoded.legal, *task.rules) if isinstance(each, LegalCells)]
        self.encoded = replace(task.encoded, legal=reduce(intersection, narrowings) if narrowings else None)
        ids, holes = task.encoded.ids, task.holes
        self.masked = vocabulary.masked(ids, holes)
        self._check_rules()
        self.left: list[tuple[int, int]] = []
        self.origin = 0
        """The position of the record that this plan reads first."""
        if task.encoded.circular and len(ids) > context and not self.rules:  # rules count from the record's own start
            self.origin = far_from_holes(np.asarray(vocabulary.known(self.masked).all(axis=1)))
            self.encoded, holes = self.encoded.turned(self.origin), np.roll(holes, -self.origin, axis=0)
            self.masked = np.roll(self.masked, -self.origin, axis=0)
        if not fill_long_holes:
            dark = np.logical_not(vocabulary.known(self.masked).any(axis=1))
            self.left = [(i, j) for i, j in runs(dark) if j - i > context // 2 and holes[i:j].any()]
            holes = holes.copy()
            for start, stop in self.left:
                holes[start:stop] = False
        self.cells = np.argwhere(holes)
        self.values = np.repeat(self.masked[None, *self.cells.T], samples, axis=0)
        self.numbers = np.full(self.values.shape, np.nan)
        """What the values stand for, where the record has numbers."""
        self.fills: list[list[Fill]] = [[] for _ in range(samples)]
        self.rejected: Bool[np.ndarray, "length fields"] | None = None
        self.context = min(context, len(ids))
        self._check_feasible()
        self.chunks = list(self._divide()) or [Window(0, 0, 0, self.context, 0, 0)]

    def _check_rules(self) -> None:
        """Before anything is filled: known cells never change, so no rule may ask for something else there."""
        for rule in self.task.rules:
            if isinstance(rule, LegalCells):
                position, column = rule.cells.T
                if len(position) and position.max() >= len(self.masked):
                    raise UsageError(
                        f"record {self.task.key!r} ends before position {position.max() + 1} of a rule",
                        code="outside-record",
                    )
                ids = self.masked[position, column]
                known = ids != np.asarray(self.vocabulary.mask_ids)[column]
                wrong = known & ~rule.allowed[np.arange(len(ids)), np.where(known, ids, 0)]
                if wrong.any():
                    first = int(position[wrong][0])
                    raise UsageError(
                        f"record {self.task.key!r}: a rule does not allow the known value at position {first + 1}"
                        f"\n\nhint: hide it as well, or change the rule",
                        code="bad-option",
                    )

    def _check_feasible(self) -> None:
        """Nor may the rules, and what narrows the cells, leave one of them without any value."""
        legal, committable = self.encoded.legal, self.vocabulary.committable
        if legal is not None:
            wanted = np.roll(self.task.holes, -self.origin, axis=0)[tuple(legal.cells.T)]
            possible = (legal.allowed & committable[legal.cells[:, 1], : legal.allowed.shape[1]]).any(axis=1)
            wrong = legal.cells[wanted & ~possible]
            wrong = np.stack([(wrong[:, 0] + self.origin) % len(self.masked), wrong[:, 1]], axis=1)
            check_feasible(f"record {self.task.key!r}", wrong, self.vocabulary)
        if self.rules:
            allowed = propagate(self.rules, self.masked, self.cells, self.legal)
            check_feasible(f"record {self.task.key!r}", self.cells[~allowed.any(axis=1)], self.vocabulary)

    def _divide(self) -> Iterator[Window]:
        positions, length, context = self.cells[:, 0], len(self.task.holes), self.context
        size = max(context // 2, 1) if length > context else length
        waves: list[int] = []  # of each cell
        for number in np.unique(positions // size).tolist() if len(positions) else ():
            first, last = np.searchsorted(positions, [number * size, (number + 1) * size]).tolist()
            start = min(max(number * size - (context - size) // 2, 0), length - context)
            seen = 0 if self.rules else int(np.searchsorted(positions, start))
            wave = 1 + max(waves[seen:first], default=-1)
            waves += [wave] * (last - first)
            yield Window(first, last, start, start + context, wave, number * size)

    def window(self, chunk: Window, sample: int) -> tuple[Encoded, Bool[np.ndarray, "context fields"]]:
        """What the model sees, and which cells of it are asked for."""
        inside = slice(*np.searchsorted(self.cells[:, 0], [chunk.start, chunk.stop]))
        encoded = replace(self.encoded, ids=self.masked).cut(chunk.start, chunk.stop)
        ids, holes = encoded.ids.copy(), np.zeros(encoded.ids.shape, dtype=bool)
        ids[_at(self.cells[inside], chunk.start)] = self.values[sample, inside]
        holes[_at(self.cells[chunk.first : chunk.last], chunk.start)] = True
        numbers = encoded.numbers
        if numbers is not None:
            numbers = np.where(self.task.holes[chunk.start : chunk.stop], np.nan, numbers)
            numbers[_at(self.cells[inside], chunk.start)] = self.numbers[sample, inside]
        return replace(encoded, ids=ids, numbers=numbers), holes

    def begins(self, chunk: Window) -> int:
        """Where a window begins in the record, of a circle as it was given."""
        return (chunk.start + self.origin) % max(len(self.masked), 1)

    def given(self, chunk: Window) -> Bool[np.ndarray, "context fields"]:
        """What the record itself tells of a window."""
        return self.vocabulary.known(self.masked[chunk.start : chunk.stop])

    def reject(self, chunk: Window, cells: Bool[np.ndarray, "context fields"]) -> None:
        """Note known cells of a window that the predictor does without."""
        if self.rejected is None:
            self.rejected = np.zeros(self.masked.shape, bool)
        self.rejected[chunk.start : chunk.stop] |= cells

    def constraints(self, chunk: Window, sample: int) -> list[Constraint]:
        if self.context == len(self.task.holes):
            return self.rules
        return [Through(self, chunk, sample, rule) for rule in self.rules]

    @cached_property
    def legal(self) -> Bool[np.ndarray, "cells outputs"]:
        """What each of the record's hole cells may take, but for its constraints."""
        return narrowed(self.encoded.legal, self.cells, self.vocabulary.committable[self.cells[:, 1]])

    def result(self) -> Filled:
        """The fills of all chunks and samples as one."""
        samples = [sorted(fills, key=lambda fill: tuple(fill.cells[:1].ravel())) for fills in self.fills]
        fill, length = Fill.joined(samples), len(self.masked)
        rejected = None if self.rejected is None else np.roll(self.rejected, self.origin, axis=0)
        if not self.origin:
            return Filled(self.task, fill, self.left, rejected)
        left = np.zeros(length, bool)
        for start, stop in self.left:
            left[np.arange(start + self.origin, stop + self.origin) % length] = True
        return Filled(self.task, fill.turned(-self.origin, length), runs(left), rejected)


class Through:
    """A rule about the whole record, asked through the window of one chunk."""

    def __init__(self, job: WindowPlan, chunk: Window, sample: int, constraint: Constraint) -> None:
        self.job, self.chunk, self.constraint = job, chunk, constraint
        self.ids = job.masked.copy()
        self.ids[tuple(job.cells.T)] = job.values[sample]

    def __call__(
        self,
        ids: Integer[np.ndarray, "length fields"],
        cells: Integer[np.ndarray, "cells 2"],
        allowed: Bool[np.ndarray, "cells outputs"],
    ) -> Bool[np.ndarray, "cells outputs"]:
        job, chunk = self.job, self.chunk
        self.ids[chunk.start : chunk.stop] = ids
        later = slice(chunk.last, None)  # chunks run one after the other under constraints: these are still hidden
        everything = np.concatenate([cells + np.array([chunk.start, 0]), job.cells[later]])
        kept = self.constraint(self.ids, everything, np.concatenate([allowed, job.legal[later]]))
        return kept[: len(cells)]


def key_number(key: str) -> int:
    """The record's key as a number for a Generator: the same in every process and version."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big")


def far_from_holes(known: Bool[np.ndarray, " length"]) -> int:
    """Of a circle, the middle of the longest known stretch; 0 if nothing, or everything, is known."""
    (holes,) = np.nonzero(~known)
    if not len(holes):
        return 0
    gaps = np.diff(holes, append=holes[0] + len(known))
    longest = int(np.argmax(gaps))
    return int((holes[longest] + (gaps[longest] + 1) // 2) % len(known)) if gaps[longest] > 1 else 0


def runs(flags: Bool[np.ndarray, " length"]) -> list[tuple[int, int]]:
    """Runs of True as half-open ranges."""
    edges = np.flatnonzero(np.diff(flags, prepend=False, append=False)).reshape(-1, 2)
    return [(start, stop) for start, stop in edges.tolist()]


def _at(cells: Int[np.ndarray, "cells 2"], start: int) -> tuple[Int[np.ndarray, " cells"], Int[np.ndarray, " cells"]]:
    """Cells as an index into a window that begins at `start`."""
    return cells[:, 0] - start, cells[:, 1]
