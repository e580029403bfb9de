"""A table of what was filled and how surely: one row for each filled cell and sample."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from maskseq.infill.window_plan import Filled
from maskseq.masking.units import unit_blocks
from maskseq.predict.posterior import Posterior, outside_bins
from maskseq.predict.protocol import Fill
from maskseq.storage.tabular import columns_of
from maskseq.tokenizer import Tokenizer
from maskseq.types import Encoded


@dataclass(frozen=True)
class FillRow:
    """One filled cell in one sample."""

    key: str
    """The record's."""
    start: int
    stop: int
    """The raw units that the cell depends on, from 1, both inclusive: base 7, or bases 7 to 12 of a 6-mer."""
    field: str
    sample: int
    value: str
    probability: float
    """Of the value, given all that was known or filled when it was committed; calibrated if a calibration was given."""
    alternatives: tuple[tuple[str, float], ...]
    """The most probable other values, and their probabilities."""
    number: float | None
    """Ordinal fields: the number that was written, in the field's unit."""
    mean: float | None
    median: float | None
    """Given the known cells alone, as the intervals."""
    low50: float | None
    high50: float | None
    low80: float | None
    high80: float | None
    low95: float | None
    high95: float | None
    """Central intervals that hold the true value in 50, 80 and 95 % of the cases."""
    outside: float
    """The probability that the true value is none that the vocabulary knows (`[OTHER]`)."""
    step: int
    """The forward pass after which it was committed."""
    truth: str | None = None
    """What had been there, where a known value was hidden on purpose."""
    gain: float | None = None
    """Bits that the distribution, given the known cells alone, says beyond the frequencies of the training data."""
    clipped: int | None = None
    """Of the 8 nearest known numbers of its field on either side, how many lie outside the training range."""
    experts: tuple[tuple[str, float], ...] = ()
    """What each expert of the blend gave the value, given the known cells alone."""


def rows(
    filled: Filled,
    before: Encoded,
    tokenizer: Tokenizer[Any],
    *,
    posterior: Posterior | None = None,
    numbers: Float[np.ndarray, " cells"] | None = None,
    gains: Float[np.ndarray, " cells"] | None = None,
    clipped: Float[np.ndarray, " cells"] | None = None,
    experts: Sequence[str] = (),
    alternatives: int = 3,
) -> Iterator[FillRow]:
    """The rows of one record, as it was before it was filled: known ids in a hole are the truth.

    `posterior` is that of the fill, if it is at hand; `numbers` are those that were written in place of the centres of
    the bins, NaN for none; `gains` and `clipped` are those columns, NaN where they say nothing. `experts` are the names
    of those of the fill.
    """
    fill, ids = filled.fill, before.ids
    units = unit_ranges(tokenizer, replace(before, ids=fill.written(ids)), fill.cells)
    posterior = posterior or Posterior.of(fill, tokenizer.vocabulary.centres)
    outside = outside_bins(fill, tokenizer.vocabulary.centres)
    for cell, (position, column) in enumerate(fill.cells.tolist()):
        field = tokenizer.fields[column]
        known = int(ids[position, column])
        low, high = (list(map(_known, bounds[cell].tolist())) for bounds in (posterior.low, posterior.high))
        for sample, value in enumerate(fill.values[:, cell].tolist()):
            probabilities = fill.probabilities[sample, cell]
            best = [
                i for i in np.argsort(-probabilities, kind="stable").tolist() if i != value and probabilities[i] > 0
            ]
            centres = field.centres or ()
            number = centres[value] if value < len(centres) else None
            if not np.isnan(outside[sample, cell]):
                number = float(outside[sample, cell])
            if sample == 0 and numbers is not None and not np.isnan(numbers[cell]):
                number = float(numbers[cell])
            yield FillRow(
                key=filled.task.key,
                start=int(units[cell, 0]) + 1,
                stop=int(units[cell, 1]),
                field=field.name,
                sample=sample,
                value=field.token(value),
                probability=float(np.exp(fill.log_prob[sample, cell])),
                alternatives=tuple((field.token(i), float(probabilities[i])) for i in best[:alternatives]),
                number=number,
                mean=_known(float(posterior.mean[cell])),
                median=_known(float(posterior.median[cell])),
                low50=low[0],
                high50=high[0],
                low80=low[1],
                high80=high[1],
                low95=low[2],
                high95=high[2],
                outside=float(fill.other_mass[sample, cell]),
                step=int(fill.step[sample, cell]),
                truth=None if known == field.mask_id else field.token(known),
                gain=None if gains is None else _known(float(gains[cell])),
                clipped=None if clipped is None or np.isnan(clipped[cell]) else int(clipped[cell]),
                experts=_given(experts, fill, sample, cell),
            )


def _given(names: Sequence[str], fill: Fill, sample: int, cell: int) -> tuple[tuple[str, float], ...]:
    """What each expert with a say gave the value; nothing where one predicts alone, or nobody names them."""
    if fill.experts is None or not names:
        return ()
    found = zip(names, fill.experts[sample, cell].tolist(), strict=True)
    return tuple((name, given) for name, given in found if not np.isnan(given))


def unit_ranges(
    tokenizer: Tokenizer[Any], encoded: Encoded, cells: Int[np.ndarray, "cells 2"]
) -> Int[np.ndarray, "cells 2"]:
    """The half-open range of raw units of each (sorted) cell, from 0."""
    ranges = np.zeros((len(cells), 2), np.int64)
    for start, units in unit_blocks(tokenizer, encoded):
        first, last = np.searchsorted(cells[:, 0], [start, start + len(units)]).tolist()
        ranges[first:last] = units[cells[first:last, 0] - start, cells[first:last, 1]]
    return ranges


COLUMNS = columns_of(FillRow)
"""Of the table, with their types."""


def as_dict(row: FillRow) -> dict[str, Any]:
    """The row as a table takes it: probabilities of its alternatives, and by experts, to 6 digits."""
    return vars(row) | {
        name: [[value, round(p, 6)] for value, p in getattr(row, name)] for name in ("alternatives", "experts")
    }


def _known(number: float) -> float | None:
    return None if np.isnan(number) else number
