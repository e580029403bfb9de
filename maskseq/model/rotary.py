"""Rotary positions (RoPE, Su et al. 2021): cosines and sines of every position; turning queries and keys by them."""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

Rotation = tuple[Tensor, Tensor] | None
"""Cosines and sines, float32 `[tokens, 1, 1, rotary_size / 2]`; None: nothing turns."""

ROWS_AT_ONCE = 512  # of `turn`: in and out of them stay in the second-level cache between its passes


def rotation(positions: Int[Tensor, "tokens"], size: int, theta: float) -> tuple[Tensor, Tensor]:
    """Cosines and sines of RoPE (eq. 15) for `size` turning dimensions, float32."""
    exponents = torch.arange(0, size, 2, dtype=torch.float32, device=positions.device) / size
    angles = positions.float()[:, None, None, None] * (1.0 / theta**exponents)
    return angles.cos(), angles.sin()


def axial(coordinates: Float[Tensor, "tokens axes"], size: int, theta: float) -> tuple[Tensor, Tensor]:
    """The same of several coordinates, each with an equal share of the planes, the first with what is left over."""
    axes = coordinates.shape[1]
    share = size // 2 // axes
    planes = [size // 2 - share * (axes - 1), *[share] * (axes - 1)]
    angles = []
    for axis, n in enumerate(planes):
        exponents = torch.arange(n, dtype=torch.float32, device=coordinates.device) / n
        angles.append(coordinates[:, axis, None, None, None].float() * (1.0 / theta**exponents))
    turned = torch.cat(angles, dim=-1)
    return turned.cos(), turned.sin()


def coordinates_of(
    ids: Int[Tensor, "tokens fields"],
    positions: Int[Tensor, "tokens"],
    axes: Sequence[tuple[int, Sequence[float]]],
    *,
    summed: bool,
) -> Float[Tensor, "tokens axes"]:
    """The numbers that the ids of some fields stand for; `summed`: added up from the beginning of each segment."""
    columns = [torch.tensor(table, dtype=torch.float64, device=ids.device)[ids[:, field]] for field, table in axes]
    found = torch.stack(columns, dim=1)
    if not summed:
        return found
    total = found.cumsum(dim=0)
    first = torch.arange(len(positions), device=positions.device) - positions  # of the segment
    return total - total[first]


def rotate(
    x: Float[Tensor, "tokens n heads dim"], by: tuple[Tensor, Tensor], *, interleaved: bool
) -> Float[Tensor, "tokens n heads dim"]:
    """Turn the first dimensions of every head by the angles of its position, in float32."""
    cos, sin = by
    n = 2 * cos.shape[-1]
    # split, chunk and unbind, because the gradient of a slice is a zero-filled tensor of the whole size
    x, still = torch.split(x, [n, x.shape[-1] - n], dim=-1)
    a, b = x.reshape(*x.shape[:-1], n // 2, 2).unbind(-1) if interleaved else x.chunk(2, dim=-1)
    pair = (a * cos - b * sin).to(x.dtype), (b * cos + a * sin).to(x.dtype)
    turned = torch.stack(pair, dim=-1).flatten(-2) if interleaved else torch.cat(pair, dim=-1)
    return torch.cat([turned, still], dim=-1) if still.shape[-1] else turned


def turn(
    x: Float[Tensor, "tokens n heads dim"],
    cos: Float[Tensor, "tokens 1 1 half"],
    sin: Float[Tensor, "tokens 1 1 half"],
    out: Float[Tensor, "tokens n heads dim"],
    *,
    interleaved: bool,
    back: bool = False,
) -> None:
    """Write into `out` what `rotate` returns, or with `back` its inverse, which is also its gradient.

    Not differentiable: it is the part of an operator with its own backward pass, where every pass over memory counts.
    """
    sign = -1.0 if back else 1.0
    n = 2 * cos.shape[-1]
    for rows in _chunks(x.shape[0]):
        source, c, s = x[rows].to(torch.promote_types(x.dtype, cos.dtype)), cos[rows], sin[rows]
        (a, b), (out_a, out_b) = (_pairs(y[..., :n], interleaved) for y in (source, out[rows]))
        torch.addcmul(a * c, b, s, value=-sign, out=out_a)
        torch.addcmul(b * c, a, s, value=sign, out=out_b)
        out[rows, ..., n:] = source[..., n:]


def _pairs(x: Tensor, interleaved: bool) -> tuple[Tensor, Tensor]:
    """The two dimensions of each plane of rotation, as views."""
    half = x.shape[-1] // 2
    return (x[..., 0::2], x[..., 1::2]) if interleaved else (x[..., :half], x[..., half:])


def _chunks(n_tokens: int) -> Iterator[slice]:
    return (slice(first, first + ROWS_AT_ONCE) for first in range(0, n_tokens, ROWS_AT_ONCE))
