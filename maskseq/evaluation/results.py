"""What an evaluation comes to, as frozen values. `to_json` gives the keys that are stored and printed."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any


def stored_as(key: str, **options: Any) -> Any:
    """A dataclass field that has another name in JSON than in Python."""
    return field(metadata={"key": key}, **options)


@dataclass(frozen=True)
class Result:
    """A value with a form in JSON: names with blanks for underscores, or as `stored_as` says; None is left out."""

    def to_json(self) -> dict[str, Any]:
        """Everything in it as dictionaries, lists, strings and numbers."""
        found = {}
        for each in fields(self):
            value = getattr(self, each.name)
            if value is not None:
                found[each.metadata.get("key", each.name.replace("_", " "))] = _plain(value)
        return found


def _plain(value: Any) -> Any:
    if isinstance(value, Result):
        return value.to_json()
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


Interval = tuple[float, float]
"""The middle 95 % of a bootstrap over regions."""


@dataclass(frozen=True, kw_only=True)
class MethodFigures(Result):
    """What one method comes to on all scored cells."""

    bits: float
    bits_interval: Interval = stored_as("bits, 95 %")
    accuracy: float
    accuracy_interval: Interval = stored_as("accuracy, 95 %")
    macro_f1: float = stored_as("macro-F1")
    calibration_error: float


@dataclass(frozen=True, kw_only=True)
class CellFigures(Result):
    """All methods on the same cells, and the product compared with the best of the others."""

    cells: int
    regions: int
    by: Mapping[str, MethodFigures]
    best_baseline: str | None = None
    skill: float | None = None
    """1 minus the product's bits over those of the best other method."""
    skill_interval: Interval | None = stored_as("skill, 95 %", default=None)
    wins_in_bits: bool | None = None
    most_often_right: str | None = None
    accuracy_gained: Interval | None = stored_as("accuracy gained, 95 %", default=None)
    wins_in_accuracy: bool | None = None


@dataclass(frozen=True, kw_only=True)
class GroupScore(Result):
    """What one method comes to on some of the cells."""

    bits: float
    accuracy: float


@dataclass(frozen=True, kw_only=True)
class GroupFigures(Result):
    """All methods on the cells of a field, an objective, a length of the gap, …"""

    cells: int
    by: Mapping[str, GroupScore]
    skill: float | None = None
    """1 minus the product's bits over those of the other method that has fewest over all cells."""
    skill_interval: Interval | None = stored_as("skill, 95 %", default=None)


@dataclass(frozen=True, kw_only=True)
class GapFigures(Result):
    """Whole gaps of one field, filled jointly by one method."""

    gaps: int
    exact: float
    accuracy: float
    edits_a_cell: float
    exact_interval: Interval | None = stored_as("exact, 95 %", default=None)
    best_baseline: str | None = None
    exact_gained: Interval | None = stored_as("exact gained, 95 %", default=None)
    wins: bool | None = None


@dataclass(frozen=True, kw_only=True)
class ErrorFigures(Result):
    """Errors of one method's numbers over all ordinal fields, in units of each field's training spread."""

    mae: float = stored_as("MAE, z-scored")
    mse: float = stored_as("MSE, z-scored")
    mse_interval: Interval = stored_as("MSE, 95 %")


@dataclass(frozen=True, kw_only=True)
class NumberFigures(Result):
    """Errors of all methods' numbers on the same cells."""

    cells: int
    by: Mapping[str, ErrorFigures]
    best_baseline: str | None = None
    mse_saved: Interval | None = stored_as("MSE saved, 95 %", default=None)
    wins_in_mse: bool | None = stored_as("wins in MSE", default=None)


@dataclass(frozen=True, kw_only=True)
class ReliabilityBin(Result):
    """Stated confidence and the share of right answers among the cells of one bin."""

    confidence: float
    right: float
    cells: int
