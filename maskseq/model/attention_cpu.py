"""Attention on a CPU: pieces and windows become a few batched tiles, one differentiable torch operator does them all.

Why not one call with a mask: a dense mask costs tokens² of work (18 times more on a row of 8,192 short documents), and
per-piece calls under autograd break `torch.compile` graphs. Here `tiles.plan` lists tiles of queries and keys, from
`cu_seqlens` alone; the operator gathers each tile, attends, and puts the result back. Only `cu_seqlens` differs between
batches, so a compiled model never recompiles.

Two cores do the arithmetic of a tile. `sdpa` is torch's blocked CPU kernel, in fp32 at least (its bf16 backward pass is
slower than its fp32 one). `bmm` is matrix product, softmax, matrix product, in the dtype of the input, with the
probabilities recomputed in the backward pass: the faster one where the processor multiplies bf16 faster than fp32.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from maskseq.model.tiles import BLOCK, plan

# aten's own names: the public function hides the log-sum-exp that the backward pass needs.
_flash_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward

SCORES_AT_ONCE = 2**20  # scores a bmm tile holds at a time: 2 MB in bf16, so they stay in the second-level cache


@torch.library.custom_op("maskseq::tiled_attention", mutates_args=())
def tiled_attention(
    q: Tensor, k: Tensor, v: Tensor, cu_seqlens_q: Tensor, cu_seqlens_k: Tensor, window: int, core: str
) -> tuple[Tensor, Tensor]:
    """Attend within each piece; `window` < 0 is no window. Returns the output and the log-sum-exp (empty for `bmm`).

    q: Float "tokens heads dim"; k, v: Float "tokens_k heads dim"; the output has the shape and dtype of q.
    """
    dtype, (q, k, v) = q.dtype, _working(core, q, k, v)
    out = q.new_zeros(q.shape)  # a query whose piece has no keys gets zeros, as in flash-attn
    lse = q.new_zeros(_lse_shape(q, core), dtype=torch.promote_types(q.dtype, torch.float32))
    for tiles in plan(cu_seqlens_q, cu_seqlens_k, window, q.dtype):
        tile_q, tile_k, tile_v = tiles.queries(q), tiles.keys(k), tiles.keys(v)
        if core == "sdpa":
            tile_out, tile_lse = _flash_forward(tile_q, tile_k, tile_v, attn_mask=tiles.bias)
            tiles.put_queries(lse, tile_lse.unsqueeze(-1))
        else:
            tile_out = _bmm_forward(tile_q, tile_k, tile_v, tiles.bias)
        tiles.put_queries(out, tile_out)
    return out.to(dtype), lse


@tiled_attention.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, cu_q: Tensor, cu_k: Tensor, window: int, core: str) -> tuple[Tensor, Tensor]:
    working = torch.promote_types(q.dtype, torch.float32)
    return q.new_empty(q.shape), q.new_empty(_lse_shape(q, core), dtype=working)


@torch.library.custom_op("maskseq::tiled_attention_backward", mutates_args=())
def tiled_attention_backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor,
    window: int,
    core: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k and v for `grad`, the gradient of `tiled_attention`'s output."""
    dtype, (grad, q, k, v, out) = q.dtype, _working(core, grad, q, k, v, out)
    grads = [x.new_zeros(x.shape) for x in (q, k, v)]
    for tiles in plan(cu_seqlens_q, cu_seqlens_k, window, q.dtype):
        tile_q, tile_k, tile_v, tile_grad = tiles.queries(q), tiles.keys(k), tiles.keys(v), tiles.queries(grad)
        if core == "sdpa":
            tile_out, tile_lse = tiles.queries(out), tiles.queries(lse).squeeze(-1)
            tile_grads = _flash_backward(
                tile_grad, tile_q, tile_k, tile_v, tile_out, tile_lse, 0.0, False, attn_mask=tiles.bias
            )
        else:
            tile_grads = _bmm_backward(tile_grad, tile_q, tile_k, tile_v, tiles.bias)
        tiles.put_queries(grads[0], tile_grads[0])
        tiles.put_keys(grads[1], tile_grads[1])
        tiles.put_keys(grads[2], tile_grads[2])
    dq, dk, dv = (x.to(dtype) for x in grads)
    return dq, dk, dv


@tiled_attention_backward.register_fake
def _(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, cu_q: Tensor, cu_k: Tensor, window: int,
    core: str,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)


def _save(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    *tensors, ctx.window, ctx.core = inputs
    ctx.save_for_backward(*tensors, *output)


def _backward(ctx, grad: Tensor, _lse: Tensor):  # type: ignore[no-untyped-def]
    q, k, v, cu_q, cu_k, out, lse = ctx.saved_tensors
    grads = tiled_attention_backward(grad, q, k, v, out, lse, cu_q, cu_k, ctx.window, ctx.core)
    return *grads, None, None, None, None


tiled_attention.register_autograd(_backward, setup_context=_save)


def _working(core: str, *tensors: Tensor) -> tuple[Tensor, ...]:
    """What the core computes in: torch's CPU kernel is faster and more exact in fp32 than in a half format."""
    if core == "bmm":
        return tensors
    return tuple(x.to(torch.promote_types(x.dtype, torch.float32)) for x in tensors)


def _lse_shape(q: Tensor, core: str) -> tuple[int, int, int]:
    return (q.shape[0], q.shape[1], 1) if core == "sdpa" else (0, 0, 1)


# ---- the bmm core -------------------------------------------------------------------------------------------------


def _bmm_forward(
    q: Float[Tensor, "n heads queries dim"],
    k: Float[Tensor, "n heads keys dim"],
    v: Float[Tensor, "n heads keys dim"],
    bias: Float[Tensor, "n 1 _ keys"] | None,
) -> Float[Tensor, "n heads queries dim"]:
    out = q.new_empty(q.shape[0], q.shape[2], q.shape[1], q.shape[3]).transpose(1, 2)  # heads of a token side by side
    for some, rows in _chunks(q, k):
        tile_k, tile_v = _flat(k[some]), _flat(v[some])
        probabilities = _probabilities(q[some, :, rows], tile_k, _bias_of(bias, some, rows))
        out[some, :, rows] = torch.bmm(probabilities, tile_v).view(out[some, :, rows].shape)
    return out


def _bmm_backward(
    grad: Float[Tensor, "n heads queries dim"],
    q: Float[Tensor, "n heads queries dim"],
    k: Float[Tensor, "n heads keys dim"],
    v: Float[Tensor, "n heads keys dim"],
    bias: Float[Tensor, "n 1 _ keys"] | None,
) -> tuple[Tensor, Tensor, Tensor]:
    scale = q.shape[-1] ** -0.5
    dq = torch.empty_like(q)
    # Chunks of queries add up here, so it is fp32 whatever the input is.
    dk, dv = (torch.zeros(x.shape, dtype=torch.promote_types(x.dtype, torch.float32), device=x.device) for x in (k, v))
    for some, rows in _chunks(q, k):
        tile_q, tile_k, tile_v, tile_grad = (
            _flat(q[some, :, rows]),
            _flat(k[some]),
            _flat(v[some]),
            _flat(grad[some, :, rows]),
        )
        p = _probabilities(q[some, :, rows], tile_k, _bias_of(bias, some, rows))
        dv[some] += torch.bmm(p.mT, tile_grad).view(dv[some].shape)
        dp = torch.bmm(tile_grad, tile_v.mT)
        ds = torch._softmax_backward_data(dp, p, -1, p.dtype)  # p * (dp - sum(p * dp)), in one pass
        dq[some, :, rows] = _scaled_bmm(ds, tile_k, scale).view(dq[some, :, rows].shape)
        dk[some] += _scaled_bmm(ds.mT, tile_q, scale).view(dk[some].shape)
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
