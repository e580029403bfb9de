"""Everybody's answers to the panel's questions, as losses summed by region: all that the statistics need."""

import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.panel.questions import Export, independent, jointly
from benchmarks.panel.rule import Metric
from benchmarks.panel.sets import Domain, Set
from maskseq.baselines.baselines import FREQUENCIES, Baselines
from maskseq.baselines.imputers import imputer
from maskseq.evaluation import figures as evaluate
from maskseq.evaluation import numbers as evaluate_numbers
from maskseq.evaluation.figures import Answers
from maskseq.evaluation.protocols import MaskedExample
from maskseq.infill.sampler import InfillConfig, infill
from maskseq.predict.protocol import Predict
from maskseq.types import LegalCells, Vocabulary

DEPTH = 5
REGIONS = 200
"""Records and stretches are gathered into so many regions at most, by a hash of their names."""
MOST_BITS = 40.0
"""What a probability of 0 costs."""
MIX = "mixture"
"""How the names of mixtures of simple methods begin: they are never the reference."""
Told = dict[str, Any]


def metric_of(domain: Domain, kind: str) -> Metric:
    if domain == "signal":
        return "squared error"
    return "exact" if domain == "log" and kind == "gap" else "bits"


def simple_methods(export: Export) -> Baselines:
    """Counted on the training part that the run was trained on."""
    return Baselines(export.ids("train"), export.tokenizer, DEPTH, export.distances)


def judge(
    asked: Set,
    export: Export,
    questions: Mapping[str, tuple[str, list[MaskedExample]]],
    answered: Path,
    *,
    on_progress: Callable[[str], None] = lambda what: None,
) -> Told:
    """Of each protocol of each part: how everybody does, and the sums of each region. JSON takes it."""
    on_progress("counting simple methods")
    baselines = simple_methods(export)
    told: Told = {}
    for where, (protocol, puzzles) in questions.items():
        on_progress(f"asking simple methods: {where}")
        part, _, kind = where.rpartition("/")
        path = answered / f"{where.replace('/', '.')}.npz"
        stored: dict[str, np.ndarray] = {}
        if part != "selection":
            with np.load(path) as file:
                stored = dict(file)
        metric = metric_of(asked.domain, kind)
        who: dict[str, Predict] = {
            **{name.partition("/")[2]: _recorded(stored[name]) for name in stored if name.startswith("log_probs/")},
            **baselines.predicts,
        }
        vocabulary = export.tokenizer.vocabulary
        answers = {name: evaluate.ask(predict, puzzles, vocabulary) for name, predict in who.items()}
        spreads = baselines.spreads()
        if metric == "squared error":
            losses, beside = _numbers(asked, puzzles, answers, vocabulary, baselines, spreads)
        else:
            losses = {name: np.minimum(each.bits, MOST_BITS) for name, each in answers.items()}
            truth = np.concatenate([puzzle.truth[tuple(puzzle.cells.T)] for puzzle in puzzles])
            beside = {name: {"accuracy": float((each.value == truth).mean())} for name, each in answers.items()}
        sizes = np.array([len(puzzle.cells) for puzzle in puzzles])
        groups = np.array([zlib.crc32(puzzle.region.encode()) % REGIONS for puzzle in puzzles])
        gaps = puzzles[: jointly(asked.domain, kind, puzzles)]
        filled = _filled(gaps, stored, baselines, who, _primary(vocabulary))
        for name, each in filled.items():
            beside.setdefault(name, {})["exact"] = float(np.nanmean(each))
        if metric == "exact":
            for name, each in losses.items():
                beside[name]["bits"] = float(each.mean())
            losses, sizes = filled, np.ones(len(puzzles), int)
        told[where] = {
            "protocol": protocol,
            "metric": metric,
            "puzzles": len(puzzles),
            "independent": independent(puzzles),
            "beside": {name: {key: _short(value) for key, value in each.items()} for name, each in beside.items()},
            **_summed(losses, np.repeat(groups, sizes)),
        }
    return told


def _summed(losses: Mapping[str, np.ndarray], group: np.ndarray) -> Told:
    """Means and sums by region, over what everybody has an answer to."""
    there = ~np.isnan(np.stack(list(losses.values()))).any(axis=0)
    names, group = np.unique(group[there], return_inverse=True)
    sums = {name: np.bincount(group, each[there], len(names)) for name, each in losses.items()}
    return {
        "cells": int(there.sum()),
        "regions": len(names),
        "means": {name: _short(each[there].mean()) for name, each in losses.items()} if there.any() else {},
        "sizes": np.bincount(group, minlength=len(names)).tolist(),
        "sums": {name: [_short(value) for value in each.tolist()] for name, each in sums.items()},
    }


def _numbers(
    asked: Set,
    puzzles: Sequence[MaskedExample],
    answers: Mapping[str, Answers],
    vocabulary: Vocabulary,
    baselines: Baselines,
    spreads: Mapping[int, float],
) -> tuple[dict[str, np.ndarray], dict[str, dict[str, float]]]:
    """Squared errors in units of each field's training variance, and CRPS and bits beside."""
    truth = evaluate_numbers.true_numbers(puzzles, vocabulary)
    fields = np.concatenate([puzzle.cells[:, 1] for puzzle in puzzles])
    scale = np.array([spreads.get(field, np.nan) for field in range(vocabulary.n_fields)])[fields]
    means = {name: each.mean for name, each in answers.items()}
    fills: dict[str, Any] = {name: imputer(name) for name in ("linear", "last", "spline", "mean")}
    fills |= {
        f"{kind}-{asked.season}": imputer(f"{kind}-{asked.season}") for kind in ("seasonal", "mixed") if asked.season
    }
    fills["covariances"] = baselines.covariances.fill
    fills |= getattr(baselines, "imputers", {})
    for name, fill in fills.items():
        means[name] = evaluate_numbers.imputed(fill, puzzles, vocabulary)
    # Where a record shows no number to start from, whoever fills it says the training mean.
    said = {name: np.where(np.isnan(each), means[FREQUENCIES], each) for name, each in means.items()}
    errors = {name: ((each - truth) / scale) ** 2 for name, each in said.items()}
    beside = {
        name: {"CRPS": float(np.nanmean(each.crps / scale)), "bits": float(np.minimum(each.bits, MOST_BITS).mean())}
        for name, each in answers.items()
    }
    return errors, beside


def _filled(
    puzzles: Sequence[MaskedExample],
    stored: Mapping[str, np.ndarray],
    baselines: Baselines,
    who: Mapping[str, Predict],
    field: int,
) -> dict[str, np.ndarray]:
    """Of each gap, 1.0 where all its cells of the field are right; NaN where none of them is asked for."""
    if not puzzles:
        return {}
    vocabulary = baselines.tokenizer.vocabulary
    ends = np.cumsum([len(puzzle.cells) for puzzle in puzzles])[:-1]
    filled = {name.partition("/")[2]: np.split(stored[name], ends) for name in stored if name.startswith("fills/")}
    legal: list[np.ndarray] | None = None
    if "legal" in stored:
        width = vocabulary.committable.shape[1]
        legal = np.split(np.unpackbits(stored["legal"], axis=1, count=width).astype(bool), ends)
    for name in baselines.predicts:
        filled[name] = _by_tables(who[name], puzzles, vocabulary, legal)
    filled["most frequent span"] = [_by_spans(puzzle, field, baselines) for puzzle in puzzles]
    return {
        name: np.array([_exact(puzzle, each, field) for puzzle, each in zip(puzzles, values, strict=True)])
        for name, values in filled.items()
    }


def _exact(puzzle: MaskedExample, values: np.ndarray, field: int) -> float:
    mine = puzzle.cells[:, 1] == field
    if not mine.any() or puzzle.hidden[:, field].all():
        return np.nan
    return float((puzzle.truth[tuple(puzzle.cells[mine].T)] == values[mine]).all())


def _by_tables(
    predict: Predict, puzzles: Sequence[MaskedExample], vocabulary: Vocabulary, legal: Sequence[np.ndarray] | None
) -> list[np.ndarray]:
    """Filled by `infill`, under the grammar as far as it is known before anything is filled."""
    masks = np.asarray(vocabulary.mask_ids, puzzles[0].truth.dtype)
    values = []
    for first in range(0, len(puzzles), 64):
        batch = puzzles[first : first + 64]
        seen = [np.where(puzzle.hidden, masks, puzzle.truth) for puzzle in batch]
        holes = [np.zeros(puzzle.hidden.shape, bool) for puzzle in batch]
        for hole, puzzle in zip(holes, batch, strict=True):
            hole[tuple(puzzle.cells.T)] = True
        allowed = [
            None if legal is None else LegalCells(puzzle.cells, legal[first + i]) for i, puzzle in enumerate(batch)
        ]
        keys = list(range(first, first + len(batch)))
        fills = infill(predict, seen, holes, InfillConfig(), vocabulary=vocabulary, keys=keys, legal=allowed)
        values += [f.written(ids)[tuple(p.cells.T)] for f, ids, p in zip(fills, seen, batch, strict=True)]
    return values


def _by_spans(puzzle: MaskedExample, field: int, baselines: Baselines) -> np.ndarray:
    hidden = puzzle.hidden[:, field]
    written = puzzle.truth.copy()
    if hidden.any() and not hidden.all():
        written[hidden, field] = baselines.span_table(field, int(hidden.sum())).fill(written[:, field], hidden)
    return np.asarray(written[tuple(puzzle.cells.T)])


def _primary(vocabulary: Vocabulary) -> int:
    """The field whose gaps are to be exactly right: the first without numbers, such as the activity of a log."""
    return next((field for field, centres in enumerate(vocabulary.centres) if centres is None), 0)


def _recorded(log_probs: np.ndarray) -> Predict:
    """What was said before, in the order in which it is asked for now."""
    at = 0

    def predict(sequences: Sequence[np.ndarray], cells: Sequence[np.ndarray]) -> list[np.ndarray]:
        nonlocal at
        first, at = at, at + sum(map(len, cells))
        return np.split(log_probs[first:at], np.cumsum([len(each) for each in cells])[:-1])

    return predict


def _short(value: float) -> float:
    return float(f"{value:.6g}")
