"""The switches of the priors: a dataclass for each, with its checks, without torch. All are off by default.

`PriorSwitches` lists them: its fields are the keys of `[model]` in a recipe, and `registry.py` has the module of each.
"""

from dataclasses import dataclass, field, fields
from typing import Annotated, ClassVar, Literal

import pydantic
from pydantic import ConfigDict

from maskseq.errors import UsageError
from maskseq.types import Vocabulary

MAX_EMBEDDINGS = 1 << 20
MAX_PROBABILITIES = 1 << 24
MAX_NUMBER = 1 << 31
"""What no single number here comes near."""
MAX_VARIABLES = 512
"""Numbers whose covariances a linear prior may take: each masked one costs a system of that many equations."""


@dataclass(frozen=True, kw_only=True)
class PriorConfig:
    """What the switches of every prior have."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", allow_inf_nan=False)

    looks_around: ClassVar[bool] = True
    """Whether it shows a position what other positions hold."""

    @property
    def on(self) -> bool:
        """Whether it is switched on."""
        return self != type(self)()

    def fits(self, vocabulary: Vocabulary) -> bool:
        """Whether there is something in such sequences that it could know."""
        return True

    def check(self, vocabulary: Vocabulary) -> None:
        """`UsageError` where there can be no such prior for this vocabulary."""


@dataclass(frozen=True, kw_only=True)
class OrdinalBasisConfig(PriorConfig):
    """Embeddings of ordinal fields as mixtures of a few cosines over the order of their bins, and of a line.

    Neighbouring bins are alike from the first step on. For numbers, of which there are few.
    """

    cosines: int = 0
    """How many; 0: a row for each bin."""
    looks_around: ClassVar[bool] = False

    def check(self, vocabulary: Vocabulary) -> None:
        if not 0 <= self.cosines <= MAX_NUMBER:
            raise UsageError(
                f"ordinal_basis.cosines = {self.cosines} must be from 0 to {MAX_NUMBER:,}", code="bad-option"
            )


@dataclass(frozen=True, kw_only=True)
class PhaseEmbeddingsConfig(PriorConfig):
    """An embedding for each remainder of a position, counted from where its segment begins, by some periods.

    For periods that the data have: 3 bases a codon, 24 hours a day. Rotary angles cannot separate periods below 2π
    from longer ones, and hit none exactly.
    """

    periods: tuple[int, ...] = ()
    """In positions."""
    looks_around: ClassVar[bool] = False

    def check(self, vocabulary: Vocabulary) -> None:
        if any(not 2 <= period <= MAX_NUMBER for period in self.periods):
            raise UsageError(
                f"phase_embeddings.periods are whole numbers of positions from 2 on, not {list(self.periods)}",
                code="bad-option",
            )


@dataclass(frozen=True, kw_only=True)
class NgramEmbeddingsConfig(PriorConfig):
    """Learned embeddings of the ids next to a position, itself left out.

    N-gram embeddings: Huang et al. 2025, arXiv 2501.16975, here on both sides.
    """

    contexts: tuple[tuple[int, int], ...] = ()
    """How many ids on the left and on the right; each pair has a table with a row for every combination of ids."""

    def check(self, vocabulary: Vocabulary) -> None:
        for context in self.contexts:
            rows = context_rows(vocabulary, context)
            if min(context) < 0 or max(context) > MAX_NUMBER or context == (0, 0) or not 1 <= rows <= MAX_EMBEDDINGS:
                raise UsageError(
                    f"ngram_embeddings.contexts = {list(context)} needs {rows:,} embeddings; name at least one "
                    f"neighbour, and so few that there are at most {MAX_EMBEDDINGS:,} combinations of their ids",
                    code="bad-option",
                )


@dataclass(frozen=True, kw_only=True)
class NgramPriorConfig(PriorConfig):
    """log P(id | neighbours) as a further input, counted on the training data before the first step and then fixed.

    Training starts from what a table of contexts knows.
    """

    depth: int = 0
    """Neighbours on either side; 0: no table."""

    def check(self, vocabulary: Vocabulary) -> None:
        rows = zip(vocabulary.n_rows, vocabulary.n_outputs, strict=True)
        size = max(power(n, 2 * self.depth) * outputs for n, outputs in rows)
        if self.depth < 0 or size > MAX_PROBABILITIES:
            raise UsageError(
                f"ngram_prior.depth = {self.depth} needs {size:,} probabilities for a field; at most "
                f"{MAX_PROBABILITIES:,} are possible: name fewer neighbours, from 0 on",
                code="bad-option",
            )


@dataclass(frozen=True, kw_only=True)
class LinearPriorConfig(PriorConfig):
    """The linear prediction of masked numbers by the covariances of all channels, as an input and a start of logits.

    Covariances are counted on the training data before the first step and then fixed.
    """

    distances: tuple[int, ...] = ()
    """How far away, in positions and on either side, the numbers are that it looks at; none: no prediction."""

    def fits(self, vocabulary: Vocabulary) -> bool:
        return bool(vocabulary.ordinal)

    def check(self, vocabulary: Vocabulary) -> None:
        distances = self.distances
        if (
            min(distances, default=1) < 1
            or max(distances, default=1) > MAX_NUMBER
            or len(set(distances)) < len(distances)
        ):
            raise UsageError(
                f"linear_prior.distances = {list(distances)} must be distances from 1 on, each of them once",
                code="bad-option",
            )
        variables = (2 * len(distances) + 1) * len(vocabulary.ordinal)
        if distances and variables > MAX_VARIABLES:
            raise UsageError(
                f"linear_prior.distances = {list(distances)} takes covariances of {variables} numbers, of which at "
                f"most {MAX_VARIABLES} are possible: name fewer distances",
                code="bad-option",
            )


@dataclass(frozen=True, kw_only=True)
class ReferenceConfig(PriorConfig):
    """A density of masked numbers around what a Gaussian says of them, in place of one row for each bin.

    The Gaussian is counted on the training data before the first step and then fixed, and the density begins at it.
    Known numbers are an input as they were read. All fields must be numbers.
    """

    bins: int = 0
    """Of the histogram of ranks in that Gaussian, which the encoder corrects; 0: no reference."""
    level: Literal["fixed", "free", "trend"] = "free"
    """What is assumed of the level of a segment: that of training, nothing, or nothing of its trend either."""
    sees_bins: bool = True
    """Whether the encoder sees in which bin a known number is. Without, an offset or a gain of a whole segment changes
    nothing but its numbers."""

    @property
    def on(self) -> bool:
        return self.bins > 0

    def fits(self, vocabulary: Vocabulary) -> bool:
        return None not in vocabulary.centres

    def check(self, vocabulary: Vocabulary) -> None:
        if not 0 <= self.bins <= MAX_VARIABLES or self.bins == 1:
            raise UsageError(
                f"reference.bins = {self.bins} must be from 2 to {MAX_VARIABLES}, or 0 for no reference",
                code="bad-option",
            )


@dataclass(frozen=True, kw_only=True)
class PriorSwitches:
    """All priors that an encoder may have, in the order in which they are added to the embeddings."""

    ordinal_basis: OrdinalBasisConfig = field(default_factory=OrdinalBasisConfig)
    phase_embeddings: PhaseEmbeddingsConfig = field(default_factory=PhaseEmbeddingsConfig)
    ngram_embeddings: NgramEmbeddingsConfig = field(default_factory=NgramEmbeddingsConfig)
    ngram_prior: NgramPriorConfig = field(default_factory=NgramPriorConfig)
    linear_prior: LinearPriorConfig = field(default_factory=LinearPriorConfig)
    reference: Annotated[ReferenceConfig, pydantic.Field(exclude_if=lambda each: not each.on)] = field(
        default_factory=ReferenceConfig
    )
    """Encoders without it are saved as before it was."""

    def check_priors(self, vocabulary: Vocabulary, *, context_sees_target: bool) -> None:
        """`UsageError` where an encoder cannot have these priors."""
        for switch in fields(PriorSwitches):
            config: PriorConfig = getattr(self, switch.name)
            config.check(vocabulary)
            if config.on and config.looks_around and not context_sees_target:
                raise UsageError(
                    f"{switch.name} would show the target to its context: context_sees_target must be true",
                    code="bad-option",
                )
        if self.reference.on and (self.linear_prior.on or self.ngram_prior.on):
            raise UsageError(
                "model.reference is where densities start; linear_prior and ngram_prior start elsewhere: choose one",
                code="bad-option",
            )


def no_priors() -> dict[str, PriorConfig]:
    """Every prior, switched off."""
    off = PriorSwitches()
    return {switch.name: getattr(off, switch.name) for switch in fields(off)}


def context_rows(vocabulary: Vocabulary, context: tuple[int, int]) -> int:
    """Combinations of the ids of so many neighbours, over all fields."""
    return sum(power(n_rows, sum(context)) for n_rows in vocabulary.n_rows)


def power(base: int, exponent: int) -> int:
    """`base ** exponent`, or something beyond all limits instead of a number with a billion digits."""
    return int(base ** max(min(exponent, 64), 0))
