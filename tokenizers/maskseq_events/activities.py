"""What happened, where several columns say it together: parts stay apart, and a name of them is for people."""

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from maskseq_events.case import UNKNOWN, Case, Parts, Value


def name_of(parts: Parts) -> str:
    """The parts with `+` between them; `UNKNOWN` where one is unknown. It cannot be taken apart again."""
    return UNKNOWN if UNKNOWN in parts else "+".join(part for part in parts if part is not None)


def names_of(activities: Sequence[Parts]) -> tuple[str, ...]:
    """Different names for different activities: as JSON, if some of them would read alike."""
    names = tuple(map(name_of, activities))
    if len(set(names)) == len(names):
        return names
    return tuple(json.dumps(parts, ensure_ascii=False) for parts in activities)


def parts_of(columns: Sequence[Sequence[Value]]) -> tuple[Parts, ...]:
    """Of each event, what the columns say; something happens at every event, so where none says anything, unknown."""
    unknown = (UNKNOWN,) * len(columns)
    return tuple(parts if any(part is not None for part in parts) else unknown for parts in zip(*columns, strict=True))


def agrees(parts: Parts, known: Parts) -> bool:
    """Whether nothing differs from what is known."""
    return len(parts) == len(known) and all(b in (a, UNKNOWN) for a, b in zip(parts, known, strict=True))


def readings(name: str, n_parts: int) -> Iterator[Parts]:
    """All that a name may have been joined from."""
    pieces = name.split("+")
    for cuts in itertools.combinations(range(1, len(pieces)), n_parts - 1):
        parts = tuple("+".join(pieces[a:b]) for a, b in itertools.pairwise((0, *cuts, len(pieces))))
        if all(parts):
            yield parts


def to_write(case: Case, old: Case, event: int) -> Parts:
    """What each column is to say of an event, which it may have said before.

    A tokenizer that knows only names has put one in: it counts if it can be read in one way, or none is known.
    """
    if case.parts is None or old.parts is None:
        return (case.activity[event],)
    name, before = case.activity[event], old.parts[event]
    if case.parts[event] != before or name == old.activity[event]:
        return case.parts[event]
    if name == UNKNOWN:
        return (UNKNOWN,) * len(before)
    found = _only(parts for parts in readings(name, len(before)) if UNKNOWN not in before or agrees(parts, before))
    return before if found is None else found


def columns_of(case: Case, names: Sequence[str]) -> tuple[str, ...]:
    """What a new log calls the columns of an activity: by these names, and further ones by number."""
    n_parts = 1 if not case.parts else len(case.parts[0])
    return (*names[:n_parts], *(f"{names[0]}#{number}" for number in range(len(names) + 1, n_parts + 1)))


@dataclass(frozen=True)
class Activities:
    """The activities that a tokenizer knows, for events whose activity has parts."""

    names: tuple[str, ...]
    parts: tuple[Parts, ...]
    """None for a tokenizer that has only seen names: what they were joined from is then concluded."""

    @cached_property
    def ids(self) -> dict[Parts, int]:
        return {parts: index for index, parts in enumerate(self.parts)}

    def fitting(self, known: Parts) -> dict[int, Parts]:
        """Of all ids that agree with what is known of an event, the parts."""
        if known not in self._fitting:
            found = {index: self._read(index, known) for index in range(len(self.names))}
            self._fitting[known] = {index: parts for index, parts in found.items() if parts is not None}
        return self._fitting[known]

    @cached_property
    def _fitting(self) -> dict[Parts, dict[int, Parts]]:
        return {}

    def _read(self, index: int, known: Parts) -> Parts | None:
        possible = (self.parts[index],) if self.parts else readings(self.names[index], len(known))
        return _only(parts for parts in possible if agrees(parts, known))


def _only(found: Iterator[Parts]) -> Parts | None:
    """The one that there is; None for several, too."""
    first = next(found, None)
    return None if next(found, None) is not None else first
