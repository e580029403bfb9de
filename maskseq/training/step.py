"""What learns: weights, their average and the optimizer's moments. It makes steps and knows nothing of runs."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from maskseq.model.encoder import Encoder
from maskseq.packing.rows import PackedRow, PackedRows, concatenate
from maskseq.training import parallel
from maskseq.training.config import OptimizerConfig, TrainingConfig
from maskseq.training.events import Scores
from maskseq.training.loss import Batch, MaskedLoss, no_tallies, scores
from maskseq.training.optimizer import make_optimizer


class TrainStep:
    """A model in training, on one rank or on several."""

    def __init__(
        self,
        model: Encoder,
        config: TrainingConfig,
        optimizer: OptimizerConfig,
        ranks: parallel.RankGroup,
        *,
        precision: str,
        dropout_key: tuple[int, ...],
    ) -> None:
        """`precision` is `bf16` or `fp32`; `dropout_key` says, with the number of a row, what is dropped there."""
        self.config, self.ranks, self.max_norm, self.dropout_key = config, ranks, optimizer.max_norm, dropout_key
        self.dtype = torch.bfloat16 if precision == "bf16" else None
        self.field_names = model.config.vocabulary.names
        self.encoder = model.to(ranks.device)
        loss = MaskedLoss(self.encoder, z_loss=config.z_loss, smoothing=config.smoothing, own=config.loss)
        self.loss = parallel.distribute(loss, self.encoder.layers, ranks, config.strategy)
        self.weights = dict(self.encoder.named_parameters())  # once: FSDP shows others while it computes
        self.average = {name: p.detach().clone() for name, p in self.weights.items()} if config.ema else None
        self.optimizers = make_optimizer(self.encoder, optimizer)

    def backward(self, rows: Sequence[tuple[int, PackedRow]], total_weight: float) -> tuple[Scores, float]:
        """Gradients of this rank's numbered rows, in micro-batches; scores of all ranks' and the gradient's norm.

        `total_weight` is the sum of the cells' weights over the whole step, so that micro-batches and ranks add up.
        Gradients are clipped, the norm is that before.
        """
        tallies = no_tallies(len(self.field_names), self.ranks.device)
        size = self.config.micro_rows
        for first in range(0, len(rows), size):
            numbers, group = zip(*rows[first : first + size], strict=True)
            batch = Batch.of(concatenate(group), self.ranks.device)
            with parallel.accumulating(self.loss, last=first + size >= len(rows)):
                # Ranks average their gradients; dividing by the mean weight of a rank makes that the step's sum.
                mean_weight = max(total_weight, 1e-9) / self.ranks.world
                loss, counted = self.loss(
                    batch, mean_weight, dropout_keys=self._dropout_keys(numbers), dtype=self.dtype
                )
                loss.backward()
            tallies += counted
        gradients = [p.grad for p in self.weights.values() if p.grad is not None]
        norm = parallel.full(torch.nn.utils.get_total_norm(gradients))
        if self.max_norm < float("inf"):
            torch.nn.utils.clip_grads_with_norm_(self.weights.values(), self.max_norm, norm)
        return scores(self.ranks.sum(tallies), self.field_names), norm.item()

    @torch.no_grad()
    def update(self, factor: float) -> float:
        """One optimizer step with the gradients at hand, at `factor` times the full learning rate.

        Returns the norm of the weights' change over the norm of the weights.
        """
        weights = list(self.weights.values())
        changes = [parameter.detach().clone() for parameter in weights]
        self.optimizers.step(factor)
        for change, parameter in zip(changes, weights, strict=True):
            change.sub_(parameter)
        if self.average is not None:
            for name, mean in self.average.items():
                mean.lerp_(self.weights[name], 1 - self.config.ema)
        change, size = (parallel.full(torch.nn.utils.get_total_norm(tensors)) for tensors in (changes, weights))
        return (change / size.clamp(min=1e-12)).item()

    @torch.no_grad()
    def score(self, rows: PackedRows, n: int, *, again: bool = False) -> Scores:
        """Score the first `n` rows, each rank its share of them, by the weights as they stand.

        `again`: those of further epochs as well, where the first has fewer.
        """
        n, world = n if again else min(n, rows.n_rows(0)), self.ranks.world
        tallies = no_tallies(len(self.field_names), self.ranks.device)
        for first in range(0, n, world):  # every rank makes as many calls, as sharded weights demand
            number = first + self.ranks.rank
            batch = Batch.of(rows.row(min(number, n - 1)), self.ranks.device)
            _, counted = self.loss(batch, 1.0, dtype=self.dtype)
            if number < n:
                tallies += counted
        return scores(self.ranks.sum(tallies), self.field_names)

    def used(self, *, averaged: bool) -> Mapping[str, Tensor]:
        """The average of the weights where that is asked for and kept, else the weights."""
        return self.average if averaged and self.average is not None else self.weights

    def state(self, *, averaged: bool) -> dict[str, Tensor]:
        """The tensors that go on with `model`: moments, and of the weights and their average the one it is not."""
        tensors = self.optimizers.state()
        if self.average is not None:
            prefix, others = ("weights", self.weights) if averaged else ("average", self.average)
            tensors |= {f"{prefix}/{name}": tensor for name, tensor in others.items()}
        return tensors

    @torch.no_grad()
    def load(self, read: Callable[[Callable[[str, Tensor], Tensor]], Mapping[str, Tensor]], *, moments: bool) -> None:
        """Take up what `state` gave. `read(adapt)` returns the tensors, each passed through `adapt(name, tensor)`."""
        tensors = dict(read(lambda path, tensor: parallel.sharded_like(tensor, self.weights[path.partition("/")[2]])))
        for name, parameter in self.weights.items():
            weights, average = (tensors.pop(f"{each}/{name}", None) for each in ("weights", "average"))
            if weights is not None:
                parameter.copy_(weights)
            if average is not None and self.average is not None:
                self.average[name].copy_(average)
        if moments:
            self.optimizers.load(tensors)

    @torch.no_grad()
    def begin_from(self, whole: Mapping[str, Tensor]) -> None:
        """Take the weights of a model, whole ones; an average begins with them."""
        self._put(self.sharded(whole))
        for name, mean in (self.average or {}).items():
            mean.copy_(self.weights[name])

    def sharded(self, whole: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors of a model as this rank holds them."""
        return {name: parallel.sharded_like(whole[name], parameter) for name, parameter in self.weights.items()}

    @torch.no_grad()
    def model(self, *, averaged: bool) -> Encoder:
        """A copy in CPU memory of the model with the weights or their average, whole. All ranks call it."""
        copy = Encoder(self.encoder.config, seed=None)
        used = self.used(averaged=averaged)
        copy.load_state_dict({name: parallel.full(tensor).cpu() for name, tensor in used.items()})
        return copy

    @contextmanager
    def standing_in(self, tensors: Mapping[str, Tensor]) -> Iterator[None]:
        """While entered, these stand in the place of the weights."""
        if tensors is self.weights:
            yield
            return
        kept = {name: parameter.detach().clone() for name, parameter in self.weights.items()}
        self._put(tensors)
        try:
            yield
        finally:
            self._put(kept)

    @torch.no_grad()
    def _put(self, tensors: Mapping[str, Tensor]) -> None:
        for name, parameter in self.weights.items():
            parameter.copy_(tensors[name])
        parallel.forget_gathered(self.loss)

    def _dropout_keys(self, numbers: Sequence[int]) -> Int[Tensor, "rows"]:
        sequences = (np.random.SeedSequence((*self.dropout_key, number)) for number in numbers)
        return torch.tensor([int(sequence.generate_state(1)[0]) for sequence in sequences])
