"""Self-contained HTML pages: one style, no scripts, no links."""

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path

from maskseq.storage.outputs import write
from maskseq.storage.standard_json import to_json

SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def verdict(words: str) -> str:
    """The first thing that a page says."""
    return f'<p class="verdict">{escape(words)}</p>'


def write_page(path: Path, title: str, parts: Iterable[str]) -> None:
    """Write a page of HTML parts; it appears when it is whole."""
    style = files("maskseq.reports").joinpath("page.css").read_text(encoding="utf-8")
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{style}</style><body><h1>{escape(title)}</h1>{''.join(parts)}</body></html>"
    )
    write(path, page.encode(errors="backslashreplace"))  # names of files need not be text


def section(name: str, value: object) -> str:
    """A heading and a table of names and values, or one line."""
    if not isinstance(value, Mapping):
        return f"<p><b>{escape(name)}</b> {escape(text(value))}</p>"
    lines = "".join(f"<tr><td>{escape(str(k))}</td><td>{escape(text(v))}</td></tr>" for k, v in value.items())
    return f"<h2>{escape(name)}</h2><table>{lines}</table>"


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table with a header."""
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    body = "".join(f"<tr>{''.join(f'<td>{escape(text(cell))}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def text(value: object) -> str:
    """A value as people write it: four digits, thousands apart, powers of ten for what is tiny or huge."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return f"{value:,}"
    if not isinstance(value, float):
        return to_json(value, ascii=False)
    if not math.isfinite(value):
        return "none" if math.isnan(value) else "∞" if value > 0 else "-∞"
    if value == 0 or 1e-3 <= abs(value) < 1e3:
        return f"{value:.4g}"
    if 1e3 <= abs(value) < 1e15:
        return f"{value:,.0f}"
    digits, _, power = f"{value:.2e}".partition("e")
    return f"{digits.rstrip('0').rstrip('.')} × 10{str(int(power)).translate(SUPERSCRIPTS)}"


def share(value: float) -> str:
    """A share as people write it, with one digit after the point where it is not small."""
    return f"{value:.1%}" if value == 0 or abs(value) >= 1e-3 else f"{text(value * 100)}%"
