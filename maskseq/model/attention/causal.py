"""Attention in which some segments of a packed row look to the left only, and the others both ways.

In a causal segment each token attends to itself and to what is before it: what is computed there is the same whatever
follows. Causal segments of about one length are padded to a batch; padding is behind every real token, so that no real
token sees it.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from maskseq.model.attention.packed import packed_self_attention
from maskseq.model.rotary import Rotation, rotate

LENGTH_STEP = 16
"""Segments whose lengths have the same multiple of this above them share a batch."""


@dataclass(frozen=True)
class CausalBatch:
    """Causal segments of about one length."""

    tokens: Int[Tensor, "n_length"]
    """Tokens of each segment, padded by its last one."""
    real: Int[Tensor, " real"]
    """Which of these are not padding."""
    n: int


@dataclass(frozen=True)
class CausalAttention:
    """`packed_self_attention` for rows that have causal segments."""

    both_ways: Int[Tensor, " tokens_both_ways"]
    """Tokens of the other segments, segment by segment."""
    cu_both_ways: Int[Tensor, " bounds"]
    batches: tuple[CausalBatch, ...]
    backend: str = "auto"

    @classmethod
    def of(
        cls, causal: Bool[Tensor, " segments"], cu_seqlens: Int[Tensor, " bounds"], *, backend: str = "auto"
    ) -> "CausalAttention":
        """From a flag for each segment."""
        lengths = cu_seqlens.diff()
        (both_ways,) = (~torch.repeat_interleave(causal, lengths)).nonzero(as_tuple=True)
        bounds = F.pad(lengths[~causal].cumsum(0), (1, 0)).to(cu_seqlens)
        steps = (lengths + LENGTH_STEP - 1) // LENGTH_STEP * causal  # 0: not causal, or empty
        alike = [steps == step for step in sorted(set(steps.tolist())) if step]
        batches = tuple(_batch(cu_seqlens[:-1][which].long(), lengths[which]) for which in alike)
        return cls(both_ways, bounds, batches, backend)

    def __call__(
        self,
        qkv: Float[Tensor, "tokens 3 heads dim"],
        rotation: Rotation,
        cu_seqlens: Int[Tensor, " bounds"],
        *,
        max_seqlen: int,
        window: int | None = None,
        interleaved: bool = False,
    ) -> Float[Tensor, "tokens heads dim"]:
        """Attend; the arguments are those of `packed_self_attention`."""
        out = qkv.new_empty(len(qkv), *qkv.shape[2:])
        if len(self.both_ways):
            mixed = packed_self_attention(
                qkv.index_select(0, self.both_ways),
                None if rotation is None else (_rows(rotation[0], self.both_ways), _rows(rotation[1], self.both_ways)),
                self.cu_both_ways,
                max_seqlen=max_seqlen,
                window=window,
                interleaved=interleaved,
                backend=self.backend,
            )
            out = out.index_copy(0, self.both_ways, mixed)
        for batch in self.batches:
            some = qkv.index_select(0, batch.tokens)
            qk, v = some[:, :2], some[:, 2]
            if rotation is not None:
                turn = _rows(rotation[0], batch.tokens), _rows(rotation[1], batch.tokens)
                qk = rotate(qk, turn, interleaved=interleaved)
            # The CPU's kernel computes in float32: its backward pass in bf16 is slower.
            wide = torch.float32 if qkv.device.type == "cpu" else qkv.dtype
            q, k, values = (
                each.to(torch.promote_types(each.dtype, wide)).view(batch.n, -1, *each.shape[1:]).transpose(1, 2)
                for each in (*qk.unbind(1), v)
            )
            seen = None if window is None else _near(q.shape[2], window, q.device)
            mixed = F.scaled_dot_product_attention(q, k, values, attn_mask=seen, is_causal=seen is None)
            flat = mixed.transpose(1, 2).flatten(0, 1).to(qkv.dtype)
            out = out.index_copy(0, batch.tokens.index_select(0, batch.real), flat.index_select(0, batch.real))
        return out


def _batch(starts: Int[Tensor, " n"], lengths: Int[Tensor, " n"]) -> CausalBatch:
    offsets = torch.arange(int(lengths.max()), device=starts.device)
    tokens = starts[:, None] + torch.minimum(offsets, lengths[:, None] - 1)
    (real,) = (offsets < lengths[:, None]).flatten().nonzero(as_tuple=True)
    return CausalBatch(tokens.flatten(), real, len(starts))


def _rows(angles: Tensor, tokens: Int[Tensor, " n"]) -> Tensor:
    return angles.index_select(0, tokens)


def _near(length: int, window: int, device: torch.device) -> Bool[Tensor, "length length"]:
    """Which keys each query sees: at most `window` places before it, and none behind it."""
    place = torch.arange(length, device=device)
    behind = place[:, None] - place
    return (behind >= 0) & (behind <= window)
