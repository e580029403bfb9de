"""tokenizers/README.md as a stranger follows it: a package installed, checked, pretrained with and infilled."""

import os
import random
import re
import subprocess
import sys
import venv
from pathlib import Path

README = Path(__file__).resolve().parents[1] / "tokenizers" / "README.md"
RECIPE = """
[data]
files = ["games.rolls"]
workers = 1
[tokenizer]
name = "dice"
[model]
preset = "nano"
n_layers = 1
[batch]
row_tokens = 512
context = 64
[training]
tokens = 2_000
rows = 1
precision = "fp32"
"""


def test_a_package_of_ones_own_works_from_the_command_line(tmp_path: Path) -> None:
    toml, module, check = re.findall(
        r"```(?:toml|python)\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL
    )
    package = tmp_path / "package"
    package.mkdir()
    (package / "pyproject.toml").write_text(toml)
    (package / "maskseq_dice.py").write_text(module)
    dice = random.Random(0)
    games = [" ".join(dice.choices("123456", k=20 + n)) for n in range(40)]
    games[3] = "? " + games[3][2:]
    (tmp_path / "games.rolls").write_text("\n".join(games) + "\n")
    (tmp_path / "recipe.toml").write_text(RECIPE)

    # A fresh environment that sees this one's libraries, so that nothing heavy is installed twice.
    venv.create(tmp_path / "venv", with_pip=True)
    python = str(tmp_path / "venv" / "bin" / "python")
    site = subprocess.run(
        [python, "-c", "import site; print(site.getsitepackages()[0])"], capture_output=True, text=True, check=True
    )
    here = [path for path in sys.path if path.endswith("site-packages")]
    (Path(site.stdout.strip()) / "outer.pth").write_text(
        "\n".join(f"import site; site.addsitedir({p!r})" for p in here)
    )

    def run(*command: str) -> str:
        done = subprocess.run(
            [python, *command], cwd=tmp_path, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
        )
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    run("-m", "pip", "install", "-q", "--no-build-isolation", "--no-deps", str(package))
    assert "dice" in run("-m", "maskseq", "doctor")
    assert "40" in run("-c", check)
    run("-m", "maskseq", "pretrain", "recipe.toml", "-o", "run")
    run("-m", "maskseq", "infill", "run", "games.rolls", "-o", "filled")
    filled = (tmp_path / "filled" / "games.rolls").read_text().splitlines()
    assert filled[3][0] in "123456"
    assert filled[3][1:] == games[3][1:]
    assert filled[:3] + filled[4:] == games[:3] + games[4:]
