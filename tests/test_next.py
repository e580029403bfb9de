"""What comes next: open prefixes in training, continuations of a process that is known, and the commands' tables."""

import csv
import json
import shutil
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

sys.path.insert(0, str(Path(__file__).parent))

from untrained import untrained

from maskseq.apps.generate import chosen, open_predictors
from maskseq.baselines.open_blend import open_blend, open_cells, open_experts
from maskseq.cli import app
from maskseq.corpus.build import build_from_records
from maskseq.corpus.reader import Corpus
from maskseq.corpus.splits import SplitConfig
from maskseq.errors import UsageError
from maskseq.evaluation.protocols import Protocol
from maskseq.generate.continuation import GenerateConfig, continuations
from maskseq.masking.config import OBJECTIVES, MaskingConfig, Tail
from maskseq.masking.open_prefixes import mask_tail, prefixes
from maskseq.packing.packing import PackingConfig
from maskseq.packing.rows import PackedRow, PackedRows
from maskseq.predict.experts.left_only import drift, left_only, seasonal_naive
from maskseq.predict.experts.left_out import OwnRecords
from maskseq.predict.experts.training_data import TrainingData, training_data
from maskseq.predict.protocol import Example, Predict
from maskseq.trained import TrainedModel, load
from maskseq.types import END, Encoded
from maskseq_events.bins import gap_bins
from maskseq_events.case import Case
from maskseq_events.columns import Column
from maskseq_events.times import MINUTE, SECOND
from maskseq_events.tokenizer import EventTokenizer
from maskseq_signals.recording import Recording
from maskseq_signals.tokenizer import QuantizeTokenizer

COLOURS = ("red", "blue")
EVENTS = EventTokenizer(
    activities=("a", "b", "c"),
    columns=(Column(name="colour", scope="case", values=COLOURS, absent=False),),
    gaps=gap_bins(np.array([30.0, 60.0, 90.0]) * SECOND, np.ones(3, np.int64), 3),
)
TAIL = OBJECTIVES.index("tail")


def case(key: str, activities: str, colour: str = "red") -> Case:
    """One event a minute."""
    n = len(activities)
    return Case(
        key=key,
        activity=tuple(activities),
        time=np.arange(n, dtype=np.int64) * MINUTE,
        offset=np.zeros(n, np.int32),
        attributes={},
        case_attributes={"colour": colour},
    )


def cases(n: int = 60) -> list[Case]:
    """`a`, then `b` n times, then `c`, and the end: a red case has 2, a blue one 4."""
    return [case(f"c{i}", "a" + "b" * (2 + 2 * (i % 2)) + "c", COLOURS[i % 2]) for i in range(n)]


def recording(values: np.ndarray) -> Recording:
    return Recording(key="r", channels=values[:, None], names=("x",))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return build_from_records(
        cases(),
        output=tmp_path_factory.mktemp("next") / "c",
        tokenizer=EVENTS,
        split=SplitConfig(by="record", selection=0.2, duplicates="ignore"),
    )


def rows_of(corpus: Corpus, **options: Any) -> PackedRows:
    config = {"config": PackingConfig(row_tokens=64, context=16, open=1.0), "masking": MaskingConfig(), "seed": 3}
    return PackedRows(corpus, **{**config, **options})


def segments(row: PackedRow) -> list[tuple[int, slice]]:
    edges = row.cu_seqlens.tolist()
    spans = [slice(*each) for each in pairwise(edges)]
    return [(sequence, span) for sequence, span in zip(row.sequence.tolist(), spans, strict=True) if sequence >= 0]


@pytest.mark.parametrize("most", [1, 3])
def test_open_prefixes_begin_as_their_sequence_does_and_are_masked_at_the_end_only(corpus: Corpus, most: int) -> None:
    rows = rows_of(corpus, masking=MaskingConfig(tail=Tail(most=most)))
    mask_ids = np.array(EVENTS.vocabulary.mask_ids)
    seen, numbers = set(), set()
    for number in range(rows.n_rows()):
        row = rows.row(number)
        for (sequence, span), objective in zip(segments(row), row.objective, strict=False):
            truth = corpus.read(sequence).ids
            ids, inputs = row.targets[span], row.inputs[span]
            assert objective == TAIL
            assert np.array_equal(ids, truth[: len(ids)])  # so a mark of the end is there where the whole is
            masked = (inputs == mask_ids).any(axis=1)
            n = int(masked.sum())
            assert masked[len(ids) - n :].all()
            assert 1 <= n <= most
            assert np.array_equal(inputs, EVENTS.extended(ids[: len(ids) - n], n)) or len(ids) == n
            assert ((row.weights[span] > 0) == (inputs == mask_ids)).all()
            seen.add((len(truth), len(ids)))
            numbers.add(n)
    assert {length for whole, length in seen if whole == 7} == set(range(1, 8))
    assert numbers == set(range(1, most + 1))


def test_every_position_is_asked_alike_on_average_whatever_the_length() -> None:
    rng = np.random.default_rng(0)
    for length in (1, 2, 5, 9):
        counts = np.zeros(length + 1)
        for _ in range(8000):
            stops = prefixes(length, rng)
            assert sum(stops) == length
            np.add.at(counts, stops, (length + 1) / 2)
        assert np.allclose(counts[1:] / 8000, 1, atol=0.1)


def test_without_open_prefixes_rows_are_what_they_were(corpus: Corpus) -> None:
    plain, whole = (rows_of(corpus, config=PackingConfig(row_tokens=64, context=16, open=o)) for o in (0.0, 1.0))
    assert plain.n_rows() == whole.n_rows()
    assert TAIL not in plain.row(0).objective
    assert plain.row(0).n_tokens == whole.row(0).n_tokens


def test_a_mask_of_the_tail_hides_all_that_depends_on_it() -> None:
    ids = EVENTS.encode(case("x", "abbc")).ids
    mask = mask_tail(ids, EVENTS.units(ids), EVENTS.fields, positions=2)
    assert mask.masked[-2:, 0].all()
    assert mask.masked[-2:, 2:].all()
    assert not mask.masked[:-2].any()
    assert not mask.masked[:, 1].any()  # the colour of the whole case


def test_a_known_process_goes_on_as_it_does_and_ends_where_it_ends() -> None:
    sequences = [EVENTS.encode(each).ids for each in cases()]
    predict = left_only(sequences, EVENTS)["prefix table"]
    requested = [("one", EVENTS.encode(case("one", "abb"))), ("two", EVENTS.encode(case("two", "abbb")))]
    config = GenerateConfig(steps=6, samples=64)
    one, two = continuations(predict, EVENTS, requested, config, context=16)
    assert two.marginals[0, 0, 1] > 0.9  # a fourth b
    assert one.ended.mean() > 0.9
    assert one.running[0] == 64
    # After a, b, b: half of the cases have c now and the end, half b, b, c and the end.
    assert 0.3 < one.marginals[0, 0, 2] < 0.7
    both = np.bincount(one.length, minlength=7) / 64
    assert both[1] + both[3] > 0.85
    assert min(both[1], both[3]) > 0.3
    gap = EVENTS.vocabulary.names.index("gap")
    minutes = one.sums(gap, EVENTS.fields[gap].centres or ()) / 60
    assert np.allclose(minutes[(one.length == 3) & one.ended], 3, rtol=0.5)


def test_the_end_is_an_outcome_and_what_follows_it_is_nothing() -> None:
    sequences = [EVENTS.encode(each).ids for each in cases()]
    predict = left_only(sequences, EVENTS)["prefix table"]
    (found,) = continuations(
        predict, EVENTS, [("x", EVENTS.encode(case("x", "abbc")))], GenerateConfig(steps=3, samples=20), context=16
    )
    end = EVENTS.fields[0].control_id(END)
    assert found.marginals[0, 0, end] > 0.9
    over = found.ended & (found.length == 0)
    assert over.any()
    assert (found.ids[over] == np.array(EVENTS.vocabulary.mask_ids)).all()


def test_a_sample_does_not_depend_on_its_company_nor_on_how_many_there_are() -> None:
    sequences = [EVENTS.encode(each).ids for each in cases()]
    predict = left_only(sequences, EVENTS)["order-3 chain"]
    requested = [(key, EVENTS.encode(case(key, text))) for key, text in (("x", "ab"), ("y", "abb"))]
    many = continuations(predict, EVENTS, requested, GenerateConfig(steps=4, samples=5), context=16)
    (alone,) = continuations(predict, EVENTS, requested[1:], GenerateConfig(steps=4, samples=3), context=16)
    assert np.array_equal(many[1].ids[:3], alone.ids)


def test_forecasts_in_blocks_follow_a_series_that_is_known() -> None:
    values = np.tile([0.0, 1.0, 2.0, 3.0], 100)[:, None]
    train = recording(values[:, 0])
    tokenizer = QuantizeTokenizer.fit([train], scheme="uniform", bins=16)
    ids = tokenizer.encode(train).ids
    naive = left_only([ids], tokenizer, periods=[4])["season of 4"]
    (found,) = continuations(
        naive, tokenizer, [("r", Encoded(ids))], GenerateConfig(steps=6, samples=2, block=4), context=32
    )
    centres = tokenizer.fields[0].centres or ()
    assert np.allclose(found.posterior(0, centres).median, values[:6, 0], atol=0.3)
    with pytest.raises(UsageError):
        continuations(naive, tokenizer, [("r", Encoded(ids))], GenerateConfig(steps=40, block=32), context=32)


def test_simple_forecasts_are_what_their_names_say() -> None:
    values = np.array([1.0, 2.0, 4.0, np.nan, np.nan, np.nan])[:, None]
    assert np.allclose(drift(values)[3:, 0], [5.5, 7.0, 8.5])
    assert np.allclose(seasonal_naive(2)(values)[3:, 0], [2.0, 4.0, 2.0])
    assert np.allclose(seasonal_naive(9)(values)[3:, 0], 4.0)


def test_next_asks_for_every_position_with_nothing_behind_it_the_end_included() -> None:
    records = [(each.key, EVENTS.encode(each)) for each in cases(2)]
    protocol = Protocol.parse("next", MaskingConfig())
    requested = list(protocol.examples(records, EVENTS, context=16))
    assert [len(each.truth) for each in requested] == [*range(1, 6), *range(1, 8)]
    for each in requested:
        assert set(each.cells[:, 0].tolist()) == {len(each.truth) - 1}
        assert not each.masked[:-1].any()
    suffixes = Protocol.parse("suffix-3", MaskingConfig()).examples(records, EVENTS, context=16)
    assert [len(each.truth) for each in suffixes] == [3, 4, 5, 3, 4, 5, 6, 7]


def test_a_forecast_asks_for_the_ends_of_windows() -> None:
    ids = np.arange(40, dtype=np.uint8)[:, None] % 4
    tokenizer = QuantizeTokenizer.fit([recording(np.arange(40.0) % 4)], scheme="uniform", bins=4)
    found = list(Protocol.parse("forecast-3", MaskingConfig()).examples([("r", Encoded(ids))], tokenizer, context=16))
    assert [sorted(set(each.cells[:, 0].tolist())) for each in found] == [[13, 14, 15], [13, 14, 15], [5, 6, 7]]


def run_of(corpus: Corpus, folder: Path, *, open_: float) -> TrainedModel:
    """An untrained encoder, beside the recipe that would have trained it."""
    untrained(EVENTS, folder, context=16)
    (folder / "recipe.json").write_text(
        json.dumps({"recipe": {"data": {}, "tokenizer": {}, "packing": {"open": open_}}})
    )
    shutil.copytree(corpus.path, folder / "corpus")
    return load(folder, trust_code=True)


@pytest.fixture(scope="module")
def opened(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    return run_of(corpus, tmp_path_factory.mktemp("opened") / "run", open_=0.3)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    lines = ["case,activity,time,colour"]
    for key, activities in (("x", "abb"), ("y", "abbb")):
        lines += [f"{key},{name},2024-01-01 10:{i:02d}:00,red" for i, name in enumerate(activities)]
    path = tmp_path / "log.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def maskseq(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_next_writes_a_row_for_each_case_step_and_field(opened: TrainedModel, log: Path, tmp_path: Path) -> None:
    out, drawn = tmp_path / "next.csv", tmp_path / "drawn.jsonl"
    options = ("--steps", 2, "--samples", 5, "--trust-code")
    result = maskseq("next", opened.path, log, "-o", out, "--drawn", drawn, *options)
    assert result.exit_code == 0, result.output
    rows = table(out)
    assert {(row["key"], row["known"]) for row in rows} == {("x", "3"), ("y", "4")}
    first = [row for row in rows if row["step"] == "1"]
    assert [row["field"] for row in first] == ["activity", "gap", "hour", "weekday"] * 2  # the colour is known
    assert all(0 < float(row["probability"]) <= 1 for row in rows)
    assert all(row["low80"] < row["high80"] for row in rows if row["field"] == "gap")
    values = [json.loads(line) for line in drawn.read_text().splitlines()]
    assert {each["sample"] for each in values} <= set(range(5))
    again = tmp_path / "again.csv"
    maskseq("next", opened.path, log, "-o", again, *options)
    assert again.read_bytes() == out.read_bytes()


def test_the_rest_of_a_case_is_a_row(opened: TrainedModel, log: Path, tmp_path: Path) -> None:
    out = tmp_path / "rest.csv"
    result = maskseq(
        "next", opened.path, log, "--rest", "--by", "counted", "--case", "y", "-o", out, "--trust-code", "--most", 8
    )
    assert result.exit_code == 0, result.output
    (row,) = table(out)
    assert row["key"] == "y"
    assert float(row["ended"]) > 0.8
    assert json.loads(row["rest"]) == ["b", "c"]  # prefixes know that four b follow three, whatever the colour
    assert 90 < float(row["time_median"]) < 200  # two minutes, in seconds


def test_a_gate_of_what_comes_next_is_asked_about_open_prefixes_only(corpus: Corpus) -> None:
    held_out = open_cells(corpus, context=16)
    ends = np.array([END in each.controls for each in EVENTS.fields])
    mask_ids = np.array(EVENTS.vocabulary.mask_ids)
    of_key = {corpus.key(i): each.ids for i, each in corpus.each("selection")}
    done, lengths = 0, set()
    for example, cells in zip(held_out.examples, held_out.cells, strict=True):
        truth = of_key[example.key][: len(example.ids)]
        masked = example.ids == mask_ids
        assert np.array_equal(example.ids[:-1], truth[:-1])  # nothing behind it, and nothing before it hidden
        assert set(cells[:, 0].tolist()) == {len(truth) - 1}
        assert masked[tuple(cells.T)].all()
        asks_end = set(np.flatnonzero(ends).tolist()) <= set(cells[:, 1].tolist())
        assert asks_end or not masked[-1, ends].any()
        assert np.array_equal(held_out.truth[done : done + len(cells)], truth[tuple(cells.T)])
        done += len(cells)
        lengths.add(len(truth) == len(of_key[example.key]))
    assert done == len(held_out.truth) == len(held_out.regions)
    assert lengths == {True, False}  # that a case is over is one of the outcomes


def accuracy(predict: Predict, corpus: Corpus) -> float:
    held_out = open_cells(corpus, context=16, seed=9)
    first = [cells[:1] for cells in held_out.cells]
    truth = held_out.truth[np.cumsum([0, *map(len, held_out.cells)])[:-1]]
    answers = predict(held_out.examples, first)
    return float(np.mean([np.argmax(each[0]) == value for each, value in zip(answers, truth.tolist(), strict=True)]))


def test_the_blend_of_what_comes_next_is_no_worse_than_its_best_expert(corpus: Corpus, opened: TrainedModel) -> None:
    predict, names = open_blend(corpus, opened.predict(), context=16)
    assert set(names) <= {"prefix table", "order-3 chain", "encoder"}
    tables = open_experts(corpus)
    best = max(accuracy(each, corpus) for each in [*tables.values(), opened.predict()])
    assert accuracy(predict, corpus) >= best - 0.01
    assert chosen(opened, None)[1] == " + ".join(names)
    assert chosen(opened, "encoder")[1] == "encoder"
    assert "encoder" not in chosen(opened, "counted")[1]


def test_what_comes_next_is_judged_by_what_next_predicts_with(opened: TrainedModel) -> None:
    result = maskseq(
        "evaluate",
        opened.path,
        "--protocol",
        "next",
        "--protocol",
        "gap-1",
        "--field",
        "activity",
        "--cells",
        60,
        "--few",
        "--trust-code",
        "--json",
    )
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert list(found["protocols"]) == ["next", "gap-1"]
    assert "prefix table (expert)" in found["predictors"]
    corpus = opened.corpus()
    by = open_predictors(opened, corpus, (), symmetries=True, selection=False)  # it is what is judged here
    assert list(by) == ["blend", "encoder", "prefix table", "order-3 chain"]


def test_tables_of_what_comes_next_leave_out_the_case_they_are_asked_about() -> None:
    sequences = [EVENTS.encode(case("odd", "cab")).ids, *(EVENTS.encode(each).ids for each in cases(8))]
    data = TrainingData(["odd", *(each.key for each in cases(8))], sequences)
    table = left_only(data.views(EVENTS), EVENTS, records=OwnRecords(data, EVENTS))["prefix table"]
    prefix, cell = EVENTS.extended(sequences[0][:1], 1), [np.array([[1, 0]])]
    (own,), (others,) = (table([Example(prefix, key=key)], cell) for key in ("odd", "new"))
    a = EVENTS.activities.index("a")
    assert others[0, a] > own[0, a] + 0.5


def test_without_its_corpus_an_open_run_answers_by_its_encoder(opened: TrainedModel, tmp_path: Path) -> None:
    shutil.copytree(opened.path, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "corpus")
    with pytest.warns(UserWarning, match="alone"):
        assert chosen(load(tmp_path / "run", trust_code=True), None)[1] == "encoder"


def test_a_run_that_saw_every_end_answers_by_counts_or_not_at_all(corpus: Corpus, log: Path, tmp_path: Path) -> None:
    closed = run_of(corpus, tmp_path / "run", open_=0.0)
    result = maskseq("next", closed.path, log, "-o", tmp_path / "next.csv", "--trust-code")
    assert result.exit_code == 0
    assert "packing.open" in result.output
    assert table(tmp_path / "next.csv")[4]["value"] == "b"
    shutil.rmtree(closed.path / "corpus")
    for by in ((), ("--by", "encoder")):
        result = maskseq("next", closed.path, log, "-o", tmp_path / "none.csv", "--trust-code", *by)
        assert result.exit_code == 2
        assert "packing.open" in result.output
        assert not (tmp_path / "none.csv").exists()


@pytest.mark.parametrize(
    ("options", "code", "word"),
    [
        (("--case", "z"), 2, "z"),
        (("--steps", "0"), 2, "steps"),
        (("--most", "3"), 2, "--rest"),
        (("--output", "LOG"), 2, "input"),
        (("--output", "table.txt"), 2, "csv"),
    ],
)
def test_bad_requests_end_in_one_line(
    opened: TrainedModel, log: Path, options: tuple[str, str], code: int, word: str
) -> None:
    given = [str(log) if each == "LOG" else each for each in options]
    result = maskseq("next", opened.path, log, *given, "--trust-code")
    assert result.exit_code == code
    assert word in result.output


def test_nothing_goes_on_from_nothing(opened: TrainedModel) -> None:
    config = GenerateConfig()
    empty = EVENTS.encode(case("empty", ""))
    (found,) = continuations(opened.predict(), EVENTS, [("empty", empty)], config, context=16)
    assert found.running[0] == 1


def test_a_forecast_is_of_numbers(opened: TrainedModel, log: Path) -> None:
    result = maskseq("forecast", opened.path, log, "--steps", 3, "--trust-code")
    assert result.exit_code == 2
    assert "next" in result.output


def test_forecast_writes_a_row_for_each_step_and_channel(tmp_path: Path) -> None:
    values = np.arange(60.0) % 4
    tokenizer = QuantizeTokenizer.fit([recording(values)], scheme="uniform", bins=16)
    untrained(tokenizer, tmp_path / "run", context=16)
    path = tmp_path / "x.csv"
    path.write_text("x\n" + "".join(f"{value}\n" for value in values))
    out = tmp_path / "f.parquet"
    result = maskseq("forecast", tmp_path / "run", path, "--steps", 20, "--samples", 3, "-o", out, "--trust-code")
    assert result.exit_code == 0, result.output
    rows = pq.read_table(out).to_pylist()
    assert [row["step"] for row in rows] == list(range(1, 21))  # further than the context
    assert all(row["low95"] <= row["low50"] <= row["median"] <= row["high50"] <= row["high95"] for row in rows)
    result = maskseq("next", tmp_path / "run", path, "--rest", "--trust-code")
    assert result.exit_code == 2
    assert "end" in result.output


def test_all_tables_of_an_evaluation_count_the_same_records(corpus: Corpus, tmp_path: Path) -> None:
    """Those of what `next` predicts with answer as the simple methods do, which count the training part."""
    run = run_of(corpus, tmp_path / "run", open_=0.0)
    judged = open_predictors(run, corpus, (), symmetries=True, selection=True)
    counted = training_data(corpus)
    simple = left_only(counted.views(EVENTS), EVENTS, records=OwnRecords(counted, EVENTS))
    more = open_experts(corpus)
    ids = corpus.read(int(corpus.sequences("selection")[0])).ids[:3].astype(np.int64)
    ids[2] = EVENTS.vocabulary.mask_ids
    question = [Example(ids, key="another")], [np.array([[2, 0]])]
    for name, predict in simple.items():
        np.testing.assert_array_equal(judged[name](*question)[0], predict(*question)[0])
        assert not np.array_equal(more[name](*question)[0], predict(*question)[0])
