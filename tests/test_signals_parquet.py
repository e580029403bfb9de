"""Signals in Parquet: recognized as such, and every kind of number read and written back by value."""

from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

import numpy as np
import pytest

from maskseq.errors import UsageError
from maskseq.survey import LIKELY, POSSIBLE, Head
from maskseq_signals.arrays import Npy
from maskseq_signals.cells import decimals_of_values
from maskseq_signals.parquet import SignalParquet

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

HOURS = [datetime(2024, 1, 1) + timedelta(hours=hour) for hour in range(48)]


def laid(folder, **columns):
    pq.write_table(pa.table(columns), folder / "x.parquet")
    return folder / "x.parquet"


def test_decimals_and_booleans_are_channels(tmp_path):
    on = [True, None, False, True]
    price = pa.array([Decimal("5.00"), Decimal("6.50"), None, Decimal("-7.25")], pa.decimal128(6, 2))
    path = laid(tmp_path, time=HOURS[:4], price=price, on=on, name=["a", "b", "c", "d"])
    (record,) = SignalParquet().read(path)
    assert record.names == ("price", "on")
    np.testing.assert_array_equal(record.channels, [[5, 1], [6.5, np.nan], [np.nan, 0], [-7.25, 1]])
    assert record.decimals == (2, 0)
    values = record.channels.copy()
    values[2, 0], values[1, 1] = 8.25, 0
    SignalParquet().write([replace(record, channels=values)], tmp_path / "y.parquet")
    before, after = pq.read_table(path), pq.read_table(tmp_path / "y.parquet")
    assert after.schema == before.schema
    assert after["price"].to_pylist() == [Decimal("5.00"), Decimal("6.50"), Decimal("8.25"), Decimal("-7.25")]
    assert after["on"].to_pylist() == [True, False, False, True]
    assert after["name"] == before["name"]
    values[2, 0] = 123456
    with pytest.raises(UsageError, match="'price'"):
        SignalParquet().write([replace(record, channels=values)], tmp_path / "z.parquet")
    assert not (tmp_path / "z.parquet").exists()


@pytest.mark.parametrize(
    ("values", "digits"),
    [
        (np.array([5, 6, np.nan, 9.0]), 0),
        (np.array([5.1, 6.25, 9]), 2),
        (np.array([5.1, 6.2, 9], np.float32), 1),
        (np.random.default_rng(0).normal(size=500), None),
        (np.random.default_rng(0).normal(size=500).round(7), 7),
        (np.append(np.arange(300.0), np.pi), None),
        (np.array([np.nan, np.nan]), None),
        (np.array([1e300, 0.5]), 1),
    ],
)
def test_digits_of_floats(values, digits, tmp_path):
    assert decimals_of_values(values) == digits
    (record,) = (
        SignalParquet().read(laid(tmp_path, time=HOURS[: len(values)], x=values)) if len(values) < 48 else [None]
    )
    assert record is None or record.digits == (digits,)
    np.save(tmp_path / "x.npy", values)
    (record,) = Npy().read(tmp_path / "x.npy")
    assert record.digits == (digits,)


def claim(path):
    found = SignalParquet.recognize(Head.of(path))
    return found and (found.strength, dict(found.options))


def test_tables_of_signals_are_recognized(tmp_path):
    values = np.sin(np.arange(48.0))
    assert claim(laid(tmp_path, time=HOURS, a=values, b=values)) == (LIKELY, {})
    assert claim(laid(tmp_path, t=list(range(48)), a=values)) == (LIKELY, {"time": "t"})
    assert claim(laid(tmp_path, a=values, b=values)) == (POSSIBLE, {})
    noted = laid(tmp_path, time=HOURS, a=values, note=["x", "y", "z"] * 16)
    assert claim(noted) == (POSSIBLE, {"channels": ["a"]})
    long = laid(tmp_path, time=HOURS[:24] * 2, station=["p"] * 24 + ["q"] * 24, a=values)
    assert claim(long) == (LIKELY, {"time": "time", "recording": "station"})
    assert {r.key for r in SignalParquet(time="time", recording="station").read(long)} == {"p", "q"}
    assert claim(laid(tmp_path, who=["x"] * 48, what=["y"] * 48)) is None
