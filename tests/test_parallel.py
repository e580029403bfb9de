"""Several ranks train as one process does: the same rows, the same loss, the same weights to rounding."""

import json
import shutil
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parent))

from small_run import STEP, Letters, Synthetic, small_run, torchrun, weights

from maskseq.errors import UsageError
from maskseq.training.parallel import RankGroup, check_shares
from maskseq.training.state import n_shards
from maskseq.training.trainer import numbered

EIGHT: dict[str, Any] = {
    "rows": 8,
    "tokens": 10 * 4 * STEP,
    "checkpoint_every": 20 * STEP,
    "keep_last": 20,  # what is best so far is a checkpoint, too
    "model": {"context_sees_target": False},  # and dropout, by the row whatever the micro-batch
}
ROUNDING = {"rtol": 2e-3, "atol": 2e-4}  # ten steps at a high learning rate amplify the last bit of a sum
STRATEGIES = ("ddp", "fsdp")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run `alone`, the same by two ranks, and the second half of it by two ranks."""
    folder = tmp_path_factory.mktemp("runs")
    small_run(folder / "alone", micro_rows=4, **EIGHT)
    jobs: dict[Path, dict[str, Any]] = {}
    for strategy in STRATEGIES:
        half = folder / f"{strategy}-second-half"
        shutil.copytree(folder / "alone", half)
        (half / "latest").write_text("step_5")  # as if it had been stopped there
        jobs |= {folder / strategy: {"strategy": strategy} | EIGHT}
        jobs |= {half: {"strategy": strategy, "micro_rows": 2} | EIGHT}
    small_run(folder / "averaged", micro_rows=4, ema=0.8, **EIGHT)
    jobs |= {folder / "averaged-fsdp": {"strategy": "fsdp", "ema": 0.8} | EIGHT}
    jobs |= {folder / "signalled": {"signal_at": 29} | EIGHT}  # a row of the fourth step, on the second rank
    torchrun(jobs, world=2)
    return folder


def losses(run: Path, kind: str) -> list[float]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if line["kind"] == kind]


def assert_same(run: Path, alone: Path) -> None:
    torch.testing.assert_close(weights(run), weights(alone), **ROUNDING)
    for kind in ("step", "validation"):
        assert losses(run, kind) == pytest.approx(losses(alone, kind), rel=1e-3)


def whole_state(checkpoint: Path) -> dict[str, torch.Tensor]:
    """The training state put together as `layout.json` says, without the trainer's code."""
    folder = checkpoint / "training_state"
    files = {path.name: load_file(path) for path in folder.glob("*.safetensors")}
    layout = json.loads((folder / "layout.json").read_text())["tensors"]
    parts = {name: [files[file][name] for file in where] for name, where in layout.items()}
    return {name: torch.cat(tensors) if len(tensors) > 1 else tensors[0] for name, tensors in parts.items()}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_two_ranks_of_four_rows_are_one_of_eight(runs: Path, strategy: str) -> None:
    assert_same(runs / strategy, runs / "alone")
    ours, theirs = (whole_state(runs / run / "checkpoints" / "step_5") for run in (strategy, "alone"))
    torch.testing.assert_close(ours, theirs, **ROUNDING)
    n_files = len(list((runs / strategy / "checkpoints" / "step_5").glob("training_state/rank_*.safetensors")))
    assert n_files == (2 if strategy == "fsdp" else 1)


def test_the_average_of_sharded_weights_is_that_of_whole_ones(runs: Path) -> None:
    """A checkpoint holds both, whichever of them a validation found better."""
    assert_same(runs / "averaged-fsdp", runs / "averaged")
    ours, theirs = (whole_state(runs / run / "checkpoints" / "step_10") for run in ("averaged-fsdp", "averaged"))
    assert any(name.startswith(("weights/", "average/")) for name in theirs)
    torch.testing.assert_close(ours, theirs, **ROUNDING)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_one_rank_goes_on_where_two_stopped(runs: Path, tmp_path: Path, strategy: str) -> None:
    run = tmp_path / "run"
    shutil.copytree(runs / strategy, run)
    (run / "latest").write_text("step_5")
    small_run(run, micro_rows=2, strategy=strategy, **EIGHT)
    assert_same(run, runs / "alone")


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_two_ranks_go_on_where_one_stopped(runs: Path, strategy: str) -> None:
    assert_same(runs / f"{strategy}-second-half", runs / "alone")


@pytest.mark.soak
@pytest.mark.parametrize("count", range(4, 220, 24))  # of the file operations of the first rank
def test_two_ranks_killed_at_any_file_operation_end_as_if_they_had_not_been(
    tmp_path: Path, sharded: Path, count: int
) -> None:
    """The first rank dies before its n-th operation; the other one by its own n-th, or of the first one's silence."""
    options: dict[str, Any] = {"strategy": "fsdp", "checkpoint_every": 2 * STEP, "tokens": 20 * STEP}
    torchrun({tmp_path / "run": options | {"die_at": (count, "")}}, world=2, dies=True)
    torchrun({tmp_path / "run": options}, world=2)
    torch.testing.assert_close(weights(tmp_path / "run"), weights(sharded), rtol=0, atol=0)
    ours, theirs = (whole_state(run / "checkpoints" / "step_20") for run in (tmp_path / "run", sharded))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two ranks that nothing has disturbed."""
    run = tmp_path_factory.mktemp("sharded") / "run"
    torchrun({run: {"strategy": "fsdp", "checkpoint_every": 2 * STEP, "tokens": 20 * STEP}}, world=2)
    return run


def test_a_signal_to_one_rank_stops_all_after_the_same_step(runs: Path) -> None:
    assert (runs / "signalled" / "latest").read_text().strip() == "step_4"
    assert losses(runs / "signalled", "step") == pytest.approx(losses(runs / "alone", "step")[:4], rel=1e-3)


def test_ranks_share_the_rows_between_them_wherever_they_begin() -> None:
    rows = Synthetic(Letters().vocabulary)
    for world, first in [(1, 3), (2, 0), (3, 7), (4, 6)]:
        taken = []
        for rank in range(world):
            stream = numbered(rows, first, RankGroup(rank=rank, world=world, device=CPU))
            for number, row in islice(stream, 3):
                assert (row.targets == rows.row(number).targets).all()
                assert number % world == rank
                taken.append(number)
        assert sorted(taken) == list(range(first, first + 3 * world))


def test_a_world_that_does_not_divide_the_rows_is_refused_with_those_that_do() -> None:
    check_shares((12, 24), world=4)
    with pytest.raises(UsageError, match=r"12 rows cannot be shared by 5 processes(?s:.*)1, 2, 3, 4, 6, 12 of them"):
        check_shares((12, 24, 36), world=5)


@pytest.mark.parametrize("world", range(1, 9))
def test_the_layout_knows_how_fsdp_cuts(world: int) -> None:
    for length in range(1, 40):
        assert n_shards(length, world) == len(torch.chunk(torch.zeros(length), world))
