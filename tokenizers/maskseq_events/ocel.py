"""Object-centric event logs (OCEL 2.0, in JSON, XML or SQLite), flattened: the events of one object are a case."""

import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from maskseq.errors import DataError, UsageError
from maskseq.files import create
from maskseq.formats import Format
from maskseq.survey import CERTAIN, Claim, Head
from maskseq_events.case import UNKNOWN, Case, Value, padded, time_order
from maskseq_events.ocel_edit import Changes, edited
from maskseq_events.ocel_read import ObjectLog, read_ocel
from maskseq_events.times import TimeLayout


@dataclass(frozen=True, kw_only=True)
class ObjectEvents:
    """What a case remembers of its file."""

    was: Case
    """The case as it was read."""
    log: ObjectLog
    """The whole file, which all of its cases share."""
    numbers: tuple[int, ...]
    """Which event of the file each event of the case is."""


@dataclass(frozen=True, kw_only=True)
class Ocel(Format[Case]):
    """OCEL 2.0 flattened by an object type: a case for each object of it, with the events that it takes part in.

    An event of several such objects is in several cases. Attributes of the event are event attributes; attributes of
    the object are case attributes, with their first value. An attribute that an event does not name, or names without
    a value (null, NULL, empty), is absent; a type, time or value `?` is unknown, and so is a time without a value.

    Written back, what was filled is put into the file that the cases come from, and all else stays as it is: every
    other character of JSON and XML, every other row of a database, all objects and relations. Where the cases of one
    event fill it differently, the case that comes first in the file is written, with a warning. Events cannot be
    added. The whole file is held in memory.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".jsonocel", ".xmlocel", ".sqliteocel", ".ocel.json", ".ocel.xml", ".sqlite")

    object_type: str | None = None
    """Which objects are cases; needed where the log has several types."""
    empty_unknown: tuple[str, ...] = ()
    """Attributes that are unknown where an event or object names them without a value."""
    time_zone: str | None = None
    """IANA zone of timestamps that say none (default: UTC)."""
    sort: bool = True
    """Sort each case by time, ties in file order; else keep the order of the file."""

    @classmethod
    def recognize(cls, head: Head) -> Claim | None:
        """Cases are the objects of the type that takes part in most events."""
        if not any(word in head.content for word in (b"objectTypes", b"object-types", b"event_map_type")):
            return super().recognize(head)
        log = read_ocel(head.path)
        types = Counter[str]()
        for event in log.events:
            types.update({log.objects[key].type for key in event.objects if key in log.objects})
        if not types:
            return super().recognize(head)
        (chosen, n), others = types.most_common(1)[0], sorted(types)
        why = f"an object-centric log; its cases are the {chosen!r} objects, which take part in {n:,} events"
        if len(others) > 1:
            why += f" (there are {', '.join(map(repr, others))})"
        return Claim(strength=CERTAIN, why=why, options={"object_type": chosen})

    def read(self, path: Path) -> Iterator[Case]:
        log = read_ocel(path)
        chosen = self._chosen({each.type for each in log.objects.values()}, path)
        events: dict[str, list[int]] = {}
        for number, event in enumerate(log.events):
            for key in dict.fromkeys(event.objects):
                if key in log.objects and log.objects[key].type == chosen:
                    events.setdefault(key, []).append(number)
        if not events:
            raise DataError(path, f"no event has an object of the type {chosen!r}")
        for key, own in events.items():
            yield self._case(key, own, log)

    def write(self, records: Iterable[Case], path: Path) -> None:
        log: ObjectLog | None = None
        events: dict[int, Changes] = {}
        objects: dict[str, Changes] = {}
        n_differing = 0
        for case in records:
            origin = case.origin
            if not isinstance(origin, ObjectEvents):
                problem = f"{case.key!r} does not come from an object-centric log, and cannot become one"
                raise UsageError(
                    f"{path}: {problem}\n\nhint: write it as CSV, XES, JSON Lines or Parquet", code="not-supported"
                )
            if log is not None and origin.log is not log:
                raise UsageError(
                    f"{path}: cases of different files cannot be written into one log", code="not-supported"
                )
            log = origin.log
            if case == origin.was:
                continue
            for number, changes in self._changes(case, origin):
                n_differing += _join(events.setdefault(number, Changes()), changes)
            new, old = case.case_attributes, origin.was.case_attributes
            if changed := {name: value for name, value in new.items() if value != old.get(name)}:
                objects[case.key] = Changes(attributes=changed)
        if log is None:
            raise UsageError(
                f"{path}: there are no cases to write, and so no log that they come from", code="too-little-data"
            )
        if n_differing:
            warnings.warn(
                f"{path.name}: {n_differing:,} values of events that are in several cases were filled differently "
                f"there; those of the case that comes first are written",
                stacklevel=2,
            )
        with create(path) as file:
            file.write(edited(log, events, objects))

    def _changes(self, case: Case, origin: "ObjectEvents") -> Iterator[tuple[int, Changes]]:
        """What is filled of each event, by its number in the file."""
        old, absent = origin.was, [None] * len(origin.was)
        moments = [str(origin.log.events[n].time) for n, known in zip(origin.numbers, old.timed, strict=True) if known]
        like = max(moments, key=len, default=None)  # the longest is the most precise
        for index, number in enumerate(origin.numbers):
            changes = Changes()
            if case.activity[index] != old.activity[index]:
                changes.activity = case.activity[index]
            if case.time[index] != old.time[index]:
                moment, offset = int(case.time[index]), int(case.offset[index])
                changes.time = self._layout.render(moment, offset, like) if case.timed[index] else UNKNOWN
            for name, values in case.attributes.items():
                if values[index] != old.attributes.get(name, absent)[index]:
                    changes.attributes[name] = values[index]
            if changes != Changes():
                yield number, changes

    @cached_property
    def _layout(self) -> TimeLayout:
        return TimeLayout(None, self.time_zone)

    def _chosen(self, types: set[str], path: Path) -> str:
        known = ", ".join(map(repr, sorted(types))) or "none"
        if self.object_type is None:
            if len(types) == 1:
                return next(iter(types))
            raise DataError(path, f"which objects are the cases? say object_type = 'TYPE'; there are {known}")
        if self.object_type not in types:
            raise DataError(path, f"there are no objects of the type {self.object_type!r}; there are {known}")
        return self.object_type

    def _case(self, key: str, numbers: Sequence[int], log: ObjectLog) -> Case:
        events, what = [log.events[number] for number in numbers], log.objects[key]
        try:
            none = {"", UNKNOWN, *padded(event.time for event in events)}
            moments = [None if event.time in none else event.time for event in events]
            time, offset = self._layout.parse_all(moments)
        except ValueError as error:
            problem, index = error.args
            raise DataError(log.path, problem, place=f"event {events[index].id!r}") from None
        order = time_order(time) if self.sort else None
        if order is not None:
            events, time, offset = [events[i] for i in order], time[order], offset[order]
            numbers = [numbers[i] for i in order]
        names = dict.fromkeys(name for event in events for name in event.attributes)
        case = Case(
            key=key,
            activity=tuple(str(_known(event.activity) or UNKNOWN) for event in events),
            time=time,
            offset=offset,
            attributes={name: tuple([self._value(name, event.attributes) for event in events]) for name in names},
            case_attributes={name: self._value(name, what.attributes) for name in what.attributes},
        )
        return replace(case, origin=ObjectEvents(was=case, log=log, numbers=tuple(numbers)))

    def _value(self, name: str, attributes: Mapping[str, Value]) -> Value:
        value = _known(attributes.get(name))
        return UNKNOWN if value is None and name in attributes and name in self.empty_unknown else value


def _known(value: Value) -> Value:
    return UNKNOWN if value is not None and UNKNOWN in value and padded([value]) else value


def _join(changes: Changes, others: Changes) -> int:
    """Add what other changes of the same event say; what is said already stays. How many values differ."""
    answered = {name: value for name, value in others.attributes.items() if name in changes.attributes}
    n_differing = sum(value != changes.attributes[name] for name, value in answered.items())
    changes.attributes = others.attributes | changes.attributes
    for name in ("activity", "time"):
        old, new = getattr(changes, name), getattr(others, name)
        n_differing += None not in (old, new) and old != new
        setattr(changes, name, new if old is None else old)
    return n_differing
