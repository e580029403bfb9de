"""What cases remember of the rows of their table, and how they are cut."""

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from maskseq.errors import DataError
from maskseq_events.case import Case, Value
from maskseq_events.mapping import Columns

COMMA = re.compile(r"[+-]?(\d{1,3}(\.\d{3})+|\d+)(,\d+)?")
POINT = re.compile(r"[+-]?\d+\.\d+")
Row = tuple[int, Any, Sequence[Any]]
"""Where the row is in its file (a line or row number), what it was read from, and its cells."""
Tried = tuple[int, Any, Sequence[Any] | DataError]
"""The same, or why it has no cells."""


class RowError(DataError):
    """A row, by its number, without which its case may be read."""

    def __init__(self, path: Path | str, problem: str, *, place: str, number: int) -> None:
        super().__init__(path, problem, place=place)
        self.number = number


@dataclass(frozen=True, kw_only=True)
class Rows:
    """What a case remembers of its table: enough to write it back."""

    was: Case
    """The case as it was read."""
    columns: Columns
    header: Any
    numbers: tuple[int, ...]
    raw: tuple[Any, ...]
    """Of an event that was added, the row that the new one goes next to."""
    added: frozenset[int] = frozenset()
    """Events that the file does not have."""
    named: Any = None
    """The row that was the first of the case in its file, if it is there no longer."""

    @property
    def first(self) -> int | None:
        """The event whose row comes first in place of `named`."""
        return None if self.named is None else min(range(len(self.numbers)), key=self.numbers.__getitem__)

    def resized(self, start: int, stop: int, length: int) -> "Rows":
        """With `length` events that were added in place of `start:stop`."""
        beside = start - 1 if start else stop
        own = [event for event in range(len(self.numbers)) if event not in self.added]
        first = min(own, key=self.numbers.__getitem__) if own else None
        moved = {e + (length - stop + start if e >= stop else 0) for e in self.added if not start <= e < stop}
        return replace(
            self,
            was=replace(self.was, origin=None).resized(start, stop, length),
            numbers=(*self.numbers[:start], *[self.numbers[beside]] * length, *self.numbers[stop:]),
            raw=(*self.raw[:start], *[self.raw[beside]] * length, *self.raw[stop:]),
            added=frozenset(moved | set(range(start, start + length))),
            named=self.raw[first] if first is not None and start <= first < stop and self.named is None else self.named,
        )


def parted(text: str, like: Sequence[str], n: int) -> Sequence[str]:
    """A timestamp as the texts of its `n` columns, each of as many words as those of another timestamp."""
    words = text.split(" ")
    lengths = [len(part.split(" ")) for part in like[:-1]] or [1] * (n - 1)
    stops = list(itertools.accumulate(lengths))
    return [" ".join(words[a:b]) for a, b in itertools.pairwise([0, *stops, len(words)])]


def split_at_silence(case: Case, idle: int) -> Iterator[Case]:
    """Cut a case wherever nothing happens for longer than `idle` microseconds."""
    silent = (np.diff(case.time) > idle) & case.timed[1:] & case.timed[:-1]
    cuts = [0, *(np.flatnonzero(silent) + 1).tolist(), len(case)]
    if len(cuts) == 2:
        yield case
        return
    rows: Rows = case.origin
    for n, (first, end) in enumerate(itertools.pairwise(cuts), 1):
        part = replace(case.cut(first, end), key=case.key if n == 1 else f"{case.key}#{n}")
        origin = replace(rows, was=part, numbers=rows.numbers[first:end], raw=rows.raw[first:end])
        yield replace(part, origin=origin)


def with_point(cell: Value) -> Value:
    """A number with a decimal comma as one with a point; other texts as they are."""
    if not isinstance(cell, str) or not COMMA.fullmatch(cell):
        return cell
    return cell.replace(".", "").replace(",", ".")
