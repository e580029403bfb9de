"""Attributes that were never absent in training are not filled as absent."""

from dataclasses import replace

import pytest
from filled_case import fill

from maskseq.types import ABSENT
from maskseq_events.case import UNKNOWN, Case, no_time
from maskseq_events.columns import Column
from maskseq_events.tokenizer import EventTokenizer


def log_with(amounts, key="a", **more):
    time, offset = no_time(len(amounts))
    activity = tuple("xy"[i % 2] for i in range(len(amounts)))
    return Case(key=key, activity=activity, time=time, offset=offset, attributes={"amount": amounts}, **more)


NUMBERS = tuple(str(i) for i in range(40))


@pytest.mark.parametrize("values", [NUMBERS, ("red", "blue") * 20], ids=["numeric", "categorical"])
def test_an_attribute_that_was_never_absent_is_not_filled_as_absent(values):
    tokenizer = EventTokenizer.fit([log_with(values)], attributes=["amount"])
    holes = log_with((*values[:5], *[UNKNOWN] * 30))
    for seed in range(5):
        assert None not in fill(tokenizer, holes, seed=seed).attributes["amount"]
        assert UNKNOWN not in fill(tokenizer, holes, seed=seed).attributes["amount"]
    some = EventTokenizer.fit([log_with((*values, None))], attributes=["amount"])
    assert any(None in fill(some, holes, seed=seed).attributes["amount"] for seed in range(20))
    named = replace(log_with(values, key="b"), attributes={})  # a case whose events do not name it
    assert EventTokenizer.fit([log_with(values), named], attributes=["amount"]).columns[0].absent


@pytest.mark.parametrize("end", [True, False])
def test_a_case_attribute_that_was_never_absent_is_not_filled_as_absent(end):
    cases = [log_with(("1", "2"), key=str(n), case_attributes={"kind": "pq"[n % 2]}) for n in range(4)]
    tokenizer = EventTokenizer.fit(cases, attributes=["case:kind"], end=end)
    for seed in range(10):
        hole = replace(cases[0], case_attributes={"kind": UNKNOWN})
        assert fill(tokenizer, hole, seed=seed).case_attributes["kind"] in ("p", "q")
    without = [*cases, log_with(("1",), key="z")]
    fitted = EventTokenizer.fit(without, attributes=["case:kind"], end=end)
    assert fitted.columns[0].absent
    assert {
        fill(fitted, replace(cases[0], case_attributes={"kind": UNKNOWN}), seed=s).case_attributes["kind"]
        for s in range(30)
    } == {"p", "q", None}


def test_runs_that_did_not_learn_absence_may_fill_it_as_before():
    state = EventTokenizer.fit([log_with(NUMBERS)], attributes=["amount"]).state()
    del state["columns"][0]["absent"]
    old = EventTokenizer.from_state(state)
    assert old.columns[0] == replace(old.columns[0], absent=True)
    hole = old.encode(log_with((UNKNOWN,)))
    assert old.allowed(hole.ids) is None
    assert ABSENT in old.fields[1].controls
    assert Column(name="v", values=("a",)).absent
