"""Lines that end in a lone carriage return are read as lines, and come back, in every table of text."""

import gzip
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maskseq_events.delimited import Csv
from maskseq_events.jsonlines import JsonLines
from maskseq_events.sessions import Sessions
from maskseq_events.textlog import TextLog
from maskseq_genomics.tables import SequenceLines, SequenceTable
from maskseq_signals.delimited import SignalCsv

LOG = TextLog(layout=r"(?P<time>\d+) (?P<message>.*)", session_lines=2, time_layout="epoch_s", continued=True)
FILES = [
    ("a.csv", Csv(), 'case,activity,time,note\na,x,2024-01-01,"1,\n2"\n\nb,?,2024-01-02,3\na,z,2024-01-03,4'),
    ("a.jsonl", JsonLines(), '\n{"case":1,"activity":"x","time":"2024-01-01"}\n{"case":1,"activity":"?","time":"?"}\n'),
    ("a.sessions", Sessions(), "\na b  c\nd ?\n\ne\n"),
    ("a.log", LOG, "\n1 m\n  at f\n\n2 ?\n3 n\n  at g"),
    ("s.csv", SignalCsv(), "t,u,v\n1,2,?\n\n2,3,4\n"),
    ("q.csv", SequenceTable(), "sequence,label\nACGT,1\n\nACGNN,0\n"),
    ("q.txt", SequenceLines(), "ACGT\nACGNN\n\n"),
]
each_file = pytest.mark.parametrize(("name", "format", "text"), FILES, ids=[f[0] for f in FILES])


def content(record):
    return {k: v for k, v in vars(record).items() if k not in ("origin", "path", "before", "after", "header", "times")}


@pytest.mark.parametrize("end", ["\r", "\r\n"])
@pytest.mark.parametrize("zipped", [False, True])
@each_file
def test_records_do_not_depend_on_what_ends_the_lines(tmp_path, name, format, text, end, zipped):
    lines = text.replace('"1,\n2"', '"1,;2"') if name == "a.csv" else text
    path, other = tmp_path / name, tmp_path / f"other-{name}"
    other.write_text(lines, newline="")
    raw = lines.replace("\n", end).encode()
    path = path.with_name(name + ".gz") if zipped else path
    path.write_bytes(gzip.compress(raw) if zipped else raw)
    read, expected = list(format.read(path)), list(format.read(other))
    assert len(read) == len(expected) > 0
    if name == "s.csv":
        assert read[0].channels.tolist()[1] == expected[0].channels.tolist()[1] == [3, 4]
    else:
        assert [str(content(a)) for a in read] == [str(content(b)) for b in expected]
    format.write(read, tmp_path / f"again-{path.name}")
    again = (tmp_path / f"again-{path.name}").read_bytes()
    assert (gzip.decompress(again) if zipped else again) == raw


def test_only_what_is_filled_differs_between_carriage_returns(tmp_path):
    (tmp_path / "a.csv").write_text(FILES[0][2].replace("\n", "\r"), newline="")
    a, b = Csv().read(tmp_path / "a.csv")
    Csv().write([a, replace(b, activity=("y",))], tmp_path / "new.csv")
    expected = FILES[0][2].replace("\n", "\r").replace("?", "y")
    assert (tmp_path / "new.csv").read_bytes().decode() == expected
    (tmp_path / "a.log").write_text(FILES[3][2].replace("\n", "\r"), newline="")
    one, two = LOG.read(tmp_path / "a.log")
    LOG.write([replace(one, activity=("m", "k")), two], tmp_path / "new.log")
    assert (tmp_path / "new.log").read_bytes().decode() == FILES[3][2].replace("\n", "\r").replace("?", "k")


def test_rows_that_are_added_end_as_the_others_do(tmp_path):
    text = "case,activity,time\ra,x,2024-01-01\ra,z,2024-01-03"
    (tmp_path / "a.csv").write_text(text, newline="")
    (case,) = Csv().read(tmp_path / "a.csv")
    Csv().write([case.resized(2, 2, 1)], tmp_path / "new.csv")
    assert (tmp_path / "new.csv").read_bytes().decode() == text + "\ra,?,?\r"


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.sampled_from("ab \r\n"), max_size=12))
def test_a_carriage_return_in_a_file_with_newlines_ends_no_line(tmp_path, text):
    path = tmp_path / "a.log"
    path.write_text("1 m" + text, newline="")
    log = TextLog(layout=r"(?s:(?P<message>.*))", session_lines=10**6, time="")
    (case,) = log.read(path)
    end = "\n" if "\n" in text else "\r"
    lines = ("1 m" + text).split(end)
    lines = lines if lines[-1] else lines[:-1]
    assert [*case.activity] == [line.removesuffix("\r") or "?" for line in lines]
    log.write([case], tmp_path / "again.log")
    assert (tmp_path / "again.log").read_bytes() == path.read_bytes()
