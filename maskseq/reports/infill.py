"""The report of an infill: what was filled, how surely, and how right where the truth is known."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Any

from maskseq.infill.table import FillRow
from maskseq.reports.page import section, write_page

BINS = 10


def write_report(path: Path, summary: Mapping[str, Any], rows: Sequence[FillRow]) -> None:
    """Write the report of an infill run; `rows` are those to show, of the first sample, in the order of the file."""
    first = [row for row in rows if row.sample == 0]
    write_page(
        path,
        "maskseq infill",
        [
            *(f'<p class="wrong"><b>Warning</b> {escape(text)}</p>' for text in summary.get("warnings", ())),
            *(section(name, value) for name, value in summary.items() if name != "warnings"),
            _reliability(first),
            "<h2>Holes</h2><p>Each value is shaded by its probability; where the truth is known, "
            '<span class="right">right</span> and <span class="wrong">wrong</span>.</p>',
            *map(_hole, _holes(first)),
        ],
    )


def _holes(rows: Iterable[FillRow]) -> Iterator[list[FillRow]]:
    """Rows of one record and field whose units follow one another."""
    ordered = sorted(rows, key=lambda row: (row.key, row.field, row.start))
    for _, group in groupby(enumerate(ordered), key=lambda pair: (pair[1].key, pair[1].field, pair[1].start - pair[0])):
        yield [row for _, row in group]


def _hole(hole: list[FillRow]) -> str:
    first = hole[0]
    known = [row for row in hole if row.truth is not None]
    right = sum(row.value == row.truth for row in known)
    reported = f", {right} of {len(known)} right" if known else ""
    truth = "".join(escape(row.truth or "?") for row in hole) if known else ""
    return (
        f"<p><b>{escape(first.key)}:{first.start}-{hole[-1].stop}</b> {escape(first.field)}{reported}<br>"
        f"<code>{''.join(map(_value, hole))}</code>"
        + (f"<br><code>{truth}</code> <small>truth</small>" if truth else "")
    )


def _value(row: FillRow) -> str:
    kind = "" if row.truth is None else ' class="right"' if row.value == row.truth else ' class="wrong"'
    others = ", ".join(f"{value} {p:.2f}" for value, p in row.alternatives)
    return (
        f'<span{kind} style="opacity:{0.35 + 0.65 * row.probability:.2f}" '
        f'title="{escape(row.value)} {row.probability:.2f}; {escape(others)}">{escape(row.value)}</span>'
    )


def _reliability(rows: Sequence[FillRow]) -> str:
    """How often values of a given probability were right: a diagonal is perfect calibration."""
    known = [row for row in rows if row.truth is not None]
    if not known:
        return ""
    bins: list[list[FillRow]] = [[] for _ in range(BINS)]
    for row in known:
        bins[min(int(row.probability * BINS), BINS - 1)].append(row)
    dots = "".join(
        f'<circle cx="{220 * sum(r.probability for r in b) / len(b):.1f}" '
        f'cy="{220 - 220 * sum(r.value == r.truth for r in b) / len(b):.1f}" '
        f'r="{2 + 8 * (len(b) / len(known)) ** 0.5:.1f}" fill="#36c"><title>{len(b)} cells</title></circle>'
        for b in bins
        if b
    )
    return (
        "<h2>Reliability</h2><p>Across: probability of the value. Up: share that was right. Area: cells.</p>"
        '<svg viewBox="-12 -12 244 244" width="300" height="300" role="img">'
        '<rect width="220" height="220" fill="none" stroke="#999"/><path d="M0 220 220 0" stroke="#bbb"/>'
        f"{dots}</svg>"
    )
