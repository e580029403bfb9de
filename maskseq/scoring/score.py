"""How probable a sequence is to a masked model: cell by cell, or by the chain rule.

The two are not comparable. A *pseudo*-likelihood hides each cell in turn and sees the cells on both sides of it, so its
bits lie below the entropy that a compressor or an autoregressive model reaches. The chain rule counts every cell once.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Int, Integer

from maskseq.corpus.budget import reaching
from maskseq.errors import UsageError
from maskseq.masking.units import raw_units
from maskseq.predict.encoder import windows
from maskseq.predict.protocol import Example, Predict
from maskseq.tokenizer import Tokenizer, requested_fields
from maskseq.types import Encoded, Vocabulary


@dataclass(frozen=True)
class Score:
    """How surprising each cell of a record is, given the others."""

    key: str
    bits: Float[np.ndarray, "length fields"]
    """−log₂ of the probability of each known cell; NaN where there is nothing to score."""

    @property
    def n_cells(self) -> int:
        """How many cells have a score."""
        return int(np.count_nonzero(~np.isnan(self.bits)))

    @cached_property
    def mean_bits(self) -> float:
        """Per scored cell; NaN if there is none."""
        scored = self.bits[~np.isnan(self.bits)]
        return float(scored.mean()) if len(scored) else math.nan

    @cached_property
    def log_likelihood(self) -> float:
        """The pseudo-log-likelihood of the whole record, in nats."""
        return -float(np.nansum(self.bits, dtype=np.float64)) * math.log(2)


def score_records(
    predict: Predict,
    records: Iterable[tuple[str, Encoded]],
    *,
    tokenizer: Tokenizer[Any],
    context: int,
    stride: int | None = 8,
    mode: Literal["cell", "position"] = "cell",
    fields: Sequence[str] = (),
    batch_positions: int = 1 << 18,
) -> Iterator[Score]:
    """Score keys and encoded records as they come, those longer than the context in overlapping windows.

    `stride=None` is the definition: every cell is hidden alone, as many passes as cells. With `stride=k`, every k-th
    position is hidden in one pass, k passes for each field whatever the length; each cell then misses 1/k of its
    neighbours' evidence, so bits come out slightly higher, the less so the larger k. `mode="position"` hides all fields
    of a position together. Where cells share raw units (overlapping k-mers, gaps between timestamps), all that depend
    on a scored one are hidden with it, so that nothing gives it away. Only cells of `fields` are scored (none: of all).
    """
    if stride is not None and stride < 1:
        raise UsageError(f"stride is {stride}; it is a number of positions, at least 1")
    columns = requested_fields(tokenizer, fields)
    work = _passes(records, tokenizer, context, stride, mode, columns)
    for batch in reaching(work, _size, batch_positions):
        yield from _run(predict, batch)


def chain_log_probs(
    predict: Predict,
    sequences: Sequence[Integer[np.ndarray, "_ _"]],
    orders: Sequence[Int[np.ndarray, "_ 2"]],
    *,
    vocabulary: Vocabulary,
) -> list[Float[np.ndarray, " _"]]:
    """Log-probability of the values that stand in some cells of each sequence, one after the other, in that order.

    Each is given everything outside the cells and the cells before it; the sum is the log-probability of all together.
    All that the model is to see is known beforehand, so that it is asked once; what looks the same is asked once, too.
    """
    mask_ids = np.asarray(vocabulary.mask_ids)
    seen: list[Integer[np.ndarray, "_ _"]] = []
    requested: list[list[Int[np.ndarray, " 2"]]] = []
    place: dict[tuple[tuple[int, ...], bytes], int] = {}
    answers_of: list[list[tuple[int, int]]] = [[] for _ in sequences]
    for ids, order, mine in zip(sequences, orders, answers_of, strict=True):
        masked = ids.copy()
        masked[tuple(order.T)] = mask_ids[order[:, 1]]
        for cell in order:
            number = place.setdefault((masked.shape, masked.tobytes()), len(seen))
            if number == len(seen):
                seen.append(masked.copy())
                requested.append([])
            mine.append((number, len(requested[number])))
            requested[number].append(cell)
            masked[tuple(cell)] = ids[tuple(cell)]
    answers = predict([Example(ids) for ids in seen], [np.stack(cells) for cells in requested]) if seen else []
    return [
        np.array([float(answers[n][row, ids[tuple(cell)]]) for (n, row), cell in zip(mine, order, strict=True)])
        for ids, order, mine in zip(sequences, orders, answers_of, strict=True)
    ]


@dataclass
class _Scored:
    """A record, after its last pass."""

    key: str
    ids: Integer[np.ndarray, "length fields"]
    log_prob: Float[np.ndarray, "length fields"]


@dataclass(frozen=True)
class _Pass:
    """What the model sees of a window in one pass, and the cells that it is asked for."""

    of: _Scored
    example: Example
    cells: Int[np.ndarray, "cells 2"]


def _size(work: _Pass | _Scored) -> int:
    return len(work.example.ids) if isinstance(work, _Pass) else len(work.ids)


def _passes(
    records: Iterable[tuple[str, Encoded]],
    tokenizer: Tokenizer[Any],
    context: int,
    stride: int | None,
    mode: Literal["cell", "position"],
    columns: Bool[np.ndarray, " fields"],
) -> Iterator[_Pass | _Scored]:
    """Every pass of every record, each record itself after its passes."""
    for key, encoded in records:
        record = _Scored(key, encoded.ids, np.full(encoded.ids.shape, np.nan, np.float32))
        begin, encoded, wraps = _opened(encoded, context)
        for window, kept in windows(len(encoded), context):
            kept = slice(max(kept.start, wraps), min(kept.stop, len(encoded) - wraps))
            if kept.start >= kept.stop:
                continue
            segment = encoded.cut(window.start, window.stop)
            ids, units = segment.ids, raw_units(tokenizer, segment)
            wanted = tokenizer.vocabulary.askable(ids) & columns
            wanted[: kept.start - window.start] = False
            wanted[kept.stop - window.start :] = False
            for group in _groups(wanted, stride, mode):
                masked = units.widened(group)
                seen = tokenizer.vocabulary.masked(ids, masked)
                numbers = None if segment.numbers is None else np.where(masked, np.nan, segment.numbers)
                example = Example(seen, numbers, key, window.start + begin)
                yield _Pass(record, example, np.argwhere(group))
        yield record


def _opened(encoded: Encoded, context: int) -> tuple[int, Encoded, int]:
    """Where a sequence begins, the sequence, and how much of either end is there as context only.

    A circle that is longer than the context goes on, at either end, with what stands beyond its origin.
    """
    beyond = context // 4
    if not encoded.circular or len(encoded) <= context or not beyond:
        return 0, encoded, 0
    once = encoded.turned(-beyond % len(encoded))
    columns = [
        None if each is None else np.concatenate([each, each[: 2 * beyond]])
        for each in (once.ids, once.weights, once.units)
    ]
    ids, weights, units = columns
    assert ids is not None
    return -beyond, Encoded(ids, weights=weights, units=units), beyond


def _groups(
    wanted: Bool[np.ndarray, "length fields"], stride: int | None, mode: Literal["cell", "position"]
) -> Iterator[Bool[np.ndarray, "length fields"]]:
    """Divide the wanted cells into those of one pass each."""
    length, n_fields = wanted.shape
    together = [slice(0, n_fields)] if mode == "position" else [slice(f, f + 1) for f in range(n_fields)]
    step = min(stride or length, length)
    for offset in range(step):
        for columns in together:
            group = np.zeros_like(wanted)
            group[offset::step, columns] = wanted[offset::step, columns]
            if group.any():
                yield group


def _run(predict: Predict, batch: list[_Pass | _Scored]) -> Iterator[Score]:
    passes = [work for work in batch if isinstance(work, _Pass)]
    answers = iter(predict([each.example for each in passes], [each.cells for each in passes]) if passes else [])
    for work in batch:
        if isinstance(work, _Scored):
            yield Score(work.key, work.log_prob / np.float32(-math.log(2)))
            continue
        at = (work.cells[:, 0] + work.example.start) % len(work.of.ids), work.cells[:, 1]
        work.of.log_prob[at] = next(answers)[np.arange(len(work.cells)), work.of.ids[at]]
