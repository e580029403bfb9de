"""OCEL 2.0: the three file kinds say the same, and flattening gives each object the events that it takes part in."""

import gzip
import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from itertools import pairwise
from xml.sax.saxutils import escape, quoteattr

import numpy as np
import pytest

from maskseq.errors import DataError, UsageError
from maskseq.survey import Head
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


def test_cases_are_the_objects_of_the_type_that_takes_part_in_most_events(path):
    """e1, e2, e4 and e5 have items, in e1 there are two of them and in e2 the same twice; three have orders."""
    claim = Ocel.recognize(Head.of(path))
    assert claim.options == {"object_type": "item"}
    assert "the 'item' objects, which take part in 4 events (there are 'item', 'order')" in claim.why


def test_flattened_cases_are_tokenized_and_written_as_csv(path, tmp_path):
    cases = list(Ocel(object_type="item").read(path))
    tokenizer = EventTokenizer.fit(cases, attributes=["channel"], min_count=1)
    assert tokenizer.activities == ("pack", "place order")
    Csv().write(cases, tmp_path / "flat.csv")
    again = list(Csv().read(tmp_path / "flat.csv"))
    assert [case.activity for case in again] == [case.activity for case in cases]
    np.testing.assert_array_equal(again[1].time, cases[1].time)


# Written back


def plain(content):
    return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content


def changed(case, event, *, activity=None, time=None, **attributes):
    """The case with other values at one event."""

    def put(values, value):
        return (*values[:event], value, *values[event + 1 :])

    moments = case.time.copy()
    if time is not None:
        moments[event] = np.datetime64(time, "us").astype(np.int64)
    columns = {name: case.attributes.get(name, (None,) * len(case)) for name in {**case.attributes, **attributes}}
    return replace(
        case,
        activity=put(case.activity, activity) if activity else case.activity,
        time=moments,
        attributes={name: put(v, attributes[name]) if name in attributes else v for name, v in columns.items()},
    )


def rows_of(content):
    with closing(sqlite3.connect(":memory:")) as database:
        database.deserialize(content)
        return set(database.iterdump())


def test_what_did_not_change_is_written_as_it_was(path, tmp_path):
    cases = list(Ocel(object_type="item").read(path))
    Ocel().write(cases[:1], tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == plain(path.read_bytes())


def test_only_what_was_filled_changes(path, tmp_path):
    cases = list(Ocel(object_type="item").read(path))
    cases[1] = changed(cases[1], 2, activity="pack", time="2024-01-01T12:00:00", channel="red & <blue>")
    Ocel().write(cases, tmp_path / "filled")
    was, now = plain(path.read_bytes()), (tmp_path / "filled").read_bytes()
    if was.startswith(b"SQLite"):
        assert rows_of(was) - rows_of(now) == {
            "INSERT INTO \"event\" VALUES('e5','?');",
            "INSERT INTO \"event_Map2\" VALUES('e5','?','?');",
        }
        assert rows_of(now) - rows_of(was) == {
            "INSERT INTO \"event\" VALUES('e5','pack');",
            "INSERT INTO \"event_Map1\" VALUES('e5','2024-01-01T12:00:00Z','red & <blue>');",
        }
    else:
        before, hole, after = was.partition(b'"e5"')
        for found, filled in (
            (b'"type": "?"', b'"type": "pack"'), (b'"time": "?"', b'"time": "2024-01-01T12:00:00Z"'),
            (b'"value": "?"', b'"value": "red & <blue>"'), (b'type="?"', b'type="pack"'),
            (b'time="?"', b'time="2024-01-01T12:00:00Z"'), (b">?<", b">red &amp; &lt;blue&gt;<"),
        ):  # fmt: skip
            after = after.replace(found, filled)
        assert now == before + hole + after
    assert list(Ocel(object_type="item").read(tmp_path / "filled")) == cases


def test_attributes_of_events_and_objects_come_and_go(path, tmp_path):
    cases = list(Ocel(object_type="order").read(path))
    cases[0] = changed(cases[0], 0, channel=None)
    cases[0] = changed(cases[0], 1, channel="phone")
    cases[0] = replace(cases[0], case_attributes={"price": "11"})
    Ocel().write(cases, tmp_path / "filled")
    again = list(Ocel(object_type="order").read(tmp_path / "filled"))
    assert again == cases
    assert again[0].attributes["channel"] == (None, "phone")
    assert b"12" in (tmp_path / "filled").read_bytes()  # the later price stays


def test_of_cases_that_disagree_the_first_is_written(path, tmp_path):
    first, second = Ocel(object_type="item").read(path)  # both have the event e1
    first, second = changed(first, 0, activity="audit"), changed(second, 0, activity="pack", channel="shop")
    with pytest.warns(UserWarning, match="1 values .* filled differently"):
        Ocel().write([first, second], tmp_path / "filled")
    again = {case.key: case for case in Ocel(object_type="item").read(tmp_path / "filled")}
    assert again["i1"].activity[0] == again["i2"].activity[0] == "audit"
    assert again["i1"].attributes["channel"][0] == "shop"  # where only one of them says something, that one


def test_values_without_text_may_be_unknown(path, tmp_path):
    content = plain(path.read_bytes())
    if content.startswith(b"SQLite"):
        with sqlite3.connect(path) as database:
            database.execute("UPDATE \"event_Map2\" SET channel = NULL WHERE ocel_id = 'e5'")
        database.close()
    else:
        path.write_bytes(content.replace(b'"value": "?"', b'"value": null').replace(b">?</attribute>", b"/>").replace(
            b"<attribute name=\"channel\"/>", b"<attribute name=\"channel\"></attribute>"))  # fmt: skip
    case = list(Ocel(object_type="item").read(path))[1]
    assert case.attributes["channel"] == ("web", None, None)
    reader = Ocel(object_type="item", empty_unknown=("channel",))
    case = list(reader.read(path))[1]
    assert case.attributes["channel"][2] == UNKNOWN
    reader.write([changed(case, 2, channel="shop")], tmp_path / "filled")
    assert list(reader.read(tmp_path / "filled"))[1].attributes["channel"][2] == "shop"


SPICE = ["a", "1.5", "", "<&>", "\"'", "é漢", "x\ny", "\ttab", " blank ", "?"]


def test_any_change_comes_back(tmp_path):
    """Random values of random events, in every kind of file; equal when read again."""
    rng = np.random.default_rng(0)
    as_sqlite(tmp_path / "sqlite")
    (tmp_path / "json").write_bytes(as_json())
    (tmp_path / "indented").write_bytes(json.dumps(json.loads(as_json()), indent=2).encode("utf-8-sig"))
    (tmp_path / "xml").write_bytes(as_xml())
    (tmp_path / "latin").write_bytes(
        as_xml().replace(b"<?xml version='1.0'?>", b"<?xml version='1.0' encoding='latin-1'?>")
    )
    reader = Ocel(object_type="order")  # no event belongs to two orders
    for name in ["sqlite", "json", "indented", "xml", "latin"] * 12:
        cases = list(reader.read(tmp_path / name))
        for index, case in enumerate(cases):
            for event in range(len(case)):
                if rng.random() < 0.7:
                    value = SPICE[rng.integers(len(SPICE))] or None
                    kind = ["place order", "pack", "audit"][rng.integers(3)]
                    cases[index] = changed(cases[index], event, activity=kind, channel=value)
        reader.write(cases, tmp_path / "filled")
        assert list(reader.read(tmp_path / "filled")) == cases
        (tmp_path / name).write_bytes((tmp_path / "filled").read_bytes())  # and the next changes on top


def test_numbers_stay_numbers(tmp_path):
    content = (
        as_json()
        .replace(b'"channel", "value": "web"', b'"n", "value": 7')
        .replace(b'"channel", "value"', b'"n", "value"')
        .replace(b'"shop"', b"8.5")
    )
    (tmp_path / "log").write_bytes(content)
    cases = list(Ocel(object_type="item").read(tmp_path / "log"))
    Ocel().write([cases[0], changed(cases[1], 2, n="9.25")], tmp_path / "filled")
    assert (tmp_path / "filled").read_bytes() == content.replace(b'"value": "?"', b'"value": 9.25')


def test_what_cannot_be_written_is_refused(path, tmp_path):
    cases, others = list(Ocel(object_type="item").read(path)), list(Ocel(object_type="item").read(path))
    tokenizer = EventTokenizer.fit(cases, attributes=["channel"], min_count=1)
    with pytest.raises(UsageError, match="events can be added to tables only"):
        tokenizer.resized(cases[0], 0, 0, 1)
    for records, message in (
        ([cases[0].bare()], "does not come from an object-centric log"),
        ([cases[0], others[1]], "different files"),
        ([], "no cases"),
    ):
        with pytest.raises(UsageError, match=message):
            Ocel().write(records, tmp_path / "x")
    if plain(path.read_bytes()).startswith(b"SQLite"):
        for case, message in (
            (changed(cases[0], 0, activity="fly"), "event 'e1': there is no table for events of the type 'fly'"),
            (changed(cases[0], 0, wings="2"), "event 'e1': table 'event_Map0' has no column 'wings'"),
        ):
            with pytest.raises(DataError, match=message):
                Ocel().write([case], tmp_path / "x")
        with sqlite3.connect(path) as database:
            database.execute("CREATE TRIGGER t AFTER UPDATE ON event BEGIN DELETE FROM object; END")
        database.close()
        with pytest.raises(DataError, match="triggers"):
            Ocel().write([changed(next(Ocel(object_type="item").read(path)), 0, channel="x")], tmp_path / "x")
    assert not (tmp_path / "x").exists()


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


@pytest.mark.parametrize(("content", "options", "message"), [b[1:] for b in BROKEN], ids=[b[0] for b in BROKEN])
def test_damage_ends_in_one_clear_line(tmp_path, content, options, message):
    path = tmp_path / "log.ocel"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
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
