"""Leaving a record out of what was counted of it: `Example.key` says which one is asked about.

*Why*: else `score` of a training file finds nothing odd, and a masked training file is filled from memory.

A training sequence is the record that is asked about if it has its key, and at least half of the cells that are known
in both agree: cells that were filled need not be what stood there. What is left out is the example and `GUARD`
positions on either side, in the sequence and its images: all of a log's case, and a stretch of a genome. Other records
count, also where they hold the same, but for long ones under another name (`found_again.py`).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from maskseq.predict.experts.context_index import ContextIndex, Line, Tally
from maskseq.predict.experts.found_again import found_again
from maskseq.predict.experts.training_data import TrainingData
from maskseq.predict.protocol import Example
from maskseq.tokenizer import Tokenizer

GUARD = 512
AGREEING = 0.5
MOST_COUNTED = 1 << 20
"""Positions of a file at hand that count."""


class OwnStretch(NamedTuple):
    """Positions of a view of a training sequence."""

    view: int
    start: int
    stop: int


@dataclass(frozen=True)
class OwnRecords:
    """Finds what was counted of the record that an example belongs to."""

    data: TrainingData
    tokenizer: Tokenizer[Any]

    def of(self, example: Example, *, copies: bool = False) -> list[OwnStretch]:
        """Where it lies among the views of training data (`TrainingData.views`).

        `copies`: the same stretch of exact copies of the whole sequence, too.
        """
        own = [
            stretch
            for index, begin in self._of_key(example.key)
            if self._agrees(index, begin, example)
            for stretch in self._stretches(index, begin, example)
        ]
        if not copies:
            return own
        return [each._replace(view=view) for each in own for view in self._same_views[self._digests[each.view]]]

    def covered(self, example: Example) -> list[tuple[int, int]]:
        """Which positions of an example its record's training sequences hold."""
        found = []
        for index, begin in self._of_key(example.key):
            if self._agrees(index, begin, example):
                first = begin - example.start
                found.append((max(first, 0), min(first + len(self.data.sequences[index]), len(example.ids))))
        return found

    def _stretches(self, index: int, begin: int, example: Example) -> list[OwnStretch]:
        length = len(self.data.sequences[index])
        first = example.start - begin
        start, stop = max(first - GUARD, 0), min(first + len(example.ids) + GUARD, length)
        if first + len(example.ids) > length:  # across the origin of a circle
            start, stop = 0, length
        if start >= stop:
            return []
        symmetries = self.tokenizer.symmetries()
        view = index * (1 + len(symmetries))
        there = [(length - stop, length - start) if each.reverse else (start, stop) for each in symmetries]
        return [OwnStretch(view, start, stop), *(OwnStretch(view + 1 + i, *each) for i, each in enumerate(there))]

    def _of_key(self, key: str) -> list[tuple[int, int]]:
        """The sequences of a record, which is called KEY#n where several of its file have one key, and where each
        begins in it.
        """
        plain, _, number = key.rpartition("#")
        named = self.by_key.get(key) or (self.by_key.get(plain, []) if number.isdecimal() else [])
        begins = [(index, self.data.starts[index] if self.data.starts else 0) for index in named]
        return list(dict.fromkeys([*begins, *self.data.again.get(key, ())]))

    def _agrees(self, index: int, begin: int, example: Example) -> bool:
        ids, first = self.data.sequences[index], example.start - begin
        theirs = ids[max(first, 0) : max(first + len(example.ids), 0)]
        mine = example.ids[max(-first, 0) :][: len(theirs)]
        known = self.tokenizer.vocabulary.known
        both = known(theirs) & known(mine)
        return len(theirs) > 0 and bool(np.count_nonzero((theirs == mine) & both) >= AGREEING * np.count_nonzero(both))

    def places(
        self,
        examples: Sequence[Example],
        line: Line,
        places: Int[np.ndarray, " places"],
        n_slots: int,
    ) -> "OwnPlaces | None":
        """Which of these places, in the order of a line of all views, count for the record of each example.

        None where there are none.

        Args:
            examples: What is asked about.
            line: All views.
            places: Increasing places of the line.
            n_slots: Places of the line for each position.
        """
        if not any(self._of_key(example.key) for example in examples):
            return None
        found = []
        for example in examples:
            inside = [np.empty(0, np.int64)]
            for view, start, stop in self.of(example):
                begin = int(line.starts[view])
                inside.append(np.arange(*np.searchsorted(places, begin + n_slots * np.array([start, stop]))))
            found.append(np.concatenate(inside))
        return OwnPlaces(found) if any(map(len, found)) else None

    @cached_property
    def by_key(self) -> dict[str, list[int]]:
        """The sequences of each key."""
        found: dict[str, list[int]] = {}
        for index, key in enumerate(self.data.keys):
            if key:
                found.setdefault(key, []).append(index)
        return found

    @cached_property
    def _digests(self) -> list[bytes]:
        """Of what each view holds."""
        return [hashlib.blake2b(ids.tobytes(), digest_size=16).digest() for ids in self.data.views(self.tokenizer)]

    @cached_property
    def _same_views(self) -> dict[bytes, list[int]]:
        found: dict[bytes, list[int]] = {}
        for view, digest in enumerate(self._digests):
            found.setdefault(digest, []).append(view)
        return found


def with_file(data: TrainingData, file: Sequence[Example], tokenizer: Tokenizer[Any]) -> TrainingData:
    """Training data and what is known of the records of a file, which are about to be asked about.

    Hidden cells are `[MASK]` in an `Example`, and count as unknown. What training data hold already does not count
    twice, under whatever name, and records without a key do not count, because they could not be left out. Of a file
    of more than `MOST_COUNTED` positions nothing counts; which records are those of training is known all the same.
    """
    vocabulary = tokenizer.vocabulary
    data = replace(data, again=found_again(file, data, vocabulary))
    if sum(len(example.ids) for example in file) > MOST_COUNTED:
        return data
    own = OwnRecords(data, tokenizer)
    added = []
    for example in file:
        ids = example.ids
        for first, stop in own.covered(example):
            held = np.zeros(ids.shape, bool)
            held[first:stop] = True
            ids = vocabulary.masked(ids, held)
        if example.key and vocabulary.known(ids).any():
            added.append((example, ids))
    numbers = data.numbers
    if numbers is not None:
        nothing = [np.full(ids.shape, np.nan) for _, ids in added]
        read = [each.numbers for each, _ in added]
        numbers = [*numbers, *(no if yes is None else yes for yes, no in zip(read, nothing, strict=True))]
    return TrainingData(
        [*data.keys, *(each.key for each, _ in added)],
        [*data.sequences, *(ids for _, ids in added)],
        numbers,
        [*(data.starts or [0] * len(data.keys)), *(each.start for each, _ in added)],
        data.again,
    )


@dataclass(frozen=True)
class OwnPlaces:
    """Which of an index's places count for the record of each example, as numbers among all of them."""

    of_examples: Sequence[Int[np.ndarray, " _"]]


class OwnRanks:
    """Of sorted places, those that count for the record that a cell is of: stretches of them, as of all."""

    def __init__(self, index: ContextIndex, own: OwnPlaces, examples: Int[np.ndarray, " cells"]) -> None:
        """`examples` are those that the cells stand in."""
        self.size = len(index.places) + 1
        used, which = np.unique(examples, return_inverse=True)
        self.shift = which.ravel() * self.size
        """The ranks of each example are numbers of their own."""
        ranks = [np.sort(index.ranks[own.of_examples[each]]).astype(np.int64) for each in used.tolist()]
        self.ranks = np.concatenate([np.empty(0, np.int64), *(each + i * self.size for i, each in enumerate(ranks))])
        self.tally = Tally(index.tally.ids[self.ranks % self.size], index.line.n_ids)

    def inside(
        self, low: Int[np.ndarray, "depths cells"], high: Int[np.ndarray, "depths cells"]
    ) -> tuple[Int[np.ndarray, "depths cells"], Int[np.ndarray, "depths cells"]]:
        """The stretches of these ranks that lie in stretches of all."""
        return np.searchsorted(self.ranks, low + self.shift), np.searchsorted(self.ranks, high + self.shift)

    def holds(self, cell: Int[np.ndarray, " pairs"], rank: Int[np.ndarray, " pairs"]) -> Bool[np.ndarray, " pairs"]:
        """Whether a place counts for the record that the cell is of."""
        wanted = self.shift[cell] + rank
        at = np.searchsorted(self.ranks, wanted)
        return np.asarray(np.append(self.ranks, -1)[at] == wanted)
