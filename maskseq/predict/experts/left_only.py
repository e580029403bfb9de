"""Methods that look at what came before and at nothing else: what comes next, counted on training data.

Sequences that they are asked about are open, so whatever reads the right margin as the end of a sequence is wrong here.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Integer

from maskseq.model.gaussian import Stationary
from maskseq.predict.experts.deep_tables import DeepTables
from maskseq.predict.experts.imputers import last
from maskseq.predict.experts.left_out import OwnRecords
from maskseq.predict.experts.numbers import NumberPredict, Spread, centres_of
from maskseq.predict.protocol import Predict
from maskseq.tokenizer import Tokenizer

PREFIX = 16
"""Ids before a position that prefixes are told apart by, at most."""
ORDER = 3
"""Ids that a chain looks back at, at most; where it has not seen them, at fewer."""
PREFIXES, CHAIN, GAUSSIAN = "prefix table", f"order-{ORDER} chain", "Gaussian"

Values = Float[np.ndarray, "length fields"]


def left_only(
    sequences: Sequence[Integer[np.ndarray, "_ _"]],
    tokenizer: Tokenizer[Any],
    *,
    periods: Sequence[int] = (),
    records: OwnRecords | None = None,
) -> dict[str, Predict]:
    """Those that suit a vocabulary, by name, the best guess first; `periods` are those of seasons, in positions.

    With `records`, whose views the sequences are, tables leave out the record that they are asked about.
    """
    vocabulary = tokenizer.vocabulary
    if None in vocabulary.centres:
        return {
            PREFIXES: DeepTables(sequences, vocabulary=vocabulary, left=PREFIX, right=0, records=records),
            CHAIN: DeepTables(sequences, vocabulary=vocabulary, left=ORDER, right=0, records=records),
        }
    series = [centres_of(ids, vocabulary) for ids in sequences]
    frequencies = []
    for field, n_ids in enumerate(vocabulary.n_outputs):
        ids = np.concatenate([each[:, field] for each in sequences])
        counts = np.bincount(ids[ids < n_ids], minlength=n_ids) + 0.5 * vocabulary.predictable[field, :n_ids]
        frequencies.append(counts / counts.sum())
    fills: dict[str, Callable[[Values], Values]] = {"last value": last, "drift": drift}
    fills |= {f"season of {period}": seasonal_naive(period) for period in periods}
    posteriors = {GAUSSIAN: Stationary.count(series).posterior}
    posteriors |= {name: Spread.count(fill, series).posterior for name, fill in fills.items()}
    return {name: NumberPredict(each, vocabulary, frequencies) for name, each in posteriors.items()}


def drift(values: Values) -> Values:
    """The line through the first and the last known value before each gap, carried on; before any, the next known."""
    filled = last(values)
    for column in range(values.shape[1]):
        known = np.flatnonzero(~np.isnan(values[:, column]))
        if not len(known):
            continue
        at = np.arange(len(values))
        before = known[np.maximum(np.searchsorted(known, at, side="right") - 1, 0)]
        run = np.maximum(before - known[0], 1)
        slope = (values[before, column] - values[known[0], column]) / run
        ahead = np.isnan(values[:, column]) & (before < at)
        filled[ahead, column] += (slope * (at - before))[ahead]
    return filled


def seasonal_naive(period: int) -> Callable[[Values], Values]:
    """The last known value at the same place of a season; where there is none, the last known value."""

    def fill(values: Values) -> Values:
        filled = last(values)
        for place in range(min(period, len(values))):
            mine = values[place::period]
            carried = last(mine)
            first = np.argmax(~np.isnan(mine), axis=0)  # before it, nothing of this place is known
            earlier = np.arange(len(mine))[:, None] >= first
            filled[place::period] = np.where(earlier & ~np.isnan(carried), carried, filled[place::period])
        return filled

    return fill
