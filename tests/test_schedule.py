"""Schedules against the formulas they are taken from, written a second time here."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maskseq.errors import UsageError
from maskseq.training.schedule import ScheduleConfig, lr_at, n_rows


def modernbert_one_minus_sqrt(n: int, total: int, decay: int, final: float) -> float:
    """`scheduler.py:264-295` of ModernBERT: αf + (1-αf)(1 - sqrt((n-(N-Nc))/Nc)) for n > N-Nc, else 1."""
    if n <= total - decay:
        return 1.0
    return final + (1 - final) * (1 - math.sqrt((n - (total - decay)) / decay))


def modernbert_wsd_linear(n: int, total: int, warmup: int, decay: int, final: float) -> float:
    """`scheduler.py:87-137` of ModernBERT: linear up, flat, linear down."""
    if n < warmup:
        return n / warmup
    if n < total - decay:
        return 1.0
    return final + (1 - final) * (total - n) / decay


@given(st.integers(0, 60_000_000), st.integers(2, 50_000_000), st.floats(0, 1))
def test_one_minus_sqrt_is_modernberts(n: int, decay: int, final: float) -> None:
    config = ScheduleConfig(warmup=0, decay=decay, tail="1-sqrt", final=final)
    expected = modernbert_one_minus_sqrt(min(n, 50_000_000), 50_000_000, decay, final)
    assert lr_at(n, 50_000_000, config) == pytest.approx(expected, abs=1e-12)


@given(st.integers(0, 10_000), st.integers(2, 4_000), st.integers(2, 6_000), st.floats(0, 1))
def test_linear_tail_is_modernberts_wsd(n: int, warmup: int, decay: int, final: float) -> None:
    config = ScheduleConfig(warmup=warmup, decay=decay, tail="linear", final=final)
    assert lr_at(n, 10_000, config) == pytest.approx(modernbert_wsd_linear(n, 10_000, warmup, decay, final))


def test_a_cosine_tail_over_the_whole_run_is_torchs_cosine_annealing() -> None:
    steps, final = 40, 0.1
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    torchs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps, eta_min=final)
    config = ScheduleConfig(warmup=0, decay=1.0, tail="cosine", final=final)
    for step in range(steps + 1):
        assert lr_at(step * 100, steps * 100, config) == pytest.approx(torchs.get_last_lr()[0])
        optimizer.step()
        torchs.step()


def test_lengths_up_to_one_are_shares_of_the_run_and_above_one_tokens() -> None:
    shares, tokens = ScheduleConfig(warmup=0.05, decay=0.2), ScheduleConfig(warmup=50_000, decay=200_000)
    assert all(lr_at(n, 1_000_000, shares) == lr_at(n, 1_000_000, tokens) for n in range(0, 1_000_001, 12_345))


def test_a_run_stays_at_its_final_rate_after_its_last_token() -> None:
    config = ScheduleConfig(warmup=0, decay=100, tail="1-sqrt", final=0.25)
    assert lr_at(1_000, 1_000, config) == lr_at(9_999, 1_000, config) == 0.25


def test_a_schedule_that_does_not_fit_is_refused_with_its_lengths() -> None:
    with pytest.raises(UsageError, match=r"600 tokens.*500 tokens"):
        lr_at(0, 1_000, ScheduleConfig(warmup=600, decay=0.5))


def modernbert_batch_sizes(low: int, high: int, warmup_tokens: int, tokens_per_row: int, steps: int) -> list[int]:
    """`sequence_packer.py:20-60`, with rows of `tokens_per_row` tokens, run from the beginning."""
    total = sum(range(low, high))
    thresholds, done = [], 0
    for b in range(low, high):
        done += b
        thresholds.append(math.ceil(warmup_tokens / total * done))
    sizes, count = [], 0
    for _ in range(steps):
        size = next((b for b, end in zip(range(low, high), thresholds, strict=True) if count < end), high)
        sizes.append(size)
        count += size * tokens_per_row
    return sizes


@pytest.mark.parametrize(("high", "warmup"), [(6, 150_000), (11, 660_000), (1, 0)])
def test_batch_size_warm_up_is_modernberts(high: int, warmup: int) -> None:
    sizes = range(1, high + 1)
    tokens, ours = 0, []
    for _ in range(200):
        ours.append(n_rows(tokens, sizes, warmup))
        tokens += ours[-1] * 1_000
    assert ours == modernbert_batch_sizes(1, high, warmup, 1_000, 200)


def test_each_size_of_the_warm_up_lasts_for_the_same_number_of_steps() -> None:
    sizes, warmup = [8, 16, 24, 32], 48 * 1_000 * 50  # 50 steps at each of 8, 16 and 24 rows of 1,000 tokens
    tokens, seen = 0, []
    while tokens < warmup:
        seen.append(n_rows(tokens, sizes, warmup))
        tokens += seen[-1] * 1_000
    assert seen == [8] * 50 + [16] * 50 + [24] * 50
    assert n_rows(tokens, sizes, warmup) == 32
