"""A file of the same columns that is written otherwise than the training files is read by its content, or as told."""

import json
from pathlib import Path
from typing import Any

import pytest
from three_domains import DOMAINS, Domain, Prepared, command, prepared

from maskseq.trained import load

WORDS = {"a": "Prüfung", "b": "Überweisung", "c": "zahlen", "d": "löschen"}
LOG = "\n".join(
    ",".join(WORDS.get(cell, cell) for cell in line.split(",")) for line in DOMAINS["event-csv"].training.split("\n")
)
HOLES = LOG.replace("löschen", "?", 7)
SIGNAL = DOMAINS["signal-csv"].training
GAPS = SIGNAL.replace("0.199", "NaN", 3)


def turned(text: str, *, separator: str = ",", decimal: str = ".", backwards: bool = False) -> str:
    """The same table in another dress."""
    rows = [line.split(",") for line in text.splitlines()]
    header, *body = [row[::-1] for row in rows] if backwards else rows
    return "".join(
        separator.join(row) + "\n" for row in [header, *[[c.replace(".", decimal) for c in r] for r in body]]
    )


DRESSES: dict[str, dict[str, Any]] = {
    "decimal commas": {"separator": ";", "decimal": ","},
    "tabs": {"separator": "\t"},
    "columns in another order": {"backwards": True},
}


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    domain = Domain(".csv", LOG, (), (), "", {"format": "event-csv"}, DOMAINS["event-csv"].tokenizer)
    return prepared(tmp_path_factory.mktemp("log"), domain)


@pytest.fixture(scope="module")
def strict_log(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """Whose recipe says how its file is written."""
    domain = Domain(".csv", turned(LOG, separator=";", decimal=","), (), (), "", {}, DOMAINS["event-csv"].tokenizer)
    options = {"delimiter": ";", "decimal": ",", "case": "case", "activity": "activity"}
    return prepared(tmp_path_factory.mktemp("log"), domain, format="event-csv", format_options=options)


@pytest.fixture(scope="module")
def signal(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return prepared(tmp_path_factory.mktemp("signal"), DOMAINS["signal-csv"])


def scores(ready: Prepared, file: Path, output: Path, *more: str) -> tuple[Any, str]:
    result = command("score", ready.folder / "run", file, "-o", output, *more)
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in output.read_text().splitlines()], result.stderr.replace("\n", " ")


@pytest.mark.parametrize("dress", DRESSES)
def test_an_event_log_in_another_dress_is_the_same_log(log: Prepared, dress: str, tmp_path: Path) -> None:
    plain, _ = scores(log, log.file("x", HOLES), tmp_path / "a.jsonl")
    other, reported = scores(log, log.file("x", turned(HOLES, **DRESSES[dress])), tmp_path / "b.jsonl")
    assert other == plain
    assert ("decimal" in reported) == ("decimal" in dress)


def test_an_event_log_in_another_encoding_is_the_same_log(log: Prepared, tmp_path: Path) -> None:
    plain, _ = scores(log, log.file("x", HOLES), tmp_path / "a.jsonl")
    file = log.file("x", HOLES.encode("cp1252"))
    other, reported = scores(log, file, tmp_path / "b.jsonl")
    assert other == plain
    assert "cp1252" in reported
    result = command("infill", log.folder / "run", file, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    filled = (tmp_path / "out" / file.name).read_bytes().decode("cp1252").splitlines()
    for was, now in zip(HOLES.splitlines(), filled, strict=True):
        assert now == was or "?" in was


def test_what_the_recipe_says_gives_way_to_the_file(strict_log: Prepared, tmp_path: Path) -> None:
    trained, _ = scores(
        strict_log, strict_log.file("x", turned(HOLES, separator=";", decimal=",")), tmp_path / "a.jsonl"
    )
    plain, reported = scores(strict_log, strict_log.file("x", HOLES), tmp_path / "b.jsonl")
    assert plain == trained
    assert "delimiter" in reported
    assert "decimal" in reported


@pytest.mark.parametrize("dress", DRESSES)
def test_a_signal_in_another_dress_is_the_same_signal(signal: Prepared, dress: str, tmp_path: Path) -> None:
    plain, _ = scores(signal, signal.file("x", GAPS), tmp_path / "a.jsonl")
    text = turned(GAPS, **DRESSES[dress])
    more = ["--set", "data.format_options.time=time"] if "order" in dress else []
    file = signal.file("x", text)
    other, reported = scores(signal, file, tmp_path / "b.jsonl", *more)
    assert other == plain
    assert ("decimal" in reported) == ("decimal" in dress)
    result = command("infill", signal.folder / "run", file, "-o", tmp_path / "out", *more)
    assert result.exit_code == 0, result.output
    for was, now in zip(text.splitlines(), (tmp_path / "out" / file.name).read_text().splitlines(), strict=True):
        assert now == was or "NaN" in was


def test_the_user_decides(signal: Prepared, tmp_path: Path) -> None:
    file = signal.file("x", turned(GAPS, separator=";", decimal=","))
    options = ["--set", "data.format_options.decimal=,", "--set", "data.format_options.delimiter=;"]
    plain, _ = scores(signal, signal.file("y", GAPS), tmp_path / "a.jsonl")
    other, reported = scores(signal, file, tmp_path / "b.jsonl", *options)
    assert [{**each, "key": ""} for each in other] == [{**each, "key": ""} for each in plain]
    assert "decimal" not in reported
    run = signal.folder / "run"
    wrong = ["--set", "data.format_options.decimal=."]
    for arguments in (
        ["infill", run, file, "-o", tmp_path / "out"],
        ["score", run, file],
        ["embed", run, file, "-o", tmp_path / "out.npz"],
        ["evaluate", run, file, "--corpus", signal.folder / "corpus", "--cells", "20", "--few"],
        ["baseline", signal.folder / "corpus", file, "--cells", "20", "--few"],
    ):
        assert command(*arguments, *wrong).exit_code == 3, arguments
        assert command(*arguments, "--set", "data.format_options.colour=1").exit_code == 2, arguments
        assert command(*arguments, "--set", "masking.ratio=0.4").exit_code == 2, arguments


@pytest.mark.parametrize("kind", ["sequence-table", "sequence-lines", "fastq"])
def test_the_tokenizer_chooses_among_formats(kind: str, tmp_path: Path) -> None:
    ready = prepared(tmp_path, DOMAINS["fasta"])
    bases = "ACGTTGCAAC" * 6
    text = {
        "sequence-table": f"dna,label\n{bases},1\n{bases},0\n",
        "sequence-lines": f"{bases}\n{bases}\n",
        "fastq": f"@a\n{bases}\n+\n{'I' * len(bases)}\n@b\n{bases}\n+\n{'I' * len(bases)}\n",
    }[kind]
    file = tmp_path / ("x.fq" if kind == "fastq" else "x.csv" if "table" in kind else "x.txt")
    file.write_text(text)
    found, _ = scores(ready, file, tmp_path / "a.jsonl")
    assert len(found) == 2


def test_a_file_named_otherwise_is_read_as_the_training_files(strict_log: Prepared, tmp_path: Path) -> None:
    file = tmp_path / "x.tsv"
    file.write_text(turned(HOLES, separator="\t"))
    plain, _ = scores(strict_log, strict_log.file("x", HOLES), tmp_path / "a.jsonl")
    assert scores(strict_log, file, tmp_path / "b.jsonl")[0] == plain


def test_missing_columns_are_named_with_those_that_exist(log: Prepared, signal: Prepared, tmp_path: Path) -> None:
    file = log.file("x", LOG.replace("case,activity,time,cost", "case,activity,time,costs"))
    _, reported = scores(log, file, tmp_path / "a.jsonl")
    assert "'cost'" in reported
    assert "costs" in reported
    file = log.file("x", LOG.replace("case,activity", "case,what"))
    refused = command("score", log.folder / "run", file)
    assert refused.exit_code == 3
    assert "what" in refused.stderr
    file = signal.file("x", SIGNAL.replace("time,a,b", "time,a,bb"))
    refused = command("score", signal.folder / "run", file)
    assert refused.exit_code == 3
    assert "'b'" in refused.stderr
    assert "bb" in refused.stderr
    assert str(file) in refused.stderr.replace("\n", "")


@pytest.mark.parametrize("name", ["score", "infill", "embed", "evaluate"])
def test_activities_that_the_run_does_not_know_are_reported_with_their_share(
    name: str, log: Prepared, tmp_path: Path
) -> None:
    text = HOLES
    for word in WORDS.values():
        text = text.replace(word, word.upper() + "!")
    file, run = log.file("x", text), log.folder / "run"
    more: list[object] = {
        "infill": ["-o", tmp_path / "out"],
        "embed": ["-o", tmp_path / "out.npz"],
        "evaluate": ["--corpus", log.folder / "corpus", "--cells", "20", "--few"],
    }.get(name, [])
    result = command(name, run, file, *more)
    assert result.exit_code == 0, result.output
    assert "activity (100%" in result.stderr.replace("\n", " ")


def test_wrong_keys_list_the_nearest_that_exist(log: Prepared, tmp_path: Path) -> None:
    file, run = log.file("x", HOLES), log.folder / "run"
    result = command("infill", run, file, "-o", tmp_path / "out", "--mask", "C13:1-2")
    assert result.exit_code == 2
    listed = result.stderr.partition("the file has")[2].replace("\n", " ")
    assert listed.split(",")[0].strip() == "c13"
    assert "14 more" in listed
    assert load(run)
    result = command("infill", run, file, "-o", tmp_path / "out", "--unknown", "activty")
    assert result.exit_code == 2
    assert result.stderr.partition("fields are")[2].strip().startswith("activity")
