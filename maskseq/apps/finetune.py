"""A run and a task file in, a fine-tuned run out, with its figures compared with those of simple methods."""

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from maskseq.contract.own import is_own, look_up
from maskseq.contract.toml_file import load_as
from maskseq.corpus.intake import Intake
from maskseq.errors import DataWarning, UsageError
from maskseq.loaded.recipe import recipe_file
from maskseq.model.checkpoint import weights_digest, write_json
from maskseq.reports.task import write_task_report
from maskseq.storage.folder import file_digest
from maskseq.storage.outputs import Work, claimed, write
from maskseq.storage.run_folder import REPORT, CheckpointFolder
from maskseq.storage.standard_json import to_json
from maskseq.tasks.config import TaskConfig
from maskseq.tasks.examples import TaskExample, labelled_examples, shared_records, split_shares
from maskseq.tasks.fit import FitData, FitProgress, TaskFit
from maskseq.tasks.judge import TaskFigures, judge_task, shown
from maskseq.tasks.simple import require_sklearn, simple_methods_of_task
from maskseq.tasks.targets import TargetSpace, fit_temperature, half_width
from maskseq.tasks.task_model import COVERAGE, TaskModel, save_task
from maskseq.trained import TrainedModel, load
from maskseq.types import Record

STATE = "state"
PATHS = ("data.files", "data.selection", "data.test", "labels.file", "labels.bed")
"""Keys of a task file whose values are paths."""


def load_task_file(path: Path, overrides: Sequence[str] = ()) -> TaskConfig:
    """A task file, checked; its paths are relative to it."""
    task: TaskConfig = load_as(TaskConfig, path, overrides, paths=PATHS)
    return task


def finetune(
    run: Path | TrainedModel,
    task: Path | TaskConfig,
    *,
    output: Path,
    overrides: Sequence[str] = (),
    on_epoch: Callable[[FitProgress], object] = lambda progress: None,
    on_step: Callable[[int, int | None], object] = lambda step, of: None,
) -> TaskFigures:
    """Fine-tune a run for a task into the folder `output`; the same call goes on with one that was interrupted.

    Raises `UsageError` when the output exists, or was begun with another run, task or file.
    """
    config = task if isinstance(task, TaskConfig) else load_task_file(task, overrides)
    loaded = run if isinstance(run, TrainedModel) else load(run)
    with claimed(output, new=True, parents=True, state=STATE) as work:
        state = _state_of(work, config, loaded)
        parts = read_parts(config, loaded)
        model, history = fit_task(config, loaded, parts, folder=state, on_epoch=on_epoch, on_step=on_step)
        space = model.space
        simple = []
        try:
            require_sklearn()
            vocabulary = loaded.tokenizer.vocabulary
            simple = simple_methods_of_task(config, space, vocabulary, parts["train"], parts["selection"])
        except UsageError as error:
            warnings.warn(str(error).partition("\n")[0], DataWarning, stacklevel=2)
        found = judge_task(
            space,
            (model.predict(parts["selection"]), model.predict(parts["test"])),
            simple,
            parts["selection"],
            parts["test"],
            seed=config.seed,
        )
        work.content.mkdir()
        paths = CheckpointFolder(work.content)
        write_json(paths.task_figures, {"data": "test", **found.to_json(), "epochs": history})
        if source := recipe_file(loaded.path, loaded.checkpoint):
            paths.recipe.write_bytes(source.read_bytes())
        losses = [(each["train loss"], each["selection loss"]) for each in history]
        made_from = {"run": str(loaded.path), "kind": config.kind, "records": found.n_records}
        write_task_report(work.content / REPORT, found.to_json(), shown(found.methods), losses, made_from)
        save_task(work.content, model)
        work.publish()
    return found


def fit_task(
    config: TaskConfig,
    run: TrainedModel,
    parts: Mapping[str, Sequence[TaskExample]],
    *,
    folder: Path | None = None,
    on_epoch: Callable[[FitProgress], object] = lambda progress: None,
    on_step: Callable[[int, int | None], object] = lambda step, of: None,
) -> tuple[TaskModel, list[dict[str, float]]]:
    """Train encoder and head on the training part, calibrate on the selection part; also the losses of each epoch.

    The encoder of `run` itself is changed. `folder` is where the state of the fit is saved.
    """
    if is_own(config.head.kind):
        look_up("head", str(config.head.kind), trust_code=True)  # who runs a task means what it names
    space = TargetSpace.fit(config.kind, config.labels, parts["train"])
    for examples in parts.values():  # a class that is not known is reported before anything is trained
        space.targets(examples)
    data = FitData(
        train=parts["train"],
        train_targets=space.targets(parts["train"]),
        selection=parts["selection"],
        selection_targets=space.targets(parts["selection"]),
    )
    fit = TaskFit(
        config=config,
        encoder=run.model,
        space=space,
        data=data,
        symmetries=run.tokenizer.symmetries(),
        folder=folder,
        on_epoch=on_epoch,
        on_step=on_step,
    )
    model = TaskModel(config=config, space=space, network=fit.run(), tokenizer=run.tokenizer)
    outputs = model.outputs(data.selection)
    temperature = fit_temperature(space, outputs, data.selection_targets)
    width = 0.0
    if config.kind == "regression":
        width = half_width((space.predictions(outputs) - data.selection_targets)[:, 0], COVERAGE)
        if math.isinf(width):
            warnings.warn(
                f"predictions get no intervals: {len(outputs):,} numbers for selection are too few to bound an error "
                f"with probability {COVERAGE:g}",
                DataWarning,
                stacklevel=2,
            )
    return replace(model, temperature=temperature, half_width=width), fit.history


def read_parts(config: TaskConfig, run: TrainedModel) -> dict[str, list[TaskExample]]:
    """The labelled examples of the training, selection and test parts. Warns of copies that stand in two of them."""
    readers = {
        part: [
            Intake(
                run.reader(file, config.data.format, config.data.format_options),
                file,
                on_error=config.data.on_error,
                tokenizer=run.tokenizer,
            )
            for file in config.data.of_part(part)
        ]
        for part in ("train", "selection", "test")
    }
    records = {part: (record for each in own for record in each) for part, own in readers.items() if own}
    read = partial(_second_file, config, run)
    parts = labelled_examples(config, records, run.tokenizer, run.model.config.max_positions, read)
    if config.data.shares:
        stratify = config.kind in ("binary", "multiclass") and not config.labels.per_unit
        parts |= split_shares(parts["train"], config.data.shares, seed=config.seed, stratify=stratify)
    for part in ("selection", "test") if not config.prefixes else ():  # many cases begin alike
        if n := shared_records(parts["train"], parts[part]):
            text = f"{n:,} of {len(parts[part]):,} examples of the {part} part have a twin in the training part"
            warnings.warn(text, DataWarning, stacklevel=2)
    return parts


def _second_file(config: TaskConfig, run: TrainedModel, file: Path) -> Iterator[Record]:
    """The records of a file of labels, read as those of the data."""
    with Intake(run.reader(file, config.data.format, config.data.format_options), file, warns=False) as records:
        yield from records


def _state_of(work: Work, config: TaskConfig, run: TrainedModel) -> Path:
    """The folder of what an interrupted call has left; `UsageError` where that was about something else."""
    folder = work.folder / STATE
    folder.mkdir(exist_ok=True)
    files = [
        *(file for part in ("train", "selection", "test") for file in config.data.of_part(part)),
        *(Path(name) for name in (config.labels.file, config.labels.bed) if name is not None),
    ]
    for file in files:
        if not file.is_file():
            raise UsageError(
                f"{file}: there is no such file\n\nhint: paths in a task file are relative to it", code="missing-file"
            )
    saved_form: dict[str, Any] = TypeAdapter(TaskConfig).dump_python(config, mode="json")
    about = {
        "task": saved_form,
        "encoder": weights_digest(run.checkpoint),
        "tokenizer": run.tokenizer.fingerprint,
        "files": [file_digest(file) for file in files],
    }
    text, saved = to_json(about, lossless=True, sort_keys=True).encode(), folder / "about.json"
    if not saved.exists():
        write(saved, text)
    elif saved.read_bytes() != text:
        work.stays = True
        raise UsageError(
            f"{work.folder} holds the beginning of another fine-tuning: another run, task or file\n\n"
            f"hint: give the same command to go on with that one, or remove the folder",
            code="other-data",
        )
    return folder
