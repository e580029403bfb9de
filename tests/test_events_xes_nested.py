"""Attributes of XES that stand in others, in lists and containers, or several times: read by name, written in place."""

import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maskseq.apps.init import init
from maskseq.survey import Head
from maskseq_events.case import Case
from maskseq_events.xes import Xes

STAMP = '<date key="time:timestamp" value="2024-03-0{}T08:00:00Z"/>'
ORG = '<container key="org"><string key="org:resource" value="{}"/><string key="org:role" value="{}"/></container>'
TEAM = '<list key="team"><values>{}</values></list>'
MEMBER = '<string key="org:resource" value="{}"/>'
NAME = '<string key="concept:name" value="{}"/>'


def only(path: Path, text: str) -> Case:
    path.write_text(text)
    (case,) = Xes().read(path)
    Xes().write([case], path.with_suffix(".again.xes"))
    assert path.with_suffix(".again.xes").read_text() == text
    return case


def log(*events: str, trace: str = "") -> str:
    return "<log><trace>" + trace + "".join(f"<event>{event}</event>" for event in events) + "</trace></log>"


def test_attributes_in_containers_lists_and_others_are_read(tmp_path: Path) -> None:
    nested = '<string key="org:resource" value="Ann"><string key="org:role" value="nurse"/></string>'
    text = log(
        NAME.format("a") + nested + ORG.format("Bob", "?"),
        NAME.format("b") + TEAM.format(MEMBER.format("Cy") + MEMBER.format("Di")),
        NAME.format("c") + MEMBER.format("Ed") + MEMBER.format("Flo"),
        trace='<list key="tags"><string key="tag" value="x"/><string key="tag" value="y"/></list>',
    )
    case = only(tmp_path / "x.xes", text)
    assert case.attributes == {
        "org:resource": ("Ann", None, "Ed"),
        "org:resource/org:role": ("nurse", None, None),
        "org/org:resource": ("Bob", None, None),
        "org/org:role": ("?", None, None),
        "team/org:resource": (None, "Cy", None),
        "team/org:resource#2": (None, "Di", None),
        "org:resource#2": (None, None, "Flo"),
    }
    assert case.case_attributes == {"tags/tag": "x", "tags/tag#2": "y"}
    assert case.unknown_values() == {"org/org:role": 1, "time": 3}
    role = {"org/org:role": ("boss", None, None)}
    Xes().write([replace(case, attributes=case.attributes | role)], tmp_path / "filled.xes")
    assert (tmp_path / "filled.xes").read_text() == text.replace('"?"', '"boss"')


def test_one_key_twice_in_a_log_as_tools_write_it_is_no_silent_loss(tmp_path: Path) -> None:
    case = only(tmp_path / "x.xes", log(NAME.format("a") + MEMBER.format("Ann") + MEMBER.format("Bob")))
    assert case.attributes == {"org:resource": ("Ann",), "org:resource#2": ("Bob",)}


KEYS = ("a", "b", "in/a", "in/a#2", "in/a#3", "in/b", "a/a", "a#2", "in/deep/c", "in/deep#2/c")
VALUES = st.dictionaries(st.sampled_from(KEYS), st.sampled_from(["1", "x", None]))
ALL = (
    '<string key="a" value="0"><string key="a" value="0"/></string><string key="b" value="0"/>'
    '<string key="a" value="0"/>'
    '<list key="in"><values><string key="a" value="0"/><string key="a" value="0"/><string key="a" value="0"/>'
    '<string key="b" value="0"/><container key="deep"><string key="c" value="0"/></container>'
    '<container key="deep"><string key="c" value="0"/></container></values></list>'
)
SOME = st.sampled_from(["", ALL, '<list key="in"/>', '<list key="in"><values/></list>', '<string key="a" value="7"/>'])


def filled_anywhere(folder: Path, events: list[str], wanted: list[dict[str, str | None]]) -> None:
    """What is written into an event, wherever it belongs, is read from there again, and all else as before."""
    path = folder / "x.xes"
    case = only(path, log(ALL, *events))
    assert set(case.attributes) == set(KEYS)
    new = {
        key: (values[0], *[want.get(key, old) for want, old in zip(wanted, values[1:], strict=True)])
        for key, values in case.attributes.items()
    }
    filled = replace(case, attributes=new)
    Xes().write([filled], folder / "filled.xes")
    ET.parse(folder / "filled.xes")
    (again,) = Xes().read(folder / "filled.xes")
    assert again.attributes == new


DRAWN = st.lists(st.tuples(SOME, VALUES), min_size=1, max_size=3)


@settings(
    max_examples=100, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(DRAWN)
def test_values_are_written_where_they_belong(tmp_path: Path, drawn: list[tuple[str, dict[str, str | None]]]) -> None:
    filled_anywhere(tmp_path, [event for event, _ in drawn], [wanted for _, wanted in drawn])


@pytest.mark.soak
@settings(max_examples=4000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(DRAWN)
def test_many_values_are_written_where_they_belong(
    tmp_path: Path, drawn: list[tuple[str, dict[str, str | None]]]
) -> None:
    filled_anywhere(tmp_path, [event for event, _ in drawn], [wanted for _, wanted in drawn])


def test_init_finds_names_and_times_that_stand_in_containers(tmp_path: Path) -> None:
    def event(i: int) -> str:
        inside = NAME.format("abc"[i % 3]) + STAMP.format(i + 1) + MEMBER.format(f"r{i % 2}")
        return f'<event><container key="meta">{inside}</container></event>'

    traces = "".join(
        f'<trace><container key="meta">{NAME.format(n)}</container>{"".join(map(event, range(6)))}</trace>'
        for n in range(30)
    )
    path = tmp_path / "x.xes"
    path.write_text(f"<log>{traces}</log>")
    claim = Xes.recognize(Head.of(path))
    assert claim is not None
    options = {"case": "meta/concept:name", "activity": "meta/concept:name", "time": "meta/time:timestamp"}
    assert claim.options == options
    cases = list(Xes(**options).read(path))
    assert [case.key for case in cases] == [str(n) for n in range(30)]
    assert cases[0].activity == tuple("abcabc")
    assert cases[0].timed.all()
    assert "meta/org:resource" in cases[0].attributes
    Xes(**options).write(cases, tmp_path / "again.xes")
    assert (tmp_path / "again.xes").read_bytes() == path.read_bytes()
    init([path], tmp_path / "recipe.toml", yes=True)
    assert "meta/concept:name" in (tmp_path / "recipe.toml").read_text()
