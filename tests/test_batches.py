"""Rows: every token once an epoch, each piece masked as if alone, and all of it a function of the row number."""

import dataclasses
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from corpora import Letters, random_texts

from maskseq.apps.rows import rows_of as rows_of_recipe
from maskseq.corpus.build import build_from_records
from maskseq.corpus.reader import Corpus
from maskseq.corpus.splits import SplitConfig
from maskseq.errors import DataError, UsageError
from maskseq.masking.config import Infill, MaskingConfig, Spans, Tokens
from maskseq.masking.plan import mask_segment
from maskseq.packing import rows as batches
from maskseq.packing.packing import PackingConfig, PackingPlan
from maskseq.packing.prefetch import ahead_of
from maskseq.packing.rows import PackedRow, PackedRows, concatenate
from maskseq.recipe import load_recipe
from maskseq.types import END, Encoded
from maskseq_events.case import Case, no_time
from maskseq_events.tokenizer import EventTokenizer

CONFIG = PackingConfig(row_tokens=256, context=64)
MIXED = MaskingConfig(tokens=Tokens(), spans=Spans(weight=1.0), infill=Infill(weight=1.0))
MASK_IDS = [4, 2]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return build_from_records(
        random_texts(60, 300),
        output=tmp_path_factory.mktemp("batches") / "c",
        tokenizer=Letters(weighted=True),
        split=SplitConfig(by="record", validation=0.3),
        part_units=1000,
    )


@pytest.fixture(scope="module")
def truth(corpus: Corpus) -> list[Encoded]:
    """Every sequence as it was stored."""
    return [corpus.read(sequence) for sequence in range(len(corpus.lengths))]


def rows_of(corpus: Corpus, **options: Any) -> PackedRows:
    return PackedRows(corpus, **{"config": CONFIG, "masking": MIXED, "seed": 3, **options})


def segments(row: PackedRow) -> Iterator[tuple[int, int, slice]]:
    """Sequence, start and place in the row of each piece but the filler."""
    for segment, (sequence, start) in enumerate(zip(row.sequence.tolist(), row.start.tolist(), strict=True)):
        if sequence >= 0:
            yield sequence, start, slice(int(row.cu_seqlens[segment]), int(row.cu_seqlens[segment + 1]))


def assert_same(one: PackedRow, other: PackedRow) -> None:
    for field in dataclasses.fields(PackedRow):
        np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name), err_msg=field.name)


@pytest.mark.parametrize("split", ["train", "validation"])
def test_every_token_of_the_split_is_in_exactly_one_row_of_each_epoch(
    corpus: Corpus, truth: list[Encoded], split: Any
) -> None:
    rows = rows_of(corpus, split=split, symmetry=False)
    first = 0
    for epoch in range(3):
        seen = {int(s): np.zeros(corpus.lengths[s], int) for s in corpus.sequences(split)}
        for number in range(first, first + rows.n_rows(epoch)):
            row = rows.row(number)
            assert rows.epoch_of(number) == epoch
            for sequence, start, here in segments(row):
                stop = start + here.stop - here.start
                np.testing.assert_array_equal(row.targets[here], truth[sequence].ids[start:stop])
                seen[sequence][start:stop] += 1
        assert all((counts == 1).all() for counts in seen.values())
        first += rows.n_rows(epoch)
    assert rows.n_tokens == sum(corpus.lengths[corpus.sequences(split)])


def test_a_sequence_that_is_cut_is_seen_to_end_there_and_to_go_on_elsewhere(tmp_path: Path) -> None:
    """Half of the cases: the mark of the end stands where each breaks off, and the rest of it is a piece of its own.

    Windows of long cases are none that break off, and nothing is cut to be validated on.
    """
    rng = np.random.default_rng(0)
    sizes = [*rng.integers(3, 20, size=400).tolist(), *[150] * 10]
    cases = [
        Case(
            key=str(i),
            activity=tuple(rng.choice(list("abc"), size=size).tolist()),
            case_attributes={"kind": "xy"[i % 2]},
            **_no_time(size),
        )
        for i, size in enumerate(sizes)
    ]
    tokenizer = EventTokenizer.fit(cases, attributes=["case:kind"])
    corpus = build_from_records(cases, output=tmp_path / "c", tokenizer=tokenizer, split=SplitConfig(validation=0.2))
    end = tokenizer.fields[0].control_id(END)
    rows = rows_of(corpus, config=PackingConfig(row_tokens=256, context=64, cut=0.5))
    heads = 0
    for row in map(rows.row, range(rows.n_rows())):
        for sequence, start, here in segments(row):
            stored, n_seen = corpus.read(sequence).ids, here.stop - here.start
            seen, stop = row.targets[here], start + here.stop - here.start
            expected = stored[start:stop].copy()
            if start == 0 and n_seen < len(stored) <= 64:
                expected[-1, 0] = end
                heads += 1
            np.testing.assert_array_equal(seen, expected)
            assert n_seen > 1 or len(stored) > 64
    n_short = sum(corpus.lengths[i] <= 64 for i in corpus.sequences("train"))
    assert abs(heads - n_short / 2) < 4 * (n_short / 4) ** 0.5

    recipe = load_recipe(
        {"tokenizer": {"name": "event"}, "packing": dataclasses.asdict(rows.config), "data": {"files": ["x.csv"]}}
    )
    training, validation = rows_of_recipe(recipe, corpus)
    assert validation is not None
    assert training.config == rows.config
    for row in map(validation.row, range(validation.n_rows())):
        for sequence, start, here in segments(row):
            assert here.stop - here.start == corpus.lengths[sequence] or start or corpus.lengths[sequence] > 64


def _no_time(n_events: int) -> dict[str, Any]:
    return dict(zip(("time", "offset"), no_time(n_events), strict=True))


def test_a_row_is_well_formed(corpus: Corpus) -> None:
    rows = rows_of(corpus)
    some_filler = False
    for number in range(rows.n_rows()):
        row = rows.row(number)
        lengths = np.diff(row.cu_seqlens)
        assert row.cu_seqlens[0] == 0
        assert row.cu_seqlens[-1] == len(row.inputs) == 256
        assert row.max_seqlen == lengths.max() <= CONFIG.context
        np.testing.assert_array_equal(row.positions, np.concatenate([np.arange(n) for n in lengths]))
        assert row.n_tokens == sum(here.stop - here.start for *_, here in segments(row))
        filler = slice(row.n_tokens, None)
        assert (row.inputs[filler] == MASK_IDS).all()
        assert (row.targets[filler] == MASK_IDS).all()
        assert not row.weights[filler].any()
        np.testing.assert_array_equal(row.objective == -1, row.sequence == -1)
        np.testing.assert_array_equal(row.start == -1, row.sequence == -1)
        some_filler |= row.n_tokens < 256
    assert some_filler


def test_a_piece_is_masked_as_if_it_were_alone(corpus: Corpus, truth: list[Encoded]) -> None:
    """From its key alone: not from its neighbours, its row or its epoch's other masks."""
    rows = rows_of(corpus, symmetry=False)
    tokenizer = corpus.tokenizer
    number = rows.n_rows(0) + 2  # a row of epoch 1
    row = rows.row(number)
    for segment, (sequence, start, here) in enumerate(segments(row)):
        encoded = truth[sequence].cut(start, start + here.stop - here.start)
        weights = np.ones(encoded.ids.shape) if encoded.weights is None else encoded.weights
        scorable = (encoded.ids != MASK_IDS) & (weights > 0)
        rng = np.random.default_rng((3, 0, 1, sequence, start))
        mask = mask_segment(encoded.ids, tokenizer.units(encoded.ids), scorable, tokenizer.fields, MIXED, rng=rng)
        np.testing.assert_array_equal(row.inputs[here], mask.inputs)
        np.testing.assert_array_equal(row.weights[here], np.where(mask.masked & scorable, weights, 0))
        np.testing.assert_array_equal(row.target[here], mask.target)
        assert (row.objective[segment], row.ratio[segment]) == (mask.objective, np.float32(mask.ratio))


def test_unknown_cells_and_cells_of_weight_zero_are_never_scored(tmp_path: Path) -> None:
    class Weighted(Letters):
        def encode(self, record: Any) -> Any:
            encoded = super().encode(record)
            weights = np.where(encoded.ids == [1, 0], 0.0, 2.0)
            return dataclasses.replace(encoded, weights=weights)

    corpus = build_from_records(random_texts(20, 90), output=tmp_path / "c", tokenizer=Weighted())
    rows = rows_of(corpus, masking=MaskingConfig(ratio=0.9), symmetry=False)
    for number in range(rows.n_rows()):
        row = rows.row(number)
        assert not row.weights[(row.targets == MASK_IDS) | (row.targets == [1, 0])].any()
        assert set(np.unique(row.weights)) == {0, 2}


def test_a_field_may_inform_without_being_asked_for(corpus: Corpus) -> None:
    fields = corpus.tokenizer.fields
    plain = rows_of(corpus).row(0)
    quiet = rows_of(corpus, masking=dataclasses.replace(MIXED, field_weights={fields[0].name: 0.25})).row(0)
    np.testing.assert_array_equal(plain.inputs, quiet.inputs)
    np.testing.assert_array_equal(plain.weights * np.where(np.arange(len(fields)) == 0, 0.25, 1), quiet.weights)
    with pytest.raises(UsageError, match="there is no field 'colour'"):
        rows_of(corpus, masking=dataclasses.replace(MIXED, field_weights={"colour": 1.0}))
    with pytest.raises(UsageError, match="one must weigh more than 0"):
        rows_of(corpus, masking=dataclasses.replace(MIXED, field_weights={field.name: 0.0 for field in fields}))
    with pytest.raises(UsageError, match=f"{fields[0].name} = -1.0 must be a number from 0 on"):
        dataclasses.replace(MIXED, field_weights={fields[0].name: -1.0})


def test_every_symmetry_is_drawn_and_turns_ids_and_weights_together(corpus: Corpus, truth: list[Encoded]) -> None:
    rows = rows_of(corpus, masking=MaskingConfig(ratio=1.0))
    (symmetry,) = corpus.tokenizer.symmetries()
    turned = straight = 0
    for number in range(2 * rows.n_rows()):
        row = rows.row(number)
        for sequence, start, here in segments(row):
            original = truth[sequence].cut(start, start + here.stop - here.start)
            image = symmetry.encoded(original)
            is_image = (row.targets[here] == image.ids).all()
            is_original = (row.targets[here] == original.ids).all()
            assert is_image or is_original
            if is_image != is_original:
                turned, straight = turned + is_image, straight + is_original
                weights = (image if is_image else original).weights
                known = row.targets[here] != MASK_IDS
                expected = np.ones(known.shape) if weights is None else weights
                np.testing.assert_array_equal(row.weights[here], np.where(known, expected, 0))
    assert 0.4 < turned / (turned + straight) < 0.6


def test_rows_do_not_depend_on_what_was_asked_before(corpus: Corpus) -> None:
    numbers = list(range(0, 2 * rows_of(corpus).n_rows(), 3))
    forward = rows_of(corpus)
    backward = rows_of(corpus)
    reverse = {number: backward.row(number) for number in reversed(numbers)}
    for number in numbers:
        assert_same(forward.row(number), reverse[number])


@pytest.mark.parametrize(
    "other", [{"seed": 4}, {"stage": 1}, {"masking": MaskingConfig()}, {"config": PackingConfig()}]
)
def test_the_fingerprint_and_the_rows_change_with_seed_stage_and_options(corpus: Corpus, other: dict[str, Any]) -> None:
    one, changed = rows_of(corpus), rows_of(corpus, **other)
    assert one.fingerprint == rows_of(corpus).fingerprint != changed.fingerprint
    if "config" not in other:
        assert (one.row(0).inputs != changed.row(0).inputs).any()


def test_epochs_differ_unless_the_masks_are_fixed(corpus: Corpus) -> None:
    """Of pieces that are whole records, hence the same in each epoch."""

    def inputs(rows: PackedRows, epoch: int) -> dict[int, np.ndarray]:
        first = sum(rows.n_rows(e) for e in range(epoch))
        found = {}
        for number in range(first, first + rows.n_rows(epoch)):
            row = rows.row(number)
            found |= {s: row.inputs[here] for s, _, here in segments(row) if corpus.lengths[s] <= CONFIG.context}
        return found

    free, fixed = rows_of(corpus), rows_of(corpus, mask_epoch=0)
    assert any((inputs(free, 0)[s] != after).any() for s, after in inputs(free, 1).items())
    assert all((inputs(fixed, 0)[s] == after).all() for s, after in inputs(fixed, 1).items())
    np.testing.assert_array_equal(free.row(0).inputs, fixed.row(0).inputs)


def test_the_masking_schedule_follows_the_tokens(corpus: Corpus) -> None:
    masking = MaskingConfig(ratio=0.1, schedule="linear", final_ratio=0.9)
    rows = rows_of(corpus, masking=masking, total_tokens=256 * 101)
    for number, ratio in ((0, 0.1), (50, 0.5), (101, 0.9), (400, 0.9)):
        row = rows.row(number)
        long = np.diff(row.cu_seqlens)[row.sequence >= 0] >= 40
        np.testing.assert_allclose(row.ratio[row.sequence >= 0][long], ratio, atol=0.02)
    step = rows_of(
        corpus,
        masking=MaskingConfig(ratio=0.1, schedule="step", final_ratio=0.9),
        total_tokens=256 * 100,
        decay_start=0.8,
    )
    assert step.row(79).ratio.max() < 0.4
    assert step.row(80).ratio.max() > 0.6


def test_row_counts_are_kept_and_a_damaged_cache_is_planned_again(corpus: Corpus, tmp_path: Path) -> None:
    rows = rows_of(corpus, cache=tmp_path / "plans", chunk_tokens=200)
    truth = [rows.n_rows(epoch) for epoch in range(3)]
    last = rows.row(sum(truth) - 1)

    def planned_blocks(path: Path) -> int:
        with patch.object(PackingPlan, "block", autospec=True, side_effect=PackingPlan.block) as planned:
            again = rows_of(corpus, cache=path, chunk_tokens=200)
            assert [again.n_rows(epoch) for epoch in range(3)] == truth
            n_planned = planned.call_count
        assert_same(again.row(sum(truth) - 1), last)
        return n_planned

    assert len(list((tmp_path / "plans").iterdir())) == 3
    assert planned_blocks(tmp_path / "plans") == 0
    for path in (tmp_path / "plans").iterdir():
        data = path.read_bytes()
        path.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    assert planned_blocks(tmp_path / "plans") > 0


def test_many_small_blocks_give_every_token_once_too(
    corpus: Corpus, truth: list[Encoded], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With blocks of a few records, rows, reads across gaps and block limits all come into play."""
    for gap in (0, 1 << 20):
        monkeypatch.setattr("maskseq.packing.blocks.GAP_BYTES", gap)
        rows = rows_of(corpus, split="validation", symmetry=False, chunk_tokens=50)
        assert rows._plan.n_blocks() > 2
        n_seen = 0
        for number in range(rows.n_rows()):
            row = rows.row(number)
            for sequence, start, here in segments(row):
                encoded = truth[sequence].cut(start, start + here.stop - here.start)
                np.testing.assert_array_equal(row.targets[here], encoded.ids)
                if encoded.weights is not None:
                    scored = row.weights[here] > 0
                    np.testing.assert_array_equal(row.weights[here][scored], encoded.weights[scored])
            n_seen += row.n_tokens
        assert n_seen == rows.n_tokens


def test_ranks_divide_the_rows_and_prefetching_changes_nothing(corpus: Corpus) -> None:
    rows = rows_of(corpus)
    for rank in range(3):
        stream = rows.prefetch(5 + rank, step=3)
        for number in range(5 + rank, 40, 3):
            assert_same(next(stream), rows.row(number))
        stream.close()


def test_the_next_block_is_read_while_rows_are_made(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a block is asked for, the one before is not used up yet: waiting for a slow store goes on beside."""
    rows = rows_of(corpus, chunk_tokens=1500)
    taken, requested = [0], []
    original = batches.load_block

    def watched(*arguments: Any, **options: Any) -> Any:
        requested.append((taken[0], threading.current_thread().name))
        return original(*arguments, **options)

    monkeypatch.setattr(batches, "load_block", watched)
    stream = rows.prefetch(0, ahead=1)
    n_rows = rows.n_rows(0) + rows.n_rows(1)
    for _ in range(n_rows):
        next(stream)
        taken[0] += 1
    stream.close()
    ends = np.cumsum([block.n_rows for epoch in range(2) for block in rows._plan.epoch(epoch)])
    n_blocks, starts = len(ends), [0, *ends.tolist()]
    assert n_blocks <= len(requested) <= n_blocks + 2  # each block once, and what comes after the last row
    for (already, thread), start in list(zip(requested, starts, strict=False))[1:]:
        assert thread.startswith("maskseq-blocks")
        assert already < max(start, 1)


def test_what_goes_wrong_while_prefetching_is_raised_where_it_happened(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = rows_of(corpus)
    original = PackedRows.row

    def broken(self: PackedRows, number: int) -> PackedRow:
        if number == 7:
            raise DataError("part", "damaged")
        return original(self, number)

    monkeypatch.setattr(PackedRows, "row", broken)
    stream = rows.prefetch(0)
    assert len([next(stream) for _ in range(7)]) == 7
    with pytest.raises(DataError, match="damaged"):
        next(stream)
    with pytest.raises(StopIteration):
        next(stream)


def test_a_closed_or_forgotten_stream_leaves_no_thread_behind() -> None:
    before = threading.active_count()
    endless = ahead_of(iter(int, 1), 4)
    assert next(endless) == 0
    assert threading.active_count() == before + 1
    endless.close()
    assert threading.active_count() == before
    forgotten = ahead_of(iter(int, 1), 4)
    next(forgotten)
    del forgotten
    assert threading.active_count() == before


def test_a_stream_works_ahead_but_no_further_than_asked() -> None:
    taken = []
    stream = ahead_of((taken.append(n) or n for n in range(100)), 5)
    assert next(stream) == 0
    deadline = time.monotonic() + 5
    while len(taken) < 7 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    assert len(taken) == 7  # one consumed, five waiting, one in hand
    assert list(stream) == list(range(1, 100))


def test_a_micro_batch_is_its_rows_one_after_the_other(corpus: Corpus) -> None:
    rows = [rows_of(corpus).row(number) for number in range(3)]
    together = concatenate(rows)
    assert together.n_tokens == sum(row.n_tokens for row in rows)
    assert together.cu_seqlens[-1] == len(together.inputs) == 3 * 256
    assert together.max_seqlen == max(np.diff(together.cu_seqlens))
    n_before = 0
    for index, row in enumerate(rows):
        here = slice(256 * index, 256 * (index + 1))
        n_segments = len(row.sequence)
        edges = together.cu_seqlens[n_before : n_before + n_segments + 1]
        np.testing.assert_array_equal(edges - 256 * index, row.cu_seqlens)
        for name in ("inputs", "targets", "weights", "positions", "target"):
            np.testing.assert_array_equal(getattr(together, name)[here], getattr(row, name))
        for name in ("sequence", "start", "objective", "ratio"):
            np.testing.assert_array_equal(getattr(together, name)[n_before : n_before + n_segments], getattr(row, name))
        n_before += n_segments
    assert concatenate(rows[:1]) is rows[0]


def test_an_empty_split_is_a_usage_error(tmp_path: Path) -> None:
    corpus = build_from_records(
        random_texts(5, 9), output=tmp_path / "c", tokenizer=Letters(), split=SplitConfig(by="none")
    )
    with pytest.raises(UsageError, match="the validation split is empty"):
        rows_of(corpus, split="validation")
    with pytest.raises(ValueError, match="numbered from 0"):
        rows_of(corpus).row(-1)
