"""Known numbers that are no measurements: not believed, and reported."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import maskseq
from maskseq.apps.infill import infill_file
from maskseq.cli import app


def smooth(length: int, seed: int) -> np.ndarray:
    steps = np.random.default_rng(seed).normal(0, 0.1, (length + 40, 2)) @ np.array([[1, 0.5], [0, 1]])
    columns = [np.convolve(column, np.hanning(20), mode="valid") for column in steps.T]
    return np.asarray(np.round(np.stack(columns, axis=1)[:length], 4))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("numbers")
    np.save(folder / "train.npy", smooth(3000, 0))
    recipe: dict[str, Any] = {
        "data": {"files": [str(folder / "train.npy")], "format": "npy", "workers": 1, "split": {"selection": 0.1}},
        "tokenizer": {"name": "quantize", "bins": 32},
        "model": {"preset": "nano", "n_layers": 1, "hidden_size": 8, "intermediate_size": 8, "n_heads": 1},
        "packing": {"row_tokens": 256, "context": 64},
        "training": {"tokens": 2_000, "rows": 1, "precision": "fp32"},
    }
    maskseq.pretrain(recipe, output=folder / "run", experts_only=True)
    return folder / "run"


def broken(n_wrong: int) -> tuple[np.ndarray, np.ndarray]:
    """A recording with holes and sentinels near them in the second channel, and what it was."""
    truth = smooth(300, 1)
    values = truth.copy()
    for start in range(10, 290, 24):
        values[start : start + 4, 0] = np.nan
    values[np.arange(n_wrong) * 20 + 8, 1] = -99999.0
    return values, truth


def test_they_are_counted_by_channel_and_value(run: Path, tmp_path: Path) -> None:
    values, truth = broken(12)
    np.save(tmp_path / "asked.npy", values)
    summary = infill_file(maskseq.load(run), tmp_path / "asked.npy", output=tmp_path / "out")
    assert summary["taken for no measurements"] == {"channel_2": {"-99999": 12}}
    assert any("channel_2" in text and "12" in text for text in summary["warnings"])
    filled = np.load(tmp_path / "out" / "asked.npy")
    holes = np.isnan(values)
    assert ((filled - truth)[holes] ** 2).mean() < 0.1 * truth.var()
    np.testing.assert_array_equal(filled[~holes], values[~holes])


def test_measurements_are_not_reported(run: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "asked.npy", broken(0)[0])
    summary = infill_file(maskseq.load(run), tmp_path / "asked.npy", output=tmp_path / "out")
    assert "taken for no measurements" not in summary


def test_the_command_line_has_them_as_json(run: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "asked.npy", broken(5)[0])
    answer = CliRunner().invoke(
        app, ["infill", str(run), str(tmp_path / "asked.npy"), "-o", str(tmp_path / "out"), "--json"]
    )
    assert answer.exit_code == 0, answer.output
    assert json.loads(answer.stdout)["taken for no measurements"] == {"channel_2": {"-99999": 5}}
