"""Long tables: a row says when, of what, and how much; a column tells the recordings apart."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from maskseq.errors import DataError
from maskseq_signals.timeline import Timeline

TIME_NAMES = {"date", "time", "timestamp", "datetime", "year", "month", "day", "index", "step", "t", ""}
OWNER_NAMES = {"id", "uid", "unique_id", "item", "series", "sensor", "station", "device", "patient", "subject", "meter"}
METRIC_NAMES = {
    *("metric", "measure", "measurement", "variable", "parameter", "param", "signal", "channel", "quantity", "field"),
    *("attribute", "observation", "analyte", "tag", "kind", "type", "name", "characteristic", "property", "indicator"),
}
"""What columns are called that say what a value measures; `_name`, `name_id` and `name_type` count as well."""
FEWEST_MEASURED = 0.5
"""Share of the values of all channels at all times that a table of a row a measurement must have."""
TIME_PARTS = {"year", "quarter", "month", "week", "day", "weekday", "hour", "minute", "second"}
ENDINGS = ("name", "id", "type", "code")
FEWEST_STEPS = 3
"""Rows of a recording, in the median, without which nothing can be called regular."""


def told_apart(
    names: Sequence[str], columns: Sequence[Sequence[str]], times: Sequence[int], *, decimal: str
) -> tuple[int, int] | None:
    """The column of times, of those that may be it, and the one that tells recordings apart; None: the table is one.

    Times repeat, but not within a recording, where they are regular. What is called like an identifier may tell
    recordings apart though no time repeats: the rows may be those of the first one.
    """
    for time in times:
        repeat = len(set(columns[time])) < len(columns[time])
        for owner in _owners(names, columns, time, decimal):
            if (repeat or _is_identifier(names[owner])) and _regular(columns[time], columns[owner], decimal):
                return time, owner
    return None


def measured_by(
    names: Sequence[str],
    columns: Sequence[Sequence[str]],
    times: Sequence[int],
    plain: Sequence[bool],
    *,
    decimal: str,
) -> tuple[int, int | None, int, int] | None:
    """Of a table of a row a measurement, the columns of times, of recordings (None: it is one), of channels and of
    values; None: it is none. All but its values are times, or names of which there are few.
    """
    for time in times:
        able = list(_owners(names, columns, time, decimal))
        values = [i for i in range(len(names)) if plain[i] and i not in (time, *able)]
        if len(values) != 1:
            continue
        metrics = [i for i in able if _is_metric(names[i])]
        pairs = [(owner, metric) for metric in metrics or able for owner in able if owner != metric]
        pairs.sort(key=lambda pair: (not _is_identifier(names[pair[0]]), _is_identifier(names[pair[1]])))
        for owner, metric in [*((None, metric) for metric in metrics), *pairs]:
            if _are_measured(columns, time, owner, metric, decimal):
                return time, owner, metric, values[0]
    return None


def _are_measured(columns: Sequence[Sequence[str]], time: int, owner: int | None, metric: int, decimal: str) -> bool:
    """Whether each channel of each recording is regular, and most channels are measured at most times."""
    n = len(columns[time])
    owners = [""] * n if owner is None else columns[owner]
    both = [f"{a}\t{b}" for a, b in zip(owners, columns[metric], strict=True)]
    steps, names = len(set(zip(owners, columns[time], strict=True))), len(set(columns[metric]))
    full = names > 1 and steps < n and n >= FEWEST_MEASURED * steps * names
    return full and _regular(columns[time], both, decimal)


def _is_metric(name: str) -> bool:
    plain = name.lower().strip("_ ")
    return any(part in METRIC_NAMES for part in (plain, *(plain.removesuffix(end).strip("_ ") for end in ENDINGS)))


def is_clock(cells: Sequence[str], decimal: str) -> bool:
    """Whether a column of numbers rises from row to row, by equal steps but for gaps: nothing that is measured does."""
    try:
        times = [float(cell.replace(decimal, ".")) for cell in cells]
    except ValueError:
        return False
    return all(a < b for a, b in pairwise(times)) and _regular(cells, [""] * len(cells), decimal)


def _owners(names: Sequence[str], columns: Sequence[Sequence[str]], time: int, decimal: str) -> Iterator[int]:
    """Columns of few different texts or whole numbers; identifiers and texts first."""
    few = [
        index
        for index, column in enumerate(columns)
        if index != time
        and names[index].lower() not in TIME_PARTS
        and FEWEST_STEPS * len(set(column)) <= len(column)
        and all(_is_name(cell, decimal) for cell in set(column))
    ]
    yield from sorted(few, key=lambda i: (not _is_identifier(names[i]), all(map(str.isdecimal, columns[i]))))


def _is_name(cell: str, decimal: str) -> bool:
    """A text, or a whole number that is not negative."""
    try:
        float(cell.replace(decimal, "."))
    except ValueError:
        return bool(cell)
    return cell.isdecimal()


def _is_identifier(name: str) -> bool:
    return name.lower() in OWNER_NAMES or name.lower().removesuffix("_id").removesuffix("id").strip("_ ") in OWNER_NAMES


def _regular(times: Sequence[str], owners: Sequence[str], decimal: str) -> bool:
    """Whether the rows of each recording are at times that are dates or numbers, and those of steps."""
    rows: dict[str, list[str]] = {}
    for time, owner in zip(times, owners, strict=True):
        rows.setdefault(owner, []).append(time)
    timeline = Timeline(Path(), str, decimal=decimal)
    try:
        for own in rows.values():
            list(timeline.in_order(own, np.arange(len(own))))
    except DataError:
        return False
    return not timeline.unread and float(np.median([len(own) for own in rows.values()])) >= FEWEST_STEPS
