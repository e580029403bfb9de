"""Known numbers outside the training range are told, by column, in every command that reads them, and near fills."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result
from untrained import untrained

from maskseq.cli import app
from maskseq.corpus.build import build_from_records
from maskseq.corpus.out_of_range import NEAR, OUTSIDE, OutOfRange, nearby
from maskseq.tokenizer import Tokenizer
from maskseq_events.case import UNKNOWN, Case
from maskseq_events.tokenizer import EventTokenizer
from maskseq_genomics.nucleotide import NucleotideTokenizer
from maskseq_genomics.sequence import Sequence
from maskseq_signals.differences import DifferenceTokenizer
from maskseq_signals.patches import PatchTokenizer
from maskseq_signals.recording import Recording
from maskseq_signals.tokenizer import QuantizeTokenizer

SIGNALS: dict[str, Any] = {
    "quantile": lambda records: QuantizeTokenizer.fit(records, bins=16),
    "uniform": lambda records: QuantizeTokenizer.fit(records, scheme="uniform", bins=16),
    "mulaw": lambda records: QuantizeTokenizer.fit(records, scheme="mulaw", bins=16),
    "level": lambda records: QuantizeTokenizer.fit(records, scheme="level", bins=8, levels=4),
    "patches": lambda records: PatchTokenizer.fit(records, patch=3, bins=16),
    "differences": lambda records: DifferenceTokenizer.fit(records, bins=16, levels=8),
}


def maskseq(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def recording(seed: int, length: int = 1000) -> Recording:
    values = np.round(np.random.default_rng(seed).normal(0, 1, (length, 2)), 3)
    return Recording(key=f"r{seed}", channels=values, names=("a", "b"))


def reported(tokenizer: Tokenizer[Any], *records: Any) -> OutOfRange:
    seen = OutOfRange(tokenizer.fields)
    for record in records:
        seen.add(tokenizer.beyond(record))
    return seen


@pytest.mark.parametrize("scheme", SIGNALS)
def test_an_offset_is_told_and_new_data_of_the_same_kind_are_not(scheme: str) -> None:
    tokenizer = SIGNALS[scheme]([recording(0), recording(1)])
    assert not reported(tokenizer, recording(0)).shares()
    for seed in range(2, 12):
        assert reported(tokenizer, recording(seed)).warning() is None
    moved = recording(2)
    moved.channels[:, 1] += 10 * moved.channels[:, 1].std()
    moved.channels[100:200, 1] = np.nan
    seen = reported(tokenizer, moved)
    assert seen.shares() == {"b": 1.0}
    assert seen.numbers.sum() % (900 + 1000) == 0
    assert "b (100.0%" in (seen.warning() or "")
    assert "a (" not in (seen.warning() or "")


@pytest.mark.parametrize("scheme", SIGNALS)
def test_one_code_for_missing_values_is_told(scheme: str) -> None:
    tokenizer = SIGNALS[scheme]([recording(0), recording(1)])
    coded = recording(3)
    coded.channels[517, 0] = -9999
    seen = reported(tokenizer, coded)
    assert seen.shares() == {"a": pytest.approx(1 / 1000)}
    assert "a (0.1% of" in (seen.warning() or "")


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=2, max_size=40), st.sampled_from(sorted(SIGNALS)))
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_nothing_that_was_fitted_on_is_outside(values: list[float], scheme: str) -> None:
    record = Recording(key="r", channels=np.array(values, np.float64)[:, None], names=("x",))
    tokenizer = SIGNALS[scheme]([record])
    beyond = tokenizer.beyond(record)
    assert beyond.shape == tokenizer.encode(record).ids.shape
    assert not np.nan_to_num(beyond).any()


HOUR = 3_600_000_000


def case(seed: int, amount: Any, *, length: int = 12, gap: float = HOUR) -> Case:
    rng = np.random.default_rng(seed)
    return Case(
        key=f"c{seed}",
        activity=[f"a{x}" for x in rng.integers(5, size=length)],
        time=np.cumsum(rng.exponential(gap, length)).astype(np.int64) + 10**15,
        offset=np.zeros(length, np.int32),
        attributes={"amount": [f"{value:.3f}" for value in amount(rng, length)]},
        case_attributes={"limit": f"{amount(rng, 1)[0]:.3f}"},
        kinds={"amount": "numeric", "limit": "numeric"},
    )


AMOUNTS: dict[str, Any] = {
    "normal": lambda rng, n: rng.normal(100, 15, n),
    "exponential": lambda rng, n: rng.exponential(50, n),
    "lognormal": lambda rng, n: np.exp(rng.normal(3, 1, n)),
    "uniform": lambda rng, n: rng.uniform(-1, 1, n),
    "few": lambda rng, n: rng.integers(1, 6, n) * 10.0,
    "one": lambda rng, n: np.full(n, 7.0),
}


@pytest.mark.parametrize("kind", AMOUNTS)
def test_numbers_and_gaps_of_events(kind: str) -> None:
    amount = AMOUNTS[kind]
    learned = [case(seed, amount) for seed in range(300)]
    tokenizer = EventTokenizer.fit(learned, attributes=["amount", "case:limit"])
    assert reported(tokenizer, *learned).warning() is None
    for start in range(1000, 2000, 200):
        assert reported(tokenizer, *(case(seed, amount) for seed in range(start, start + 200))).warning() is None
    new = [case(seed, amount) for seed in range(2000, 2200)]
    for each in new[:3]:
        each.attributes["amount"][5] = "-99999"  # type: ignore[index]
        each.attributes["amount"][6] = UNKNOWN  # type: ignore[index]
    assert set(reported(tokenizer, *new).shares()) >= {"amount"}
    assert "amount" in (reported(tokenizer, *new).warning() or "")
    slow = [case(seed, amount, gap=1000 * HOUR) for seed in range(3000, 3100)]
    assert reported(tokenizer, *slow).shares()["time"] > 0.9
    assert "time (" in (reported(tokenizer, *slow).warning() or "")
    beyond = tokenizer.beyond(new[0])
    assert beyond.shape == tokenizer.encode(new[0]).ids.shape
    assert np.isnan(beyond[6, 1])


def test_tokenizers_that_say_nothing_are_left_alone() -> None:
    tokenizer = NucleotideTokenizer()
    record = Sequence(key="s", residues=b"ACGT")
    assert tokenizer.beyond(record) is None
    assert reported(tokenizer, record).warning() is None


def test_fills_are_near_what_a_loop_finds() -> None:
    rng = np.random.default_rng(0)
    beyond = np.where(rng.random((80, 2)) < 0.3, rng.exponential(1, (80, 2)), 0.0)
    beyond[rng.random((80, 2)) < 0.3] = np.nan
    beyond[:, 1] = np.nan
    cells = np.argwhere(rng.random((80, 2)) < 0.2)
    found = nearby(beyond, cells)
    filled = {tuple(cell) for cell in cells.tolist()}
    known = [p for p in range(80) if not np.isnan(beyond[p, 0]) and (p, 0) not in filled]
    for (position, column), number in zip(cells.tolist(), found.tolist(), strict=True):
        if column:
            assert np.isnan(number)
            continue
        near = [p for p in known if p < position][-NEAR:] + [p for p in known if p > position][:NEAR]
        assert number == sum(beyond[p, 0] > OUTSIDE for p in near)


# ---- in commands --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    records = [recording(seed) for seed in range(6)]
    tokenizer = SIGNALS["quantile"](records[:4])
    build_from_records(records, output=folder / "corpus", tokenizer=tokenizer)
    return untrained(tokenizer, folder).path


def write(path: Path, values: np.ndarray) -> Path:
    lines = (",".join("" if np.isnan(v) else repr(v) for v in row) for row in values.tolist())
    path.write_text("t,a,b\n" + "".join(f"{i},{line}\n" for i, line in enumerate(lines)))
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("files")
    plain, moved, coded = (recording(seed, 400).channels for seed in (20, 21, 22))
    moved[:, 1] += 10
    coded[[100, 103], 0] = -9999
    for values in (plain, moved, coded):
        values[[50, 101, 102, 300]] = np.nan
    return {
        name: write(folder / f"{name}.csv", v) for name, v in (("plain", plain), ("moved", moved), ("coded", coded))
    }


@pytest.mark.parametrize("name", ["plain", "moved", "coded"])
@pytest.mark.parametrize("command", ["infill", "score", "evaluate"])
def test_commands_warn_of_it(run: Path, files: dict[str, Path], command: str, name: str, tmp_path: Path) -> None:
    options = {"infill": ("-o", tmp_path / "out"), "score": (), "evaluate": ("--cells", 100, "--few")}[command]
    result = maskseq(command, run, files[name], "--format", "signal-csv", "--json", *options)
    assert result.exit_code == 0, result.output
    column = {"plain": None, "moved": "b (100.0%", "coded": "a (0."}[name]
    assert ("range that is trained on" in result.stderr) == (column is not None)
    assert column is None or column in result.stderr
    for line in result.stdout.splitlines():
        json.loads(line)
    if command == "infill":
        summary = json.loads(result.stdout)
        assert set(summary.get("outside the training range", {})) == ({column[0]} if column else set())
        rows = list(csv.DictReader(io.StringIO((tmp_path / "out" / "fills.csv").read_text())))
        clipped = {(row["field"], int(row["start"])): row["clipped"] for row in rows}
        expected = {
            "plain": {},
            "moved": {("b", start): "16" for start in (51, 102, 103, 301)},
            "coded": {("a", 102): "2", ("a", 103): "2"},
        }[name]
        assert {cell: number for cell, number in clipped.items() if number != "0"} == expected
        assert all(number.isdecimal() for number in clipped.values())
        report = (tmp_path / "out" / "report.html").read_text()
        assert ("range that is trained on" in report) == (column is not None)


def test_init_warns_where_what_is_held_out_is_elsewhere(tmp_path: Path) -> None:
    still = write(tmp_path / "still.csv", recording(30, 3000).channels)
    risen = recording(31, 3000).channels
    risen[2000:, 1] += 12
    split = ("--set", 'data.split.by="region"', "--set", 'data.split.regions=["risen:2401-3000"]')
    plain = ("--set", 'data.split.by="region"', "--set", 'data.split.regions=["still:2401-3000"]')
    result = maskseq("init", still, "-o", tmp_path / "still.toml", *plain)
    assert result.exit_code == 0, result.output
    assert "trained on" not in result.stderr
    late = write(tmp_path / "risen.csv", risen)
    result = maskseq("init", late, "-o", tmp_path / "risen.toml", *split)
    assert result.exit_code == 0, result.output
    assert "trained on" not in result.stderr  # the training part has risen, too
    split = (*split[:3], 'data.split.regions=["risen:1901-3000"]')
    result = maskseq("init", late, "-o", tmp_path / "late.toml", *split)
    assert result.exit_code == 0, result.output
    assert "b (80" in result.stderr
