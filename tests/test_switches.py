"""Every switch of the encoder is a key of a recipe, independent of the others, and does what the formulas say."""

import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))

from dense_encoder import reference

from maskseq.model.config import EncoderConfig
from maskseq.model.encoder import Encoder
from maskseq.recipe import load_recipe
from maskseq.types import Field, Vocabulary

RECIPE = {"data": {"files": ["a.fa"]}, "tokenizer": {"name": "nucleotide"}}
SMALL = ["n_layers=3", "hidden_size=32", "n_heads=2", "intermediate_size=24"]
LOCAL = ["global_every=2", "window=3"]
VOCABULARY = Vocabulary.of(
    [Field(name="activity", tokens=tuple("abcd"), controls=("[END]",)), Field(name="gap", tokens=("short", "long"))]
)
LENGTH = 19
FLIPS = {  # what is flipped, and what must hold on both sides of it
    "n_layers=2": [],
    "hidden_size=48": [],
    "n_heads=4": [],
    "intermediate_size=40": [],
    "positions=learned": ["max_positions=32"],
    "positions=sinusoidal": [],
    "max_positions=40": ["positions=learned"],
    "rope_theta=50": [],
    "rope_theta_local=50": LOCAL,
    "rope_fraction=0.5": [],
    "rope_style=interleaved": [],
    "global_every=3": LOCAL,
    "window=5": LOCAL,
    "mlp=gelu": [],
    "mlp=swiglu": [],
    "norm=rmsnorm": [],
    "norm_eps=0.1": [],
    "norm_bias=true": [],
    "placement=post": ["first_norm=true"],
    "embedding_norm=false": [],
    "first_norm=true": [],
    "final_norm=false": [],
    "attention_bias=true": [],
    "mlp_bias=true": [],
    "token_types=2": [],
    "phase_embeddings.periods=[3,7]": [],
    "ngram_embeddings.contexts=[[2,0],[0,1],[1,2]]": [],
    "head=none": [],
    "head=silu": [],
    "head_bias=true": [],
    "decoder_bias=false": [],
    "tied=false": [],
}
ELSEWHERE = {  # and the file that tests it
    "rope_fields": "test_coordinates.py",
    "rope_gaps": "test_coordinates.py",
    "rope_unit": "test_coordinates.py",
    "frame": "test_interop_esm.py",
    "mask_scaling": "test_interop_esm.py",
    "context_sees_target": "test_one_way.py",
    "next_head": "test_causal.py",
    "ngram_prior": "test_ngram.py",
    "ordinal_basis": "test_ordinal_basis.py",
    "linear_prior": "test_linear_prior.py",
    "reference": "test_reference.py",
    "embedding_dropout": "below, and test_dropout.py",
    "attention_dropout": "below, and test_dropout.py",
    "mlp_dropout": "below, and test_dropout.py",
    "init": "below, and test_encoder.py",
    "init_std": "below",
    "init_cutoff": "below",
}


def switch_of(flip: str) -> str:
    """The field of `EncoderConfig`."""
    return flip.partition("=")[0].partition(".")[0]


def config(*switches: str) -> EncoderConfig:
    """What `--set model.SWITCH` makes of the smallest preset."""
    overrides = ["packing.context=32", *(f"model.{switch}" for switch in (*SMALL, *switches))]
    return load_recipe(RECIPE, overrides).encoder_config(VOCABULARY)


def randomized(config: EncoderConfig) -> Encoder:
    """Every parameter is random, and the same in all encoders that have one of its name and shape."""
    model = Encoder(config, seed=0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            generator = torch.Generator().manual_seed(sum(name.encode()))
            centre = 1.0 if parameter.ndim == 1 and name.endswith("norm.weight") else 0.0
            parameter.copy_(torch.empty_like(parameter).normal_(centre, 0.25, generator=generator))
    return model


def row() -> tuple[Tensor, Tensor, Tensor, int]:
    generator = torch.Generator().manual_seed(0)
    ids = torch.stack([torch.randint(0, n, (LENGTH,), generator=generator) for n in VOCABULARY.n_rows], dim=1)
    return ids, torch.arange(LENGTH), torch.tensor([0, LENGTH], dtype=torch.int32), LENGTH


def logits(model: Encoder) -> list[Tensor]:
    with torch.no_grad():
        states = model(*row())
        return [model.logits(states, field) for field in range(VOCABULARY.n_fields)]


def test_every_switch_is_flipped_here_or_somewhere() -> None:
    flipped = {switch_of(flip) for flip in FLIPS}
    assert {f.name for f in fields(EncoderConfig)} - {"vocabulary"} == flipped | set(ELSEWHERE)


@pytest.mark.parametrize(("flip", "given"), FLIPS.items(), ids=FLIPS)
def test_flipping_a_switch_changes_what_the_formulas_change(flip: str, given: list[str]) -> None:
    name = switch_of(flip)
    base, flipped = config(*given), config(*given, flip)
    changed = {f.name for f in fields(EncoderConfig) if getattr(base, f.name) != getattr(flipped, f.name)}
    assert changed - {"max_positions"} == {name} - {"max_positions"}  # learned positions bring their own number

    model = randomized(flipped)
    parameters = {key: value.detach().double() for key, value in model.named_parameters()}
    _, expected = reference(flipped, parameters, row()[0])
    for ours, theirs in zip(logits(model), expected, strict=True):
        torch.testing.assert_close(ours.double(), theirs, atol=5e-5, rtol=1e-4)
    if name == "max_positions":
        assert len(model.embeddings.positions.weight) == 40
    else:
        differences = [(a - b).abs().max().item() for a, b in zip(logits(model), logits(randomized(base)), strict=True)]
        assert max(differences) > 1e-3


@pytest.mark.parametrize(
    ("switch", "silenced"),
    [
        ("embedding_dropout", r"embeddings.norm.weight"),
        ("attention_dropout", r"attn.Wo.weight"),
        ("mlp_dropout", r"mlp.Wo.weight"),
    ],
)
def test_dropout_that_drops_everything_is_an_encoder_without_that_part(switch: str, silenced: str) -> None:
    model, without = randomized(config(f"{switch}=0.999999999")), randomized(config())
    with torch.no_grad():
        for name, parameter in without.named_parameters():
            if name.endswith(silenced):
                parameter.zero_()
        dropped = model(*row(), dropout_keys=torch.tensor([1])).hidden_states
        torch.testing.assert_close(dropped, without(*row()).hidden_states, atol=1e-6, rtol=1e-5)
        assert (dropped - model(*row()).hidden_states).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("switches", "std", "largest"),
    [
        # of the matrices that feed a nonlinearity; the standard deviation of a unit normal cut at ±2 is 0.8796
        (["init=full_megatron"], 0.8796 * 0.02, 0.04),
        (["init=truncated_normal"], 0.8796 * 0.02, 0.04),
        (["init=truncated_normal", "init_cutoff=1"], 0.5396 * 0.02, 0.02),
        (["init=truncated_normal", "init_std=0.1"], 0.8796 * 0.1, 0.2),
        (["init=uniform"], 0.02 / np.sqrt(3), 0.02),
        (["init=normal"], 0.02, np.inf),
    ],
)
def test_initial_values_are_drawn_as_the_recipe_says(switches: list[str], std: float, largest: float) -> None:
    model = Encoder(config("hidden_size=96", *switches), seed=0)
    for layer in model.layers:
        weight = layer.attn.Wqkv.weight
        assert weight.std().item() == pytest.approx(std, rel=0.03)
        assert weight.abs().max().item() <= largest * (1 + 1e-6)
