"""What `maskseq init` is told of tables of sequences: which column tells them apart, and what orders their rows."""

import csv
import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import median
from typing import Any

from maskseq.formats import distinct
from maskseq.survey import BY_NAME, GENERAL, Claim, Head
from maskseq_events.case import UNKNOWN, Value, plain_rows
from maskseq_events.columns import to_number
from maskseq_events.headers import are_units, delimiter_of, table_start
from maskseq_events.parquet_rows import first_rows
from maskseq_events.roles import layouts_of, may_group_rows, says_case, says_time
from maskseq_events.rows import with_point

PARQUET = b"PAR1"
"""What a Parquet file begins with, which has no encoding."""
ROWS = 1000
"""Rows that are looked at."""
TOGETHER = 1.2
"""How many runs of rows a key has at most, on average, where nothing else orders them: its rows stand together."""
OPEN = "no column tells sequences apart, so all rows are taken for one sequence in the order of the file"


def claim_rows(head: Head, by_name: Claim | None) -> Claim | None:
    """Any table, less surely than whatever knows what its columns mean; `by_name` says that the name would do."""
    table = _table(head)
    if table is None:
        return by_name
    names, rows, options = table
    if any(layouts_of([name]) for name in names):  # a first row of values, which names no columns
        return None
    rows = [row for row in rows if len(row) == len(names)][:ROWS]
    if not rows or (options.get("delimiter") and any(to_number(name) is not None for name in names)):
        return by_name
    columns = {name: [row[i] for row in rows] for i, name in enumerate(names)}
    if commas := _decimal_commas(columns, options.get("delimiter")):
        options["decimal"] = ","
        columns = {name: [with_point(cell) for cell in cells] for name, cells in columns.items()}
    key = _key(columns)
    order, layout = _order(columns, key)
    reported = [f"column {key!r} tells sequences apart"] if key else ["a table; " + OPEN]
    reported.append(f"{order!r} orders their rows" if order else "their rows stand in order")
    reported += ["decimal commas"] if commas else []
    options |= {name: value for name, value in (("key", key), ("order", order), ("time_layout", layout)) if value}
    options.pop("delimiter", None)
    doubt = "" if key else f"{OPEN}; name the column that does: --set data.format_options.key=NAME"
    strength = GENERAL if key else BY_NAME
    claim = Claim(strength=strength, why=", ".join(reported), options=options, doubt=doubt)
    return claim if head.content.startswith(PARQUET) else claim.encoded(head)


def _table(head: Head) -> tuple[list[str], Sequence[Sequence[Value]], dict[str, Any]] | None:
    """Names, rows and what reading them needs; None for what is no table."""
    if head.content.startswith(PARQUET):
        names, rows = first_rows(head.path, ROWS)
        return list(distinct(names)), plain_rows(rows), {}
    if head.name.endswith((".jsonl", ".ndjson")):
        return _of_objects(head)
    if not head.name.endswith((".csv", ".tsv")) or not head.lines:
        return None
    skipped, lines = table_start(head)
    delimiter = delimiter_of(lines[0])
    try:
        names, *found = csv.reader(lines, delimiter=delimiter, strict=True)
    except csv.Error:
        return None
    if len(names) < 2:
        return None
    units = are_units(found)
    options: dict[str, Any] = ({"preamble": skipped} if skipped else {}) | ({"units": True} if units else {})
    return list(distinct(names)), plain_rows(found[units:]), options | {"delimiter": delimiter}


def _of_objects(head: Head) -> tuple[list[str], Sequence[Sequence[Value]], dict[str, Any]] | None:
    try:
        objects = [json.loads(line) for line in head.lines[:ROWS]]
    except (ValueError, RecursionError):
        return None
    if not objects or not all(isinstance(each, dict) for each in objects):
        return None
    names = list(dict.fromkeys(name for each in objects for name in each))
    rows = [[None if (value := each.get(name)) is None else str(value) for name in names] for each in objects]
    return names, plain_rows(rows), {}


def _decimal_commas(columns: Mapping[str, Sequence[Value]], delimiter: Any) -> bool:
    """Some column holds numbers with commas only, none with points."""
    if delimiter == ",":
        return False
    known = [[cell for cell in cells if cell and cell != UNKNOWN] for cells in columns.values()]
    commas = [any("," in cell for cell in cells) and _numbers([with_point(cell) for cell in cells]) for cells in known]
    points = [any("." in cell for cell in cells) and _numbers(cells) for cells in known]
    return any(commas) and not any(points)


def _numbers(cells: Sequence[Value]) -> bool:
    return all(to_number(cell) is not None for cell in cells)


def _key(columns: Mapping[str, Sequence[Value]]) -> str:
    """Of columns that can group rows, one whose name says so, or whose rows stand together; else none."""
    able = {name: cells for name, cells in columns.items() if may_group_rows(name, cells)}
    runs = {name: _runs(cells) / len(set(cells)) for name, cells in able.items()}
    answered = [name for name in able if says_case(name)]
    together = [name for name in able if runs[name] <= TOGETHER and median(_sizes(able[name])) >= 3]
    found = [name for name in answered if name in together] or answered or together
    return min(found, key=lambda name: (runs[name], len(set(able[name]))), default="")


def _order(columns: Mapping[str, Sequence[Value]], key: str) -> tuple[str, str | None]:
    """A column of times, or of numbers that grow from each row of a sequence to the next, and the layout of times."""
    keys = columns[key] if key else [None] * len(next(iter(columns.values())))
    others = {name: cells for name, cells in columns.items() if name != key and all(cells) and UNKNOWN not in cells}
    for name, cells in others.items():
        if (says_time(name) or not _numbers(cells)) and (layouts := layouts_of(cells)):
            return name, layouts[0]
    for name, cells in others.items():
        if _numbers(cells) and _grow(keys, [float(str(cell)) for cell in cells]):
            return name, None
    return "", None


def _grow(keys: Sequence[Value], numbers: Sequence[float]) -> bool:
    """They are all different within a sequence, and nearly all larger than the one before."""
    last: dict[Value, float] = {}
    seen: set[tuple[Value, float]] = set()
    back = steps = 0
    for key, number in zip(keys, numbers, strict=True):
        if (key, number) in seen:
            return False
        seen.add((key, number))
        if key in last:
            steps += 1
            back += number < last[key]
        last[key] = number
    return steps > 0 and back <= 0.05 * steps


def _runs(cells: Sequence[Value]) -> int:
    return 1 + sum(a != b for a, b in pairwise(cells))


def _sizes(cells: Sequence[Value]) -> list[int]:
    counts: dict[Value, int] = {}
    for cell in cells:
        counts[cell] = counts.get(cell, 0) + 1
    return list(counts.values())
