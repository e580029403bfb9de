"""Which kernels an encoder computes with: one choice a run, because another one rounds otherwise."""

from dataclasses import dataclass

import torch

from maskseq.model.attention.packed import available, choose
from maskseq.model.cpu import bf16_is_fast, bf16_is_fast_by_kind


@dataclass(frozen=True, kw_only=True)
class Kernels:
    """The defaults are what is fastest on the machine at hand."""

    attention: str = "auto"
    """A backend of `packed_attention`."""
    widened: bool | None = None
    """Whether streams in bf16 are multiplied in fp32 on a CPU; None: where that is faster."""

    @classmethod
    def here(cls, device: str, dtype: torch.dtype, head_dim: int) -> "Kernels":
        """What the defaults mean on this machine, to be recorded."""
        return cls(
            attention=choose("auto", device, dtype, head_dim),
            widened=_on_cpu_in_bf16(device, dtype) and not bf16_is_fast(),
        )

    @classmethod
    def unrecorded(cls, device: str, dtype: torch.dtype, head_dim: int) -> "Kernels":
        """Those of runs that began before kernels were recorded."""
        if device != "cpu":
            return cls.here(device, dtype, head_dim)
        fast = _on_cpu_in_bf16(device, dtype) and bf16_is_fast_by_kind()
        return cls(attention="bmm" if fast else "sdpa", widened=_on_cpu_in_bf16(device, dtype) and not fast)

    def usable(self, device: str, dtype: torch.dtype, head_dim: int) -> "Kernels":
        """These, or what is fastest here if the run has moved to a machine without them."""
        there = self.attention == "auto" or self.attention in available(device, dtype, head_dim)
        return self if there else type(self).here(device, dtype, head_dim)


def _on_cpu_in_bf16(device: str, dtype: torch.dtype) -> bool:
    return device == "cpu" and dtype == torch.bfloat16
