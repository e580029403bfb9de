"""Your own question: fine-tune a run for labels, predict them, and probe what its vectors know."""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from maskseq.cli import console
from maskseq.cli.app import (
    Json,
    Key,
    Layer,
    RunFolder,
    Seed,
    Set,
    Symmetries,
    TableFile,
    Trust,
    app,
    reads_a_file,
    with_seed,
)

if TYPE_CHECKING:
    from maskseq.corpus.dress import ReadAs
    from maskseq.tasks.fit import FitProgress


@app.command()
def finetune(
    run: RunFolder,
    task: Annotated[Path, typer.Argument(help="A TOML file: which labels, which head, what learns (docs/tasks.md).")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The run folder that is made.")],
    overrides: Set = None,
    seed: Seed = None,
    trust_code: Trust = False,
    as_json: Json = False,
) -> None:
    """Train a run for your labels: classes, sets of labels, numbers; of records, positions, events or running cases.

    Reports the test part with intervals, compared with simple methods without an encoder. Ctrl-C saves and stops; the
    same command goes on from there to the same weights.
    """
    from maskseq.apps import finetune as commands
    from maskseq.tasks.judge import shown
    from maskseq.trained import load

    config = commands.load_task_file(task, with_seed(overrides, seed))

    def epoch_line(progress: "FitProgress") -> None:
        best = " (best)" if progress.best else ""
        console.say(
            f"epoch {progress.epoch} of {progress.epochs}: loss {progress.train_loss:.4f}, "
            f"selection {progress.selection_loss:.4f}{best}"
        )

    with ExitStack() as stack:
        counted = stack.enter_context(console.counting("fine-tuning", "steps"))
        found = commands.finetune(
            load(run, trust_code=trust_code),
            config,
            output=output,
            on_epoch=lambda progress: None if as_json else epoch_line(progress),
            on_step=counted,
        )
    if as_json:
        console.show({"output": str(output), **found.to_json()}, as_json=True)
        return
    console.show({"test records": found.n_records, **shown(found.methods), "verdict": found.words}, as_json=False)
    console.say(f"run folder: {output}; predict with: maskseq predict {output} FILE")


@app.command()
@reads_a_file
def predict(
    read_as: "ReadAs",
    run: Annotated[Path, typer.Argument(metavar="TASKRUN", help="A folder that `maskseq finetune` made.")],
    file: Annotated[Path, typer.Argument(help="The file whose labels are predicted.")],
    output: TableFile = None,
    trust_code: Trust = False,
    as_json: Json = False,
) -> None:
    """Predict the labels of a file's records: calibrated probabilities of classes, or numbers with 90 % intervals.

    Cases are taken as they stand: of a task of running cases, as their beginnings.
    """
    from maskseq.apps.predict_labels import task_records
    from maskseq.storage.outputs import require_apart
    from maskseq.storage.tabular import table_on_stdout, table_writer
    from maskseq.tasks.table import columns_of_task, prediction_rows
    from maskseq.trained import load

    if output is not None:
        require_apart(output, file)
    loaded = load(run, trust_code=trust_code)
    task = loaded.task
    records = task_records(loaded, task, file, read_as)
    columns = columns_of_task(task)
    opened = table_on_stdout(columns, as_json=as_json) if output is None else table_writer(output, columns)
    n = 0
    with opened as sink, records:
        for rows in prediction_rows(task, records):
            sink(rows)
            n += len(rows)
    if output is not None:
        console.show({"table": str(output), "rows": n, **records.summary}, as_json=as_json)


@app.command()
@reads_a_file
def probe(
    read_as: "ReadAs",
    run: RunFolder,
    file: Annotated[Path, typer.Argument(help="A file of records with labels.")],
    column: Annotated[
        str | None, typer.Option(help="Where labels are: a column or attribute of the file, or of --labels.")
    ] = None,
    labels: Annotated[Path | None, typer.Option(help="A CSV file of keys and labels (columns key and label).")] = None,
    kind: Annotated[
        Literal["binary", "multiclass", "multilabel", "regression"], typer.Option(help="What labels are.")
    ] = "multiclass",
    layer: Layer = None,
    model: Annotated[
        list[str] | None, typer.Option(help="linear (logistic or ridge), forest or knn. Repeatable (default: all).")
    ] = None,
    folds: Annotated[int, typer.Option(min=2, help="Parts of the cross-validation.")] = 5,
    group: Annotated[
        str | None, typer.Option(help="Records that share this attribute stand in one fold (default: copies do).")
    ] = None,
    simple: Annotated[bool, typer.Option(help="Compare with methods that need no encoder.")] = True,
    seed: Key = 0,
    symmetries: Symmetries = True,
    trust_code: Trust = False,
    as_json: Json = False,
) -> None:
    """What a run's vectors know of labels, before anything is fine-tuned: cross-validated, with 95 % intervals."""
    from maskseq.apps.probe import probe_file
    from maskseq.tasks.config import LabelSource
    from maskseq.tasks.figures import plain
    from maskseq.tasks.judge import shown
    from maskseq.trained import load

    source = LabelSource(column=column, file=None if labels is None else str(labels))
    with console.counting("embedding", "records") as counted:
        found = probe_file(
            load(run, trust_code=trust_code),
            file,
            labels=source,
            kind=kind,
            layer=layer,
            models=model or ("linear", "forest", "knn"),
            folds=folds,
            group=group,
            simple=simple,
            symmetries=symmetries,
            seed=seed,
            read_as=read_as,
            on_progress=counted,
        )
    if as_json:
        console.show({name: plain(each) for name, each in found.items()}, as_json=True)
    else:
        console.show(shown(found), as_json=False)
