"""Times of tables: rows become steps in the order of their times, and nothing that is irregular goes unsaid."""

import json
import warnings
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet
from typer.testing import CliRunner

from maskseq.cli import app
from maskseq.errors import DataError, DataWarning
from maskseq_signals.delimited import SignalCsv
from maskseq_signals.parquet import SignalParquet
from maskseq_signals.times import is_date, to_moments

START = datetime(2024, 3, 30, 22, tzinfo=UTC)


def laid(path: Path, rows, header="time,a"):
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return path


def read(path, reader=SignalCsv()):  # noqa: B008
    """The recordings, and the one warning that comes with them ("" for none)."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        records = list(reader.read(path))
    reported = [str(each.message) for each in caught if issubclass(each.category, DataWarning)]
    assert len(reported) <= 1
    return records, "".join(reported)


WRITTEN = {
    "seconds": lambda step: str(step * 30),
    "tenths": lambda step: f"{step * 0.1:.1f}",
    "dates": lambda step: f"{START + timedelta(minutes=5 * step):%Y-%m-%d %H:%M}",
    "days": lambda step: f"{START + timedelta(days=step):%d.%m.%Y}",
    "compact": lambda step: f"{START + timedelta(days=7 * step):%Y%m%d}",
    "zone": lambda step: (START + timedelta(hours=step)).astimezone().isoformat(),
    "months": lambda step: f"{1990 + step // 12}-{1 + step % 12:02d}",
    "years": lambda step: str(1700 + step),
    "nanoseconds": lambda step: str(1_700_000_000_000_000_000 + step * 40_000_000),
}


@settings(max_examples=120, deadline=None)
@given(
    written=st.sampled_from(sorted(WRITTEN)),
    moves=st.lists(st.sampled_from([1] * 8 + [2, 3, 64, 65, 500]), min_size=3, max_size=30),
    data=st.data(),
)
def test_rows_come_to_their_times_and_go_back_to_their_lines(written, moves, data, tmp_path_factory):
    """Against a dictionary from time to value, for rows in any order of which some are missing."""
    if 2 * moves.count(1) < len(moves):
        moves = [1] * len(moves) + moves
    if written == "months":  # of unequal length: how many are missing is known of short gaps only
        moves = [min(move, 3) for move in moves]
    at = [0, *np.cumsum(moves).tolist()]
    times = [WRITTEN[written](step) for step in at]
    values = [f"{index}.5" if index % 4 else "?" for index in range(len(at))]
    order = data.draw(st.one_of(st.just(list(range(len(at)))), st.permutations(range(len(at)))))
    folder = tmp_path_factory.mktemp("t")
    path = laid(folder / "s.csv", [(times[i], values[i]) for i in order])
    records, reported = read(path)
    expected: list[dict[int, float]] = [{}]
    for index, step in enumerate(at):
        if index and step - at[index - 1] > 64:
            expected.append({})
        expected[-1][step] = np.nan if values[index] == "?" else float(values[index])
    assert [record.key for record in records] == ["s"] + [f"s#{n}" for n in range(2, len(expected) + 1)]
    for record, known in zip(records, expected, strict=True):
        steps = range(min(known), max(known) + 1)
        assert np.array_equal(record.channels[:, 0], [known.get(step, np.nan) for step in steps], equal_nan=True)
        assert record.times == tuple(times[at.index(step)] if step in known else "" for step in steps)
    late = sum(order[i] < order[i - 1] for i in range(1, len(order)))
    short = [move - 1 for move in moves if 1 < move <= 64]
    if late:
        assert f"{late:,} row" in reported
        assert "earlier" in reported
    if short:
        assert f"{sum(short):,} time step" in reported
        assert f"missing in {len(short)} gap" in reported
    if max(moves) > 64:
        assert f"{len(expected) - 1} gap" in reported
        assert "64 time steps or more" in reported
    assert bool(reported) == bool(late or max(moves) > 1)
    SignalCsv().write(records, folder / "same.csv")
    assert (folder / "same.csv").read_bytes() == path.read_bytes()
    filled = [replace(each, channels=np.where(np.isnan(each.channels), 7.5, each.channels)) for each in records]
    SignalCsv().write(filled, folder / "filled.csv")
    assert (folder / "filled.csv").read_text() == path.read_text().replace("?", "7.5")
    regular, reported = read(path, SignalCsv(steps="rows"))
    assert reported == ""
    assert regular[0].times == tuple(times[i] for i in order)


def test_newest_first_is_read_from_its_end(tmp_path):
    path = laid(tmp_path / "s.csv", [(9 - i, i) for i in range(10)])
    (record,), reported = read(path)
    assert record.channels[:, 0].tolist() == list(range(9, -1, -1))
    assert "9 rows earlier" in reported


@pytest.mark.parametrize(
    ("rows", "line", "reported"),
    [
        ([(0, 1), (1, 2), (1, 3), (2, 4), (2, 5), (3, 6)], 4, "2 of 6 rows have the time of another one, first '1'"),
        ([(t, 1) for t in (0, 1, 2.4, 3, 5.7, 5.8, 9)], 4, "5 of 6 steps"),
        ([(t, 1) for t in (0, 1, 2, 3, 4, 5, 6, "soon", 8, 9, 10)], 9, "first 'soon'"),
        ([(f"2024-01-{d:02d}", 1) for d in (*range(1, 12), 45)], 13, "first '2024-01-45'"),
    ],
)
def test_times_that_are_no_steps_are_refused_with_what_to_set(rows, line, reported, tmp_path):
    path = laid(tmp_path / "s.csv", rows)
    with pytest.raises(DataError, match=rf"s\.csv: line {line}: .*{reported}") as error:
        list(SignalCsv().read(path))
    assert 'steps = "rows"' in str(error.value)
    (record,), reported = read(path, SignalCsv(steps="rows"))
    assert (len(record), reported) == (len(rows), "")


def test_times_that_say_nothing_are_reported(tmp_path):
    rows = [(f"{9 + i // 60:02d}:{i % 60:02d}", i) for i in range(100)]
    (record,), reported = read(laid(tmp_path / "s.csv", rows))
    assert len(record) == 100
    assert "'09:00' (line 2)" in reported


def test_weekends_are_unknown_days_and_uneven_steps_are_counted(tmp_path):
    days = [day for day in range(60) if (START + timedelta(days=day)).weekday() < 5]
    rows = [(f"{START + timedelta(days=day):%Y-%m-%d}", 1) for day in days]
    (record,), reported = read(laid(tmp_path / "s.csv", rows))
    assert np.flatnonzero(~np.isnan(record.channels[:, 0])).tolist() == [day - days[0] for day in days]
    assert f"{60 - len(days) - days[0] - (59 - days[-1])} time steps" in reported
    (record,), reported = read(laid(tmp_path / "r.csv", [(f"{i / 360:.3f}", i) for i in range(500)]))
    assert record.channels[:, 0].tolist() == list(range(500))
    assert "111 time steps uneven" in reported  # 0.002 where it should be 0.00278
    jitter = np.random.default_rng(0).uniform(-0.16, 0.16, 200)
    (record,), reported = read(laid(tmp_path / "j.csv", [(f"{i + jitter[i]:.4f}", i) for i in range(200)]))
    assert record.channels[:, 0].tolist() == list(range(200))
    uneven = int((np.abs(np.diff(jitter)) > 0.1).sum())
    assert abs(int(reported.split(" time steps uneven")[0].rsplit(" ", 1)[1]) - uneven) <= 2


def test_each_recording_of_a_table_has_its_own_clock(tmp_path):
    rows = [(t, name, i) for i, (t, name) in enumerate([(0, "x"), (0, "y"), (5, "x"), (60, "y"), (10, "x"), (180, "y"), (240, "y"), (300, "y")])]  # fmt: skip  # noqa: E501
    path = laid(tmp_path / "s.csv", rows, "time,who,a")
    (x, y), reported = read(path, SignalCsv(recording="who"))
    assert (x.key, x.channels[:, 0].tolist()) == ("x", [0, 2, 4])
    assert np.array_equal(y.channels[:, 0], [1, 3, np.nan, 5, 6, 7], equal_nan=True)
    assert "1 time step missing in 1 gap, the first behind line 5" in reported


def test_moments_find_steps_across_gaps(tmp_path):
    (record,), _ = read(laid(tmp_path / "s.csv", [(t, 1) for t in (10, 20, 30, 60, 70, 80, 90)]))
    assert record.between("20", "60") == (1, 5)
    assert record.between("35", "200") == (5, 9)
    assert record.cut(2, 6).between("30", "60") == (0, 3)
    assert record.cut(3, 5).span() is None


@pytest.mark.parametrize("kind", [pa.timestamp("ns"), pa.timestamp("ms", "Europe/Berlin"), pa.string(), pa.date32()])
def test_rows_of_parquet_come_to_their_times(kind, tmp_path):
    order = np.random.default_rng(0).permutation([0, 1, 2, 4, 5, 6, 7, 100, 101])
    days = [START.replace(hour=0) + timedelta(days=int(step)) for step in order]
    moments = [f"{day:%Y-%m-%d}" for day in days] if kind == pa.string() else pa.array(days).cast(kind, safe=False)
    values = [None if step == 2 else float(step) for step in order]
    table = pa.table({"when": pa.array(moments), "a": pa.array(values, pa.float32())})
    parquet.write_table(table, tmp_path / "s.parquet")
    reader = SignalParquet(time="when") if kind == pa.string() else SignalParquet()
    records, reported = read(tmp_path / "s.parquet", reader)
    assert [record.key for record in records] == ["s", "s#2"]
    expected = [0, 1, np.nan, np.nan, 4, 5, 6, 7]
    assert np.array_equal(records[0].channels[:, 0], expected, equal_nan=True)
    assert records[1].channels[:, 0].tolist() == [100, 101]
    late = int((np.diff(order) < 0).sum())
    assert f"{late} rows earlier" in reported
    reader.write(records, tmp_path / "same.parquet")
    assert parquet.read_table(tmp_path / "same.parquet").equals(table)
    reader.write(
        [replace(each, channels=np.nan_to_num(each.channels, nan=-1)) for each in records], tmp_path / "f.parquet"
    )
    back = parquet.read_table(tmp_path / "f.parquet")
    assert back.column("a").to_pylist() == [-1 if value is None else value for value in values]
    assert back.column("when").equals(table.column("when"))
    table = table.append_column("b", table.column("a")).take([0, 1, 1, 2])
    parquet.write_table(table, tmp_path / "d.parquet")
    with pytest.raises(DataError, match=r"row [34]: 1 of 4 rows have the time of another"):
        list(reader.read(tmp_path / "d.parquet"))


def test_dates_and_numbers_are_told_apart():
    assert to_moments(["28.01.2024 09:00", "1.2.2024 9:00"]).tolist() == [
        datetime(2024, 1, 28, 9),
        datetime(2024, 2, 1, 9),
    ]
    assert to_moments(["2024-03-31T01:00:00+02:00"]).tolist() == [datetime(2024, 3, 30, 23)]
    assert to_moments(["20240131", "20240201"]).dtype.kind == "M"
    assert to_moments(["1700", "1701"]).tolist() == [1700, 1701]
    assert to_moments(["1974.25", "1974.5"]).tolist() == [1974.25, 1974.5]
    assert to_moments(["1612010312345"]).tolist() == [1612010312345]
    assert to_moments(["0,5", "1"], decimal=",").tolist() == [0.5, 1]
    assert not any(map(is_date, ("", "noon", "09:00", "2024.5", "31.02.2024", "1.2.2024x", "12345678")))


def test_every_command_says_once_what_was_not_regular(tmp_path):
    steps = [step for step in range(200) if step % 20 != 10]
    rows = [(f"{START + timedelta(minutes=step):%Y-%m-%d %H:%M}", f"{10 * np.sin(step / 9):.2f}") for step in steps]
    path = laid(tmp_path / "s.csv", [rows[i] for i in np.random.default_rng(0).permutation(len(rows))])

    def maskseq(*arguments):
        result = CliRunner().invoke(app, [str(each) for each in arguments])
        assert result.exit_code == 0, result.output
        assert result.stderr.count("10 time steps missing in 10 gaps") == 1, result.stderr
        assert "rows earlier" in result.stderr
        return result.stdout

    found = json.loads(maskseq("init", path, "-o", tmp_path / "r.toml", "--json"))
    assert found["records"]["lengths"].startswith("200 ")
    short = (
        *("training.tokens=600", "training.validation_rows=1", "model.n_layers=1", "model.linear_prior.distances=[]"),
        *("tokenizer.bins=8", "data.workers=1"),
    )
    maskseq("pretrain", tmp_path / "r.toml", "-o", tmp_path / "run", *(a for each in short for a in ("--set", each)))
    maskseq("infill", tmp_path / "run", path, "-o", tmp_path / "out")
    assert (tmp_path / "out" / "s.csv").read_bytes() == path.read_bytes()
    maskseq("score", tmp_path / "run", path, "-o", tmp_path / "scores.tsv")
    maskseq("evaluate", tmp_path / "run", path, "--cells", 50, "--few", "--json")
    maskseq("embed", tmp_path / "run", path, "-o", tmp_path / "vectors.parquet")


def test_options_that_came_later_leave_corpora_as_they_were():
    assert "steps" not in SignalCsv().identity()
    assert SignalCsv(steps="rows").identity()["steps"] == "rows"
    assert SignalCsv().identity()["encoding"] == "utf-8"
