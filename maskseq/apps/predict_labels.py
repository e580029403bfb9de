"""How a fine-tuned run reads a file whose labels are to be predicted, or a table in memory."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from maskseq.corpus.dress import NO_OPTIONS
from maskseq.corpus.frames import TableInMemory
from maskseq.corpus.intake import Intake, OnError
from maskseq.storage.tabular import table_writer
from maskseq.tasks.table import columns_of_task, prediction_rows
from maskseq.tasks.task_model import TaskModel
from maskseq.trained import TrainedModel


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


def predict_frame(
    run: TrainedModel,
    frame: Any,
    format: str | None = None,
    options: Mapping[str, Any] = NO_OPTIONS,
    *,
    on_error: OnError = "stop",
) -> Any:
    """What a fine-tuned run predicts of the records of a data frame, as a frame of the same library.

    The frame is read as a file of the same columns is, as the task's files were unless a format is given.
    """
    known, task = TableInMemory.of(frame), run.task
    name = format or task.config.data.format
    with TemporaryDirectory() as folder, known.as_file(run.frames_as(name) if name else None) as file:
        table = Path(folder) / "predicted.parquet"
        with (
            table_writer(table, columns_of_task(task)) as write,
            task_records(run, task, file, format, options, on_error) as records,
        ):
            for some in prediction_rows(task, records):
                write(some)
        return known.like_it(table)
