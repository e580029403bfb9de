"""Predictions as rows of a table: the record, the unit, the answer, and how sure it is."""

import math
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from maskseq.storage.tabular import Columns
from maskseq.tasks.examples import TaskExample, unlabelled_examples
from maskseq.tasks.task_model import TaskModel
from maskseq.types import Record

AT_ONCE = 256
"""Examples that are predicted together."""


def columns_of_task(task: TaskModel) -> Columns:
    """Columns of the table: key, unit, the answer, and its probabilities or interval."""
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
                bounded = math.isfinite(width)  # else too few errors were seen
                low, high = (value - width, value + width) if bounded else (None, None)
                yield {**first, "prediction": value, "low": low, "high": high}
            else:
                shares = {f"p({name})": float(p) for name, p in zip(task.space.classes, found, strict=True)}
                yield {**first, "prediction": task.space.named(found), **shares}
