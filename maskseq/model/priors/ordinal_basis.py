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

from maskseq.types import Vocabulary


def n_shared(centres: tuple[float, ...], n_waves: int) -> int:
    """Rows that the bins of a field share; never more than there are bins."""
    return min(n_waves + 1, len(centres))


@cache
def weights(centres: tuple[float, ...], n_waves: int) -> Float32[np.ndarray, "bins shared"]:
    """How much of each shared row is in the row of a bin; squares of a bin's weights sum to 1 on average.

    z = (cᵢ − mean)/std of the centres, and √(2/k) cos(π k (i + ½)/n) for k = 1, 2, …: faster waves weigh less.
    """
    n = len(centres)
    if n == 1:
        return np.ones((1, 1), np.float32)
    values, k = np.array(centres), np.arange(1, n_shared(centres, n_waves))
    line = (values - values.mean()) / values.std()
    cosines = np.sqrt(2 / k) * np.cos(np.pi * k * (np.arange(n)[:, None] + 0.5) / n)
    both = np.concatenate([line[:, None], cosines], axis=1)
    return np.asarray(both / np.sqrt(1 + (1 / k).sum()), np.float32)


def table_rows(vocabulary: Vocabulary, n_waves: int) -> tuple[int, ...]:
    """Rows that are learned of each field's embeddings: shared ones in place of those of its bins."""
    return tuple(
        n if centres is None or not n_waves else n - len(centres) + n_shared(centres, n_waves)
        for n, centres in zip(vocabulary.n_rows, vocabulary.centres, strict=True)
    )


def rows_of_ids(
    learned: Float[Tensor, "rows hidden"], centres: tuple[float, ...], n_waves: int
) -> Float[Tensor, "ids hidden"]:
    """The row of every id of a field, from the learned ones: those that bins share, then those of other ids."""
    shared = n_shared(centres, n_waves)
    mixed = torch.as_tensor(weights(centres, n_waves), device=learned.device) @ learned[:shared]
    return torch.cat([mixed, learned[shared:]])
