"""One bad row refuses no file: every command passes it over on demand, counts it, and leaves it where it stands."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from three_domains import DOMAINS, Prepared, command, prepared

from maskseq.cli.use import known_records
from maskseq.plugins import format_for
from maskseq.run import load


@pytest.fixture(scope="module", params=DOMAINS)
def ready(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return prepared(tmp_path_factory.mktemp("domain"), DOMAINS[request.param])


def asked(name: str, ready: Prepared, file: Path, output: Path) -> list[object]:
    """A command about a file, whose results go to `output`."""
    run, corpus = ready.folder / "run", ready.folder / "corpus"
    few = ["--cells", 50, "--few", "--context", 32] if name == "baseline" else ["--cells", 50]
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
    result = command(*asked(name, ready, file, tmp_path / "out"))
    assert result.exit_code == 3, result.output
    assert ready.domain.place in result.stderr
    assert str(file) in result.stderr.replace("\n", "")
    assert "--on-error skip" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", COMMANDS)
def test_skipping_is_as_if_the_record_were_not_there(name: str, ready: Prepared, tmp_path: Path) -> None:
    """But for what is said of it: how many, of how many, and why."""
    bad, good = ready.file("x", ready.domain.text), None
    result = command(*asked(name, ready, bad, tmp_path / "bad"), "--on-error", "skip", "--json")
    assert result.exit_code == 0, result.output
    n = len(ready.domain.broken)
    told = json.loads(result.stdout.splitlines()[-1])
    found = _find(told, "skipped")
    assert found["records"] == n
    assert ready.domain.place in found["first"][0]
    assert f"{n} of {found['of']} records skipped" in result.stderr.replace("\n", " ") or name == "init"

    good = ready.file("x", ready.domain.sound)
    without = command(*asked(name, ready, good, tmp_path / "good"), "--json")
    assert without.exit_code == 0, without.output
    if name == "score":
        assert (tmp_path / "bad.jsonl").read_text() == (tmp_path / "good.jsonl").read_text()
    elif name == "embed":
        with np.load(tmp_path / "bad.npz") as one, np.load(tmp_path / "good.npz") as other:
            assert one["keys"].tolist() == other["keys"].tolist()
            np.testing.assert_allclose(one["vectors"], other["vectors"], atol=1e-5)
    elif name in ("evaluate", "baseline"):
        assert told["protocols"] == json.loads(without.stdout)["protocols"]
    elif name == "infill":
        filled = (tmp_path / "bad" / bad.name).read_text()
        expected = (tmp_path / "good" / bad.name).read_text()
        at = 0
        for index, piece in enumerate(ready.domain.pieces):  # the broken ones stand where they stood
            if index in ready.domain.broken:
                assert filled[at : at + len(piece)] == piece
                filled = filled[:at] + filled[at + len(piece) :]
            else:
                at += _length(expected[at:], piece)
        assert filled == expected


def _length(text: str, piece: str) -> int:
    """Of what became of a piece: as many lines."""
    return len("".join(text.splitlines(keepends=True)[: piece.count("\n")]))


def _find(told: Any, name: str) -> Any:
    if isinstance(told, dict):
        if name in told:
            return told[name]
        return next((found for inner in told.values() if (found := _find(inner, name))), None)
    return None


def test_calibration_reads_as_the_other_commands_do(ready: Prepared) -> None:
    run = load(ready.folder / "run")
    bad, good = ready.file("bad", ready.domain.text), ready.file("good", ready.domain.sound)
    kept = [ids.ids.tolist() for _, ids in known_records(run, bad, None, {}, "skip")]
    assert kept == [ids.ids.tolist() for _, ids in known_records(run, good, None, {}, "stop")]


def test_a_build_says_how_many_it_skipped(ready: Prepared, tmp_path: Path) -> None:
    file = ready.file("bad", ready.domain.text)
    recipe = tmp_path / "recipe.toml"
    begun = command(*asked("init", ready, file, recipe), "--on-error", "skip")
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
    pieces, broken = ready.domain.pieces, ready.domain.broken
    header = pieces[0] if 0 not in broken and ready.domain.ending == ".csv" else ""
    file = ready.file("bad", header + pieces[broken[0]])
    for more in ([], ["--on-error", "skip"]):
        result = command(*asked(name, ready, file, tmp_path / "out"), *more)
        assert result.exit_code == 3, result.output
        assert "--on-error" not in result.stderr


def test_what_a_format_passes_over_it_can_put_back(ready: Prepared, tmp_path: Path) -> None:
    """Records and errors, as they were attempted, are the file, byte for byte."""
    file = ready.file("bad", ready.domain.text)
    reader = format_for(file, ready.domain.data["format"])
    reader.write(reader.attempts(file), tmp_path / file.name)
    assert (tmp_path / file.name).read_bytes() == file.read_bytes()
