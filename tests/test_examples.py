"""The example packages run from their data to their figures, shortened to seconds."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from maskseq.testing import check_format, check_tokenizer

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
FEW = {
    "digits": ("sklearn", ["--tokens", "4000", "--images", "120"]),
    "molecules": ("rdkit", ["--tokens", "4000", "--molecules", "150", "--holes", "12"]),
    "music": ("music21", ["--tokens", "4000", "--tunes", "40", "--cells", "60"]),
}


def run(*command: str | Path, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", *map(str, command)],
        cwd=folder,
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def needs(package: str) -> None:
    if find_spec(package) is None:
        pytest.skip(f"the example needs {package}")


@pytest.mark.parametrize("name", FEW)
def test_an_example_ends_in_figures_beside_baselines(name: str, tmp_path: Path) -> None:
    package, short = FEW[name]
    needs(package)
    found: dict[str, Any] = json.loads(run(EXAMPLES / name / "run.py", tmp_path / "out", *short, folder=tmp_path))
    assert len(found) >= 2


def test_the_weather_needs_no_code(tmp_path: Path) -> None:
    needs("vega_datasets")
    run(EXAMPLES / "weather" / "prepare.py", "weather.csv", folder=tmp_path)
    maskseq = ("-m", "maskseq")
    said = ["--format", "table", "--set", "data.format_options.key=month"]
    run(*maskseq, "init", "weather.csv", *said, folder=tmp_path)
    assert 'order = "date"' in (tmp_path / "recipe.toml").read_text()
    short = ["training.tokens=2_000", "training.comparison_cells=20", "model.n_layers=1"]
    settings = [part for each in short for part in ("--set", each)]
    run(*maskseq, "pretrain", "recipe.toml", "--output", "run", *settings, folder=tmp_path)
    run(*maskseq, "infill", "run", "weather.csv", "--mask", "2015-12:3-5", folder=tmp_path)
    assert (tmp_path / "weather-filled" / "fills.csv").exists()


@pytest.mark.parametrize(
    ("name", "module", "tokenizer", "format", "line"),
    [
        ("molecules", "maskseq_molecules", "SmilesTokenizer", "Smi", "CC(=O)Oc1ccccc1C(=O)O aspirin {n}\n"),
        ("music", "maskseq_music", "TuneTokenizer", "Tunes", "tune {n}\t2 major\t62:1 64:1 66:2 z:1 69:3 ?:1 62:?\n"),
    ],
)
def test_its_plug_in_keeps_the_contract(
    name: str, module: str, tokenizer: str, format: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(EXAMPLES / name)
    plug_in = __import__(module)
    file = tmp_path / f"some{getattr(plug_in, format).suffixes[0]}"
    file.write_text("".join(line.format(n=n) for n in range(6)))
    reader = getattr(plug_in, format)()
    check_format(reader, [file])
    records = list(reader.read(file))
    report = check_tokenizer(getattr(plug_in, tokenizer).fit(records), records)
    assert {"no leak", "splice"} <= set(report.checked)
