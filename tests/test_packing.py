"""Plans put every token into exactly one row of an epoch, fill the rows, and need neither time nor memory for it."""

import csv
import gzip
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Int64

sys.path.insert(0, str(Path(__file__).parent))

from corpora import child

from maskseq.errors import UsageError
from maskseq.packing.packing import PackingConfig, PackingPlan, best_fit


def log_normal(n: int, *, median: float = 160, seed: int = 0) -> Int64[np.ndarray, "n"]:
    return np.clip(np.random.default_rng(seed).lognormal(np.log(median), 0.7, n), 1, 20_000).astype(np.int64)


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.one_of(st.integers(1, 40), st.integers(1, 700)), min_size=1, max_size=60),
    context=st.integers(1, 64),
    row_tokens=st.integers(64, 200),
    chunk_tokens=st.integers(1, 500),
    epoch=st.integers(0, 3),
    cut=st.sampled_from([0.0, 0.4, 1.0]),
)
def test_every_token_is_in_exactly_one_piece_and_every_piece_in_one_row(
    lengths: list[int], context: int, row_tokens: int, chunk_tokens: int, epoch: int, cut: float
) -> None:
    config = PackingConfig(row_tokens=row_tokens, context=context, cut=cut)
    plan = PackingPlan(np.array(lengths), config, key=(7, 0), chunk_tokens=chunk_tokens)
    seen, n_segments = [np.zeros(length, int) for length in lengths], Counter[int]()
    for block in plan.epoch(epoch):
        assert block.rows[0] == 0
        assert block.rows[-1] == len(block.length)
        for row in range(block.n_rows):
            segments = slice(block.rows[row], block.rows[row + 1])
            assert 1 <= block.length[segments].sum() <= row_tokens
        for sequence, start, length in zip(block.sequence, block.start, block.length, strict=True):
            assert 1 <= length <= context
            short = lengths[sequence] <= context
            assert not short or length == lengths[sequence] or (cut and min(length, lengths[sequence] - length) >= 2)
            n_segments[sequence] += 1
            seen[sequence][start : start + length] += 1
    assert all((counts == 1).all() for counts in seen)
    assert all(n_segments[i] <= 1 + (cut > 0) for i, length in enumerate(lengths) if length <= context)
    assert plan.n_tokens == sum(lengths)


def brute_force_best_fit(lengths: list[int], row_tokens: int) -> list[int]:
    """The textbook algorithm, one piece at a time: how full each row gets."""
    space: list[int] = []
    for length in sorted(lengths, reverse=True):
        fits = [row for row, free in enumerate(space) if free >= length]
        if fits:
            space[min(fits, key=lambda row: space[row])] -= length
        else:
            space.append(row_tokens - length)
    return sorted(row_tokens - free for free in space)


@settings(max_examples=200, deadline=None)
@given(lengths=st.lists(st.integers(1, 50), max_size=80), row_tokens=st.integers(50, 130))
def test_best_fit_is_best_fit_decreasing(lengths: list[int], row_tokens: int) -> None:
    row = best_fit(np.array(lengths, dtype=np.int64), row_tokens)
    filled = np.bincount(row, weights=lengths).astype(int).tolist() if lengths else []
    assert sorted(filled) == brute_force_best_fit(lengths, row_tokens)


def is_99_percent_full(lengths: Int64[np.ndarray, "n"], config: PackingConfig) -> bool:
    """Whether no more rows are used than at a fill of 99 %, rounded up: the last row is what it is."""
    n_rows = sum(block.n_rows for block in PackingPlan(lengths, config, key=(0, 0)).epoch(0))
    return n_rows <= np.ceil(lengths.sum() / (0.99 * config.row_tokens))


@pytest.mark.parametrize(("row_tokens", "context"), [(8192, 1024), (8192, 8192), (4096, 512), (1024, 1024)])
def test_rows_are_at_least_99_percent_full_on_log_normal_lengths(row_tokens: int, context: int) -> None:
    assert is_99_percent_full(log_normal(100_000), PackingConfig(row_tokens=row_tokens, context=context))


@pytest.mark.parametrize("context", [1000, 1024, 3000, 5000, 8191])
def test_windows_of_long_records_fill_rows_whatever_the_context(context: int) -> None:
    config = PackingConfig(row_tokens=8192, context=context)
    assert config.window <= context
    assert is_99_percent_full(np.array([4_600_000, 1_200_000]), config)


@pytest.mark.parametrize("row_tokens", [1024, 2048, 4096, 8192])
def test_rows_are_at_least_99_percent_full_on_real_logs(shared_data: Path, row_tokens: int) -> None:
    with (shared_data / "events" / "sepsis.csv").open() as file:
        cases = Counter(row["case_id"] for row in csv.DictReader(file, delimiter=";"))
    with gzip.open(shared_data / "events" / "bpic2012.xes.gz", "rt") as file:
        bpic = [trace.count("<event>") for trace in file.read().split("<trace>")[1:]]
    sessions = (shared_data / "events" / "hdfs_sessions_train.txt").read_text().splitlines()
    for lengths in (list(cases.values()), bpic, [len(line.split()) for line in sessions]):
        assert is_99_percent_full(np.array(lengths), PackingConfig(row_tokens=row_tokens))


def test_window_edges_move_from_epoch_to_epoch_and_fall_everywhere_alike() -> None:
    plan = PackingPlan(np.array([20_000]), PackingConfig(row_tokens=64, context=64), key=(0, 0))
    first_edges = []
    for epoch in range(1000):
        block = plan.block(epoch, 0)
        (edge,) = block.length[block.start == 0]
        first_edges.append(int(edge))
    counts = np.bincount(first_edges, minlength=65)[1:]
    assert counts.sum() == 1000
    chi_square = ((counts - 1000 / 64) ** 2 / (1000 / 64)).sum()
    assert chi_square < 113  # p = 0.0001 at 63 degrees of freedom


def test_the_wanted_share_of_short_sequences_is_cut_in_two_anywhere() -> None:
    """Each anywhere alike, but that both pieces have two positions; others in another epoch; windows do not matter."""
    lengths = np.array([10] * 20_000 + [1, 2, 3] * 100)
    plan = PackingPlan(lengths, PackingConfig(row_tokens=28, context=10, cut=0.3), key=(0, 0))
    assert plan.config.window < 10
    epochs = [np.concatenate([block.sequence[block.start > 0] for block in plan.epoch(epoch)]) for epoch in (0, 1)]
    for cut in epochs:
        assert abs(len(cut) - 6000) < 4 * (20_000 * 0.3 * 0.7) ** 0.5
        assert len(np.unique(cut)) == len(cut)
        assert cut.max() < 20_000
    assert abs(len(np.intersect1d(*epochs)) - 1800) < 4 * (20_000 * 0.09 * 0.91) ** 0.5
    places = np.bincount(np.concatenate([block.start[block.start > 0] for block in plan.epoch(0)]))
    assert places[:2].sum() == 0
    assert len(places) == 9
    chi_square = ((places[2:] - places[2:].mean()) ** 2 / places[2:].mean()).sum()
    assert chi_square < 28  # p = 0.0001 at 6 degrees of freedom


def test_a_plan_is_a_pure_function_of_its_key() -> None:
    lengths, config = log_normal(5_000), PackingConfig(row_tokens=1024, context=256)

    def rows(key: tuple[int, ...], epoch: int) -> list[bytes]:
        plan = PackingPlan(lengths, config, key=key, chunk_tokens=10_000)
        blocks = [plan.block(epoch, index) for index in reversed(range(plan.n_blocks()))]
        return [array.tobytes() for b in reversed(blocks) for array in (b.sequence, b.start, b.length, b.rows)]

    assert rows((1, 0), 2) == rows((1, 0), 2)
    assert len({b"".join(rows(key, epoch)) for key, epoch in (((1, 0), 2), ((1, 0), 3), ((1, 1), 2), ((2, 0), 2))}) == 4


def test_rows_mix_distant_parts_of_the_corpus() -> None:
    """A block draws its chunks from everywhere, so neighbours in a row are not neighbours in the file."""
    plan = PackingPlan(
        np.full(200_000, 100), PackingConfig(row_tokens=1000, context=100), key=(0, 0), chunk_tokens=100_000
    )
    block = plan.block(0, 0)
    spread = [np.ptp(block.sequence[a:b]) for a, b in zip(block.rows[:-1], block.rows[1:], strict=True)]
    assert np.mean(spread) > 50_000


def test_rows_of_a_block_come_in_random_order() -> None:
    """Best fit places the longest pieces first: rows left in that order would run from long pieces to short ones."""
    plan = PackingPlan(log_normal(40_000), PackingConfig(row_tokens=1024, context=1024), key=(0, 0))
    longest, edges = [], plan.block(0, 0)
    for begin, end in zip(edges.rows[:-1], edges.rows[1:], strict=True):
        longest.append(int(edges.length[begin:end].max()))
    n = len(longest)
    assert n > 1000
    assert abs(np.corrcoef(np.arange(n), longest)[0, 1]) < 4 / n**0.5
    assert longest != sorted(longest, reverse=True)


def planned_sequences(n: int) -> tuple[float, float]:
    planner = child("plan", n)
    output, errors = planner.communicate()
    assert planner.returncode == 0, errors
    seconds, megabytes = output.split()
    return float(seconds), float(megabytes)


def test_a_million_sequences_are_planned_in_a_second() -> None:
    seconds, megabytes = planned_sequences(10**6)
    assert seconds < 4  # 0.7 on an idle core of 2023; other tests run beside this one
    assert megabytes < 200


@pytest.mark.soak
def test_ten_million_sequences_are_planned_in_ten_seconds_and_two_gigabytes() -> None:
    seconds, megabytes = planned_sequences(10**7)
    assert seconds < 10
    assert megabytes < 2000


def test_a_block_of_a_hundred_million_sequences_is_planned_alone() -> None:
    """Lengths stay where they are (on disk, for a corpus); a plan keeps one entry a chunk."""
    plan = PackingPlan(np.full(10**8, 120, np.int8), PackingConfig(), key=(0, 0))
    began = time.process_time()
    assert plan.n_blocks() == 2862
    assert abs(int(plan.block(3, 1234).length.sum()) - (8 << 19)) < 8 * 120
    assert time.process_time() - began < 8


@pytest.mark.parametrize("wrong", [{"context": 0}, {"context": 9000}, {"row_tokens": 100, "context": 101}])
def test_a_context_that_does_not_fit_a_row_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="context"):
        PackingConfig(**wrong)
