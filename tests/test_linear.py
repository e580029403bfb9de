"""Products of a bfloat16 stream with float32 weights, as the processor is fast or slow in bfloat16."""

import pytest
import torch

from maskseq.model import linear
from maskseq.model.linear import Linear


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(7, 24), (3, 5, 24)])
def test_equals_the_float64_product_to_rounding(
    monkeypatch: pytest.MonkeyPatch, *, fast: bool, bias: bool, shape: tuple[int, ...]
) -> None:
    monkeypatch.setattr(linear, "bf16_is_fast", lambda: fast)
    layer = Linear(24, 40, bias=bias)
    torch.manual_seed(0)
    x = torch.randn(shape).bfloat16().requires_grad_()
    grad = torch.randn(*shape[:-1], 40).bfloat16()
    out = layer(x)
    out.backward(grad)
    assert out.dtype == torch.bfloat16
    assert layer.weight.grad is not None
    assert layer.weight.grad.dtype == torch.float32

    exact_x, weight = x.detach().double(), layer.weight.detach().double()
    exact = exact_x @ weight.T + (layer.bias.detach().double() if bias else 0.0)
    exact_grad = grad.double()
    # bfloat16 keeps 8 bits: 2^-8 of the largest value, twice where the weights or the bias are rounded as well.
    for found, expected in (
        (out, exact),
        (x.grad, exact_grad @ weight),
        (layer.weight.grad, exact_grad.flatten(0, -2).T @ exact_x.flatten(0, -2)),
    ):
        assert found is not None
        torch.testing.assert_close(found.double(), expected, rtol=0, atol=2**-7 * expected.abs().max().item())


def test_float32_products_round_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "bf16_is_fast", lambda: False)
    layer = Linear(64, 32, bias=False)
    torch.manual_seed(0)
    x = torch.randn(9, 64).bfloat16()
    assert torch.equal(layer(x), (x.float() @ layer.weight.T).bfloat16())


def test_what_is_kept_is_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "bf16_is_fast", lambda: False)
    layer = Linear(64, 32, bias=False)
    kept: list[torch.Tensor] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        layer(torch.randn(9, 64).bfloat16().requires_grad_())
    assert [t.dtype for t in kept if t.shape != layer.weight.shape] == [torch.bfloat16]


@pytest.mark.parametrize("fast", [True, False])
def test_float32_and_float64_streams_are_left_alone(monkeypatch: pytest.MonkeyPatch, *, fast: bool) -> None:
    monkeypatch.setattr(linear, "bf16_is_fast", lambda: fast)
    layer = Linear(8, 4)
    for dtype in (torch.float32, torch.float64):
        x = torch.randn(3, 8, dtype=dtype)
        assert layer(x).dtype == dtype
