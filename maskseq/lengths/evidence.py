"""Holes of unknown length: how many positions are missing between two neighbours, and what they hold."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Integer

from maskseq.constraints import Constraint
from maskseq.errors import UsageError
from maskseq.infill.sampler import InfillConfig, infill
from maskseq.infill.sampler_state import Key, flat_key
from maskseq.predict.protocol import Example, Fill, Predict
from maskseq.scoring.score import chain_log_probs
from maskseq.types import Vocabulary

LengthScorer = Callable[
    [Sequence[Integer[np.ndarray, "_ _"]], Sequence[int], tuple[int, int]], Float[np.ndarray, "sequences lengths"]
]
"""Sequences, a place in each, shortest and longest → log-likelihoods of that many positions missing right before it."""


@dataclass(frozen=True)
class Candidate:
    """A length that a hole may have, filled."""

    length: int
    ids: Integer[np.ndarray, "length fields"]
    """The whole sequence, the most probable sample written into it."""
    fill: Fill
    evidence: float
    """How well the known positions after the hole fit those before it over this length, in nats."""
    posterior: float
    """The probability of this length among those tried, each as likely beforehand."""

    @property
    def joint(self) -> float:
        """Log-probability of the most probable sample: longer holes have more ways to be filled, so it is lower."""
        return float(self.fill.joint.max())

    @property
    def mean(self) -> float:
        """The same for each cell; 0 for an empty hole."""
        return self.joint / max(len(self.fill.cells), 1)


def fill_lengths(
    predict: Predict,
    ids: Integer[np.ndarray, "length fields"],
    at: int,
    lengths: tuple[int, int],
    config: InfillConfig,
    *,
    vocabulary: Vocabulary,
    key: Key,
    flank: int = 8,
    constraints: Callable[[int], Sequence[Constraint]] | None = None,
) -> list[Candidate]:
    """Fill a hole of every length from `lengths[0]` to `lengths[1]` before position `at`; most probable length first.

    Bayes' rule: P(length | known) ∝ P(known | length), in which whatever fills the hole is summed out, as a masked
    model does when it sees `[MASK]`. So each length is judged by `flank` positions after the hole, hidden and then
    revealed one after the other, with the hole masked all the while and without what lies behind them. Where the hole
    ends the sequence, the positions before it are used. Scores of the fills (`joint`, or `mean` as Xiao et al. rank
    lengths) cannot compare an empty hole, which wins by both. `constraints(length)` gives the rules for a hole of that
    length.
    """
    low, high = lengths
    (evidence,) = length_evidence(predict, [ids], [at], lengths, vocabulary=vocabulary, flank=flank)
    tried = _tried(ids, at, lengths, vocabulary)
    holes = [np.zeros(each.shape, bool) for each in tried]
    for length, hole in enumerate(holes, start=low):
        hole[at : at + length] = True
    fills = infill(
        predict,
        [Example(each) for each in tried],
        holes,
        config,
        vocabulary=vocabulary,
        keys=[(*flat_key(key), length) for length in range(low, high + 1)],
        constraints=[constraints(length) for length in range(low, high + 1)] if constraints else None,
    )
    posterior = np.exp(evidence - np.logaddexp.reduce(evidence))
    candidates = [
        Candidate(
            length=low + i,
            ids=fills[i].written(tried[i], int(fills[i].joint.argmax())),
            fill=fills[i],
            evidence=float(evidence[i]),
            posterior=float(posterior[i]),
        )
        for i in range(len(tried))
    ]
    return sorted(candidates, key=lambda candidate: -candidate.evidence)


def length_evidence(
    predict: Predict,
    sequences: Sequence[Integer[np.ndarray, "_ _"]],
    places: Sequence[int],
    lengths: tuple[int, int],
    *,
    vocabulary: Vocabulary,
    flank: int = 8,
) -> Float[np.ndarray, "sequences lengths"]:
    """Log P(known | length) in nats, of a hole before each place, up to what all lengths have in common.

    See `fill_lengths`. All lengths and places are run together.
    """
    low, high = lengths
    if not 0 <= low <= high:
        raise UsageError(f"the length of a hole is given as (shortest, longest), both 0 or more, not {lengths}")
    tried, orders = [], []
    for ids, at in zip(sequences, places, strict=True):
        if not 0 <= at <= len(ids):
            raise UsageError(f"the hole is before position {at} of a sequence that has {len(ids)}")
        if flank < 1 or not len(ids):
            raise UsageError("lengths are judged by the positions around the hole: at least 1 of them is needed")
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
