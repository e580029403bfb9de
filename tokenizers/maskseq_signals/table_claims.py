"""What `maskseq init` is told of tables of numbers: which column is what, and how cells are to be read."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from maskseq.formats import distinct
from maskseq.survey import LIKELY, POSSIBLE, Choice, Claim, Head
from maskseq_signals.cells import cells_of, delimiter_of, is_comment, table_begin
from maskseq_signals.date_columns import joined_moment, moment_columns
from maskseq_signals.long_table import TIME_NAMES, is_clock, measured_by, told_apart
from maskseq_signals.missing_codes import missing_codes
from maskseq_signals.times import is_date
from maskseq_signals.wide_rows import steps_within

if TYPE_CHECKING:
    from maskseq_signals.delimited import SignalCsv

DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")


def claim_signals(cls: "type[SignalCsv]", head: Head) -> Claim | None:
    """Whether all columns but those of times and names hold numbers, and the options to read them so."""
    begin = table_begin(head.lines) or 0
    header, *others = head.lines[begin : begin + 1000]
    delimiter = delimiter_of(header)
    n = len(cells_of(header, delimiter))
    numbered = all(cls().number(cell) is not None for cell in cells_of(header, delimiter))
    kept = (line for line in others if (numbered or line != header) and not is_comment(line, delimiter, n))
    first, *rows = ([cell.strip() for cell in cells_of(line, delimiter)] for line in (header, *kept))
    if len(rows) < 2:
        return None
    if all(len(row) == len(first) + 1 and not row[-1] for row in rows):  # they end with a delimiter
        rows = [row[:-1] for row in rows]
    if any(len(row) != len(first) for row in rows):
        return None
    commas = delimiter != "," and any(DECIMAL_COMMA.fullmatch(cell) for row in rows for cell in row)
    reader = cls(decimal="," if commas else ".").grouping(cell for row in rows for cell in row)
    headless = all(reader.number(cell) is not None for cell in first)
    names = tuple(f"channel_{i}" for i in range(1, len(first) + 1)) if headless else distinct(first)
    if not headless and reader.are_units(first, rows):
        rows = rows[1:]
    columns = [list(column) for column in zip(*rows, strict=True)]
    usual = time = next(iter(reader.time_columns(names, rows[0], head.path)), None)
    together = moment_columns(names, columns)
    if together:
        names = (*names, " ".join(names[i] for i in together))
        said = [names[i] for i in together]
        columns.append([joined_moment(said, cells) for cells in zip(*(columns[i] for i in together), strict=True)])
        time = len(names) - 1
    dates = (
        [time]
        if together and time is not None
        else [i for i, name in enumerate(names) if name.lower() in TIME_NAMES or all(map(is_date, columns[i]))]
    )
    known = [any(reader.number(cell) is not None for cell in column) for column in columns]
    plain = [known[i] and not any(map(reader.is_text, column)) for i, column in enumerate(columns)]
    if time is None and len(names) > 1 and all(plain) and is_clock(columns[0], reader.decimal):
        time, dates = 0, [0, *dates]
    plain = [
        ok and not (i != time and names[i].lower() in {"time", "timestamp"} and is_clock(columns[i], reader.decimal))
        for i, ok in enumerate(plain)
    ]
    apart = told_apart(names, columns, dates, decimal=reader.decimal)
    measured = measured_by(names, columns, dates, plain, decimal=reader.decimal)
    metric = None
    if measured is not None:
        time, owner, metric, value = measured
        plain = [i == value for i in range(len(names))]
    else:
        time, owner = apart or (time, None)
    roles = (time, owner, metric, *together)
    numeric = [name for i, name in enumerate(names) if i not in roles and plain[i]]
    dated = time in dates
    others = [repr(name) for i, name in enumerate(names) if i not in roles and not plain[i]]
    if not numeric or (others and not dated):
        return None
    if together and others and owner is None and metric is None:
        return None  # a date, a time of day and words: lines of a log
    options: dict[str, Any] = {"decimal": ","} if commas else {}
    options |= {"thousands": reader.thousands} if reader.thousands else {}
    options |= {} if owner is None else {"recording": names[owner]}
    options |= {} if metric is None else {"metric": names[metric]}
    when = [names[i] for i in together] if together else names[time or 0]
    options |= {} if time == usual or time is None else {"time": when}
    plain_cells = [[*map(reader.plain, columns[names.index(name)])] for name in numeric]
    codes = [code.replace(".", reader.decimal) for code in missing_codes(plain_cells)]
    options |= {"unknown": [*reader.unknown, *codes]} if codes else {}
    wide = steps_within(numeric, columns[time]) if dated and time is not None and metric is None else []
    apart_of = {"columns": "steps"} | ({"channels": wide} if wide != numeric or others else {})
    as_channels = options | ({"channels": numeric} if others else {})
    why = "; ".join(
        [
            _content(names, len(numeric), time, owner, others) + (" (with decimal commas)" if commas else ""),
            *([f"{names[owner]!r} tells recordings apart"] if owner is not None else []),
            *([f"a row a measurement: {names[metric]!r} tells channels apart"] if metric is not None else []),
            *([f"{' and '.join(map(repr, when))} are one time"] if together else []),
            *([f"{', '.join(map(repr, codes))} stands for no value"] if codes else []),
            *([f"{', '.join(others[:5])}{', …' if len(others) > 5 else ''} left out"] if others else []),
        ]
    )
    strength = LIKELY if dated and not others else POSSIBLE
    channels = Choice(why=why, options=as_channels)
    if not wide:
        return Claim(strength=strength, why=why, options=as_channels).encoded(head)
    why += f"; {wide[0]!r} to {wide[-1]!r} are steps of one series"
    return Claim(strength=strength, why=why, options=options | apart_of, instead=(channels,)).encoded(head)


def _content(names: Sequence[str], n: int, time: int | None, owner: int | None, others: Sequence[str]) -> str:
    """Which columns hold what, for the user to read."""
    if others:
        return f"numbers in {n} of {len(names)} columns" + (
            f", and times in {names[time]!r}" if time is not None else ""
        )
    if time is None:
        return "numbers in all columns"
    but = f"{names[time]!r} and {names[owner]!r}" if owner is not None else f"the first, {names[time]!r}"
    return f"numbers in all columns but {but}"
