"""Published encoders and our own small ones, as `EncoderConfig` values. No torch here.

`preset("ettin-17m", tokenizer.vocabulary, window=32)` takes a preset's switches, any of them changed, for a vocabulary.
The published numbers are for text; with a vocabulary of a few rows the same body has fewer parameters.
"""

from dataclasses import fields, replace
from typing import Any

from maskseq.errors import UsageError, nearest
from maskseq.model.config import EncoderConfig
from maskseq.types import Vocabulary


def preset(name: str, vocabulary: Vocabulary, **changes: Any) -> EncoderConfig:
    """The preset called `name` for this vocabulary; `UsageError` names a wrong preset or switch."""
    if name not in PRESETS:
        raise UsageError(f"there is no preset {name!r}\n\nhint: {nearest(name, list(PRESETS))}", code="unknown-name")
    switches = [f.name for f in fields(EncoderConfig) if f.name != "vocabulary"]
    for key in changes:
        if key not in switches:
            raise UsageError(f"an encoder has no switch {key!r}\n\nhint: {nearest(key, switches)}", code="unknown-name")
    return replace(EncoderConfig(vocabulary=vocabulary, **PRESETS[name]), **changes)


def _shape(n_layers: int, hidden_size: int, intermediate_size: int, n_heads: int) -> dict[str, Any]:
    return {
        "n_layers": n_layers,
        "hidden_size": hidden_size,
        "intermediate_size": intermediate_size,
        "n_heads": n_heads,
    }


MODERNBERT: dict[str, Any] = {
    "global_every": 3,
    "window": 64,
    "rope_theta": 160_000.0,
    "rope_theta_local": 10_000.0,
    "attention_dropout": 0.1,
}
"""Warner et al. 2024 (arXiv 2412.13663), AnswerDotAI/ModernBERT at 8c57a0f and modernbert-base-pretrain.yaml.

What `EncoderConfig` defaults to, with windows of ±64 in two layers of three, dropout on the output of attention in
pretraining, and θ of the released models: global layers are pretrained at 10,000 and moved to 160,000 when the context
is extended from 1,024 to 8,192.
"""

BERT: dict[str, Any] = {
    "positions": "learned",
    "max_positions": 512,
    "mlp": "gelu",
    "norm_eps": 1e-12,
    "norm_bias": True,
    "placement": "post",
    "final_norm": False,
    "attention_bias": True,
    "mlp_bias": True,
    "head_bias": True,
    "token_types": 2,
    "embedding_dropout": 0.1,
    "attention_dropout": 0.1,
    "mlp_dropout": 0.1,
    "init": "truncated_normal",
}
"""Devlin et al. 2018 (arXiv 1810.04805); `bert-base-uncased`. Attention probabilities are not dropped here."""

NOMIC: dict[str, Any] = {
    "rope_theta": 1_000.0,
    "max_positions": 2048,
    "mlp": "swiglu",
    "norm_eps": 1e-12,
    "norm_bias": True,
    "placement": "post",
    "final_norm": False,
    "head": "silu",
    "token_types": 2,
    "embedding_dropout": 0.1,
    "attention_dropout": 0.1,
    "mlp_dropout": 0.1,
    "init": "normal",
}
"""Nussbaum et al. 2024 (arXiv 2402.01613), nomic-ai/contrastors at 613ddfd; θ as released (`rotary_emb_base`)."""

NEOBERT: dict[str, Any] = {
    "max_positions": 4096,
    "rope_style": "interleaved",
    "mlp": "swiglu",
    "norm": "rmsnorm",
    "embedding_norm": False,
    "first_norm": True,
    "head": "none",
    "tied": False,
    "init": "uniform",
}
"""Le Breton et al. 2025 (arXiv 2502.19587), chandar-lab/NeoBERT at ed75b68; `norm_eps` of the released config."""

BIGLM: dict[str, Any] = {
    "max_positions": 2048,
    "rope_fraction": 0.25,
    "mlp": "swiglu",
    "norm_bias": True,
    "embedding_norm": False,
    "first_norm": True,
    "attention_bias": True,
    "mlp_bias": True,
    "head_bias": True,
    "embedding_dropout": 0.1,
    "attention_dropout": 0.1,
    "mlp_dropout": 0.1,
    "init": "normal",
}
"""Xiao et al. 2025 (BiGLM, ACL), LitterBrother-Xiao/Bidirectional-LLM at c5e5a1b: scripts/training/pretrain.sh, whose
unnamed switches are Megatron's defaults; the MLP width is arguments.py:270."""

PRESETS: dict[str, dict[str, Any]] = {
    # Ours, for CPUs: ModernBERT's layer with heads of 64 and the Ettin ratio of widths, every layer global because
    # windows of ±64 only pay beyond a context of about 1,024, no dropout.
    "nano": {**_shape(4, 128, 192, 2)},
    "tiny": {**_shape(6, 192, 288, 3)},
    "small": {**_shape(6, 256, 384, 4)},
    "bert-base": {**_shape(12, 768, 3072, 12), **BERT},
    "modernbert-base": {**_shape(22, 768, 1152, 12), **MODERNBERT},
    # The large model's weights are the base model's, tiled ("center tiling"); from scratch it starts like the base.
    "modernbert-large": {**_shape(28, 1024, 2624, 16), **MODERNBERT},
    "nomic-bert-2048": {**_shape(12, 768, 3072, 12), **NOMIC},
    "neobert": {**_shape(28, 768, 2048, 12), **NEOBERT},
    "biglm-base": {**_shape(12, 768, 2048, 12), **BIGLM},
    # Weller et al. 2025 (arXiv 2507.11412), JHU-CLSP/ettin-encoder-vs-decoder at 6cbf954: ModernBERT's recipe.
    "ettin-17m": {**_shape(7, 256, 384, 4), **MODERNBERT},
    "ettin-32m": {**_shape(10, 384, 576, 6), **MODERNBERT},
    "ettin-68m": {**_shape(19, 512, 768, 8), **MODERNBERT},
    "ettin-150m": {**_shape(22, 768, 1152, 12), **MODERNBERT},
    "ettin-400m": {**_shape(28, 1024, 2624, 16), **MODERNBERT},
    "ettin-1b": {**_shape(28, 1792, 3840, 28), **MODERNBERT},
}
