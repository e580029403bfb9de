"""Stretches of records stand on a page with what was filled, how surely, and what had been there."""

import re
from pathlib import Path

import numpy as np
import pytest
from served import log_run

import maskseq
from maskseq.apps.infill import infill_file
from maskseq.reports.stretch import Cell, Excerpt, drawn, form_of, readable
from maskseq.types import ABSENT, Field

LETTERS = (Field(name="base", tokens=tuple("ACGT")),)
NUMBERS = (Field(name="x", tokens=("0", "1"), centres=(0.0, 1.0), unit="mV"),)
EVENTS = (Field(name="activity", tokens=("register", "pay")), *NUMBERS)


def test_the_form_follows_the_fields() -> None:
    weekday = Field(name="weekday", tokens=("Mon", "Tue"), given=True)
    assert [form_of(fields) for fields in (LETTERS, NUMBERS, EVENTS)] == ["letters", "lines", "strip"]
    assert form_of((*NUMBERS, weekday)) == "lines"


@pytest.mark.parametrize(
    ("token", "read"),
    [
        ("[10762.0, 12340.5)", "10,762 to 12,340"), ("from 3.537618 s", "from 3.538 s"), (ABSENT, "–"),
        ("[OTHER]", "(other)"), ("v1.2.3", "v1.2.3"), ("from 1e-06 s", "from 1 × 10⁻⁶ s"), ("GET", "GET"),
    ],
)  # fmt: skip
def test_tokens_are_read_as_people_write(token: str, read: str) -> None:
    assert readable(token) == read


def strip(*cells: Cell) -> str:
    return drawn(
        Excerpt(
            title="<case>", units=range(1, len(cells) + 1), tracks={"activity": cells}, form="strip", measures={},
            moments=[86_400.0, 86_460.0, None][: len(cells)],
        )
    )  # fmt: skip


def test_events_stand_with_probability_time_alternatives_and_truth() -> None:
    page = strip(
        Cell("register"),
        Cell("pay", 0.7, truth="<ship>", others=[("close", 0.2), ("register", 0.1)]),
        Cell("ship", 0.4, truth="ship"),
    )
    assert re.findall(r'<td class="filled (\w+)" style="--p:(\d+)%"', page) == [("wrong", "70"), ("right", "40")]
    assert "was &lt;ship&gt;" in page
    assert "close 20%" in page
    assert "&lt;case&gt;</b>, 1 of 2 right" in page
    assert re.findall(r"<td>([\d: -]+)</td>", page.split("time</th>")[1]) == ["1970-01-02 00:00:00", "00:01:00"]


def test_numbers_have_their_band_the_truth_and_the_known_around_them() -> None:
    cells = [Cell("1", number=1.0), Cell("2", 0.1, "3", number=2.0, band=(1.5, 2.5), true_number=3.0), Cell("4")]
    page = drawn(Excerpt("s", [1, 2, 3], {"x": cells}, "lines", {"x": "mV"}))
    assert 'class="band' in page
    assert ">mV</text>" in page
    assert all(name in page for name in ("known", "truth", "80 %"))


def test_the_report_of_a_filled_log_has_times_context_and_what_was_there(tmp_path: Path) -> None:
    """Drawn stretches agree with the table: each filled value with its probability, at its event."""
    run = maskseq.load(log_run(tmp_path))
    file = tmp_path / "new.csv"
    rows = [f"n,{'abcde'[i % 5]},{['red', 'green', 'blue'][i % 5 % 3]}" for i in range(9)]
    file.write_text("\n".join(["case,activity,colour", *rows]) + "\n")
    infill_file(run, file, output=tmp_path / "out", ranges={"n": [(4, 6)]})
    page = (tmp_path / "out" / "report.html").read_text()
    header = re.findall(r"<th>(\d+)</th>", page)
    assert header[:8] == ["2", "3", "4", "5", "6", "7", "8", "9"]
    filled = re.findall(r'<td class="filled (?:right|wrong)"[^>]*><b>([^<]+)</b> <small>(\d+)%', page)
    table = (tmp_path / "out" / "fills.csv").read_text().splitlines()
    columns = table[0].split(",")
    values = np.array([line.split(",")[: len(columns)] for line in table[1:]], dtype=object)
    expected = [(row[columns.index("value")], float(row[columns.index("probability")])) for row in values]
    assert sorted(value for value, _ in filled) == sorted(value for value, _ in expected)
    assert sorted(int(p) for _, p in filled) == sorted(round(100 * p) for _, p in expected)
    assert run.tokenizer.fingerprint in page
