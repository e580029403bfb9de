"""Values that nobody knows, in every format of events: read as holes however they are written, filled, or spoken of."""

import json
from dataclasses import replace

import numpy as np
import pytest
from untrained import untrained

from maskseq.apps.infill import infill_file
from maskseq.corpus.dress import ReadAs
from maskseq.survey import CERTAIN, Head
from maskseq.types import ListRecord
from maskseq_events.case import UNKNOWN, UNKNOWN_TIME
from maskseq_events.delimited import Csv
from maskseq_events.jsonlines import JsonLines
from maskseq_events.ocel import Ocel
from maskseq_events.parquet import Parquet
from maskseq_events.textlog import TextLog
from maskseq_events.tokenizer import EventTokenizer
from maskseq_events.xes import Xes
from maskseq_signals.delimited import SignalCsv
from maskseq_signals.recording import Recording
from maskseq_signals.tokenizer import QuantizeTokenizer

SIGNAL = ReadAs(format="signal-csv")

HOLES = ("?", " ?", "? ", "\t? ", '"?"', '" ? "', "\u00a0?")
KNOWN = ("what?", "? no", "??", " ? x")


def csv_file(path, hole):
    quoted = '"' + hole.replace('"', '""') + '"'
    path.write_text(
        f"case,activity,time,room,amount\na,x,2024-01-01 09:00:00,1,1.5\na,{quoted},{quoted},{quoted},{quoted}\n"
        "a,y,2024-01-03 09:00:00,2,2.5\n",
        newline="",
    )


def json_file(path, hole):
    rows = [("x", "2024-01-01T09:00:00", "1", 1.5), (hole,) * 4, ("y", "2024-01-03T09:00:00", "2", 2.5)]
    names = ("activity", "time", "room", "amount")
    path.write_text("".join(json.dumps({"case": "a", **dict(zip(names, row, strict=True))}) + "\n" for row in rows))


def parquet_file(path, hole):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    columns = {
        "case": ["a"] * 3,
        "activity": ["x", hole, "y"],
        "time": ["2024-01-01T09:00:00", hole, "2024-01-03T09:00:00"],
        "room": pa.array(["1", hole, "2"]).dictionary_encode(),
        "amount": ["1.5", hole, "2.5"],
    }
    pq.write_table(pa.table(columns), path)


def xes_file(path, hole):
    shown = hole.replace('"', "&quot;").replace("\t", "&#9;")
    rows = [("x", "2024-01-01T09:00:00", "1", "1.5"), (shown,) * 4, ("y", "2024-01-03T09:00:00", "2", "2.5")]
    keys = (("string", "concept:name"), ("date", "time:timestamp"), ("string", "room"), ("float", "amount"))
    events = [
        "".join(f'<{tag} key="{key}" value="{value}"/>' for (tag, key), value in zip(keys, row, strict=True))
        for row in rows
    ]
    body = "".join(f"<event>{event}</event>" for event in events)
    path.write_text(f'<log><trace><string key="concept:name" value="a"/>{body}</trace></log>')


def ocel_file(path, hole):
    rows = [("x", "2024-01-01T09:00:00", "1", 1.5), (hole,) * 4, ("y", "2024-01-03T09:00:00", "2", 2.5)]
    events = [
        {
            "id": f"e{n}",
            "type": activity,
            "time": time,
            "attributes": [{"name": "room", "value": room}, {"name": "amount", "value": amount}],
            "relationships": [{"objectId": "a"}],
        }
        for n, (activity, time, room, amount) in enumerate(rows)
    ]
    path.write_text(json.dumps({"objects": [{"id": "a", "type": "order"}], "events": events}))


def text_file(path, hole):
    rows = [("x", "2024-01-01T09:00:00", "1", "1.5"), (hole,) * 4, ("y", "2024-01-03T09:00:00", "2", "2.5")]
    path.write_text("".join("|".join(("a", *row)) + "\n" for row in rows))


FORMATS = [
    ("log.csv", Csv(), csv_file),
    ("log.jsonl", JsonLines(), json_file),
    ("log.parquet", Parquet(), parquet_file),
    ("log.xes", Xes(), xes_file),
    ("log.ocel.json", Ocel(), ocel_file),
    (
        "my.log",
        TextLog(
            layout=r"(?P<who>[^|]*)\|(?P<message>[^|]*)\|(?P<time>[^|]*)\|(?P<room>[^|]*)\|(?P<amount>[^|]*)",
            session="who",
            activity="message",
        ),
        text_file,
    ),
]
each_format = pytest.mark.parametrize(("name", "format", "make"), FORMATS, ids=[f[0] for f in FORMATS])


@pytest.mark.parametrize("hole", HOLES)
@each_format
def test_a_question_mark_is_unknown_whatever_blanks_and_quotes_are_around_it(tmp_path, name, format, make, hole):
    make(tmp_path / name, hole)
    (case,) = format.read(tmp_path / name)
    assert case.activity == ("x", UNKNOWN, "y")
    assert case.attributes["room"] == ("1", UNKNOWN, "2")
    assert [*case.attributes["amount"]] == ["1.5", UNKNOWN, "2.5"]
    assert case.time[1] == UNKNOWN_TIME
    assert case.timed.tolist() == [True, False, True]
    format.write([case], tmp_path / f"again-{name}")
    if name != "log.parquet":
        assert (tmp_path / f"again-{name}").read_bytes() == (tmp_path / name).read_bytes()
    (again,) = format.read(tmp_path / f"again-{name}")
    assert again == case


@pytest.mark.parametrize("value", KNOWN)
@each_format
def test_a_text_with_a_question_mark_is_a_value(tmp_path, name, format, make, value):
    if name == "my.log":
        value = value.replace("|", "")
    make(tmp_path / name, "?")
    (case,) = format.read(tmp_path / name)
    format.write([replace(case, attributes=case.attributes | {"room": ("1", value, "2")})], tmp_path / f"new-{name}")
    (again,) = format.read(tmp_path / f"new-{name}")
    assert again.attributes["room"] == ("1", value, "2")


@each_format
def test_of_holes_in_blanks_and_quotes_only_those_that_are_filled_change(tmp_path, name, format, make):
    make(tmp_path / name, " ?")
    (case,) = format.read(tmp_path / name)
    format.write([replace(case, attributes=case.attributes | {"room": ("1", "7", "2")})], tmp_path / f"new-{name}")
    (again,) = format.read(tmp_path / f"new-{name}")
    assert (again.attributes["room"], again.activity) == (("1", "7", "2"), case.activity)
    if name != "log.parquet":
        before, after = (tmp_path / name).read_text(), (tmp_path / f"new-{name}").read_text()
        assert (before.count(" ?"), after.count(" ?"), len(before) - len(after)) == (4, 3, 1 + (name == "log.csv") * 2)


@pytest.mark.parametrize(("name", "format", "make"), FORMATS[1:2] + FORMATS[4:5], ids=["JSON Lines", "OCEL"])
def test_a_hole_among_json_numbers_is_filled_with_a_number(tmp_path, name, format, make):
    make(tmp_path / name, " ?")
    (case,) = format.read(tmp_path / name)
    format.write([replace(case, attributes=case.attributes | {"amount": ("1.5", "7", "2.5")})], tmp_path / name)
    assert ": 7}" in (tmp_path / name).read_text()


def test_times_are_recognized_beside_holes_in_blanks(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("case,activity,time,room\n" + "a,x,2024-01-01,1\na, ?, ?, ?\n" * 9)
    claim = Csv.recognize(Head.of(path))
    assert (claim.strength, claim.options) == (CERTAIN, {})


def test_blanks_outside_the_quotes_of_a_cell_make_no_value_of_a_hole(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text('case, activity, time, room\na, "?", 2024-01-01, "?"\na, b, ?, x\n')
    (case,) = Csv(case="case", activity=" activity", time=" time").read(path)
    assert (case.activity, case.attributes[" room"]) == ((UNKNOWN, " b"), (UNKNOWN, " x"))


def test_what_a_recipe_calls_unknown_is_so_with_blanks_around_it_too(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("case,activity,time,room\na,x,2024-01-01, NA \na,y,2024-01-02,NA\na,y,2024-01-03,ANA\n")
    (case,) = Csv(unknown=("NA",)).read(path)
    assert case.attributes["room"] == (UNKNOWN, UNKNOWN, "ANA")


# What no field of a run stands for is not filled, and spoken of

KNOWN_LOG = "case,activity,time,room,note,case:age\n" + "".join(
    f"c{c},{'xy'[(c + e) % 2]},2024-01-{1 + c:02d}T{8 + e:02d}:30:00,{e % 2},n{e},{c}\n"
    for c in range(9)
    for e in range(4)
)


@pytest.fixture(scope="module")
def log_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("log")
    (folder / "log.csv").write_text(KNOWN_LOG)
    return untrained(EventTokenizer.fit(Csv().read(folder / "log.csv"), attributes=["room"]), folder / "run")


def filled(run, path):
    warnings = []
    summary = infill_file(run, path, output=path.with_name("out"), on_warning=warnings.append)
    return summary, warnings, (path.with_name("out") / "report.html").read_text()


def test_unknown_values_of_columns_without_a_field_are_counted(log_run, tmp_path):
    path = tmp_path / "log.csv"
    holes = KNOWN_LOG.replace(",n2,", ", ?,").replace("2024-01-09T08:30:00,0,n0,8", "?,?,n0,8")
    holes = holes.replace(",7\n", ",?\n")
    path.write_text(holes)
    summary, (warning,), report = filled(log_run, path)
    assert summary["without a field"] == {"note": 9, "case:age": 1}
    assert "'note' (9)" in warning
    assert "'case:age' (1)" in warning
    assert "note" in report
    assert "without a field" in report.lower()
    assert summary["filled"]["cells"] == 4  # the room, and hour, weekday and the gap behind the time
    after = (tmp_path / "out" / "log.csv").read_text()
    assert (after.count(", ?,"), after.count(",?,"), after.count(",?\n")) == (9, 0, 4)


def test_times_that_cannot_be_placed_are_counted(log_run, tmp_path):
    """Where no event of a case has a time, gaps and hours are filled, and there is no moment to write."""
    lines = KNOWN_LOG.splitlines()
    names = lines[0].split(",")
    time = names.index("time")
    rows = [row.split(",") for row in lines[1:]]
    (tmp_path / "log.csv").write_text("\n".join(",".join([*r[:time], "?", *r[time + 1 :]]) for r in [names, *rows][1:]))
    content = ",".join(names) + "\n" + (tmp_path / "log.csv").read_text() + "\n"
    (tmp_path / "log.csv").write_text(content)
    summary, warnings, report = filled(log_run, tmp_path / "log.csv")
    assert summary["without a place"]["hour"] == len(rows)
    assert any("'hour'" in each for each in warnings)
    assert "without a place" in report.lower()
    assert (tmp_path / "out" / "log.csv").read_text() == content


def test_nothing_is_spoken_of_where_all_unknown_values_are_filled(log_run, tmp_path):
    (tmp_path / "log.csv").write_text(KNOWN_LOG.replace("2024-01-09T08:30:00,0,n0,8", "?,?,n0,8"))
    summary, warnings, _ = filled(log_run, tmp_path / "log.csv")
    assert "without a field" not in summary
    assert not warnings


@each_format
def test_unknown_values_count_in_every_format_and_in_columns_that_are_not_read(tmp_path, name, format, make):
    make(tmp_path / name, " ?")
    (case,) = format.read(tmp_path / name)
    assert case.unknown_values() == {"activity": 1, "time": 1, "room": 1, "amount": 1}
    if name != "log.ocel.json":  # which is read whole
        (case,) = replace(format, attributes=("room",)).read(tmp_path / name)
        assert list(case.attributes) == ["room"]
        assert case.unknown_values() == {"activity": 1, "time": 1, "room": 1, "amount": 1}


def test_unknown_values_of_a_signal_that_are_no_channel_of_the_run_are_counted(tmp_path):
    values = np.random.default_rng(0).normal(size=(300, 1)).round(3)
    learned = Recording(key="s", channels=values, names=("u",), decimals=(3,))
    run = untrained(QuantizeTokenizer.fit([learned], bins=8), tmp_path / "run")
    path = tmp_path / "s.csv"
    path.write_text("time,u,v,note\n" + "".join(f"{t},{t % 3 or '?'},{t % 5 or ' ?'},\n" for t in range(30)))
    reader = SignalCsv(channels=("u",))
    (record,) = reader.read(path)
    assert record.unknown_values() == {"u": 10, "v": 6}
    warnings = []
    path.write_text("time,u,v\n" + "".join(f"{t},{t % 3 or '?'},{t % 5 or ' ?'}\n" for t in range(30)))
    summary = infill_file(run, path, output=tmp_path / "out", read_as=SIGNAL, on_warning=warnings.append)
    assert (summary["without a field"], len(warnings)) == ({"v": 6}, 1)
    assert (tmp_path / "out" / "s.csv").read_text().count("?") == 6


def test_records_of_plug_ins_need_not_count():
    assert ListRecord(key="a", values=["?"]).unknown_values() == {}
