"""The machine at hand: which device, which precision is fast on it, how much memory was used."""

import functools
import resource
import sys
import time
from typing import Literal

import torch

from maskseq.errors import UsageError
from maskseq.model.cpu import bf16_is_fast


def choose_device(name: str, local_rank: int = 0) -> torch.device:
    """`auto`, `cpu` or `cuda` as a device; on a machine with several GPUs that of the local rank."""
    if name not in ("auto", "cpu", "cuda"):
        raise UsageError(f"device: must be auto, cpu or cuda, not {name!r}", code="bad-option")
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError(
            "device: cuda was asked for, but torch sees no GPU here\n\nhint: `maskseq doctor` says why",
            code="bad-option",
        )
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


@functools.cache
def gemm_peak(device: torch.device, precision: str, *, repeats: int = 6) -> float:
    """FLOP/s of the fastest of a few large square matrix products in `bf16` or `fp32`; 0.1 s on a CPU core.

    Why measured: published peaks are of other clocks, core counts and precisions than those at hand.
    """
    n = 8192 if device.type == "cuda" else 1024
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    matrix = torch.ones(n, n, dtype=dtype, device=device)
    fastest = float("inf")
    for _ in range(repeats):
        _settle(device)
        began = time.perf_counter()
        matrix @ matrix
        _settle(device)
        fastest = min(fastest, time.perf_counter() - began)
    return 2 * n**3 / fastest


def _settle(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_memory(device: torch.device) -> int:
    """Bytes: the peak resident set of this process, or what was allocated at most on its GPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
