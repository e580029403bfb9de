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

import numpy as np
import torch

from maskseq.contract.own import found as own_part
from maskseq.errors import MaskseqError
from maskseq.model import checkpoint
from maskseq.model.cpu import keep_freed_memory
from maskseq.model.encoder import Encoder
from maskseq.model.flops import row_flops
from maskseq.packing.rows import PackedRow, PackedRows
from maskseq.storage.outputs import locked, sweep
from maskseq.storage.run_folder import CheckpointFolder, RunFolder
from maskseq.training import parallel, resume, selection, state
from maskseq.training.checkpoint_writer import CheckpointWriter, name_best
from maskseq.training.claim import claim
from maskseq.training.device import gemm_peak, peak_memory
from maskseq.training.events import (
    Event,
    Finished,
    Listener,
    PlateauEnded,
    Started,
    Step,
    Stopped,
    Tested,
    Validation,
    Warned,
)
from maskseq.training.metrics_writer import MetricsWriter, Recorded
from maskseq.training.schedule import lr_at, n_rows
from maskseq.training.spec import TrainingResult, TrainingSpec, Validator
from maskseq.training.state import Saved
from maskseq.training.step import TrainStep
from maskseq.training.stop_signals import Interrupted, StopSignals


class DivergenceError(MaskseqError):
    """A loss or a gradient was not finite; the last checkpoint is from before."""

    code = "diverged"


def train(
    model: Encoder,
    rows: PackedRows,
    spec: TrainingSpec,
    *,
    run: Path,
    validate: Validator | None = None,
    test: Validator | None = None,
    begin_only: bool = False,
    on_event: Listener = lambda event: None,
) -> TrainingResult:
    """Train `model` on `rows` into the run folder `run`, or go on with the run of the same identity that is there.

    `validate` is called at the beginning, every `validate_every` and at the end; what it finds best becomes a
    checkpoint, which `best` names. `test` is called once, at the end, about that one. `begin_only` makes no step: it
    writes the checkpoint that a new run begins with, from which it can go on. Raises `Interrupted` after SIGINT,
    SIGTERM or SIGHUP, with a checkpoint written; `UsageError` when the folder holds another run or the ranks cannot
    share a step's rows; `DivergenceError` when the loss is no longer finite.
    """
    ranks = parallel.join(spec.config.device)
    parallel.check_shares(spec.config.sizes, ranks.world)
    if ranks.device.type == "cpu":
        keep_freed_memory()
    folder = RunFolder(run)
    run.mkdir(parents=True, exist_ok=True)
    with locked(run, f"{run}: another process is training into this folder") if ranks.first else nullcontext():
        if ranks.first:
            claim(folder, spec.full_identity, spec.canonical)
            for each in (run, folder.checkpoints):
                sweep(each)
        ranks.wait()
        trainer = Trainer(
            model=model,
            spec=spec,
            run=folder,
            ranks=ranks,
            validator=validate,
            tester=test,
            on_event=on_event if ranks.first else lambda event: None,
        )
        with StopSignals() as signals:
            return trainer.begin() if begin_only else trainer.fit(rows, signals)


@dataclass(kw_only=True)
class Trainer:
    """A run in progress: where it stands, what it has learned, and its folder."""

    model: InitVar[Encoder]
    spec: TrainingSpec
    run: RunFolder
    ranks: parallel.RankGroup
    validator: Validator | None
    tester: Validator | None
    on_event: Listener

    def __post_init__(self, model: Encoder) -> None:
        spec = self.spec
        self.config = spec.config
        self.callbacks = {name: own_part("callback", name) for name in spec.config.callbacks}
        self.stops = ""
        """Why a callback wants the run to end; it does with the next step."""
        start = resume.resume(model, spec, self.run, self.ranks.device, warn=self._warn)
        self.new, self.resumed_from = not start.own, start.checkpoint
        self.position, self.precision, self.kernels = start.position, start.precision, start.kernels
        self.learner = TrainStep(
            model,
            spec.config,
            spec.optimizer,
            self.ranks,
            precision=self.precision,
            dropout_key=(spec.seed, self.position.stage),
        )
        self.gemm_peak = gemm_peak(self.ranks.device, self.precision)
        if self.resumed_from:
            self.learner.load(functools.partial(state.read_tensors, self.resumed_from), moments=start.moments)
        # None: a run of an older version, which goes on as it began and chooses nothing.
        self.judged = selection.judged_until(self.run.metrics, self.position.step) if start.own else []
        if self.ranks.first:  # a kill may have come between a checkpoint and its name
            name_best(self.run, self.best)

    @property
    def best(self) -> int | None:
        """The step of the best checkpoint so far."""
        return selection.best(self.judged or [])

    @property
    def end(self) -> int:
        """The tokens with which the run ends: those of the recipe, or fewer where it was ended early."""
        if self.position.ended:
            return self.position.tokens
        if self.position.decay_from is None:
            return self.config.tokens
        return math.ceil(self.position.decay_from + self.spec.schedule.lengths(self.config.tokens)[1])

    def fit(self, rows: PackedRows, signals: StopSignals) -> TrainingResult:
        """Steps until all tokens are seen, with validations and checkpoints between them, and a test at the end."""
        config, began, validation = self.config, time.monotonic(), None
        if self.position.tokens >= self.end:
            self.on_event(self._started())
            return TrainingResult(run=self.run.path, position=self.position, validation=None, best=self.best)
        first = self.position.step - self.new  # a new run has written nothing of its first step yet
        with (
            closing(MetricsWriter(self.run, step=first, write=self.ranks.first)) as self.metrics,
            CheckpointWriter(self.run, self.spec.tokenizer, self.ranks, config.keep_last) as self.writer,
            closing(numbered(rows, self.position.row, self.ranks)) as stream,
        ):
            self._record(self._started())
            if self.validator is not None and not (self.position.step or self.judged):  # `begin` judges nothing
                first_result = self.judge(self.validator)
                self._record(first_result)
                self.save(averaged=first_result.averaged)
            while self.position.tokens < self.end:
                before = self.position.tokens
                self._record(self.step(stream))
                after = self.position.tokens
                ends, better, averaged = after >= self.end or self.ended_by_callback(), False, True
                if self.validator is not None and (ends or config.crosses(config.validate_every, before, after)):
                    result = self.judge(self.validator)
                    validation, averaged = result.scores, result.averaged
                    self._record(result)
                    better = self.best == self.position.step
                    if self.ends_plateau:
                        self.begin_decay()
                        ends, averaged = after >= self.end, True
                    ends = ends or self.ended_by_callback()
                if self.tester is not None and ends:
                    self._record(self.test(self.tester, averaged=averaged))
                self._record(*self.writer.poll())
                stop = self.ranks.any(signals.caught > 0)
                keep = config.crosses(config.keep_every, before, after)
                if ends or better or stop or keep or config.crosses(config.checkpoint_every, before, after):
                    self.save(keep=keep, averaged=averaged)
                if stop and not ends:
                    self._record(*self.writer.finish())
                    text = f"stopped after step {self.position.step}, {after:,} of {self.end:,} tokens"
                    self._record(Stopped(step=self.position.step, tokens=after, reason="asked to stop"))
                    raise Interrupted(f"{text}; the same command goes on from here", signals.caught or signal.SIGTERM)
            self._record(*self.writer.finish())
            seconds = time.monotonic() - began
            self._record(
                Finished(step=self.position.step, tokens=self.position.tokens, seconds=seconds, best=self.best)
            )
        return TrainingResult(run=self.run.path, position=self.position, validation=validation, best=self.best)

    def begin(self) -> TrainingResult:
        """Write where a new run stands before its first step; nothing where it has a checkpoint."""
        self.on_event(self._started())
        if resume.newest(self.run, self._warn) is None:
            with (
                closing(MetricsWriter(self.run, step=self.position.step, write=self.ranks.first)) as self.metrics,
                CheckpointWriter(self.run, self.spec.tokenizer, self.ranks, self.config.keep_last) as self.writer,
            ):
                self.save(averaged=True)
                self._record(*self.writer.finish())
        return TrainingResult(run=self.run.path, position=self.position, validation=None, best=self.best)

    def step(self, stream: Iterator[tuple[int, PackedRow]]) -> Step:
        """One optimizer step on the next rows."""
        config, position, began = self.config, self.position, time.monotonic()
        n = n_rows(position.tokens, config.sizes, config.length(config.rows_warmup))
        rows = [next(stream) for _ in range(n // self.ranks.world)]
        waited = time.monotonic() - began

        encoder = self.learner.encoder.config
        here = np.sum([[row.weights.sum(), row.n_tokens, row_flops(encoder, row)] for _, row in rows], axis=0)
        weight, tokens, flops = self.ranks.sum(torch.tensor(here, dtype=torch.float64)).tolist()
        result, grad_norm = self.learner.backward(rows, weight)
        if not (math.isfinite(result.all.loss) and math.isfinite(grad_norm)):
            self._record(Stopped(step=position.step, tokens=position.tokens, reason="the loss is not finite"))
            raise DivergenceError(
                f"step {position.step + 1} is not finite: loss {result.all.loss}, gradient norm {grad_norm}; it was "
                f"made of rows {position.row} to {position.row + n - 1} of stage {position.stage}\n\nhint: the "
                f"checkpoints in {self.run.path} are from before; lower optimizer.lr, or set optimizer.clip = 1; "
                f"maskseq.apps.rows.rows_of_run({str(self.run.path)!r}).row({position.row}) is such a row"
            )
        factor = lr_at(position.tokens, config.tokens, self.spec.schedule, decay_from=position.decay_from)
        update_ratio = self.learner.update(factor)
        self.position = dataclasses.replace(
            position, step=position.step + 1, row=position.row + n, tokens=position.tokens + int(tokens)
        )
        seconds = time.monotonic() - began
        return Step(
            step=self.position.step,
            tokens=self.position.tokens,
            total_tokens=self.end,
            row=self.position.row,
            scores=result,
            lr=self.spec.optimizer.lr * factor,
            grad_norm=grad_norm,
            update_ratio=update_ratio,
            rows=n,
            tokens_per_s=tokens / seconds,
            wait_share=waited / seconds,
            peak_share=flops / seconds / (self.gemm_peak * self.ranks.world),
            seconds=seconds,
            peak_memory=peak_memory(self.ranks.device),
        )

    def judge(self, validator: Validator) -> Validation:
        """Score the model as it stands: the average of the weights, or the weights behind it where they are better."""
        began, learner = time.monotonic(), self.learner
        averaged = learner.average is not None
        with learner.standing_in(learner.used(averaged=averaged)):
            result = validator(learner)
        if self.judged is not None:
            if averaged and (plain := validator(learner)).merit > result.merit:
                result, averaged = plain, False
            self.judged.append(selection.Judged.of(self.position.step, result.merit))
        return Validation(
            step=self.position.step,
            tokens=self.position.tokens,
            scores=result,
            seconds=time.monotonic() - began,
            averaged=averaged,
        )

    @property
    def ends_plateau(self) -> bool:
        """Whether the plateau, being one still, has lasted as long as the run is patient."""
        config, position = self.config, self.position
        warmup, decay = self.spec.schedule.lengths(config.tokens)
        on_plateau = position.decay_from is None and warmup <= position.tokens < config.tokens - decay
        return on_plateau and selection.out_of_patience(self.judged or [], config.patience)

    def begin_decay(self) -> None:
        """Go back to the weights and moments of the best checkpoint, and let the learning rate fall from here."""
        assert self.best is not None
        self._record(*self.writer.finish())
        chosen = self.run.checkpoint(self.best)
        checkpoint.check(chosen)
        self.learner.begin_from(checkpoint.read_tensors(CheckpointFolder(chosen).model))
        self.learner.load(functools.partial(state.read_tensors, chosen), moments=True)
        self.position = dataclasses.replace(self.position, decay_from=self.position.tokens)
        self._record(
            PlateauEnded(step=self.position.step, tokens=self.position.tokens, best=self.best, total_tokens=self.end)
        )

    def test(self, tester: Validator, *, averaged: bool) -> Tested:
        """Score the best checkpoint, or the model as it stands where that is the best, or none was chosen."""
        began, learner, best = time.monotonic(), self.learner, self.best
        tensors = learner.used(averaged=averaged)
        if best is not None and best != self.position.step:
            self._record(*self.writer.finish())
            tensors = learner.sharded(checkpoint.read_tensors(CheckpointFolder(self.run.checkpoint(best)).model))
        with learner.standing_in(tensors):
            result = tester(learner)
        seconds = time.monotonic() - began
        return Tested(step=self.position.step, tokens=self.position.tokens, scores=result, seconds=seconds, of=best)

    def save(self, *, averaged: bool, keep: bool = False) -> None:
        """Begin to write a checkpoint of this moment, with the average of the weights or without it."""
        saved = Saved(
            position=self.position,
            precision=self.precision,
            kernels=self.kernels,
            optimizer=self.spec.optimizer.name,
            keep=keep,
        )
        averaged = averaged and self.learner.average is not None
        # No checkpoint may claim steps that the metrics have lost, hence their flush before it.
        self._record(
            *self.writer.begin(
                self.learner.model(averaged=averaged),
                self.learner.state(averaged=averaged),
                saved,
                best=self.best,
                before=self.metrics.sync,
            )
        )

    def _record(self, *events: Recorded) -> None:
        for event in events:
            self.metrics.write(event)
            self._hear(event)

    def ended_by_callback(self) -> bool:
        """Whether a callback wants the run to end, which it then does here, however often it is resumed."""
        if not (self.callbacks and self.ranks.any(bool(self.stops))):
            return False
        self.position = dataclasses.replace(self.position, ended=True)
        self._record(Stopped(step=self.position.step, tokens=self.position.tokens, reason=self.stops))
        return True

    def _hear(self, event: Event) -> None:
        """Hand an event to whoever listens, and note which callback wants the run to end."""
        self.on_event(event)
        for name, callback in self.callbacks.items() if self.ranks.first and not self.stops else ():
            if reason := callback(event):
                self.stops = f"{name}: {reason}"

    def _warn(self, text: str) -> None:
        self.on_event(Warned(text=text))

    def _started(self) -> Started:
        return Started(
            step=self.position.step,
            tokens=self.position.tokens,
            total_tokens=self.end,
            stage=self.position.stage,
            n_parameters=self.learner.encoder.n_parameters,
            device=str(self.ranks.device),
            precision=self.precision,
            world=self.ranks.world,
            gemm_peak=self.gemm_peak,
            resumed_from=self.resumed_from,
        )


def numbered(rows: PackedRows, first: int, ranks: parallel.RankGroup) -> Generator[tuple[int, PackedRow]]:
    """The rank's rows from `first` on, with their numbers: those congruent to the rank modulo the world."""
    own = first + (ranks.rank - first) % ranks.world
    with closing(rows.prefetch(own, step=ranks.world)) as ahead:
        for index, row in enumerate(ahead):
            yield own + index * ranks.world, row
