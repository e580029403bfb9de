"""Where a table begins in a delimited file: behind a title, a line that names the delimiter, or a row of units."""

import re
from collections import Counter
from collections.abc import Sequence

from maskseq.survey import Head
from maskseq_events.case import Value
from maskseq_events.files import MARK
from maskseq_events.roles import are_numbers, layouts_of

DELIMITERS = ",;\t|"
MOST = 50
"""Lines that may stand before a header."""
TYPE = "#TYPE "
"""How PowerShell begins the first line of what it exports."""
ALIKE = 0.9
"""Share of the lines from the header on that are cut into as many cells."""


def declared_delimiter(line: str) -> str | None:
    """What a first line such as `sep=;` says."""
    found = re.fullmatch(r"sep=(.)\s*", line.removeprefix(MARK))
    return found and found[1]


def delimiter_of(header: str) -> str:
    """Whichever cuts the header into most columns."""
    return max(DELIMITERS, key=lambda delimiter: _cuts(header, delimiter))


def table_start(head: Head) -> tuple[int, list[str]]:
    """How many lines stand before the header, if most lines have more cells than they; and the lines from it on.

    None, where a delimiter cuts the first line like most others: another one may be a decimal comma.
    """
    text = head.content.decode(head.encoding, errors="replace")
    physical = text.splitlines()
    if physical and physical[0].removeprefix(MARK).lstrip('"').startswith(TYPE):
        return 1, head.lines[1:]
    first = 1 if declared_delimiter(physical[0] if physical else "") else 0
    whole = 0, head.lines[first:] if len(head.lines) > first else head.lines
    starts = []
    for delimiter in DELIMITERS:
        counts = [(i, _cuts(line, delimiter)) for i, line in enumerate(physical[:1000]) if line.strip() and i >= first]
        usual, n = Counter(count for _, count in counts).most_common(1)[0] if counts else (0, 0)
        if not usual or n < 3:
            continue
        start = next(i for i, count in counts if count == usual)
        behind = [count for i, count in counts if i >= start]
        before = [count for i, count in counts if i < start]
        if behind.count(usual) < ALIKE * len(behind):
            continue
        if not before and behind[:2] == [usual, usual]:
            return whole
        ends = sum(line.rstrip().endswith(delimiter) for line in physical[start:1000] if line.strip())
        if len(before) == 1 and before == [usual - 1] and ends >= ALIKE * len(behind):
            return whole  # rows that end with a delimiter, unlike their header
        if before and start <= MOST and max(before) < usual:
            starts.append((usual, start, len(before)))
    if not starts:
        return whole
    _, start, n_before = max(starts)
    return start, head.lines[n_before + first :]


def are_units(rows: Sequence[Sequence[Value]]) -> bool:
    """Whether the first row says units: no number or time stands where all other rows have one."""
    if len(rows) < 4 or any(len(row) != len(rows[0]) for row in rows[:2]):
        return False
    first, *others = rows
    others = [row for row in others if len(row) == len(first)]
    odd = []
    for cell, *below in zip(first, *others, strict=True):
        measured = bool(layouts_of(below)) or (any(below) and are_numbers(below))
        if measured:
            odd.append(bool(cell) and not are_numbers([cell]) and not layouts_of([cell]))
    return bool(odd) and all(odd)


def _cuts(line: str, delimiter: str) -> int:
    return re.sub(r'"[^"]*"', "", line).count(delimiter)
