"""Fit the `event` tokenizer: count values, infer which attributes are numbers, choose bins. One pass, streaming."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np
from pydantic import ConfigDict

from maskseq.errors import UsageError
from maskseq.tokenizer import with_options
from maskseq_events.activities import name_of, names_of
from maskseq_events.bins import NumberCounts, gap_bins, quantile_bins
from maskseq_events.case import ABSENT_TIME, UNKNOWN, Case, Kind, Parts, Value
from maskseq_events.columns import Column, to_number
from maskseq_events.drain import Drain, DrainTree, Templates
from maskseq_events.rebuild import FIRST_MONDAY
from maskseq_events.times import WEEK

MAX_VALUES = 1_000_000
V = TypeVar("V", str, Parts)


@dataclass(frozen=True, kw_only=True)
class EventFitOptions:
    """What the `event` tokenizer is fitted with: the `[tokenizer]` table of a recipe."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    attributes: tuple[str, ...] = ()
    """Attributes that become fields; one of the case is written `case:NAME`."""
    numeric: tuple[str, ...] = ()
    """Attributes to be read as numbers, whatever is inferred."""
    categorical: tuple[str, ...] = ()
    """Attributes to be read as names, whatever is inferred: codes that look like numbers."""
    min_count: int = 2
    """Activities and values that occur less often in the training records are `[OTHER]`."""
    gap_bins: int = 32
    """Logarithmic bins of time gaps, beside those for zero and for backwards."""
    numeric_bins: int = 32
    """Quantile bins of each numeric attribute."""
    infer_above: int = 32
    """An undeclared attribute is numeric when all its values are numbers and it has more different ones than this."""
    time: bool | None = None
    """Fields for time (default: if any training event has a timestamp)."""
    end: bool = True
    """A last position `[END]` that says that the case is over."""
    templates: Drain | bool = False
    """Activities are messages of free text: learn their templates by Drain (true: with its defaults)."""

    def __post_init__(self) -> None:
        for name in ("min_count", "gap_bins", "numeric_bins"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        twice = [name for name in dict.fromkeys(self.attributes) if self.attributes.count(name) > 1]
        if twice:
            raise ValueError(f"attributes lists {twice[0]!r} twice")
        both = sorted(set(self.numeric) & set(self.categorical))
        if both:
            raise ValueError(f"{both[0]!r} is listed as numeric and as categorical")
        unlisted = sorted({*self.numeric, *self.categorical} - set(self.attributes))
        if unlisted:
            raise ValueError(f"{unlisted[0]!r} is listed as numeric or categorical but not in attributes")

    @property
    def drain(self) -> Drain | None:
        return (Drain() if self.templates else None) if isinstance(self.templates, bool) else self.templates

    @classmethod
    def of(cls, options: dict[str, Any]) -> "EventFitOptions":
        return with_options(cls, options, "event")


@dataclass
class _Seen:
    """What one attribute held in the training records."""

    counts: Counter[Value] = field(default_factory=Counter)
    kinds: set[Kind] = field(default_factory=set)
    absent: bool = False
    """Whether an event or case was without it."""


def learn(records: Iterable[Case], options: dict[str, Any]) -> dict[str, Any]:
    """The state of an `EventTokenizer`, from training records.

    Raises `UsageError` for options that are wrong, or that these records do not bear out.
    """
    wanted = EventFitOptions.of(options)
    tree = DrainTree(wanted.drain) if wanted.drain else None
    activities: Counter[str] = Counter()
    several: Counter[Parts] = Counter()
    seen = {name: _Seen() for name in wanted.attributes}
    gaps, start, static, dated, offered = NumberCounts(), None, False, False, set[str]()
    for case in records:
        if tree is None:
            activities.update(case.activity)
            several.update(case.parts or ())
        else:
            for message in case.activity:
                if message != UNKNOWN:
                    tree.add(message)
        for name, what in seen.items():
            _count(name, what, case)
        offered.update(case.attributes, (f"case:{name}" for name in case.case_attributes))
        timed = case.timed
        static = static or bool((case.time == ABSENT_TIME).any())
        if timed.any():
            dated = dated or case.dated
            first = int(case.time[timed][0])
            start = first if start is None else min(start, first)
            steps = np.diff(case.time)[timed[1:] & timed[:-1]]
            gaps.add(steps.astype(np.float64).tolist())
    if tree is not None:
        for group in tree.groups:
            activities[group.template] += group.count
    if not activities:
        raise UsageError("the event tokenizer was given no training events to be fitted on", code="too-little-data")
    if wanted.time and start is None:
        raise UsageError(
            "the tokenizer option time = true needs timestamps, but no training event has one", code="too-little-data"
        )
    parts: tuple[Parts, ...] = ()
    if several.total() < activities.total():  # of some cases, names are all that there is
        names = vocabulary_of(activities, wanted.min_count, "activity")
    else:
        parts = vocabulary_of(several, wanted.min_count, "activity")
        names = names_of(parts)
    state: dict[str, Any] = {
        "activities": names,
        "parts": parts,
        "columns": tuple(_column(name, what, wanted, offered) for name, what in seen.items()),
        "end": wanted.end,
        "templates": wanted.drain and Templates(drain=wanted.drain, texts=tuple(activities)),
    }
    if start is not None and wanted.time is not False:
        state["start"] = (start - FIRST_MONDAY) // WEEK * WEEK + FIRST_MONDAY
        state["static"] = static
        state["weekdays"] = dated
        state["gaps"] = gap_bins(*gaps.sorted(), wanted.gap_bins)
    return state


def _count(name: str, seen: _Seen, case: Case) -> None:
    own = name.removeprefix("case:")
    values = [case.case_attributes.get(own)] if own != name else case.attributes.get(name)
    seen.counts.update(values or ())
    seen.absent = seen.absent or values is None or None in values
    if name in case.kinds:
        seen.kinds.add(case.kinds[name])
    if len(seen.counts) > MAX_VALUES:
        raise UsageError(
            f"attribute {name!r} has more than {MAX_VALUES:,} different values, as free text or an identifier would\n\n"
            f"hint: leave it out of attributes",
            code="bad-option",
        )


def _column(name: str, seen: _Seen, wanted: EventFitOptions, offered: set[str]) -> Column:
    counts = {value: n for value, n in seen.counts.items() if value is not None and value != UNKNOWN}
    own = name.removeprefix("case:")
    scope: Literal["event", "case"] = "event" if own == name else "case"
    if not counts:
        known = ", ".join(sorted(offered)) or "none"
        raise UsageError(
            f"attribute {name!r} never has a value in the training records\n\nhint: the attributes here are {known}",
            code="too-little-data",
        )
    if _is_numeric(name, counts, seen.kinds, wanted):
        numbers = NumberCounts()
        for text, n in counts.items():
            if (number := to_number(text)) is not None:
                numbers.add_times(number, n)
        values, weights = numbers.sorted()
        if len(values) == 0:
            raise UsageError(
                f"attribute {name!r} is listed as numeric, but none of its values is a number", code="too-little-data"
            )
        whole = bool((values == np.round(values)).all())
        bins = quantile_bins(values, weights, wanted.numeric_bins)
        return Column(name=own, scope=scope, bins=bins, whole=whole, absent=seen.absent)
    return Column(name=own, scope=scope, values=vocabulary_of(counts, wanted.min_count, name), absent=seen.absent)


def _is_numeric(name: str, counts: dict[str, int], kinds: set[Kind], wanted: EventFitOptions) -> bool:
    if name in wanted.numeric or name in wanted.categorical:
        return name in wanted.numeric
    if kinds:
        return kinds == {"numeric"}
    return len(counts) > wanted.infer_above and all(to_number(value) is not None for value in counts)


def vocabulary_of(counts: Mapping[V, int], min_count: int, name: str) -> tuple[V, ...]:
    """Values, or what several columns say, by falling count, ties by their text."""
    texts = {value: name_of(value) if isinstance(value, tuple) else value for value in counts}
    kept = [value for value, n in counts.items() if n >= min_count and texts[value] not in (None, UNKNOWN)]
    if not kept:
        raise UsageError(
            f"no value of {name!r} occurs {min_count} times or more in the training records (min_count)",
            code="too-little-data",
        )
    return tuple(sorted(kept, key=lambda value: (-counts[value], texts[value], str(value))))
