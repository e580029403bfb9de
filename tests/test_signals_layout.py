"""Which way an array lies, and which rows of a table belong together: recognized, or asked about, never guessed."""

import json
import tomllib
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from maskseq.cli import app
from maskseq.errors import DataError, UsageError
from maskseq.plugins import format_for
from maskseq.survey import Head
from maskseq_signals.arrays import Npy, Npz


def maskseq(*arguments, code=0):
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    assert result.exit_code == code, result.output
    return result


def begun(path, folder, *options):
    found = json.loads(maskseq("init", path, "-o", folder / "r.toml", "--json", *options).stdout)
    return found, tomllib.loads((folder / "r.toml").read_text())


def through(path, recipe, folder):
    """Read as a recipe says; written back untouched, and with every unknown value filled."""
    reader = format_for(path, recipe["data"]["format"], **recipe["data"].get("format_options", {}))
    records = list(reader.read(path))
    reader.write(records, folder / f"same{path.suffix}")
    filled = [replace(each, channels=np.where(np.isnan(each.channels), 9, each.channels)) for each in records]
    reader.write(filled, folder / f"filled{path.suffix}")
    return records


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["float32", ">f8"])
def test_channel_first_arrays_are_recognized_and_come_back_as_they_were(dtype, order, tmp_path):
    array = np.random.default_rng(0).normal(size=(3, 600)).cumsum(axis=1)
    array[1, 5:9] = np.nan
    np.save(tmp_path / "s.npy", np.asarray(array, dtype, order=order))
    found, recipe = begun(tmp_path / "s.npy", tmp_path)
    assert recipe["data"]["format_options"] == {"channels_first": True}
    assert "3 x 600" in found["files"]["s.npy"]
    (record,) = through(tmp_path / "s.npy", recipe, tmp_path)
    assert np.array_equal(record.channels, array.astype(dtype).T, equal_nan=True)
    assert (tmp_path / "same.npy").read_bytes() == (tmp_path / "s.npy").read_bytes()
    filled = np.load(tmp_path / "filled.npy")
    assert (filled.dtype, filled.shape) == (np.dtype(dtype), (3, 600))
    assert np.array_equal(filled, np.nan_to_num(array.astype(dtype), nan=9))


def test_an_array_of_more_channels_than_steps_is_asked_about(tmp_path):
    np.save(tmp_path / "s.npy", np.zeros((2, 600)))
    np.savez(tmp_path / "s.npz", a=np.zeros((16, 600)))
    for reader, name in ((Npy, "s.npy"), (Npz, "s.npz")):
        with pytest.raises(DataError, match="channels_first = true"):
            list(reader().read(tmp_path / name))
        for first, length in ((True, 600), (False, None)):
            (record,) = reader(channels_first=first).read(tmp_path / name)
            assert len(record) == (length or len(np.load(tmp_path / name)["a"] if name == "s.npz" else np.zeros(2)))
    (record,) = Npy(channels_first=True, names=("x", "y")).read(tmp_path / "s.npy")
    assert record.names == ("x", "y")
    (record,) = Npy(names=tuple(map(str, range(600)))).read(tmp_path / "s.npy")
    assert len(record) == 2
    with pytest.raises(UsageError, match="other steps"):
        Npy().write([replace(record, channels=record.channels[:1])], tmp_path / "t.npy")
    maskseq("init", tmp_path / "s.npy", "-o", tmp_path / "x.toml", "--set", "data.format_options.channels_first=false")


@pytest.mark.parametrize(
    ("shapes", "first"),
    [
        ([(600, 3)], False), ([(3, 600)], True), ([(600,)], None), ([(4, 4)], False),
        ([(12, 5), (12, 90), (12, 31)], True), ([(5, 12), (90, 12), (31, 12)], False), ([(2, 2), (2, 9)], True),
        ([(3, 50), (600, 3)], False), ([(3, 50), (4, 600), (9, 7)], True),
    ],
)  # fmt: skip
def test_the_side_that_arrays_share_is_that_of_the_channels(shapes, first, tmp_path):
    np.savez(tmp_path / "s.npz", **{f"a{i}": np.zeros(shape) for i, shape in enumerate(shapes)})
    claim = Npz.recognize(Head.of(tmp_path / "s.npz"))
    assert claim.options.get("channels_first") is first


def test_arrays_read_as_before_keep_the_identity_of_their_corpora():
    assert Npy().identity() == {"names": (), "units": (), "rate": None, "suffixes": (".npy",)}
    assert Npy(channels_first=True).identity()["channels_first"]


DAYS = [f"2024-{1 + day // 28:02d}-{1 + day % 28:02d}" for day in range(84)]
HOURS = [f"2024-03-{1 + hour // 24:02d} {hour % 24:02d}:00" for hour in range(120)]


def table(path, header, rows):
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return path


def level(key, step):
    return "?" if step == 7 else f"{step % 24 + 100 * int(str(key)[-1], 36)}.5"


LONG = {
    "a row each in turn": ("time,id,value", [(t, k, level(k, t)) for t in range(200) for k in "AB"]),
    "one after the other": ("unique_id,ds,y", [(k, t, level(k, i)) for k in "xyz" for i, t in enumerate(HOURS)]),
    "numbers as names": (
        "when,sensor,temp,hum",
        [(t, k, level(k, i), i) for i, t in enumerate(HOURS) for k in (17, 18, 19)],
    ),
    "unusual names": ("t,where,v", [(t, k, level(k, t)) for t in range(90) for k in ("north1", "south2")]),
    "more than is looked at": ("time,station,v", [(t, k, level(k, t)) for k in "ab" for t in range(3000)]),
}
TIMES, OWNERS, VALUES = ("time", "ds", "when", "t"), ("id", "unique_id", "sensor", "where", "station"), "value y temp v"


@pytest.mark.parametrize("name", LONG)
def test_a_long_table_becomes_a_recording_for_each_id(name, tmp_path):
    header, rows = LONG[name]
    time, owner, value = (
        next(i for i, column in enumerate(header.split(",")) if column in which)
        for which in (TIMES, OWNERS, VALUES.split())
    )
    path = table(tmp_path / "s.csv", header, rows)
    _, recipe = begun(path, tmp_path)
    assert recipe["data"]["format"] == "signal-csv"
    assert recipe["data"]["format_options"]["recording"] == header.split(",")[owner]
    expected = {}
    for row in rows:
        number = np.nan if row[value] == "?" else float(row[value])
        expected.setdefault(str(row[owner]), []).append((str(row[time]), number))
    records = through(path, recipe, tmp_path)
    assert [record.key for record in records] == list(expected)
    for record in records:
        times, numbers = zip(*expected[record.key], strict=True)
        assert record.times == times
        assert np.array_equal(record.channels[:, 0], numbers, equal_nan=True)
    assert (tmp_path / "same.csv").read_bytes() == path.read_bytes()
    assert (tmp_path / "filled.csv").read_text() == path.read_text().replace("?", "9.0")


@pytest.mark.parametrize(
    ("header", "rows"),
    [
        ("time,a,b", [(t, t % 7, t % 3) for t in range(300)]),
        ("time,a,mode", [(t, level("a", t), t % 2) for t in range(300)]),
        ("date,a,status", [(t, i, "OK" if i % 5 else "ALARM") for i, t in enumerate(DAYS)]),
    ],
)
def test_a_wide_table_stays_one_recording(header, rows, tmp_path):
    _, recipe = begun(table(tmp_path / "s.csv", header, rows), tmp_path)
    assert recipe["data"]["format"] == "signal-csv"
    assert "recording" not in recipe["data"].get("format_options", {})


def test_parts_of_a_date_tell_no_recordings_apart(tmp_path):
    path = table(tmp_path / "s.csv", "year,month,a", [(1990 + m // 12, 1 + m % 12, m) for m in range(240)])
    _, recipe = begun(path, tmp_path)
    assert recipe["data"]["format_options"]["time"] == ["year", "month"]
    assert "recording" not in recipe["data"]["format_options"]


def test_a_long_table_without_its_option_is_refused_with_it(tmp_path):
    path = table(tmp_path / "s.csv", *LONG["a row each in turn"])
    with pytest.raises(DataError, match="recording"):
        list(format_for(path, "signal-csv", channels=("value",)).read(path))


@pytest.mark.parametrize("comma", [False, True])
def test_codes_for_missing_values_are_unknown_and_filled(comma, tmp_path):
    rows = [
        (f"{t}", f"{t % 50}.{t % 10}", "-9999" if t % 40 == 0 else f"{t % 30}.25", "999" if t % 9 else "998")
        for t in range(200)
    ]
    text = "\n".join([";".join(row) for row in [("time", "a", "b", "c"), *rows]]) + "\n"
    path = tmp_path / "s.csv"
    path.write_text(text.replace(".", ",") if comma else text)
    found, recipe = begun(path, tmp_path)
    assert recipe["data"]["format_options"]["unknown"][-1] == "-9999"
    assert "'-9999'" in found["files"]["s.csv"]
    (record,) = through(path, recipe, tmp_path)
    assert np.flatnonzero(np.isnan(record.channels)).tolist() == [3 * t + 1 for t in range(0, 200, 40)]
    assert (tmp_path / "same.csv").read_bytes() == path.read_bytes()
    assert (tmp_path / "filled.csv").read_text() == path.read_text().replace("-9999", "9,00" if comma else "9.00")
    recipe["data"]["format_options"].pop("unknown")
    (record,) = through(path, recipe, tmp_path)
    assert not np.isnan(record.channels).any()
