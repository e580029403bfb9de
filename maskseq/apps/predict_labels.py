"""A fine-tuned run and a file of records in, a table of predictions out."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from maskseq.corpus.dress import NO_OPTIONS
from maskseq.corpus.intake import Intake, OnError
from maskseq.storage.tabular import Columns
from maskseq.tasks.examples import TaskExample, unlabelled_examples
from maskseq.tasks.task_model import TaskModel, load_task
from maskseq.trained import TrainedModel
from maskseq.types import Record

AT_ONCE = 256
"""Examples that are predicted together."""


def task_of(run: TrainedModel) -> TaskModel:
    """What the run was fine-tuned for; `UsageError` for one that was not."""
    return load_task(run.checkpoint, run.model, run.tokenizer)


def task_records(
    run: TrainedModel,
    task: TaskModel,
    file: Path,
    format: str | None = None,
    options: Mapping[str, Any] = NO_OPTIONS,
    on_error: OnError = "stop",
) -> Intake:
    """The records of a file, read as the task's were unless a format is given."""
    name = format or task.config.data.format
    given = {**(task.config.data.format_options if name == task.config.data.format else {}), **options}
    return Intake(run.reader(file, name, given), file, on_error=on_error, tokenizer=run.tokenizer)


def columns_of_task(task: TaskModel) -> Columns:
    """Of the table: key, unit, the answer, and its probabilities or interval."""
    first: dict[str, type] = {"key": str}
    if task.config.labels.per_unit:
        first["position"] = int
    elif task.config.prefixes:
        first["units"] = int
    if task.config.kind == "regression":
        return {**first, "prediction": float, "low": float, "high": float}
    return {**first, "prediction": str, **{f"p({name})": float for name in task.space.classes}}


def prediction_rows(task: TaskModel, records: Iterable[Record]) -> Iterator[list[dict[str, Any]]]:
    """Rows of that table, in the order of the file, streaming. Positions count from 1."""
    examples = unlabelled_examples(task.config, records, task.tokenizer, task.context)
    while some := list(islice(examples, AT_ONCE)):
        yield list(_rows(task, some))


def _rows(task: TaskModel, examples: list[TaskExample]) -> Iterator[dict[str, Any]]:
    known = [each for each in examples if len(each.ids)]
    predictions = iter(task.predict(known)) if known else iter(())
    for each in examples:
        for n in range(each.n_answers):
            first: dict[str, Any] = {"key": each.key}
            if each.units is not None:
                first["position"] = int(each.units[n]) + 1
            elif task.config.prefixes:
                first["units"] = each.n_units
            if not len(each.ids):  # an empty record: nothing is known of it
                yield dict.fromkeys(columns_of_task(task)) | first
                continue
            found = next(predictions)
            if task.config.kind == "regression":
                value, width = float(found[0]), task.half_width
                yield {**first, "prediction": value, "low": value - width, "high": value + width}
            else:
                shares = {f"p({name})": float(p) for name, p in zip(task.space.classes, found, strict=True)}
                yield {**first, "prediction": task.space.named(found), **shares}
