"""Outputs appear whole or not at all, one process writes each, and nothing that is not ours is touched."""

import json
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result
from untrained import untrained

from maskseq.apps.infill import infill_file
from maskseq.cli import app
from maskseq.errors import DataError, UsageError
from maskseq.files import create
from maskseq.plugins import format_for
from maskseq.reports.evaluation import evaluation_writer
from maskseq.storage.outputs import beside, claimed, derived, discard, locked, replacing, sweep, work_folder, write
from maskseq.trained import TrainedModel
from maskseq_genomics.bed import Bed
from maskseq_genomics.nucleotide import NucleotideTokenizer

LONG = "n" * 251 + ".csv"


@pytest.fixture(scope="module")
def genome_run(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    return untrained(NucleotideTokenizer(), tmp_path_factory.mktemp("genome"))


def maskseq(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def genome(path: Path, n: int = 300, holes: int = 7) -> Path:
    letters = np.random.default_rng(5).choice(list("ACGT"), n)
    letters[::holes] = "N"
    path.write_text(f">g\n{''.join(letters)}\n")
    return path


def tree(folder: Path) -> dict[str, bytes | None]:
    """Everything below a folder; None for folders."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


# ---- the helper ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a", LONG, ".hidden", "ä" * 127, "x.tmp", "-o"])
def test_an_output_appears_when_it_is_whole_whatever_its_name(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, "before")
    with replacing(tmp_path / name) as aside:
        aside.write_text("after")
        assert (tmp_path / name).read_text() == "before"
    assert tree(tmp_path) == {name: b"after"}
    with pytest.raises(DataError) as error, replacing(tmp_path / name) as aside:
        (aside / "no folder").touch()
    assert error.value.path == str(tmp_path / name / "no folder")
    assert tree(tmp_path) == {name: b"after"}


@pytest.mark.parametrize("there", ["folder", "file", "link", "dangling", "marked link"])
def test_what_stands_in_the_place_of_a_work_folder_is_refused_and_stays(tmp_path: Path, there: str) -> None:
    place, valuable = work_folder(tmp_path / "out"), tmp_path / "valuable"
    valuable.mkdir()
    (valuable / "kept").write_text("kept")
    if there == "folder":
        place.mkdir()
        (place / "content").write_text("a user's")
        (place / "mark").write_text("a user's, too")
    elif there == "file":
        place.write_text("a user's")
    else:
        if there == "marked link":
            with claimed(tmp_path / "other") as work:
                (valuable / "mark").write_bytes((work.folder / "mark").read_bytes())
        place.symlink_to("nowhere" if there == "dangling" else valuable)
    before = tree(tmp_path)
    with pytest.raises(UsageError, match="not made by maskseq") as refused, replacing(tmp_path / "out"):
        pass
    assert str(place) in str(refused.value)
    sweep(tmp_path)
    assert tree(tmp_path) == before


def test_a_link_that_is_replaced_does_not_change_what_it_points_to(tmp_path: Path) -> None:
    (tmp_path / "valuable").write_text("kept")
    (tmp_path / "link").symlink_to("valuable")
    with create(tmp_path / "link") as file:
        file.write(b"new")
    assert tree(tmp_path) == {"link": b"new", "valuable": b"kept"}
    (tmp_path / "dangling").symlink_to("nowhere")
    with pytest.raises(UsageError, match="exists already"):
        write(tmp_path / "dangling", "", new=True)
    discard(tmp_path / "dangling")
    assert tree(tmp_path) == {"link": b"new", "valuable": b"kept"}


WRITER = """
import os, sys, time
from pathlib import Path
from typing import Any
from maskseq.errors import MaskseqError
from maskseq.storage.outputs import claimed
try:
    with claimed(Path(sys.argv[1]), state="state") as work:
        print((work.folder / "state").exists(), sorted(path.name for path in work.folder.iterdir()), flush=True)
        (work.folder / "state").write_text("so far")
        (work.folder / "junk").mkdir()
        work.content.write_text(sys.argv[2])
        if sys.argv[2] == "die":
            os.kill(os.getpid(), 9)
        time.sleep(float(sys.argv[3]))
        work.publish()
except MaskseqError as error:
    print(error)
    sys.exit(error.exit_code)
"""


def writer(target: Path, text: str, seconds: float = 0) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(target), text, str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_of_processes_that_race_one_writes_and_the_others_end_with_exit_code_2(tmp_path: Path) -> None:
    racing = [writer(tmp_path / "out", str(n) * 1000, 3) for n in range(4)]
    reported = [process.communicate()[0] for process in racing]
    codes = [process.returncode for process in racing]
    assert set(codes) == {0, 2}
    for text, code in zip(reported, codes, strict=True):
        assert code == 0 or str(tmp_path / "out") in text
    assert list(tree(tmp_path)) == ["out"]
    assert (tmp_path / "out").read_text() in [str(n) * 1000 for n, code in enumerate(codes) if code == 0]


def test_after_a_kill_only_the_state_is_found_again(tmp_path: Path) -> None:
    with writer(tmp_path / "out", "die") as process:
        assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    sweep(tmp_path)  # leaves what one can go on from
    process = writer(tmp_path / "out", "done")
    assert process.communicate()[0].startswith("True ['mark', 'state']")
    assert tree(tmp_path) == {"out": b"done"}


def test_after_an_interruption_the_state_stays_and_after_an_error_nothing(tmp_path: Path) -> None:
    def fail(error: type[BaseException]) -> None:
        with claimed(tmp_path / "out", state="state") as work:
            (work.folder / "state").mkdir(exist_ok=True)
            work.content.mkdir()
            raise error

    for error, stays in ((KeyboardInterrupt, True), (UsageError, False), (KeyboardInterrupt, True), (OSError, False)):
        with pytest.raises((KeyboardInterrupt, UsageError, DataError)):
            fail(error)
        there = {path.name for path in work_folder(tmp_path / "out").glob("*")}
        assert there == ({"mark", "state"} if stays else set())
    assert tree(tmp_path) == {}


def test_sweeping_takes_what_was_killed_and_nothing_that_is_in_use(tmp_path: Path) -> None:
    with claimed(tmp_path / "busy") as work:
        work.content.write_text("half")
        killed = work_folder(tmp_path / "killed")
        killed.mkdir()
        (killed / "mark").write_bytes((work.folder / "mark").read_bytes())
        (killed / "content").mkdir()
        work_folder(tmp_path / "killed at once").mkdir()
        (tmp_path / ".mine.maskseq").write_text("a user's")
        sweep(tmp_path)
        assert work.content.read_text() == "half"
        assert not killed.exists()
    assert tree(tmp_path) == {".mine.maskseq": b"a user's"}


def test_folders_that_were_made_for_an_output_go_with_it(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(DataError), replacing(tmp_path / "a" / "b" / "c" / "out", parents=True) as aside:
        (aside / "no folder").touch()
    assert tree(tmp_path) == {"a": None}


NAMES = st.text(st.characters(blacklist_characters="/\0", blacklist_categories=["Cs"]), min_size=1, max_size=255)


@given(names=st.lists(NAMES.filter(lambda name: len(name.encode()) <= 255 and name != ".."), unique=True, max_size=8))
@example(names=["s.R1.fa", "s.R2.fa", "s.fa.gz", "s.fa", "s"])
@example(names=["n" * 250 + end for end in ("a.csv", "b.csv", "c.csv")])
def test_default_outputs_of_a_folder_differ_and_are_names(names: list[str]) -> None:
    made = [derived(Path("/folder") / name, "-filled").name for name in names if name != "."]
    assert len(set(made)) == len(made)
    assert all(name.endswith("-filled") and len(name.encode()) <= 255 for name in made)


# ---- the commands --------------------------------------------------------------------------------------------------


def test_what_lies_beside_outputs_stays(genome_run: TrainedModel, tmp_path: Path) -> None:
    file, valuable = genome(tmp_path / "g.fa"), tmp_path / "valuable"
    valuable.mkdir()
    (valuable / "thesis").write_text("all of it")
    for name in ("res.tmp", "v.npz.partial", "hf.tmp"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "thesis").write_text("all of it")
    for name in ("v.npz.tmp", "s.csv.tmp", "g.fa.part"):
        (tmp_path / name).symlink_to(valuable)
    before = tree(tmp_path)
    infill_file(genome_run, file, output=tmp_path / "res")
    for arguments in (["embed", file, "-o", "v.npz"], ["score", file, "-o", "s.csv"], ["export", "-o", "hf"]):
        command, *rest, output = arguments
        assert maskseq(command, genome_run.path, *rest, tmp_path / output).exit_code == 0
    reader = format_for(file)
    reader.write(list(reader.read(file)), file)
    after = tree(tmp_path)
    assert before == {name: after[name] for name in before}
    assert {name.partition("/")[0] for name in after.keys() - before.keys()} == {"res", "v.npz", "s.csv", "hf"}


@pytest.mark.parametrize(
    ("command", "output", "held"),
    [
        (["infill", "RUN", "FILE"], "out", "out"),
        (["embed", "RUN", "FILE"], "v.parquet", "v.parquet"),
        (["score", "RUN", "FILE"], "s.csv", "s.csv"),
        (["evaluate", "RUN", "FILE"], "judged", "judged/evaluation.json"),
        (["export", "RUN"], "hf", "hf"),
        (["import-hf", "RUN"], "model", "model"),
    ],
)
def test_the_second_command_on_an_output_ends_with_exit_code_2(
    genome_run: TrainedModel, tmp_path: Path, command: list[str], output: str, held: str
) -> None:
    file = genome(tmp_path / "g.fa")
    given = [{"RUN": genome_run.path, "FILE": file}.get(word, word) for word in command]
    with claimed(tmp_path / held, parents=True):
        before = tree(tmp_path)
        result = maskseq(*given, "-o", tmp_path / output)
        assert result.exit_code == 2, result.output
        assert str(tmp_path / held) in result.stderr
        assert "another process" in result.stderr
        assert tree(tmp_path) == before


def test_one_process_calibrates_a_checkpoint(genome_run: TrainedModel, tmp_path: Path) -> None:
    with locked(genome_run.path, "busy"):
        for command in ("calibrate", "fit-lengths"):
            result = maskseq(command, genome_run.path, genome(tmp_path / "g.fa", holes=1000))
            assert result.exit_code == 2
            assert str(genome_run.path) in result.stderr


def test_two_infills_of_one_output_and_a_kill_end_in_the_same_bits(genome_run: TrainedModel, tmp_path: Path) -> None:
    """Two real processes: the first is stopped amid its work, then killed; a third goes on."""
    file, out = genome(tmp_path / "g.fa", n=2000), tmp_path / "out"
    infill_file(genome_run, file, output=tmp_path / "whole")
    command = [sys.executable, "-m", "maskseq", "infill", str(genome_run.path), str(file), "-o", str(out)]
    first = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while first.poll() is None and len(list((work_folder(out) / "journal").glob("*.npz"))) < 2:
        time.sleep(0.01)
    first.send_signal(signal.SIGSTOP)
    second = maskseq("infill", genome_run.path, file, "-o", out)
    assert second.exit_code == 2
    assert str(out) in second.stderr
    assert not out.exists()
    first.kill()
    assert first.wait() == -signal.SIGKILL
    done = {path.name: path.stat().st_mtime_ns for path in (work_folder(out) / "journal").glob("*.npz")}
    assert done
    infill_file(genome_run, file, output=out)
    for name in ("g.fa", "fills.csv"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"g.fa", "whole", "out"}


def test_an_infill_that_an_older_version_began_goes_on(
    genome_run: TrainedModel, tmp_path: Path, monkeypatch: Any
) -> None:
    file, out = genome(tmp_path / "g.fa", n=2000), tmp_path / "out"
    infill_file(genome_run, file, output=tmp_path / "whole")

    def interrupt(done: int, of: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        infill_file(genome_run, file, output=out, on_progress=interrupt)
    journal = work_folder(out) / "journal"
    reported = json.loads((journal / "identity.json").read_text())
    assert "maskseq" not in reported
    (journal / "identity.json").write_text(json.dumps(reported | {"maskseq": "0.0.1"}))
    written: list[Path] = []
    monkeypatch.setattr("maskseq.infill.windows.write_fills", lambda path, fills: written.append(path))
    infill_file(genome_run, file, output=out)
    assert not written
    assert (out / "fills.csv").read_bytes() == (tmp_path / "whole" / "fills.csv").read_bytes()


@contextmanager
def full_disk(largest: int) -> Iterator[None]:
    """The kernel refuses what makes a file longer: what a full disk does, to this process alone."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    ("command", "output", "largest", "named"),
    [
        (["infill", "RUN", "FILE"], "out", 100, "out"),
        (["infill", "RUN", "KNOWN"], "out", 3000, "out/k.fa"),
        (["infill", "RUN", "HOLES"], "out", 20_000, "out/fills.csv"),
        (["embed", "RUN", "FILE"], "v.npz", 200, "v.npz"),
        (["embed", "RUN", "FILE"], "v.parquet", 1000, "v.parquet"),
        (["embed", "RUN", "FILE", "--pooling", "none"], "v.zarr", 100, "v.zarr"),
        (["score", "RUN", "FILE", "--per-position"], "s.csv", 100, "s.csv"),
        (["score", "RUN", "FILE"], "s.parquet", 100, "s.parquet"),
        (["export", "RUN"], "hf", 5000, "hf/model.safetensors"),
        (["init", "FILE"], "r.toml", 60, "r.toml"),
    ],
)
def test_a_full_disk_is_one_line_with_the_path_and_leaves_nothing(
    genome_run: TrainedModel, tmp_path: Path, command: list[str], output: str, largest: int, named: str
) -> None:
    files = {"FILE": genome(tmp_path / "g.fa", n=4000, holes=500), "HOLES": genome(tmp_path / "h.fa", n=600, holes=2)}
    files |= {"RUN": genome_run.path, "KNOWN": genome(tmp_path / "k.fa", n=4000, holes=4001)}
    given = [files.get(word, word) for word in command]
    before = tree(tmp_path)
    with full_disk(largest):
        result = maskseq(*given, "-o", tmp_path / output)
    assert result.exit_code == 3, result.output
    assert f"{tmp_path / named}: cannot be written: " in result.stderr
    assert "make room" in result.stderr
    assert ".maskseq" not in result.stderr
    assert tree(tmp_path) == before


def test_a_full_disk_while_evaluating_or_calibrating(genome_run: TrainedModel, tmp_path: Path) -> None:
    reported = {"protocols": {}, "asked": {"cells": "x" * 1000}, "infill": {}}
    with full_disk(100), pytest.raises(DataError) as error, evaluation_writer(tmp_path / "judged") as write_told:
        write_told(reported)
    assert error.value.path == str(tmp_path / "judged" / "evaluation.json")
    assert tree(tmp_path) == {}


@pytest.mark.parametrize(
    "name", ["fills.csv", "Fills.CSV", "report.html", "lengths.csv", "journal", "content", "mark", LONG]
)
def test_a_filled_file_keeps_its_name_and_its_content(
    genome_run: TrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    original = genome(Path(name)).read_text()
    result = maskseq("infill", genome_run.path, name, "--format", "fasta", "--length", "g:8-8=1..2")
    assert result.exit_code == 0, result.output
    assert Path(name).read_text() == original
    out = derived(Path(name), "-filled")
    filled = (out / name).read_text()
    assert len(filled) == len(original)
    assert "N" not in filled
    assert all(a in (b, "N") for a, b in zip(original, filled, strict=True))
    ours = {beside(out / name, each).name for each in ("fills.csv", "report.html", "lengths.csv")}
    assert {path.name for path in out.iterdir()} <= {name} | ours
    assert len({path.name.casefold() for path in out.iterdir()}) == len(list(out.iterdir())) >= 3
    assert beside(out / name, "fills.csv").read_text().startswith("key,")


@pytest.mark.parametrize("command", ["score", "evaluate"])
def test_an_input_is_not_written_over(genome_run: TrainedModel, tmp_path: Path, command: str) -> None:
    file = genome(tmp_path / "evaluation.json")
    (tmp_path / "s.csv").symlink_to(file)
    output = tmp_path / "s.csv" if command == "score" else tmp_path
    before = tree(tmp_path)
    result = maskseq(command, genome_run.path, file, "--format", "fasta", "-o", output)
    assert result.exit_code == 2
    assert "input" in result.stderr
    assert tree(tmp_path) == before


@pytest.mark.parametrize("name", ["n" * 252 + ".fa", "n" * 249 + ".fa.gz", "ä" * 126 + ".fa"])
def test_files_with_the_longest_names_are_looked_at_and_written(tmp_path: Path, name: str) -> None:
    with create(tmp_path / name) as file:
        file.write(genome(tmp_path / "g.fa").read_bytes())
    result = maskseq("init", tmp_path / name, "-o", tmp_path / "r.toml")
    assert result.exit_code == 0, result.output
    assert list(format_for(tmp_path / name).read(tmp_path / name))
    assert {path.name for path in tmp_path.iterdir()} == {name, "g.fa", "r.toml"}


def test_what_windows_of_the_longest_names_are_written_as_can_be_written(tmp_path: Path) -> None:
    genome = tmp_path / ("g" * 252 + ".fa")
    genome.write_text(">g\nACGTACGTACGT\n")
    bed = tmp_path / ("b" * 251 + ".bed")
    bed.write_text("g\t2\t9\n")
    reader = Bed(genome=genome)
    written, path = reader.written_as(bed)
    written.write(reader.read(bed), path)
    assert path.name.endswith(".fa")
