"""Dropout depends on its keys and on nothing else: not on what came before, nor on who shares the batch."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch._dynamo.testing
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))

from small_run import STEP, small_run, weights

from maskseq.model import encoder as encoder_module
from maskseq.model import layer as layer_module
from maskseq.model.config import EncoderConfig
from maskseq.model.dropout import dropout
from maskseq.model.encoder import Encoder
from maskseq.types import Field, Vocabulary

ROW = 24
CONFIG = EncoderConfig(
    vocabulary=Vocabulary.of([Field(name="base", tokens=tuple("ACGT"))]),
    n_layers=2,
    hidden_size=32,
    n_heads=2,
    intermediate_size=24,
    embedding_dropout=0.1,
    attention_dropout=0.2,
    mlp_dropout=0.3,
)


@pytest.fixture(scope="module")
def model() -> Encoder:
    return Encoder(CONFIG, seed=3)


def row(n_rows: int = 1) -> tuple[Tensor, Tensor, Tensor, int]:
    """Rows of two pieces each, all alike."""
    ids = torch.randint(0, 4, (ROW, 1), generator=torch.Generator().manual_seed(0)).repeat(n_rows, 1)
    positions = torch.cat([torch.arange(16), torch.arange(8)]).repeat(n_rows)
    cu_seqlens = torch.tensor([0] + [ROW * i + n for i in range(n_rows) for n in (16, ROW)], dtype=torch.int32)
    return ids, positions, cu_seqlens, 16


def keys(*values: int) -> Tensor:
    return torch.tensor(values)


def test_the_same_keys_drop_the_same_whatever_the_global_generator_says(model: Encoder) -> None:
    torch.manual_seed(1)
    one = model(*row(), dropout_keys=keys(7)).hidden_states
    torch.manual_seed(2)
    state = torch.random.get_rng_state()
    again, other = (model(*row(), dropout_keys=keys(key)).hidden_states for key in (7, 8))
    assert torch.equal(state, torch.random.get_rng_state())
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert not torch.equal(one, model(*row()).hidden_states)


def test_a_row_drops_the_same_whoever_shares_the_batch(model: Encoder) -> None:
    together = model(*row(3), dropout_keys=keys(5, 9, 7)).hidden_states.split(ROW)
    for part, key in zip(together, (5, 9, 7), strict=True):
        alone = model(*row(), dropout_keys=keys(key)).hidden_states
        torch.testing.assert_close(part, alone, atol=1e-6, rtol=1e-5)


def test_its_share_is_dropped_and_the_mean_kept() -> None:
    x = torch.full((400, 500), 3.0)
    dropped = dropout(x, 0.2, keys(5), 0)
    share = (dropped == 0).double().mean().item()
    assert share == pytest.approx(0.2, abs=0.005)  # 5.6 standard deviations
    assert torch.equal(dropped.unique(), torch.tensor([0.0, 3.75]))
    assert dropped.double().mean().item() == pytest.approx(3.0, abs=0.02)


def test_rows_and_places_drop_independently() -> None:
    x = torch.ones(400, 500)
    rows, place = dropout(x, 0.5, keys(5, 6), 0) > 0, dropout(x, 0.5, keys(5, 6), 1) > 0
    for one, other in ((rows[:200], rows[200:]), (rows, place)):
        assert (one == other).double().mean().item() == pytest.approx(0.5, abs=0.01)


def test_no_two_calls_of_a_forward_pass_share_a_place(model: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one place for two of them, attention and MLP would drop the same entries."""
    places: list[int] = []

    def recording(x: Tensor, p: float, keys: Tensor | None, place: int) -> Tensor:
        places.append(place)
        return dropout(x, p, keys, place)

    for module in (encoder_module, layer_module):
        monkeypatch.setattr(module, "dropout", recording)
    model(*row(), dropout_keys=keys(7))
    assert len(places) == 1 + 2 * CONFIG.n_layers  # embeddings; attention and MLP of each layer
    assert len(set(places)) == len(places)


def test_what_is_dropped_has_no_gradient() -> None:
    x = torch.randn(40, 50, generator=torch.Generator().manual_seed(0)).requires_grad_()
    dropped = dropout(x, 0.25, keys(1), 0)
    dropped.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, (dropped.detach() != 0).float() / 0.75)


def test_dropout_stays_in_one_compiled_graph(model: Encoder) -> None:
    torch._dynamo.reset()
    counter = torch._dynamo.testing.CompileCounter()
    compiled = torch.compile(model, backend=counter, fullgraph=True)
    for key in (1, 2, 3):
        found, expected = (each(*row(), dropout_keys=keys(key)).hidden_states for each in (compiled, model))
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
    assert counter.frame_count == 1  # keys are data, not constants


def test_a_compiled_encoder_has_the_same_gradients(model: Encoder) -> None:
    torch._dynamo.reset()
    gradients = []
    for encode in (model, torch.compile(model, backend="aot_eager", fullgraph=True)):
        model.zero_grad()
        encode(*row(2), dropout_keys=keys(5, 6)).hidden_states.square().sum().backward()
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-5, rtol=1e-4)


def test_training_is_the_same_whatever_the_global_generator_and_the_micro_batch(tmp_path: Path) -> None:
    def trained(name: str, **changes: Any) -> dict[str, Tensor]:
        small_run(tmp_path / name, tokens=4 * STEP, model={"mlp_dropout": 0.3, "embedding_dropout": 0.1}, **changes)
        return weights(tmp_path / name)

    torch.manual_seed(1)
    one = trained("one")
    torch.manual_seed(2)
    torch.testing.assert_close(trained("again"), one, rtol=0, atol=0)
    torch.testing.assert_close(trained("together", micro_rows=2), one, rtol=1e-3, atol=1e-4)
    other = trained("other", seed=6)  # dropout is all that this seed keys
    assert (other["layers.0.mlp.Wi.weight"] - one["layers.0.mlp.Wi.weight"]).abs().max() > 3e-3
