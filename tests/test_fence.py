"""What plug-ins of other people raise ends in one line with the file, the record and the plug-in, and a known code."""

import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corpora import Letters, random_texts
from failing import BAD, FailingLetters, FailingLines
from typer.testing import CliRunner, Result
from untrained import untrained

from maskseq.cli import app
from maskseq.contract.fence import Given, encode, fenced, fit, read, record_type
from maskseq.corpus.build import build_from_records
from maskseq.errors import DataError, MaskseqError, PluginError, UsageError
from maskseq.types import Encoded, ListRecord
from maskseq_events.case import Case
from maskseq_events.delimited import Csv
from maskseq_events.tokenizer import EventTokenizer
from maskseq_genomics.nucleotide import NucleotideTokenizer
from maskseq_genomics.sequence import Sequence

TEXTS = random_texts(12, 30, letters="abcd")


def cli(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def lines(folder: Path, texts: Any = TEXTS) -> Path:
    path = folder / "texts.lines"
    FailingLines().write(texts, path)
    return path


def message(result: Result, code: int, *words: object) -> str:
    """The one line of an error, after checking how the command ended."""
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    line = next(line for line in result.stderr.splitlines() if line.startswith("error:"))
    for word in words:
        assert str(word) in line, line
    return line


RECIPE = """
blend = false
calibrate = false
[data]
files = ["texts.lines"]
format = "failing:FailingLines"
workers = 1
[data.format_options]
{format}
[tokenizer]
name = "failing:FailingLetters"
{tokenizer}
[model]
preset = "nano"
n_layers = 1
hidden_size = 8
intermediate_size = 8
n_heads = 1
[packing]
row_tokens = 128
context = 32
[training]
tokens = 300
rows = 1
"""


@pytest.mark.parametrize(("error", "code"), [("KeyError", 1), ("SystemExit", 1), ("ValueError", 3)])
@pytest.mark.parametrize("of", ["tokenizer: encode", "tokenizer: fit", "format: read"])
def test_pretrain_names_what_failed(tmp_path: Path, of: str, error: str, code: int) -> None:
    lines(tmp_path)
    plugin, _, method = of.partition(": ")
    options = f'method = "{method}"\nerror = "{error}"'
    text = RECIPE.format(**({"format": "", "tokenizer": ""} | {plugin: options}))
    (tmp_path / "recipe.toml").write_text(text)
    if method == "fit":
        code = 1  # no record is meant
    result = cli("pretrain", tmp_path / "recipe.toml", "-o", tmp_path / "run")
    line = message(result, code, error if code == 1 else "no ValueError of mine")
    assert (BAD in line) == (method == "encode")
    assert ("texts.lines" in line) == (method == "read")


def test_a_mistyped_option_of_fit_lists_the_options(tmp_path: Path) -> None:
    lines(tmp_path)
    (tmp_path / "recipe.toml").write_text(RECIPE.format(format="", tokenizer='methot = "x"'))
    result = cli("pretrain", tmp_path / "recipe.toml", "-o", tmp_path / "run")
    message(result, 2, "methot", "options: method, error")
    with pytest.raises(UsageError, match=r"attributs.*attributes"):
        fit(EventTokenizer, [], {"attributs": ["x"]})


@pytest.mark.parametrize("error", ["KeyError", "ValueError", "id"])
@pytest.mark.parametrize("command", ["infill", "score", "embed", "evaluate", "calibrate"])
def test_commands_on_a_run_name_file_and_record(tmp_path: Path, command: str, error: str) -> None:
    path = lines(tmp_path)
    untrained(FailingLetters(method="encode", error=error), tmp_path / "run", context=32)
    arguments = {
        "infill": ["-o", tmp_path / "out", "--mask", "r1:1-1"],
        "embed": ["-o", tmp_path / "out.npz"],
    }
    if command == "evaluate":
        build_from_records(TEXTS, output=tmp_path / "run" / "corpus", tokenizer=FailingLetters())
    result = cli(
        command, tmp_path / "run", path, "--format", "failing:FailingLines", "--trust-code", *arguments.get(command, ())
    )
    line = message(result, 3 if error == "ValueError" else 1, BAD, path)
    if error == "id":
        assert "200" in line
        assert "letter" in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("of", "method"), [("tokenizer", "splice"), ("format", "write"), ("format", "read")])
def test_infill_names_what_failed_while_writing(tmp_path: Path, of: str, method: str) -> None:
    from maskseq.apps.infill import infill_file
    from maskseq.trained import TrainedModel

    path = lines(tmp_path)
    options = {"method": method}
    tokenizer = FailingLetters(**(options if of == "tokenizer" else {}))
    run = untrained(tokenizer, tmp_path / "run", context=32)

    class Reading(TrainedModel):
        def reader(self, file: Path, name: str | None = None, given: Any = None) -> Any:
            return FailingLines(**(options if of == "format" else {}))

    with pytest.raises(PluginError, match=rf"texts\.lines.*{method}.*KeyError") as caught:
        infill_file(
            Reading(run.path, run.model, run.tokenizer, run.checkpoint),
            path,
            output=tmp_path / "out",
            ranges={BAD: [(0, 1)]},
        )
    assert isinstance(caught.value.__cause__, KeyError)
    assert not (tmp_path / "out").exists()


def test_the_trace_is_shown_where_it_is_asked_for(tmp_path: Path) -> None:
    path = lines(tmp_path)
    untrained(FailingLetters(method="encode"), tmp_path / "run", context=32)
    arguments = ("score", tmp_path / "run", path, "--format", "failing:FailingLines", "--trust-code")
    assert "failing.py" not in cli(*arguments).stderr
    shown = cli("--debug", *arguments)
    assert shown.exit_code == 1
    assert "failing.py" in shown.stderr
    assert "KeyError" in shown.stderr


def test_a_method_without_a_fence_is_blamed_on_its_plug_in(tmp_path: Path) -> None:
    path = lines(tmp_path)
    untrained(FailingLetters(method="units"), tmp_path / "run", context=32)
    arguments = ("score", tmp_path / "run", path, "--format", "failing:FailingLines", "--trust-code")
    message(cli(*arguments), 1, "FailingLetters", "units", "KeyError")
    assert isinstance(cli("--debug", *arguments).exception, KeyError)


def test_init_goes_on_without_what_fails_unasked_and_names_it_where_it_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from maskseq import plugins
    from maskseq.apps.init_readings import answers
    from maskseq.survey import Head

    lines(tmp_path)
    result = cli(
        *("init", tmp_path / "texts.lines", "-o", tmp_path / "r.toml", "--format", "failing:FailingLines"),
        *("--set", "tokenizer.name=failing:FailingLetters", "--set", "tokenizer.method=encode"),
    )
    message(result, 1, BAD, "KeyError")
    assert not (tmp_path / "r.toml").exists()
    (tmp_path / "x.lines").write_text("recognize me")
    message(
        cli("init", tmp_path / "x.lines", "-o", tmp_path / "r.toml", "--format", "failing:FailingLines"), 1, "x.lines"
    )

    usable = plugins.usable("formats")
    monkeypatch.setattr(plugins, "usable", lambda group: usable | {"failing": FailingLines})
    with pytest.warns(UserWarning, match="FailingLines"):
        answered = dict(answers("formats", "recognize", Head.of(tmp_path / "x.lines")))
    assert usable.keys() == answered.keys()


def test_variants_of_another_kind_are_said_as_that(tmp_path: Path) -> None:
    untrained(EventTokenizer(activities=("a", "b")), tmp_path / "run")
    (tmp_path / "x.csv").write_text("case,activity,time\np,a,2024-01-01\np,b,2024-01-02\n")
    (tmp_path / "x.vcf").write_text("p\t2\ta\tA\tC\n")
    result = cli("score", tmp_path / "run", tmp_path / "x.csv", "--variants", tmp_path / "x.vcf")
    message(result, 2, "Sequence", "Case")


def test_records_of_another_kind_are_said_as_that(tmp_path: Path) -> None:
    run = untrained(EventTokenizer(activities=("a", "b")), tmp_path / "run")
    (tmp_path / "x.fa").write_text(">s\nACGT\n")
    assert record_type(EventTokenizer) is Case
    assert record_type(NucleotideTokenizer()) is Sequence
    for command in ("score", "embed", "infill"):
        extra = ["-o", tmp_path / ("v.npz" if command == "embed" else "out")] if command != "score" else []
        message(cli(command, tmp_path / "run", tmp_path / "x.fa", *extra), 2, "Case", "Sequence")
    with pytest.raises(UsageError, match=r"Sequence.*Case"):
        list(run.score([Sequence(key="s", residues=b"ACGT")]))
    message(
        cli("init", tmp_path / "x.fa", "-o", tmp_path / "r.toml", "--set", "tokenizer.name=event"),
        2,
        "Case",
        "Sequence",
    )


def test_a_duck_is_not_refused() -> None:
    """What a plug-in declares of its records is not enforced where it works."""

    @dataclass(frozen=True, kw_only=True)
    class Duck(ListRecord):
        text: str = "abcd"

    assert len(encode(Letters(), Duck(key="d", values=()))) == 4


def test_what_is_handed_over_is_not_the_plug_ins_fault() -> None:
    def records() -> Iterator[int]:
        yield 1
        raise ZeroDivisionError("mine")

    given = Given(records())
    with pytest.raises(ZeroDivisionError), fenced(FailingLines(), "write", given=given):
        list(given)
    for ours in (DataError("f", "p"), UsageError("u"), FileNotFoundError("gone"), KeyboardInterrupt()):
        with pytest.raises(type(ours)) as caught, fenced(FailingLines(), "read", data=True):
            raise ours
        assert caught.value is ours


def test_errors_survive_the_way_back_from_a_worker() -> None:
    error = PluginError("tokenizer X of y", "encode: KeyError", record="r", file="f")
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error)
    assert again.exit_code == 1
    assert isinstance(again, MaskseqError)


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        np.zeros((3, 2), np.uint8),
        Encoded(np.zeros((3, 1), np.uint8)),
        Encoded(np.zeros((3, 2), np.uint8), None, np.full((3, 2), -1.0)),
        Encoded(np.full((3, 2), 9, np.uint8)),
        Encoded(np.full((3, 2), -1, np.int8)),
    ],
    ids=str,
)
def test_what_encode_promises_is_checked_for_every_use(wrong: Any) -> None:
    class Wrong(Letters):
        def encode(self, record: Any) -> Any:
            return wrong

    with pytest.raises(PluginError, match="r0"):
        encode(Wrong(), TEXTS[0])


def test_the_number_of_the_record_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    path = lines(tmp_path)
    with pytest.raises(PluginError, match="number 4"):
        list(read(FailingLines(method="read"), path))
    assert [each.key for each in read(Csv(), log(tmp_path))] == ["c"]


def log(folder: Path) -> Path:
    (folder / "log.csv").write_text("case,activity,time\nc,a,2024-01-01\n")
    return folder / "log.csv"
