"""How much is missing: holes whose length nobody knows, and events that may be missing where a log shows no hole.

Lengths are chosen by evidence, the probability of what is known around the hole given its length
(`maskseq.lengths.evidence`). The record is then given as many unknown units, and filled as any other.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Integer

from maskseq.contract.fence import encode, fenced
from maskseq.errors import UsageError
from maskseq.infill.options import MAX_LENGTHS, Insertion, Sized, Unsized
from maskseq.lengths.evidence import LengthScorer, length_evidence
from maskseq.masking.units import position_units
from maskseq.predict.protocol import Predict
from maskseq.storage.standard_json import to_json
from maskseq.tokenizer import Tokenizer

FLANK = 8
"""Positions after a hole that its length is judged by."""


def read_lengths(texts: Iterable[str]) -> dict[str, list[Unsized]]:
    """`KEY:START-END=LOW..HIGH` (units from 1, inclusive): holes of unknown length by record key."""
    found: dict[str, list[Unsized]] = {}
    for text in texts:
        place, _, span = text.rpartition("=")
        key, _, units = place.rpartition(":")
        first, dash, last = units.replace(",", "").partition("-")
        low, _, high = span.partition("..")
        if not all(each.isdecimal() for each in (first, last if dash else first, low, high)):
            raise UsageError(
                f"--length {text}: expected KEY:START-END=LOW..HIGH, such as chr1:1001-1100=20..60", code="bad-option"
            )
        hole = Unsized(int(first) - 1, int(last or first), int(low), int(high))
        if not (0 <= hole.start < hole.stop and hole.low <= hole.high):
            raise UsageError(
                f"--length {text}: the first unit is 1, END is not before START, nor HIGH below LOW", code="bad-option"
            )
        if hole.high - hole.low >= MAX_LENGTHS:
            raise UsageError(f"--length {text}: at most {MAX_LENGTHS} lengths can be compared", code="bad-option")
        found.setdefault(key, []).append(hole)
    return found


def by_evidence(predict: Predict, tokenizer: Tokenizer[Any]) -> LengthScorer:
    """Lengths judged by how probable they make what is known behind the hole."""
    return lambda sequences, places, lengths: length_evidence(
        predict, sequences, places, lengths, vocabulary=tokenizer.vocabulary, flank=FLANK
    )


@dataclass(frozen=True)
class Sizing:
    """Chooses unknown lengths of a record for infill (`maskseq.infill.filling.Sizer`)."""

    scorer: LengthScorer
    tokenizer: Tokenizer[Any]
    context: int

    def __call__(self, record: Any, unsized: Sequence[Unsized], insertion: Insertion | None) -> tuple[Any, list[Sized]]:
        """The record with unknown units where some are missing, as many as are most probable."""
        record, chosen = give_lengths(record, unsized, self.scorer, self.tokenizer, context=self.context)
        if insertion is None:
            return record, chosen
        record, added = insert_missing(record, insertion, self.scorer, self.tokenizer, context=self.context)
        return record, [*chosen, *added]


def give_lengths(
    record: Any, holes: Sequence[Unsized], judge: LengthScorer, tokenizer: Tokenizer[Any], *, context: int
) -> tuple[Any, list[Sized]]:
    """The record with its holes as long as they most probably are, and what was chosen; last holes first."""
    chosen = []
    for hole in sorted(holes, key=lambda hole: -hole.start):
        if not 0 <= hole.start < hole.stop <= len(record):
            raise UsageError(
                f"{record.key}:{hole.start + 1}-{hole.stop} leaves the record, which has {len(record)} units",
                code="outside-record",
            )
        if hole.high > context // 2:
            raise UsageError(
                f"{record.key}: a hole of {hole.high} is longer than half the model's context, {context}",
                code="bad-option",
            )
        closed = _resized(tokenizer, record, hole.start, hole.stop, 0)
        ids, at = _around(tokenizer, closed, [hole.start], context - hole.high)
        (evidence,) = judge(ids, at, (hole.low, hole.high))
        best = int(evidence.argmax())
        others = np.delete(evidence, best)
        margin = float(evidence[best] - others.max()) if len(others) else math.inf
        chosen.append(_sized(record.key, hole.start, hole.stop, hole.low, evidence, best, margin))
        record = _resized(tokenizer, record, hole.start, hole.stop, hole.low + best)
    return record, chosen[::-1]


def insert_missing(
    record: Any, insertion: Insertion, judge: LengthScorer, tokenizer: Tokenizer[Any], *, context: int
) -> tuple[Any, list[Sized]]:
    """The record with unknown units wherever the evidence that some are missing reaches the threshold.

    Each pair of neighbours is judged by itself, as if nothing were missing elsewhere.
    """
    chosen: list[Sized] = []
    places = list(range(1, len(record)))
    if not places or insertion.most > context // 2:
        return record, chosen
    ids, at = _around(tokenizer, record, places, context - insertion.most)
    found = judge(ids, at, (0, insertion.most))
    for place, evidence in reversed(list(zip(places, found, strict=True))):
        best = int(evidence.argmax())
        if best and evidence[best] - evidence[0] >= insertion.threshold:
            reported = float(evidence[best] - evidence[0])
            chosen.append(_sized(record.key, place, place, 0, evidence, best, reported))
            record = _resized(tokenizer, record, place, place, best)
    return record, chosen[::-1]


def _resized(tokenizer: Tokenizer[Any], record: Any, start: int, stop: int, length: int) -> Any:
    with fenced(tokenizer, "resized", record):
        return tokenizer.resized(record, start, stop, length)


def _around(
    tokenizer: Tokenizer[Any], record: Any, places: Sequence[int], size: int
) -> tuple[list[Integer[np.ndarray, "_ fields"]], list[int]]:
    """What stands around each place between two units of a record, and where in it the place is.

    Cells that depend on units of both sides (the time between two events) say nothing once something stands between
    them: they are unknown.
    """
    encoded = encode(tokenizer, record)
    units = tokenizer.units_of(encoded)
    if not _one_position_a_unit(units, len(record)):
        raise UsageError(
            f"{type(tokenizer).__name__} has no position for each unit: how many are missing cannot be judged\n\n"
            f"hint: nucleotide and event tokenizers can",
            code="not-supported",
        )
    windows, middles = [], []
    for place in places:
        start = max(min(place - size // 2, len(encoded) - size), 0)
        near = slice(start, min(start + size, len(encoded)))
        astride = (units[near, :, 0] < place) & (units[near, :, 1] > place)
        windows.append(tokenizer.vocabulary.masked(encoded.ids[near], astride))
        middles.append(place - start)
    return windows, middles


def _one_position_a_unit(units: Int[np.ndarray, "length fields 2"], n_units: int) -> bool:
    own = np.arange(n_units)[:, None]
    first = position_units(units)[:n_units]
    return len(units) >= n_units and bool((first == np.concatenate([own, own + 1], axis=1)).all())


def _sized(
    key: str, start: int, stop: int, low: int, evidence: Float[np.ndarray, " lengths"], best: int, reported: float
) -> Sized:
    probabilities = np.exp(evidence - np.logaddexp.reduce(evidence))
    order = [i for i in np.argsort(-probabilities, kind="stable").tolist() if i != best][:5]
    others = to_json([[low + i, round(float(probabilities[i]), 6)] for i in order])
    return Sized(key, start + 1, stop, low + best, float(probabilities[best]), reported, others)
