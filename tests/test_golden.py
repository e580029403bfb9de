"""What today's code makes of three domains is what the stored values say, and runs made before it open and go on.

`make golden BASE=commit` compares much more, bit for bit, on one machine; see `benchmarks/golden.py`.
"""

import importlib.util
import json
import shutil
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import maskseq

ROOT = Path(__file__).resolve().parents[1]
STORED = ROOT / "tests" / "golden"
pytestmark = [
    pytest.mark.skipif(not STORED.is_dir(), reason="the stored values are in the repository, not in the sdist"),
    pytest.mark.filterwarnings("ignore:.*older names are still read:FutureWarning"),  # the recipes are of then
]
ENCODER_ALONE = ("blend=false", "calibrate=false")  # what is stored is of the encoder
TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}  # processors round differently


def _golden() -> ModuleType:
    spec = importlib.util.spec_from_file_location("golden", ROOT / "benchmarks" / "golden.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


golden = _golden()


def _compare(found: dict[str, np.ndarray], case: str, *, before: bool = False) -> None:
    """`before`: of the run made before, which keeps a corpus that would be another if it were built now."""
    with np.load(STORED / f"{case}.npz") as arrays:
        stored = {name: arrays[name] for name in arrays.files if not name.startswith("before/")}
        if before:
            stored |= {
                name.removeprefix("before/"): arrays[name] for name in arrays.files if name.startswith("before/")
            }
        for name in stored:
            if stored[name].dtype.kind == "f":
                np.testing.assert_allclose(found[name], stored[name], err_msg=name, **TOLERANCE)
            else:
                np.testing.assert_array_equal(found[name], stored[name], err_msg=name)


@pytest.mark.filterwarnings("ignore:known values that the run's vocabulary does not have")
@pytest.mark.parametrize("case", golden.CASES)
def test_ids_rows_masks_and_losses_are_those_that_are_stored(case: str, tmp_path: Path) -> None:
    golden.inputs(tmp_path, ROOT / "recipes" / "samples")
    found, _ = golden.collect(case, tmp_path, use=False, overrides=ENCODER_ALONE)
    _compare(found, case)


@pytest.mark.filterwarnings("ignore:known values that the run's vocabulary does not have")
@pytest.mark.parametrize("case", golden.RESUMED)
def test_a_run_made_before_goes_on_to_the_same_end(case: str, tmp_path: Path) -> None:
    shutil.unpack_archive(STORED / f"{case}.tar.gz", tmp_path, filter="data")
    checkpoint = (tmp_path / "run" / "latest").read_text(encoding="utf-8").strip()
    manifest = (tmp_path / "run" / "corpus" / "manifest.json").read_bytes()
    found, _ = golden.collect(case, tmp_path, use=False, overrides=ENCODER_ALONE)
    _compare(found, case, before=True)
    assert (tmp_path / "run" / "latest").read_text(encoding="utf-8").strip() != checkpoint
    started = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [each["step"] for each in started if each["kind"] == "started"] == [0, int(checkpoint.split("_")[1])]
    assert (tmp_path / "run" / "corpus" / "manifest.json").read_bytes() == manifest


@pytest.mark.parametrize("case", golden.RESUMED)
def test_a_run_made_before_fills(case: str, tmp_path: Path) -> None:
    shutil.unpack_archive(STORED / f"{case}.tar.gz", tmp_path, filter="data")
    run = maskseq.load(tmp_path / "run")
    file = tmp_path / golden.CASES[case]["input"]
    filled = sum(len(each.filled.fill.cells) for each in run.infill(run.reader(file).read(file)))
    assert filled > 10
