"""The documentation site: `make docs`, or

    python docs/build.py --output build/site

Pages are those of docs/, the README and what is generated from the code: every key of a recipe from the dataclass that
owns it, every option from the command line itself, every public name from its docstring. mkdocs builds them, strictly.
"""

import argparse
import ast
import dataclasses
import importlib
import inspect
import re
import shutil
import subprocess
import sys
import textwrap
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGES = {
    "index.md": "README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
    "tokenizers.md": "tokenizers/README.md",
    "recipes.md": "recipes/README.md",
    "samples.md": "recipes/samples/README.md",
    "notebooks.md": "examples/notebooks/README.md",
}
"""Pages that lie elsewhere in the repository."""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--output", type=Path, default=ROOT / "build" / "site")
    given = options.parse_args()
    write_source(ROOT / "build" / "site-source")  # which mkdocs.yml names
    config = ["--config-file", str(ROOT / "mkdocs.yml"), "--site-dir", str(given.output.resolve())]
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", *config]
    sys.exit(subprocess.run(command, cwd=ROOT).returncode)


def write_source(folder: Path) -> None:
    """All pages as markdown."""
    shutil.rmtree(folder, ignore_errors=True)
    pages = {path.relative_to(ROOT / "docs"): path for path in (ROOT / "docs").rglob("*.md")}
    pages |= {Path(name): ROOT / where for name, where in PAGES.items()}
    at = {path.resolve(): name for name, path in pages.items()}
    for name, path in pages.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(_relinked(path, name, at), encoding="utf-8")
    for path in (ROOT / "docs").rglob("*.svg"):
        shutil.copyfile(path, folder / path.relative_to(ROOT / "docs"))
    reference = folder / "reference"
    reference.mkdir()
    for name, text in {"recipe": recipe_page(), "commands": commands_page(), "python": python_page()}.items():
        (reference / f"{name}.md").write_text(text, encoding="utf-8")


def _relinked(path: Path, name: Path, at: Mapping[Path, Path]) -> str:
    """A page whose links lead to pages of the site; links to other files become plain text."""

    def moved(found: re.Match[str]) -> str:
        text, file, place = found[1], found[2], found[3] or ""
        target = (path.parent / file).resolve()
        if target in at:
            up = "../" * (len(name.parts) - 1)
            return f"[{text}]({up}{at[target].as_posix()}{place})"
        return found[0] if target.suffix == ".svg" else text

    return re.sub(r"\[([^\]\[]*)\]\((?!https?:|#)([^)#\s]+)(#[^)\s]*)?\)", moved, path.read_text(encoding="utf-8"))


# ---- recipes ------------------------------------------------------------------------------------------------------


def recipe_page() -> str:
    """Every key of a recipe, its default, and what it is."""
    from maskseq.model.config import EncoderConfig
    from maskseq.recipe import Recipe

    lines = ["# Keys of a recipe", "", "In a TOML file, or `--set section.key=value`.", ""]
    for section, key, default, text in recipe_keys(Recipe):
        if section == "model":
            continue
        lines += _entry(section, key, default, text)
    lines += ["## model", "", "`preset` names a shape; any key below changes it.", ""]
    for section, key, default, text in recipe_keys(EncoderConfig, "model"):
        lines += _entry(section, key, default, text)
    return "\n".join(lines)


def _entry(section: str, key: str, default: str, text: str) -> list[str]:
    name = f"{section}.{key}" if section else key
    return [f"`{name}`" + (f" = `{default}`" if default else ""), f":   {text or 'see above'}", ""]


def recipe_keys(owner: type, section: str = "") -> Iterator[tuple[str, str, str, str]]:
    """Section, key, default and description of each key, down to the inner sections."""
    described, kinds = attribute_docs(owner), typing.get_type_hints(owner)
    for each in dataclasses.fields(owner):
        inner = [kind for kind in _kinds(kinds[each.name]) if dataclasses.is_dataclass(kind)]
        text = described.get(each.name, "")
        yield section, each.name, _default(each), text
        for kind in inner:
            yield from recipe_keys(kind, f"{section}.{each.name}" if section else each.name)


def _kinds(kind: Any) -> list[Any]:
    return [kind, *(inner for each in typing.get_args(kind) for inner in _kinds(each))]


def _default(each: "dataclasses.Field[Any]") -> str:
    value = each.default if each.default is not dataclasses.MISSING else None
    if each.default_factory is not dataclasses.MISSING:
        value = each.default_factory()
    return "" if value is None or dataclasses.is_dataclass(value) else repr(value)


def attribute_docs(owner: type) -> dict[str, str]:
    """The text behind each attribute of a class, and of those that it inherits from."""
    found: dict[str, str] = {}
    for each in reversed(owner.__mro__):
        if not dataclasses.is_dataclass(each):
            continue
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(each))).body
        assert isinstance(tree, ast.ClassDef)
        for before, text in zip(tree.body, tree.body[1:], strict=False):
            if isinstance(before, ast.AnnAssign) and isinstance(before.target, ast.Name) and isinstance(text, ast.Expr):
                value = getattr(text.value, "value", None)
                if isinstance(value, str):
                    found[before.target.id] = " ".join(value.split())
    return found


# ---- commands and Python ------------------------------------------------------------------------------------------


def commands() -> Iterator[tuple[str, Any]]:
    """Every command by its name, those of groups as `group command`."""
    import typer

    from maskseq.cli import app

    group = typer.main.get_command(app)
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        if hasattr(command, "commands"):
            yield from ((f"{name} {inner}", each) for inner, each in command.commands.items())
        else:
            yield name, command


def commands_page() -> str:
    """Every command, with its arguments and options."""
    lines = [
        "# Commands",
        "",
        "Exit codes: 0 done, 1 failed, 2 wrong usage or recipe, 3 broken data, 130 interrupted.",
        "",
    ]
    for name, command in commands():
        lines += [f"## maskseq {name}", "", _plain(command.help or ""), ""]
        for each in command.params:
            flags = (
                "`, `".join([*each.opts, *each.secondary_opts])
                if each.param_type_name == "option"
                else each.name.upper()
            )
            lines += [f"`{flags}`", f":   {_plain(getattr(each, 'help', '') or 'see above')}", ""]
    return "\n".join(lines)


def _plain(text: str) -> str:
    return re.sub(r"\[/?[a-z ]*\]", "", text).replace("<", "&lt;")


def python_page() -> str:
    """Every public name."""
    import maskseq

    lines = ["# Python", ""]
    for name in maskseq.__all__:
        value = getattr(maskseq, name)
        where = getattr(value, "__module__", None) or ""
        if not (where.startswith("maskseq") and hasattr(value, "__name__")):  # a constant, or the name of a type
            lines += [f"## maskseq.{name}", "", f"`{value!r}`", ""]
        else:
            own = getattr(importlib.import_module(where), "__name__", where)
            lines += [
                f"## maskseq.{name}",
                "",
                f"::: {own}.{value.__name__}",
                "    options: {show_root_heading: false}",
                "",
            ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
