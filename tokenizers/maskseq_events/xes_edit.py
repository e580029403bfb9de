"""Change values in the text of one XES trace, and nothing else; or write a trace that no file had."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from xml.parsers import expat

from maskseq_events.case import UNKNOWN, Case, Kind, Value
from maskseq_events.times import TimeLayout
from maskseq_events.xes_names import Place, XesNames, with_those_needed
from maskseq_events.xml_text import Edit, end_tag_end, first_inside, is_empty_tag, quoted, start_tag

_BLANK = re.compile(rb"\s*")


@dataclass(frozen=True, slots=True)
class Attribute:
    """Where an attribute stands in the text of its trace."""

    value_span: tuple[int, int] | None
    """Of the value with its quotes; None for one that only holds others."""
    span: tuple[int, int]
    value: str
    start_tag: tuple[int, int]
    """Of the element that attributes in it stand in: itself, or the `values` of a list."""
    end: int
    """Where that element's end tag begins, or its only tag ends."""
    has_content: bool
    """Whether there are other attributes in it, or comments."""


@dataclass(slots=True)
class Holder:
    """A trace or an event: the attributes it has, and where another one would be inserted."""

    start_tag: tuple[int, int]
    names: XesNames = field(default_factory=XesNames)
    attributes: dict[str, Attribute] = field(default_factory=dict)
    end: int = 0
    """Where its end tag begins, or its only tag ends."""


@dataclass(frozen=True, slots=True)
class _Opened:
    """An element that has begun."""

    start_tag: tuple[int, int]
    value_span: tuple[int, int] | None
    value: str
    name: str
    """Empty for one without a key."""
    holder: Holder


def locate(xml: bytes, encoding: str) -> tuple[Holder, list[Holder]]:
    """The trace itself and its events, with the place of every attribute. The text has been parsed before."""
    parser = expat.ParserCreate(encoding)
    holders: list[Holder] = []
    opened: list[_Opened] = []
    within: dict[tuple[int, str], tuple[tuple[int, int], int]] = {}  # of lists, where their values stand

    def start(tag: str, attributes: dict[str, str]) -> None:
        begin = parser.CurrentByteIndex
        spans, stop = start_tag(xml, begin)
        if not opened or (len(opened) == 1 and tag.rpartition(":")[2] == "event"):
            holders.append(Holder((begin, stop)))
            opened.append(_Opened((begin, stop), None, "", "", holders[-1]))
            return
        holder, key = opened[-1].holder, attributes.get("key")
        name, _ = holder.names.enter(key)
        value = attributes.get("value", "")
        opened.append(_Opened((begin, stop), spans.get(b"value"), value, name if key is not None else "", holder))

    def end(tag: str) -> None:
        closed = opened.pop()
        begin, stop = closed.start_tag
        holder, inner = closed.holder, stop
        content = b""
        if not is_empty_tag(xml, stop):  # of one that is empty, expat reports no end tag
            inner = parser.CurrentByteIndex
            content = xml[stop:inner]
            stop = end_tag_end(xml, inner)
        if not opened or opened[-1].holder is not holder:
            holder.end = inner
            return
        holder.names.leave()
        if not closed.name:
            within[id(holder), opened[-1].name] = closed.start_tag, inner
            return
        tag_of_content, inner = within.get((id(holder), closed.name), (closed.start_tag, inner))
        holder.attributes[closed.name] = Attribute(
            closed.value_span, (begin, stop), closed.value, tag_of_content, inner, has_content=bool(content.strip())
        )

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.Parse(xml, True)
    return holders[0], holders[1:]


def set_values(
    xml: bytes, holder: Holder, values: Mapping[str, tuple[str, Value]], places: Mapping[str, Place], encoding: str
) -> Iterator[Edit]:
    """The edits that give attributes other values, remove them (None) or add them; of each, the tag and the value.

    One that holds others is not removed: its value becomes empty, which says the same. So does that of one of several
    with the same key, as those behind it would get its name. `places` are those of attributes whose names are not their
    keys.
    """
    new: dict[str, Place] = {}
    for name, (_, value) in values.items():
        old, place = holder.attributes.get(name), places.get(name, Place("", name, 1))
        if old is None or old.value_span is None:
            if value is not None:
                new[name] = place
        elif value is None and not old.has_content and holder.names.counts[place.plain] < 2:
            start, stop = old.span
            while xml[start - 1 : start].isspace():  # with the blanks before it, so that no empty line is left
                start -= 1
            yield start, stop, b""
        else:
            yield *old.value_span, quoted(value or "").encode(encoding, "xmlcharrefreplace")
    new = with_those_needed(new, places, holder.attributes)
    inside: dict[str, list[str]] = {}
    for name, place in new.items():
        inside.setdefault(place.holder, []).append(name)

    holders = {place.holder for place in (*places.values(), *new.values())}

    def text(name: str) -> str:
        tag, value = values.get(name, ("string", ""))
        within = "".join(map(text, inside.get(name, ())))
        if name in holders and name not in values:
            return _element("container", new[name].key, None, within)
        return _element(tag, new[name].key, value or "", within)

    hollow = is_empty_tag(xml, holder.start_tag[1])
    roots = inside.pop("", [])
    if first := [text(name).encode(encoding, "xmlcharrefreplace") for name in roots if hollow or name not in places]:
        yield _insertion(xml, holder, first)
    behind = {} if hollow else {"": [name for name in roots if name in places]}
    for name, added in (behind | {name: of for name, of in inside.items() if name not in new}).items():
        at: Attribute | Holder = holder.attributes[name] if name else holder
        begin, stop = at.start_tag
        last = "".join(map(text, added)).encode(encoding, "xmlcharrefreplace")
        yield first_inside(xml, begin, stop, last) if is_empty_tag(xml, stop) else (at.end, at.end, last)


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


def _element(tag: str, key: str, value: str | None, within: str = "") -> str:
    start = f"<{tag} key={quoted(key)}" + ("" if value is None else f" value={quoted(value)}")
    return start + (f">{within}</{tag}>" if within else "/>")


def _typed(key: str, value: Value, kind: Kind | None, depth: int) -> list[str]:
    if value is None:
        return []
    tag = "float" if kind == "numeric" and value != UNKNOWN else "string"
    return ["\t" * depth + _element(tag, key, value)]
