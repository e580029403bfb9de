"""How much likelier a sequence becomes by a change: log-likelihood ratios of variants.

A change that keeps the length is compared itself: the log-probability of what it puts there with that of what is there.
Where a change adds or removes units, a longer text is always less probable, whatever it is. What both sequences share
is compared there instead: the log-probability of the flanks, given the one or the other between them.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Int, Integer

from maskseq.contract.fence import encode
from maskseq.corpus.budget import reaching
from maskseq.errors import UsageError
from maskseq.masking.units import RawUnits
from maskseq.predict.protocol import Example, Predict
from maskseq.tokenizer import Tokenizer
from maskseq.variants import Listed, Stretch

FLANK = 16
"""Raw units on either side of a change of length whose log-probabilities are compared."""
UNKNOWN = "units of it are unknown"
NOTHING_AROUND = "nothing known around it is the same with and without the change"


@dataclass(frozen=True)
class VariantScore:
    """What a model makes of a variant."""

    variant: Listed[Any]
    before: float
    """Log-likelihood in nats, without the change, of what is scored; NaN where nothing is."""
    after: float
    """With the change."""
    flanks: bool = False
    """What is scored are the units around the variant, not those that it changes."""
    reason: str = ""
    """Why it has no score; empty where it has one."""

    @property
    def log_ratio(self) -> float:
        """Above 0: likelier with the change. NaN without a score, and for changes of length."""
        return math.nan if self.flanks else self.after - self.before

    @property
    def flank_log_ratio(self) -> float:
        """Above 0: its flanks are likelier with the change. NaN without a score, and where the length stays."""
        return self.after - self.before if self.flanks else math.nan


def score_variants(
    predict: Predict,
    variants: Iterable[tuple[Listed[Any], Stretch | str]],
    *,
    tokenizer: Tokenizer[Any],
    batch_positions: int = 1 << 18,
) -> Iterator[VariantScore]:
    """Score variants, each given with the stretch around it (`maskseq.variants.stretches`), as they come.

    Where the length stays, the cells of the change are masked and revealed one after the other: the ratio is that of
    P(after) and P(before) given all the others (of one cell, the masked marginal of Meier et al. 2021,
    doi:10.1101/2021.07.09.450648).

    Where it does not, the same is done with the flanks: of the cells that both sequences begin and end with, those
    within `FLANK` units of where they differ are masked and revealed one after the other, which gives
    ln P(flanks | after) − ln P(flanks | before). The change itself is always visible and never scored, so that its
    length has no say. What can be placed here or there in a repeat is scored alike wherever it is placed.
    """
    pairs = (
        _Pair(variant, reason=stretch) if isinstance(stretch, str) else _pair(variant, stretch, tokenizer)
        for variant, stretch in variants
    )
    for batch in reaching(pairs, _positions, batch_positions):
        yield from _answered(predict, batch)


def _positions(pair: "_Pair") -> int:
    return sum(len(question.ids) for question in (*pair.before, *pair.after))


@dataclass(frozen=True)
class _Pair:
    """What is asked about a variant: the same of both sequences."""

    variant: Listed[Any]
    before: Sequence["_Question"] = ()
    after: Sequence["_Question"] = ()
    flanks: bool = False
    reason: str = ""


@dataclass(frozen=True)
class _Question:
    """How probable is this value in this cell of a sequence?"""

    ids: Integer[np.ndarray, "length fields"]
    cell: tuple[int, int]
    value: int


def _pair(variant: Listed[Any], stretch: Stretch, tokenizer: Tokenizer[Any]) -> _Pair:
    try:
        encoded = [encode(tokenizer, record) for record in (stretch.before, stretch.after)]
    except UsageError:  # not the variant's fault
        raise
    except ValueError as error:
        return _Pair(variant, reason=str(error))
    longer = len(stretch.after) - len(stretch.before)
    before, after = (each.ids for each in encoded)
    units = [tokenizer.units_of(each) for each in encoded]
    sides = _Sides(before, after, units[0], units[1], longer)
    masked, cells = sides.flanks(tokenizer) if longer else sides.changed(stretch.changed, tokenizer)
    old, new = (_chain(*each, tokenizer) for each in zip((before, after), masked, map(np.argwhere, cells), strict=True))
    missing = NOTHING_AROUND if longer else UNKNOWN
    return _Pair(variant, old, new, flanks=bool(longer), reason="" if old and new else missing)


Cells = tuple[Bool[np.ndarray, "length fields"], Bool[np.ndarray, "other fields"]]


@dataclass(frozen=True)
class _Sides:
    """A sequence before and after a change, and the units of its cells."""

    before: Integer[np.ndarray, "length fields"]
    after: Integer[np.ndarray, "other fields"]
    units_before: Int[np.ndarray, "length fields 2"]
    units_after: Int[np.ndarray, "other fields 2"]
    longer: int
    """How many units are added."""

    def changed(self, units: tuple[int, int], tokenizer: Tokenizer[Any]) -> tuple[Cells, Cells]:
        """For a change that keeps the length, the cells to mask, and those of them to ask about.

        Where it moves the borders of tokens, all that differ: the same units in other tokens.
        """
        known = [tokenizer.vocabulary.askable(ids) for ids in (self.before, self.after)]
        if np.array_equal(self.units_before, self.units_after):
            masked = _within(self.units_before, *units)
            requested = masked & known[0] & known[1]
            return (masked, masked), (requested, requested)
        left, right = self.common
        differs = np.zeros(self.before.shape, bool), np.zeros(self.after.shape, bool)
        for each in differs:
            each[left : len(each) - right] = True
        reported = all((each | ~cells).all() for each, cells in zip(known, differs, strict=True))
        return differs, (differs[0] & reported, differs[1] & reported)

    def flanks(self, tokenizer: Tokenizer[Any]) -> tuple[Cells, Cells]:
        """The cells to mask and, of them, those to ask about: what both have in common near where they differ."""
        left, right = self.common
        masked, requested = [], []
        for ids, units in ((self.before, self.units_before), (self.after, self.units_after)):
            near = np.zeros(ids.shape, bool)
            if left:
                near[:left] = units[:left, :, 0] >= units[:left, :, 1].max() - FLANK
            if right:
                near[-right:] = units[-right:, :, 1] <= units[-right:, :, 0].min() + FLANK
            requested.append(near & tokenizer.vocabulary.askable(ids))
            raw = RawUnits.of(units, tokenizer.fields)
            masked.append(raw.widened(near))
        return (masked[0], masked[1]), (requested[0], requested[1])

    @cached_property
    def common(self) -> tuple[int, int]:
        """How many positions they have in common at the beginning and at the end, wherever the change is placed.

        In a repeat one can place it here or there, so that some positions belong to either end: they count to neither.
        """
        n = min(len(self.before), len(self.after))
        tail = len(self.before) - n, len(self.after) - n
        begins = (self.before[:n] == self.after[:n]) & (self.units_before[:n] == self.units_after[:n]).all(axis=-1)
        moved = self.units_before[tail[0] :] + self.longer == self.units_after[tail[1] :]
        ends = (self.before[tail[0] :] == self.after[tail[1] :]) & moved.all(axis=-1)
        first = int(np.logical_and.accumulate(begins.all(axis=1)).sum())
        last = int(np.logical_and.accumulate(ends.all(axis=1)[::-1]).sum())
        return min(first, n - last), min(last, n - first)


def _within(units: Int[np.ndarray, "length fields 2"], start: int, stop: int) -> Bool[np.ndarray, "length fields"]:
    return np.asarray((units[..., 0] < stop) & (units[..., 1] > start))


def _chain(
    ids: Integer[np.ndarray, "length fields"],
    masked: Bool[np.ndarray, "length fields"],
    cells: Int[np.ndarray, "cells 2"],
    tokenizer: Tokenizer[Any],
) -> list[_Question]:
    """Every cell given those before it; the sum of the answers is the log-probability of all."""
    seen = tokenizer.vocabulary.masked(ids, masked)
    questions = []
    for position, field in cells.tolist():
        questions.append(_Question(seen.copy(), (position, field), int(ids[position, field])))
        seen[position, field] = ids[position, field]
    return questions


def _answered(predict: Predict, batch: Sequence[_Pair]) -> Iterator[VariantScore]:
    """One forward pass for all questions; those about sequences that look the same share it."""
    questions = [question for pair in batch for side in (pair.before, pair.after) for question in side]
    numbers: dict[tuple[tuple[int, ...], bytes], int] = {}
    which = [numbers.setdefault((q.ids.shape, q.ids.tobytes()), len(numbers)) for q in questions]
    seen: list[Integer[np.ndarray, "_ _"]] = [np.empty((0, 0), np.int64)] * len(numbers)
    cells: list[list[tuple[int, int]]] = [[] for _ in numbers]
    rows = []
    for question, number in zip(questions, which, strict=True):
        seen[number] = question.ids
        rows.append(len(cells[number]))
        cells[number].append(question.cell)
    answers = predict([Example(ids) for ids in seen], [np.array(each) for each in cells]) if questions else []
    found = (float(answers[n][row, q.value]) for q, n, row in zip(questions, which, rows, strict=True))
    for pair in batch:
        before, after = (sum(next(found) for _ in side) if side else math.nan for side in (pair.before, pair.after))
        yield VariantScore(pair.variant, before, after, pair.flanks, pair.reason)
