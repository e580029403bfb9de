"""Matrix products in the dtype of the residual stream, whatever the parameters are stored in."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from maskseq.model.cpu import bf16_is_fast, constant_when_compiled


class Linear(nn.Linear):
    """`nn.Linear` that takes and gives its input's dtype."""

    widened: bool | None = None
    """Whether bfloat16 is multiplied in float32 on a CPU; None: where that is faster."""

    def reset_parameters(self) -> None:
        """Draw initial values, but not on the meta device, where it changes nothing and loads a package of algebra."""
        if not self.weight.is_meta:
            super().reset_parameters()

    def forward(self, input: Float[Tensor, "... d_in"]) -> Float[Tensor, "... d_out"]:
        bias = None if self.bias is None else self.bias.to(input.dtype)
        if input.dtype == torch.bfloat16 and self.weight.dtype == torch.float32 and self._widens(input.device.type):
            product: Tensor = WidenedProduct.apply(input, self.weight)  # type: ignore[no-untyped-call]
            return product if bias is None else product + bias
        return F.linear(input, self.weight.to(input.dtype), bias)

    def _widens(self, device: str) -> bool:
        return device == "cpu" and (_bf16_is_slow() if self.widened is None else self.widened)


@constant_when_compiled
def _bf16_is_slow() -> bool:
    return not bf16_is_fast()


class WidenedProduct(torch.autograd.Function):
    """x Wᵀ of a bfloat16 x, computed in float32; what is kept for the backward pass is bfloat16.

    For processors that multiply faster in float32: there the products of a layer of width 256 take 0.75 of their time
    in bfloat16, casts included, and activations still take half the memory of a float32 stream.
    """

    @staticmethod
    def forward(ctx: Any, x: Float[Tensor, "... d_in"], weight: Float[Tensor, "d_out d_in"]) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.linear(x.float(), weight).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Float[Tensor, "... d_out"]) -> tuple[Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        wide = grad.float()
        return (wide @ weight).to(x.dtype), wide.flatten(0, -2).mT @ x.flatten(0, -2).float()
