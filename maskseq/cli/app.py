"""The program: its name, its exit codes, and the options that several commands share."""

import functools
import inspect
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import typer
from typer.core import TyperGroup

from maskseq import __version__
from maskseq.cli import console
from maskseq.cli.panels import in_panels
from maskseq.contract.fence import blame
from maskseq.errors import MaskseqError, UsageError
from maskseq.infill.order import OrderName
from maskseq.storage.terminal import escaped

if TYPE_CHECKING:
    from maskseq.corpus.dress import ReadAs


@contextmanager
def _shown_by_typer(*, as_json: bool) -> Iterator[None]:
    """What is wrong with arguments, typer itself prints: it must not hold what `console` would escape."""
    try:
        yield
    except Exception as error:
        if hasattr(error, "format_message") and isinstance(message := getattr(error, "message", None), str):
            vars(error)["message"] = escaped(message)
            if as_json and not hasattr(error, "shown"):  # groups in groups
                vars(error)["shown"] = True
                code = "unknown-option" if hasattr(error, "possibilities") else "bad-option"
                console.show(UsageError(escaped(message), code=code).to_json(), as_json=True)
        raise


def _fail(error: MaskseqError, *, as_json: bool) -> typer.Exit:
    """One clear line on stderr, with `--json` an object on stdout as well; the exit to raise."""
    console.fail(str(error))
    if as_json:
        console.show(error.to_json(), as_json=True)
    return typer.Exit(error.exit_code)


class CommandGroup(TyperGroup):
    """Turns what a command raises into one clear line and an exit code: 1 failure, 2 usage, 3 data, 130 interrupted."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, TextIOWrapper):  # a terminal that lacks a letter shows its number
                stream.reconfigure(errors="backslashreplace")
        return super().main(*args, **kwargs)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command, with the panels that `--help` shows it and its options in."""
        command: Any = super().get_command(ctx, cmd_name)
        return command and in_panels(cmd_name, command)

    def make_context(self, info_name: Any, args: list[str], *rest: Any, **kwargs: Any) -> Any:
        with _shown_by_typer(as_json="--json" in args):
            return super().make_context(info_name, args, *rest, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        as_json = "--json" in ctx.args
        with _shown_by_typer(as_json=as_json):
            return self._invoke(ctx, as_json=as_json)

    def _invoke(self, ctx: Any, *, as_json: bool) -> Any:
        shown: set[str] = set()

        def show(message: Warning | str, *_: object, **__: object) -> None:
            text = str(message)
            if text not in shown:  # a file may be read several times
                shown.add(text)
                console.warn(text)

        try:
            with warnings.catch_warnings():  # whoever calls this from Python gets the filters back
                warnings.showwarning = show
                for category in (UserWarning, FutureWarning):  # by default another command's would silence this one's
                    warnings.simplefilter("always", category)
                return super().invoke(ctx)
        except MaskseqError as error:
            if ctx.params.get("debug"):
                traceback.print_exc()
            raise _fail(error, as_json=as_json) from None
        except KeyboardInterrupt as stop:
            console.warn(str(stop) or "interrupted")
            if as_json:
                console.show(MaskseqError(str(stop) or "interrupted", code="interrupted").to_json(), as_json=True)
            raise typer.Exit(getattr(stop, "exit_code", 130)) from None
        except BrokenPipeError:  # whoever reads our output, such as `head`, has seen enough
            sys.stderr.close()
            raise typer.Exit(0) from None
        except MemoryError:
            text = "there is not enough memory for this\n\nhint: use fewer workers or smaller rows, or split the file"
            raise _fail(MaskseqError(text, code="out-of-memory"), as_json=as_json) from None
        except OSError as error:  # a full disk, a folder without permission: the message names the path
            raise _fail(MaskseqError(str(error), code="system"), as_json=as_json) from None
        except Exception as error:
            fault = blame(error)
            if fault is None or ctx.params.get("debug"):
                raise
            raise _fail(fault, as_json=as_json) from None


app = typer.Typer(
    cls=CommandGroup,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Masked modeling for sequences that are not text: [bold]pretrain[/] on your own file, [bold]infill[/] the "
    "holes of another.\n\nStart with [cyan]maskseq recipes list[/], then [cyan]maskseq pretrain RECIPE --dry-run[/]."
    "\n\n"
    "Exit codes: 0 done, 1 failed, 2 wrong usage or recipe, 3 broken data, 129, 130, 143 interrupted (nothing lost).",
)


RecipeFile = Annotated[Path, typer.Argument(help="A TOML recipe; `maskseq recipes list` shows those that ship.")]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable output on stdout: JSON, one object a line.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a recipe key, such as masking.ratio=0.4. Repeatable."),
]
Seed = Annotated[int | None, typer.Option(min=0, help="Override the recipe's seed.")]
RunFolder = Annotated[Path, typer.Argument(help="A run folder, or one of its checkpoints.")]
FormatName = Annotated[str | None, typer.Option("--format", help="The file's format (default: by its ending).")]
OnBroken = Annotated[
    Literal["stop", "skip"],
    typer.Option(
        "--on-error", help="At a record that cannot be read: stop, or skip it, count it and leave it as it is."
    ),
]
OnBuildError = Annotated[
    Literal["stop", "skip"] | None,
    typer.Option("--on-error", help="Override the recipe's data.on_error: at a record that cannot be read."),
]
Dress = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="data.format_options.NAME=VALUE",
        help="How this file is read, where it is written otherwise than the training files. Repeatable.",
    ),
]
Symmetries = Annotated[
    bool, typer.Option(help="Average over the tokenizer's symmetries, such as the reverse complement.")
]
Fields = Annotated[
    list[str] | None,
    typer.Option("--field", help="Score cells of this field only. Repeatable (default: all)."),
]
Calibrated = Annotated[bool, typer.Option("--calibration/--no-calibration", help="Use the run's calibration.")]
Experts = Annotated[
    list[str] | None,
    typer.Option(
        "--expert",
        "--experts",  # as it was called before
        metavar="NAME",
        help="Predict with this expert of the run's blend, such as encoder. Repeatable (default: all of them).",
    ),
]
Key = Annotated[int, typer.Option("--seed", min=0, help="Key of everything that is drawn at random.")]
Order = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help=f"Which cells are filled first, and how many at a time: {', '.join(get_args(OrderName))}, or your own as "
        f"module:name.",
    ),
]
Layer = Annotated[
    int | None,
    typer.Option(help="Take the states behind this layer, 0: of the embeddings (default: behind the last norm)."),
]
TableFile = Annotated[
    Path | None, typer.Option("--output", "-o", help="A .csv, .tsv, .jsonl or .parquet file (default: stdout).")
]
KnownData = Annotated[
    Path | None,
    typer.Argument(
        help="A file of known data that the run was not trained on, or a corpus that holds some out (default: the "
        "run's)."
    ),
]
Trust = Annotated[bool, typer.Option("--trust-code", help="Let the folder load code that is not installed.")]


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show where an error comes from: maskseq --debug COMMAND.")
    ] = False,
) -> None:
    """Options of the program itself."""
    if version:
        print(__version__)
        raise typer.Exit


def with_seed(overrides: list[str] | None, seed: int | None) -> list[str]:
    return [*(overrides or ()), *(() if seed is None else (f"seed={seed}",))]


def with_on_error(overrides: list[str] | None, on_error: str | None) -> list[str]:
    return [*(overrides or ()), *(() if on_error is None else (f'data.on_error="{on_error}"',))]


def made_of(name: str, make: Callable[..., Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Commands whose parameter of this name is what `make` makes of options of its own, which several of them share."""

    def with_options(command: Callable[..., None]) -> Callable[..., None]:
        own, shared = (list(inspect.signature(each).parameters.values()) for each in (command, make))
        parameters = [each for each in own if each.name != name] + shared

        @functools.wraps(command)
        def called(**given: Any) -> None:
            made = make(**{each.name: given.pop(each.name) for each in shared})
            command(**{name: made}, **given)

        called.__annotations__ = {each.name: each.annotation for each in parameters}
        called.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in parameters]
        )
        return called

    return with_options


def _read_as(format: FormatName = None, overrides: Dress = None, on_error: OnBroken = "stop") -> "ReadAs":
    from maskseq.corpus.dress import ReadAs

    return ReadAs(format=format, options=format_options(overrides), on_error=on_error)


reads_a_file = made_of("read_as", _read_as)
"""Of commands that are given a file, and have a parameter `read_as`."""


def format_options(overrides: list[str] | None) -> dict[str, Any]:
    """What `--set data.format_options.NAME=VALUE` says; `UsageError` for any other key."""
    from maskseq.contract.toml_file import lay_over

    given: dict[str, Any] = {}
    for override in overrides or ():
        if not override.strip().startswith("data.format_options."):
            raise UsageError(
                f"--set {override}: only data.format_options.NAME=VALUE can be set here; the run decides all else",
                code="bad-option",
            )
        lay_over(given, override)
    options: dict[str, Any] = given.get("data", {}).get("format_options", {})
    return options
