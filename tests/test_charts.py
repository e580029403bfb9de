"""Drawings and numbers of reports: what is drawn stands where it is said to stand."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskseq.reports.chart import MOST_HOVERS, TALL, LetterStack, Series, chart, intervals, letters, ticks
from maskseq.reports.page import text


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (49254.7, "49,255"), (1234567, "1,234,567"), (0.4321987, "0.4322"), (0.00002, "2 × 10⁻⁵"), (0.0, "0"),
        (float("nan"), "none"), (True, "yes"), (1.5e20, "1.5 × 10²⁰"), ("a", "a"), (1234.5, "1,234"),
    ],
)  # fmt: skip
def test_numbers_are_written_as_people_write_them(value: object, shown: str) -> None:
    assert text(value) == shown


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_ticks_are_few_round_and_inside(low: float, span: float) -> None:
    found = ticks(low, low + span)
    assert 1 <= len(found) <= 6
    slack = 1e-9 * (abs(low) + span)
    assert all(low - slack <= each <= low + span + slack for each in found)
    if len(found) > 1:
        step = found[1] - found[0]
        mantissa = step / 10 ** math.floor(math.log10(step) + 1e-9)
        assert min(abs(mantissa - each) for each in (1, 2, 5, 10)) < 1e-3


def test_points_stand_at_their_values() -> None:
    page = chart("t", "x", "y", [Series("a", [(0.0, 0.0), (50.0, 10.0), (100.0, 5.0)])])
    places = [(float(x), float(y)) for x, y in re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', page)]
    assert places[1][0] - places[0][0] == pytest.approx((places[2][0] - places[0][0]) / 2, abs=0.1)
    assert places[0][1] - places[2][1] == pytest.approx((places[0][1] - places[1][1]) / 2, abs=0.1)
    assert chart("t", "x", "y", [Series("a", [])]) == ""
    assert "nan" not in chart("t", "x", "y", [Series("a", [(0.0, math.nan), (1.0, 2.0)])])


def test_names_are_escaped() -> None:
    page = chart("<t>", "<x>", "<y>", [Series("<a>", [(0.0, 1.0)])]) + intervals("<b>", "<c>", [("<d>", 0.1, 0.0, 0.2)])
    assert not re.search(r"<[txyabcd]>", page)


def test_letters_are_as_high_as_they_are_probable() -> None:
    uniform = LetterStack((("A", 0.5), ("C", 0.25), ("G", 0.125), ("T", 0.125)), filled=True, truth="C")
    page = letters([LetterStack((("G", 1.0),)), LetterStack((("A", 1.0),), filled=True, truth="A"), uniform], [7, 8, 9])
    heights = [float(h) for h in re.findall(r"scale\(1.5 ([\d.]+)\)", page)]
    assert heights == pytest.approx([p * TALL / 10 for p in (1.0, 0.125, 0.125, 0.25, 0.5)], abs=0.01)
    assert re.findall(r'truth (right|wrong)"[^>]*>([ACGT])<', page) == [("right", "A"), ("wrong", "C")]
    assert ">7</text>" in page


def test_ticks_are_not_cut_off_at_the_right() -> None:
    page = chart("t", "x", "y", [Series("a", [(0.0, 0.0), (150_000.0, 1.0)])])
    assert re.search(r'text-anchor="end">150,000<', page)


def test_long_lines_show_values_under_the_pointer() -> None:
    page = chart("t", "x", "y", [Series("a", [(float(x), x * 2.0) for x in range(1000)])])
    assert 20 <= page.count('class="hover"') <= MOST_HOVERS
    assert "<title>500: 1,000</title>" in page


def test_names_beside_intervals_are_not_cut_off() -> None:
    page = intervals("t", "gain", [("k-mer counts, logistic regression", 0.1, 0.0, 0.2), ("x" * 90, 0.1, 0.0, 0.2)])
    places = re.findall(r'<text x="([\d.]+)" [^>]*text-anchor="end">([^<]+)<title>', page)
    assert places[0][1] == "k-mer counts, logistic regression"
    assert all(float(x) >= 6 * len(name) for x, name in places)
    assert f"<title>{'x' * 90}</title>" in page
