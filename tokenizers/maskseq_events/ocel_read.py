"""OCEL 2.0 files of all three kinds, as one plain structure."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.parsers import expat

from maskseq.errors import DataError
from maskseq.files import broken, open_bytes
from maskseq_events.case import UNKNOWN, Value, padded

SQLITE = b"SQLite format 3\0"


@dataclass(slots=True)
class ObjectEvent:
    """An event and the objects that take part in it."""

    id: str
    activity: str
    time: str | None
    attributes: dict[str, Value] = field(default_factory=dict)
    objects: list[str] = field(default_factory=list)


@dataclass(slots=True)
class LogObject:
    """An object, and the first value of each of its attributes."""

    type: str
    number: int = 0
    """Which object of the file it is, from 0."""
    attributes: dict[str, Value] = field(default_factory=dict)


@dataclass(slots=True)
class ObjectLog:
    """What an OCEL file says, events in file order."""

    path: Path
    content: bytes
    """The file, decompressed."""
    unquoted: set[str] = field(default_factory=set)
    """Attributes whose known values are all numbers or truth values in JSON."""
    objects: dict[str, LogObject] = field(default_factory=dict)
    events: list[ObjectEvent] = field(default_factory=list)


def read_ocel(path: Path) -> ObjectLog:
    """Read a whole file; which of the three kinds it is, its first bytes say."""
    with open_bytes(path) as file:
        content = file.read()
    log = ObjectLog(path, content)
    if content.startswith(SQLITE):
        _read_sqlite(log)
    elif content[:64].lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        _read_xml(log)
    else:
        _read_json(log)
    return log


def _read_json(log: ObjectLog) -> None:
    path, content = log.path, log.content
    try:
        document = json.loads(content)
    except UnicodeDecodeError as error:
        raise DataError(path, "the file is not UTF-8", place=f"byte {error.start}") from None
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise DataError(path, f"not valid JSON: {error.msg}", place=place) from None
    except (ValueError, RecursionError) as error:
        raise DataError(path, f"not valid JSON: {error}") from None
    if b"\\u" in content:
        try:
            json.dumps(document, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise DataError(path, "half of a surrogate pair, which is no character") from None
    place = "objects"
    kinds: dict[str, set[type]] = {}
    try:
        for number, each in enumerate(document["objects"], 1):
            place = f"object {number}"
            what = LogObject(_name(each["type"]), number - 1)
            timed = each.get("attributes", [])
            for attribute in sorted(timed, key=lambda a: str(a.get("time") or "")):
                what.attributes.setdefault(_name(attribute["name"]), _text(attribute.get("value")))
            log.objects[str(each["id"])] = what
        place = "events"
        for number, each in enumerate(document["events"], 1):
            place = f"event {number}"
            moment = each.get("time")
            event = ObjectEvent(str(each["id"]), _name(each["type"]), moment if moment is None else _name(moment))
            event.attributes = {_name(a["name"]): _text(a.get("value")) for a in each.get("attributes", [])}
            for attribute in each.get("attributes", []):
                value = attribute.get("value")
                if value not in (None, UNKNOWN) and not padded([_text(value)]):
                    kinds.setdefault(attribute["name"], set()).add(type(value))
            event.objects = [str(r["objectId"]) for r in each.get("relationships", [])]
            log.events.append(event)
    except KeyError as error:
        raise DataError(path, f"not OCEL 2.0: {error} is missing", place=place) from None
    except (TypeError, AttributeError):
        raise DataError(path, "not OCEL 2.0: the structure is another one", place=place) from None
    log.unquoted = {name for name, types in kinds.items() if types <= {int, float, bool}}


def _read_xml(log: ObjectLog) -> None:
    path = log.path
    parser = expat.ParserCreate()
    parser.buffer_text = True
    opened: list[tuple[str, dict[str, str]]] = []
    holder: ObjectEvent | LogObject | None = None
    text: list[str] = []

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal holder
        opened.append((tag, attributes))
        text.clear()
        inside = [name for name, _ in opened[:8]]  # of a file of nothing but start tags, no more
        if inside == ["log", "objects", "object"]:
            holder = log.objects.setdefault(_need(attributes, "id", tag), LogObject(_need(attributes, "type", tag)))
        elif inside == ["log", "events", "event"]:
            event = ObjectEvent(
                _need(attributes, "id", tag), _need(attributes, "type", tag), attributes.get("time") or None
            )
            log.events.append(event)
            holder = event
        elif isinstance(holder, ObjectEvent) and inside[:3] == ["log", "events", "event"] and "object-id" in attributes:
            holder.objects.append(attributes["object-id"])
        elif len(opened) == 1 and tag != "log":
            raise _NotOcel(f"the root element is <{tag}>, not <log>")

    def end(tag: str) -> None:
        nonlocal holder
        _, attributes = opened.pop()
        if tag == "attribute" and holder is not None and "name" in attributes:
            holder.attributes.setdefault(attributes["name"], "".join(text) or None)
        text.clear()
        if len(opened) == 2:
            holder = None

    def refuse(*_: object) -> None:
        raise _NotOcel("a document type declaration; OCEL has none, and entities are not expanded here")

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler, parser.StartDoctypeDeclHandler = text.append, refuse
    try:
        parser.Parse(log.content, True)
    except _NotOcel as error:
        raise DataError(path, str(error), place=f"line {parser.CurrentLineNumber}") from None
    except (expat.ExpatError, LookupError, ValueError) as error:  # ValueError: an encoding that expat does not know
        raise DataError(path, f"not valid XML: {error}") from None


class _NotOcel(Exception):  # noqa: N818
    pass


def _need(attributes: dict[str, str], name: str, tag: str) -> str:
    if name not in attributes:
        raise _NotOcel(f"<{tag}> without {name}")
    return attributes[name]


def _read_sqlite(log: ObjectLog) -> None:
    path = log.path
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
            for kind, row in _typed_rows(database, "object"):
                what = log.objects.setdefault(str(row.pop("ocel_id")), LogObject(_name(kind)))
                del row["ocel_time"]
                row.pop("ocel_changed_field", None)
                for name, value in row.items():
                    if value is not None:
                        what.attributes.setdefault(name, _text(value))
            by_id: dict[str, ObjectEvent] = {}
            for kind, row in _typed_rows(database, "event"):
                moment = row.pop("ocel_time")
                event = ObjectEvent(str(row.pop("ocel_id")), _name(kind), moment if moment is None else _name(moment))
                event.attributes = {name: _text(value) for name, value in row.items()}
                by_id[event.id] = event
            order = [str(event) for (event,) in select(database, "ocel_id", "event")]
            log.events = [by_id[event] for event in order if event in by_id]
            for event, what in select(database, "ocel_event_id, ocel_object_id", "event_object"):
                if event in by_id:
                    by_id[event].objects.append(str(what))
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise DataError(path, f"not an OCEL 2.0 database: {error}") from None
    except KeyError as error:
        raise DataError(path, f"not an OCEL 2.0 database: there is no column {error}") from None
    except TypeError:
        raise DataError(path, "not an OCEL 2.0 database: a type, time or value is no text") from None
    except OSError as error:
        raise DataError(path, broken(error)) from None


def _typed_rows(database: sqlite3.Connection, what: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of the tables of each event or object type, by time."""
    for kind, table in typed_tables(database, what):
        cursor = select(database, "*", table, order="ocel_time")
        columns = [column[0] for column in cursor.description]
        for row in cursor:
            yield kind, dict(zip(columns, row, strict=True))


def typed_tables(database: sqlite3.Connection, what: str) -> list[tuple[Any, str]]:
    """Each event or object type and its table."""
    types = select(database, "ocel_type, ocel_type_map", f"{what}_map_type").fetchall()
    return [(kind, f"{what}_{name}") for kind, name in types]


def select(database: sqlite3.Connection, columns: str, table: str, *, order: str = "rowid") -> sqlite3.Cursor:
    """The rows of a table; not of a view, which may have no end."""
    found = database.execute("SELECT type FROM sqlite_master WHERE lower(name) = lower(?)", (table,)).fetchone()
    if found != ("table",):
        raise sqlite3.OperationalError(f"no such table: {table}")
    quoted = table.replace('"', '""')
    return database.execute(f'SELECT {columns} FROM "{quoted}" ORDER BY {order}')


def _name(value: Any) -> str:
    """`TypeError` if it is no text."""
    if not isinstance(value, str):
        raise TypeError
    return value


def _text(value: Any) -> Value:
    if value is None or isinstance(value, str):
        return value or None
    return json.dumps(value)
