"""Change values in the text of one XES trace, and nothing else; or write a trace that no file had."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from xml.parsers import expat
from xml.sax.saxutils import quoteattr

from maskseq_events.case import UNKNOWN, Case, Kind, Value
from maskseq_events.times import TimeLayout
from maskseq_events.xes_parse import element_end

_NAME = re.compile(rb"<[^\s/>]+")
_ATTRIBUTE = re.compile(rb"\s+([^\s=]+)\s*=\s*(\"[^\"]*\"|'[^']*')")
_BLANK = re.compile(rb"\s*")
_CLOSE = re.compile(rb"\s*/?>")

Edit = tuple[int, int, bytes]
"""Bytes from, to (half-open), and what stands there afterwards."""


@dataclass(frozen=True, slots=True)
class Attribute:
    """Where an attribute stands in the text of its trace."""

    value: str
    value_span: tuple[int, int]
    """Of the value with its quotes."""
    span: tuple[int, int]


@dataclass(slots=True)
class Holder:
    """A trace or an event: the attributes it has, and where another one would be inserted."""

    name: bytes
    start_tag: tuple[int, int]
    attributes: dict[str, Attribute] = field(default_factory=dict)


def locate(xml: bytes, encoding: str) -> tuple[Holder, list[Holder]]:
    """The trace itself and its events, with the place of every attribute. The text has been parsed before."""
    parser = expat.ParserCreate(encoding)
    holders: list[Holder] = []
    opened: list[tuple[int, str, tuple[int, int] | None, str]] = []  # start, key, span of the value, value

    def start(tag: str, attributes: dict[str, str]) -> None:
        begin = parser.CurrentByteIndex
        spans, stop = start_tag(xml, begin)
        value_span = spans.get(b"value")
        depth = len(opened)
        if depth == 0 or (depth == 1 and tag.rpartition(":")[2] == "event"):
            name = _NAME.match(xml, begin)
            assert name is not None
            holders.append(Holder(name.group()[1:], (begin, stop)))
        opened.append((begin, attributes.get("key", ""), value_span, attributes.get("value", "")))

    def end(tag: str) -> None:
        begin, key, value_span, value = opened.pop()
        if value_span is None:
            return
        in_event = len(opened) == 2 and holders[-1].start_tag[0] == opened[1][0]
        if in_event or len(opened) == 1:
            span = (begin, element_end(xml, parser.CurrentByteIndex))
            holders[-1 if in_event else 0].attributes[key] = Attribute(value, value_span, span)

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.Parse(xml, True)
    return holders[0], holders[1:]


def set_values(xml: bytes, holder: Holder, values: Mapping[str, tuple[str, Value]], encoding: str) -> Iterator[Edit]:
    """The edits that give attributes other values, remove them (None) or add them; of each, the tag and the value."""
    added = []
    for key, (tag, value) in values.items():
        old = holder.attributes.get(key)
        if old is None:
            added.append(f"<{tag} key={_quoted(key)} value={_quoted(value or '')}/>")
        elif value is None:
            start, stop = old.span
            while xml[start - 1 : start].isspace():  # with the blanks before it, so that no empty line is left
                start -= 1
            yield start, stop, b""
        else:
            yield *old.value_span, _quoted(value).encode(encoding, "xmlcharrefreplace")
    if added:
        yield _insertion(xml, holder, [element.encode(encoding, "xmlcharrefreplace") for element in added])


def new_trace(case: Case, *, name: str, activity: str, time: str, layout: TimeLayout) -> bytes:
    """A case that comes from elsewhere, as a XES trace."""
    lines = ["\n\t<trace>", _element("string", name, case.key, 2)]
    for key, value in case.case_attributes.items():
        lines += _typed(key, value, case.kinds.get(f"case:{key}"), 2)
    for index, what in enumerate(case.activity):
        lines += ["\t\t<event>", _element("string", activity, what, 3)]
        if case.timed[index]:
            moment = layout.render(int(case.time[index]), int(case.offset[index]))
            lines.append(_element("date", time, moment, 3))
        for key, values in case.attributes.items():
            lines += _typed(key, values[index], case.kinds.get(key), 3)
        lines.append("\t\t</event>")
    return "\n".join([*lines, "\t</trace>"]).encode()


def tag_of(key: str, kinds: Mapping[str, Kind]) -> str:
    """The element that an attribute is written as."""
    return "float" if kinds.get(key) == "numeric" else "string"


def start_tag(xml: bytes, begin: int) -> tuple[dict[bytes, tuple[int, int]], int]:
    """Where the values in a start tag stand, quotes included, and where it ends."""
    name = _NAME.match(xml, begin)
    assert name is not None
    spans, position = {}, name.end()
    while match := _ATTRIBUTE.match(xml, position):
        position = match.end()
        spans[match[1]] = match.span(2)
    close = _CLOSE.match(xml, position)
    assert close is not None
    return spans, close.end()


def _insertion(xml: bytes, holder: Holder, elements: Sequence[bytes]) -> Edit:
    """The edit that puts elements first into a trace or event, indented like what follows."""
    _, stop = holder.start_tag
    if xml[stop - 2 : stop] == b"/>":
        return stop - 2, stop, b">" + b"".join(elements) + b"</" + holder.name + b">"
    blank = _BLANK.match(xml, stop)
    assert blank is not None
    return stop, stop, b"".join(blank.group() + element for element in elements)


def _quoted(value: str) -> str:
    return quoteattr(value, {"\n": "&#10;", "\r": "&#13;", "\t": "&#9;"})


def _element(tag: str, key: str, value: str, depth: int) -> str:
    return "\t" * depth + f"<{tag} key={_quoted(key)} value={_quoted(value)}/>"


def _typed(key: str, value: Value, kind: Kind | None, depth: int) -> list[str]:
    if value is None:
        return []
    return [_element("float" if kind == "numeric" and value != UNKNOWN else "string", key, value, depth)]
