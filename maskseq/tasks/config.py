"""What a task is: its kind, where labels come from, the head, and how it is trained. One dataclass a section."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict

from maskseq.contract.own import is_own, named
from maskseq.errors import UsageError, check_seed
from maskseq.tasks.outcome import Outcome

Kind = Literal["binary", "multiclass", "multilabel", "regression"]
HeadKind = Literal["mean", "max", "attention", "positions", "cnn", "linear"]
FINITE = ConfigDict(extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True, kw_only=True)
class TaskData:
    """Which records are learned from, and which of them are kept for choices and for the figures that are reported."""

    files: tuple[str, ...]
    """Paths; in a task file, relative to that file."""
    selection: float | str = 0.1
    """Decides when training stops, the temperature and the widths of intervals: a share of `files`, or a file."""
    test: float | str = 0.2
    """Figures are reported of it, and nothing is chosen by it: a share of `files`, or a file."""
    group: str | None = None
    """Records that share this attribute stand in one part. Default: copies stand in one part."""
    format: str | None = None
    format_options: dict[str, Any] = field(default_factory=dict)
    """How files are read; by default as the run's training files were, or by their content."""
    on_error: Literal["stop", "skip"] = "stop"

    def __post_init__(self) -> None:
        if not self.files:
            raise UsageError("data.files: a task needs at least one file of records", code="bad-option")
        for name in ("selection", "test"):
            share = getattr(self, name)
            if isinstance(share, float | int) and not 0 < share < 1:
                raise UsageError(f"data.{name} = {share} must be a share between 0 and 1, or a file", code="bad-option")
        shares = [share for share in (self.selection, self.test) if isinstance(share, float)]
        if sum(shares) >= 1:
            raise UsageError(
                f"data.selection and data.test take {sum(shares):g} of the records: nothing is left", code="bad-option"
            )

    @property
    def shares(self) -> dict[str, float]:
        """The parts that are a share of `files`."""
        given: dict[str, float | str] = {"selection": self.selection, "test": self.test}
        return {name: share for name, share in given.items() if not isinstance(share, str)}

    def of_part(self, part: str) -> tuple[Path, ...]:
        """The files of `train`, `selection` or `test`; none where the part is a share."""
        if part == "train":
            return tuple(map(Path, self.files))
        named = getattr(self, part)
        return (Path(named),) if isinstance(named, str) else ()


@dataclass(frozen=True, kw_only=True)
class LabelSource:
    """Where labels are found: a column of the data, a table of keys and labels, a BED file, or an outcome."""

    column: str | None = None
    """A column of the table, the class of an archive (`label`), or an attribute of cases or events. With `file`, the
    column of that file (default: `label`)."""
    file: str | None = None
    """A CSV or TSV file of keys and labels. With `each = "unit"` a file of the same shape as the data: `column` of its
    records has the labels, or their letters are the labels (FASTA)."""
    key: str = "key"
    """The column of `file` that names records."""
    bed: str | None = None
    """Stretches of records; the fourth column, if there is one, is the class of the positions in them."""
    outcome: str | None = None
    """`contains VALUE`, `duration > 7d`, `duration` or `remaining` (both in days)."""
    field: str | None = None
    """The field in which `contains` looks (default: the first)."""
    each: Literal["record", "unit"] = "record"
    """Whether a record has a label, or each of its events, bases or samples. Labels of a BED file are of units."""
    positive: str | None = None
    """Binary: the class whose probability is reported (default: the second in order)."""
    separator: str = ";"
    """Multi-label: what stands between the labels of a record."""

    def __post_init__(self) -> None:
        given = [name for name in ("file", "bed", "outcome") if getattr(self, name) is not None]
        if len(given) > 1:
            raise UsageError(f"labels: give one of {' and '.join(given)}", code="bad-option")
        if not given and self.column is None:
            raise UsageError("labels: say where labels come from: column, file, bed or outcome", code="bad-option")
        if self.column is not None and given and given != ["file"]:
            raise UsageError(f"labels: give column or {given[0]}", code="bad-option")
        if self.each == "unit" and self.outcome:
            raise UsageError(
                "labels.each = 'unit' goes with column, file or bed: an outcome is of records", code="bad-option"
            )
        if self.outcome is not None:
            Outcome.of(self.outcome)

    @property
    def per_unit(self) -> bool:
        return self.each == "unit" or self.bed is not None


@dataclass(frozen=True, kw_only=True)
class PrefixConfig:
    """Learn from the beginnings of records, as they are known while cases are running."""

    min: int = 1
    """Units of the shortest prefix."""
    max: int = 20
    """Units of the longest one."""
    step: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.min <= self.max or self.step < 1:
            raise UsageError(
                f"prefixes: min = {self.min}, max = {self.max}, step = {self.step} give no prefix", code="bad-option"
            )

    @property
    def lengths(self) -> range:
        return range(self.min, self.max + 1, self.step)


@dataclass(frozen=True, kw_only=True)
class HeadConfig:
    """How hidden states become an answer."""

    __pydantic_config__: ClassVar[ConfigDict] = FINITE

    kind: HeadKind | str | Callable[..., Any] | None = None
    """Of records `mean` (default), `max`, `attention`, `positions` (knows where things stand) or `cnn`; of units
    `linear` (default) or `cnn`. Or your own as `module:name`: (this config, hidden size, number of outputs) →
    `torch.nn.Module` from hidden states [records, longest, hidden] and which are real [records, longest] to outputs
    [records, outputs], of units [records, longest, outputs]."""
    width: int = 32
    """Features a position, of `positions` and `cnn`."""
    bins: int = 64
    """Stretches that `positions` divides a record into."""
    kernel: int = 9
    """Positions that `cnn` sees at once."""
    dropout: float = 0.1

    def __post_init__(self) -> None:
        given: object = self.kind
        if callable(given):
            object.__setattr__(self, "kind", named(given))
        for name in ("width", "bins", "kernel"):
            if not 1 <= getattr(self, name) <= 1 << 16:
                raise UsageError(
                    f"head.{name} = {getattr(self, name)} must be a number from 1 to {1 << 16:,}", code="bad-option"
                )
        if self.kernel % 2 == 0:
            raise UsageError(
                f"head.kernel = {self.kernel} must be odd: a position stands in its middle", code="bad-option"
            )
        if not 0 <= self.dropout < 1:
            raise UsageError(f"head.dropout = {self.dropout} must be at least 0 and below 1", code="bad-option")

    def kind_of(self, *, per_unit: bool) -> str:
        """The kind with its default; `UsageError` where labels are of something else."""
        kind = str(self.kind or ("linear" if per_unit else "mean"))
        fitting = ("linear", "cnn") if per_unit else ("mean", "max", "attention", "positions", "cnn")
        if kind not in fitting and not is_own(kind):
            what = "units" if per_unit else "records"
            raise UsageError(
                f"head.kind = {kind!r} does not go with labels of {what}; those are {', '.join(fitting)}",
                code="bad-option",
            )
        return kind


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """How the head, and what is trained of the encoder, learn."""

    __pydantic_config__: ClassVar[ConfigDict] = FINITE

    train: Literal["full", "frozen", "lora"] = "full"
    """All weights; the head alone; or low-rank changes of the layers' matrices, which are merged in the end."""
    rank: int = 8
    alpha: float = 16.0
    """Of `lora`."""
    layer_decay: float = 1.0
    """Each layer learns at this share of the rate of the one above it."""
    lr: float = 5e-4
    head_lr: float = 1e-3
    weight_decay: float = 0.01
    epochs: int = 20
    """At most; of the training records, or of their labelled windows."""
    patience: int = 4
    """Epochs without a better selection loss (of calibrated probabilities), after which training stops.

    The weights of the best epoch are kept.
    """
    batch: int = 32
    """Records (or windows of labelled units) a step."""
    warmup: float = 0.1
    """Share of all steps in which the rate rises."""
    class_weights: Literal["none", "balanced"] = "none"
    symmetries: bool = False
    """Learn from, and average over, the tokenizer's symmetries, such as the other strand. Only where a label is the
    same for all of them."""
    save_every: int = 200
    """Steps after which the state is saved, besides the end of each epoch."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "bf16", "fp32"] = "auto"

    def __post_init__(self) -> None:
        for name in ("rank", "epochs", "patience", "batch", "save_every"):
            if getattr(self, name) < 1:
                raise UsageError(f"training.{name} = {getattr(self, name)} must be at least 1", code="bad-option")
        for name in ("lr", "head_lr", "alpha", "layer_decay"):
            if getattr(self, name) <= 0:
                raise UsageError(f"training.{name} = {getattr(self, name)} must be above 0", code="bad-option")
        if not 0 <= self.warmup < 1 or self.weight_decay < 0 or self.layer_decay > 1:
            raise UsageError(
                "training: warmup is a share below 1, layer_decay at most 1, weight_decay at least 0", code="bad-option"
            )


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """A task file, whole."""

    kind: Kind
    data: TaskData
    labels: LabelSource
    prefixes: PrefixConfig | None = None
    head: HeadConfig = field(default_factory=HeadConfig)
    training: FitConfig = field(default_factory=FitConfig)
    seed: int = 0

    def __post_init__(self) -> None:
        check_seed(self.seed)
        self.head.kind_of(per_unit=self.labels.per_unit)
        if self.prefixes and self.labels.per_unit:
            raise UsageError("prefixes: labels of units need none; give one of both", code="bad-option")
        if self.labels.per_unit and self.kind == "multilabel":
            raise UsageError("kind = 'multilabel' is for labels of records, not of units", code="bad-option")
        if self.labels.per_unit and self.training.symmetries:
            raise UsageError("training.symmetries is for labels of records, not of units", code="bad-option")
        if self.labels.outcome is None:
            return
        outcome = Outcome.of(self.labels.outcome)
        if outcome.is_number != (self.kind == "regression") or self.kind in ("multiclass", "multilabel"):
            wanted = "regression" if outcome.is_number else "binary"
            raise UsageError(
                f"labels.outcome = {self.labels.outcome!r} is of kind {wanted!r}, not {self.kind!r}", code="bad-option"
            )
        if not self.prefixes:
            raise UsageError("labels.outcome needs [prefixes]: whole records show their outcome", code="bad-option")
