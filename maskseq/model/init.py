"""Initial values of an encoder."""

import math
from typing import Literal

import torch
from torch import nn

from maskseq.model.config import EncoderConfig


def initialize(model: nn.Module, config: EncoderConfig, seed: int) -> None:
    """Draw all initial values, on the CPU and in the order of the parameters: the same on every device.

    Standard deviations by what a matrix does. `full_megatron` is ModernBERT's research code (initialization.py:107-160
    at 8c57a0f); transformers' ModernBERT differs from it in the head and the decoder.
    """
    std = config.init_std
    stds = {"in": std, "out": std, "embedding": std, "decoder": std, "correction": 0.0}
    if config.init == "full_megatron":
        stds |= {"out": std / math.sqrt(2 * config.n_layers), "decoder": config.hidden_size**-0.5}
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        value = torch.empty(parameter.shape, device="cpu")
        if not parameter.requires_grad:  # a table that is not counted yet
            value.zero_()
        elif parameter.ndim == 1:
            value.fill_(1.0 if name.endswith("norm.weight") else 0.0)
        else:
            s = stds[_role(name)]
            if not s:
                value.zero_()
            elif config.init == "uniform":
                value.uniform_(-s, s, generator=generator)
            elif config.init == "normal":
                value.normal_(0, s, generator=generator)
            else:
                cut = config.init_cutoff * s
                nn.init.trunc_normal_(value, 0, s, -cut, cut, generator=generator)
        with torch.no_grad():
            parameter.copy_(value)


def _role(name: str) -> Literal["in", "out", "embedding", "decoder", "correction"]:
    """What a matrix does, by its name."""
    if name.endswith("correction.weight"):
        return "correction"
    if name.startswith("embeddings."):
        return "embedding"
    if name.startswith("decoder."):
        return "decoder"
    return "out" if name.endswith("Wo.weight") else "in"
