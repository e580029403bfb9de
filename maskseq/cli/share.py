"""A run for others."""

from pathlib import Path
from typing import Annotated

import typer

from maskseq.cli import console
from maskseq.cli.app import Json, RunFolder, Trust, app


@app.command()
def share(
    run: RunFolder,
    place: Annotated[str, typer.Argument(help="A new folder, or hf://organization/name on the Hugging Face hub.")],
    with_data: Annotated[
        bool, typer.Option("--with-data", help="Let experts that hold training data, and these data, go along.")
    ] = False,
    licence: Annotated[str, typer.Option("--license", help="What others may do with it, such as apache-2.0.")] = "",
    evaluation: Annotated[
        Path | None, typer.Option(help="An evaluation.json of `maskseq evaluate -o`, for the figures of the card.")
    ] = None,
    trust_code: Trust = False,
    as_json: Json = False,
) -> None:
    """Write what others need of a run, with a card: encoder, tokenizer and recipe, without training data.

    `maskseq.load` opens it from the folder or from hf://organization/name, and checks every digest.
    """
    from maskseq.apps.share import share as write
    from maskseq.trained import load

    loaded = load(run, trust_code=trust_code)
    console.show(write(loaded, place, with_data=with_data, licence=licence, evaluation=evaluation), as_json=as_json)
