"""The notebooks run from a fresh folder, cell by cell, and were run before they were stored."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "examples" / "notebooks").glob("*.ipynb"))


def code_of(notebook: Path) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]


def test_there_is_one_for_each_domain_and_its_index_lists_it() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["genome", "log", "signal", "table"]
    index = (ROOT / "examples" / "notebooks" / "README.md").read_text()
    assert all(f"({path.name})" in index for path in NOTEBOOKS)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_stored_with_what_they_print(notebook: Path) -> None:
    cells = code_of(notebook)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert len(outputs) >= 2
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert str(ROOT) not in notebook.read_text()
    assert "Traceback" not in notebook.read_text()


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run(notebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    matplotlib = pytest.importorskip("matplotlib", reason="needs matplotlib")
    pytest.importorskip("pandas", reason="needs pandas")
    matplotlib.use("Agg")
    here = tmp_path / "examples" / "notebooks"
    here.mkdir(parents=True)
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    monkeypatch.chdir(here)
    names: dict[str, Any] = {"__name__": "__main__"}
    for n, cell in enumerate(code_of(notebook), 1):
        exec(compile("".join(cell["source"]), f"{notebook.name}, cell {n}", "exec"), names)
