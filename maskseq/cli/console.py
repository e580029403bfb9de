"""What the command line prints: progress on stderr (bars on a terminal, plain lines elsewhere), results on stdout."""

import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.segment import Segment
from rich.table import Table

from maskseq.storage.standard_json import to_json
from maskseq.storage.terminal import escaped
from maskseq.training.events import Finished, PlateauEnded, Started, Step, Tested, Validation, Warned
from maskseq.types import Progress, Stages


class Terminal(Console):
    """Where everything is shown: what stands in files can neither steer the terminal nor deceive its reader."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=escaped(segment.text))


talk = Terminal(stderr=True, highlight=False, soft_wrap=True)
results = Terminal(highlight=False)
FILE_WIDTH = 160
"""Columns of a table that goes to a file or another program."""
PLAIN_SECONDS = 10.0
"""Between two lines of progress, where the output is not a terminal."""


def fail(message: str) -> None:
    """One clear line, and the hint behind it."""
    problem, _, hint = message.partition("\n\n")
    talk.print(f"[bold red]error:[/] {escape(problem)}")
    if hint:
        talk.print(escape(hint))


def say(what: RenderableType) -> None:
    """A line or a table along with the results, as it is: brackets in names are not markup."""
    talk.print(what, markup=False)


def warn(message: str) -> None:
    talk.print(f"[yellow]warning:[/] {escape(message)}")


def show(summary: Mapping[str, Any], *, as_json: bool) -> None:
    """A nested summary: as one JSON object, or as aligned lines under their section's name."""
    if as_json:
        print(to_json(summary))
        return
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    out = Terminal(highlight=False, soft_wrap=True, width=None if results.is_terminal else FILE_WIDTH)
    tables: dict[str, Sequence[Mapping[str, Any]]] = {}
    for key, value in summary.items():
        if isinstance(value, list) and value and isinstance(value[0], Mapping):
            tables[key] = value
        elif isinstance(value, Mapping):
            table.add_row(f"[bold]{escape(key)}[/]", "")
            for name, inner in value.items():
                table.add_row(f"  {escape(str(name))}", escape(_text(inner)))
        else:
            table.add_row(f"[bold]{escape(key)}[/]", escape(_text(value)))
    out.print(table)
    for key, rows in tables.items():
        table = Table(*map(escape, rows[0]), title=escape(key), title_justify="left", box=None, pad_edge=False)
        for row in rows:
            table.add_row(*(escape(_text(value)) for value in row.values()))
        out.print(table)


def fitted(fields: Mapping[str, str], most: int = 12) -> None:
    """What was inferred of each field, for people to check before they wait for a training run."""
    for name, what in list(fields.items())[:most]:
        talk.print(f"field {escape(name)}: {escape(what)}")
    if len(fields) > most:
        talk.print(f"and {len(fields) - most} more fields: see maskseq inspect")


def _text(value: object) -> str:
    if isinstance(value, bool | str) or value is None:
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(_text(item) for item in value)
    return to_json(value, ascii=False)


def one_line(event: Any) -> None:
    """An event as a JSON object with its kind, for `--json`."""
    print(to_json({"event": type(event).__name__, **dataclasses.asdict(event)}), flush=True)


@contextmanager
def counting(what: str, unit: str) -> Iterator[Progress]:
    """Progress of countable work: the yielded function takes how much is done, and of how much (None: unknown)."""
    with stages(unit) as tell:
        yield partial(tell, what)


@contextmanager
def stages(unit: str) -> Iterator[Stages]:
    """Progress of one thing after the other: the yielded function takes what is being done, and then as `counting`."""
    if talk.is_terminal:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[count]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Bars(*columns, console=talk, transient=True) as bar:
            task = bar.add_task("", total=None, count="")
            yield lambda what, done, total: bar.update(
                task, description=escape(what), completed=done, total=total, count=f"{done:,} {unit}" if done else ""
            )
        return
    began = reported = time.monotonic()

    def tell(what: str, done: int, total: int | None) -> None:
        nonlocal reported
        now = time.monotonic()
        if now - reported >= PLAIN_SECONDS:
            reported = now
            of = f" of {total:,}" if total else ""
            count = f"{done:,}{of} {unit}, " if done or total else ""
            left = f", ETA {(now - began) * (total - done) / done:.0f} s" if done and total and total > done else ""
            talk.print(f"{what}: {count}{now - began:.0f} s{left}", markup=False)

    yield tell


class TrainingProgress:
    """Listens to a training run: a bar with loss, bits, tokens/s and ETA, and a line for what should stay visible."""

    def __init__(self, bar: Bars | None) -> None:
        self._bar = bar
        self._told, self._speed = 0.0, 0.0
        self._held_out = ""

    def __call__(self, event: Any) -> None:
        match event:
            case Started():
                self._started(event)
            case Step():
                self._step(event)
            case Validation():
                self._scored("selection data", event)
            case Tested():
                self._scored("test data", event)
            case PlateauEnded():
                self._plateau(event)
            case Warned():
                warn(event.text)
            case Finished():
                self._finished(event)

    def _started(self, event: Started) -> None:
        resumed = f", going on from {event.resumed_from.name}" if event.resumed_from else ""
        ranks = f" x {event.world} processes" if event.world > 1 else ""
        talk.print(
            f"training {event.n_parameters:,} parameters on {event.device}{ranks} in {event.precision}: "
            f"{event.total_tokens:,} tokens{resumed}"
        )
        if self._bar is not None:
            self._bar.add_task("step 0", total=event.total_tokens, completed=event.tokens, text="")

    def _step(self, event: Step) -> None:
        self._speed = event.tokens_per_s if not self._speed else 0.9 * self._speed + 0.1 * event.tokens_per_s
        score = event.scores.all
        text = f"loss {score.loss:.3f}  {score.bits:.3f} bits/token  {self._speed:,.0f} tokens/s"
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=event.tokens, description=f"step {event.step}", text=text)
        elif time.monotonic() - self._told >= PLAIN_SECONDS:
            self._told = time.monotonic()
            left = (event.total_tokens - event.tokens) / max(self._speed, 1e-9)
            share = event.tokens / event.total_tokens
            talk.print(f"step {event.step}  {share:4.0%}  {text}  ETA {max(left, 0):.0f} s")

    def _scored(self, what: str, event: Validation | Tested) -> None:
        score = event.scores.all
        figures = f"{score.bits:.4f} bits/token, {score.accuracy:.1%} right"
        self._held_out = f"; {what}: {figures}"
        talk.print(f"{what} at {event.tokens:,} tokens: {figures} of {score.cells:,}")

    def _plateau(self, event: PlateauEnded) -> None:
        talk.print(
            f"no better validation since step {event.best:,}: from there the learning rate falls, until "
            f"{event.total_tokens:,} tokens"
        )
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], total=event.total_tokens)

    def _finished(self, event: Finished) -> None:
        best = "" if event.best is None else f"; the best checkpoint is step_{event.best}"
        talk.print(
            f"finished: {event.step:,} steps, {event.tokens:,} tokens, {event.seconds:.0f} s{best}{self._held_out}",
            markup=False,
        )


@contextmanager
def training_progress(*, as_json: bool) -> Iterator[Callable[[Any], None]]:
    """A listener for a training run."""
    if as_json:
        yield one_line
    elif talk.is_terminal:
        columns = (
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[text]}"), TimeRemainingColumn(),
        )  # fmt: skip
        with Bars(*columns, console=talk) as bar:
            yield TrainingProgress(bar)
    else:
        yield TrainingProgress(None)


def tell_all(listeners: Iterable[Callable[[Any], None]], event: Any) -> None:
    for listen in listeners:
        listen(event)
