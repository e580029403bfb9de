"""Records of any length: windows around holes, earlier fills as context, nothing else read or run."""

import tracemalloc
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskseq.constraints import count_between
from maskseq.errors import UsageError
from maskseq.infill.sampler import InfillConfig, infill
from maskseq.infill.window_plan import Task, key_number
from maskseq.infill.windows import fill_records
from maskseq.predict.protocol import Example, of_ids, with_ids
from maskseq.types import Encoded, Field, LegalCells, Vocabulary

DIGITS = Vocabulary.of([Field(name="digit", tokens=tuple("0123456789"))])
MASK = 10
RANDOM = InfillConfig(order="entropy_bounded", gamma=0.5, temperature=1.0)


@of_ids
def counting(sequences: Sequence[np.ndarray], cells: Sequence[np.ndarray]) -> list[np.ndarray]:
    """A model that is sure that digits go up by one from position to position, and knows nothing far from a digit."""
    answers = []
    for ids, requested in zip(sequences, cells, strict=True):
        known = np.flatnonzero(ids[:, 0] != MASK)
        probabilities = np.full((len(requested), 10), 0.1)
        for row, position in enumerate(requested[:, 0]):
            if len(known):
                near = known[np.abs(known - position).argmin()]
                sure = max(0.99 - 0.05 * abs(position - near), 0.1)
                probabilities[row] = (1 - sure) / 9
                probabilities[row, (ids[near, 0] + position - near) % 10] = sure
        answers.append(np.log(probabilities))
    return answers


@of_ids
def hashing(sequences: Sequence[np.ndarray], cells: Sequence[np.ndarray]) -> list[np.ndarray]:
    """A model whose answer depends, arbitrarily, on everything that it sees."""
    answers = []
    for ids, requested in zip(sequences, cells, strict=True):
        logits = np.random.default_rng(ids.ravel()).normal(size=(len(ids), 10))[requested[:, 0]]
        answers.append(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))
    return answers


def record(length: int, holes: list[tuple[int, int]], seed: int = 0) -> Task:
    ids = (np.arange(length) % 10).astype(np.uint8)[:, None]
    hole = np.zeros(ids.shape, bool)
    for start, stop in holes:
        hole[start:stop] = True
    return Task(key=f"r{seed}", encoded=Encoded(ids), holes=hole)


def test_a_record_within_the_context_is_filled_as_infill_does() -> None:
    task = record(40, [(3, 9), (20, 31)])
    (filled,) = fill_records(hashing, [task], RANDOM, vocabulary=DIGITS, context=40)
    (alone,) = infill(
        hashing, [Example(task.encoded.ids)], [task.holes], RANDOM, vocabulary=DIGITS, keys=[(key_number("r0"), 0, 0)]
    )
    assert np.array_equal(filled.fill.values, alone.values)
    assert np.array_equal(filled.fill.cells, np.argwhere(task.holes))
    assert filled.fill.joint == pytest.approx(alone.joint)


def test_holes_all_over_a_long_record_are_filled_from_their_surroundings() -> None:
    holes = [(0, 4), (100, 115), (118, 122), (255, 258), (760, 775), (995, 1000)]
    task = record(1000, holes)
    (filled,) = fill_records(counting, [task], InfillConfig(), vocabulary=DIGITS, context=64)
    assert np.array_equal(filled.fill.written(task.encoded.ids), task.encoded.ids)
    assert filled.left == []


def test_a_hole_longer_than_half_the_context_is_left_and_listed_unless_asked_for() -> None:
    task = record(1000, [(100, 132), (300, 333), (500, 900)])
    (plain,) = fill_records(counting, [task], InfillConfig(), vocabulary=DIGITS, context=64)
    assert plain.left == [(300, 333), (500, 900)]
    assert plain.fill.cells[:, 0].tolist() == list(range(100, 132))
    (forced,) = fill_records(counting, [task], InfillConfig(), vocabulary=DIGITS, context=64, fill_long_holes=True)
    assert forced.left == []
    # It grows from the left, each chunk on what is there: to the very end it counts on.
    assert np.array_equal(forced.fill.written(task.encoded.ids), task.encoded.ids)


def test_a_column_that_is_missing_altogether_is_no_long_hole_while_others_are_known() -> None:
    vocabulary = Vocabulary.of([Field(name="digit", tokens=tuple("0123456789")), Field(name="x", tokens=("a", "b"))])
    ids = np.stack([np.arange(200) % 10, np.full(200, 2)], axis=1)
    task = Task("two", Encoded(ids), ids == np.array([MASK, 2]))

    @of_ids
    def predict(sequences: Sequence[np.ndarray], cells: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [np.log(np.tile([0.9, 0.1, *[1e-9] * 8], (len(requested), 1))) for requested in cells]

    (filled,) = fill_records(predict, [task], InfillConfig(), vocabulary=vocabulary, context=32)
    assert len(filled.fill.cells) == 200
    assert filled.left == []


@settings(deadline=None, max_examples=40)
@given(
    length=st.integers(1, 120),
    context=st.integers(2, 40),
    share=st.sampled_from([0.02, 0.2, 0.6]),
    long=st.booleans(),
    samples=st.integers(1, 2),
    seed=st.integers(0, 10**6),
)
def test_windows_keep_to_the_context_and_every_cell_is_filled_or_listed(
    length: int, context: int, share: float, long: bool, samples: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, 11, (length, 1)).astype(np.uint8)
    holes = rng.random((length, 1)) < share
    task = Task("r", Encoded(ids), holes)

    @of_ids
    def predict(sequences: Sequence[np.ndarray], cells: Sequence[np.ndarray]) -> list[np.ndarray]:
        for seen, requested in zip(sequences, cells, strict=True):
            assert len(seen) == min(context, length)
            assert (seen[tuple(requested.T)] == MASK).all()
        return with_ids(hashing)(sequences, cells)

    config = InfillConfig(gamma=1.0, temperature=1.0, samples=samples)
    (filled,) = fill_records(predict, [task], config, vocabulary=DIGITS, context=context, fill_long_holes=long)
    listed = np.zeros(length, bool)
    for start, stop in filled.left:
        assert not long
        assert stop - start > context // 2
        assert ((ids[start:stop] == MASK) | holes[start:stop]).all()
        listed[start:stop] = True
    assert np.array_equal(filled.fill.cells, np.argwhere(holes & ~listed[:, None]))
    assert (filled.fill.values < MASK).all()


@pytest.mark.parametrize("context", [64, 65, 66, 67])
def test_every_position_has_a_quarter_of_the_context_on_either_side(context: int) -> None:
    length, margin = 300, context // 4
    for position in range(length):

        @of_ids
        def predict(
            sequences: Sequence[np.ndarray], cells: Sequence[np.ndarray], p: int = position
        ) -> list[np.ndarray]:
            before = cells[0][0, 0]
            assert before >= min(margin, p)
            assert len(sequences[0]) - 1 - before >= min(margin, length - 1 - p)
            return with_ids(counting)(sequences, cells)

        list(
            fill_records(
                predict, [record(length, [(position, position + 1)])], RANDOM, vocabulary=DIGITS, context=context
            )
        )


def test_what_is_far_away_changes_nothing() -> None:
    near = [(200, 210), (230, 240)]
    few = next(fill_records(hashing, [record(2000, near)], RANDOM, vocabulary=DIGITS, context=64)).fill
    many = next(
        fill_records(hashing, [record(2000, [(10, 20), *near, (900, 925)])], RANDOM, vocabulary=DIGITS, context=64)
    ).fill
    here = np.isin(many.cells[:, 0], few.cells[:, 0])
    assert np.array_equal(many.values[:, here], few.values)


def test_batches_change_nothing() -> None:
    config = InfillConfig(gamma=0.5, temperature=1.0, samples=3)
    tasks = [record(20 + 100 * i, [(4, 9), (15 + 50 * i, 19 + 50 * i)], seed=i) for i in range(6)]

    def values(batch_positions: int, order: Sequence[int]) -> dict[str, list[list[int]]]:
        done = fill_records(
            hashing, (tasks[i] for i in order), config, vocabulary=DIGITS, context=48, batch_positions=batch_positions
        )
        return {each.task.key: each.fill.values.tolist() for each in done}

    assert values(1, range(6)) == values(10**6, range(5, -1, -1))


def test_records_stream() -> None:
    taken = 0

    def tasks() -> Iterator[Task]:
        nonlocal taken
        for i in range(100):
            taken += 1
            yield record(30, [(4, 9)], seed=i)

    done = fill_records(hashing, tasks(), RANDOM, vocabulary=DIGITS, context=64, batch_positions=100)
    assert next(done).task.key == "r0"
    assert taken < 10
    assert sum(1 for _ in done) == 99


def test_a_genome_with_a_few_holes_costs_a_few_windows_and_little_memory() -> None:
    rng = np.random.default_rng(0)
    bases = Vocabulary.of([Field(name="base", tokens=tuple("ACGT"))])
    ids = rng.integers(0, 4, (5_000_000, 1), dtype=np.uint8)
    starts = rng.integers(0, len(ids) - 50, 20)
    for start in starts:
        ids[start : start + 30] = 4
    positions_run = 0

    @of_ids
    def predict(sequences: Sequence[np.ndarray], cells: Sequence[np.ndarray]) -> list[np.ndarray]:
        nonlocal positions_run
        positions_run += sum(map(len, sequences))
        return [np.full((len(requested), 4), np.log(0.25)) for requested in cells]

    task = Task("chr", Encoded(ids), ids == 4)
    tracemalloc.start()
    (filled,) = fill_records(predict, [task], InfillConfig(order="one_shot"), vocabulary=bases, context=1024)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(filled.fill.cells) == np.count_nonzero(task.holes)
    assert positions_run <= 2 * 20 * 1024  # a hole may lie across two chunks
    assert peak < 6 * ids.nbytes


def test_legal_cells_and_rules_hold_across_chunks() -> None:
    task = record(200, [(10, 30), (60, 75), (120, 150)])
    hole = np.flatnonzero(task.holes[:, 0])
    zero_or_one = np.zeros((len(hole), 10), bool)
    zero_or_one[:, :2] = True
    legal = LegalCells(np.stack([hole, np.zeros_like(hole)], axis=1), zero_or_one)
    known_ones = np.count_nonzero(task.encoded.ids[~task.holes] == 1)
    exactly = count_between(np.arange(10) == 1, known_ones + 7, known_ones + 7)
    ruled = Task("r", Encoded(task.encoded.ids), task.holes, (exactly, legal))
    config = InfillConfig(order="left_to_right", temperature=1.0, samples=3)
    (filled,) = fill_records(hashing, [ruled], config, vocabulary=DIGITS, context=64)
    assert filled.fill.values.max() == 1
    assert filled.fill.values.sum(axis=1).tolist() == [7, 7, 7]


def test_a_context_of_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="context is 1"):
        list(fill_records(hashing, [record(10, [(1, 2)])], InfillConfig(), vocabulary=DIGITS, context=1))
