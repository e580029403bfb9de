"""A calibration lies beside its checkpoint, is used by what reads it, and leaves the model alone."""

import csv
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result
from untrained import untrained

from maskseq.calibration.stored import read_calibration
from maskseq.cli import app
from maskseq.errors import DataError
from maskseq.infill.sampler import InfillConfig
from maskseq.model.checkpoint import check
from maskseq.predict.posterior import LEVELS
from maskseq.storage.run_folder import CALIBRATION
from maskseq.trained import TrainedModel, load
from maskseq_signals.delimited import SignalCsv
from maskseq_signals.recording import Recording
from maskseq_signals.tokenizer import QuantizeTokenizer


def maskseq(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def waves(length: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.round(10 * np.sin(np.arange(length) / 5)[:, None] + rng.normal(0, 1, (length, 1)), 2)


def write(path: Path, values: np.ndarray) -> Path:
    path.write_text("t,x\n" + "".join(f"{i},{'' if np.isnan(v) else v}\n" for i, v in enumerate(values[:, 0].tolist())))
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    learned = [Recording(key="w", channels=waves(2000, 0), names=("x",), decimals=(2,))]
    tokenizer = QuantizeTokenizer.fit(learned, bins=16)
    return untrained(tokenizer, tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def calibrated(run: TrainedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("calibrated") / "run"
    shutil.copytree(run.path, folder)
    known = write(folder.parent / "known.csv", waves(1500, 1))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    result = maskseq("calibrate", folder, known, "--format", "signal-csv", "--cells", 3000, "--json")
    assert result.exit_code == 0, result.output
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.name != CALIBRATION} == before
    check(folder)
    reported = json.loads(result.stdout)["x"]
    assert reported["cells"] == pytest.approx(3000, rel=0.3)
    for level in LEVELS:
        assert reported[f"held by the {level:.0%} interval after"] == pytest.approx(level, abs=0.04)
    return folder


def test_intervals_of_real_values_hold_what_they_promise(calibrated: Path, tmp_path: Path) -> None:
    """Values with all their digits, from a recording that nothing was fitted on."""
    values = waves(4000, 2)
    holes = np.array([start + i for start in range(20, 3900, 40) for i in range(1 + start % 5)])
    given = values.copy()
    given[holes] = np.nan
    file = write(tmp_path / "gaps.csv", given)
    result = maskseq("infill", calibrated, file, "--format", "signal-csv", "-o", tmp_path / "out", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["calibration"] == "fitted on known.csv"
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out" / "fills.csv").read_text())))
    truth = values[[int(row["start"]) - 1 for row in rows], 0]
    assert len(rows) == len(holes)
    for level, share in zip(("50", "80", "95"), LEVELS, strict=True):
        low, high = (np.array([float(row[f"{side}{level}"]) for row in rows]) for side in ("low", "high"))
        assert np.mean((low <= truth) & (truth <= high)) == pytest.approx(share, abs=0.06)  # 2.5 standard errors


def test_infill_and_score_use_it_unless_told_otherwise(run: TrainedModel, calibrated: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "gaps.csv", np.where(np.arange(200)[:, None] % 9, waves(200, 3), np.nan))

    def tables(folder: Path, *options: str) -> list[dict[str, str]]:
        out = tmp_path / f"{folder.name}{''.join(options)}"
        result = maskseq("infill", folder, file, "--format", "signal-csv", "--numbers", "bin", "-o", out, *options)
        assert result.exit_code == 0, result.output
        return list(csv.DictReader(io.StringIO((out / "fills.csv").read_text())))

    plain, honest, off = tables(run.path), tables(calibrated), tables(calibrated, "--no-calibration")
    assert plain == off
    assert [row["value"] for row in plain] == [row["value"] for row in honest]
    assert [row["probability"] for row in plain] != [row["probability"] for row in honest]

    records = list(SignalCsv().read(file))
    bits = [next(load(folder, trust_code=True).score(records)).bits for folder in (run.path, calibrated)]
    without = next(load(calibrated, trust_code=True).score(records, calibrated=False)).bits
    np.testing.assert_array_equal(bits[0], without)
    assert np.nanmean(bits[1]) < np.nanmean(bits[0])


def test_it_is_not_used_for_fills_of_another_kind(calibrated: Path) -> None:
    run = load(calibrated, trust_code=True)
    assert run.calibration(InfillConfig()) is not None
    with pytest.warns(UserWarning, match="not calibrated"):
        assert run.calibration(InfillConfig(order="one_shot")) is None


def test_one_that_is_damaged_or_belongs_to_another_model_is_named(calibrated: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(calibrated, folder)
    path = folder / CALIBRATION
    text = path.read_text()
    path.write_text(text[: len(text) // 2])
    with pytest.raises(DataError, match=CALIBRATION):
        read_calibration(folder)
    saved = json.loads(text)
    path.write_text(json.dumps(saved | {"model": "0" * 64}))
    result = maskseq("infill", folder, tmp_path / "x.csv")
    assert result.exit_code == 3
    assert "other weights" in result.stderr
    assert "Traceback" not in result.output


BROKEN = {
    "null": lambda text: re.sub(r'"temperature": [0-9.e-]+', '"temperature": null', text, count=1),
    "zero": lambda text: re.sub(r'"temperature": [0-9.e-]+', '"temperature": 0', text, count=1),
    "levels": lambda text: json.dumps(_with_one_level(json.loads(text))),
    "cut": lambda text: text[: len(text) // 2],
    "list": lambda text: f"[{text}]",
    "empty": lambda text: "",
}


def _with_one_level(saved: dict[str, Any]) -> dict[str, Any]:
    for group in saved["calibration"]["groups"]:
        group["tails"] = [[0.1, 0.9]]
    return saved


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_one_is_named_and_can_be_done_without(calibrated: Path, tmp_path: Path, how: str) -> None:
    folder = tmp_path / "run"
    shutil.copytree(calibrated, folder)
    path = folder / CALIBRATION
    path.write_text(BROKEN[how](path.read_text()))
    file = write(tmp_path / "gaps.csv", np.where(np.arange(200)[:, None] % 9, waves(200, 3), np.nan))
    given = (folder, file, "--format", "signal-csv")
    commands = ("infill", *given, "-o", tmp_path / "out"), ("score", *given)
    for command in commands:
        refused = maskseq(*command)
        assert refused.exit_code == 3, refused.output
        assert CALIBRATION in refused.stderr
        assert "--no-calibration" in refused.stderr
        assert "Traceback" not in refused.output
        assert not (tmp_path / "out").exists()
    for command in commands:
        done = maskseq(*command, "--no-calibration")
        assert done.exit_code == 0, done.output
    again = maskseq("calibrate", *given[:2], "--format", "signal-csv", "--cells", 200)
    assert again.exit_code == 0, again.output
    assert read_calibration(folder) is not None


def test_written_numbers_are_means_and_drawn_ones_are_bins(run: TrainedModel) -> None:
    record = Recording(key="r", channels=np.where(np.arange(60)[:, None] % 7, waves(60, 4), np.nan), names=("x",))
    (mean,) = run.infill([record])
    holes = np.isnan(record.channels[:, 0])
    marginals = mean.filled.fill.marginals[:, :16].astype(np.float64)
    expected = marginals @ np.array(run.tokenizer.fields[0].centres)
    digits = run.tokenizer.channels[0].bins.decimals
    np.testing.assert_allclose(mean.record.channels[holes, 0], expected, atol=0.51 * 10**-digits)
    np.testing.assert_array_equal(mean.record.channels[~holes], record.channels[~holes])
    (drawn,) = run.infill([record], config=InfillConfig(temperature=1.0))
    assert np.isnan(drawn.numbers).all()
    np.testing.assert_array_equal(
        run.tokenizer.encode(drawn.record).ids[holes, 0], drawn.filled.fill.values[0], strict=False
    )
