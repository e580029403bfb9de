"""What stands in files cannot steer the terminal, and no terminal is too poor for a command."""

import csv
import json
import os
import re
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table
from typer.testing import CliRunner
from untrained import untrained

from maskseq.cli import app, console
from maskseq.storage.terminal import escaped, in_one_line
from maskseq.trained import TrainedModel
from maskseq_genomics.nucleotide import NucleotideTokenizer

EVIL = "k\x1b[31m\x9b2J\x07\u202egnp\u2066\x85\x7f"
REORDERING = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


def is_dangerous(letter: str) -> bool:
    by_kind = unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") and letter not in "\t\n"
    return by_kind or unicodedata.bidirectional(letter) in REORDERING


def is_safe(text: str) -> bool:
    return not any(map(is_dangerous, text))


def test_exactly_the_dangerous_characters_are_escaped() -> None:
    for number in range(sys.maxunicode + 1):
        letter = chr(number)
        assert (escaped(letter) != letter) == is_dangerous(letter), hex(number)


@given(st.text(st.characters()))
def test_escaping_twice_is_escaping_once_and_can_be_read_back(text: str) -> None:
    assert is_safe(escaped(text))
    assert escaped(escaped(text)) == escaped(text)
    assert not set(in_one_line(text)) & {"\t", "\n"}
    if "\\" not in text:
        assert in_one_line(text).encode("latin-1", "backslashreplace").decode("unicode_escape") == text.encode(
            "utf-16", "surrogatepass"
        ).decode("utf-16", "surrogatepass") or any(map(is_dangerous, text))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    return untrained(NucleotideTokenizer(), tmp_path_factory.mktemp("run"))


@pytest.mark.parametrize("is_terminal", [True, False])
def test_every_way_of_showing_escapes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, is_terminal: bool
) -> None:
    if is_terminal:
        shown_on = console.Terminal(stderr=True, force_terminal=True, color_system="standard", width=300)
        monkeypatch.setattr(console, "talk", shown_on)
    monkeypatch.setattr(console, "PLAIN_SECONDS", 0)
    console.fail(f"{EVIL}: broken\n\nhint: {EVIL}")
    console.warn(EVIL)
    console.say(EVIL)
    console.fitted({EVIL: EVIL})
    console.show({EVIL: EVIL, "section": {EVIL: [EVIL]}, "rows": [{EVIL: EVIL}]}, as_json=False)
    table = Table(title=EVIL, caption=EVIL)
    table.add_column(EVIL)
    table.add_row(EVIL)
    console.say(table)
    with console.counting(EVIL, EVIL) as counted:
        counted(3, 5)
    with console.stages(EVIL) as tell:
        tell(EVIL, 1, 2)
    shown = "".join(capsys.readouterr())
    assert shown.count("gnp") > 5
    own_codes = re.findall("\x1b\\[[0-9;?]*[a-zA-Z]", shown)
    assert bool(own_codes) == is_terminal
    assert "\x1b[31m" not in own_codes
    for code in own_codes:
        shown = shown.replace(code, "")
    assert is_safe(shown.replace("\r", "") if is_terminal else shown)


def test_brackets_in_names_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    console.say("wrote runs/[bold]a[/b]")
    assert "runs/[bold]a[/b]" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [(EVIL,), ("recipes", EVIL), (f"--{EVIL}",), ("score", "r", "f", EVIL)])
def test_wrong_arguments_are_shown_escaped(arguments: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 2
    assert "gnp" in result.output
    assert is_safe(result.output)


def test_keys_are_escaped_in_tables_on_stdout_and_not_in_json(run: TrainedModel, tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    with file.open("w", newline="", encoding="utf-8") as opened:
        csv.writer(opened).writerows([["id", "sequence"], [EVIL, "ACGTACGTACGT"]])
    recipe = {"recipe": {"data": {"files": ["y.csv"], "format": "sequence-table", "format_options": {"key": "id"}}}}
    (run.path / "recipe.json").write_text(json.dumps(recipe))
    plain, as_json = (CliRunner().invoke(app, ["score", str(run.path), str(file), *more]) for more in ([], ["--json"]))
    assert is_safe(plain.stdout)
    assert escaped(EVIL) in plain.stdout
    assert json.loads(as_json.stdout)["key"] == EVIL


POOR = {
    "ASCII": {"PYTHONIOENCODING": "ascii"},
    "Latin-1": {"PYTHONIOENCODING": "latin-1:strict"},
    "a C locale": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
}


SEVERAL = """
import sys
from maskseq.cli import app
arguments = []
for word in sys.argv[1:]:
    if word != "@next":
        arguments.append(word)
        continue
    try:
        app(arguments, prog_name="maskseq")
    except SystemExit as stop:
        print(f"@code {stop.code}", flush=True)
    arguments.clear()
"""


@pytest.mark.parametrize("encoding", POOR)
def test_no_command_fails_on_a_poor_terminal(run: TrainedModel, tmp_path: Path, encoding: str) -> None:
    key = "漢é\u2192"
    fasta = f">{key}\nACGTNACGTACGT\n".encode()
    (tmp_path / "x.fa").write_bytes(fasta)
    named = tmp_path / "genom-é→.fa"
    named.write_bytes(fasta)
    (tmp_path / "calls.vcf").write_text(f"{key}\t2\té\tA\tC\n", encoding="utf-8")
    score = ("score", run.path, named)
    infill = ("infill", run.path, named)
    commands: list[tuple[tuple[object, ...], int]] = [
        (("--help",), 0),
        (("recipes", "list"), 0),
        (("init", named, "-o", tmp_path / "ré.toml"), 2 if encoding == "a C locale" else 0),  # no text for TOML
        (("init", tmp_path / "x.fa", "-o", tmp_path / "r.toml", "--json"), 0),
        (score, 0),
        ((*score, "--json"), 0),
        ((*score, "--variants", tmp_path / "calls.vcf"), 0),
        ((*infill, "-o", tmp_path / "é"), 0),
        ((*infill, "-o", tmp_path / "out", "--json"), 0),
        (("infill", run.path, tmp_path / "fehlt-é.fa"), 3),
        (("score", run.path, named, "--é→"), 2),
        (("infill", run.path, named, "--mask", "é→:1-2", "-o", tmp_path / "no"), 2),
        (("inspect", run.path), 0),
    ]
    done = subprocess.run(
        [sys.executable, "-c", SEVERAL, *(str(word) for arguments, _ in commands for word in (*arguments, "@next"))],
        env=os.environ | POOR[encoding],
        capture_output=True,
        check=False,
    )
    reported = done.stderr.decode("latin-1")
    assert "Traceback" not in reported
    shown = done.stdout.decode("latin-1").split("@code ")
    assert len(shown) == len(commands) + 1, reported
    for (arguments, code), before, after in zip(commands, shown[:-1], shown[1:], strict=True):
        assert after.split()[0] == str(code), (arguments, reported)
        if "--json" in arguments:
            lines = before.encode("latin-1").decode("ascii").splitlines()
            assert all(isinstance(json.loads(line), dict) for line in lines[1:])
