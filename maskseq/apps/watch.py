"""`maskseq watch`: runs side by side in a terminal, from their metrics alone."""

import math
import time
from collections.abc import Callable, Sequence

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table

from maskseq.training.metrics import CURVES, Watched, thinned

BLOCKS = "▁▂▃▄▅▆▇█"
SPARK_WIDTH = 40
ENDED = ("stopped", "finished")


def watch(
    runs: Sequence[Watched], console: Console, *, every: float, sleep: Callable[[float], None] = time.sleep
) -> None:
    """Redraw the runs every few seconds until all of them have ended."""
    with Live(view(runs), console=console, auto_refresh=False) as live:
        while True:
            live.update(view(runs), refresh=True)
            if all(run.state() in ENDED for run in runs):
                return
            sleep(every)


def view(runs: Sequence[Watched]) -> RenderableType:
    """A panel a run, as they stand now."""
    return Group(*(_panel(run.update()) for run in runs))


def _panel(run: Watched) -> Panel:
    state = run.state()
    colour = {"running": "green", "finished": "blue", "silent": "yellow", "stopped": "red"}.get(state, "dim")
    title = f"[bold]{escape(run.name)}[/] [{colour}]{state}[/]"
    if run.ended.get("reason"):
        title += f" ({escape(str(run.ended['reason']))})"
    lines = Table.grid(expand=True)
    for line in _lines(run):
        lines.add_row(line)
    return Panel(lines, title=title, title_align="left")


def _lines(run: Watched) -> list[RenderableType]:
    if not run.started:
        return ["no step has been made yet"]
    started = run.started
    ranks = f" x {started['world']} processes" if started.get("world", 1) > 1 else ""
    machine = f"{started.get('device')}{ranks} in {started.get('precision')}"
    lines: list[RenderableType] = [
        f"{started.get('n_parameters', 0):,} parameters on {machine}",
        ProgressBar(total=max(run.total, 1), completed=run.seen),
        _progress(run),
    ]
    if run.tokens:
        lines.append(_curves(run))
    if run.validations:
        last, best = run.validations[-1], run.best
        lines.append(f"selection data at step {last['step']:,}: {last['bits']:.4f} bits, {last['accuracy']:.1%} right")
        if best:
            lines.append(f"best checkpoint: step {best['step']:,}, {best['bits']:.4f} bits")
    if run.plateau:
        lines.append(f"the plateau ended at step {run.plateau['step']:,}; the decay began from the best checkpoint")
    if run.test:
        lines.append(f"test data: {run.test['bits']:.4f} bits, {run.test['accuracy']:.1%} right")
    saved = "none yet" if run.checkpoint is None else f"step {run.checkpoint:,}"
    lines.append(f"last checkpoint: {saved}")
    return lines


def _progress(run: Watched) -> str:
    share = min(run.seen / max(run.total, 1), 1.0)  # the last step may overshoot
    text = f"step {run.last.get('step', 0):,}  {run.seen:,} of {run.total:,} tokens ({share:.1%})"
    text += f"  {run.speed:,.0f} tokens/s"
    left = run.remaining
    return text if left is None else f"{text}  ETA {duration(left)}"


def _curves(run: Watched) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for name in CURVES[1:]:  # the loss is the bits in another unit
        values = run.curves[name]
        table.add_row(name, sparkline([y for _, y in thinned(run.tokens, values, SPARK_WIDTH)]), f"{values[-1]:.4g}")
    waited, memory = run.last.get("wait_share", 0.0), run.last.get("peak_memory", 0)
    table.add_row("waiting", "", f"{waited:.1%} of the time for data; {memory / 2**30:.2f} GiB at most")
    return table


def sparkline(values: Sequence[float]) -> str:
    """Eight heights from the least to the greatest of the values; blank where one is not finite."""
    finite = [value for value in values if math.isfinite(value)] or [0.0]
    low, high = min(finite), max(finite)
    scale = (len(BLOCKS) - 1) / (high - low) if high > low else 0.0
    return "".join(BLOCKS[round((value - low) * scale)] if math.isfinite(value) else " " for value in values)


def duration(seconds: float) -> str:
    """`1:02:03`, or `2:03` below an hour."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
