"""A recipe: one TOML file, validated once, that says everything about a run.

Each section is owned by the part that uses it; this module only reads, overrides, checks and writes them.
"""

import dataclasses
import json
import os
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from maskseq import plugins
from maskseq.contract import renamed
from maskseq.contract.own import Kind, is_own, look_up, named
from maskseq.contract.toml_file import (
    dataclass_in,
    lay_over,
    read_toml,
    refuse_unknown,
    resolve_paths,
    today,
    validated,
    warn_of_older,
)
from maskseq.corpus.splits import SplitConfig
from maskseq.corpus.unknown_runs import UnknownRuns
from maskseq.errors import UsageError, check_seed
from maskseq.formats import Format
from maskseq.masking.config import MaskingConfig
from maskseq.model.config import EncoderConfig
from maskseq.model.presets import preset
from maskseq.packing.packing import PackingConfig
from maskseq.training.config import OptimizerConfig, TrainingConfig
from maskseq.training.schedule import ScheduleConfig
from maskseq.types import Field, Vocabulary

ANY = Vocabulary.of([Field(name="any", tokens=("any",))])
"""Stands for the vocabulary in checks that do not depend on it."""
PATHS = ("data.files", "data.split.selection", "data.split.validation", "data.split.test")
"""Keys whose values are paths."""


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which files are learned from, and where their corpus lives."""

    files: tuple[str, ...] = ()
    """Raw files: paths (in a recipe file, relative to that file) or URLs, copied for as long as they are read."""
    format: str | None = None
    """Name of an installed format, or module:Class (default: by the file name's ending)."""
    format_options: dict[str, Any] = field(default_factory=dict)
    corpus: str | None = None
    """A corpus folder, here or in an object store (s3://bucket/my.corpus), built from `files` if it is not there yet
    (default: `corpus` in the run folder)."""
    workers: int = 2
    """Processes that build the corpus."""
    on_error: typing.Literal["stop", "skip"] = "stop"
    """What a record that cannot be read or encoded does: stop the build, or be skipped and counted in the manifest."""
    split: SplitConfig = field(default_factory=SplitConfig)
    unknown: UnknownRuns = field(default_factory=UnknownRuns)
    variants: int = 1
    """Further sequences of each record, where the tokenizer has some: the other strand, other frames of words."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides a run. `seed` keys initial values, order, masks and dropout."""

    data: DataConfig
    tokenizer: dict[str, Any]
    """`name` of an installed tokenizer, or module:Class, and its options."""
    model: dict[str, Any] = field(default_factory=lambda: {"preset": "nano"})
    """`preset`, and any field of EncoderConfig that differs from it."""
    packing: PackingConfig = field(default_factory=PackingConfig)
    masking: MaskingConfig = field(default_factory=MaskingConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    experts: tuple[str, ...] = ()
    """Experts of your own, as `module:name`, which the blend weighs as well; in Python also callables. A run with some
    opens with `trust_code` only."""
    blend: bool = True
    """Fit a gate at the end: how much the encoder and methods that are counted on the corpus are worth."""
    calibrate: bool = True
    """Fit a calibration of what the run predicts with at the end, by the length of holes."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.data.split.guard is None:
            split = dataclasses.replace(self.data.split, guard=self.packing.context)
            object.__setattr__(self, "data", dataclasses.replace(self.data, split=split))

    def encoder_config(self, vocabulary: Vocabulary) -> EncoderConfig:
        """The encoder that `[model]` describes, for this vocabulary."""
        table = TypeAdapter(EncoderConfig).dump_python(
            preset(str(self.model.get("preset", "nano")), vocabulary), mode="json"
        )
        if table["positions"] != "learned":
            table["max_positions"] = self.packing.context  # what the run has seen, and infilling may rely on
        if self.masking.causal:
            table["next_head"] = True
        changes = {name: value for name, value in self.model.items() if name != "preset"}
        config: EncoderConfig = validated(EncoderConfig, table | changes, "model")
        return config

    def check(self) -> None:
        """`UsageError` where sections contradict each other: all that shows before there are data.

        A section checks itself when it is made (rows against context, the shares of the split); what depends on the
        fields of the data is `check_fields`, what depends on this machine `check_memory` and the ranks of a run.
        """
        check_seed(self.seed)
        encoder = self.encoder_config(ANY)
        if self.training.patience and self.masking.schedule == "step":
            raise UsageError(
                "training.patience moves the start of the decay, by which masking.schedule = 'step' masks; rows must "
                "not depend on it\n\nhint: use masking.schedule = 'linear', or training.patience = 0",
                code="bad-option",
            )
        if self.training.patience and self.schedule.factor:
            raise UsageError(
                "training.patience begins the decay early, and schedule.factor has none: choose one", code="bad-option"
            )
        for name in self.experts:
            if not is_own(name):
                raise UsageError(
                    f"experts: {name!r} is not of the form module:name; ours are there without being named",
                    code="bad-option",
                )
        self.schedule.lengths(self.training.tokens)
        if self.training.length(self.training.rows_warmup) > self.training.tokens:
            raise UsageError(
                f"training.rows_warmup is longer than the run of {self.training.tokens:,} tokens: no step would have "
                f"{self.training.rows} rows\n\nhint: values up to 1 are shares of the run, above 1 numbers of tokens",
                code="bad-option",
            )
        if encoder.positions == "learned" and encoder.max_positions < self.packing.context:
            raise UsageError(
                f"packing.context = {self.packing.context} is longer than the {encoder.max_positions} learned "
                "positions of the model\n\n"
                f"hint: set model.max_positions = {self.packing.context}, or shorten the context",
                code="bad-option",
            )
        if encoder.next_head != bool(self.masking.causal):
            raise UsageError(
                f"model.next_head = {str(encoder.next_head).lower()} does not fit masking.causal = "
                f"{self.masking.causal}: causal segments train that head\n\nhint: set masking.causal only",
                code="bad-option",
            )
        if not encoder.context_sees_target and not self.masking.infill.weight:
            raise UsageError(
                "model.context_sees_target = false needs targets, and only the infill objective has them\n\n"
                "hint: set masking.infill.weight above 0",
                code="bad-option",
            )

    def check_fields(self, fields: Sequence[Field]) -> None:
        """The same of what depends on the fields of the data, which a tokenizer says before a corpus is built."""
        vocabulary = Vocabulary.of(fields)
        encoder = self.encoder_config(vocabulary)
        encoder.axes()
        if self.reads_numbers and not encoder.reference.fits(vocabulary):
            name = next(each for each, centres in zip(vocabulary.names, vocabulary.centres, strict=True) if not centres)
            raise UsageError(
                f"model.reference needs fields that are numbers, and {name} is none\n\nhint: model.reference.bins = 0",
                code="bad-option",
            )
        self.masking.weights_of([field.name for field in fields])

    @property
    def reads_numbers(self) -> bool:
        """Whether its encoder is given what ids were rounded from."""
        return self.encoder_config(ANY).reference.on

    @property
    def code(self) -> frozenset[str]:
        """The names of code in it. Who runs a recipe means them; those in the folders that it names are not meant."""
        names = (self.data.format, self.tokenizer.get("name"), *(name for _, name in self.own_parts))
        return frozenset(str(name) for name in names if name)

    @property
    def own_parts(self) -> list[tuple[Kind, str]]:
        """The parts of the user's own that it names."""
        named: list[tuple[Kind, str]] = [
            ("objective", self.masking.own.name),
            ("optimizer", self.optimizer.name),
            ("schedule", self.schedule.factor),
            ("loss", self.training.loss),
            *(("callback", name) for name in self.training.callbacks),
            *(("expert", name) for name in self.experts),
        ]
        return [(kind, name) for kind, name in named if is_own(name)]

    def look_up_parts(self) -> None:
        """Import them, before anything that takes long; `UsageError` names one that cannot be had."""
        for kind, name in self.own_parts:
            look_up(kind, name, trust_code=self.code)

    def reader(self, path: Path) -> Format[Any]:
        return plugins.open_format(path, self.data.format, self.data.format_options, trust_code=self.code)

    def to_json(self) -> dict[str, Any]:
        """The resolved recipe, every default visible."""
        resolved: dict[str, Any] = TypeAdapter(Recipe).dump_python(self, mode="json")
        del resolved["data"]["split"]["validation"]  # the old name of what is there
        return resolved

    def identity(self) -> dict[str, Any]:
        """What makes two runs the same: all that has a say in their weights. Where the files lie has not."""
        resolved = self.to_json()
        kept = {key: resolved["data"][key] for key in ("format", "format_options")}
        files = [Path(name).name for name in self.data.files]
        resolved["data"] = {"files": files, **kept, "split": self.data.split.identity()}
        for key in ("device", "checkpoint_every", "keep_last", "keep_every"):
            del resolved["training"][key]
        del resolved["blend"], resolved["calibrate"], resolved["experts"]  # weights are the same
        return {"recipe": resolved}


def canonical(saved: Mapping[str, Any]) -> dict[str, Any]:
    """An `identity`, of this version or an older one, under today's names and with every default written out."""
    recipe = saved.get("recipe")
    if not isinstance(recipe, Mapping):
        return dict(saved)
    return {**saved, "recipe": _with_defaults(Recipe, renamed.with_added(recipe))}


def _with_defaults(cls: type, table: Mapping[str, Any]) -> dict[str, Any]:
    """Every key of a section that it lacks, with its default, down to the inner sections."""
    found, hints = dict(table), typing.get_type_hints(cls)
    for each in dataclasses.fields(cls):
        default = each.default if each.default_factory is dataclasses.MISSING else each.default_factory()
        if default is not dataclasses.MISSING:
            found.setdefault(each.name, TypeAdapter(hints[each.name]).dump_python(default, mode="json"))
        inner = dataclass_in(hints[each.name])
        if inner is not None and isinstance(found.get(each.name), Mapping):
            found[each.name] = _with_defaults(inner, found[each.name])
    return found


def load_recipe(source: Path | str | Mapping[str, Any] | Recipe, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe file (or take a dict) and lay `a.b=value` overrides on top; values are TOML.

    Raises `UsageError` for a missing file, TOML that does not parse, an unknown key (with the nearest name) or a value
    of the wrong kind.
    """
    if isinstance(source, Recipe):
        source = source.to_json()
    if isinstance(source, Mapping):
        table, name = json.loads(json.dumps(source, default=named)), "recipe"  # callables by their names
    else:
        table, name = read_toml(Path(source)), str(source)
        resolve_paths(table, PATHS, Path(source).parent)
    warn_of_older(renamed.older_keys(table), name)
    table = today(table)
    for override in overrides:
        lay_over(table, override)
    refuse_unknown(Recipe, table, name)
    switches = {each.name for each in dataclasses.fields(EncoderConfig)} - {"vocabulary"} | {"preset"}
    refuse_unknown(EncoderConfig, table.get("model"), name, "model", switches)
    recipe: Recipe = validated(Recipe, table, name)
    recipe.check()  # fails now, not once a corpus is built
    return recipe


def check_memory(recipe: Recipe) -> None:
    """`UsageError` where the weights alone, or one row's hidden states, do not fit into the memory of this machine."""
    encoder = recipe.encoder_config(ANY)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for name, n in (
        (
            f"{encoder.n_layers:,} layers of {encoder.hidden_size:,} and {encoder.intermediate_size:,}",
            encoder.least_parameters,
        ),
        (f"rows of {recipe.packing.row_tokens:,} tokens", recipe.packing.row_tokens * encoder.hidden_size),
    ):
        if 4 * n > memory:
            raise UsageError(
                f"{name} take at least {4 * n / 2**30:,.0f} GiB, and this machine has {memory / 2**30:,.0f}\n\n"
                f"hint: make them smaller, in [model] or [packing]",
                code="bad-option",
            )
