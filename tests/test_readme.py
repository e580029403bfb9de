"""The README's Python runs as it stands, and its commands exist."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).resolve().parents[1] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
COMMANDS = re.findall(r"^maskseq ([a-z]+)", README.read_text(encoding="utf-8"), flags=re.MULTILINE)


@pytest.mark.parametrize("block", BLOCKS, ids=[f"block {n}" for n in range(len(BLOCKS))])
def test_python_blocks_run(block: str, tmp_path: Path) -> None:
    shutil.copytree(README.parent / "recipes", tmp_path / "recipes")
    done = subprocess.run(
        [sys.executable, "-c", block],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr


def test_its_commands_exist() -> None:
    from maskseq.cli import app
    from maskseq.cli.tools import recipes_app

    known = {c.callback.__name__ for c in app.registered_commands if c.callback} | {"recipes"}
    assert recipes_app.registered_commands
    assert set(COMMANDS) <= known


def test_the_tree_names_every_room_and_module_of_the_top_and_no_other() -> None:
    (tree,) = re.findall(r"```\n(maskseq/\n.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    package = README.parent / "maskseq"
    named = {line.split()[0].rstrip("/") for line in re.findall(r"^  (\w.*)$", tree.split("\n\ntok")[0], re.MULTILINE)}
    there = {p.name for p in package.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()}
    assert named == there
    for room in re.findall(r"^(?:    )?([a-z]+)/ ", tree, flags=re.MULTILINE):
        assert (README.parent / room).is_dir() or list(package.glob(f"*/{room}")), room
