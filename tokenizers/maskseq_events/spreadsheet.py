"""Moments as spreadsheets count them: days since 30 December 1899, with the time of day as their fraction."""

from decimal import Decimal

EXCEL = "excel"
"""The name of this layout of timestamps."""
DAYS_TO_1970 = 25569
LAST_DAY = 2_958_465
"""31 December 9999."""
MICROS = 10**6
DAY = 86_400 * MICROS
MOST_DIGITS = 10
"""Behind the point; spreadsheets have 15 in all."""
ROUND = (60 * MICROS, MICROS, MICROS // 1000)
"""A minute, a second, a millisecond."""


def parse_serial(text: str) -> int:
    """Microseconds since 1970: the roundest moment that rounds to these digits, else the nearest millisecond."""
    try:
        days = Decimal(text.strip().replace(",", "."))
        if 1 <= days <= LAST_DAY:
            exact = (days - DAYS_TO_1970) * DAY
            off = Decimal(DAY) / 2 * Decimal(10) ** -_digits(text)
            nearest = [round(exact / unit) * unit for unit in ROUND]
            return next((moment for moment in nearest if abs(moment - exact) <= off), nearest[-1])
    except (ArithmeticError, ValueError):
        pass
    raise ValueError(f"{text[:40]!r} is not a number of days since 1899-12-30, from 1900 to 9999")


def render_serial(micros: int, like: str | None) -> str:
    """As few digits as say the moment, or else as many as `like` has; a decimal comma where that has one."""
    days = Decimal(micros) / DAY + DAYS_TO_1970
    able = [f"{days:.{digits}f}" for digits in range(MOST_DIGITS + 1)]
    text = next((text for text in able if parse_serial(text) == micros and _is_near(text, days)), able[-1])
    if like and Decimal(text) != days:
        text = max(text, able[min(_digits(like), MOST_DIGITS)], key=len)
    return text.replace(".", ",") if like and "," in like else text


def _digits(text: str) -> int:
    return len(text.strip().replace(",", ".").partition(".")[2])


def _is_near(text: str, days: Decimal) -> bool:
    """Whether only the last digit is rounded, and no more is left to the reader's sense of round moments."""
    return abs(Decimal(text) - days) * DAY < MICROS / Decimal(2)
