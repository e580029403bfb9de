"""How much likelier a sequence becomes by a change: log-likelihood ratios of variants."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Int, Integer

from maskseq.fence import encode
from maskseq.inference.fill import Predict
from maskseq.tokenizer import Tokenizer
from maskseq.units import RawUnits
from maskseq.variants import ListedVariant, Stretch

FLANK = 16
"""Raw units on either side of a change of length that are scored with it."""


@dataclass(frozen=True)
class VariantScore:
    """What a model makes of a variant."""

    variant: ListedVariant[Any]
    before: float
    """Log-likelihood of what is there, in nats."""
    after: float
    """That of what the variant puts there."""

    @property
    def log_ratio(self) -> float:
        """Above 0: likelier with the change. NaN where there is nothing to score."""
        return self.after - self.before


def score_variants(
    predict: Predict,
    variants: Iterable[tuple[ListedVariant[Any], Stretch | None]],
    *,
    tokenizer: Tokenizer[Any],
    batch_positions: int = 1 << 18,
) -> Iterator[VariantScore]:
    """Score variants, each given with the stretch around it (`maskseq.variants.stretches`), as they come.

    Where the change leaves every other unit in its place, its cells are hidden and revealed one after the other: the
    ratio is that of P(after) and P(before) given all the others (of one cell, the masked marginal of Meier et al. 2021,
    doi:10.1101/2021.07.09.450648). Elsewhere no cell of the one is a cell of the other, and what is compared are the
    pseudo-log-likelihoods of the change and `FLANK` units around it, every cell hidden alone (Brandes et al. 2023,
    doi:10.1038/s41588-023-01465-0). Longer sequences have more cells to pay for there: compare like with like.
    """
    batch: list[tuple[ListedVariant[Any], list[_Question], list[_Question]]] = []
    room = batch_positions
    for variant, stretch in variants:
        before, after = ([], []) if stretch is None else _questions(stretch, tokenizer)
        batch.append((variant, before, after))
        room -= sum(len(question.ids) for question in (*before, *after))
        if room <= 0:
            yield from _answered(predict, batch)
            batch, room = [], batch_positions
    yield from _answered(predict, batch)


@dataclass(frozen=True)
class _Question:
    """How probable is this value in this cell of a sequence?"""

    ids: Integer[np.ndarray, "length fields"]
    cell: tuple[int, int]
    value: int


def _questions(stretch: Stretch, tokenizer: Tokenizer[Any]) -> tuple[list[_Question], list[_Question]]:
    """What is asked of the stretch before and after the change."""
    before, after = (encode(tokenizer, record).ids for record in (stretch.before, stretch.after))
    units = [tokenizer.units(ids) for ids in (before, after)]
    known = tokenizer.vocabulary.known
    if np.array_equal(units[0], units[1]):
        hidden = _within(units[0], *stretch.changed)
        asked = np.argwhere(hidden & known(before) & known(after))
        return _chain(before, hidden, asked, tokenizer), _chain(after, hidden, asked, tokenizer)
    (start, stop), longer = stretch.changed, len(stretch.after) - len(stretch.before)
    around = [_within(each, start - FLANK, end + FLANK) for each, end in zip(units, (stop, stop + longer), strict=True)]
    return _alone(before, around[0] & known(before), tokenizer), _alone(after, around[1] & known(after), tokenizer)


def _within(units: Int[np.ndarray, "length fields 2"], start: int, stop: int) -> Bool[np.ndarray, "length fields"]:
    return np.asarray((units[..., 0] < stop) & (units[..., 1] > start))


def _chain(
    ids: Integer[np.ndarray, "length fields"],
    hidden: Bool[np.ndarray, "length fields"],
    cells: Int[np.ndarray, "cells 2"],
    tokenizer: Tokenizer[Any],
) -> list[_Question]:
    """Every cell given those before it; the sum of the answers is the log-probability of all."""
    seen = np.where(hidden, np.asarray(tokenizer.vocabulary.mask_ids, dtype=ids.dtype), ids)
    questions = []
    for position, field in cells.tolist():
        questions.append(_Question(seen.copy(), (position, field), int(ids[position, field])))
        seen[position, field] = ids[position, field]
    return questions


def _alone(
    ids: Integer[np.ndarray, "length fields"], cells: Bool[np.ndarray, "length fields"], tokenizer: Tokenizer[Any]
) -> list[_Question]:
    """Every cell hidden alone, with those that would give it away."""
    masks = np.asarray(tokenizer.vocabulary.mask_ids, dtype=ids.dtype)
    raw = RawUnits.of(tokenizer.units(ids), tokenizer.fields)
    questions = []
    for position, field in np.argwhere(cells).tolist():
        only = np.zeros(ids.shape, bool)
        only[position, field] = True
        seen = np.where(raw.cells(raw.units(only)), masks, ids)
        questions.append(_Question(seen, (position, field), int(ids[position, field])))
    return questions


def _answered(
    predict: Predict, batch: Sequence[tuple[ListedVariant[Any], list[_Question], list[_Question]]]
) -> Iterator[VariantScore]:
    """One forward pass for all questions; those about sequences that look the same share it."""
    questions = [question for _, *sides in batch for side in sides for question in side]
    numbers: dict[tuple[tuple[int, ...], bytes], int] = {}
    which = [numbers.setdefault((q.ids.shape, q.ids.tobytes()), len(numbers)) for q in questions]
    seen: list[Integer[np.ndarray, "_ _"]] = [np.empty((0, 0), np.int64)] * len(numbers)
    cells: list[list[tuple[int, int]]] = [[] for _ in numbers]
    rows = []
    for question, number in zip(questions, which, strict=True):
        seen[number] = question.ids
        rows.append(len(cells[number]))
        cells[number].append(question.cell)
    answers = predict(seen, [np.array(each) for each in cells]) if questions else []
    found = (float(answers[n][row, q.value]) for q, n, row in zip(questions, which, rows, strict=True))
    for variant, before, after in batch:
        told = [[next(found) for _ in side] for side in (before, after)]
        yield VariantScore(variant, *(sum(each) if each else math.nan for each in told))
