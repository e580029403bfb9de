"""Lines of exported tables that are no rows: headers that come again, comments, sums, and a delimiter too many."""

from pathlib import Path

import numpy as np
import pytest

from maskseq.apps.init_readings import readings_of
from maskseq.errors import DataError
from maskseq.plugins import open_format
from maskseq_events.delimited import Csv
from maskseq_signals.delimited import SignalCsv

EVENTS = [f"c{n // 4},{'abcd'[n % 4]},2024-03-01 08:{n:02d}:00" for n in range(40)]
HEADER = "case,activity,timestamp"
STEPS = [f"2024-03-01 08:{n:02d}:00,{n % 7 + 0.5},{n % 5}" for n in range(40)]
STEP_HEADER = "time,a,b"


def laid(folder: Path, lines: list[str], end: str = "\n") -> Path:
    path = folder / "x.csv"
    path.write_text(end.join([*lines, ""]), newline="")
    return path


def read_by_init(path: Path) -> tuple[str, list]:
    """What `init` reads the file as, which comes back byte for byte."""
    found = readings_of([path], None, {})
    assert not found.doubt
    reader = open_format(path, found.each[0].format, dict(found.each[0].options), trust_code=False)
    records = list(reader.read(path))
    reader.write(reader.read(path), path.with_name("again.csv"))
    assert path.with_name("again.csv").read_bytes() == path.read_bytes()
    return found.each[0].format, records


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("stray", [HEADER, "# a remark", "# one, two"])
def test_lines_among_events_that_are_none(tmp_path: Path, stray: str, end: str) -> None:
    path = laid(tmp_path, [HEADER, *EVENTS[:17], stray, *EVENTS[17:], stray], end)
    name, cases = read_by_init(path)
    assert (name, len(cases), sum(map(len, cases))) == ("event-csv", 10, 40)
    reader = Csv()
    cases = list(reader.read(path))
    cases[4] = cases[4].resized(1, 1, 1)  # beside the row that the line stands behind
    reader.write(cases, tmp_path / "out.csv")
    again = list(reader.read(tmp_path / "out.csv"))
    assert [case.activity for case in again] == [case.activity for case in cases]
    assert (tmp_path / "out.csv").read_text().count(stray) == path.read_text().count(stray)


@pytest.mark.parametrize("stray", [STEP_HEADER, "# sensor replaced", "#, ,"])
def test_lines_among_steps_that_are_none(tmp_path: Path, stray: str) -> None:
    name, (record,) = read_by_init(laid(tmp_path, [STEP_HEADER, *STEPS[:17], stray, *STEPS[17:], stray]))
    assert (name, record.names, len(record)) == ("signal-csv", ("a", "b"), 40)
    np.testing.assert_array_equal(record.channels[:, 0], [n % 7 + 0.5 for n in range(40)])


def test_comments_before_steps_and_a_header_that_is_one(tmp_path: Path) -> None:
    for lines in (["# station 5", "# lat 48", STEP_HEADER], ["# station 5", f"# {STEP_HEADER}"], [f"#{STEP_HEADER}"]):
        name, (record,) = read_by_init(laid(tmp_path, [*lines, *STEPS]))
        assert (name, record.names, len(record)) == ("signal-csv", ("a", "b"), 40)


def test_rows_that_end_with_a_delimiter(tmp_path: Path) -> None:
    name, (record,) = read_by_init(laid(tmp_path, [STEP_HEADER, *(f"{line}," for line in STEPS)]))
    assert (name, record.names, len(record)) == ("signal-csv", ("a", "b"), 40)
    name, cases = read_by_init(laid(tmp_path, [HEADER, *(f"{line}," for line in EVENTS)]))
    assert (name, len(cases), sum(map(len, cases))) == ("event-csv", 10, 40)


@pytest.mark.parametrize("total", ["Total", "SUM:", "Gesamt"])
def test_sums_are_no_events(tmp_path: Path, total: str) -> None:
    path = laid(tmp_path, [HEADER, *EVENTS, f"{total},,"])
    with pytest.raises(DataError, match="line 42"):
        list(Csv().read(path))
    found = list(Csv().attempts(path))
    assert sum(not isinstance(each, DataError) for each in found) == 10
    Csv().write(found, tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_bytes() == path.read_bytes()


def test_a_second_clock_is_no_channel(tmp_path: Path) -> None:
    rows = [f"{n / 100:.2f},{1709280480000000000 + 10_000_000 * n},{n % 7}" for n in range(100)]
    _, (record,) = read_by_init(laid(tmp_path, ["seconds_elapsed,time,z", *rows]))
    assert record.names == ("z",)


def test_a_table_of_comments_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        list(SignalCsv().read(laid(tmp_path, ["# a", "# b"])))


def test_rows_that_only_look_like_strays_are_read(tmp_path: Path) -> None:
    """A headless column may hold its first value again, and ids may begin with the mark of a comment."""
    (record,) = SignalCsv().read(laid(tmp_path, ["1", "1", "2", "1", "1"]))
    np.testing.assert_array_equal(record.channels[:, 0], [1, 1, 2, 1, 1])
    lines = ["id,time,v", *(f"{key},2024-03-01 08:0{n}:00,{n}.5" for key in ("#1", "x") for n in range(5))]
    found = {each.key: len(each) for each in SignalCsv(recording="id", time="time").read(laid(tmp_path, lines))}
    assert found == {"#1": 5, "x": 5}


@pytest.mark.parametrize("row", ["#1,pay, now,2024-03-01 09:00:00", "1,2024-03-01 09:00:00,pay, now,"])
def test_rows_with_a_comma_too_many_are_refused(tmp_path: Path, row: str) -> None:
    """Neither are they comments, nor do they end with a delimiter as the others do."""
    header = "case,time,activity,note" if row.startswith("1") else HEADER
    rows = [f"c{n},2024-03-01 08:0{n}:00,a,b" if row.startswith("1") else EVENTS[n] for n in range(5)]
    with pytest.raises(DataError, match="line 7"):
        list(Csv().read(laid(tmp_path, [header, *rows, row])))


def test_hours_that_end_a_day_and_daily_minima(tmp_path: Path) -> None:
    rows = [f"2024,1,{1 + n // 24},{n % 24 + 1},{n}.5" for n in range(48)]
    name, (record,) = read_by_init(laid(tmp_path, ["year,month,day,hour,load", *rows]))
    assert (name, record.names, len(record)) == ("signal-csv", ("load",), 48)
    assert record.span()[1] - record.span()[0] == pytest.approx(47 * 3600)
    rows = [f"2024,1,{1 + n // 24},{n % 24},{n % 9},{n}" for n in range(48)]
    _, (record,) = read_by_init(laid(tmp_path, ["year,month,day,hour,min,max", *rows]))
    assert record.names == ("min", "max")
