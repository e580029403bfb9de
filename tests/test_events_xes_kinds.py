"""XES logs of other writers: classifiers in place of concept:name, and floats that are no numbers."""

from dataclasses import replace
from pathlib import Path

import pytest

from maskseq.apps.init import init
from maskseq.survey import Head
from maskseq_events.case import Case
from maskseq_events.xes import Xes

EVENT = '<event>{}<date key="time:timestamp" value="2024-03-01T08:0{}:00Z"/></event>'


def log(events: list[str], classifiers: str = "") -> str:
    traces = "".join(
        f'<trace><string key="concept:name" value="c{n}"/>'
        + "".join(EVENT.format(event, i) for i, event in enumerate(events))
        + "</trace>"
        for n in range(4)
    )
    return f"<?xml version='1.0' encoding='UTF-8'?><log xes.version='1.0'>{classifiers}{traces}</log>"


def test_a_classifier_names_the_activity(tmp_path: Path, shared_cases: Path) -> None:
    path = shared_cases / "events/x_classifier.xes"
    claim = Xes.recognize(Head.of(path))
    assert claim is not None
    assert claim.options == {"activity": "Activity"}
    cases = list(Xes(**claim.options).read(path))
    assert sum(map(len, cases)) == path.read_text().count("<event>")
    assert {a for case in cases for a in case.activity} >= {"Register", "Check", "Approve", "Close"}
    init([path], tmp_path / "recipe.toml", yes=True)
    assert 'activity = "Activity"' in (tmp_path / "recipe.toml").read_text()


def test_keys_of_classifiers_may_have_blanks(tmp_path: Path) -> None:
    event = '<string key="Activity code" value="R"/><string key="Step" value="s"/>'
    path = tmp_path / "x.xes"
    path.write_text(log([event, event], '<classifier name="two" keys="\'Activity code\' Step"/>'))
    claim = Xes.recognize(Head.of(path))
    assert claim is not None
    assert claim.options == {"activity": ["Activity code", "Step"]}
    (first, *_) = Xes(**claim.options).read(path)
    assert first.parts == (("R", "s"), ("R", "s"))


def test_events_without_a_name_or_a_classifier_are_asked_about(tmp_path: Path) -> None:
    path = tmp_path / "x.xes"
    path.write_text(log(['<string key="Activity" value="a"/><string key="Who" value="b"/>'] * 2))
    claim = Xes.recognize(Head.of(path))
    assert claim is not None
    assert "Activity" in claim.doubt
    assert [choice.options for choice in claim.instead] == [{"activity": "Activity"}]


@pytest.mark.parametrize("text", ["nan", "NaN", "Infinity", "-inf", "INF"])
def test_floats_that_are_no_numbers_are_absent(tmp_path: Path, text: str) -> None:
    event = '<string key="concept:name" value="a"/><float key="x" value="{}"/><string key="s" value="nan"/>'
    path = tmp_path / "x.xes"
    path.write_text(log([event.format("1.5"), event.format(text)]))
    cases = list(Xes().read(path))
    assert cases[0].attributes["x"] == ("1.5", None)
    assert cases[0].attributes["s"] == ("nan", "nan")
    Xes().write(cases, tmp_path / "out.xes")
    assert (tmp_path / "out.xes").read_bytes() == path.read_bytes()
    filled: Case = replace(cases[0], attributes=cases[0].attributes | {"x": ("1.5", "2.5")})
    Xes().write([filled, *cases[1:]], tmp_path / "out.xes")
    assert (tmp_path / "out.xes").read_text() == path.read_text().replace(f'"x" value="{text}"', '"x" value="2.5"', 1)


def test_an_attribute_with_them_stays_numeric(tmp_path: Path, shared_cases: Path) -> None:
    init([shared_cases / "events/x_nan.xes"], tmp_path / "recipe.toml", yes=True)
    assert 'numeric = ["' in (tmp_path / "recipe.toml").read_text()
    assert "defect" in (tmp_path / "recipe.toml").read_text()
