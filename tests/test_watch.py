"""`maskseq watch` and the report of a run, against the events of runs and against numbers made by hand."""

import io
import json
import math
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parent))

from small_run import small_run

from maskseq.apps.watch import duration, sparkline, view, watch
from maskseq.errors import UsageError
from maskseq.training.events import CheckpointSaved, Event, Started, Step, Validation
from maskseq.training.metrics import Watched, thinned


def step_line(step: int, **changes: Any) -> str:
    values = {"tokens": 100 * step, "total_tokens": 1000, "bits": 2.0 - step / 10, "tokens_per_s": 50.0, "seconds": 2.0}
    return json.dumps({"kind": "step", "time": 1000.0 + 2 * step, "step": step} | values | changes) + "\n"


STARTED = json.dumps({"kind": "started", "time": 1000.0, "step": 0, "tokens": 0, "total_tokens": 1000}) + "\n"


def test_what_is_watched_is_what_the_run_told(tmp_path: Path) -> None:
    events: list[Event] = []
    seen: list[tuple[int, str]] = []

    def listen(event: Event) -> None:
        events.append(event)
        if isinstance(event, Step):
            now = Watched(tmp_path).update()
            seen.append((now.last["step"], now.state()))

    small_run(tmp_path, on_event=listen)
    assert seen == [(n, "running") for n in range(1, 21)]
    steps = [e for e in events if isinstance(e, Step)]
    watched = Watched(tmp_path).update()
    assert watched.state() == "finished"
    assert watched.curves["bits"] == [e.scores.all.bits for e in steps]
    assert watched.curves["update_ratio"] == [e.update_ratio for e in steps]
    assert watched.tokens == [e.tokens for e in steps]
    assert [v["bits"] for v in watched.validations] == [e.scores.all.bits for e in events if isinstance(e, Validation)]
    assert watched.checkpoint == [e.step for e in events if isinstance(e, CheckpointSaved)][-1] == 20
    assert watched.started["gemm_peak"] == next(e.gemm_peak for e in events if isinstance(e, Started))
    last = steps[-20:]
    assert watched.speed == pytest.approx(sum(e.tokens_per_s * e.seconds for e in last) / sum(e.seconds for e in last))


def test_a_run_that_grows_is_read_on_and_half_a_line_waits(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    watched = Watched(tmp_path)
    assert watched.update().state() == "starting"
    file.write_text(STARTED + step_line(1) + step_line(2)[:20])
    watched.update()
    assert (watched.last["step"], watched.state(now=1010.0)) == (1, "running")
    with file.open("a") as more:
        more.write(step_line(2)[20:] + "no JSON\n" + step_line(3))
    assert watched.update().curves["bits"] == [1.9, 1.8, 1.7]
    assert watched.remaining is None or watched.remaining == pytest.approx(700 / 50)
    assert watched.summary(now=1010.0)["remaining_s"] == pytest.approx(14.0) or watched.state() == "silent"


def test_a_run_that_went_back_to_a_checkpoint_is_read_anew(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_text(STARTED + "".join(map(step_line, range(1, 8))))
    watched = Watched(tmp_path).update()
    aside = tmp_path / "metrics.tmp"
    aside.write_text(STARTED + "".join(map(step_line, range(1, 6))))
    aside.replace(file)
    with file.open("a") as more:
        more.write(STARTED + step_line(6, bits=9.0) + step_line(7) + step_line(8))
    assert watched.update().tokens == [100 * n for n in range(1, 9)]
    assert watched.curves["bits"][5] == 9.0


def test_states() -> None:
    def state(*lines: str, now: float) -> str:
        watched = Watched(Path(__file__))
        for line in lines:
            watched._take(json.loads(line))
        return watched.state(now)

    stopped = json.dumps({"kind": "stopped", "step": 1, "reason": "asked to stop"})
    assert state(STARTED, step_line(1), now=1061.0) == "running"
    assert state(STARTED, step_line(1), now=1063.0) == "silent"  # 60 s
    assert state(STARTED, step_line(1, seconds=30.0), now=1300.0) == "running"  # ten steps of half a minute
    assert state(STARTED, step_line(1), stopped, now=9999.0) == "stopped"
    assert state(STARTED, step_line(1), stopped, STARTED, now=1001.0) == "running"


def test_the_view_shows_runs_side_by_side_and_ends_with_them(tmp_path: Path) -> None:
    runs = [tmp_path / "one", tmp_path / "two"]
    for run in runs:
        run.mkdir()
        (run / "metrics.jsonl").write_text(STARTED + step_line(1) + step_line(2))
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        with (runs[len(waits) - 1] / "metrics.jsonl").open("a") as file:
            file.write(json.dumps({"kind": "finished", "step": 2, "tokens": 200}) + "\n")

    with (tmp_path / "out").open("w") as out:
        watch([Watched(run) for run in runs], Console(file=out, width=90), every=0.5, sleep=sleep)
    assert waits == [0.5, 0.5]
    console = Console(width=90, record=True, file=io.StringIO())
    console.print(view([Watched(run) for run in runs]))
    text = console.export_text()
    assert re.search(r"one finished(?s:.*)two finished", text)
    assert "step 2  200 of 1,000 tokens (20.0%)  50 tokens/s" in text


def test_the_command_is_for_machines_too(tmp_path: Path) -> None:
    from maskseq.cli import app

    (tmp_path / "metrics.jsonl").write_text(STARTED + step_line(1, lr=0.5))
    result = CliRunner().invoke(app, ["watch", "--json", str(tmp_path), str(tmp_path / "metrics.jsonl")])
    first, second = map(json.loads, result.stdout.splitlines())
    assert (first["step"], first["lr"], first["state"]) == (1, 0.5, "silent")
    assert {k: v for k, v in first.items() if k not in ("run", "silent_s")}.items() <= second.items()
    assert CliRunner().invoke(app, ["watch", str(tmp_path / "none")]).exit_code == 2
    with pytest.raises(UsageError, match="no such run folder"):
        Watched(tmp_path / "none")


def test_sparklines_durations_and_thinned_curves() -> None:
    assert sparkline([0.0, 1.0, 7.0]) == "▁▂█"
    assert sparkline([3.0, 3.0]) == "▁▁"
    assert [duration(s) for s in (5, 65, 3723.4)] == ["0:05", "1:05", "1:02:03"]
    rng = np.random.default_rng(0)
    for n in (1, 7, 40, 1001):
        values = rng.random(n).tolist()
        points = thinned(list(range(n)), values, 40)
        assert len(points) <= 40
        size = math.ceil(n / 40)
        sums = [y * min(size, n - i * size) for i, (_, y) in enumerate(points)]
        assert sum(sums) == pytest.approx(sum(values))  # every step has its say
