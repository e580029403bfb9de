"""What is hidden from the encoder: planned in raw units, then widened to every cell that would give them away.

A mask is a pure function of one piece and a Generator; batch, rank and worker do not exist here.

1. **Plan.** The *maskable* raw units are those that at least one scorable cell depends on. An objective chooses among
   them: exactly `max(1, round(ratio · n))`, each as likely as any other (`tokens`, `spans`), or regions (`infill`).
2. **Widen.** Every cell whose range meets a planned unit of its source is hidden. With overlapping k-mers one base
   hides k cells; in an event log one timestamp hides its gap, the next gap and its time of day. A tokenizer that puts
   several units in one cell (6-mers side by side) therefore hides a larger share of cells than of units when single
   units are drawn: use `spans`, or `mode="position"`, which plans whole cells.
3. **Replace.** Hidden cells become `[MASK]`, a random domain id of their field, or stay. Cells that share a planned
   unit draw together: were one kept and its neighbour masked, the first would tell what the second hides.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from jaxtyping import Bool, Integer

from maskseq.contract.own import found as own_part
from maskseq.contract.own import is_own
from maskseq.errors import UsageError
from maskseq.formats import most_alike
from maskseq.masking.units import RawUnits, distinct
from maskseq.types import Field

OBJECTIVES = ("tokens", "spans", "infill", "tail", "own", "causal")
"""What a segment is asked. `tail` is that of open prefixes (`open_prefixes.py`), `causal` that of causal segments
(`causal.py`); the others are mixed by weight."""
Mode = Literal["cell", "field", "position", "tail"]
Lengths = Literal["geometric", "fixed", "ngram"]
Region = Literal["prefix", "suffix", "middle", "several"]
Ratio = float | tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Replacement:
    """What the encoder sees where a cell is hidden, in shares that sum to 1. Default: always `[MASK]`."""

    mask: float = 1.0
    random: float = 0.0
    """A domain id of the same field, never a reserved one. Unknown cells stay `[MASK]`."""
    keep: float = 0.0
    per: Literal["cell", "span"] = "cell"
    """`span`: one draw for a run of neighbouring units (SpanBERT, arXiv 1907.10529), not for each."""

    def __post_init__(self) -> None:
        shares = (self.mask, self.random, self.keep)
        if not (min(shares) >= 0 and abs(sum(shares) - 1) < 1e-6):
            raise UsageError(
                f"replacement shares mask, random, keep = {shares} must be ≥ 0 and sum to 1", code="bad-option"
            )


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """Single units anywhere, as in BERT."""

    weight: float = 1.0
    replacement: Replacement = Replacement(mask=0.8, random=0.1, keep=0.1)


@dataclass(frozen=True, kw_only=True)
class Spans:
    """Runs of neighbouring units whose lengths sum to the budget exactly."""

    weight: float = 0.0
    lengths: Lengths = "geometric"
    """`ngram`: 1, 2 or 3 units with p(n) ∝ 1/n, as in Xiao et al. 2025; `mean_length` is not used then."""
    mean_length: float = 8.0
    """In raw units; in positions or fields where `mode` hides those whole."""
    grid: int = 0
    """Positions of a row where they stand row by row in a grid, such as an image: spans are rectangles then, of about
    `mean_length` positions. 0: they stand in a line."""
    replacement: Replacement = Replacement()

    def __post_init__(self) -> None:
        if self.grid < 0:
            raise UsageError(f"spans.grid = {self.grid} is the number of positions in a row, or 0", code="bad-option")
        if not 1 <= self.mean_length < float("inf") or (self.lengths == "fixed" and self.mean_length % 1):
            raise UsageError(
                f"spans.mean_length = {self.mean_length} must be ≥ 1, and whole for fixed lengths", code="bad-option"
            )


@dataclass(frozen=True, kw_only=True)
class Infill:
    """Target regions to be filled from their context, after Xiao et al. 2025 (BiGLM, `gebert_dataset.py`).

    A share r of the target is hidden, r uniform on (0, 1] so that whole regions occur, in n-grams of 1 to 3 units; and
    single units of the context, the fewer the more of the target is hidden.
    """

    weight: float = 0.0
    regions: tuple[Region, ...] = ("prefix", "suffix", "middle", "several")
    """Where the target lies: one is drawn for each piece. Regions are runs of positions."""
    max_regions: int = 4
    """`several` is 2 to this many regions."""
    target: tuple[float, float] = (0.2, 0.8)
    """Share of the positions that are target, drawn uniformly."""
    context: tuple[float, float] = (0.3, 0.1)
    """Share of the context that is hidden at r = 0 and at r = 1, linear between: 0.3 − 0.2 r."""
    replacement: Replacement = Replacement()

    def __post_init__(self) -> None:
        if not self.regions or self.max_regions < 2:
            raise UsageError("infill needs at least one kind of region, and max_regions ≥ 2", code="bad-option")
        if not (0 < self.target[0] <= self.target[1] <= 1 and 0 <= min(self.context) <= max(self.context) <= 1):
            raise UsageError(
                f"infill.target = {self.target} and infill.context = {self.context} must be shares (0 to 1)",
                code="bad-option",
            )


@dataclass(frozen=True, kw_only=True)
class Own:
    """An objective of the user's own."""

    name: str = ""
    """As `module:name`: (number of items, how many to mask, `numpy.random.Generator`) → which, Bool [items]. Items
    stand in the order of their positions; they are what `mode` masks together."""
    weight: float = 0.0
    replacement: Replacement = Replacement()

    def __post_init__(self) -> None:
        if bool(self.weight) != bool(self.name) or (self.name and not is_own(self.name)):
            raise UsageError(
                f"masking.own takes a name = 'module:name' and a weight, not {self.name!r}, {self.weight}",
                code="bad-option",
            )

    def choose(self, n: int, count: int, rng: np.random.Generator) -> Bool[np.ndarray, "items"]:
        """Which of `n` items to mask."""
        chosen = np.asarray(own_part("objective", self.name)(n, count, rng))
        if chosen.shape != (n,) or chosen.dtype != np.bool_:
            raise UsageError(
                f"objective {self.name!r} must answer with {n} truth values, not {chosen.dtype} {chosen.shape}",
                code="bad-option",
            )
        return chosen


@dataclass(frozen=True, kw_only=True)
class Tail:
    """What is masked of an open prefix (`packing.open`): its last positions, with all their fields."""

    most: int = 1
    """From 1 to this many, each number as likely. With more than 1, several masked positions tell that the sequence
    goes on for at least as long; the mark of the end can only be the last of them."""

    def __post_init__(self) -> None:
        if self.most < 1:
            raise UsageError(
                f"masking.tail.most = {self.most}: at least the last position is masked", code="bad-option"
            )


@dataclass(frozen=True, kw_only=True)
class MaskingConfig:
    """How pieces are masked: objectives mixed by weight, one ratio, and what is hidden together."""

    ratio: Ratio = 0.3
    """Share of the maskable units that `tokens` and `spans` hide; a pair: drawn uniformly for each piece."""
    schedule: Literal["constant", "linear", "step"] = "constant"
    """How `ratio` becomes `final_ratio`: linearly over training, or at once where the learning rate starts to decay."""
    final_ratio: Ratio | None = None
    mode: Mode | tuple[Mode, ...] = "cell"
    """What is hidden together. `cell`: one raw unit of one source. `position`: every unit that belongs to a position.
    `tail`: the last positions. `field`: a whole source; `infill` then plays on some sources, the others being visible.
    Several: one is drawn for each piece."""
    tokens: Tokens = field(default_factory=Tokens)
    spans: Spans = field(default_factory=Spans)
    infill: Infill = field(default_factory=Infill)
    own: Own = field(default_factory=Own)
    tail: Tail = field(default_factory=Tail)
    causal: float = 0.0
    """Share of the segments that are not open prefixes which look to the left only and are asked for every next
    position, by a head of their own; nothing of them is masked."""
    field_weights: dict[str, float] = field(default_factory=dict)
    """How much the loss weighs hidden cells of a field, by its name (others: 1). With 0 a field is hidden as ever and
    never asked for: it only informs about the others."""

    def __post_init__(self) -> None:
        for name, ratio in (("ratio", self.ratio), ("final_ratio", self.final_ratio)):
            low, high = _bounds(1.0 if ratio is None else ratio)
            if not 0 < low <= high <= 1:
                raise UsageError(
                    f"masking.{name} = {ratio} must lie above 0 and at most at 1, a pair in order", code="bad-option"
                )
        if (self.schedule == "constant") != (self.final_ratio is None):
            raise UsageError(
                f"masking.final_ratio = {self.final_ratio} does not fit schedule = {self.schedule!r}", code="bad-option"
            )
        if not (min(self.weights) >= 0 and 0 < sum(self.weights) < float("inf")):
            raise UsageError(
                f"masking: weights of tokens, spans, infill = {self.weights} must be ≥ 0, one above 0",
                code="bad-option",
            )
        if not 0 <= self.causal <= 1:
            raise UsageError(f"masking.causal = {self.causal} must be a share from 0 to 1", code="bad-option")
        for name, weight in self.field_weights.items():
            if not 0 <= weight < float("inf"):
                raise UsageError(
                    f"masking.field_weights: {name} = {weight} must be a number from 0 on", code="bad-option"
                )
        if not self.mode:
            raise UsageError("masking.mode is empty; name one of cell, field, position, tail", code="bad-option")

    @property
    def weights(self) -> tuple[float, ...]:
        return self.tokens.weight, self.spans.weight, self.infill.weight, 0.0, self.own.weight

    @property
    def without_own(self) -> "MaskingConfig":
        """As far as it needs no code of the user's, which was for training: how figures are made."""
        if not self.own.weight:
            return self
        others = self.tokens.weight + self.spans.weight + self.infill.weight
        return replace(self, own=Own(), tokens=self.tokens if others else replace(self.tokens, weight=1.0))

    def weights_of(self, names: Sequence[str]) -> list[float]:
        """The weights of the fields of these names; `UsageError` if there is no such field, or all weigh nothing."""
        unknown = sorted(set(self.field_weights) - set(names))
        if unknown:
            raise UsageError(
                f"masking.field_weights: there is no field {unknown[0]!r}\n\n"
                f"hint: the fields are {most_alike(unknown[0], names)}",
                code="unknown-name",
            )
        weights = [self.field_weights.get(name, 1.0) for name in names]
        if not any(weights):
            raise UsageError(
                "masking.field_weights: of the fields that are masked, one must weigh more than 0", code="bad-option"
            )
        return weights


def ratio_at(config: MaskingConfig, *, progress: float, in_decay: bool = False) -> tuple[float, float]:
    """The lowest and highest ratio at `progress` (0 … 1, in tokens) of training."""
    start, end = _bounds(config.ratio), _bounds(config.ratio if config.final_ratio is None else config.final_ratio)
    share = float(in_decay) if config.schedule == "step" else min(max(progress, 0.0), 1.0)
    return (1 - share) * start[0] + share * end[0], (1 - share) * start[1] + share * end[1]


@dataclass(frozen=True)
class SegmentMask:
    """What the encoder sees of a piece, and what it is asked."""

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
    """Hide part of a piece; at least one scorable cell wherever there is one.

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
    """The raw units to hide."""

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
    """Which items are hidden, and the share r of the target's."""
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
    """Hide exactly `n_hidden` items in runs, apart wherever there are enough visible items to keep them apart."""
    n_visible = n_items - n_masked
    if n_visible == 0:
        return np.ones(n_items, dtype=bool)
    lengths = _lengths(n_masked, n_visible, spans, rng)
    n = len(lengths)
    gaps = _parts(n_visible, n, rng) if n <= n_visible else _parts(n_visible + n, n, rng) - 1
    runs = np.empty(2 * n, dtype=np.int64)
    runs[0::2], runs[1::2] = lengths, gaps
    mask = np.repeat(np.arange(2 * n) % 2 == 0, runs)
    turn = rng.integers(n_items)  # else the first item is always hidden and the last never
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


def _bounds(ratio: Ratio) -> tuple[float, float]:
    return ratio if isinstance(ratio, tuple) else (ratio, ratio)
