"""Runs that begin where another has come to: branches of a stable run, and later stages."""

import contextlib
import json
import math
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parent))

import corpora
from corpora import random_texts
from small_run import STEP, Letters, Synthetic, small_run, weights
from untrained import load_model

from maskseq.apps.judging import OnRows
from maskseq.corpus.build import build_from_records
from maskseq.corpus.reader import Corpus
from maskseq.corpus.splits import SplitConfig
from maskseq.errors import DataError, UsageError
from maskseq.masking.config import MaskingConfig, Spans, Tokens
from maskseq.model.encoder import Encoder
from maskseq.model.presets import preset
from maskseq.packing.packing import PackingConfig
from maskseq.packing.rows import PackedRows
from maskseq.training.config import OptimizerConfig, TrainingConfig
from maskseq.training.events import Event, Listener, Started, Step, Warned
from maskseq.training.schedule import ScheduleConfig
from maskseq.training.spec import TrainingSpec
from maskseq.training.state import Origin, Position, branch, next_stage, read_saved
from maskseq.training.trainer import train

WARMUP = {"warmup": 4 * STEP}
DECAY = {"decay": 10 * STEP} | WARMUP
LONG = {"rope_theta": 160_000.0, "max_positions": 4096}


@pytest.fixture(scope="module")
def stable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 steps at a constant rate, with a checkpoint to branch from at step 10."""
    run = tmp_path_factory.mktemp("stable")
    small_run(run, schedule={"decay": 0} | WARMUP, keep_every=10 * STEP)
    return run


def test_a_branch_that_decays_is_the_run_that_had_planned_to(stable: Path, tmp_path: Path) -> None:
    origin = branch(stable / "checkpoints" / "step_10")
    assert origin.position == Position(step=10, row=20, tokens=10 * STEP)
    small_run(tmp_path / "branch", origin=origin, schedule=DECAY)
    small_run(tmp_path / "planned", schedule=DECAY)
    torch.testing.assert_close(weights(tmp_path / "branch"), weights(tmp_path / "planned"), rtol=0, atol=0)


def test_a_branch_of_a_run_begins_at_its_newest_checkpoint(stable: Path) -> None:
    assert branch(stable).checkpoint == stable / "checkpoints" / "step_20"


def test_a_next_stage_takes_weights_and_moments_and_counts_from_zero(stable: Path, tmp_path: Path) -> None:
    origin = next_stage(stable)
    assert origin.position == Position(stage=1, earlier_tokens=20 * STEP)
    events: list[Event] = []
    stage = {"tokens": 6 * STEP, "model": LONG, "schedule": {"warmup": 0, "decay": 1.0}}
    small_run(
        tmp_path, origin=origin, on_event=events.append, train_rows=Synthetic(Letters().vocabulary, seed=9), **stage
    )

    (started,) = [e for e in events if isinstance(e, Started)]
    assert (started.stage, started.step, started.tokens) == (1, 0, 0)
    first, *_, last = [e for e in events if isinstance(e, Step)]
    assert (first.step, first.row, last.step) == (1, 2, 6)
    assert (first.lr, last.lr) == (1e-2, pytest.approx(1e-2 * (1 - math.sqrt(5 / 6))))
    fresh = small_run(tmp_path / "fresh", tokens=STEP).validation
    assert first.scores.all.loss < fresh.all.loss - 0.2  # it goes on from what was learned

    model, _ = load_model(tmp_path, trust_code=True)
    assert model.config.rope_theta == 160_000.0
    moments = load_file(tmp_path / "checkpoints" / "step_6" / "training_state" / "rank_0.safetensors")
    assert {int(value) for name, value in moments.items() if name.startswith("step/")} == {26}
    assert read_saved(tmp_path / "checkpoints" / "step_6").position.earlier_tokens == 20 * STEP


def test_a_stage_that_was_broken_off_ends_as_if_it_had_not_been(stable: Path, tmp_path: Path) -> None:
    def break_off(event: Event) -> None:
        if isinstance(event, Step) and event.step == 8:
            raise KeyboardInterrupt

    options = {"origin": next_stage(stable), "tokens": 12 * STEP, "model": LONG}
    with pytest.raises(KeyboardInterrupt):
        small_run(tmp_path / "broken", on_event=break_off, **options)
    small_run(tmp_path / "broken", **options)
    small_run(tmp_path / "whole", **options)
    torch.testing.assert_close(weights(tmp_path / "broken"), weights(tmp_path / "whole"), rtol=0, atol=0)


def test_the_average_of_one_stage_and_its_weights_both_go_on(tmp_path: Path) -> None:
    small_run(tmp_path / "first", tokens=10 * STEP, ema=0.8, schedule={"decay": 0} | WARMUP)
    small_run(tmp_path / "branch", origin=branch(tmp_path / "first"), ema=0.8, schedule=DECAY)
    small_run(tmp_path / "planned", ema=0.8, schedule=DECAY)
    torch.testing.assert_close(weights(tmp_path / "branch"), weights(tmp_path / "planned"), rtol=0, atol=0)


def test_another_optimizer_begins_with_new_moments_and_says_so(stable: Path, tmp_path: Path) -> None:
    events: list[Event] = []
    origin = next_stage(stable)
    small_run(tmp_path, origin=origin, tokens=2 * STEP, optimizer={"name": "adamw"}, on_event=events.append)
    (warning,) = [e.text for e in events if isinstance(e, Warned)]
    assert "adamw begins with new moments" in warning
    moments = load_file(tmp_path / "checkpoints" / "step_2" / "training_state" / "rank_0.safetensors")
    assert {int(value) for name, value in moments.items() if name.startswith("step/")} == {2}


def test_what_cannot_be_begun_from_is_refused(stable: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"branch begins after {20 * STEP:,} tokens"):
        small_run(tmp_path / "short", origin=branch(stable), tokens=20 * STEP)
    with pytest.raises(DataError, match="no such checkpoint"):
        next_stage(tmp_path / "nothing")
    small_run(tmp_path / "run", origin=next_stage(stable), tokens=STEP)
    with pytest.raises(UsageError, match=r"origin.*there and"):
        small_run(tmp_path / "run", origin=next_stage(stable / "checkpoints" / "step_10"), tokens=STEP)


def test_a_stage_of_another_shape_is_refused_with_the_tensor(stable: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Wi"):
        small_run(tmp_path, origin=next_stage(stable), model={"intermediate_size": 64})


def test_the_recipe_in_the_folder_says_where_the_run_came_from(stable: Path, tmp_path: Path) -> None:
    small_run(tmp_path, origin=next_stage(stable), tokens=STEP)
    recipe = json.loads((tmp_path / "recipe.json").read_text())
    digests = json.loads((stable / "checkpoints" / "step_20" / "digests.json").read_text())
    assert recipe["origin"] == {"stage": 1, "digests": digests}


CORPUS_STEPS = 20
ROW = 256


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """About nine rows of 256 tokens an epoch, so that a run passes through several epochs."""
    folder = tmp_path_factory.mktemp("corpus") / "c"
    split = SplitConfig(by="record", validation=0.3)
    return build_from_records(random_texts(20, 300), output=folder, tokenizer=corpora.Letters(), split=split)


def pretrain(
    corpus: Corpus,
    run: Path,
    *,
    context: int = 64,
    origin: Origin | None = None,
    on_event: Listener = lambda event: None,
) -> None:
    """Real rows of a real corpus; masks go from 30 % to 15 % where the learning rate begins to fall."""
    masking = MaskingConfig(ratio=0.3, final_ratio=0.15, schedule="step", tokens=Tokens(), spans=Spans(weight=1.0))
    batch, total = PackingConfig(row_tokens=ROW, context=context), CORPUS_STEPS * ROW
    stage = origin.position.stage if origin else 0
    common = {"config": batch, "masking": masking, "seed": 3, "stage": stage}
    theta = 160_000.0 if stage else 10_000.0
    vocabulary = corpus.tokenizer.vocabulary
    shape = {"n_layers": 4, "hidden_size": 32, "n_heads": 2, "intermediate_size": 48}
    windows = {"global_every": 3, "window": 16, "rope_theta": theta, "attention_dropout": 0.1}
    spec = TrainingSpec(
        config=TrainingConfig(tokens=total, rows=1, precision="fp32", validate_every=0.5),
        optimizer=OptimizerConfig(lr=1e-2),
        schedule=ScheduleConfig(warmup=0, decay=0.5),
        tokenizer=corpus.tokenizer,
        seed=3,
        identity={"context": context},
        origin=origin,
    )
    train(
        Encoder(preset("nano", vocabulary, **shape, **windows), seed=0),
        PackedRows(corpus, split="train", total_tokens=total, decay_start=0.5, **common),
        spec,
        run=run,
        validate=OnRows(PackedRows(corpus, split="validation", mask_epoch=0, **common), 3),
        on_event=on_event,
    )


def test_a_corpus_is_learned_in_stages_and_a_break_changes_nothing(corpus: Corpus, tmp_path: Path) -> None:
    """Context 64 to 256 and theta 10,000 to 160,000 for global layers; both stages are broken off in a later epoch."""

    def break_off(event: Event) -> None:
        if isinstance(event, Step) and event.step == 13:
            raise KeyboardInterrupt

    for run, listeners in (("whole", [print]), ("broken", [break_off, print])):
        for listen in listeners:
            with contextlib.suppress(KeyboardInterrupt):
                pretrain(corpus, tmp_path / run / "short", on_event=listen)
        origin = next_stage(tmp_path / run / "short")
        for listen in listeners:
            with contextlib.suppress(KeyboardInterrupt):
                pretrain(corpus, tmp_path / run / "long", context=256, origin=origin, on_event=listen)
    for stage in ("short", "long"):
        ours, theirs = (weights(tmp_path / run / stage) for run in ("broken", "whole"))
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    lines = [json.loads(line) for line in (tmp_path / "whole" / "long" / "metrics.jsonl").read_text().splitlines()]
    validations = [line for line in lines if line["kind"] == "validation"]
    assert len({line["cells"] for line in validations}) == 1


def test_fewer_cells_are_hidden_once_the_learning_rate_falls(corpus: Corpus, tmp_path: Path) -> None:
    steps: list[Step] = []
    pretrain(corpus, tmp_path, on_event=lambda e: steps.append(e) if isinstance(e, Step) else None)
    full = [step for step in steps if step.lr == 1e-2]
    shares = [
        sum(step.scores.all.cells for step in part) / (2 * ROW * len(part)) for part in (full, steps[len(full) :])
    ]
    assert 8 <= len(full) <= 12
    assert shares[1] / shares[0] == pytest.approx(0.5, rel=0.12)
