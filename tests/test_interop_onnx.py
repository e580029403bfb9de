"""ONNX runs in onnxruntime with our logits, whatever the length and the number of fields."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from maskseq.interop.convert import export_onnx
from maskseq.model.config import EncoderConfig
from maskseq.model.encoder import Encoder
from maskseq.model.priors.config import NgramEmbeddingsConfig, NgramPriorConfig, PhaseEmbeddingsConfig
from maskseq.types import Field, Vocabulary

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

ONE = Vocabulary.of([Field(name="base", tokens=tuple("ACGT"))])
THREE = Vocabulary.of(
    [
        Field(name="activity", tokens=("register", "lab", "leave"), controls=("[OTHER]", "[END]")),
        Field(name="resource", tokens=("anna", "bo")),
        Field(name="gap", tokens=("0", "1", "2", "3"), controls=("[ABSENT]",)),
    ]
)
FOREIGN = Vocabulary(names=("token",), n_rows=(9,), n_outputs=(9,), mask_ids=(4,), unpredictable=((0, 4),))
INTERLEAVED = {"rope_style": "interleaved", "rope_fraction": 0.5, "first_norm": True}
POST = {"placement": "post", "final_norm": False}
CASES = {
    "modernbert, three fields": (THREE, {"global_every": 2, "window": 3, "tied": False}),
    "neobert, partial rope": (ONE, {"norm": "rmsnorm", "mlp": "swiglu", "head": "none", **INTERLEAVED}),
    "bert, foreign vocabulary": (FOREIGN, {"positions": "learned", "max_positions": 64, **POST, "token_types": 2}),
    "context that does not see the target": (THREE, {"context_sees_target": False}),
    "neighbours": (
        THREE,
        {
            "ngram_embeddings": NgramEmbeddingsConfig(contexts=((2, 1), (0, 2))),
            "ngram_prior": NgramPriorConfig(depth=1),
            "phase_embeddings": PhaseEmbeddingsConfig(periods=(3, 24)),
        },
    ),
    "vaswani": (ONE, {"positions": "sinusoidal", "mlp": "gelu", "norm_bias": True, "attention_bias": True}),
}


@pytest.mark.parametrize(("vocabulary", "switches"), CASES.values(), ids=CASES.keys())
def test_onnxruntime_computes_our_logits_at_every_length(
    vocabulary: Vocabulary, switches: dict, tmp_path: Path
) -> None:
    shape = {"n_layers": 2, "hidden_size": 32, "n_heads": 2, "intermediate_size": 24}
    model = Encoder(EncoderConfig(vocabulary=vocabulary, **shape, **switches))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.empty_like(parameter).normal_(0, 0.15, generator=generator))
    path = tmp_path / "model.onnx"
    export_onnx(model, path)
    session = onnxruntime.InferenceSession(path)
    assert [output.name for output in session.get_outputs()] == [f"logits_{name}" for name in vocabulary.names]
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["maskseq.vocabulary"])["mask_ids"] == list(vocabulary.mask_ids)

    for length in (1, 2, 5, 33, 64):
        columns = [torch.randint(0, n, (length,), generator=generator) for n in vocabulary.n_rows]
        ids = torch.stack(columns, dim=1)
        found = session.run(None, {"ids": ids.numpy()})
        with torch.no_grad():
            cu_seqlens = torch.tensor([0, length], dtype=torch.int32)
            masked_value = (ids == torch.tensor(vocabulary.mask_ids)).any(dim=1)  # target, where that matters
            states = model(ids, torch.arange(length), cu_seqlens, length, target=masked_value)
            for field, logits in enumerate(found):
                np.testing.assert_allclose(logits, model.logits(states, field).numpy(), atol=1e-4, rtol=0)
