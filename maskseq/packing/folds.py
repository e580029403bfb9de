"""Parts of the training data: what is counted without one of them says honestly how it errs there."""

import numpy as np
from jaxtyping import Int

WHOLE, FILLER = 0, -1
"""Not of the training data; not of any data."""
FOLDS = 3


def fold_of(sequence: int, n_sequences: int, at: Int[np.ndarray, "*n"], length: int) -> Int[np.ndarray, "*n"]:
    """Which part positions of a training sequence are of, from 1 on: whole sequences where there are enough of them,
    else stretches of each. `sequence` counts from the first one of training.
    """
    if n_sequences >= FOLDS:
        return np.full_like(at, 1 + sequence % FOLDS)
    return np.asarray(1 + at * FOLDS // max(length, 1))
