"""All simple methods that suit a vocabulary, by name: what a model is worth is judged beside the best of them."""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from jaxtyping import Integer

from maskseq.predict.experts.copies import CopyPredict
from maskseq.predict.experts.cross_field import CrossFieldTables
from maskseq.predict.experts.deep_tables import DEPTH, DeepTables
from maskseq.predict.experts.left_out import OwnRecords
from maskseq.predict.experts.markov import Markov, MarkovPredict, best_order
from maskseq.predict.experts.neighbour_index import MAX_PLACES
from maskseq.predict.experts.number_experts import Numbered, count_numbers
from maskseq.predict.experts.numbers import centres_of
from maskseq.predict.experts.remembered import Remembered
from maskseq.predict.experts.span_predict import SpanPredict
from maskseq.predict.experts.training_data import TrainingData
from maskseq.predict.protocol import Predict
from maskseq.survey.periods import found_period
from maskseq.tokenizer import Tokenizer

SMALL = 1 << 20
"""Training positions up to which every pattern of holes may have a sorted view of its own."""
PREFIX = 16
"""Ids before a position that prefixes are told apart by, at most."""
CHAIN = 1 << 12
"""Entries of a chain's table: exact inference takes a step through all of them at each position."""
DEEP, SPANS, CROSS_FIELD, PREFIXES = f"{DEPTH} + {DEPTH} neighbours", "spans", "cross-field", "prefixes"
BEST_CHAIN, COPIES = "best Markov chain", "copies"
FOR_NEXT = frozenset({PREFIXES, BEST_CHAIN})
"""What others are compared with, and experts for the next event only: they look at one side, or at few neighbours, and
context tables know better what they know."""

Sequences = Sequence[Integer[np.ndarray, "_ _"]]


def count(
    data: TrainingData,
    tokenizer: Tokenizer[Any],
    *,
    periods: Sequence[int] = (),
    small: bool | None = None,
    without: Collection[str] = (),
) -> dict[str, Predict]:
    """Those of numbers where all fields are ordinal, those of ids elsewhere.

    `periods` are those of seasons, in positions. `small`: with those whose memory and time small data allow (default:
    if these are small, `is_small`). Methods `without` are not counted.
    """
    if None not in tokenizer.vocabulary.centres:
        return count_numbers(Numbered(data.sequences, data.numbers), tokenizer, periods)
    small = is_small(data.n_positions, tokenizer) if small is None else small
    return {name: Remembered(predict) for name, predict in _of_ids(data, tokenizer, small, without).items()}


def is_small(positions: int, tokenizer: Tokenizer[Any]) -> bool:
    """Whether so many positions, and their images, are few enough for a sorted view of every pattern of holes."""
    return positions * (1 + len(tokenizer.symmetries())) <= SMALL


def seasons(sequences: Sequences, tokenizer: Tokenizer[Any]) -> tuple[int, ...]:
    """The period that is found in numbers, if there is one."""
    vocabulary = tokenizer.vocabulary
    if None in vocabulary.centres:
        return ()
    found = found_period([centres_of(ids, vocabulary) for ids in sequences])
    return () if found is None else (found,)


def thinned(data: TrainingData, tokenizer: Tokenizer[Any]) -> str | None:
    """What deep tables leave out, in words, where there are more training cells than they look at."""
    cells = data.n_positions * (1 + len(tokenizer.symmetries())) * tokenizer.vocabulary.n_fields
    step = -(-cells // MAX_PLACES)
    return f"deep tables count one of {step} of {cells:,} training cells" if step > 1 else None


def _of_ids(data: TrainingData, tokenizer: Tokenizer[Any], small: bool, without: Collection[str]) -> dict[str, Predict]:
    vocabulary, views, records = tokenizer.vocabulary, data.views(tokenizer), OwnRecords(data, tokenizer)
    mirrored = bool(tokenizer.symmetries())
    found: dict[str, Predict] = {
        DEEP: DeepTables(
            views, vocabulary=vocabulary, by_pairs=mirrored, past_holes=small and not mirrored, records=records
        )
    }
    if small:
        found[SPANS] = SpanPredict(views, vocabulary=vocabulary, records=records)
        if vocabulary.n_fields > 1:
            found[CROSS_FIELD] = CrossFieldTables(views, vocabulary=vocabulary, records=records)
    if small and PREFIXES not in without:
        found[PREFIXES] = DeepTables(views, vocabulary=vocabulary, left=PREFIX, right=0, records=records)
    columns = [[ids[:, field] for ids in views] for field in range(vocabulary.n_fields)]
    orders = (
        []
        if BEST_CHAIN in without
        else [
            best_order(column, n_ids=n_ids, largest=CHAIN) if n_ids**2 <= CHAIN else 0
            for column, n_ids in zip(columns, vocabulary.n_outputs, strict=True)
        ]
    )
    if orders and all(orders):
        chains = [
            Markov.count(column, n_ids=n_ids, order=order)
            for column, n_ids, order in zip(columns, vocabulary.n_outputs, orders, strict=True)
        ]
        found[BEST_CHAIN] = MarkovPredict(chains, views, records)
    if vocabulary.n_fields == 1:
        found[COPIES] = CopyPredict(views, vocabulary=vocabulary, records=records)
    return found
