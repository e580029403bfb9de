"""Holes in every notation: what was known comes back exactly, and an interrupted fill ends in the same bits."""

import csv
import gzip
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from small_files import EXAMPLES
from small_run import die_at
from untrained import untrained

from maskseq.apps.infill import infill_file
from maskseq.corpus.dress import ReadAs
from maskseq.errors import UsageError
from maskseq.infill.ranges import Moments, read_ranges
from maskseq.infill.sampler import InfillConfig
from maskseq.plugins import format_for
from maskseq.predict.encoder import EncoderPredict
from maskseq.storage.outputs import work_folder
from maskseq.trained import TrainedModel, load
from maskseq_events.delimited import Csv
from maskseq_events.jsonlines import JsonLines
from maskseq_events.ocel import Ocel
from maskseq_events.parquet import Parquet
from maskseq_events.tokenizer import EventTokenizer
from maskseq_events.xes import Xes
from maskseq_genomics.nucleotide import NucleotideTokenizer
from maskseq_signals.recording import Recording
from maskseq_signals.tokenizer import QuantizeTokenizer

SIGNAL = ReadAs(format="signal-csv")

ONE_BY_ONE = InfillConfig(order="left_to_right")
SLOW_START = settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
LOG = "case,activity,time,amount,who\n" + "".join(
    f"c{c},{'abcd'[(c + e) % 4]},2024-01-{1 + c:02d}T{8 + e:02d}:30:00,{(c * 7 + e) % 5}.5,{'xyz'[e % 3]}\n"
    for c in range(12)
    for e in range(5)
)


@pytest.fixture(scope="module")
def genome_run(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    return untrained(NucleotideTokenizer(), tmp_path_factory.mktemp("genome"))


@pytest.fixture(scope="module")
def log_run(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    folder = tmp_path_factory.mktemp("log")
    (folder / "log.csv").write_text(LOG)
    return untrained(EventTokenizer.fit(Csv().read(folder / "log.csv"), attributes=["amount", "who"]), folder / "run")


@pytest.fixture(scope="module")
def signal_run(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    channels = np.random.default_rng(0).normal(size=(500, 2)).round(3)
    learned = Recording(key="s", channels=channels, names=("u", "v"), decimals=(3, 3))
    return untrained(QuantizeTokenizer.fit([learned], bins=8), tmp_path_factory.mktemp("signal") / "run")


@pytest.fixture
def fresh(tmp_path: Path) -> Callable[[], Path]:
    """A new folder at each call, for tests that are many examples."""
    numbers = iter(range(10**6))

    def make() -> Path:
        folder = tmp_path / str(next(numbers))
        folder.mkdir()
        return folder

    return make


@SLOW_START
@given(
    letters=st.text("ACGTacgtNnRY", min_size=1, max_size=150),
    width=st.integers(1, 70),
    newline=st.sampled_from(["\n", "\r\n"]),
    zipped=st.booleans(),
)
def test_known_letters_of_fasta_come_back_byte_for_byte(
    genome_run: TrainedModel, fresh: Callable[[], Path], letters: str, width: int, newline: str, zipped: bool
) -> None:
    lines = [letters[i : i + width] for i in range(0, len(letters), width)]
    before = newline.join([">a one record", *lines, ""]).encode()
    folder = fresh()
    file = folder / ("a.fa.gz" if zipped else "a.fa")
    file.write_bytes(gzip.compress(before) if zipped else before)
    infill_file(genome_run, file, output=folder / "out")
    after = (folder / "out" / file.name).read_bytes()
    after = gzip.decompress(after) if zipped else after
    header = before.index(newline.encode())
    assert len(after) == len(before)
    for i, (was, now) in enumerate(zip(before, after, strict=True)):
        hole = i > header and bytes([was]) in b"NnRY"
        assert (chr(now) in "ACGTacgt") if hole else now == was
    assert read_rows(folder / "out")[1:] == [] or "key" in (folder / "out" / "fills.csv").read_text()


def read_rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "fills.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def with_holes(rng: np.random.Generator) -> list[list[str]]:
    """The log's rows, some cells of them unknown, but for the case."""
    rows = [line.split(",") for line in LOG.splitlines()]
    for row in rows[1:]:
        for column in range(1, 5):
            if rng.random() < 0.12:
                row[column] = "?"
    return rows


@SLOW_START
@given(seed=st.integers(0, 10**6))
@example(seed=1724)  # the first time of a case is unknown
@example(seed=1190)  # all times of a case are
def test_known_cells_of_event_tables_come_back(log_run: TrainedModel, fresh: Callable[[], Path], seed: int) -> None:
    rows = with_holes(np.random.default_rng(seed))
    folder = fresh()
    (folder / "log.csv").write_text("".join(",".join(row) + "\r\n" for row in rows), newline="")
    infill_file(log_run, folder / "log.csv", output=folder / "out")
    after = (folder / "out" / "log.csv").read_bytes().decode().split("\r\n")
    assert after.pop() == ""
    dated = {case for case, _, time, *_ in rows if time != "?"}
    for was, line in zip(rows, after, strict=True):
        now = line.split(",")
        assert len(now) == len(was)
        assert all(a in (b, "?") for a, b in zip(was, now, strict=True))
        assert all(now[:3])  # whatever the model holds absent, an event has a case, an activity and a time
        if now[0] not in dated:  # nothing tells on which day it was
            assert now.pop(2) == "?"
        assert "?" not in now


@pytest.mark.parametrize(("suffix", "format"), [(".parquet", Parquet()), (".jsonl", JsonLines()), (".xes", Xes())])
@SLOW_START
@given(seed=st.integers(0, 10**6))
def test_known_cells_of_other_logs_come_back(
    log_run: TrainedModel, fresh: Callable[[], Path], suffix: str, format: Any, seed: int
) -> None:
    folder = fresh()
    (folder / "log.csv").write_text("\n".join(",".join(row) for row in with_holes(np.random.default_rng(seed))))
    file = folder / f"log{suffix}"
    format.write([_plain(case) for case in Csv().read(folder / "log.csv")], file)
    infill_file(log_run, file, output=folder / "out")
    before = {case.key: case for case in format.read(file)}
    for case in format.read(folder / "out" / file.name):
        was = before.pop(case.key)
        assert len(case) == len(was)
        assert all(a in (b, "?") for a, b in zip(was.activity, case.activity, strict=True))
        assert ((case.time == was.time) | (was.time < 0)).all()
        for name, values in was.attributes.items():
            assert all(a in (b, "?") for a, b in zip(values, case.attributes[name], strict=True))
    assert not before


def _plain(case: Any) -> Any:
    return replace(case, origin=None)


@pytest.mark.parametrize("suffix", [".csv", ".npy"])
@SLOW_START
@given(seed=st.integers(0, 10**6), share=st.floats(0, 0.5))
def test_known_samples_come_back(
    signal_run: TrainedModel, fresh: Callable[[], Path], suffix: str, seed: int, share: float
) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(120, 2)).round(3)
    values[rng.random(values.shape) < share] = np.nan
    folder = fresh()
    file = folder / f"s{suffix}"
    if suffix == ".npy":
        np.save(file, values)
        signal = TrainedModel(signal_run.path, signal_run.model, _renamed(signal_run.tokenizer), signal_run.checkpoint)
        infill_file(signal, file, output=folder / "out")
        after = np.load(folder / "out" / file.name)
    else:
        file.write_text("t,u,v\n" + "".join(f"{i},{u},{v}\n" for i, (u, v) in enumerate(values.tolist())))
        infill_file(signal_run, file, output=folder / "out", read_as=SIGNAL)
        old, new = (path.read_text().splitlines() for path in (file, folder / "out" / file.name))
        for a, b in zip(old, new, strict=True):
            assert all(x in (y, "nan") for x, y in zip(a.split(","), b.split(","), strict=True))
        after = np.array([[float(cell) for cell in line.split(",")[1:]] for line in new[1:]])
    known = ~np.isnan(values)
    np.testing.assert_array_equal(after[known], values[known])
    assert not np.isnan(after).any()


def _renamed(tokenizer: QuantizeTokenizer) -> QuantizeTokenizer:
    """For arrays, whose channels have numbers for names."""
    (recording,) = [Recording(key="x", channels=np.zeros((1, 2)), names=("channel_1", "channel_2"))]
    names = recording.names
    channels = tuple(replace(c, name=name) for c, name in zip(tokenizer.channels, names, strict=True))
    return replace(tokenizer, channels=channels)


@pytest.mark.parametrize(
    ("name", "written"), [("wfdb", "r.csv"), ("edf", "x.csv"), ("ts", "x.npz"), ("ucr", "x.npz"), ("bed", "x.bed.fa")]
)
def test_files_that_are_only_read_are_written_in_another_format(name: str, written: str, tmp_path: Path) -> None:
    example = EXAMPLES[name]
    path, options = example.lay(tmp_path)
    records = list(format_for(path, example.format, **options).read(path))
    tokenizer = NucleotideTokenizer() if name == "bed" else QuantizeTokenizer.fit(records, scheme="uniform", bins=8)
    run = untrained(tokenizer, tmp_path / "run")
    (run.path / "recipe.json").write_text(
        json.dumps({"recipe": {"data": {"files": [str(path)], "format": example.format, "format_options": options}}})
    )
    key = records[0].key
    summary = infill_file(run, path, output=tmp_path / "out", ranges={key: [(0, 2)]})
    assert summary["filled"]["file"] == str(tmp_path / "out" / written)
    filled = tmp_path / "out" / written
    again = list(format_for(filled, "signal-csv" if filled.suffix == ".csv" else None).read(filled))
    assert len(again) == len(records)
    for was, now in zip(records, again, strict=True):
        if name == "bed":
            assert all(a in (b, ord("N")) for a, b in zip(was.residues[2:], now.residues[2:], strict=True))
        else:
            known = ~np.isnan(was.channels)
            known[:2] = False
            np.testing.assert_array_equal(now.channels[known], was.channels[known])
            assert not np.isnan(now.channels).any()


@pytest.mark.parametrize("name", ["ocel, JSON", "ocel, XML", "ocel, SQLite"])
def test_an_object_centric_log_stays_one(name: str, tmp_path: Path) -> None:
    path, _ = EXAMPLES[name].lay(tmp_path)
    reader = Ocel(object_type="order")
    log = path.read_bytes()
    cases = [case.bare() for case in reader.read(path)]
    run = untrained(EventTokenizer.fit(cases, attributes=list(cases[0].attributes), min_count=1), tmp_path / "run")
    options = {"files": [path.name], "format": "ocel", "format_options": {"object_type": "order"}}
    (run.path / "recipe.json").write_text(json.dumps({"recipe": {"data": options}}))
    infill_file(run, path, output=tmp_path / "out", ranges={cases[0].key: [(1, 2)]})
    again = list(reader.read(tmp_path / "out" / path.name))
    assert len(again) == len(cases)
    for was, now in zip(cases, again, strict=True):
        assert now.activity[0] == was.activity[0]
        assert now.case_attributes == was.case_attributes
    assert path.read_bytes() == log


def test_a_column_declared_unknown_is_filled_throughout_and_scored(log_run: TrainedModel, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(LOG)
    summary = infill_file(log_run, tmp_path / "log.csv", output=tmp_path / "out", unknown=["who"])
    rows = read_rows(tmp_path / "out")
    assert {row["field"] for row in rows} == {"who"}
    assert len(rows) == 60 == summary["against what was hidden"]["cells"]
    before, after = LOG.splitlines(), (tmp_path / "out" / "log.csv").read_text().splitlines()
    assert [line.rsplit(",", 1)[0] for line in before] == [line.rsplit(",", 1)[0] for line in after]
    assert [row["truth"] for row in rows] == [line.rsplit(",", 1)[1] for line in before[1:]]
    with pytest.raises(UsageError, match="no field 'whom'"):
        infill_file(log_run, tmp_path / "log.csv", output=tmp_path / "no", unknown=["whom"])
    assert not (tmp_path / "no").exists()


def test_what_was_a_hole_is_no_truth(log_run: TrainedModel, tmp_path: Path) -> None:
    """`who` has the fewest values, so that the id of its holes is a value of other fields."""
    lines = LOG.splitlines(keepends=True)
    holes = range(1, len(lines), 7)
    for at in holes:
        lines[at] = lines[at].rsplit(",", 1)[0] + ",?\n"
    (tmp_path / "log.csv").write_text("".join(lines))
    summary = infill_file(log_run, tmp_path / "log.csv", output=tmp_path / "out", unknown=["who"])
    assert summary["filled"]["cells"] == len(lines) - 1
    assert summary["against what was hidden"]["cells"] == len(lines) - 1 - len(holes)


def test_hours_and_weekdays_are_unknown_together_with_the_time(log_run: TrainedModel, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(LOG)
    infill_file(log_run, tmp_path / "log.csv", output=tmp_path / "out", unknown=["hour"])
    assert {row["field"] for row in read_rows(tmp_path / "out")} == {"gap", "hour", "weekday"}


def test_a_region_is_filled_and_nothing_else(genome_run: TrainedModel, tmp_path: Path) -> None:
    (tmp_path / "a.fa").write_text(">a\nACGTNNACGTNNACGT\n>b\nNNNN\n")
    infill_file(genome_run, tmp_path / "a.fa", output=tmp_path / "out", ranges=read_ranges(["a:3-5"]), only_ranges=True)
    assert [(row["key"], row["start"]) for row in read_rows(tmp_path / "out")] == [("a", "3"), ("a", "4"), ("a", "5")]
    text = (tmp_path / "out" / "a.fa").read_text()
    assert text[:5] == ">a\nAC"
    assert text[8:] == "NACGTNNACGT\n>b\nNNNN\n"


def test_moments_are_told_from_units() -> None:
    assert read_ranges(["a:3-5", "b:0.5:2", "c:2024-01-01..2024-01-02T12:00", "7"]) == {
        "a": [(2, 5)],
        "b": [Moments("0.5", "2")],
        "c": [Moments("2024-01-01", "2024-01-02T12:00")],
        "": [(6, 7)],
    }


@pytest.mark.parametrize(
    ("recording", "start", "stop", "expected"),
    [
        ({"rate": 100.0}, "0.5", "0.75", (50, 75)),
        ({"rate": 3.0}, "0.4", "1.0", (2, 3)),  # samples at 0, 1/3, 2/3, 1 …: of these, only 2/3
        ({"times": tuple(f"{1958 + i}0101" for i in range(100))}, "19600101", "19630101", (2, 5)),
        (
            {"times": tuple(str(np.datetime64("2020-01-01") + i) for i in range(100))},
            "2020-01-03",
            "2020-01-05",
            (2, 4),
        ),
        ({"times": tuple(str(np.datetime64("2020-01-01") + i) for i in range(100)), "rate": 1.0}, "5", "7", (5, 7)),
    ],
)
def test_recordings_know_which_samples_lie_between_two_moments(
    recording: dict[str, Any], start: str, stop: str, expected: tuple[int, int]
) -> None:
    made = Recording(key="r", channels=np.zeros((100, 1)), names=("x",), **recording)
    assert made.between(start, stop) == expected


def test_a_stretch_of_time_is_hidden(signal_run: TrainedModel, tmp_path: Path) -> None:
    values = np.random.default_rng(1).normal(size=(100, 2)).round(3)
    lines = [f"2024-01-{1 + i // 24:02d} {i % 24:02d}:00,{u},{v}\n" for i, (u, v) in enumerate(values.tolist())]
    (tmp_path / "s.csv").write_text("date,u,v\n" + "".join(lines))
    requested = {"output": tmp_path / "out", "read_as": SIGNAL}
    ranges = read_ranges(["s:2024-01-02 06:00..2024-01-02 09:00"])
    infill_file(signal_run, tmp_path / "s.csv", ranges=ranges, **requested)
    rows = read_rows(tmp_path / "out")
    assert [(row["start"], row["field"]) for row in rows] == [(str(s), f) for s in (31, 32, 33) for f in "uv"]
    for wrong, message in [
        ("s:1:2", "neither times"),
        ("s:2030-01-01..2031-01-01", "nothing from"),
        ("s:9..x", "no times"),
    ]:
        with pytest.raises(UsageError, match=message):
            infill_file(
                signal_run,
                tmp_path / "s.csv",
                output=tmp_path / "no",
                read_as=SIGNAL,
                ranges=read_ranges([wrong]),
            )
    assert not list(tmp_path.glob("no*"))


def test_rules_may_be_functions_of_the_user(
    genome_run: TrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def like_its_neighbour(ids: np.ndarray, cells: np.ndarray, allowed: np.ndarray) -> np.ndarray:
        before = ids[np.maximum(cells[:, 0] - 1, 0), 0]
        return allowed & ((np.arange(allowed.shape[1]) == before[:, None]) | (before >= 4)[:, None])

    (tmp_path / "a.fa").write_text(">a\nACNNNGTNA\n>b\nNACG\n")
    infill_file(genome_run, tmp_path / "a.fa", output=tmp_path / "out", rules=[like_its_neighbour], config=ONE_BY_ONE)
    after = (tmp_path / "out" / "a.fa").read_text().split()
    assert after[1] == "ACCCCGTTA"

    def nothing_at_four(ids: np.ndarray, cells: np.ndarray, allowed: np.ndarray) -> np.ndarray:
        return allowed & (cells[:, 0] != 3)[:, None]

    interrupting(monkeypatch, 1)  # the model is not even asked
    with pytest.raises(UsageError, match=r"record 'a'.*at position 4 \(base\)"):
        infill_file(genome_run, tmp_path / "a.fa", output=tmp_path / "no", rules=[nothing_at_four])
    assert not list(tmp_path.glob("no*"))


def holey_genome(path: Path) -> Path:
    """Every chunk of it has holes, and sees those of the chunk before: a batch for each."""
    letters = np.random.default_rng(5).choice(list("ACGT"), 600)
    letters[::7] = "N"
    path.write_text(f">g\n{''.join(letters)}\n>h\nACGTNNNACGT\n")
    return path


def snapshot(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("after", [1, 40, 80])
def test_an_interrupted_fill_goes_on_to_the_same_bits(
    genome_run: TrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    file = holey_genome(tmp_path / "g.fa")
    requested: dict[str, Any] = {"ranges": read_ranges(["g:11-19"])}
    infill_file(genome_run, file, output=tmp_path / "whole", **requested)
    calls = interrupting(monkeypatch, None)
    infill_file(genome_run, file, output=tmp_path / "counted", **requested)
    n_calls = calls()
    calls = interrupting(monkeypatch, after)
    with pytest.raises(KeyboardInterrupt, match="goes on from here"):
        infill_file(genome_run, file, output=tmp_path / "out", **requested)
    assert not (tmp_path / "out").exists()
    calls = interrupting(monkeypatch, None)
    infill_file(genome_run, file, output=tmp_path / "out", **requested)
    assert calls() <= n_calls
    assert (calls() < n_calls) == (after > 1)
    assert snapshot(tmp_path / "out").keys() == {"g.fa", "fills.csv", "report.html"}
    whole, resumed = snapshot(tmp_path / "whole"), snapshot(tmp_path / "out")
    assert whole["g.fa"] == resumed["g.fa"]
    assert whole["fills.csv"] == resumed["fills.csv"]
    assert {path.name for path in tmp_path.iterdir()} == {"g.fa", "whole", "counted", "out"}


def interrupting(monkeypatch: pytest.MonkeyPatch, after: int | None) -> Callable[[], int]:
    """Ctrl-C at the nth forward pass (None: never); the result tells how many there were."""
    calls = 0
    plain = EncoderPredict._plain

    def counted(self: EncoderPredict, sequences: Any, cells: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == after:
            raise KeyboardInterrupt
        return plain(self, sequences, cells)

    monkeypatch.undo()
    monkeypatch.setattr(EncoderPredict, "_plain", counted)
    return lambda: calls


def test_work_of_other_options_is_not_taken_over(
    genome_run: TrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = holey_genome(tmp_path / "g.fa")
    interrupting(monkeypatch, 60)
    with pytest.raises(KeyboardInterrupt):
        infill_file(genome_run, file, output=tmp_path / "out")
    monkeypatch.undo()
    infill_file(genome_run, file, output=tmp_path / "out", symmetries=False)
    infill_file(genome_run, file, output=tmp_path / "whole", symmetries=False)
    assert snapshot(tmp_path / "whole")["fills.csv"] == snapshot(tmp_path / "out")["fills.csv"]


def test_a_damaged_journal_is_done_again(
    genome_run: TrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = holey_genome(tmp_path / "g.fa")
    infill_file(genome_run, file, output=tmp_path / "whole")
    interrupting(monkeypatch, 60)
    with pytest.raises(KeyboardInterrupt):
        infill_file(genome_run, file, output=tmp_path / "out")
    monkeypatch.undo()
    first, second, *_ = sorted((work_folder(tmp_path / "out") / "journal").glob("*.npz"))
    first.write_bytes(first.read_bytes()[:-30])
    data = bytearray(second.read_bytes())
    data[len(data) // 2] ^= 255
    second.write_bytes(data)
    infill_file(genome_run, file, output=tmp_path / "out")
    assert snapshot(tmp_path / "whole")["fills.csv"] == snapshot(tmp_path / "out")["fills.csv"]


def child_path() -> str:
    return os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])])


def killed(run: TrainedModel, file: Path, out: Path, *, at: int) -> int:
    """Fill in another process, which is killed before it touches its nth file of the journal; its exit code."""
    command = [sys.executable, __file__, str(run.path), str(file), str(out), str(at)]
    environment = os.environ | {"PYTHONPATH": child_path()}
    return subprocess.run(command, env=environment, timeout=120).returncode


@pytest.mark.parametrize("at", [29, *(pytest.param(n, marks=pytest.mark.soak) for n in range(6, 120, 9))])
def test_a_killed_fill_goes_on_to_the_same_bits(genome_run: TrainedModel, tmp_path: Path, at: int) -> None:
    file = holey_genome(tmp_path / "g.fa")
    infill_file(genome_run, file, output=tmp_path / "whole")
    assert killed(genome_run, file, tmp_path / "out", at=at) == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    assert list((work_folder(tmp_path / "out") / "journal").glob("*.npz"))
    infill_file(genome_run, file, output=tmp_path / "out")
    whole, resumed = snapshot(tmp_path / "whole"), snapshot(tmp_path / "out")
    assert (whole["g.fa"], whole["fills.csv"]) == (resumed["g.fa"], resumed["fills.csv"])


def peak_bytes(run: TrainedModel, file: Path, out: Path) -> int:
    """Of the memory of a process that fills the file (VmHWM)."""
    environment = os.environ | {"PYTHONPATH": child_path()}
    command = [sys.executable, __file__, str(run.path), str(file), str(out), "0"]
    reported = subprocess.run(
        command, env=environment, timeout=280, stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    return 1024 * int(reported)


@pytest.mark.parametrize("length", [400_000, pytest.param(5_000_000, marks=pytest.mark.soak)])
def test_a_long_genome_takes_little_more_memory_than_its_letters(
    genome_run: TrainedModel, tmp_path: Path, length: int
) -> None:
    peaks = []
    for n in (100_000, length):
        letters = np.random.default_rng(0).choice(np.frombuffer(b"ACGT", np.uint8), n)
        letters[(np.arange(n) % 5000) < 3] = ord("N")
        file = tmp_path / f"{n}.fa"
        file.write_text(">g\n" + "\n".join(letters[i : i + 60].tobytes().decode() for i in range(0, n, 60)) + "\n")
        peaks.append(peak_bytes(genome_run, file, tmp_path / f"out{n}"))
    assert peaks[1] - peaks[0] < 10e6 + 25 * length  # measured: 10 bytes a base


@pytest.mark.soak
def test_a_day_of_a_signal_takes_a_few_copies_of_it(signal_run: TrainedModel, tmp_path: Path) -> None:
    tokenizer = replace(_renamed(signal_run.tokenizer), channels=_renamed(signal_run.tokenizer).channels[:1])
    run = untrained(tokenizer, tmp_path / "run")
    peaks = []
    for n in (100_000, 24 * 3600 * 100):  # 24 hours of 100 samples a second
        values = np.random.default_rng(0).normal(size=(n, 1)).round(3)
        values[(np.arange(n) % 20_000) < 5] = np.nan
        np.save(tmp_path / f"{n}.npy", values)
        peaks.append(peak_bytes(run, tmp_path / f"{n}.npy", tmp_path / f"out{n}"))
    assert peaks[1] - peaks[0] < 10 * values.nbytes


def test_the_table_can_be_parquet(genome_run: TrainedModel, tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    file = holey_genome(tmp_path / "g.fa")
    infill_file(genome_run, file, output=tmp_path / "a")
    infill_file(genome_run, file, output=tmp_path / "b", table="parquet")
    plain, typed = read_rows(tmp_path / "a"), pq.read_table(tmp_path / "b" / "fills.parquet").to_pylist()
    assert [(row["key"], int(row["start"]), row["value"]) for row in plain] == [
        (row["key"], row["start"], row["value"]) for row in typed
    ]
    assert [json.loads(row["alternatives"]) for row in plain] == [json.loads(row["alternatives"]) for row in typed]


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    run, file, out, at = sys.argv[1:]
    if int(at):
        die_at(int(at), "", work_folder(Path(out)) / "journal")
    infill_file(load(run), Path(file), output=Path(out))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
