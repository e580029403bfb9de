"""Activities of several columns: parts stay apart, a known part stays as it is, and only an unknown one is filled."""

import csv
import io
import json
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from filled_case import fill
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from untrained import untrained

from maskseq.apps.infill import infill_file
from maskseq.contract.identity import former_fingerprint
from maskseq.errors import UsageError
from maskseq.formats import Format
from maskseq.infill.sampler import InfillConfig
from maskseq.testing import check_tokenizer
from maskseq.trained import TrainedModel
from maskseq.types import OTHER
from maskseq_events.activities import Activities, readings
from maskseq_events.case import UNKNOWN, Case, no_time
from maskseq_events.delimited import Csv
from maskseq_events.jsonlines import JsonLines
from maskseq_events.ocel import Ocel
from maskseq_events.parquet import Parquet
from maskseq_events.textlog import TextLog
from maskseq_events.tokenizer import EventTokenizer
from maskseq_events.xes import Xes

AWKWARD = ["A", "x+y", "+", "x+", "+y", 'say "hi"', "it's", "a,b", "a & <b>", " blank ", "NA", "é\tü", "[OTHER]", "\\+"]
TWO = ("activity", "lifecycle")
SILENT = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def case_of(parts, key="a", **more):
    time, offset = no_time(len(parts))
    names = tuple(UNKNOWN if UNKNOWN in p else "+".join(x for x in p if x is not None) for p in parts)
    return Case(key=key, activity=names, parts=tuple(parts), time=time, offset=offset, **more)


# Files: each writes events of two texts into a file of its kind and reads them with both as the activity


def lay_csv(path: Path, rows: list[tuple[str | None, str | None]]) -> Format[Case]:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([("case", *TWO, "note"), *[("a", a or "", b or "", "n, n") for a, b in rows]])
    path.write_text(text.getvalue(), newline="")
    return Csv(activity=TWO, time="")


def lay_jsonlines(path: Path, rows: list[tuple[str | None, str | None]]) -> Format[Case]:
    with path.open("w") as file:
        for number, row in enumerate(rows):  # the first names both, the others what they have
            message = {name: value for name, value in zip(TWO, row, strict=True) if value is not None or number == 0}
            file.write(json.dumps({"case": "a", **message, "note": [1, 2]}) + "\n")
    return JsonLines(activity=TWO, time="")


def lay_parquet(path: Path, rows: list[tuple[str | None, str | None]]) -> Format[Case]:
    columns = zip(*rows, strict=True)
    table = {"case": ["a"] * len(rows), **dict(zip(TWO, map(list, columns), strict=True))}
    pq.write_table(pa.table(table, pa.schema([(name, pa.string()) for name in table])), path)
    return Parquet(activity=TWO, time="")


def lay_xes(path: Path, rows: list[tuple[str | None, str | None]]) -> Format[Case]:
    log = ET.Element("log")
    trace = ET.SubElement(log, "trace")
    ET.SubElement(trace, "string", key="concept:name", value="a")
    for row in rows:
        event = ET.SubElement(trace, "event")
        for key, value in zip(("concept:name", "lifecycle:transition"), row, strict=True):
            if value is not None:
                ET.SubElement(event, "string", key=key, value=value)
    ET.ElementTree(log).write(path)
    return Xes(activity=("concept:name", "lifecycle:transition"))


KINDS = {"csv": lay_csv, "jsonl": lay_jsonlines, "parquet": lay_parquet, "xes": lay_xes}
part = st.sampled_from([*AWKWARD, None]) | st.text(
    st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=5
).filter(lambda text: text.strip().strip('"').strip() != UNKNOWN)


@pytest.mark.parametrize("kind", KINDS)
@SILENT
@given(
    pairs=st.lists(st.tuples(part, part).filter(any), min_size=1, max_size=6, unique=True),
    data=st.data(),
)
def test_any_parts_are_filled_as_they_are_and_known_ones_stay(tmp_path, kind, pairs, data):
    """Every hole gets an activity of training whole, or the part that it lacks; all else is as it was."""
    hide = st.sampled_from([(0, 1), (0,), (1,), ()])
    chosen = data.draw(st.lists(st.tuples(st.sampled_from(pairs), hide), min_size=1, max_size=6))
    rows = [tuple(UNKNOWN if i in holes else part for i, part in enumerate(pair)) for pair, holes in chosen]
    path, out = tmp_path / f"log.{kind}", tmp_path / f"out.{kind}"
    path.unlink(missing_ok=True)
    (training,) = KINDS[kind](path, pairs).read(path)
    assert list(training.parts) == pairs
    tokenizer = EventTokenizer.fit([training], min_count=1)
    reader = KINDS[kind](path, rows)
    (case,) = reader.read(path)
    assert list(case.parts) == rows
    filled = fill(tokenizer, case, seed=len(pairs))
    reader.write([filled], out)
    (again,) = reader.read(out)
    assert again.bare() == filled.bare()
    for before, after in zip(rows, again.parts, strict=True):
        assert after in pairs
        assert all(a in (b, UNKNOWN) for a, b in zip(before, after, strict=True))
    same = tmp_path / f"same.{kind}"
    reader.write([case], same)
    if kind != "parquet":
        assert same.read_bytes() == path.read_bytes()


LOG = "case,activity,lifecycle\n" + "a,A,start\na,A,complete\na,B,complete\na,C,\n" * 3


@pytest.fixture
def run(tmp_path: Path) -> TrainedModel:
    (tmp_path / "train.csv").write_text(LOG)
    options = {"activity": list(TWO), "time": ""}
    run = untrained(EventTokenizer.fit(Csv(activity=TWO, time="").read(tmp_path / "train.csv")), tmp_path / "run")
    recipe = {"data": {"files": ["train.csv"], "format": "event-csv", "format_options": options}}
    (run.path / "recipe.json").write_text(json.dumps({"recipe": recipe}))
    return run


def rows_of(path: Path) -> list[list[str]]:
    return list(csv.reader(path.read_text().splitlines()))[1:]


@pytest.mark.parametrize(
    "config",
    [
        InfillConfig(),
        InfillConfig(order="left_to_right", beam=4),
        InfillConfig(order="one_shot", temperature=1.0, samples=3),
        InfillConfig(order="remdm", temperature=1.0),
    ],
    ids=["surest first", "beam", "at once", "refined"],
)
def test_a_known_part_stays_in_whatever_order_a_file_is_filled(
    run: TrainedModel, tmp_path: Path, config: InfillConfig
) -> None:
    rows = [("b", *pair) for pair in [("B", "?"), ("?", "start"), ("?", "?"), ("?", "complete"), ("C", "")] * 40]
    path = tmp_path / "log.csv"
    path.write_text("case,activity,lifecycle\n" + "".join(",".join(row) + "\n" for row in rows))
    summary = infill_file(run, path, output=tmp_path / "out", config=config)
    known = {("A", "start"), ("A", "complete"), ("B", "complete"), ("C", "")}
    assert summary["filled"]["cells"] == 160
    for before, (key, *after) in zip(rows, rows_of(tmp_path / "out" / "log.csv"), strict=True):
        assert key == "b"
        assert tuple(after) in known
        assert all(a in (b, "?") for a, b in zip(before[1:], after, strict=True))


def test_a_part_that_no_activity_has_stays_alone_and_is_reported(run: TrainedModel, tmp_path: Path) -> None:
    path, warned = tmp_path / "log.csv", []
    path.write_text("case,activity,lifecycle\nb,Z,?\nb,?,start\nb,B,complete\nb,?,\n")
    summary = infill_file(run, path, output=tmp_path / "out", on_warning=warned.append)
    assert rows_of(tmp_path / "out" / "log.csv") == [
        ["b", "Z", "?"],
        ["b", "A", "start"],
        ["b", "B", "complete"],
        ["b", "C", ""],
    ]
    assert len(summary["not filled"]) == 1
    assert "b:1" in summary["not filled"][0]
    assert any("'Z'" in text for text in warned)
    (case,) = Csv(activity=TWO, time="").read(path)
    encoded = run.tokenizer.encode(case)
    assert run.tokenizer.fields[0].token(encoded.ids[0, 0]) == OTHER  # true, whatever its lifecycle is
    assert len(run.tokenizer.unfillable(case)) == 1


@pytest.mark.parametrize(
    "requested", [{"unknown": ["activity"]}, {"ranges": {"b": [(0, 3)]}}], ids=["a field", "a range"]
)
def test_a_part_that_no_activity_has_stays_alone_where_everything_is_hidden(
    run: TrainedModel, tmp_path: Path, requested: dict[str, Any]
) -> None:
    path = tmp_path / "log.csv"
    path.write_text("case,activity,lifecycle\nb,Z,?\nb,?,start\nb,B,complete\n")
    summary = infill_file(run, path, output=tmp_path / "out", **requested)
    assert rows_of(tmp_path / "out" / "log.csv")[:2] == [["b", "Z", "?"], ["b", "A", "start"]]
    assert summary["filled"]["cells"] == 2
    assert "b:1" in summary["not filled"][0]


def test_what_is_hidden_on_purpose_is_hidden_whole(run: TrainedModel, tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("case,activity,lifecycle\nb,B,complete\nb,?,start\nb,A,start\n")
    infill_file(run, path, output=tmp_path / "out", ranges={"b": [(0, 2)]})
    first, second, third = rows_of(tmp_path / "out" / "log.csv")
    assert first[1:] in (["A", "start"], ["A", "complete"], ["B", "complete"], ["C", ""])
    assert second == ["b", "A", "start"]
    assert third == ["b", "A", "start"]


def test_events_of_known_parts_are_scored_and_others_are_not(run: TrainedModel, tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("case,activity,lifecycle\nb,B,complete\nb,?,start\nb,A,?\n")
    (score,) = run.score(Csv(activity=TWO, time="").read(path))
    assert np.isfinite(score.mean_bits)
    cases = list(Csv(activity=TWO, time="").read(path))
    assert run.tokenizer.vocabulary.known(run.tokenizer.encode(cases[0]).ids)[:, 0].tolist() == [
        True,
        False,
        False,
        True,
    ]


# XES


def event(*elements: tuple[str, str]) -> str:
    return "<event>" + "".join(f'<string key="{key}" value="{value}"/>' for key, value in elements) + "</event>"


def test_an_attribute_that_an_event_never_had_stays_absent(tmp_path):
    keys = ("concept:name", "lifecycle:transition")
    known = [(("concept:name", name), ("lifecycle:transition", cycle)) for name, cycle in ("Aa", "Ab", "Bb") * 2]
    alone = (("concept:name", "C"),)
    path = tmp_path / "log.xes"
    path.write_text("<log><trace>" + "".join(event(*each) for each in known) + "</trace></log>")
    tokenizer = EventTokenizer.fit(Xes(activity=keys).read(path))
    assert tokenizer.parts == (("A", "a"), ("A", "b"), ("B", "b"))
    hole = (("concept:name", "?"), ("lifecycle:transition", "b"))
    empty = (("lifecycle:transition", "b"),)
    text = "<log><trace>" + event(*alone) + event(*hole) + event(*empty) + "<event/>" + "</trace></log>"
    path.write_text(text)
    (case,) = Xes(activity=keys).read(path)
    assert case.parts == (("C", None), (UNKNOWN, "b"), (None, "b"), (UNKNOWN, UNKNOWN))
    assert case.activity == ("C", UNKNOWN, "b", UNKNOWN)
    Xes(activity=keys).write([fill(tokenizer, case)], tmp_path / "out.xes")
    first, second, third, fourth = ET.parse(tmp_path / "out.xes").getroot().iter("event")
    message = [{a.get("key"): a.get("value") for a in each} for each in (first, second, third, fourth)]
    assert message[0] == {"concept:name": "C"}
    assert message[1]["lifecycle:transition"] == "b"
    assert message[1]["concept:name"] in ("A", "B")
    assert message[2] == {"lifecycle:transition": "b"}
    assert set(message[3]) == set(keys)


# Runs that were made when tokens were joined, and plug-ins that know names only


def joined(*names: str) -> EventTokenizer:
    return EventTokenizer(activities=names)


def test_the_state_of_an_activity_of_one_column_is_what_it_always_was():
    time, offset = no_time(2)
    case = Case(key="a", activity=("x", "x"), time=time, offset=offset, attributes={"v": ("p", None)})
    tokenizer = EventTokenizer.fit([case], attributes=["v"], min_count=1)
    assert set(tokenizer.state()) == {"activities", "columns", "gaps", "start", "end", "static", "templates"}
    assert set(tokenizer.state()["columns"][0]) == {"name", "scope", "values", "bins", "whole"}
    assert former_fingerprint(tokenizer) == "8ffcdd2c18caa0256c5a1e950aed474d94cbd2235d389ebead65f2bd3ccde7c8"


def test_parts_survive_json():
    tokenizer = EventTokenizer.fit([case_of([("A", "x+y"), ("A+x", "y"), ("C", None)])], min_count=1)
    again = EventTokenizer.from_state(json.loads(json.dumps(tokenizer.state())))
    assert again == tokenizer
    assert again.fingerprint == tokenizer.fingerprint
    with pytest.raises(UsageError, match="parts"):
        EventTokenizer.from_state(tokenizer.state() | {"activities": ["A"]})


def test_activities_that_read_alike_are_kept_apart():
    pairs = [("A", "x+y"), ("A+x", "y"), ("A+x+y", None)]
    tokenizer = EventTokenizer.fit([case_of(pairs)], min_count=1)
    assert len(set(tokenizer.activities)) == 3
    assert len(set(tokenizer.encode(case_of(pairs)).ids[:3, 0].tolist())) == 3
    assert fill(tokenizer, case_of([("A", UNKNOWN), (UNKNOWN, "y"), (UNKNOWN, None)])).parts == tuple(pairs)


def test_names_in_old_runs_are_taken_apart_where_that_can_be_done_in_one_way():
    old = joined("A+start", "A+complete", "B+complete", "Send + archive+complete", "alone")
    known = case_of([("A", "start"), ("Send + archive", "complete"), ("B", "start")])
    assert old.encode(known).ids[:3, 0].tolist() == [0, 3, old.fields[0].control_id(OTHER)]
    assert fill(old, case_of([("Send + archive", UNKNOWN)])).parts == (("Send + archive", "complete"),)
    for seed in range(20):
        filled = fill(old, case_of([(UNKNOWN, UNKNOWN), ("A", UNKNOWN), (UNKNOWN, "start")]), seed=seed)
        assert filled.parts[0] in {("A", "start"), ("A", "complete"), ("B", "complete")}
        assert filled.parts[1][0] == "A"
        assert filled.parts[2] == ("A", "start")
    assert sorted(readings("a+b+c", 2)) == [("a", "b+c"), ("a+b", "c")]
    assert list(readings("+a+", 2)) == []
    assert Activities(("a+b",), ()).fitting(("a", UNKNOWN, UNKNOWN)) == {}


@pytest.mark.parametrize("kind", KINDS)
def test_a_tokenizer_that_knows_names_only_can_still_fill(tmp_path, kind):
    path, out = tmp_path / f"log.{kind}", tmp_path / f"out.{kind}"
    reader = KINDS[kind](path, [("?", "?"), ("A", "?"), ("A", "?"), ("?", "?")])
    (case,) = reader.read(path)
    reader.write([replace(case, activity=("B+start", "A+complete", "B+start", "x+y+z"))], out)
    (again,) = reader.read(out)
    assert again.parts == (("B", "start"), ("A", "complete"), ("A", UNKNOWN), (UNKNOWN, UNKNOWN))


# All kinds of records


def test_the_contract_of_tokenizers_is_kept():
    rng = np.random.default_rng(0)
    pairs = [(a, b) for a in ("A", "x+y", "B") for b in ("start", "complete", None)]
    records = []
    for number in range(40):
        parts = [pairs[i] for i in rng.integers(len(pairs), size=rng.integers(1, 9))]
        masked = [tuple(UNKNOWN if rng.random() < 0.2 else part for part in pair) for pair in parts]
        values = tuple(str(rng.integers(5)) for _ in parts)
        records.append(case_of(masked, key=f"c{number}", attributes={"room": values}))
    report = check_tokenizer(EventTokenizer.fit(records, attributes=["room"]), records)
    assert {"legal", "splice", "no leak"} <= set(report.checked)


def test_events_can_be_added_and_cut_out(tmp_path):
    path = tmp_path / "log.csv"
    reader = lay_csv(path, [("A", "start"), ("B", "x+y"), ("C", "")])
    (case,) = reader.read(path)
    longer = case.resized(1, 2, 2)
    assert longer.parts == (("A", "start"), (UNKNOWN, UNKNOWN), (UNKNOWN, UNKNOWN), ("C", None))
    assert case.cut(1, 3).parts == (("B", "x+y"), ("C", None))
    tokenizer = EventTokenizer.fit([case], min_count=1)
    reader.write([fill(tokenizer, longer)], tmp_path / "out.csv")
    (again,) = reader.read(tmp_path / "out.csv")
    assert len(again) == 4
    assert (again.parts[0], again.parts[3]) == (("A", "start"), ("C", None))
    assert set(again.parts) <= set(case.parts)


@pytest.mark.parametrize("name", ["new.csv", "new.jsonl", "new.parquet", "new.xes"])
def test_a_new_file_keeps_the_parts_apart(tmp_path, name):
    pairs = (("A", "x+y"), ("A+x", "y"), ("B", UNKNOWN), ("C", None))
    keys = ("activity", "activity#2")
    kind: dict[str, Any] = {".csv": Csv, ".jsonl": JsonLines, ".parquet": Parquet, ".xes": Xes}
    reader = kind[Path(name).suffix](activity=keys, **({} if name == "new.xes" else {"time": ""}))
    reader.write([case_of(pairs)], tmp_path / name)
    (again,) = reader.read(tmp_path / name)
    assert again.parts == pairs


def test_a_text_log_of_two_groups_keeps_the_known_one(tmp_path):
    path, out = tmp_path / "a.log", tmp_path / "b.log"
    log = TextLog(layout=r"(?P<level>\S+) (?P<message>.*)", activity=("level", "message"), session_lines=100)
    path.write_text('INFO a+b\nINFO "c"\nWARN a+b\n' * 2)
    tokenizer = EventTokenizer.fit(log.read(path))
    path.write_text('? a+b\nINFO ?\n? "c"\nWARN ?\n')
    (case,) = log.read(path)
    log.write([fill(tokenizer, case)], out)
    lines = out.read_text().splitlines()
    assert lines[0] in ("INFO a+b", "WARN a+b")
    assert lines[1] in ("INFO a+b", 'INFO "c"')
    assert lines[2:] == ['INFO "c"', "WARN a+b"]


# What stands beside a hole


@pytest.mark.parametrize("new", [None, "5", 'x"y', "a+b"])
def test_what_stands_beside_a_value_in_json_stays(tmp_path, new):
    path, out = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    path.write_text('{"case": "a", "activity": "x", "v" : "?" ,"deep": {"v": "?", "w": ["?", 1.50]}}\n')
    (case,) = JsonLines(time="").read(path)
    JsonLines(time="").write([replace(case, attributes=dict(case.attributes) | {"v": (new,)})], out)
    assert out.read_text() == path.read_text().replace('"v" : "?"', f'"v" : {json.dumps(new)}')

    path, out = tmp_path / "a.jsonocel", tmp_path / "b.jsonocel"
    attribute = '{"name": "v", "unit": {"of": "?"}, "value": "?", "by": [ ]}'
    event = f'{{"id": "e", "type": "?", "time": "2024-01-01T00:00:00Z", "attributes": [{attribute}], '
    path.write_text(
        f'{{"objectTypes": [], "eventTypes": [], "events": [{event}"relationships": [{{"objectId": "o"}}]}}], '
        f'"objects": [{{"id": "o", "type": "t"}}]}}'
    )
    (case,) = Ocel().read(path)
    name = f'{new} + "'
    Ocel().write([replace(case, activity=(name,), attributes={"v": (new,)})], out)
    expected = path.read_text().replace('"value": "?"', f'"value": {json.dumps(new)}')
    assert out.read_text() == expected.replace('"type": "?"', f'"type": {json.dumps(name)}')
