"""The machine at hand: which device, which precision is fast on it, how much memory was used."""

import resource
import sys
import time
from typing import Literal

import torch

from maskseq.errors import UsageError


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
    """`bf16` or `fp32`; for `auto` bf16 where it is the faster one, which on a CPU is measured."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if bf16_speedup() > 1.3 else "fp32"


def bf16_speedup(size: int = 512, repeats: int = 5) -> float:
    """How many times faster this CPU multiplies bf16 matrices than float32 ones; takes some 50 ms.

    torch runs bf16 on every CPU, without native instructions many times slower, and no public flag tells which.
    """
    seconds = []
    for dtype in (torch.float32, torch.bfloat16):
        a = torch.ones(size, size, dtype=dtype)
        a @ a  # the first call sets up the kernel
        best = float("inf")
        for _ in range(repeats):
            start = time.perf_counter()
            a @ a
            best = min(best, time.perf_counter() - start)
        seconds.append(best)
    return seconds[0] / seconds[1]


def peak_memory(device: torch.device) -> int:
    """Bytes: the peak resident set of this process, or what was allocated at most on its GPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
