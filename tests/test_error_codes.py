"""Every error has a code that is documented, and `--json` prints it for scripts."""

import ast
import json
import pickle
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from maskseq.cli import app
from maskseq.errors import CODES, DataError, MaskseqError, PluginError, UsageError
from maskseq.infill.sampler import InfillConfig
from maskseq.recipe import load_recipe

ROOT = Path(__file__).resolve().parents[1]
ECOLI = str(ROOT / "recipes" / "ecoli.toml")
SOURCES = [path for room in ("maskseq", "tokenizers") for path in sorted((ROOT / room).rglob("*.py"))]
COMMANDS = (
    ("infill", "RUN", "x"),
    ("calibrate", "RUN"),
    ("blend", "RUN"),
    ("fit-lengths", "RUN"),
    ("evaluate", "RUN"),
    ("baseline", "RUN"),
    ("next", "RUN", "x"),
    ("forecast", "RUN", "x", "--steps", "2"),
    ("probe", "RUN", "x"),
    ("finetune", "RUN", "x", "-o", "y"),
    ("pretrain", "x.toml"),
)


def maskseq(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def raised_codes() -> set[str]:
    found = set()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.keyword) and node.arg == "code" and isinstance(node.value, ast.Constant):
                found.add(str(node.value.value))
    return found | {each.code for each in (MaskseqError, UsageError, DataError, PluginError)}


def test_every_code_is_documented_and_used() -> None:
    assert raised_codes() - {"unknown-option", "bad-option"} <= CODES.keys()
    assert raised_codes() == CODES.keys()
    text = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    assert dict(re.findall(r"^\| `([a-z-]+)` \| (.+) \|$", text, flags=re.M)) == CODES
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", code) for code in CODES)


def test_every_error_of_usage_or_data_names_its_code() -> None:
    """Formats may do without one for data: `DataError` has that of what cannot be read, which is what they mean."""
    found = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            named = isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", ""))
            coded = named == "UsageError" or (named == "DataError" and path.is_relative_to(ROOT / "maskseq"))
            if coded and not any(keyword.arg == "code" for keyword in node.keywords):
                found.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert not found


def test_codes_survive_the_trip_from_a_worker() -> None:
    for error in (
        UsageError("x", code="exists"),
        DataError("a", "b", place="c", code="damaged-file"),
        DataError("a", "b"),
    ):
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again), again.code) == (type(error), str(error), error.code)


@pytest.mark.parametrize(
    ("arguments", "code", "exit_code"),
    [
        (("infill", "no-run", "no-file"), "missing-file", 2),
        (("pretrain", "no-recipe.toml"), "missing-file", 2),
        (("pretrain", "broken.toml"), "bad-option", 2),
        (("pretrain", ECOLI, "--set", "masking.ratoi=0.2"), "unknown-option", 2),
        (("pretrain", ECOLI, "--set", "masking.ratio=7"), "bad-option", 2),
        (
            ("pretrain", ECOLI.replace("ecoli", "lambda"), "--set", 'tokenizer.name="nucleotid"', "--dry-run"),
            "unknown-name",
            2,
        ),
        (("infill", "no-run", "no-file", "--table", "sideways"), "bad-option", 2),
        (("infill", "no-run", "no-file", "--sideways"), "unknown-option", 2),
        (("recipes", "list", "--sideways"), "unknown-option", 2),
        (("inspect", "broken.toml.txt"), "foreign-folder", 2),
        (("init", "strange.bin"), "unknown-file", 2),
        (("init", "letters.fa", "-o", "broken.toml"), "exists", 2),
        (("infill", "damaged", "letters.fa"), "damaged-file", 3),
    ],
)
def test_json_names_the_code(
    arguments: tuple[str, ...], code: str, exit_code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("broken.toml").write_text("[data\n")
    Path("broken.toml.txt").write_text("")
    Path("strange.bin").write_bytes(bytes(range(256)))
    Path("letters.fa").write_text(">a\nACGT\n")
    Path("damaged").mkdir()
    (Path("damaged") / "latest").write_text("step_7")
    result = maskseq(*arguments, "--json")
    assert result.exit_code == exit_code, result.output
    (line,) = result.stdout.splitlines()
    assert json.loads(line)["error"]["code"] == code
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_a_seed_below_zero_is_refused_by_every_command(command: tuple[str, ...]) -> None:
    result = maskseq(*command, "--seed", "-1", "--json")
    assert result.exit_code == 2
    assert json.loads(result.stdout)["error"]["code"] == "bad-option"


@pytest.mark.parametrize("seed", [-1, 1 << 63])
def test_a_seed_that_no_generator_takes_is_refused_in_python(seed: int) -> None:
    from maskseq.comparison.question import Question
    from maskseq.corpus.splits import SplitConfig

    for make in (
        lambda: InfillConfig(seed=seed),
        lambda: Question(seed=seed),
        lambda: SplitConfig(seed=seed),
        lambda: load_recipe({"data": {}, "tokenizer": {}, "seed": seed}),
    ):
        with pytest.raises(UsageError) as error:
            make()
        assert error.value.code == "bad-option"
