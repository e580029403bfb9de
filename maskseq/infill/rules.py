"""Rules that users name: `non-decreasing=time`, `total=gap:3600..3660@case 7:3-9`, and those of their domain.

The rules here know fields only; those of a domain (a motif, a reading frame) come from `Tokenizer.rules()`. Either
kind becomes `LegalCells`, where each cell is narrowed for good, or a `Constraint`, where cells depend on each other.
"""

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from maskseq.constraints import Automaton, Constraint, Total
from maskseq.errors import DataError, UsageError, nearest
from maskseq.formats import most_alike
from maskseq.masking.units import position_units
from maskseq.tokenizer import Rule, Tokenizer
from maskseq.types import Encoded, Field, LegalCells

FieldRule = Callable[[Field, str, int, int, int], LegalCells | Constraint]
"""Field, rest of the argument, column, first position and the one after the last → the rule."""


@dataclass(frozen=True)
class NamedRule:
    """A rule as the user wrote it."""

    name: str
    argument: str
    key: str
    """The record that it is about; "" for all of them."""
    start: int
    stop: int | None
    """Raw units, half-open, from 0; None: to the end of the record."""

    @classmethod
    def parse(cls, text: str) -> "NamedRule":
        """`NAME=ARGUMENT`, `NAME=ARGUMENT@KEY` or `NAME=ARGUMENT@KEY:START-END` (units from 1, inclusive)."""
        rule, _, place = text.partition("@")
        name, equals, argument = rule.partition("=")
        if not (name and equals):
            raise UsageError(
                f"the rule {text!r} does not read NAME=ARGUMENT or NAME=ARGUMENT@KEY:START-END", code="bad-option"
            )
        key, _, span = place.rpartition(":")
        first, dash, last = span.replace(",", "").partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            return cls(name, argument, place, 0, None)
        if max(len(first), len(last)) > 18:
            raise UsageError(f"the rule {text[:60]!r}… is about units beyond all records", code="bad-option")
        if not 1 <= int(first) <= int(last or first):
            raise UsageError(
                f"the rule {text!r} is about the units {span}, which are none (they count from 1)", code="bad-option"
            )
        return cls(name, argument, key, int(first) - 1, int(last or first))

    def about(self, tokenizer: Tokenizer[Any], encoded: Encoded) -> LegalCells | Constraint:
        """The rule for one record; `UsageError` if there is no such rule or it cannot be read."""
        rules: dict[str, Rule] = {name: _of_field(tokenizer, make) for name, make in GENERIC.items()}
        rules |= tokenizer.rules()
        if self.name not in rules:
            hint = nearest(self.name, rules, f"rules here: {', '.join(sorted(rules))}")
            raise UsageError(f"there is no rule called {self.name!r}\n\nhint: {hint}", code="unknown-name")
        units = position_units(tokenizer.units_of(encoded))
        stop = int(units[:, 1].max(initial=0)) if self.stop is None else self.stop
        inside = np.flatnonzero((units[:, 0] >= self.start) & (units[:, 1] <= stop))
        if not len(inside):
            raise UsageError(
                f"rule {self.name!r}: no position lies within the units {self.start + 1}-{stop}", code="bad-option"
            )
        return rules[self.name](self.argument, int(inside[0]), int(inside[-1]) + 1)


def bounds(field: Field, column: int, low: float, high: float, start: int, stop: int) -> LegalCells:
    """Ordinal values from `low` to `high` only, judged by the centres of their bins; controls stay possible."""
    allowed = np.ones(field.n_predictable, bool)
    allowed[: field.n_tokens] = (_centres(field) >= low) & (_centres(field) <= high)
    cells = np.stack([np.arange(start, stop), np.full(stop - start, column)], axis=1)
    return LegalCells(cells, np.repeat(allowed[None], stop - start, axis=0))


def never_falls(field: Field) -> Automaton:
    """Each value is at least the one before it, in the order of the field's tokens; controls are passed over."""
    n = field.n_tokens
    last, value = np.arange(n + 1)[:, None], np.arange(1, n + 1)  # state 0: nothing read; state v + 1: the last was v
    pass_over = np.repeat(last, len(field.controls), axis=1)
    return Automaton(np.hstack([np.where(value >= last, value, -1), pass_over]), np.ones(n + 1, bool))


def follows(field: Field, graph: Mapping[str, Collection[str]]) -> Automaton:
    """`graph[a]` lists what may come right after `a`; the key "" what may come first, its absence: anything.

    Names are tokens or controls of the field. What is no key may be followed by anything.
    """
    names = [*field.tokens, *field.controls]
    unknown = sorted({*graph, *(after for each in graph.values() for after in each)} - {*names, ""})
    if unknown:
        raise UsageError(
            f"the graph names {unknown[0]!r}, which field {field.name!r} does not have", code="unknown-name"
        )
    ways = np.array([[after in graph.get(name, names) for after in names] for name in ["", *names]])
    return Automaton(np.where(ways, np.arange(1, len(names) + 1), -1), np.ones(len(names) + 1, bool))


def total(field: Field, low: float, high: float) -> Total:
    """The values, taken as the centres of their bins, sum to between `low` and `high`; controls add nothing."""
    return Total(np.append(_centres(field), np.zeros(len(field.controls))), low, high)


def _centres(field: Field) -> Float[np.ndarray, " bins"]:
    if field.centres is None:
        raise UsageError(f"field {field.name!r} has no values in physical units", code="bad-option")
    return np.array(field.centres)


def read_interval(text: str) -> tuple[float, float]:
    """`LOW..HIGH`, `LOW..`, `..HIGH` or one number for both."""
    low, dots, high = text.partition("..")
    try:
        ends = (float(low) if low or not dots else -np.inf, float(high) if high else np.inf)
        if np.isnan(ends).any():
            raise ValueError
    except ValueError:
        raise UsageError(f"{text!r} is no interval; write it as LOW..HIGH", code="bad-option") from None
    return ends if dots else (ends[0], ends[0])


def _read_graph(path: Path) -> dict[str, list[str]]:
    try:
        graph = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(path, "no such file", code="missing-file") from None
    except (OSError, ValueError) as error:
        raise DataError(path, f"cannot be read as a process graph: {error}", code="malformed-data") from None
    lists = isinstance(graph, dict) and all(isinstance(each, list) for each in graph.values())
    if not lists or not all(isinstance(name, str) for each in graph.values() for name in each):
        raise DataError(
            path,
            'a process graph is a JSON object of lists, such as {"": ["start"], "start": ["end"]}',
            code="malformed-data",
        )
    return {str(name): each for name, each in graph.items()}


def _of_field(tokenizer: Tokenizer[Any], make: FieldRule) -> Rule:
    """A rule about one field as a rule whose argument begins with the field's name."""

    def rule(argument: str, start: int, stop: int) -> LegalCells | Constraint:
        name, _, rest = argument.partition(":")
        names = [field.name for field in tokenizer.fields]
        if name not in names:
            raise UsageError(
                f"there is no field {name!r}; the fields are {most_alike(name, names)}", code="unknown-name"
            )
        column = names.index(name)
        return make(tokenizer.fields[column], rest, column, start, stop)

    return rule


GENERIC: dict[str, FieldRule] = {
    "bounds": lambda field, text, column, start, stop: bounds(field, column, *read_interval(text), start, stop),
    "non-decreasing": lambda field, _, column, start, stop: never_falls(field).on(start, stop, field=column),
    "follows": lambda field, text, column, start, stop: follows(field, _read_graph(Path(text))).on(
        start, stop, field=column
    ),
    "total": lambda field, text, column, start, stop: replace(
        total(field, *read_interval(text)), field=column, start=start, stop=stop
    ),
}
"""Rules about any field: their arguments read FIELD, FIELD:LOW..HIGH or FIELD:FILE."""
