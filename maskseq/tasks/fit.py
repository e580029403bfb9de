"""Fine-tuning: steps over shuffled examples, a selection loss after each epoch, and the weights of the best one.

Everything random is a function of the seed, the epoch and the step, so that a fit which was interrupted goes on to the
bits of an undisturbed one.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from maskseq.errors import DataError
from maskseq.model.encoder import Encoder
from maskseq.tasks.config import TaskConfig
from maskseq.tasks.examples import TaskExample
from maskseq.tasks.network import (
    TaskBatch,
    TaskNetwork,
    choose_what_learns,
    merge_changes,
    parameter_groups,
    task_network,
)
from maskseq.tasks.state import FitState, read_state, write_state
from maskseq.tasks.targets import TargetSpace, fit_temperature
from maskseq.tokenizer import Symmetry
from maskseq.training.device import choose_device, choose_precision
from maskseq.training.stop_signals import Interrupted, StopSignals

PREDICTED_AT_ONCE = 16_384
"""Tokens of a forward pass without gradients."""


@dataclass(frozen=True)
class FitProgress:
    """What is reported after an epoch."""

    epoch: int
    epochs: int
    step: int
    train_loss: float
    selection_loss: float
    best: bool


@dataclass(frozen=True, kw_only=True)
class FitData:
    """Examples and their targets, of the two parts that a fit sees."""

    train: Sequence[TaskExample]
    train_targets: Float[np.ndarray, "answers columns"]
    selection: Sequence[TaskExample]
    selection_targets: Float[np.ndarray, "selected columns"]


@dataclass
class TaskFit:
    """A network in training."""

    config: TaskConfig
    encoder: Encoder
    space: TargetSpace
    data: FitData
    symmetries: Sequence[Symmetry[Any]] = ()
    folder: Path | None = None
    """Where the state is saved, and gone on from; None: nowhere."""
    on_epoch: Callable[[FitProgress], object] = lambda progress: None
    on_step: Callable[[int, int], object] = lambda step, of: None
    history: list[dict[str, float]] = field(default_factory=list)

    def run(self) -> TaskNetwork:
        """Train to the end; the network with the best weights, low-rank changes merged.

        `Interrupted` after a signal, once the state is saved.
        """
        fit = self.config.training
        self.device = choose_device(fit.device)
        self.dtype = torch.bfloat16 if choose_precision(fit.precision, self.device) == "bf16" else torch.float32
        self.network = task_network(self.config, self.encoder, self.space.n_outputs).to(self.device)
        choose_what_learns(self.network, fit, seed=2 * self.config.seed + 2)
        groups = parameter_groups(self.network, fit)
        self.rates = [group["lr"] for group in groups]
        self.optimizer = torch.optim.AdamW(groups, foreach=False)
        weights = self.space.class_weights(self.data.train_targets) if fit.class_weights == "balanced" else None
        self.class_weights = None if weights is None else torch.from_numpy(weights).float().to(self.device)
        self.first_answer = np.cumsum([0, *(each.n_answers for each in self.data.train)])
        self.per_epoch = math.ceil(len(self.data.train) / fit.batch)
        self.n_steps = self.per_epoch * fit.epochs
        state = FitState(best={name: p.detach().clone() for name, p in self.network.learning().items()})
        if self.folder is not None and (saved := read_state(self.folder, self.network, self.optimizer)) is not None:
            state = saved
        with StopSignals() as signals:
            self._train(state, signals)
        with torch.no_grad():
            for name, parameter in self.network.learning().items():
                parameter.copy_(state.best[name])
        merge_changes(self.network.encoder)
        self.history = state.history
        return self.network

    def _train(self, state: FitState, signals: StopSignals) -> None:
        fit = self.config.training
        while state.step < self.n_steps and state.waited < fit.patience:
            epoch, first = divmod(state.step, self.per_epoch)
            for members in itertools.islice(self._batches(epoch), first, None):
                state.loss_sum += self._step(state.step, epoch, members)
                state.step += 1
                self.on_step(state.step, self.n_steps)
                if signals.caught or (state.step % fit.save_every == 0 and state.step % self.per_epoch):
                    self._save(state)
                if signals.caught:
                    raise Interrupted("stopped; the same command goes on from here", signals.caught)
            self._end_epoch(state, epoch)
            self._save(state)

    def _step(self, step: int, epoch: int, members: Sequence[int]) -> float:
        """One update; the mean loss of its answers."""
        examples = [self.data.train[i] for i in members]
        rows = np.concatenate([np.arange(*self.first_answer[i : i + 2]) for i in members])
        targets = torch.from_numpy(self.data.train_targets[rows]).float().to(self.device)
        batch = batch_of(self.network.encoder, examples, self.device, self._view(step))
        key = np.random.SeedSequence((self.config.seed, 3, step)).generate_state(1, np.uint32)
        outputs = self.network(batch, dropout_keys=torch.from_numpy(key.astype(np.int64)), dtype=self.dtype)
        losses = self.space.losses(outputs, targets)
        if self.class_weights is not None:
            losses = losses * self.class_weights[targets[:, 0].long()]
        loss = losses.mean()
        if not torch.isfinite(loss):
            raise DataError(f"step {step + 1}", "the loss is not finite\n\nhint: lower training.lr", code="diverged")
        for group, lr in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = lr * self._pace(step)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.learning().values(), 1.0)
        self.optimizer.step()
        return float(loss.detach())

    def _end_epoch(self, state: FitState, epoch: int) -> None:
        outputs = network_outputs(self.network, self.data.selection, self._views, self.device, self.dtype)
        targets = self.data.selection_targets
        temperature = fit_temperature(self.space, outputs, targets)  # how sure it is, is set right in the end
        calibrated = torch.from_numpy(outputs).double() / temperature
        loss = float(self.space.losses(calibrated, torch.from_numpy(targets)).mean())
        best = loss < state.best_loss
        if best:
            state.best_loss, state.waited = loss, 0
            state.best = {name: p.detach().clone() for name, p in self.network.learning().items()}
        else:
            state.waited += 1
        train_loss = state.loss_sum / self.per_epoch
        state.loss_sum = 0.0
        state.history.append({"train loss": train_loss, "selection loss": loss})
        self.on_epoch(FitProgress(epoch + 1, self.config.training.epochs, state.step, train_loss, loss, best))

    def _save(self, state: FitState) -> None:
        if self.folder is not None:
            write_state(self.folder, state, self.network, self.optimizer)

    def _batches(self, epoch: int) -> Iterator[list[int]]:
        order = np.random.default_rng((self.config.seed, 1, epoch)).permutation(len(self.data.train)).tolist()
        size = self.config.training.batch
        return (order[start : start + size] for start in range(0, len(order), size))

    @property
    def _views(self) -> tuple[Symmetry[Any], ...]:
        return tuple(self.symmetries) if self.config.training.symmetries else ()

    def _view(self, step: int) -> Symmetry[Any] | None:
        """The symmetry that this step's examples are seen through."""
        views = (None, *self._views)
        return views[int(np.random.default_rng((self.config.seed, 2, step)).integers(len(views)))]

    def _pace(self, step: int) -> float:
        """Share of the full rate: a linear rise, then a linear fall to 0."""
        warmup = max(round(self.config.training.warmup * self.n_steps), 1)
        return min((step + 1) / warmup, (self.n_steps - step) / max(self.n_steps - warmup, 1), 1.0)


def batch_of(
    encoder: Encoder, examples: Sequence[TaskExample], device: torch.device, view: Symmetry[Any] | None = None
) -> TaskBatch:
    config = encoder.config
    return TaskBatch.of(examples, config.max_positions, config.vocabulary.mask_ids, device, view)


def network_outputs(
    network: TaskNetwork,
    examples: Sequence[TaskExample],
    views: Sequence[Symmetry[Any]],
    device: torch.device,
    dtype: torch.dtype,
) -> Float[np.ndarray, "answers outputs"]:
    """Outputs of all labels, averaged over the views; each record's are those that it has alone, but for rounding."""
    found: list[Float[np.ndarray, "_ outputs"] | None] = [None] * len(examples)
    order = sorted(range(len(examples)), key=lambda i: -len(examples[i].ids))
    with torch.inference_mode():
        while order:
            size = max(1, PREDICTED_AT_ONCE // max(len(examples[order[0]].ids), 1))  # padded to the longest
            members, order = order[:size], order[size:]
            chosen = [examples[i] for i in members]
            total: Tensor | None = None
            for view in (None, *views):
                outputs = network(batch_of(network.encoder, chosen, device, view), dtype=dtype)
                total = outputs if total is None else total + outputs
            assert total is not None
            ends = np.cumsum([each.n_answers for each in chosen])[:-1]
            parts = np.split((total / (1 + len(views))).cpu().numpy(), ends)
            for i, part in zip(members, parts, strict=True):
                found[i] = part
    return np.concatenate([part for part in found if part is not None])
