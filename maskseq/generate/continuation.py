"""How a sequence that is not over goes on: samples and distributions, from any predictor, with the infill sampler.

Positions are appended without anything known of them and filled, a block at a time. Where sequences end with a mark, a
block is one position: first its field with the mark is drawn, then, if that is not the end, the others, under what the
tokenizer allows where something happens. Later blocks see what the sample has put into earlier ones.

Predictors that look at nothing behind a cell are asked position by position as well, and field by field.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Integer

from maskseq.errors import UsageError, check_seed
from maskseq.infill.order import OrderName
from maskseq.infill.sampler import infill
from maskseq.infill.sampler_state import InfillConfig
from maskseq.infill.window_plan import key_number
from maskseq.predict.posterior import Posterior, posterior
from maskseq.predict.protocol import Example, Fill, Predict, in_order
from maskseq.tokenizer import Tokenizer
from maskseq.types import END, Encoded

CELLS = 1 << 16
"""Cells that are drawn together, about: what bounds memory."""


@dataclass(frozen=True, kw_only=True)
class GenerateConfig:
    """How sequences are continued."""

    steps: int = 1
    """Positions, at most; fewer where a sample ends."""
    samples: int = 1
    block: int = 1
    """Positions that are filled together, at most: see `one_by_one`."""
    temperature: float = 1.0
    gamma: float = 0.1
    """Nats of dependence between cells that one pass may ignore, as in infill; 0 draws one cell at a time."""
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.steps, self.samples, self.block) < 1:
            raise UsageError(
                f"{self.steps} steps, {self.samples} samples: there must be 1 or more of both", code="bad-option"
            )
        check_seed(self.seed)


@dataclass(frozen=True)
class Continuation:
    """What comes after one sequence."""

    ids: Integer[np.ndarray, "samples steps fields"]
    """What was drawn; `[MASK]` from the end on."""
    length: Int[np.ndarray, " samples"]
    """Positions that were drawn before the mark of the end."""
    ended: Bool[np.ndarray, " samples"]
    """False where the bound was reached before the end."""
    running: Int[np.ndarray, " steps"]
    """Samples that had not ended before each step."""
    marginals: Float[np.ndarray, "steps fields outputs"]
    """Distribution at each step given that it is reached: the mean over samples, each given its own earlier blocks.
    0 where a value was known beforehand, such as a fact of the whole case."""
    outside: Float[np.ndarray, "steps fields"]
    """The probability of a value outside the vocabulary."""

    def posterior(self, field: int, centres: tuple[float, ...]) -> Posterior:
        """Means, medians and intervals of an ordinal field, a row a step, given that there is a number."""
        return posterior(self.marginals[:, field], centres)

    def sums(self, field: int, centres: tuple[float, ...]) -> Float[np.ndarray, " samples"]:
        """The sum of an ordinal field in each sample: of gaps, the time until the end."""
        values = np.append(np.asarray(centres, np.float64), 0.0)
        return np.asarray(values[np.minimum(self.ids[:, :, field], len(centres))].sum(axis=1))


def one_by_one(predict: Predict, tokenizer: Tokenizer[Any]) -> bool:
    """Whether each position is drawn before the next: it may be the end, or must be known to ask for the next."""
    return in_order(predict) or any(END in field.controls for field in tokenizer.fields)


def continuations(
    predict: Predict,
    tokenizer: Tokenizer[Any],
    records: Sequence[tuple[str, Encoded]],
    config: GenerateConfig,
    *,
    context: int,
    cells: int = CELLS,
) -> list[Continuation]:
    """How each record, given with its key, goes on; a mark of its end is taken away first.

    Sample s of a record draws from its key, the seed and s alone. The predictor sees the last `context` positions,
    those that are drawn included. About so many `cells` are drawn together.
    """
    ends = np.array([END in field.controls for field in tokenizer.fields])
    block = 1 if one_by_one(predict, tokenizer) else min(config.block, config.steps)
    if block >= context:
        raise UsageError(
            f"{block} positions at a time leave nothing known in the {context} that the model sees\n\n"
            f"hint: ask for fewer",
            code="bad-option",
        )
    filler = Filler(predict, tokenizer, config, context)
    tallies = [SampleTally(tokenizer, config) for _ in records]
    opened = [_opened(tokenizer, key, encoded) for key, encoded in records]
    draws = [Draw(i, sample, example) for i, example in enumerate(opened) for sample in range(config.samples)]
    for first in range(0, config.steps, block):
        n = min(block, config.steps - first)
        at_once = max(cells // (n * len(tokenizer.fields)), 1)
        for some in (draws[begin : begin + at_once] for begin in range(0, len(draws), at_once)):
            for draw in some:
                draw.example = _extended(tokenizer, draw.example, n)
            fills = filler(some, first, n, order="one_shot" if ends.any() else None)
            for draw, fill in zip(some, fills, strict=True):
                tallies[draw.which].count(fill, first)
                draw.put(fill, n, ends if ends.any() else ~ends)
            going = [draw for draw in some if not tokenizer.is_end(draw.example.ids[-1])]
            if ends.any() and going:
                for draw, fill in zip(going, filler(going, first, n), strict=True):
                    draw.put(fill, n, ~ends)
            for draw in some:
                tallies[draw.which].add(draw, first, n)
        draws = [draw for draw in draws if not tallies[draw.which].ended[draw.sample]]
    return [tally.result() for tally in tallies]


@dataclass
class Draw:
    """One continuation under way."""

    which: int
    """The record's index."""
    sample: int
    example: Example
    """All that is known and drawn so far."""

    def put(self, fill: Fill, n: int, fields: Bool[np.ndarray, " fields"]) -> None:
        """Write what was drawn for these fields into the last `n` positions."""
        mine = fields[fill.cells[:, 1]]
        position, field = fill.cells[mine].T
        self.example.ids[len(self.example.ids) - n + position, field] = fill.values[0, mine]


@dataclass(frozen=True)
class Filler:
    """The infill sampler at the end of sequences."""

    predict: Predict
    tokenizer: Tokenizer[Any]
    config: GenerateConfig
    context: int

    def __call__(self, draws: Sequence[Draw], first: int, n: int, *, order: OrderName | None = None) -> list[Fill]:
        """What is unknown of the last `n` positions of each, drawn; cells are counted from the first of them."""
        config, windows, holes = self.config, [], []
        order = order or ("left_to_right" if in_order(self.predict) else "entropy_bounded")
        for draw in draws:
            whole = draw.example
            start = max(len(whole.ids) - self.context, 0)
            numbers = None if whole.numbers is None else whole.numbers[start:]
            windows.append(replace(whole, ids=whole.ids[start:], numbers=numbers, start=start))
            hole = ~self.tokenizer.vocabulary.known(windows[-1].ids)
            hole[:-n] = False
            hole[:, [field.given for field in self.tokenizer.fields]] = False
            holes.append(hole)
        fills = infill(
            self.predict,
            windows,
            holes,
            InfillConfig(order=order, temperature=config.temperature, gamma=config.gamma, seed=config.seed),
            vocabulary=self.tokenizer.vocabulary,
            keys=[(key_number(draw.example.key), first, draw.sample) for draw in draws],
            legal=[self.tokenizer.allowed(window.ids) for window in windows],
            names=[draw.example.key for draw in draws],
        )
        return [fill.shifted(n - len(hole)) for fill, hole in zip(fills, holes, strict=True)]


class SampleTally:
    """What comes of the draws of one record."""

    def __init__(self, tokenizer: Tokenizer[Any], config: GenerateConfig) -> None:
        fields, outputs = tokenizer.fields, max(tokenizer.vocabulary.n_outputs)
        self.is_end = tokenizer.is_end
        self.ids = np.tile(np.array([field.mask_id for field in fields]), (config.samples, config.steps, 1))
        self.length, self.ended = np.full(config.samples, config.steps), np.zeros(config.samples, bool)
        self.running = np.zeros(config.steps, np.int64)
        self.marginals = np.zeros((config.steps, len(fields), outputs))
        self.outside = np.zeros((config.steps, len(fields)))

    def count(self, fill: Fill, first: int) -> None:
        """Add the distributions of steps from `first` on, before anything of them is known."""
        position, field = fill.cells.T
        self.marginals[first + position, field] += fill.marginals
        self.outside[first + position, field] += fill.other_mass[0]

    def add(self, draw: Draw, first: int, n: int) -> None:
        """Take in what was drawn, unless it is the end."""
        self.running[first : first + n] += 1
        drawn = draw.example.ids[-n:]
        if self.is_end(drawn[-1]):
            self.length[draw.sample], self.ended[draw.sample] = first, True
        else:
            self.ids[draw.sample, first : first + n] = drawn

    def result(self) -> Continuation:
        reached = np.maximum(self.running, 1)[:, None]
        return Continuation(
            ids=self.ids,
            length=self.length,
            ended=self.ended,
            running=self.running,
            marginals=self.marginals / reached[..., None],
            outside=self.outside / reached,
        )


def _opened(tokenizer: Tokenizer[Any], key: str, encoded: Encoded) -> Example:
    ids = tokenizer.opened(encoded.ids)
    return Example(ids, None if encoded.numbers is None else encoded.numbers[: len(ids)], key)


def _extended(tokenizer: Tokenizer[Any], example: Example, n: int) -> Example:
    numbers = example.numbers
    if numbers is not None:
        numbers = np.concatenate([numbers, np.full((n, numbers.shape[1]), np.nan)])
    return replace(example, ids=tokenizer.extended(example.ids, n), numbers=numbers)
