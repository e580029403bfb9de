"""Event logs in XES (IEEE 1849), plain or gzipped: streamed trace by trace, written back as they were."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from maskseq.errors import DataError
from maskseq.files import create
from maskseq.formats import Format, OnBroken, attempted, stop
from maskseq.survey import CERTAIN, Choice, Claim, Head
from maskseq_events.activities import columns_of, name_of, parts_of, to_write
from maskseq_events.case import UNKNOWN, Case, Value, padded, time_order
from maskseq_events.new_table import refuse_undated
from maskseq_events.roles import says_activity
from maskseq_events.splicing import spliced
from maskseq_events.times import TimeLayout
from maskseq_events.xes_edit import locate, new_trace, set_values, tag_of
from maskseq_events.xes_names import Place
from maskseq_events.xes_parse import ParsedLog, ParsedTrace, keys_in, parse_traces
from maskseq_events.xml_text import Edit

HEAD = b"""<?xml version="1.0" encoding="utf-8"?>
<log xes.version="1849-2016" xes.features="nested-attributes" xmlns="http://www.xes-standard.org/">
\t<extension name="Concept" prefix="concept" uri="http://www.xes-standard.org/concept.xesext"/>
\t<extension name="Time" prefix="time" uri="http://www.xes-standard.org/time.xesext"/>"""
TAIL = b"\n</log>\n"
NO_NUMBERS = ("nan", "inf", "infinity")
"""How programs write floats that are no numbers."""


@dataclass(frozen=True, kw_only=True)
class TraceText:
    """What a case remembers of its file: `before` and `xml` of all cases, and `after` of the last, are the file."""

    was: Case
    """The case as it was read."""
    before: bytes
    """What precedes the trace; of the file's first case, the head of the log."""
    xml: bytes
    after: bytes = b""
    encoding: str = "utf-8"
    first: bool = False
    places: Mapping[str, Place] = field(default_factory=dict)
    """Where attributes of the log stand whose names are not their keys."""
    order: tuple[int, ...] | None = None
    """Which event of the file each event of the case is; None: in the same order."""


@dataclass(frozen=True, kw_only=True)
class Xes(Format[Case]):
    """Event logs in XES. A trace is a case; what it says of itself are case attributes (`case:AMOUNT_REQ`).

    An attribute that an event lacks is absent; `?` is unknown: a hole. An event without `concept:name` has an unknown
    activity, one without `time:timestamp` an unknown time; of several keys that make an activity together, one that is
    not there is absent, unless none is. An attribute in another one, or in a list or container, is called by both:
    `org:resource/org:role`; of several with one key, the second is `org:resource#2`. Traces without events stay in the
    file but are not read. Written back, everything but the values that changed is copied from the file as it was.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".xes",)

    case: str = "concept:name"
    """Trace attribute that names the case; one without it is called by its number, `#12`."""
    activity: str | tuple[str, ...] = "concept:name"
    """Event attribute that says what happened, or several that say it together: a classifier."""
    time: str = "time:timestamp"
    attributes: tuple[str, ...] | None = None
    """Event attributes to read (default: all others)."""
    unknown: tuple[str, ...] = (UNKNOWN,)
    """Values that mean: nobody knows. The first is written for such a value."""
    time_zone: str | None = None
    """IANA zone of timestamps that say none (default: UTC)."""
    sort: bool = True
    """Sort each case by time, ties in file order; else keep the order of the file."""

    @classmethod
    def recognize(cls, head: Head) -> Claim | None:
        """With what its classifiers say is the activity, where that is not the name alone."""
        if b"<log" not in head.content:
            return super().recognize(head)
        classifiers = [_keys(text) for text in re.findall(rb'<classifier\s[^>]*keys="([^"]*)"', head.content)]
        of_traces, used = keys_in(head.content)
        why = "an XES log"
        options: dict[str, Any] = {}
        for role, key, keys in (("case", "concept:name", of_traces), ("time", "time:timestamp", used)):
            if key not in keys and (name := _nested(key, keys)) is not None:
                why, options = f"{why}, whose {role} is in {name!r}", {**options, role: name}
        if used and "concept:name" not in used:
            found = next((keys for keys in classifiers if used.issuperset(keys)), None)
            nested = _nested("concept:name", used)
            if found is not None:
                why = f"{why}, whose classifier says that {' and '.join(found)} is the activity"
                return Claim(
                    strength=CERTAIN, why=why, options={"activity": found[0] if len(found) == 1 else found, **options}
                )
            if nested is not None:
                return Claim(
                    strength=CERTAIN,
                    why=f"{why}, whose activity is in {nested!r}",
                    options={"activity": nested, **options},
                )
            doubt = f"its events have no concept:name; what happened is one of {', '.join(sorted(used))}"
            able = [key for key in sorted(used) if says_activity(key)]
            choices = [
                Choice(why=f"{key!r} is taken for the activity", options={"activity": key, **options}) for key in able
            ]
            return Claim(strength=CERTAIN, why=why, doubt=doubt, instead=tuple(choices))
        both = {"concept:name", "lifecycle:transition"}
        if any(set(keys) == both for keys in classifiers):
            why, options = (
                f"{why}, which says that name and lifecycle together are the activity",
                {"activity": sorted(both), **options},
            )
        return Claim(strength=CERTAIN, why=why, options=options)

    def read(self, path: Path) -> Iterator[Case]:
        return self._read(path, stop)

    def attempts(self, path: Path) -> Iterator[Case | DataError]:
        return attempted(lambda on_broken: self._read(path, on_broken))

    def _read(self, path: Path, on_broken: OnBroken) -> Iterator[Case]:
        log = ParsedLog()
        held: Case | None = None  # the last case gets what follows it
        broken: list[DataError] = []  # behind that case
        for number, trace in enumerate(parse_traces(path, log)):
            try:
                case = self._case(trace, log, first=number == 0)
            except ValueError as error:
                place = f"trace {trace.number} at line {trace.line}"
                broken.append(DataError(path, str(error), place=place, kept=trace.before + trace.xml))
                if held is None:
                    on_broken(broken.pop())
                continue
            if held is not None:
                yield held
                for each in broken:
                    on_broken(each)
                broken.clear()
            held = case
        if held is None:
            raise DataError(path, "there are no traces with events in this log")
        yield replace(held, origin=replace(held.origin, after=log.after))
        for each in broken:
            on_broken(each)

    def write(self, records: Iterable[Case | DataError], path: Path) -> None:
        """Traces in the order of the records, untouched ones as they were. Cases from elsewhere become plain XES."""
        after = b""
        with create(path) as file:
            for index, case in enumerate(records):
                if isinstance(case, DataError):
                    file.write(case.kept)
                    continue
                text = case.origin if isinstance(case.origin, TraceText) else None
                if index == 0 and not (text and text.first):
                    file.write(HEAD)
                if text is None:
                    refuse_undated(case)
                    keys = columns_of(case, self._keys)
                    new = new_trace(case, name=self.case, activity=keys, time=self.time, layout=self._layout)
                    file.write(new)
                    continue
                file.write(text.before if text.first == (index == 0) else b"\n\t")
                file.write(self._updated(case, text))
                after = text.after
            file.write(after or TAIL)

    @property
    def _keys(self) -> tuple[str, ...]:
        return (self.activity,) if isinstance(self.activity, str) else tuple(self.activity)

    @cached_property
    def _layout(self) -> TimeLayout:
        return TimeLayout(None, self.time_zone)

    @cached_property
    def _meanings(self) -> dict[Value, Value]:
        """Values that are none."""
        return {None: None, "": None, UNKNOWN: UNKNOWN} | dict.fromkeys(self.unknown, UNKNOWN)

    # Traces to cases

    def _case(self, trace: ParsedTrace, log: ParsedLog, *, first: bool) -> Case:
        """`ValueError` for a timestamp that is none."""
        events = trace.events
        moments = [event.get(self.time) for event in events]
        meanings = self._meanings | padded(moments, self.unknown)
        try:
            time, offset = self._layout.parse_all([None if moment in meanings else moment for moment in moments])
        except ValueError as error:
            problem, index = error.args
            raise ValueError(f"event {index + 1}: {problem}") from None
        order = time_order(time) if self.sort else None
        if order is not None:
            events, time, offset = [events[i] for i in order], time[order], offset[order]
        names: Iterable[str] = self.attributes or ()
        if self.attributes is None:
            found = dict.fromkeys([name for event in events for name in event])
            names = [name for name in found if name not in self._keys and name != self.time]
        answered = [self._values([event.get(key) for event in events]) for key in self._keys]
        parts = None if len(answered) == 1 else parts_of(answered)
        case = Case(
            key=trace.attributes.get(self.case, f"#{trace.number}"),
            activity=tuple([each or UNKNOWN for each in answered[0]]) if parts is None else tuple(map(name_of, parts)),
            parts=parts,
            time=time,
            offset=offset,
            attributes={
                name: self._values([event.get(name) for event in events], numeric=log.kinds.get(name) == "numeric")
                for name in names
            },
            case_attributes={
                name: self._values([value], numeric=log.kinds.get(f"case:{name}") == "numeric")[0]
                for name, value in trace.attributes.items()
                if name != self.case
            },
            kinds=log.kinds,
            unread={} if self.attributes is None else self._unread(events, {*names, *self._keys, self.time}),
        )
        text = TraceText(
            was=case,
            before=trace.before,
            xml=trace.xml,
            encoding=log.encoding,
            first=first,
            places=log.places,
            order=None if order is None else tuple(order.tolist()),
        )
        return replace(case, origin=text)

    def _values(self, values: Sequence[Value], *, numeric: bool = False) -> tuple[Value, ...]:
        """What they mean; a number that is none, or infinite, is absent."""
        meanings = self._meanings | padded(values, self.unknown)
        if numeric:
            meanings |= {value: None for value in values if value and value.lower().lstrip("+-") in NO_NUMBERS}
        return tuple([meanings.get(value, value) for value in values])

    def _unread(self, events: Sequence[Mapping[str, str]], read: set[str]) -> dict[str, int]:
        """How many unknown values the attributes have that are not read."""
        values = [
            (name, self._values([value])) for event in events for name, value in event.items() if name not in read
        ]
        return dict(Counter(name for name, value in values if value == (UNKNOWN,)))

    # Cases to traces

    def _updated(self, case: Case, text: TraceText) -> bytes:
        """The text of the trace with what changed."""
        old = text.was
        if old == case:
            return text.xml
        trace, events = locate(text.xml, text.encoding)
        if text.order is not None:
            events = [events[i] for i in text.order]
        moments = [e.attributes[self.time].value for e, known in zip(events, old.timed, strict=True) if known]
        like = max(moments, key=len, default=None)  # the longest is the most precise
        edits: list[Edit] = []
        for index, event in enumerate(events):
            changed: dict[str, tuple[str, Value]] = {}
            was = (old.activity[index],) if old.parts is None else old.parts[index]
            for key, part, before in zip(self._keys, to_write(case, old, index), was, strict=True):
                if part != before:
                    changed[key] = ("string", self._text(part))
            if case.time[index] != old.time[index]:
                moment, offset = int(case.time[index]), int(case.offset[index])
                shown = self._layout.render(moment, offset, like) if case.timed[index] else self._text(UNKNOWN)
                changed[self.time] = ("date", shown)
            for name, values in case.attributes.items():
                if values[index] != old.attributes.get(name, [None] * len(old))[index]:
                    changed[name] = (tag_of(name, case.kinds), self._text(values[index]))
            edits += set_values(text.xml, event, changed, text.places, text.encoding)
        own = {
            name: (tag_of(f"case:{name}", case.kinds), self._text(value))
            for name, value in case.case_attributes.items()
            if value != old.case_attributes.get(name)
        }
        of_trace = {name.removeprefix("case:"): p for name, p in text.places.items() if name.startswith("case:")}
        edits += set_values(text.xml, trace, own, of_trace, text.encoding)
        return spliced(text.xml, edits)

    def _text(self, value: Value) -> Value:
        return self.unknown[0] if value == UNKNOWN else value


def _keys(text: bytes) -> list[str]:
    """The keys of a classifier, those with blanks in quotes."""
    found = re.findall(r"'([^']*)'|(\S+)", text.decode(errors="replace").replace("&apos;", "'"))
    return [quoted or plain for quoted, plain in found]


def _nested(key: str, names: Iterable[str]) -> str | None:
    """The one attribute of this key that stands in another one."""
    found = [name for name in names if name.endswith(f"/{key}")]
    return found[0] if len(found) == 1 else None
