"""The arithmetic of attention within equal tiles, forward and backward: two ways to compute the same.

`sdpa` is torch's blocked CPU kernel, which never holds a matrix of scores, in fp32 at least: its bf16 backward pass is
slower than its fp32 one. `bmm` is matrix product, softmax, matrix product in the dtype of its input, a few tiles at a
time; the backward pass computes the probabilities again. That is the faster one where bf16 products are fast.

A bias is 0 or hides a key: "n 1 queries keys", or "n 1 1 keys" where it is the same for all queries.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from maskseq.model.attention.tiles import BLOCK

SCORES_AT_ONCE = 2**20  # scores `bmm` holds at a time: 2 MB in bf16, so they stay in the second-level cache


def working_dtype(core: str, dtype: torch.dtype) -> torch.dtype:
    """What a core computes in, given the dtype of the model."""
    return torch.promote_types(dtype, torch.float32) if core == "sdpa" else dtype


def sdpa_forward(
    q: Float[Tensor, "n heads queries dim"],
    k: Float[Tensor, "n heads keys dim"],
    v: Float[Tensor, "n heads keys dim"],
    bias: Float[Tensor, "n 1 _ keys"] | None,
) -> tuple[Float[Tensor, "n heads queries dim"], Float[Tensor, "n heads queries"]]:
    """Output and log-sum-exp, by aten's own name: the public function keeps the second to itself."""
    out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, attn_mask=bias)
    return out, lse


def sdpa_backward(
    grad: Float[Tensor, "n heads queries dim"],
    q: Float[Tensor, "n heads queries dim"],
    k: Float[Tensor, "n heads keys dim"],
    v: Float[Tensor, "n heads keys dim"],
    bias: Float[Tensor, "n 1 _ keys"] | None,
    out: Float[Tensor, "n heads queries dim"],
    lse: Float[Tensor, "n heads queries"],
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k and v."""
    dq, dk, dv = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
        grad, q, k, v, out, lse, 0.0, False, attn_mask=bias
    )
    return dq, dk, dv


def bmm_forward(
    q: Float[Tensor, "n heads queries dim"],
    k: Float[Tensor, "n heads keys dim"],
    v: Float[Tensor, "n heads keys dim"],
    bias: Float[Tensor, "n 1 _ keys"] | None,
) -> Float[Tensor, "n heads queries dim"]:
    """The output."""
    out = torch.empty_like(q)
    for some, rows in _chunks(q, k):
        part = q[some, :, rows]
        probabilities = _probabilities(part, _flat(k[some]), _bias_of(bias, some, rows))
        out[some, :, rows] = torch.bmm(probabilities, _flat(v[some])).view(part.shape)
    return out


def bmm_backward(
    grad: Float[Tensor, "n heads queries dim"],
    q: Float[Tensor, "n heads queries dim"],
    k: Float[Tensor, "n heads keys dim"],
    v: Float[Tensor, "n heads keys dim"],
    bias: Float[Tensor, "n 1 _ keys"] | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k and v; the latter two in fp32 at least, because chunks of queries add up in them."""
    scale = q.shape[-1] ** -0.5
    dq = torch.empty_like(q)
    dk, dv = (torch.zeros(x.shape, dtype=torch.promote_types(x.dtype, torch.float32), device=x.device) for x in (k, v))
    for some, rows in _chunks(q, k):
        part, part_grad, part_k = q[some, :, rows], _flat(grad[some, :, rows]), _flat(k[some])
        p = _probabilities(part, part_k, _bias_of(bias, some, rows))
        dv[some] += torch.bmm(p.mT, part_grad).view(v[some].shape)
        dp = torch.bmm(part_grad, _flat(v[some]).mT)
        ds = torch._softmax_backward_data(dp, p, -1, p.dtype)  # p * (dp - sum(p * dp)), in one pass
        dq[some, :, rows] = _scaled_bmm(ds, part_k, scale).view(part.shape)
        dk[some] += _scaled_bmm(ds.mT, _flat(part), scale).view(k[some].shape)
    return dq, dk, dv


def _probabilities(q: Tensor, k: Tensor, bias: Tensor | None) -> Float[Tensor, "n_heads queries keys"]:
    scores = _scaled_bmm(_flat(q), k.mT, q.shape[-1] ** -0.5)
    if bias is not None:
        scores.view(*q.shape[:3], -1).add_(bias)
    return torch.softmax(scores, -1)


def _scaled_bmm(a: Tensor, b: Tensor, scale: float) -> Tensor:
    return torch.baddbmm(a.new_empty(1, 1, 1), a, b, beta=0, alpha=scale)


def _flat(x: Float[Tensor, "n heads rows dim"]) -> Float[Tensor, "n_heads rows dim"]:
    return x.reshape(-1, x.shape[2], x.shape[3])


def _bias_of(bias: Tensor | None, some: slice, rows: slice) -> Tensor | None:
    if bias is None:
        return None
    return bias[some] if bias.shape[2] == 1 else bias[some, :, rows]


def _chunks(q: Tensor, k: Tensor) -> Iterator[tuple[slice, slice]]:
    """Cut tiles, then their queries, so that a chunk holds about SCORES_AT_ONCE scores: memory is linear in length."""
    (n, heads, queries, _), keys = q.shape, k.shape[2]
    n_rows = min(max(SCORES_AT_ONCE // (heads * keys), BLOCK), queries)
    n_tiles = max(SCORES_AT_ONCE // (heads * keys * n_rows), 1)
    for first in range(0, n, n_tiles):
        for row in range(0, queries, n_rows):
            yield slice(first, first + n_tiles), slice(row, row + n_rows)
