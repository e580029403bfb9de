"""Times that several columns of a table say together: year, month, day and hour, or a date and a time of day."""

import re
from collections.abc import Mapping, Sequence
from datetime import date, timedelta

from maskseq_signals.times import is_date

PARTS: Mapping[str, str] = {
    **dict.fromkeys(("year", "yr", "yyyy", "jahr", "anno", "año", "année"), "year"),
    **dict.fromkeys(("month", "mo", "mon", "monat", "mes", "mois", "mm"), "month"),
    **dict.fromkeys(("day", "dy", "dd", "tag", "dia", "día", "jour", "dom"), "day"),
    **dict.fromkeys(("hour", "hr", "hh", "stunde", "hora", "heure"), "hour"),
    **dict.fromkeys(("minute", "min", "mi", "minuto"), "minute"),
    **dict.fromkeys(("second", "sec", "ss", "sekunde", "segundo"), "second"),
}
"""What columns of parts of a date are called, in lower case."""
BESIDE_MIN = {"max", "mean", "avg", "average"}
ORDER = ("year", "month", "day", "hour", "minute", "second")
BOUNDS = {"year": (1600, 2200), "month": (1, 12), "day": (1, 31), "hour": (0, 24), "minute": (0, 59), "second": (0, 60)}
CLOCK = re.compile(r"\d{1,2}([:.])\d{2}(\1\d{2}([.,]\d+)?)?( ?[AaPp][Mm])?|[01]?\d|2[0-3]")
DOTTED = re.compile(r"\d{1,2}\.\d{2}(\.\d{2})?")
CLOCK_NAMES = ("time", "clock", "uhrzeit", "zeit", "tod", *(name for name, part in PARTS.items() if part == "hour"))


def parts_of_date(names: Sequence[str]) -> tuple[int, ...]:
    """The columns of year, month, day and so on, in this order, by their names; empty if they are no date together."""
    place: dict[str, int] = {}
    for index, name in enumerate(names):
        part = PARTS.get(name.strip().lower())
        if name.strip().lower() == "min" and not BESIDE_MIN.isdisjoint(each.strip().lower() for each in names):
            part = None  # the least of something
        if part is not None and place.setdefault(part, index) != index:
            return ()
    known = tuple(place[part] for part in ORDER[: next((i for i, part in enumerate(ORDER) if part not in place), 6)])
    return known if len(known) >= 2 and len(known) == len([part for part in ORDER if part in place]) else ()


def moment_columns(names: Sequence[str], columns: Sequence[Sequence[str]]) -> tuple[int, ...]:
    """Columns that say a time together, by their names and by what they hold; empty if there are none."""
    parts = parts_of_date(names)
    others = [i for i in range(len(names)) if i not in parts]
    dates = [i for i in others if _known(columns[i]) and all(map(is_date, _known(columns[i])))]
    if not dates:
        return parts if all(_within(PARTS[names[i].strip().lower()], columns[i]) for i in parts) else ()
    clocks = [i for i, name in enumerate(names) if name.strip().lower() in CLOCK_NAMES and _are_clocks(columns[i])]
    plain = len(dates) == len(clocks) == 1 and not any(":" in cell for cell in columns[dates[0]])
    return (dates[0], clocks[0]) if plain and dates != clocks else ()


def joined_moment(names: Sequence[str], cells: Sequence[str]) -> str:
    """One time of the cells of such columns; "" if one of them is empty."""
    texts = [cell.strip() for cell in cells]
    if not all(texts):
        return ""
    kinds = [PARTS.get(name.strip().lower()) for name in names]
    if kinds == list(ORDER[: len(kinds)]) and all(text.removesuffix(".0").isdecimal() for text in texts):
        numbers = [int(text.removesuffix(".0")) for text in texts] + [1] * max(3 - len(texts), 0)
        numbers += [0] * (6 - len(numbers))
        year, month, day, *clock = numbers
        text = f"{year:04d}-{month:02d}-{day:02d}"
        if len(kinds) > 3 and clock == [24, 0, 0]:  # the end of a day
            try:
                return f"{date(year, month, day) + timedelta(days=1)} 00:00:00"
            except (ValueError, OverflowError):
                return f"{text} 24:00:00"  # which no reader understands
        return text if len(kinds) <= 3 else text + " {:02d}:{:02d}:{:02d}".format(*clock)
    clock_of_day = texts[-1].replace(".", ":", 2) if DOTTED.fullmatch(texts[-1]) else texts[-1]
    if kinds[-1] == "hour" and clock_of_day.isdecimal():
        clock_of_day += ":00"
    return " ".join([*texts[:-1], clock_of_day])


def _known(column: Sequence[str]) -> list[str]:
    return [cell for cell in column if cell.strip()]


def _within(part: str, column: Sequence[str]) -> bool:
    low, high = BOUNDS[part]
    texts = [cell.strip().removesuffix(".0") for cell in _known(column)]
    return bool(texts) and all(text.isdecimal() and low <= int(text) <= high for text in texts)


def _are_clocks(column: Sequence[str]) -> bool:
    texts = [cell.strip() for cell in _known(column)]
    return bool(texts) and all(map(CLOCK.fullmatch, texts))
