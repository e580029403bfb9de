"""What a training run reports to listeners: small values, no behaviour."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Started:
    """The run begins, or goes on."""

    step: int
    tokens: int
    total_tokens: int
    stage: int
    n_parameters: int
    device: str
    precision: str
    world: int
    gemm_peak: float
    """FLOP/s of large matrix products in the run's precision, measured on the first rank just now."""
    resumed_from: Path | None
    """The checkpoint, of this run or of the one that it began from; None: new weights."""


@dataclass(frozen=True, kw_only=True)
class CellScore:
    """How well scored cells were predicted: means weighted by the cells' weights."""

    loss: float
    """Nats per scored cell."""
    accuracy: float
    cells: int

    @property
    def bits(self) -> float:
        """The loss in bits per scored cell."""
        return self.loss / math.log(2)


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Scores of all cells, and split by what was asked of the model. Groups without cells are left out."""

    all: CellScore
    by_objective: dict[str, CellScore]
    by_ratio: dict[str, CellScore]
    """By the share of the segment that was masked, such as `0.2-0.4`."""
    by_field: dict[str, CellScore]
    by_protocol: dict[str, CellScore] = field(default_factory=dict)
    """Of further questions that a validator asks, such as single cells and whole gaps."""
    skills: dict[str, float] = field(default_factory=dict)
    """By protocol, which share of a simple method's loss is saved: 1 − loss / its loss. Empty where none is known."""

    @property
    def merit(self) -> float:
        """What checkpoints are chosen by, the higher the better: the mean skill, or without any, minus the loss."""
        return sum(self.skills.values()) / len(self.skills) if self.skills else -self.all.loss


@dataclass(frozen=True, kw_only=True)
class Step:
    """An optimizer step was made."""

    step: int
    tokens: int
    total_tokens: int
    row: int
    """The row that the next step begins with."""
    scores: Scores
    lr: float
    grad_norm: float
    update_ratio: float
    """Norm of the weights' change over the norm of the weights (the ratio of their RMS is the same)."""
    rows: int
    tokens_per_s: float
    wait_share: float
    """The share of the step's time that was spent waiting for data."""
    peak_share: float
    """Useful FLOP/s over `gemm_peak` of all ranks: 3 times the forward pass, without filler or recomputation."""
    seconds: float
    peak_memory: int
    """Bytes: peak resident set on a CPU, peak allocated on a GPU."""


@dataclass(frozen=True, kw_only=True)
class Validation:
    """The rows of selection data were scored, under masks that are the same every time."""

    step: int
    tokens: int
    scores: Scores
    seconds: float
    averaged: bool = False
    """The average of the weights was scored, which was no worse than the weights behind it."""


@dataclass(frozen=True, kw_only=True)
class Tested:
    """The test rows were scored, at the end and only then: nothing was chosen by them."""

    step: int
    tokens: int
    scores: Scores
    seconds: float
    of: int | None = None
    """The step of the weights that were scored: those of the best checkpoint. None: those of this step."""


@dataclass(frozen=True, kw_only=True)
class PlateauEnded:
    """No validation was better for as long as the run is patient: the decay begins, from the best checkpoint."""

    step: int
    tokens: int
    best: int
    """The step of that checkpoint."""
    total_tokens: int
    """Where the run ends now."""


@dataclass(frozen=True, kw_only=True)
class CheckpointSaved:
    """A checkpoint is on disk, whole."""

    step: int
    path: Path
    seconds: float
    """Since its snapshot was begun."""
    stall: float
    """The part of it, in seconds, for which training stood still: waiting for the checkpoint before, and copying."""


@dataclass(frozen=True, kw_only=True)
class Warned:
    """Something that the user should know and that does not stop the run."""

    text: str


@dataclass(frozen=True, kw_only=True)
class Stopped:
    """The run ends before its time: it was asked to, or its loss was no longer finite."""

    step: int
    tokens: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class Finished:
    """All tokens were seen, everything is written."""

    step: int
    tokens: int
    seconds: float
    best: int | None = None
    """The step of the best checkpoint; None: there was nothing to choose by."""


@dataclass(frozen=True, kw_only=True)
class Compared:
    """The finished run was compared with counting, on its test part."""

    verdict: str
    """That of its worst field: better than, no better than or worse than counting; undecided; none."""
    in_words: str
    """The gain over the best simple method by protocol, with intervals, and the verdict: one line."""


@dataclass(frozen=True, kw_only=True)
class Calibrated:
    """What the finished run predicts with was calibrated on selection data, or why it was not."""

    in_words: str


Event = (
    Started
    | Step
    | Validation
    | Tested
    | PlateauEnded
    | CheckpointSaved
    | Warned
    | Stopped
    | Finished
    | Calibrated
    | Compared
)
Listener = Callable[[Event], None]
