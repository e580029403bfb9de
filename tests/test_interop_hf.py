"""Our encoder and transformers' on the same random weights: logits within 1e-4 both ways, padded and packed.

NeoBERT is not in transformers; its reference here is written from the formulas of its published code.
"""

import dataclasses
import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from maskseq.errors import DataError, UsageError
from maskseq.interop.convert import export_hf, import_hf
from maskseq.interop.published import LAYOUTS, NEOBERT
from maskseq.model.config import EncoderConfig
from maskseq.model.encoder import Encoder
from maskseq.model.presets import preset
from maskseq.tokenizer import Tokenizer
from maskseq.types import Encoded, Field, ListRecord, Vocabulary

transformers = pytest.importorskip("transformers")
transformers.utils.logging.disable_progress_bar()

N_IDS, MASK_ID, PAD_ID = 40, 4, 0
LENGTHS = (23, 1, 9, 30)
SHAPES = [
    {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24},
    {"hidden_size": 48, "num_hidden_layers": 4, "num_attention_heads": 3, "intermediate_size": 96},
    {"hidden_size": 128, "num_hidden_layers": 7, "num_attention_heads": 2, "intermediate_size": 192},
]


def modernbert(**options: Any) -> Any:
    ids = {"pad_token_id": PAD_ID, **dict.fromkeys(("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"))}
    return transformers.ModernBertForMaskedLM(transformers.ModernBertConfig(vocab_size=N_IDS, **ids, **options))


def bert(**options: Any) -> Any:
    return transformers.BertForMaskedLM(transformers.BertConfig(vocab_size=N_IDS, pad_token_id=PAD_ID, **options))


def nomic(**options: Any) -> Any:
    config = transformers.NomicBertConfig(vocab_size=N_IDS, pad_token_id=PAD_ID, **options)
    return transformers.NomicBertForMaskedLM(config)


ROPE = {"full_attention": {"rope_type": "default", "rope_theta": 5_000.0}} | {
    "sliding_attention": {"rope_type": "default", "rope_theta": 300.0}
}
MODERN_BIASES = dict.fromkeys(("norm_bias", "attention_bias", "mlp_bias", "classifier_bias"), True)
OPTIONS = [
    (modernbert, {"local_attention": 8}),
    (modernbert, {"local_attention": 4, "global_attn_every_n_layers": 2, "rope_parameters": ROPE}),
    (modernbert, {"hidden_activation": "silu", "classifier_activation": "silu", **MODERN_BIASES}),
    (modernbert, {"tie_word_embeddings": False, "norm_eps": 1e-3}),
    (modernbert, {"layer_types": None, "global_attn_every_n_layers": 1, "decoder_bias": False}),
    (bert, {"max_position_embeddings": 64}),
    (bert, {"max_position_embeddings": 32, "type_vocab_size": 1, "layer_norm_eps": 1e-5}),
    (nomic, {}),
    (nomic, {"rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0}, "type_vocab_size": 1}),
]
PARAMETERS = pytest.mark.parametrize(
    ("make", "options"), OPTIONS, ids=[f"{m.__name__} {' '.join(o)}" for m, o in OPTIONS]
)


def randomized(model: Any) -> Any:
    """The model with all parameters, norms and biases included, moved away from their initial values."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.empty_like(parameter).normal_(0, 0.1, generator=generator))
    return model.eval()


def saved(model: Any, folder: Path) -> Path:
    model.save_pretrained(folder)
    return folder


def sequences() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(1, N_IDS, (n,), generator=generator) for n in LENGTHS]


def hf_padded(model: Any, batch: list[Tensor]) -> list[Tensor]:
    """Logits of each sequence from one padded batch."""
    ids = torch.nn.utils.rnn.pad_sequence(batch, batch_first=True, padding_value=PAD_ID)
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(s) for s in batch], batch_first=True)
    with torch.no_grad():
        logits = model(input_ids=ids, attention_mask=mask).logits
    return [row[: len(s)] for row, s in zip(logits, batch, strict=True)]


def ours_packed(model: Encoder, batch: list[Tensor]) -> list[Tensor]:
    """Logits of each sequence from one packed row, in another order."""
    order = [2, 0, 3, 1]
    chosen = [batch[i] for i in order]
    lengths = [len(s) for s in chosen]
    cu_seqlens = torch.tensor(np.cumsum([0, *lengths]), dtype=torch.int32)
    positions = torch.cat([torch.arange(n) for n in lengths])
    with torch.no_grad():
        states = model(torch.cat(chosen)[:, None], positions, cu_seqlens, max(lengths))
        segments = model.logits(states, 0).split(lengths)
    return [segments[order.index(i)] for i in range(len(batch))]


def assert_same_logits(ours: list[Tensor], theirs: list[Tensor], ids: list[int]) -> None:
    for a, b in zip(ours, theirs, strict=True):
        assert b[:, ids].abs().max() > 0.3  # there is something to be wrong about
        torch.testing.assert_close(a[:, ids], b[:, ids], atol=1e-4, rtol=0)


PREDICTABLE = [i for i in range(N_IDS) if i != MASK_ID]


@pytest.mark.parametrize("shape", SHAPES, ids=["1 layer", "4 layers", "7 layers"])
@PARAMETERS
def test_transformers_models_compute_the_same_here(make: Any, options: dict, shape: dict, tmp_path: Path) -> None:
    theirs = randomized(make(**shape, **options))
    ours, tokenizer = import_hf(saved(theirs, tmp_path), mask_id=MASK_ID)
    assert tokenizer is None
    assert_same_logits(ours_packed(ours, sequences()), hf_padded(theirs, sequences()), PREDICTABLE)
    assert all(torch.isneginf(logits[:, MASK_ID]).all() for logits in ours_packed(ours, sequences()))


@PARAMETERS
def test_import_export_import_is_bit_equal_and_transformers_agrees(make: Any, options: dict, tmp_path: Path) -> None:
    theirs = randomized(make(**SHAPES[1], **options))
    ours, _ = import_hf(saved(theirs, tmp_path / "1"), mask_id=MASK_ID)
    assert export_hf(ours, tmp_path / "2") == type(theirs).__name__
    again, _ = import_hf(tmp_path / "2", mask_id=MASK_ID)
    assert again.config == ours.config
    state = again.state_dict()
    assert state.keys() == ours.state_dict().keys()
    assert all(torch.equal(value, state[name]) for name, value in ours.state_dict().items())

    back, loading = type(theirs).from_pretrained(tmp_path / "2", output_loading_info=True)
    assert not any(loading.values())
    before, after = theirs.state_dict(), back.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert_same_logits(hf_padded(back.eval(), sequences()), hf_padded(theirs, sequences()), list(range(N_IDS)))


# Encoders of our own


@dataclass(frozen=True, kw_only=True)
class Segments(Tokenizer[ListRecord]):
    """A tokenizer of the tests' own: values are tokens."""

    tokens: tuple[str, ...] = tuple("ACGT")
    controls: tuple[str, ...] = ()

    @property
    def fields(self) -> tuple[Field, ...]:  # type: ignore[override]
        return (Field(name="piece", tokens=self.tokens, controls=self.controls),)

    def encode(self, record: ListRecord) -> Encoded:
        return Encoded(np.array([[self.tokens.index(str(v))] for v in record.values], dtype=np.uint8))

    def decode(self, ids: np.ndarray) -> list[str]:
        return [self.fields[0].token(i) for i in ids[:, 0]]


TOKENIZERS = {
    "bases": Segments(),
    "activities": Segments(tokens=("register", "triage", "lab", "leave"), controls=("[OTHER]", "[END]")),
    "spaced": Segments(tokens=("take blood", "go home", "wait"), controls=("[ABSENT]",)),
}
SMALL = {"n_layers": 3, "hidden_size": 32, "n_heads": 2, "intermediate_size": 48}
POST = {"placement": "post", "final_norm": False}
NATIVE = [
    ("ModernBertForMaskedLM", {}),
    ("ModernBertForMaskedLM", {"global_every": 2, "window": 3, "rope_theta": 900.0, "mlp": "swiglu"}),
    ("ModernBertForMaskedLM", {"tied": False, "decoder_bias": False}),
    ("BertForMaskedLM", {"positions": "learned", "max_positions": 64, "mlp": "gelu", **POST}),
    ("NomicBertForMaskedLM", {"mlp": "swiglu", "head": "silu", **POST}),
]


def load_hf(folder: Path) -> Any:
    model, loading = transformers.AutoModelForMaskedLM.from_pretrained(folder, output_loading_info=True)
    assert not any(loading.values())
    return model.eval()


@pytest.mark.parametrize("tokenizer", TOKENIZERS.values(), ids=TOKENIZERS.keys())
@pytest.mark.parametrize(("architecture", "switches"), NATIVE, ids=[f"{n} {' '.join(s)}" for n, s in NATIVE])
def test_our_encoders_compute_the_same_in_transformers(
    architecture: str, switches: dict, tokenizer: Segments, tmp_path: Path
) -> None:
    """Some lack biases, or BERT's segment table: those are exported as zeros."""
    field = tokenizer.fields[0]
    ours = randomized(Encoder(EncoderConfig(vocabulary=tokenizer.vocabulary, **SMALL, **switches)))
    assert export_hf(ours, tmp_path, tokenizer=tokenizer) == architecture
    theirs = load_hf(tmp_path)
    assert type(theirs).__name__ == architecture
    assert theirs.config.vocab_size == field.n_rows + 1
    assert theirs.config.pad_token_id == field.n_rows

    batch = [s % field.n_rows for s in sequences()]
    ids = torch.nn.utils.rnn.pad_sequence(batch, batch_first=True, padding_value=field.n_rows)
    with torch.no_grad():
        logits = theirs(input_ids=ids, attention_mask=(ids != field.n_rows).long()).logits
    for row, expected in zip(logits, ours_packed(ours, batch), strict=True):
        torch.testing.assert_close(row[: len(expected), : field.n_predictable], expected, atol=1e-4, rtol=0)
        # [MASK] and [PAD] have no chance
        assert row[: len(expected)].softmax(-1)[:, field.n_predictable :].max() < 1e-20

    # and the folder comes back as the native encoder it was
    again, back = import_hf(tmp_path, trust_code=True)
    assert back == tokenizer
    assert again.config.vocabulary == ours.config.vocabulary
    for a, b in zip(ours_packed(again, batch), ours_packed(ours, batch), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=0)


TEXTS = {
    "bases": ("ACG[MASK]TAC", [0, 1, 2, 4, 3, 0, 1]),
    "activities": ("register triage [MASK] leave", [0, 1, 6, 3]),
    "spaced": ("take blood\t[MASK]\twait", [0, 4, 2]),
}


@pytest.mark.parametrize("kind", TEXTS)
def test_an_export_runs_under_the_fill_mask_pipeline(kind: str, tmp_path: Path) -> None:
    tokenizer, (text, ids) = TOKENIZERS[kind], TEXTS[kind]
    ours = randomized(Encoder(preset("nano", tokenizer.vocabulary, **SMALL)))
    export_hf(ours, tmp_path, tokenizer=tokenizer)
    fill = transformers.pipeline("fill-mask", model=str(tmp_path), tokenizer=str(tmp_path), device="cpu")
    assert fill.tokenizer(text)["input_ids"] == ids

    field = tokenizer.fields[0]
    with torch.no_grad():
        cu_seqlens = torch.tensor([0, len(ids)], dtype=torch.int32)
        states = ours(torch.tensor(ids)[:, None], torch.arange(len(ids)), cu_seqlens, len(ids))
        expected = ours.logits(states[torch.tensor([ids.index(field.mask_id)])], 0)[0].softmax(-1)
    found = {answer["token_str"]: answer["score"] for answer in fill(text, top_k=field.n_predictable)}
    assert found == pytest.approx({field.token(i): p.item() for i, p in enumerate(expected)}, abs=1e-5)


def test_what_is_no_token_is_unknown(tmp_path: Path) -> None:
    for kind, text, ids in (("bases", "AC N", [0, 1, 4]), ("activities", "triage dance", [1, 4])):
        tokenizer = TOKENIZERS[kind]
        export_hf(Encoder(preset("nano", tokenizer.vocabulary)), tmp_path / kind, tokenizer=tokenizer)
        assert transformers.AutoTokenizer.from_pretrained(tmp_path / kind)(text)["input_ids"] == ids


def test_an_encoder_that_transformers_has_not_is_refused_with_the_reasons(tmp_path: Path) -> None:
    vocabulary = TOKENIZERS["bases"].vocabulary
    two = Vocabulary.of([Field(name="a", tokens=("x",)), Field(name="b", tokens=("y", "z"))])
    with pytest.raises(UsageError, match=r"reads 2: a, b\n\nhint: export it to ONNX"):
        export_hf(Encoder(preset("nano", two)), tmp_path)
    with pytest.raises(UsageError) as error:
        export_hf(Encoder(preset("nano", vocabulary, norm="rmsnorm", rope_fraction=0.5)), tmp_path)
    assert "ModernBertForMaskedLM cannot have rope_fraction = 0.5 (not 1.0), norm = 'rmsnorm'" in str(error.value)
    with pytest.raises(UsageError, match=r"BertForMaskedLM cannot have .*placement = 'pre'"):
        export_hf(Encoder(preset("nano", vocabulary)), tmp_path, model_type="bert")
    with pytest.raises(UsageError, match="modernbert, nomic_bert, bert"):
        export_hf(Encoder(preset("nano", vocabulary)), tmp_path, model_type="roberta")
    assert not list(tmp_path.iterdir())


# Layouts as they were published


def test_modernbert_in_the_spelling_of_its_release(tmp_path: Path) -> None:
    theirs = randomized(modernbert(**SHAPES[2], local_attention=6, rope_parameters=ROPE))
    saved(theirs, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["layer_types"], config["rope_parameters"]
    config |= {"global_attn_every_n_layers": 3, "global_rope_theta": 5_000.0, "local_rope_theta": 300.0}
    (tmp_path / "config.json").write_text(json.dumps(config))
    ours, _ = import_hf(tmp_path, mask_id=MASK_ID)
    assert_same_logits(ours_packed(ours, sequences()), hf_padded(theirs, sequences()), PREDICTABLE)


def test_an_export_is_spelled_for_old_and_new_readers(tmp_path: Path) -> None:
    vocabulary = TOKENIZERS["bases"].vocabulary
    export_hf(Encoder(preset("ettin-17m", vocabulary, hidden_size=32, n_heads=2)), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    kinds = [kind.removesuffix("_attention") for kind in config["layer_types"]]
    assert kinds == ["full", "sliding", "sliding", "full", "sliding", "sliding", "full"]
    assert config["global_attn_every_n_layers"] == 3
    assert config["rope_parameters"]["full_attention"]["rope_theta"] == config["global_rope_theta"] == 160_000
    assert config["rope_parameters"]["sliding_attention"]["rope_theta"] == config["local_rope_theta"] == 10_000
    assert config["local_attention"] == 128


SPELLINGS = {
    "ModernBertForMaskedLM": (
        {"layer_types", "rope_parameters"},
        {"global_attn_every_n_layers", "global_rope_theta", "local_rope_theta"},
        {"global_every": 2, "window": 3, "rope_theta": 900.0, "rope_theta_local": 70.0},
    ),
    "NomicBertForMaskedLM": (
        {"num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size", "max_position_embeddings"}
        | {"hidden_act", "layer_norm_eps", "rope_parameters", "hidden_dropout_prob"},
        {"n_layer", "n_embd", "n_head", "n_inner", "n_positions", "max_trained_positions", "activation_function"}
        | {"layer_norm_epsilon", "rotary_emb_base", "resid_pdrop", "embd_pdrop"},
        {"mlp": "swiglu", "head": "silu", "rope_theta": 900.0, "norm_eps": 1e-7, "max_positions": 64, **POST},
    ),
}
"""New keys, old keys, and switches whose values are nobody's default."""


@pytest.mark.parametrize("architecture", SPELLINGS)
def test_an_export_is_understood_by_its_new_keys_alone_and_by_its_old_ones(architecture: str, tmp_path: Path) -> None:
    new, old, switches = SPELLINGS[architecture]
    tokenizer = TOKENIZERS["bases"]
    ours = randomized(Encoder(EncoderConfig(vocabulary=tokenizer.vocabulary, **SMALL, **switches)))
    export_hf(ours, tmp_path, tokenizer=tokenizer)
    whole = json.loads((tmp_path / "config.json").read_text())
    assert new | old <= whole.keys() | {"hidden_dropout_prob", "resid_pdrop", "embd_pdrop"}
    batch = [s % 5 for s in sequences()]
    for left_out in (old, new):
        (tmp_path / "config.json").write_text(json.dumps({k: v for k, v in whole.items() if k not in left_out}))
        again, _ = import_hf(tmp_path, trust_code=True)
        for a, b in zip(ours_packed(again, batch), ours_packed(ours, batch), strict=True):
            torch.testing.assert_close(a, b, atol=1e-6, rtol=0)
    (tmp_path / "config.json").write_text(json.dumps({k: v for k, v in whole.items() if k not in old}))
    for a, b in zip(hf_padded(load_hf(tmp_path), batch), ours_packed(ours, batch), strict=True):
        torch.testing.assert_close(a[:, :4], b, atol=1e-4, rtol=0)


def test_nomic_as_its_own_repository_has_it(tmp_path: Path) -> None:
    """Names begin with `bert.`, the config is GPT-2's, the dense layer has no bias and the decoder may have none."""
    theirs = randomized(nomic(**SHAPES[1]))
    with torch.no_grad():
        theirs.cls.predictions.transform.dense.bias.zero_()
        theirs.cls.predictions.decoder.bias.zero_()
    saved(theirs, tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    for name in ("cls.predictions.transform.dense.bias", "cls.predictions.bias"):
        del tensors[name]
    renamed = {name.replace("nomic_bert.", "bert."): value for name, value in tensors.items()}
    save_file(renamed, tmp_path / "model.safetensors")
    config = {"model_type": "nomic_bert", "n_embd": 48, "n_layer": 4, "n_head": 3, "n_inner": 96, "n_positions": 2048}
    config |= {"activation_function": "swiglu", "layer_norm_epsilon": 1e-12, "rotary_emb_base": 1000, "prenorm": False}
    config |= {"rotary_emb_fraction": 1.0, "rotary_emb_interleaved": False, "vocab_size": N_IDS, "type_vocab_size": 2}
    config |= {"resid_pdrop": 0.1, "embd_pdrop": 0.1}
    (tmp_path / "config.json").write_text(json.dumps(config))
    ours, _ = import_hf(tmp_path, mask_id=MASK_ID)
    assert_same_logits(ours_packed(ours, sequences()), hf_padded(theirs, sequences()), PREDICTABLE)


def test_bert_of_2018_with_gamma_beta_and_its_other_heads(tmp_path: Path) -> None:
    config = transformers.BertConfig(vocab_size=N_IDS, pad_token_id=PAD_ID, max_position_embeddings=64, **SHAPES[1])
    theirs = randomized(transformers.BertForPreTraining(config))
    saved(theirs, tmp_path)
    old = {".LayerNorm.weight": ".LayerNorm.gamma", ".LayerNorm.bias": ".LayerNorm.beta"}
    tensors = load_file(tmp_path / "model.safetensors")
    for new, name in old.items():
        tensors = {key.replace(new, name): value for key, value in tensors.items()}
    save_file(tensors, tmp_path / "model.safetensors")
    ours, _ = import_hf(tmp_path, mask_id=MASK_ID)
    masked = transformers.BertForMaskedLM(config).eval()
    masked.load_state_dict({k: v for k, v in theirs.state_dict().items() if k in masked.state_dict()})
    assert_same_logits(ours_packed(ours, sequences()), hf_padded(masked, sequences()), PREDICTABLE)


def neobert_reference(tensors: dict[str, Tensor], ids: Tensor, n_layers: int, n_heads: int, eps: float) -> Tensor:
    """One sequence through NeoBERT (model.py of the release), in float64; rotations as complex products."""
    p = {name: value.double() for name, value in tensors.items()}
    hidden_size = p["model.encoder.weight"].shape[1]
    dim, length = hidden_size // n_heads, len(ids)

    def rms(x: Tensor, name: str) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * p[f"{name}.weight"]

    frequencies = 1 / 10_000 ** (torch.arange(0, dim, 2).double() / dim)
    turns = torch.polar(torch.ones(length, dim // 2).double(), torch.outer(torch.arange(length).double(), frequencies))

    def rotated(x: Tensor) -> Tensor:  # [length, heads, dim]
        pairs = torch.view_as_complex(x.reshape(length, n_heads, dim // 2, 2).contiguous())
        return torch.view_as_real(pairs * turns[:, None]).flatten(2)

    x = p["model.encoder.weight"][ids]
    for i in range(n_layers):
        at = f"model.transformer_encoder.{i}"
        qkv = rms(x, f"{at}.attention_norm") @ p[f"{at}.qkv.weight"].T
        q, k, v = qkv.view(length, n_heads, 3 * dim).chunk(3, dim=-1)
        scores = torch.einsum("ihd,jhd->hij", rotated(q), rotated(k)) / math.sqrt(dim)
        mixed = torch.einsum("hij,jhd->ihd", scores.softmax(-1), v).flatten(1)
        x = x + mixed @ p[f"{at}.wo.weight"].T
        a, b = (rms(x, f"{at}.ffn_norm") @ p[f"{at}.ffn.w12.weight"].T).chunk(2, dim=-1)
        x = x + (a * a.sigmoid() * b) @ p[f"{at}.ffn.w3.weight"].T
    return rms(x, "model.layer_norm") @ p["decoder.weight"].T + p["decoder.bias"]


@pytest.mark.parametrize("shape", SHAPES, ids=["1 layer", "4 layers", "7 layers"])
def test_neobert_computes_what_its_published_code_does(shape: dict[str, int], tmp_path: Path) -> None:
    d, n_layers, n_heads = shape["hidden_size"], shape["num_hidden_layers"], shape["num_attention_heads"]
    wide = 8 * math.ceil(int(2 * shape["intermediate_size"] / 3) / 8)
    generator = torch.Generator().manual_seed(0)
    shapes = {"model.encoder.weight": (N_IDS, d), "model.layer_norm.weight": (d,)}
    shapes |= {"decoder.weight": (N_IDS, d), "decoder.bias": (N_IDS,)}
    for i in range(n_layers):
        at = f"model.transformer_encoder.{i}"
        shapes |= {f"{at}.qkv.weight": (3 * d, d), f"{at}.wo.weight": (d, d), f"{at}.ffn.w12.weight": (2 * wide, d)}
        shapes |= {f"{at}.ffn.w3.weight": (d, wide), f"{at}.attention_norm.weight": (d,), f"{at}.ffn_norm.weight": (d,)}
    tensors = {k: torch.empty(s).normal_(0, 0.2, generator=generator) for k, s in shapes.items()}
    save_file(tensors, tmp_path / "model.safetensors")
    config = {"architectures": ["NeoBERTLMHead"], "model_type": "neobert", "norm_eps": 1e-5, "vocab_size": N_IDS}
    config |= {"max_length": 4096, "dim_head": d // n_heads, **shape}
    (tmp_path / "config.json").write_text(json.dumps(config))

    ours, _ = import_hf(tmp_path, mask_id=MASK_ID)
    expected = [neobert_reference(tensors, ids, n_layers, n_heads, 1e-5).float() for ids in sequences()]
    assert_same_logits(ours_packed(ours, sequences()), expected, PREDICTABLE)


@pytest.mark.parametrize("name", ["bert-base", "modernbert-base", "nomic-bert-2048", "neobert"])
def test_presets_are_what_their_published_configs_import_as(name: str, tmp_path: Path) -> None:
    """The small body is ours, every other switch is read from a config as its publisher spells it."""
    small = {"n_layers": 3, "hidden_size": 32, "n_heads": 2, "intermediate_size": 48}
    body = {"num_hidden_layers": 3, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 48}
    vocabulary = Vocabulary(names=("token",), n_rows=(N_IDS,), n_outputs=(N_IDS,), mask_ids=(MASK_ID,))
    config = preset(name, replace(vocabulary, unpredictable=((MASK_ID,),)), **small)
    if name == "neobert":
        published = {**body, "intermediate_size": 72, "norm_eps": 1e-5, "max_length": 4096}
        assert EncoderConfig(vocabulary=config.vocabulary, **NEOBERT.switches(published)) == config
        return
    make = {"bert-base": bert, "modernbert-base": modernbert, "nomic-bert-2048": nomic}[name]
    imported, _ = import_hf(saved(make(**body), tmp_path), mask_id=MASK_ID)
    training = dict.fromkeys(("embedding_dropout", "attention_dropout", "mlp_dropout"), 0.0)
    wanted = replace(config, **training)
    if name == "nomic-bert-2048":
        wanted = replace(wanted, head_bias=True)  # transformers' class has it
    assert replace(imported.config, **training) == wanted


# Vocabularies and mistakes


def test_special_tokens_of_a_foreign_tokenizer_are_never_predicted(tmp_path: Path) -> None:
    from tokenizers import Tokenizer as FastTokenizer
    from tokenizers.models import WordLevel

    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "<gap>"]
    fast = FastTokenizer(WordLevel({t: i for i, t in enumerate([*specials, *"ACGT"])}, unk_token="[UNK]"))
    wrapped = transformers.PreTrainedTokenizerFast(
        tokenizer_object=fast, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        mask_token="<gap>",
    )  # fmt: skip
    saved(bert(**SHAPES[0]), tmp_path)
    wrapped.save_pretrained(tmp_path)
    ours, _ = import_hf(tmp_path)
    assert ours.config.vocabulary.mask_ids == (4,)
    assert ours.config.vocabulary.unpredictable == ((0, 1, 2, 3, 4),)


def test_a_tokenizer_of_ours_picks_its_rows_out_of_a_foreign_vocabulary(tmp_path: Path) -> None:
    """As for a genome model whose letters stand behind special tokens: the same scores for the same letters."""
    texts = ["[PAD]", "T", "[UNK]", "A", "[MASK]", "G", "N", "C"]
    theirs = randomized(bert(**SHAPES[1]))
    saved(theirs, tmp_path)
    (tmp_path / "vocab.txt").write_text("\n".join(texts))
    for tied in (True, False):
        edit(tmp_path, tie_word_embeddings=tied)
        if not tied:
            rows = torch.randn(N_IDS, 48, generator=torch.Generator().manual_seed(0)) / 10  # the bound is absolute
            decoder = {"cls.predictions.decoder.weight": rows}
            save_file(load_file(tmp_path / "model.safetensors") | decoder, tmp_path / "model.safetensors")
        ours, tokenizer = import_hf(tmp_path, tokenizer=TOKENIZERS["bases"])
        assert tokenizer == TOKENIZERS["bases"]
        assert ours.config.vocabulary == tokenizer.vocabulary
        foreign, _ = import_hf(tmp_path)
        letters = torch.tensor([texts.index(text) for text in [*"ACGT", "[MASK]"]])
        batch = [s % 5 for s in sequences()]
        for a, b in zip(ours_packed(ours, batch), ours_packed(foreign, [letters[s] for s in batch]), strict=True):
            torch.testing.assert_close(a, b[:, letters[:4]], atol=1e-6, rtol=1e-5)
    with pytest.raises(UsageError, match="has no token register, triage, lab and 3 more, which Segments writes"):
        import_hf(tmp_path, tokenizer=TOKENIZERS["activities"])


def test_a_vocab_txt_names_the_specials_too(tmp_path: Path) -> None:
    saved(bert(**SHAPES[0]), tmp_path)
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", *"ABC", "[UNK]", "[MASK]", *"DEFG"]))
    ours, _ = import_hf(tmp_path)
    assert ours.config.vocabulary.mask_ids == (5,)
    assert ours.config.vocabulary.unpredictable == ((0, 4, 5),)


def test_shards_are_read_through_their_index(tmp_path: Path) -> None:
    theirs = randomized(bert(**SHAPES[1]))
    theirs.save_pretrained(tmp_path, max_shard_size="20KB")
    assert not (tmp_path / "model.safetensors").exists()
    ours, _ = import_hf(tmp_path, mask_id=MASK_ID)
    assert_same_logits(ours_packed(ours, sequences()), hf_padded(theirs, sequences()), PREDICTABLE)


def edit(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


def test_folders_that_cannot_be_read_right_are_refused(tmp_path: Path) -> None:
    def fresh(make: Any = bert, **options: Any) -> Path:
        return saved(make(**SHAPES[1], **options), tmp_path)

    with pytest.raises(UsageError, match="says which id is \\[MASK\\]\n\nhint: pass mask_id"):
        import_hf(fresh())
    cases: list[tuple[dict[str, Any], str]] = [
        ({"model_type": "roberta"}, "model_type 'roberta'"),
        ({"hidden_act": "relu"}, "hidden_act is relu"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type 'relative_key'"),
        ({"num_hidden_layers": None}, "num_hidden_layers is missing"),
        ({"num_hidden_layers": 5}, r"lacks bert\.encoder\.layer\.4\.attention"),
        ({"num_hidden_layers": 3}, r"has bert\.encoder\.layer\.3\..* for which there is no place"),
        ({"vocab_size": 39}, r"tok_embeddings.*\(40, 48\)"),
    ]
    for changes, message in cases:
        edit(fresh(), **changes)
        with pytest.raises(DataError, match=message):
            import_hf(tmp_path, mask_id=MASK_ID)
    stretched = {"full_attention": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 2.0}}
    edit(fresh(modernbert), rope_parameters=stretched)
    with pytest.raises(DataError, match="rope_type 'yarn'; only plain RoPE"):
        import_hf(tmp_path, mask_id=MASK_ID)
    edit(fresh(modernbert), layer_types=["sliding_attention", "full_attention"] * 2)
    with pytest.raises(DataError, match="layer_types makes other layers global"):
        import_hf(tmp_path, mask_id=MASK_ID)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    edit(tmp_path, layer_types=["full_attention"] * 4)
    with pytest.raises(DataError, match="is a pickle, which can run code"):
        import_hf(tmp_path, mask_id=MASK_ID)


@pytest.mark.parametrize("kind", LAYOUTS)
def test_no_switch_of_a_published_model_is_a_default_of_ours(kind: str) -> None:
    """With what the smallest config of each may leave unsaid."""
    sizes = ("num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size", "vocab_size")
    least: dict[str, Any] = dict.fromkeys(sizes, 12) | {"max_position_embeddings": 64, "max_length": 64}
    least |= {"hidden_act": {"bert": "gelu", "nomic_bert": "silu"}.get(kind), "type_vocab_size": 2}
    least |= {"norm_eps": 1e-5, "layer_norm_eps": 1e-5}
    least |= {"position_embedding_type": "rotary"} if kind == "esm" else {}
    switches = LAYOUTS[kind].switches(least)
    assert switches.keys() == {field.name for field in dataclasses.fields(EncoderConfig)} - {"vocabulary"}


def test_modernbert_of_few_words_is_what_transformers_makes_of_it() -> None:
    theirs = transformers.ModernBertConfig().to_dict()
    message = {name: theirs[name] for name in ("hidden_size", "num_attention_heads", "intermediate_size")}
    least = LAYOUTS["modernbert"].switches(message | {"num_hidden_layers": theirs["num_hidden_layers"]})
    assert least == LAYOUTS["modernbert"].switches(theirs)
