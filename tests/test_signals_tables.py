"""Signals in CSV and NumPy files: read as they are meant, and written back to the byte."""

import gzip
from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskseq.errors import DataError, UsageError
from maskseq.survey import Head
from maskseq_signals.arrays import Npy, Npz
from maskseq_signals.cells import number_text, shown_decimals
from maskseq_signals.clock import clock
from maskseq_signals.delimited import SignalCsv
from maskseq_signals.recording import Recording


def read(path, **options):
    (record,) = SignalCsv(**options).read(path)
    return record


def text_file(tmp_path, text, name="s.csv"):
    path = tmp_path / name
    path.write_bytes(text.encode())
    return path


def test_co2_is_read_as_it_is_meant(samples):
    co2 = read(samples / "co2.csv")
    assert (co2.key, co2.names, co2.decimals, len(co2)) == ("co2", ("co2",), (1,), 2284)
    assert co2.times[:2] == ("19580329", "19580405")
    assert co2.channels[:2, 0].tolist() == [316.1, 317.3]
    assert np.isnan(co2.channels).sum() == 59


@pytest.mark.parametrize("name", ["ETTh1.csv", "co2.csv", "sunspots.csv"])
def test_untouched_files_come_back_byte_for_byte(name, shared_data, tmp_path):
    path = shared_data / "signals" / name
    SignalCsv().write(SignalCsv().read(path), tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_bytes() == path.read_bytes()


def test_only_changed_cells_are_rewritten(shared_data, tmp_path):
    path = shared_data / "signals" / "ETTh1.csv"
    record = read(path)
    values = record.channels.copy()
    values[17, 2], values[17, 6], values[500, 0] = 1.25, np.nan, -3.0
    SignalCsv().write([replace(record, channels=values)], tmp_path / "out.csv")
    before, after = path.read_text().splitlines(), (tmp_path / "out.csv").read_text().splitlines()
    changed = {i for i, (a, b) in enumerate(zip(before, after, strict=True)) if a != b}
    assert changed == {18, 501}
    cells = before[18].split(",")
    cells[3], cells[7] = "1.25", ""
    assert after[18] == ",".join(cells)
    assert after[501].split(",")[1] == "-3"
    assert np.array_equal(read(tmp_path / "out.csv").channels, values, equal_nan=True)


def test_a_column_of_fixed_decimals_keeps_them(samples, tmp_path):
    co2 = read(samples / "co2.csv")
    values = np.where(np.isnan(co2.channels), 320.0, co2.channels)
    SignalCsv().write([replace(co2, channels=values)], tmp_path / "out.csv")
    expected = [
        line + "320.0" if line.endswith(",") else line for line in (samples / "co2.csv").read_text().split("\n")
    ]
    assert (tmp_path / "out.csv").read_text() == "\n".join(expected)


AWKWARD = (
    '\ufeff"time";"a ""x""";b\r\n\r\n"2020;01";1,5;2.50\r\n'.replace("1,5", "1.5")
    + "2020-02;?;NaN\r\n\r\n2020-03; 7 ;1e-3"
)


@pytest.mark.filterwarnings("ignore:.*is neither date nor number:maskseq.errors.DataWarning")
def test_quotes_blank_lines_and_missing_line_ends_are_kept(tmp_path):
    path = text_file(tmp_path, AWKWARD)
    record = read(path)
    assert record.names == ('a "x"', "b")
    assert record.times == ("2020;01", "2020-02", "2020-03")
    assert np.array_equal(record.channels, [[1.5, 2.5], [np.nan, np.nan], [7, 0.001]], equal_nan=True)
    SignalCsv().write([record], tmp_path / "same.csv")
    assert (tmp_path / "same.csv").read_bytes() == AWKWARD.encode()
    filled = replace(record, channels=np.where(np.isnan(record.channels), 4.0, record.channels))
    SignalCsv().write([filled], tmp_path / "filled.csv")
    assert (tmp_path / "filled.csv").read_bytes() == AWKWARD.replace("?;NaN", "4;4").encode()


def test_gzip_is_read_and_written_reproducibly(tmp_path):
    path = tmp_path / "s.csv.gz"
    path.write_bytes(gzip.compress(b"t,x\n1,2\n2,3\n"))
    record = read(path)
    assert (record.key, record.channels[:, 0].tolist()) == ("s", [2, 3])
    for name in ("a.csv.gz", "b.csv.gz"):
        SignalCsv().write([record], tmp_path / name)
    assert (tmp_path / "a.csv.gz").read_bytes() == (tmp_path / "b.csv.gz").read_bytes()
    assert gzip.decompress((tmp_path / "a.csv.gz").read_bytes()) == b"t,x\n1,2\n2,3\n"


def test_tables_without_header_or_time(tmp_path):
    record = read(text_file(tmp_path, "1\t2\n3\t4\n"))
    assert (record.names, record.times) == (("channel_1", "channel_2"), None)
    assert record.channels.tolist() == [[1, 2], [3, 4]]
    assert read(text_file(tmp_path, "x,x\n1,2\n")).names == ("x", "x#2")
    assert read(text_file(tmp_path, "date,x\n1,2\n"), time="").names == ("date", "x")
    assert read(text_file(tmp_path, "x,when,y\n1,a,2\n"), time="when").names == ("x", "y")
    assert read(text_file(tmp_path, "when,x,y\nnoon,1,2\n"), channels=("y",)).channels.tolist() == [[2]]


def test_a_recording_from_elsewhere_becomes_a_new_table(tmp_path):
    record = Recording(key="r", channels=np.array([[1.5, np.nan], [0.1, 3]]), names=("a", "b"), decimals=(2, None))
    SignalCsv().write([record], tmp_path / "new.csv")
    assert (tmp_path / "new.csv").read_text() == "step,a,b\n0,1.50,\n1,0.10,3\n"


@pytest.mark.parametrize(
    ("text", "reported"),
    [
        ("", "the file is empty"),
        ("\n\n", "the file is empty"),
        ("time,x\n", "there is a header but no row of values"),
        ("time,x\na,1\nb\n", "line 3: 1 cells, but the first line has 2"),
        ("time,x\na,1\nb,high\n", "line 3, column 'x': 'high' is no finite number"),
        ("time\na\n", "there is no column of values beside 'time'"),
    ],
)
def test_broken_tables_are_told(text, reported, tmp_path):
    with pytest.raises(DataError, match=reported):
        read(text_file(tmp_path, text))


def test_wrong_columns_and_bytes_are_told(tmp_path):
    path = text_file(tmp_path, "t,x\n1,2\n")
    with pytest.raises(UsageError, match="has no column 'y'\n\nhint: it has t, x"):
        read(path, channels=("y",))
    with pytest.raises(UsageError, match="has no column 'y'"):
        read(path, time="y")
    path.write_bytes(b"t,x\n1,2\n\xff\n")
    with pytest.raises(DataError, match="line 3: byte 0xff is not utf-8"):
        read(path)
    with pytest.raises(DataError, match="no such file"):
        read(tmp_path / "none.csv")


@given(st.floats(allow_nan=False, allow_infinity=False), st.one_of(st.none(), st.integers(0, 20)))
def test_written_numbers_read_back_the_same(value, decimals):
    assert float(number_text(value, decimals)) == value


def test_decimals_of_a_text():
    texts = {"3": 0, "3.10": 2, "-0.5": 1, "1.5e-3": 4, "1.25E2": 0, "2e5": 0}
    assert {text: shown_decimals(text) for text in texts} == texts


@pytest.mark.parametrize("dtype", ["float32", "float64", "int16", ">f4"])
@pytest.mark.parametrize("shape", [(20,), (20, 3)])
def test_npy_comes_back_byte_for_byte(dtype, shape, tmp_path):
    array = np.random.default_rng(0).normal(size=shape) * 100
    array = np.asfortranarray(array.astype(dtype))
    np.save(tmp_path / "s.npy", array)
    (record,) = Npy(rate=50.0).read(tmp_path / "s.npy")
    assert (record.key, record.rate, len(record)) == ("s", 50.0, 20)
    assert np.array_equal(record.channels, array.reshape(20, -1))
    Npy().write([record], tmp_path / "t.npy")
    assert (tmp_path / "t.npy").read_bytes() == (tmp_path / "s.npy").read_bytes()


def test_npz_holds_several_recordings(tmp_path):
    first, second = np.array([1, np.nan, 3], dtype=np.float32), np.arange(8.0).reshape(4, 2)
    np.savez(tmp_path / "s.npz", first=first, second=second)
    records = list(Npz().read(tmp_path / "s.npz"))
    assert [(record.key, record.channels.shape) for record in records] == [("first", (3, 1)), ("second", (4, 2))]
    filled = replace(records[0], channels=np.array([[1.0], [2.5], [3.0]]))
    Npz().write([filled, records[1]], tmp_path / "t.npz")
    with np.load(tmp_path / "t.npz") as back:
        assert back["first"].dtype == np.float32
        assert back["first"].tolist() == [1, 2.5, 3]
        assert np.array_equal(back["second"], second)


def test_broken_arrays_are_told(tmp_path):
    np.save(tmp_path / "cube.npy", np.zeros((2, 2, 2)))
    np.save(tmp_path / "objects.npy", np.array([{}, []], dtype=object), allow_pickle=True)
    np.save(tmp_path / "wide.npy", np.zeros((2, 500)))
    (tmp_path / "no.npy").write_bytes(b"not an array")
    whole = (tmp_path / "wide.npy").read_bytes()
    (tmp_path / "cut.npy").write_bytes(whole[:-7])
    reported = {
        "cube": "shape",
        "objects": "no NumPy file, or a damaged one .*pickle",
        "no": "no NumPy file",
        "cut": "no NumPy file, or a damaged one",
    }
    for name, problem in reported.items():
        with pytest.raises(DataError, match=problem):
            list(Npy().read(tmp_path / f"{name}.npy"))
    with pytest.raises(DataError, match="transpose it"):
        list(Npy(names=("a", "b")).read(tmp_path / "wide.npy"))


GERMAN = "Zeit;Druck;Notiz;Leer\n" + "".join(
    f"{date(2024, 1, 1) + timedelta(days=i):%d.%m.%Y} 00:00;{i},{i % 10}0;x;\n" for i in range(60)
)


def test_decimal_commas_are_read_and_written(tmp_path):
    path = tmp_path / "s.csv"
    path.write_text(GERMAN.replace(";7,70;", ";;"))
    claim = SignalCsv.recognize(Head.of(path))
    assert claim.options == {"decimal": ",", "channels": ["Druck"]}
    assert claim.why.endswith("times in 'Zeit' (with decimal commas); 'Notiz', 'Leer' left out")
    reader = SignalCsv(decimal=",", channels=("Druck",))
    (record,) = reader.read(path)
    assert record.channels[[3, 59], 0].tolist() == [3.3, 59.9]
    assert np.isnan(record.channels[7, 0])
    assert clock([record], 20)["time step"] == "86,400 s throughout"
    reader.write([record], tmp_path / "same.csv")
    assert (tmp_path / "same.csv").read_text() == path.read_text()
    values = record.channels.copy()
    values[7] = 7.7
    reader.write([replace(record, channels=values)], tmp_path / "filled.csv")
    assert (tmp_path / "filled.csv").read_text() == GERMAN
    reader.write([replace(record, channels=values, origin=None)], tmp_path / "new.csv")
    assert "28.01.2024 00:00;27,70\n" in (tmp_path / "new.csv").read_text()


def test_a_header_of_windows_is_understood(tmp_path):
    (tmp_path / "s.csv").write_bytes("t;Temperatur °C\n0;1,5\n1;2,5\n2;3,5\n".encode("cp1252"))
    claim = SignalCsv.recognize(Head.of(tmp_path / "s.csv"))
    assert claim.options == {"decimal": ",", "encoding": "cp1252"}
    assert claim.why.endswith("taken for cp1252 (Western European)")
    assert read(tmp_path / "s.csv", **claim.options).names == ("Temperatur °C",)


def test_a_decimal_sign_is_no_delimiter_and_a_thousands_point_no_number(tmp_path):
    with pytest.raises(UsageError, match="both the delimiter and the decimal sign"):
        SignalCsv(delimiter=",", decimal=",")
    (tmp_path / "s.csv").write_text("0,5;1,5\n1,5;1.002,5\n")
    with pytest.raises(DataError, match="line 2, column 'channel_2'"):
        list(SignalCsv(decimal=",").read(tmp_path / "s.csv"))


def test_a_recording_of_a_known_rate_is_written_with_seconds(tmp_path):
    record = Recording(key="s", channels=np.array([[1.0], [2.5], [3.0]]), names=("u",), rate=360.0, decimals=(1,))
    SignalCsv().write([record], tmp_path / "s.csv")
    assert (tmp_path / "s.csv").read_text() == "time,u\n0,1.0\n0.00277777778,2.5\n0.00555555556,3.0\n"
