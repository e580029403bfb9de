"""LoRA of the peft package on an encoder: its matrices are `nn.Linear`, so that adapters go in, learn and merge."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from maskseq.model.encoder import Encoder
from maskseq.model.presets import preset
from maskseq.predict.encoder import EncoderPredict
from maskseq.predict.protocol import Example
from maskseq.tasks.network import LowRankChange
from maskseq_genomics.nucleotide import NucleotideTokenizer

peft = pytest.importorskip("peft", reason="peft is not installed: pip install 'maskseq[peft]'")
SHAPE = {"n_layers": 2, "hidden_size": 32, "n_heads": 2, "intermediate_size": 32, "max_positions": 32}
MATRICES = ["Wqkv", "Wo", "Wi"]
IDS = np.arange(16, dtype=np.uint8)[:, None] % 4
CELLS = [np.argwhere(np.ones((16, 1), bool))]


def with_adapters() -> tuple[Encoder, Any]:
    encoder = Encoder(preset("nano", NucleotideTokenizer().vocabulary, **SHAPE), seed=3)
    config = peft.LoraConfig(r=4, lora_alpha=16, target_modules=MATRICES)
    return encoder, peft.inject_adapter_in_model(config, encoder)


def answers(encoder: Any) -> np.ndarray:
    return EncoderPredict(encoder)([Example(IDS)], CELLS)[0]


def test_adapters_begin_as_nothing_learn_alone_and_merge() -> None:
    plain = answers(Encoder(preset("nano", NucleotideTokenizer().vocabulary, **SHAPE), seed=3))
    encoder, adapted = with_adapters()
    np.testing.assert_allclose(answers(adapted), plain, atol=1e-6)
    learning = {name for name, each in adapted.named_parameters() if each.requires_grad}
    assert learning
    assert all("lora_" in name for name in learning)
    assert len(learning) == 2 * sum(isinstance(each, peft.tuners.lora.Linear) for each in adapted.modules())
    with torch.no_grad():
        for name, each in adapted.named_parameters():
            if name in learning:
                each.normal_(0, 0.3, generator=torch.Generator().manual_seed(len(name)))
    changed = answers(adapted)
    assert not np.allclose(changed, plain, atol=1e-3)
    for module in adapted.modules():
        if isinstance(module, peft.tuners.lora.Linear):
            module.merge()
    np.testing.assert_allclose(answers(encoder), changed, atol=1e-4)


def test_ours_is_the_change_that_peft_makes() -> None:
    _, adapted = with_adapters()
    layer = next(each for each in adapted.modules() if isinstance(each, peft.tuners.lora.Linear))
    weight = layer.get_base_layer().weight.detach()
    ours = LowRankChange(weight.shape, 4, 16.0, torch.Generator().manual_seed(0))
    with torch.no_grad():
        nn.init.normal_(ours.b, generator=torch.Generator().manual_seed(1))
        layer.lora_A["default"].weight.copy_(ours.a)
        layer.lora_B["default"].weight.copy_(ours.b)
    torch.testing.assert_close(ours(weight), weight + layer.get_delta_weight("default"))
