"""XES: the same log as expat, ElementTree and the CSV export tell; the file byte for byte again; nothing expanded."""

import gzip
import xml.etree.ElementTree as ET
from dataclasses import replace
from itertools import islice
from xml.sax.saxutils import escape, quoteattr

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maskseq.errors import DataError
from maskseq.testing import check_tokenizer
from maskseq_events import xes_parse
from maskseq_events.case import UNKNOWN, UNKNOWN_TIME
from maskseq_events.delimited import Csv
from maskseq_events.tokenizer import EventTokenizer
from maskseq_events.xes import Xes
from maskseq_events.xes_parse import ParsedLog, _Parser, parse_traces

HEAD = """<?xml version="1.0" encoding="UTF-8"?>
<!-- a log -->
<log xes.version="1.0" xmlns="http://www.xes-standard.org/">
  <extension name="Concept" prefix="concept" uri="http://www.xes-standard.org/concept.xesext"/>
  <global scope="event"><string key="concept:name" value="none"/></global>
"""
LOG = (
    HEAD
    + """  <trace>
    <string key="concept:name" value="a"/>
    <int key="AMOUNT" value="5000"/>
    <event>
      <string key="concept:name" value="register"/>
      <date key="time:timestamp" value="2024-01-01T09:00:00.000+01:00"/>
      <string key="org:resource" value="?"/>
      <float key="cost" value="1.5"/>
    </event>
    <event>
      <string key="concept:name" value="?"/>
      <string key="org:resource" value="Ann &amp; Bob"><string key="role" value="nested"/></string>
    </event>
    <event>
      <string key="concept:name" value="leave"/>
      <date key="time:timestamp" value="2024-01-02T08:00:00.000Z"/>
      <string key="org:resource" value=""/>
    </event>
  </trace>
  <trace>
  </trace>
  <trace><event/><event><date key='time:timestamp' value='2024-01-01T00:00:00'/></event></trace>
</log>
"""
)


def read(tmp_path, text, **options):
    path = tmp_path / "log.xes"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return list(Xes(**options).read(path))


def test_cases_are_as_their_traces_say(tmp_path):
    first, second = read(tmp_path, LOG)
    assert (first.key, second.key) == ("a", "#3")
    assert first.activity == ("register", UNKNOWN, "leave")
    assert first.attributes == {
        "org:resource": (UNKNOWN, "Ann & Bob", None),
        "cost": ("1.5", None, None),
        "org:resource/role": (None, "nested", None),
    }
    assert first.case_attributes == {"AMOUNT": "5000"}
    assert first.kinds["case:AMOUNT"] == first.kinds["cost"] == "numeric"
    assert first.kinds["org:resource"] == "categorical"
    nine, next_nine = np.array(["2024-01-01T08:00", "2024-01-02T08:00"], dtype="M8[us]").astype(np.int64)
    assert first.time.tolist() == [nine, UNKNOWN_TIME, next_nine]
    assert first.offset.tolist() == [3600, 0, 0]
    assert second.activity == (UNKNOWN, UNKNOWN)


def test_activity_may_be_a_classifier_of_several_keys(shared_data):
    cases = Xes(activity=("concept:name", "lifecycle:transition")).read(shared_data / "events/bpic2012.xes.gz")
    names = {name for case in islice(cases, 500) for name in case.activity}
    assert {"A_SUBMITTED+COMPLETE", "W_Completeren aanvraag+START"} <= names


def test_bpic_2012_holds_the_published_counts_and_comes_back_byte_for_byte(shared_data, tmp_path):
    path = shared_data / "events/bpic2012.xes.gz"
    counts = {"cases": 0, "events": 0}
    names, missing, offsets = set(), 0, set()

    def watched():
        nonlocal missing
        for case in Xes().read(path):
            counts["cases"] += 1
            counts["events"] += len(case)
            names.update(case.activity)
            missing += case.attributes.get("org:resource", (None,) * len(case)).count(None)
            offsets.update(case.offset.tolist())
            yield case

    Xes().write(watched(), tmp_path / "again.xes")
    assert counts == {"cases": 13087, "events": 262200}
    assert len(names) == 24
    assert round(100 * missing / 262200) == 7
    assert offsets == {3600, 7200}
    with gzip.open(path) as source:
        assert (tmp_path / "again.xes").read_bytes() == source.read()


def test_the_same_log_in_xes_and_csv_gives_the_same_cases(shared_data):
    xes = {case.key: case for case in Xes().read(shared_data / "events/helpdesk.xes.gz")}
    csv = {case.key: case for case in Csv().read(shared_data / "events/helpdesk_full.csv")}
    assert xes.keys() == csv.keys()
    for key, one in xes.items():
        other = csv[key]
        assert one.activity == other.activity
        np.testing.assert_array_equal(one.time, other.time)
        renamed = {"org:resource": "Resource"}
        for name, values in one.attributes.items():
            assert values == other.attributes[renamed.get(name, name)]


def test_the_short_cut_reads_what_expat_reads(shared_data):
    path = shared_data / "events/helpdesk.xes.gz"
    short, full = ParsedLog(), ParsedLog()
    n_plain = 0
    for one, other in zip(parse_traces(path, short), _Parser(path, full, short_cut=False).traces(), strict=True):
        assert (one.number, one.line, one.attributes, one.events) == (
            other.number,
            other.line,
            other.attributes,
            other.events,
        )
        assert (one.before, one.xml) == (other.before, other.xml)
        n_plain += 1
    assert n_plain == 4580
    assert short == full


texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=8) | st.sampled_from(
    ["a&b", "<trace>", "</trace>", "]]>", "it's", 'a"b', " two  words ", "tab\tand\nline", "é", UNKNOWN]
)
attributes = st.dictionaries(
    st.sampled_from(["concept:name", "org:resource", "cost", "x", "y<z", "q&a"]),
    st.tuples(st.sampled_from(["string", "int", "id"]), texts),
    max_size=4,
)


@st.composite
def documents(draw):
    """A XES text in some style of writing, and what it says."""
    space = draw(st.sampled_from(["", "\n", "\r\n\t", "  "]))
    quote = draw(st.sampled_from(['"', "'", "mixed"]))
    odd = st.sampled_from(
        [""] * 12 + ["<!-- <trace><event> -->", "<!-- & ' \" -->", "<?note <trace> ?>", "<![CDATA[</trace>]]>"]
    )
    trailing = draw(st.sampled_from(["", " ", "\n"]))

    def element(key, tag, value):
        shown = quoteattr(value, {"\t": "&#9;", "\n": "&#10;"}), quoteattr(key)
        if quote != '"':
            body = escape(value, {"'": "&apos;", "\t": "&#x9;", "\n": "&#10;"})
            shown = (f"'{body}'", shown[1] if quote == "mixed" else f"'{escape(key)}'")
        pair = f"key={shown[1]} value={shown[0]}"
        if draw(st.booleans()) and quote == "mixed":
            pair = f"value = {shown[0]}\n key={shown[1]}"
        inner = draw(st.sampled_from([None] * 8 + ['<string key="deep" value="1"/>', ""]))
        return f"{space}<{tag} {pair}{trailing}/>" if inner is None else f"{space}<{tag} {pair}>{inner}</{tag}>"

    text, message = HEAD + draw(odd), []
    for _ in range(draw(st.integers(0, 4))):
        own = draw(attributes)
        events = draw(st.lists(attributes, max_size=4))
        text += draw(odd) + draw(st.sampled_from(["<trace>"] * 4 + ["<trace >", "\n<trace>"]))
        text += "".join(element(key, *typed) for key, typed in own.items())
        for event in events:
            inside = "".join(element(key, *typed) for key, typed in event.items())
            text += f"{space}<event>{inside}{draw(odd)}{space}</event>"
        text += f"{space}</trace>" + draw(st.sampled_from(["", "\n"]))
        if events:
            message.append(({k: v for k, (_, v) in own.items()}, [{k: v for k, (_, v) in e.items()} for e in events]))
    return text + draw(odd) + "</log>\n", message


def called(element, but=None):
    """The attributes in an element as the names of the format's description have them, by ElementTree."""
    found, seen = {}, {}

    def walk(element, within):
        for child in element:
            kind = child.tag.rpartition("}")[2]
            if kind == but:
                continue
            name = within
            if child.get("key") is not None:
                name = f"{within}/{child.get('key')}" if within else child.get("key")
                seen[name] = seen.get(name, 0) + 1
                name += f"#{seen[name]}" if seen[name] > 1 else ""
            if child.get("key") is not None and child.get("value") is not None:
                found[name] = child.get("value")
            walk(child, name)

    walk(element, "")
    return found


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(documents(), st.sampled_from([7, 64, 1 << 18]))
def test_any_way_of_writing_xes_is_read_as_it_was_meant_and_comes_back(tmp_path, document, block):
    text, message = document
    path = tmp_path / "log.xes"
    path.write_bytes(text.encode())
    root = ET.fromstring(text)  # it is well-formed, and says the same to ElementTree
    name = "{http://www.xes-standard.org/}"
    plain = [
        [a.get("value") for e in t.iter(f"{name}event") for a in e]
        for t in root.iter(f"{name}trace")
        if t.find(f"{name}event") is not None
    ]
    assert plain == [[value for event in events for value in event.values()] for _, events in message]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(xes_parse, "BLOCK", block)
        log = ParsedLog()
        traces = list(parse_traces(path, log))
    assert [(trace.attributes, trace.events) for trace in traces] == [
        (called(t, but="event"), [called(e) for e in t.iter(f"{name}event")])
        for t in root.iter(f"{name}trace")
        if t.find(f"{name}event") is not None
    ]
    assert "".join(t.before.decode() + t.xml.decode() for t in traces) + log.after.decode() == text
    for trace in traces:
        assert (
            trace.line == text[: text.index(trace.xml.decode())].count("\n") + 1 or text.count(trace.xml.decode()) > 1
        )
    if message:
        Xes().write(Xes().read(path), tmp_path / "again.xes")
        assert (tmp_path / "again.xes").read_bytes() == text.encode()


def test_only_what_was_filled_differs_in_the_file(tmp_path):
    first, second = read(tmp_path, LOG)
    filled = replace(
        first,
        activity=("register", 'tri"age', "leave"),
        time=np.array([first.time[0], first.time[0] + 1_500_000, first.time[2]]),
        offset=np.array([3600, 3600, 0], dtype=np.int32),
        attributes=first.attributes | {"org:resource": ("Cy", "Ann & Bob", "<D>"), "cost": (None, "2", None)},
    )
    Xes().write([filled, second], tmp_path / "filled.xes")
    expected = (
        LOG.replace('"org:resource" value="?"', '"org:resource" value="Cy"')
        .replace('\n      <float key="cost" value="1.5"/>', "")
        .replace('"concept:name" value="?"', '"concept:name" value=\'tri"age\'')
        .replace('"org:resource" value=""', '"org:resource" value="&lt;D&gt;"')
        .replace(
            '    <event>\n      <string key="concept:name" value=\'',
            '    <event>\n      <float key="cost" value="2"/>\n      <date key="time:timestamp" '
            'value="2024-01-01T09:00:01.500+01:00"/>\n      <string key="concept:name" value=\'',
        )
    )
    written = (tmp_path / "filled.xes").read_text()
    assert sorted(written.splitlines()) == sorted(expected.splitlines())  # the order of two insertions is free
    again = list(Xes().read(tmp_path / "filled.xes"))
    assert again == [filled, second]


def test_values_can_be_written_into_events_without_content(tmp_path):
    first, second = read(tmp_path, LOG)
    known = replace(second, activity=("x", "y"), time=second.time[[1, 1]])
    Xes().write([first, known], tmp_path / "filled.xes")
    assert list(Xes().read(tmp_path / "filled.xes")) == [first, known]


def test_unsorted_events_are_sorted_and_written_back_where_they_were(tmp_path):
    text = (
        HEAD
        + "<trace>"
        + "".join(
            f'<event><string key="concept:name" value="{n}"/><date key="time:timestamp" value="2024-01-0{d}"/></event>'
            for n, d in (("c", 3), ("a", 1), ("?", 2), ("a2", 1))
        )
        + "</trace></log>"
    )
    (case,) = read(tmp_path, text)
    assert case.activity == ("a", "a2", UNKNOWN, "c")
    Xes().write([replace(case, activity=("a", "a2", "b", "c"))], tmp_path / "filled.xes")
    assert (tmp_path / "filled.xes").read_text() == text.replace('"?"', '"b"')
    assert read(tmp_path, text, sort=False)[0].activity == ("c", "a", UNKNOWN, "a2")


def test_some_of_the_cases_are_a_log_too(tmp_path):
    cases = read(tmp_path, LOG)
    for chosen in ([cases[1]], [cases[0]], cases[::-1]):
        Xes().write(chosen, tmp_path / "some.xes")
        again = list(Xes().read(tmp_path / "some.xes"))
        assert [case.activity for case in again] == [case.activity for case in chosen]
        ET.parse(tmp_path / "some.xes")


def test_cases_from_elsewhere_are_written_as_plain_xes(tmp_path, shared_data):
    cases = [replace(case, origin=None) for case in read(tmp_path, LOG)][:1]
    cases += list(islice(Csv().read(shared_data / "events/sepsis.csv"), 20))
    Xes().write(cases, tmp_path / "new.xes.gz")
    again = list(Xes().read(tmp_path / "new.xes.gz"))
    assert [(c.key, c.activity, c.time.tolist(), c.case_attributes) for c in again] == [
        (c.key, c.activity, c.time.tolist(), c.case_attributes) for c in cases
    ]
    for one, other in zip(again, cases, strict=True):
        assert one.attributes == {n: v for n, v in other.attributes.items() if any(x is not None for x in v)}


def test_the_contract_of_tokenizers_is_kept_on_bpic_2012(shared_data):
    cases = list(islice(Xes().read(shared_data / "events/bpic2012.xes.gz"), 60))
    names = ["lifecycle:transition", "org:resource", "case:AMOUNT_REQ"]
    tokenizer = EventTokenizer.fit(cases, attributes=names, numeric=["case:AMOUNT_REQ"])
    report = check_tokenizer(tokenizer, cases[:25])
    assert {"splice", "no leak"} <= set(report.checked)
    assert report.round_trip["activity"] == report.round_trip["case:AMOUNT_REQ"] == 1


BOMB = (
    '<?xml version="1.0"?><!DOCTYPE log [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]><log>&b;</log>'
)
OUTSIDE = '<?xml version="1.0"?><!DOCTYPE log [<!ENTITY f SYSTEM "file:///etc/passwd">]><log><trace>&f;</trace></log>'
EVENT = '<event><string key="concept:name" value="x"/></event>'


def line_of(text):
    return LOG[: LOG.index(text)].count("\n") + 1


LEAVE, COST = f"line {line_of('leave')}", f"line {line_of('cost')}"
BROKEN = [
    ("empty file", b"", "ends too early"),
    ("only a head", HEAD, "ends too early"),
    ("no traces", HEAD + "</log>", "no traces with events"),
    ("cut in a trace", LOG[:900], "line 1[0-9].*ends too early|line 2[0-9].*ends too early"),
    ("cut in a tag", HEAD + '<trace><event><string key="concept:na', "ends too early"),
    ("gzip cut short", gzip.compress(LOG.replace("\n", "\n\n").encode() * 1)[:-30], "cut short"),
    ("gzip damaged", gzip.compress(LOG.encode())[:-8] + b"12345678", "damaged"),
    ("XML bomb", BOMB, "line 1.*document type declaration"),
    ("external entity", OUTSIDE, "line 1.*document type declaration"),
    ("external DTD", '<!DOCTYPE log SYSTEM "http://x/y.dtd"><log/>', "document type declaration"),
    ("undefined entity", LOG.replace("&amp;", "&nope;"), f"line {line_of('Ann')}, column .*undefined entity"),
    (
        "tags that do not match",
        LOG.replace("</event>", "</trace>", 1),
        f"line {line_of('</event>')}, column .*mismatched tag",
    ),
    ("angle bracket in a value", LOG.replace('"leave"', '"<leave"'), f"{LEAVE}, column .*not well-formed"),
    ("control character", LOG.replace('"leave"', '"le\x01ave"'), f"{LEAVE}, column .*not well-formed"),
    ("wrong encoding", LOG.replace('"leave"', '"über"').encode("latin-1"), f"{LEAVE}, column .*not well-formed"),
    ("UTF-16", LOG.encode("utf-16"), "UTF-16"),
    ("unknown encoding", LOG.replace("UTF-8", "no-such"), "line 1.*no encoding called 'no-such'"),
    ("HTML", "<html><body>404</body></html>", "root element is <html>"),
    ("JSON", '{"events": []}', "line 1, column 1: not valid XML"),
    ("event outside of a trace", HEAD + EVENT + "</log>", "line 6.*outside of any trace"),
    ("attribute without value", LOG.replace(' value="leave"', ""), f"{LEAVE}.*<string> without a value"),
    ("attribute without key", LOG.replace('key="cost" ', ""), f"{COST}.*<float> without a key"),
    ("attribute twice in a tag", LOG.replace('key="cost"', 'key="cost" key="c"'), f"{COST}.*duplicate attribute"),
    ("not a time", LOG.replace("2024-01-02T08", "yesterday "), "trace 1 at line 6: event 3: 'yesterday"),
    ("no such day", LOG.replace("2024-01-02T", "2024-02-30T"), "trace 1 at line 6: event 3: '2024-02-30"),
    ("text behind the end", LOG + "<more/>", "line 2[0-9].*junk after document element"),
]


@pytest.mark.parametrize(("content", "message"), [b[1:] for b in BROKEN], ids=[b[0] for b in BROKEN])
def test_damage_ends_in_one_clear_line(tmp_path, content, message):
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path, content)
    assert str(caught.value).startswith(str(tmp_path / "log.xes"))
    assert "\n" not in str(caught.value)


def test_damage_behind_a_long_plain_part_is_placed_right(tmp_path):
    plain = "<trace>\n" + EVENT + "\n</trace>\n"
    text = HEAD + plain * 4_000 + "<trace>\n<event>\n</trace></log>"
    with pytest.raises(DataError, match=f"line {HEAD.count(chr(10)) + 4_000 * 3 + 3}, column 3: .*mismatched tag"):
        read(tmp_path, text)
