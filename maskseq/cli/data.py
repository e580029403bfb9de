"""From files to corpora."""

from pathlib import Path
from typing import Annotated

import typer

from maskseq.cli import console
from maskseq.cli.app import FormatName, Json, OnBroken, OnBuildError, RecipeFile, Set, Trust, app, with_on_error
from maskseq.errors import UsageError


@app.command()
def init(
    files: Annotated[list[Path], typer.Argument(help="The files that you want to learn from, all of one format.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The recipe to write.")] = Path("recipe.toml"),
    format: FormatName = None,
    overrides: Set = None,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Take the first of several ways to read the files, without asking.")
    ] = False,
    on_error: OnBroken = "stop",
    as_json: Json = False,
) -> None:
    """Look at your files, say what is in them, and write a first recipe, which runs as it is.

    Formats and columns are recognized by content; `--format`, and `--set data.format_options.OPTION=VALUE`, say better.
    Where the content does not say how to read them, the ways to choose from are printed, and the exit code is 2.
    A second of training shows how long the recipe takes.
    """
    from maskseq.apps import init as starter

    found = starter.init(
        files, output, format=format, overrides=overrides or (), yes=yes, on_error=on_error, probe=True
    )
    console.show(found, as_json=as_json)
    console.say(f"wrote {output}; have a look, then: maskseq pretrain {output} --dry-run")


@app.command()
def tokenize(
    recipe: RecipeFile,
    output: Annotated[str, typer.Option("--output", "-o", help="The corpus folder, or its URL: s3://bucket/corpus.")],
    overrides: Set = None,
    on_error: OnBuildError = None,
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
    from maskseq.apps import inspect as describe
    from maskseq.apps.prepare import build_part, prepare_corpus
    from maskseq.recipe import load_recipe

    resolved = load_recipe(recipe, with_on_error(overrides, on_error))
    with console.counting("tokenizing", "units") as counted:
        if part is not None:
            build_part(resolved, _share(part), output=output, on_build=counted)
            console.show({"corpus": output, "part": part}, as_json=as_json)
            return
        prepare_corpus(resolved, default=output, scheduler=scheduler, on_build=counted)
    console.show(describe.inspect(output), as_json=as_json)


@app.command()
def verify(
    corpus: Annotated[str, typer.Argument(help="A corpus folder, or its URL.")],
    trust_code: Trust = False,
    as_json: Json = False,
) -> None:
    """Check every digest of a corpus, and name what is damaged. Exit code 3 if anything is."""
    from maskseq.corpus.reader import verify_corpus

    problems = verify_corpus(corpus, trust_code=trust_code)
    console.show({"corpus": corpus, "problems": problems or "none"}, as_json=as_json)
    if problems:
        raise typer.Exit(3)


def _share(text: str) -> tuple[int, int]:
    number, _, of = text.partition("/")
    if not (number.isdecimal() and of.isdecimal()):
        raise UsageError(f"--part {text}: expected I/N, such as 1/8", code="bad-option")
    return int(number), int(of)
