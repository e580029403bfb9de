"""Change values of events and objects in an OCEL 2.0 file; all else stays as it is."""

import json
import sqlite3
import tempfile
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.parsers import expat

from maskseq.errors import DataError
from maskseq_events.case import Value
from maskseq_events.json_text import Span, array_spans, as_json, object_spans
from maskseq_events.ocel_read import SQLITE, ObjectLog, select, typed_tables
from maskseq_events.splicing import spliced
from maskseq_events.xml_text import escaped, first_inside, is_empty_tag, quoted, start_tag


@dataclass(slots=True)
class Changes:
    """What an event or an object says now, where it is something else than in the file."""

    activity: str | None = None
    time: str | None = None
    attributes: dict[str, Value] = field(default_factory=dict)


def edited(log: ObjectLog, events: Mapping[int, Changes], objects: Mapping[str, Changes]) -> bytes:
    """The content of the file with changes of events, by their number, and of objects, by their id.

    JSON and XML keep every other character. A database keeps every other row; an event whose type was filled moves to
    the table of that type. `DataError` where the file has no place for a value.
    """
    if not events and not objects:
        return log.content
    if log.content.startswith(SQLITE):
        return _Database(log).edited(events, objects)
    if log.content.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        return _Xml(log, events, objects).edited()
    return _edit_json(log, events, objects)


def _edit_json(log: ObjectLog, events: Mapping[int, Changes], objects: Mapping[str, Changes]) -> bytes:
    encoding = json.detect_encoding(log.content)
    text = log.content.decode(encoding)
    document, _ = object_spans(text, text.index("{"))
    edits: list[tuple[int, int, str]] = []

    def change(begin: int, changes: Changes, *, by_time: bool) -> None:
        spans, end = object_spans(text, begin)
        for name, value in (("type", changes.activity), ("time", changes.time)):
            if value is not None:
                written = json.dumps(value, ensure_ascii=False)
                edits.append((*spans[name], written) if name in spans else (end, end, f', "{name}": {written}'))
        elements, last = array_spans(text, spans["attributes"][0]) if "attributes" in spans else ([], end)
        found = _attributes(text, elements, by_time=by_time)
        added = []
        for name, value in changes.attributes.items():
            written = as_json(value, unquoted=name in log.unquoted)
            if name not in found:
                added.append(f'{{"name": {json.dumps(name, ensure_ascii=False)}, "value": {written}}}')
            elif "value" in found[name][0]:
                edits.append((*found[name][0]["value"], written))
            else:
                edits.append((found[name][1], found[name][1], f', "value": {written}'))
        if added and "attributes" in spans:
            edits.append((last, last, f"{', ' if elements else ''}{', '.join(added)}"))
        elif added:
            edits.append((end, end, f', "attributes": [{", ".join(added)}]'))

    places, _ = array_spans(text, document["events"][0]) if events else ([], 0)
    for number, changes in events.items():
        change(places[number][0], changes, by_time=False)
    places, _ = array_spans(text, document["objects"][0]) if objects else ([], 0)
    for key, changes in objects.items():
        change(places[log.objects[key].number][0], changes, by_time=True)
    return spliced(text, edits).encode(encoding)


def _attributes(text: str, elements: list[Span], *, by_time: bool) -> dict[str, tuple[dict[str, Span], int]]:
    """Of each attribute the element that counts: of an object the earliest value, of an event the last that is said."""
    values: list[dict[str, Any]] = [json.loads(text[start:stop]) for start, stop in elements]
    order = list(range(len(values)))
    if by_time:
        order.sort(key=lambda i: str(values[i].get("time") or ""))
        order.reverse()
    return {values[i]["name"]: object_spans(text, elements[i][0]) for i in order}


class _Xml:
    """expat over the file again; what it meets of the changed events and objects becomes edits."""

    def __init__(self, log: ObjectLog, events: Mapping[int, Changes], objects: Mapping[str, Changes]) -> None:
        self.log, self.events, self.objects = log, events, objects
        self.encoding = "utf-8"
        self.number = -1
        self.opened: list[tuple[str, dict[str, str], tuple[int, int]]] = []  # name, attributes, the start tag
        self.texts: list[tuple[int, int]] = []
        """Where the text stands that the reader takes for a value: all since the last tag."""
        self.in_text = False
        self.changes: Changes | None = None
        self.wanted: dict[int, dict[str, Value]] = {}
        """What is still to be written of the attributes, by the identity of the changes."""
        self.room: tuple[int, int] | None = None
        """The start tag of `<attributes>` in the event."""
        self.edits: list[tuple[int, int, bytes]] = []
        self.parser = expat.ParserCreate()
        self.parser.XmlDeclHandler = self._declare
        self.parser.StartElementHandler, self.parser.EndElementHandler = self._start, self._end
        self.parser.CharacterDataHandler = self.parser.StartCdataSectionHandler = self._in_text
        self.parser.CommentHandler = self.parser.ProcessingInstructionHandler = self._behind_text

    def edited(self) -> bytes:
        if b"\0" in self.log.content[:64]:
            raise DataError(self.log.path, "values can be changed in UTF-8 only; convert the file (iconv -t utf-8)")
        self.parser.Parse(self.log.content, True)
        return spliced(self.log.content, self.edits)

    def _declare(self, version: str, encoding: str | None, standalone: int) -> None:
        self.encoding = encoding or "utf-8"

    def _in_text(self, *_: object) -> None:
        if not self.in_text:
            self.texts.append((self.parser.CurrentByteIndex, 0))
        self.in_text = True

    def _behind_text(self, *_: object) -> None:
        if self.in_text:
            self.texts[-1] = (self.texts[-1][0], self.parser.CurrentByteIndex)
        self.in_text = False

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self._behind_text()
        self.texts.clear()
        begin = self.parser.CurrentByteIndex
        spans, stop = start_tag(self.log.content, begin)
        self.opened.append((tag, attributes, (begin, stop)))
        path = [name for name, *_ in self.opened[:8]]
        if path == ["log", "objects", "object"]:
            self.changes = self.objects.get(attributes["id"])
        elif path == ["log", "events", "event"]:
            self.number += 1
            self.changes = self.events.get(self.number)
        elif len(path) == 4 and tag == "attributes" and self.room is None:
            self.room = begin, stop
            return
        else:
            return
        self.room = None
        if self.changes is None:
            return
        self.wanted.setdefault(id(self.changes), dict(self.changes.attributes))
        for name, value in (("type", self.changes.activity), ("time", self.changes.time)):
            if value is not None:
                at = spans.get(name.encode())
                end = stop - (2 if is_empty_tag(self.log.content, stop) else 1)
                self._edit(*(at or (end, end)), quoted(value) if at else f" {name}={quoted(value)}")

    def _end(self, tag: str) -> None:
        self._behind_text()
        _, attributes, own_tag = self.opened.pop()
        if self.changes is not None:
            wanted = self.wanted[id(self.changes)]
            name = attributes.get("name", "")
            if tag == "attribute" and name in wanted:
                self._fill(own_tag, _text(wanted.pop(name)))
            elif len(self.opened) == 2 and tag == "event":
                self._add(own_tag, {name: value for name, value in wanted.items() if value is not None})
        self.texts.clear()
        if len(self.opened) == 2:
            self.changes = None

    def _add(self, own_tag: tuple[int, int], values: Mapping[str, Value]) -> None:
        """Attributes that the event did not have."""
        if not values:
            return
        elements = "".join(
            f"<attribute name={quoted(name)}>{_text(value)}</attribute>" for name, value in values.items()
        )
        if self.room is not None:
            self._insert(self.room, elements)
        else:
            self._insert(own_tag, f"<attributes>{elements}</attributes>")

    def _fill(self, own_tag: tuple[int, int], text: str) -> None:
        """Put a text in place of that of an element; comments and elements in it stay."""
        if is_empty_tag(self.log.content, own_tag[1]):
            self._insert(own_tag, text)
            return
        end = self.parser.CurrentByteIndex
        first, *others = self.texts or [(end, end)]
        self._edit(*first, text)
        for start, stop in others:
            self._edit(start, stop, "")

    def _insert(self, tag: tuple[int, int], elements: str) -> None:
        """Put elements, or text, first into another element."""
        self.edits.append(first_inside(self.log.content, *tag, self._encoded(elements)))

    def _edit(self, start: int, stop: int, text: str) -> None:
        self.edits.append((start, stop, self._encoded(text)))

    def _encoded(self, text: str) -> bytes:
        return text.encode(self.encoding, "xmlcharrefreplace")


def _text(value: Value) -> str:
    return escaped(value or "")


class _Database:
    """A copy of the database, in which rows are updated."""

    def __init__(self, log: ObjectLog) -> None:
        self.log = log

    def edited(self, events: Mapping[int, Changes], objects: Mapping[str, Changes]) -> bytes:
        with tempfile.TemporaryDirectory(prefix="maskseq-") as folder:
            copy = Path(folder) / "copy.sqlite"
            copy.write_bytes(self.log.content)
            try:
                with closing(sqlite3.connect(copy)) as self.database:
                    if self.database.execute("SELECT 1 FROM sqlite_master WHERE type = 'trigger'").fetchone():
                        raise self._refusal("its triggers would change more than what was filled; drop them first")
                    self.tables = dict(typed_tables(self.database, "event"))
                    for name, of_table in self._by_table(events).items():
                        self._events(name, of_table)
                    if objects:
                        self._objects(objects)
                    self.database.commit()
            except sqlite3.Error as error:
                raise self._refusal(f"the database refuses what was filled: {error}") from None
            return copy.read_bytes()

    def _by_table(self, events: Mapping[int, Changes]) -> dict[str, dict[str, Changes]]:
        found: dict[str, dict[str, Changes]] = {}
        for number, changes in events.items():
            event = self.log.events[number]
            found.setdefault(self.tables[event.activity], {})[event.id] = changes
        return found

    def _events(self, table: str, events: Mapping[str, Changes]) -> None:
        cursor = select(self.database, "rowid, *", table, order="ocel_time")
        names = [column[0] for column in cursor.description[1:]]
        id_column = names.index("ocel_id")
        rows = {str(cells[id_column]): (rowid, cells) for rowid, *cells in cursor if str(cells[id_column]) in events}
        for key, changes in events.items():
            if key not in rows:
                raise self._refusal("is not in the file itself; is there a write-ahead log beside it?", key)
            rowid, cells = rows[key]
            new = dict(changes.attributes) | ({} if changes.time is None else {"ocel_time": changes.time})
            if changes.activity is None:
                self._update(table, rowid, names, new, key)
            else:
                self._move(table, rowid, dict(zip(names, cells, strict=True)), new, changes.activity)

    def _move(self, table: str, rowid: int, row: dict[str, Any], new: dict[str, Any], activity: str) -> None:
        """To the table of another event type."""
        key = str(row["ocel_id"])
        if activity not in self.tables:
            raise self._refusal(f"there is no table for events of the type {activity!r}, which was filled", key)
        other = self.tables[activity]
        names = [column[0] for column in select(self.database, "*", other).description]
        values = {name: value for name, value in (row | new).items() if value is not None}
        self._check(other, names, values, key)
        columns = ", ".join(map(_quoted, values))
        marks = ", ".join("?" * len(values))
        self.database.execute(f"INSERT INTO {_quoted(other)} ({columns}) VALUES ({marks})", (*values.values(),))
        self.database.execute(f"DELETE FROM {_quoted(table)} WHERE rowid = ?", (rowid,))
        self.database.execute("UPDATE event SET ocel_type = ? WHERE ocel_id = ?", (activity, row["ocel_id"]))

    def _objects(self, objects: Mapping[str, Changes]) -> None:
        """The first value of an attribute, which is in the first row by time that has one."""
        for table in dict(typed_tables(self.database, "object")).values():
            cursor = select(self.database, "rowid, *", table, order="ocel_time")
            names = [column[0] for column in cursor.description[1:]]
            done: set[tuple[str, str]] = set()
            for rowid, *cells in cursor.fetchall():
                row = dict(zip(names, cells, strict=True))
                key = str(row["ocel_id"])
                wanted = objects[key].attributes if key in objects else {}
                new = {n: v for n, v in wanted.items() if row.get(n) is not None and (key, n) not in done}
                done |= {(key, name) for name in new}
                self._update(table, rowid, names, new, key)

    def _update(self, table: str, rowid: int, names: list[str], new: Mapping[str, Any], key: str) -> None:
        new = {name: value for name, value in new.items() if value is not None or name in names}
        self._check(table, names, new, key)
        if new:
            columns = ", ".join(f"{_quoted(name)} = ?" for name in new)
            self.database.execute(f"UPDATE {_quoted(table)} SET {columns} WHERE rowid = ?", (*new.values(), rowid))

    def _check(self, table: str, names: list[str], values: Mapping[str, Any], key: str) -> None:
        if missing := [name for name in values if name not in names]:
            raise self._refusal(f"table {table!r} has no column {missing[0]!r} for what was filled", key)

    def _refusal(self, problem: str, event: str | None = None) -> DataError:
        return DataError(self.log.path, problem, place="" if event is None else f"event {event!r}")


def _quoted(name: str) -> str:
    doubled = name.replace('"', '""')
    return f'"{doubled}"'
