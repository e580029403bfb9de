"""Packed attention from plain torch operations, as two differentiable operators; what CPUs use.

Why not one call with a mask: a dense mask costs tokens² of work (18 times more on a row of 8,192 short documents), and
per-segment calls under autograd break `torch.compile` graphs. Here `tiles.plan` lists tiles of queries and keys, from
`cu_seqlens` alone; the operator gathers each tile, attends, and puts the result back. Only `cu_seqlens` differs between
batches, so a compiled model never recompiles.

`rotary_attention` starts from the fused projection and returns its gradient: turning queries and keys costs no tensors
that autograd has to keep, and nothing is split before it or put together after it.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from maskseq.model.attention import blocks
from maskseq.model.attention import kernels as cores
from maskseq.model.attention.tiles import plan
from maskseq.model.rotary import turn

# ---- queries, keys and values apart -------------------------------------------------------------------------------


def _tiled(
    q: Tensor, k: Tensor, v: Tensor, cu_seqlens_q: Tensor, cu_seqlens_k: Tensor, window: int, core: str
) -> tuple[Tensor, Tensor]:
    """Attend within each segment; `window` < 0 means no window. Returns the output and, of `sdpa`, the log-sum-exp.

    q: Float "tokens heads dim"; k, v: Float "tokens_k heads dim"; the output has the shape and dtype of q.
    """
    working = cores.working_dtype(core, q.dtype)
    out, lse = _attend(q.to(working), k.to(working), v.to(working), cu_seqlens_q, cu_seqlens_k, window, core)
    return out.to(q.dtype), lse


tiled_attention = torch.library.custom_op("maskseq::tiled_attention", _tiled, mutates_args=())


@tiled_attention.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, cu_q: Tensor, cu_k: Tensor, window: int, core: str) -> tuple[Tensor, Tensor]:
    return q.new_empty(q.shape), _empty_lse(q, core)


def _tiled_backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor,
    out: Tensor,
    lse: Tensor,
    window: int,
    core: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k and v for `grad`, the gradient of `tiled_attention`'s output."""
    working = cores.working_dtype(core, q.dtype)
    grads = q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)
    grad, q, k, v, out = (x.to(working) for x in (grad, q, k, v, out))
    _attend_backward(grad, q, k, v, out, lse, cu_seqlens_q, cu_seqlens_k, window, core, into=grads)
    return grads


tiled_attention_backward = torch.library.custom_op(
    "maskseq::tiled_attention_backward", _tiled_backward, mutates_args=()
)


@tiled_attention_backward.register_fake
def _(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, cu_q: Tensor, cu_k: Tensor, out: Tensor, lse: Tensor, window: int,
    core: str,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)


def _save_tiled(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.window, ctx.core = inputs
    ctx.save_for_backward(*tensors, *output)


def _differentiate_tiled(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    return *tiled_attention_backward(grad, *ctx.saved_tensors, ctx.window, ctx.core), None, None, None, None


tiled_attention.register_autograd(_differentiate_tiled, setup_context=_save_tiled)


class TiledAttention(torch.autograd.Function):
    """`tiled_attention` where nothing is compiled: calling an operator imports the compiler, which takes a second."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        output = _tiled(*inputs)
        _save_tiled(ctx, inputs, output)
        return output[0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        saved: list[Any] = [*ctx.saved_tensors, ctx.window, ctx.core]
        return *_tiled_backward(grad, *saved), None, None, None, None


# ---- the fused projection, with rotary positions ------------------------------------------------------------------


def _rotary(
    qkv: Tensor, cos: Tensor, sin: Tensor, cu_seqlens: Tensor, window: int, core: str, interleaved: bool
) -> tuple[Tensor, Tensor]:
    """`tiled_attention` of qkv, Float "tokens 3 heads dim", its queries and keys turned; cos and sin as `Rotation`."""
    q, k, v = _turned(qkv, cos, sin, core, interleaved)
    out, lse = _attend(q, k, v, cu_seqlens, cu_seqlens, window, core)
    return out.to(qkv.dtype), lse


rotary_attention = torch.library.custom_op("maskseq::rotary_attention", _rotary, mutates_args=())


@rotary_attention.register_fake
def _(
    qkv: Tensor, cos: Tensor, sin: Tensor, cu: Tensor, window: int, core: str, interleaved: bool
) -> tuple[Tensor, Tensor]:
    q = qkv.select(1, 0)
    return q.new_empty(q.shape), _empty_lse(q, core)


def _rotary_backward(
    grad: Tensor,
    qkv: Tensor,
    cos: Tensor,
    sin: Tensor,
    cu_seqlens: Tensor,
    out: Tensor,
    lse: Tensor,
    window: int,
    core: str,
    interleaved: bool,
) -> Tensor:
    """The gradient of qkv for `grad`, the gradient of `rotary_attention`'s output."""
    q, k, v = _turned(qkv, cos, sin, core, interleaved)
    gradient, of_turned = qkv.new_empty(qkv.shape), q.new_empty(len(q), 2, *q.shape[1:])
    into = of_turned[:, 0], of_turned[:, 1], gradient[:, 2]
    _attend_backward(grad.to(q.dtype), q, k, v, out.to(q.dtype), lse, cu_seqlens, cu_seqlens, window, core, into=into)
    turn(of_turned, cos, sin, gradient[:, :2], interleaved=interleaved, back=True)
    return gradient


rotary_attention_backward = torch.library.custom_op(
    "maskseq::rotary_attention_backward", _rotary_backward, mutates_args=()
)


@rotary_attention_backward.register_fake
def _(
    grad: Tensor, qkv: Tensor, cos: Tensor, sin: Tensor, cu: Tensor, out: Tensor, lse: Tensor, window: int, core: str,
    interleaved: bool,
) -> Tensor:  # fmt: skip
    return qkv.new_empty(qkv.shape)


def _save_rotary(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.window, ctx.core, ctx.interleaved = inputs
    ctx.save_for_backward(*tensors, *output)


def _differentiate_rotary(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    gradient = rotary_attention_backward(grad, *ctx.saved_tensors, ctx.window, ctx.core, ctx.interleaved)
    return gradient, None, None, None, None, None, None


rotary_attention.register_autograd(_differentiate_rotary, setup_context=_save_rotary)


class RotaryAttention(torch.autograd.Function):
    """`rotary_attention` where nothing is compiled."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        output = _rotary(*inputs)
        _save_rotary(ctx, inputs, output)
        return output[0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        saved: list[Any] = [*ctx.saved_tensors, ctx.window, ctx.core, ctx.interleaved]
        gradient = _rotary_backward(grad, *saved)
        return gradient, None, None, None, None, None, None


def _turned(qkv: Tensor, cos: Tensor, sin: Tensor, core: str, interleaved: bool) -> tuple[Tensor, Tensor, Tensor]:
    working = cores.working_dtype(core, qkv.dtype)
    turned = qkv.new_empty(len(qkv), 2, *qkv.shape[2:], dtype=working)
    turn(qkv[:, :2], cos, sin, turned, interleaved=interleaved)
    return turned[:, 0], turned[:, 1], qkv[:, 2].to(working)


# ---- what both are made of ----------------------------------------------------------------------------------------


def _attend(
    q: Tensor, k: Tensor, v: Tensor, cu_q: Tensor, cu_k: Tensor, window: int, core: str
) -> tuple[Tensor, Tensor]:
    layout = plan(q, k, cu_q, cu_k, window)
    # A query whose segment has no keys gets zeros, as in flash-attn.
    out = q.new_empty(q.shape) if layout.complete else q.new_zeros(q.shape)
    lse = _empty_lse(q, core)
    for tiles in layout.batches:
        tile_q, tile_k, tile_v = tiles.queries(q), tiles.keys(k), tiles.keys(v)
        if core == "sdpa":
            tile_out, tile_lse = cores.sdpa_forward(tile_q, tile_k, tile_v, tiles.bias)
            tiles.put_queries(lse, tile_lse.unsqueeze(-1))
        elif core == "blocks":
            tile_out = blocks.forward(tile_q, tile_k, tile_v, tiles.bias)
        else:
            tile_out = cores.bmm_forward(tile_q, tile_k, tile_v, tiles.bias)
        tiles.put_queries(out, tile_out)
    return out, lse


def _attend_backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    cu_q: Tensor,
    cu_k: Tensor,
    window: int,
    core: str,
    *,
    into: tuple[Tensor, Tensor, Tensor],
) -> None:
    """Write the gradients of q, k and v `into` tensors of their shapes, of any dtype."""
    dq, dk, dv = into
    layout = plan(q, k, cu_q, cu_k, window)
    if not layout.complete:
        for gradient in into:
            gradient.zero_()
    for tiles in layout.batches:
        tile_grad, tile_q, tile_k, tile_v = tiles.queries(grad), tiles.queries(q), tiles.keys(k), tiles.keys(v)
        if core == "sdpa":
            saved = tiles.queries(out), tiles.queries(lse).squeeze(-1)
            grads = cores.sdpa_backward(tile_grad, tile_q, tile_k, tile_v, tiles.bias, *saved)
        elif core == "blocks":
            grads = blocks.backward(tile_grad, tile_q, tile_k, tile_v, tiles.bias)
        else:
            grads = cores.bmm_backward(tile_grad, tile_q, tile_k, tile_v, tiles.bias)
        tiles.put_queries(dq, grads[0])
        tiles.put_keys(dk, grads[1])
        tiles.put_keys(dv, grads[2])


def _empty_lse(q: Tensor, core: str) -> Tensor:
    shape = (*q.shape[:2], 1) if core == "sdpa" else (0, 0, 1)
    return q.new_empty(shape, dtype=torch.promote_types(q.dtype, torch.float32))
