"""Embeddings of ordinal fields that know the order of their bins.

A table with a row for each bin starts without any notion that bins 17 and 18 are alike, and a few thousand numbers are
too few to learn it. Here the rows are mixtures of a few that all bins share: one goes with the bin's centre, so that
sums of channels are sums of rows, the others with cosines over the order of the bins, from slow to fast.
"""

from functools import cache

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from maskseq.model.config import EncoderConfig


def n_shared(centres: tuple[float, ...], n_cosines: int) -> int:
    """Rows that the bins of a field share; never more than there are bins."""
    return min(n_cosines + 1, len(centres))


@cache
def weights(centres: tuple[float, ...], n_cosines: int) -> Float32[np.ndarray, "bins shared"]:
    """How much of each shared row is in the row of a bin; squares of a bin's weights sum to 1 on average.

    z = (cᵢ − mean)/std of the centres, and √(2/k) cos(π k (i + ½)/n) for k = 1, 2, …: faster cosines weigh less.
    """
    n = len(centres)
    if n == 1:
        return np.ones((1, 1), np.float32)
    values, k = np.array(centres), np.arange(1, n_shared(centres, n_cosines))
    line = (values - values.mean()) / values.std()
    cosines = np.sqrt(2 / k) * np.cos(np.pi * k * (np.arange(n)[:, None] + 0.5) / n)
    both = np.concatenate([line[:, None], cosines], axis=1)
    return np.asarray(both / np.sqrt(1 + (1 / k).sum()), np.float32)


def table_rows(config: EncoderConfig) -> tuple[int, ...]:
    """Rows that are learned of each field's embeddings: shared ones in place of those of its bins."""
    vocabulary, n_cosines = config.vocabulary, config.ordinal_basis.cosines
    return tuple(
        n if centres is None or not n_cosines else n - len(centres) + n_shared(centres, n_cosines)
        for n, centres in zip(vocabulary.n_rows, vocabulary.centres, strict=True)
    )


def table_of(learned: Float[Tensor, "rows hidden"], field: int, config: EncoderConfig) -> Float[Tensor, "ids hidden"]:
    """The embedding of every id of a field, from the learned rows of all fields."""
    vocabulary, n_cosines = config.vocabulary, config.ordinal_basis.cosines
    rows = torch.split(learned, list(table_rows(config)))[field]
    centres = vocabulary.centres[field]
    if centres is None or not n_cosines:
        return rows
    shared = n_shared(centres, n_cosines)
    mixed = torch.as_tensor(weights(centres, n_cosines), device=rows.device) @ rows[:shared]
    return torch.cat([mixed, rows[shared:]])
