"""What a training run is given besides its model and rows, and what it comes to."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from maskseq.errors import UsageError
from maskseq.tokenizer import Tokenizer
from maskseq.training import state
from maskseq.training.claim import Canonical
from maskseq.training.config import OptimizerConfig, TrainingConfig
from maskseq.training.events import Scores
from maskseq.training.schedule import ScheduleConfig
from maskseq.training.state import Origin, Position
from maskseq.training.step import TrainStep


@dataclass(frozen=True, kw_only=True)
class TrainingSpec:
    """What decides a run, but for the model it begins with and the rows that it sees."""

    config: TrainingConfig
    optimizer: OptimizerConfig
    schedule: ScheduleConfig
    tokenizer: Tokenizer[Any]
    seed: int
    """Keys dropout."""
    identity: Mapping[str, Any]
    """What makes two runs the same: the resolved recipe and the corpus fingerprint."""
    canonical: Canonical = dict
    """How identities are compared."""
    origin: Origin | None = None
    """Where a new run takes its weights and moments from, as `state.next_stage` and `state.branch` give it; the rows
    are those of its stage."""

    def __post_init__(self) -> None:
        if self.origin is not None and self.origin.position.tokens >= self.config.tokens:
            raise UsageError(
                f"training: the branch begins after {self.origin.position.tokens:,} tokens, so that training.tokens "
                f"must be more, not {self.config.tokens:,}",
                code="bad-option",
            )

    @property
    def full_identity(self) -> dict[str, Any]:
        """With the origin: two branches of a run are two runs."""
        return {**self.identity, **({"origin": state.identity(self.origin)} if self.origin else {})}


@runtime_checkable
class Validator(Protocol):
    """Scores a model in training on data that it does not learn from: the same cells every time.

    All ranks call it, since sharded weights demand it. Training knows nothing else of it but the `merit` of the scores,
    by which the best checkpoint is chosen.
    """

    def __call__(self, learner: TrainStep) -> Scores: ...


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """What a finished run came to."""

    run: Path
    position: Position
    validation: Scores | None
    """The last one."""
    best: int | None
    """The step of the best checkpoint; None: there was nothing to choose by."""
