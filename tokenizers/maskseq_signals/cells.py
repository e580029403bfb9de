"""Cells of tables: where they stand in a line, and numbers as they are written there."""

import re
from collections import Counter
from collections.abc import Iterable
from decimal import Decimal, InvalidOperation

import numpy as np
from jaxtyping import Float

MOST_DECIMALS = 1074
"""Digits behind the point of the smallest double; a text may have more (1e-999999999), a number not."""
MOST_DIGITS = 12
"""Digits behind the point up to which floats are taken for rounded ones."""


COMMENT = "#"
"""How lines begin that are no part of a table."""


def is_comment(line: str, delimiter: str, n: int) -> bool:
    """Whether a line among the rows of a table of `n` columns is none: it begins so, and is not filled as they are."""
    if not line.startswith(COMMENT):
        return False
    cells = cells_of(line, delimiter)
    return len(cells) != n or not any(cell.strip() for cell in cells[1:])


def table_begin(lines: Iterable[str]) -> int | None:
    """The first line that is not blank and no comment; a comment before it of as many cells is its header."""
    before: tuple[int, str] | None = None
    for at, line in enumerate(lines):
        text = line.strip("\r\n\ufeff")
        if text.startswith(COMMENT):
            before = at, text
        elif text:
            n = len(cells_of(text, delimiter_of(text)))
            heads = before is not None and n > 1 and len(cells_of(before[1], delimiter_of(text))) == n
            return before[0] if before is not None and heads else at
    return None if before is None else before[0]


def number_text(value: float, decimals: int | None, *, decimal: str = ".", thousands: str | None = None) -> str:
    """As short as it reads back to the same number, but with trailing zeros where the column has them."""
    if np.isnan(value):
        return ""
    padded = f"{value:.{decimals or 0}f}"
    text = padded if float(padded) == value else repr(value)
    whole, point, rest = text.partition(".")
    if thousands and whole.lstrip("-").isdecimal():
        sign = whole[: len(whole) - len(whole.lstrip("-"))]
        whole = sign + f"{int(whole.lstrip('-')):,}".replace(",", thousands)
    return whole + (decimal if point else "") + rest


def number(text: str) -> float | None:
    """None for what is no finite number."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def is_infinite(text: str) -> bool:
    try:
        return bool(np.isinf(float(text)))
    except ValueError:
        return False


def grouped(thousands: str, decimal: str) -> re.Pattern[str]:
    """Numbers whose thousands are separated, such as 1,234.5."""
    return re.compile(rf"[+-]?\d{{1,3}}(?:{re.escape(thousands)}\d{{3}})+(?:{re.escape(decimal)}\d*)?")


def shown_decimals(text: str) -> int:
    """Digits behind the point: of 3.10, two; of 1.5e-3, four."""
    return _digits(text, trimmed=False)


def needed_decimals(text: str) -> int:
    """The same without zeros at the end: of 3.10, one; of 5.0, none."""
    return _digits(text, trimmed=True)


def decimals_of_values(values: Float[np.ndarray, " n"]) -> int | None:
    """Digits behind the point that all known values are rounded to; None if they are not, or there are none."""
    known = values[np.isfinite(values)]
    wide = known.astype(np.float64)
    for n in range(MOST_DIGITS + 1 if len(known) else 0):
        if (np.round(wide[:100], n).astype(values.dtype) == known[:100]).all():  # most arrays are told by a few
            with np.errstate(over="ignore", invalid="ignore"):
                if (np.round(wide, n).astype(values.dtype) == known).all():
                    return n
    return None


def _digits(text: str, *, trimmed: bool) -> int:
    try:
        value = Decimal(text.strip())
        exponent = (value.normalize() if trimmed else value).as_tuple().exponent
    except InvalidOperation:  # an exponent beyond all bounds
        return MOST_DECIMALS
    return min(max(-int(exponent), 0), MOST_DECIMALS)


def delimiter_of(line: str, *, but: str = "") -> str:
    plain = re.sub(r'"[^"]*"', "", line)
    return Counter({each: plain.count(each) for each in ",;\t|" if each != but}).most_common(1)[0][0]


def cells_of(line: str, delimiter: str) -> list[str]:
    if '"' not in line:
        return line.rstrip("\r\n").split(delimiter)
    spans = spans_of(line, delimiter)
    return [line[a:b][1:-1].replace('""', '"') if line[a : a + 1] == '"' else line[a:b] for a, b in spans]


def spans_of(line: str, delimiter: str) -> list[tuple[int, int]]:
    """Where each cell of a row stands in its line."""
    cell = re.compile(rf'"(?:[^"]|"")*"|[^{re.escape(delimiter)}\r\n]*')
    spans, position = [], 0
    while True:
        match = cell.match(line, position)
        assert match is not None
        spans.append(match.span())
        position = match.end()
        if line[position : position + 1] != delimiter:
            return spans
        position += 1


def quoted(text: str, delimiter: str) -> str:
    if any(character in text for character in (delimiter, '"', "\r", "\n")):
        return '"' + text.replace('"', '""') + '"'
    return text
