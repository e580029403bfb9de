"""The report of an infill: what was filled, how surely, and how right where the truth is known."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from maskseq.comparison.shown import number_of
from maskseq.infill.filling import FilledRecord
from maskseq.infill.table import FillRow, unit_ranges
from maskseq.reports.chart import Series, reliability
from maskseq.reports.page import section, share, table, text, verdict, write_page
from maskseq.reports.stretch import CONTEXT, LONGEST, Cell, Excerpt, drawn, form_of, measures_of
from maskseq.tokenizer import Tokenizer
from maskseq.types import Encoded

BINS = 10
MOST_DRAWN = 60
"""Stretches that are drawn; the table has everything."""
SHARES = ("beyond frequencies", "outside the training range")
HEADINGS = {
    "filled": "What was filled",
    "beyond frequencies": "Known beyond the frequencies of values, as a share of their entropy",
    "against what was hidden": "Against the known values that were masked",
    "outside the training range": "Share of the known numbers outside of the training range",
}


def write_report(
    path: Path,
    summary: Mapping[str, Any],
    rows: Sequence[FillRow],
    stretches: Sequence[Excerpt],
    made_with: Mapping[str, Any],
) -> None:
    """Write the report of an infill run; `rows` are those to show, in the order of the file, `stretches` to draw."""
    first = [row for row in rows if row.sample == 0]
    apart = ("warnings", "experts", "given by experts")
    write_page(
        path,
        "maskseq infill",
        [
            verdict(_in_words(summary, first, stretches)),
            *(f'<p class="wrong"><b>Warning</b> {escape(each)}</p>' for each in summary.get("warnings", ())),
            "<h2>What was filled, in its context</h2><p>Letters as high as they are probable; numbers with the "
            "interval that holds the true one in 80 % of the cases; events with the probability of each value. "
            'Where the truth is known, <span class="right">right</span> and <span class="wrong">wrong</span>.</p>',
            *map(drawn, stretches),
            _reliability(first),
            _experts(summary),
            *(
                section(HEADINGS.get(name, name.capitalize()), _as_read(name, value))
                for name, value in summary.items()
                if name not in apart
            ),
            section("Made with", made_with),
        ],
    )


def stretches(
    each: FilledRecord, rows: Sequence[FillRow], tokenizer: Tokenizer[Any], *, most: int = MOST_DRAWN
) -> Iterator[Excerpt]:
    """The filled stretches of a record with what is around them; `rows` are its first ones of the table."""
    rows = [row for row in rows if row.sample == 0]
    cells = each.filled.fill.cells[: len(rows)]
    form = form_of(tokenizer.fields)
    around, ids = CONTEXT[form], each.before.ids
    encoded = replace(each.before, ids=each.filled.fill.written(ids))
    positions = np.unique(cells[:, 0])
    ends = np.flatnonzero(np.diff(positions) > 2 * around) + 1
    for places in np.split(positions, ends)[: most if len(positions) else 0]:
        first, last = max(int(places[0]) - around, 0), min(int(places[-1]) + around + 1, len(ids))
        shown = np.arange(first, min(last, first + LONGEST[form]))
        mine = np.flatnonzero((cells[:, 0] >= first) & (cells[:, 0] < last))
        filled = {
            (int(position), int(column)): rows[i] for i, (position, column) in zip(mine, cells[mine], strict=True)
        }
        yield _stretch(each, shown, filled, encoded, tokenizer, last - first - len(shown))


def _stretch(
    each: FilledRecord,
    shown: Int[np.ndarray, " shown"],
    filled: Mapping[tuple[int, int], FillRow],
    encoded: Encoded,
    tokenizer: Tokenizer[Any],
    more: int,
) -> Excerpt:
    units = unit_ranges(tokenizer, encoded, np.stack([shown, np.zeros_like(shown)], axis=1))[:, 0]
    rows, form = list(filled.values()), form_of(tokenizer.fields)
    narrow = min(row.stop - row.start for row in rows)  # the time between two events depends on both
    mine = [row for row in rows if row.stop - row.start == narrow]
    return Excerpt(
        title=f"{each.filled.task.key}:{min(row.start for row in mine)}-{max(row.stop for row in mine)}",
        units=(units + 1).tolist(),
        tracks={
            field.name: [
                _cell(each.before, tokenizer, position, column, filled.get((position, column)))
                for position in shown.tolist()
            ]
            for column, field in enumerate(tokenizer.fields)
            if form == "strip" or not field.given
        },
        form=form,
        measures=measures_of(tokenizer.fields),
        moments=_moments(each.record.moments(), units.tolist()),
        more=more,
    )


def _moments(moments: Float[np.ndarray, " units"] | None, units: Sequence[int]) -> list[float | None]:
    """When units were; nothing where no time is known, as of the end of a record."""
    if moments is None:
        return []
    return [float(moments[unit]) if unit < len(moments) and np.isfinite(moments[unit]) else None for unit in units]


def _cell(before: Encoded, tokenizer: Tokenizer[Any], position: int, column: int, row: FillRow | None) -> Cell:
    field, known = tokenizer.fields[column], int(before.ids[position, column])
    number = number_of(field, known)
    if number is not None and before.numbers is not None and np.isfinite(before.numbers[position, column]):
        number = float(before.numbers[position, column])
    if row is None:
        return Cell(field.token(known), number=number)
    low, high = row.low80, row.high80
    return Cell(
        row.value,
        row.probability,
        truth=row.truth,
        others=row.alternatives,
        number=row.number if row.number is not None else row.median,
        band=None if low is None or high is None else (low, high),
        true_number=None if row.truth is None else number,
    )


def _in_words(summary: Mapping[str, Any], rows: Sequence[FillRow], stretches: Sequence[Excerpt]) -> str:
    """What came of it, in one line."""
    filled = summary["filled"]
    what = ("value" if filled["cells"] == 1 else "values"), ("record" if filled["records"] == 1 else "records")
    line = f"{text(filled['cells'])} {what[0]} filled in {text(filled['records'])} {what[1]} of {filled['file']}"
    if rows and all(row.median is not None for row in rows):
        return line + _within(stretches) + "."
    if rows:
        line += f", stated to be right with {sum(row.probability for row in rows) / len(rows):.0%} on average"
    score = summary.get("against what was hidden")
    if score:
        line += f". Of {text(score['cells'])} known values that were masked, {score['right']:.1%} came back right"
        markov = next((name for name in score if name.startswith("right, ")), None)
        if markov:
            line += f"; the {markov.removeprefix('right, ')} chain gets {score[markov]:.1%}"
    return line + "."


def _within(stretches: Sequence[Excerpt]) -> str:
    """Of numbers, how many intervals hold the true one: hardly any number is exactly right."""
    cells = [cell for each in stretches for track in each.tracks.values() for cell in track]
    known = [(cell.band, cell.true_number) for cell in cells if cell.band and cell.true_number is not None]
    held = [low <= number <= high for (low, high), number in known]
    shares = f"{sum(held):,} of {len(held):,} known numbers that were masked"
    return f". The 80 % intervals hold {shares}" if held else ""


def _as_read(section: str, value: Any) -> Any:
    """Shares as people write them."""
    if not isinstance(value, Mapping):
        return value
    return {
        name: share(each) if isinstance(each, float) and (section in SHARES or name.startswith("right")) else each
        for name, each in value.items()
    }


def _experts(summary: Mapping[str, Any]) -> str:
    """What the blend is made of, and which probability each part gave the values that were written."""
    shares, given = summary.get("experts") or {}, summary.get("given by experts") or {}
    rows = [
        (name, *(share(each[name]) if name in each else "" for each in (shares, given)))
        for name in dict.fromkeys([*shares, *given])
    ]
    return "<h2>What predicted</h2>" + table(("", "share of the blend", "gave what was filled"), rows) if rows else ""


def _reliability(rows: Sequence[FillRow]) -> str:
    """How often values of a given probability were right, but for numbers: a diagonal is perfect calibration."""
    known = [row for row in rows if row.truth is not None and row.median is None]
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
