"""Check every attention kernel of this machine's GPU against dense attention in float64: `make gpu-check`.

Prints one table: largest error of the output and of the gradients as a share of the largest true value, whether a
second backward pass gives the same bits, and the time of a forward and backward pass. Exits with 1 if a kernel is off,
with 0 if all agree, and with 0 and one line if there is no GPU to check.
"""

import itertools
import sys
import time

import torch
from torch import Tensor

from maskseq.model.attention.packed import available, explain, packed_attention

LENGTHS = (1, 127, 130, 200, 64, 64, 33, 1024)
TOLERANCE = {torch.bfloat16: 2e-2, torch.float16: 3e-3, torch.float32: 1e-5}  # fp32: with TF32 off, torch's default


def dense_attention(q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor, window: int | None) -> Tensor:
    """The definition, "tokens heads dim": one matrix of scores, −inf wherever a query may not see a key."""
    n_tokens = len(q)
    place = torch.arange(n_tokens, device=q.device)
    piece = torch.bucketize(place, cu_seqlens[1:], right=True)
    seen = piece[:, None] == piece
    if window is not None:
        seen &= (place[:, None] - place).abs() <= window
    scores = torch.einsum("qhd,khd->hqk", q, k) * q.shape[-1] ** -0.5
    return torch.einsum("hqk,khd->qhd", scores.masked_fill(~seen, -torch.inf).softmax(-1), v)


def boundaries(lengths: tuple[int, ...], device: str) -> Tensor:
    return torch.tensor([0, *itertools.accumulate(lengths)], dtype=torch.int32, device=device)


def share_of_largest(actual: Tensor, truth: Tensor) -> float:
    return float((actual.double() - truth).abs().max() / truth.abs().max())


def check(backend: str, dtype: torch.dtype, window: int | None, head_dim: int, *, device: str = "cuda") -> str:
    """One line of the table; it ends in "ok" or in what is wrong."""
    generator = torch.Generator().manual_seed(0)
    cu = boundaries(LENGTHS, device)
    qkv, grad = (torch.randn(sum(LENGTHS), n, 4, head_dim, generator=generator).to(device, dtype) for n in (3, 1))
    exact = qkv.double().requires_grad_()
    truth = dense_attention(*exact.unbind(1), cu, window)
    (true_gradient,) = torch.autograd.grad(truth, exact, grad[:, 0].double())

    leaf = qkv.clone().requires_grad_()

    def run() -> tuple[Tensor, Tensor]:
        out = packed_attention(*leaf.unbind(1), cu, max_seqlen=max(LENGTHS), window=window, backend=backend)
        return out.detach(), torch.autograd.grad(out, leaf, grad[:, 0])[0]

    out, gradient = run()
    again = run()
    torch.cuda.synchronize() if device == "cuda" else None
    began = time.perf_counter()
    run()
    torch.cuda.synchronize() if device == "cuda" else None
    milliseconds = (time.perf_counter() - began) * 1e3

    errors = share_of_largest(out, truth.detach()), share_of_largest(gradient, true_gradient)
    same = torch.equal(out, again[0]) and torch.equal(gradient, again[1])
    within = max(errors) < TOLERANCE[dtype]
    verdict = "ok" if within and same else "WRONG" if not within else "NOT REPRODUCIBLE"
    return (
        f"| {backend} | {str(dtype).removeprefix('torch.')} | {window or 'none'} | {head_dim} | {errors[0]:.1e} "
        f"| {errors[1]:.1e} | {'yes' if same else 'no'} | {milliseconds:.2f} | {verdict} |"
    )


def main() -> int:
    if not torch.cuda.is_available():
        print("no CUDA device: nothing checked")
        return 0
    torch.use_deterministic_algorithms(True, warn_only=True)  # torch's varlen_attn has no argument for it
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    for name, reason in explain("cuda", torch.bfloat16).items():
        print(f"  {name}: {reason}")
    print("| kernel | dtype | window | head | output error | gradient error | reproducible | ms | |")
    print("|---" * 9 + "|")
    lines = [
        check(backend, dtype, window, head_dim)
        for dtype in (torch.bfloat16, torch.float16, torch.float32)
        for backend in available("cuda", dtype)
        for window in (None, 64)
        for head_dim in (64, 128)
    ]
    print("\n".join(lines))
    return 0 if all(line.endswith("| ok |") for line in lines) else 1


if __name__ == "__main__":
    sys.exit(main())
