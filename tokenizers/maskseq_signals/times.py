"""Times as tables write them: dates or numbers, from which steps can be computed."""

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import islice

import numpy as np
from jaxtyping import Shaped

DATE = re.compile(
    r"(?:(\d{4})(?:[-/](\d{1,2})(?:[-/](\d{1,2}))?|\.(\d{1,2})\.(\d{1,2}))|(\d{1,2})\.(\d{1,2})\.(\d{4}))"
    r"(?:[T ]+(\S.*))?"
)
"""Year first; or day.month.year."""
SLASHED = re.compile(r"(\d{1,2})/(\d{1,2})/(\d{4})(?:,?[T ]+(\S.*))?")
"""Day and month, in an order that only all times of a column together tell."""
HALF_DAY = re.compile(r"(\d{1,2})(:.*?)?\s*([AaPp])\.?[Mm]\.?")
COMPACT = re.compile(r"((?:1[6-9]|2[01])\d{6})(\d{4}|\d{6})?")
BLOCK = 1 << 16
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


def to_moments(texts: Sequence[str], *, decimal: str = ".") -> Shaped[np.ndarray, "times"]:
    """Times as datetimes (UTC where they name no zone) if all are dates, else as numbers; `ValueError` if they are
    neither, `OddTimeError` if that holds for a few only.
    """
    kinds: tuple[Callable[[str], object], ...] = (_date, lambda text: _number(text, decimal))
    for parse in kinds:
        with suppress(ValueError):
            return _parsed(parse, texts)
    if (moments := _slashed(texts)) is not None:
        return moments
    for parse in kinds:
        wrong = [text for text in texts if not _can(parse, text)]
        if 10 * len(wrong) <= len(texts):
            raise OddTimeError(wrong)
    raise ValueError("these are neither dates nor numbers")


class OddTimeError(ValueError):
    """Times that cannot be understood among others that can."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts, self.text, self.count = texts, texts[0], len(texts)
        super().__init__(f"{texts[0]!r} is not a time, unlike most others")


def odd_times(texts: Sequence[str], *, decimal: str = ".") -> set[str]:
    """The few that cannot be understood among others that can."""
    try:
        to_moments(texts, decimal=decimal)
    except OddTimeError as error:
        return set(error.texts)
    except ValueError:
        pass
    return set()


def is_date(text: str) -> bool:
    """Whether a text is a date in ISO 8601, so written with slashes or points, or has day and month before the year."""
    return any(_can(parse, text) for parse in (_date, _month_first, _day_first))


def _can(parse: Callable[[str], object], text: str) -> bool:
    try:
        parse(text)
    except ValueError:
        return False
    return True


def _slashed(texts: Sequence[str]) -> Shaped[np.ndarray, "times"] | None:
    """Dates as month/day/year or day/month/year; None where they are none, or both would do.

    Where all can be read both ways, that counts in which the times never go back.
    """
    found = []
    for parse in (_month_first, _day_first):
        with suppress(ValueError):
            found.append(_parsed(parse, texts))
    forwards = [moments for moments in found if (moments[1:] >= moments[:-1]).all()]
    chosen = found if len(found) == 1 else forwards
    if not chosen or not np.array_equal(chosen[0], chosen[-1]):
        return None
    return chosen[0]


def _month_first(text: str) -> datetime:
    return _of_slashes(text, month=1, day=2)


def _day_first(text: str) -> datetime:
    return _of_slashes(text, month=2, day=1)


def _of_slashes(text: str, *, month: int, day: int) -> datetime:
    match = SLASHED.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a date")
    return _date(f"{match[3]}-{int(match[month]):02d}-{int(match[day]):02d}" + (f" {match[4]}" if match[4] else ""))


def _parsed(parse: Callable[[str], object], texts: Sequence[str]) -> Shaped[np.ndarray, "times"]:
    """All texts, a block at a time: objects take four times the memory of an array."""
    rest, parts = map(parse, texts), []
    while block := list(islice(rest, BLOCK)):
        parts.append(_as_array(block))
    return np.concatenate(parts) if parts else _as_array([])


def _as_array(values: Sequence[object]) -> Shaped[np.ndarray, "times"]:
    """Whole numbers and datetimes exactly."""
    if values and isinstance(values[0], datetime):
        moments = [(moment - EPOCH) // MICROSECOND for moment in values]  # type: ignore[operator]
        return np.array(moments, dtype=np.int64).view("datetime64[us]")
    whole = all(isinstance(value, int) and abs(value) < 1 << 62 for value in values)
    return np.array(values, dtype=np.int64 if whole else np.float64)


def _number(text: str, decimal: str) -> int | float:
    plain = text.strip() if decimal == "." else text.strip().replace(decimal, ".")
    try:
        return int(plain) if len(plain) < 20 else float(plain)
    except ValueError:
        number = float(plain)
    if not np.isfinite(number):
        raise ValueError(f"{text!r} is not finite")
    return number


def _date(text: str) -> datetime:
    moment = None
    if text[4:5] == "-" == text[7:8]:  # the usual form takes a tenth of the time
        with suppress(ValueError):
            moment = datetime.fromisoformat(text)
    if moment is None:
        moment = datetime.fromisoformat(_as_iso(text.strip()))
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _as_iso(text: str) -> str:
    if match := DATE.fullmatch(text):
        year, month, day, pointed_month, pointed_day, *european, clock = match.groups()
        if year is None:
            day, month, year = european
        month, day = month or pointed_month, day or pointed_day or "1"
        return f"{year}-{int(month):02d}-{int(day):02d}" + (f"T{_padded(clock)}" if clock else "")
    if match := COMPACT.fullmatch(text):
        return match[1] + (f"T{match[2]}" if match[2] else "")
    raise ValueError(f"{text!r} is not a date")


def _padded(clock: str) -> str:
    if match := HALF_DAY.fullmatch(clock):
        hour = int(match[1])
        if not 1 <= hour <= 12:
            raise ValueError(f"{clock!r} is no time of a half day")
        clock = f"{hour % 12 + 12 * (match[3] in 'Pp'):02d}{match[2] or ':00'}"
    return f"0{clock}" if clock[1:2] == ":" else clock.replace(" ", "")
