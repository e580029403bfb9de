"""Object-centric event logs (OCEL 2.0, in JSON, XML or SQLite), flattened: the events of one object are a case."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from maskseq.errors import DataError, UsageError
from maskseq.survey import CERTAIN, Claim, Head
from maskseq.tokenizer import Format
from maskseq_events.case import UNKNOWN, Case, time_order
from maskseq_events.ocel_read import LogObject, ObjectEvent, read_ocel
from maskseq_events.times import TimeLayout


@dataclass(frozen=True, kw_only=True)
class Ocel(Format[Case]):
    """OCEL 2.0 flattened by an object type: a case for each object of it, with the events that it takes part in.

    An event of several such objects is in several cases. Attributes of the event are event attributes; attributes of
    the object are case attributes, with their first value. The whole file is held in memory. What is flattened cannot
    be made object-centric again, so filled cases are written by another format (CSV, XES, JSON Lines, Parquet).
    """

    suffixes: ClassVar[tuple[str, ...]] = (".jsonocel", ".xmlocel", ".sqliteocel", ".ocel.json", ".ocel.xml", ".sqlite")

    object_type: str | None = None
    """Which objects are cases; needed where the log has several types."""
    time_zone: str | None = None
    """IANA zone of timestamps that say none (default: UTC)."""
    sort: bool = True
    """Sort each case by time, ties in file order; else keep the order of the file."""

    @classmethod
    def recognize(cls, head: Head) -> Claim | None:
        """Cases are the objects of the type that takes part in most events."""
        kind = (b"objectTypes", b"object-types", b"SQLite format 3")
        if not head.name.endswith(cls.suffixes) and not any(word in head.content for word in kind[:2]):
            return None
        if not any(word in head.content for word in kind):
            return super().recognize(head)
        log = read_ocel(head.path)
        types = Counter(log.objects[key].type for event in log.events for key in event.objects if key in log.objects)
        if not types:
            return super().recognize(head)
        (chosen, n), others = types.most_common(1)[0], sorted(types)
        why = f"an object-centric log; its cases are the {chosen!r} objects, which meet {n:,} events"
        if len(others) > 1:
            why += f" (there are {', '.join(map(repr, others))})"
        return Claim(strength=CERTAIN, why=why, options={"object_type": chosen})

    def read(self, path: Path) -> Iterator[Case]:
        log = read_ocel(path)
        chosen = self._chosen({each.type for each in log.objects.values()}, path)
        events: dict[str, list[ObjectEvent]] = {}
        for event in log.events:
            for key in dict.fromkeys(event.objects):
                if key in log.objects and log.objects[key].type == chosen:
                    events.setdefault(key, []).append(event)
        if not events:
            raise DataError(path, f"no event has an object of the type {chosen!r}")
        for key, own in events.items():
            yield self._case(key, own, log.objects[key], path)

    def write(self, records: Iterable[Case], path: Path) -> None:
        raise UsageError(
            f"{path}: flattened cases cannot be made object-centric again\n\n"
            f"hint: write them as CSV, XES, JSON Lines or Parquet"
        )

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

    def _case(self, key: str, events: Sequence[ObjectEvent], what: LogObject, path: Path) -> Case:
        try:
            moments = [None if event.time in ("", UNKNOWN) else event.time for event in events]
            time, offset = self._layout.parse_all(moments)
        except ValueError as error:
            problem, index = error.args
            raise DataError(path, problem, place=f"event {events[index].id!r}") from None
        order = time_order(time) if self.sort else None
        if order is not None:
            events, time, offset = [events[i] for i in order], time[order], offset[order]
        names = dict.fromkeys(name for event in events for name in event.attributes)
        return Case(
            key=key,
            activity=tuple(event.activity or UNKNOWN for event in events),
            time=time,
            offset=offset,
            attributes={name: tuple(event.attributes.get(name) for event in events) for name in names},
            case_attributes=what.attributes,
        )
