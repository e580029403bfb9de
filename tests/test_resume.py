"""20 steps = 10 steps, a kill at any moment, and 10 more: the same weights, moments and metrics, bit for bit."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parent))

from small_run import STEP, child, small_run, weights

from maskseq.errors import DataError
from maskseq.model import choice, linear
from maskseq.model.attention import packed as attention
from maskseq.storage.outputs import work_folder
from maskseq.training.events import Event, Listener, Started, Step, Warned

CHANGES: list[dict[str, Any]] = [
    {"optimizer": {"name": "adamw"}},
    {"optimizer": {"name": "stable_adamw"}},
    {"optimizer": {"name": "muon"}},
    {"ema": 0.9},
    {"precision": "bf16"},
]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Any:
    """As in the child: another number of threads adds up in another order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing has disturbed."""
    run = tmp_path_factory.mktemp("whole")
    small_run(run)
    return run


def assert_same_run(run: Path, whole: Path) -> None:
    end = [folder / "checkpoints" / (folder / "latest").read_text().strip() for folder in (run, whole)]
    assert end[0].name == end[1].name
    torch.testing.assert_close(weights(end[0]), weights(end[1]), rtol=0, atol=0)
    states = [load_file(folder / "training_state" / "rank_0.safetensors") for folder in end]
    torch.testing.assert_close(states[0], states[1], rtol=0, atol=0)
    assert timeless(run) == timeless(whole)
    assert not list(run.rglob(".*.maskseq"))


def timeless(run: Path) -> list[dict[str, Any]]:
    """The metrics without what a clock has measured, and without what they tell of processes."""
    clock = {"time", "seconds", "tokens_per_s", "wait_share", "peak_share", "peak_memory"}
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [
        {key: value for key, value in line.items() if key not in clock}
        for line in lines
        if line["kind"] in ("step", "validation")
    ]


def kill_after(run: Path, *, event: str, delay: float = 0.0, **options: Any) -> None:
    """SIGKILL a child that trains into `run` when it has printed `event`, such as `Step 12`."""
    with child(run, **options) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() == event:
                time.sleep(delay)
                process.kill()
                break
        assert process.wait() == -9


def break_off(step: int) -> Listener:
    """Ends a run after a step without letting it save anything."""

    def on_event(event: Event) -> None:
        if isinstance(event, Step) and event.step == step:
            raise KeyboardInterrupt

    return on_event


def in_work(name: str, file: str = "content") -> str:
    """How the path of a file in the work folder of an output ends."""
    return f"{work_folder(Path(name))}/{file}"


def test_a_run_killed_between_checkpoints_ends_as_if_it_had_not_been(tmp_path: Path, whole: Path) -> None:
    kill_after(tmp_path, event="Step 13")
    latest = (tmp_path / "latest").read_text().strip()
    assert latest in ("step_5", "step_10")  # on a busy machine the thread may still be writing the second one
    events: list[Event] = []
    small_run(tmp_path, on_event=events.append)
    assert [f"step_{e.step}" for e in events if isinstance(e, Started)] == [latest]
    assert_same_run(tmp_path, whole)


@pytest.mark.parametrize("fast", [True, False])
def test_a_run_keeps_its_kernels_where_others_are_faster_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, fast: bool
) -> None:
    def machine(*, fast: bool) -> None:
        for module in (attention, choice, linear):
            monkeypatch.setattr(module, "bf16_is_fast", lambda: fast)

    machine(fast=fast)
    small_run(tmp_path / "whole", precision="bf16")
    with pytest.raises(KeyboardInterrupt):
        small_run(tmp_path / "moved", precision="bf16", on_event=break_off(13))
    machine(fast=not fast)
    small_run(tmp_path / "moved", precision="bf16")
    assert_same_run(tmp_path / "moved", tmp_path / "whole")
    small_run(tmp_path / "other", precision="bf16")
    ends = [weights(tmp_path / name / "checkpoints" / "step_20") for name in ("moved", "other")]
    assert any(not torch.equal(ends[0][name], ends[1][name]) for name in ends[0]), "kernels that differ in nothing"


def test_a_run_that_recorded_no_kernels_goes_on_with_those_of_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    for fast, expected in ((True, ("bmm", False)), (False, ("sdpa", True))):
        monkeypatch.setattr(choice, "bf16_is_fast_by_kind", lambda fast=fast: fast)
        then = choice.Kernels.unrecorded("cpu", torch.bfloat16, 64)
        assert (then.attention, then.widened) == expected
    assert choice.Kernels.unrecorded("cpu", torch.float32, 64).attention == "sdpa"


@pytest.mark.parametrize(
    ("count", "ending"),
    [(2, in_work("step_10", "rank_0.safetensors")), (9, in_work("latest"))],
    ids=["while the second checkpoint is written", "when it has its name and is not yet the latest"],
)
def test_a_run_killed_inside_a_checkpoint_ends_as_if_it_had_not_been(
    tmp_path: Path, whole: Path, count: int, ending: str
) -> None:
    with child(tmp_path, die_at=(count, ending)) as process:
        assert process.wait() == -9
    assert (tmp_path / "latest").read_text().strip() == "step_5"
    small_run(tmp_path)
    assert_same_run(tmp_path, whole)


def test_what_a_kill_at_the_very_end_leaves_is_removed_by_the_next_start(tmp_path: Path, whole: Path) -> None:
    """The run is finished by then: no later checkpoint would come and do it."""
    with child(tmp_path, die_at=(6, in_work("step_10"))) as process:
        assert process.wait() == -9
    assert (tmp_path / "latest").read_text().strip() == "step_20"
    assert work_folder(tmp_path / "checkpoints" / "step_10").is_dir()
    assert not (tmp_path / "checkpoints" / "step_10").exists()
    small_run(tmp_path)
    assert_same_run(tmp_path, whole)


@pytest.mark.soak
@pytest.mark.parametrize("count", range(3, 219, 9))  # of the 220 operations on files that the whole run makes
def test_a_run_killed_at_any_file_operation_ends_as_if_it_had_not_been(tmp_path: Path, whole: Path, count: int) -> None:
    with child(tmp_path, die_at=(count, "")) as process:
        assert process.wait() == -9
    small_run(tmp_path)
    assert_same_run(tmp_path, whole)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(25))
def test_a_run_killed_again_and_again_ends_as_if_it_had_not_been(tmp_path: Path, whole: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(3):
        process = child(tmp_path)
        assert process.stdout is not None
        for _ in range(rng.integers(1, 12)):  # by events, not by the clock: a busy machine gets as far as a quiet one
            process.stdout.readline()
        time.sleep(rng.uniform(0, 0.1))
        process.kill()
        process.communicate()
    small_run(tmp_path)
    assert_same_run(tmp_path, whole)


@pytest.mark.parametrize("changes", CHANGES)
def test_stopping_and_going_on_changes_nothing(tmp_path: Path, changes: dict[str, Any]) -> None:
    """With every optimizer, averaging and precision; dropout and the batch-size warm-up are on as well."""
    changes = changes | {"rows": 4, "first_rows": 2, "rows_warmup": 8 * STEP, "tokens": 16 * STEP}
    small_run(tmp_path / "whole", **changes)
    with pytest.raises(KeyboardInterrupt):
        small_run(tmp_path / "stopped", on_event=break_off(7), **changes)
    small_run(tmp_path / "stopped", **changes)
    assert_same_run(tmp_path / "stopped", tmp_path / "whole")


@pytest.mark.parametrize(
    "victim", ["model.safetensors", "training_state/rank_0.safetensors", "training_state/layout.json", "config.json"]
)
@pytest.mark.parametrize("damage", ["cut", "flip", "remove"])
def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_is_used(
    tmp_path: Path, whole: Path, victim: str, damage: str
) -> None:
    with pytest.raises(KeyboardInterrupt):
        small_run(tmp_path, on_event=break_off(12))
    path = tmp_path / "checkpoints" / "step_10" / victim
    content = bytearray(path.read_bytes())
    if damage == "remove":
        path.unlink()
    else:
        content[len(content) // 2] ^= 1
        path.write_bytes(content if damage == "flip" else content[: len(content) // 2])
    events: list[Event] = []
    small_run(tmp_path, on_event=events.append)
    (warning,) = [e.text for e in events if isinstance(e, Warned)]
    assert str(path) in warning
    assert "step_5" in warning
    assert [e.step for e in events if isinstance(e, Started)] == [5]
    assert_same_run(tmp_path, whole)


def test_a_run_without_any_sound_checkpoint_stops_and_says_which_are_damaged(tmp_path: Path) -> None:
    small_run(tmp_path, tokens=10 * STEP)
    for folder in (tmp_path / "checkpoints").iterdir():
        (folder / "model.safetensors").unlink()
    with pytest.raises(DataError, match=r"no sound checkpoint.*step_10.*step_5"):
        small_run(tmp_path, tokens=10 * STEP)
