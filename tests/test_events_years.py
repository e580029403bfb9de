"""Timestamps that say no year: they roll over at New Year in the order of the file, and have no weekday."""

import json
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from untrained import untrained

from maskseq.errors import DataError, UsageError
from maskseq.survey import Head
from maskseq.testing import check_tokenizer
from maskseq_events.case import UNKNOWN_TIME
from maskseq_events.delimited import Csv
from maskseq_events.jsonlines import JsonLines
from maskseq_events.textlog import TextLog
from maskseq_events.tokenizer import EventTokenizer
from maskseq_events.xes import Xes

LAYOUT = "%b %d %H:%M:%S"


def line(moment, number, pid=7):
    return f"{moment:%b} {moment.day:2d} {moment:%H:%M:%S} host cron[{pid}]: job {number}\n"


def log(path, moments, pid=lambda n: 7):
    path.write_text("".join(line(moment, n, pid(n)) for n, moment in enumerate(moments)))
    return path


def seconds(cases):
    """The moments of all events, in the order of the file."""
    rows = sorted((n, t) for case in cases for n, t in zip(case.origin.numbers, case.time.tolist(), strict=True))
    return [t // 10**6 for _, t in rows]


def stamps(moments):
    return [int(moment.replace(tzinfo=UTC).timestamp()) for moment in moments]


@pytest.mark.parametrize("year", [None, 2023])
def test_the_order_of_a_file_is_kept_over_new_year(shared_cases, tmp_path, year):
    path = shared_cases / "events/syslog_dec_jan.log"
    (case,) = TextLog(layout="syslog", session_lines=1000, year=year).read(path)
    assert [activity.split()[-1] for activity in case.activity] == [str(n) for n in range(300)]
    assert (np.diff(case.time) >= 0).all()
    assert case.time[-1] - case.time[0] < 5 * 86_400 * 10**6
    TextLog(layout="syslog", session_lines=1000).write([case], tmp_path / "again.log")
    assert (tmp_path / "again.log").read_bytes() == path.read_bytes()


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    start=st.datetimes(datetime(2019, 1, 1), datetime(2021, 12, 31)),
    steps=st.lists(st.integers(0, 180 * 86_400), min_size=1, max_size=30),
    sessions=st.integers(1, 4),
)
def test_years_are_those_of_the_calendar_whatever_lies_between_two_lines(tmp_path, start, steps, sessions):
    moments = [start.replace(microsecond=0)]
    for step in steps:
        moments.append(moments[-1] + timedelta(seconds=step))
    path = log(tmp_path / "my.log", moments, lambda n: random.Random(n).randrange(sessions))
    assert seconds(TextLog(layout="syslog", year=start.year).read(path)) == stamps(moments)


def test_lines_out_of_order_stay_in_their_year(tmp_path):
    moments = [
        datetime(2023, 12, 30, 10),
        datetime(2024, 1, 1, 0, 0, 1),
        datetime(2023, 12, 31, 23, 59, 59),
        datetime(2024, 1, 1, 0, 0, 2),
        datetime(2024, 3, 1),
        datetime(2024, 2, 29),
        datetime(2024, 1, 20),
        datetime(2024, 6, 1),
    ]
    path = log(tmp_path / "my.log", moments)
    (case,) = TextLog(layout="syslog", year=2023).read(path)
    assert seconds([case]) == stamps(moments)
    assert case.activity[:3] == ("job 0", "job 2", "job 1")


def test_a_day_that_its_year_does_not_have_is_named(tmp_path):
    path = tmp_path / "my.log"
    path.write_text("Feb 28 10:00:00 host cron[7]: a\nFeb 30 10:00:00 host cron[7]: b\n")
    with pytest.raises(DataError, match=r"line 2.*Feb 30"):
        list(TextLog(layout="syslog").read(path))
    path.write_text("Feb 28 10:00:00 host cron[7]: a\nFeb 29 10:00:00 host cron[7]: b\n")
    with pytest.raises(DataError, match=r"line 2.*2023"):
        list(TextLog(layout="syslog", year=2023).read(path))
    (case,) = TextLog(layout="syslog", year=2024).read(path)
    assert case.time[1] - case.time[0] == 86_400 * 10**6


@pytest.mark.parametrize("format", [Csv, JsonLines])
def test_tables_may_say_no_year_either(tmp_path, format):
    rows = [
        ("a", "x", "Dec 31 23:00:00"),
        ("b", "x", "Jan  1 01:00:00"),
        ("a", "y", "Jan  2 01:00:00"),
        ("a", "z", "?"),
    ]
    path = tmp_path / "log"
    if format is Csv:
        path.write_text("case,activity,time\n" + "".join(",".join(row) + "\n" for row in rows))
    else:
        events = [dict(zip(("case", "activity", "time"), row, strict=True)) for row in rows]
        path.write_text("".join(json.dumps(event) + "\n" for event in events))
    options = {"time_layout": LAYOUT, "year": 2023}
    a, b = format(**options).read(path)
    assert a.time.tolist()[:2] == [s * 10**6 for s in stamps([datetime(2023, 12, 31, 23), datetime(2024, 1, 2, 1)])]
    assert (a.time[2], b.time[0]) == (UNKNOWN_TIME, stamps([datetime(2024, 1, 1, 1)])[0] * 10**6)
    later = a.time.copy()
    later[2] = a.time[1] + 3600 * 10**6
    format(**options).write([replace(a, time=later), b], tmp_path / "filled")
    before, after = path.read_text().splitlines(), (tmp_path / "filled").read_text().splitlines()
    assert before[:-1] == after[:-1]
    assert "Jan 02 02:00:00" in after[-1]


def test_an_event_that_began_in_the_year_before_has_its_duration(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text(
        "case,activity,start,time\na,x,Dec 31 23:50:00,Jan  1 00:10:00\na,y,Jan  1 00:10:00,Jan  1 00:11:00\n"
    )
    (case,) = Csv(time_layout=LAYOUT, start="start").read(path)
    assert [float(value) for value in case.attributes["duration"]] == [1200, 60]


def test_a_log_without_a_year_has_no_weekday_unless_the_year_is_given(tmp_path):
    moments = [datetime(2023, 12, 29, 10) + timedelta(hours=5 * n) for n in range(40)]
    path = log(tmp_path / "my.log", moments, lambda n: n % 3)
    undated, dated = list(TextLog(layout="syslog").read(path)), list(TextLog(layout="syslog", year=2023).read(path))
    of_undated, of_dated = (EventTokenizer.fit(cases, min_count=1) for cases in (undated, dated))
    assert [field.name for field in of_undated.fields] == ["activity", "gap", "hour"]
    assert [field.name for field in of_dated.fields] == ["activity", "gap", "hour", "weekday"]
    for case in dated:
        ids = of_dated.encode(case).ids[: len(case), -1]
        days = [datetime.fromtimestamp(t / 1e6, UTC).weekday() for t in case.time.tolist()]
        assert ids.tolist() == days
        np.testing.assert_array_equal(of_undated.encode(case).ids[:, 1:], of_dated.encode(case).ids[:, 1:3])
    for case in undated:
        ids = of_dated.encode(case).ids
        assert set(ids[:-1, -1]) == {of_dated.fields[-1].control_id("[ABSENT]")}
    check_tokenizer(of_undated, undated)
    check_tokenizer(of_dated, [*dated, *undated])


def test_the_state_of_tokenizers_with_weekdays_is_what_it_was(tmp_path):
    cases = list(TextLog(layout="syslog", year=2023).read(log(tmp_path / "my.log", [datetime(2023, 1, 1)] * 3)))
    tokenizer = EventTokenizer.fit(cases, min_count=1)
    assert "weekdays" not in tokenizer.state()
    assert EventTokenizer.from_state(tokenizer.state()).fingerprint == tokenizer.fingerprint
    undated = replace(tokenizer, weekdays=False)
    again = EventTokenizer.from_state(undated.state())
    assert (again, again.fingerprint) == (undated, undated.fingerprint)
    assert again.fingerprint != tokenizer.fingerprint


def test_times_are_filled_over_new_year_without_a_year(tmp_path):
    moments = [datetime(2023, 12, 31, 20) + timedelta(hours=n) for n in range(9)]
    path = log(tmp_path / "my.log", moments)
    (known,) = TextLog(layout="syslog").read(path)
    run = untrained(EventTokenizer.fit([known], min_count=1), tmp_path / "run")
    text = path.read_text()
    path.write_text("".join("?" + row[15:] if n in (4, 5) else row for n, row in enumerate(text.splitlines(True))))
    reader = TextLog(layout=r"(?P<time>\?|\w{3} [ \d]\d \S+) (?P<host>\S+) \S+ (?P<message>.*)", idle=1e9)
    reader = replace(reader, time_layout=LAYOUT)
    (holes,) = reader.read(path)
    (filled,) = run.infill([holes])
    reader.write([filled.record], tmp_path / "filled.log")
    after = (tmp_path / "filled.log").read_text().splitlines()
    assert [row for n, row in enumerate(after) if n not in (4, 5)] == [
        row for n, row in enumerate(text.splitlines()) if n not in (4, 5)
    ]
    between = [row[:12] for n, row in enumerate(after) if n in (4, 5)]
    assert all(row[:6] in ("Dec 31", "Jan 01") for row in between)
    (again,) = reader.read(tmp_path / "filled.log")
    assert again.time.tolist() == sorted(again.time.tolist())


@pytest.mark.parametrize("layout", ["%H:%M:%S", "%d %H:%M", "%a %H:%M"])
def test_times_without_a_date_are_refused(layout):
    with pytest.raises(UsageError, match="say no date"):
        TextLog(layout=r"(?P<time>\S+) (?P<message>.*)", session_lines=9, time_layout=layout)


def test_nothing_makes_up_a_year(tmp_path):
    path = log(tmp_path / "my.log", [datetime(2023, 5, 1) + timedelta(hours=n) for n in range(20)])
    assert "year" not in TextLog.recognize(Head.of(path)).options
    (case,) = TextLog(layout="syslog").read(path)
    assert case.span() is None
    with pytest.raises(ValueError, match="year"):
        case.between("2023-05-01T03:00", "2023-05-01T04:00")
    for format, name in ((Csv(), "new.csv"), (JsonLines(), "new.jsonl"), (Xes(), "new.xes")):
        with pytest.raises(UsageError, match="year = "):
            format.write([replace(case, origin=None)], tmp_path / name)
        assert not (tmp_path / name).exists()
    (case,) = TextLog(layout="syslog", year=2023).read(path)
    assert case.between("2023-05-01T03:00", "2023-05-01T05:00") == (3, 5)
    Csv().write([replace(case, origin=None)], tmp_path / "new.csv")
    assert "2023-05-01T00:00:00" in (tmp_path / "new.csv").read_text()
