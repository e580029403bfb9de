"""The report of an infill: what was filled, how surely, and how right where the truth is known."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Any

from maskseq.infill.table import FillRow
from maskseq.reports.chart import Series, chart, logo, reliability
from maskseq.reports.page import section, text, verdict, write_page

BINS = 10
DRAWN = 60
"""Holes that are drawn; others are listed."""
LONGEST_LOGO = 60
BASES = set("ACGT")


def write_report(path: Path, summary: Mapping[str, Any], rows: Sequence[FillRow]) -> None:
    """Write the report of an infill run; `rows` are those to show, of the first sample, in the order of the file."""
    first = [row for row in rows if row.sample == 0]
    holes = list(_holes(first))
    write_page(
        path,
        "maskseq infill",
        [
            verdict(_in_words(summary, first)),
            *(f'<p class="wrong"><b>Warning</b> {escape(text)}</p>' for text in summary.get("warnings", ())),
            *(section(name, value) for name, value in summary.items() if name != "warnings"),
            _reliability(first),
            "<h2>Holes</h2><p>Letters as high as they are probable; numbers with the interval that holds the true one "
            "in 80 % of the cases; other values shaded by their probability. Where the truth is known, "
            '<span class="right">right</span> and <span class="wrong">wrong</span>.</p>',
            *(_hole(hole, drawn=n < DRAWN) for n, hole in enumerate(holes)),
            section("Made with", {"maskseq": version("maskseq"), "torch": version("torch")}),
        ],
    )


def _in_words(summary: Mapping[str, Any], rows: Sequence[FillRow]) -> str:
    """What came of it, in one line."""
    filled = summary["filled"]
    line = f"{text(filled['cells'])} values filled in {text(filled['records'])} records of {filled['file']}"
    if rows:
        line += f", stated to be right with {sum(row.probability for row in rows) / len(rows):.0%} on average"
    score = summary.get("against what was hidden")
    if score:
        line += f". Of {text(score['cells'])} known values that were masked, {score['right']:.1%} came back right"
        markov = next((name for name in score if name.startswith("right, ")), None)
        if markov:
            line += f"; the {markov.removeprefix('right, ')} chain gets {score[markov]:.1%}"
    return line + "."


def _holes(rows: Iterable[FillRow]) -> Iterator[list[FillRow]]:
    """Rows of one record and field whose units follow one another."""
    ordered = sorted(rows, key=lambda row: (row.key, row.field, row.start))
    for _, group in groupby(enumerate(ordered), key=lambda pair: (pair[1].key, pair[1].field, pair[1].start - pair[0])):
        yield [row for _, row in group]


def _hole(hole: list[FillRow], *, drawn: bool) -> str:
    first = hole[0]
    known = [row for row in hole if row.truth is not None]
    right = sum(row.value == row.truth for row in known)
    reported = f", {right} of {len(known)} right" if known else ""
    title = f"<p><b>{escape(first.key)}:{first.start}-{hole[-1].stop}</b> {escape(first.field)}{reported}<br>"
    if drawn and first.median is not None and len(hole) > 1:
        return title + "</p>" + _curve(hole)
    if drawn and {row.value for row in hole} <= BASES and len(hole) <= LONGEST_LOGO:
        title += logo([[(row.value, row.probability), *row.alternatives] for row in hole]) + "<br>"
    gap = "" if all(len(row.value) == 1 for row in hole) else " "
    truth = gap.join(escape(row.truth or "?") for row in hole) if known else ""
    filled = gap.join(map(_value, hole))
    return (
        f"{title}<code>{filled}</code>" + (f"<br><code>{truth}</code> <small>truth</small>" if truth else "") + "</p>"
    )


def _curve(hole: list[FillRow]) -> str:
    """Numbers of a hole with their interval, and the true ones where they are known."""
    middle = [(float(row.start), row.number if row.number is not None else row.median or 0.0) for row in hole]
    band = [(row.low80 or 0.0, row.high80 or 0.0) for row in hole]
    series = [Series("filled, with the 80 % interval", middle, band=band)]
    truth = [(float(row.start), float(row.truth)) for row in hole if row.truth is not None and _is_number(row.truth)]
    return chart(hole[0].field, "unit of the record", hole[0].field, [*series, Series("truth", truth, tone=1)])


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True


def _value(row: FillRow) -> str:
    kind = "" if row.truth is None else ' class="right"' if row.value == row.truth else ' class="wrong"'
    others = ", ".join(f"{value} {p:.2f}" for value, p in row.alternatives)
    shown = row.value if row.number is None else text(row.number)
    return (
        f'<span{kind} style="opacity:{0.35 + 0.65 * row.probability:.2f}" '
        f'title="{escape(row.value)} {row.probability:.2f}; {escape(others)}">{escape(shown)}</span>'
    )


def _reliability(rows: Sequence[FillRow]) -> str:
    """How often values of a given probability were right: a diagonal is perfect calibration."""
    known = [row for row in rows if row.truth is not None]
    if not known:
        return ""
    bins: list[list[FillRow]] = [[] for _ in range(BINS)]
    for row in known:
        bins[min(int(row.probability * BINS), BINS - 1)].append(row)
    points = [
        (sum(row.probability for row in some) / len(some), sum(row.value == row.truth for row in some) / len(some))
        for some in bins
        if some
    ]
    return "<h2>Reliability</h2>" + reliability([Series(f"{len(known):,} known values that were masked", points)])
