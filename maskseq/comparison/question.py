"""What a comparison requests of all methods, and the masked examples that it draws."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from maskseq.contract.own import look_up, named
from maskseq.errors import UsageError, check_seed
from maskseq.evaluation.protocols import REMAINING, MaskedExample, Protocol
from maskseq.masking.config import MaskingConfig
from maskseq.predict.experts.imputers import imputer
from maskseq.predict.protocol import Predict
from maskseq.tokenizer import Tokenizer
from maskseq.types import Encoded

ROUNDS = 32
"""How often the same data may be used, with other cells masked, until there are enough."""
COVARIANCES = "covariances"
"""The best linear prediction of numbers: what an encoder with `linear_prior` starts from."""
SPREAD = 20
"""So many examples at least share the cells of a protocol that masks many cells of an example: neighbours tell the
same, and an interval needs records or stretches."""
DEFAULTS = (("masked",), ("isolated",), ("gap-5", "gap-3", "gap-2", "gap-1"))
"""Kinds of protocols: cells masked as in training, single positions, and gaps."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """Which cells are masked and scored, and which simple methods are compared with."""

    protocols: tuple[str, ...] = ()
    """See `maskseq.evaluation.protocols.Protocol.parse`, and `maskseq.comparison.remaining` for `REMAINING`; each must
    find room (default: of each kind in `DEFAULTS`, the first one that does)."""
    fields: tuple[str, ...] = ()
    """Score cells of these fields only (default: of all); what else a protocol masks stays masked."""
    cells: int = 6_000
    """About how many cells of each protocol; drawn at random where there are more."""
    depth: int = 5
    """Neighbours on a side that tables look at, at most."""
    imputers: tuple[str, ...] = ("linear", "last")
    """Simple fills of numbers to compare with (`maskseq.predict.experts.imputers`), and `COVARIANCES`. A run that
    starts from covariances is compared with them in any case."""
    own: tuple[str | Callable[..., Predict], ...] = ()
    """Baselines of your own, as `module:name` or as callables: (`TrainingData`, tokenizer) → `Predict`."""
    every: bool = True
    """Compare with all simple methods that suit the data, and mixtures of them (`docs/baselines.md`), not only with
    frequencies, small tables and a short chain."""
    periods: tuple[int, ...] = ()
    """Of seasons, in positions (default: one is looked for in training data)."""
    window: int | None = None
    """Positions that all methods see at a time (default: as many as the model was trained with)."""
    stride: int | None = None
    """One window begins every so many positions, and each is whole (default: side by side, the last cut short)."""
    seed: int = 0

    def __post_init__(self) -> None:
        check_seed(self.seed)
        if self.cells < 1 or self.depth < 1:
            raise UsageError("an evaluation needs at least one cell and one neighbour", code="bad-option")
        for name in self.protocols:
            if name != REMAINING:
                Protocol.parse(name, MaskingConfig())
        object.__setattr__(self, "own", tuple(each if isinstance(each, str) else named(each) for each in self.own))
        for name in self.own_names:
            look_up("baseline", name, trust_code=True)  # who names it in this call means it
        for name in self.imputers:
            if name != COVARIANCES:
                imputer(name)
        if any(period < 1 for period in self.periods):
            raise UsageError(
                f"periods of {', '.join(map(str, self.periods))} positions: each must be 1 or more", code="bad-option"
            )
        if min(self.window or 1, self.stride or 1) < 1 or (self.window or 2) < 2:
            raise UsageError(
                f"windows of {self.window} positions, {self.stride} apart: there are none", code="bad-option"
            )

    @property
    def own_names(self) -> list[str]:
        """The names of the user's own baselines."""
        return [each for each in self.own if isinstance(each, str)]


def draw(
    question: Question,
    protocol: str,
    records: Sequence[tuple[str, Encoded]],
    tokenizer: Tokenizer[Any],
    *,
    context: int,
    masking: MaskingConfig,
) -> list[MaskedExample]:
    """Masked examples with about as many cells as are requested, in an order that `seed` decides; none without room."""
    found: list[MaskedExample] = []
    for round_ in range(ROUNDS):
        made = Protocol.parse(protocol, masking).examples(
            records,
            tokenizer,
            context=context,
            stride=question.stride,
            fields=question.fields,
            seed=question.seed * ROUNDS + round_,
        )
        new = _thinned(list(made), question, protocol)
        order = np.random.default_rng((question.seed, round_)).permutation(len(new)).tolist()
        found += [new[i] for i in order]
        every_place = protocol.startswith(("event", "gaps-", "next", "suffix-"))
        if not new or every_place or sum(len(example.cells) for example in found) >= question.cells:
            break
    ends = np.cumsum([len(example.cells) for example in found])
    return found[: int(np.searchsorted(ends, question.cells)) + 1]


def _thinned(examples: list[MaskedExample], question: Question, protocol: str) -> list[MaskedExample]:
    """The same masks, of which fewer cells are scored; gaps and single positions stay whole."""
    most = max(question.cells // SPREAD, SPREAD)
    if not protocol.startswith(("masked", "point-")):
        return examples
    rng = np.random.default_rng(question.seed)
    return [
        each
        if len(each.cells) <= most
        else replace(each, cells=each.cells[np.sort(rng.choice(len(each.cells), most, replace=False))])
        for each in examples
    ]
