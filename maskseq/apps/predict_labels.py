"""How a fine-tuned run reads a file whose labels are to be predicted, or a table in memory."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from maskseq.corpus.dress import NO_OPTIONS
from maskseq.corpus.intake import Intake, OnError
from maskseq.errors import UsageError
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
    run: TrainedModel, frame: Any, format: str | None = None, options: Mapping[str, Any] = NO_OPTIONS
) -> Any:
    """Predictions of the records in a data frame of pandas, polars or another library that narwhals knows.

    The frame is read as a CSV file of the same columns is; the answer is a frame of the same library.
    """
    try:
        import narwhals as nw
    except ImportError:
        raise UsageError("data frames need narwhals\n\nhint: pip install 'maskseq[tasks]'") from None
    task, given = run.task, nw.from_native(frame, eager_only=True)
    with TemporaryDirectory() as folder:
        file = Path(folder) / "frame.csv"
        given.write_csv(file)
        with task_records(run, task, file, format, options) as records:
            rows = [row for some in prediction_rows(task, records) for row in some]
    columns = {name: [row[name] for row in rows] for name in columns_of_task(task)}
    return nw.from_dict(columns, backend=given.implementation).to_native()
