"""Files that hold several recordings, one row a time step: CSV and Parquet, read and written back."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from maskseq.corpus.build import build_corpus
from maskseq.corpus.splits import SplitConfig
from maskseq.errors import DataError, UsageError
from maskseq_signals.delimited import SignalCsv
from maskseq_signals.parquet import SignalParquet
from maskseq_signals.tokenizer import QuantizeTokenizer

TEXT = (
    "patient,time,hr,temp\r\n"
    "B,09:00,70,36.60\r\n"
    "A,09:00,81,\r\n"
    "B,09:01,?,36.70\r\n"
    '"A",09:01,80,37.10\r\n'
    "\r\n"
    "B,09:02,72,36.80\r\n"
)


@pytest.fixture
def table_file(tmp_path):
    path = tmp_path / "wards.csv"
    path.write_bytes(TEXT.encode())
    return path


def filled(record):
    return replace(record, channels=np.where(np.isnan(record.channels), 7.0, record.channels))


@pytest.mark.filterwarnings("ignore:.*is neither date nor number:maskseq.errors.DataWarning")
def test_a_column_says_which_recording_a_row_is_of(table_file, tmp_path):
    reader = SignalCsv(recording="patient", time="time")
    b, a = reader.read(table_file)
    assert (b.key, b.names, b.times) == ("B", ("hr", "temp"), ("09:00", "09:01", "09:02"))
    np.testing.assert_array_equal(b.channels, [[70, 36.6], [np.nan, 36.7], [72, 36.8]])
    np.testing.assert_array_equal(a.channels, [[81, np.nan], [80, 37.1]])
    reader.write([b, a], tmp_path / "same.csv")
    assert (tmp_path / "same.csv").read_bytes() == TEXT.encode()
    reader.write([filled(b), filled(a)], tmp_path / "new.csv")
    expected = TEXT.replace("09:01,?", "09:01,7").replace("81,\r", "81,7.00\r")
    assert (tmp_path / "new.csv").read_bytes() == expected.encode()


@pytest.mark.filterwarnings("ignore:.*is neither date nor number:maskseq.errors.DataWarning")
def test_recordings_of_different_tables_are_not_written_as_one(table_file, tmp_path):
    reader = SignalCsv(recording="patient", time="time")
    other = tmp_path / "other.csv"
    other.write_bytes(TEXT.replace("70", "71").encode())
    with pytest.raises(UsageError, match="not read from one table"):
        reader.write([next(reader.read(table_file)), next(reader.read(other))], tmp_path / "x.csv")
    assert not (tmp_path / "x.csv").exists()
    with pytest.raises(UsageError, match="no column 'ward'"):
        list(SignalCsv(recording="ward").read(table_file))


@pytest.fixture
def frame():
    rng = np.random.default_rng(0)
    hr = [int(n) if n > 55 else None for n in rng.integers(50, 120, 40)]
    return pa.table(
        {
            "ward": pa.array(["north", "south"] * 20),
            "hr": pa.array(hr, pa.int16()),
            "temp": pa.array(rng.normal(37, 0.4, 40), pa.float32()),
            "when": pa.array(range(40), pa.timestamp("ms")),
            "note": pa.array(["x", None] * 20),
        }
    )


def test_parquet_is_read_by_recording_and_written_back_with_its_types(frame, tmp_path):
    path, back = tmp_path / "w.parquet", tmp_path / "back.parquet"
    parquet.write_table(frame, path)
    reader = SignalParquet(recording="ward", time="when", rate=0.5)
    records = list(reader.read(path))
    assert [(r.key, len(r), r.names, r.rate) for r in records] == [
        ("north", 20, ("hr", "temp"), 0.5),
        ("south", 20, ("hr", "temp"), 0.5),
    ]
    expected = frame.column("hr").to_pylist()[1::2]
    np.testing.assert_array_equal(records[1].channels[:, 0], [np.nan if v is None else v for v in expected])
    reader.write(records, back)
    assert parquet.read_table(back).equals(frame)
    reader.write([filled(record) for record in records], back)
    hr = [7 if value is None else value for value in frame.column("hr").to_pylist()]
    assert None in frame.column("hr").to_pylist()
    assert parquet.read_table(back).equals(frame.set_column(1, frame.schema.field("hr"), pa.array(hr, pa.int16())))


def test_one_recording_is_called_like_its_file(frame, tmp_path):
    parquet.write_table(frame, tmp_path / "icu.parquet")
    (record,) = SignalParquet(channels=("temp",)).read(tmp_path / "icu.parquet")
    assert (record.key, record.names, len(record)) == ("icu", ("temp",), 40)
    SignalParquet().write([record.cut(0, 5)], tmp_path / "new.parquet")
    (again,) = SignalParquet().read(tmp_path / "new.parquet")
    np.testing.assert_array_equal(again.channels, record.channels[:5])


def test_what_is_wrong_with_a_table_is_said(frame, tmp_path):
    path = tmp_path / "w.parquet"
    parquet.write_table(frame, path)
    with pytest.raises(DataError, match="column 'note': string, not numbers"):
        list(SignalParquet(channels=("note",)).read(path))
    with pytest.raises(UsageError, match="no column 'bed'"):
        list(SignalParquet(recording="bed").read(path))
    with pytest.raises(DataError, match="a row of no recording"):
        list(SignalParquet(recording="note").read(path))
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(DataError, match="not a readable Parquet file"):
        list(SignalParquet().read(path))
    with pytest.raises(DataError, match="no such file"):
        list(SignalParquet().read(tmp_path / "none.parquet"))
    parquet.write_table(frame.select(["ward", "note"]), path)
    with pytest.raises(DataError, match="no column of numbers"):
        list(SignalParquet().read(path))
    parquet.write_table(pa.table({"a": [1.0, np.inf]}), path)
    with pytest.raises(DataError, match="row 2, column 'a': the value is infinite"):
        list(SignalParquet().read(path))


def test_recordings_with_dates_are_split_by_time(tmp_path):
    path = tmp_path / "wards.csv"
    days = {"C": "03", "A": "01", "B": "02", "D": "04"}
    rows = [f"{key},2024-05-{day} 0{hour}:00,{hour ** int(day)}.5" for key, day in days.items() for hour in range(5)]
    path.write_text("\n".join(["ward,time,level", *rows]) + "\n")
    reader = SignalCsv(recording="ward", time="time")
    records = list(reader.read(path))
    assert records[1].span() == (1714521600.0, 1714521600.0 + 4 * 3600)
    assert records[1].cut(1, 3).span() == (1714521600.0 + 3600, 1714521600.0 + 2 * 3600)
    tokenizer = QuantizeTokenizer.fit(records, scheme="uniform", bins=8)
    split = SplitConfig(by="time", validation=0.25)
    corpus = build_corpus([path], output=tmp_path / "corpus", tokenizer=tokenizer, format=reader, split=split)
    assert [corpus.key(i) for i in corpus.sequences("validation")] == ["D"]


@pytest.mark.filterwarnings("ignore:.*is neither date nor number:maskseq.errors.DataWarning")
def test_times_that_are_no_dates_give_no_span(table_file):
    assert next(SignalCsv(recording="patient", time="time").read(table_file)).span() is None
