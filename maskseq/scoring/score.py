"""How probable a sequence is to a masked model: cell by cell, or by the chain rule.

The two are not comparable. A *pseudo*-likelihood hides each cell in turn and sees the cells on both sides of it, so its
bits lie below the entropy that a compressor or an autoregressive model reaches. The chain rule counts every cell once.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Int, Integer

from maskseq.corpus.budget import reaching
from maskseq.errors import UsageError
from maskseq.formats import most_alike
from maskseq.infill.journal import Journal
from maskseq.masking.units import raw_units
from maskseq.predict.encoder import windows
from maskseq.predict.protocol import Example, Predict, answers_of
from maskseq.predict.stated import Stated
from maskseq.tokenizer import Tokenizer
from maskseq.types import Encoded, Progress, Vocabulary

NOBODY: Mapping[str, Predict] = MappingProxyType({})
SAME = 1e-6
"""Nats within which two values count as equally likely."""
TINY = 2.0**-64
"""The least probability that counts as more than 0."""


@dataclass(frozen=True)
class Score:
    """How surprising each cell of a record is, given the others."""

    key: str
    bits: Float[np.ndarray, "length fields"]
    """−log₂ of the probability of each known cell; NaN where there is nothing to score."""
    ids: Integer[np.ndarray, "length fields"] | None = None
    """The record."""
    tails: Mapping[str, Float[np.ndarray, "length fields"]] = field(default_factory=dict)
    """By each predictor that was asked, the scored one being "": −log₂ of the probability of a value that is no
    likelier than the one that is there. Unlike bits, these do not grow with the number of values that are possible."""

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
    others: Mapping[str, Predict] = NOBODY,
    journal: Journal | None = None,
    on_progress: Progress = lambda done, of: None,
) -> Iterator[Score]:
    """Score keys and encoded records as they come, those longer than the context in overlapping windows.

    `stride=None` is the definition: every cell is masked alone, as many passes as cells. With `stride=k`, every k-th
    position is masked in one pass, k passes for each field whatever the length; each cell then misses 1/k of its
    neighbours' evidence, so bits come out slightly higher, the less so the larger k. `mode="position"` hides all fields
    of a position together. Where cells share raw units (overlapping k-mers, gaps between timestamps), all that depend
    on a scored one are masked with it, so that nothing gives it away. Only cells of `fields` are scored (none: of all).
    `others` are asked the same, for the `tails` of a score only. What a `journal` has on record is not asked again.
    Progress is that of positions.
    """
    if stride is not None and stride < 1:
        raise UsageError(f"stride is {stride}; it is a number of positions, at least 1", code="bad-option")
    columns = requested_fields(tokenizer, fields)
    work = _passes(records, tokenizer, context, stride, mode, columns)
    done = 0.0
    for batch in reaching(work, _size, batch_positions):
        yield from _run({"": predict, **others}, batch, journal)
        done += sum(each.share for each in batch if isinstance(each, _Pass))
        on_progress(round(done), None)


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
    bits: Float[np.ndarray, "length fields"]
    tails: dict[str, Float[np.ndarray, "length fields"]]
    numbers: Float[np.ndarray, "length fields"] | None
    """As they were read, where that is known."""


@dataclass(frozen=True)
class _Pass:
    """What the model sees of a window in one pass, and the cells that it is asked for."""

    of: _Scored
    example: Example
    cells: Int[np.ndarray, "cells 2"]
    share: float
    """Positions that one pass of so many has scored."""

    @property
    def at(self) -> tuple[Int[np.ndarray, " cells"], Int[np.ndarray, " cells"]]:
        """The cells as positions of the record, and fields."""
        return (self.cells[:, 0] + self.example.start) % len(self.of.ids), self.cells[:, 1]


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
        record = _Scored(key, encoded.ids, np.full(encoded.ids.shape, np.nan, np.float32), {}, encoded.numbers)
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
            groups = list(_groups(wanted, stride, mode))
            for group in groups:
                masked = units.widened(group)
                seen = tokenizer.vocabulary.masked(ids, masked)
                numbers = None if segment.numbers is None else np.where(masked, np.nan, segment.numbers)
                example = Example(seen, numbers, key, window.start + begin)
                yield _Pass(record, example, np.argwhere(group), (kept.stop - kept.start) / len(groups))
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


def _run(predictors: Mapping[str, Predict], batch: list[_Pass | _Scored], journal: Journal | None) -> Iterator[Score]:
    passes = [work for work in batch if isinstance(work, _Pass)]
    ends = np.cumsum([len(each.cells) for each in passes])[:-1]
    for name, predict in predictors.items() if passes else ():
        ask = partial(_asked, predict, passes)
        found = ask() if journal is None else journal.arrays(_inputs(name, passes), ask)
        for each, bits, tails in zip(passes, *(np.split(found[what], ends) for what in ("bits", "tails")), strict=True):
            record, at = each.of, each.at
            if not name:
                record.bits[at] = bits
            record.tails.setdefault(name, np.full(record.ids.shape, np.nan, np.float32))[at] = tails
    for work in batch:
        if isinstance(work, _Scored):
            yield Score(work.key, work.bits, work.ids, work.tails)


def _asked(predict: Predict, passes: Sequence[_Pass]) -> dict[str, np.ndarray]:
    """Bits and tails of the cells of all passes, one after the other."""
    examples, cells = [each.example for each in passes], [each.cells for each in passes]
    every: list[np.ndarray] = []
    far: list[np.ndarray] = []
    for each, answer, stated in zip(passes, *answers_of(predict, examples, cells), strict=True):
        record, at = each.of, each.at
        found = np.asarray(answer)[np.arange(len(each.cells)), record.ids[at]]
        tails = _tails(np.asarray(answer), found)
        if stated is not None and record.numbers is not None:
            numbers = record.numbers[at]
            tails = np.where(np.isnan(numbers), tails, _beyond(stated, numbers))
        every.append((found / np.float32(-math.log(2))).astype(np.float32))
        far.append(tails.astype(np.float32))
    return {"bits": np.concatenate(every), "tails": np.concatenate(far)}


def _inputs(name: str, passes: Sequence[_Pass]) -> list[np.ndarray | None]:
    """All that decides what a predictor says of a batch."""
    inputs: list[np.ndarray | None] = [np.array([name])]
    for each in passes:
        example, numbers = each.example, each.of.numbers
        inputs += [np.array([example.key, str(example.start)]), example.ids, example.numbers, each.cells]
        inputs += [each.of.ids[each.at], None if numbers is None else numbers[each.at]]
    return inputs


def _tails(answer: Float[np.ndarray, "cells ids"], found: Float[np.ndarray, " cells"]) -> Float[np.ndarray, " cells"]:
    """−log₂ of the probability of all values that are at most as likely as the one found."""
    rarer = np.where(answer <= found[:, None] + SAME, np.exp(np.asarray(answer, np.float64)), 0).sum(axis=1)
    return np.asarray(np.maximum(-np.log2(np.maximum(rarer, TINY)), 0))


def _beyond(stated: Stated, numbers: Float[np.ndarray, " cells"]) -> Float[np.ndarray, " cells"]:
    """−log₂ of the probability of a number as far out: not bound to the bins, so that no outlier is the largest."""
    import torch  # as in `maskseq.predict.stated`

    scores = torch.from_numpy(np.abs(stated.scores(numbers[:, None])[:, 0]))
    return np.asarray(-(torch.special.log_ndtr(-scores) / math.log(2) + 1))


def requested_fields(tokenizer: Tokenizer[Any], names: Sequence[str]) -> Bool[np.ndarray, " fields"]:
    """Which fields have one of these names; all of them where none is named."""
    known = [field.name for field in tokenizer.fields]
    for name in names:
        if name not in known:
            raise UsageError(
                f"there is no field {name!r}\n\nhint: the fields are {most_alike(name, known)}", code="unknown-name"
            )
    return np.array([not names or name in names for name in known])
