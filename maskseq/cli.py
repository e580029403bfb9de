"""The command line: what may be asked, and which code it exits with. What is printed is `console.py`'s."""

import sys
import warnings
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from maskseq import __version__, console
from maskseq.errors import MaskseqError, UsageError
from maskseq.inference.order import OrderName


class Group(TyperGroup):
    """Turns what a command raises into one clear line and an exit code: 1 failure, 2 usage, 3 data, 130 interrupted."""

    def invoke(self, ctx: Any) -> Any:
        warnings.showwarning = lambda message, *_, **__: console.warn(str(message))
        try:
            return super().invoke(ctx)
        except MaskseqError as error:
            console.fail(str(error))
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt as stop:
            console.warn(str(stop) or "interrupted")
            raise typer.Exit(getattr(stop, "exit_code", 130)) from None
        except BrokenPipeError:  # whoever reads our output, such as `head`, has seen enough
            sys.stderr.close()
            raise typer.Exit(0) from None
        except OSError as error:  # a full disk, a folder without permission: the message names the path
            console.fail(str(error))
            raise typer.Exit(1) from None


app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    rich_markup_mode="rich",
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Masked modeling for sequences that are not text: [bold]pretrain[/] on your own file, [bold]infill[/] the "
    "holes of another.\n\nStart with [cyan]maskseq recipes list[/], then [cyan]maskseq pretrain RECIPE --dry-run[/]."
    "\n\n"
    "Exit codes: 0 done, 1 failed, 2 wrong usage or recipe, 3 broken data, 130 interrupted (nothing is lost).",
)
recipes_app = typer.Typer(cls=Group, no_args_is_help=True)
app.add_typer(recipes_app, name="recipes", help="List the recipes that ship, or copy one to edit.")

RecipeFile = Annotated[Path, typer.Argument(help="A TOML recipe; `maskseq recipes list` shows those that ship.")]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable output on stdout: JSON, one object a line.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a recipe key, such as masking.ratio=0.4. Repeatable."),
]
Seed = Annotated[int | None, typer.Option(help="Override the recipe's seed.")]
RunFolder = Annotated[Path, typer.Argument(help="A run folder, or one of its checkpoints.")]
FormatName = Annotated[str | None, typer.Option("--format", help="The file's format (default: by its ending).")]
Symmetries = Annotated[
    bool, typer.Option(help="Average over the tokenizer's symmetries, such as the reverse complement.")
]
Trust = Annotated[bool, typer.Option("--trust-code", help="Let the folder load tokenizer code that is not installed.")]


def main() -> None:
    """Entry point of `maskseq` and of `python -m maskseq`."""
    app(prog_name="maskseq")


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    """Options of the program itself."""
    if version:
        print(__version__)
        raise typer.Exit


@app.command()
def pretrain(
    recipe: RecipeFile,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The run folder (default: runs/NAME of the recipe).")
    ] = None,
    overrides: Set = None,
    seed: Seed = None,
    extend: Annotated[
        Path | None,
        typer.Option("--extend", metavar="RUN", help="Begin the next stage of a run, such as longer pieces."),
    ] = None,
    branch: Annotated[
        Path | None,
        typer.Option("--branch", metavar="RUN", help="Go on from a run (or one of its checkpoints) under this recipe."),
    ] = None,
    log: Annotated[
        list[str] | None, typer.Option("--log", help="tensorboard, wandb, trackio or mlflow, besides metrics.jsonl.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show model size, memory, steps and a first batch, and train nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Pretrain an encoder on the files of a recipe.

    Ctrl-C (or SIGTERM) checkpoints and stops; the same command goes on from there, with the same order and masks.
    """
    from maskseq import commands, describe
    from maskseq.recipe import load_recipe
    from maskseq.training.loggers import logging_to

    resolved = load_recipe(recipe, _overrides(overrides, seed))
    folder = output or Path("runs") / recipe.stem
    if dry_run:
        console.show(describe.dry_run(resolved, output=folder), as_json=as_json)
        return
    with console.counting("tokenizing", "units") as counted:
        corpus = commands.prepare_corpus(resolved, default=folder / "corpus", on_build=lambda p: counted(p.units, None))
    with ExitStack() as stack:
        listeners = [stack.enter_context(console.training_progress(as_json=as_json))]
        listeners += [stack.enter_context(logging_to(name, folder, resolved.identity())) for name in log or ()]
        commands.pretrain(
            resolved,
            output=folder,
            corpus=corpus,
            extend=extend,
            branch=branch,
            on_event=lambda event: console.tell_all(listeners, event),
        )
    console.talk.print(f"run folder: {folder}; fill a file with: maskseq infill {folder} FILE")


@app.command()
def tokenize(
    recipe: RecipeFile,
    output: Annotated[Path, typer.Option("--output", "-o", help="The corpus folder.")],
    overrides: Set = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Address of a Dask scheduler whose workers build the parts (extra: cluster).")
    ] = None,
    part: Annotated[
        str | None,
        typer.Option(metavar="I/N", help="Build only every N-th part, for job arrays; run without --part to finish."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Tokenize the files of a recipe into a corpus, for several runs to share (`data.corpus = …` in their recipes).

    An interrupted build resumes when the same command is run again.
    """
    from maskseq import commands, describe
    from maskseq.recipe import load_recipe

    resolved = load_recipe(recipe, overrides or ())
    with console.counting("tokenizing", "units") as counted:
        if part is not None:
            commands.build_part(resolved, _share(part), output=output, on_build=lambda p: counted(p.units, None))
            return
        commands.prepare_corpus(
            resolved, default=output, scheduler=scheduler, on_build=lambda p: counted(p.units, None)
        )
    console.show(describe.inspect(output), as_json=as_json)


@app.command()
def infill(
    run: RunFolder,
    file: Annotated[Path, typer.Argument(help="The file whose holes are filled, in any format that is installed.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Folder for the filled file, fills.csv and report.html (default: FILE-filled)."
        ),
    ] = None,
    mask: Annotated[
        list[str] | None,
        typer.Option(
            "--mask",
            metavar="KEY:START-END|FILE.bed",
            help="Hide these stretches as well (1-based, inclusive; or a BED file). What was known there is kept aside "
            "and scored against. Repeatable.",
        ),
    ] = None,
    rule: Annotated[
        list[str] | None,
        typer.Option(
            "--rule",
            metavar="NAME=VALUE[@KEY[:START-END]]",
            help="A rule that every fill keeps, such as motif=NNRYN@chr1:101-105, gc=0.4..0.6 or bounds=gap:0..3600. "
            "Repeatable.",
        ),
    ] = None,
    format: FormatName = None,
    order: Annotated[OrderName, typer.Option(help="Which cells are committed first, and how many at a time.")] = (
        "entropy_bounded"
    ),
    temperature: Annotated[float, typer.Option(help="0: the most probable values; 1: draw from the model.")] = 0.0,
    samples: Annotated[int, typer.Option(help="Fills to draw of each hole; the first one is written.")] = 1,
    seed: Annotated[int, typer.Option(help="Key of everything that is drawn.")] = 0,
    fill_long_holes: Annotated[
        bool, typer.Option("--fill-long-holes", help="Also fill holes longer than half the context.")
    ] = False,
    symmetries: Symmetries = True,
    trust_code: Trust = False,
    as_json: Json = False,
) -> None:
    """Fill the unknown stretches of a file and write it back in its own format; what is known stays as it is."""
    from maskseq import roundtrip
    from maskseq.inference.infill import InfillConfig
    from maskseq.ranges import read_ranges
    from maskseq.run import load

    with console.counting("filling", "cells") as counted:
        summary = roundtrip.infill_file(
            load(run, trust_code=trust_code),
            file,
            output=output or file.with_name(f"{file.name.split('.')[0]}-filled"),
            ranges=read_ranges(mask or ()),
            rules=rule or (),
            format=format,
            config=InfillConfig(order=order, temperature=temperature, samples=samples, seed=seed),
            fill_long_holes=fill_long_holes,
            symmetries=symmetries,
            on_progress=counted,
            on_warning=console.warn,
        )
    console.show(summary, as_json=as_json)


@app.command()
def score(
    run: RunFolder,
    file: Annotated[Path, typer.Argument(help="The file whose records are scored.")],
    per_position: Annotated[bool, typer.Option("--per-position", help="A line a position, not a record.")] = False,
    stride: Annotated[
        int, typer.Option(help="Hide every n-th position in one pass; larger is slower and exacter.")
    ] = 8,
    format: FormatName = None,
    symmetries: Symmetries = True,
    trust_code: Trust = False,
    as_json: Json = False,
) -> None:
    """How surprising each record is: bits per cell, every cell given the others. Tab-separated, or JSON lines."""
    from maskseq.plugins import format_for
    from maskseq.run import load

    loaded = load(run, trust_code=trust_code)
    names = [field.name for field in loaded.tokenizer.fields]
    console.line(["key", "position", *names] if per_position else ["key", "cells", "bits"], as_json=as_json)
    for each in loaded.score(format_for(file, format).read(file), stride=stride, symmetries=symmetries):
        if per_position:
            for position, bits in enumerate(each.bits.tolist(), start=1):
                console.line([each.key, position, *bits], as_json=as_json)
        else:
            console.line([each.key, each.n_cells, each.mean_bits], as_json=as_json)


@app.command()
def embed(
    run: RunFolder,
    file: Annotated[Path, typer.Argument(help="The file whose records are embedded.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="An .npz file: keys, vectors.")],
    pooling: Annotated[Literal["mean", "max"], typer.Option(help="How positions become one vector.")] = "mean",
    format: FormatName = None,
    symmetries: Symmetries = True,
    trust_code: Trust = False,
) -> None:
    """A vector for each record: the encoder's last hidden states, pooled."""
    from maskseq.plugins import format_for
    from maskseq.run import load, write_vectors

    loaded = load(run, trust_code=trust_code)
    vectors = loaded.embed(format_for(file, format).read(file), pooling=pooling, symmetries=symmetries)
    console.talk.print(f"wrote {write_vectors(vectors, output):,} vectors to {output}")


@app.command()
def inspect(
    path: Annotated[Path, typer.Argument(help="A recipe, a corpus, a run folder or a checkpoint.")],
    layers: Annotated[bool, typer.Option("--layers", help="List every parameter of a run's encoder.")] = False,
    trust_code: Trust = False,
    as_json: Json = False,
) -> None:
    """Say what a recipe, a corpus or a run is."""
    from maskseq import describe

    console.show(describe.inspect(path, layers=layers, trust_code=trust_code), as_json=as_json)


@app.command()
def verify(
    corpus: Annotated[Path, typer.Argument(help="A corpus folder.")], trust_code: Trust = False, as_json: Json = False
) -> None:
    """Check every digest of a corpus, and name what is damaged. Exit code 3 if anything is."""
    from maskseq.data.corpus import verify_corpus

    problems = verify_corpus(corpus, trust_code=trust_code)
    console.show({"corpus": str(corpus), "problems": problems or "none"}, as_json=as_json)
    if problems:
        raise typer.Exit(3)


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
    from maskseq import commands

    parameters = commands.import_checkpoint(folder, output, tokenizer=tokenizer, trust_code=trust_code)
    console.talk.print(f"wrote {output}: {parameters:,} parameters")


@app.command()
def export(
    run: RunFolder,
    output: Annotated[Path, typer.Option("--output", "-o", help="A folder (hf) or an .onnx file.")],
    format: Annotated[Literal["hf", "onnx"], typer.Option("--format", help="What to write.")] = "hf",
    trust_code: Trust = False,
) -> None:
    """Write a run's encoder for transformers (it then runs under fill-mask) or as ONNX."""
    from maskseq.run import export_checkpoint, load

    what = export_checkpoint(load(run, trust_code=trust_code), output, format=format)
    console.talk.print(f"wrote {output}: {what}")


@app.command()
def doctor(as_json: Json = False) -> None:
    """Say what this machine offers: devices, number formats, attention kernels, and why one is not used."""
    from maskseq import describe

    console.show(describe.doctor(), as_json=as_json)


@recipes_app.command("list")
def recipes_list(as_json: Json = False) -> None:
    """The recipes that ship, and what each is for."""
    from maskseq import shipped

    console.show({name: shipped.first_comment(path) for name, path in shipped.recipes().items()}, as_json=as_json)


@recipes_app.command("copy")
def recipes_copy(
    name: Annotated[str, typer.Argument(help="A name from `maskseq recipes list`.")],
    destination: Annotated[Path, typer.Argument(help="Where to write it; its sample files go beside it.")],
) -> None:
    """Copy a recipe, and the samples it reads, to a place of your own."""
    from maskseq import shipped

    for written in shipped.copy(name, destination):
        console.talk.print(f"wrote {written}")


def _overrides(overrides: list[str] | None, seed: int | None) -> list[str]:
    return [*(overrides or ()), *(() if seed is None else (f"seed={seed}",))]


def _share(text: str) -> tuple[int, int]:
    number, _, of = text.partition("/")
    if not (number.isdecimal() and of.isdecimal()):
        raise UsageError(f"--part {text}: expected I/N, such as 1/8")
    return int(number), int(of)
