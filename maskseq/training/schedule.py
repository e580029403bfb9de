"""Learning rate and batch size as pure functions of the tokens seen, so that a resumed run needs no schedule state."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from maskseq.contract.own import found as own_part
from maskseq.contract.own import is_own
from maskseq.errors import UsageError

Tail = Literal["1-sqrt", "linear", "cosine"]


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """Warm-up, stable, decay (WSD), addressed by tokens.

    A cosine schedule over the whole run is `ScheduleConfig(decay=0.99, tail="cosine")`; a stable run to branch from
    later has `decay=0`.
    """

    warmup: float = 0.01
    """Length of the linear warm-up: up to 1 a share of the run's tokens, above 1 a number of tokens."""
    decay: float = 0.1
    """Length of the tail at the end of the run: up to 1 a share of the run's tokens, above 1 a number of tokens."""
    tail: Tail = "1-sqrt"
    final: float = 0.0
    """What the factor falls to, as a share of the full learning rate."""
    factor: str = ""
    """Your own in place of all of this, as `module:name`: (tokens seen, tokens of the run) → the factor on the learning
    rate. It must depend on nothing else, or a resumed run is another one."""

    def __post_init__(self) -> None:
        if self.warmup < 0 or self.decay < 0:
            raise UsageError(
                f"schedule: warmup and decay must be 0 or more, not {self.warmup} and {self.decay}", code="bad-option"
            )
        if self.factor and not is_own(self.factor):
            raise UsageError(f"schedule: factor = {self.factor!r} is not of the form module:name", code="bad-option")
        if not 0 <= self.final <= 1:
            raise UsageError(
                f"schedule: final is a share of the learning rate, 0 to 1, not {self.final}", code="bad-option"
            )

    def lengths(self, total: int) -> tuple[float, float]:
        """Warm-up and decay in tokens, for a run of `total` tokens; `UsageError` when they do not fit into it."""
        warmup, decay = (length * total if length <= 1 else length for length in (self.warmup, self.decay))
        if warmup + decay > total * (1 + 1e-9):
            raise UsageError(
                f"schedule: warmup ({warmup:,.0f} tokens) and decay ({decay:,.0f} tokens) do not fit into a run of "
                f"{total:,} tokens\n\nhint: values up to 1 are shares of the run, above 1 numbers of tokens",
                code="bad-option",
            )
        return warmup, decay


def lr_at(tokens: int, total: int, config: ScheduleConfig, *, decay_from: int | None = None) -> float:
    """The factor on the learning rate of a step that begins after `tokens` of the run's `total` tokens.

    `decay_from` is where the tail begins that was begun before its time.
    """
    if config.factor:
        return float(own_part("schedule", config.factor)(tokens, total))
    warmup, decay = config.lengths(total)
    if decay_from is None and tokens < warmup:
        return tokens / warmup
    begin = total - decay if decay_from is None else decay_from
    done = min((tokens - begin) / decay, 1.0) if decay else 0.0
    if done <= 0:
        return 1.0
    return config.final + (1 - config.final) * _TAILS[config.tail](done)


_TAILS: dict[Tail, Callable[[float], float]] = {
    "1-sqrt": lambda done: 1 - math.sqrt(done),  # Hägele et al. 2024 (2405.18392), eq. 1; ModernBERT scheduler.py:264
    "linear": lambda done: 1 - done,
    "cosine": lambda done: (1 + math.cos(math.pi * done)) / 2,  # Loshchilov & Hutter 2017 (1608.03983), eq. 5
}


def n_rows(tokens: int, sizes: Sequence[int], warmup: int) -> int:
    """The rows of a step that begins after `tokens`: through all `sizes` in `warmup` tokens, then the last one.

    Size b lasts for a share of the warm-up tokens that is proportional to b, that is, for the same number of steps
    (ModernBERT `sequence_packer.py:20-60`, where b counts micro-batches: base goes 768, 1536, … 4608 in 50 G tokens).
    """
    growing = sizes[:-1]
    ends = np.ceil(warmup / max(sum(growing), 1) * np.cumsum(growing))
    return sizes[int(np.searchsorted(ends, tokens, side="right"))]
