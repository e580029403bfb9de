"""What this processor is good at, and how to make the C library keep the memory that activations come and go in."""

import ctypes
import functools
import hashlib
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch

from maskseq.storage.standard_json import to_json

Function = TypeVar("Function", bound=Callable[..., object])

SIZE = 768  # of the matrices that are timed
SECONDS = 0.5  # at most, for both dtypes


@functools.cache
def bf16_is_fast() -> bool:
    """Whether matrix products in bf16 beat those in fp32 on this processor: once timed, then remembered in a file.

    A run records what it computes with (`model/choice.py`), so that another answer later does not change its numbers.
    """
    if not torch._C._has_mkldnn or not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    return bf16_speedup() > 1.1  # less is noise, and fp32 is the safer one


def bf16_speedup() -> float:
    """How many times as fast a product of two matrices is in bf16 as in fp32, here, with this torch and its threads."""
    key = hashlib.sha256(repr((_processor(), torch.__version__, torch.get_num_threads())).encode()).hexdigest()[:16]
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111 (Path fails where there is no home)
    remembered = Path(cache) / "maskseq" / f"bf16-{key}.json"
    try:
        return float(json.loads(remembered.read_text())["speedup"])
    except (OSError, ValueError, KeyError, TypeError):
        speedup = _timed_speedup()
    try:  # a home that cannot be written costs half a second each time
        remembered.parent.mkdir(parents=True, exist_ok=True)
        whole = remembered.with_suffix(f".{os.getpid()}")
        whole.write_text(to_json({"speedup": speedup}))
        whole.replace(remembered)
    except OSError:
        pass
    return speedup


def bf16_is_fast_by_kind() -> bool:
    """What runs assumed that did not record their kernels: by the processor's maker, without a stopwatch.

    Measured on two cores each: AMD with AVX512-BF16 (Zen 4) reaches 365 to 435 GFLOP/s in bf16 against 165 to 195 in
    fp32; Intel with AVX512-BF16 but no AMX (a Sapphire Rapids whose hypervisor hides it) 140 against 229.
    """
    if not torch._C._has_mkldnn or not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    return torch.cpu._is_amx_tile_supported() or _field_of_processor("vendor_id") != "GenuineIntel"


def _timed_speedup() -> float:
    """The fastest of several products each, in turns, so that other work on the machine slows both."""
    fastest = {torch.float32: float("inf"), torch.bfloat16: float("inf")}
    matrices = {dtype: torch.ones(SIZE, SIZE, dtype=dtype) for dtype in fastest}
    until = time.perf_counter() + SECONDS
    while time.perf_counter() < until:
        for dtype, matrix in matrices.items():
            began = time.perf_counter()
            matrix @ matrix
            fastest[dtype] = min(fastest[dtype], time.perf_counter() - began)
    return fastest[torch.float32] / fastest[torch.bfloat16]


def _processor() -> tuple[str, str]:
    """Model and features: a hypervisor may hide some of the latter."""
    return _field_of_processor("model name"), _field_of_processor("flags") or _field_of_processor("Features")


def _field_of_processor(name: str) -> str:
    processor = Path("/proc/cpuinfo")
    if not processor.is_file():
        return platform.processor()
    lines = (line.partition(":") for line in processor.read_text().splitlines())
    return next((value.strip() for field, _, value in lines if field.strip() == name), "")


def constant_when_compiled(function: Function) -> Function:
    """Let compiled graphs hold what the function returns, as `torch.compiler.assume_constant_result` does.

    That one imports the compiler to set this attribute, which takes longer than everything else before a first result.
    """
    vars(function)["_dynamo_marked_constant"] = True
    return function


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
