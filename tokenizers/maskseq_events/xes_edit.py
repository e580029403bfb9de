"""Change values in the text of one XES trace, and nothing else; or write a trace that no file had."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from xml.parsers import expat

from maskseq_events.case import UNKNOWN, Case, Kind, Value
from maskseq_events.times import TimeLayout
from maskseq_events.xml_text import Edit, end_tag_end, first_inside, is_empty_tag, quoted, start_tag

_BLANK = re.compile(rb"\s*")


@dataclass(frozen=True, slots=True)
class Attribute:
    """Where an attribute stands in the text of its trace."""

    value_span: tuple[int, int]
    """Of the value with its quotes."""
    span: tuple[int, int]
    value: str
    has_content: bool
    """Whether there are other attributes in it, or comments."""


@dataclass(slots=True)
class Holder:
    """A trace or an event: the attributes it has, and where another one would be inserted."""

    start_tag: tuple[int, int]
    attributes: dict[str, Attribute] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Opened:
    """An element that has begun."""

    start_tag: tuple[int, int]
    value_span: tuple[int, int] | None
    attributes: dict[str, str]


def locate(xml: bytes, encoding: str) -> tuple[Holder, list[Holder]]:
    """The trace itself and its events, with the place of every attribute. The text has been parsed before."""
    parser = expat.ParserCreate(encoding)
    holders: list[Holder] = []
    opened: list[_Opened] = []

    def start(tag: str, attributes: dict[str, str]) -> None:
        begin = parser.CurrentByteIndex
        spans, stop = start_tag(xml, begin)
        if not opened or (len(opened) == 1 and tag.rpartition(":")[2] == "event"):
            holders.append(Holder((begin, stop)))
        opened.append(_Opened((begin, stop), spans.get(b"value"), attributes))

    def end(tag: str) -> None:
        closed = opened.pop()
        if closed.value_span is None:
            return
        in_event = len(opened) == 2 and holders[-1].start_tag == opened[1].start_tag
        if in_event or len(opened) == 1:
            begin, stop = closed.start_tag
            content = b""
            if not is_empty_tag(xml, stop):  # of one that is empty, expat reports no end tag
                content = xml[stop : parser.CurrentByteIndex]
                stop = end_tag_end(xml, parser.CurrentByteIndex)
            key, value = (closed.attributes.get(name, "") for name in ("key", "value"))
            found = Attribute(closed.value_span, (begin, stop), value, has_content=bool(content.strip()))
            holders[-1 if in_event else 0].attributes[key] = found

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.Parse(xml, True)
    return holders[0], holders[1:]


def set_values(xml: bytes, holder: Holder, values: Mapping[str, tuple[str, Value]], encoding: str) -> Iterator[Edit]:
    """The edits that give attributes other values, remove them (None) or add them; of each, the tag and the value.

    One that holds others is not removed: its value becomes empty, which says the same.
    """
    added = []
    for key, (tag, value) in values.items():
        old = holder.attributes.get(key)
        if old is None:
            if value is not None:
                added.append(_element(tag, key, value).encode(encoding, "xmlcharrefreplace"))
        elif value is None and not old.has_content:
            start, stop = old.span
            while xml[start - 1 : start].isspace():  # with the blanks before it, so that no empty line is left
                start -= 1
            yield start, stop, b""
        else:
            yield *old.value_span, quoted(value or "").encode(encoding, "xmlcharrefreplace")
    if added:
        yield _insertion(xml, holder, added)


def new_trace(case: Case, *, name: str, activity: Sequence[str], time: str, layout: TimeLayout) -> bytes:
    """A case that comes from elsewhere, as a XES trace; `activity` are the keys of what happened."""
    lines = ["\n\t<trace>", "\t\t" + _element("string", name, case.key)]
    for key, value in case.case_attributes.items():
        lines += _typed(key, value, case.kinds.get(f"case:{key}"), 2)
    for index, what in enumerate(case.activity):
        lines.append("\t\t<event>")
        for key, part in zip(activity, (what,) if case.parts is None else case.parts[index], strict=True):
            lines += _typed(key, part, None, 3)
        if case.timed[index]:
            moment = layout.render(int(case.time[index]), int(case.offset[index]))
            lines.append("\t\t\t" + _element("date", time, moment))
        for key, values in case.attributes.items():
            lines += _typed(key, values[index], case.kinds.get(key), 3)
        lines.append("\t\t</event>")
    return "\n".join([*lines, "\t</trace>"]).encode()


def tag_of(key: str, kinds: Mapping[str, Kind]) -> str:
    """The element that an attribute is written as."""
    return "float" if kinds.get(key) == "numeric" else "string"


def _insertion(xml: bytes, holder: Holder, elements: Sequence[bytes]) -> Edit:
    """The edit that puts elements first into a trace or event, indented like what follows."""
    begin, stop = holder.start_tag
    blank = _BLANK.match(xml, stop)
    assert blank is not None
    indent = b"" if is_empty_tag(xml, stop) else blank.group()
    return first_inside(xml, begin, stop, b"".join(indent + element for element in elements))


def _element(tag: str, key: str, value: str) -> str:
    return f"<{tag} key={quoted(key)} value={quoted(value)}/>"


def _typed(key: str, value: Value, kind: Kind | None, depth: int) -> list[str]:
    if value is None:
        return []
    tag = "float" if kind == "numeric" and value != UNKNOWN else "string"
    return ["\t" * depth + _element(tag, key, value)]
