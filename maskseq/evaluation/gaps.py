"""Whole gaps that were filled jointly: how many are exactly right, and how far off the others are."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Integer

from maskseq.evaluation.figures import bootstrap, interval, region_numbers
from maskseq.evaluation.protocols import MaskedExample
from maskseq.evaluation.results import GapFigures


def compare_gaps(
    examples: Sequence[MaskedExample],
    values: Mapping[str, Sequence[Integer[np.ndarray, " _"]]],
    field: int,
    *,
    product: str | None,
) -> dict[str, GapFigures]:
    """Whole gaps of a field by all methods, with intervals; the product paired with the method that is best."""
    regions, n_regions = region_numbers(examples)
    exact = {name: exactly_right(examples, each, field).astype(float) for name, each in values.items()}
    resamples = dict(zip(exact, bootstrap(regions, n_regions, *exact.values()), strict=True))
    figures = {
        name: replace(joint_figures(examples, each, field), exact_interval=interval(resamples[name]))
        for name, each in values.items()
    }
    others = [name for name in figures if name != product]
    if product in figures and others:
        best = max(others, key=lambda name: figures[name].exact)
        gained = interval(resamples[product] - resamples[best])
        figures[product] = replace(figures[product], best_baseline=best, exact_gained=gained, wins=gained[0] > 0)
    return figures


def exactly_right(
    examples: Sequence[MaskedExample], values: Sequence[Integer[np.ndarray, " _"]], field: int
) -> Bool[np.ndarray, " gaps"]:
    """Whether all cells of a field are right, example by example; the order of what has one time does not count."""
    right = []
    for example, filled in zip(examples, values, strict=True):
        mine = example.cells[:, 1] == field
        positions = example.cells[mine, 0]
        moments = np.arange(len(positions))
        if example.tied is not None and len(positions):
            later = ~example.tied[positions, field] | (np.diff(positions, prepend=positions[0]) != 1)
            moments = np.cumsum(later)
        truth, found = example.truth[positions, field], filled[mine]
        truth, found = (each[np.lexsort((each, moments))] for each in (truth, found))
        right.append(np.array_equal(truth, found))
    return np.array(right)


def joint_figures(
    examples: Sequence[MaskedExample], values: Sequence[Integer[np.ndarray, " _"]], field: int
) -> GapFigures:
    """Whole gaps of a field: exactly right, right by cell, and edits a cell. `values` are those of `example.cells`."""
    right, edits, n_cells = 0, 0, 0
    for example, filled in zip(examples, values, strict=True):
        mine = example.cells[:, 1] == field
        truth, filled_in = example.truth[example.cells[mine, 0], field], filled[mine]
        right += int((truth == filled_in).sum())
        edits += edit_distance(truth.tolist(), filled_in.tolist())
        n_cells += len(truth)
    return GapFigures(
        gaps=len(examples),
        exact=float(exactly_right(examples, values, field).mean()),
        accuracy=right / max(n_cells, 1),
        edits_a_cell=edits / max(n_cells, 1),
    )


def edit_distance(a: Sequence[int], b: Sequence[int]) -> int:
    """The fewest insertions, deletions and replacements that turn one into the other (Levenshtein 1966)."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        above, row[0] = row[0], i
        for j, y in enumerate(b, start=1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (x != y))
    return row[-1]
