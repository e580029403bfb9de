"""Drawings for pages, as SVG: axes with ticks and units, legends, values under the pointer, light and dark."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

from maskseq.reports.page import text

WIDTH, WIDE, HEIGHT = 440, 920, 190
LEFT, BOTTOM, TOP, RIGHT = 74, 34, 8, 10
MOST_DOTS, MOST_HOVERS = 40, 100
"""Points of a line that are marked, and that show their value under the pointer."""
LONGEST_NAME = 33
"""Letters of a group that find room beside its interval."""
Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Series:
    """One line of a drawing, with dots or plain, or dots alone, or a level across it."""

    name: str
    points: Points
    kind: Literal["line", "plain", "held-out", "level"] = "line"
    tone: int = 0
    band: Sequence[tuple[float, float]] = ()
    """Of each point, an interval."""


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers between two, about so many."""
    span = high - low
    if not (span > 0 and math.isfinite(span)):
        return [low]
    step = 10 ** math.floor(math.log10(span / most))
    step *= next(factor for factor in (1, 2, 5, 10) if span / (step * factor) <= most)
    first = math.ceil(low / step)
    return [round(n * step, 12) for n in range(first, math.floor(high / step) + 1)]


def chart(title: str, across: str, up: str, series: Sequence[Series], *, wide: bool = False) -> str:
    """Lines over one axis, as wide as the page if `wide`; nothing where there is nothing to draw."""
    series = [each for each in series if each.points]
    values = [y for each in series for _, y in each.points] + [y for each in series for pair in each.band for y in pair]
    values = [y for y in values if math.isfinite(y)]
    if not values:
        return ""
    xs = [x for each in series for x, _ in each.points]
    frame = Axes((min(xs), max(xs)), (min(values), max(values)), WIDE if wide else WIDTH)
    body = frame.axes(across, up) + "".join(map(frame.drawn, series))
    keys = {each.name: f"tone{each.tone} {each.kind}" for each in series if each.name}
    several = keys.items() if len(keys) > 1 else ()  # of one line the title is enough
    names = "".join(f'<span class="key {looks}">{escape(name)}</span> ' for name, looks in several)
    kind = ' class="wide"' if wide else ""
    caption = f"<figcaption>{escape(title)}</figcaption>"
    return f"<figure{kind}>{caption}{_svg(frame.width, HEIGHT, body)}<div>{names}</div></figure>"


@dataclass(frozen=True)
class Axes:
    """Where numbers stand in a drawing."""

    x: tuple[float, float]
    y: tuple[float, float]
    width: int = WIDTH

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Coordinates in the drawing."""
        (left, right), (low, high) = self.x, self.y
        wide, tall = self.width - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
        return LEFT + wide * (x - left) / ((right - left) or 1), TOP + tall * (1 - (y - low) / ((high - low) or 1))

    def axes(self, across: str, up: str) -> str:
        """Lines at round numbers, and what the axes are."""
        parts = []
        for value in ticks(*self.y):
            _, y = self.at(self.x[0], value)
            parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{self.width - RIGHT}"/>')
            parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{text(_plain(value))}</text>')
        for value in ticks(*self.x):
            x, _ = self.at(value, self.y[0])
            parts.append(f'<path class="grid" d="M{x:.1f} {HEIGHT - BOTTOM}v4"/>')
            place, shown = HEIGHT - BOTTOM + 15, text(_plain(value))
            last = x + 3.5 * len(shown) > self.width  # a label in the middle of the last tick would be cut off
            x, anchor = (self.width - 1, "end") if last else (x, "middle")
            parts.append(f'<text x="{x:.1f}" y="{place}" text-anchor="{anchor}">{shown}</text>')
        middle = (LEFT + self.width - RIGHT) / 2
        parts.append(f'<text x="{middle}" y="{HEIGHT - 4}" text-anchor="middle">{escape(across)}</text>')
        parts.append(f'<text transform="translate(11 {(HEIGHT - BOTTOM) / 2}) rotate(-90)" text-anchor="middle">')
        return "".join(parts) + f"{escape(up)}</text>"

    def drawn(self, each: Series) -> str:
        """One series."""
        points = [(*self.at(x, y), x, y) for x, y in each.points if math.isfinite(y)]
        if not points:
            return ""
        if each.kind == "level":
            return f'<path class="line level tone{each.tone}" d="M{LEFT} {points[0][1]:.1f}H{self.width - RIGHT}"/>'
        found = ""
        if each.band:
            edges = [
                (self.at(x, low), self.at(x, high)) for (x, _), (low, high) in zip(each.points, each.band, strict=True)
            ]
            outline = [low for low, _ in edges] + [high for _, high in reversed(edges)]
            found = f'<path class="band tone{each.tone}" d="M{"L".join(f"{x:.1f} {y:.1f}" for x, y in outline)}Z"/>'
        if each.kind in ("line", "plain"):
            line = "L".join(f"{x:.1f} {y:.1f}" for x, y, *_ in points)
            found += f'<path class="line tone{each.tone}" d="M{line}"/>'
        dots = each.kind == "held-out" or len(points) <= (1 if each.kind == "plain" else MOST_DOTS)
        looks, radius = (f"{each.kind} tone{each.tone}", 2.5) if dots else ("hover", 6)
        return found + "".join(
            f'<circle class="{looks}" cx="{px:.1f}" cy="{py:.1f}" r="{radius}">'
            f"<title>{text(_plain(x))}: {text(y)}</title></circle>"
            for px, py, x, y in points[:: 1 if dots else math.ceil(len(points) / MOST_HOVERS)]
        )


def intervals(title: str, up: str, rows: Sequence[tuple[str, float, float, float]], *, percent: bool = True) -> str:
    """A figure with its interval for each of some groups, 0 marked: what lies right of it is a gain."""
    if not rows:
        return ""
    low, high = min(0.0, *(row[2] for row in rows)), max(0.0, *(row[3] for row in rows))
    left = min(max(100, 14 + max(round(6.2 * len(row[0])) for row in rows)), WIDTH // 2)
    span, wide = (high - low) or 1, WIDTH - left - 60

    def x(value: float) -> float:
        return left + wide * (value - low) / span

    def shown(value: float) -> str:
        return f"{value:.1%}" if percent else text(value)

    height = 24 * len(rows) + 34
    body = f'<path class="grid" d="M{x(0):.1f} 4V{height - 30}"/>'
    for n, (name, value, first, last) in enumerate(rows):
        y = 16 + 24 * n
        short = name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"
        body += (
            f'<text x="{left - 8}" y="{y + 4}" text-anchor="end">{escape(short)}<title>{escape(name)}</title></text>'
            f'<path class="line tone0" d="M{x(first):.1f} {y}H{x(last):.1f}"/>'
            f'<circle class="held-out tone0" cx="{x(value):.1f}" cy="{y}" r="4">'
            f"<title>{shown(value)} ({shown(first)} to {shown(last)})</title></circle>"
            f'<text x="{WIDTH - 4}" y="{y + 4}" text-anchor="end">{shown(value)}</text>'
        )
    for value in ticks(low, high, 4):
        body += f'<text x="{x(value):.1f}" y="{height - 16}" text-anchor="middle">{shown(value)}</text>'
    body += f'<text x="{WIDTH / 2}" y="{height - 2}" text-anchor="middle">{escape(up)}</text>'
    return f"<figure><figcaption>{escape(title)}</figcaption>{_svg(WIDTH, height, body)}</figure>"


def reliability(curves: Sequence[Series]) -> str:
    """Stated confidence against the share of right answers; what is calibrated lies on the diagonal."""
    frame = Axes((0.0, 1.0), (0.0, 1.0))
    diagonal = "L".join(f"{x:.1f} {y:.1f}" for x, y in (frame.at(0, 0), frame.at(1, 1)))
    body = frame.axes("stated probability", "share that was right") + f'<path class="grid" d="M{diagonal}"/>'
    body += "".join(map(frame.drawn, curves))
    names = "".join(f'<span class="key tone{each.tone} line">{escape(each.name)}</span> ' for each in curves)
    return f"<figure>{_svg(WIDTH, HEIGHT, body)}<div>{names}</div></figure>"


@dataclass(frozen=True)
class LetterStack:
    """One position of a logo."""

    stack: tuple[tuple[str, float], ...]
    """Letters and their probabilities."""
    filled: bool = False
    """Known letters are small and grey."""
    truth: str | None = None


ACROSS, STEP, TALL, LINE = 60, 15, 56, 96
"""Letters of a line, and what they and a line measure."""


def letters(columns: Sequence[LetterStack], units: Sequence[int]) -> str:
    """A sequence logo in lines: filled letters as high as they are probable, the most probable on top, truth below."""
    body = ""
    for n, column in enumerate(columns):
        x, base = STEP * (n % ACROSS) + STEP / 2 + 2, LINE * (n // ACROSS) + TALL + 16
        if n % 10 == 0:
            body += f'<text class="unit" x="{x - STEP / 2:.1f}" y="{base - TALL - 4}">{units[n]:,}</text>'
        if not column.filled:
            body += (
                f'<text class="letter" x="{x:.1f}" y="{base}" text-anchor="middle">{escape(column.stack[0][0])}</text>'
            )
            continue
        body += _stack(column, x, base)
        if column.truth is not None:
            looks = "right" if column.truth == column.stack[0][0] else "wrong"
            body += f'<text class="letter truth {looks}" x="{x:.1f}" y="{base + 15}" text-anchor="middle">'
            body += f"{escape(column.truth)}<title>truth</title></text>"
    lines = math.ceil(len(columns) / ACROSS)
    return _svg(STEP * min(len(columns), ACROSS) + 24, LINE * lines, body, fixed=True)


def _stack(column: LetterStack, x: float, base: float) -> str:
    """The letters of a position, the least probable below."""
    found, shown = "", ", ".join(f"{letter} {p:.1%}" for letter, p in column.stack)
    for letter, p in sorted(column.stack, key=lambda each: each[1]):
        high = p * TALL
        if high >= 0.5:
            place = f"translate({x:.1f} {base:.1f}) scale(1.5 {high / 10:.3f})"
            found += f'<text class="letter filled base{escape(letter)}" transform="{place}" text-anchor="middle">'
            found += f"{escape(letter)}<title>{escape(shown)}</title></text>"
            base -= high
    return found


def _svg(width: int, height: int, body: str, *, fixed: bool = False) -> str:
    size = f' width="{width}"' if fixed else ""
    return f'<svg viewBox="0 0 {width} {height}"{size} role="img">{body}</svg>'


def _plain(value: float) -> float | int:
    return int(value) if value == int(value) and abs(value) < 1e15 else value
