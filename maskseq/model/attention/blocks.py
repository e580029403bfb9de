"""Attention within equal tiles whose scores stay in the caches: product, softmax, product, in buffers used again.

Where products in bf16 are fast, scores that leave the caches cost more than the products around them, and fresh memory
for them is paid for page by page. So at most about `SCORES_AT_ONCE` scores are alive at a time, in a buffer that is
allocated once a call. Queries, keys and values of a group of heads are copied next to each other once, because torch's
products in bf16 would copy them each time; on that way queries are multiplied by the scale, so that products need none.

The backward pass computes the weights again. Where a tile is cut into several blocks of queries, the gradients of its
keys and values add up in float32.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

SCORES_AT_ONCE = 2**20  # 2 MB in bf16
QUERIES = 128  # of a long segment at least so many at a time, or its keys are read too often


def forward(
    q: Float[Tensor, "n heads queries dim"],
    k: Float[Tensor, "n heads keys dim"],
    v: Float[Tensor, "n heads keys dim"],
    bias: Float[Tensor, "n 1 _ keys"] | None,
) -> Float[Tensor, "n heads queries dim"]:
    """The output."""
    out, (scores,) = q.new_empty(q.shape), _buffers(1, q, k)
    for group in _groups(q, k):
        some_q, some_k, some_v = _scaled(q[group]), _joined(k[group]), _joined(v[group])
        some_out = out[group].flatten(0, 1)
        for rows in _rows(q, k):
            weights = _weights(some_q[:, rows], some_k, _bias_of(bias, group, rows), scores)
            torch.bmm(weights, some_v, out=some_out[:, rows])
    return out


def backward(
    grad: Float[Tensor, "n heads queries dim"],
    q: Float[Tensor, "n heads queries dim"],
    k: Float[Tensor, "n heads keys dim"],
    v: Float[Tensor, "n heads keys dim"],
    bias: Float[Tensor, "n 1 _ keys"] | None,
) -> tuple[Float[Tensor, "n heads queries dim"], Float[Tensor, "n heads keys dim"], Float[Tensor, "n heads keys dim"]]:
    """Gradients of q, k and v."""
    dq, dk, dv = (x.new_empty(x.shape) for x in (q, k, v))
    scores, products = _buffers(2, q, k)
    blocks = list(_rows(q, k))
    for group in _groups(q, k):
        some_q, some_k, some_v, some_grad = (
            _scaled(q[group]),
            _joined(k[group]),
            _joined(v[group]),
            _joined(grad[group]),
        )
        some_dq = dq[group].flatten(0, 1)
        sum_dk, sum_dv = (_Sum(x[group].flatten(0, 1), len(blocks)) for x in (dk, dv))
        for rows in blocks:
            part_q, part_grad = some_q[:, rows], some_grad[:, rows]
            weights = _weights(part_q, some_k, _bias_of(bias, group, rows), scores)
            sum_dv.add(weights.mT, part_grad)
            slopes = torch.bmm(part_grad, some_v.mT, out=_shaped(products, weights.shape))
            torch.ops.aten._softmax_backward_data.out(slopes, weights, -1, weights.dtype, grad_input=slopes)
            torch.bmm(slopes, some_k, out=some_dq[:, rows])
            sum_dk.add(slopes.mT, part_q)
    return dq.mul_(_scale(q)), dk, dv


class _Sum:
    """A gradient of keys or values: one product, or several that add up in float32 at least."""

    def __init__(self, into: Float[Tensor, "n_heads keys dim"], n_products: int) -> None:
        self.into, self.left = into, n_products
        wide = torch.promote_types(into.dtype, torch.float32)
        self.sum = into if n_products == 1 else into.new_zeros(into.shape, dtype=wide)

    def add(self, a: Float[Tensor, "n_heads keys queries"], b: Float[Tensor, "n_heads queries dim"]) -> None:
        if self.sum is self.into:
            torch.bmm(a, b, out=self.into)
            return
        self.sum += torch.bmm(a, b)
        self.left -= 1
        if not self.left:
            self.into.copy_(self.sum)


def _weights(
    q: Float[Tensor, "n_heads queries dim"],
    k: Float[Tensor, "n_heads keys dim"],
    bias: Float[Tensor, "n 1 _ keys"] | None,
    memory: Float[Tensor, " scores"],
) -> Float[Tensor, "n_heads queries keys"]:
    """What each query takes from each key, in the first of `memory`."""
    scores = _shaped(memory, torch.Size((*q.shape[:2], k.shape[1])))
    if bias is None:
        torch.bmm(q, k.mT, out=scores)
    else:  # a copy and a sum within the product are cheaper than an addition behind it
        scores.view(len(bias), -1, *scores.shape[1:]).copy_(bias)
        torch.baddbmm(scores, q, k.mT, out=scores)
    return torch.softmax(scores, -1, out=scores)


def _groups(q: Tensor, k: Tensor) -> Iterator[tuple[slice, slice]]:
    """Tiles and heads that are done at once: all heads of some tiles, or some heads of one tile."""
    n, heads, queries, keys = *q.shape[:3], k.shape[2]
    fitting = max(SCORES_AT_ONCE // (queries * keys), 1)
    n_tiles, n_heads = max(fitting // heads, 1), min(fitting, heads)
    for tile in range(0, n, n_tiles):
        for head in range(0, heads, n_heads):
            yield slice(tile, min(tile + n_tiles, n)), slice(head, min(head + n_heads, heads))


def _rows(q: Tensor, k: Tensor) -> Iterator[slice]:
    """Queries that are done at once: all, or some where even one head of a tile has more scores than are held."""
    queries, keys = q.shape[2], k.shape[2]
    at_once = min(max(SCORES_AT_ONCE // keys, QUERIES), queries)
    return (slice(row, min(row + at_once, queries)) for row in range(0, queries, at_once))


def _buffers(n: int, q: Tensor, k: Tensor) -> Iterator[Float[Tensor, " scores"]]:
    """Memory for the largest block, `n` times."""
    tiles, heads = next(_groups(q, k))
    rows = next(_rows(q, k))
    size = (tiles.stop - tiles.start) * (heads.stop - heads.start) * (rows.stop - rows.start) * k.shape[2]
    return (q.new_empty(size) for _ in range(n))


def _shaped(memory: Float[Tensor, " scores"], shape: torch.Size) -> Tensor:
    return memory[: shape.numel()].view(shape)


def _joined(x: Float[Tensor, "n heads rows dim"]) -> Float[Tensor, "n_heads rows dim"]:
    return x.flatten(0, 1).contiguous()


def _scaled(q: Float[Tensor, "n heads queries dim"]) -> Float[Tensor, "n_heads queries dim"]:
    return torch.mul(q, _scale(q), out=q.new_empty(q.shape)).flatten(0, 1)


def _scale(q: Tensor) -> float:
    scale: float = float(q.shape[-1]) ** -0.5
    return scale


def _bias_of(bias: Tensor | None, group: tuple[slice, slice], rows: slice) -> Tensor | None:
    if bias is None:
        return None
    return bias[group[0]] if bias.shape[2] == 1 else bias[group[0], :, rows]
