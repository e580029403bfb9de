"""Floating-point operations of an encoder, counted from lengths. No torch here.

A product of an m×k and a k×n matrix counts 2·m·k·n. Norms, activations, rotations and the softmax are left out, as is
usual: what is compared with is the speed of matrix products.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Integer

from maskseq.model.config import EncoderConfig
from maskseq.packing.rows import PackedRow


def row_flops(config: EncoderConfig, row: PackedRow) -> float:
    """Forward and backward of a packed row, its filler left out."""
    real = row.objective >= 0
    lengths, targets = np.diff(row.cu_seqlens), np.add.reduceat(row.target, row.cu_seqlens[:-1], dtype=np.int64)
    scored = np.count_nonzero(row.weights, axis=0).tolist()
    return training_flops(config, lengths[real], scored, targets[real])


def training_flops(
    config: EncoderConfig,
    lengths: Integer[np.ndarray, " segments"],
    scored: Sequence[int],
    targets: Integer[np.ndarray, " segments"] | None = None,
) -> float:
    """Forward and backward: the backward has two products for each one of the forward pass."""
    return 3 * forward_flops(config, lengths, scored, targets)


def forward_flops(
    config: EncoderConfig,
    lengths: Integer[np.ndarray, " segments"],
    scored: Sequence[int],
    targets: Integer[np.ndarray, " segments"] | None = None,
) -> float:
    """One forward pass over segments of these lengths, the head run on `scored[f]` cells of field f.

    A query meets the keys of its own segment and, in a local layer, of its window only. Of each segment, `targets`
    positions are the target that an encoder with `context_sees_target = False` keeps from the rest.
    """
    pairs = sum(float(attended_pairs(lengths, config.window_of(layer)).sum()) for layer in range(config.n_layers))
    if targets is not None and not config.context_sees_target:
        pairs -= config.n_layers * float(np.sum((lengths - targets) * targets))
    attention = 4 * config.hidden_size * pairs
    return int(np.sum(lengths)) * token_flops(config) + attention + head_flops(config, scored)


def token_flops(config: EncoderConfig) -> int:
    """The layers' linear maps, of one token."""
    width = config.intermediate_size if config.mlp == "gelu" else 2 * config.intermediate_size
    attention, mlp = 4 * config.hidden_size, width + config.intermediate_size
    return 2 * config.n_layers * config.hidden_size * (attention + mlp)


def head_flops(config: EncoderConfig, scored: Sequence[int]) -> int:
    """Head transform and decoder, of the scored cells of each field."""
    dense = config.hidden_size if config.head != "none" else 0
    outputs = config.vocabulary.n_outputs
    return sum(2 * config.hidden_size * (dense + n) * cells for cells, n in zip(scored, outputs, strict=True))


def attended_pairs(lengths: Integer[np.ndarray, " segments"], window: int | None) -> Float[np.ndarray, " segments"]:
    """Pairs of query and key in segments of these lengths, where keys lie up to `window` away (None: anywhere)."""
    n = np.asarray(lengths, np.float64)
    if window is None:
        return n**2
    reach = np.minimum(window, np.maximum(n - 1, 0))  # at distance d there are 2·(n − d) pairs
    return np.asarray(n + 2 * reach * n - reach * (reach + 1))
