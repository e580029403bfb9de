"""Event logs in JSON Lines, Parquet and MEDS: the same cases as in CSV, and only what was filled differs."""

import gzip
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from itertools import islice

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maskseq.errors import DataError, MaskseqError, UsageError
from maskseq.survey import Head
from maskseq_events.case import ABSENT_TIME, UNKNOWN, UNKNOWN_TIME
from maskseq_events.delimited import Csv
from maskseq_events.jsonlines import JsonLines
from maskseq_events.parquet import Meds, Parquet
from maskseq_events.tokenizer import EventTokenizer
from maskseq_signals.parquet import SignalParquet

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

LINES = """
{"case": 7, "activity": "register", "time": "2024-01-01T09:00:00Z", "room": "1", "amount": 5, "ok": true}
{"case": 7, "activity": "?", "time": null, "room": "?", "amount": 12.50, "tags": ["a",  "b"]}

  {"case":"NA","activity":"r\\u00e9gister","time":"2024-01-01T10:00:00.25+02:00","room":null}
{}
""".replace(
    "{}\n", '{"activity": "leave", "room": "x, \\"y\\"", "amount": "?", "case": 7, "time": "2024-01-03T00:00:00Z"}\n'
)


def test_cases_are_as_their_objects_say(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text(LINES)
    seven, na = JsonLines().read(path)
    assert (seven.key, na.key) == ("7", "NA")
    assert (seven.activity, na.activity) == (("register", UNKNOWN, "leave"), ("régister",))
    assert seven.attributes == {
        "room": ("1", UNKNOWN, 'x, "y"'),
        "amount": ("5", "12.5", UNKNOWN),
        "ok": ("true", None, None),
        "tags": (None, '["a","b"]', None),
    }
    assert na.attributes["room"] == (None,)
    assert seven.time[1] == UNKNOWN_TIME
    assert na.offset.tolist() == [7200]
    JsonLines().write([seven, na], tmp_path / "again.jsonl.gz")
    assert gzip.decompress((tmp_path / "again.jsonl.gz").read_bytes()).decode() == LINES


def test_only_what_was_filled_differs_in_the_lines(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text(LINES)
    seven, na = JsonLines().read(path)
    filled = replace(
        seven,
        activity=("register", 'say "x"', "leave"),
        time=np.array([seven.time[0], seven.time[0] + 1_000_000, seven.time[2]]),
        attributes=seven.attributes
        | {"room": ("1", "2", 'x, "y"'), "ok": ("true", None, "false"), "amount": ("6", None, "3")},
    )
    JsonLines().write([filled, na], tmp_path / "filled.jsonl")
    expected = (
        LINES.replace(
            '"?", "time": null, "room": "?", "amount": 12.50',
            '"say \\"x\\"", "time": "2024-01-01T09:00:01Z", "room": "2", "amount": null',
        )
        .replace('"amount": 5', '"amount": 6')
        .replace('"amount": "?"', '"amount": 3')
        .replace('"time": "2024-01-03T00:00:00Z"', '"time": "2024-01-03T00:00:00Z", "ok": false')
    )
    assert (tmp_path / "filled.jsonl").read_text() == expected
    assert next(JsonLines().read(tmp_path / "filled.jsonl")).attributes["room"] == ("1", "2", 'x, "y"')


def test_a_log_of_numbers_keeps_its_numbers(tmp_path):
    path = tmp_path / "log.jsonl"
    rows = [{"case": "a", "activity": f"x{i % 3}", "time": 1_700_000_000 + i, "cost": i / 4} for i in range(50)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (case,) = JsonLines(time_layout="epoch_s").read(path)
    assert case.kinds == {"cost": "numeric"}
    assert case.time.tolist() == [row["time"] * 1_000_000 for row in rows]
    filled = replace(case, time=case.time + 60_000_000, attributes={"cost": ("9.5",) * 50})
    JsonLines(time_layout="epoch_s").write([filled], tmp_path / "filled.jsonl")
    again = [json.loads(line) for line in (tmp_path / "filled.jsonl").read_text().splitlines()]
    assert again == [row | {"time": row["time"] + 60, "cost": 9.5} for row in rows]


values = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5)
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.fixed_dictionaries(
            {"case": st.sampled_from("ab"), "activity": st.sampled_from("xyz"), "n": values}, optional={"m": values}
        ),
        min_size=1,
        max_size=8,
    ),
    st.booleans(),
    st.sampled_from([(",", ":"), (", ", ": "), (" ,\t", " :")]),
    st.sampled_from(["\n", "\r\n", "\n\n \n"]),
)
def test_any_lines_come_back_byte_for_byte(tmp_path, rows, ascii_only, separators, end):
    text = "".join(json.dumps(row, ensure_ascii=ascii_only, separators=separators) + end for row in rows)
    path = tmp_path / "log.jsonl"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    if any(0xD800 <= ord(c) < 0xE000 for c in text):
        return
    cases = list(JsonLines(time="").read(path))
    JsonLines().write(cases, tmp_path / "again.jsonl")
    assert (tmp_path / "again.jsonl").read_bytes() == path.read_bytes()
    renamed = [replace(case, activity=("new",) * len(case)) for case in cases]
    JsonLines().write(renamed, tmp_path / "new.jsonl")
    lines = (tmp_path / "new.jsonl").read_bytes().decode().split("\n")
    assert [json.loads(line) for line in lines if line.strip()] == [row | {"activity": "new"} for row in rows]


BROKEN_LINES = [
    ("empty", b"", "no events"),
    ("blank", b"\n\n", "no events"),
    ("not JSON", b'{"case": 1}\n{"case": 1,}\n', "line 2, column 12: not valid JSON"),
    ("cut short", b'{"case": "a", "activity": "x", "ti', "line 1, column .*not valid JSON"),
    ("no object", b"[1, 2]\n", "line 1: a line must be one object"),
    ("NaN", b'{"case": 1, "activity": "x", "time": NaN}', "line 1: not valid JSON: NaN"),
    ("endless nesting", b'{"case": ' + b"[" * 200_000, "line 1: not valid JSON|line 1, column"),
    ("wrong encoding", '{"case": "é"}'.encode("latin-1"), "line 1: byte 0xe9 is not utf-8"),
    ("no activity", b'{"case": 1, "time": "2024-01-01"}\n', "which column is the activity"),
    ("no case", b'{"case": 1, "activity": "x", "time": "2024-01-01"}\n{"activity": "x"}\n', "line 2: no case id"),
    ("not a time", b'{"case": 1, "activity": "x", "time": "soon"}\n', "line 1, column 'time': 'soon' is not"),
    ("a number as time", b'{"case": 1, "activity": "x", "time": 1700000000}\n', "line 1, column 'time'.*epoch_s"),
    ("gzip cut short", gzip.compress(LINES.encode() * 100)[:-30], "cut short"),
]


@pytest.mark.parametrize(("content", "message"), [b[1:] for b in BROKEN_LINES], ids=[b[0] for b in BROKEN_LINES])
def test_damaged_lines_end_in_one_clear_line(tmp_path, content, message):
    path = tmp_path / "log.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        list(JsonLines().read(path))
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


# Parquet


def table(**changes):
    start = datetime(2024, 1, 1, 9, tzinfo=UTC)
    columns = {
        "case": pa.array([1, 1, 2, 1], pa.int64()),
        "activity": pa.array(["a", "?", "b", None]).dictionary_encode(),
        "time": pa.array(
            [start, None, start + timedelta(days=200), start + timedelta(1)], pa.timestamp("ns", "Europe/Rome")
        ),
        "cost": pa.array([1.5, None, float("nan"), 2.0], pa.float32()),
        "price": pa.array([Decimal("1.10"), None, None, Decimal("2.00")], pa.decimal128(9, 2)),
        "ok": pa.array([True, False, None, None]),
        "room": pa.array(["x", "?", None, "y"]),
        "day": pa.array([start.date()] * 4, pa.date32()),
    }
    return pa.table(columns | changes)


def write(tmp_path, content, name="log.parquet"):
    pq.write_table(content.replace_schema_metadata({"who": "me"}), tmp_path / name)
    return tmp_path / name


def test_cases_are_as_their_rows_say(tmp_path):
    one, two = Parquet().read(write(tmp_path, table()))
    assert (one.key, two.key) == ("1", "2")
    assert one.activity == ("a", UNKNOWN, UNKNOWN)
    start = datetime(2024, 1, 1, 9, tzinfo=UTC)
    assert [int(t) for t in one.time] == [
        round(start.timestamp() * 1e6),
        UNKNOWN_TIME,
        round((start + timedelta(1)).timestamp() * 1e6),
    ]
    assert (one.offset.tolist(), two.offset.tolist()) == ([3600, 0, 3600], [7200])
    assert dict(one.attributes) == {
        "cost": ("1.5", None, "2.0"),
        "price": ("1.10", None, "2.00"),
        "ok": ("true", "false", None),
        "room": ("x", UNKNOWN, "y"),
        "day": ("2024-01-01T00:00:00.000000",) * 3,
    }
    assert two.attributes["cost"] == (None,)
    assert one.kinds == {"cost": "numeric", "price": "numeric"}
    (unknown, _) = Parquet(empty_unknown=("cost",)).read(tmp_path / "log.parquet")
    assert unknown.attributes["cost"] == ("1.5", UNKNOWN, "2.0")


def test_an_untouched_table_comes_back_equal_with_types_and_metadata(tmp_path):
    path = write(tmp_path, table())
    Parquet().write(Parquet().read(path), tmp_path / "again.parquet")
    again, source = pq.read_table(tmp_path / "again.parquet"), pq.read_table(path)
    assert again.schema.equals(source.schema, check_metadata=True)
    assert again.drop_columns(["cost"]).equals(source.drop_columns(["cost"]))
    np.testing.assert_array_equal(again["cost"].to_numpy(), source["cost"].to_numpy())


def test_only_what_was_filled_differs_in_the_table(tmp_path):
    path = write(tmp_path, table())
    one, two = Parquet().read(path)
    filled = replace(
        one,
        activity=("a", "new", "b"),
        time=np.array([one.time[0], one.time[0] + 7_000_000, one.time[2]]),
        attributes=one.attributes
        | {"cost": ("1.5", "0.25", None), "ok": ("true", "true", UNKNOWN), "room": ("x", "z", None)},
    )
    Parquet().write([two, filled], tmp_path / "filled.parquet")
    again, source = pq.read_table(tmp_path / "filled.parquet"), pq.read_table(path)
    assert again.schema.equals(source.schema, check_metadata=True)
    assert again["activity"].to_pylist() == ["a", "new", "b", "b"]
    moment = datetime(2024, 1, 1, 10, 0, 7, tzinfo=timezone(timedelta(hours=1)))
    assert again["time"].cast(pa.timestamp("us", "UTC")).to_pylist()[1] == moment
    assert again["cost"].is_null().to_pylist() == [False, False, False, True]
    assert again["cost"].to_pylist()[:2] == [1.5, 0.25]
    assert again["ok"].to_pylist() == [True, True, None, None]
    assert again["room"].to_pylist() == ["x", "z", None, None]
    for name in ("case", "price", "day"):
        assert again[name].equals(source[name])


@pytest.mark.parametrize(("format", "name"), [(Parquet(), "log.parquet"), (JsonLines(), "log.jsonl")])
def test_a_log_copied_from_csv_is_the_same_log(shared_data, tmp_path, format, name):
    cases = islice(Csv().read(shared_data / "events/sepsis.csv"), 100)
    source = [replace(case, origin=None) for case in cases]
    format.write(source, tmp_path / name)
    assert list(format.read(tmp_path / name)) == source


def test_filled_rows_come_from_the_file_that_was_read(tmp_path):
    path = write(tmp_path, table())
    cases = list(Parquet().read(path))
    write(tmp_path, table(room=pa.array(["a", "b", "c", "d"])))
    with pytest.raises(DataError, match="has changed since"):
        Parquet().write(cases, tmp_path / "again.parquet")


def test_a_value_that_does_not_fit_its_column_is_said(tmp_path):
    one, two = Parquet().read(write(tmp_path, table()))
    odd = replace(one, attributes=one.attributes | {"cost": ("much", "0.25", None)})
    with pytest.raises(DataError, match="column 'cost': 'much' does not fit its type float"):
        Parquet().write([odd, two], tmp_path / "again.parquet")


@pytest.mark.parametrize("kind", [pa.timestamp("us"), pa.string()])
def test_meds_static_rows_have_no_time_and_stand_first(tmp_path, kind):
    rows = pa.table(
        {
            "subject_id": pa.array([12, 12, 12, 5], pa.int64()),
            "time": pa.array([datetime(2020, 1, 2), None, datetime(2020, 1, 1), None], pa.timestamp("us")).cast(kind),
            "code": ["LAB//crp", "GENDER//F", "ADMISSION", "GENDER//M"],
            "numeric_value": pa.array([3.5, None, None, None], pa.float32()),
        }
    )
    pq.write_table(rows, tmp_path / "0.parquet")
    twelve, five = Meds().read(tmp_path / "0.parquet")
    assert (twelve.key, twelve.activity) == ("12", ("GENDER//F", "ADMISSION", "LAB//crp"))
    assert (twelve.time[0], five.time[0]) == (ABSENT_TIME, ABSENT_TIME)
    assert twelve.attributes["numeric_value"] == (None, None, "3.5")
    tokenizer = EventTokenizer.fit([twelve, five], attributes=["numeric_value"], min_count=1)
    tokens = [field.token(int(i)) for field, i in zip(tokenizer.fields, tokenizer.encode(twelve).ids[0], strict=True)]
    assert tokens == ["GENDER//F", "[ABSENT]", "[ABSENT]", "[ABSENT]", "[ABSENT]"]
    Meds().write([twelve, five], tmp_path / "again.parquet")
    assert pq.read_table(tmp_path / "again.parquet").equals(rows)
    masked = np.zeros((4, 5), dtype=bool)
    masked[0, -3:] = masked[1, -3] = True
    ids = tokenizer.encode(twelve).ids
    forgotten = replace(twelve, time=np.where([True, False, False], UNKNOWN_TIME, twelve.time))
    filled = tokenizer.splice(forgotten, ids, masked)
    assert filled.time.tolist() == twelve.time.tolist()


def test_a_fact_of_meds_that_is_found_to_be_one_is_written_without_time(tmp_path):
    times = ["?", "2020-01-01T00:00:00", None, "2020-01-02T00:00:00"]
    rows = pa.table(
        {
            "subject_id": pa.array([1, 1, 2, 2], pa.int64()),
            "time": pa.array(times),
            "code": ["F", "A", "F", "A"],
            "numeric_value": pa.array([None, 1.5, None, 2.5], pa.float32()),
        }
    )
    pq.write_table(rows, tmp_path / "0.parquet")
    one, two = Meds().read(tmp_path / "0.parquet")
    tokenizer = EventTokenizer.fit([one, two], min_count=1)
    masked = np.zeros((3, 4), dtype=bool)
    masked[0, -3:] = masked[1, -3] = True
    Meds().write([tokenizer.splice(one, tokenizer.encode(two).ids, masked), two], tmp_path / "again.parquet")
    assert pq.read_table(tmp_path / "again.parquet")["time"].to_pylist() == [None, *times[1:]]


def exotic():
    """Columns of types that have no Python value, no text, or none that is a name."""
    offsets, bad = pa.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0"), pa.py_buffer(b"\xff\xfe")
    columns = {
        "binary": pa.array([b"\xff\xfe", b"x"]),
        "fixed": pa.array([b"\xff\xfe", b"ab"], pa.binary(2)),
        "duration": pa.array([2**62, None], pa.duration("s")),
        "nanoseconds": pa.array([1, None], pa.time64("ns")),
        "zone": pa.array([1, None], pa.timestamp("us", "Nowhere/Here")),
        "nested": pa.array([{"a": 1}, None], pa.struct([("a", pa.timestamp("ns"))])),
        "codes": pa.array([b"\xff", None]).dictionary_encode(),
        "map": pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int32())),
        "views": pa.array(["a", None], pa.string_view()),
        "no text": pa.Array.from_buffers(pa.string(), 2, [None, offsets, bad]),
        "nothing": pa.nulls(2),
        "bad.name": pa.array([[b"\xff"], None]),
    }
    return [pytest.param(name, column, id=name) for name, column in columns.items()]


@pytest.mark.filterwarnings("ignore:.*have no text")
@pytest.mark.parametrize(("name", "column"), exotic())
def test_a_column_that_is_not_asked_for_may_be_of_any_type(tmp_path, name, column):
    plain = {"case": ["a", "a"], "activity": ["x", "?"], "time": ["2024-01-01", "2024-01-02"], "room": ["1", "2"]}
    path = write(tmp_path, pa.table({**plain, name: column}))
    claim = Parquet.recognize(Head.of(path))
    assert "'case', 'activity', 'time'" in claim.why
    for options in ({}, {"attributes": ("room",)}):
        (case,) = Parquet(**options).read(path)
        assert (case.activity, case.attributes["room"]) == (("x", UNKNOWN), ("1", "2"))
        Parquet(**options).write([replace(case, activity=("x", "y"))], tmp_path / "new.parquet")
        expected = pa.table({**plain, "activity": ["x", "y"], name: column})
        assert pq.ParquetFile(tmp_path / "new.parquet").read().equals(expected)


def test_a_value_without_a_text_is_named_where_it_is_asked_for_and_left_out_with_a_warning_else(tmp_path):
    columns = {"case": ["a", "a"], "activity": ["x", "y"], "time": ["2024-01-01"] * 2, "odd": [b"\xff", b"fine"]}
    path = write(tmp_path, pa.table(columns))
    with pytest.raises(DataError, match="column 'odd'"):
        list(Parquet(attributes=("odd",)).read(path))
    with pytest.warns(UserWarning, match="'odd'"):
        (case,) = Parquet().read(path)
    assert case.attributes["odd"] == (None, "fine")


def test_names_that_occur_twice_matter_only_where_they_are_asked_for(tmp_path):
    names = ["case", "activity", "time", "room", "room"]
    rows = pa.table([["a"], ["x"], ["2024-01-01"], ["1"], ["?"]], names=names)
    path = write(tmp_path, rows)
    (case,) = Parquet().read(path)
    assert case.attributes == {"room": ("1",), "room#2": (UNKNOWN,)}
    filled = replace(case, attributes={"room": ("1",), "room#2": ("2",)})
    Parquet().write([filled], tmp_path / "new.parquet")
    new = pq.ParquetFile(tmp_path / "new.parquet").read()
    assert (new.column_names, new.column(3).to_pylist(), new.column(4).to_pylist()) == (names, ["1"], ["2"])
    signals = pa.table([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], names=["u", "v", "v"])
    (record,) = SignalParquet(channels=("u",)).read(write(tmp_path, signals))
    SignalParquet().write([replace(record, channels=record.channels + 1)], tmp_path / "new.parquet")
    assert [c.to_pylist() for c in pq.ParquetFile(tmp_path / "new.parquet").read().columns] == [[2, 3], [3, 4], [5, 6]]
    with pytest.raises(DataError, match="'v' occurs twice"):
        list(SignalParquet().read(write(tmp_path, signals)))


def good(tmp_path):
    return write(
        tmp_path,
        pa.table({"case": ["a"] * 5000, "activity": [f"x{i}" for i in range(5000)], "time": ["2024-01-01"] * 5000}),
    ).read_bytes()


def flipped(content, at):
    return content[:at] + bytes(255 - b for b in content[at : at + 64]) + content[at + 64 :]


BROKEN_TABLES = [
    ("empty file", lambda t: b"", {}, "not a readable Parquet file"),
    ("text", lambda t: b"case,activity\n", {}, "not a readable Parquet file"),
    ("only the magic", lambda t: b"PAR1", {}, "not a readable Parquet file"),
    ("cut short", lambda t: good(t)[:-50], {}, "not a readable Parquet file"),
    ("footer damaged", lambda t: flipped(good(t), len(good(t)) - 200), {}, "."),
    ("data damaged", lambda t: flipped(good(t), 40), {}, "after row 0|."),
    ("no such column", lambda t: good(t), {"time": "when"}, "no column 'when'"),
    (
        "no case column",
        lambda t: write(t, table().rename_columns(["fall", *table().column_names[1:]])).read_bytes(),
        {},
        "which column is the case",
    ),
    (
        "no time column",
        lambda t: write(t, table().drop_columns(["time", "day"])).read_bytes(),
        {},
        "which column is the time",
    ),
    ("null case", lambda t: write(t, table(case=pa.array([1, None, 2, 1]))).read_bytes(), {}, "row 2: no case id"),
    (
        "a number as time",
        lambda t: write(t, table(time=pa.array([1_700_000_000] * 4))).read_bytes(),
        {},
        "row 1, column 'time'.*epoch_s",
    ),
    (
        "not a time",
        lambda t: write(t, table(time=pa.array(["2024-01-01", "x", "", None]))).read_bytes(),
        {},
        "row 2, column 'time': 'x'",
    ),
    ("no rows", lambda t: write(t, table().slice(0, 0)).read_bytes(), {}, "no events"),
    (
        "a name twice",
        lambda t: write(t, pa.table([["a"]] * 3, names=["case", "case", "activity"])).read_bytes(),
        {"time": ""},
        "occurs twice",
    ),
]


@pytest.mark.parametrize(
    ("content", "options", "message"), [b[1:] for b in BROKEN_TABLES], ids=[b[0] for b in BROKEN_TABLES]
)
def test_damaged_tables_end_in_one_clear_line(tmp_path, content, options, message):
    path = tmp_path / "broken.parquet"
    path.write_bytes(content(tmp_path))
    with pytest.raises(MaskseqError, match=message) as caught:
        list(Parquet(**options).read(path))
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_without_pyarrow_the_extra_is_named(monkeypatch, tmp_path):
    from maskseq_events import parquet_rows

    def absent(name):
        raise ImportError(name)

    path = write(tmp_path, table())
    parquet_rows.arrow.cache_clear()
    monkeypatch.setattr(parquet_rows, "import_module", absent)
    with pytest.raises(UsageError, match=r"maskseq\[events\]"):
        list(Parquet().read(path))
    monkeypatch.undo()
    parquet_rows.arrow.cache_clear()
