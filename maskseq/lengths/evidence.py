"""Holes of unknown length: how many positions are missing between two neighbours."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Integer

from maskseq.errors import UsageError
from maskseq.predict.protocol import Predict
from maskseq.scoring.score import chain_log_probs
from maskseq.types import Vocabulary

LengthScorer = Callable[
    [Sequence[Integer[np.ndarray, "_ _"]], Sequence[int], tuple[int, int]], Float[np.ndarray, "sequences lengths"]
]
"""Sequences, a place in each, shortest and longest → log-likelihoods of that many positions missing right before it."""


def length_evidence(
    predict: Predict,
    sequences: Sequence[Integer[np.ndarray, "_ _"]],
    places: Sequence[int],
    lengths: tuple[int, int],
    *,
    vocabulary: Vocabulary,
    flank: int = 8,
) -> Float[np.ndarray, "sequences lengths"]:
    """Log P(known | length) in nats, of a hole of each length before each place, up to what all have in common.

    Bayes' rule: P(length | known) ∝ P(known | length), in which whatever fills the hole is summed out, as a masked
    model does when it sees `[MASK]`. So each length is judged by `flank` positions after the hole, masked and then
    revealed one after the other, with the hole masked all the while and without what lies behind them. Where the hole
    ends the sequence, the positions before it are used. Probabilities of fills cannot compare an empty hole, which is
    the most probable one by definition. All lengths and places are run together.
    """
    low, high = lengths
    if not 0 <= low <= high:
        raise UsageError(
            f"the length of a hole is given as (shortest, longest), both 0 or more, not {lengths}", code="bad-option"
        )
    tried, orders = [], []
    for ids, at in zip(sequences, places, strict=True):
        if not 0 <= at <= len(ids):
            raise UsageError(
                f"the hole is before position {at} of a sequence that has {len(ids)}", code="outside-record"
            )
        if flank < 1 or not len(ids):
            raise UsageError(
                "lengths are judged by the positions around the hole: at least 1 of them is needed", code="bad-option"
            )
        # What lies behind the flank is cut off: seen, it would tell the length, and not be counted for it.
        for length, each in enumerate(_tried(ids[: at + flank], at, lengths, vocabulary), start=low):
            after = np.arange(at, min(at + flank, len(ids))) + length
            positions = after if len(after) else np.arange(at - 1, max(at - 1 - flank, -1), -1)
            fields = np.arange(ids.shape[1])
            cells = np.stack([np.repeat(positions, len(fields)), np.tile(fields, len(positions))], axis=1)
            orders.append(cells[vocabulary.known(each)[tuple(cells.T)]])
            tried.append(each)
    sums = [each.sum() for each in chain_log_probs(predict, tried, orders, vocabulary=vocabulary)]
    return np.array(sums).reshape(len(sequences), high - low + 1)


def _tried(
    ids: Integer[np.ndarray, "length fields"], at: int, lengths: tuple[int, int], vocabulary: Vocabulary
) -> list[Integer[np.ndarray, "_ fields"]]:
    mask = np.asarray(vocabulary.mask_ids, dtype=ids.dtype)
    low, high = lengths
    return [np.insert(ids, at, np.repeat(mask[None], length, axis=0), axis=0) for length in range(low, high + 1)]
