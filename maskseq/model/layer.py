"""A layer of the encoder: attention and MLP, and the norm that they share with its heads."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from maskseq.model.config import EncoderConfig
from maskseq.model.dropout import dropout
from maskseq.model.linear import Linear
from maskseq.model.rotary import Rotation

Attend = Callable[..., Tensor]
"""`packed_self_attention`, or anything with its signature."""


class Layer(nn.Module):
    """Attention and MLP, each with its norm before it or after its residual sum."""

    def __init__(self, config: EncoderConfig, index: int) -> None:
        super().__init__()
        self.config, self.index = config, index
        bare = index == 0 and config.placement == "pre" and not config.first_norm
        self.attn_norm = nn.Identity() if bare else Norm(config)
        self.attn = Attention(config)
        self.mlp_norm = Norm(config)
        self.mlp = MLP(config)

    def forward(
        self,
        hidden: Float[Tensor, "tokens hidden"],
        rotation: Rotation,
        cu_seqlens: Int[Tensor, " bounds"],
        max_seqlen: int,
        window: int | None,
        dropout_keys: Int[Tensor, "rows"] | None,
        attend: Attend,
    ) -> Float[Tensor, "tokens hidden"]:
        config = self.config
        pre = config.placement == "pre"
        update = self.attn(self.attn_norm(hidden) if pre else hidden, rotation, cu_seqlens, max_seqlen, window, attend)
        hidden = hidden + dropout(update, config.attention_dropout, dropout_keys, 2 * self.index + 1)
        if not pre:
            hidden = self.attn_norm(hidden)
        update = self.mlp(self.mlp_norm(hidden) if pre else hidden)
        hidden = hidden + dropout(update, config.mlp_dropout, dropout_keys, 2 * self.index + 2)
        return hidden if pre else self.mlp_norm(hidden)


class Attention(nn.Module):
    """Multi-head attention within each segment; `Wqkv` stacks queries, keys and values, each of all heads."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.Wqkv = Linear(config.hidden_size, 3 * config.hidden_size, bias=config.attention_bias)
        self.Wo = Linear(config.hidden_size, config.hidden_size, bias=config.attention_bias)

    def forward(
        self,
        hidden: Float[Tensor, "tokens hidden"],
        rotation: Rotation,
        cu_seqlens: Int[Tensor, " bounds"],
        max_seqlen: int,
        window: int | None,
        attend: Attend,
    ) -> Float[Tensor, "tokens hidden"]:
        qkv = self.Wqkv(hidden).unflatten(-1, (3, self.config.n_heads, self.config.head_size))
        interleaved = self.config.rope_style == "interleaved"
        mixed = attend(qkv, rotation, cu_seqlens, max_seqlen=max_seqlen, window=window, interleaved=interleaved)
        return self.Wo(mixed.flatten(-2))  # type: ignore[no-any-return]


class MLP(nn.Module):
    """`Wi`, activation, `Wo`; gated kinds use the first half of `Wi`'s output activated, the second as it is."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.kind = config.mlp
        width = config.intermediate_size if config.mlp == "gelu" else 2 * config.intermediate_size
        self.Wi = Linear(config.hidden_size, width, bias=config.mlp_bias)
        self.Wo = Linear(config.intermediate_size, config.hidden_size, bias=config.mlp_bias)

    def forward(self, hidden: Float[Tensor, "tokens hidden"]) -> Float[Tensor, "tokens hidden"]:
        wide = self.Wi(hidden)
        if self.kind == "gelu":
            return self.Wo(F.gelu(wide))  # type: ignore[no-any-return]
        value, gate = wide.chunk(2, dim=-1)
        return self.Wo((F.silu(value) if self.kind == "swiglu" else F.gelu(value)) * gate)  # type: ignore[no-any-return]


class Norm(nn.Module):
    """LayerNorm or RMSNorm in its input's dtype, with float32 statistics (torch's kernels see to that)."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.rms, self.eps = config.norm == "rmsnorm", config.norm_eps
        self.weight = nn.Parameter(torch.empty(config.hidden_size))
        has_bias = config.norm_bias and not self.rms
        self.bias = nn.Parameter(torch.empty(config.hidden_size)) if has_bias else None

    def forward(self, hidden: Float[Tensor, "n hidden"]) -> Float[Tensor, "n hidden"]:
        weight = self.weight.to(hidden.dtype)
        if self.rms:
            return F.rms_norm(hidden, weight.shape, weight, self.eps)
        bias = None if self.bias is None else self.bias.to(hidden.dtype)
        return F.layer_norm(hidden, weight.shape, weight, bias, self.eps)
