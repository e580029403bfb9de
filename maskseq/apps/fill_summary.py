"""The summary of a file that was filled, and its warnings, counted record by record."""

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float

from maskseq.apps.fill_score import FillScore, baselines_of
from maskseq.baselines.frequencies import Chance, read_frequencies
from maskseq.contract.fence import encode
from maskseq.corpus.out_of_range import OutOfRange
from maskseq.corpus.unfamiliar import Unfamiliar
from maskseq.errors import DataError
from maskseq.infill.filling import FilledRecord
from maskseq.infill.options import InfillOptions, Sized
from maskseq.predict.blend import ENCODER
from maskseq.predict.protocol import Fill
from maskseq.tokenizer import Tokenizer
from maskseq.trained import TrainedModel

SHOWN_LENGTHS = 50
SHOWN_UNFILLABLE = 20
SHOWN_REJECTED = 3
"""Values of a channel, and channels."""
UNCOUNTED = "not known: the run keeps no frequencies, and its corpus is gone"


class FillSummary:
    """Counts records as they are filled."""

    def __init__(self, run: TrainedModel, options: InfillOptions) -> None:
        self.run, self.options = run, options
        self.chance, self.broken = _chance(run)
        self.used, self.by_experts = run.experts.used(options.experts), GivenByExperts()
        self.beyond, self.strange = OutOfRange(run.fills.fields), Unfamiliar(run.fills)
        asks_known = bool(options.ranges or options.unknown)
        self.score = FillScore(baselines_of(run) if asks_known else (), run.fills.vocabulary.n_outputs)
        self.judged = Acceptances()
        self.left: list[str] = []
        self.unfillable: list[str] = []
        self.sized: list[Sized] = []
        self.unfilled: Counter[str] = Counter()
        self.lost: Counter[str] = Counter()
        self.rejected: Counter[tuple[str, float]] = Counter()
        self.sources = {field.source for field in run.tokenizer.fields}
        self.n_records = self.n_cells = 0

    def add(self, each: FilledRecord) -> Float[np.ndarray, " cells"]:
        """Count a record; for its rows of the table, what its fills gain on the most frequent values."""
        gains = self.chance.add(each.filled.fill)
        self.beyond.add(each.beyond)
        self.strange.add(each.record, each.before.ids)
        self.by_experts.add(each.filled.fill)
        self.left += [f"{each.filled.task.key}:{start + 1}-{stop}" for start, stop in each.filled.left]
        self.unfillable += self.run.fills.unfillable(each.record)
        self.score.add(each)
        self.judged.add(each)
        self.sized += each.sized
        unknown = each.record.unknown_values()
        self.unfilled.update({name: n for name, n in unknown.items() if name not in self.sources})
        self.lost.update(_lost(each, self.run.fills))
        self.rejected.update(_rejected(each, self.run.fills))
        self.n_records += 1
        self.n_cells += len(each.filled.fill.cells)
        return gains

    def of(self, file: str, intake: dict[str, Any]) -> dict[str, Any]:
        """What is printed, and what the report begins with, of a filled file of this name."""
        options, more = self.options, len(self.unfillable) - SHOWN_UNFILLABLE
        where_there_are_any = {
            "experts": self.run.experts.shares(self.used) if self.used != (ENCODER,) else {},
            "accepted": self.judged.summary(str(options.accept)) if options.accept else {},
            "given by experts": self.by_experts.of(self.used),
            "left": self.left,
            "not filled": [*self.unfillable[:SHOWN_UNFILLABLE], *[f"and {more:,} more"] * (more > 0)],
            "without a field": dict(+self.unfilled),
            "without a place": dict(self.lost),
            "taken for no measurements": _by_channel(self.rejected),
            "beyond frequencies": self._beyond_frequencies(),
            "outside the training range": self.beyond.shares(),
            "warnings": self.warnings(),
        }
        summary = {
            "filled": {"file": file, "records": self.n_records, "cells": self.n_cells},
            **intake,
            "order": options.config.order,
            "calibration": _calibration(self.run, options),
            **{name: each for name, each in where_there_are_any.items() if each},
        }
        if options.lengths or options.insertion:
            summary["lengths"] = {
                f"{each.key}:{each.start}-{each.stop}": f"{each.length} (probability {each.probability:.2g})"
                for each in self.sized[:SHOWN_LENGTHS]
            }
        if self.score.cells:
            summary["against what was hidden"] = self.score.summary()
        return summary

    def _beyond_frequencies(self) -> Any:
        if not self.n_cells:
            return None
        return self.chance.shares() if self.chance.frequencies else UNCOUNTED

    def warnings(self) -> list[str]:
        """What a user should know."""
        of_places = (
            _of_unfillable(self.unfillable),
            _of_unread(self.unfilled),
            _of_lost(self.lost),
            _of_rejected(self.rejected),
        )
        found = (
            self.broken,
            _of_long_holes(self.left),
            self.judged.warning(),
            *of_places,
            self.chance.warning(),
            self.beyond.warning(),
            *self.strange.warnings(),
        )
        return [text for text in found if text]


def _chance(run: TrainedModel) -> tuple[Chance, str | None]:
    """What fills are compared with, and why it is not known if its file is broken."""
    names = [each.name for each in run.fills.fields]
    try:
        return Chance(names, read_frequencies(run.checkpoint, run.path, run.tokenizer)), None
    except DataError as error:
        return Chance(names, None), str(error)


@dataclass
class Acceptances:
    """What a rule of the user's has accepted and refused."""

    accepted: int = 0
    refused: int = 0
    keys: list[str] = field(default_factory=list)
    """Of records without an accepted fill."""

    def add(self, each: FilledRecord) -> None:
        self.accepted += each.accepted is True
        self.refused += each.refused
        if each.accepted is False:
            self.keys.append(each.filled.task.key)

    def summary(self, rule: str) -> dict[str, Any]:
        judged = self.accepted + self.refused
        return {
            "rule": rule,
            "records": self.accepted,
            "fills refused": f"{self.refused:,} of {judged:,}",
            "left as they were": len(self.keys),
        }

    def warning(self) -> str:
        shown = ", ".join(self.keys[:3]) + ", …" * (len(self.keys) > 3)
        return f"{len(self.keys):,} records stay as they were, as no fill was accepted: {shown}" if self.keys else ""


@dataclass
class GivenByExperts:
    """The probability that each expert gives what was written, given the known cells alone."""

    cells: Float[np.ndarray, " experts"] = field(default_factory=lambda: np.zeros(1))
    total: Float[np.ndarray, " experts"] = field(default_factory=lambda: np.zeros(1))

    def add(self, fill: Fill) -> None:
        """Count the first sample, which is written."""
        if fill.experts is not None:
            self.cells = self.cells + (~np.isnan(fill.experts[0])).sum(axis=0)
            self.total = self.total + np.nansum(fill.experts[0].astype(np.float64), axis=0)

    def of(self, names: Sequence[str]) -> dict[str, float]:
        """The mean of each; nothing where one predicts alone."""
        if not self.cells.any():
            return {}
        found = zip(names, self.total, self.cells, strict=True)
        return {name: float(total / cells) for name, total, cells in found if cells}


def _of_long_holes(left: Sequence[str]) -> str | None:
    if not left:
        return None
    return (
        f"{len(left)} holes longer than half the context were left: {', '.join(left[:3])}; --fill-long-holes fills "
        f"them as well"
    )


def _of_unfillable(cells: Sequence[str]) -> str:
    """Of unknown values that nothing known fits."""
    return f"unknown values were left, as no known value fits: {'; '.join(cells[:3])}" if cells else ""


def _lost(each: FilledRecord, tokenizer: Tokenizer[Any]) -> Counter[str]:
    """By field, how many filled values the filled record does not have, as in a gap with no known time next to it."""
    fill = each.filled.fill
    if not len(fill.cells):
        return Counter()
    now = encode(tokenizer, each.record).ids
    if now.shape != each.before.ids.shape:
        return Counter()
    position, column = fill.cells.T
    n_tokens = np.array([field.n_tokens for field in tokenizer.fields])
    valued = fill.values[0] < n_tokens[column]
    gone = valued & ~tokenizer.vocabulary.known(now)[position, column]
    return Counter(tokenizer.fields[index].name for index in column[gone].tolist())


def _rejected(each: FilledRecord, tokenizer: Tokenizer[Any]) -> Counter[tuple[str, float]]:
    """Known numbers that the predictor did without, by field and value."""
    rejected, numbers = each.filled.rejected, each.before.numbers
    if rejected is None or numbers is None:
        return Counter()
    cells = np.argwhere(rejected)
    names = [tokenizer.fields[field].name for field in cells[:, 1].tolist()]
    return Counter(zip(names, numbers[tuple(cells.T)].tolist(), strict=True))


def _by_channel(rejected: Counter[tuple[str, float]]) -> dict[str, dict[str, int]]:
    """The most frequent values of each field, and how many others it has."""
    found: dict[str, dict[str, int]] = {}
    for (name, value), n in rejected.most_common():
        mine = found.setdefault(name, {})
        shown = f"{value:g}" if len(mine) < SHOWN_REJECTED else "others"
        mine[shown] = mine.get(shown, 0) + n
    return found


def _of_rejected(rejected: Counter[tuple[str, float]]) -> str:
    """Of known values that are not measurements."""
    channels = [
        f"{name!r} ({', '.join(f'{value}: {n:,}' for value, n in values.items())})"
        for name, values in _by_channel(rejected).items()
    ]
    more = ", …" if len(channels) > SHOWN_REJECTED else ""
    return (
        f"{sum(rejected.values()):,} known values around what was filled are taken for no measurements and were not "
        f"used: {', '.join(channels[:SHOWN_REJECTED])}{more}"
        if rejected
        else ""
    )


def _of_lost(lost: Counter[str]) -> str:
    """Of values that were filled and could not be written."""
    fields = ", ".join(f"{name!r} ({n:,})" for name, n in lost.items())
    return (
        f"values that were filled and stay unknown, as their records have no place for them: {fields}" if lost else ""
    )


def _of_unread(unfilled: Counter[str]) -> str:
    """Of unknown values in columns that the run has no field for."""
    columns = ", ".join(f"{name!r} ({n:,})" for name, n in (+unfilled).items())
    return f"unknown values that stay unknown, as the run has no field for their columns: {columns}" if columns else ""


def _calibration(run: TrainedModel, options: InfillOptions) -> str:
    """Whether probabilities and intervals are calibrated, and on what."""
    if not options.calibrated:
        return "not used"
    if run.fitted is None:
        return "none: `maskseq calibrate` makes probabilities and intervals honest"
    with warnings.catch_warnings(action="ignore"):
        used = run.calibration(options.config, symmetries=options.symmetries, experts=options.experts)
    return f"fitted on {run.fitted.fitted_on}" if used else "not used"
