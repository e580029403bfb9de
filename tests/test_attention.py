"""Every CPU kernel against dense attention in float64: outputs and gradients, for all the shapes packing makes."""

import itertools
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from maskseq.errors import UsageError
from maskseq.model import cpu
from maskseq.model.attention import blocks
from maskseq.model.attention import cpu as attention_cpu
from maskseq.model.attention import kernels as cores
from maskseq.model.attention import packed as attention
from maskseq.model.attention.packed import available, explain, packed_attention, packed_self_attention
from maskseq.model.rotary import rotation

LENGTHS = {
    "one token": [1],
    "ones": [1, 1, 1],
    "odd": [1, 7, 129, 64, 33, 255, 2],
    "equal and short": [64] * 9,
    "equal, apart": [64, 3, 64, 3, 64],
    "block edges": [127, 128, 129, 1, 256],
    "one huge": [1500],
    "filler last": [200, 31, 1, 280],
}
WINDOWS = [None, 0, 1, 64, 100, 2000]
BACKENDS = ["sdpa", "bmm", "blocks"]


def dense(q, k, v, cu_q, cu_k, window):
    """The definition: one matrix of scores over the whole row, −inf wherever a pair may not meet."""
    segment_q, segment_k = (
        torch.repeat_interleave(torch.arange(len(cu) - 1), torch.diff(cu.long())) for cu in (cu_q, cu_k)
    )
    may_meet = segment_q[:, None] == segment_k
    if window is not None:
        may_meet &= (torch.arange(len(segment_q))[:, None] - torch.arange(len(segment_k))).abs() <= window
    scores = torch.einsum("qhd,khd->hqk", q, k) * q.shape[-1] ** -0.5
    weights = scores.masked_fill(~may_meet, -torch.inf).softmax(-1).nan_to_num(0)  # no key at all: zeros
    return torch.einsum("hqk,khd->qhd", weights, v)


def boundaries(lengths):
    return torch.tensor([0, *itertools.accumulate(lengths)], dtype=torch.int32)


def inputs(n_tokens, *, heads=2, dim=16, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(n_tokens, heads, dim, generator=generator, dtype=torch.float64).to(dtype) for _ in range(4)]


def errors(lengths, window, backend, dtype, lengths_k=None, **shape) -> Tensor:
    """Largest error of the output, dq, dk and dv, each as a share of the largest true value (or of 1)."""
    cu_q = boundaries(lengths)
    cu_k = None if lengths_k is None else boundaries(lengths_k)
    q, _, _, grad = inputs(sum(lengths), dtype=dtype, **shape)
    _, k, v, _ = inputs(sum(lengths_k or lengths), dtype=dtype, seed=1, **shape)
    exact = [x.double().requires_grad_() for x in (q, k, v)]
    expected = dense(*exact, cu_q, cu_q if cu_k is None else cu_k, window)
    leaves = [x.clone().requires_grad_() for x in (q, k, v)]
    actual = packed_attention(*leaves, cu_q, max_seqlen=max(lengths), window=window, backend=backend, cu_seqlens_k=cu_k)
    assert actual.dtype == dtype
    truths = [expected.detach(), *torch.autograd.grad(expected, exact, grad.double())]
    results = [actual.detach(), *torch.autograd.grad(actual, leaves, grad)]
    return torch.stack(
        [
            (result.double() - truth).abs().max() / truth.abs().max().clamp(min=1)
            for result, truth in zip(results, truths, strict=True)
        ]
    )


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
def test_equals_dense_attention_in_float64(lengths, window, backend):
    assert errors(lengths, window, backend, torch.float64).max() < 1e-12


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 3e-6), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("window", [None, 64])
def test_rounding_is_that_of_the_dtype(window, backend, dtype, tolerance):
    lengths = [200, 1, 33, 64, 64, 700, 17]
    assert errors(lengths, window, backend, dtype, heads=4, dim=64).max() < tolerance


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    lengths=st.lists(st.integers(1, 300), min_size=1, max_size=12),
    window=st.none() | st.integers(0, 200),
    backend=st.sampled_from(BACKENDS),
)
def test_equals_dense_attention_for_any_lengths(lengths, window, backend):
    assert errors(lengths, window, backend, torch.float64, dim=8).max() < 1e-12


@pytest.mark.parametrize("backend", BACKENDS)
def test_long_pieces_are_cut_into_chunks_of_queries_without_a_trace(backend, monkeypatch):
    monkeypatch.setattr(cores, "SCORES_AT_ONCE", 2**14)
    monkeypatch.setattr(blocks, "SCORES_AT_ONCE", 2**14)
    assert errors([700, 64, 64, 64, 20, 20], None, backend, torch.float64).max() < 1e-12
    assert errors([700, 64, 64, 64, 20, 20], 64, backend, torch.float64).max() < 1e-12


@pytest.mark.parametrize("backend", BACKENDS)
def test_queries_may_attend_to_keys_that_are_packed_differently(backend):
    """The context of each piece as keys: shorter than the piece, possibly nothing, possibly everything."""
    queries, keys = [200, 9, 64, 40, 1, 150], [120, 4, 64, 0, 1, 3]
    assert errors(queries, None, backend, torch.float64, lengths_k=keys).max() < 1e-12


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("window", [None, 64])
def test_a_piece_does_not_feel_its_neighbours(backend, window):
    """Huge neighbours would drown a leak of any size."""
    q, k, v, _ = inputs(500)
    cu = boundaries([150, 40, 310])
    before = packed_attention(q, k, v, cu, max_seqlen=310, window=window, backend=backend)[150:190]
    k[:150], v[:150], k[190:], v[190:] = 1e3, 1e6, -1e3, -1e6
    after = packed_attention(q, k, v, cu, max_seqlen=310, window=window, backend=backend)[150:190]
    assert torch.equal(before, after)


@pytest.mark.parametrize("window", [None, 64])
def test_strided_views_of_a_fused_projection_are_taken_as_they_are(window):
    qkv = torch.randn(300, 3, 2, 16, generator=torch.Generator().manual_seed(0))
    cu = boundaries([100, 200])
    for backend in BACKENDS:
        views = packed_attention(*qkv.unbind(1), cu, max_seqlen=200, window=window, backend=backend)
        copies = packed_attention(
            *(x.contiguous() for x in qkv.unbind(1)), cu, max_seqlen=200, window=window, backend=backend
        )
        torch.testing.assert_close(views, copies, rtol=0, atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("window", [None, 3])
def test_torch_accepts_the_operator_for_autograd_and_compilation(backend, window):
    q, k, v, _ = inputs(20, dim=4)
    cu = boundaries([5, 9, 6])
    leaves = [x.requires_grad_() for x in (q, k, v)]
    torch.library.opcheck(attention_cpu.tiled_attention, (*leaves, cu, cu, -1 if window is None else window, backend))
    assert torch.autograd.gradcheck(
        lambda *x: packed_attention(*x, cu, max_seqlen=9, window=window, backend=backend), leaves
    )


def test_a_compiled_model_has_no_graph_break_and_never_recompiles():
    counter = torch._dynamo.testing.CompileCounter()

    @torch.compile(backend=counter, fullgraph=True)
    def layer(qkv, cu, max_seqlen):
        q, k, v = (2 * qkv).unbind(1)
        return packed_attention(q, k, v, cu, max_seqlen=max_seqlen) + packed_attention(
            q, k, v, cu, max_seqlen=max_seqlen, window=64
        )

    qkv = torch.randn(300, 3, 2, 16, generator=torch.Generator().manual_seed(0)).requires_grad_()
    for lengths in ([100, 200], [200, 100], [150, 150], [90, 210]):
        cu = boundaries(lengths)
        out = layer(qkv, cu, max(lengths))
        q, k, v = (2 * qkv).unbind(1)
        expected = sum(packed_attention(q, k, v, cu, max_seqlen=max(lengths), window=window) for window in (None, 64))
        torch.testing.assert_close(out, expected)
    assert counter.frame_count == 1


def test_a_wrong_request_is_refused_with_the_reason():
    q, k, v, _ = inputs(10)
    cu = boundaries([10])
    with pytest.raises(UsageError, match=r"flash3.*auto or one of flash, varlen, blocks, bmm, sdpa"):
        packed_attention(q, k, v, cu, max_seqlen=10, backend="flash3")
    with pytest.raises(UsageError, match="'flash' cannot be used here: needs a CUDA device, not cpu"):
        packed_attention(q, k, v, cu, max_seqlen=10, backend="flash")
    with pytest.raises(ValueError, match="run from 0 to the number of tokens, 10"):
        packed_attention(q, k, v, boundaries([9]), max_seqlen=9)
    with pytest.raises(ValueError, match="share a dtype"):
        packed_attention(q, k.float(), v, cu, max_seqlen=10)
    with pytest.raises(ValueError, match="not both"):
        packed_attention(q, k, v, cu, max_seqlen=10, window=3, cu_seqlens_k=cu)


def test_the_choice_follows_the_processor(monkeypatch):
    monkeypatch.setattr(attention, "bf16_is_fast", lambda: True)
    assert available("cpu", torch.bfloat16)[0] == "blocks"
    assert available("cpu", torch.float32)[0] == "sdpa"
    monkeypatch.setattr(attention, "bf16_is_fast", lambda: False)
    assert available("cpu", torch.bfloat16)[0] == "sdpa"
    assert explain("cpu")["sdpa"] == "used"
    assert explain("cpu")["flash"] == "not used: needs a CUDA device, not cpu"


@pytest.mark.parametrize(
    ("supported", "amx", "vendor", "fast"),
    [
        (True, True, "GenuineIntel", True),
        (True, False, "GenuineIntel", False),
        (True, False, "AuthenticAMD", True),
        (False, False, "AuthenticAMD", False),
    ],
)
def test_bf16_counts_as_fast_where_it_was_measured_or_built_to_be(monkeypatch, supported, amx, vendor, fast):
    """The rule of runs that recorded no kernels."""
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: supported)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(cpu, "_field_of_processor", lambda name: vendor)
    assert cpu.bf16_is_fast_by_kind() == fast


@pytest.mark.parametrize(("supported", "speedup", "fast"), [(True, 1.9, True), (True, 0.6, False), (False, 1.9, False)])
def test_bf16_is_fast_where_a_stopwatch_finds_it_so_once(monkeypatch, tmp_path, supported, speedup, fast):
    timed = []
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: supported)
    monkeypatch.setattr(cpu, "_timed_speedup", lambda: timed.append(1) or speedup)
    assert [cpu.bf16_is_fast.__wrapped__() for _ in range(3)] == [fast] * 3
    assert len(timed) == supported
    for file in (tmp_path / "maskseq").iterdir() if supported else ():
        file.write_text("{")
    assert cpu.bf16_is_fast.__wrapped__() == fast, "a damaged file is timed anew"


ROTARY = {"half": (16, False), "interleaved": (16, True), "a quarter of the head": (4, False)}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("window", [None, 20])
@pytest.mark.parametrize(("rotary_size", "interleaved"), ROTARY.values(), ids=ROTARY)
def test_fused_rotary_attention_equals_rotation_then_dense_attention(window, rotary_size, interleaved, backend):
    """Rotation as a complex product: dimensions a, b of a plane turn like a + ib times e^(i angle)."""
    lengths = [70, 1, 700, 64, 40]
    cu = boundaries(lengths)
    positions = torch.cat([torch.arange(n) for n in lengths])
    fused = torch.randn(sum(lengths), 3, 2, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    grad = inputs(sum(lengths))[3]
    cos, sin = rotation(positions, rotary_size, 1e4)

    qkv = fused.clone().requires_grad_()
    qk, still = qkv[:, :2, :, :rotary_size], qkv[:, :2, :, rotary_size:]
    a, b = (qk[..., 0::2], qk[..., 1::2]) if interleaved else qk.chunk(2, -1)
    turned = torch.view_as_real(torch.complex(a, b) * torch.complex(cos.double(), sin.double()))
    qk = turned.flatten(-2) if interleaved else torch.cat([turned[..., 0], turned[..., 1]], -1)
    q, k = torch.cat([qk, still], -1).unbind(1)
    truth = dense(q, k, qkv[:, 2], cu, cu, window)
    (true_gradient,) = torch.autograd.grad(truth, qkv, grad)

    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 3e-6), (torch.bfloat16, 2e-2)):
        leaf = fused.to(dtype).requires_grad_()
        out = packed_self_attention(
            leaf, (cos, sin), cu, max_seqlen=700, window=window, interleaved=interleaved, backend=backend
        )
        (gradient,) = torch.autograd.grad(out, leaf, grad.to(dtype))
        assert out.dtype == gradient.dtype == dtype
        assert (out - truth).abs().max() < tolerance * truth.abs().max()
        assert (gradient - true_gradient).abs().max() < tolerance * true_gradient.abs().max()


@pytest.mark.parametrize("backend", BACKENDS)
def test_torch_accepts_the_fused_operator(backend):
    qkv = torch.randn(20, 3, 2, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    cos, sin = rotation(torch.arange(20), 4, 1e4)
    cu = boundaries([5, 9, 6])
    torch.library.opcheck(attention_cpu.rotary_attention, (qkv, cos, sin, cu, 3, backend, False))


def test_other_kernels_get_turned_queries_and_keys(monkeypatch):
    """Off the CPU the rotation is torch's and the kernel is someone else's; here the kernel is ours."""
    qkv = torch.randn(300, 3, 2, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    turn, cu = rotation(torch.arange(300), 16, 1e4), boundaries([100, 200])
    fused = packed_self_attention(qkv, turn, cu, max_seqlen=200, backend="sdpa")
    monkeypatch.setattr(attention, "choose", lambda *_: "flash")
    monkeypatch.setitem(attention._KERNELS, "flash", attention._KERNELS["sdpa"])
    torch.testing.assert_close(packed_self_attention(qkv, turn, cu, max_seqlen=200), fused)
    monkeypatch.undo()
    plain = packed_self_attention(qkv, None, cu, max_seqlen=200)
    torch.testing.assert_close(plain, packed_attention(*qkv.unbind(1), cu, max_seqlen=200))


MEMORY = """
import torch
from pathlib import Path
from corpora import memory
from maskseq.model.attention.packed import packed_attention
q = torch.randn(16_384, 1, 8, requires_grad=True)
def train(n, backend, window):
    cu = torch.tensor([0, n], dtype=torch.int32)
    packed_attention(q[:n], q[:n], q[:n], cu, max_seqlen=n, window=window, backend=backend).sum().backward()
for backend in ("sdpa", "bmm", "blocks"):
    for window in (None, 64):
        train(256, backend, window)
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak of the run before
        before = memory("VmRSS")
        train(16_384, backend, window)
        print(backend, window, (memory("VmHWM") - before) / 1e6)
"""


def test_memory_of_a_huge_piece_is_far_below_its_matrix_of_scores():
    """One head of 16,384 tokens has 1 GB of scores; chunks, bands and torch's kernel hold a small part of them."""
    command = [sys.executable, "-c", MEMORY]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parent)
    grown = {tuple(line.split()[:2]): float(line.split()[2]) for line in done.stdout.splitlines()}
    assert len(grown) == 6
    assert max(grown.values()) < 200, grown
