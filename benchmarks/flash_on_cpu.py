"""Run flash-attn's own Triton kernels on a CPU, through our adapter, against dense attention in float64.

Run by flash_on_cpu.sh, in an environment of its own. It can show global layers in fp32 and fp16. What it cannot show,
in flash-attn 2.8.3.post2 under Triton's interpreter: bf16 comes out as garbage, and windows never reach the kernel.
Those need `make gpu-check` on a machine with a GPU.
"""

import sys
import time

import flash_attn.flash_attn_interface as interface
import torch
from gpu_check import boundaries, dense_attention, share_of_largest

from maskseq.model.attention.packed import _flash

CASES = ((1,), (1, 127, 130, 200), (64, 64, 64), (33, 1, 250), (300,))
TOLERANCE = {torch.float32: 2e-6, torch.float16: 3e-3}


def main() -> int:
    for name in ("_flash_attn_varlen_forward", "_flash_attn_varlen_backward"):
        operator = getattr(interface, name)  # registered for CUDA only; `_init_fn` is private, so the version is pinned
        operator.register_kernel("cpu", operator._init_fn)
    worst = 0.0
    print("| lengths | head | dtype | output error | gradient error | s |")
    print("|---" * 6 + "|")
    for lengths in CASES:
        for head_dim in (16, 32, 64):
            for dtype in (torch.float32, torch.float16):
                began = time.perf_counter()
                generator = torch.Generator().manual_seed(0)
                cu = boundaries(lengths, "cpu")
                qkv, grad = (torch.randn(sum(lengths), n, 2, head_dim, generator=generator).to(dtype) for n in (3, 1))
                exact, leaf = qkv.double().requires_grad_(), qkv.clone().requires_grad_()
                truth = dense_attention(*exact.unbind(1), cu, None)
                out = _flash(*leaf.unbind(1), cu, cu, max(lengths), None)
                (true_gradient,) = torch.autograd.grad(truth, exact, grad[:, 0].double())
                (gradient,) = torch.autograd.grad(out, leaf, grad[:, 0])
                errors = share_of_largest(out.detach(), truth.detach()), share_of_largest(gradient, true_gradient)
                worst = max(worst, *(error / TOLERANCE[dtype] for error in errors))
                print(
                    f"| {', '.join(map(str, lengths))} | {head_dim} | {str(dtype).removeprefix('torch.')} "
                    f"| {errors[0]:.1e} | {errors[1]:.1e} | {time.perf_counter() - began:.1f} |",
                    flush=True,
                )
    print("all within tolerance" if worst < 1 else "NOT within tolerance")
    return int(worst >= 1)


if __name__ == "__main__":
    sys.exit(main())
