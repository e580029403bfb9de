"""A stretch of a record in the form of its domain: letters as a logo, numbers as lines, events as an aligned strip."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from itertools import groupby
from typing import Literal

from maskseq.reports.chart import LetterStack, Series, chart, letters
from maskseq.reports.page import share, text
from maskseq.types import ABSENT, END, MASK, OTHER, Field

Form = Literal["letters", "lines", "strip"]
CONTEXT: Mapping[Form, int] = {"letters": 20, "lines": 80, "strip": 3}
"""Known positions that are shown on either side of what was filled."""
LONGEST: Mapping[Form, int] = {"letters": 300, "lines": 2000, "strip": 60}
"""Positions of a stretch that are drawn; the rest is in the table."""
ALTERNATIVES = 2
"""Other values that stand below a filled one; more appear under the pointer."""
CONTROLS = {OTHER: "(other)", ABSENT: "–", END: "end", MASK: "?"}
NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+(?:e[+-]?\d+)?|e[+-]?\d+)(?![\w.])")
BIN = re.compile(r"\[(\S+), (\S+)\)")


@dataclass(frozen=True)
class Cell:
    """A cell of one field, known or filled."""

    value: str
    probability: float | None = None
    """Of a filled value; None: it was known."""
    truth: str | None = None
    """What had been there, where a known value was masked on purpose."""
    others: Sequence[tuple[str, float]] = ()
    """The most probable other values."""
    number: float | None = None
    """Of ordinal fields, in the field's unit."""
    band: tuple[float, float] | None = None
    """An interval that holds the true number in 80 % of the cases."""
    true_number: float | None = None

    @property
    def kind(self) -> str:
        """How the cell is marked: filled, and whether that was right where this is known."""
        if self.probability is None:
            return ""
        return "filled" if self.truth is None else "filled right" if self.value == self.truth else "filled wrong"

    @property
    def shown(self) -> str:
        """The value as people read it; a number rather than its bin."""
        return readable(self.value) if self.number is None else text(self.number)

    @property
    def was(self) -> str:
        """The truth as people read it."""
        return text(self.true_number) if self.true_number is not None else readable(self.truth or "")

    @property
    def hover(self) -> str:
        """The value and its alternatives with their probabilities."""
        if self.probability is None:
            return ""
        return ", ".join(f"{readable(value)} {share(p)}" for value, p in [(self.value, self.probability), *self.others])


@dataclass(frozen=True)
class Excerpt:
    """Some positions of a record, all fields side by side."""

    title: str
    units: Sequence[int]
    """Of each position, its first raw unit, from 1."""
    tracks: Mapping[str, Sequence[Cell]]
    """Each field's cells."""
    form: Form
    measures: Mapping[str, str]
    """Units of fields of numbers, by field."""
    moments: Sequence[float | None] = ()
    """Of each position, when it was, in seconds since 1970 UTC, where that is known."""
    more: int = 0
    """Positions that are left out at its end."""


def measures_of(fields: Sequence[Field]) -> dict[str, str]:
    """The units of fields of numbers."""
    return {field.name: field.unit for field in fields if field.unit}


def form_of(fields: Sequence[Field]) -> Form:
    """How records of these fields are drawn."""
    own = [field for field in fields if not field.given]
    if all(field.centres is not None for field in own):
        return "lines"
    return "letters" if len(own) == 1 and max(map(len, own[0].tokens)) == 1 else "strip"


def drawn(stretch: Excerpt) -> str:
    """A stretch as HTML."""
    form = {"letters": _letters, "lines": _lines, "strip": _strip}[stretch.form]
    more = f"<p><small>{stretch.more:,} more positions are in the table.</small></p>" if stretch.more else ""
    return f'<div class="stretch"><p><b>{escape(stretch.title)}</b>{_right(stretch)}</p>{form(stretch)}{more}</div>'


def readable(token: str) -> str:
    """A token as people read it: controls as words, bins as `from to`, numbers with few digits."""
    token = CONTROLS.get(token, token)
    if inside := BIN.fullmatch(token):
        token = f"{inside[1]} to {inside[2]}"
    return NUMBER.sub(lambda found: text(float(found[0])), token)


def _right(stretch: Excerpt) -> str:
    if stretch.form == "lines":  # a number is hardly ever exactly right
        return ""
    known = [cell for cells in stretch.tracks.values() for cell in cells if cell.kind and cell.truth is not None]
    right = sum(cell.kind == "filled right" for cell in known)
    return f", {right:,} of {len(known):,} right" if known else ""


def _letters(stretch: Excerpt) -> str:
    cells = next(iter(stretch.tracks.values()))
    return letters([_column(cell) for cell in cells], stretch.units)


def _column(cell: Cell) -> LetterStack:
    if cell.probability is None:
        return LetterStack(((readable(cell.value), 1.0),))
    stack = [(readable(value), p) for value, p in [(cell.value, cell.probability), *cell.others]]
    return LetterStack(tuple(stack), filled=True, truth=cell.truth and readable(cell.truth))


def _lines(stretch: Excerpt) -> str:
    """A drawing of each field of which something was filled."""
    dates = [_moment(at, True) for at in stretch.moments if at is not None]
    across = f"step ({dates[0]} to {dates[-1]} UTC)" if dates else "step"
    return "".join(
        chart(name, across, stretch.measures.get(name) or name, _series(stretch, cells), wide=True)
        for name, cells in stretch.tracks.items()
        if any(cell.kind for cell in cells)
    )


def _series(stretch: Excerpt, cells: Sequence[Cell]) -> list[Series]:
    placed = list(zip(map(float, stretch.units), cells, strict=True))
    found = []
    for filled, some in groupby(placed, key=lambda each: bool(each[1].kind)):
        run = [(x, cell) for x, cell in some if cell.number is not None]
        points = [(x, cell.number or 0.0) for x, cell in run]
        if not filled:
            found.append(Series("known", points, "plain", tone=3))
            continue
        band = [cell.band or (cell.number or 0.0, cell.number or 0.0) for _, cell in run]
        found.append(Series("filled, with the interval that holds 80 %", points, band=band))
        truth = [(x, cell.true_number) for x, cell in run if cell.true_number is not None]
        found.append(Series("truth", truth, tone=1))
    return found


def _strip(stretch: Excerpt) -> str:
    """Positions side by side, fields below each other; what was filled with its probability, the truth, others."""
    heads = "".join(f"<th>{unit:,}</th>" for unit in stretch.units)
    rows = f"<tr><th></th>{heads}</tr>"
    if any(at is not None for at in stretch.moments):
        days = [None if at is None else _moment(at, True)[:10] for at in stretch.moments]
        times = "".join(
            f"<td>{'' if at is None else _moment(at, n == 0 or days[n] != days[n - 1])}</td>"
            for n, at in enumerate(stretch.moments)
        )
        rows += f'<tr class="time"><th>time</th>{times}</tr>'
    for name, cells in stretch.tracks.items():
        unit = stretch.measures.get(name)
        shown = f"{escape(name)}<small> {escape(unit)}</small>" if unit else escape(name)
        rows += f"<tr><th>{shown}</th>{''.join(map(_event, cells))}</tr>"
    return f'<table class="strip">{rows}</table>'


def _event(cell: Cell) -> str:
    if cell.probability is None:
        return f'<td title="{escape(cell.value)}">{escape(cell.shown)}</td>'
    below = f'<span class="was">was {escape(cell.was)}</span>' if cell.kind == "filled wrong" else ""
    others = ", ".join(f"{readable(value)} {p:.0%}" for value, p in cell.others[:ALTERNATIVES] if p >= 0.01)
    return (
        f'<td class="{cell.kind}" style="--p:{cell.probability:.0%}" title="{escape(cell.hover)}">'
        f"<b>{escape(cell.shown)}</b> <small>{cell.probability:.0%}</small>{below}<small>{escape(others)}</small></td>"
    )


def _moment(at: float, day: bool) -> str:
    when = datetime.fromtimestamp(round(at), UTC)
    return when.strftime("%Y-%m-%d %H:%M:%S" if day else "%H:%M:%S")
