"""Values that nobody knows, in every format of events: read as holes however they are written, filled, or spoken of."""

import json
from dataclasses import replace

import pytest

from maskseq.survey import CERTAIN, Head
from maskseq_events.case import UNKNOWN, UNKNOWN_TIME
from maskseq_events.delimited import Csv
from maskseq_events.jsonlines import JsonLines
from maskseq_events.ocel import Ocel
from maskseq_events.parquet import Parquet
from maskseq_events.textlog import TextLog
from maskseq_events.xes import Xes

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
