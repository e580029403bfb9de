"""The machine at hand: which device, which precision is fast on it, how much memory was used."""

import resource
import sys
from typing import Literal

import torch

from maskseq.errors import UsageError
from maskseq.model.cpu import bf16_is_fast


def choose_device(name: str, local_rank: int = 0) -> torch.device:
    """`auto`, `cpu` or `cuda` as a device; on a machine with several GPUs that of the local rank."""
    if name not in ("auto", "cpu", "cuda"):
        raise UsageError(f"device: must be auto, cpu or cuda, not {name!r}")
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("device: cuda was asked for, but torch sees no GPU here\n\nhint: `maskseq doctor` says why")
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)


def choose_precision(precision: Literal["auto", "bf16", "fp32"], device: torch.device) -> str:
    """`bf16` or `fp32`; for `auto` bf16 where the device is faster with it."""
    if precision != "auto":
        return precision
    fast = torch.cuda.is_bf16_supported(including_emulation=False) if device.type == "cuda" else bf16_is_fast()
    return "bf16" if fast else "fp32"


def peak_memory(device: torch.device) -> int:
    """Bytes: the peak resident set of this process, or what was allocated at most on its GPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
