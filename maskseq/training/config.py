"""What a recipe may say about training, without torch, so that recipes are checked before anything is loaded."""

from dataclasses import dataclass
from typing import Literal

from maskseq.contract.own import is_own, refuse_other_names
from maskseq.errors import UsageError

OPTIMIZERS = ("adamw", "stable_adamw", "muon")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How long, in steps of what size, and what is kept. Lengths up to 1 are shares of the run, above 1 tokens."""

    tokens: int = 10_000_000
    """Training ends with the step that reaches this many tokens."""
    rows: int = 2
    """Rows of an optimizer step, over all ranks and micro-batches."""
    first_rows: int = 0
    """Where a batch-size warm-up begins; it passes through every multiple of this up to `rows`. 0: no warm-up."""
    rows_warmup: float = 0.0
    """Length of the batch-size warm-up."""
    micro_rows: int = 1
    """Rows that go through the model at once; more need more memory."""
    validate_every: float = 0.1
    """Length between validations; 0: only at the end."""
    validation_rows: int = 16
    """Rows that a validation scores at most."""
    comparison_cells: int = 500
    """Test cells of each protocol on which the finished run is compared with counting; 0: no comparison."""
    checkpoint_every: float = 0.1
    """Length between checkpoints; 0: only at the end."""
    keep_last: int = 2
    """Checkpoints that are kept in any case."""
    keep_every: float = 0.0
    """Length between checkpoints that are kept for good, to branch from; 0: none."""
    z_loss: float = 0.0
    """Weight of the squared log-partition in the loss (1e-4 in PaLM)."""
    smoothing: float = 0.0
    """Standard deviation, in bins, by which targets of ordinal fields are spread over their neighbours."""
    loss: str = ""
    """One of your own in place of cross-entropy, as `module:name`: (logits [cells, outputs], targets [cells], name of
    the field) → what is minimised, [cells]. Metrics are cross-entropy in any case."""
    callbacks: tuple[str, ...] = ()
    """Your own, as `module:name`: called with each event of the training; one that returns a text ends it there, after
    a checkpoint, and that is why."""
    ema: float = 0.0
    """Decay a step of an average of the weights. Validations score it and the weights behind it, and the better of the
    two is saved; between validations it is the average. 0: no average."""
    patience: int = 0
    """Validations without a better one after which the plateau ends: the decay is then run from the best checkpoint.
    0: the plateau lasts as long as the schedule has it."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    device: str = "auto"
    strategy: Literal["ddp", "fsdp"] = "ddp"
    """What several ranks under torchrun share: the batch (`ddp`), or the weights as well (`fsdp`)."""

    def __post_init__(self) -> None:
        for name in ("tokens", "rows", "micro_rows", "keep_last", "validation_rows"):
            if getattr(self, name) < 1:
                raise UsageError(f"training: {name} must be at least 1, not {getattr(self, name)}", code="bad-option")
        if self.comparison_cells < 0:
            raise UsageError(
                f"training: comparison_cells must be 0 or more, not {self.comparison_cells}", code="bad-option"
            )
        for name in (self.loss, *self.callbacks):
            if name and not is_own(name):
                raise UsageError(
                    f"training: {name!r} is not of the form module:name, as losses and callbacks are", code="bad-option"
                )
        if self.loss and self.smoothing:
            raise UsageError(
                "training.smoothing is of cross-entropy, and training.loss stands in its place: give one",
                code="bad-option",
            )
        if self.patience < 0:
            raise UsageError(
                f"training: patience is a number of validations from 0 on, not {self.patience}", code="bad-option"
            )
        if bool(self.first_rows) != bool(self.rows_warmup):
            raise UsageError("training: a batch-size warm-up needs both first_rows and rows_warmup", code="bad-option")
        if self.first_rows and self.rows % self.first_rows:
            raise UsageError(
                f"training: rows ({self.rows}) must be a multiple of first_rows ({self.first_rows}), the size of the "
                f"warm-up's increments",
                code="bad-option",
            )
        if not 0 <= self.ema < 1:
            raise UsageError(f"training: ema is a decay from 0 up to 1, not {self.ema}", code="bad-option")

    @property
    def sizes(self) -> tuple[int, ...]:
        """Every number of rows that a step of the run may have."""
        return tuple(range(self.first_rows, self.rows + 1, self.first_rows)) if self.first_rows else (self.rows,)

    def length(self, length: float) -> int:
        """A length in tokens."""
        return round(length * self.tokens if length <= 1 else length)

    def crosses(self, length: float, before: int, after: int) -> bool:
        """Whether a multiple of a length lies within the tokens of a step."""
        every = self.length(length)
        return every > 0 and before // every < after // every


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """What updates the weights. The defaults are ModernBERT's, with its weight decay written as AdamW writes it."""

    name: str = "stable_adamw"
    """`adamw`, `stable_adamw`, `muon`, or your own as `module:name`: (groups of parameters, this config) →
    `torch.optim.Optimizer`, whose state is tensors."""
    lr: float = 1e-3
    """The full learning rate; the schedule multiplies it."""
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-6
    weight_decay: float = 0.01
    """A step shrinks each matrix by `lr · weight_decay`. ModernBERT's 1e-5, decoupled from its lr of 8e-4, is 0.0125
    here. Norms, biases and embeddings are not decayed."""
    momentum: float = 0.95
    """Of Muon."""
    clip: float | None = None
    """Largest gradient norm; 0: no limit. None: 1, and no limit for StableAdamW, which limits updates by itself."""

    def __post_init__(self) -> None:
        refuse_other_names("optimizer", self.name, OPTIMIZERS, key="optimizer.name: ")
        if self.lr <= 0 or self.eps <= 0 or self.weight_decay < 0:
            raise UsageError(
                f"optimizer: lr and eps must be positive and weight_decay 0 or more, not {self.lr}, {self.eps} and "
                f"{self.weight_decay}",
                code="bad-option",
            )
        if not all(0 <= beta < 1 for beta in (*self.betas, self.momentum)):
            raise UsageError(
                f"optimizer: betas and momentum lie in [0, 1), not {self.betas} and {self.momentum}", code="bad-option"
            )

    @property
    def max_norm(self) -> float:
        """What gradients are clipped to; infinity for no limit."""
        clip = self.clip if self.clip is not None else (0.0 if self.name == "stable_adamw" else 1.0)
        return clip or float("inf")
