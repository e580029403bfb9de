"""Event logs in JSON Lines: one object an event."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from maskseq.files import create
from maskseq.survey import BY_NAME, Claim, Head
from maskseq_events.case import Case, plain_rows
from maskseq_events.claims import ROWS, claim_table
from maskseq_events.file_table import FileTable
from maskseq_events.json_rows import JsonRows
from maskseq_events.json_text import as_json
from maskseq_events.new_table import NewTable

ARRAY = (b"[{", b"[\n{", b"[\r\n{", b"[\n ", b"[\r\n ", b"{\n", b"{\r\n")
DOUBT = (
    "it is JSON, but not an object a line; `jq -c '.[]' FILE` (or `jq -c .` of objects one after the other) makes it so"
)


@dataclass(frozen=True, kw_only=True)
class JsonLines(FileTable):
    """Event logs in JSON Lines, one object an event; its names are the columns.

    A name that an object lacks, and null, are absent. Numbers and truth values are read as JSON writes them, lists and
    objects as their JSON. The file is read twice, the first time for its names. Written back, every line, and in a
    changed line every other value, is copied as it was.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".jsonl", ".ndjson")

    encoding: str = "utf-8"

    @classmethod
    def recognize(cls, head: Head) -> Claim | None:
        if head.content.lstrip().startswith(ARRAY) and not head.name.endswith(".jsonocel"):
            return Claim(strength=BY_NAME, why="it begins like an array of JSON objects", doubt=DOUBT)
        try:
            events = [json.loads(line) for line in head.lines[:ROWS]]
        except (ValueError, RecursionError):
            return super().recognize(head)
        if not events or not all(isinstance(event, dict) for event in events):
            return super().recognize(head)
        by_name = super().recognize(head)
        if by_name is None and len(events) > 1:  # containers and journals write such lines in .log and .json
            by_name = Claim(strength=BY_NAME, why="each line is a JSON object")
        names = list(dict.fromkeys(name for event in events for name in event))
        rows = [[None if (v := event.get(n)) is None else str(v) for n in names] for event in events]
        return claim_table(names, plain_rows(rows), by_name)

    @cached_property
    def _file(self) -> JsonRows:
        return JsonRows(encoding=self.encoding, unknown=self.unknown)

    def _write_new(self, cases: Sequence[Case], path: Path) -> None:
        numeric = {name for case in cases for name, kind in case.kinds.items() if kind == "numeric"}
        with create(path) as file:
            for row in NewTable(cases).rows():
                cells = {name: as_json(value, unquoted=name in numeric) for name, value in row.items()}
                pairs = (f"{json.dumps(name, ensure_ascii=False)}: {cell}" for name, cell in cells.items())
                file.write(f"{{{', '.join(pairs)}}}\n".encode(self.encoding))
