"""One bad row refuses no file: every command passes it over on demand, counts it, and leaves it where it stands."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from three_domains import DOMAINS, Prepared, command, prepared

from maskseq.cli.fit import known_records
from maskseq.corpus.dress import ReadAs
from maskseq.corpus.intake import Intake, Restored
from maskseq.errors import DataError, DataWarning
from maskseq.formats import Format
from maskseq.plugins import format_for
from maskseq.trained import load
from maskseq.types import ListRecord


@pytest.fixture(scope="module", params=DOMAINS)
def ready(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return prepared(tmp_path_factory.mktemp("domain"), DOMAINS[request.param])


def requested(name: str, ready: Prepared, file: Path, output: Path) -> list[object]:
    """A command about a file, whose results go to `output`."""
    run, corpus = ready.folder / "run", ready.folder / "corpus"
    few = ["--cells", 50, "--few", *(["--context", 32] if name == "baseline" else [])]
    return {
        "infill": ["infill", run, file, "-o", output],
        "score": ["score", run, file, "-o", output.with_suffix(".jsonl")],
        "embed": ["embed", run, file, "-o", output.with_suffix(".npz")],
        "evaluate": ["evaluate", run, file, "--corpus", corpus, "--window", 32, *few],
        "baseline": ["baseline", corpus, file, *few],
        "init": ["init", file, "--format", ready.domain.data["format"], "-o", output, "--yes"],
    }[name]


COMMANDS = ("infill", "score", "embed", "evaluate", "baseline", "init")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_broken_record_is_named_with_the_way_round_it(name: str, ready: Prepared, tmp_path: Path) -> None:
    file = ready.file("bad", ready.domain.text)
    result = command(*requested(name, ready, file, tmp_path / "out"))
    assert result.exit_code == 3, result.output
    assert ready.domain.place in result.stderr
    assert str(file) in result.stderr.replace("\n", "")
    assert "--on-error skip" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", COMMANDS)
def test_skipping_is_as_if_the_record_were_not_there(name: str, ready: Prepared, tmp_path: Path) -> None:
    """But for what is said of it: how many, of how many, and why."""
    bad, good = ready.file("x", ready.domain.text), None
    result = command(*requested(name, ready, bad, tmp_path / "bad"), "--on-error", "skip", "--json")
    assert result.exit_code == 0, result.output
    n = len(ready.domain.broken)
    reported = json.loads(result.stdout.splitlines()[-1])
    found = _find(reported, "skipped")
    assert found["records"] == n
    assert ready.domain.place in found["first"][0]
    assert f"{n} of {found['of']} records skipped" in result.stderr.replace("\n", " ")

    good = ready.file("x", ready.domain.sound)
    without = command(*requested(name, ready, good, tmp_path / "good"), "--json")
    assert without.exit_code == 0, without.output
    if name == "score":
        assert (tmp_path / "bad.jsonl").read_text() == (tmp_path / "good.jsonl").read_text()
    elif name == "embed":
        with np.load(tmp_path / "bad.npz") as one, np.load(tmp_path / "good.npz") as other:
            assert one["keys"].tolist() == other["keys"].tolist()
            np.testing.assert_allclose(one["vectors"], other["vectors"], atol=1e-5)
    elif name in ("evaluate", "baseline"):
        assert reported["protocols"] == json.loads(without.stdout)["protocols"]
    elif name == "infill":
        filled = (tmp_path / "bad" / bad.name).read_text()
        expected = (tmp_path / "good" / bad.name).read_text()
        at = 0
        for index, piece in enumerate(ready.domain.segments):  # the broken ones stand where they stood
            if index in ready.domain.broken:
                assert filled[at : at + len(piece)] == piece
                filled = filled[:at] + filled[at + len(piece) :]
            else:
                at += _length(expected[at:], piece)
        assert filled == expected


def _length(text: str, piece: str) -> int:
    """Of what became of a piece: as many lines."""
    return len("".join(text.splitlines(keepends=True)[: piece.count("\n")]))


def _find(reported: Any, name: str) -> Any:
    if isinstance(reported, dict):
        if name in reported:
            return reported[name]
        return next((found for inner in reported.values() if (found := _find(inner, name))), None)
    return None


@pytest.mark.filterwarnings("ignore:.*time steps missing:maskseq.errors.DataWarning")
def test_calibration_reads_as_the_other_commands_do(ready: Prepared) -> None:
    run = load(ready.folder / "run")
    bad, good = ready.file("bad", ready.domain.text), ready.file("good", ready.domain.sound)
    with pytest.warns(DataWarning, match="records skipped"):
        kept = [ids.ids.tolist() for _, ids in known_records(run, bad, ReadAs(on_error="skip"))]
    assert kept == [ids.ids.tolist() for _, ids in known_records(run, good, ReadAs())]


def test_a_build_says_how_many_it_skipped(ready: Prepared, tmp_path: Path) -> None:
    file = ready.file("bad", ready.domain.text)
    recipe = tmp_path / "recipe.toml"
    begun = command(*requested("init", ready, file, recipe), "--on-error", "skip")
    assert begun.exit_code == 0, begun.output
    assert 'on_error = "skip"' in recipe.read_text()
    built = command("tokenize", recipe, "-o", tmp_path / "corpus")
    assert built.exit_code == 0, built.output
    assert "records skipped" in built.stderr.replace("\n", " ")
    stopped = command("tokenize", recipe, "-o", tmp_path / "other", "--on-error", "stop")
    assert stopped.exit_code == 3
    assert "--on-error skip" in stopped.stderr


@pytest.mark.parametrize("name", ["score", "infill", "init"])
def test_where_nothing_else_is_there_the_error_stays(name: str, ready: Prepared, tmp_path: Path) -> None:
    pieces, broken = ready.domain.segments, ready.domain.broken
    header = pieces[0] if 0 not in broken and ready.domain.ending == ".csv" else ""
    file = ready.file("bad", header + pieces[broken[0]])
    for more in ([], ["--on-error", "skip"]):
        result = command(*requested(name, ready, file, tmp_path / "out"), *more)
        assert result.exit_code == 3, result.output
        assert "--on-error" not in result.stderr


@pytest.mark.filterwarnings("ignore:.*time steps missing:maskseq.errors.DataWarning")
def test_what_a_format_passes_over_it_can_put_back(ready: Prepared, tmp_path: Path) -> None:
    """Records and errors, as they were attempted, are the file, byte for byte."""
    file = ready.file("bad", ready.domain.text)
    reader = format_for(file, ready.domain.data["format"])
    reader.write(reader.attempts(file), tmp_path / file.name)
    assert (tmp_path / file.name).read_bytes() == file.read_bytes()


TABLES = {
    "event-csv": (
        ".csv",
        {},
        ["case,activity,time\n", "a,x,2024-01-01\n", 'a,"x"y,2024-01-02\n', "a,y,2024-01-03\n", "\n", "b\n", "b,?,\n"],
        [2, 5],
    ),
    "event-jsonl": (
        ".jsonl",
        {},
        [
            '{"case": "a", "activity": "x"\n',
            '{"case": "a", "activity": "x", "time": "2024-01-01"}\n\n',
            "[1]\n",
            '{"case": "b", "activity": "?", "time": "2024-01-02"}\n',
        ],
        [0, 2],
    ),
    "textlog": (
        ".log",
        {"layout": r"(?P<time>\d+) (?P<message>.*)", "session_lines": 2, "time_layout": "epoch_s"},
        ["broken\n", "17 a\n", "18 b\n", "also broken\n", "19 c\n"],
        [0, 3],
    ),
    "xes": (
        ".xes",
        {},
        [
            '<?xml version="1.0" encoding="UTF-8"?>\n<log>\n',
            '<trace><string key="concept:name" value="a"/><event><string key="concept:name" value="x"/>'
            '<date key="time:timestamp" value="never"/></event></trace>\n',
            '<trace><string key="concept:name" value="b"/><event><string key="concept:name" value="x"/>'
            '<date key="time:timestamp" value="2024-01-01T00:00:00Z"/></event></trace>\n',
            '<trace><string key="concept:name" value="c"/><event><string key="concept:name" value="x"/>'
            '<date key="time:timestamp" value="0000-01-01T00:00:00Z"/></event></trace>\n',
            "</log>\n",
        ],
        [1, 3],
    ),
    "sequence-table": (
        ".csv",
        {},
        ["sequence,label\n", "AC\x07GT,1\n", "ACGT,0\n", '"ACGT,1\n', "ACG,1,2\n", "GGCC,1\n"],
        [1, 3, 4],
    ),
    "sequence-lines": (".txt", {}, ["A\x01\n", "ACGT\n", "A\x02\n"], [0, 2]),
    "signal-csv": (".csv", {}, ["a,b\n", "1,2\n", "3\n", "5,x\n", "7,8\n"], [2, 3]),
}


@pytest.mark.parametrize("name", TABLES)
def test_each_format_of_rows_goes_on_behind_a_broken_one(name: str, tmp_path: Path) -> None:
    ending, options, pieces, broken = TABLES[name]
    path = tmp_path / f"x{ending}"
    path.write_bytes("".join(pieces).encode())
    reader = format_for(path, name, **options)
    items = list(reader.attempts(path))
    errors = [item for item in items if isinstance(item, DataError)]
    assert len(errors) == len(broken)
    assert not any(error.ends for error in errors)
    reader.write(iter(items), tmp_path / f"y{ending}")
    assert (tmp_path / f"y{ending}").read_bytes() == path.read_bytes()
    with pytest.raises(DataError) as stopped:
        list(reader.read(path))
    assert str(stopped.value) == str(errors[0])
    good = tmp_path / "good" / path.name
    good.parent.mkdir()
    good.write_bytes("".join(piece for at, piece in enumerate(pieces) if at not in broken).encode())
    records = [item for item in items if not isinstance(item, DataError)]
    without = list(reader.read(good))
    assert [record.key for record in records if name not in ("sequence-table", "sequence-lines")] == [
        record.key for record in without if name not in ("sequence-table", "sequence-lines")
    ]
    assert len(records) == len(without)


def test_a_step_without_time_keeps_its_place(tmp_path: Path) -> None:
    """Where rows are steps, a broken one is a step of unknown values, which is not written into."""
    path = tmp_path / "x.csv"
    path.write_text("a,b\n1,2\n3\n5,6\n")
    reader = format_for(path, "signal-csv")
    error, record = reader.attempts(path)
    assert isinstance(error, DataError)
    np.testing.assert_array_equal(record.channels, [[1, 2], [np.nan, np.nan], [5, 6]])
    record.channels[1] = 7, 8
    record.channels[2] = 9, 9
    reader.write([error, record], tmp_path / "y.csv")
    assert (tmp_path / "y.csv").read_text() == "a,b\n1,2\n3\n9,9\n"


class Streamed(Format[ListRecord]):
    """A plug-in that knows nothing of passing over."""

    def read(self, path: Path) -> Iterator[ListRecord]:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if line == "broken":
                raise DataError(path, "broken", place=f"line {number}")
            yield ListRecord(key=line, values=[line])

    def write(self, records: Iterable[ListRecord], path: Path) -> None:
        path.write_text("".join(f"{record.key}\n" for record in records))


def test_what_cannot_be_put_back_is_not_skipped_in_silence(tmp_path: Path) -> None:
    """Behind an error that ends a file nothing is read, which is reported, and no shortened file is written."""
    path = tmp_path / "x.txt"
    path.write_text("a\nb\nbroken\nc\n")
    with pytest.warns(DataWarning, match="1 of 3 records skipped.*nothing behind it"):  # noqa: SIM117
        with Intake(Streamed(), path, on_error="skip") as records:
            assert len(list(records)) == 2
    restored = Restored(records.items())
    assert [record.key for record in restored.records()] == ["a", "b"]
    with pytest.raises(DataError, match="line 3"):
        list(restored.before(None))
    with pytest.raises(DataError) as stopped, Intake(Streamed(), path) as records:
        list(records)
    assert "--on-error" not in str(stopped.value)  # it would leave out more than the record
