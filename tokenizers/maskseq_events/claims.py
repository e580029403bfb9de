"""What `maskseq init` is told of tables of events: which column is what, and how cells are to be read."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from maskseq.survey import BY_NAME, CERTAIN, LIKELY, POSSIBLE, Choice, Claim
from maskseq_events.case import UNKNOWN, Value
from maskseq_events.mapping import ACTIVITY_NAMES, CASE_NAMES, START_NAMES, TIME_NAMES, usual_column
from maskseq_events.roles import (
    NO_VALUES,
    Roles,
    are_numbers,
    layouts_of,
    likely_roles,
    moments_of,
    says_time,
    steps_back,
)
from maskseq_events.times import EPOCH_UNITS

ROWS = 1000
"""Rows of a table that are looked at to tell its columns apart."""
CHOICES = 4
"""Ways to read a table that are offered."""
DECIMAL_COMMA = re.compile(r"[+-]?(\d{1,3}(\.\d{3})+|\d+)(,\d+)?")
AS_LINES = Choice(
    format="textlog",
    why="each line is a message, a hundred of them are a session",
    options={"layout": "(?P<message>.*)", "session_lines": 100},
)


def claim_table(
    names: Sequence[str], rows: Sequence[Sequence[Value]], by_name: Claim | None, *, lines: bool
) -> Claim | None:
    """Whether a table holds events: by the usual names of columns, else by what the columns hold.

    Where neither says so, `by_name`, what the file's name alone says, with the doubt about it. `lines`: the file is
    text, whose lines may be read as they are.
    """
    rows = [row for row in rows[:ROWS] if len(row) == len(names)]
    if not rows:
        return by_name
    columns = {name: [row[i] for row in rows] for i, name in enumerate(names)}
    no_name = next((name for name in names if set(layouts_of([name])) & set(layouts_of(columns[name]))), None)
    if no_name is not None:
        return by_name and _doubted(
            by_name, f"the first line should name the columns, but one is called {no_name!r}; add such a line"
        )
    found, sure = likely_roles(columns)
    others = (AS_LINES,) if lines and _is_stream(columns) else ()
    case, activity, time = (usual_column(usual, names) for usual in (CASE_NAMES, ACTIVITY_NAMES, TIME_NAMES))
    if case is not None and activity is not None:
        roles = Roles(names[case], names[activity], "" if time is None else names[time])
        claim = _named(columns, roles)
        return replace(claim, instead=(*claim.instead, *_choices(columns, [r for r in found if r != roles]), *others))
    if not found:
        doubt = (
            f"no column groups its rows into cases in which activities follow each other. There are "
            f"{', '.join(map(repr, names[:40]))}: name them, --set data.format_options.case=NAME and ….activity=NAME, "
            f"or another format with --format"
        )
        return by_name and replace(_doubted(by_name, doubt), instead=others)
    first, *rest = (_claim(columns, roles) for roles in found[:CHOICES])
    if sure:
        return replace(first, strength=LIKELY, instead=(*first.instead, *others))
    doubt = first.doubt or "which column is the case and which the activity is a guess by what they hold"
    choices = tuple(Choice(why=claim.why, options=claim.options) for claim in rest)
    return replace(first, doubt=doubt, instead=(*first.instead, *choices, *others))


def _is_stream(columns: Mapping[str, Sequence[Value]]) -> bool:
    """Lines with a time and something else than numbers."""
    times = {name for name, cells in columns.items() if says_time(name) or layouts_of(cells)}
    others = [cells for name, cells in columns.items() if name not in times]
    return bool(times) and any(any(cells) and not are_numbers(cells) for cells in others)


def _doubted(claim: Claim, doubt: str) -> Claim:
    return replace(claim, strength=BY_NAME, doubt=doubt, options={})


def _choices(columns: Mapping[str, Sequence[Value]], found: Sequence[Roles]) -> list[Choice]:
    return [Choice(why=claim.why, options=claim.options) for claim in (_claim(columns, r) for r in found[:CHOICES])]


def _named(columns: Mapping[str, Sequence[Value]], roles: Roles) -> Claim:
    """By the usual names of its columns."""
    named = [roles.case, roles.activity, *filter(None, [roles.time])]
    why = f"columns {', '.join(map(repr, named))}"
    if not roles.time:
        return Claim(strength=LIKELY, why=f"{why} and none of timestamps", options={"time": ""})
    layouts = layouts_of(columns[roles.time])
    if not layouts:
        return Claim(strength=LIKELY, why=f"{why} (whose timestamps are of no layout that is known here)")
    claim = _timed(Claim(strength=CERTAIN, why=why), columns, roles)
    names = list(columns)
    start = usual_column(START_NAMES, names)
    if start is not None and names[start] not in named and layouts_of(columns[names[start]])[:1] == layouts[:1]:
        named.append(names[start])
        why, options = f"{claim.why}, each begun at {names[start]!r}", {**claim.options, "start": names[start]}
        claim = replace(claim, why=why, options=options)
    return _of_attributes(claim, [cells for name, cells in columns.items() if name not in named])


def _claim(columns: Mapping[str, Sequence[Value]], roles: Roles) -> Claim:
    """By what the columns hold."""
    claim = Claim(strength=POSSIBLE, why=f"by what they hold, {roles}", options=roles.options)
    if roles.time:
        claim = _timed(claim, columns, roles)
    named = (roles.case, roles.activity, roles.time)
    return _of_attributes(claim, [cells for name, cells in columns.items() if name not in named])


def _timed(claim: Claim, columns: Mapping[str, Sequence[Value]], roles: Roles) -> Claim:
    """With the layout of its timestamps: of several that fit, that in which they go back least within cases."""
    cells, cases = columns[roles.time], columns[roles.case]
    layouts = layouts_of(cells)
    back = {layout: steps_back(cases, moments_of(layout, cells)) for layout in layouts} if len(layouts) > 1 else {}
    layout = min(layouts, key=lambda layout: back.get(layout, 0))
    if layout is None:
        return claim
    first, *others = (
        replace(claim, why=f"{claim.why} (timestamps are {each})", options={**claim.options, "time_layout": each})
        for each in (layout, *(other for other in layouts if other != layout))
    )
    same = moments_of(layout, cells)
    alike = [other for other in layouts if other not in (layout, *EPOCH_UNITS) and back[other] == back[layout]]
    if any(moments_of(other, cells) != same for other in alike):
        doubt = f"the timestamps in {roles.time!r} fit {' and '.join(map(str, layouts))} alike"
        return replace(first, doubt=doubt, instead=tuple(Choice(why=o.why, options=o.options) for o in others))
    return first


def _of_attributes(claim: Claim, attributes: Sequence[Sequence[Value]]) -> Claim:
    """With what the cells of attributes say of how they are to be read."""
    claim = _with_absent(claim, attributes)
    values = [[cell for cell in cells if cell and cell not in (UNKNOWN, *NO_VALUES)] for cells in attributes]
    commas = [any("," in v for v in of) and all(map(DECIMAL_COMMA.fullmatch, of)) for of in values]
    points = [any("." in v for v in of) and are_numbers(of) for of in values]
    if not any(commas) or any(points):
        return claim
    return replace(claim, why=f"{claim.why}; with decimal commas", options={**claim.options, "decimal": ","})


def _with_absent(claim: Claim, attributes: Sequence[Sequence[Value]]) -> Claim:
    """Texts that stand for no value, in attributes: among numbers or truth values, or in several columns.

    A case or an activity may well be called so.
    """
    found = []
    for text in NO_VALUES:
        columns = [set(cells) - {text, *NO_VALUES, "", None, UNKNOWN} for cells in attributes if text in cells]
        plain = sum(are_numbers(cells) or {str(c).lower() for c in cells} <= {"true", "false"} for cells in columns)
        if plain or len(columns) > 1:
            found.append(text)
    if not found:
        return claim
    why = f"{claim.why}; an attribute {' or '.join(map(repr, found))} is taken for none, as an empty one is"
    return replace(claim, why=why, options={**claim.options, "absent": [*found, ""]})
