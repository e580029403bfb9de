"""The encoder against the published formulas, written out again here in float64, one sequence at a time."""

import math
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch._dynamo.testing
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))

from dense_encoder import reference

from maskseq.errors import UsageError
from maskseq.model.config import EncoderConfig
from maskseq.model.encoder import Encoder
from maskseq.model.priors.config import NgramEmbeddingsConfig, PhaseEmbeddingsConfig
from maskseq.model.states import States
from maskseq.types import Field, Vocabulary

BASE = Field(name="base", tokens=tuple("ACGT"))
ACTIVITY = Field(name="activity", tokens=("register", "triage", "lab", "leave"), controls=("[OTHER]", "[END]"))
RESOURCE = Field(name="resource", tokens=("anna", "bo"), controls=("[ABSENT]",))
ONE = Vocabulary.of([BASE])
THREE = Vocabulary.of([ACTIVITY, RESOURCE, BASE])

SHAPE = {"n_layers": 3, "hidden_size": 32, "n_heads": 2, "intermediate_size": 24}
POST = {"placement": "post", "final_norm": False, "norm_bias": True}
SWITCHES = {
    "modernbert": {"global_every": 3, "window": 2, "rope_theta": 160_000.0},
    "bert": {**POST, "positions": "learned", "max_positions": 64, "mlp": "gelu", "attention_bias": True}
    | {"mlp_bias": True, "head_bias": True, "token_types": 2},
    "nomic": {**POST, "mlp": "swiglu", "head": "silu", "token_types": 2, "rope_theta": 1000.0, "norm_eps": 1e-12},
    "neobert": {"rope_style": "interleaved", "mlp": "swiglu", "norm": "rmsnorm", "embedding_norm": False}
    | {"first_norm": True, "head": "none", "tied": False},
    "biglm": {"rope_fraction": 0.25, "mlp": "swiglu", "norm_bias": True, "embedding_norm": False, "first_norm": True}
    | {"attention_bias": True, "mlp_bias": True, "head_bias": True},
    "vaswani": {**POST, "positions": "sinusoidal", "embedding_norm": False, "decoder_bias": False, "head": "none"},
    "partial interleaved, local": {"rope_fraction": 0.5, "rope_style": "interleaved", "global_every": 2, "window": 3}
    | {"rope_theta_local": 500.0, "tied": False, "first_norm": True},
    "neighbours and periods": {
        "ngram_embeddings": NgramEmbeddingsConfig(contexts=((3, 0), (0, 2), (1, 1))),
        "phase_embeddings": PhaseEmbeddingsConfig(periods=(3, 5)),
    },
}
LENGTHS = (11, 1, 6, 17)


def model_of(vocabulary: Vocabulary, **switches: object) -> Encoder:
    """A model whose every parameter, norms and biases included, is random and far from its initial value."""
    model = Encoder(EncoderConfig(vocabulary=vocabulary, **{**SHAPE, **switches}), seed=3)
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.empty_like(parameter).normal_(0, 0.15, generator=generator))
    return model


def pack(lengths: tuple[int, ...], vocabulary: Vocabulary, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, int]:
    generator = torch.Generator().manual_seed(seed)
    columns = [torch.randint(0, n, (sum(lengths),), generator=generator) for n in vocabulary.n_rows]
    positions = torch.cat([torch.arange(n) for n in lengths])
    cu_seqlens = torch.tensor([0, *torch.tensor(lengths).cumsum(0)], dtype=torch.int32)
    return torch.stack(columns, dim=1), positions.int(), cu_seqlens, max(lengths)


@pytest.mark.parametrize("vocabulary", [ONE, THREE], ids=["one field", "three fields"])
@pytest.mark.parametrize("switches", SWITCHES.values(), ids=SWITCHES.keys())
def test_a_packed_row_is_each_sequence_alone_by_the_formulas(switches: dict, vocabulary: Vocabulary) -> None:
    model = model_of(vocabulary, **switches)
    ids, positions, cu_seqlens, longest = pack(LENGTHS, vocabulary)
    states = model(ids, positions, cu_seqlens, longest)
    parameters = {name: p.detach().double() for name, p in model.named_parameters()}
    for start, stop in zip(cu_seqlens[:-1].tolist(), cu_seqlens[1:].tolist(), strict=True):
        expected_masked, expected_logits = reference(model.config, parameters, ids[start:stop])
        here = states[torch.arange(start, stop)]
        torch.testing.assert_close(here.hidden_states.double(), expected_masked, atol=2e-5, rtol=1e-4)
        for field, expected in enumerate(expected_logits):
            logits = model.logits(here, field)
            torch.testing.assert_close(logits.double(), expected, atol=2e-5, rtol=1e-4)


def test_rope_sees_only_distances() -> None:
    model = model_of(ONE, global_every=2, window=4)
    ids, positions, cu_seqlens, longest = pack((25,), ONE)
    plain, shifted = (model(ids, positions + n, cu_seqlens, longest).hidden_states for n in (0, 40))
    torch.testing.assert_close(shifted, plain, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("change", [{"rope_theta": 50.0}, {"rope_theta_local": 50.0}])
def test_a_changed_theta_takes_effect_at_once(change: dict[str, float]) -> None:
    """Context extension replaces `config`; no cached table may survive it."""
    model = model_of(ONE, global_every=2, window=4)
    row = pack((25,), ONE)
    before = model(*row).hidden_states
    model.config = replace(model.config, **change)
    fresh = Encoder(model.config)
    fresh.load_state_dict(model.state_dict())
    after = model(*row).hidden_states
    assert torch.equal(after, fresh(*row).hidden_states)
    assert (after - before).abs().max() > 1e-3


def test_ids_that_are_never_predicted_have_no_probability_and_no_gradient() -> None:
    imported = replace(ONE, n_outputs=(5,), unpredictable=((1, 4),))
    model = model_of(imported, tied=False)
    hidden = torch.randn(7, 32, generator=torch.Generator().manual_seed(0))
    logits = model.logits(States(hidden), 0)
    assert torch.isneginf(logits[:, [1, 4]]).all()
    assert logits[:, [0, 2, 3]].isfinite().all()
    logits.softmax(-1)[:, 0].sum().backward()
    assert model.decoder.weight.grad[[1, 4]].abs().max() == 0
    assert model.decoder.weight.grad[[0, 2, 3]].abs().min() > 0


# Precision


@pytest.mark.parametrize("how", ["bfloat16 stream", "autocast"])
def test_bfloat16_work_is_close_and_gradients_reach_float32_masters(how: str) -> None:
    model = model_of(THREE, n_layers=2, hidden_size=64, global_every=2, window=4)
    row = pack((30, 12), THREE)

    def gradients(dtype: torch.dtype | None, autocast: bool) -> dict[str, Tensor]:
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            states = model(*row, dtype=dtype)
            loss = sum(model.logits(states, f).float().logsumexp(-1).mean() for f in range(3))
        loss.backward()
        assert all(p.dtype == p.grad.dtype == torch.float32 for p in model.parameters())
        return {name: p.grad.clone() for name, p in model.named_parameters()}

    exact = gradients(None, False)
    rough = gradients(torch.bfloat16 if how == "bfloat16 stream" else None, how == "autocast")
    for name, gradient in exact.items():
        cosine = torch.cosine_similarity(gradient.flatten(), rough[name].flatten(), dim=0)
        assert cosine > 0.99, name


def test_rotation_is_exact_at_large_positions_of_a_bfloat16_stream() -> None:
    """bfloat16 cannot tell position 1995 from 2000; angles must not pass through it."""
    model = model_of(ONE, n_layers=1)
    ids, _, cu_seqlens, longest = pack((9,), ONE)
    places = (torch.arange(9), torch.arange(9) + 1995, torch.arange(9) * 3)
    near, far, spread = (model(ids, each, cu_seqlens, longest, dtype=torch.bfloat16).hidden_states for each in places)
    assert (near - far).abs().max() < 0.1
    assert (near - spread).abs().max() > 0.3


# Initial values


def test_initial_values_depend_on_the_seed_and_on_nothing_else() -> None:
    config = EncoderConfig(vocabulary=THREE, **SHAPE)
    state = torch.random.get_rng_state()
    one, again, other = (Encoder(config, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["layers.0.attn.Wqkv.weight"], other["layers.0.attn.Wqkv.weight"])
    assert torch.equal(state, torch.random.get_rng_state())


CUT = 0.8796  # standard deviation of a unit normal truncated at ±2
SCHEMES = [
    ("full_megatron", {"in": CUT * 0.02, "out": CUT * 0.02 / math.sqrt(12), "decoder": CUT / math.sqrt(96)}, 2),
    ("truncated_normal", {"in": CUT * 0.02, "out": CUT * 0.02, "decoder": CUT * 0.02}, 2),
    ("normal", {"in": 0.02, "out": 0.02, "decoder": 0.02}, None),
    ("uniform", {"in": 0.02 / math.sqrt(3), "out": 0.02 / math.sqrt(3), "decoder": 0.02 / math.sqrt(3)}, 1),
]


@pytest.mark.parametrize(("scheme", "stds", "cut"), SCHEMES, ids=[s[0] for s in SCHEMES])
def test_initial_spreads_are_the_published_ones(scheme: str, stds: dict[str, float], cut: float | None) -> None:
    many = Vocabulary(names=("token",), n_rows=(300,), n_outputs=(300,), mask_ids=(4,))
    shape = {"n_layers": 6, "hidden_size": 96, "n_heads": 2, "intermediate_size": 144}
    biases = {"attention_bias": True, "mlp_bias": True, "head_bias": True, "norm_bias": True}
    model = Encoder(EncoderConfig(vocabulary=many, **shape, **biases, init=scheme, tied=False))
    roles = {
        "in": [r"embeddings.tok_embeddings", "attn.Wqkv", "mlp.Wi", "head.dense"],
        "out": ["attn.Wo", "mlp.Wo"],
        "decoder": ["decoder"],
    }
    for role, suffixes in roles.items():
        for name, value in model.named_parameters():
            if value.ndim == 2 and any(name.endswith(f"{suffix}.weight") for suffix in suffixes):
                assert value.std().item() == pytest.approx(stds[role], rel=0.03), name
                if cut is not None:
                    base = 0.02 if scheme != "full_megatron" else stds[role] / CUT
                    assert value.abs().max() <= cut * base * 1.0001, name
    for name, value in model.named_parameters():
        if value.ndim == 1:
            assert (value == (1 if "norm" in name and name.endswith("weight") else 0)).all(), name


# The table of parameters, compilation, mistakes


def test_every_parameter_is_counted_once() -> None:
    model = Encoder(EncoderConfig(vocabulary=THREE, **SHAPE))
    # 3 layers of Wqkv, Wo, Wi, Wo and 2 norms (the first without one), the table, the norms, the dense, the bias
    layer = 32 * 96 + 32 * 32 + 32 * 48 + 24 * 32 + 2 * 32
    assert model.n_parameters == 3 * layer - 32 + 16 * 32 + 32 + 32 + 32 * 32 + 32 + 13


def test_the_encoder_is_one_graph_whatever_the_packing() -> None:
    model = model_of(THREE, global_every=2, window=4)
    torch._dynamo.reset()
    counter = torch._dynamo.testing.CompileCounter()
    compiled = torch.compile(model, backend=counter, fullgraph=True)
    for lengths in ((10, 20, 10), (5, 20, 7, 8), (20, 20)):
        row = pack(lengths, THREE)
        torch.testing.assert_close(compiled(*row).hidden_states, model(*row).hidden_states, atol=1e-5, rtol=1e-5)
    assert counter.frame_count <= 2  # a second one when the number of pieces first changes, and no more


def test_mistakes_say_what_to_do() -> None:
    def config(**switches: object) -> EncoderConfig:
        return EncoderConfig(vocabulary=ONE, **{**SHAPE, **switches})

    with pytest.raises(UsageError, match="hidden_size 33 is not a multiple of n_heads 2"):
        config(hidden_size=33)
    with pytest.raises(UsageError, match="window must say how far they see"):
        config(global_every=3)
    with pytest.raises(UsageError, match="even number"):
        config(rope_fraction=0.1)
    with pytest.raises(UsageError, match="mlp_dropout must be at least 0 and below 1, not 1"):
        config(mlp_dropout=1.0)
    model = Encoder(config(positions="learned", max_positions=16))
    with pytest.raises(UsageError, match="17 positions"):
        model(*pack((17,), ONE))
