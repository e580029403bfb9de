"""The training loop: rows in, optimizer steps out, and on disk everything needed to go on after a kill."""

import dataclasses
import functools
import math
import signal
import time
from collections.abc import Generator, Iterator
from contextlib import closing, nullcontext
from dataclasses import InitVar, dataclass
from pathlib import Path
from typing import Any

import torch

from maskseq.data.batches import Row, Rows
from maskseq.errors import MaskseqError, UsageError
from maskseq.model import checkpoint
from maskseq.model.cpu import keep_freed_memory
from maskseq.model.encoder import Encoder
from maskseq.tokenizer import Tokenizer
from maskseq.training import parallel, state
from maskseq.training.config import TrainingConfig as TrainingConfig
from maskseq.training.device import choose_precision, peak_memory
from maskseq.training.events import CheckpointSaved, Finished, Listener, Scores, Started, Step, Validation, Warned
from maskseq.training.learner import Learner
from maskseq.training.optimizer import OptimizerConfig
from maskseq.training.run import Metrics, claim, locked
from maskseq.training.schedule import ScheduleConfig, lr_at, n_rows
from maskseq.training.state import Origin, Position, Saved
from maskseq.training.watch import Interrupted, StopSignals


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """What a finished run came to."""

    run: Path
    position: Position
    validation: Scores | None


class DivergenceError(MaskseqError):
    """A loss or a gradient was not finite; the last checkpoint is from before."""


def train(
    model: Encoder,
    train_rows: Rows,
    validation_rows: Rows | None,
    *,
    config: TrainingConfig,
    optimizer: OptimizerConfig,
    schedule: ScheduleConfig,
    run: Path,
    tokenizer: Tokenizer[Any],
    seed: int,
    identity: dict[str, Any],
    origin: Origin | None = None,
    on_event: Listener = lambda event: None,
) -> TrainingResult:
    """Train `model` into the run folder `run`, or go on with the run of the same `identity` that is there.

    `identity` is what makes two runs the same: the resolved recipe and the corpus fingerprint. `seed` keys dropout.
    `origin`, from `state.next_stage` or `state.branch`, is where a new run takes its weights and moments from; rows
    must be of its stage. Raises `Interrupted` after SIGINT or SIGTERM, with a checkpoint written; `UsageError` when
    the folder holds another run or the ranks cannot share a step's rows; `DivergenceError` when the loss is no longer
    finite.
    """
    ranks = parallel.join(config.device)
    parallel.check_shares(config.sizes, ranks.world)
    schedule.lengths(config.tokens)  # one that does not fit fails now
    if ranks.device.type == "cpu":
        keep_freed_memory()
    with locked(run) if ranks.first else nullcontext():
        if ranks.first:
            claim(run, identity | ({"origin": state.identity(origin)} if origin else {}))
            state.sweep(run)
        ranks.wait()
        trainer = Trainer(
            model=model,
            config=config,
            optimizer=optimizer,
            schedule=schedule,
            run=run,
            tokenizer=tokenizer,
            seed=seed,
            origin=origin,
            ranks=ranks,
            on_event=on_event if ranks.first else lambda event: None,
        )
        with StopSignals() as signals:
            return trainer.fit(train_rows, validation_rows, signals)


@dataclass(kw_only=True)
class Trainer:
    """A run in progress: where it stands, what it has learned, and its folder."""

    model: InitVar[Encoder]
    config: TrainingConfig
    optimizer: OptimizerConfig
    schedule: ScheduleConfig
    run: Path
    tokenizer: Tokenizer[Any]
    seed: InitVar[int]
    origin: InitVar[Origin | None]
    ranks: parallel.Ranks
    on_event: Listener

    def __post_init__(self, model: Encoder, seed: int, origin: Origin | None) -> None:
        self.position, self.precision = Position(), choose_precision(self.config.precision, self.ranks.device)
        own = self._newest()
        self.resumed_from = own or (origin.checkpoint if origin else None)
        moments = False
        if self.resumed_from:
            saved = state.read_saved(self.resumed_from)
            moments = saved.optimizer == self.optimizer.name
            if own:
                self.position, self.precision = saved.position, saved.precision
            elif origin:
                self.position = self._begin(origin, saved)
            weights = self.resumed_from / checkpoint.MODEL
            checkpoint.fill(model, checkpoint.read_tensors(weights), weights)
        self.learner = Learner(
            model,
            self.config,
            self.optimizer,
            self.ranks,
            precision=self.precision,
            dropout_key=(seed, self.position.stage),
        )
        if self.resumed_from:
            self.learner.load(functools.partial(state.read_tensors, self.resumed_from), moments=moments)

    def fit(self, train_rows: Rows, validation_rows: Rows | None, signals: StopSignals) -> TrainingResult:
        """Steps until the configured tokens are seen, with validations and checkpoints between them."""
        config, began, validation = self.config, time.monotonic(), None
        self.on_event(self._started())
        with (
            closing(Metrics(self.run, step=self.position.step, write=self.ranks.first)) as metrics,
            closing(numbered(train_rows, self.position.row, self.ranks)) as stream,
        ):
            while self.position.tokens < config.tokens:
                before = self.position.tokens
                step = self.step(stream)
                metrics.write("step", step)
                self.on_event(step)
                after = self.position.tokens
                ends = after >= config.tokens
                if validation_rows is not None and (ends or config.crosses(config.validate_every, before, after)):
                    result = self.validate(validation_rows)
                    validation = result.scores
                    metrics.write("validation", result)
                    self.on_event(result)
                stop = self.ranks.any(signals.caught > 0)
                keep = config.crosses(config.keep_every, before, after)
                if ends or stop or keep or config.crosses(config.checkpoint_every, before, after):
                    metrics.sync()
                    self.save(keep=keep)
                if stop and not ends:
                    raise Interrupted(
                        f"stopped after step {self.position.step}, {after:,} of {config.tokens:,} tokens; the same "
                        f"command goes on from here",
                        signals.caught or signal.SIGTERM,
                    )
        seconds = time.monotonic() - began
        self.on_event(Finished(step=self.position.step, tokens=self.position.tokens, seconds=seconds))
        return TrainingResult(run=self.run, position=self.position, validation=validation)

    def step(self, stream: Iterator[tuple[int, Row]]) -> Step:
        """One optimizer step on the next rows."""
        config, position, began = self.config, self.position, time.monotonic()
        n = n_rows(position.tokens, config.sizes, config.length(config.rows_warmup))
        rows = [next(stream) for _ in range(n // self.ranks.world)]
        waited = time.monotonic() - began

        here = [sum(float(row.weights.sum()) for _, row in rows), sum(row.n_tokens for _, row in rows)]
        weight, tokens = self.ranks.sum(torch.tensor(here, dtype=torch.float64)).tolist()
        result, grad_norm = self.learner.backward(rows, weight)
        if not (math.isfinite(result.all.loss) and math.isfinite(grad_norm)):
            raise DivergenceError(
                f"step {position.step + 1} is not finite: loss {result.all.loss}, gradient norm {grad_norm}; it was "
                f"made of rows {position.row} to {position.row + n - 1} of stage {position.stage}\n\nhint: the "
                f"checkpoints in {self.run} are from before; lower optimizer.lr, or set optimizer.clip = 1"
            )
        factor = lr_at(position.tokens, config.tokens, self.schedule)
        self.learner.update(factor)
        self.position = dataclasses.replace(
            position, step=position.step + 1, row=position.row + n, tokens=position.tokens + int(tokens)
        )
        seconds = time.monotonic() - began
        return Step(
            step=self.position.step,
            tokens=self.position.tokens,
            total_tokens=config.tokens,
            row=self.position.row,
            scores=result,
            lr=self.optimizer.lr * factor,
            grad_norm=grad_norm,
            rows=n,
            tokens_per_s=tokens / seconds,
            wait_share=waited / seconds,
            seconds=seconds,
            peak_memory=peak_memory(self.ranks.device),
        )

    def validate(self, rows: Rows) -> Validation:
        """Score the validation rows; their masks are the same every time, whatever the ranks."""
        began = time.monotonic()
        result = self.learner.validate(rows)
        seconds = time.monotonic() - began
        return Validation(step=self.position.step, tokens=self.position.tokens, scores=result, seconds=seconds)

    def save(self, *, keep: bool) -> None:
        """Write a checkpoint of this moment."""
        began = time.monotonic()
        saved = Saved(position=self.position, precision=self.precision, optimizer=self.optimizer.name, keep=keep)
        model, tensors = self.learner.model(), self.learner.state()
        path = state.write_checkpoint(
            self.run, model, self.tokenizer, tensors, saved, self.ranks, keep_last=self.config.keep_last
        )
        self.on_event(CheckpointSaved(step=self.position.step, path=path, seconds=time.monotonic() - began))

    def _begin(self, origin: Origin, saved: Saved) -> Position:
        """Where a run begins that begins from another; said are the moments that it cannot take up."""
        if origin.position.tokens >= self.config.tokens:
            raise UsageError(
                f"training: the branch begins after {origin.position.tokens:,} tokens, so that training.tokens must be "
                f"more, not {self.config.tokens:,}"
            )
        if saved.optimizer != self.optimizer.name:
            self._warn(f"{self.optimizer.name} begins with new moments: {origin.checkpoint} holds {saved.optimizer}'s")
        return origin.position

    def _newest(self) -> Path | None:
        """The checkpoint of this run to go on from, if there is one."""
        written = [p for p in (self.run / "checkpoints").glob("step_*") if p.suffix != ".tmp"]
        return checkpoint.newest_checkpoint(self.run, self._warn) if written else None

    def _warn(self, text: str) -> None:
        self.on_event(Warned(text=text))

    def _started(self) -> Started:
        return Started(
            step=self.position.step,
            tokens=self.position.tokens,
            total_tokens=self.config.tokens,
            stage=self.position.stage,
            n_parameters=self.learner.encoder.n_parameters,
            device=str(self.ranks.device),
            precision=self.precision,
            world=self.ranks.world,
            resumed_from=self.resumed_from,
        )


def numbered(rows: Rows, first: int, ranks: parallel.Ranks) -> Generator[tuple[int, Row]]:
    """The rank's rows from `first` on, with their numbers: those congruent to the rank modulo the world."""
    own = first + (ranks.rank - first) % ranks.world
    with closing(rows.prefetch(own, step=ranks.world)) as ahead:
        for index, row in enumerate(ahead):
            yield own + index * ranks.world, row
