"""Errors and intervals of the numbers that methods give for ordinal fields, in their units and z-scored."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Integer

from maskseq.evaluation.figures import Answers, ScoredCells, bootstrap, interval, saved
from maskseq.evaluation.protocols import MaskedExample
from maskseq.evaluation.results import ErrorFigures, NumberFigures
from maskseq.predict.posterior import LEVELS, NOMINAL, PitValues
from maskseq.types import Vocabulary


def ordinal_errors(
    cells: ScoredCells,
    truth: Float[np.ndarray, " cells"],
    means: Mapping[str, Float[np.ndarray, " cells"]],
    vocabulary: Vocabulary,
    spreads: Mapping[int, float],
) -> dict[str, dict[str, Any]]:
    """Errors of the numbers that methods give, by field; z-scored by the `spreads` of fields in training data.

    `truth` is NaN where there is no number to predict.
    """
    found: dict[str, dict[str, Any]] = {}
    for field, spread in spreads.items():
        mine = (cells.field == field) & ~np.isnan(truth)
        errors = {name: (each - truth)[mine] for name, each in means.items() if mine.any()}
        if errors:
            found[vocabulary.names[field]] = {
                "cells": int(np.count_nonzero(mine)),
                "by": {
                    name: {
                        "MAE": float(np.abs(error).mean()),
                        "MSE": float((error**2).mean()),
                        "MAE, z-scored": float(np.abs(error).mean() / spread),
                        "MSE, z-scored": float((error**2).mean() / spread**2),
                    }
                    for name, error in errors.items()
                },
            }
    return found


def compare_errors(
    cells: ScoredCells,
    truth: Float[np.ndarray, " cells"],
    means: Mapping[str, Float[np.ndarray, " cells"]],
    spreads: Mapping[int, float],
    *,
    product: str | None,
    floor: str,
) -> NumberFigures:
    """Z-scored errors over all ordinal fields, with intervals; the product paired with the method that is best.

    `floor` is not a method: it is the error of the bins alone.
    """
    spread = np.array([spreads.get(field, np.nan) for field in range(max(spreads) + 1)])
    there = np.flatnonzero(~np.isnan(truth))
    region, scale = cells.region[there], spread[cells.field[there]]
    errors = {name: (each - truth)[there] / scale for name, each in means.items()}
    drawn = bootstrap(region, cells.n_regions, *(error**2 for error in errors.values()))
    resamples = dict(zip(errors, drawn, strict=True))
    table = {
        name: ErrorFigures(
            mae=float(np.abs(error).mean()),
            mse=float((error**2).mean()),
            mse_interval=interval(resamples[name]),
        )
        for name, error in errors.items()
    }
    figures = NumberFigures(cells=len(there), by=table)
    others = [name for name in means if name not in (product, floor)]
    if product is None or not others:
        return figures
    best = min(others, key=lambda name: table[name].mse)
    saving = interval(saved(resamples[product], resamples[best]))
    return replace(figures, best_baseline=best, mse_saved=saving, wins_in_mse=saving[0] > 0)


def ordinal_honesty(
    cells: ScoredCells, answers: Mapping[str, Answers], vocabulary: Vocabulary
) -> dict[str, dict[str, Any]]:
    """CRPS in the field's unit, and how often central intervals hold the truth, by field."""
    found: dict[str, dict[str, Any]] = {}
    for field, centres in enumerate(vocabulary.centres):
        mine = (cells.field == field) & (cells.truth < len(centres or ()))
        if mine.any():
            found[vocabulary.names[field]] = {
                name: {"CRPS": float(each.crps[mine].mean())}
                | {
                    f"{level:.0%} interval": held
                    for level, held in zip(LEVELS, PitValues(*each.rank[mine].T).coverage(NOMINAL), strict=True)
                }
                for name, each in answers.items()
            }
    return found


def imputed(
    fill_in: Callable[[Float[np.ndarray, "_ _"]], Float[np.ndarray, "_ _"]],
    examples: Sequence[MaskedExample],
    vocabulary: Vocabulary,
) -> Float[np.ndarray, " cells"]:
    """What an imputer puts into the scored cells of ordinal fields, in their units; NaN in other fields."""
    ordinal = vocabulary.ordinal
    parts = []
    for example in examples:
        values = _numbers(example, vocabulary)
        values[example.masked] = np.nan
        filled = np.full(example.truth.shape, np.nan)
        filled[:, ordinal] = fill_in(values[:, ordinal])
        parts.append(filled[tuple(example.cells.T)])
    return np.concatenate(parts)


def true_numbers(examples: Sequence[MaskedExample], vocabulary: Vocabulary) -> Float[np.ndarray, " cells"]:
    """The true numbers of scored cells of ordinal fields, in their units; NaN elsewhere and where there is none."""
    return np.concatenate([_numbers(example, vocabulary)[tuple(example.cells.T)] for example in examples])


def rounded_numbers(cells: ScoredCells, vocabulary: Vocabulary) -> Float[np.ndarray, " cells"]:
    """The centres of the true bins: what answers by bins gets no nearer, but by chance."""
    return _centres(cells.truth, cells.field, vocabulary)


def _numbers(example: MaskedExample, vocabulary: Vocabulary) -> Float[np.ndarray, "length fields"]:
    """All numbers of an example as exactly as they are known, NaN where there is none."""
    if example.numbers is not None:
        return example.numbers.copy()
    fields = np.arange(example.truth.shape[1])
    return np.stack([_centres(example.truth[:, f], np.full(len(example.truth), f), vocabulary) for f in fields], axis=1)


def _centres(
    ids: Integer[np.ndarray, " cells"], field: Int[np.ndarray, " cells"], vocabulary: Vocabulary
) -> Float[np.ndarray, " cells"]:
    """The centre of each id in its field, NaN where it has none."""
    found = np.full(len(ids), np.nan)
    for column, centres in enumerate(vocabulary.centres):
        if centres is not None:
            mine = (field == column) & (ids < len(centres))
            found[mine] = np.asarray(centres)[ids[mine]]
    return found
