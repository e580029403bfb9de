"""tokenizers/README.md as a stranger follows it: a package installed, checked, pretrained with and infilled."""

import os
import re
import subprocess
import sys
import venv
from pathlib import Path

README = Path(__file__).resolve().parents[1] / "tokenizers" / "README.md"


def test_a_package_of_ones_own_works_from_the_command_line(tmp_path: Path) -> None:
    text = README.read_text(encoding="utf-8")
    toml, module, commands, check = re.findall(r"```(?:toml|python|sh)\n(.*?)```", text, flags=re.DOTALL)
    package = tmp_path / "package"
    package.mkdir()
    (package / "pyproject.toml").write_text(toml)
    (package / "maskseq_dice.py").write_text(module)

    # A fresh environment that sees this one's libraries, so that nothing heavy is installed twice.
    venv.create(tmp_path / "venv", with_pip=True)
    bin = tmp_path / "venv" / "bin"
    site = subprocess.run(
        [bin / "python", "-c", "import site; print(site.getsitepackages()[0])"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    here = [path for path in sys.path if path.endswith("site-packages")]
    (Path(site.stdout.strip()) / "outer.pth").write_text(
        "\n".join(f"import site; site.addsitedir({p!r})" for p in here)
    )
    (bin / "maskseq").write_text(f'#!/bin/sh\nexec {bin / "python"} -m maskseq "$@"\n')
    (bin / "maskseq").chmod(0o755)
    offline = {"PIP_NO_BUILD_ISOLATION": "0", "PIP_NO_DEPS": "1", "PIP_NO_INDEX": "1"}
    reported = {"PATH": f"{bin}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}

    def run(*command: str) -> str:
        done = subprocess.run(command, cwd=package, capture_output=True, text=True, env=os.environ | offline | reported)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    message = run("bash", "-e", "-c", commands)
    assert "dice" in message
    games = (package / "games.rolls").read_text()
    filled = (package / "games.rolls-filled" / "games.rolls").read_text()
    assert "?" in games
    assert "?" not in filled
    assert all(old in (new, "?") for old, new in zip(games, filled, strict=True))
    assert "40" in run("python", "-c", check)
