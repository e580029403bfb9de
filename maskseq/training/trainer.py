"""The training loop: rows in, optimizer steps out, and on disk everything needed to go on after a kill."""

import dataclasses
import time
from collections.abc import Generator, Iterator
from contextlib import closing
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maskseq.data.batches import Row, Rows, concatenate
from maskseq.errors import MaskseqError
from maskseq.model import checkpoint
from maskseq.model.encoder import Encoder
from maskseq.tokenizer import Tokenizer
from maskseq.training import parallel, state
from maskseq.training.config import TrainingConfig as TrainingConfig
from maskseq.training.device import choose_precision, peak_memory
from maskseq.training.events import CheckpointSaved, Finished, Listener, Scores, Started, Step, Validation, Warned
from maskseq.training.loss import Batch, MaskedLoss, no_tallies, scores
from maskseq.training.optimizer import OptimizerConfig, make_optimizer
from maskseq.training.run import Metrics, claim
from maskseq.training.schedule import ScheduleConfig, lr_at, n_rows
from maskseq.training.state import Position, Saved
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
    on_event: Listener = lambda event: None,
) -> TrainingResult:
    """Train `model` into the run folder `run`, or go on with the run of the same `identity` that is there.

    `identity` is what makes two runs the same: the resolved recipe and the corpus fingerprint. `seed` keys dropout.
    Raises `Interrupted` after SIGINT or SIGTERM, with a checkpoint written; `UsageError` when the folder holds another
    run or the ranks cannot share a step's rows; `DivergenceError` when the loss is no longer finite.
    """
    ranks = parallel.join(config.device)
    with StopSignals() as signals:
        parallel.check_shares(config.sizes, ranks.world)
        lr_at(0, config.tokens, schedule)  # a schedule that does not fit fails now
        if ranks.first:
            claim(run, identity)
        ranks.wait()
        trainer = Trainer(
            model,
            config=config,
            optimizer=optimizer,
            schedule=schedule,
            run=run,
            tokenizer=tokenizer,
            seed=seed,
            ranks=ranks,
            on_event=on_event if ranks.first else lambda event: None,
        )
        return trainer.fit(train_rows, validation_rows, signals)


class Trainer:
    """What changes during a run: weights, their average, the optimizer's moments, and where it stands."""

    def __init__(
        self,
        model: Encoder,
        *,
        config: TrainingConfig,
        optimizer: OptimizerConfig,
        schedule: ScheduleConfig,
        run: Path,
        tokenizer: Tokenizer[Any],
        seed: int,
        ranks: parallel.Ranks,
        on_event: Listener,
    ) -> None:
        self.config, self.optimizer, self.schedule = config, optimizer, schedule
        self.run, self.tokenizer, self.seed, self.ranks, self.on_event = run, tokenizer, seed, ranks, on_event
        self.field_names = model.config.vocabulary.names

        self.resumed_from = self._newest()
        self.position, computed_in = Position(), ""
        if self.resumed_from is not None:
            saved = state.read_saved(self.resumed_from)
            self.position, computed_in = saved.position, saved.precision
            weights = self.resumed_from / checkpoint.MODEL
            checkpoint.fill(model, checkpoint.read_tensors(weights), weights)
        self.precision = computed_in or choose_precision(config.precision, ranks.device)

        self.encoder = model.to(ranks.device)
        self.average = deepcopy(self.encoder) if config.ema else None
        loss = MaskedLoss(self.encoder, z_loss=config.z_loss, smoothing=config.smoothing)
        self.loss = parallel.distribute(loss, self.encoder.layers, ranks, config.strategy)
        self.weights = dict(self.encoder.named_parameters())  # once: FSDP shows others while it computes
        self.optimizers = make_optimizer(self.encoder, optimizer)
        if self.resumed_from is not None:
            self._load(state.read_tensors(self.resumed_from, self._own_part))

    def fit(self, train_rows: Rows, validation_rows: Rows | None, signals: StopSignals) -> TrainingResult:
        """Steps until the configured tokens are seen, with validations and checkpoints between them."""
        config, began = self.config, time.monotonic()
        self.on_event(self._started())
        validation = None
        with (
            closing(Metrics(self.run, step=self.position.step, write=self.ranks.first)) as metrics,
            closing(numbered(train_rows, self.position.row, self.ranks)) as stream,
        ):
            while self.position.tokens < config.tokens:
                before = self.position.tokens
                step, stop = self.step(stream, signals.caught)
                metrics.write("step", step)
                self.on_event(step)
                after = self.position.tokens
                ends = after >= config.tokens
                if validation_rows is not None and (ends or config.crosses(config.validate_every, before, after)):
                    result = self.validate(validation_rows)
                    validation = result.scores
                    metrics.write("validation", result)
                    self.on_event(result)
                if ends or stop or config.crosses(config.checkpoint_every, before, after):
                    metrics.sync()
                    self.save(keep=config.crosses(config.keep_every, before, after))
                if stop and not ends:
                    raise Interrupted(
                        f"stopped after step {self.position.step}, {after:,} of {config.tokens:,} tokens; the same "
                        f"command goes on from here",
                        stop,
                    )
        self.on_event(Finished(step=self.position.step, tokens=self.position.tokens, seconds=time.monotonic() - began))
        return TrainingResult(run=self.run, position=self.position, validation=validation)

    def step(self, stream: Iterator[tuple[int, Row]], signal_caught: int) -> tuple[Step, int]:
        """One optimizer step on the next rows; also the signal that any rank has caught, or 0."""
        config, ranks, began = self.config, self.ranks, time.monotonic()
        n = n_rows(self.position.tokens, config.sizes, config.length(config.rows_warmup))
        rows = [next(stream) for _ in range(n // ranks.world)]
        waited = time.monotonic() - began

        here = [sum(float(row.weights.sum()) for _, row in rows), sum(row.n_tokens for _, row in rows), signal_caught]
        weight, tokens, stop = ranks.sum(torch.tensor(here, dtype=torch.float64)).tolist()
        tallies = ranks.sum(self._backward(rows, weight))
        grad_norm = self._clip()
        result = scores(tallies, self.field_names)
        if not np.isfinite([result.all.loss, grad_norm]).all():
            raise self._diverged(n, result.all.loss, grad_norm)
        factor = lr_at(self.position.tokens, config.tokens, self.schedule)
        self.optimizers.step(factor)
        self._update_average()

        position = self.position
        self.position = dataclasses.replace(
            position, step=position.step + 1, row=position.row + n, tokens=position.tokens + int(tokens)
        )
        seconds = time.monotonic() - began
        step = Step(
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
            peak_memory=peak_memory(ranks.device),
        )
        return step, int(stop)

    @torch.no_grad()
    def validate(self, rows: Rows) -> Validation:
        """Score the first validation rows; their masks are the same every time, whatever the ranks."""
        began, ranks = time.monotonic(), self.ranks
        loss = self.loss if self.average is None else MaskedLoss(self.average)
        n = min(self.config.validation_rows, rows.n_rows(0))
        tallies = no_tallies(len(self.field_names), ranks.device)
        for first in range(0, n, ranks.world):  # every rank makes as many calls, as sharded weights demand
            number = first + ranks.rank
            _, counted = loss(Batch.of(rows.row(min(number, n - 1)), ranks.device), 1.0, dtype=self._dtype)
            if number < n:
                tallies += counted
        result = scores(ranks.sum(tallies), self.field_names)
        position = self.position
        return Validation(step=position.step, tokens=position.tokens, scores=result, seconds=time.monotonic() - began)

    def save(self, *, keep: bool) -> None:
        """Write a checkpoint of this moment."""
        began = time.monotonic()
        tensors = self.optimizers.state()
        if self.average is not None:  # which is then what `model.safetensors` holds
            tensors |= {f"weights/{name}": p for name, p in self.weights.items()}
        saved = Saved(position=self.position, precision=self.precision, keep=keep)
        path = state.write_checkpoint(
            self.run, self._whole_model(), self.tokenizer, tensors, saved, self.ranks, self.config.keep_last
        )
        self.on_event(CheckpointSaved(step=self.position.step, path=path, seconds=time.monotonic() - began))

    def _backward(self, rows: list[tuple[int, Row]], weight: float) -> Tensor:
        """Gradients of the step's loss, micro-batch by micro-batch; the sums for its metrics."""
        tallies = no_tallies(len(self.field_names), self.ranks.device)
        size = self.config.micro_rows
        for first in range(0, len(rows), size):
            numbers, group = zip(*rows[first : first + size], strict=True)
            batch = Batch.of(concatenate(group), self.ranks.device)
            with parallel.accumulating(self.loss, last=first + size >= len(rows)):
                # Ranks average their gradients; dividing by the mean weight of a rank makes that the step's sum.
                mean_weight = max(weight, 1e-9) / self.ranks.world
                loss, counted = self.loss(
                    batch, mean_weight, dropout_key=self._dropout_key(numbers[0]), dtype=self._dtype
                )
                loss.backward()
            tallies += counted
        return tallies

    def _clip(self) -> float:
        """The norm of the gradient before it is clipped, if it is clipped at all."""
        gradients = [p.grad for p in self.weights.values() if p.grad is not None]
        norm = parallel.full(torch.nn.utils.get_total_norm(gradients))
        if self.optimizer.max_norm < float("inf"):
            torch.nn.utils.clip_grads_with_norm_(self.weights.values(), self.optimizer.max_norm, norm)
        return norm.item()

    @torch.no_grad()
    def _update_average(self) -> None:
        if self.average is not None:
            for mean, parameter in zip(self.average.parameters(), self.weights.values(), strict=True):
                mean.lerp_(parameter, 1 - self.config.ema)

    @property
    def _dtype(self) -> torch.dtype | None:
        return torch.bfloat16 if self.precision == "bf16" else None

    def _dropout_key(self, row: int) -> int:
        key = np.random.SeedSequence((self.seed, self.position.stage, row)).generate_state(1, np.uint64)
        return int(key[0] >> np.uint64(1))  # torch takes 63 bits

    def _whole_model(self) -> Encoder:
        """The model as it is used: averaged if it is averaged, and not sharded."""
        if self.average is not None or self.config.strategy != "fsdp" or self.ranks.world == 1:
            return self.average or self.encoder
        weights = {name: parallel.full(p).cpu() for name, p in self.weights.items()}
        whole = Encoder(self.encoder.config, seed=None)
        whole.load_state_dict(weights)
        return whole

    def _newest(self) -> Path | None:
        """The checkpoint to go on from, if there is one."""
        written = [p for p in (self.run / "checkpoints").glob("step_*") if p.suffix != ".tmp"]
        return checkpoint.newest_checkpoint(self.run, self._warn) if written else None

    def _own_part(self, path: str, tensor: Tensor) -> Tensor:
        """What this rank holds of a state tensor `KEY/PARAMETER`."""
        return parallel.sharded_like(tensor, self.weights[path.partition("/")[2]])

    def _load(self, tensors: dict[str, Tensor]) -> None:
        self.optimizers.load(tensors)
        with torch.no_grad():
            for name, parameter in self.weights.items():
                if f"weights/{name}" in tensors:
                    parameter.copy_(tensors[f"weights/{name}"])

    def _warn(self, text: str) -> None:
        self.on_event(Warned(text=text))

    def _started(self) -> Started:
        return Started(
            step=self.position.step,
            tokens=self.position.tokens,
            total_tokens=self.config.tokens,
            n_parameters=self.encoder.n_parameters,
            device=str(self.ranks.device),
            precision=self.precision,
            world=self.ranks.world,
            resumed_from=self.resumed_from,
        )

    def _diverged(self, n: int, loss: float, grad_norm: float) -> DivergenceError:
        first, last = self.position.row, self.position.row + n - 1
        return DivergenceError(
            f"step {self.position.step + 1} is not finite: loss {loss}, gradient norm {grad_norm}; it was made of rows "
            f"{first} to {last} of stage {self.position.stage}\n\nhint: the checkpoints in {self.run} are from before; "
            f"lower optimizer.lr or set optimizer.clip = 1"
        )


def numbered(rows: Rows, first: int, ranks: parallel.Ranks) -> Generator[tuple[int, Row]]:
    """The rank's rows from `first` on, with their numbers: those congruent to the rank modulo the world."""
    own = first + (ranks.rank - first) % ranks.world
    with closing(rows.prefetch(own, step=ranks.world)) as ahead:
        for index, row in enumerate(ahead):
            yield own + index * ranks.world, row
