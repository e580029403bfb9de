"""A run for other programs and for a browser."""

from typing import Annotated

import typer

from maskseq.cli import console
from maskseq.cli.app import RunFolder, Trust, app


@app.command()
def serve(
    run: RunFolder,
    host: Annotated[str, typer.Option(help="The address to listen on; others than this machine's need a token.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0: any free one.")] = 8000,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="MASKSEQ_TOKEN",
            help="What requests must bring (default: none on this machine, one that is made and shown elsewhere).",
        ),
    ] = None,
    megabytes: Annotated[float, typer.Option(min=0.001, help="The largest file that is taken, in MB.")] = 8.0,
    positions: Annotated[int, typer.Option(min=1, help="The most positions that a file may have.")] = 200_000,
    seconds: Annotated[float, typer.Option(min=0.1, help="The longest time that a request may take.")] = 60.0,
    active: Annotated[int, typer.Option(min=1, help="Requests that are worked on at the same time.")] = 4,
    waiting: Annotated[int, typer.Option(min=0, help="Requests that may wait; more are refused.")] = 32,
    trust_code: Trust = False,
) -> None:
    """Serve a run over HTTP, with a page to fill files in a browser.

    /infill, /predict, /next, /score, /embed and /health; /openapi.json describes them. Ctrl-C answers what has begun
    and stops. docs/serve.md says more.
    """
    from maskseq.serve.limits import Limits
    from maskseq.serve.start import listen
    from maskseq.trained import load

    limits = Limits(bytes=int(megabytes * 1e6), positions=positions, seconds=seconds, active=active, waiting=waiting)
    listen(load(run, trust_code=trust_code), limits, host=host, port=port, token=token, tell=console.say)
