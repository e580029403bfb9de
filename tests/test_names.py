"""Records of one key are told apart: whatever is asked reaches one record, or is refused."""

import csv
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result
from untrained import untrained

from maskseq.cli import app
from maskseq.corpus.build import build_from_records
from maskseq.corpus.splits import SplitConfig
from maskseq.errors import UsageError
from maskseq.formats import Names, named
from maskseq.infill.ranges import within
from maskseq.trained import TrainedModel
from maskseq.types import ListRecord
from maskseq_genomics.nucleotide import NucleotideTokenizer
from maskseq_genomics.sequence import Sequence

KEYS = st.lists(st.sampled_from(["a", "a#1", "a#2", "a#3", "a#2#2", "b", "", "#1"]), max_size=12)


@given(KEYS)
def test_no_two_records_are_called_the_same(keys: list[str]) -> None:
    names = [name for name, _ in named(ListRecord(key=key, values=[]) for key in keys)]
    assert len(set(names)) == len(names)
    for place, (name, key) in enumerate(zip(names, keys, strict=True)):
        assert name.startswith(key)
        assert name == key or key in keys[:place] or key in names[:place]


@given(KEYS, st.sampled_from(["a", "a#1", "a#2", "a#3", "b", "b#1", "#1"]))
def test_a_request_means_one_record_or_is_refused(keys: list[str], requested: str) -> None:
    """By the definition: those whose key it is, and the n-th of the key before the number."""
    names = Names([requested])
    first, _, number = requested.rpartition("#")
    counts = Counter[str]()
    meant = []
    for place, key in enumerate(keys):
        counts[key] += 1
        if key == requested or (key, str(counts[key])) == (first, number):
            meant.append(place)
    try:
        found = [place for place, key in enumerate(keys) if requested in names.next(key).meant_by]
        names.check()
    except UsageError:
        assert len(meant) != 1 or any("#" in key for key in keys)
    else:
        assert len(found) == 1
        assert found[0] in meant or "#" in keys[found[0]]
        assert len(meant) == 1 or requested in keys


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    return untrained(NucleotideTokenizer(), tmp_path_factory.mktemp("run"))


def maskseq(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


RNG = np.random.default_rng(0)
LETTERS = ["".join(RNG.choice(list("ACGT"), 40)) for _ in range(3)]
TEXTS = {
    "x.fa": "".join(f">{key}\n{letters}\n" for key, letters in zip("aba", LETTERS, strict=True)),
    "x.fq": "".join(f"@{key}\n{letters}\n+\n{'I' * 40}\n" for key, letters in zip("aba", LETTERS, strict=True)),
    "x.csv": "id,sequence\n" + "".join(f"{key},{letters}\n" for key, letters in zip("aba", LETTERS, strict=True)),
}


@pytest.mark.parametrize(
    ("name", "way"), [(name, way) for name in TEXTS for way in ("mask", "region", "bed")] + [("x.fa", "length")]
)
def test_a_stretch_is_of_one_of_them(run: TrainedModel, tmp_path: Path, name: str, way: str) -> None:
    file = tmp_path / name
    file.write_text(TEXTS[name])
    (tmp_path / "mask.bed").write_text("a#2\t4\t9\n")
    options = {
        "mask": ("--mask", "a#2:5-9"),
        "region": ("--region", "a#2:5-9"),
        "bed": ("--mask", tmp_path / "mask.bed"),
        "length": ("--length", "a#2:5-9=5..5"),
    }[way]
    if name == "x.csv":
        recipe = {"recipe": {"data": {"files": ["y.csv"], "format": "sequence-table", "format_options": {"key": "id"}}}}
        (run.path / "recipe.json").write_text(json.dumps(recipe))
    result = maskseq("infill", run.path, file, "-o", tmp_path / "out", *options)
    assert result.exit_code == 0, result.output
    rows = list(csv.DictReader((tmp_path / "out/fills.csv").read_text().splitlines()))
    assert [row["key"] for row in rows] == ["a#2"] * 5
    before, after = file.read_text().splitlines(), (tmp_path / "out" / name).read_text().splitlines()
    changed = [i for i, (old, new) in enumerate(zip(before, after, strict=True)) if old != new]
    assert set(changed) <= {i for i, line in enumerate(before) if LETTERS[2] in line}


@pytest.mark.parametrize(
    "options",
    [
        ("--mask", "a:1-5"),
        ("--mask", "5-9"),
        ("--mask", "a#3:1-5"),
        ("--mask", "c:1-5"),
        ("--length", "a:1-5=4..6"),
        ("--rule", "gc=0.4..0.6@a"),
        ("--rule", "gc=0.4..0.6@c"),
    ],
)
def test_what_means_none_or_several_is_refused(run: TrainedModel, tmp_path: Path, options: tuple[str, ...]) -> None:
    (tmp_path / "x.fa").write_text(TEXTS["x.fa"])
    result = maskseq("infill", run.path, tmp_path / "x.fa", "-o", tmp_path / "out", *options)
    assert result.exit_code == 2, result.output
    assert [path.name for path in tmp_path.iterdir()] == ["x.fa"]


def test_a_rule_is_about_one_of_them(run: TrainedModel) -> None:
    records = [Sequence(key=key, residues=b"ACGTNNNNACGT") for key in "aa"]
    filled = list(run.infill(records, rules=["motif=GTAC@a#2:5-8"]))
    assert filled[1].record.residues == b"ACGTGTACACGT"
    (alone,) = run.infill(records[:1])
    assert filled[0].record.residues == alone.record.residues


def test_python_refuses_keys_that_no_record_has(run: TrainedModel) -> None:
    records = [Sequence(key="a", residues=b"ACGTACGTACGT")]
    for ranges in ({"b": [(0, 3)]}, {"a": [(0, 3)], "a#2": [(0, 3)]}):
        with pytest.raises(UsageError):
            list(run.infill(records, ranges=ranges))


def test_a_stretch_for_judging_is_of_one_of_them() -> None:
    records = [ListRecord(key="a", values=list(range(first, first + 10))) for first in (0, 100)]
    (found,) = within(records, {"a#2": [(2, 4)]})
    assert isinstance(found, ListRecord)
    assert (found.key, found.values) == ("a#2@2", [102, 103])
    assert [record.key for record in within(records, {})] == ["a", "a#2"]
    with pytest.raises(UsageError):
        list(within(records, {"a": [(2, 4)]}))


def test_scores_name_them_apart(run: TrainedModel) -> None:
    records = [Sequence(key=key, residues=b"ACGTACGTACGT") for key in "aba"]
    assert [score.key for score in run.score(records)] == ["a", "b", "a#2"]


def test_a_region_is_held_out_of_one_of_them(tmp_path: Path) -> None:
    records = [Sequence(key="a", residues=("".join(RNG.choice(list("ACGT"), 900))).encode()) for _ in range(2)]
    split = SplitConfig(regions=("a#2:101-300",), guard=10)
    corpus = build_from_records(records, output=tmp_path / "c", tokenizer=NucleotideTokenizer(), split=split)
    (held_out,) = corpus.sequences("validation").tolist()
    expected = NucleotideTokenizer().encode(records[1]).ids[100:300]
    np.testing.assert_array_equal(corpus.read(held_out).ids, expected)
    with pytest.raises(UsageError, match="2 records"):
        build_from_records(
            records, output=tmp_path / "d", tokenizer=NucleotideTokenizer(), split=SplitConfig(regions=("a:101-300",))
        )
