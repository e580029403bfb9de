"""Which columns of a table may be the case, the activity and the time: statistics of its first rows, words of names.

A name is split where CamelCase, underscores and blanks part it. What a column must hold:

- a case groups rows: two or more values, half of which stand in two rows or more, in every row; no times, no decimals,
  no texts, and no counter (each row one more than the row before);
- an activity is one of a few values, fewer than there are cases; most rows have one that occurs in several cases, and
  most cases have several;
- a time can be read, and rarely goes back from one row of a case to its next.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any

from maskseq_events.case import UNKNOWN, Value
from maskseq_events.columns import to_number
from maskseq_events.mapping import TIME_NAMES, usual_column
from maskseq_events.spreadsheet import EXCEL
from maskseq_events.times import EPOCH_UNITS, TimeLayout

LAYOUTS = (
    *(None, "epoch_s", "epoch_ms", "epoch_us", "epoch_ns"),
    *("%d.%m.%Y %H:%M:%S", "%d.%m.%Y %H:%M", "%d/%m/%Y %H:%M:%S", "%d/%m/%Y %H:%M", "%m/%d/%Y %H:%M:%S"),
    *("%m/%d/%Y %H:%M", "%d-%m-%Y %H:%M:%S", "%d-%m-%Y %H:%M", "%d/%b/%Y:%H:%M:%S %z", "%a %b %d %H:%M:%S %Y"),
    *("%Y-%m-%d-%H.%M.%S.%f", "%Y-%m-%d %I:%M:%S %p", "%Y-%m-%d %H:%M:%S %Z", "%a %b %d %H:%M:%S %Z %Y"),
    *("%m/%d/%Y %I:%M:%S %p", "%d/%m/%Y %I:%M:%S %p", "%m/%d/%Y %I:%M %p", "%d/%m/%Y %I:%M %p"),
    *("%d-%b-%Y %H:%M:%S", "%d %b %Y %H:%M:%S", "%d %b %Y %H:%M", "%b %d, %Y %H:%M:%S", "%b %d, %Y %I:%M:%S %p"),
    *("%d-%b-%y %I.%M.%S.%f %p", "%d %B %Y %H:%M:%S", "%B %d, %Y %I:%M:%S %p", "%B %d, %Y %H:%M:%S"),
    *("%a, %d %b %Y %H:%M:%S %z", "%a, %d %b %Y %H:%M:%S %Z", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%b-%Y"),
    *("%y/%m/%d %H:%M:%S", "%d/%m/%y %H:%M:%S", "%m/%d/%y %H:%M:%S", "%d/%m/%y %H:%M", "%m/%d/%y %H:%M"),
    *("%d.%m.%y %H:%M:%S", "%d.%m.%y %H:%M", "%y%m%d %H%M%S", EXCEL),
)
"""How timestamps are tried to be read, None for ISO 8601."""
CASES = (
    *("case", "fall", "caso", "dossier", "auftrag", "trace", "session", "user", "client", "customer", "patient"),
    *("subject", "order", "ticket", "claim", "journey"),
)
"""How words begin that name a case."""
SOURCES = ("node", "host", "process", "thread", "device", "machine", "server", "pid", "ip", "block")
"""Words that name what events of a log come from: a case if the user says so."""
IDENTIFIERS = ("id", "pid", "uid", "index", "number", "nr", "no")
"""Last words of names of identifiers."""
ACTIVITIES = ("activ", "aktiv", "vorgang", "schritt", "event", "action", "task", "step", "status", "operation")
"""How words begin that name what happened."""
KINDS = ("type", "name", "state", "code", "page")
"""Words that do, if no word for a case stands with them."""
TIMES = (
    *("time", "timestamp", "date", "datetime", "day", "weekday", "month", "year", "hour", "minute", "second"),
    *("zeit", "zeitstempel", "datum", "tag", "uhrzeit"),
)
"""Last words of names of times."""
CLOCK = re.compile(r"\d{1,4}([:./-]\d{1,4}){1,2}([ T-]\d{1,2}([:.]\d{2}){1,2})?([.,]\d+)?")
"""Times of a day, dates, and both, also in layouts that cannot be read."""
MOST_VALUES, MOST_CODES = 200, 20
"""Different values of an activity, unless they are messages; different numbers that may be codes."""
NO_VALUES = ("NA", "N/A", "NaN", "nan", "NULL", "Null", "null", "None", "none", "<NA>", "#N/A")
"""How programs write that there is no value."""
ABSENT = (None, "", UNKNOWN, *NO_VALUES)
LONGEST_KEY = 3
"""Words of a case's key; what has more is text."""
LOCAL = 0.25
"""Most of the rows that may lie between the first and the last of a case, in the median, as a share of all."""
SMALL = 0.02
"""Share of the rows that a case has in the median, up to which its column is worth a question."""
KNOWN = 0.95
"""Share of the rows that must have an activity."""
SHARED = 0.9
"""Share of the rows whose activity must occur in several cases."""
BACK = 0.1
"""Share of the steps in time within cases that may go back."""
MOST_BROKEN = 0.02
"""Share of the timestamps that may be none, such as 0000-00-00."""
EARLIEST, LATEST = 1e8, 4e9
"""Seconds since 1970 that are of our time: 1973 to 2096."""
SERIAL_YEARS = 631_152_000, 2_840_140_800
"""The same of days that spreadsheets count, which other numbers look like more often: 1990 to 2060."""


def words(name: str) -> list[str]:
    """`CaseID`, `case_id` and `case id` are all `case`, `id`."""
    parted = re.sub(r"(?<=[a-z\d])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)
    return re.findall(r"[^\W_]+", parted.lower())


def is_identifier(name: str) -> bool:
    return bool({*words(name)[-1:]} & {*IDENTIFIERS})


def says_activity(name: str) -> bool:
    answered = words(name)
    return any(word.startswith(ACTIVITIES) for word in answered) or (
        any(word in KINDS for word in answered) and not any(word.startswith(CASES) for word in answered)
    )


def says_case(name: str) -> bool:
    answered = words(name)
    return not says_activity(name) and (any(word.startswith(CASES) for word in answered) or answered[-1:] == ["id"])


def is_kind_id(name: str, cells: Sequence[Value]) -> bool:
    """Whether a column that is called an identifier, of nothing that is a case, may say what kind of event each is: its
    values recur throughout, as the event ids of Windows do.
    """
    answered = words(name)
    named = any(word.startswith(CASES) or word in SOURCES for word in answered)
    return answered[-1:] == ["id"] and not named and median(Counter(cells).values()) >= 2 and _spread(cells) > LOCAL


def says_source(name: str) -> bool:
    return any(word in SOURCES for word in words(name))


def says_time(name: str) -> bool:
    return bool({*words(name)[-1:]} & {*TIMES})


@dataclass(frozen=True)
class Roles:
    """A case, an activity and a time (empty: there is none) that the rows of a table bear out."""

    case: str
    activity: str
    time: str

    @property
    def options(self) -> dict[str, Any]:
        return {"case": self.case, "activity": self.activity, "time": self.time}

    def __str__(self) -> str:
        time = f"{self.time!r} for the time" if self.time else "no column for the time"
        return f"{self.case!r} is taken for the case, {self.activity!r} for the activity, {time}"


def likely_roles(columns: Mapping[str, Sequence[Value]]) -> tuple[list[Roles], bool]:
    """Roles that the columns may have, the likeliest first, and whether there is no doubt about the first.

    There is none if the time can be read, one case and one activity are left (where names say so, of those only), and
    the case's name says so or its rows stand near each other.
    """
    time = time_column(columns)
    moments = [] if time is None else [moments_of(each, columns[time]) for each in layouts_of(columns[time])]
    spread = {
        name: _spread(cells)
        for name, cells in columns.items()
        if name != time and may_group_rows(name, cells) and (not moments or any(in_order(cells, m) for m in moments))
    }
    near = {name for name, share in spread.items() if share <= LOCAL}
    cases = [name for name in spread if name in near or says_case(name) or says_source(name) or _small(columns[name])]
    cases.sort(key=lambda name: (-len(set(columns[name])), not says_case(name)))  # the finest first
    found = [
        Roles(case, activity, time or "") for case in cases for activity in _activities(columns, case, but=(case, time))
    ]
    called = {name for name in cases if says_case(name) and not is_kind_id(name, columns[name])}
    preferred = _preferred(found, called, near, columns)
    sure = time is not None and len(preferred) == 1 and _speaks(preferred[0], called | near, columns)
    return [*preferred, *(roles for roles in found if roles not in preferred)], sure


def _preferred(
    found: Sequence[Roles], named: set[str], near: set[str], columns: Mapping[str, Sequence[Value]]
) -> list[Roles]:
    """Those that names say, or else that rows bear out; all where a column that is called a case has a finer one beside
    it.
    """
    called = [roles for roles in found if roles.case in named]
    looking = [roles for roles in found if roles.case in near]
    kept = list(found) if called and called[0] != found[0] else called or looking or list(found)
    kept = [roles for roles in kept if says_activity(roles.activity)] or list(kept)
    return [roles for roles in kept if not are_numbers(columns[roles.activity])] or kept


def _speaks(roles: Roles, cases: set[str], columns: Mapping[str, Sequence[Value]]) -> bool:
    """Whether more than the lack of others speaks for a case and an activity."""
    return roles.case in cases and (says_activity(roles.activity) or not are_numbers(columns[roles.activity]))


def _activities(columns: Mapping[str, Sequence[Value]], case: str, *, but: tuple[str | None, ...]) -> list[str]:
    """What happened changes within a case, more than who did it."""
    able = [name for name, cells in columns.items() if name not in but and _may_be_activity(name, cells, columns[case])]
    changing = {name: len(set(zip(columns[case], columns[name], strict=True))) for name in able}
    return sorted(able, key=lambda name: (not says_activity(name), -changing[name]))


def may_group_rows(name: str, cells: Sequence[Value]) -> bool:
    """Whether a column may tell which rows belong together."""
    if not all(cells) or says_time(name) or says_activity(name):
        return False
    texts = [cell for cell in cells if cell is not None and cell != UNKNOWN]
    sizes = Counter(texts)
    if len(sizes) < 2 or median(sizes.values()) < 2 or all(map(CLOCK.fullmatch, texts)):
        return False
    numbers = [to_number(text) for text in texts]
    if any(number is not None and number != round(number) for number in numbers):
        return False
    return not is_counter(texts) and median(len(text.split()) for text in sizes) <= LONGEST_KEY


def _small(cells: Sequence[Value]) -> bool:
    return median(Counter(cells).values()) <= SMALL * len(cells)


def _may_be_activity(name: str, cells: Sequence[Value], cases: Sequence[Value]) -> bool:
    known = [(case, cell) for case, cell in zip(cases, cells, strict=True) if cell not in ABSENT]
    texts = [cell for _, cell in known if cell is not None]
    if len(texts) < KNOWN * len(cells) or says_time(name) or all(map(CLOCK.fullmatch, texts)):
        return False
    of_case: dict[Value, set[Value]] = {}
    of_value: dict[Value, set[Value]] = {}
    for case, value in known:
        of_case.setdefault(case, set()).add(value)
        of_value.setdefault(value, set()).add(case)
    most = MOST_VALUES if says_activity(name) or not are_numbers(texts) else MOST_CODES
    if not 2 <= len(of_value) <= min(most, len(of_case) - 1):
        return False
    shared = sum(len(of_value[text]) > 1 for text in texts)
    return shared >= SHARED * len(texts) and median(len(found) for found in of_case.values()) >= 2


def is_counter(cells: Iterable[Value]) -> bool:
    """From one row to the next, its number grows by one."""
    numbers = [to_number(cell) for cell in cells]
    return None not in numbers and all(b == a + 1 for a, b in pairwise(numbers))  # type: ignore[operator]


def are_numbers(cells: Iterable[Value]) -> bool:
    return all(to_number(cell) is not None for cell in cells if cell)


def _spread(cells: Sequence[Value]) -> float:
    """The share of the rows from the first to the last of a case, in the median of the cases."""
    first: dict[Value, int] = {}
    last: dict[Value, int] = {}
    for row, cell in enumerate(cells):
        first.setdefault(cell, row)
        last[cell] = row
    return median(last[cell] - first[cell] + 1 for cell in first) / len(cells)


def in_order(cases: Sequence[Value], moments: Sequence[float]) -> bool:
    return steps_back(cases, moments) <= BACK * (len(cases) - len(set(cases)))


def steps_back(cases: Sequence[Value], moments: Sequence[float]) -> int:
    """How often the time goes back from one row of a case to its next."""
    now: dict[Value, float] = {}
    back = 0
    for case, moment in zip(cases, moments, strict=True):
        back += moment < now.get(case, moment)
        now[case] = moment
    return back


def time_column(columns: Mapping[str, Sequence[Value]]) -> str | None:
    """Of the columns whose times can be read, that of the usual name, else the one of most moments. Numbers are times
    only where the name says so.
    """
    able = [name for name, cells in columns.items() if may_be_time(name, cells)]
    usual = usual_column(TIME_NAMES, able)
    return able[usual] if usual is not None else max(able, key=lambda name: len(set(columns[name])), default=None)


def may_be_time(name: str, cells: Sequence[Value]) -> bool:
    """Numbers, those with decimal commas too, are times only where the name says so."""
    layouts = layouts_of(cells)
    return bool(layouts) and (says_time(name) or not (are_numbers(cells) or layouts == (EXCEL,)))


def moments_of(layout: str | None, cells: Sequence[Value]) -> list[float]:
    """In seconds; an unknown one is that before it, and so is one that cannot be read."""
    reader, moments = TimeLayout(layout), [0.0]
    for cell in cells:
        moments.append(moments[-1])
        with suppress(ValueError):
            moments[-1] = reader.parse(cell.strip())[0] / 1e6 if cell and cell != UNKNOWN else moments[-1]
    return moments[1:]


def layouts_of(cells: Iterable[Value]) -> tuple[str | None, ...]:
    """The layouts that fit nearly all timestamps of a column; plain numbers count only where they are of our time."""
    texts = [cell.strip() for cell in cells if cell and cell != UNKNOWN]
    return tuple(layout for layout in LAYOUTS if texts and _fits(layout, texts))


def _fits(layout: str | None, texts: Sequence[str]) -> bool:
    reader = TimeLayout(layout)
    moments, left = [], round(MOST_BROKEN * len(texts))
    for text in texts:
        try:
            moments.append(reader.parse(text)[0] / 1e6)
        except ValueError:
            left -= 1
            if left < 0:
                return False
    if layout == EXCEL:  # with times of day, as whole numbers may be anything
        fractions = sum(not text.isdecimal() for text in texts)
        return SERIAL_YEARS[0] < min(moments) and max(moments) < SERIAL_YEARS[1] and 2 * fractions >= len(texts)
    return min(moments) > EARLIEST and max(moments) < LATEST if layout in EPOCH_UNITS else True
