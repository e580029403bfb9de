"""What a run takes, by arithmetic: memory of a rank, bytes of a checkpoint. `docs/scaling.md` is made of it."""

from dataclasses import dataclass

from torch import nn

from maskseq.model.config import EncoderConfig
from maskseq.training.config import OptimizerConfig, TrainingConfig
from maskseq.training.optimizer import parameter_groups

FLOAT = 4
"""Bytes of a weight, a gradient and a moment: float32 always, whatever the stream of activations is."""
MOMENTS = {"adamw": 2, "stable_adamw": 2, "muon": 1}
"""State tensors of a parameter's shape."""


@dataclass(frozen=True)
class Memory:
    """Bytes on one rank in the midst of a step."""

    weights: int
    """Weights, gradients, moments, the average if there is one, and the copy that the update ratio is taken from."""
    activations: int
    """What layers keep for the backward pass: an estimate."""

    @property
    def total(self) -> int:
        return self.weights + self.activations


def checkpoint_bytes(model: nn.Module, optimizer: OptimizerConfig, *, ema: bool = False) -> int:
    """Tensors of a checkpoint: the weights, the optimizer's moments, and with an average the weights behind it."""
    return FLOAT * (_values(model, optimizer) + (_count(model) if ema else 0))


def rank_memory(
    model: nn.Module,
    config: EncoderConfig,
    training: TrainingConfig,
    optimizer: OptimizerConfig,
    *,
    row_tokens: int,
    world: int,
    activation_bytes: int = 2,
) -> Memory:
    """Memory of one of `world` ranks; FSDP shares what belongs to weights, and gathers one layer at a time.

    A layer keeps about 8 + 3·I/h values of the hidden size a token, of `activation_bytes` each (2 in bf16).
    """
    gradients_and_copy = 2 * _count(model)
    average = _count(model) if training.ema else 0
    weights = FLOAT * (_values(model, optimizer) + gradients_and_copy + average)
    if training.strategy == "fsdp":
        weights = -(-weights // world) + 2 * FLOAT * _count(model) // config.n_layers
    kept = 8 + 3 * config.intermediate_size / config.hidden_size
    tokens = training.micro_rows * row_tokens
    return Memory(weights, round(activation_bytes * tokens * config.hidden_size * kept * config.n_layers))


def _values(model: nn.Module, optimizer: OptimizerConfig) -> int:
    """Weights and moments."""
    moments = {group.name: MOMENTS[group.optimizer] for group in parameter_groups(model, optimizer)}
    return sum((1 + moments.get(name, 0)) * p.numel() for name, p in model.named_parameters())


def _count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())
