"""What a split by time leaves out at its boundaries is counted, shown and, where it is much, warned of."""

import json
import warnings
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from maskseq.apps import init as starter
from maskseq.apps.inspect import inspect
from maskseq.apps.prepare import prepare_corpus
from maskseq.cli import app
from maskseq.corpus.overlap import overlap_of
from maskseq.recipe import load_recipe


def log(path: Path, *, long: int, n: int = 80) -> Path:
    """Short cases, one an hour, and `long` ones that run through the whole time."""
    rows = ["case,activity,time"]
    for case in range(n):
        rows += [f"c{case},{'abc'[i]},{moment(case, i)}" for i in range(3)]
    for case in range(long):
        rows += [f"long{case},{'xyz'[i % 3]},{moment(i * n // 20, case)}" for i in range(20)]
    path.write_text("\n".join(rows) + "\n")
    return path


def moment(hours: int, minutes: int) -> str:
    return str(np.datetime64("2024-01-01T00:00:00") + np.timedelta64(60 * hours + minutes, "m")).replace("T", " ")


def recipe(path: Path, split: str) -> Path:
    file = path.with_suffix(".toml")
    file.write_text(
        f'data = {{ files = ["{path.name}"], format = "event-csv", split = {{ {split} }} }}\n'
        'tokenizer = { name = "event" }\nmodel = { preset = "nano", n_layers = 1 }\n'
        "packing = { row_tokens = 256, context = 64 }\ntraining = { tokens = 300 }\n"
    )
    return file


@pytest.mark.parametrize("split", ['by = "time", selection = 0.2', 'by = "time", selection = 0.2, test = 0.2'])
def test_what_is_left_out_is_what_no_part_has(tmp_path: Path, split: str) -> None:
    file = recipe(log(tmp_path / "log.csv", long=5), split)
    corpus = prepare_corpus(load_recipe(file), default=tmp_path / "c")
    left = overlap_of(corpus)
    assert left is not None
    table, sequences = corpus.records, corpus.table
    hours = [each for name in ("boundary", "test_boundary") if (each := corpus.manifest["split"].get(name))]
    boundaries = [datetime.fromisoformat(each).timestamp() for each in hours]
    starts, ends = table.spans.T
    parted = np.any([(starts < each) & (ends >= each) for each in boundaries], axis=0)
    requested = np.bincount(sequences.record, sequences.length - sequences.context, len(table))
    assert left.records == parted.sum()
    assert left.share == pytest.approx((table.positions - requested)[parted].sum() / table.positions.sum())
    assert left.requested == pytest.approx(requested[parted].sum() / table.positions.sum())
    assert left.mean_length == pytest.approx(table.positions[parted].mean())
    assert left.mean_length_of_kept == pytest.approx(table.positions[~parted].mean())
    assert inspect(tmp_path / "c")["split"]["at a time boundary"]["records"] == left.records


def test_much_is_warned_of_with_alternatives_and_little_is_told(tmp_path: Path) -> None:
    much, little = log(tmp_path / "much.csv", long=9), log(tmp_path / "little.csv", long=1)
    for path, warned in ((much, True), (little, False)):
        file = recipe(path, 'by = "time", selection = 0.2')
        for command in (("pretrain", file, "--dry-run"), ("pretrain", file, "-o", tmp_path / path.stem)):
            result = CliRunner().invoke(app, [str(argument) for argument in command])
            assert result.exit_code == 0, result.output
            assert ('"start"' in result.stderr and '"record"' in result.stderr) == warned
            assert "time boundary" in result.stdout + result.stderr
    dry = CliRunner().invoke(app, ["pretrain", str(recipe(much, 'by = "time"')), "--dry-run", "--json"])
    left = json.loads(dry.stdout)["data"]["left out at a time boundary"]
    shares = {"share of tokens", "share that is asked about"}
    assert set(left) == {"records", "mean length", "mean length of those kept"} | shares
    assert left["mean length"] > left["mean length of those kept"]
    for split in ('by = "start"', 'by = "record"'):
        corpus = prepare_corpus(load_recipe(recipe(much, split)), default=tmp_path / split[6:10])
        assert overlap_of(corpus) is None


@pytest.mark.parametrize("name", ["sepsis.csv", pytest.param("helpdesk_full.csv", marks=pytest.mark.soak)])
def test_init_says_what_is_left_out_of_real_logs(shared_data: Path, tmp_path: Path, name: str) -> None:
    """All cases are gone through by hand."""
    output = tmp_path / "recipe.toml"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found: dict[str, Any] = starter.init([shared_data / "events" / name], output, yes=True)
    reported = found["records"]["left out at a time boundary"]
    assert any("time boundary" in str(each.message) for each in caught) == (reported["share of tokens"] > 0.25)
    recipe = load_recipe(output)
    assert recipe.data.split.by == "time"
    file = Path(recipe.data.files[0])
    cases = list(recipe.reader(file).read(file))
    spans = np.array([case.span() for case in cases])
    held_out = (recipe.data.split.test, recipe.data.split.selection + recipe.data.split.test)
    boundaries = sorted(np.sort(spans[:, 0])[-round(share * len(cases))] for share in held_out if share)
    lengths, before = [], []
    for case, (start, end) in zip(cases, spans.tolist(), strict=True):
        crossed = [boundary for boundary in boundaries if start < boundary <= end]
        if crossed:
            lengths.append(len(case) + 1)  # with its end
            before.append(int((case.time / 1e6 < crossed[-1]).sum()))
    total = sum(map(len, cases)) + len(cases)
    assert reported["records"] == len(lengths)
    assert reported["share of tokens"] == pytest.approx(sum(before) / total, abs=1e-4)
    assert reported["share that is asked about"] == pytest.approx((sum(lengths) - sum(before)) / total, abs=1e-4)
    assert reported["mean length"] == pytest.approx(np.mean(lengths), abs=0.1)
