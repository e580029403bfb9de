"""What methods answer about masked examples, and figures of it: bits, accuracy, calibration, by group.

Bare accuracy means little where simple tables do well, so every figure is shown with theirs: `skill` is 1 minus the
bits of the product over those of the best other method. Intervals are from a bootstrap over records (or stretches of
long ones).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Integer, Shaped

from maskseq.calibration.fit import calibration_error
from maskseq.constraints import Grammar
from maskseq.corpus.budget import reaching
from maskseq.evaluation.protocols import MaskedExample
from maskseq.evaluation.results import CellFigures, GroupFigures, GroupScore, Interval, MethodFigures, ReliabilityBin
from maskseq.infill.sampler import InfillConfig, infill
from maskseq.predict.posterior import PitValues, posterior
from maskseq.predict.protocol import Example, Predict, answers_of
from maskseq.predict.stated import Stated
from maskseq.types import LegalCells, Progress, Vocabulary

SPANS = (1, 2, 3, 5, 9, 17, 33)
RATIOS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1.0)
FREQUENCIES = (0.0, 0.01, 0.1, 1.0)
RESAMPLES = 1000


def region_numbers(examples: Sequence[MaskedExample]) -> tuple[Int[np.ndarray, " examples"], int]:
    """The region of each example as a number, in the order of the examples, and how many regions there are."""
    number = {region: i for i, region in enumerate(dict.fromkeys(each.region for each in examples))}
    return np.array([number[each.region] for each in examples], np.int64), len(number)


@dataclass(frozen=True)
class ScoredCells:
    """All scored cells of the examples, column by column, in their order."""

    region: Int[np.ndarray, " cells"]
    field: Int[np.ndarray, " cells"]
    truth: Int[np.ndarray, " cells"]
    span: Int[np.ndarray, " cells"]
    ratio: Float[np.ndarray, " cells"]
    objective: Int[np.ndarray, " cells"]
    """Index into `objectives`."""
    objectives: tuple[str, ...]
    n_regions: int

    @classmethod
    def of(cls, examples: Sequence[MaskedExample]) -> "ScoredCells":
        region, n_regions = region_numbers(examples)
        objectives = tuple(dict.fromkeys(p.objective for p in examples))
        sizes = [len(p.cells) for p in examples]

        def spread(values: Iterable[float], dtype: type) -> Any:
            return np.repeat(np.array(list(values), dtype), sizes)

        return cls(
            region=np.repeat(region, sizes),
            field=np.concatenate([p.cells[:, 1] for p in examples]),
            truth=np.concatenate([p.truth[tuple(p.cells.T)] for p in examples]).astype(np.int64),
            span=spread((p.span for p in examples), int),
            ratio=spread((p.ratio for p in examples), float),
            objective=spread((objectives.index(p.objective) for p in examples), int),
            objectives=objectives,
            n_regions=n_regions,
        )

    def at(self, which: Bool[np.ndarray, " cells"]) -> "ScoredCells":
        """Some of the cells; regions without any count for nothing."""
        columns = ("region", "field", "truth", "span", "ratio", "objective")
        return replace(self, **{name: getattr(self, name)[which] for name in columns})


@dataclass(frozen=True)
class Answers:
    """What one method answers about each cell, given everything that is not masked."""

    bits: Float[np.ndarray, " cells"]
    """−log₂ of the probability of the truth."""
    value: Int[np.ndarray, " cells"]
    """The most probable id."""
    confidence: Float[np.ndarray, " cells"]
    """Its probability."""
    mean: Float[np.ndarray, " cells"]
    """Ordinal fields: the expected value, in the field's unit; NaN elsewhere and where the truth is not a number."""
    crps: Float[np.ndarray, " cells"]
    """Ordinal fields: the continuous ranked probability score, in the field's unit; NaN likewise."""
    rank: Float[np.ndarray, "cells 2"]
    """Ordinal fields: between which quantiles of the stated distribution the truth lies; NaN likewise."""

    def at(self, which: Bool[np.ndarray, " cells"]) -> "Answers":
        return Answers(*(getattr(self, each.name)[which] for each in fields(self)))


def ask(
    predict: Predict,
    examples: Sequence[MaskedExample],
    vocabulary: Vocabulary,
    *,
    positions: int = 1 << 16,
    on_progress: Progress = lambda done, of: None,
) -> Answers:
    """Request all cells, about so many positions at a time; `on_progress` is called with the cells answered so far."""
    parts = []
    answered, total = 0, sum(len(each.cells) for each in examples)
    for batch in reaching(examples, _size, positions):
        log_probs, stated = answers_of(predict, [seen(p, vocabulary) for p in batch], [p.cells for p in batch])
        for example, found, numbers in zip(batch, log_probs, stated, strict=True):
            parts.append(_answers(example, np.asarray(found, np.float64), vocabulary, numbers))
        answered += sum(map(len, log_probs))
        on_progress(answered, total)
    columns = zip(*parts, strict=True)
    return Answers(*(np.concatenate(column) for column in columns))


def fill(
    predict: Predict,
    examples: Sequence[MaskedExample],
    vocabulary: Vocabulary,
    config: InfillConfig,
    *,
    allowed: Callable[[Integer[np.ndarray, "_ _"]], LegalCells | None] = lambda ids: None,
    positions: int = 1 << 16,
    on_progress: Progress = lambda done, of: None,
) -> list[Integer[np.ndarray, " _"]]:
    """Fill the scored cells of each example jointly, as `infill` does; what else is masked stays so.

    `allowed` is the tokenizer's: what may stand in partly known sequences. `on_progress` is called with the number of
    cells that are filled.
    """
    values: list[Integer[np.ndarray, " _"]] = []
    for batch in reaching(examples, _size, positions):
        keys = range(len(values), len(values) + len(batch))
        partly = [seen(p, vocabulary) for p in batch]
        holes = [np.zeros(p.masked.shape, bool) for p in batch]
        for hole, example in zip(holes, batch, strict=True):
            hole[tuple(example.cells.T)] = True
        grammar = [[Grammar(allowed)]] * len(batch)
        fills = infill(
            predict,
            partly,
            holes,
            config,
            vocabulary=vocabulary,
            keys=list(keys),
            constraints=grammar,
        )
        values += [
            each.written(one.ids)[tuple(example.cells.T)]
            for each, one, example in zip(fills, partly, batch, strict=True)
        ]
        on_progress(sum(map(len, values)), sum(len(each.cells) for each in examples))
    return values


# ---- figures ------------------------------------------------------------------------------------------------------


def bootstrap(
    region: Int[np.ndarray, " cells"], n_regions: int, *columns: Float[np.ndarray, " cells"], seed: int = 0
) -> Float[np.ndarray, "columns resamples"]:
    """Means of each column over the cells of regions that are drawn with replacement, the same for all columns."""
    sums = np.stack([np.bincount(region, column, n_regions) for column in columns])
    sizes = np.bincount(region, minlength=n_regions).astype(float)
    rng = np.random.default_rng(seed)
    means = np.empty((len(columns), RESAMPLES))
    for i in range(RESAMPLES):
        times = np.bincount(rng.integers(n_regions, size=n_regions), minlength=n_regions)
        means[:, i] = sums @ times / np.maximum(sizes @ times, 1)
    return means


def interval(resamples: Float[np.ndarray, "resamples"]) -> Interval:
    """The middle 95 %."""
    low, high = np.quantile(resamples, [0.025, 0.975])
    return float(low), float(high)


def saved(ours: Float[np.ndarray, "..."], theirs: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """By which share ours is less than theirs; NaN where theirs is 0."""
    ratio = np.divide(ours, theirs, out=np.full(np.shape(theirs), np.nan), where=np.asarray(theirs) != 0)
    return np.asarray(1 - ratio)


def compare(cells: ScoredCells, answers: Mapping[str, Answers], *, product: str | None) -> CellFigures:
    """Bits and accuracy of all methods, with intervals; the product's skill over the best other one, by region."""
    table = {}
    for name, each in answers.items():
        right = (each.value == cells.truth).astype(float)
        bits, accuracy = bootstrap(cells.region, cells.n_regions, each.bits, right)
        table[name] = MethodFigures(
            bits=float(each.bits.mean()),
            bits_interval=interval(bits),
            accuracy=float(right.mean()),
            accuracy_interval=interval(accuracy),
            macro_f1=macro_f1(cells, each.value),
            calibration_error=calibration_error(each.confidence, right > 0),
        )
    figures = CellFigures(cells=len(cells.truth), regions=cells.n_regions, by=table)
    others = [name for name in answers if name != product]
    if product is None or not others:
        return figures
    best = min(others, key=lambda name: table[name].bits)
    most = max(others, key=lambda name: table[name].accuracy)
    own, other = answers[product], answers[best]
    ours, theirs = bootstrap(cells.region, cells.n_regions, own.bits, other.bits)
    hits = [(answers[name].value == cells.truth).astype(float) for name in (product, most)]
    right, their_right = bootstrap(cells.region, cells.n_regions, *hits)
    return replace(
        figures,
        best_baseline=best,
        skill=float(saved(np.array(own.bits.mean()), np.array(other.bits.mean()))),
        skill_interval=interval(saved(ours, theirs)),
        wins_in_bits=interval(theirs - ours)[0] > 0,
        most_often_right=most,
        accuracy_gained=interval(right - their_right),
        wins_in_accuracy=interval(right - their_right)[0] > 0,
    )


def macro_f1(cells: ScoredCells, value: Int[np.ndarray, " cells"]) -> float:
    """F1 of each id that occurs, averaged over the ids of a field and then over fields."""
    scores = []
    for field in np.unique(cells.field).tolist():
        mine = cells.field == field
        truth, answered = cells.truth[mine], value[mine]
        n = int(max(truth.max(), answered.max())) + 1
        hits = np.bincount(truth[truth == answered], minlength=n)
        total = np.bincount(truth, minlength=n) + np.bincount(answered, minlength=n)
        there = np.bincount(truth, minlength=n) > 0
        scores.append(float((2 * hits[there] / total[there]).mean()))
    return float(np.mean(scores))


def breakdown(
    cells: ScoredCells, answers: Mapping[str, Answers], field_names: Sequence[str], *, product: str | None = None
) -> dict[str, dict[str, GroupFigures]]:
    """Bits and accuracy of all methods by field, objective, span length, masked share and frequency of the truth.

    With a product, its skill over the other method that has fewest bits over all cells.
    """
    others = [name for name in answers if name != product]
    best = min(others, key=lambda name: answers[name].bits.mean()) if product is not None and others else None
    frequency = np.empty(len(cells.truth))
    for field in np.unique(cells.field).tolist():
        mine = cells.field == field
        frequency[mine] = (np.bincount(cells.truth[mine]) / np.count_nonzero(mine))[cells.truth[mine]]
    ways: dict[str, dict[str, Bool[np.ndarray, " cells"]]] = {
        "field": {name: cells.field == i for i, name in enumerate(field_names)},
        "objective": {name: cells.objective == i for i, name in enumerate(cells.objectives)},
        "span": {
            f"{low}" if high == low + 1 else f"{low} to {high - 1}" if np.isfinite(high) else f"{low} and more": (
                (cells.span >= low) & (cells.span < high)
            )
            for low, high in pairwise((*SPANS, np.inf))
        },
        "hidden share": {
            f"{low:.0%} to {high:.0%}": (cells.ratio > low) & (cells.ratio <= high) for low, high in pairwise(RATIOS)
        },
        "frequency of the truth": {
            f"{low:.0%} to {high:.0%}": (frequency > low) & (frequency <= high) for low, high in pairwise(FREQUENCIES)
        },
    }
    return {
        way: {
            name: GroupFigures(
                cells=int(np.count_nonzero(mine)),
                by={
                    method: GroupScore(
                        bits=float(each.bits[mine].mean()), accuracy=float((each.value == cells.truth)[mine].mean())
                    )
                    for method, each in answers.items()
                },
                **({} if product is None or best is None else _skill(cells, answers[product], answers[best], mine)),
            )
            for name, mine in groups.items()
            if mine.any()
        }
        for way, groups in ways.items()
    }


def _skill(cells: ScoredCells, own: Answers, other: Answers, mine: Bool[np.ndarray, " cells"]) -> dict[str, Any]:
    """Of some of the cells: the skill and its interval, if there are regions enough for one."""
    regions, region = np.unique(cells.region[mine], return_inverse=True)
    skill = float(saved(np.array(own.bits[mine].mean()), np.array(other.bits[mine].mean())))
    if len(regions) < 2 or np.isnan(skill):
        return {}
    ours, theirs = bootstrap(region, len(regions), own.bits[mine], other.bits[mine])
    return {"skill": skill, "skill_interval": interval(saved(ours, theirs))}


def reliability(cells: ScoredCells, answers: Answers, bins: int = 10) -> list[ReliabilityBin]:
    """Stated confidence and share of right answers, in bins of equal width."""
    right = answers.value == cells.truth
    which = np.minimum((answers.confidence * bins).astype(int), bins - 1)
    return [
        ReliabilityBin(
            confidence=float(answers.confidence[which == i].mean()),
            right=float(right[which == i].mean()),
            cells=int(np.count_nonzero(which == i)),
        )
        for i in range(bins)
        if (which == i).any()
    ]


# ---- one example --------------------------------------------------------------------------------------------------


def _answers(
    example: MaskedExample, log_probs: Float[np.ndarray, "cells outputs"], vocabulary: Vocabulary, stated: Stated | None
) -> tuple[Shaped[np.ndarray, "cells ..."], ...]:
    n = len(example.cells)
    rows = np.arange(n)
    truth = example.truth[tuple(example.cells.T)].astype(np.int64)
    bits = -log_probs[rows, truth] / np.log(2)
    value = log_probs.argmax(axis=1)
    mean, crps, rank = np.full(n, np.nan), np.full(n, np.nan), np.full((n, 2), np.nan)
    for field, centres in enumerate(vocabulary.centres):
        if centres is None:
            continue
        mine = np.flatnonzero((example.cells[:, 1] == field) & (truth < len(centres)))
        probabilities = np.exp(log_probs[mine])
        if len(mine) and (probabilities[:, : len(centres)].sum(axis=1) > 0).all():
            mean[mine] = posterior(probabilities, centres).mean if stated is None else stated.mean[mine]
            crps[mine] = ranked_score(probabilities, centres, truth[mine])
            found = PitValues.of(probabilities, len(centres), truth[mine])
            rank[mine] = np.stack([found.low, found.high], axis=1)
    return bits, value, np.exp(log_probs[rows, value]), mean, crps, rank


def ranked_score(
    probabilities: Float[np.ndarray, "cells outputs"], centres: tuple[float, ...], truth: Int[np.ndarray, " cells"]
) -> Float[np.ndarray, " cells"]:
    """CRPS = ∫ (F(x) − [x ≥ truth])² dx of a distribution on the centres (Gneiting & Raftery 2007, eq. 20)."""
    weights = probabilities[:, : len(centres)]
    below = np.cumsum(weights / weights.sum(axis=1, keepdims=True), axis=1)[:, :-1]
    reached = np.arange(len(centres) - 1) >= truth[:, None]
    return np.asarray(((below - reached) ** 2) @ np.diff(centres))


def seen(example: MaskedExample, vocabulary: Vocabulary) -> Example:
    numbers = None if example.numbers is None else np.where(example.masked, np.nan, example.numbers)
    return Example(vocabulary.masked(example.truth, example.masked), numbers, example.key, example.start)


def _size(example: MaskedExample) -> int:
    return len(example.truth)
