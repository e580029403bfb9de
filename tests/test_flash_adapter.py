"""What reaches flash-attn and torch's varlen_attn, and what happens without them. No GPU: their kernels run elsewhere.

`benchmarks/gpu_check.py` compares the kernels on a GPU; `benchmarks/flash_on_cpu.sh` runs flash-attn's on a CPU.
"""

import importlib.util
import inspect
import logging
import sys
from types import ModuleType

import pytest
import torch
from torch.nn.attention.varlen import varlen_attn

from maskseq.errors import UsageError
from maskseq.model.attention import packed as attention
from maskseq.model.attention.packed import available, choose, explain, packed_attention


def recorded_flash_attn_varlen_func(
    q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, dropout_p=0.0, softmax_scale=None, causal=False,
    window_size=(-1, -1), softcap=0.0, alibi_slopes=None, deterministic=False, return_attn_probs=False,
    block_table=None,
):  # fmt: skip
    """The signature of flash-attn 2.8.3.post2."""


class StubKernel:
    """Takes exactly the arguments of a signature, remembers them, and attends with our own kernel."""

    def __init__(self, signature):
        self.signature = inspect.signature(signature)
        self.calls = []

    def __call__(self, *args, **kwargs):
        bound = self.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        call = bound.arguments
        self.calls.append(call)
        left, right = call["window_size"]
        assert left == right
        q, k, v = (call[name] for name in list(call)[:3])
        cu_q, cu_k = (call[name] for name in list(call)[3:5])
        window = None if left < 0 else left
        separate = None if window is not None else cu_k
        return packed_attention(q, k, v, cu_q, max_seqlen=call[list(call)[5]], window=window, cu_seqlens_k=separate)


@pytest.fixture
def fresh(monkeypatch):
    """Probes and refusals are remembered for the process; here every test starts without memory."""
    for function in (attention._flash_attn, attention._varlen_attn, attention._refusals, attention._say_once):
        function.cache_clear()
    yield
    for function in (attention._flash_attn, attention._varlen_attn, attention._refusals, attention._say_once):
        function.cache_clear()


@pytest.fixture
def flash(monkeypatch, fresh):
    """A flash_attn package whose kernel is the stub."""
    package = ModuleType("flash_attn")
    package.flash_attn_varlen_func = StubKernel(recorded_flash_attn_varlen_func)
    monkeypatch.setitem(sys.modules, "flash_attn", package)
    return package.flash_attn_varlen_func


@pytest.fixture
def broken_flash(monkeypatch, fresh, tmp_path):
    """An installed package that cannot be imported, as after an upgrade of torch."""
    package = tmp_path / "flash_attn"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('flash_attn_2_cuda.so: undefined symbol: _ZN3c104cuda')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "flash_attn", raising=False)


def qkv(n_tokens=300, dtype=torch.bfloat16):
    fused = torch.randn(n_tokens, 3, 2, 16, generator=torch.Generator().manual_seed(0)).to(dtype)
    return fused.unbind(1)


CU = torch.tensor([0, 100, 101, 300])  # int64, as a careless caller has it


@pytest.mark.parametrize(("window", "expected"), [(None, (-1, -1)), (64, (64, 64))])
def test_flash_attn_gets_int32_boundaries_the_window_both_ways_and_reproducible_gradients(flash, window, expected):
    q, k, v = qkv()
    out = attention._KERNELS["flash"](q, k, v, CU, CU, 199, window)
    (call,) = flash.calls
    assert [call[name] is tensor for name, tensor in (("q", q), ("k", k), ("v", v))] == [True] * 3
    assert all(call[name].stride(-1) == 1 for name in ("q", "k", "v"))  # what its kernels need; views need no copy
    for name in ("cu_seqlens_q", "cu_seqlens_k"):
        assert call[name].dtype == torch.int32
        assert call[name].is_contiguous()
        assert call[name].tolist() == [0, 100, 101, 300]
    assert (call["max_seqlen_q"], call["max_seqlen_k"]) == (199, 199)
    assert call["window_size"] == expected  # ModernBERT's local_attention=128: 64 keys on either side, 129 in all
    assert call["deterministic"] is True
    defaults = {"dropout_p": 0.0, "softmax_scale": None, "causal": False, "softcap": 0.0, "alibi_slopes": None}
    assert {name: call[name] for name in defaults} == defaults
    torch.testing.assert_close(out, packed_attention(q, k, v, CU, max_seqlen=199, window=window))


@pytest.mark.parametrize(("window", "expected"), [(None, (-1, -1)), (64, (64, 64))])
def test_varlen_attn_gets_the_same(monkeypatch, fresh, window, expected):
    stub = StubKernel(varlen_attn)
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", stub)
    q, k, v = qkv()
    out = attention._KERNELS["varlen"](q, k, v, CU, CU, 199, window)
    (call,) = stub.calls
    assert call["cu_seq_q"].dtype == call["cu_seq_k"].dtype == torch.int32
    assert (call["max_q"], call["max_k"], call["window_size"]) == (199, 199, expected)
    assert call["scale"] is None
    torch.testing.assert_close(out, packed_attention(q, k, v, CU, max_seqlen=199, window=window))


def test_flash_attn_gets_the_other_boundaries_of_keys(flash):
    q, k, v = qkv()
    cu_k = torch.tensor([0, 30, 30, 90], dtype=torch.int32)
    attention._KERNELS["flash"](q, k[:90], v[:90], CU, cu_k, 199, None)
    assert flash.calls[0]["cu_seqlens_k"].tolist() == [0, 30, 30, 90]


def test_the_installed_flash_attn_has_the_recorded_signature():
    if importlib.util.find_spec("flash_attn") is None:
        pytest.skip("flash-attn is not installed here (it needs a GPU; benchmarks/flash_on_cpu.sh runs it without)")
    function = attention._flash_attn()
    if isinstance(function, str):
        pytest.skip(f"flash-attn is installed but does not load: {function}")
    assert list(inspect.signature(function).parameters) == list(
        inspect.signature(recorded_flash_attn_varlen_func).parameters
    )


def test_flash_attn_is_preferred_on_a_gpu_for_half_precision(flash):
    assert choose("auto", "cuda", torch.bfloat16, 64) == "flash"
    assert available("cuda", torch.float16) == ["flash", "varlen", "bmm"]
    assert available("cuda", torch.float32) == ["bmm"]
    assert available("cuda", torch.bfloat16, head_dim=512) == ["bmm"]
    reasons = explain("cuda", torch.float32)
    assert reasons["flash"] == "not used: computes in float16 or bfloat16, not torch.float32"
    assert reasons["bmm"] == "used"


def test_older_gpus_use_plain_operations(flash, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 5))
    assert available("cuda", torch.float16) == ["bmm"]
    assert "8.0 (Ampere)" in explain("cuda", torch.float16)["flash"]


def test_a_broken_flash_attn_is_passed_over_with_one_line_that_names_the_reason(broken_flash, caplog):
    assert importlib.util.find_spec("flash_attn") is not None, "a probe that only looks would believe in it"
    with caplog.at_level(logging.WARNING):
        assert [choose("auto", "cuda", torch.bfloat16, 64) for _ in range(3)] == ["varlen"] * 3
    (record,) = caplog.records
    assert "undefined symbol: _ZN3c104cuda" in record.message
    assert "'varlen'" in record.message
    assert "undefined symbol" in explain("cuda", torch.bfloat16)["flash"]
    with pytest.raises(UsageError, match="undefined symbol"):
        choose("flash", "cuda", torch.bfloat16, 64)


def test_nothing_is_logged_on_a_cpu(broken_flash, caplog):
    with caplog.at_level(logging.DEBUG):
        packed_attention(*qkv(), CU, max_seqlen=199)
    assert not caplog.records
