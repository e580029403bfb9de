"""From a recipe to a trained encoder."""

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from maskseq.cli import console
from maskseq.cli.app import Json, OnBuildError, RecipeFile, Seed, Set, app, with_on_error, with_seed


@app.command()
def pretrain(
    recipe: RecipeFile,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The run folder (default: runs/NAME of the recipe).")
    ] = None,
    overrides: Set = None,
    on_error: OnBuildError = None,
    seed: Seed = None,
    extend: Annotated[
        Path | None,
        typer.Option("--extend", metavar="RUN", help="Begin the next stage of a run, such as longer segments."),
    ] = None,
    branch: Annotated[
        Path | None,
        typer.Option("--branch", metavar="RUN", help="Go on from a run (or one of its checkpoints) under this recipe."),
    ] = None,
    experts_only: Annotated[
        bool,
        typer.Option(
            "--experts-only", help="Train nothing: count what the corpus holds, in seconds, and predict by that."
        ),
    ] = False,
    log: Annotated[
        list[str] | None, typer.Option("--log", help="tensorboard, wandb, trackio or mlflow, besides metrics.jsonl.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show model size, memory, steps and a first batch, and train nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Pretrain an encoder on the files of a recipe.

    Ctrl-C (or SIGTERM, or the loss of the terminal) checkpoints and stops; the same command goes on from there, with
    the same order and masks.
    """
    from maskseq.apps import inspect as describe
    from maskseq.apps import pretrain as commands
    from maskseq.apps.prepare import prepare_corpus
    from maskseq.corpus.overlap import overlap_of
    from maskseq.recipe import check_memory, load_recipe
    from maskseq.storage.run_folder import RunFolder
    from maskseq.training.events import Calibrated, Compared
    from maskseq.training.loggers import logging_to

    resolved = load_recipe(recipe, with_on_error(with_seed(overrides, seed), on_error))
    folder = output or Path("runs") / recipe.stem
    if dry_run:
        console.show(describe.dry_run(resolved, output=folder), as_json=as_json)
        return
    check_memory(resolved)
    place = RunFolder(folder).corpus
    new = not place.exists()
    with console.counting("tokenizing", "units") as counted:
        corpus = prepare_corpus(resolved, default=place, run=folder, on_build=counted)
    if new and not as_json:
        console.fitted(corpus.tokenizer.describe())
    left = overlap_of(corpus)
    if left and not left.warning:  # else training warns
        console.say(str(left))
    found: list[Calibrated | Compared] = []
    with ExitStack() as stack:
        listeners = [stack.enter_context(console.training_progress(as_json=as_json))]
        listeners += [stack.enter_context(logging_to(name, folder, resolved.identity())) for name in log or ()]
        listeners.append(lambda event: found.append(event) if isinstance(event, Calibrated | Compared) else None)
        run = commands.pretrain(
            resolved,
            output=folder,
            corpus=corpus,
            extend=extend,
            branch=branch,
            experts_only=experts_only,
            on_event=lambda event: console.tell_all(listeners, event),
        )
    if run.experts.stored is not None and not as_json:
        console.say(run.experts.stored.reported())
    console.say(f"run folder: {folder}; fill a file with: maskseq infill {folder} FILE")
    for event in found:
        console.say(event.in_words)


@app.command()
def watch(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders, or copies of metrics.jsonl.")],
    once: Annotated[bool, typer.Option("--once", help="Show how things stand, and end.")] = False,
    every: Annotated[float, typer.Option(help="Seconds between two looks.")] = 2.0,
    as_json: Json = False,
) -> None:
    """Watch runs in progress, side by side: progress, curves, speed, time to go, validation, last checkpoint.

    Reads metrics.jsonl and nothing else, so it disturbs no run. Ends when all runs have; Ctrl-C ends it before.
    """
    from contextlib import suppress

    from maskseq.apps import watch as watching
    from maskseq.training.metrics import Watched

    watched = [Watched(run).update() for run in runs]
    if as_json:
        for run in watched:
            console.show(run.summary(), as_json=True)
    elif once or not console.results.is_terminal:
        console.results.print(watching.view(watched))
    else:
        with suppress(KeyboardInterrupt):
            watching.watch(watched, console.results, every=every)
