"""How cells are masked: objectives and their weights, ratios, what is masked together, and what stands in its place."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from jaxtyping import Bool

from maskseq.contract.own import found as own_part
from maskseq.contract.own import is_own
from maskseq.errors import UsageError
from maskseq.formats import most_alike

OBJECTIVES = ("tokens", "spans", "infill", "tail", "own", "causal")
"""What a segment is asked. `tail` is that of open prefixes (`open_prefixes.py`), `causal` that of causal segments
(`causal.py`); the others are mixed by weight."""
Mode = Literal["cell", "field", "position", "tail"]
Lengths = Literal["geometric", "fixed", "ngram"]
Region = Literal["prefix", "suffix", "middle", "several"]
Ratio = float | tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Replacement:
    """What the encoder sees where a cell is masked, in shares that sum to 1. Default: always `[MASK]`."""

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

    A share r of the target is masked, r uniform on (0, 1] so that whole regions occur, in n-grams of 1 to 3 units; and
    single units of the context, the fewer the more of the target is masked.
    """

    weight: float = 0.0
    regions: tuple[Region, ...] = ("prefix", "suffix", "middle", "several")
    """Where the target lies: one is drawn for each segment. Regions are runs of positions."""
    max_regions: int = 4
    """`several` is 2 to this many regions."""
    target: tuple[float, float] = (0.2, 0.8)
    """Share of the positions that are target, drawn uniformly."""
    context: tuple[float, float] = (0.3, 0.1)
    """Share of the context that is masked at r = 0 and at r = 1, linear between: 0.3 − 0.2 r."""
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
    """From 1 to this many, each number as likely. With more than 1, several masked positions imply that the sequence
    goes on for at least as long; the mark of the end can only be the last of them."""

    def __post_init__(self) -> None:
        if self.most < 1:
            raise UsageError(
                f"masking.tail.most = {self.most}: at least the last position is masked", code="bad-option"
            )


@dataclass(frozen=True, kw_only=True)
class MaskingConfig:
    """How segments are masked: objectives mixed by weight, one ratio, and what is masked together."""

    ratio: Ratio = 0.3
    """Share of the maskable units that `tokens` and `spans` hide; a pair: drawn uniformly for each segment."""
    schedule: Literal["constant", "linear", "step"] = "constant"
    """How `ratio` becomes `final_ratio`: linearly over training, or at once where the learning rate starts to decay."""
    final_ratio: Ratio | None = None
    mode: Mode | tuple[Mode, ...] = "cell"
    """What is masked together. `cell`: one raw unit of one source. `position`: every unit that belongs to a position.
    `tail`: the last positions. `field`: a whole source; `infill` then plays on some sources, the others being visible.
    Several: one is drawn for each segment."""
    tokens: Tokens = field(default_factory=Tokens)
    spans: Spans = field(default_factory=Spans)
    infill: Infill = field(default_factory=Infill)
    own: Own = field(default_factory=Own)
    tail: Tail = field(default_factory=Tail)
    causal: float = 0.0
    """Share of the segments that are not open prefixes which look to the left only and are asked for every next
    position, by a head of their own; nothing of them is masked."""
    field_weights: dict[str, float] = field(default_factory=dict)
    """How much the loss weighs masked cells of a field, by its name (others: 1). 0: still masked, contributes no
    loss, serves as context."""

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


def _bounds(ratio: Ratio) -> tuple[float, float]:
    return ratio if isinstance(ratio, tuple) else (ratio, ratio)
