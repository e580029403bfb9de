"""What comes next: events of running cases, numbers of signals."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from maskseq.cli import console
from maskseq.cli.app import (
    Json,
    Key,
    RunFolder,
    Symmetries,
    TableFile,
    Trust,
    app,
    made_of,
    reads_a_file,
)

if TYPE_CHECKING:
    from maskseq.corpus.dress import ReadAs


def _continuing(
    run: RunFolder,
    file: Annotated[Path, typer.Argument(help="The file whose records go on: running cases, or signals.")],
    samples: Annotated[
        int | None,
        typer.Option(
            min=1, help="Continuations to draw of each record (default: 100, or 1 where one distribution says all)."
        ),
    ] = None,
    case: Annotated[
        list[str] | None, typer.Option("--case", metavar="KEY", help="Only this record. Repeatable.")
    ] = None,
    output: TableFile = None,
    drawn: Annotated[Path | None, typer.Option(help="A second table, of every value of every sample.")] = None,
    by: Annotated[
        Literal["encoder", "counted"] | None,
        typer.Option(help="What predicts (default: both, weighed; counts where the encoder saw every end)."),
    ] = None,
    temperature: Annotated[float, typer.Option(min=0.0, help="Of what is drawn; 1: as the model has it.")] = 1.0,
    seed: Key = 0,
    symmetries: Symmetries = True,
    trust_code: Trust = False,
    as_json: Json = False,
) -> "Continue":
    def continued(
        make: Callable[..., dict[str, Any]], read_as: "ReadAs", *, steps: int | None, most: int | None = None
    ) -> None:
        from maskseq.apps.generate import GenerateRequest
        from maskseq.trained import load

        request = GenerateRequest(
            steps=steps, most=most, samples=samples, cases=case or (), by=by, temperature=temperature, seed=seed
        )
        with console.counting("continuing", "records") as counted:
            summary = make(
                load(run, trust_code=trust_code),
                file,
                request,
                output=output,
                drawn=drawn,
                read_as=read_as,
                symmetries=symmetries,
                as_json=as_json,
                on_progress=counted,
            )
        if output is not None:
            console.show(summary, as_json=as_json)

    return continued


Continue = Callable[..., None]
"""Writes the table of continuations, with progress; a summary where the table is a file."""
continues = made_of("write", _continuing)


@app.command("next")
@reads_a_file
@continues
def next_events(
    read_as: "ReadAs",
    write: Continue,
    steps: Annotated[
        int | None, typer.Option(min=1, help="How many events (positions) to look ahead (default: 1).")
    ] = None,
    rest: Annotated[
        bool, typer.Option("--rest", help="Until the end: a row a case, with events left and remaining time.")
    ] = False,
    most: Annotated[
        int | None, typer.Option(min=1, help="With --rest: events, at most (default: as many as the model sees).")
    ] = None,
) -> None:
    """What comes next in cases that are not over: the next events, whether there are any, and the time that is left.

    A row for each step and field: values, probabilities, and intervals of numbers. docs/next.md says more.
    """
    from maskseq.apps.generate import next_file
    from maskseq.errors import UsageError

    if rest and steps:
        raise UsageError("either --steps, or --rest, which ends where the case does", code="bad-option")
    if most and not rest:
        raise UsageError("--most bounds --rest\n\nhint: --steps says how many events to look ahead", code="bad-option")
    write(next_file, read_as, steps=None if rest else steps or 1, most=most)


@app.command()
@reads_a_file
@continues
def forecast(
    read_as: "ReadAs",
    write: Continue,
    steps: Annotated[int, typer.Option(min=1, help="How many time steps (positions) behind the last one.")],
) -> None:
    """How signals go on: means, medians and intervals of every step, and paths to draw from.

    Half a context is predicted at a time; what is further ahead is given what each path has by then.
    """
    from maskseq.apps.generate import forecast_file

    write(forecast_file, read_as, steps=steps)
