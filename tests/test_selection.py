"""The best checkpoint of a run: which one it is, that it stays, and that breaks do not change what is chosen."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

sys.path.insert(0, str(Path(__file__).parent))

from small_run import STEP, Letters, Synthetic, child, small_encoder, small_run, weights

from maskseq.apps.inspect import inspect
from maskseq.apps.judging import AS_TRAINED, judging
from maskseq.apps.pretrain import pretrain
from maskseq.apps.watch import view
from maskseq.baselines.frequencies import training_counts
from maskseq.errors import UsageError
from maskseq.model.checkpoint import find_checkpoint
from maskseq.packing.rows import PackedRow
from maskseq.recipe import load_recipe
from maskseq.trained import load
from maskseq.training import state
from maskseq.training.events import Event, Finished
from maskseq.training.metrics import Watched
from maskseq.training.schedule import ScheduleConfig, lr_at
from maskseq.training.selection import Judged, best, judged_until, out_of_patience
from maskseq.training.stop_signals import Interrupted

EVERY_TWO = {"validate_every": 2 * STEP, "checkpoint_every": 5 * STEP}
RISES_THEN_FALLS = {
    str(step): merit for step, merit in zip(range(0, 21, 2), (0, 1, 3, 5, 4, 3, 2, 1, 0, 0, 0), strict=True)
}
"""Best after 6 steps."""
PATIENT = {**EVERY_TWO, "merits": RISES_THEN_FALLS, "patience": 2, "schedule": {"warmup": 0.1, "decay": 0.3}}
"""The plateau ends after 10 of 20 steps, and with the 6 steps of the decay the run after 16."""


def recorded(run: Path) -> list[dict[str, Any]]:
    """Steps, validations and the end of the plateau, without what depends on the clock."""
    kept = []
    for line in (run / "metrics.jsonl").read_text().splitlines():
        values = json.loads(line)
        if values["kind"] in ("step", "validation", "plateau"):
            clock = ("time", "seconds", "tokens_per_s", "wait_share", "peak_share", "peak_memory")
            kept.append({key: value for key, value in values.items() if key not in clock})
    return kept


def same(one: Path, other: Path) -> None:
    """The same weights, bit for bit, and the same choice."""
    for name, tensor in weights(one / "checkpoints" / (one / "latest").read_text().strip()).items():
        assert torch.equal(tensor, weights(other / "checkpoints" / (other / "latest").read_text().strip())[name])
    assert (one / "best").read_text() == (other / "best").read_text()
    for name, tensor in weights(one).items():
        assert torch.equal(tensor, weights(other)[name])
    assert recorded(one) == recorded(other)


@given(st.lists(st.integers(-3, 3), max_size=12), st.integers(0, 4))
def test_the_best_is_the_first_maximum_and_patience_counts_from_it(merits: list[int], patience: int) -> None:
    judged = [Judged.of(10 * n, float(merit)) for n, merit in enumerate(merits)]
    if not merits:
        assert best(judged) is None
        assert not out_of_patience(judged, patience)
        return
    first = merits.index(max(merits))
    assert best(judged) == 10 * first
    assert out_of_patience(judged, patience) == (patience > 0 and len(merits) - 1 - first >= patience)


def test_what_is_read_back_chooses_as_what_was_known(tmp_path: Path) -> None:
    metrics = tmp_path / "metrics.jsonl"
    lines = [
        {"kind": "validation", "step": 0, "merit": None},  # as a number that is not finite is written
        {"kind": "step", "step": 6, "merit": 9},
        {"kind": "validation", "step": 10, "merit": 0.1 + 0.2},
        {"kind": "validation", "step": 20, "merit": 5.0},
    ]
    metrics.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"kind": "validation", "step": 7, "mer')
    assert judged_until(metrics, 15) == [Judged.of(0, float("nan")), Judged.of(10, 0.1 + 0.2)]
    assert judged_until(tmp_path / "none", 15) == []
    with metrics.open("a") as file:
        file.write('\n{"kind": "validation", "step": 12, "loss": 0.1}\n')  # as older versions have it
    assert judged_until(metrics, 11) == [Judged.of(0, None), Judged.of(10, 0.1 + 0.2)]
    assert judged_until(metrics, 15) is None


def test_the_best_checkpoint_is_named_stays_and_is_what_a_run_opens(tmp_path: Path) -> None:
    result = small_run(tmp_path, **EVERY_TWO, merits=RISES_THEN_FALLS, keep_last=1)
    assert result.best == 6
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["step_20", "step_6"]
    assert find_checkpoint(tmp_path).name == "step_6"
    assert (tmp_path / "latest").read_text().strip() == "step_20"
    chosen, last = (weights(tmp_path / "checkpoints" / step) for step in ("step_6", "step_20"))
    assert any(not torch.equal(tensor, last[name]) for name, tensor in chosen.items())
    (tmp_path / "checkpoints" / "step_6" / "model.safetensors").write_bytes(b"")
    with pytest.warns(UserWarning, match="step_6"):
        assert find_checkpoint(tmp_path).name == "step_20"
    (tmp_path / "best").unlink()  # as in runs of older versions
    assert find_checkpoint(tmp_path).name == "step_20"


def test_a_model_that_only_gets_worse_is_the_one_that_was_begun_with(tmp_path: Path) -> None:
    small_run(tmp_path, **EVERY_TWO, merits={str(step): -step for step in range(0, 21, 2)}, keep_last=1)
    begun = dict(small_encoder().named_parameters())
    for name, tensor in weights(tmp_path).items():
        assert torch.equal(tensor, begun[name])


def test_a_run_goes_on_from_its_newest_checkpoint_not_from_its_best(tmp_path: Path) -> None:
    options = {**EVERY_TWO, "merits": RISES_THEN_FALLS}
    with pytest.raises(Interrupted):
        small_run(tmp_path / "broken", signal_at=30, **options)
    assert (tmp_path / "broken" / "latest").read_text().strip() == "step_16"
    small_run(tmp_path / "broken", **options)
    small_run(tmp_path / "whole", **options)
    same(tmp_path / "broken", tmp_path / "whole")


class OneRow(Synthetic):
    """The same row again and again, so that it does not matter how many were seen."""

    def row(self, number: int) -> PackedRow:
        return super().row(0)


def test_patience_ends_the_plateau_and_the_decay_begins_from_the_best(tmp_path: Path) -> None:
    rows, fixed = OneRow(Letters().vocabulary), {"model": {"mlp_dropout": 0.0}}
    result = small_run(tmp_path / "patient", train_rows=rows, **PATIENT, **fixed)
    assert (result.position.step, result.position.tokens) == (16, 16 * STEP)
    lines = recorded(tmp_path / "patient")
    (ended,) = [line for line in lines if line["kind"] == "plateau"]
    assert (ended["step"], ended["best"], ended["total_tokens"]) == (10, 6, 16 * STEP)
    factors = [line["lr"] / 1e-2 for line in lines if line["kind"] == "step"][10:]
    assert factors == pytest.approx([1 - (n / 6) ** 0.5 for n in range(6)])

    origin = state.branch(tmp_path / "patient" / "checkpoints" / "step_6")
    tail = {"tokens": 12 * STEP, "schedule": {"warmup": 0.0, "decay": 6 * STEP}}
    small_run(tmp_path / "by hand", train_rows=rows, origin=origin, **fixed, **tail)
    decayed = weights(tmp_path / "patient" / "checkpoints" / "step_16")
    for name, tensor in weights(tmp_path / "by hand" / "checkpoints" / "step_12").items():
        assert torch.equal(tensor, decayed[name])


def test_whoever_describes_a_run_says_which_checkpoint_is_the_best(tmp_path: Path) -> None:
    events: list[Event] = []
    small_run(tmp_path, **PATIENT, on_event=events.append)
    watched = Watched(tmp_path).update()
    assert watched.best["step"] == watched.summary()["best_step"] == 6
    assert (watched.plateau["best"], watched.total) == (6, 16 * STEP)
    assert inspect(tmp_path, trust_code=True)["checkpoint"].startswith("step_6,")
    assert inspect(tmp_path / "checkpoints" / "step_16", trust_code=True)["checkpoint"] == "step_16"
    (finished,) = [event for event in events if isinstance(event, Finished)]
    assert finished.best == 6
    screen = io.StringIO()
    Console(file=screen, width=120).print(view([Watched(tmp_path)]))
    assert "best checkpoint: step 6" in screen.getvalue()


def test_both_ends_are_candidates(tmp_path: Path) -> None:
    small_run(tmp_path / "decay helps", **PATIENT | {"merits": RISES_THEN_FALLS | {"16": 7.0}})
    assert find_checkpoint(tmp_path / "decay helps").name == "step_16"
    small_run(tmp_path / "decay harms", **PATIENT)
    assert find_checkpoint(tmp_path / "decay harms").name == "step_6"


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_run_that_is_stopped_on_either_side_of_the_choice_takes_the_same_branch(tmp_path: Path, ema: float) -> None:
    small_run(tmp_path / "whole", **PATIENT, ema=ema)
    for row in (11, 18, 25):  # two rows a step: before the best, on the plateau, at its end, in the decay
        broken = tmp_path / f"broken at {row}"
        with pytest.raises(Interrupted):
            small_run(broken, signal_at=row, **PATIENT, ema=ema)
        small_run(broken, **PATIENT, ema=ema)
        same(broken, tmp_path / "whole")


@pytest.mark.parametrize("step", [9, 13])
def test_a_run_that_is_killed_on_either_side_of_the_choice_takes_the_same_branch(tmp_path: Path, step: int) -> None:
    options: dict[str, Any] = {**PATIENT}
    process = child(tmp_path / "killed", **options)
    assert process.stdout is not None
    for line in process.stdout:
        if line.split() == ["Step", str(step)]:
            process.kill()
    process.communicate()
    small_run(tmp_path / "killed", **options)
    small_run(tmp_path / "whole", **options)
    same(tmp_path / "killed", tmp_path / "whole")


def test_of_average_and_weights_the_better_one_is_saved_and_both_go_on(tmp_path: Path) -> None:
    slow = {"ema": 0.9999, **EVERY_TWO}  # the average stays where it began, and learns nothing
    small_run(tmp_path / "slow", **slow)
    last = [line for line in recorded(tmp_path / "slow") if line["kind"] == "validation"][-1]
    assert not last["averaged"]
    begun, learned = dict(small_encoder().named_parameters()), weights(tmp_path / "slow" / "checkpoints" / "step_20")
    assert any((tensor - begun[name]).abs().max() > 0.01 for name, tensor in learned.items())
    with pytest.raises(Interrupted):
        small_run(tmp_path / "broken", signal_at=19, **slow)
    small_run(tmp_path / "broken", **slow)
    same(tmp_path / "broken", tmp_path / "slow")


def test_a_run_of_an_older_version_goes_on_as_it_began_and_chooses_nothing(tmp_path: Path) -> None:
    options = {**EVERY_TWO, "merits": RISES_THEN_FALLS}
    with pytest.raises(Interrupted):
        small_run(tmp_path, signal_at=15, **options)
    (tmp_path / "best").unlink()
    old = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    kept = [{key: value for key, value in line.items() if key != "merit"} for line in old]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in kept))
    assert find_checkpoint(tmp_path).name == (tmp_path / "latest").read_text().strip()
    assert small_run(tmp_path, **options).best is None
    assert find_checkpoint(tmp_path).name == "step_20"


def test_a_branch_of_a_run_whose_plateau_was_ended_begins_on_a_plateau(tmp_path: Path) -> None:
    small_run(tmp_path, **PATIENT)
    assert state.read_saved(tmp_path / "checkpoints" / "step_16").position.decay_from == 10 * STEP
    assert state.branch(tmp_path / "checkpoints" / "step_16").position.decay_from is None


def test_a_tail_that_begins_early_falls_as_one_that_begins_in_time() -> None:
    config = ScheduleConfig(warmup=100, decay=300)
    for tokens in range(0, 301, 50):
        assert lr_at(400 + tokens, 1000, config, decay_from=400) == lr_at(700 + tokens, 1000, config)
    assert lr_at(50, 1000, config, decay_from=50) == 1.0


def test_patience_does_not_go_with_masks_that_wait_for_the_decay() -> None:
    recipe = {"data": {"corpus": "x"}, "tokenizer": {"name": "nucleotide"}, "training": {"patience": 3}}
    load_recipe(recipe)
    with pytest.raises(UsageError, match="patience"):
        load_recipe(recipe | {"masking": {"schedule": "step", "final_ratio": 0.1}})
    with pytest.raises(UsageError, match="patience"):
        load_recipe(recipe | {"training": {"patience": -1}})


def test_skills_are_over_the_best_simple_method_and_stay_so(tmp_path: Path) -> None:
    """Of letters that stand in pairs, neighbours tell nearly everything, and frequencies nothing."""
    rng = np.random.default_rng(0)
    file = tmp_path / "pairs.fasta"
    file.write_text(">pairs\n" + "".join(letter * 2 for letter in rng.choice([*"ACGT"], 20_000)) + "\n")
    recipe = {
        "data": {"files": [str(file)], "split": {"selection": 0.1, "test": 0.1}},
        "tokenizer": {"name": "nucleotide"},
        "model": {"hidden_size": 32, "n_layers": 1, "n_heads": 1, "max_positions": 128},
        "packing": {"row_tokens": 256, "context": 128},
        "training": {"tokens": 3000, "validate_every": 1500, "validation_rows": 8},
        "blend": True,
        "calibrate": False,
    }
    run = tmp_path / "run"
    pretrain(recipe, output=run)
    losses = json.loads((run / "simple_losses.json").read_text())["selection"]
    single = losses["single cells"]
    assert single < 0.75 * np.log(
        4
    )  # half of the letters have a twin on one known side, and who knows where pairs begin
    validations = [each for each in recorded(run) if each["kind"] == "validation"]
    for each in validations:
        for name, skill in each["skills"].items():
            reached = each["loss"] if name == AS_TRAINED else each["by_protocol"][name]["loss"]
            assert skill == pytest.approx(1 - reached / losses[name])
        assert each["merit"] == pytest.approx(np.mean([*each["skills"].values()]))
    (run / "simple_losses.json").unlink()  # as in runs of versions that compared with frequencies
    corpus = load(run).corpus()
    older = judging(load_recipe(recipe), corpus, run, training_counts(run, corpus))["selection"].references
    assert older["single cells"] == pytest.approx(np.log(4), rel=0.01)
