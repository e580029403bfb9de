"""Event logs in JSON Lines: one object an event."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from maskseq.errors import DataError
from maskseq.files import create
from maskseq.survey import Claim, Head
from maskseq_events.case import Case, Kind, Value, padded, plain_rows
from maskseq_events.claims import ROWS, claim_table
from maskseq_events.files import encoding_of, read_lines
from maskseq_events.json_text import as_json, object_spans, refuse_constant
from maskseq_events.new_table import NewTable
from maskseq_events.rows import Rows, Tried
from maskseq_events.splicing import spliced
from maskseq_events.table import EventTable


@dataclass(frozen=True)
class _JsonHeader:
    names: tuple[str, ...]
    numeric: frozenset[str]
    """Names whose values are numbers, one of them not whole."""
    unquoted: frozenset[str]
    """Names whose values are numbers or truth values, and are written as such."""
    blank: str
    """Blank lines before the first object."""
    encoding: str


@dataclass(frozen=True, kw_only=True)
class JsonLines(EventTable):
    """Event logs in JSON Lines, one object an event; its names are the columns.

    A name that an object lacks, and null, are absent. Numbers and truth values are read as JSON writes them, lists and
    objects as their JSON. The file is read twice, the first time for its names. Written back, every line, and in a
    changed line every other value, is copied as it was.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".jsonl", ".ndjson")

    encoding: str = "utf-8"

    @classmethod
    def recognize(cls, head: Head) -> Claim | None:
        try:
            events = [json.loads(line) for line in head.lines[:ROWS]]
        except (ValueError, RecursionError):
            return super().recognize(head)
        if not events or not all(isinstance(event, dict) for event in events):
            return super().recognize(head)
        names = list(dict.fromkeys(name for event in events for name in event))
        rows = [[None if (v := event.get(n)) is None else str(v) for n in names] for event in events]
        return claim_table(names, plain_rows(rows), super().recognize(head))

    def _open(self, path: Path) -> tuple[Sequence[str], _JsonHeader, Iterator[Tried]]:
        names: dict[str, None] = {}
        kinds: dict[str, set[type]] = {}
        broken: DataError | None = None
        for _, _, event in self._objects(path):
            if isinstance(event, DataError):
                broken = broken or event
                continue
            names |= dict.fromkeys(event)
            for name, value in event.items():
                types = kinds.setdefault(name, set())
                if value is not None and type(value) not in types and not self._says_unknown(value):
                    types.add(type(value))
        try:
            if not names:
                raise DataError(path, "there are no events in this file")
            self._columns(list(names), path)
        except DataError as error:  # the lines that cannot be read may have what is missing
            raise broken or error from None
        numeric = frozenset(name for name, types in kinds.items() if float in types <= {int, float})
        unquoted = frozenset(name for name, types in kinds.items() if types and types <= {int, float, bool})
        header = _JsonHeader(tuple(names), numeric, unquoted, self._blank(path), encoding_of(path, self.encoding))
        rows = (
            (number, raw, event if isinstance(event, DataError) else self._row(event, header))
            for number, raw, event in self._objects(path)
        )
        return list(names), header, rows

    def _says_unknown(self, value: Any) -> bool:
        return value in self.unknown or (isinstance(value, str) and bool(padded([value], self.unknown)))

    def _objects(self, path: Path) -> Iterator[tuple[int, str, dict[str, Any] | DataError]]:
        """Each object, or why it is none, with the number of its line and its raw text, and blank lines behind."""
        held: tuple[int, str, dict[str, Any] | DataError] | None = None
        for number, line in enumerate(read_lines(path, self.encoding), 1):
            if not line.strip():
                held = held and (held[0], held[1] + line, held[2])
                continue
            if held is not None:
                yield held
            try:
                held = number, line, _object(line, number, path)
            except DataError as error:
                held = number, line, error
        if held is not None:
            yield held

    def _blank(self, path: Path) -> str:
        blank = ""
        for line in read_lines(path, self.encoding):
            if line.strip():
                break
            blank += line
        return blank

    def _row(self, event: dict[str, Any], header: _JsonHeader) -> list[str | None]:
        return [_text(event.get(name)) for name in header.names]

    def _kinds(self, header: _JsonHeader) -> dict[str, Kind]:
        return dict.fromkeys(header.numeric, "numeric")

    def _owns(self, origin: Rows) -> bool:
        return isinstance(origin.header, _JsonHeader)

    def _cells(self, raw: str, header: _JsonHeader) -> Sequence[str | None]:
        return self._row(json.loads(raw.removeprefix("\ufeff")), header)

    def _replaced(self, raw: str, changes: dict[int, Value], header: _JsonHeader) -> str:
        spans, end = object_spans(raw, raw.index("{"))
        edits: list[tuple[int, int, str]] = []
        for index, value in changes.items():
            name = header.names[index]
            if name in spans:
                start, stop = spans[name]
                edits.append((start, stop, as_json(value, unquoted=name in header.unquoted)))
            elif value is not None:
                text = f"{json.dumps(name)}: {as_json(value, unquoted=name in header.unquoted)}"
                edits.append((end, end, f", {text}" if spans else text))
        return spliced(raw, edits)

    def _write_rows(self, header: _JsonHeader, rows: Sequence[tuple[int, str]], path: Path) -> None:
        with create(path) as file:
            file.write(header.blank.encode(header.encoding))
            for _, raw in rows:
                file.write(raw.encode(header.encoding))

    def _write_new(self, cases: Sequence[Case], path: Path) -> None:
        numeric = {name for case in cases for name, kind in case.kinds.items() if kind == "numeric"}
        with create(path) as file:
            for row in NewTable(cases).rows():
                cells = {name: as_json(value, unquoted=name in numeric) for name, value in row.items()}
                pairs = (f"{json.dumps(name, ensure_ascii=False)}: {cell}" for name, cell in cells.items())
                file.write(f"{{{', '.join(pairs)}}}\n".encode(self.encoding))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {twice!r} occurs twice in an object")
    return found


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _object(line: str, number: int, path: Path) -> dict[str, Any]:
    try:
        event = json.loads(line.removeprefix("\ufeff"), parse_constant=refuse_constant, object_pairs_hook=_unique)
        if "\\u" in line:
            json.dumps(event, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        place = f"line {number}, column {error.colno}"
        raise DataError(path, f"not valid JSON: {error.msg}", place=place) from None
    except UnicodeEncodeError:
        raise DataError(path, "half of a surrogate pair, which is no character", place=f"line {number}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(path, f"not valid JSON: {error}", place=f"line {number}") from None
    if not isinstance(event, dict):
        raise DataError(path, f"a line must be one object, not {line.strip()[:40]!r}", place=f"line {number}")
    return event
