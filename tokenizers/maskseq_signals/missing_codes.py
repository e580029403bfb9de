"""Numbers that tables write where there is no value, such as -9999."""

import re
from collections.abc import Sequence

CODE = re.compile(r"[+-]?9{3,}(?:\.(?:9+|0+|25))?|-32768(?:\.0+)?")
FAR = 2.0
"""How many ranges of the other values such a number lies beyond them."""


def missing_codes(columns: Sequence[Sequence[str]]) -> list[str]:
    """Cells of columns of numbers (with decimal points) that look like such a code and lie far from all other values.

    What may be a value in one column is a code in none.
    """
    far: set[str] = set()
    near: set[str] = set()
    codes = {text for column in columns for text in column if CODE.fullmatch(text)}
    for column in columns:
        others = [float(text) for text in set(column) - codes if _is_number(text)]
        low, high = min(others, default=0.0), max(others, default=0.0)
        reach = FAR * ((high - low) or abs(high))
        here = codes & set(column)
        beyond = {text for text in here if others and not low - reach <= float(text) <= high + reach}
        far |= beyond
        near |= (here - beyond) | {text for text in codes if low <= float(text) <= high}
    return sorted(far - near)


def _is_number(text: str) -> bool:
    try:
        return abs(float(text)) < float("inf")
    except ValueError:
        return False
