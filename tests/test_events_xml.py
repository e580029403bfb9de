"""Values changed in XML, however it is written: well-formed to another parser, and all that was known still there."""

import xml.etree.ElementTree as ET
from dataclasses import replace
from xml.sax.saxutils import escape, quoteattr

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maskseq.errors import UsageError
from maskseq_events.case import UNKNOWN
from maskseq_events.ocel import Ocel
from maskseq_events.xes import Xes

SILENT = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
ODD = [
    "<!-- </event> -->",
    "<!-- <string key='x' value='?'/> -->",
    "<?note a > b ?>",
    "<!---->",
    '<list key="l"><string key="x" value="?"/></list>',
    '<container key="k"/>',
]
INSIDE = [
    '<string key="deep" value="1"/>',
    "<!-- sure? -->",
    "<![CDATA[</event>]]>",
    "<?p ?>",
    '\n <int key="deep" value="2"><float key="deeper" value="?"/></int >\n',
]
value = st.sampled_from(["A", "a > b", "</event>", "'", '"', "x/>", "/", "&", "é", "a=b", "\n", " "])
number = st.sampled_from(["1", "2.5", "-3"])


@st.composite
def elements(draw, tag, key, message):
    """An attribute in some way of writing; what it holds besides its value stays."""
    blank = st.sampled_from([" ", "\n\t", "  "])
    around = draw(st.sampled_from(["", " ", "\n"]))
    shown = quoteattr(message, {"\n": "&#10;"})
    if "'" not in message and draw(st.booleans()):
        body = escape(message, {"\n": "&#10;"})
        shown = f"'{body}'"
    pairs = [f"key{around}={around}{quoteattr(key)}", f"value={shown}"]
    if draw(st.booleans()):
        pairs.append("more='/event> > \"'")
    start = (
        f"<{tag}"
        + "".join(draw(blank) + pair for pair in draw(st.permutations(pairs)))
        + draw(st.sampled_from(["", " ", "\n"]))
    )
    inside = draw(st.none() | st.lists(st.sampled_from(["", " ", *INSIDE]), max_size=2))
    return f"{start}/>" if inside is None else f"{start}>{''.join(inside)}</{tag}{around}>"


@st.composite
def traces(draw):
    """Some events, and what is to be written into their holes."""
    between = st.sampled_from(["", "\n", "  ", *ODD])
    events, wanted = [], []
    for _ in range(draw(st.integers(1, 4))):
        keys = draw(st.lists(st.sampled_from(["concept:name", "num", "who", "q&a"]), unique=True, min_size=1))
        text, new = draw(between), {}
        for key in keys:
            tag, known = ("float", number) if key == "num" else ("string", value)
            hole = draw(st.booleans())
            text += draw(elements(tag, key, UNKNOWN if hole else draw(known))) + draw(between)
            if hole:
                new[key] = draw(known if key == "concept:name" else st.none() | known)
        events.append(f"<event{draw(st.sampled_from(['', ' ']))}>{text}</event{draw(st.sampled_from(['', ' ']))}>")
        wanted.append(new)
    return "<log>" + draw(st.sampled_from(["<trace>", "<trace >"])) + "".join(events) + "</trace></log>", wanted


def tree(text):
    """All of a document but its blanks, comments included."""
    parser = ET.XMLParser(target=ET.TreeBuilder(insert_comments=True, insert_pis=True))
    return ET.fromstring(text, parser)


def content(node):
    texts = [(node.text or "").strip(), (node.tail or "").strip()]
    return [str(node.tag), dict(node.attrib), *texts, [content(child) for child in node]]


def is_hollow(node):
    return len(node) == 0 and not (node.text or "").strip()


@settings(SILENT, max_examples=400)
@given(traces())
def test_what_is_filled_into_any_trace_leaves_all_else_as_it_was(tmp_path, drawn):
    text, wanted = drawn
    path, out = tmp_path / "log.xes", tmp_path / "out.xes"
    path.write_text(text, newline="")
    (case,) = Xes().read(path)
    new = {
        name: tuple(want.get(name, old) for want, old in zip(wanted, values, strict=True))
        for name, values in case.attributes.items()
    }
    activity = tuple(want.get("concept:name", old) for want, old in zip(wanted, case.activity, strict=True))
    filled = replace(case, activity=activity, attributes=new)
    Xes().write([filled], out)
    expected = tree(text)
    for event, want in zip(expected.iter("event"), wanted, strict=True):
        for child in list(event):
            key = child.get("key")
            if key not in want or child.get("value") != UNKNOWN:
                continue
            if want[key] is None and is_hollow(child):
                event.remove(child)
            else:
                child.set("value", want[key] or "")
    assert content(tree(out.read_bytes())) == content(expected)
    (again,) = Xes().read(out)
    known = {name: values for name, values in new.items() if any(v is not None for v in values)}
    assert {name: v for name, v in again.attributes.items() if any(x is not None for x in v)} == {
        name: tuple(v or None for v in values) for name, values in known.items()
    }


def test_a_hole_that_stands_last_in_its_event_can_become_absent(tmp_path):
    text = '<log><trace><event><string key="concept:name" value="A"/><float key="num" value="?"/></event></trace></log>'
    (tmp_path / "log.xes").write_text(text)
    (case,) = Xes().read(tmp_path / "log.xes")
    Xes().write([replace(case, attributes={"num": (None,)})], tmp_path / "out.xes")
    assert (tmp_path / "out.xes").read_text() == text.replace('<float key="num" value="?"/>', "")


def test_what_a_hole_holds_stays_when_it_becomes_absent(tmp_path):
    hole = '<float key="num" value="?"><string key="from" value="sensor 3"/></float>'
    text = f'<log><trace><string key="x" value="?"><int key="y" value="1"/></string><event>{hole}</event></trace></log>'
    (tmp_path / "log.xes").write_text(text)
    (case,) = Xes().read(tmp_path / "log.xes")
    gone = replace(
        case, attributes=case.attributes | {"num": (None,)}, case_attributes=case.case_attributes | {"x": None}
    )
    Xes().write([gone], tmp_path / "out.xes")
    assert (tmp_path / "out.xes").read_text() == text.replace('value="?"', 'value=""')
    (again,) = Xes().read(tmp_path / "out.xes")
    assert (again.attributes["num"], again.case_attributes) == ((None,), {"x": None, "x/y": "1"})


# OCEL


@st.composite
def object_logs(draw):
    """A log with holes in attributes, each with something beside it, and what is to be written there."""
    odd = st.sampled_from(["", "", "<!-- ? -->", "<?p ? ?>", "<note b='>'/>", "<note>of old</note>"])
    space = st.sampled_from(["", " ", "\n"])
    events, wanted = [], []
    for index in range(draw(st.integers(1, 4))):
        new, inside = {}, ""
        for name in draw(st.lists(st.sampled_from(["who", "q>a"]), unique=True)):
            message = draw(st.sampled_from([UNKNOWN, "b", "x>y"]))
            shown = draw(st.sampled_from([escape(message), f"<![CDATA[{message}]]>"]))
            before, behind = draw(odd), draw(st.sampled_from(["", "<!-- ? -->", "<?p?>"]))
            start = f"<attribute{draw(space)} name={quoteattr(name)}{draw(space)}>"
            inside += f"{start}{before}{shown}{behind}</attribute{draw(space)}>{draw(odd)}"
            if message == UNKNOWN:
                new[name] = draw(st.sampled_from(["c", "<&>", "it's", "", None]))
        kind = draw(st.sampled_from([UNKNOWN, "pay"]))
        if kind == UNKNOWN:
            new["type"] = draw(st.sampled_from(["pay", "a>b", '"', "/>"]))
        events.append(
            f"<event id='{index}' type={quoteattr(kind)} time='2024-01-0{index + 1}T00:00:00Z'{draw(space)}>{draw(odd)}"
            f"<attributes>{inside}</attributes>{draw(odd)}"
            f"<objects><relationship object-id='o' qualifier='>'/></objects></event>"
        )
        wanted.append(new)
    return (
        "<log><object-types/><event-types/><objects><object id='o' type='order'><attributes/></object></objects>"
        f"<events>{''.join(events)}</events></log>"
    ), wanted


@settings(SILENT, max_examples=300)
@given(object_logs())
def test_what_is_filled_into_any_object_log_leaves_all_else_as_it_was(tmp_path, drawn):
    text, wanted = drawn
    path, out = tmp_path / "log.xmlocel", tmp_path / "out.xmlocel"
    path.write_text(text, newline="")
    (case,) = Ocel().read(path)
    new = {
        name: tuple(want.get(name, old) if old == UNKNOWN else old for want, old in zip(wanted, values, strict=True))
        for name, values in case.attributes.items()
    }
    activity = tuple(want.get("type", old) for want, old in zip(wanted, case.activity, strict=True))
    Ocel().write([replace(case, activity=activity, attributes=new)], out)
    expected = tree(text)
    for event, want in zip(expected.iter("event"), wanted, strict=True):
        event.set("type", want.get("type", event.get("type")))
        for attribute in event.iter("attribute"):
            if attribute.get("name") in want:
                fill_text(attribute, want[attribute.get("name")] or "")
    assert content(tree(out.read_bytes())) == content(expected)


def fill_text(attribute, text):
    """The text behind the last element in it is its value."""
    if len(attribute) == 0:
        attribute.text = text
        return
    pieces = [attribute, *attribute]
    for piece in pieces:
        name = "text" if piece is attribute else "tail"
        if getattr(piece, name):
            setattr(piece, name, text)
            text = ""
    assert text == ""


def test_characters_that_xml_does_not_have_are_refused(tmp_path):
    (tmp_path / "log.xes").write_text('<log><trace><event><string key="concept:name" value="?"/></event></trace></log>')
    (case,) = Xes().read(tmp_path / "log.xes")
    for wrong in ("a\x01b", "\x00", "\ufffe", "\x1b[0m"):
        with pytest.raises(UsageError, match="XML"):
            Xes().write([replace(case, activity=(wrong,))], tmp_path / "out.xes")
        with pytest.raises(UsageError, match="XML"):
            Xes().write([replace(case, activity=(wrong,), origin=None)], tmp_path / "new.xes")
