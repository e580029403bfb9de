"""`--json` is JSON all through, of every command; tables for spreadsheets hold no formulas and give keys again."""

import csv
import io
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from maskseq.cli import app
from maskseq.storage.tabular import FORMULA, quoted, table_writer, unquoted

KEYS = ["=cmd|' /C calc'!A0", "+1+1", "-b", "@SUM(A1)", "ключ", 'a"b', "\u202eevil", "plain"]
RECIPE = """
[data]
files = ["log.csv"]
format = "event-csv"
workers = 1
[data.split]
by = "record"
selection = 0.3
[tokenizer]
name = "event"
attributes = ["amount"]
[model]
preset = "nano"
n_layers = 1
hidden_size = 16
intermediate_size = 16
n_heads = 1
[packing]
row_tokens = 256
context = 32
[training]
tokens = 2_000
rows = 1
validate_every = 0.5
precision = "fp32"
"""


def maskseq(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def standard(line: str) -> Any:
    """One line as JSON without the literals that the standard does not have."""

    def refuse(literal: str) -> None:
        raise AssertionError(f"{literal} is not JSON")

    return json.loads(line, parse_constant=refuse)


NAMES = [*KEYS, *(f"c{i}" for i in range(20))]
TASK = """\
kind = "binary"
[data]
files = ["log.csv"]
selection = 0.25
test = 0.25
[labels]
file = "labels.csv"
[training]
epochs = 1
"""


def log(path: Path, *, hole: bool) -> Path:
    """Cases of whose amounts some are missing, one of them without anything to score."""
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["case", "activity", "time", "amount"])
        for number, key in enumerate(NAMES):
            for event in range(4):
                activity = "?" if hole and (number == 3 or event == 1) else "AB"[(number + event) % 2]
                amount = "?" if hole and (number == 3 or event == 2) else 10 * number + event
                time = "?" if hole and number == 3 else f"2024-01-{number + 1:02d}T0{event}:00:00"
                table.writerow([key, activity, time, amount])
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    log(folder / "log.csv", hole=False)
    log(folder / "holes.csv", hole=True)
    (folder / "recipe.toml").write_text(RECIPE)
    (folder / "task.toml").write_text(TASK)
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("key", "label"), *((key, i % 2) for i, key in enumerate(NAMES))])
    (folder / "genome.fa").write_text("".join(f">{name}\n{'ACGTTGCAAC' * 40}\n" for name in "gabcdef"))
    changes = ["g\t5\t.\tT\tA", "g\t9\t.\tA\tAC", f"g\t1\t.\t{'ACGTTGCAAC' * 20}\tA"]  # the last is too long to score
    header = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\n"
    (folder / "calls.vcf").write_text(header + "".join(f"{line}\n" for line in changes))
    dna = RECIPE.replace('"log.csv"', '"genome.fa"').replace('format = "event-csv"\n', "")
    dna = dna.replace('by = "record"', 'by = "region"').replace('"event"\nattributes = ["amount"]', '"nucleotide"')
    (folder / "dna.toml").write_text(dna)
    (folder / "signal.csv").write_text("x,y\n" + "".join(f"{i % 7},{i % 5}\n" for i in range(400)))
    signal = RECIPE.replace('"log.csv"', '"signal.csv"').replace('"event-csv"', '"signal-csv"')
    signal = signal.replace('by = "record"', 'by = "region"').replace('"event"\nattributes = ["amount"]', '"quantize"')
    (folder / "signal.toml").write_text(signal)
    for recipe, run in (("recipe", "run"), ("dna", "dna"), ("signal", "signal")):
        result = maskseq("pretrain", folder / f"{recipe}.toml", "-o", folder / run)
        assert result.exit_code == 0, result.output
    return folder


COMMANDS: dict[str, Callable[[Path, Path], list[tuple[object, ...]]]] = {
    "init": lambda at, out: [
        ("init", at / "log.csv", "-o", out / "r.toml"), ("init", at / "genome.fa", "-o", out / "g.toml")
    ],
    "tokenize": lambda at, out: [
        ("tokenize", at / "recipe.toml", "-o", out / "c"),
        ("tokenize", at / "recipe.toml", "-o", out / "d", "--part", "1/2"),
    ],
    "verify": lambda at, out: [("verify", at / "run" / "corpus")],
    "pretrain": lambda at, out: [
        ("pretrain", at / "recipe.toml", "-o", out / "run", "--set", "optimizer.weight_decay=0"),
        ("pretrain", at / "recipe.toml", "-o", out / "dry", "--dry-run"),
    ],
    "watch": lambda at, out: [("watch", at / "run", at / "dna")],
    "infill": lambda at, out: [
        ("infill", at / "run", at / "holes.csv", "-o", out / "filled"),
        ("infill", at / "run", at / "holes.csv", "-o", out / "hidden", "--mask", "plain:1-2", "--unknown", "amount"),
    ],
    "calibrate": lambda at, out: [("calibrate", at / "run", at / "log.csv", "--cells", 100)],
    "fit-lengths": lambda at, out: [("fit-lengths", at / "dna", at / "genome.fa", "--most", 2, "--gaps", 200)],
    "score": lambda at, out: [
        ("score", at / "run", at / "holes.csv"),
        ("score", at / "run", at / "holes.csv", "--per-position"),
        ("score", at / "dna", at / "genome.fa", "--variants", at / "calls.vcf"),
        ("score", at / "run", at / "holes.csv", "-o", out / "scores.jsonl"),
    ],
    "share": lambda at, out: [("share", at / "run", out / "shared")],
    "embed": lambda at, out: [("embed", at / "run", at / "holes.csv", "-o", out / "v.zarr")],
    "finetune": lambda at, out: [("finetune", at / "run", at / "task.toml", "-o", out / "tuned")],
    "predict": lambda at, out: [
        ("finetune", at / "run", at / "task.toml", "-o", out / "tuned"),
        ("predict", out / "tuned", at / "holes.csv"),
        ("predict", out / "tuned", at / "holes.csv", "-o", out / "answers.csv"),
    ],
    "blend": lambda at, out: [("blend", at / "run", "--data", at / "log.csv", "--cells", 100)],
    "next": lambda at, out: [("next", at / "run", at / "log.csv"), ("next", at / "run", at / "log.csv", "--rest")],
    "forecast": lambda at, out: [("forecast", at / "signal", at / "signal.csv", "--steps", 2, "--samples", 2)],
    "probe": lambda at, out: [
        ("probe", at / "run", at / "log.csv", "--labels", at / "labels.csv", "--model", "linear", "--folds", 2)
    ],
    "evaluate": lambda at, out: [
        ("evaluate", at / "run", "--cells", 50),
        ("evaluate", at / "run", at / "log.csv", "--cells", 50, "--protocol", "gap-2", "--few", "-o", out / "judged"),
    ],
    "baseline": lambda at, out: [("baseline", at / "run" / "corpus", "--cells", 50, "--context", 8)],
    "inspect": lambda at, out: [
        ("inspect", at / "run", "--layers"), ("inspect", at / "recipe.toml"), ("inspect", at / "run" / "corpus")
    ],
    "doctor": lambda at, out: [("doctor",)],
    "list": lambda at, out: [("recipes", "list")],
}  # fmt: skip


def test_these_are_all_commands_that_take_it() -> None:
    def taking(group: Any) -> set[str]:
        found = set()
        for name, command in group.commands.items():
            if hasattr(command, "commands"):
                found |= taking(command)
            elif any("--json" in option.opts for option in command.params):
                found.add(name)
        return found

    assert taking(typer.main.get_command(app)) == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_line_is_json(place: Path, name: str, tmp_path: Path) -> None:
    for command in COMMANDS[name](place, tmp_path):
        result = maskseq(*command, "--json")
        assert result.exit_code == 0, result.output
        lines = result.stdout.splitlines()
        assert lines
        assert all(isinstance(standard(line), dict) for line in lines)
    if name == "score":
        for line in (tmp_path / "scores.jsonl").read_text(encoding="utf-8").splitlines():
            scored = standard(line)
            assert isinstance(scored["fields"], dict)
            assert (scored["bits"] is None) == (scored["cells"] == 0)


def test_errors_and_warnings_stay_off_stdout(place: Path, tmp_path: Path) -> None:
    result = maskseq("infill", place / "run", place / "nothing.csv", "-o", tmp_path / "o", "--json")
    assert result.exit_code != 0
    assert standard(result.stdout)["error"]["code"] == "missing-file"  # nothing but this object
    warned = maskseq(
        "infill", place / "run", place / "holes.csv", "-o", tmp_path / "w", "--order", "one_shot", "--json"
    )
    assert warned.exit_code == 0
    (line,) = warned.stdout.splitlines()
    standard(line)


def test_the_program_itself_prints_nothing_else(place: Path, tmp_path: Path) -> None:
    command = ["score", str(place / "run"), str(place / "holes.csv"), "--json"]
    done = subprocess.run(
        [str(Path(subprocess.sys.executable).parent / "maskseq"), *command],
        capture_output=True,
        check=True,
        cwd=tmp_path,
    )
    keys = [standard(line)["key"] for line in done.stdout.decode().splitlines()]
    assert set(keys) >= set(KEYS)


# ---- tables for spreadsheets --------------------------------------------------------------------------------------


@given(st.text(st.sampled_from("=+-@\t\r'1.5eabc\" ,\nnan")))
def test_quoting_can_be_undone_and_hides_formulas(text: str) -> None:
    cell = quoted(text)
    assert isinstance(cell, str)
    assert unquoted(cell) == text
    try:
        float(text)
    except ValueError:
        assert not cell.startswith(FORMULA)


@pytest.mark.parametrize("number", ["-1.5", "+3", "-1e-5", "-0", -1.5, -3, None])
def test_numbers_stay_numbers(number: object) -> None:
    assert quoted(number) == number


@pytest.mark.parametrize(("suffix", "delimiter"), [(".csv", ","), (".tsv", "\t")])
def test_keys_of_tables(place: Path, suffix: str, delimiter: str, tmp_path: Path) -> None:
    table = tmp_path / f"t{suffix}"
    assert maskseq("score", place / "run", place / "holes.csv", "-o", table).exit_code == 0
    filled = maskseq("infill", place / "run", place / "holes.csv", "-o", tmp_path / "out")
    assert filled.exit_code == 0, filled.output
    for path, separator in ((table, delimiter), (tmp_path / "out" / "fills.csv", ",")):
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file, delimiter=separator))
        assert {unquoted(row["key"]) for row in rows} >= set(KEYS)
        assert not any(row["key"].startswith(FORMULA) for row in rows)
    assert {row["case"] for row in csv.DictReader(io.StringIO((tmp_path / "out" / "holes.csv").read_text()))} >= set(
        KEYS
    )


def test_other_tables_keep_texts_as_they_are(tmp_path: Path) -> None:
    with table_writer(tmp_path / "t.jsonl", {"key": str}) as sink:
        sink([{"key": key} for key in KEYS])
    assert [json.loads(line)["key"] for line in (tmp_path / "t.jsonl").read_text().splitlines()] == KEYS
