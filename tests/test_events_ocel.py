"""OCEL 2.0: the three file kinds say the same, and flattening gives each object the events that it takes part in."""

import gzip
import json
import sqlite3
from itertools import pairwise
from xml.sax.saxutils import escape, quoteattr

import numpy as np
import pytest

from maskseq.errors import DataError, UsageError
from maskseq_events.case import UNKNOWN, UNKNOWN_TIME
from maskseq_events.delimited import Csv
from maskseq_events.ocel import Ocel
from maskseq_events.tokenizer import EventTokenizer

OBJECTS = {  # id: type, [(attribute, time, value)]
    "o1": ("order", [("price", "1970-01-01T00:00:00Z", "10.5"), ("price", "2024-02-01T00:00:00Z", "12")]),
    "o2": ("order", []),
    "i1": ("item", [("colour", "1970-01-01T00:00:00Z", "red & blue")]),
    "i2": ("item", []),
    "lonely": ("item", []),
}
EVENTS = {  # id: type, time, attributes, objects
    "e1": ("place order", "2024-01-01T09:00:00Z", {"channel": "web"}, ["o1", "i1", "i2"]),
    "e2": ("pack", "2024-01-03T09:00:00Z", {}, ["i1", "i1"]),
    "e3": ("place order", "2024-01-02T09:00:00Z", {"channel": "shop"}, ["o2"]),
    "e4": ("pack", "2024-01-01T10:30:00Z", {}, ["i2", "o1"]),
    "e5": ("?", "?", {"channel": "?"}, ["i2"]),
    "e6": ("audit", "2024-01-05T00:00:00Z", {}, []),
}


def as_json():
    return json.dumps(
        {
            "objectTypes": [{"name": "order", "attributes": [{"name": "price", "type": "float"}]}],
            "eventTypes": [],
            "objects": [
                {
                    "id": key,
                    "type": kind,
                    "attributes": [dict(zip(("name", "time", "value"), a, strict=True)) for a in own],
                }
                for key, (kind, own) in OBJECTS.items()
            ],
            "events": [
                {
                    "id": key,
                    "type": kind,
                    "time": time,
                    "attributes": [{"name": n, "value": v} for n, v in own.items()],
                    "relationships": [{"objectId": o, "qualifier": "of"} for o in objects],
                }
                for key, (kind, time, own, objects) in EVENTS.items()
            ],
        }
    ).encode()


def as_xml(relation="relationship"):
    text = ["<?xml version='1.0'?><log><object-types><object-type name='order'><attributes>"]
    text += ["<attribute name='price' type='float'/></attributes></object-type></object-types><objects>"]
    for key, (kind, own) in OBJECTS.items():
        values = "".join(
            f"<attribute name={quoteattr(n)} time={quoteattr(t)}>{escape(v)}</attribute>" for n, t, v in own
        )
        related = "<objects><relationship object-id='i1' qualifier='has'/></objects>"
        text += [
            f"<object id={quoteattr(key)} type={quoteattr(kind)}><attributes>{values}</attributes>{related}</object>"
        ]
    text += ["</objects>\n<events>"]
    for key, (kind, time, own, objects) in EVENTS.items():
        values = "".join(f"<attribute name={quoteattr(n)}>{escape(v)}</attribute>" for n, v in own.items())
        related = "".join(f"<{relation} object-id={quoteattr(o)} qualifier='of'/>" for o in objects)
        head = f"<event id={quoteattr(key)} type={quoteattr(kind)} time={quoteattr(time)}>"
        text += [f"{head}<attributes>{values}</attributes><objects>{related}</objects></event>"]
    return "".join([*text, "</events></log>"]).encode()


def as_sqlite(path):
    with sqlite3.connect(path) as database:
        for what, kinds in (("object", ["order", "item"]), ("event", ["place order", "pack", "?", "audit"])):
            database.execute(f"CREATE TABLE {what} (ocel_id TEXT PRIMARY KEY, ocel_type TEXT)")
            database.execute(f"CREATE TABLE {what}_map_type (ocel_type TEXT, ocel_type_map TEXT)")
            names = {"order": "price", "item": "colour"}
            for n, kind in enumerate(kinds):
                extra = f"ocel_changed_field TEXT, {names[kind]} TEXT" if what == "object" else "channel TEXT"
                database.execute(f'CREATE TABLE "{what}_Map{n}" (ocel_id TEXT, ocel_time TIMESTAMP, {extra})')
                database.execute(f"INSERT INTO {what}_map_type VALUES (?, ?)", (kind, f"Map{n}"))
        for key, (kind, own) in OBJECTS.items():
            database.execute("INSERT INTO object VALUES (?, ?)", (key, kind))
            table = f"object_Map{['order', 'item'].index(kind)}"
            for _, time, value in reversed(own or [(None, "1970-01-01T00:00:00Z", None)]):
                database.execute(f"INSERT INTO {table} VALUES (?, ?, NULL, ?)", (key, time, value))
        database.execute("CREATE TABLE event_object (ocel_event_id TEXT, ocel_object_id TEXT, ocel_qualifier TEXT)")
        for key, (kind, time, own, objects) in EVENTS.items():
            database.execute("INSERT INTO event VALUES (?, ?)", (key, kind))
            table = f"event_Map{['place order', 'pack', '?', 'audit'].index(kind)}"
            database.execute(f"INSERT INTO {table} VALUES (?, ?, ?)", (key, time, own.get("channel")))
            database.executemany(
                "INSERT INTO event_object VALUES (?, ?, 'of')", [(key, o) for o in dict.fromkeys(objects)]
            )
    database.close()
    return path.read_bytes()


@pytest.fixture(params=["json", "json.gz", "xml", "xml of the schema", "sqlite"])
def path(request, tmp_path):
    path = tmp_path / "log.ocel"
    match request.param:
        case "json":
            path.write_bytes(as_json())
        case "json.gz":
            path.write_bytes(gzip.compress(as_json()))
        case "xml":
            path.write_bytes(as_xml())
        case "xml of the schema":
            path.write_bytes(as_xml("object"))
        case "sqlite":
            as_sqlite(path)
    return path


def test_each_object_has_the_events_that_it_takes_part_in(path):
    items = {case.key: case for case in Ocel(object_type="item").read(path)}
    assert {key: case.activity for key, case in items.items()} == {
        "i1": ("place order", "pack"),
        "i2": ("place order", "pack", UNKNOWN),
    }
    assert items["i1"].case_attributes == {"colour": "red & blue"}
    assert items["i2"].time[2] == UNKNOWN_TIME
    assert items["i2"].attributes["channel"] == ("web", None, UNKNOWN)
    orders = {case.key: case for case in Ocel(object_type="order").read(path)}
    assert {key: case.activity for key, case in orders.items()} == {
        "o1": ("place order", "pack"),
        "o2": ("place order",),
    }
    assert orders["o1"].case_attributes == {"price": "10.5"}  # its first value
    for case in (*items.values(), *orders.values()):
        assert all(a <= b for a, b in pairwise(case.time[case.timed]))


def test_flattened_cases_are_tokenized_and_written_as_csv(path, tmp_path):
    cases = list(Ocel(object_type="item").read(path))
    tokenizer = EventTokenizer.fit(cases, attributes=["channel"], min_count=1)
    assert tokenizer.activities == ("pack", "place order")
    Csv().write(cases, tmp_path / "flat.csv")
    again = list(Csv().read(tmp_path / "flat.csv"))
    assert [case.activity for case in again] == [case.activity for case in cases]
    np.testing.assert_array_equal(again[1].time, cases[1].time)
    with pytest.raises(UsageError, match="object-centric"):
        Ocel().write(cases, tmp_path / "again.ocel")


BOMB = b'<?xml version="1.0"?><!DOCTYPE log [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]><log>&b;</log>'
BROKEN = [
    ("empty", b"", {}, "not valid JSON"),
    ("cut short", as_json()[:-40], {}, "line 1, column .*not valid JSON"),
    ("no object type said", as_json(), {}, "say object_type.*'item', 'order'"),
    (
        "no such object type",
        as_json(),
        {"object_type": "truck"},
        "no objects of the type 'truck'; there are 'item', 'order'",
    ),
    ("OCEL 1.0", b'{"ocel:events": {}, "ocel:objects": {}}', {}, "not OCEL 2.0: 'objects' is missing"),
    ("a list", b"[]", {}, "not OCEL 2.0: the structure"),
    ("object without id", as_json().replace(b'"id": "i1", ', b""), {}, "object 3: not OCEL 2.0: 'id' is missing"),
    ("event without type", as_json().replace(b'"type": "pack", ', b""), {}, "event 2: not OCEL 2.0: 'type' is missing"),
    ("wrong encoding", as_json().replace(b"red", b"\xff"), {}, "byte .*not UTF-8"),
    (
        "not a time",
        as_json().replace(b"2024-01-03T09:00:00Z", b"Wednesday"),
        {"object_type": "item"},
        "event 'e2': 'Wednesday'",
    ),
    (
        "nobody takes part",
        as_json().replace(b'"objectId"', b'"objectId": "x", "was"'),
        {"object_type": "item"},
        "no event has an object",
    ),
    ("gzip cut short", gzip.compress(as_json())[:-20], {}, "cut short"),
    ("XML cut short", as_xml()[:-40], {}, "not valid XML: .*line 2"),
    ("XML bomb", BOMB, {}, "line 1: a document type declaration"),
    ("XES", b"<log><trace/></log>", {}, "there are none"),
    ("HTML", b"<html/>", {}, "line 1: the root element is <html>"),
    ("event without id", as_xml().replace(b'<event id="e3"', b"<event"), {}, "line 2: <event> without id"),
    ("database cut short", b"SQLite format 3\0" + b"x" * 500, {}, "not an OCEL 2.0 database"),
]


@pytest.mark.parametrize(("content", "options", "said"), [b[1:] for b in BROKEN], ids=[b[0] for b in BROKEN])
def test_damage_ends_in_one_clear_line(tmp_path, content, options, said):
    path = tmp_path / "log.ocel"
    path.write_bytes(content)
    with pytest.raises(DataError, match=said) as caught:
        list(Ocel(**options).read(path))
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_database_of_something_else_is_said(tmp_path):
    for name, statement in (("a", "CREATE TABLE t (x)"), ("b", "CREATE TABLE event_map_type (a, b)")):
        with sqlite3.connect(tmp_path / name) as database:
            database.execute(statement)
        database.close()
        with pytest.raises(DataError, match=r"not an OCEL 2\.0 database: no such table"):
            list(Ocel().read(tmp_path / name))
    as_sqlite(tmp_path / "c")
    with sqlite3.connect(tmp_path / "c") as database:
        database.execute("ALTER TABLE event_Map1 RENAME COLUMN ocel_id TO id")
    database.close()
    with pytest.raises(DataError, match="there is no column 'ocel_id'"):
        list(Ocel().read(tmp_path / "c"))
