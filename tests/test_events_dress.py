"""Tables as people have them: titles, units, marks of spreadsheets, times in many forms, streams, and bad rows."""

import csv
import io
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from dateutil import parser as dateutil_parser

from maskseq.apps.init import init
from maskseq.errors import DataError, UsageError
from maskseq.survey import Claim, Head
from maskseq_events.case import UNKNOWN, Case
from maskseq_events.delimited import Csv
from maskseq_events.jsonlines import JsonLines
from maskseq_events.table import EventTable
from maskseq_events.textlog import TextLog
from maskseq_events.times import TimeLayout

ROWS = [(f"c{n % 7}", f"step {n % 3}", f"2024-03-{1 + n // 5:02d}T08:{n:02d}:00", str(n / 4)) for n in range(60)]
PLAIN = "case,activity,timestamp,amount\n" + "".join(",".join(row) + "\n" for row in ROWS)


def claimed(cls: type[EventTable], path: Path) -> Claim:
    claim = cls.recognize(Head.of(path))
    assert claim is not None
    return claim


def laid(tmp_path: Path, content: str, name: str = "log.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(content.encode())
    return path


def read(path: Path, **options: object) -> list[Case]:
    return list(Csv(**options).read(path))


def returns(path: Path, cases: list[Case], reader: EventTable) -> bool:
    out = path.with_name("again" + path.suffix)
    reader.write(cases, out)
    return out.read_bytes() == path.read_bytes()


DRESSES = {
    "sep": ("sep=;\n" + PLAIN.replace(",", ";"), {}),
    "sep, Windows": ("\ufeffsep=;\r\n" + PLAIN.replace(",", ";").replace("\n", "\r\n"), {}),
    "a title": ("Report of orders\n\nmade, by hand\n" + PLAIN, {"preamble": 3}),
    "comments": ("# exported 2024-03-01\n# by ann\n" + PLAIN, {"preamble": 2}),
    "units": (PLAIN.replace("amount\n", "amount\n-,-,UTC,EUR\n", 1), {"units": True}),
    "title and units": (
        "Orders\n" + PLAIN.replace("amount\n", "amount\n,,ISO,EUR\n", 1),
        {"preamble": 1, "units": True},
    ),
    "tabs": (PLAIN.replace(",", "\t"), {}),
}


@pytest.mark.parametrize("name", DRESSES)
def test_a_table_is_the_same_in_any_dress(tmp_path: Path, name: str) -> None:
    content, options = DRESSES[name]
    path = laid(tmp_path, content, "log.tsv" if name == "tabs" else "log.csv")
    claim = claimed(Csv, path)
    assert {key: claim.options[key] for key in options} == options
    assert not claim.doubt
    expected = read(laid(tmp_path, PLAIN, "plain.csv"))
    reader = Csv(**claim.options)
    cases = list(reader.read(path))
    assert [(c.key, c.activity, c.time.tolist(), c.attributes) for c in cases] == [
        (c.key, c.activity, c.time.tolist(), c.attributes) for c in expected
    ]
    assert returns(path, cases, reader)
    first = path.read_text("utf-8-sig").splitlines().index(cases[0].origin.raw[0].strip()) + 1
    assert cases[0].origin.numbers[0] == first


@pytest.mark.parametrize("title", ["", "Report, 2024\n\n"])
@pytest.mark.parametrize("amount", ["1,5", "1.234,5", "1"])
def test_decimal_commas_cut_no_header_off(tmp_path: Path, amount: str, title: str) -> None:
    """They cut each row, but not the header, into as many pieces."""
    header = "case;activity;time;amount\n"
    rows = [f"c{i // 4};step {i % 3};0{1 + i % 4}.03.2024 08:00;{amount}\n" for i in range(24)]
    path = laid(tmp_path, title + header + "".join(rows))
    claim = claimed(Csv, path)
    assert claim.options.get("preamble", 0) == title.count("\n")
    assert not claim.doubt
    assert sum(map(len, Csv(**claim.options).read(path))) == len(rows)


def test_plain_tables_need_no_options(tmp_path: Path) -> None:
    assert not {"preamble", "units"} & set(claimed(Csv, laid(tmp_path, PLAIN)).options)
    assert Csv().identity() == {k: v for k, v in Csv().identity().items() if k not in ("preamble", "units", "names")}


def test_columns_without_a_header_are_named_by_the_user(tmp_path: Path, shared_cases: Path) -> None:
    path = shared_cases / "events/nohead.csv"
    claim = claimed(Csv, path)
    assert "names" in claim.doubt
    assert not claim.options
    cases = read(path, names=("case", "activity", "time"))
    assert sum(map(len, cases)) == len(path.read_text().splitlines())
    reader = Csv(names=("case", "activity", "time"))
    reader.write(cases, tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_bytes() == path.read_bytes()
    with pytest.raises(DataError, match="names 2 columns"):
        read(path, names=("case", "activity"), time="")


TIMES = {
    "%m/%d/%Y %I:%M:%S %p": {},
    "%d/%m/%Y %I:%M %p": {"dayfirst": True},
    "%d-%b-%Y %H:%M:%S": {},
    "%d %B %Y %H:%M:%S": {},
    "%b %d, %Y %I:%M:%S %p": {},
    "%a, %d %b %Y %H:%M:%S %z": {},
    "%a %b %d %H:%M:%S %Y": {},
    "%d.%m.%Y %H:%M": {"dayfirst": True},
    "%Y/%m/%d %H:%M:%S": {},
}


@pytest.mark.parametrize("layout", TIMES)
def test_times_are_recognized_and_read_as_another_parser_reads_them(tmp_path: Path, layout: str) -> None:
    rng = np.random.default_rng(1)
    rows = []
    for n in range(80):
        moment = datetime(2024, 2, 27, 9, 0, 5, tzinfo=UTC) + timedelta(minutes=int(n * 700 + rng.integers(300)))
        rows.append((f"c{n // 4}", f"step {n % 3}", moment.strftime(layout)))
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows([("case", "activity", "time"), *rows])
    path = laid(tmp_path, file.getvalue())
    claim = claimed(Csv, path)
    assert not claim.doubt
    reader = Csv(**claim.options)
    cases = list(reader.read(path))
    expected: dict[str, list[float]] = {}
    for key, _, text in rows:
        moment = dateutil_parser.parse(text, **TIMES[layout])
        expected.setdefault(key, []).append(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() * 1e6)
    assert {case.key: case.time.tolist() for case in cases} == expected
    assert returns(path, cases, reader)


@pytest.mark.parametrize(
    ("unit", "factor"), [("epoch_s", 1), ("epoch_ms", 10**3), ("epoch_us", 10**6), ("epoch_ns", 10**9)]
)
def test_epochs_of_every_unit(tmp_path: Path, unit: str, factor: int) -> None:
    rows = [(f"c{n // 4}", f"step {n % 3}", str((1_709_280_480 + 61 * n) * factor)) for n in range(40)]
    path = laid(tmp_path, "case,activity,time\n" + "".join(",".join(row) + "\n" for row in rows))
    claim = claimed(Csv, path)
    assert claim.options["time_layout"] == unit
    reader = Csv(**claim.options)
    cases = list(reader.read(path))
    assert [t for case in cases for t in case.time.tolist()] == [(1_709_280_480 + 61 * n) * 10**6 for n in range(40)]
    time = cases[0].time + 1_000_000
    reader.write([replace(cases[0], time=time), *cases[1:]], tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text().splitlines()[1].endswith(str(1_709_280_481 * factor))


@pytest.mark.parametrize("value", [0, 1, -1, 999_999_999, 1_709_280_480_123_456_789, -62_135_596_800 * 10**9])
def test_nanoseconds_are_rounded_down_and_written_as_such(value: int) -> None:
    layout = TimeLayout("epoch_ns")
    micros, _ = layout.parse(str(value))
    assert micros == value // 1000
    assert layout.render(micros, 0, str(value)) == str(value // 1000 * 1000)


@pytest.mark.parametrize(
    ("name", "zone"),
    [("CET", "Europe/Berlin"), ("EST", "America/New_York"), ("UTC", "UTC"), ("Europe/Rome", "Europe/Rome"),
     ("AEST", "Australia/Brisbane"), ("MSK", "Europe/Moscow"), ("JST", "Asia/Tokyo")],
)  # fmt: skip
def test_names_of_zones_mean_what_zoneinfo_says(name: str, zone: str) -> None:
    wall = datetime(2024, 1, 15, 12, 30)
    layout = TimeLayout("%a %b %d %H:%M:%S %Z %Y")
    text = f"{wall:%a %b %d %H:%M:%S} {name} {wall:%Y}"
    micros, offset = layout.parse(text)
    expected = wall.replace(tzinfo=ZoneInfo(zone))
    assert micros == expected.timestamp() * 1e6
    assert offset == expected.utcoffset().total_seconds()
    assert layout.render(micros, offset, text) == text


@pytest.mark.parametrize("name", ["CST", "IST", "PST", "XYZ", "Mars/Base", "AM", "../../etc/passwd"])
def test_names_of_no_zone_or_of_several_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="time zone"):
        TimeLayout("%Y-%m-%d %H:%M:%S %Z").parse(f"2024-03-01 08:08:00 {name}")


def test_the_users_zone_says_which_of_several_is_meant() -> None:
    for zone, hours in [("America/Chicago", -6), ("Asia/Shanghai", 8)]:
        _, offset = TimeLayout("%Y-%m-%d %H:%M:%S %Z", zone).parse("2024-01-15 08:08:00 CST")
        assert offset == hours * 3600
    with pytest.raises(UsageError, match="%Z"):
        TimeLayout("%Y-%m-%d %H:%M:%S(%Z)")


def test_date_and_time_in_two_columns_are_one_time(tmp_path: Path, shared_cases: Path) -> None:
    path = shared_cases / "events/date_time_cols.csv"
    claim = claimed(Csv, path)
    assert claim.options["time"] == ["Date", "Time"]
    assert claim.options["case"] == ""
    assert all(choice.options["time"] == ["Date", "Time"] for choice in claim.instead)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    expected = [dateutil_parser.parse(f"{row['Date']} {row['Time']} UTC").timestamp() * 1e6 for row in rows]
    reader = Csv(case="", activity="EventId", time=("Date", "Time"), session_lines=len(rows))
    (case,) = reader.read(path)
    assert case.time.tolist() == sorted(expected)
    assert set(case.attributes) == {"LineId", "Node"}
    reader.write([case], tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("date", "clock", "expected"),
    [("?", "?", "01.03.2024,08:09 AM"), ("01.03.2024", "?", "01.03.2024,08:09 AM"), ("", "", "01.03.2024,08:09 AM")],
)
def test_an_unknown_time_of_two_columns_is_written_into_both(
    tmp_path: Path, date: str, clock: str, expected: str
) -> None:
    path = laid(tmp_path, f"case,activity,day,clock\na,x,01.03.2024,08:08 AM\na,y,{date},{clock}\n")
    reader = Csv(time=("day", "clock"), time_layout="%d.%m.%Y %I:%M %p")
    (case,) = reader.read(path)
    assert case.timed.tolist() == [True, False]
    time = case.time.copy()
    time[1] = time[0] + 60_000_000
    reader.write([replace(case, time=time)], tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text().splitlines()[2] == f"a,y,{expected}"


def test_a_stream_becomes_sessions_by_number_and_by_silence(tmp_path: Path, shared_cases: Path) -> None:
    path = shared_cases / "events/docker.jsonl"
    claim = claimed(JsonLines, path)
    assert claim.doubt
    events = [json.loads(line) for line in path.read_text().splitlines()]
    by_number, by_time = [choice.options for choice in claim.instead]
    reader = JsonLines(**by_number)
    cases = list(reader.read(path))
    assert [len(case) for case in cases] == [100, 100, 62]
    assert sorted(a for case in cases for a in case.activity) == sorted(event["log"] for event in events)
    reader.write(cases, tmp_path / "out.jsonl")
    assert (tmp_path / "out.jsonl").read_bytes() == path.read_bytes()
    reader = JsonLines(**by_time)
    cases = list(reader.read(path))
    moments = sorted(dateutil_parser.parse(event["time"]).timestamp() for event in events)
    assert len(cases) == 1 + int((np.diff(moments) > 1800).sum())
    assert all((np.diff(case.time) <= 1800e6).all() for case in cases)
    reader.write(cases[::-1], tmp_path / "out.jsonl")
    assert (tmp_path / "out.jsonl").read_bytes() == path.read_bytes()


def test_init_takes_every_way_to_part_a_stream(tmp_path: Path, shared_cases: Path) -> None:
    path = shared_cases / "events/docker.jsonl"
    for n, own in enumerate((["session_lines=50"], ["idle=600"], ["case=stream", "activity=log"])):
        overrides = [f"data.format_options.{each}" for each in own]
        if "=" in own[0] and not own[0].startswith("case"):
            overrides += ["data.format_options.case=", "data.format_options.activity=log"]
        init([path], tmp_path / f"{n}.toml", format="event-jsonl", overrides=overrides, yes=True)
        text = (tmp_path / f"{n}.toml").read_text()
        assert own[0].partition("=")[0] in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"case": ""}, "idle"),
        ({"case": "case", "session_lines": 5}, "exclude"),
        ({"session_lines": 0}, "at least 1"),
        ({"case": "", "idle": -1.0}, "idle"),
        ({"case": "", "idle": 5.0, "time": ""}, "timestamps"),
    ],
)
def test_sessions_that_contradict_each_other_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Csv(**options)


def test_sessions_of_a_table_come_back_filled(tmp_path: Path) -> None:
    path = laid(tmp_path, "activity,time\na,2024-01-01 00:00\n?,2024-01-01 00:01\nb,2024-01-01 01:00\n")
    reader = Csv(case="", idle=600.0)
    one, two = reader.read(path)
    assert (one.key, two.key, one.activity, two.activity) == ("all", "all#2", ("a", UNKNOWN), ("b",))
    reader.write([two, replace(one, activity=("a", "x"))], tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text() == path.read_text().replace("?", "x")


BAD = [
    (Csv, {}, "case,activity,time\na,x,2024-01-01\n{}\na,y,2024-01-02\nb,x,2024-01-03\n",
     ["a,x", "a,y,0000-00-00 00:00:00", ",x,2024-01-01", "b,x,yesterday"]),
    (JsonLines, {}, '{{"case": "a", "activity": "x", "time": "2024-01-01"}}\n{}\n'
     '{{"case": "b", "activity": "y", "time": "2024-01-02"}}\n',
     ["{", "[1]", '{"case": "a", "activity": "x", "time": "?!"}', '{"activity": "x"}']),
    (TextLog, {"layout": "log4j", "session_lines": 9}, "2024-03-01 08:08:00,000 INFO [t] a.b: c\n{}\n"
     "2024-03-01 08:08:01,000 INFO [t] a.b: c\n", ["what?", "2024-13-01 08:08:00,000 INFO [t] a.b: c"]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("cls", "options", "text", "bad"), [(c, o, t, bad) for c, o, t, bads in BAD for bad in bads]
)  # fmt: skip
def test_a_bad_row_is_named_left_out_and_written_back(
    tmp_path: Path, cls: type[EventTable], options: dict[str, object], text: str, bad: str
) -> None:
    path = laid(tmp_path, text.format(bad), f"log{cls.suffixes[0]}")
    reader = cls(**options)
    with pytest.raises(DataError, match=r"line [23]"):
        list(reader.read(path))
    results = list(reader.attempts(path))
    errors = [each for each in results if isinstance(each, DataError)]
    cases = [each for each in results if not isinstance(each, DataError)]
    assert len(errors) == 1
    assert sum(map(len, cases)) == len(text.splitlines()) - 1 - (cls is Csv)
    out = path.with_name("again" + path.suffix)
    reader.write(results, out)
    assert out.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("name", ["short_row.csv", "zero_date.csv", "access_double_blank.log"])
def test_small_files_with_one_bad_row_are_read_but_for_it(tmp_path: Path, shared_cases: Path, name: str) -> None:
    path = shared_cases / "events" / name
    cls = TextLog if name.endswith(".log") else Csv
    reader = cls(**claimed(cls, path).options)
    results = list(reader.attempts(path))
    errors = [each for each in results if isinstance(each, DataError)]
    cases = [each for each in results if not isinstance(each, DataError)]
    n = len(path.read_text().splitlines()) - (cls is Csv)
    assert 1 <= len(errors) < n / 4
    assert sum(map(len, cases)) == n - len(errors)
    reader.write(results, tmp_path / name)
    assert (tmp_path / name).read_bytes() == path.read_bytes()
