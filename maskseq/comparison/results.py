"""What a comparison of methods comes to: by protocol, and altogether. `to_json` is what `evaluation.json` holds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from maskseq.comparison.verdict import CHOICE, FieldComparison, Verdict
from maskseq.evaluation.results import (
    CellFigures,
    GapFigures,
    GroupFigures,
    NumberFigures,
    ReliabilityBin,
    Result,
    stored_as,
)


@dataclass(frozen=True, kw_only=True)
class OutsideRepeats(Result):
    """The same figures without the cells whose flanks stand around one place of training."""

    flank: int
    share_left_out: float
    figures: CellFigures | None = None
    """None: all cells were left out."""

    def to_json(self) -> dict[str, Any]:
        """The figures stand beside the share."""
        return _flat(super().to_json())


@dataclass(frozen=True, kw_only=True)
class ProtocolResult(Result):
    """All methods under one protocol, on the same masked examples."""

    verdict: Verdict | None
    together: FieldComparison | None = stored_as("all fields")
    """All cells of all fields: the product and the best simple method. None: no cell has a number to compare."""
    fields: Sequence[FieldComparison]
    """Field by field, cells before whole gaps: the product and the best simple method."""
    figures: CellFigures
    examples: int = stored_as("puzzles")
    """How many masked examples there were."""
    outside_exact_repeats: OutsideRepeats | None = None
    breakdown: Mapping[str, Mapping[str, GroupFigures]]
    reliability: Mapping[str, Sequence[ReliabilityBin]]
    errors: Mapping[str, Mapping[str, Any]] | None = None
    """Of numbers, by field, in its unit and z-scored."""
    errors_of_all_fields: NumberFigures | None = None
    coverage: Mapping[str, Mapping[str, Any]] | None = stored_as("honesty", default=None)
    """CRPS, and how often stated intervals hold the truth, by field."""
    whole_gaps: Mapping[str, Mapping[str, GapFigures]] | None = None
    shown: Sequence[Mapping[str, Any]] = stored_as("examples")
    """What some examples look like."""

    def to_json(self) -> dict[str, Any]:
        """The figures of all cells stand beside the verdict."""
        return _flat(super().to_json())


@dataclass(frozen=True, kw_only=True)
class RemainingTime(Result):
    """How long cases go on, from a prefix of each."""

    cases: int
    samples: int
    """Continuations of each prefix, of whose times the median is taken."""
    ended: Mapping[str, float]
    """By what was continued with, the share of the continuations that reached an end within the context."""
    comparison: FieldComparison


@dataclass(frozen=True, kw_only=True)
class Evaluation(Result):
    """A product and what it must beat, by protocol; `of` says which run, which data."""

    of: Mapping[str, Any] | None = None
    verdict: Verdict | None
    product: str | None
    """The name of the method that the verdict is about; None: simple methods alone."""
    predictors: Sequence[str] = ()
    """The product and what is shown with it, in their order; all other methods are simple ones."""
    best_simple_chosen: str = stored_as("best simple method is chosen", default=CHOICE)
    protocols: Mapping[str, ProtocolResult]
    remaining_time: RemainingTime | None = None
    """Of the protocol `remaining`."""
    requested: Mapping[str, Any] = stored_as("asked")
    infill: Mapping[str, Any]

    @classmethod
    def joined(cls, parts: Sequence["Evaluation"], order: Sequence[str] = ()) -> "Evaluation":
        """Those of several protocols as one; protocols in this order, others behind them."""
        if len(parts) == 1:
            return parts[0]
        found = {name: result for part in parts for name, result in part.protocols.items()}
        named = {name: found[name] for name in (*order, *found) if name in found}
        predictors = tuple(dict.fromkeys(name for part in parts for name in part.predictors))
        remaining = next((part.remaining_time for part in parts if part.remaining_time), None)
        joined = replace(parts[0], protocols=named, predictors=predictors, remaining_time=remaining)
        return replace(joined, verdict=Verdict.of(joined.compared))

    @property
    def compared(self) -> list[FieldComparison]:
        """Every comparison that the verdict is about."""
        found = [each for result in self.protocols.values() for each in result.fields]
        return found + ([self.remaining_time.comparison] if self.remaining_time else [])

    @property
    def in_words(self) -> str:
        """One line: the verdict, and the gain over the best simple method by protocol."""
        by_protocol = "; ".join(each.together.briefly for each in self.protocols.values() if each.together)
        if not by_protocol:
            return self.verdict.in_words if self.verdict else ""
        return f"{self.verdict.in_words}; all fields: {by_protocol}" if self.verdict else by_protocol


def _flat(found: dict[str, Any]) -> dict[str, Any]:
    return {**{name: value for name, value in found.items() if name != "figures"}, **found.get("figures", {})}
