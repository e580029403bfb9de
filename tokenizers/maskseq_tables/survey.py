"""What `maskseq init` is told of tables of sequences: what each column holds, and which are worth a field."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from maskseq.survey import Suggestion
from maskseq_events.case import UNKNOWN, Value
from maskseq_events.columns import to_number
from maskseq_events.roles import MOST_VALUES, is_identifier
from maskseq_events.times import DAY, HOUR
from maskseq_tables.fit import ColumnsFitOptions, kind_of
from maskseq_tables.record import TableRows

MOST_COLUMNS = 12
FEWEST_KNOWN = 0.05
"""Share of the rows that must have a value of a column for it to become a field."""
FEWEST_CONSTANT = 3
"""Sequences from which on a column that never changes within one is taken to hold for whole sequences."""


@dataclass
class _ColumnSurvey:
    counts: Counter[Value] = field(default_factory=Counter)
    constant: bool = True
    """It never changes within a sequence."""
    counts_up: bool = True
    """From one row to the next, its number grows by one."""
    declared: bool = False

    def add(self, values: Sequence[Value], declared: bool) -> None:
        self.counts.update(values)
        self.declared |= declared
        self.constant &= len({value for value in values if value != UNKNOWN}) <= 1
        if self.counts_up:
            numbers = np.array([to_number(value) for value in values], dtype=np.float64)
            self.counts_up = not np.isnan(numbers).any() and bool((np.diff(numbers) == 1).all())

    @property
    def values(self) -> dict[str, int]:
        return {value: n for value, n in self.counts.items() if value is not None and value != UNKNOWN}

    @property
    def information(self) -> float:
        """Bits that it says of a row, on average."""
        shares = np.array(list(self.values.values())) / max(self.counts.total(), 1)
        return float(-(shares * np.log2(shares)).sum())

    def useless(self, name: str, kind: str) -> str:
        """Why it is worth no field; empty: it is."""
        values, known, n = self.values, sum(self.values.values()), self.counts.total()
        if len(values) < 2:
            return "always the same" if values else "always empty"
        if self.counts_up and not self.constant:
            return "the number of the row"
        if known < FEWEST_KNOWN * n:
            return f"missing in {1 - known / n:.0%}"
        if kind == "categories" and len(values) > min(MOST_VALUES, known / 4):
            return f"{len(values):,} different values, as identifiers and free text have"
        if kind == "numbers" and is_identifier(name):
            return "numbers of an identifier"
        return ""

    def reported(self, kind: str, whole: bool) -> str:
        if kind == "numbers":
            numbers = [number for value in self.values if (number := to_number(value)) is not None]
            text = f"numbers, {min(numbers):g} to {max(numbers):g}"
        else:
            text = f"{len(self.values):,} categories"
        unknown = self.counts[UNKNOWN]
        return (
            text
            + ", one for a sequence" * whole
            + (f", {unknown / self.counts.total():.1%} unknown" if unknown else "")
        )


def suggest_columns(records: Sequence[Any]) -> Suggestion | None:
    """For sequences of any table."""
    if not records or not all(isinstance(record, TableRows) for record in records):
        return None
    columns: dict[str, _ColumnSurvey] = {}
    for record in records:
        for name, values in record.columns.items():
            if record.order is None or name != record.order.name:
                columns.setdefault(name, _ColumnSurvey()).add(values, name in record.numeric)
    wanted = ColumnsFitOptions()
    kinds = {name: kind_of(name, each.values, wanted, declared=each.declared) for name, each in columns.items()}
    useless = {name: each.useless(name, kinds[name]) for name, each in columns.items()}
    several = len(records) >= FEWEST_CONSTANT and any(len(record) > 1 for record in records)
    whole = [name for name, each in columns.items() if several and each.constant]
    able = [name for name in columns if not useless[name]]
    chosen = sorted(able, key=lambda name: -columns[name].information)[:MOST_COLUMNS]
    chosen = [name for name in able if name in chosen] or list(columns)[:1]
    found: dict[str, object] = {}
    for name, each in columns.items():
        left = "" if name in chosen or useless[name] else f", but {MOST_COLUMNS} are enough to begin with"
        found[f"column {name}"] = useless[name] or each.reported(kinds[name], name in whole) + left
    options: dict[str, Any] = {"name": "columns", "columns": chosen}
    for kind, option in (("categories", "categorical"), ("numbers", "numeric")):
        if of_kind := [name for name in chosen if kinds[name] == kind]:
            options[option] = of_kind
    if kept := [name for name in chosen if name in whole]:
        options["whole"] = kept
    calendar = _calendar(records)
    if calendar:
        options["calendar"] = calendar
        found["calendar"] = "; ".join(f"{', '.join(parts)} of {name!r}" for name, parts in calendar.items()) + ": given"
    longest = int(np.quantile([len(record) for record in records], 0.99))
    return Suggestion(
        found=found,
        context=min(max(32, 1 << (longest - 1).bit_length()), 512),
        recipe={
            "tokenizer": options,
            "data": {"split": {"by": "record"} if len(records) >= 20 else {}},
            "masking": {
                "ratio": [0.1, 0.5],
                "mode": ["cell", "position"] if len(chosen) > 1 else "cell",
                "tokens": {"weight": 0.5},
                "spans": {"weight": 0.5, "mean_length": 3},
            },
        },
        comments={
            "tokenizer.columns": 'a field each; given = ["…"] makes some of them context that is never filled',
            "tokenizer.whole": "one value holds for a whole sequence",
            "tokenizer.calendar": "parts of the time that every row knows",
            "data.split.by": "whole sequences are held out",
            "masking.ratio": "drawn for each sequence",
            "masking.mode": "single values, or whole rows",
        },
    )


def _calendar(records: Sequence[TableRows]) -> dict[str, list[str]]:
    """Parts of the order that vary: gaps that are not all the same, hours and weekdays of times."""
    orders = [record.order for record in records if record.order is not None]
    if not orders:
        return {}
    steps = np.concatenate([np.diff(order.values) for order in orders])
    parts = ["gap"] if len(np.unique(steps)) > 1 else []
    if all(order.timed for order in orders):
        moments = np.concatenate([order.values for order in orders]).astype(np.int64)
        parts += ["hour"] if len(np.unique(moments // HOUR % 24)) > 1 else []
        parts += ["weekday"] if len(np.unique(moments // DAY % 7)) > 2 else []
    return {orders[0].name: parts} if parts else {}
