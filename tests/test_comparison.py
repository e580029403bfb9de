"""The verdict: against which simple method, on which cells, and what is claimed when."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner
from untrained import untrained

from maskseq.baselines.baselines import Baselines
from maskseq.cli import app
from maskseq.comparison.judge import judge
from maskseq.comparison.question import Question
from maskseq.comparison.verdict import CELLS, FieldComparison, Verdict, compare_field, gained
from maskseq.corpus.build import build_from_records
from maskseq.corpus.splits import SplitConfig
from maskseq.errors import UsageError
from maskseq.evaluation.paired import MARGINS, by_region, compared, opponent
from maskseq.evaluation.results import Result, stored_as
from maskseq.masking.config import MaskingConfig
from maskseq.predict.experts.tables import ContextTables
from maskseq.scoring.score import requested_fields
from maskseq.types import Encoded
from maskseq_events.case import Case
from maskseq_events.tokenizer import EventTokenizer
from maskseq_genomics.nucleotide import NucleotideTokenizer


def compare(ours: np.ndarray, region: np.ndarray, metric: str = "bits", **theirs: np.ndarray) -> FieldComparison:
    return compare_field(
        {"product": ours, **theirs}, region, product="product", simple=theirs, metric=metric, protocol="p", field="f",
        of=CELLS,
    )  # fmt: skip


# ---- the opponent -------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 12), st.integers(0, 10**6))
def test_an_opponent_is_chosen_where_it_is_not_used(n_regions: int, seed: int) -> None:
    """On each half it is the method that is best on the other one, whatever happens on its own."""
    rng = np.random.default_rng(seed)
    region = np.concatenate([np.arange(n_regions), rng.integers(n_regions, size=40)])
    losses = {name: rng.exponential(size=len(region)) for name in "abc"}
    found = opponent(losses, region, "bits")
    used = np.array([[each[i] == found.losses[i] for each in losses.values()] for i in range(len(region))])
    sides: dict[str, set[int]] = {}
    for i, row in zip(region.tolist(), used, strict=True):
        (name,) = np.array(list(losses))[row]
        sides.setdefault(str(name), set()).add(i)
    assert set(found.names) == set(sides)
    halves = list(sides.values()) if len(sides) == 2 else []
    for mine, other in zip(halves, halves[::-1], strict=True):
        assert not mine & other
        means = {name: each[np.isin(region, list(other))].mean() for name, each in losses.items()}
        assert sides[min(means, key=lambda name: means[name])] == mine


def test_luck_is_no_opponent() -> None:
    """Fifty methods that only guess: the best one on the same cells looks better than it is, the opponent does not."""
    rng = np.random.default_rng(0)
    gaps, naive = [], []
    for _ in range(40):
        losses = {str(i): rng.normal(1.0, 1.0, size=60) for i in range(50)}
        gaps.append(opponent(losses, np.arange(60), "bits").losses.mean())
        naive.append(min(each.mean() for each in losses.values()))
    assert np.mean(naive) < 0.8
    assert np.mean(gaps) == pytest.approx(1.0, abs=0.05)


def test_a_single_region_cannot_be_halved() -> None:
    found = opponent({"a": np.ones(4), "b": np.zeros(4)}, np.zeros(4, int), "bits")
    assert found.name == "b"


def test_regions_are_gathered_and_lose_nothing() -> None:
    rng = np.random.default_rng(0)
    region, values = rng.integers(1000, size=5000), rng.random(5000)
    sums, sizes = by_region(region, values)
    assert len(sums) == len(sizes) == 200
    assert sums.sum() == pytest.approx(values.sum())
    assert sizes.sum() == 5000


# ---- verdicts -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("factor", "regions", "verdict"),
    [
        (0.9, 50, "better than"),
        (1.0, 50, "no better than"),
        (1.005, 50, "no better than"),  # a loss within the margin
        (1.1, 50, "worse than"),
        (0.9, 5, "undecided"),
    ],
)
def test_verdicts(factor: float, regions: int, verdict: str) -> None:
    theirs = np.random.default_rng(0).exponential(2.0, size=10 * regions)
    found = compare(factor * theirs, np.repeat(np.arange(regions), 10), table=theirs)
    assert found.verdict == verdict
    assert found.gain == pytest.approx(1 - factor)
    assert (found.n, found.regions, found.best_simple) == (10 * regions, regions, "table")


def test_a_hundredth_of_a_bit_decides_nothing() -> None:
    theirs = np.random.default_rng(0).exponential(0.001, size=500)
    region = np.repeat(np.arange(50), 10)
    assert compare(theirs + 0.015, region, table=theirs).verdict == "no better than"
    assert compare(theirs + 0.03, region, table=theirs).verdict == "worse than"


def test_gaps_that_nobody_gets_right_decide_nothing() -> None:
    wrong = np.zeros(400)
    assert compare(wrong, np.arange(400), "exact", table=wrong).verdict == "undecided"
    ours = np.where(np.arange(400) % 10 == 0, 1.0, 0.0)
    found = compare(ours, np.arange(400), "exact", table=wrong)
    assert found.verdict == "better than"
    assert found.gain == pytest.approx(0.1)


def test_the_interval_is_that_of_the_panel() -> None:
    rng = np.random.default_rng(3)
    region, theirs = np.repeat(np.arange(30), 5), rng.exponential(size=150)
    ours = theirs * rng.normal(0.95, 0.1, size=150)
    sums = [np.array([each[region == i].sum() for i in range(30)]) for each in (ours, theirs, np.ones(150))]
    expected = compared(*sums, "bits")
    found = compare(ours, region, table=theirs)
    assert found.gain_interval == pytest.approx((expected.low, expected.high))


def test_a_single_region_has_no_interval() -> None:
    assert gained(0.125, (0.1, 0.15), "bits", 7) == "+12.5 (+10.0 to +15.0) %"
    assert "(-50.0" not in gained(-0.5, (-0.5, -0.5), "squared error", 1)


def test_the_headline_is_the_worst_field() -> None:
    """A large gain in one field does not make up for a small loss in another."""
    region, theirs = np.repeat(np.arange(40), 5), np.random.default_rng(0).exponential(2.0, size=200)
    won, tied, lost = (compare(factor * theirs, region, table=theirs) for factor in (0.2, 1.0, 1.05))
    found = Verdict.of([won, lost, tied])
    assert found is not None
    assert found.outcome == "worse than"
    assert found.worst is lost
    assert found.counts == {"worse than": 1, "no better than": 1, "better than": 1}
    few = compare(theirs[:10], region[:10], table=theirs[:10])
    decided = Verdict.of([won, few])
    assert decided is not None
    assert decided.outcome == "better than"  # what is undecided says nothing
    assert Verdict.of([]) is None
    assert set(MARGINS) == {"bits", "squared error", "absolute error", "exact"}


# ---- from masked examples to a verdict ----------------------------------------------------------------------------


def cases(n: int, seed: int) -> list[Case]:
    rng = np.random.default_rng(seed)
    return [
        Case(
            key=str(i),
            activity=tuple("ABC"[(i + j) % 3] for j in range(8)),
            time=np.cumsum(rng.integers(1, 10**11, size=8)),
            offset=np.zeros(8, np.int32),
            attributes={"room": tuple(rng.choice(list("xy"), size=8).tolist())},
            case_attributes={},
        )
        for i in range(n)
    ]


def test_any_predictors_are_compared_and_the_product_is_named() -> None:
    """Activities follow a cycle: what sees no neighbour loses there, whatever it is called."""
    tokenizer = EventTokenizer.fit(cases(40, 0), attributes=["room"], gap_bins=4)
    train = [tokenizer.encode(each).ids for each in cases(40, 0)]
    records = [(each.key, tokenizer.encode(each)) for each in cases(40, 1)]
    blind = ContextTables(train, vocabulary=tokenizer.vocabulary, depth=0)
    seeing = ContextTables(train, vocabulary=tokenizer.vocabulary, depth=2)
    found = judge(
        Question(cells=150, every=False),
        records,
        Baselines(train, tokenizer, 1),
        context=64,
        masking=MaskingConfig(),
        predictors={"blend": blind, "encoder": seeing},
        product="blend",
    )
    assert found.predictors == ("blend", "encoder")
    assert list(found.protocols) == ["masked", "isolated", "gap-5"]
    single = {each.field: each for each in found.protocols["isolated"].fields}
    assert next(iter(single)) == "activity"
    assert single["activity"].verdict == "worse than"
    assert single["activity"].best_simple == "1 + 1 neighbours"
    assert "encoder" in single["activity"].by
    assert single["activity"].by["encoder"] < 0.1 < 1 < single["activity"].by["blend"]
    gaps = [each for each in found.protocols["gap-5"].fields if each.of == "whole gaps"]
    assert {"activity", "room"} <= {each.field for each in gaps}
    assert not {each.field for each in gaps} & {"gap"}  # numbers are never exactly right
    assert found.verdict is not None
    assert found.verdict.outcome == "worse than"
    stored = json.loads(json.dumps(found.to_json()))
    assert stored["verdict"]["worst"]["field"] == found.verdict.worst.field
    assert (
        stored["protocols"]["isolated"]["by"]["encoder"]["bits"]
        < stored["protocols"]["isolated"]["by"]["blend"]["bits"]
    )
    assert stored["protocols"]["isolated"]["best baseline"] in stored["protocols"]["isolated"]["by"]


def test_short_sequences_are_given_shorter_gaps() -> None:
    rng = np.random.default_rng(0)
    train = [rng.integers(4, size=(5, 1)).astype(np.uint8) for _ in range(30)]
    records = [(str(i), Encoded(ids)) for i, ids in enumerate(train)]
    baselines = Baselines(train, NucleotideTokenizer(), 2)
    found = judge(Question(cells=50, every=False), records, baselines, context=64, masking=MaskingConfig())
    assert list(found.protocols) == ["masked", "isolated", "gap-3"]
    assert found.verdict is None
    together = found.protocols["gap-3"].together
    assert together is not None
    assert together.ours is None
    assert together.theirs > 0


def test_results_leave_out_what_there_is_not() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Inner(Result):
        a_share: float = stored_as("share, 95 %")

    @dataclass(frozen=True, kw_only=True)
    class Outer(Result):
        some_name: Inner
        nothing: int | None = None
        several: tuple[Inner, ...] = ()

    value = Outer(some_name=Inner(a_share=0.5), several=(Inner(a_share=1.0),))
    assert value.to_json() == {"some name": {"share, 95 %": 0.5}, "several": [{"share, 95 %": 1.0}]}


# ---- --field ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has learned nothing, its corpus, and a log."""
    folder = tmp_path_factory.mktemp("log")
    tokenizer = EventTokenizer.fit(cases(40, 0), attributes=["room"], gap_bins=4)
    build_from_records(
        cases(40, 0), output=folder / "run" / "corpus", tokenizer=tokenizer, split=SplitConfig(selection=0.3)
    )
    untrained(tokenizer, folder / "run")
    lines = [f"{i},{'ABC'[(i + j) % 3]},2024-01-{1 + j:02},x" for i in range(6) for j in range(5)]
    (folder / "log.csv").write_text("case,activity,time,room\n" + "\n".join(lines) + "\n")
    return folder


def test_scores_of_one_field(log: Path) -> None:
    dress = (
        "--format",
        "event-csv",
        *(f"--set=data.format_options.{name}={name}" for name in ("case", "activity", "time")),
    )
    both = {}
    for fields in ((), ("activity",)):
        requested = [each for name in fields for each in ("--field", name)]
        message = CliRunner().invoke(
            app, list(map(str, ("score", log / "run", log / "log.csv", "--per-position", "--json", *dress, *requested)))
        )
        assert message.exit_code == 0, message.output
        both[fields] = [json.loads(line) for line in message.stdout.splitlines()]
    assert len(both[()]) == len(both["activity",])
    for whole, one in zip(both[()], both["activity",], strict=True):
        for name, value in one.items():
            if "activity" in name:
                assert value == pytest.approx(whole[name])
            elif any(field in name for field in ("room", "weekday", "hour")):
                assert value is None
    wrong = CliRunner().invoke(app, list(map(str, ("score", log / "run", log / "log.csv", *dress, "--field", "rooom"))))
    assert wrong.exit_code == 2
    assert "room" in wrong.stderr


@pytest.mark.parametrize("command", ["evaluate", "baseline"])
def test_evaluations_of_one_field(log: Path, command: str) -> None:
    requested = (command, log / "run", "--cells", "60", "--few", "--protocol", "isolated", "--json")
    message = CliRunner().invoke(app, list(map(str, (*requested, "--field", "room"))))
    assert message.exit_code == 0, message.output
    found = json.loads(message.stdout)
    assert [each["field"] for each in found["protocols"]["isolated"]["fields"]] == ["room"]
    assert ("verdict" in found) is (command == "evaluate")
    wrong = CliRunner().invoke(app, list(map(str, (*requested, "--field", "rooom"))))
    assert wrong.exit_code == 2
    assert "room" in wrong.stderr


def test_fields_are_found_by_name() -> None:
    tokenizer = EventTokenizer.fit(cases(4, 0), attributes=["room"], gap_bins=4)
    names = [field.name for field in tokenizer.fields]
    assert requested_fields(tokenizer, ()).all()
    assert [n for n, wanted in zip(names, requested_fields(tokenizer, ["room"]), strict=True) if wanted] == ["room"]
    with pytest.raises(UsageError, match="activity"):
        requested_fields(tokenizer, ["activit"])
