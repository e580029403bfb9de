"""Three parts: laws over random tables, and that a split into two is what it was before there was a third."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from maskseq_events.case import Case

sys.path.insert(0, str(Path(__file__).parent))

from corpora import Letters, Text, random_texts

from maskseq.corpus.build import build_from_records
from maskseq.corpus.reader import Corpus
from maskseq.corpus.record_table import RecordTable, Segments
from maskseq.corpus.splits import SplitConfig, split_records, training_records
from maskseq.corpus.unknown_runs import UnknownRuns
from maskseq.errors import UsageError
from maskseq.recipe import load_recipe

STORED = Path(__file__).parent / "golden" / "two_parts.json"
PARTS = ("train", "selection", "test")


def table_of(seed: int, n: int, *, longest: int, copies: float = 0.0, n_groups: int = 0) -> RecordTable:
    rng = np.random.default_rng(seed)
    units = rng.integers(1, longest + 1, size=n)
    starts = rng.integers(0, 10_000, size=n).astype(float)
    hashes = rng.integers(1, 1 << 60, size=(2, n)).astype(np.uint64)
    copied = rng.random(n) < copies
    hashes[1, copied] = hashes[1, rng.integers(n, size=int(copied.sum()))]
    table = RecordTable(units, units, hashes[0], hashes[1], spans=np.stack([starts, starts + units], axis=1))
    groups = rng.integers(n_groups + 1, size=n).astype(np.uint64)
    return replace(table, groups=groups) if n_groups else table


def divided(table: RecordTable, config: SplitConfig) -> tuple[list[Segments], dict]:
    return split_records(table, config, UnknownRuns(), locate=lambda region: (region.start, region.stop) * 2)


def cells(table: RecordTable, segments: Segments) -> np.ndarray:
    """The positions of the segments, through all records."""
    first = np.cumsum(table.positions) - table.positions
    pieces = zip(segments.record.tolist(), segments.start.tolist(), segments.length.tolist(), strict=True)
    return np.concatenate([np.empty(0, int), *(np.arange(first[r] + a, first[r] + a + n) for r, a, n in pieces)])


# ---- two parts, as before -----------------------------------------------------------------------------------------


def two_part_cases() -> Iterator[tuple[str, RecordTable, SplitConfig]]:
    for seed in range(4):
        for by, options in (
            ("auto", {}),
            ("auto", {"validation": 0.2, "seed": 3}),
            ("record", {"validation": 0.1}),
            ("record", {"validation": 0.3, "duplicates": "ignore"}),
            ("region", {"validation": 0.1, "guard": 50}),
            ("region", {"validation": 0.4}),
            ("time", {"validation": 0.2}),
            ("start", {"validation": 0.25}),
            ("none", {}),
        ):
            for longest in (60, 30_000):
                table = table_of(seed, 80, longest=longest, copies=0.3)
                yield f"{seed} {by} {longest} {sorted(options.items())}", table, SplitConfig(by=by, **options)
    yield "one", table_of(9, 1, longest=5000), SplitConfig()


def digest_of(table: RecordTable, segments: list[Segments], report: dict) -> str:
    content = [np.stack([part.record, part.start, part.length]).astype(np.int64).tobytes() for part in segments]
    reported = json.dumps(report, sort_keys=True).encode()
    return blake2b(b"|".join([*content[:2], reported]), digest_size=8).hexdigest()


def test_a_split_into_two_parts_is_what_it_was() -> None:
    stored = json.loads(STORED.read_text())
    found = {}
    for name, table, config in two_part_cases():
        segments, report = divided(table, config)
        found[name] = digest_of(table, segments, report)
        assert not len(segments[2])
        renamed = replace(config, selection=config.selection, validation=None)
        assert digest_of(table, *divided(table, renamed)) == found[name]
    assert found == stored


# ---- three parts: laws --------------------------------------------------------------------------------------------

tables = st.builds(
    table_of,
    st.integers(0, 1 << 30),
    st.integers(2, 60),
    longest=st.sampled_from([1, 30, 400, 40_000]),
    copies=st.sampled_from([0.0, 0.4]),
    n_groups=st.sampled_from([0, 6]),
)
shares = st.sampled_from([0.0, 0.05, 0.1, 0.3])
options = st.fixed_dictionaries(
    {
        "by": st.sampled_from(["auto", "record", "region", "time", "start"]),
        "selection": shares,
        "test": shares,
        "guard": st.sampled_from([None, 0, 7, 300]),
        "duplicates": st.sampled_from(["together", "ignore"]),
        "seed": st.integers(0, 3),
    }
)


def divided_or_refused(table: RecordTable, config: SplitConfig) -> tuple[list[Segments], dict] | None:
    """None for what may be refused: a split that leaves nothing to train on."""
    if table.groups is not None and config.by not in ("auto", "record"):
        table = replace(table, groups=None)
    elif table.groups is not None:
        config = replace(config, group="g")
        if not table.groups.any():
            return None
    try:
        return divided(table, config)
    except UsageError as error:
        if "nothing is left to train on" not in str(error):
            raise
        return None


@settings(max_examples=300)
@given(tables, options)
def test_parts_share_no_position_and_copies_groups_and_guards_are_kept(table: RecordTable, options: dict) -> None:
    config = SplitConfig(**options)
    result = divided_or_refused(table, config)
    if result is None:
        return
    segments, report = result
    again, reported = divided_or_refused(table, config) or ([], {})
    assert reported == report
    for one, other in zip(segments, again, strict=True):
        assert (one.record.tolist(), one.start.tolist()) == (other.record.tolist(), other.start.tolist())
    part = np.full(int(table.positions.sum()), -1)
    for index, each in enumerate(segments):
        held = cells(table, each)
        assert (part[held] == -1).all()
        part[held] = index
    assert report["left_out"]["positions"] == int((part < 0).sum())
    assert (part == 2).any() <= config.has_test
    ends = np.cumsum(table.positions)
    inside = [part[end - n : end] for end, n in zip(ends.tolist(), table.positions.tolist(), strict=True)]
    whole = [set(each.tolist()) - {-1} for each in inside]
    if report["by"] == "region":
        for each in inside:
            gap = min(config.gap, len(each) // 20)
            known = np.flatnonzero(each >= 0)
            steps = np.flatnonzero(np.diff(each[known]) != 0)
            assert (known[steps + 1] - known[steps] > gap).all()
    else:
        assert all(
            len(parts) <= 1 and (len(parts) == 0 or -1 not in each) for parts, each in zip(whole, inside, strict=True)
        )
    labels = [table.content_hashes] if config.duplicates == "together" else []
    if table.groups is not None and report["by"] == "record":
        labels.append(
            np.where(table.groups == 0, np.uint64(100) + np.arange(len(table), dtype=np.uint64), table.groups)
        )
    for label in labels:
        for value in np.unique(label):
            alike = [whole[i] for i in np.flatnonzero(label == value)]
            if report["by"] == "record":
                assert len(set.union(*alike)) == 1
            elif report["by"] != "none" and any(len(parts) > 1 for parts in alike):
                assert sum(bool(parts) for parts in alike) == 1  # a copy of a cut record is left out


@settings(max_examples=100)
@given(tables, options)
def test_by_time_each_part_begins_when_the_one_before_has_ended(table: RecordTable, options: dict) -> None:
    config = SplitConfig(**options)
    assert table.spans is not None
    for by in ("time", "start"):
        table = replace(table, groups=None)
        result = divided_or_refused(table, replace(config, by=by))
        if result is None or not config.holds_out:
            continue
        segments, report = result
        starts, ends = table.spans.T
        begun = -np.inf
        for each in segments:
            if len(each):
                assert starts[each.record].min() >= begun
                begun = (ends if by == "time" else starts)[each.record].max()
        if by == "start" and config.duplicates == "ignore":
            assert report["left_out"]["positions"] == 0


@settings(max_examples=60)
@given(st.integers(0, 1 << 30), shares, shares)
def test_shares_are_kept(seed: int, selection: float, test: float) -> None:
    table = table_of(seed, 400, longest=50)
    total = int(table.units.sum())
    for by in ("record", "start"):  # shares of units, and of records
        segments, _ = divided(table, SplitConfig(by=by, selection=selection, test=test, duplicates="ignore"))
        for part, share in zip(segments[1:], (selection, test), strict=True):
            if by == "record":
                assert abs(part.positions - share * total) <= 60
            else:
                assert abs(len(part.record) - share * len(table)) <= 2
    long = table_of(seed, 3, longest=40_000)
    segments, _ = divided(long, SplitConfig(by="region", selection=selection, test=test, guard=10))
    for part, share in zip(segments[1:], (selection, test), strict=True):
        cut = {record: int(n) for record, n in zip(part.record.tolist(), part.length.tolist(), strict=True)}
        assert all(abs(n - share * int(long.units[record])) <= 1 for record, n in cut.items())


def near_copies_of_unlike_lengths() -> RecordTable:
    """The first record is nearly the second one, but so short that only a test of a small share cuts it."""
    units = np.array([20_000, 90_000, 90_000, 50_000])
    content = np.array([1, 1, 2, 3], np.uint64)
    return RecordTable(units, units, np.arange(10, 14, dtype=np.uint64), content)


@settings(max_examples=60)
@given(tables, shares)
@example(near_copies_of_unlike_lengths(), 0.05)
def test_a_test_part_leaves_selection_as_it_was(table: RecordTable, share: float) -> None:
    table = replace(table, groups=None)
    for by in ("record", "region"):
        two = divided_or_refused(table, SplitConfig(by=by, selection=0.1))
        three = divided_or_refused(table, SplitConfig(by=by, selection=0.1, test=share))
        if two is not None and three is not None:
            assert cells(table, three[0][1]).tolist() == cells(table, two[0][1]).tolist()


# ---- what is named, and what corpora keep -------------------------------------------------------------------------


def parts_of(
    tmp_path: Path, records: list[Text], config: SplitConfig
) -> tuple[Corpus, list[set[tuple[str, int, int]]]]:
    corpus = build_from_records(records, output=tmp_path / "c", tokenizer=Letters(), split=config, overwrite=True)
    corpus = Corpus.open(tmp_path / "c", trust_code=True)
    found = []
    for name in PARTS:
        each = corpus.sequences(name)
        assert [index for index, _ in corpus.each(name)] == each.tolist()
        found.append({(corpus.key(i), int(corpus.starts[i]), int(corpus.starts[i] + corpus.lengths[i])) for i in each})
    assert corpus.sequences("validation").tolist() == corpus.sequences("selection").tolist()
    assert sum(map(len, found)) == len(corpus.lengths)
    return corpus, found


def test_a_corpus_keeps_three_parts(tmp_path: Path) -> None:
    corpus, parts = parts_of(tmp_path, random_texts(200, 50), SplitConfig(selection=0.1, test=0.2))
    assert all(parts)
    assert corpus.judged == "test"
    assert corpus.manifest["split"]["test"]["sequences"] == len(parts[2])
    assert not corpus.verify()
    corpus, parts = parts_of(tmp_path, random_texts(200, 50), SplitConfig(selection=0.1))
    assert not parts[2]
    assert corpus.judged == "selection"
    assert "test" not in corpus.manifest["split"]


def test_keys_and_regions_name_what_is_held_out(tmp_path: Path) -> None:
    records = [Text(key=f"r{i % 9}", text="abcd" * (10 + i) + "a") for i in range(10)]  # r0 comes twice
    _, parts = parts_of(tmp_path, records, SplitConfig(keys=("r3",), test_keys=("r0", "r5"), guard=3))
    assert {key for key, _, _ in parts[1]} == {"r3"}
    assert {key for key, _, _ in parts[2]} == {"r0", "r5"}
    assert len(parts[2]) == 3
    _, parts = parts_of(tmp_path, records, SplitConfig(selection=0.0, test_keys=("r0#2",)))
    assert [len(part) for part in parts] == [9, 0, 1]
    with pytest.raises(UsageError, match="'r77'"):
        parts_of(tmp_path, records, SplitConfig(test_keys=("r77",)))
    long = [Text(key="long", text="abcd" * 500)]
    config = SplitConfig(regions=("long:101-500",), test_regions=("long:501-700",), guard=60)
    _, parts = parts_of(tmp_path, long, config)
    assert parts == [
        {("long", 0, 40), ("long", 760, 2000)},
        {("long", 100, 440)},
        {("long", 500, 700)},
    ]


def test_a_group_stands_together(tmp_path: Path) -> None:
    class Owned(Text):
        def group(self, attribute: str) -> str | None:
            return self.key.split("-")[1] if attribute == "owner" and "-" in self.key else None

    rng = np.random.default_rng(0)
    texts = [record for record in random_texts(400, 40) if len(record) > 10]
    records = [Owned(key=f"{r.key}-{rng.integers(30)}" if i % 5 else r.key, text=r.text) for i, r in enumerate(texts)]
    config = SplitConfig(selection=0.2, test=0.2, group="owner")
    corpus, parts = parts_of(tmp_path, records, config)
    owners = [{key.split("-")[1] for key, _, _ in part if "-" in key} for part in parts]
    assert all(owners)
    assert sum(map(len, owners)) == len(set.union(*owners))
    for part in parts[1:]:
        assert abs(sum(stop - start for _, start, stop in part) - 0.2 * sum(map(len, records))) < 200
    trained = [corpus.tokenizer.decode(corpus.read(i).ids) for i in corpus.sequences("train")]
    assert [record.text for record in training_records(lambda: iter(records), config)] == trained
    with pytest.raises(UsageError, match="'colour'"):
        parts_of(tmp_path, records, SplitConfig(group="colour"))


@pytest.mark.parametrize("by", ["record", "region", "time", "start"])
def test_what_is_fitted_sees_the_training_part_alone(tmp_path: Path, by: str) -> None:
    rng = np.random.default_rng(2)
    texts = ["".join(rng.choice(list("abcd"), size=20 + 3 * i)) for i in range(50)]
    records = [Text(key=f"r{i}", text=text, begin=float(100 * i)) for i, text in enumerate(texts)]
    config = SplitConfig(by=by, selection=0.2, test=0.2, guard=2)
    corpus, parts = parts_of(tmp_path, records, config)
    assert all(parts)
    trained = [corpus.tokenizer.decode(corpus.read(i).ids) for i in corpus.sequences("train")]
    assert [record.text for record in training_records(lambda: iter(records), config)] == trained


@pytest.mark.parametrize(
    "wrong",
    [
        {"test": 1.0},
        {"selection": 0.5, "test": 0.5},
        {"selection": 0.2, "validation": 0.1},
        {"by": "time", "group": "owner"},
        {"by": "region", "keys": ("a",)},
        {"by": "record", "test_regions": ("1-2",)},
        {"keys": ("a",), "test_keys": ("b", "a")},
        {"regions": ("1-2",), "group": "owner"},
    ],
)
def test_wrong_options_are_refused(wrong: dict) -> None:
    with pytest.raises(UsageError):
        SplitConfig(**wrong)


def test_cases_are_grouped_by_an_attribute_of_theirs_or_of_their_first_event() -> None:
    common = {"time": np.zeros(2, np.int64), "offset": np.zeros(2, np.int32)}
    attributes = {"owner": ("b", "c"), "room": (None, "1")}
    case = Case(key="1", activity=("x", "y"), attributes=attributes, case_attributes={"site": "a"}, **common)
    assert [case.group(name) for name in ("site", "case:site", "owner", "room", "none")] == ["a", "a", "b", None, None]


UNKNOWN = """
import sys
from maskseq.corpus.reader import Corpus
from maskseq.errors import UsageError
from maskseq.masking.config import MaskingConfig
from maskseq.packing.packing import PackingConfig
from maskseq.packing.rows import PackedRows
corpus = Corpus.open(sys.argv[1], trust_code=True)
rows = lambda name: PackedRows(corpus, split=name, config=PackingConfig(), masking=MaskingConfig(), seed=0)
for name in ("training", "val", "Test", ""):
    for ask in (corpus.each, corpus.sequences, corpus.span_of, rows):
        try:
            ask(name)
        except UsageError as error:
            assert "selection" in str(error)
        else:
            raise SystemExit(f"{name!r} is taken for something by {ask}")
"""


def test_an_unknown_part_is_refused_wherever_one_is_named(tmp_path: Path) -> None:
    parts_of(tmp_path, random_texts(200, 50), SplitConfig(selection=0.1, test=0.2))
    paths = [str(Path(__file__).parent), *sys.path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    # In a process of its own, where no types are checked.
    subprocess.run([sys.executable, "-c", UNKNOWN, str(tmp_path / "c")], check=True, env=environment, timeout=100)


@pytest.mark.filterwarnings("ignore:.*older names are still read:FutureWarning")
def test_recipes_take_the_old_name_of_selection(tmp_path: Path) -> None:
    old, new = (
        load_recipe({"data": {"split": {name: 0.2}}, "tokenizer": {"name": "nucleotide"}})
        for name in ("validation", "selection")
    )
    assert old == new
    assert old.identity() == new.identity()
    assert old.identity()["recipe"]["data"]["split"]["validation"] == 0.2
    assert old.to_json()["data"]["split"]["selection"] == 0.2
    for name in ("validation", "selection"):
        for recipe in (old, old.to_json(), {"data": {"split": {"validation": 0.2}}, "tokenizer": {}}):
            assert load_recipe(recipe, [f"data.split.{name}=0.3"]).data.split.selection == 0.3
        assert load_recipe(old, [f'data.split={{by="start",{name}=0.4,test=0.1}}']).data.split.selection == 0.4
    assert load_recipe(load_recipe(old.identity()["recipe"])).data.split == old.data.split
    three = load_recipe(old, ["data.split.test=0.1", 'data.split.test_keys=["a"]'])
    assert load_recipe(three.identity()["recipe"]).data.split == three.data.split
    with pytest.raises(UsageError, match="validation"):
        load_recipe({"data": {"split": {"validation": 0.2, "selection": 0.2}}, "tokenizer": {}})
