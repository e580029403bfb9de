"""What `maskseq init` is told of cases: their activities and times, and which attributes are worth a field."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from maskseq.survey import Suggestion
from maskseq_events.case import UNKNOWN, Case, Value
from maskseq_events.columns import to_number
from maskseq_events.roles import MOST_CODES, MOST_VALUES, is_identifier

RESERVED, MOST_COUNTS = 4, 2_000_000
"""Ids that a field has besides its values, and how many counts a prior of neighbouring events may hold."""
MOST_ATTRIBUTES = 6
FEWEST_COUNTED = 10
"""Events from which on numbers that follow each other are those of rows, and no chance."""
FEWEST_KNOWN = 0.05
"""Share of the events that must have an attribute for it to become a field."""


@dataclass
class _Attribute:
    """What one attribute holds."""

    counts: Counter[Value] = field(default_factory=Counter)
    with_activity: dict[Value, set[str]] = field(default_factory=dict)
    """At which activities each value stands; of a case attribute, nothing."""
    n: int = 0
    counts_up: bool = True
    """From one event to the next, its number grows by one."""
    rises: bool = True
    """It is a whole number, which grows from one event to the next."""
    rows: list[tuple[int, float]] = field(default_factory=list)
    """Time and number of each event, as long as it rises."""

    def add(self, values: Sequence[Value], case: Case | None) -> None:
        self.counts.update(values)
        self.n += len(values)
        if case is None:  # an attribute of the whole case
            self.rises = False
        if self.rises or self.counts_up:
            numbers = np.array([to_number(value) for value in values], dtype=np.float64)
            steps = np.diff(numbers)
            self.counts_up &= not np.isnan(numbers).any() and bool((steps == 1).all())
            self.rises &= bool((numbers == numbers.round()).all() and (steps > 0).all())
            if case is not None and self.rises:
                self.rows.extend(zip(case.time.tolist(), numbers.tolist(), strict=True))
        activities = () if case is None else case.activity
        for value, activity in zip(values, activities, strict=False):
            if value is not None and len(self.with_activity) <= MOST_VALUES:
                self.with_activity.setdefault(value, set()).add(activity)

    @property
    def tells_activity(self) -> bool:
        """Each value stands at one activity only."""
        return bool(self.with_activity) and all(len(of) == 1 for of in self.with_activity.values())

    @property
    def counts_rows(self) -> bool:
        """Its numbers are all different, and follow each other without gaps or grow with the time of the whole log."""
        numbers = [number for _, number in sorted(self.rows)]
        if not self.rises or len(self.values) < max(self.n, FEWEST_COUNTED):
            return False
        return max(numbers) - min(numbers) == len(numbers) - 1 or numbers == sorted(numbers)

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
        if self.counts_rows:
            return "the number of the row"
        if known < FEWEST_KNOWN * self.n:
            return f"missing in {1 - known / self.n:.0%}"
        numbers = [to_number(value) for value in values]
        whole = all(number is not None and number == round(number) for number in numbers)
        most = MOST_CODES if declared else MOST_VALUES
        if None not in numbers and (not whole or len(values) > most) and not is_identifier(name):
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
    by_time = len(records) >= 50 and all(case.span() is not None for case in records)
    values = [len(activities), *(len(attributes[name].values) for name in chosen if kinds[name] == "categorical")]
    counts = sum((n + RESERVED) ** 3 for n in values)  # of each value between any two others
    prior = {"model": {"ngram_prior": {"depth": 1}}} if not messages and counts <= MOST_COUNTS else {}
    split = {"by": "time"} if by_time else {"by": "record"} if len(records) >= 20 else {}
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
                "tokens": {"weight": 0.5, "replacement": {"mask": 1.0}},
                "spans": {"weight": 0.5, "mean_length": 3},
            },
            "training": {"ema": 0.99},
        }
        | prior,
        comments={
            "tokenizer.attributes": "fields beside the activity; the time has its own",
            "tokenizer.templates": "activities are messages: their templates are learned",
            "data.split.by": "later cases are held out" if by_time else "whole cases are held out",
            "model.ngram_prior": "it starts from what the neighbouring events say",
            "masking.ratio": "drawn for each case",
            "masking.mode": "single values, or whole events",
        },
    )


def _attributes(records: Sequence[Case]) -> dict[str, _Attribute]:
    """Those of the events, then those of the cases."""
    found: dict[str, _Attribute] = {}
    for case in records:
        for name, values in case.attributes.items():
            found.setdefault(name, _Attribute()).add(values, case)
    n_events = sum(len(case) for case in records)
    for case in records:
        for name, value in case.case_attributes.items():
            found.setdefault(f"case:{name}", _Attribute()).add([value], None)
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
        reported = f"categorical, {len(attribute.values):,} values"
    elif kind == "numeric":
        numbers = [number for value in attribute.values if (number := to_number(value)) is not None]
        reported = f"numeric, {min(numbers):g} to {max(numbers):g}"
    else:
        return kind
    unknown = attribute.counts[UNKNOWN]
    empty = attribute.n - sum(attribute.values.values()) - unknown
    for n, what in ((empty, "empty"), (unknown, "unknown")):
        reported += f", {n / attribute.n:.1%} {what}" if n else ""
    return reported


def _activities(activities: Counter[str], messages: bool) -> str:
    common = ", ".join(repr(name[:30]) for name, _ in activities.most_common(3))
    once = sum(n == 1 for n in activities.values())
    reported = f"{len(activities):,} different, most often {common}"
    if messages:
        return f"{reported}; they look like messages, whose templates are learned"
    return reported + (f"; {once:,} occur once and become [OTHER]" if once else "")


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
