"""The trainer against a loop written by hand, its loss against brute force, and what it does when things go wrong."""

import json
import math
import os
import pty
import shutil
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).parent))

from small_run import STEP, Letters, Synthetic, small_encoder, small_run, weights

from maskseq.errors import UsageError
from maskseq.masking.config import OBJECTIVES
from maskseq.model.encoder import Encoder
from maskseq.packing.rows import PackedRow, concatenate
from maskseq.training.config import TrainingConfig
from maskseq.training.events import CheckpointSaved, Event, Started, Step, Validation
from maskseq.training.loss import RATIO_BINS, Batch, MaskedLoss, gaussian_targets, scores, soft_cross_entropy
from maskseq.training.schedule import ScheduleConfig, lr_at
from maskseq.training.stop_signals import Interrupted
from maskseq.training.trainer import DivergenceError

CPU = torch.device("cpu")
NO_DROPOUT = {"mlp_dropout": 0.0}


def rows(n: int) -> list[PackedRow]:
    synthetic = Synthetic(Letters().vocabulary)
    return [synthetic.row(number) for number in range(n)]


def brute_force(model: Encoder, row: PackedRow) -> list[tuple[float, torch.Tensor, bool, int, str, int]]:
    """(weight, cross-entropy, correct, objective, ratio bin, field) of each scored cell, from full logits."""
    states = model(torch.tensor(row.inputs), torch.tensor(row.positions), torch.tensor(row.cu_seqlens), row.max_seqlen)
    cells = []
    for field in range(row.targets.shape[1]):
        log_p = torch.log_softmax(model.logits(states, field), dim=-1)
        for piece, (start, stop) in enumerate(zip(row.cu_seqlens[:-1], row.cu_seqlens[1:], strict=True)):
            ratio_bin = RATIO_BINS[min(int(row.ratio[piece] * 5), 4)]
            for i in range(start, stop):
                if row.weights[i, field] > 0:
                    target = int(row.targets[i, field])
                    correct = int(log_p[i].argmax()) == target
                    cells.append(
                        (
                            float(row.weights[i, field]),
                            -log_p[i, target],
                            correct,
                            int(row.objective[piece]),
                            ratio_bin,
                            field,
                        )
                    )
    return cells


def test_the_loss_and_its_gradient_are_those_of_every_scored_cell_one_by_one() -> None:
    row, model, reference = concatenate(rows(3)), small_encoder(**NO_DROPOUT), small_encoder(**NO_DROPOUT)
    loss, _ = MaskedLoss(model)(Batch.of(row, CPU), float(row.weights.sum()))
    loss.backward()
    cells = brute_force(reference, row)
    expected = sum(w * ce for w, ce, *_ in cells) / sum(w for w, *_ in cells)
    expected.backward()
    torch.testing.assert_close(loss, expected.float(), rtol=1e-5, atol=1e-6)
    for (name, ours), theirs in zip(model.named_parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(
            ours.grad, theirs.grad, rtol=1e-4, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_metrics_split_by_objective_ratio_and_field_are_means_over_those_cells() -> None:
    row, model = concatenate(rows(4)), small_encoder(**NO_DROPOUT)
    _, tallies = MaskedLoss(model)(Batch.of(row, CPU), 1.0)
    result = scores(tallies, Letters().vocabulary.names)
    cells = brute_force(model, row)

    def check(score: Any, chosen: list[tuple[Any, ...]]) -> None:
        weight = sum(c[0] for c in chosen)
        assert score.cells == len(chosen)
        assert score.loss == pytest.approx(sum(c[0] * c[1].item() for c in chosen) / weight, rel=1e-5)
        assert score.accuracy == pytest.approx(sum(c[0] * c[2] for c in chosen) / weight)

    check(result.all, cells)
    assert result.all.bits == pytest.approx(result.all.loss / math.log(2))
    present = {OBJECTIVES[c[3]] for c in cells}
    assert set(result.by_objective) == present >= {"tokens", "spans", "infill"}
    for name in present:
        check(result.by_objective[name], [c for c in cells if OBJECTIVES[c[3]] == name])
    for name, score in result.by_ratio.items():
        check(score, [c for c in cells if c[4] == name])
    assert set(result.by_ratio) == {c[4] for c in cells}
    for index, name in enumerate(Letters().vocabulary.names):
        check(result.by_field[name], [c for c in cells if c[5] == index])


def test_eight_rows_at_once_equal_one_row_eight_times(tmp_path: Path) -> None:
    options: dict[str, Any] = {"rows": 8, "tokens": 4 * 4 * STEP, "model": NO_DROPOUT, "checkpoint_every": 0}
    small_run(tmp_path / "together", micro_rows=8, **options)
    small_run(tmp_path / "apart", micro_rows=1, **options)
    small_run(tmp_path / "uneven", micro_rows=3, **options)
    together = weights(tmp_path / "together")
    for other in ("apart", "uneven"):
        torch.testing.assert_close(weights(tmp_path / other), together, rtol=1e-4, atol=2e-6)


def test_training_is_the_loop_one_would_write_by_hand(tmp_path: Path) -> None:
    steps, lr, clip = 6, 1e-2, 0.3
    optimizer = {"name": "adamw", "lr": lr, "clip": clip, "weight_decay": 0.0}
    small_run(tmp_path, tokens=steps * STEP, model=NO_DROPOUT, optimizer=optimizer)
    model = small_encoder(**NO_DROPOUT)
    adamw = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.0)
    source = Synthetic(model.config.vocabulary)
    for step in range(steps):
        row = concatenate([source.row(2 * step), source.row(2 * step + 1)])
        cells = [torch.tensor(a) for a in (row.inputs, row.positions, row.cu_seqlens)]
        states = model(*cells, row.max_seqlen)
        total = torch.zeros(())
        for field in range(2):
            ce = F.cross_entropy(model.logits(states, field), torch.tensor(row.targets[:, field]), reduction="none")
            weight = torch.tensor(row.weights[:, field])
            total = total + ce[weight > 0] @ weight[weight > 0]
        adamw.zero_grad()
        (total / row.weights.sum()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        schedule = ScheduleConfig(warmup=0.2, decay=0.3)
        adamw.param_groups[0]["lr"] = lr * lr_at(step * STEP, steps * STEP, schedule)
        adamw.step()
    torch.testing.assert_close(weights(tmp_path), dict(model.named_parameters()), rtol=1e-4, atol=5e-6)


def test_validation_repeats_itself_and_leaves_training_alone(tmp_path: Path) -> None:
    events: list[Event] = []
    small_run(tmp_path / "often", validate_every=STEP, on_event=events.append)
    small_run(tmp_path / "once", validate_every=0)
    often, once = (weights(tmp_path / name / "checkpoints" / "step_20") for name in ("often", "once"))
    torch.testing.assert_close(often, once, rtol=0, atol=0)
    validations = [e for e in events if isinstance(e, Validation)]
    assert [e.step for e in validations] == list(range(21))
    assert len({e.scores.all.cells for e in validations}) == 1  # the same masks every time
    assert validations[-1].scores.all.loss < 0.85 * validations[0].scores.all.loss


def test_nothing_touches_the_global_generators(tmp_path: Path) -> None:
    """Python's own is left out: the type checker of these tests draws from it."""
    before = torch.random.get_rng_state(), str(np.random.get_state())
    small_run(tmp_path, tokens=3 * STEP)
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert str(np.random.get_state()) == before[1]


def test_the_average_of_the_weights_is_what_is_saved(tmp_path: Path) -> None:
    """Recomputed from a checkpoint at every step of a run without averaging; where no validation has chosen."""
    steps = 4
    small_run(tmp_path / "plain", tokens=5 * STEP, checkpoint_every=STEP, keep_last=99)
    small_run(tmp_path / "averaged", tokens=5 * STEP, ema=0.7, checkpoint_every=steps * STEP, validate_every=0)
    mean = dict(small_encoder().named_parameters())
    for step in range(1, steps + 1):
        now = weights(tmp_path / "plain" / "checkpoints" / f"step_{step}")
        mean = {name: 0.7 * mean[name] + 0.3 * now[name] for name in mean}
    averaged = weights(tmp_path / "averaged" / "checkpoints" / f"step_{steps}")
    torch.testing.assert_close(averaged, mean, rtol=1e-5, atol=1e-6)


class Broken(Synthetic):
    """From row 14 on (step 8) the weights of one cell are infinite."""

    def row(self, number: int) -> PackedRow:
        row = super().row(number)
        if number < 14:
            return row
        infinite = row.weights.copy()
        infinite[np.nonzero(infinite[:, 0])[0][0], 0] = np.inf
        return replace(row, weights=infinite)


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_rows(tmp_path: Path) -> None:
    with pytest.raises(DivergenceError, match=r"step 8 .*rows 14 to 15 of stage 0"):
        small_run(tmp_path, train_rows=Broken(Letters().vocabulary))
    assert (tmp_path / "latest").read_text().strip() == "step_5"
    assert all(torch.isfinite(p).all() for p in weights(tmp_path).values())


class Failing(Synthetic):
    def prefetch(self, first: int, *, step: int = 1) -> Iterator[PackedRow]:
        yield self.row(first)
        raise OSError("the disk is gone")


def test_what_goes_wrong_while_reading_surfaces(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="the disk is gone"):
        small_run(tmp_path, train_rows=Failing(Letters().vocabulary))


def test_a_folder_of_another_run_is_refused_with_what_differs(tmp_path: Path) -> None:
    small_run(tmp_path, tokens=2 * STEP, identity={"masking": {"ratio": 0.3}, "seed": 1})
    before = sorted((p, p.stat().st_mtime_ns) for p in tmp_path.rglob("*"))
    with pytest.raises(UsageError, match=r"masking\.ratio is 0\.3 there and 0\.15 here"):
        small_run(tmp_path, tokens=2 * STEP, identity={"masking": {"ratio": 0.15}, "seed": 1})
    assert sorted((p, p.stat().st_mtime_ns) for p in tmp_path.rglob("*")) == before


def test_the_last_checkpoints_and_the_marked_ones_are_kept(tmp_path: Path) -> None:
    small_run(tmp_path, checkpoint_every=2 * STEP, keep_last=3, keep_every=6 * STEP)
    kept = {p.name for p in (tmp_path / "checkpoints").iterdir()}
    assert kept == {f"step_{n}" for n in (6, 12, 16, 18, 20)}


def test_a_checkpoint_to_keep_is_written_wherever_it_falls(tmp_path: Path) -> None:
    small_run(tmp_path, checkpoint_every=10 * STEP, keep_every=7 * STEP, keep_last=1)
    assert {p.name for p in (tmp_path / "checkpoints").iterdir()} == {"step_7", "step_14", "step_20"}


def test_two_processes_do_not_train_into_one_folder(tmp_path: Path) -> None:
    def again(event: Event) -> None:
        if isinstance(event, Step) and event.step == 3:
            small_run(tmp_path)

    with pytest.raises(UsageError, match="another process is training into this folder"):
        small_run(tmp_path, on_event=again)
    small_run(tmp_path)  # the lock ended with the run that held it


@pytest.fixture
def terminal() -> Iterator[None]:
    """Of whoever runs the tests under nohup, a SIGHUP would be ignored here and in all that is started."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_the_run_after_the_step_with_a_checkpoint(tmp_path: Path, number: int, code: int) -> None:
    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]

    def interrupt(event: Event) -> None:
        if isinstance(event, Step) and event.step == 7:
            os.kill(os.getpid(), number)

    with pytest.raises(Interrupted, match="stopped after step 7") as stopped:
        small_run(tmp_path, on_event=interrupt)
    assert stopped.value.exit_code == code
    assert (tmp_path / "latest").read_text().strip() == "step_7"
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == handlers


def test_a_run_under_nohup_outlives_its_terminal(tmp_path: Path) -> None:
    def hang_up(event: Event) -> None:
        if isinstance(event, Step) and event.step == 7:
            os.kill(os.getpid(), signal.SIGHUP)

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        small_run(tmp_path, on_event=hang_up)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert (tmp_path / "latest").read_text().strip() == "step_20"


@pytest.mark.usefixtures("terminal")
def test_a_run_whose_terminal_is_closed_writes_its_checkpoint(tmp_path: Path) -> None:
    """What it shows has nowhere to go any more, which must not end it first."""
    process, terminal = pty.fork()
    if process == 0:
        os.execv(
            sys.executable,
            [
                sys.executable,
                str(Path(__file__).parent / "small_run.py"),
                json.dumps([(str(tmp_path), {"tokens": 10**9})]),
            ],
        )
    seen = b""
    while b"Step 6" not in seen:
        seen += os.read(terminal, 4096)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0  # `small_run` takes `Interrupted` for an end
    latest = (tmp_path / "latest").read_text().strip()
    assert int(latest.removeprefix("step_")) > 5
    last = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    assert (last["kind"], f"step_{last['step']}") == ("stopped", latest)


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_what_is_no_checkpoint_neither_blocks_a_run_nor_is_removed(tmp_path: Path, kind: str) -> None:
    valuable, stray = tmp_path / "valuable", tmp_path / "run" / "checkpoints" / "step_99.tmp"
    valuable.mkdir()
    (valuable / "thesis").write_text("all of it")
    small_run(tmp_path / "run", tokens=3 * STEP)
    if kind == "file":
        stray.write_text("a user's")
    elif kind == "folder":
        shutil.copytree(valuable, stray)
    else:
        stray.symlink_to(valuable)
    small_run(tmp_path / "run", tokens=6 * STEP)
    assert (tmp_path / "run" / "latest").read_text().strip() == "step_6"
    assert stray.is_file() if kind == "file" else (stray / "thesis").is_file()
    assert (valuable / "thesis").is_file()


@pytest.mark.parametrize("name", ["metrics.jsonl", "report.html", "latest"])
def test_a_users_file_in_a_new_run_folder_is_not_written_over(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("a user's")
    with pytest.raises(UsageError, match=name):
        small_run(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "a user's"


def test_a_second_signal_ends_the_run_at_once(tmp_path: Path) -> None:
    def interrupt(event: Event) -> None:
        if isinstance(event, Step) and event.step == 7:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted, match="at once"):
        small_run(tmp_path, on_event=interrupt)
    assert (tmp_path / "latest").read_text().strip() == "step_5"


def test_a_signal_that_torchrun_hands_on_is_not_a_second_one(tmp_path: Path) -> None:
    def terminate(event: Event) -> None:
        if isinstance(event, Step) and event.step == 7:
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted, match="stopped after step 7") as stopped:
        small_run(tmp_path, on_event=terminate)
    assert stopped.value.exit_code == 143
    assert (tmp_path / "latest").read_text().strip() == "step_7"


def test_metrics_have_one_line_a_step_however_often_the_run_was_stopped(tmp_path: Path) -> None:
    def stop_at(step: int) -> Any:
        return lambda e: os.kill(os.getpid(), signal.SIGINT) if isinstance(e, Step) and e.step == step else None

    for step in (3, 11):
        with pytest.raises(Interrupted):
            small_run(tmp_path, on_event=stop_at(step))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "step", "step": 13, "loss": 9}\n{"kind": "ste')  # steps without a checkpoint, a cut line
    small_run(tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["kind"] == "step"] == list(range(1, 21))
    assert [line["step"] for line in lines if line["kind"] == "validation"] == [0, 10, 20]
    scored = [line for line in lines if line["kind"] in ("step", "validation")]
    assert all(line["bits"] == pytest.approx(line["loss"] / math.log(2)) for line in scored)
    reported = [(line["kind"], line["step"]) for line in lines if line["kind"] not in ("step", "validation")]
    assert reported == [
        ("started", 0), ("checkpoint", 0), ("checkpoint", 3), ("stopped", 3),
        ("started", 3), ("checkpoint", 5), ("checkpoint", 10), ("checkpoint", 11), ("stopped", 11),
        ("started", 11), ("checkpoint", 15), ("checkpoint", 20), ("finished", 20),
    ]  # fmt: skip


def test_a_finished_run_has_nothing_left_to_do(tmp_path: Path) -> None:
    small_run(tmp_path, tokens=2 * STEP)
    events: list[Event] = []
    small_run(tmp_path, tokens=2 * STEP, on_event=events.append)
    assert not any(isinstance(e, Step | CheckpointSaved) for e in events)


def test_the_precision_of_a_run_is_kept_when_it_goes_on(tmp_path: Path) -> None:
    """`auto` is decided by the machine; a run that moves must not change its arithmetic half-way."""
    small_run(tmp_path, tokens=2 * STEP, precision="bf16")
    events: list[Event] = []
    small_run(tmp_path, tokens=2 * STEP, precision="fp32", on_event=events.append)
    assert [e.precision for e in events if isinstance(e, Started)] == ["bf16"]


def test_bf16_learns_as_fp32_does(tmp_path: Path) -> None:
    losses = [small_run(tmp_path / p, precision=p).validation.all.loss for p in ("fp32", "bf16")]
    assert losses[1] == pytest.approx(losses[0], rel=0.03)


def test_gaussian_targets_spread_bins_and_leave_controls() -> None:
    targets = gaussian_targets(5, 7, width=0.8)
    bell = np.exp(-((np.arange(5) - 3) ** 2) / (2 * 0.8**2))
    np.testing.assert_allclose(targets[3, :5], bell / bell.sum(), rtol=1e-6)
    assert torch.equal(targets[5:], torch.eye(7)[5:])
    assert (targets[:5, 5:] == 0).all()


def test_soft_cross_entropy_survives_ids_that_are_never_predicted() -> None:
    logits = torch.tensor([[1.0, 2.0, -math.inf]], requires_grad=True)
    loss = soft_cross_entropy(logits, torch.tensor([[0.25, 0.75, 0.0]])).sum()
    log_p = torch.log_softmax(torch.tensor([1.0, 2.0]), -1)
    torch.testing.assert_close(loss, -(0.25 * log_p[0] + 0.75 * log_p[1]))
    loss.backward()
    assert torch.isfinite(logits.grad).all()


def test_z_loss_and_smoothing_change_what_is_minimised_but_not_what_is_reported() -> None:
    row, model = concatenate(rows(2)), small_encoder(**NO_DROPOUT)
    batch, weight = Batch.of(row, CPU), float(row.weights.sum())
    plain, counted = MaskedLoss(model)(batch, weight)
    both, also_counted = MaskedLoss(model, z_loss=0.1, smoothing=0.7)(batch, weight)
    assert torch.equal(counted, also_counted)
    states = model(batch.ids, batch.positions, batch.cu_seqlens, batch.max_seqlen)
    expected = torch.zeros(())
    for field in range(2):
        logits, target = model.logits(states, field), torch.tensor(row.targets[:, field])
        ce = F.cross_entropy(logits, target, reduction="none")
        if field == 1:  # the ordinal one
            bell = torch.exp(-((torch.arange(5)[None] - target[:, None]) ** 2) / (2 * 0.7**2))
            ce = -(bell / bell.sum(-1, keepdim=True) * torch.log_softmax(logits, -1)).sum(-1)
        expected = expected + (torch.tensor(row.weights[:, field]) * (ce + 0.1 * logits.logsumexp(-1) ** 2)).sum()
    torch.testing.assert_close(both, expected / weight, rtol=1e-5, atol=1e-6)
    assert both != plain


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rows": 0}, "rows must be at least 1"),
        ({"rows": 6, "first_rows": 4, "rows_warmup": 0.1}, r"rows \(6\) must be a multiple of first_rows \(4\)"),
        ({"first_rows": 2}, "needs both first_rows and rows_warmup"),
        ({"ema": 1.0}, "ema is a decay"),
    ],
)
def test_options_that_do_not_fit_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        TrainingConfig(**options)
