"""The documentation site: every recipe key, option and public name stands in it, and the tutorials run."""

import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import typer
from three_domains import command

import maskseq
from maskseq.cli import app
from maskseq.infill.order import OrderName
from maskseq.infill.rules import GENERIC
from maskseq.plugins import load
from maskseq.recipe import load_recipe

ROOT = Path(__file__).resolve().parents[1]
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site") / "pages"
    runpy.run_path(str(ROOT / "docs" / "build.py"))["write_source"](folder)
    return folder


def keys_of(section: Any, at: str = "") -> Iterator[str]:
    for name, value in section.items():
        yield f"{at}{name}"
        if isinstance(value, dict):
            yield from keys_of(value, f"{at}{name}.")


def test_every_key_of_a_recipe_is_described(source: Path) -> None:
    page = (source / "reference" / "recipe.md").read_text()
    resolved = load_recipe({"data": {"files": ["a.fa"]}, "tokenizer": {"name": "nucleotide"}}).identity()["recipe"]
    assert isinstance(resolved, dict)
    keys = set(keys_of(resolved)) - {"model.preset", "tokenizer.name", "model", "tokenizer"}
    assert len(keys) > 60
    assert [key for key in sorted(keys) if f"`{key}`" not in page] == []


def options_of(command: Any) -> Iterator[str]:
    for each in getattr(command, "commands", {}).values():
        yield from options_of(each)
    yield from (flag for each in command.params for flag in (*each.opts, *each.secondary_opts) if flag.startswith("-"))


def test_every_option_is_described(source: Path) -> None:
    page = (source / "reference" / "commands.md").read_text()
    program = typer.main.get_command(app)
    for each in program.commands.values():  # type: ignore[attr-defined]
        assert [flag for flag in options_of(each) if f"`{flag}" not in page] == [], each.name


def test_every_public_name_is_described(source: Path) -> None:
    page = (source / "reference" / "python.md").read_text()
    assert [name for name in maskseq.__all__ if f"## maskseq.{name}\n" not in page] == []


def test_every_order_and_rule_is_explained() -> None:
    page = (ROOT / "docs" / "infilling.md").read_text()
    nucleotide = load("tokenizers", "nucleotide").fit([])
    for name in (*GENERIC, *nucleotide.rules()):
        assert f"| `{name}=" in page
    for name in get_args(OrderName):
        assert f"`{name}`" in page
    infill = typer.main.get_command(app).commands["infill"]  # type: ignore[attr-defined]
    elsewhere = {
        "--format",
        "--json",
        "--trust-code",
        "--experts",
        "--calibration",
        "--symmetries",
    }  # or by their opposites
    flags = {flag for flag in options_of(infill) if flag.startswith("--")}
    assert sorted(flag for flag in flags - elsewhere if flag not in page) == []


def test_the_site_builds_without_a_warning() -> None:
    pytest.importorskip("mkdocs", reason="needs mkdocs-material and mkdocstrings")
    done = subprocess.run(
        [sys.executable, "docs/build.py", "--output", str(ROOT / "build" / "site")],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (ROOT / "build" / "site" / "reference" / "recipe.html").exists()


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("tutorial", TUTORIALS, ids=lambda path: path.stem)
def test_tutorials_run(tutorial: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the folder where a reader would stand: an empty one, to which recipes are copied with their samples."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "recipes" / "samples", tmp_path / "samples")
    n = 0
    for language, block in re.findall(r"```(\w+)\n(.*?)```", tutorial.read_text(encoding="utf-8"), flags=re.DOTALL):
        if language == "python":
            exec(compile(block, str(tutorial), "exec"), {})
            continue
        for line in block.splitlines():
            program, *arguments = line.split()
            assert program == "maskseq"
            done = command(*arguments)
            assert done.exit_code == 0, f"{line}\n{done.output}"
            n += 1
    assert n >= 3


def test_help_shows_commands_and_many_options_in_panels() -> None:
    """Every option of `infill` stands in a panel that says what it is about, and every command in one."""
    shown = command("infill", "--help").stdout
    for panel in ("What is filled", "How it is filled", "What predicts", "What is read", "What is written"):
        assert panel in shown
    assert [line for line in shown.split("Options")[1:] if "--mask" in line.split("─╮")[0]] == []
    listed = command("--help").stdout
    assert all(panel in listed for panel in ("Train", "Use", "Judge", "Look and move"))
    group = typer.main.get_command(app)
    with group.make_context("maskseq", ["doctor"], resilient_parsing=True) as context:
        for name in group.list_commands(context):  # type: ignore[attr-defined]
            assert group.get_command(context, name).rich_help_panel, name  # type: ignore[attr-defined]


def test_shells_can_complete() -> None:
    assert "--install-completion" in command("--help").stdout
