"""What a user installs: wheel, sdist and editable install carry the same packages, and hide nobody else's."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGES = {"maskseq", "maskseq_genomics", "maskseq_events", "maskseq_signals", "maskseq_tables"}


def run(*command: str, cwd: Path, **environment: str) -> str:
    import os

    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, env={**os.environ, **environment})
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_shelf_has_no_init_file() -> None:
    """`tokenizers/__init__.py` would hide Hugging Face's package of that name from anyone who works in the root."""
    assert not (REPOSITORY / "tokenizers" / "__init__.py").exists()


def test_hugging_face_tokenizers_still_import_from_the_root() -> None:
    pytest.importorskip("tokenizers", reason="Hugging Face's tokenizers is not installed")
    code = "from tokenizers import Tokenizer; print(Tokenizer.__module__)"
    assert run(sys.executable, "-c", code, cwd=REPOSITORY).strip().startswith("tokenizers")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(REPOSITORY), cwd=folder)
    return folder


def test_wheel_and_sdist_carry_the_packages_and_recipes(built: Path) -> None:
    """`build` makes the wheel from the sdist, so the sdist is complete if the wheel is."""
    names = zipfile.ZipFile(next(built.glob("*.whl"))).namelist()
    assert {name.split("/")[0] for name in names if "dist-info" not in name} == PACKAGES
    assert "maskseq/recipes/demo.toml" in names
    assert "maskseq/py.typed" in names
    with tarfile.open(next(built.glob("*.tar.gz"))) as sdist:
        files = {name.partition("/")[2] for name in sdist.getnames()}
    assert {"Makefile", "README.md", "LICENSE", "tests/test_packaging.py", "recipes/demo.toml"} <= files
    assert not any(name.startswith((".venv", "runs")) for name in files)


def test_an_installed_wheel_finds_its_plugins_and_recipes(built: Path, tmp_path: Path) -> None:
    wheel = str(next(built.glob("*.whl")))
    site = tmp_path / "site"
    run(sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(site), wheel, cwd=tmp_path)
    code = (
        "import maskseq, maskseq.plugins as p, pathlib; print(pathlib.Path(maskseq.__file__).parent.parent);"
        "print(p.load('tokenizers', 'nucleotide').__name__)"
    )
    where, tokenizer = run(sys.executable, "-c", code, cwd=tmp_path, PYTHONPATH=str(site)).split()
    assert Path(where) == site
    assert tokenizer == "NucleotideTokenizer"
    listed = run(sys.executable, "-m", "maskseq", "recipes", "list", cwd=tmp_path, PYTHONPATH=str(site))
    assert "demo" in listed
    assert "apache" in listed
    copied = run(
        sys.executable, "-m", "maskseq", "recipes", "copy", "apache", "mine.toml", cwd=tmp_path, PYTHONPATH=str(site)
    )
    assert copied == ""  # what was written is talk, on stderr
    assert (tmp_path / "samples" / "apache_access.log.gz").stat().st_size > 100_000
    begun = ("-m", "maskseq", "init", "samples/apache_access.log.gz", "-o", "own.toml", "--yes", "--json")
    assert "textlog" in run(sys.executable, *begun, cwd=tmp_path, PYTHONPATH=str(site))


def test_what_is_installed_stays_small(built: Path) -> None:
    """Samples are most of it; the data of other recipes are not shipped."""
    assert all(path.stat().st_size < 2_500_000 for path in built.iterdir())


def test_help_and_plugins_never_load_torch() -> None:
    code = (
        "import sys, maskseq, maskseq.cli, maskseq.plugins, maskseq.testing, maskseq_genomics.nucleotide;"
        "sys.exit('torch' in sys.modules)"
    )
    run(sys.executable, "-c", code, cwd=REPOSITORY)


def test_layers_import_only_downwards() -> None:
    """The import contracts of pyproject.toml, the same that `make lint` checks."""
    run(str(Path(sys.executable).parent / "lint-imports"), "--no-cache", cwd=REPOSITORY)
