"""Attention over packed segments: one function in front of every kernel, and the reason why one was chosen.

A packed row holds many segments end to end; `cu_seqlens` marks where each begins. A token attends within its own
segment only, and under a window only to the tokens at most `window` places away. Every backend gives the same numbers
to rounding; `maskseq doctor` prints which ones a machine has.
"""

import functools
import logging
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from maskseq.errors import UsageError
from maskseq.model.attention.cpu import RotaryAttention, TiledAttention, rotary_attention, tiled_attention
from maskseq.model.cpu import bf16_is_fast, constant_when_compiled
from maskseq.model.rotary import Rotation, rotate

logger = logging.getLogger(__name__)

BACKENDS = ("flash", "varlen", "blocks", "bmm", "sdpa")
MAX_HEAD_DIM = 256  # of the flash kernels


def packed_attention(
    q: Float[Tensor, "tokens heads dim"],
    k: Float[Tensor, "tokens_k heads dim"],
    v: Float[Tensor, "tokens_k heads dim"],
    cu_seqlens: Int[Tensor, " bounds"],
    *,
    max_seqlen: int,
    window: int | None = None,
    backend: str = "auto",
    cu_seqlens_k: Int[Tensor, " bounds"] | None = None,
) -> Float[Tensor, "tokens heads dim"]:
    """Softmax attention with scale dim^-0.5 within each segment; q and k carry their positions already.

    `window` hides keys more than that many places away (ModernBERT's local_attention=128 is window=64: 129 keys).
    `max_seqlen` is at least the length of the longest segment. With `cu_seqlens_k`, segment i of q attends to segment i
    of a k and v that are packed differently, for example only the context of each segment; it excludes windows, and
    queries without keys get zeros.

    Raises UsageError for an unknown or unusable backend, ValueError for tensors that do not belong together.
    """
    if not q.dtype == k.dtype == v.dtype:
        raise ValueError(f"q, k and v must share a dtype, not {q.dtype}, {k.dtype}, {v.dtype}")
    if cu_seqlens_k is not None and window is not None:
        raise ValueError("a window needs queries and keys at the same places: give window or cu_seqlens_k, not both")
    attend = _KERNELS[choose(backend, q.device.type, q.dtype, q.shape[-1])]
    cu_k = cu_seqlens if cu_seqlens_k is None else cu_seqlens_k
    return attend(q, k, v, cu_seqlens, cu_k, max_seqlen, window)


def packed_self_attention(
    qkv: Float[Tensor, "tokens 3 heads dim"],
    rotation: Rotation,
    cu_seqlens: Int[Tensor, " bounds"],
    *,
    max_seqlen: int,
    window: int | None = None,
    interleaved: bool = False,
    backend: str = "auto",
) -> Float[Tensor, "tokens heads dim"]:
    """`packed_attention` from the fused projection, with queries and keys turned by `rotation`.

    On a CPU this is one operator from qkv to the output and back to qkv's gradient.
    """
    name = choose(backend, qkv.device.type, qkv.dtype, qkv.shape[-1])
    if rotation is not None and name in ("blocks", "bmm", "sdpa"):
        inputs = (qkv, *rotation, cu_seqlens, _sided(window), name, interleaved)
        if torch.compiler.is_compiling():
            return rotary_attention(*inputs)[0]  # type: ignore[no-any-return]
        return RotaryAttention.apply(*inputs)  # type: ignore[no-any-return, no-untyped-call]
    qk, v = torch.split(qkv, [2, 1], dim=1)
    if rotation is not None:
        qk = rotate(qk, rotation, interleaved=interleaved)
    q, k = qk.unbind(1)
    return packed_attention(q, k, v.squeeze(1), cu_seqlens, max_seqlen=max_seqlen, window=window, backend=name)


@constant_when_compiled
def choose(backend: str, device: str, dtype: torch.dtype, head_dim: int) -> str:
    """Name the kernel for these tensors: the given one if it works here, the best one for "auto"."""
    refusals = _refusals(device, dtype, head_dim)
    if backend == "auto":
        chosen = next(name for name in _preference(device, dtype) if name not in refusals)
        if device == "cuda" and chosen != "flash":
            _say_once(f"flash-attn is not used ({refusals['flash']}); attention runs on {chosen!r}")
        return chosen
    if backend not in BACKENDS:
        raise UsageError(
            f"unknown attention backend {backend!r}; choose auto or one of {', '.join(BACKENDS)}", code="unknown-name"
        )
    if backend in refusals:
        raise UsageError(
            f"attention backend {backend!r} cannot be used here: {refusals[backend]}", code="not-supported"
        )
    return backend


def available(device: str = "cpu", dtype: torch.dtype = torch.float32, head_dim: int = 64) -> list[str]:
    """Backends that work for such tensors on this machine, best first."""
    refusals = _refusals(device, dtype, head_dim)
    return [name for name in _preference(device, dtype) if name not in refusals]


def explain(device: str = "cpu", dtype: torch.dtype = torch.float32, head_dim: int = 64) -> dict[str, str]:
    """Say of every backend whether such tensors would use it, and if not why (for `maskseq doctor`)."""
    refusals = _refusals(device, dtype, head_dim)
    best, *others = available(device, dtype, head_dim)
    reasons = {best: "used", **dict.fromkeys(others, "usable, slower here")}
    return {name: reasons.get(name) or f"not used: {refusals[name]}" for name in BACKENDS}


def _preference(device: str, dtype: torch.dtype) -> tuple[str, ...]:
    if device != "cpu":
        return ("flash", "varlen", "bmm", "blocks", "sdpa")
    return ("blocks", "bmm", "sdpa") if dtype == torch.bfloat16 and bf16_is_fast() else ("sdpa", "blocks", "bmm")


@functools.lru_cache
def _refusals(device: str, dtype: torch.dtype, head_dim: int) -> dict[str, str]:
    """Why a backend cannot take such tensors; absent: it can."""
    refusals = {}
    if device != "cpu":
        refusals["sdpa"] = f"torch's blocked CPU kernel, and the tensors are on {device}"
        refusals["blocks"] = f"its blocks fit the caches of a CPU, and the tensors are on {device}"
    for name, probe in (("flash", _flash_attn), ("varlen", _varlen_attn)):
        if device != "cuda":
            refusals[name] = f"needs a CUDA device, not {device}"
        elif dtype not in (torch.float16, torch.bfloat16):
            refusals[name] = f"computes in float16 or bfloat16, not {dtype}"
        elif head_dim > MAX_HEAD_DIM:
            refusals[name] = f"takes heads of at most {MAX_HEAD_DIM} dimensions, not {head_dim}"
        elif torch.cuda.is_available() and torch.cuda.get_device_capability() < (8, 0):
            refusals[name] = "needs a GPU of compute capability 8.0 (Ampere) or newer"
        elif isinstance(problem := probe(), str):
            refusals[name] = problem
    return refusals


@functools.cache
def _say_once(message: str) -> None:
    logger.warning(message)


# ---- kernels ------------------------------------------------------------------------------------------------------


@functools.cache
def _flash_attn() -> Callable[..., Any] | str:
    """Return flash-attn's function, or what is wrong with it.

    It is imported, because an installed package can still fail to load (no kernels in the wheel, another torch ABI).
    """
    try:
        from flash_attn import flash_attn_varlen_func
    except Exception as error:
        return f"import flash_attn: {type(error).__name__}: {error}"
    function: Callable[..., Any] = flash_attn_varlen_func
    return function


@functools.cache
def _varlen_attn() -> Callable[..., Any] | str:
    try:
        from torch.nn.attention.varlen import varlen_attn
    except Exception as error:
        return f"import torch.nn.attention.varlen: {type(error).__name__}: {error}"
    return varlen_attn


def _flash(q: Tensor, k: Tensor, v: Tensor, cu_q: Tensor, cu_k: Tensor, max_seqlen: int, window: int | None) -> Tensor:
    attend = _flash_attn()
    assert not isinstance(attend, str), attend
    out: Tensor = attend(
        q,
        k,
        v,
        cu_seqlens_q=cu_q.to(torch.int32),
        cu_seqlens_k=cu_k.to(torch.int32),
        max_seqlen_q=max_seqlen,
        max_seqlen_k=max_seqlen,
        window_size=_both_ways(window),
        deterministic=True,  # else its backward pass adds in any order: a resumed run would drift from an unbroken one
    )
    return out


def _varlen(q: Tensor, k: Tensor, v: Tensor, cu_q: Tensor, cu_k: Tensor, max_seqlen: int, window: int | None) -> Tensor:
    attend = _varlen_attn()
    assert not isinstance(attend, str), attend
    out: Tensor = attend(
        q,
        k,
        v,
        cu_q.to(torch.int32),
        cu_k.to(torch.int32),
        max_seqlen,
        max_seqlen,
        window_size=_both_ways(window),
    )
    return out


def _both_ways(window: int | None) -> tuple[int, int]:
    return (_sided(window), _sided(window))


def _tiled(
    q: Tensor, k: Tensor, v: Tensor, cu_q: Tensor, cu_k: Tensor, _: int, window: int | None, *, core: str
) -> Tensor:
    inputs = (q, k, v, cu_q, cu_k, _sided(window), core)
    if torch.compiler.is_compiling():
        return tiled_attention(*inputs)[0]  # type: ignore[no-any-return]
    return TiledAttention.apply(*inputs)  # type: ignore[no-any-return, no-untyped-call]


def _sided(window: int | None) -> int:
    return -1 if window is None else window


_KERNELS: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, int, int | None], Tensor]] = {
    "flash": _flash,
    "varlen": _varlen,
    "blocks": functools.partial(_tiled, core="blocks"),
    "bmm": functools.partial(_tiled, core="bmm"),
    "sdpa": functools.partial(_tiled, core="sdpa"),
}
