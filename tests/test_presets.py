"""Presets against the numbers that were published: parameter counts of the released models, and the patterns."""

import pytest
import torch

from maskseq.errors import UsageError
from maskseq.model.encoder import Encoder
from maskseq.model.presets import PRESETS, preset
from maskseq.model.priors.config import NgramEmbeddingsConfig, NgramPriorConfig, PhaseEmbeddingsConfig
from maskseq.types import Field, Vocabulary

DNA = Vocabulary.of([Field(name="base", tokens=tuple("ACGT"))])


def text(n: int) -> Vocabulary:
    return Vocabulary(names=("token",), n_rows=(n,), n_outputs=(n,), mask_ids=(103,))


def count(name: str, vocabulary: Vocabulary) -> int:
    with torch.device("meta"):
        return Encoder(preset(name, vocabulary), seed=None).n_parameters


def transformers_count(name: str) -> int:
    transformers = pytest.importorskip("transformers")
    with torch.device("meta"):
        if name == "bert-base":
            model = transformers.BertForMaskedLM(transformers.BertConfig())
        elif name.startswith("modernbert"):
            large = {"hidden_size": 1024, "intermediate_size": 2624, "num_hidden_layers": 28, "num_attention_heads": 16}
            config = transformers.ModernBertConfig(**(large if name.endswith("large") else {}))
            model = transformers.ModernBertForMaskedLM(config)
        else:
            model = transformers.NomicBertForMaskedLM(transformers.NomicBertConfig())
    return sum({id(p): p.numel() for p in model.parameters()}.values())


@pytest.mark.parametrize(
    ("name", "rows", "extra"),
    [
        ("bert-base", 30522, 0),
        ("modernbert-base", 50368, 0),
        ("modernbert-large", 50368, 0),
        ("nomic-bert-2048", 30528, 768),  # transformers gives the dense layer a bias that the release does not have
    ],
)
def test_presets_have_as_many_parameters_as_transformers_default_models(name: str, rows: int, extra: int) -> None:
    assert count(name, text(rows)) + extra == transformers_count(name)


@pytest.mark.parametrize(
    ("name", "rows", "millions"),
    [
        # The published sizes: the names of the Ettin models (vocabulary 50,368) and the papers' abstracts.
        ("ettin-17m", 50368, 17),
        ("ettin-32m", 50368, 32),
        ("ettin-68m", 50368, 68),
        ("ettin-150m", 50368, 150),
        ("ettin-400m", 50368, 400),
        ("ettin-1b", 50368, 1000),
        ("neobert", 30522, 250),
        ("biglm-base", 30592, 110),
        ("modernbert-base", 50368, 149),
        ("modernbert-large", 50368, 395),
        ("nomic-bert-2048", 30528, 137),
        ("bert-base", 30522, 110),
    ],
)
def test_presets_are_as_large_as_their_papers_say(name: str, rows: int, millions: int) -> None:
    assert count(name, text(rows)) / 1e6 == pytest.approx(millions, rel=0.04)


def test_modernbert_sees_everything_in_every_third_layer_and_64_keys_on_either_side_in_the_others() -> None:
    config = preset("modernbert-base", DNA)
    windows = [config.window_of(layer) for layer in range(config.n_layers)]
    assert windows == [None, 64, 64] * 7 + [None]


def test_our_own_presets_fit_a_cpu() -> None:
    sizes = [count(name, DNA) for name in ("nano", "tiny", "small")]
    assert sizes == sorted(sizes)
    assert sizes[-1] < 4e6
    for name in ("nano", "tiny", "small"):
        assert preset(name, DNA).head_size == 64


@pytest.mark.parametrize("name", PRESETS)
def test_any_switch_of_any_preset_can_be_changed(name: str) -> None:
    assert preset(name, DNA, n_layers=2, mlp_dropout=0.0).n_layers == 2


def test_wrong_names_are_answered_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'modernbert-base'"):
        preset("modern-bert-base", DNA)
    with pytest.raises(UsageError, match="did you mean 'n_layers'"):
        preset("nano", DNA, n_layer=2)


@pytest.mark.parametrize(
    ("switches", "reported"),
    [
        ({"ngram_embeddings": NgramEmbeddingsConfig(contexts=((9, 0),))}, r"1,953,125 embeddings.*at most 1,048,576"),
        ({"ngram_embeddings": NgramEmbeddingsConfig(contexts=((0, 0),))}, "at least one neighbour"),
        ({"ngram_embeddings": NgramEmbeddingsConfig(contexts=((-1, 2),))}, "at least one neighbour"),
        (
            {"ngram_embeddings": NgramEmbeddingsConfig(contexts=((1, 1),)), "context_sees_target": False},
            "context_sees_target must be true",
        ),
        ({"ngram_prior": NgramPriorConfig(depth=1), "context_sees_target": False}, "context_sees_target must be true"),
        ({"ngram_prior": NgramPriorConfig(depth=6)}, r"976,562,500 probabilities.*at most 16,777,216"),
        ({"ngram_prior": NgramPriorConfig(depth=-1)}, "from 0 on"),
        ({"phase_embeddings": PhaseEmbeddingsConfig(periods=(3, 1))}, "from 2 on"),
    ],
)
def test_what_an_encoder_cannot_know_of_its_neighbours_is_refused(switches: dict[str, object], reported: str) -> None:
    bases = Vocabulary.of([Field(name="base", tokens=tuple("ACGT"))])
    with pytest.raises(UsageError, match=reported):
        preset("nano", bases, **switches)
