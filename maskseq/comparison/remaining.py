"""The protocol `remaining`: how long cases go on from a prefix of each, compared with what training cases did."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Integer

from maskseq.comparison.results import RemainingTime
from maskseq.comparison.verdict import CASES, compare_field
from maskseq.errors import UsageError
from maskseq.evaluation.protocols import REMAINING
from maskseq.generate.continuation import GenerateConfig, continuations
from maskseq.infill.window_plan import key_number
from maskseq.predict.protocol import Predict
from maskseq.tokenizer import Tokenizer
from maskseq.types import END, Encoded, Progress

MOST_CASES = 200
"""Cases of which prefixes are continued, at most: each of them many times."""
SAMPLES = 20
MEAN, MEDIAN = "mean by prefix", "median by prefix"
UNITS = {"s": (86_400.0, "days")}
"""Of units of time, how many of them are one of another that people read."""


def remaining_time(
    predictors: Mapping[str, Predict],
    training: Sequence[Integer[np.ndarray, "_ _"]],
    records: Sequence[tuple[str, Encoded]],
    tokenizer: Tokenizer[Any],
    *,
    context: int,
    product: str | None = None,
    cells: int = MOST_CASES,
    samples: int = SAMPLES,
    seed: int = 0,
    on_progress: Progress = lambda done, of: None,
) -> RemainingTime:
    """The time from a random event of each held-out case until its last one, by the median of samples.

    `cells` bounds the cases. The simple methods are the mean and the median of what was left of training cases after
    as many events. The truth is what was read, where that is known, or else the sum of the centres of bins.

    Raises:
        UsageError: Sequences have no time or no end, or no record is long enough.
    """
    if tokenizer.elapsed is None or not any(END in field.controls for field in tokenizer.fields):
        raise UsageError(
            f"protocol {REMAINING}: it is of cases that have a time and an end, and these have not",
            code="not-supported",
        )
    gap = [field.name for field in tokenizer.fields].index(tokenizer.elapsed)
    field = tokenizer.fields[gap]
    scale, unit = UNITS.get(field.unit, (1.0, field.unit))
    centres = np.asarray(field.centres, np.float64)
    by_length: dict[int, list[float]] = {}
    for ids in training:
        case = _rests(Encoded(ids), tokenizer, gap)
        for known, value in () if case is None else enumerate(case[1].tolist(), case[0]):
            by_length.setdefault(known, []).append(value)
    prefixes = _prefixes(records, tokenizer, gap, min(cells, MOST_CASES), seed)
    if not prefixes or not by_length:
        raise UsageError(
            f"protocol {REMAINING}: no held-out case has all its times\n\nhint: hold out more", code="too-little-data"
        )
    truth = np.array([each.rest for each in prefixes])
    longest = max(by_length)
    simple: dict[str, Callable[[list[float]], Any]] = {MEAN: np.mean, MEDIAN: np.median}
    answers = {
        name: np.array([how(_nearest(by_length, each.known, longest)) for each in prefixes])
        for name, how in simple.items()
    }
    config = GenerateConfig(steps=context, samples=samples, seed=seed)
    ended = {}
    asked = [(each.key, each.encoded) for each in prefixes]
    for done, (name, predict) in enumerate(predictors.items()):
        on_progress(done, len(predictors))
        found = continuations(predict, tokenizer, asked, config, context=context)
        answers[name] = np.array([np.median(each.sums(gap, tuple(centres.tolist()))) for each in found])
        ended[name] = float(np.mean([each.ended.mean() for each in found]))
    compared = compare_field(
        {name: np.abs(each - truth) / scale for name, each in answers.items()},
        np.arange(len(truth)),
        product=product,
        simple=simple,
        metric="absolute error",
        protocol=REMAINING,
        field=f"{tokenizer.elapsed} until the end ({unit})" if unit else f"{tokenizer.elapsed} until the end",
        of=CASES,
    )
    return RemainingTime(cases=len(prefixes), samples=samples, ended=ended, comparison=compared)


@dataclass(frozen=True)
class _Prefix:
    key: str
    encoded: Encoded
    known: int
    rest: float
    """What passes until the last event."""


def _prefixes(
    records: Sequence[tuple[str, Encoded]],
    tokenizer: Tokenizer[Any],
    gap: int,
    most: int,
    seed: int,
) -> list[_Prefix]:
    """Of some cases, each as likely, a prefix that ends anywhere in what is scored of it, chosen by its key."""
    found: list[_Prefix] = []
    for index in np.random.default_rng(seed).permutation(len(records)).tolist():
        key, encoded = records[index]
        case = _rests(encoded, tokenizer, gap)
        if case is None:
            continue
        first, rests = case
        known = int(np.random.default_rng((seed, key_number(key))).integers(first, first + len(rests)))
        found.append(_Prefix(key, Encoded(encoded.ids[:known]), known, float(rests[known - first])))
        if len(found) == most:
            break
    return found


def _rests(encoded: Encoded, tokenizer: Tokenizer[Any], gap: int) -> tuple[int, Float[np.ndarray, " prefixes"]] | None:
    """The length of the shortest prefix that is scored, and the time from the end of each prefix to the last event.

    None of cases of which that is not known: without their end, with an unknown time, or not scored. Events without a
    number count 0.
    """
    scored = np.ones(len(encoded), bool) if encoded.weights is None else (encoded.weights > 0).any(axis=1)
    if not scored.any() or not tokenizer.is_end(encoded.ids[-1]):
        return None
    events, first = len(tokenizer.opened(encoded.ids)), max(int(scored.argmax()), 1)
    ids = encoded.ids[first:, gap]
    if first > events or (ids == tokenizer.fields[gap].mask_id).any():
        return None
    centres = np.append(np.asarray(tokenizer.fields[gap].centres, np.float64), 0.0)
    values = centres[np.minimum(ids, len(centres) - 1)]
    if encoded.numbers is not None:
        numbers = encoded.numbers[first:, gap]
        values = np.where(np.isnan(numbers), values, numbers)
    return first, np.append(np.cumsum(values[::-1])[::-1], 0.0)[: events + 1 - first]


def _nearest(by_length: Mapping[int, list[float]], known: int, longest: int) -> list[float]:
    """Of training cases that had as many events; of the longest, where none had so many."""
    return by_length[min(known, longest)]
