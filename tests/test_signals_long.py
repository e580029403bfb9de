"""Tables of a row a measurement become time steps of channels, and times that several columns say are one."""

import random
import tempfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskseq.apps.init import init
from maskseq.errors import DataError, UsageError
from maskseq.survey import Claim, Head
from maskseq_signals.delimited import SignalCsv

METRICS = {"temp": "{:.2f}", "hum": "{:.0f}", "co2": "{:.1f}"}


def claimed(path: Path) -> Claim:
    claim = SignalCsv.recognize(Head.of(path))
    assert claim is not None
    return claim


def returns(path: Path, reader: SignalCsv) -> bool:
    reader.write(reader.read(path), path.with_name("again.csv"))
    return path.with_name("again.csv").read_bytes() == path.read_bytes()


def long(seed: int = 0, *, sensors: int = 2, steps: int = 20, drop: float = 0.0, shuffle: bool = False) -> pd.DataFrame:
    """A row a measurement."""
    rng = random.Random(seed)
    rows = [
        {
            "time": str(datetime(2024, 1, 1) + timedelta(minutes=10 * step)),
            "sensor": f"s{sensor}",
            "metric": metric,
            "value": form.format(20 + 5 * rng.random()),
        }
        for step in range(steps)
        for sensor in range(sensors)
        for metric, form in METRICS.items()
        if rng.random() >= drop
    ]
    if shuffle:
        rng.shuffle(rows)
    return pd.DataFrame(rows)


@pytest.mark.filterwarnings("ignore:.*quantile bins instead of")
@pytest.mark.parametrize("names", [("sensor", "metric"), ("device_id", "variable"), ("station", "parameter_name")])
def test_sensors_and_metrics_are_recordings_and_channels(tmp_path: Path, names: tuple[str, str]) -> None:
    frame = long().rename(columns=dict(zip(("sensor", "metric"), names, strict=True)))
    path = tmp_path / "log.csv"
    frame.to_csv(path, index=False)
    claim = claimed(path)
    assert (claim.options["recording"], claim.options["metric"]) == names
    assert repr(names[1]) in claim.why
    reader = SignalCsv(**claim.options)
    records = list(reader.read(path))
    assert [record.key for record in records] == ["s0", "s1"]
    wide = frame.assign(value=frame["value"].astype(float)).pivot(index=[names[0], "time"], columns=names[1])["value"]
    for record in records:
        assert record.names == tuple(METRICS)
        np.testing.assert_array_equal(record.channels, wide.loc[record.key][list(METRICS)].to_numpy())
    assert records[0].decimals == (2, 0, 1)
    assert returns(path, reader)
    init([path], tmp_path / "recipe.toml", yes=True)
    assert 'format = "signal-csv"' in (tmp_path / "recipe.toml").read_text()
    assert f'metric = "{names[1]}"' in (tmp_path / "recipe.toml").read_text()


def test_metrics_of_one_station(tmp_path: Path) -> None:
    frame = long(sensors=1).drop(columns="sensor").assign(unit="x")
    path = tmp_path / "log.csv"
    frame.to_csv(path, index=False)
    claim = claimed(path)
    assert claim.options["metric"] == "metric"
    assert "recording" not in claim.options
    (record,) = SignalCsv(**claim.options).read(path)
    assert (record.key, record.names, len(record)) == ("log", tuple(METRICS), 20)
    assert returns(path, SignalCsv(**claim.options))


@pytest.mark.filterwarnings("ignore::maskseq.errors.DataWarning")
def test_holes_are_written_into_their_rows(tmp_path: Path) -> None:
    frame = long(drop=0.1, shuffle=True)
    holes = frame.sample(10, random_state=0).index
    frame.loc[holes, "value"] = ""
    path = tmp_path / "log.csv"
    frame.to_csv(path, index=False)
    reader = SignalCsv(time="time", recording="sensor", metric="metric")
    records = [replace(r, channels=np.where(np.isnan(r.channels), 7.0, r.channels)) for r in reader.read(path)]
    reader.write(records, tmp_path / "out.csv")
    out = pd.read_csv(tmp_path / "out.csv", dtype=str, keep_default_na=False)
    zeros = {"temp": "7.00", "hum": "7", "co2": "7.0"}
    expected = frame.copy()
    expected.loc[holes, "value"] = [zeros[metric] for metric in frame.loc[holes, "metric"]]
    pd.testing.assert_frame_equal(out, expected.reset_index(drop=True))


def test_two_values_of_one_moment_are_refused_or_left_out(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("time,metric,value\n1,a,1\n1,b,2\n2,a,3\n2,a,4\n2,b,5\n3,a,6\n3,b,7\n")
    reader = SignalCsv(metric="metric")
    with pytest.raises(DataError, match="line 5"):
        list(reader.read(path))
    found = list(reader.attempts(path))
    (record,) = [each for each in found if not isinstance(each, DataError)]
    np.testing.assert_array_equal(record.channels, [[1, 2], [3, 5], [6, 7]])
    reader.write(found, tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_bytes() == path.read_bytes()


def test_a_table_of_measurements_has_one_column_of_values(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("time,metric,value,other\n1,a,1,2\n2,a,1,2\n")
    with pytest.raises(UsageError, match="channels"):
        list(SignalCsv(metric="metric").read(path))
    with pytest.raises(UsageError, match="metric"):
        SignalCsv(metric="metric", columns="steps")


def written_back(seed: int, sensors: int, steps: int, drop: float, shuffle: bool, ends: str) -> None:
    """Any such table has the values that pandas pivots it to, and comes back byte for byte."""
    frame = long(seed, sensors=sensors, steps=steps, drop=drop, shuffle=shuffle)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.csv"
        frame.to_csv(path, index=False, lineterminator=ends)
        reader = SignalCsv(time="time", recording="sensor", metric="metric")
        wide = frame.assign(value=frame["value"].astype(float)).pivot(index=["sensor", "time"], columns="metric")
        wide.columns = wide.columns.droplevel(0)
        records = list(reader.read(path))
        for record in records:
            (owner, _, _) = record.key.partition("#")
            for step, moment in enumerate(record.times or ()):
                if moment:
                    expected = wide.loc[(owner, moment)].reindex(record.names).to_numpy()
                    np.testing.assert_array_equal(record.channels[step], expected)
        assert returns(path, reader)


TABLES = (
    st.integers(0, 1 << 30),
    st.integers(1, 3),
    st.integers(4, 12),
    st.sampled_from([0.0, 0.05]),
    st.booleans(),
    st.sampled_from(["\n", "\r\n"]),
)


@pytest.mark.filterwarnings("ignore::maskseq.errors.DataWarning")
@settings(max_examples=30, derandomize=True, deadline=None)
@given(*TABLES)
def test_any_table_of_measurements(seed: int, sensors: int, steps: int, drop: float, shuffle: bool, ends: str) -> None:
    written_back(seed, sensors, steps, drop, shuffle, ends)


@pytest.mark.soak
@pytest.mark.filterwarnings("ignore::maskseq.errors.DataWarning")
@settings(max_examples=4000, deadline=None)
@given(*TABLES)
def test_many_tables_of_measurements(
    seed: int, sensors: int, steps: int, drop: float, shuffle: bool, ends: str
) -> None:
    written_back(seed, sensors, steps, drop, shuffle, ends)


HOURS = [datetime(2010, 1, 30) + timedelta(hours=n) for n in range(80)]
DATED = {
    "year,month,day,hour": "{0.year},{0.month},{0.day},{0.hour}",
    "No,year,month,day,hour": "{1},{0.year},{0.month},{0.day},{0.hour}",
    "YYYY,MM,DD,HH,mi": "{0.year},{0.month:02d},{0.day:02d},{0.hour:02d},00",
    "Date,Time": "{0:%d/%m/%Y},{0:%H.%M.%S}",
    "date,hour": "{0:%Y-%m-%d},{0.hour}",
    "Datum,Uhrzeit": "{0:%d.%m.%Y},{0:%H:%M}",
}


@pytest.mark.parametrize("header", DATED)
def test_a_time_in_several_columns_is_one(tmp_path: Path, header: str) -> None:
    rows = [f"{DATED[header].format(when, n)},{n % 7 + 0.5},{20 + n % 5}" for n, when in enumerate(HOURS)]
    path = tmp_path / "air.csv"
    path.write_text("\n".join([f"{header},pm25,temp", *rows, ""]))
    claim = claimed(path)
    reader = SignalCsv(**claim.options)
    (record,) = reader.read(path)
    assert set(record.names) - {"No"} == {"pm25", "temp"}
    assert len(record) == len(HOURS)
    moments = record.moments()
    assert moments is not None
    assert [datetime.fromtimestamp(at, UTC).replace(tzinfo=None) for at in moments.tolist()] == HOURS
    assert returns(path, reader)


def test_monthly_rows_of_year_and_month(tmp_path: Path) -> None:
    rows = [f"{1990 + n // 12},{n % 12 + 1},{n % 9 + 0.5}" for n in range(60)]
    path = tmp_path / "co2.csv"
    path.write_text("\n".join(["year,month,ppm", *rows, ""]))
    claim = claimed(path)
    assert claim.options["time"] == ["year", "month"]
    (record,) = SignalCsv(**claim.options).read(path)
    assert (record.names, len(record)) == (("ppm",), 60)
