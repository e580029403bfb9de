"""What this processor is good at, and how to make the C library keep the memory that activations come and go in."""

import ctypes
import functools
import platform
from pathlib import Path

import torch


@functools.cache
def bf16_is_fast() -> bool:
    """Whether matrix products in bf16 beat those in fp32 on this processor.

    Decided by what the processor is, not by a stopwatch: a timing could differ between a run and its resumption.
    Measured on two cores each: AMD with AVX512-BF16 (Zen 4) reaches 365 to 435 GFLOP/s in bf16 against 165 to 195 in
    fp32; Intel with AVX512-BF16 but no AMX (a Sapphire Rapids whose hypervisor hides it) 140 against 229. Not measured:
    AMX, which is made for bf16, and ARM servers, whose word is taken.
    """
    if not torch._C._has_mkldnn or not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    return torch.cpu._is_amx_tile_supported() or _vendor() != "GenuineIntel"


def _vendor() -> str:
    processor = Path("/proc/cpuinfo")
    if not processor.is_file():
        return platform.processor()
    lines = (line.partition(":") for line in processor.read_text().splitlines())
    return next((value.strip() for name, _, value in lines if name.strip() == "vendor_id"), "")


def keep_freed_memory() -> bool:
    """Tell glibc to keep freed blocks instead of returning them to the kernel; False where there is no glibc.

    Why: every activation above 32 MB is otherwise a fresh mapping whose pages fault in one by one. Whole steps gained
    nothing at 8,192 tokens and 1.66 times at 32,768 (d=256). Memory in use stays at its peak between steps.
    """
    M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # <malloc.h>
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(M_MMAP_MAX, 0)) and bool(mallopt(M_TRIM_THRESHOLD, 2**31 - 1))
