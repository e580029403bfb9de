"""What comes next: events of running cases, numbers of signals."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from maskseq.cli import console
from maskseq.cli.app import (
    Dress,
    FormatName,
    Json,
    Key,
    OnBroken,
    RunFolder,
    Symmetries,
    TableFile,
    Trust,
    app,
    format_options,
)

Drawn = Annotated[Path | None, typer.Option(help="A second table, of every value of every sample.")]
By = Annotated[
    Literal["encoder", "counted"] | None,
    typer.Option(help="What predicts (default: both, weighed; counts where the encoder saw every end)."),
]
Cases = Annotated[list[str] | None, typer.Option("--case", metavar="KEY", help="Only this record. Repeatable.")]
Temperature = Annotated[float, typer.Option(min=0.0, help="Of what is drawn; 1: as the model has it.")]


@app.command("next")
def next_events(
    run: RunFolder,
    file: Annotated[Path, typer.Argument(help="The file whose records go on, such as a log of running cases.")],
    steps: Annotated[
        int | None, typer.Option(min=1, help="How many events (positions) to look ahead (default: 1).")
    ] = None,
    rest: Annotated[
        bool, typer.Option("--rest", help="Until the end: a row a case, with events left and remaining time.")
    ] = False,
    most: Annotated[
        int | None, typer.Option(min=1, help="With --rest: events, at most (default: as many as the model sees).")
    ] = None,
    samples: Annotated[
        int | None, typer.Option(min=1, help="Continuations to draw of each record (default: 100; 1 for one step).")
    ] = None,
    case: Cases = None,
    output: TableFile = None,
    drawn: Drawn = None,
    by: By = None,
    temperature: Temperature = 1.0,
    seed: Key = 0,
    format: FormatName = None,
    overrides: Dress = None,
    on_error: OnBroken = "stop",
    symmetries: Symmetries = True,
    trust_code: Trust = False,
    as_json: Json = False,
) -> None:
    """What comes next in cases that are not over: the next events, whether there are any, and the time that is left.

    A row for each step and field: values, probabilities, and intervals of numbers. docs/next.md says more.
    """
    from maskseq.apps.generate import GenerateRequest, next_file
    from maskseq.errors import UsageError
    from maskseq.trained import load

    if rest and steps:
        raise UsageError("either --steps, or --rest, which ends where the case does", code="bad-option")
    if most and not rest:
        raise UsageError("--most bounds --rest\n\nhint: --steps says how many events to look ahead", code="bad-option")
    request = GenerateRequest(
        steps=None if rest else steps or 1,
        most=most,
        samples=samples,
        cases=case or (),
        by=by,
        temperature=temperature,
        seed=seed,
    )
    _continued(
        next_file,
        load(run, trust_code=trust_code),
        file,
        request,
        output=output,
        drawn=drawn,
        format=format,
        options=format_options(overrides),
        on_error=on_error,
        symmetries=symmetries,
        as_json=as_json,
    )


@app.command()
def forecast(
    run: RunFolder,
    file: Annotated[Path, typer.Argument(help="The file whose signals go on.")],
    steps: Annotated[int, typer.Option(min=1, help="How many time steps (positions) behind the last one.")],
    samples: Annotated[
        int | None,
        typer.Option(min=1, help="Paths to draw of each record (default: 100, or 1 where none is needed)."),
    ] = None,
    case: Cases = None,
    output: TableFile = None,
    drawn: Drawn = None,
    by: By = None,
    temperature: Temperature = 1.0,
    seed: Key = 0,
    format: FormatName = None,
    overrides: Dress = None,
    on_error: OnBroken = "stop",
    symmetries: Symmetries = True,
    trust_code: Trust = False,
    as_json: Json = False,
) -> None:
    """How signals go on: means, medians and intervals of every step, and paths to draw from.

    Half a context is predicted at a time; what is further ahead is given what each path has by then.
    """
    from maskseq.apps.generate import GenerateRequest, forecast_file
    from maskseq.trained import load

    request = GenerateRequest(steps=steps, samples=samples, cases=case or (), by=by, temperature=temperature, seed=seed)
    _continued(
        forecast_file,
        load(run, trust_code=trust_code),
        file,
        request,
        output=output,
        drawn=drawn,
        format=format,
        options=format_options(overrides),
        on_error=on_error,
        symmetries=symmetries,
        as_json=as_json,
    )


def _continued(
    make: Callable[..., dict[str, Any]], *work: Any, output: Path | None, as_json: bool, **options: Any
) -> None:
    """Write the table of continuations, with progress; a summary where the table is a file."""
    with console.counting("continuing", "records") as counted:
        summary = make(*work, output=output, as_json=as_json, on_progress=counted, **options)
    if output is not None:
        console.show(summary, as_json=as_json)
