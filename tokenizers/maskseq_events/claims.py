"""What `maskseq init` is told of tables of events: which column is what, and how cells are to be read."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from maskseq.survey import BY_NAME, CERTAIN, LIKELY, POSSIBLE, Choice, Claim
from maskseq_events.case import UNKNOWN, Value
from maskseq_events.mapping import ACTIVITY_NAMES, CASE_NAMES, START_NAMES, TIME_NAMES, usual_column
from maskseq_events.notation import MESSAGES
from maskseq_events.roles import (
    ACTIVITIES,
    NO_VALUES,
    Roles,
    are_numbers,
    in_order,
    is_counter,
    is_kind_id,
    layouts_of,
    likely_roles,
    may_be_time,
    may_group_rows,
    moments_of,
    says_activity,
    says_case,
    says_source,
    says_time,
    steps_back,
    time_column,
    words,
)
from maskseq_events.times import COUNTED

ROWS = 1000
"""Rows of a table that are looked at to tell its columns apart."""
LONGER = 10
"""How many times as long all that happened may take if its dates are read in another order."""
CHOICES = 4
"""Ways to read a table that are offered."""
DECIMAL_COMMA = re.compile(r"[+-]?(\d{1,3}(\.\d{3})+|\d+)(,\d+)?")
LINES, IDLE = 100, 1800
"""Events of a session, and seconds of silence that end one, where nothing else tells sessions apart."""
TOGETHER = 0.9
"""Share of the rows that have both a date and a time of day, or neither, if these are one time."""
DATE = re.compile(r"\d{4}([./-])\d{1,2}\1\d{1,2}|\d{1,2}([./-])\d{1,2}\2\d{2,4}|\d{1,2}[ -][A-Z][a-z]+[ -]\d{2,4}")
TIME_OF_DAY = re.compile(r"\d{1,2}:\d\d(:\d\d([.,]\d+)?)?( ?[AaPp][Mm])?")


def claim_table(names: Sequence[str], rows: Sequence[Sequence[Value]], by_name: Claim | None) -> Claim | None:
    """Whether a table holds events: by the usual names of columns, else by what the columns hold.

    Where neither says so, `by_name`, what the file's name alone says, with the doubt about it. A date and a time of day
    in two columns are one time.
    """
    rows = rows[:ROWS]
    if rows and all(len(row) == len(names) + 1 and row[-1] in (None, "") for row in rows):  # they end with a delimiter
        rows = [row[:-1] for row in rows]
    rows = [row for row in rows if len(row) == len(names)]
    if not rows:
        return by_name
    columns = {name: [row[i] for row in rows] for i, name in enumerate(names)}
    merged = _merged_case(columns)
    if merged is not None:
        whole = [
            name
            for name, cells in columns.items()
            if name != merged and [not cell for cell in cells] == _blank(columns[merged])
        ]
        columns[merged] = _from_above(columns[merged])
        claim = _claim_pair(columns, by_name)
        return claim and _with_above(claim, merged, whole)
    return _claim_pair(columns, by_name)


def _claim_pair(columns: dict[str, list[Value]], by_name: Claim | None) -> Claim | None:
    pair = _date_and_time(columns)
    if pair is None:
        return _claim_columns(columns, by_name, None)
    both = " ".join(pair)
    joined = [f"{a} {b}" if a and b else None for a, b in zip(columns.pop(pair[0]), columns.pop(pair[1]), strict=True)]
    claim = _claim_columns({both: joined, **columns}, by_name, both)
    return claim and _with_pair(claim, both, pair)


def with_options(claim: Claim, **options: Any) -> Claim:
    """A claim whose every reading has these options, too, if it has any."""
    instead = tuple(
        replace(choice, options={**choice.options, **options}) if choice.format is None else choice
        for choice in claim.instead
    )
    own = {} if claim.doubt and not claim.options else {**claim.options, **options}
    return replace(claim, options=own, instead=instead) if options else claim


def _claim_columns(columns: dict[str, list[Value]], by_name: Claim | None, both: str | None) -> Claim | None:
    """`both`: the one that two columns say together, which is the time."""
    names = list(columns)
    no_name = next((name for name in names if set(layouts_of([name])) & set(layouts_of(columns[name]))), None)
    if no_name is not None:
        return by_name and _doubted(
            by_name,
            f"the first line should name the columns, but one is called {no_name!r}; add such a line, or say "
            """--set 'data.format_options.names=["case", "activity", "time"]' (one for each column)""",
        )
    found, sure = likely_roles(columns)
    of_kinds = bool(found) and is_kind_id(found[0].case, columns[found[0].case])
    others = _streams(columns, found[0].activity if found and not of_kinds else None) if _is_stream(columns) else ()
    case, activity, time = (usual_column(usual, names) for usual in (CASE_NAMES, ACTIVITY_NAMES, TIME_NAMES))
    if case is not None and activity is not None:
        roles = Roles(names[case], names[activity], both or ("" if time is None else names[time]))
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
    numbered = says_source(found[0].case) and any(is_counter(cells) for cells in columns.values())
    if others and not sure and (numbered or of_kinds):
        why = f"{found[0].case!r} recurs throughout" if of_kinds else "its rows are numbered through"
        doubt = f"{why}, so that it may be one stream, or {found[0].case!r} the case"
        choices = tuple(Choice(why=claim.why, options=claim.options) for claim in (first, *rest))
        return replace(
            first, why=others[0].why, options=others[0].options, doubt=doubt, instead=(*others[1:], *choices)
        )
    if sure:
        return replace(first, strength=LIKELY, instead=(*first.instead, *others))
    doubt = first.doubt or "which column is the case and which the activity is a guess by what they hold"
    choices = tuple(Choice(why=claim.why, options=claim.options) for claim in rest)
    strength = first.strength if found[0].time else BY_NAME  # without a time, any table looks like that
    return replace(first, strength=strength, doubt=doubt, instead=(*first.instead, *choices, *others))


def _merged_case(columns: Mapping[str, Sequence[Value]]) -> str | None:
    """A column that says each case once, in the first of its rows, and is empty in the others."""
    time = time_column(columns)
    moments = [] if time is None else [moments_of(each, columns[time]) for each in layouts_of(columns[time])]

    def is_merged(name: str) -> bool:
        said = [cell for cell in columns[name] if cell and cell.strip()]
        if len(said) in (0, len(columns[name])) or not (columns[name][0] or "").strip() or len(set(said)) < len(said):
            return False
        cases = _from_above(columns[name])
        return may_group_rows(name, cases) and (not moments or any(in_order(cases, each) for each in moments))

    found = sorted(filter(is_merged, columns), key=lambda name: not says_case(name))
    return found[0] if found and (says_case(found[0]) or found[0] == next(iter(columns))) else None


def _blank(cells: Sequence[Value]) -> list[bool]:
    return [not (cell or "").strip() for cell in cells]


def _from_above(cells: Sequence[Value]) -> list[Value]:
    """With what the last cell says that is not empty, in those that are."""
    found: list[Value] = []
    for cell, blank in zip(cells, _blank(cells), strict=True):
        found.append(found[-1] if blank and found else cell)
    return found


def _with_above(claim: Claim, case: str, whole: Sequence[str]) -> Claim:
    """With the options by which empty cells of the case are read; `whole` are columns that are empty with it."""

    def completed(options: Mapping[str, Any]) -> dict[str, Any]:
        if options.get("case", case) != case:
            return dict(options)
        taken = {options.get("activity"), options.get("time"), options.get("start")}
        of_case = [name for name in whole if name not in taken]
        return {**options, "case_above": True, **({"case_attributes": of_case} if of_case else {})}

    said = f"an empty cell of {case!r} is taken for what the row above says"
    instead = tuple(replace(choice, options=completed(choice.options)) for choice in claim.instead)
    own = {} if claim.doubt and not claim.options else completed(claim.options)
    return replace(claim, why=f"{claim.why}; {said}", options=own, instead=instead)


def _is_stream(columns: Mapping[str, Sequence[Value]]) -> bool:
    """Lines with a time and something else than numbers."""
    times = {name for name, cells in columns.items() if says_time(name) or may_be_time(name, cells)}
    others = [cells for name, cells in columns.items() if name not in times]
    return bool(times) and any(any(cells) and not are_numbers(cells) for cells in others)


def _streams(columns: Mapping[str, Sequence[Value]], activity: str | None) -> tuple[Choice, ...]:
    """One stream of events as sessions: by number, and by silence where there is a time."""
    time = time_column(columns) or ""
    able = [name for name, cells in columns.items() if name != time and any(cells) and not is_counter(cells)]
    able = [name for name in able if len(set(columns[name])) > 1] or able  # what is always the same says nothing
    texts = [name for name in able if not are_numbers(columns[name])] or able
    if not texts:
        return ()
    kinds = [name for name in able if is_kind_id(name, columns[name])]
    preferred = [name for name in texts if says_activity(name) or "".join(words(name)) in MESSAGES]
    plain = [name for name in preferred if any(word.startswith(ACTIVITIES) for word in words(name))]
    activity = activity or (plain or kinds or preferred or sorted(texts, key=lambda name: -len(set(columns[name]))))[0]
    claim = Claim(strength=POSSIBLE, why=f"{activity!r} is taken for the activity of one stream")
    options: dict[str, Any] = {"case": "", "activity": activity, "time": time}
    choices = []
    layouts = _shortest(columns[time]) if time else ()
    for layout in layouts or (None,):
        timed = options if layout is None else {**options, "time_layout": layout}
        why = claim.why + (f", timestamps are {layout}" if len(layouts) > 1 else "")
        choices.append(Choice(why=f"{why}, {LINES} events a session", options={**timed, "session_lines": LINES}))
        if layouts:
            why = f"{why}, a session ends with half an hour of silence"
            choices.append(Choice(why=why, options={**timed, "idle": IDLE}))
    return tuple(choices)


def _shortest(cells: Sequence[Value]) -> tuple[str | None, ...]:
    """The layouts that fit timestamps, without those by which all that happened would take far longer: day and month
    are not meant so. Of those that say the same, the first.
    """
    found: dict[tuple[float, ...], str | None] = {}
    for layout in layouts_of(cells):
        found.setdefault(tuple(moments_of(layout, cells)), layout)
    spans = [max(times) - min(filter(None, times), default=0) for times in found]
    least = min((span for span in spans if span), default=0)
    near = [layout for span, layout in zip(spans, found.values(), strict=True) if span <= LONGER * least]
    return tuple(near or found.values())


def _date_and_time(columns: Mapping[str, Sequence[Value]]) -> tuple[str, str] | None:
    """The one column of dates and the one of times of day, if there are such, by their names and by what they hold."""
    known = {name: [cell for cell in cells if cell and cell != UNKNOWN] for name, cells in columns.items()}
    dates, clocks = (
        [name for name, cells in known.items() if says_time(name) and cells and all(map(pattern.fullmatch, cells))]
        for pattern in (DATE, TIME_OF_DAY)
    )
    if len(dates) != 1 or len(clocks) != 1:
        return None
    pairs = list(zip(columns[dates[0]], columns[clocks[0]], strict=True))
    if sum(bool(a) == bool(b) for a, b in pairs) < TOGETHER * len(pairs):
        return None
    return (dates[0], clocks[0]) if layouts_of([f"{a} {b}" for a, b in pairs if a and b]) else None


def _with_pair(claim: Claim, both: str, pair: tuple[str, str]) -> Claim:
    """With the two columns in place of the one that they were taken for."""

    def parted(options: Mapping[str, Any]) -> dict[str, Any]:
        return {**options, "time": list(pair)} if options.get("time", both) == both else dict(options)

    instead = tuple(replace(choice, options=parted(choice.options)) for choice in claim.instead)
    own = {} if claim.doubt and not claim.options else parted(claim.options)
    return replace(claim, options=own, instead=instead)


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
    alike = [other for other in layouts if other not in (layout, *COUNTED) and back[other] == back[layout]]
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
