"""The published layouts that load: ModernBERT, BERT, NomicBERT, NeoBERT and ESM-2. The first three are also written."""

import re

from torch import Tensor

from maskseq.errors import DataError
from maskseq.interop.layouts import Json, PublishedLayout
from maskseq.model.config import EncoderConfig
from maskseq.model.priors.config import no_priors

BODY: dict[str, tuple[str, ...]] = {
    "n_layers": ("num_hidden_layers",),
    "hidden_size": ("hidden_size",),
    "n_heads": ("num_attention_heads",),
    "intermediate_size": ("intermediate_size",),
}
PLAIN: Json = {
    "positions": "rope",
    "rope_theta": 10_000.0,
    "rope_theta_local": 10_000.0,
    "rope_fraction": 1.0,
    "rope_style": "half",
    "rope_fields": (),
    "rope_gaps": "",
    "rope_unit": 1.0,
    "frame": False,
    "mask_scaling": 0.0,
    "global_every": 1,
    "window": None,
    "norm": "layernorm",
    "norm_bias": False,
    "placement": "pre",
    "embedding_norm": True,
    "first_norm": False,
    "final_norm": True,
    "attention_bias": False,
    "mlp_bias": False,
    "head_bias": False,
    "token_types": 0,
    "embedding_dropout": 0.0,
    "attention_dropout": 0.0,
    "mlp_dropout": 0.0,
    "init_cutoff": 2.0,
    "context_sees_target": True,
    "next_head": False,
} | no_priors()
"""What all of these models are where a layout says nothing else. Written out here, so that another default of
`EncoderConfig` changes no published model."""
POST_NORM: Json = {"placement": "post", "final_norm": False} | {"norm_bias": True, "head_bias": True}
ONE_DROPOUT = {
    "embedding_dropout": ("hidden_dropout_prob", "embd_pdrop"),
    "attention_dropout": ("hidden_dropout_prob", "resid_pdrop"),
    "mlp_dropout": ("hidden_dropout_prob", "resid_pdrop"),
}


def _read_modernbert(config: Json) -> Json:
    n_layers = config["num_hidden_layers"]
    every = config.get("global_attn_every_n_layers", 3)
    if config.get("layer_types") is not None:
        is_global = [kind == "full_attention" for kind in config["layer_types"]]
        if len(is_global) != n_layers:
            raise DataError(
                "config.json", f"has {len(is_global):,} layer_types for {n_layers:,} layers", code="not-supported"
            )
        second = next((i for i in range(1, n_layers) if is_global[i]), n_layers)
        every = next((n for n in (every, second) if is_global == [i % n == 0 for i in range(n_layers)]), None)
        if every is None:
            raise DataError(
                "config.json",
                "layer_types makes other layers global than every n-th, from the first",
                code="not-supported",
            )
    rope = config.get("rope_parameters") or {}
    theta = _theta(rope.get("full_attention") or {}, config.get("global_rope_theta"), 160_000.0)
    local = _theta(rope.get("sliding_attention") or {}, config.get("local_rope_theta", 10_000.0), theta)
    return {
        "rope_theta": theta,
        "rope_theta_local": local,
        "global_every": every,
        "window": config.get("local_attention", 128) // 2 if every > 1 else None,
    }


def _write_modernbert(config: EncoderConfig) -> Json:
    kinds = ["full_attention" if config.window_of(i) is None else "sliding_attention" for i in range(config.n_layers)]
    return {
        "model_type": "modernbert",
        "layer_types": kinds,
        "rope_parameters": {
            "full_attention": {"rope_type": "default", "rope_theta": config.rope_theta},
            "sliding_attention": {"rope_type": "default", "rope_theta": config.rope_theta_local},
        },
        # the same for transformers 4
        "global_attn_every_n_layers": config.global_every,
        "global_rope_theta": config.rope_theta,
        "local_rope_theta": config.rope_theta_local,
        "local_attention": 2 * (64 if config.window is None else config.window),
        # the defaults are ids of the published vocabulary
        **dict.fromkeys(("cls_token_id", "sep_token_id", "bos_token_id", "eos_token_id", "pad_token_id")),
    }


MODERNBERT = PublishedLayout(
    architecture="ModernBertForMaskedLM",
    always=PLAIN | {"init": "full_megatron"},
    spelling=BODY
    | {
        "max_positions": ("max_position_embeddings",),
        "mlp": ("hidden_activation",),
        "norm_eps": ("norm_eps",),
        "norm_bias": ("norm_bias",),
        "attention_bias": ("attention_bias",),
        "mlp_bias": ("mlp_bias",),
        "head": ("classifier_activation",),
        "head_bias": ("classifier_bias",),
        "decoder_bias": ("decoder_bias",),
        "tied": ("tie_word_embeddings",),
        "embedding_dropout": ("embedding_dropout",),
        "attention_dropout": ("attention_dropout",),
        "mlp_dropout": ("mlp_dropout",),
        "init_std": ("initializer_range",),
        "init_cutoff": ("initializer_cutoff_factor",),
    },
    defaults={"max_positions": 8192, "mlp": "geglu", "norm_eps": 1e-5, "head": "gelu", "tied": True, "init_std": 0.02}
    | {"decoder_bias": True},
    values={"mlp": {"gelu": "geglu", "silu": "swiglu"}, "head": {"gelu": "gelu", "silu": "silu"}},
    read=_read_modernbert,
    write=_write_modernbert,
    names={
        "embeddings.tok_embeddings": "model.embeddings.tok_embeddings",
        "embeddings.norm": "model.embeddings.norm",
        "layers.{i}.attn_norm": "model.layers.{i}.attn_norm",
        "layers.{i}.attn.Wqkv": "model.layers.{i}.attn.Wqkv",
        "layers.{i}.attn.Wo": "model.layers.{i}.attn.Wo",
        "layers.{i}.mlp_norm": "model.layers.{i}.mlp_norm",
        "layers.{i}.mlp.Wi": "model.layers.{i}.mlp.Wi",
        "layers.{i}.mlp.Wo": "model.layers.{i}.mlp.Wo",
        "final_norm": "model.final_norm",
        "head.dense": "head.dense",
        "head.norm": "head.norm",
        "decoder": "decoder",
    },
    unneeded=r"decoder\.weight",
)
"""AnswerDotAI's release as transformers has it; our names come from it."""


def _read_bert(config: Json) -> Json:
    kind = config.get("position_embedding_type", "absolute")
    if kind != "absolute":
        raise DataError(
            "config.json",
            f"has position_embedding_type {kind!r}; only learned absolute ones are known here",
            code="not-supported",
        )
    return {}


def _today(name: str) -> str:
    """A name of those who call the parameters of a norm gamma and beta."""
    return re.sub(r"\.beta$", ".bias", re.sub(r"\.gamma$", ".weight", name))


BERT = PublishedLayout(
    architecture="BertForMaskedLM",
    always=PLAIN
    | POST_NORM
    | {"positions": "learned", "attention_bias": True, "mlp_bias": True, "decoder_bias": True}
    | {"init": "truncated_normal"},
    spelling=BODY
    | {
        "max_positions": ("max_position_embeddings",),
        "mlp": ("hidden_act",),
        "head": ("hidden_act",),
        "norm_eps": ("layer_norm_eps",),
        "token_types": ("type_vocab_size",),
        "tied": ("tie_word_embeddings",),
        "init_std": ("initializer_range",),
    }
    | {name: keys[:1] for name, keys in ONE_DROPOUT.items()},
    defaults={"tied": True, "norm_eps": 1e-12, "init_std": 0.02},
    values={"mlp": {"gelu": "gelu"}, "head": {"gelu": "gelu"}},
    read=_read_bert,
    write=lambda config: {"model_type": "bert", "attention_probs_dropout_prob": 0.0, "pad_token_id": None},
    names={
        "embeddings.tok_embeddings": "bert.embeddings.word_embeddings",
        "embeddings.positions": "bert.embeddings.position_embeddings",
        "embeddings.token_types": "bert.embeddings.token_type_embeddings",
        "embeddings.norm": "bert.embeddings.LayerNorm",
        "layers.{i}.attn.Wqkv": "bert.encoder.layer.{i}.attention.self.:query|key|value",
        "layers.{i}.attn.Wo": "bert.encoder.layer.{i}.attention.output.dense",
        "layers.{i}.attn_norm": "bert.encoder.layer.{i}.attention.output.LayerNorm",
        "layers.{i}.mlp.Wi": "bert.encoder.layer.{i}.intermediate.dense",
        "layers.{i}.mlp.Wo": "bert.encoder.layer.{i}.output.dense",
        "layers.{i}.mlp_norm": "bert.encoder.layer.{i}.output.LayerNorm",
        "head.dense": "cls.predictions.transform.dense",
        "head.norm": "cls.predictions.transform.LayerNorm",
        "decoder": "cls.predictions.decoder",
        "decoder.bias": "cls.predictions.bias",
    },
    normal=_today,  # the 2018 release
    unneeded=r"bert\.pooler\..*|cls\.seq_relationship\..*|.*\.position_ids|cls\.predictions\.decoder\..*",
)


def _read_nomic(config: Json) -> Json:
    for key in ("prenorm", "use_rms_norm", "rotary_emb_interleaved"):
        if config.get(key):
            raise DataError(
                "config.json",
                f"has {key} = {config[key]}, which released NomicBERT models do not have",
                code="not-supported",
            )
    return {"rope_theta": _theta(config.get("rope_parameters") or {}, config.get("rotary_emb_base"), 1000.0)}


NOMIC = PublishedLayout(
    architecture="NomicBertForMaskedLM",
    always=PLAIN | POST_NORM | {"decoder_bias": True, "init": "normal"},
    spelling={
        "n_layers": ("num_hidden_layers", "n_layer"),
        "hidden_size": ("hidden_size", "n_embd"),
        "n_heads": ("num_attention_heads", "n_head"),
        "intermediate_size": ("intermediate_size", "n_inner"),
        # beyond the trained length the releases stretch θ with the input, which is not done here
        "max_positions": ("max_position_embeddings", "max_trained_positions", "n_positions"),
        "rope_fraction": ("rotary_emb_fraction",),
        "mlp": ("hidden_act", "activation_function"),
        "head": ("hidden_act", "activation_function"),
        "norm_eps": ("layer_norm_eps", "layer_norm_epsilon"),
        "token_types": ("type_vocab_size",),
        "tied": ("tie_word_embeddings",),
        "init_std": ("initializer_range",),
    }
    | ONE_DROPOUT,
    defaults={"tied": True, "rope_fraction": 1.0, "init_std": 0.02},
    values={"mlp": {"silu": "swiglu", "swiglu": "swiglu"}, "head": {"silu": "silu", "swiglu": "silu"}},
    read=_read_nomic,
    write=lambda config: {
        "model_type": "nomic_bert",
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "rotary_emb_base": config.rope_theta,
        "attention_probs_dropout_prob": 0.0,
        "hidden_act": "silu",
        "activation_function": "swiglu",
    },
    names={
        "embeddings.tok_embeddings": "nomic_bert.embeddings.word_embeddings",
        "embeddings.token_types": "nomic_bert.embeddings.token_type_embeddings",
        "embeddings.norm": "nomic_bert.emb_ln",
        "layers.{i}.attn.Wqkv": "nomic_bert.encoder.layers.{i}.attn.Wqkv",
        "layers.{i}.attn.Wo": "nomic_bert.encoder.layers.{i}.attn.out_proj",
        "layers.{i}.attn_norm": "nomic_bert.encoder.layers.{i}.norm1",
        "layers.{i}.mlp.Wi": "nomic_bert.encoder.layers.{i}.mlp.:fc12|fc11",
        "layers.{i}.mlp.Wo": "nomic_bert.encoder.layers.{i}.mlp.fc2",
        "layers.{i}.mlp_norm": "nomic_bert.encoder.layers.{i}.norm2",
        "head.dense": "cls.predictions.transform.dense",
        "head.norm": "cls.predictions.transform.layer_norm",
        "decoder": "cls.predictions.decoder",
        "decoder.bias": "cls.predictions.bias",
    },
    normal=lambda name: re.sub(r"(predictions)\.decoder\.bias$", r"\1.bias", re.sub(r"^bert\.", "nomic_bert.", name)),
    # the release has no such bias, transformers' class has
    optional=r"head\.dense\.bias|decoder\.bias",
    unneeded=r"nomic_bert\.pooler\..*|.*inv_freq|cls\.predictions\.decoder\.weight",
)
"""nomic-ai's layout, which transformers 5 also writes but for the first word of the names."""


def _neobert_qkv(name: str, value: Tensor, config: EncoderConfig) -> Tensor:
    """Rows as (head, q k v, dimension) → ours, (q k v, head, dimension)."""
    if not name.endswith("Wqkv.weight"):
        return value
    return value.view(config.n_heads, 3, config.head_size, -1).transpose(0, 1).flatten(0, 2)


NEOBERT = PublishedLayout(
    architecture="NeoBERTLMHead",
    always=PLAIN
    | {"embedding_norm": False, "first_norm": True, "norm": "rmsnorm", "mlp": "swiglu", "head": "none"}
    | {"rope_style": "interleaved", "rope_theta": 10_000.0, "tied": False, "decoder_bias": True}
    | {"init": "uniform"},
    spelling=BODY
    | {"norm_eps": ("norm_eps",), "max_positions": ("max_length",), "init_std": ("embedding_init_range",)},
    defaults={"init_std": 0.02},
    # two thirds of what the config says, rounded up to a multiple of 8
    read=lambda config: {"intermediate_size": 8 * -(-int(2 * config["intermediate_size"] / 3) // 8)},
    write=None,
    names={
        "embeddings.tok_embeddings": "model.encoder",
        "layers.{i}.attn.Wqkv": "model.transformer_encoder.{i}.qkv",
        "layers.{i}.attn.Wo": "model.transformer_encoder.{i}.wo",
        "layers.{i}.attn_norm": "model.transformer_encoder.{i}.attention_norm",
        "layers.{i}.mlp.Wi": "model.transformer_encoder.{i}.ffn.w12",
        "layers.{i}.mlp.Wo": "model.transformer_encoder.{i}.ffn.w3",
        "layers.{i}.mlp_norm": "model.transformer_encoder.{i}.ffn_norm",
        "final_norm": "model.layer_norm",
        "decoder": "decoder",
    },
    arranged=_neobert_qkv,
)
"""chandar-lab's remote code, whose SwiGLU packs w1 (the activated half) over w2."""


def _read_esm(config: Json) -> Json:
    kind = config.get("position_embedding_type", "absolute")
    if kind != "rotary" or config.get("emb_layer_norm_before"):
        raise DataError(
            "config.json",
            f"has {kind} positions; of the ESM family, only ESM-2 with RoPE is known here",
            code="not-supported",
        )
    if config.get("is_folding_model"):
        raise DataError("config.json", "is a folding model, not a masked language model", code="not-supported")
    scaling = 0.15 * 0.8 if config.get("token_dropout") else 0.0
    return {"mask_scaling": scaling, "rope_theta": _theta({}, config.get("rope_theta"), 10_000.0)}


def _esm_frame(name: str, value: Tensor, config: EncoderConfig) -> Tensor:
    """`<cls>` and `<eos>` are the ids 0 and 2 of every release."""
    return value[[0, 2]] if name == "embeddings.frame.weight" else value


ESM = PublishedLayout(
    architecture="EsmForMaskedLM",
    always=PLAIN
    | {"embedding_norm": False, "first_norm": True, "norm_bias": True, "attention_bias": True, "mlp_bias": True}
    | {"mlp": "gelu", "head": "gelu", "head_bias": True, "decoder_bias": True, "frame": True}
    | {"init": "truncated_normal"},
    spelling=BODY
    | {
        "max_positions": ("max_position_embeddings",),
        "norm_eps": ("layer_norm_eps",),
        "tied": ("tie_word_embeddings",),
        "init_std": ("initializer_range",),
    },
    defaults={"tied": True, "norm_eps": 1e-5, "init_std": 0.02},
    read=_read_esm,
    write=None,
    names={
        "embeddings.tok_embeddings": "esm.embeddings.word_embeddings",
        "embeddings.frame": "esm.embeddings.word_embeddings",
        "layers.{i}.attn_norm": "esm.encoder.layer.{i}.attention.LayerNorm",
        "layers.{i}.attn.Wqkv": "esm.encoder.layer.{i}.attention.self.:query|key|value",
        "layers.{i}.attn.Wo": "esm.encoder.layer.{i}.attention.output.dense",
        "layers.{i}.mlp_norm": "esm.encoder.layer.{i}.LayerNorm",
        "layers.{i}.mlp.Wi": "esm.encoder.layer.{i}.intermediate.dense",
        "layers.{i}.mlp.Wo": "esm.encoder.layer.{i}.output.dense",
        "final_norm": "esm.encoder.emb_layer_norm_after",
        "head.dense": "lm_head.dense",
        "head.norm": "lm_head.layer_norm",
        "decoder": "lm_head.decoder",
        "decoder.bias": "lm_head.bias",
    },
    normal=_today,
    arranged=_esm_frame,
    unneeded=r"esm\.contact_head\..*|.*position_ids|.*position_embeddings\.weight|.*inv_freq|lm_head\.decoder\..*"
    r"|esm\.pooler\..*",
)
"""Meta's ESM-2 as transformers has it: what surrounds a sequence, and how masked positions are scaled, come along."""

LAYOUTS = {"modernbert": MODERNBERT, "nomic_bert": NOMIC, "bert": BERT, "neobert": NEOBERT, "esm": ESM}
"""By `model_type`."""


def _theta(rope: Json, *old: float | None) -> float:
    """θ from the new `rope_parameters` of one kind of layer, or the first of the old keys that was given."""
    if rope.get("rope_type", "default") != "default":
        raise DataError(
            "config.json", f"has rope_type {rope['rope_type']!r}; only plain RoPE is known here", code="not-supported"
        )
    return float(next(theta for theta in (rope.get("rope_theta"), *old) if theta is not None))
