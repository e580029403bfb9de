"""Optimizers step by step against torch, torch-optimi and the formulas; which parameter belongs to which."""

import optimi
import pytest
import torch
from torch import Tensor, nn

from maskseq.errors import UsageError
from maskseq.training.config import OptimizerConfig
from maskseq.training.optimizer import StableAdamW, make_optimizer, parameter_groups


class Tiny(nn.Module):
    """An encoder in miniature: tied embedding, two layers with norms, a head with a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 8)
        self.layers = nn.ModuleList(
            nn.ModuleDict({"norm": nn.LayerNorm(8, bias=False), "up": nn.Linear(8, 16), "down": nn.Linear(16, 8)})
            for _ in range(2)
        )
        self.head = nn.Linear(8, 8)
        self.bias = nn.Parameter(torch.zeros(7))

    def forward(self, ids: Tensor) -> Tensor:
        masked = self.embedding(ids)
        for layer in self.layers:
            masked = masked + layer["down"](layer["up"](layer["norm"](masked)).tanh())
        return self.head(masked) @ self.embedding.weight.T + self.bias


def make(seed: int = 0) -> Tiny:
    model = Tiny()
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
    return model


def gradients(model: nn.Module, step: int, scale: float = 1.0) -> None:
    """The same gradients for every copy; a scale far from the ones before is what StableAdamW guards against."""
    generator = torch.Generator().manual_seed(1_000 + step)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator) * scale


def assert_equal_weights(ours: nn.Module, theirs: nn.Module, **tolerance: float) -> None:
    for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, **tolerance, msg=lambda text, name=name: f"{name}: {text}")


SCALES = [1.0, 1.0, 30.0, 1.0, 0.01, 500.0, 1e-6, 1.0]  # the jumps make the RMS exceed 1


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_stable_adamw_is_optimis_step_by_step(weight_decay: float) -> None:
    ours, theirs = make(), make()
    mine = StableAdamW(ours.parameters(), lr=1e-2, weight_decay=weight_decay)
    reference = optimi.StableAdamW(
        theirs.parameters(), lr=1e-2, betas=(0.9, 0.98), eps=1e-6, weight_decay=weight_decay, triton=False
    )
    for step, scale in enumerate(SCALES):
        for model, optimizer in ((ours, mine), (theirs, reference)):
            gradients(model, step, scale)
            optimizer.step()
        assert_equal_weights(ours, theirs, rtol=1e-6, atol=1e-8)


def test_modernberts_decoupled_decay_is_ours_divided_by_the_learning_rate() -> None:
    ours, theirs = make(), make()
    mine = StableAdamW(ours.parameters(), lr=8e-4, weight_decay=1e-5 / 8e-4)
    reference = optimi.StableAdamW(
        theirs.parameters(), lr=8e-4, betas=(0.9, 0.98), weight_decay=1e-5, decouple_lr=True, max_lr=8e-4, triton=False
    )
    for step, factor in enumerate([0.1, 0.5, 1.0, 1.0, 0.3]):
        mine.param_groups[0]["lr"] = reference.param_groups[0]["lr"] = 8e-4 * factor
        for model, optimizer in ((ours, mine), (theirs, reference)):
            gradients(model, step)
            optimizer.step()
        assert_equal_weights(ours, theirs, rtol=1e-6, atol=1e-9)


def test_a_spike_moves_weights_no_further_than_the_learning_rate() -> None:
    """The RMS of an update stays near lr where AdamW's grows with the spike: what 'stable' means (2304.13013, §3.5)."""
    weight = nn.Parameter(torch.zeros(1_000))
    optimizer = StableAdamW([weight], lr=1.0)
    generator = torch.Generator().manual_seed(0)
    for scale in (1.0,) * 50 + (1e4,):
        before = weight.detach().clone()
        weight.grad = torch.randn(weight.shape, generator=generator) * scale
        optimizer.step()
    rms = (weight - before).detach().square().mean().sqrt()
    beta2 = 0.98
    adamw = (0.1 / (1 - beta2) ** 0.5) * 1.0  # the update of Adam after a spike that swamps both moments
    assert rms < 0.2 * adamw


@pytest.mark.parametrize("name", ["adamw", "stable_adamw", "muon"])
def test_only_matrices_are_decayed(name: str) -> None:
    """With zero gradients all that is left of a step is the decay."""
    model, before = make(), make()
    optimizer = make_optimizer(model, OptimizerConfig(name=name, lr=0.1, weight_decay=0.5))
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    decayed = {n for (n, a), b in zip(model.named_parameters(), before.parameters(), strict=True) if (a != b).any()}
    expected = {f"layers.{i}.{part}.weight" for i in (0, 1) for part in ("up", "down")} | {"head.weight"}
    assert decayed == expected
    shrunk = dict(before.named_parameters())["head.weight"] * (1 - 0.1 * 0.5)
    torch.testing.assert_close(model.head.weight, shrunk)


def test_adamw_is_torchs_with_the_schedules_factor() -> None:
    ours, theirs = make(), make()
    mine = make_optimizer(ours, OptimizerConfig(name="adamw", lr=1e-2, weight_decay=0.0))
    reference = torch.optim.AdamW(theirs.parameters(), lr=1e-2, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.0)
    for step, factor in enumerate([0.25, 1.0, 0.5]):
        gradients(ours, step)
        gradients(theirs, step)
        reference.param_groups[0]["lr"] = 1e-2 * factor
        mine.step(factor)
        reference.step()
        assert_equal_weights(ours, theirs, rtol=1e-5, atol=1e-7)


def test_muon_takes_the_matrices_of_the_layers_and_adamw_the_rest() -> None:
    listed = {g.name: g for g in parameter_groups(make(), OptimizerConfig(name="muon", weight_decay=0.1))}
    assert {name for name, g in listed.items() if g.optimizer == "muon"} == {
        f"layers.{i}.{part}.weight" for i in (0, 1) for part in ("up", "down")
    }
    assert (listed["head.weight"].role, listed["head.weight"].weight_decay) == ("output", 0.1)
    assert (listed["embedding.weight"].role, listed["embedding.weight"].weight_decay) == ("embedding", 0.0)
    assert listed["layers.1.norm.weight"].role == listed["bias"].role == "vector"


def test_a_muon_update_is_orthogonal_and_as_large_as_adamws() -> None:
    model, before = make(), make()
    optimizer = make_optimizer(model, OptimizerConfig(name="muon", lr=1e-2, weight_decay=0.0))
    gradients(model, 0)
    optimizer.step()
    update = before.layers[0]["up"].weight.data - model.layers[0]["up"].weight.data  # 16 × 8
    singular = torch.linalg.svdvals(update) / (1e-2 * 0.2 * 16**0.5)  # match_rms_adamw: 0.2 √max(rows, columns)
    assert ((singular > 0.6) & (singular < 1.3)).all()  # Newton–Schulz brings them near 1, not to it


@pytest.mark.parametrize("name", ["adamw", "stable_adamw", "muon"])
def test_state_moves_to_a_new_optimizer_bit_by_bit(name: str) -> None:
    config = OptimizerConfig(name=name, lr=1e-2)
    model = make()
    optimizer = make_optimizer(model, config)
    for step in range(3):
        gradients(model, step)
        optimizer.step()
    other = make()
    other.load_state_dict(model.state_dict())
    resumed = make_optimizer(other, config)
    resumed.load({path: tensor.clone() for path, tensor in optimizer.state().items()})
    for step in range(3, 6):
        for m, o in ((model, optimizer), (other, resumed)):
            gradients(m, step)
            o.step(0.5)
    assert_equal_weights(model, other, rtol=0, atol=0)


def test_clipping_is_off_for_stable_adamw_only() -> None:
    assert OptimizerConfig(name="stable_adamw").max_norm == float("inf")
    assert OptimizerConfig(name="adamw").max_norm == OptimizerConfig(name="muon").max_norm == 1.0
    assert OptimizerConfig(name="adamw", clip=0).max_norm == float("inf")
    assert OptimizerConfig(name="stable_adamw", clip=0.5).max_norm == 0.5


def test_a_wrong_option_is_named() -> None:
    with pytest.raises(UsageError, match="lr"):
        OptimizerConfig(lr=-1)
    with pytest.raises(UsageError, match="betas"):
        OptimizerConfig(betas=(0.9, 1.0))
