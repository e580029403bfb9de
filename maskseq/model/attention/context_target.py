"""Attention in which the context does not see the target (Xiao et al. 2025: BiGLM's `has_attention_masking`).

Each segment is context and target; context positions attend to the context, target positions to the whole segment. What
is computed for the context is then the same whatever stands in the target, or is tried there.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from maskseq.model.attention.packed import packed_attention
from maskseq.model.rotary import Rotation, rotate


@dataclass(frozen=True)
class ContextTargetAttention:
    """`packed_self_attention` for these target positions: two calls, of the context's queries and of the target's.

    Attention does not depend on the order of keys, and queries and keys carry their positions: the tokens of both parts
    are gathered where they stand. Segments without a target are all context.
    """

    context: Int[Tensor, "n_context"]
    """Tokens of the context, segment by segment."""
    target: Int[Tensor, "n_target"]
    cu_context: Int[Tensor, " bounds"]
    """Where the context of each segment begins in `context`."""
    cu_target: Int[Tensor, " bounds"]
    backend: str = "auto"

    @classmethod
    def of(
        cls, target: Bool[Tensor, "tokens"], cu_seqlens: Int[Tensor, " bounds"], *, backend: str = "auto"
    ) -> "ContextTargetAttention":
        """From a flag for each token of a packed row. (How many are target is data: compiled graphs end here.)"""
        before = F.pad(target.cumsum(0), (1, 0))
        cu_target = before[cu_seqlens.long()].to(cu_seqlens.dtype)
        (context,), (inside,) = (~target).nonzero(as_tuple=True), target.nonzero(as_tuple=True)
        return cls(context, inside, cu_seqlens - cu_target, cu_target, backend)

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
        """Attend; the arguments are those of `packed_self_attention`, and windows are refused (ValueError)."""
        if window is not None:
            raise ValueError("a window needs queries and keys at the same places; here they are not")
        qk, v = qkv[:, :2], qkv[:, 2]
        if rotation is not None:
            qk = rotate(qk, rotation, interleaved=interleaved)
        q, k = qk.unbind(1)
        out = q.new_empty(q.shape)
        if len(self.context):
            q_context, k_context, v_context = (x.index_select(0, self.context) for x in (q, k, v))
            mixed = packed_attention(
                q_context, k_context, v_context, self.cu_context, max_seqlen=max_seqlen, backend=self.backend
            )
            out = out.index_copy(0, self.context, mixed)
        if len(self.target):
            q_target = q.index_select(0, self.target)
            mixed = packed_attention(
                q_target, k, v, self.cu_target, cu_seqlens_k=cu_seqlens, max_seqlen=max_seqlen, backend=self.backend
            )
            out = out.index_copy(0, self.target, mixed)
        return out
