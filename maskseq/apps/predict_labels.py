"""How a fine-tuned run reads a file whose labels are to be predicted, or a table in memory."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from maskseq.corpus.dress import AS_TRAINED, ReadAs
from maskseq.corpus.frames import TableInMemory
from maskseq.corpus.intake import Intake
from maskseq.storage.tabular import table_writer
from maskseq.tasks.table import columns_of_task, prediction_rows
from maskseq.tasks.task_model import TaskModel
from maskseq.trained import TrainedModel


def task_records(
    run: TrainedModel,
    task: TaskModel,
    file: Path,
    read_as: ReadAs = AS_TRAINED,
) -> Intake:
    """The records of a file, read as the task's were unless a format is given."""
    data = task.config.data
    name = read_as.format or data.format
    options = {**(data.format_options if name == data.format else {}), **read_as.options}
    return run.intake(file, replace(read_as, format=name, options=options))


def predict_frame(run: TrainedModel, frame: Any, **given: Any) -> Any:
    """What a fine-tuned run predicts of the records of a data frame, as a frame of the same library.

    The frame is read as a file of the same columns is, as the task's files were unless a format is given. `given` are
    the fields of `ReadAs`: `format`, `options`, `on_error`.
    """
    known, task, read_as = TableInMemory.of(frame), run.task, ReadAs(**given)
    name = read_as.format or task.config.data.format
    with TemporaryDirectory() as folder, known.as_file(run.frames_as(name) if name else None) as file:
        table = Path(folder) / "predicted.parquet"
        with (
            table_writer(table, columns_of_task(task)) as write,
            task_records(run, task, file, read_as) as records,
        ):
            for some in prediction_rows(task, records):
                write(some)
        return known.like_it(table)
