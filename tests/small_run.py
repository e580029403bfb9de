"""A training run that takes a second, for the tests of the trainer and as the child process that they kill.

Run as a script it is the child process that those tests kill, or one of the ranks that torchrun starts.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from untrained import load_model

from maskseq.apps.judging import OnRows
from maskseq.model.encoder import Encoder
from maskseq.model.presets import preset
from maskseq.packing.rows import PackedRow
from maskseq.tokenizer import Tokenizer
from maskseq.training.config import OptimizerConfig, TrainingConfig
from maskseq.training.events import CellScore, Event, Scores
from maskseq.training.schedule import ScheduleConfig
from maskseq.training.spec import TrainingResult, TrainingSpec
from maskseq.training.step import TrainStep
from maskseq.training.stop_signals import Interrupted
from maskseq.training.trainer import train
from maskseq.types import Encoded, Field, ListRecord, Vocabulary

ROW_TOKENS, SEGMENTS = 96, (40, 25, 11, 13)  # and 7 tokens of filler


@dataclass(frozen=True, kw_only=True)
class Letters(Tokenizer[ListRecord]):
    """Two fields, one of them ordinal."""

    fields = (
        Field(name="letter", tokens=tuple("abcdef"), controls=("[OTHER]",)),
        Field(name="size", tokens=tuple("01234"), centres=(0.0, 1.0, 2.0, 3.0, 4.0)),
    )

    def encode(self, record: ListRecord) -> Encoded:
        return Encoded(np.array(record.values, dtype=np.uint8))

    def decode(self, ids: np.ndarray) -> list[Any]:
        return ids.tolist()


class Synthetic:
    """Rows that are a pure function of their number, as `PackedRows` are: a noisy periodic pattern."""

    def __init__(
        self, vocabulary: Vocabulary, *, seed: int = 0, n_rows: int = 10_000, signal_at: int | None = None
    ) -> None:
        """Whoever asks for row `signal_at` gets a SIGTERM."""
        self.vocabulary, self.seed, self._n_rows, self.signal_at = vocabulary, seed, n_rows, signal_at

    def n_rows(self, epoch: int) -> int:
        return self._n_rows

    def row(self, number: int) -> PackedRow:
        if number == self.signal_at:
            os.kill(os.getpid(), signal.SIGTERM)
        rng = np.random.default_rng((self.seed, number))
        positions = np.concatenate([np.arange(n) for n in (*SEGMENTS, ROW_TOKENS - sum(SEGMENTS))])
        segment = np.repeat(np.arange(len(SEGMENTS) + 1), [*SEGMENTS, ROW_TOKENS - sum(SEGMENTS)])
        phase = rng.integers(6, size=len(SEGMENTS) + 1)[segment]
        letter = (positions + phase) % 6
        size = np.where(rng.random(ROW_TOKENS) < 0.8, letter % 5, rng.integers(5, size=ROW_TOKENS))
        targets = np.stack([letter, size], axis=1)
        ratio = rng.random(len(SEGMENTS) + 1).astype(np.float32)
        real = segment < len(SEGMENTS)
        masked = (rng.random((ROW_TOKENS, 2)) < ratio[segment][:, None]) & real[:, None]
        inputs = np.where(masked | ~real[:, None], np.array(self.vocabulary.mask_ids), targets)
        return PackedRow(
            inputs=inputs,
            targets=targets,
            weights=(masked * rng.uniform(0.5, 1.5, masked.shape)).astype(np.float32),
            positions=positions.astype(np.int32),
            cu_seqlens=np.concatenate([[0], np.cumsum(SEGMENTS), [ROW_TOKENS]]).astype(np.int32),
            max_seqlen=max(SEGMENTS),
            objective=rng.integers(3, size=len(SEGMENTS) + 1).astype(np.int8),
            target=positions % 10 < phase,
            ratio=ratio,
            n_tokens=sum(SEGMENTS),
            sequence=np.arange(len(SEGMENTS) + 1, dtype=np.int64),
            start=np.zeros(len(SEGMENTS) + 1, dtype=np.int64),
        )

    def prefetch(self, first: int, *, step: int = 1) -> Iterator[PackedRow]:
        while True:
            yield self.row(first)
            first += step


class Scripted:
    """A validator that says what a test has written down: the merit of the model after each of its steps."""

    def __init__(self, merits: Mapping[str, float]) -> None:
        self.merits = {int(step): merit for step, merit in merits.items()}
        self.step = 0

    def hear(self, event: Event) -> None:
        self.step = getattr(event, "step", self.step)

    def __call__(self, learner: TrainStep) -> Scores:
        message = CellScore(loss=-self.merits[self.step], accuracy=0.0, cells=1)
        return Scores(all=message, by_objective={}, by_ratio={}, by_field={})


STEP = 2 * sum(SEGMENTS)
"""Tokens of a step of two rows."""


def small_encoder(**changes: Any) -> Encoder:
    shape = {"n_layers": 2, "hidden_size": 32, "n_heads": 2, "intermediate_size": 48, "mlp_dropout": 0.1}
    return Encoder(preset("nano", Letters().vocabulary, **(shape | changes)), seed=1)


def small_run(run: Path, *, on_event: Any = lambda event: None, seed: int = 5, **changes: Any) -> TrainingResult:
    """20 steps by default; `optimizer`, `model`, `schedule` and anything of `TrainingConfig` may be changed.

    `merits`, by step, are what validations say in place of a loss; with `judge=False` there are none, and checkpoints
    are written where they are due alone.
    """
    optimizer = OptimizerConfig(**({"lr": 1e-2} | changes.pop("optimizer", {})))
    model = small_encoder(**changes.pop("model", {}))
    train_rows = Synthetic(model.config.vocabulary, signal_at=changes.pop("signal_at", None))
    train_rows = changes.pop("train_rows", train_rows)
    validation = Synthetic(model.config.vocabulary, seed=1, n_rows=5)
    validate: Any = OnRows(validation, changes.get("validation_rows", 16))
    if (merits := changes.pop("merits", None)) is not None:
        validate, listener = Scripted(merits), on_event

        def on_event(event: Event) -> None:
            validate.hear(event)
            listener(event)

    if not changes.pop("judge", True):
        validate = None
    identity = changes.pop("identity", {"recipe": "small"})
    schedule = ScheduleConfig(**changes.pop("schedule", {"warmup": 0.2, "decay": 0.3}))
    origin = changes.pop("origin", None)
    fixed = {"tokens": 20 * STEP, "precision": "fp32", "checkpoint_every": 5 * STEP, "validate_every": 10 * STEP}
    config = TrainingConfig(**(fixed | changes))
    spec = TrainingSpec(
        config=config,
        optimizer=optimizer,
        schedule=schedule,
        tokenizer=Letters(),
        seed=seed,
        identity=identity,
        origin=origin,
    )
    return train(model, train_rows, spec, run=run, validate=validate, on_event=on_event)


def weights(folder: Path) -> dict[str, Tensor]:
    """What a run or a checkpoint has learned."""
    return dict(load_model(folder, trust_code=True)[0].named_parameters())


def report(event: Event) -> None:
    print(type(event).__name__, getattr(event, "step", ""), flush=True)


def die_at(count: int, ending: str, run: Path) -> None:
    """SIGKILL this process before it touches files of the run for the nth time, of those whose names end like this."""
    operations = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree"}
    seen = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if event in operations and str(arguments[0]).startswith(str(run)) and str(arguments[0]).endswith(ending):
            seen += 1
            if seen == count:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def main() -> None:
    """What the child process does: run after run, each given as a folder and options."""
    torch.set_num_threads(1)
    for run, options in json.loads(sys.argv[1]):
        if "die_at" in options:
            die_at(*options.pop("die_at"), Path(run))
        with contextlib.suppress(Interrupted):
            small_run(Path(run), on_event=report, **options)


def child(run: Path, **options: Any) -> subprocess.Popen[str]:
    """Train in another process, which prints each event's class and step."""
    command = [sys.executable, __file__, json.dumps([(str(run), options)])]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def torchrun(runs: dict[Path, dict[str, Any]], *, world: int, dies: bool = False) -> None:
    """Train in `world` processes that talk through gloo, one run after the other: starting them is what takes time."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={world}"]
    command = [*launcher, __file__, json.dumps([(str(run), options) for run, options in runs.items()])]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert (finished.returncode != 0) == dies, finished.stderr


if __name__ == "__main__":
    import small_run  # by its name, which the checkpoints' tokenizer.json repeats

    small_run.main()
