"""Ordinal embeddings as mixtures of cosines: the formula, what is alike from the start, and what is left alone."""

import math

import numpy as np
import pytest
import torch

from maskseq.errors import UsageError
from maskseq.interop.convert import export_hf, export_onnx
from maskseq.model.config import EncoderConfig
from maskseq.model.encoder import Encoder
from maskseq.model.priors.config import OrdinalBasisConfig
from maskseq.model.states import States
from maskseq.types import ABSENT, Field, Vocabulary

CENTRES = tuple(np.cumsum(np.random.default_rng(0).exponential(size=40)).tolist())
VOCABULARY = Vocabulary.of(
    [
        Field(name="level", tokens=tuple(map(str, range(40))), centres=CENTRES, controls=(ABSENT,)),
        Field(name="letter", tokens=tuple("abc")),
        Field(name="constant", tokens=("7",), centres=(7.0,)),
    ]
)


def encoder(*, cosines: int, **changes: object) -> Encoder:
    shape = {"n_layers": 1, "hidden_size": 64, "n_heads": 2, "intermediate_size": 32, "vocabulary": VOCABULARY}
    return Encoder(EncoderConfig(**(shape | changes), ordinal_basis=OrdinalBasisConfig(cosines=cosines)))


def test_rows_of_bins_follow_the_formula() -> None:
    model = encoder(cosines=5)
    rows = model.embeddings.tok_embeddings.weight.double()
    assert len(rows) == (6 + 2) + 4 + (1 + 1)
    mean, norm = sum(CENTRES) / 40, math.sqrt(1 + sum(1 / k for k in range(1, 6)))
    std = math.sqrt(sum((c - mean) ** 2 for c in CENTRES) / 40)
    table = model.embeddings.table(0).double()
    for i, centre in enumerate(CENTRES):
        expected = (centre - mean) / std * rows[0]
        for k in range(1, 6):
            expected = expected + math.sqrt(2 / k) * math.cos(math.pi * k * (i + 0.5) / 40) * rows[k]
        torch.testing.assert_close(table[i], expected / norm, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(table[40:], rows[6:8])  # [ABSENT] and [MASK] have rows of their own
    torch.testing.assert_close(model.embeddings.table(1).double(), rows[8:12])


def test_neighbours_are_alike_from_the_start_and_as_large_as_other_embeddings() -> None:
    with_basis, without = (encoder(cosines=n).embeddings.table(0)[:40].detach() for n in (16, 0))
    near, far = (torch.cosine_similarity(with_basis[:-d], with_basis[d:]).mean() for d in (1, 20))
    assert near > 0.8 > 0.2 > far
    assert with_basis.std() == pytest.approx(float(without.std()), rel=0.3)


def test_tied_logits_are_made_of_the_same_rows() -> None:
    model, masked = encoder(cosines=5, head="none"), torch.randn(3, 64)
    torch.testing.assert_close(model.logits(States(masked), 0), masked @ model.embeddings.table(0)[:41].T)


def test_there_are_never_more_rows_than_bins() -> None:
    assert sum(p.numel() for p in encoder(cosines=500).embeddings.tok_embeddings.parameters()) == 64 * (42 + 4 + 2)


def test_exports_take_it_or_say_why_not(tmp_path) -> None:
    one = Vocabulary.of([Field(name="level", tokens=tuple(map(str, range(40))), centres=CENTRES)])
    with pytest.raises(UsageError, match="ordinal_basis"):
        export_hf(encoder(cosines=5, vocabulary=one), tmp_path / "hf")
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    model = encoder(cosines=5)
    export_onnx(model, tmp_path / "model.onnx")
    ids = np.array([[0, 1, 0], [39, 2, 1], [41, 3, 0]])
    session = runtime.InferenceSession(tmp_path / "model.onnx")
    found = session.run(None, {session.get_inputs()[0].name: ids})
    states = model(torch.tensor(ids), torch.arange(3), torch.tensor([0, 3], dtype=torch.int32), 3)
    np.testing.assert_allclose(found[0], model.logits(states, 0).detach().numpy(), atol=1e-4)
