"""Judge a model and what it must beat by the same puzzles: bits, accuracy, calibration, whole gaps.

Bare accuracy means little where simple tables do well, so everything is told beside them: `skill` is 1 minus the bits
of the model over those of the best baseline. Intervals are from a bootstrap over records (or stretches of long ones).
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
from maskseq.infill.sampler import InfillConfig, infill
from maskseq.predict.posterior import PitValues, posterior
from maskseq.predict.protocol import Example, Predict, answers_of
from maskseq.predict.stated import Stated
from maskseq.types import LegalCells, Progress, Vocabulary

SPANS = (1, 2, 3, 5, 9, 17, 33)
RATIOS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1.0)
FREQUENCIES = (0.0, 0.01, 0.1, 1.0)
RESAMPLES = 1000


@dataclass(frozen=True)
class ScoredCells:
    """All scored cells of the puzzles, column by column, in their order."""

    region: Int[np.ndarray, " cells"]
    puzzle: Int[np.ndarray, " cells"]
    field: Int[np.ndarray, " cells"]
    truth: Int[np.ndarray, " cells"]
    span: Int[np.ndarray, " cells"]
    ratio: Float[np.ndarray, " cells"]
    objective: Int[np.ndarray, " cells"]
    """Index into `objectives`."""
    objectives: tuple[str, ...]
    n_regions: int

    @classmethod
    def of(cls, puzzles: Sequence[MaskedExample]) -> "ScoredCells":
        regions = {region: i for i, region in enumerate(dict.fromkeys(p.region for p in puzzles))}
        objectives = tuple(dict.fromkeys(p.objective for p in puzzles))
        sizes = [len(p.cells) for p in puzzles]

        def spread(values: Iterable[float], dtype: type) -> Any:
            return np.repeat(np.array(list(values), dtype), sizes)

        return cls(
            region=spread((regions[p.region] for p in puzzles), int),
            puzzle=np.repeat(np.arange(len(puzzles)), sizes),
            field=np.concatenate([p.cells[:, 1] for p in puzzles]),
            truth=np.concatenate([p.truth[tuple(p.cells.T)] for p in puzzles]).astype(np.int64),
            span=spread((p.span for p in puzzles), int),
            ratio=spread((p.ratio for p in puzzles), float),
            objective=spread((objectives.index(p.objective) for p in puzzles), int),
            objectives=objectives,
            n_regions=len(regions),
        )

    def at(self, which: Bool[np.ndarray, " cells"]) -> "ScoredCells":
        """Some of the cells; regions without any count for nothing."""
        columns = ("region", "puzzle", "field", "truth", "span", "ratio", "objective")
        return replace(self, **{name: getattr(self, name)[which] for name in columns})


@dataclass(frozen=True)
class Answers:
    """What somebody said about each cell, given everything that is not hidden."""

    bits: Float[np.ndarray, " cells"]
    """−log₂ of the probability of the truth."""
    value: Int[np.ndarray, " cells"]
    """The most probable id."""
    confidence: Float[np.ndarray, " cells"]
    """Its probability."""
    mean: Float[np.ndarray, " cells"]
    """Ordinal fields: the expected value, in the field's unit; NaN elsewhere and where the truth is no number."""
    crps: Float[np.ndarray, " cells"]
    """Ordinal fields: the continuous ranked probability score, in the field's unit; NaN likewise."""
    rank: Float[np.ndarray, "cells 2"]
    """Ordinal fields: between which quantiles of the stated distribution the truth lies; NaN likewise."""

    def at(self, which: Bool[np.ndarray, " cells"]) -> "Answers":
        return Answers(*(getattr(self, each.name)[which] for each in fields(self)))


def ask(
    predict: Predict,
    puzzles: Sequence[MaskedExample],
    vocabulary: Vocabulary,
    *,
    positions: int = 1 << 16,
    on_progress: Progress = lambda done, of: None,
) -> Answers:
    """Ask for all cells, about so many positions at a time; `on_progress` hears how many cells are answered."""
    parts = []
    answered, total = 0, sum(len(each.cells) for each in puzzles)
    for batch in reaching(puzzles, _size, positions):
        log_probs, stated = answers_of(predict, [_example(p, vocabulary) for p in batch], [p.cells for p in batch])
        for puzzle, found, said in zip(batch, log_probs, stated, strict=True):
            parts.append(_answers(puzzle, np.asarray(found, np.float64), vocabulary, said))
        answered += sum(map(len, log_probs))
        on_progress(answered, total)
    columns = zip(*parts, strict=True)
    return Answers(*(np.concatenate(column) for column in columns))


def fill(
    predict: Predict,
    puzzles: Sequence[MaskedExample],
    vocabulary: Vocabulary,
    config: InfillConfig,
    *,
    allowed: Callable[[Integer[np.ndarray, "_ _"]], LegalCells | None] = lambda ids: None,
    positions: int = 1 << 16,
    on_progress: Progress = lambda done, of: None,
) -> list[Integer[np.ndarray, " _"]]:
    """Fill the scored cells of each puzzle jointly, as `infill` does; what else is hidden stays so.

    `allowed` is the tokenizer's: what may stand in partly known sequences. `on_progress` hears how many cells are
    filled.
    """
    values: list[Integer[np.ndarray, " _"]] = []
    for batch in reaching(puzzles, _size, positions):
        keys = range(len(values), len(values) + len(batch))
        seen = [_example(p, vocabulary) for p in batch]
        holes = [np.zeros(p.hidden.shape, bool) for p in batch]
        for hole, puzzle in zip(holes, batch, strict=True):
            hole[tuple(puzzle.cells.T)] = True
        grammar = [[Grammar(allowed)]] * len(batch)
        fills = infill(
            predict,
            seen,
            holes,
            config,
            vocabulary=vocabulary,
            keys=list(keys),
            constraints=grammar,
        )
        values += [
            each.written(one.ids)[tuple(puzzle.cells.T)] for each, one, puzzle in zip(fills, seen, batch, strict=True)
        ]
        on_progress(sum(map(len, values)), sum(len(each.cells) for each in puzzles))
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


def interval(resamples: Float[np.ndarray, "resamples"]) -> list[float]:
    """The middle 95 %."""
    low, high = np.quantile(resamples, [0.025, 0.975])
    return [float(low), float(high)]


def saved(ours: Float[np.ndarray, "..."], theirs: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """By which share ours is less than theirs; NaN where theirs is 0."""
    ratio = np.divide(ours, theirs, out=np.full(np.shape(theirs), np.nan), where=np.asarray(theirs) != 0)
    return np.asarray(1 - ratio)


def compare(cells: ScoredCells, answers: Mapping[str, Answers], *, model: str | None) -> dict[str, Any]:
    """Bits and accuracy of everybody, with intervals; the model's skill over the best baseline, paired by region."""
    table: dict[str, Any] = {}
    for name, each in answers.items():
        right = (each.value == cells.truth).astype(float)
        bits, accuracy = bootstrap(cells.region, cells.n_regions, each.bits, right)
        table[name] = {
            "bits": float(each.bits.mean()),
            "bits, 95 %": interval(bits),
            "accuracy": float(right.mean()),
            "accuracy, 95 %": interval(accuracy),
            "macro-F1": macro_f1(cells, each.value),
            "calibration error": calibration_error(each.confidence, right > 0),
        }
    baselines = [name for name in answers if name != model]
    if model is None or not baselines:
        return {"cells": len(cells.truth), "regions": cells.n_regions, "by": table}
    best = min(baselines, key=lambda name: table[name]["bits"])
    most = max(baselines, key=lambda name: table[name]["accuracy"])
    own, other = answers[model], answers[best]
    ours, theirs = bootstrap(cells.region, cells.n_regions, own.bits, other.bits)
    hits = [(answers[name].value == cells.truth).astype(float) for name in (model, most)]
    right, their_right = bootstrap(cells.region, cells.n_regions, *hits)
    return {
        "cells": len(cells.truth),
        "regions": cells.n_regions,
        "by": table,
        "best baseline": best,
        "skill": float(saved(np.array(own.bits.mean()), np.array(other.bits.mean()))),
        "skill, 95 %": interval(saved(ours, theirs)),
        "wins in bits": interval(theirs - ours)[0] > 0,
        "most often right": most,
        "accuracy gained, 95 %": interval(right - their_right),
        "wins in accuracy": interval(right - their_right)[0] > 0,
    }


def macro_f1(cells: ScoredCells, value: Int[np.ndarray, " cells"]) -> float:
    """F1 of each id that occurs, averaged over the ids of a field and then over fields."""
    scores = []
    for field in np.unique(cells.field).tolist():
        mine = cells.field == field
        truth, said = cells.truth[mine], value[mine]
        n = int(max(truth.max(), said.max())) + 1
        hits = np.bincount(truth[truth == said], minlength=n)
        total = np.bincount(truth, minlength=n) + np.bincount(said, minlength=n)
        there = np.bincount(truth, minlength=n) > 0
        scores.append(float((2 * hits[there] / total[there]).mean()))
    return float(np.mean(scores))


def breakdown(
    cells: ScoredCells, answers: Mapping[str, Answers], field_names: Sequence[str]
) -> dict[str, dict[str, dict[str, Any]]]:
    """Bits and accuracy of everybody by field, objective, span length, hidden share and how frequent the truth is."""
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
            name: {
                "cells": int(np.count_nonzero(mine)),
                "by": {
                    who: {
                        "bits": float(each.bits[mine].mean()),
                        "accuracy": float((each.value == cells.truth)[mine].mean()),
                    }
                    for who, each in answers.items()
                },
            }
            for name, mine in groups.items()
            if mine.any()
        }
        for way, groups in ways.items()
    }


def compare_gaps(
    puzzles: Sequence[MaskedExample],
    values: Mapping[str, Sequence[Integer[np.ndarray, " _"]]],
    field: int,
    *,
    model: str,
) -> dict[str, dict[str, Any]]:
    """Whole gaps of a field by everybody, with intervals; the model beside who is exactly right most often, paired."""
    number = {region: i for i, region in enumerate(dict.fromkeys(p.region for p in puzzles))}
    regions = np.array([number[p.region] for p in puzzles])
    exact = {name: exactly_right(puzzles, each, field).astype(float) for name, each in values.items()}
    resamples = dict(zip(exact, bootstrap(regions, len(number), *exact.values()), strict=True))
    told = {
        name: joint_figures(puzzles, each, field) | {"exact, 95 %": interval(resamples[name])}
        for name, each in values.items()
    }
    if model in told:
        best = max((name for name in told if name != model), key=lambda name: told[name]["exact"])
        gained = interval(resamples[model] - resamples[best])
        told[model] |= {"best baseline": best, "exact gained, 95 %": gained, "wins": gained[0] > 0}
    return told


def exactly_right(
    puzzles: Sequence[MaskedExample], values: Sequence[Integer[np.ndarray, " _"]], field: int
) -> Bool[np.ndarray, " gaps"]:
    """Whether all cells of a field are right, puzzle by puzzle."""
    right = []
    for puzzle, filled in zip(puzzles, values, strict=True):
        wrong = puzzle.truth[tuple(puzzle.cells.T)] != filled
        right.append(not wrong[puzzle.cells[:, 1] == field].any())
    return np.array(right)


def joint_figures(
    puzzles: Sequence[MaskedExample], values: Sequence[Integer[np.ndarray, " _"]], field: int
) -> dict[str, Any]:
    """Whole gaps of a field: exactly right, right by cell, and edits a cell. `values` are those of `puzzle.cells`."""
    right, edits, n_cells = 0, 0, 0
    for puzzle, filled in zip(puzzles, values, strict=True):
        mine = puzzle.cells[:, 1] == field
        truth, said = puzzle.truth[puzzle.cells[mine, 0], field], filled[mine]
        right += int((truth == said).sum())
        edits += edit_distance(truth.tolist(), said.tolist())
        n_cells += len(truth)
    return {
        "gaps": len(puzzles),
        "exact": float(exactly_right(puzzles, values, field).mean()),
        "accuracy": right / max(n_cells, 1),
        "edits a cell": edits / max(n_cells, 1),
    }


def edit_distance(a: Sequence[int], b: Sequence[int]) -> int:
    """The fewest insertions, deletions and replacements that turn one into the other (Levenshtein 1966)."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        above, row[0] = row[0], i
        for j, y in enumerate(b, start=1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (x != y))
    return row[-1]


# ---- one puzzle ---------------------------------------------------------------------------------------------------


def _answers(
    puzzle: MaskedExample, log_probs: Float[np.ndarray, "cells outputs"], vocabulary: Vocabulary, stated: Stated | None
) -> tuple[Shaped[np.ndarray, "cells ..."], ...]:
    n = len(puzzle.cells)
    rows = np.arange(n)
    truth = puzzle.truth[tuple(puzzle.cells.T)].astype(np.int64)
    bits = -log_probs[rows, truth] / np.log(2)
    value = log_probs.argmax(axis=1)
    mean, crps, rank = np.full(n, np.nan), np.full(n, np.nan), np.full((n, 2), np.nan)
    for field, centres in enumerate(vocabulary.centres):
        if centres is None:
            continue
        mine = np.flatnonzero((puzzle.cells[:, 1] == field) & (truth < len(centres)))
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


def _example(puzzle: MaskedExample, vocabulary: Vocabulary) -> Example:
    """What is seen of it."""
    numbers = None if puzzle.numbers is None else np.where(puzzle.hidden, np.nan, puzzle.numbers)
    return Example(vocabulary.masked(puzzle.truth, puzzle.hidden), numbers)


def _size(puzzle: MaskedExample) -> int:
    return len(puzzle.truth)
