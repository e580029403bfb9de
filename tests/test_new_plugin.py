"""What `maskseq new-plugin` writes passes its own tests at once."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from maskseq.cli import app

ROOT = Path(__file__).resolve().parents[1]


def run(*arguments: str | Path) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["new-plugin", *map(str, arguments)])
    return done.exit_code, done.output


def test_its_tests_pass_at_once(tmp_path: Path) -> None:
    code, message = run("sky_log", "--output", tmp_path / "package")
    assert code == 0, message
    package = tmp_path / "package"
    points = tomllib.loads((package / "pyproject.toml").read_text())["project"]["entry-points"]
    assert points["maskseq.tokenizers"] == {"sky_log": "maskseq_sky_log:SkyLogTokenizer"}
    path = os.pathsep.join([str(ROOT), str(ROOT / "tokenizers"), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        command, cwd=package, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


@pytest.mark.parametrize("name", ["Sky", "a-b", "1st", "", "class", "event", "../up", "foo_", "_foo", "foo__bar"])
def test_names_that_cannot_be_are_refused(tmp_path: Path, name: str) -> None:
    code, message = run(name, "--output", tmp_path / "package")
    assert code == 2, message
    assert not (tmp_path / "package").exists()


def test_nothing_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    code, message = run("sky", "--output", tmp_path / "mine")
    assert code == 2
    assert "mine" in message
    assert (tmp_path / "mine").read_text() == "mine"
