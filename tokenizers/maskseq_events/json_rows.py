"""Rows of JSON Lines: every line, and in a changed line every other value, is copied as it was."""

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskseq.errors import DataError
from maskseq.files import create
from maskseq_events.case import UNKNOWN, Value, padded
from maskseq_events.files import encoding_of, read_lines
from maskseq_events.json_text import as_json, object_spans, refuse_constant
from maskseq_events.row_files import Choose, RowFile
from maskseq_events.rows import Tried
from maskseq_events.splicing import spliced


@dataclass(frozen=True)
class JsonHeader:
    names: tuple[str, ...]
    numeric: frozenset[str]
    """Names whose values are numbers, one of them not whole."""
    unquoted: frozenset[str]
    """Names whose values are numbers or truth values, and are written as such."""
    blank: str
    """Blank lines before the first object."""
    encoding: str


@dataclass(frozen=True, kw_only=True)
class JsonRows(RowFile):
    """An object a line; its names are the columns. The file is read twice, the first time for its names."""

    encoding: str = "utf-8"
    unknown: tuple[str, ...] = (UNKNOWN,)
    """Texts that say that a value is unknown, which may well be a number."""

    def open(self, path: Path, choose: Choose) -> tuple[Sequence[str], JsonHeader, Iterator[Tried]]:
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
                raise DataError(path, "there are no events or other rows in this file")
            choose(list(names))
        except DataError as error:  # the lines that cannot be read may have what is missing
            raise broken or error from None
        numeric = frozenset(name for name, types in kinds.items() if float in types <= {int, float})
        unquoted = frozenset(name for name, types in kinds.items() if types and types <= {int, float, bool})
        header = JsonHeader(tuple(names), numeric, unquoted, self._blank(path), encoding_of(path, self.encoding))
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

    def _row(self, event: dict[str, Any], header: JsonHeader) -> list[str | None]:
        return [_text(event.get(name)) for name in header.names]

    def owns(self, header: object) -> bool:
        return isinstance(header, JsonHeader)

    def cells(self, raw: str, header: JsonHeader) -> Sequence[str | None]:
        return self._row(json.loads(raw.removeprefix("\ufeff")), header)

    def replaced(self, raw: str, changes: dict[int, Value], header: JsonHeader) -> str:
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

    def write(self, header: JsonHeader, rows: Sequence[tuple[int, str]], path: Path) -> None:
        with create(path) as file:
            file.write(header.blank.encode(header.encoding))
            for _, raw in rows:
                file.write(raw.encode(header.encoding))

    def numeric(self, header: JsonHeader) -> Collection[str]:
        return header.numeric


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
