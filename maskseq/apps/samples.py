"""The recipes and samples that ship with maskseq: inside the installed package, or in the repository."""

import os
import shutil
import tomllib
from importlib.resources import files
from pathlib import Path

from maskseq.errors import UsageError, nearest
from maskseq.storage.outputs import replacing


def folder() -> Path:
    """Where the recipes lie. An editable install has them in the repository, beside the package."""
    package = Path(str(files("maskseq")))
    installed = package / "recipes"
    return installed if installed.is_dir() else package.parent / "recipes"


def recipes() -> dict[str, Path]:
    """Shipped recipes by name."""
    return {path.stem: path for path in sorted(folder().glob("*.toml"))}


def first_comment(path: Path) -> str:
    """The comment that a recipe begins with, up to its first full stop: what it is for."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# "))
    return " ".join(lines).partition(". ")[0]


def copy(name: str, destination: Path) -> list[Path]:
    """Copy a recipe and the sample files that it names; nothing that exists is overwritten."""
    known = recipes()
    if name not in known:
        raise UsageError(f"no recipe called {name!r} ships\n\nhint: {nearest(name, known)}", code="unknown-name")
    target = destination / f"{name}.toml" if destination.is_dir() else destination
    data = tomllib.loads(known[name].read_text(encoding="utf-8")).get("data", {})
    samples = [f for f in data.get("files", []) if (folder() / f).is_file()]
    pairs = [(known[name], target), *((folder() / f, target.parent / f) for f in samples)]
    written = []
    for source, copied in pairs:
        if copied == target or not os.path.lexists(copied):
            with replacing(copied, new=True, parents=True) as aside:
                shutil.copyfile(source, aside)
            written.append(copied)
    return written
