"""Looking into things, recipes to start from, and encoders from and for elsewhere."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from maskseq.cli import console
from maskseq.cli.app import CommandGroup, Json, RunFolder, Trust, app

recipes_app = typer.Typer(cls=CommandGroup, no_args_is_help=True)
app.add_typer(recipes_app, name="recipes", help="List the recipes that ship, or copy one to edit.")


@app.command()
def inspect(
    path: Annotated[str, typer.Argument(help="A recipe, a corpus (or its URL), a run folder or a checkpoint.")],
    layers: Annotated[
        bool,
        typer.Option("--layers", help="List every parameter of a run or recipe: shape, optimizer, rate, weight decay."),
    ] = False,
    trust_code: Trust = False,
    as_json: Json = False,
) -> None:
    """Say what a recipe, a corpus or a run is."""
    from maskseq.apps import inspect as describe

    console.show(describe.inspect(path, layers=layers, trust_code=trust_code), as_json=as_json)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Say what this machine offers: devices, number formats, attention kernels, and why one is not used."""
    from maskseq.apps import inspect as describe

    console.show(describe.doctor(), as_json=as_json)


@app.command("new-plugin")
def new_plugin(
    name: Annotated[str, typer.Argument(help="What the tokenizer will be called: lower-case letters, digits and _.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A new folder (default: maskseq-NAME).")] = None,
) -> None:
    """Write a package of your own to begin with: a format, a tokenizer, and tests of their contracts, which pass."""
    from maskseq.apps.new_plugin import new_plugin as write

    for written in write(name, output):
        console.say(f"wrote {written}")
    console.say(f"then, in {written.parent.parent}: pytest && pip install .")


@app.command("import-hf")
def import_hf(
    folder: Annotated[Path, typer.Argument(help="A Hugging Face folder: ModernBERT, NomicBERT, BERT or NeoBERT.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The checkpoint folder to write.")],
    tokenizer: Annotated[
        str | None, typer.Option(help="The tokenizer whose tokens are picked from theirs (default: the folder's own).")
    ] = None,
    trust_code: Trust = False,
) -> None:
    """Turn a Hugging Face encoder into a maskseq checkpoint."""
    from maskseq.apps.interchange import import_checkpoint

    parameters = import_checkpoint(folder, output, tokenizer=tokenizer, trust_code=trust_code)
    console.say(f"wrote {output}: {parameters:,} parameters")


@app.command()
def export(
    run: RunFolder,
    output: Annotated[Path, typer.Option("--output", "-o", help="A folder (hf) or an .onnx file.")],
    format: Annotated[Literal["hf", "onnx"], typer.Option("--format", help="What to write.")] = "hf",
    trust_code: Trust = False,
) -> None:
    """Write a run's encoder for transformers (it then runs under fill-mask) or as ONNX: the encoder alone."""
    from maskseq.apps.interchange import export_checkpoint
    from maskseq.trained import load

    loaded = load(run, trust_code=trust_code)
    what = export_checkpoint(loaded, output, format=format)
    console.say(f"wrote {output}: {what}")
    if loaded.experts.stored is not None:
        console.say(
            "what is exported is the encoder alone: the counted experts and the gate of the run's blend stay here"
        )


@recipes_app.command("list")
def recipes_list(as_json: Json = False) -> None:
    """The recipes that ship, and what each is for."""
    from maskseq.apps import samples as shipped

    console.show({name: shipped.first_comment(path) for name, path in shipped.recipes().items()}, as_json=as_json)


@recipes_app.command("copy")
def recipes_copy(
    name: Annotated[str, typer.Argument(help="A name from `maskseq recipes list`.")],
    destination: Annotated[Path, typer.Argument(help="Where to write it; its sample files go into the same folder.")],
) -> None:
    """Copy a recipe, and the samples it reads, to a place of your own."""
    from maskseq.apps import samples as shipped

    for written in shipped.copy(name, destination):
        console.say(f"wrote {written}")
