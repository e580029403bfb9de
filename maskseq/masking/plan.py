"""What is masked: planned in raw units, then widened to every cell that would give them away.

A mask is a pure function of one segment and a Generator; batch, rank and worker do not exist here.

1. **Plan.** The *maskable* raw units are those that at least one scorable cell depends on. An objective chooses among
   them: exactly `max(1, round(ratio · n))`, each as likely as any other (`tokens`, `spans`), or regions (`infill`).
2. **Widen.** Every cell whose range meets a planned unit of its source is masked. With overlapping k-mers one base
   hides k cells; in an event log one timestamp hides its gap, the next gap and its time of day. A tokenizer that puts
   several units in one cell (6-mers side by side) therefore hides a larger share of cells than of units when single
   units are drawn: use `spans`, or `mode="position"`, which plans whole cells.
3. **Replace.** Masked cells become `[MASK]`, a random domain id of their field, or stay. Cells that share a planned
   unit draw together: were one kept and its neighbour masked, the first would reveal the second.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Integer

from maskseq.masking.config import OBJECTIVES, Infill, MaskingConfig, Replacement, Spans, ratio_at
from maskseq.masking.units import RawUnits, distinct
from maskseq.types import Field


@dataclass(frozen=True)
class SegmentMask:
    """What the encoder sees of a segment, and what it is asked."""

    masked: Bool[np.ndarray, "length fields"]
    """Every cell that meets a planned unit. Scored are those of them that are scorable."""
    inputs: Integer[np.ndarray, "length fields"]
    objective: int
    """Index into `OBJECTIVES`."""
    ratio: float
    """Share that was planned: of all maskable units (positions, sources), or of those in the target of `infill`."""
    target: Bool[np.ndarray, "length"]
    """Positions in the target regions of `infill`, or masked by `tail`; all others are context. False everywhere for
    other objectives."""


def mask_segment(
    ids: Integer[np.ndarray, "length fields"],
    units: Integer[np.ndarray, "length fields 2"],
    scorable: Bool[np.ndarray, "length fields"],
    fields: Sequence[Field],
    config: MaskingConfig,
    *,
    rng: np.random.Generator,
    progress: float = 0.0,
    in_decay: bool = False,
) -> SegmentMask:
    """Mask part of a segment; at least one scorable cell wherever there is one.

    `units` are the tokenizer's (half-open ranges in coordinates of each field's source); `scorable` cells are known
    and have a weight above 0. `progress` and `in_decay` matter to ratio schedules only.
    """
    raw = RawUnits.of(units, fields)
    plan = plan_mask(raw, scorable, config, rng=rng, progress=progress, in_decay=in_decay)
    masked = raw.cells(plan.units)
    replacements = [each.replacement for each in (config.tokens, config.spans, config.infill)]
    replacement = [*replacements, Replacement(), config.own.replacement][plan.objective]
    inputs = _replace(ids, masked, plan.units, raw, fields, replacement, rng)
    return SegmentMask(masked, inputs, plan.objective, plan.ratio, plan.target)


@dataclass(frozen=True)
class MaskedUnits:
    """The raw units to mask."""

    units: Bool[np.ndarray, "line"]
    objective: int
    ratio: float
    target: Bool[np.ndarray, "length"]


def plan_mask(
    raw: RawUnits,
    scorable: Bool[np.ndarray, "length fields"],
    config: MaskingConfig,
    *,
    rng: np.random.Generator,
    progress: float = 0.0,
    in_decay: bool = False,
) -> MaskedUnits:
    """Choose raw units. *Items* are what is chosen together: units, positions or sources with a maskable unit."""
    objective = _draw(config.weights, rng)
    mode = config.mode if isinstance(config.mode, str) else config.mode[rng.integers(len(config.mode))]
    low, high = ratio_at(config, progress=progress, in_decay=in_decay)
    ratio = low + (high - low) * rng.random()
    maskable = raw.units(scorable)
    target = np.zeros(len(scorable), dtype=bool)
    if not np.count_nonzero(maskable):
        return MaskedUnits(maskable, objective, 0.0, target)

    infill = OBJECTIVES[objective] == "infill"
    if infill and mode == "field":
        maskable, mode = maskable & _some_sources(raw, maskable, ratio, rng), "cell"
    item_of = None if mode == "cell" else raw.source if mode == "field" else raw.owner  # None: each unit is an item
    items = np.flatnonzero(maskable) if item_of is None else distinct(item_of[maskable])
    count = _budget(ratio, len(items))
    if infill:
        position = raw.owner[items] if item_of is None else items
        target = _target(position, len(scorable), config.infill, rng, tail=mode == "tail")
        chosen, ratio = _infill(target[position], config.infill, rng)
    else:
        ratio = count / len(items)
        if mode == "tail":
            chosen = np.arange(len(items)) >= len(items) - count
        elif OBJECTIVES[objective] == "spans" and config.spans.grid:
            chosen = _rectangles(raw.owner[items] if item_of is None else items, count, config.spans, rng)
        elif OBJECTIVES[objective] == "spans":
            chosen = _runs(len(items), count, config.spans, rng)
        elif OBJECTIVES[objective] == "own":
            chosen = config.own.choose(len(items), count, rng)
            ratio = float(chosen.mean())
        else:
            chosen = _pick(len(items), count, rng)
    if item_of is None:
        units = np.zeros(len(maskable), dtype=bool)
        units[items[chosen]] = True
    else:
        whole = np.zeros(int(item_of.max()) + 1, dtype=bool)
        whole[items[chosen]] = True
        units = whole[item_of] & raw.units(np.ones_like(scorable))
    return MaskedUnits(units, objective, ratio, target)


def _infill(
    in_target: Bool[np.ndarray, "items"], config: Infill, rng: np.random.Generator
) -> tuple[Bool[np.ndarray, "items"], float]:
    """Which items are masked, and the share r of the target's."""
    chosen = np.zeros(len(in_target), dtype=bool)
    n_target = int(in_target.sum())
    n_context = len(in_target) - n_target
    n_masked = int(rng.integers(1, n_target + 1))  # r = n_hidden / n_target, uniform and 1 included
    ratio = n_masked / n_target
    at_zero, at_one = config.context
    chosen[in_target] = _runs(n_target, n_masked, Spans(lengths="ngram"), rng)
    chosen[~in_target] = _pick(n_context, round((at_zero + (at_one - at_zero) * ratio) * n_context), rng)
    return chosen, ratio


def _target(
    position: Integer[np.ndarray, "items"], length: int, config: Infill, rng: np.random.Generator, *, tail: bool
) -> Bool[np.ndarray, "length"]:
    """Cut the positions that have items into target and context; the others go with the one before."""
    positions = distinct(position)
    n = len(positions)
    low, high = config.target
    n_target = min(max(round((low + (high - low) * rng.random()) * n), 1), max(n - 1, 1))
    region = "suffix" if tail else config.regions[rng.integers(len(config.regions))]
    wanted = {"middle": 1, "several": int(rng.integers(2, config.max_regions + 1))}.get(region, 0)
    n_regions = min(wanted, n_target, n - n_target - 1)  # each has context on both sides
    if n_regions < 1:
        inside = np.arange(n) < n_target if region == "prefix" else np.arange(n) >= n - n_target
    else:
        runs = np.empty(2 * n_regions + 1, dtype=np.int64)
        runs[0::2] = _parts(n - n_target, n_regions + 1, rng)
        runs[1::2] = _parts(n_target, n_regions, rng)
        inside = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return inside[np.maximum(np.searchsorted(positions, np.arange(length), side="right") - 1, 0)]


def _runs(n_items: int, n_masked: int, spans: Spans, rng: np.random.Generator) -> Bool[np.ndarray, "items"]:
    """Mask exactly `n_hidden` items in runs, apart wherever there are enough visible items to keep them apart."""
    n_visible = n_items - n_masked
    if n_visible == 0:
        return np.ones(n_items, dtype=bool)
    lengths = _lengths(n_masked, n_visible, spans, rng)
    n = len(lengths)
    gaps = _parts(n_visible, n, rng) if n <= n_visible else _parts(n_visible + n, n, rng) - 1
    runs = np.empty(2 * n, dtype=np.int64)
    runs[0::2], runs[1::2] = lengths, gaps
    mask = np.repeat(np.arange(2 * n) % 2 == 0, runs)
    turn = rng.integers(n_items)  # else the first item is always masked and the last never
    return np.concatenate([mask[turn:], mask[:turn]])


def _rectangles(
    position: Integer[np.ndarray, "items"], n_masked: int, spans: Spans, rng: np.random.Generator
) -> Bool[np.ndarray, "items"]:
    """Exactly `n_masked` items, in rectangles of a grid; the last one may be cut short."""
    row, column = np.divmod(position, spans.grid)
    chosen, side = np.zeros(len(position), dtype=bool), np.sqrt(spans.mean_length)
    while (left := n_masked - np.count_nonzero(chosen)) > 0:
        height, width = (int(each) for each in rng.geometric(1 / side, size=2))
        # beyond the edges as well: else what stands there is masked less often
        top = rng.integers(int(row.min()) - height + 1, int(row.max()) + 1)
        first = rng.integers(1 - width, spans.grid)
        inside = (row >= top) & (row < top + height) & (column >= first) & (column < first + width)
        chosen[np.flatnonzero(inside & ~chosen)[:left]] = True
    return chosen


def _lengths(total: int, n_visible: int, spans: Spans, rng: np.random.Generator) -> Integer[np.ndarray, "spans"]:
    """Span lengths that sum to `total`; the last of fixed ones and of n-grams may be cut short."""
    if spans.lengths == "geometric":  # geometric lengths, given their sum and number, are a uniform composition
        return _parts(total, min(max(round(total / spans.mean_length), 1), n_visible), rng)
    if spans.lengths == "fixed":
        lengths = np.full(-(-total // int(spans.mean_length)), int(spans.mean_length))
    else:
        draw = rng.random(total)
        lengths = 1 + (draw >= 6 / 11) + (draw >= 9 / 11)  # p = 6/11, 3/11, 2/11
        lengths = lengths[: np.searchsorted(np.cumsum(lengths), total) + 1]
    lengths[-1] -= lengths.sum() - total
    return lengths


def _replace(
    ids: Integer[np.ndarray, "length fields"],
    masked: Bool[np.ndarray, "length fields"],
    units: Bool[np.ndarray, "line"],
    raw: RawUnits,
    fields: Sequence[Field],
    replacement: Replacement,
    rng: np.random.Generator,
) -> Integer[np.ndarray, "length fields"]:
    mask_ids = np.array([each.mask_id for each in fields], dtype=ids.dtype)
    inputs = np.where(masked, mask_ids, ids)
    if replacement.mask == 1 or not masked.any():
        return inputs
    group = raw.tied(masked, units, runs=replacement.per == "span")
    draw = rng.random(int(group.max()) + 1)[group]
    column = np.nonzero(masked)[1]
    truth, mask_id = ids[masked], mask_ids[column]
    keep = draw < replacement.keep
    swap = (draw < replacement.keep + replacement.random) & ~keep & (truth != mask_id)  # unknown cells stay [MASK]
    seen = np.where(keep, truth, mask_id)
    n_tokens = np.array([each.n_tokens for each in fields])[column[swap]]
    seen[swap] = rng.random(len(n_tokens)) * n_tokens  # cut to integers; four times as fast as integers(n_tokens)
    inputs[masked] = seen
    return inputs


def _some_sources(
    raw: RawUnits, maskable: Bool[np.ndarray, "line"], ratio: float, rng: np.random.Generator
) -> Bool[np.ndarray, "line"]:
    """The units of a share of the sources that have maskable ones."""
    present = distinct(raw.source[maskable])
    return np.isin(raw.source, present[_pick(len(present), _budget(ratio, len(present)), rng)])


def _budget(ratio: float, n: int) -> int:
    return min(max(round(ratio * n), 1), n)


def _pick(n: int, k: int, rng: np.random.Generator) -> Bool[np.ndarray, "n"]:
    """Exactly `k` of `n`, every subset equally likely."""
    mask = np.zeros(n, dtype=bool)
    if k:
        mask[np.argpartition(rng.random(n), k - 1)[:k]] = True
    return mask


def _parts(total: int, n: int, rng: np.random.Generator) -> Integer[np.ndarray, "n"]:
    """Split `total` into `n` parts ≥ 1, every composition equally likely."""
    edges = np.empty(n + 1, dtype=np.int64)
    edges[0], edges[-1] = 0, total
    edges[1:-1] = np.flatnonzero(_pick(total - 1, n - 1, rng)) + 1
    return edges[1:] - edges[:-1]


def _draw(weights: Sequence[float], rng: np.random.Generator) -> int:
    """An index with probability proportional to its weight; one of weight 0 never."""
    point = rng.random() * sum(weights)
    for index, weight in enumerate(weights):
        if point < weight:
            return index
        point -= weight
    return max(index for index, weight in enumerate(weights) if weight)  # rounding
