"""Tables whose rows are stretches of one series: a column a month of a year, or an hour of a day."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from maskseq.errors import DataError
from maskseq.formats import Format
from maskseq.survey import Head
from maskseq_signals.delimited import SignalCsv
from maskseq_signals.parquet import SignalParquet
from maskseq_signals.recording import Recording
from maskseq_signals.wide_rows import steps_within

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
HOURS = tuple(f"{hour:02d}:00" for hour in range(24))
YEARS = tuple(str(year) for year in range(1990, 2010))
DAYS = tuple(f"2024-02-{day:02d}" for day in range(10, 30))


def cell(i: int) -> str:
    return f"{10 * np.sin(i / 2) + i / 100:.2f}"


def table(starts: Sequence[str], names: Sequence[str], *, empty: int = -1) -> str:
    n = len(names)
    rows = [
        ",".join([start, *("" if n * row + i == empty else cell(n * row + i) for i in range(n))])
        for row, start in enumerate(starts)
    ]
    return "\n".join([",".join(["Year", *names]), *rows]) + "\n"


def in_parquet(path: Path, starts: Sequence[str], names: Sequence[str], *, empty: int = -1) -> None:
    n = len(names)
    numbers = [float(cell(i)) if i != empty else None for i in range(n * len(starts))]
    dates = pa.array([datetime.fromisoformat(f"{start}-01-01"[:10]) for start in starts])
    pq.write_table(pa.table({"Year": dates} | {name: numbers[i::n] for i, name in enumerate(names)}), path)


def read(path: Path, cls: type[Any]) -> tuple[Format[Recording], Recording]:
    """As `maskseq init` proposes."""
    claim = cls.recognize(Head.of(path))
    assert claim is not None
    assert claim.options["columns"] == "steps"
    assert "columns" not in claim.instead[0].options
    reader = cls(**{key: tuple(v) if isinstance(v, list) else v for key, v in claim.options.items()})
    (record,) = reader.read(path)
    return reader, record


@pytest.mark.parametrize("cls", [SignalCsv, SignalParquet])
@pytest.mark.parametrize(("starts", "names"), [(YEARS, MONTHS), (DAYS, HOURS)])
def test_rows_of_a_year_or_a_day_are_one_series(
    tmp_path: Path, cls: type[Any], starts: Sequence[str], names: Sequence[str]
) -> None:
    path = tmp_path / ("t.csv" if cls is SignalCsv else "t.parquet")
    if cls is SignalCsv:
        path.write_text(table(starts, names, empty=30))
    else:
        in_parquet(path, starts, names, empty=30)
    reader, record = read(path, cls)
    n = len(names)
    assert record.names == ("value",)
    expected = np.array([float(cell(i)) for i in range(n * len(starts))])
    expected[30] = np.nan
    assert np.array_equal(record.channels[:, 0], expected, equal_nan=True)
    moments = record.moments()
    assert moments is not None
    if n == 12:
        when = [datetime(int(year), month + 1, 1) for year in starts for month in range(12)]
    else:
        when = [datetime.fromisoformat(day) + timedelta(hours=hour) for day in starts for hour in range(24)]
    assert moments.tolist() == [(each - datetime(1970, 1, 1)).total_seconds() for each in when]
    values = record.channels.copy()
    values[30] = 1.25
    reader.write([replace(record, channels=values)], target := tmp_path / ("filled" + path.suffix))
    if cls is SignalCsv:
        was, now = path.read_text().splitlines(), target.read_text().splitlines()
        changed = [i for i, (a, b) in enumerate(zip(was, now, strict=True)) if a != b]
        assert changed == [1 + 30 // n]
        assert now[changed[0]].split(",")[1 + 30 % n] == "1.25"
    else:
        was, now = pq.read_table(path).to_pydict(), pq.read_table(target).to_pydict()
        was[names[30 % n]][30 // n] = 1.25
        assert now == was


def test_rows_that_are_missing_are_unknown_steps_and_stations_apart(tmp_path: Path) -> None:
    lines = table(YEARS, MONTHS).splitlines()
    del lines[4]
    path = tmp_path / "t.csv"
    north, south = (["".join([where, ",", line]) for line in lines[1:]] for where in ("N", "S"))
    path.write_text("\n".join(["station," + lines[0], *north, *south]) + "\n")
    claim = SignalCsv.recognize(Head.of(path))
    assert claim is not None
    assert (claim.options["columns"], claim.options["recording"]) == ("steps", "station")
    reader = SignalCsv(columns="steps", recording="station", time="Year")
    with pytest.warns(match="24 time steps missing"):
        records = list(reader.read(path))
    assert [record.key for record in records] == ["N", "S"]
    assert [len(record) for record in records] == [12 * len(YEARS)] * 2
    assert np.flatnonzero(np.isnan(records[1].channels[:, 0])).tolist() == list(range(36, 48))
    reader.write(records, tmp_path / "same.csv")
    assert (tmp_path / "same.csv").read_bytes() == path.read_bytes()


def test_a_row_of_an_odd_time_is_broken(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    odd = (*DAYS[:5], "someday", *DAYS[6:])
    path.write_text(table(odd, HOURS))
    claim = SignalCsv.recognize(Head.of(path))
    assert claim is not None
    assert claim.options["columns"] == "steps"
    reader = SignalCsv(columns="steps")
    with pytest.raises(DataError, match=r"line 7.*someday"):
        list(reader.read(path))
    with pytest.warns(match="24 time steps missing"):
        error, record = reader.attempts(path)
    assert isinstance(error, DataError)
    assert "line 7" in str(error)
    assert isinstance(record, Recording)
    assert np.flatnonzero(np.isnan(record.channels[:, 0])).tolist() == list(range(5 * 24, 6 * 24))
    moments = record.moments()
    assert moments is not None
    assert set(np.diff(moments)[6 * 24 :]) == {3600}
    reader.write([record], tmp_path / "same.csv")
    assert (tmp_path / "same.csv").read_bytes() == path.read_bytes()
    (as_rows,) = SignalCsv(columns="steps", steps="rows").read(path)
    assert len(as_rows) == 24 * len(DAYS)


def test_an_unknown_moment_in_parquet_is_refused(tmp_path: Path) -> None:
    days = [datetime.fromisoformat(day) if i != 5 else None for i, day in enumerate(DAYS)]
    columns = {name: [float(i) for i in range(len(DAYS))] for name in HOURS}
    pq.write_table(pa.table({"day": days} | columns), tmp_path / "t.parquet")
    with pytest.raises(DataError, match="row 6"):
        list(SignalParquet(columns="steps").read(tmp_path / "t.parquet"))


def test_times_that_are_no_dates(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(table([f"day {i}" for i in range(20)], HOURS))
    reader = SignalCsv(columns="steps", time="Year")
    with pytest.warns(match="day 0"):
        (record,) = reader.read(path)
    assert (len(record), record.times) == (24 * 20, None)
    path.write_text(table([str(i) for i in range(20) if i != 5], HOURS))
    with pytest.warns(match="24 time steps missing"):
        (record,) = reader.read(path)
    assert np.flatnonzero(np.isnan(record.channels[:, 0])).tolist() == list(range(5 * 24, 6 * 24))


@pytest.mark.parametrize(
    ("starts", "names"),
    [
        (YEARS, tuple(f"sensor {i}" for i in "abcdefghijkl")),
        (YEARS, MONTHS[1:] + MONTHS[:1]),
        (YEARS, ("Jan", "Feb")),
        (DAYS, MONTHS),  # months of a day
        (YEARS, HOURS),
        (DAYS, tuple(f"sensor{i}" for i in range(1, 31))),
        (DAYS, tuple(f"sensor{i}" for i in range(1, 25))),
        (DAYS, tuple(map(str, range(25)))),
        (DAYS, (*HOURS, "24:00")),
        (YEARS, tuple(f"gdp{i}" for i in range(1, 6))),
        (YEARS, tuple(f"gdp{i}" for i in range(1, 5))),
        (YEARS, tuple(f"Q{i}" for i in range(1, 6))),
        (YEARS, tuple(f"m{i}" for i in range(13))),
    ],
)
def test_other_columns_are_channels(tmp_path: Path, starts: Sequence[str], names: Sequence[str]) -> None:
    path = tmp_path / "t.csv"
    path.write_text(table(starts, names))
    claim = SignalCsv.recognize(Head.of(path))
    assert claim is not None
    assert "columns" not in claim.options


@pytest.mark.parametrize(
    ("starts", "names"),
    [
        (YEARS, tuple(f"Q{i}" for i in range(1, 5))),
        (YEARS, tuple(f"{i:02d}" for i in range(1, 13))),
        (YEARS, tuple(f"Month {i}" for i in range(1, 13))),
        (DAYS, tuple(map(str, range(24)))),
        (DAYS, tuple(f"h{i}" for i in range(1, 25))),
        (DAYS, tuple(f"hour_{i}" for i in range(24))),
        (DAYS, tuple(f"{i // 2:02d}:{i % 2 * 30:02d}" for i in range(48))),
        (DAYS, tuple(f"{i:02d}:00-{i + 1:02d}:00" for i in range(24))),
    ],
)
def test_names_of_steps(starts: Sequence[str], names: Sequence[str]) -> None:
    assert steps_within(["mean", *names, "total", "sensor1"], starts) == list(names)


def test_means_of_a_year_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(table(YEARS, (*MONTHS, "J-D")))
    _, record = read(path, SignalCsv)
    assert len(record) == 12 * len(YEARS)
    assert not any(record.unread.values())
