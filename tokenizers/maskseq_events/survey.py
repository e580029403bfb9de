"""What `maskseq init` is told of event logs: which column is what, which attributes are worth a field."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from maskseq.survey import CERTAIN, LIKELY, POSSIBLE, Claim, Suggestion
from maskseq_events.case import UNKNOWN, Case, Value
from maskseq_events.columns import to_number
from maskseq_events.mapping import ACTIVITY_NAMES, CASE_NAMES, START_NAMES, TIME_NAMES, usual_column
from maskseq_events.times import TimeLayout

ROWS = 1000
"""Rows of a table that are looked at to tell its columns apart."""
LAYOUTS = (
    *(None, "epoch_s", "epoch_ms", "epoch_us"),
    *("%d.%m.%Y %H:%M:%S", "%d.%m.%Y %H:%M", "%d/%m/%Y %H:%M:%S", "%d/%m/%Y %H:%M", "%m/%d/%Y %H:%M:%S"),
    *("%m/%d/%Y %H:%M", "%d-%m-%Y %H:%M:%S", "%d-%m-%Y %H:%M", "%d/%b/%Y:%H:%M:%S %z"),
)
"""How timestamps are tried to be read, None for ISO 8601."""
CASE_WORDS = re.compile(
    "case|fall|caso|dossier|auftrag|trace|session|user|client|customer|patient|subject|order|ticket|_id$|^id$",
    re.IGNORECASE,
)
ACTIVITY_WORDS = re.compile(
    "activ|aktiv|vorgang|schritt|event|action|task|step|status|state|type|name|code|page", re.IGNORECASE
)
IDENTIFIER = re.compile(r"(?:^|[^a-z])(?:[pu]?id|index|number|nr|no)$", re.IGNORECASE)
DECIMAL_COMMA = re.compile(r"[+-]?(\d{1,3}(\.\d{3})+|\d+)(,\d+)?")
MOST_ATTRIBUTES, MOST_VALUES = 6, 200
NO_VALUES = ("NA", "N/A", "NaN", "nan", "NULL", "Null", "null", "None", "none", "<NA>", "#N/A")
"""How programs write that there is no value."""
MOST_CODES = 20
"""Different whole numbers that may be codes, where the file says that they are numbers."""
FEWEST_KNOWN = 0.05
"""Share of the events that must have an attribute for it to become a field."""


def claim_table(names: Sequence[str], rows: Sequence[Sequence[Value]]) -> Claim | None:
    """Whether a table holds events: by the usual names of columns, else by what the columns hold."""
    rows = [row for row in rows[:ROWS] if len(row) == len(names)]
    if not rows:
        return None
    columns = {name: [row[i] for row in rows] for i, name in enumerate(names)}
    case, activity, time = (usual_column(usual, names) for usual in (CASE_NAMES, ACTIVITY_NAMES, TIME_NAMES))
    if case is not None and activity is not None:
        layouts = () if time is None else layouts_of(columns[names[time]])
        roles = [names[case], names[activity]] + ([] if time is None else [names[time]])
        why = f"columns {', '.join(map(repr, roles))}"
        if time is None:
            return Claim(strength=LIKELY, why=why + " and none of timestamps", options={"time": ""})
        if not layouts:
            return Claim(strength=LIKELY, why=f"{why} (whose timestamps are of no layout that is known here)")
        why, options = why + _reading(layouts), _layout_option(layouts)
        start = usual_column(START_NAMES, names)
        if start is not None and names[start] not in roles and layouts_of(columns[names[start]])[:1] == layouts[:1]:
            why, options = f"{why}, each begun at {names[start]!r}", {**options, "start": names[start]}
            roles.append(names[start])
        claim = Claim(strength=CERTAIN, why=why, options=options)
        return _of_attributes(claim, [cells for name, cells in columns.items() if name not in roles])
    return _guess(columns)


def _of_attributes(claim: Claim, attributes: Sequence[Sequence[Value]]) -> Claim:
    """With what the cells of attributes say of how they are to be read."""
    claim = _with_absent(claim, attributes)
    values = [[cell for cell in cells if cell and cell not in (UNKNOWN, *NO_VALUES)] for cells in attributes]
    commas = [any("," in v for v in of) and all(map(DECIMAL_COMMA.fullmatch, of)) for of in values]
    points = [any("." in v for v in of) and _are_numbers(of) for of in values]
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
        plain = sum(_are_numbers(cells) or {str(c).lower() for c in cells} <= {"true", "false"} for cells in columns)
        if plain or len(columns) > 1:
            found.append(text)
    if not found:
        return claim
    why = f"{claim.why}; an attribute {' or '.join(map(repr, found))} is taken for none, as an empty one is"
    return replace(claim, why=why, options={**claim.options, "absent": [*found, ""]})


def layouts_of(cells: Iterable[Value]) -> tuple[str | None, ...]:
    """The layouts that fit all timestamps of a column; plain numbers count only where they are of our time."""
    texts = [cell.strip() for cell in cells if cell and cell != UNKNOWN]
    return tuple(layout for layout in LAYOUTS if texts and _fits(layout, texts))


def _fits(layout: str | None, texts: Sequence[str]) -> bool:
    reader = TimeLayout(layout)
    try:
        moments = [reader.parse(text)[0] / 1e6 for text in texts]
    except ValueError:
        return False
    return min(moments) > 0 and max(moments) < 4e9 if str(layout).startswith("epoch") else True


def _layout_option(layouts: Sequence[str | None]) -> dict[str, Any]:
    return {} if layouts[0] is None else {"time_layout": layouts[0]}


def _reading(layouts: Sequence[str | None]) -> str:
    if layouts[0] is None:
        return ""
    other = f", which could be {layouts[1]} as well" if len(layouts) > 1 else ""
    return f" (timestamps are {layouts[0]}{other})"


def _guess(columns: dict[str, list[Value]]) -> Claim | None:
    """By content: times can be read, a case has several events, an activity is one of few names."""
    read = {name: layouts_of(cells) for name, cells in columns.items() if not _are_numbers(cells)}
    times = [name for name, layouts in read.items() if layouts]
    if not times:
        return None
    time = times[0]
    n_values = {name: len(set(cells)) for name, cells in columns.items() if name not in times}
    n_rows = len(columns[time])
    cases = [name for name, n in n_values.items() if 1 < n < 0.8 * n_rows]
    case = max(cases, key=lambda name: (bool(CASE_WORDS.search(name)), n_values[name]), default=None)
    names = [n for n in cases if n != case and not _are_numbers(columns[n])]
    if case is None or not names:
        return None
    # What happened changes within a case, more than who did it; few names, if there are any, and not texts.
    changing = {n: len(set(zip(columns[case], columns[n], strict=True))) for n in names}
    activity = min(names, key=lambda n: (not ACTIVITY_WORDS.search(n), n_values[n] > MOST_VALUES, -changing[n]))
    why = f"by what they hold, {case!r} is taken for the case, {activity!r} for the activity, {time!r} for the time"
    options = {"case": case, "activity": activity, "time": time} | _layout_option(read[time])
    claim = Claim(strength=POSSIBLE, why=why + _reading(read[time]), options=options)
    return _of_attributes(claim, [cells for name, cells in columns.items() if name not in (case, activity, time)])


def _are_numbers(cells: Iterable[Value]) -> bool:
    return all(to_number(cell) is not None for cell in cells if cell)


@dataclass
class _Attribute:
    """What one attribute holds."""

    counts: Counter[Value] = field(default_factory=Counter)
    with_activity: dict[Value, set[str]] = field(default_factory=dict)
    """At which activities each value stands; of a case attribute, nothing."""
    n: int = 0
    counts_up: bool = True
    """From one event to the next, its number grows by one."""

    def add(self, values: Sequence[Value], activities: Sequence[str]) -> None:
        self.counts.update(values)
        self.n += len(values)
        if self.counts_up:
            numbers = [to_number(value) for value in values]
            self.counts_up = None not in numbers and bool((np.diff(np.array(numbers, dtype=np.float64)) == 1).all())
        for value, activity in zip(values, activities, strict=False):
            if value is not None and len(self.with_activity) <= MOST_VALUES:
                self.with_activity.setdefault(value, set()).add(activity)

    @property
    def tells_activity(self) -> bool:
        """Each value stands at one activity only."""
        return bool(self.with_activity) and all(len(of) == 1 for of in self.with_activity.values())

    @property
    def values(self) -> dict[str, int]:
        return {value: n for value, n in self.counts.items() if value is not None and value != UNKNOWN}

    @property
    def information(self) -> float:
        """Bits that it says of an event, on average over all of them."""
        shares = np.array(list(self.values.values())) / max(self.n, 1)
        return float(-(shares * np.log2(shares)).sum())

    def kind(self, name: str, *, declared: bool) -> str:
        """`categorical`, `numeric` (with fewer values, where the file declares it a number), or why it is no field."""
        values, known = self.values, sum(self.values.values())
        if len(values) < 2:
            return "always the same" if values else "always empty"
        if self.counts_up and not name.startswith("case:"):
            return "the number of the event"
        if known < FEWEST_KNOWN * self.n:
            return f"missing in {1 - known / self.n:.0%}"
        numbers = [to_number(value) for value in values]
        whole = all(number is not None and number == round(number) for number in numbers)
        most = MOST_CODES if declared else MOST_VALUES
        if None not in numbers and (not whole or len(values) > most) and not IDENTIFIER.search(name):
            return "numeric"
        if len(values) > min(MOST_VALUES, known / 4):
            return f"{len(values):,} different values, as identifiers and free text have"
        return "categorical"


def suggest_events(records: Sequence[Any]) -> Suggestion | None:
    """For cases of any format."""
    if not records or not all(isinstance(record, Case) for record in records):
        return None
    activities = Counter(activity for case in records for activity in case.activity)
    n_events = activities.total()
    attributes = _attributes(records)
    declared = {name for case in records for name, kind in case.kinds.items() if kind == "numeric"}
    kinds = {name: attribute.kind(name, declared=name in declared) for name, attribute in attributes.items()}
    _drop_copies(kinds, attributes)
    chosen = [name for name, kind in kinds.items() if kind in ("categorical", "numeric")]
    chosen = sorted(chosen, key=lambda name: -attributes[name].information)[:MOST_ATTRIBUTES]
    messages = sum(" " in activity.strip() for activity in activities) > len(activities) / 2 and (
        len(activities) > n_events / 10
    )
    found: dict[str, object] = {"activities": _activities(activities, messages)}
    for name, kind in kinds.items():
        left = "" if name in chosen or kind not in ("categorical", "numeric") else ", but six are enough to begin with"
        found[f"attribute {name}"] = f"{_told(kind, attributes[name])}{left}"
    times = _times(records)
    options: dict[str, Any] = {}
    if messages:
        options["templates"] = True
    if chosen:
        options["attributes"] = chosen
        for kind in ("categorical", "numeric"):
            if of_kind := [name for name in chosen if kinds[name] == kind]:
                options[kind] = of_kind
    by_time = bool(times) and len(records) >= 50
    split = {"by": "time", "validation": 0.2} if by_time else {"by": "record"} if len(records) >= 20 else {}
    longest = int(np.quantile([len(case) for case in records], 0.99)) + 1
    return Suggestion(
        found=found | times,
        context=min(max(32, 1 << (longest - 1).bit_length()), 512),
        recipe={
            "tokenizer": options,
            "data": {"split": split},
            "masking": {
                "ratio": [0.1, 0.5],
                "mode": ["cell", "position"] if chosen or times else "cell",
                "tokens": {"weight": 0.5},
                "spans": {"weight": 0.5, "mean_length": 3},
            },
        },
        comments={
            "tokenizer.attributes": "fields beside the activity; the time has its own",
            "tokenizer.templates": "activities are messages: their templates are learned",
            "data.split.by": "later cases are held out" if by_time else "whole cases are held out",
            "masking.ratio": "drawn for each case",
            "masking.mode": "single values, or whole events",
        },
    )


def _attributes(records: Sequence[Case]) -> dict[str, _Attribute]:
    """Those of the events, then those of the cases."""
    found: dict[str, _Attribute] = {}
    for case in records:
        for name, values in case.attributes.items():
            found.setdefault(name, _Attribute()).add(values, case.activity)
    n_events = sum(len(case) for case in records)
    for case in records:
        for name, value in case.case_attributes.items():
            found.setdefault(f"case:{name}", _Attribute()).add([value], ())
    for name, attribute in found.items():  # a case or an event without it does not name it at all
        attribute.n = len(records) if name.startswith("case:") else n_events
    return found


def _drop_copies(kinds: dict[str, str], attributes: dict[str, _Attribute]) -> None:
    """Attributes that say what another field says already, or what the whole case will be, are no fields."""
    seen: dict[tuple[int, ...], str] = {}
    for name in kinds:
        if kinds[name] not in ("categorical", "numeric"):
            continue
        attribute = attributes[name]
        shape = (*sorted(attribute.values.values()), attribute.n)
        if re.match(r"(case:)?variant", name, re.IGNORECASE):
            kinds[name] = "left out: a name for the whole case, which tells what is hidden in it"
        elif shape in seen:
            kinds[name] = f"left out: as {seen[shape]!r}, value for value"
        elif kinds[name] == "categorical" and attribute.tells_activity:
            kinds[name] = "left out: each value belongs to one activity, which it would tell"
        else:
            seen[shape] = name


def _told(kind: str, attribute: _Attribute) -> str:
    if kind == "categorical":
        told = f"categorical, {len(attribute.values):,} values"
    elif kind == "numeric":
        numbers = [number for value in attribute.values if (number := to_number(value)) is not None]
        told = f"numeric, {min(numbers):g} to {max(numbers):g}"
    else:
        return kind
    unknown = attribute.counts[UNKNOWN]
    empty = attribute.n - sum(attribute.values.values()) - unknown
    for n, what in ((empty, "empty"), (unknown, "unknown")):
        told += f", {n / attribute.n:.1%} {what}" if n else ""
    return told


def _activities(activities: Counter[str], messages: bool) -> str:
    common = ", ".join(repr(name[:30]) for name, _ in activities.most_common(3))
    once = sum(n == 1 for n in activities.values())
    told = f"{len(activities):,} different, most often {common}"
    if messages:
        return f"{told}; they look like messages, whose templates are learned"
    return told + (f"; {once:,} occur once and become [OTHER]" if once else "")


def _times(records: Sequence[Case]) -> dict[str, object]:
    """Ties, missing timestamps, and steps back."""
    pairs = equal = back = missing = 0
    for case in records:
        timed = case.timed
        missing += int((~timed).sum())
        steps = np.diff(case.time[timed])
        pairs, equal, back = pairs + len(steps), equal + int((steps == 0).sum()), back + int((steps < 0).sum())
    if missing == sum(len(case) for case in records):
        return {}
    found: dict[str, object] = {"events at the same time as the one before": f"{equal:,} ({equal / max(pairs, 1):.1%})"}
    if back:
        found["events before the one before"] = f"{back:,}"
    if missing:
        found["events without a timestamp"] = f"{missing:,}"
    return found
