"""Dropout that is a function of keys: what is dropped depends on no state, so nothing has to be stored to resume."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def dropout(
    x: Float[Tensor, "tokens *values"], p: float, keys: Int[Tensor, "rows"] | None, place: int
) -> Float[Tensor, "tokens *values"]:
    """Drop a share `p` of the entries and scale up the rest; nothing without keys.

    The tokens belong to rows of equal length, one key each, so a row drops the same whichever rows are with it.
    `place` numbers the calls of one forward pass.
    """
    if keys is None or p == 0:
        return x
    assert len(x) % len(keys) == 0, f"{len(x)} tokens are not {len(keys)} rows of equal length"
    mask: Tensor = kept(x.detach(), 1 - p, keys, place)
    return x * mask / (1 - p)


@torch.library.custom_op("maskseq::kept", mutates_args=())  # a Generator inside a graph would break it
def kept(x: Tensor, share: float, keys: Tensor, place: int) -> Tensor:
    """1 where an entry of `x` is kept, 0 elsewhere, in its shape and dtype."""
    mask = torch.empty_like(x)
    for row, key in zip(mask.chunk(len(keys)), keys.tolist(), strict=True):
        row.bernoulli_(share, generator=torch.Generator(x.device).manual_seed(key + place))
    return mask


@kept.register_fake
def _(x: Tensor, share: float, keys: Tensor, place: int) -> Tensor:
    return torch.empty_like(x)
