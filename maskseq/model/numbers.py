"""What packed tokens hold as numbers, besides the ids of their bins."""

from dataclasses import dataclass

from jaxtyping import Float64, Int
from torch import Tensor


@dataclass(frozen=True)
class Numbers:
    """Of tokens that are packed, what their ids were rounded from. On the CPU, where closed forms are computed."""

    values: Float64[Tensor, "tokens fields"]
    """In their units; NaN where only the id is known, or nothing."""
    fold: Int[Tensor, "segments"]
    """Which part of the training data each segment is of, so that it is left out (`maskseq.packing.folds`)."""
