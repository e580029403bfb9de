"""A made-up table from `init` to `infill`, without code: what comes back, and what is scored."""

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_tables_tokenizer import nights
from typer.testing import CliRunner

from maskseq.apps.init_readings import readings_of
from maskseq.cli import app
from maskseq.storage.toml_text import recipe_text


def run(*arguments: str | Path) -> str:
    done = CliRunner().invoke(app, list(map(str, arguments)))
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a table, whose recipe `init` wrote, but that the device is given."""
    folder = tmp_path_factory.mktemp("table")
    (folder / "nights.csv").write_text(nights(24, holes=0.05))
    settings = ['tokenizer.given=["device"]', "training.tokens=2_000", 'training.device="cpu"']
    recipe = folder / "recipe.toml"
    run(
        "init",
        folder / "nights.csv",
        "-o",
        recipe,
        "--format",
        "table",
        *(part for text in settings for part in ("--set", text)),
    )
    run("pretrain", recipe, "--output", folder / "run")
    return folder


def test_init_sees_what_the_columns_are(folder: Path) -> None:
    recipe = (folder / "recipe.toml").read_text()
    assert 'format = "table"' in recipe
    for words in ('key = "night"', 'order = "at"', 'whole = ["sex"]', 'numeric = ["eeg"]'):
        assert words in recipe


def test_holes_are_filled_and_nothing_else_changes(folder: Path) -> None:
    (folder / "new.csv").write_text(nights(3, holes=0.2, seed=5))
    run("infill", folder / "run", folder / "new.csv", "-o", folder / "filled")
    before = (folder / "new.csv").read_text().splitlines()
    after = (folder / "filled" / "new.csv").read_text().splitlines()
    assert len(before) == len(after)
    for old, new in zip(before, after, strict=True):
        for name, was, now in zip(before[0].split(","), old.split(","), new.split(","), strict=True):
            if was != "?" or name == "device":  # what is given is never filled
                assert now == was
            else:
                assert re.fullmatch({"stage": "W|N[123]", "eeg": r"-?\d\.\d\d", "emg": r"\d\d"}[name], now)


def test_figures_leave_given_columns_out(folder: Path) -> None:
    report = json.loads(run("evaluate", folder / "run", "--json", "--protocol", "gap-2"))
    fields = {name for table in found(report, "breakdown") for name in table["field"]}
    assert {"stage", "eeg", "emg", "sex"} >= fields > set()


def found(report: Any, key: str) -> Iterator[Any]:
    """Whatever stands under a key, at any depth."""
    if isinstance(report, dict):
        yield from [report[key]] if key in report else []
    for each in report.values() if isinstance(report, dict) else report if isinstance(report, list) else ():
        yield from found(each, key)


def test_tables_come_behind_what_knows_more(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    events = "case,activity,time,cost\n"
    events += "".join(f"c{n // 5},{'abcd'[rng.integers(4)]},2024-01-01T{n % 24:02d}:00:00,1\n" for n in range(100))
    signal = "time,a,b\n" + "".join(f"2024-01-01T00:{n:02d}:00,{n / 7:.2f},1\n" for n in range(60))
    table = "".join(f"g{n // 8},{n % 8},{'NSEW'[rng.integers(4)]},{rng.normal():.2f}\n" for n in range(160))
    formats = {}
    for name, text in (("events", events), ("signal", signal), ("table", "game,turn,move,gain\n" + table)):
        path = tmp_path / f"{name}.csv"
        path.write_text(text)
        readings = readings_of([path], None, {})
        formats[name] = readings.each[0].format, readings.doubt
    assert formats == {"events": ("event-csv", ""), "signal": ("signal-csv", ""), "table": ("table", "")}


def test_columns_may_be_called_anything_in_a_recipe() -> None:
    recipe = {"tokenizer": {"calendar": {"when it was.é": ["gap"]}, "ordered": {"a b": ["x", "y"], "c": ["z", "w"]}}}
    assert tomllib.loads(recipe_text(recipe, {}, "made up")) == recipe


def test_rows_without_a_key_are_a_question(tmp_path: Path) -> None:
    path = tmp_path / "stream.csv"
    path.write_text("place,noise\n" + "".join(f"{n}.5,{n * 7 % 11} dB\n" for n in range(30)))
    done = CliRunner().invoke(app, ["init", str(path), "-o", str(tmp_path / "recipe.toml")])
    assert done.exit_code == 2
    assert "stream.csv" in done.output
