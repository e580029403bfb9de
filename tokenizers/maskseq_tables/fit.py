"""Fit the `columns` tokenizer: count values, infer what a column holds, choose bins. One pass, streaming."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from pydantic import ConfigDict

from maskseq.errors import UsageError
from maskseq.formats import most_alike
from maskseq.tokenizer import with_options
from maskseq_events.bins import NumberCounts, gap_bins, quantile_bins
from maskseq_events.case import UNKNOWN, Value
from maskseq_events.columns import to_number
from maskseq_events.fit import MAX_VALUES, vocabulary_of
from maskseq_signals.cells import shown_decimals
from maskseq_tables.columns import Calendar, Kind, Part, TableColumn, order_of
from maskseq_tables.record import TableRows

MOST_DECIMALS = 12


@dataclass(frozen=True, kw_only=True)
class ColumnsFitOptions:
    """What the `columns` tokenizer is fitted with: the `[tokenizer]` table of a recipe."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    columns: tuple[str, ...] = ()
    """Columns that become fields (default: all that the format reads, but for the order)."""
    numeric: tuple[str, ...] = ()
    """Columns to be read as numbers, whatever is inferred."""
    categorical: tuple[str, ...] = ()
    """Columns to be read as names, whatever is inferred: codes that look like numbers."""
    ordered: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Columns of levels, and their levels in order, such as `stage = ["W", "N1", "N2", "N3"]`."""
    given: tuple[str, ...] = ()
    """Columns that are known wherever a row is: context, never hidden or filled."""
    whole: tuple[str, ...] = ()
    """Columns of which one value holds for a whole sequence."""
    calendar: dict[str, tuple[Part, ...]] = field(default_factory=dict)
    """Parts of columns of times that become given fields, such as `when = ["hour", "weekday", "gap"]`."""
    min_count: int = 2
    """Values that occur less often in the training records are `[OTHER]`."""
    bins: int = 32
    """Quantile bins of each column of numbers, and logarithmic ones of gaps."""
    infer_above: int = 32
    """A column of whole numbers is numeric when it has more different ones than this."""

    def __post_init__(self) -> None:
        for name in ("min_count", "bins"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        twice = [name for name in dict.fromkeys(self.columns) if self.columns.count(name) > 1]
        if twice:
            raise ValueError(f"columns lists {twice[0]!r} twice")
        kinds = Counter([*set(self.numeric), *set(self.categorical), *self.ordered])
        several = [name for name, n in kinds.items() if n > 1]
        if several:
            raise ValueError(f"{several[0]!r} is listed under several of numeric, categorical and ordered")
        listed = {*self.numeric, *self.categorical, *self.ordered, *self.given, *self.whole}
        unlisted = sorted(listed - set(self.columns)) if self.columns else []
        if unlisted:
            raise ValueError(f"{unlisted[0]!r} is not one of columns")
        for name, levels in self.ordered.items():
            if len(levels) < 2 or len(set(levels)) < len(levels):
                raise ValueError(f"ordered: {name!r} needs two levels or more, all different")

    @classmethod
    def of(cls, options: dict[str, Any]) -> "ColumnsFitOptions":
        return with_options(cls, options, "columns")


@dataclass
class _SeenColumn:
    """What one column held in the training records."""

    counts: Counter[Value] = field(default_factory=Counter)
    declared: bool = False
    """The file says that it holds numbers."""


@dataclass
class _Steps:
    """What a column grew by from row to row."""

    counts: NumberCounts = field(default_factory=NumberCounts)
    timed: set[bool] = field(default_factory=set)


def learn(records: Iterable[TableRows], options: dict[str, Any]) -> dict[str, Any]:
    """The state of a `ColumnsTokenizer`, from training records.

    Raises `UsageError` for options that are wrong, or that these records do not bear out.
    """
    wanted = ColumnsFitOptions.of(options)
    seen: dict[str, _SeenColumn] = {name: _SeenColumn() for name in wanted.columns}
    steps = {name: _Steps() for name in wanted.calendar}
    offered: dict[str, None] = {}
    orders: set[str] = set()
    for record in records:
        offered |= dict.fromkeys(record.columns)
        if record.order is not None:
            orders.add(record.order.name)
        if not wanted.columns:
            for name in record.columns:
                if name not in orders or name in wanted.given:
                    seen.setdefault(name, _SeenColumn())
        for name, what in seen.items():
            what.counts.update(record.columns.get(name, ()))
            what.declared |= name in record.numeric
            if len(what.counts) > MAX_VALUES:
                raise UsageError(
                    f"column {name!r} has more than {MAX_VALUES:,} different values; leave it out of columns",
                    code="bad-option",
                )
        for name, step in steps.items():
            _count_steps(step, record, name)
    named = {*wanted.columns, *wanted.calendar, *wanted.given, *wanted.whole, *wanted.ordered}
    named |= {*wanted.numeric, *wanted.categorical}
    if missing := sorted(named - offered.keys()):
        raise UsageError(
            f"there is no column {missing[0]!r}\n\nhint: there are {most_alike(missing[0], offered, 40) or 'none'}",
            code="unknown-name",
        )
    masked = [name for name in wanted.calendar if name in seen and name not in {*wanted.given, *orders}]
    if masked:
        raise UsageError(
            f"column {masked[0]!r} is to be filled, but its calendar would give it away\n\n"
            f"hint: list it in given, or leave it out of columns",
            code="bad-option",
        )
    columns = tuple(_column(name, what, wanted, given=name in orders) for name, what in seen.items())
    if all(column.given for column in columns):
        raise UsageError(
            "no column is left to be filled\n\nhint: columns of the tokenizer must list one that is not given",
            code="bad-option",
        )
    calendar = tuple(
        _calendar(name, part, steps[name], wanted) for name, parts in wanted.calendar.items() for part in parts
    )
    return {"columns": columns, "calendar": calendar}


def _count_steps(step: _Steps, record: TableRows, name: str) -> None:
    order = order_of(record, name)
    if order is None or np.isnan(order.values).all():
        return
    step.timed.add(order.timed)
    step.counts.add([n for n in np.diff(order.values).tolist() if n == n])


def _calendar(name: str, part: Part, step: _Steps, wanted: ColumnsFitOptions) -> Calendar:
    timed = step.timed == {True}
    if not step.timed or (part != "gap" and not timed):
        raise UsageError(
            f"calendar: column {name!r} holds no times that can be read, so that it has no {part}",
            code="too-little-data",
        )
    if part != "gap":
        return Calendar(column=name, part=part)
    values, counts = step.counts.sorted()
    if not len(values):
        values, counts = np.zeros(1), np.ones(1, np.int64)
    bins = gap_bins(values, counts, wanted.bins) if timed else quantile_bins(values, counts, wanted.bins)
    return Calendar(column=name, part=part, bins=bins, timed=timed)


def _column(name: str, seen: _SeenColumn, wanted: ColumnsFitOptions, *, given: bool) -> TableColumn:
    counts = {value: n for value, n in seen.counts.items() if value is not None and value != UNKNOWN}
    if not counts:
        raise UsageError(
            f"column {name!r} never has a value in the training records\n\nhint: leave it out of columns",
            code="too-little-data",
        )
    kind = kind_of(name, counts, wanted, declared=seen.declared)
    about: dict[str, Any] = {
        "name": name,
        "kind": kind,
        "absent": None in seen.counts,
        "given": given or name in wanted.given,
        "whole": name in wanted.whole,
    }
    if kind == "levels":
        return TableColumn(values=wanted.ordered[name], **about)
    if kind == "categories":
        return TableColumn(values=vocabulary_of(counts, wanted.min_count, name), **about)
    numbers = NumberCounts()
    decimals: Counter[int] = Counter()
    for text, n in counts.items():
        if (number := to_number(text)) is not None:
            numbers.add_times(number, n)
            decimals[shown_decimals(text)] += n
    values, weights = numbers.sorted()
    if len(values) == 0:
        raise UsageError(
            f"column {name!r} is listed as numeric, but none of its values is a number", code="too-little-data"
        )
    most = min(max(decimals), MOST_DECIMALS)
    return TableColumn(
        bins=quantile_bins(values, weights, wanted.bins),
        decimals=most,
        padded=set(decimals) == {most} and most > 0,
        **about,
    )


def kind_of(name: str, counts: Mapping[str, int], wanted: ColumnsFitOptions, *, declared: bool) -> Kind:
    """What the user says that a column holds, or else what its values look like."""
    if name in wanted.ordered:
        return "levels"
    if name in wanted.categorical or name in wanted.numeric:
        return "numbers" if name in wanted.numeric else "categories"
    numbers = [to_number(value) for value in counts]
    if None in numbers:
        return "categories"
    whole = all(number == round(number) for number in numbers if number is not None)
    return "numbers" if declared or not whole or len(counts) > wanted.infer_above else "categories"
