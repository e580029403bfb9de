"""Event tables: cases as their rows say, files byte for byte again, and one clear line for whatever is broken."""

import csv
import gzip
import io
import pickle
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from itertools import zip_longest
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maskseq.errors import DataError, MaskseqError, UsageError
from maskseq_events.case import UNKNOWN, UNKNOWN_TIME, Case, time_order
from maskseq_events.delimited import Csv
from maskseq_events.grouping import group_rows
from maskseq_events.sessions import Sessions
from maskseq_events.times import TimeLayout

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LOG = """case,activity,time,room,amount
a,register,2024-01-01 09:00:00,1,
a,triage,2024-01-01 09:05:00,?,12.5
NA,register,2024-01-01 09:01:00,2,
a,leave,2024-01-02 10:00:00,,7
NA,?,?,2,?
NA,leave,2024-01-03 10:00:00,NA,3
"""


def read(tmp_path, text, name="log.csv", **options):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return list(Csv(**options).read(path))


def test_cases_are_as_their_rows_say(tmp_path):
    first, second = read(tmp_path, LOG)
    assert (first.key, second.key) == ("a", "NA")  # a case called "NA" is a case
    assert first.activity == ("register", "triage", "leave")
    assert second.activity == ("register", UNKNOWN, "leave")
    assert first.attributes == {"room": ("1", UNKNOWN, None), "amount": (None, "12.5", "7")}
    assert second.attributes["room"] == ("2", "2", "NA")
    assert second.time[1] == UNKNOWN_TIME
    assert [EPOCH + timedelta(microseconds=int(t)) for t in first.time] == [
        datetime(2024, 1, 1, 9, tzinfo=UTC),
        datetime(2024, 1, 1, 9, 5, tzinfo=UTC),
        datetime(2024, 1, 2, 10, tzinfo=UTC),
    ]


def test_a_recipe_may_say_what_is_absent_and_what_is_unknown(tmp_path):
    _, second = read(tmp_path, LOG, absent=("NA", ""), unknown=("2",), empty_unknown=("amount",))
    assert second.key == "NA"
    assert second.attributes == {"room": (UNKNOWN, UNKNOWN, None), "amount": (UNKNOWN, UNKNOWN, "3")}


def test_columns_are_found_by_their_usual_names_or_as_told(tmp_path):
    text = "Case ID;Activity;Resource;Complete Timestamp;lifecycle\n1;A;r;2024-01-01;start\n"
    (case,) = read(tmp_path, text)
    assert (case.key, case.activity, dict(case.attributes)) == (
        "1",
        ("A",),
        {"Resource": ("r",), "lifecycle": ("start",)},
    )
    (case,) = read(tmp_path, text, activity=("Activity", "lifecycle"), case="Resource", attributes=())
    assert (case.key, case.activity, dict(case.attributes)) == ("r", ("A+start",), {})
    (case,) = read(tmp_path, text, time="", case_attributes=("Resource",))
    assert (case.timed.any(), dict(case.case_attributes)) == (False, {"Resource": "r"})


def test_case_attributes_are_one_value_for_the_case(tmp_path):
    text = "case,activity,time,case:age,case:sex\na,x,2024-01-01,,f\na,y,2024-01-02,44,f\nb,x,2024-01-01,?,\n"
    a, b = read(tmp_path, text)
    assert (dict(a.case_attributes), dict(b.case_attributes)) == (
        {"age": "44", "sex": "f"},
        {"age": UNKNOWN, "sex": None},
    )
    with pytest.raises(DataError, match=r"line 3, column 'age': '44', but '43' at line 2"):
        read(tmp_path, text.replace("a,x,2024-01-01,,f", "a,x,2024-01-01,43,f"))


@pytest.mark.parametrize(
    ("name", "cases", "events", "activities"),
    [
        ("helpdesk_full.csv", 4580, 21348, 14),
        ("sepsis.csv", 1050, 15214, 16),
        ("helpdesk_tax2017_ids.csv", 3804, 13710, 9),
    ],
)
def test_real_logs_hold_the_published_counts_and_come_back_byte_for_byte(
    shared_data, tmp_path, name, cases, events, activities
):
    source = shared_data / "events" / name
    log = list(Csv().read(source))
    assert (len(log), sum(map(len, log))) == (cases, events)
    assert len({name for case in log for name in case.activity}) == activities
    assert all((np.diff(case.time) >= 0).all() for case in log)
    if name == "sepsis.csv":
        assert sum(len(case) for case in log if case.key == "NA") == 24
    if name == "helpdesk_full.csv":
        assert list(log[0].attributes)[:4] == ["Resource", "Variant", "Variant index", "Variant#2"]
    Csv().write(log, tmp_path / name)
    assert (tmp_path / name).read_bytes() == source.read_bytes()


cells = st.text(
    st.characters(
        codec="utf-8",
        exclude_characters="\0\r",  # csv.writer of Python 3.11 leaves a lone \r unquoted
        exclude_categories=["Cs"],
    ),
    max_size=6,
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.tuples(st.sampled_from("abc"), cells, st.integers(0, 5), cells), min_size=1, max_size=12),
    delimiter=st.sampled_from(",;\t|"),
    end=st.sampled_from(["\n", "\r\n"]),
    bom=st.booleans(),
    last=st.booleans(),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    blank=st.integers(0, 20),
)
def test_any_table_comes_back_byte_for_byte_and_as_csv_reads_it(
    tmp_path, rows, delimiter, end, bom, last, quoting, blank
):
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, lineterminator=end, quoting=quoting)
    writer.writerow(["case", "activity", "time", "note"])
    for index, (case, activity, day, note) in enumerate(rows):
        writer.writerow([case, activity, f"2024-01-0{day + 1}", note])
        if index == blank:
            text.write(end)
    content = ("\ufeff" if bom else "") + (text.getvalue() if last else text.getvalue().removesuffix(end))
    path = tmp_path / "log.csv"
    path.write_bytes(content.encode())
    log = list(Csv(delimiter=delimiter).read(path))
    Csv().write(log, tmp_path / "again.csv")
    assert (tmp_path / "again.csv").read_bytes() == content.encode()
    for case in log:
        mine = sorted((row for row in rows if row[0] == case.key), key=lambda row: row[2])
        assert list(case.activity) == [row[1] or UNKNOWN for row in mine]
        assert list(case.attributes["note"]) == [row[3] or None for row in mine]


def filled(log):
    """The log with its unknown cells known."""
    for case in log:
        time = np.where(case.time == UNKNOWN_TIME, case.time[0] + 90_061_000_007, case.time)
        columns = {n: tuple("9" if v == UNKNOWN else v for v in values) for n, values in case.attributes.items()}
        activity = tuple("new, quoted" if name == UNKNOWN else name for name in case.activity)
        yield replace(case, time=time, activity=activity, attributes=columns)


def test_only_what_was_filled_differs_in_the_file(tmp_path):
    text = LOG.replace("a,triage", '"a","tri""age"')
    log = read(tmp_path, text)
    Csv().write(filled(log), tmp_path / "filled.csv")
    expected = text.replace(":05:00,?,", ":05:00,9,").replace("NA,?,?,2,?", 'NA,"new, quoted",2024-01-02 10:02:01,2,9')
    assert (tmp_path / "filled.csv").read_text() == expected


def test_what_is_filled_is_read_again_and_what_becomes_unknown_is_a_hole(tmp_path):
    log = read(tmp_path, LOG)
    gone = [
        replace(
            c,
            activity=(UNKNOWN,) * len(c),
            time=np.full(len(c), UNKNOWN_TIME),
            attributes={"room": (None,) * 3, "amount": (UNKNOWN,) * 3},
        )
        for c in log
    ]
    Csv().write(gone, tmp_path / "gone.csv")
    rows = list(csv.reader((tmp_path / "gone.csv").read_text().splitlines()))[1:]
    assert rows == [
        [line.split(",")[0], "?", "?" if "-" in line else line.split(",")[2], "", "?"] for line in LOG.splitlines()[1:]
    ]


def test_cases_from_elsewhere_are_written_as_a_new_table(tmp_path):
    log = [replace(case, origin=None, case_attributes={"age": "4"}) for case in read(tmp_path, LOG)]
    for name in ("new.csv", "new.tsv.gz"):
        Csv().write(log, tmp_path / name)
        assert list(Csv().read(tmp_path / name)) == log


def test_cases_of_two_files_are_not_mixed_into_one(tmp_path):
    one, other = read(tmp_path, LOG), read(tmp_path, LOG.replace("room", "ward"), "b.csv")
    with pytest.raises(UsageError, match="different files"):
        Csv().write([*one, *other], tmp_path / "c.csv")


# Time


def reference(text, layout):
    moment = datetime.strptime(text, layout)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (moment - EPOCH) // timedelta(microseconds=1), moment.utcoffset() // timedelta(seconds=1)


@pytest.mark.parametrize(
    ("text", "layout"),
    [
        ("2014-10-22T11:15:41Z", "%Y-%m-%dT%H:%M:%S%z"),
        ("2012-03-25 02:30:00.123456+02:00", "%Y-%m-%d %H:%M:%S.%f%z"),
        ("2012-03-25T02:30:00.5-0330", "%Y-%m-%dT%H:%M:%S.%f%z"),
        ("2012/10/09 14:50:17.000", "%Y/%m/%d %H:%M:%S.%f"),
        ("2012-04-03 16:55", "%Y-%m-%d %H:%M"),
        ("1912-04-15", "%Y-%m-%d"),
        ("2012-10-09 14:50:17 +0200", "%Y-%m-%d %H:%M:%S %z"),
        ("2012-10-09 14:50:17 UTC", "%Y-%m-%d %H:%M:%S UTC"),
        ("20240229T235959", "%Y%m%dT%H%M%S"),
        ("1969-12-31 23:59:59.999999", "%Y-%m-%d %H:%M:%S.%f"),
    ],
)
def test_timestamps_mean_what_strptime_says_and_are_rendered_as_they_were(text, layout):
    plain = TimeLayout()
    assert plain.parse(text) == reference(text, layout)
    assert TimeLayout(layout).parse(text) == reference(text, layout)
    assert plain.render(*plain.parse(text), like=text) == text
    later = plain.render(plain.parse(text)[0] + 86_400_000_000, plain.parse(text)[1], like=text)
    assert plain.parse(later)[0] == plain.parse(text)[0] + 86_400_000_000


def test_digits_beyond_the_microsecond_are_left_where_they_are():
    plain = TimeLayout()
    assert plain.parse("2024-01-01T00:00:00.123456789Z") == plain.parse("2024-01-01T00:00:00.123456Z")
    assert plain.render(1, 0, like="2024-01-01T00:00:00.123456789Z") == "1970-01-01T00:00:00.000001000Z"


def test_timestamps_without_zone_are_taken_in_the_named_one():
    rome = TimeLayout(None, "Europe/Rome")
    for text in ("2012-03-25 01:59:59", "2012-03-25 03:00:00", "2012-07-01 12:00:00", "2012-10-28 04:00:00"):
        moment = datetime.fromisoformat(text).replace(tzinfo=ZoneInfo("Europe/Rome"))
        assert rome.parse(text) == ((moment - EPOCH) // timedelta(microseconds=1), moment.utcoffset().seconds)
        assert rome.render(*rome.parse(text), like=text) == text
    assert rome.parse("2012-07-01 12:00:00Z")[1] == 0
    with pytest.raises(UsageError, match="Europe/Rom"):
        TimeLayout(None, "Europe/Rom")


@pytest.mark.parametrize(
    ("layout", "text"),
    [("epoch_s", "1349794217"), ("epoch_ms", "1349794217123"), ("epoch_s", "1349794217.250"), ("epoch_us", "-5")],
)
def test_numbers_count_from_1970(layout, text):
    counted = TimeLayout(layout)
    unit = {"epoch_s": 10**6, "epoch_ms": 1000, "epoch_us": 1}[layout]
    assert counted.parse(text) == (round(float(text) * unit), 0)
    assert counted.render(counted.parse(text)[0], 0, like=text) == text


@given(
    st.datetimes(
        min_value=datetime(1000, 1, 1),
        timezones=st.sampled_from([timezone(timedelta(minutes=m)) for m in (-570, 0, 60, 345)]),
    )
)
def test_rendering_is_the_inverse_of_parsing(moment):
    plain = TimeLayout()
    assert plain.parse(moment.isoformat()) == (
        (moment - EPOCH) // timedelta(microseconds=1),
        moment.utcoffset().total_seconds(),
    )
    assert plain.parse(plain.render(*plain.parse(moment.isoformat()))) == plain.parse(moment.isoformat())


@given(st.lists(st.integers(0, 5) | st.none(), min_size=1, max_size=30))
def test_sorting_by_time_is_stable_and_unknown_times_stay_behind_their_event(times):
    given_times = np.array([UNKNOWN_TIME if t is None else t for t in times], dtype=np.int64)
    last, keys = -1, []
    for t in times:
        last = last if t is None else t
        keys.append(last)
    order = time_order(given_times)
    expected = sorted(range(len(times)), key=keys.__getitem__)
    assert (list(range(len(times))) if order is None else order.tolist()) == expected


def test_the_order_of_the_file_is_kept_on_demand(tmp_path):
    text = "case,activity,time\na,x,2024-01-02\na,y,2024-01-01\na,z,2024-01-01\n"
    assert read(tmp_path, text)[0].activity == ("y", "z", "x")
    assert read(tmp_path, text, sort=False)[0].activity == ("x", "y", "z")


# Out of core


@given(st.lists(st.tuples(st.sampled_from("abcdefg"), st.integers()), max_size=60), st.integers(1, 70))
def test_grouping_out_of_memory_is_grouping_in_memory(pairs, max_rows):
    expected: dict[str, list[tuple[int]]] = {}
    for key, value in pairs:
        expected.setdefault(key, []).append((value,))
    got = list(group_rows(((key, (value,)) for key, value in pairs), max_rows=max_rows))
    assert got == list(expected.items())


def test_a_log_that_does_not_fit_is_read_all_the_same(shared_data):
    path = shared_data / "events/sepsis.csv"
    for whole, parts in zip_longest(Csv().read(path), Csv(max_rows=1000).read(path)):
        assert whole == parts
        assert whole.origin == parts.origin


MEASURE = """
import re, sys
from pathlib import Path
from maskseq_events.delimited import Csv

def peak():  # MiB; ru_maxrss would remember the parent
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024

before = peak()
n = sum(len(case) for case in Csv(max_rows=int(sys.argv[2])).read(Path(sys.argv[1])))
print(n, peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak memory of a process is read from /proc")
def test_memory_is_bounded_by_max_rows(tmp_path):
    path = tmp_path / "long.csv"
    with path.open("w") as file:
        file.write("case,activity,time,note\n")
        for i in range(60_000):
            file.write(f"{i % 5000},a{i % 7},2024-01-01 00:00:{i % 60:02d},{'x' * 500}\n")
    used = {}
    for max_rows in (2_000, 1_000_000):
        command = [sys.executable, "-c", MEASURE, str(path), str(max_rows)]
        events, used[max_rows] = map(
            int, subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        )
        assert events == 60_000
    assert used[2_000] < 40  # MiB
    assert used[1_000_000] > 60


# Sessions


def test_sessions_come_back_byte_for_byte_and_filled_keys_stand_where_they_stood(shared_data, tmp_path):
    path = shared_data / "events/hdfs_sessions_train.txt"
    log = list(Sessions().read(path))
    assert (len(log), sum(map(len, log))) == (4855, 95125)
    Sessions().write(log, tmp_path / "again.txt")
    assert (tmp_path / "again.txt").read_bytes() == path.read_bytes()

    (tmp_path / "few.txt").write_bytes(b"\n5 5  22\t? \r\n\n\n7\n\n? 3")
    few = list(Sessions().read(tmp_path / "few.txt"))
    assert [(case.key, case.activity) for case in few] == [
        ("2", ("5", "5", "22", "?")),
        ("5", ("7",)),
        ("7", ("?", "3")),
    ]
    known = [replace(case, activity=tuple("11" if key == UNKNOWN else key for key in case.activity)) for case in few]
    Sessions().write(known, tmp_path / "known.txt")
    assert (tmp_path / "known.txt").read_bytes() == b"\n5 5  22\t11 \r\n\n\n7\n\n11 3"


def test_a_session_is_not_filled_with_what_would_be_two_keys(tmp_path):
    (tmp_path / "a.sessions").write_text("5 ? 7\n")
    (case,) = Sessions().read(tmp_path / "a.sessions")
    for awkward in ("two words", "", " ", "a\tb", "a\n"):
        with pytest.raises(UsageError, match="session 1"):
            Sessions().write([replace(case, activity=("5", awkward, "7"))], tmp_path / "out.sessions")
    for fine in ("x+y", '"', "a,b"):
        Sessions().write([replace(case, activity=("5", fine, "7"))], tmp_path / "out.sessions")
        assert (tmp_path / "out.sessions").read_text() == f"5 {fine} 7\n"


# Damage

BROKEN = [
    ("empty file", b"", {}, "empty"),
    ("header only", b"case,activity,time\n", {}, "no events"),
    ("ragged row", LOG.replace("a,leave", "leave").encode(), {}, "line 5: 4 cells, but the header names 5"),
    ("extra cell", LOG.replace(",12.5", ",12.5,1").encode(), {}, "line 3: 6 cells"),
    ("no such column", LOG.encode(), {"time": "when"}, "no column 'when'.*'room'"),
    ("time column not found", LOG.replace("time", "wann").encode(), {}, "which column is the time"),
    ("activity column not found", LOG.replace("activity", "was").encode(), {}, "which column is the activity"),
    ("case column not found", LOG.replace("case", "fall").encode(), {}, "which column is the case"),
    ("no case id", LOG.replace("a,triage", ",triage").encode(), {}, "line 3: no case id in column 'case'"),
    (
        "not a time",
        LOG.replace("2024-01-02 10:00:00", "tomorrow").encode(),
        {},
        "line 5, column 'time': 'tomorrow' is not",
    ),
    ("no such day", LOG.replace("2024-01-02", "2024-02-30").encode(), {}, "line 5, column 'time'"),
    ("day or month first", LOG.replace("2024-01-02", "02/01/2024").encode(), {}, "day or month first"),
    ("epoch not declared", LOG.replace("2024-01-02 10:00:00", "1704189600").encode(), {}, "epoch_s"),
    ("another layout", LOG.encode(), {"time_layout": "%d.%m.%Y"}, "line 2, column 'time'.*%d.%m.%Y"),
    ("not a number", LOG.encode(), {"time_layout": "epoch_s"}, "line 2, column 'time'.*not a number of seconds"),
    ("wrong encoding", LOG.replace("triage", "Prüfung").encode("latin-1"), {}, "line 3: byte 0xfc is not utf-8"),
    ("no such encoding", LOG.encode(), {"encoding": "utf-9"}, "utf-9"),
    ("quote never closed", LOG.replace("a,triage", 'a,"triage').encode(), {}, "line 3: not valid CSV.*never closed"),
    ("junk behind a quote", LOG.replace("a,triage", 'a,"tri"age').encode(), {}, "line 3: not valid CSV"),
    ("gzip cut short", gzip.compress(LOG.encode() * 500)[:-20], {}, "cut short"),
    ("gzip damaged", gzip.compress(LOG.encode())[:-8] + b"12345678", {}, "damaged"),
    ("not gzip inside", b"\x1f\x8b" + b"x" * 50, {}, "damaged|cannot be read"),
    ("binary file", bytes(range(256)) * 4, {}, "."),
    ("empty_unknown of no column", LOG.encode(), {"empty_unknown": ("ward",)}, "no column 'ward'"),
]


@pytest.mark.parametrize(("content", "options", "message"), [b[1:] for b in BROKEN], ids=[b[0] for b in BROKEN])
def test_damage_ends_in_one_clear_line(tmp_path, content, options, message):
    path = tmp_path / "log.csv"
    path.write_bytes(content)
    with pytest.raises(MaskseqError, match=f"(?s){message}") as caught:
        list(Csv(**options).read(path))
    if isinstance(caught.value, DataError):
        assert str(caught.value).startswith(str(path))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no sessions"),
        (b"\n\n \n", "no sessions"),
        (b"1 2\n3 \xff\n", "line 2: byte 0xff"),
        (b"1 2\n3 \0 4\n", "line 2: a NUL byte"),
        (gzip.compress(b"1 2 3\n" * 5000)[:-30], "cut short"),
        (gzip.compress(b"1 2 3\n")[:-8] + b"12345678", "damaged"),
    ],
)
def test_damaged_sessions_end_in_one_clear_line(tmp_path, content, message):
    path = tmp_path / "log.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        list(Sessions().read(path))
    assert str(caught.value).startswith(str(path))


def test_a_file_that_is_not_there_and_one_that_is_a_folder(tmp_path):
    for path in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(DataError, match=str(path)):
            list(Csv().read(path))


def test_cases_survive_the_way_to_a_worker_process_and_options_may_be_lists(tmp_path, shared_data):
    log = read(tmp_path, LOG, absent=["NA", ""], unknown=["?"], attributes=["room"], activity=["activity", "amount"])
    assert log == read(tmp_path, LOG, absent=("NA", ""), attributes=("room",), activity=("activity", "amount"))
    again = pickle.loads(pickle.dumps(log))
    assert again == log
    Csv().write(again, tmp_path / "again.csv")
    assert (tmp_path / "again.csv").read_text() == LOG


def test_equality_is_of_content(tmp_path):
    one, other = read(tmp_path, LOG)[0], read(tmp_path, LOG.replace(",", ";"), "b.csv")[0]
    assert one == other
    assert one != replace(one, activity=("x", *one.activity[1:]))
    assert isinstance(one, Case)


@given(
    st.sampled_from(["%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S.%f"]),
    st.sampled_from(["", "Z", "+01:00", "-09:30", "+0200", " +02:00", "+02"]),
    st.integers(0, 6),
    st.lists(st.datetimes(min_value=datetime(1900, 1, 1), max_value=datetime(2200, 1, 1)), min_size=1, max_size=5),
    st.integers(0, 30),
)
def test_many_timestamps_at_once_are_parsed_as_one_by_one(layout, zone, digits, moments, broken):
    plain = TimeLayout()
    texts = [moment.strftime(layout) for moment in moments]
    texts = [(text[: len(text) - 6 + digits].removesuffix(".") if "." in text else text) + zone for text in texts]
    if broken < len(texts[0]):
        texts[-1] = texts[-1][:broken] + "x" + texts[-1][broken + 1 :]
    try:
        one_by_one = [plain.parse(text) for text in texts]
    except ValueError:
        with pytest.raises(ValueError, match="is not a timestamp") as caught:
            plain.parse_all(texts)
        assert caught.value.args[1] == len(texts) - 1
        return
    time, offset = plain.parse_all(texts)
    assert list(zip(time.tolist(), offset.tolist(), strict=True)) == one_by_one
    time, _ = plain.parse_all([*texts, None])
    assert time.tolist() == [*(moment for moment, _ in one_by_one), UNKNOWN_TIME]


def test_a_year_is_given_once():
    with pytest.raises(UsageError, match="say their year"):
        TimeLayout(layout="%Y-%m-%d", year=2024)


def test_decimal_commas_are_numbers_and_written_as_such(tmp_path):
    text = "case;activity;time;cost;word\na;x;2024-01-01;1.234,5;1,2,3\na;y;2024-01-02;?;b\na;z;2024-01-03;12;c\n"
    (tmp_path / "log.csv").write_text(text)
    reader = Csv(decimal=",")
    (case,) = reader.read(tmp_path / "log.csv")
    assert case.attributes["cost"] == ("1234.5", UNKNOWN, "12")
    assert case.attributes["word"] == ("1,2,3", "b", "c")
    filled = replace(case, attributes={**case.attributes, "cost": ("1234.5", "7.25", "12")})
    reader.write([filled], tmp_path / "filled.csv")
    assert (tmp_path / "filled.csv").read_text() == text.replace("?", "7,25")
