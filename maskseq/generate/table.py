"""Tables of what comes next: a row for each step and field, for each case's rest, or for each value that was drawn."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from maskseq.generate.continuation import Continuation
from maskseq.predict.posterior import LEVELS, NOMINAL, Posterior
from maskseq.storage.tabular import columns_of
from maskseq.tokenizer import Tokenizer

ALTERNATIVES = 3


@dataclass(frozen=True)
class StepRow:
    """One field of one step behind what is known."""

    key: str
    """The record's."""
    known: int
    """Positions that are known."""
    step: int
    """From 1."""
    field: str
    reached: float
    """The probability that the sequence has not ended before."""
    value: str
    """The most probable one, given that; `[END]` if that is the end."""
    probability: float
    alternatives: tuple[tuple[str, float], ...]
    """The most probable other values, and their probabilities."""
    mean: float | None
    """Ordinal fields, given that there is a number: in the field's unit, as the intervals."""
    median: float | None
    low50: float | None
    high50: float | None
    low80: float | None
    high80: float | None
    low95: float | None
    high95: float | None
    outside: float
    """The probability of a value that the vocabulary does not have."""


@dataclass(frozen=True)
class RestRow:
    """What is left of one record until its end, by samples of it."""

    key: str
    known: int
    ended: float
    """Share of the samples that reached the end within the bound; the others count with what they had by then."""
    positions_mean: float
    """Positions until the end, such as events."""
    positions_median: float
    time_mean: float | None
    """The time until the last of them, where sequences have time."""
    time_median: float | None
    time_low50: float | None
    time_high50: float | None
    time_low80: float | None
    time_high80: float | None
    time_low95: float | None
    time_high95: float | None
    rest: tuple[str, ...]
    """The most frequent continuation of the first field."""
    rest_share: float
    """Of the samples."""


@dataclass(frozen=True)
class DrawnRow:
    """One value of one sample."""

    key: str
    sample: int
    step: int
    field: str
    value: str
    number: float | None
    """Ordinal fields: the centre of the bin."""


INTERVALS = tuple(f"{side}{level:.0%}".rstrip("%") for level in LEVELS for side in ("low", "high"))
TIMES = ("time_mean", "time_median", *(f"time_{name}" for name in INTERVALS))

STEP_COLUMNS, REST_COLUMNS, DRAWN_COLUMNS = (columns_of(each) for each in (StepRow, RestRow, DrawnRow))
"""Columns of the tables, with their types."""


def step_rows(key: str, known: int, found: Continuation, tokenizer: Tokenizer[Any]) -> Iterator[StepRow]:
    """Of the steps that some sample reached, and of the fields that were not known beforehand."""
    posteriors = {
        column: found.posterior(column, field.centres)
        for column, field in enumerate(tokenizer.fields)
        if field.centres is not None
    }
    for step in range(int(np.count_nonzero(found.running))):
        for column, field in enumerate(tokenizer.fields):
            probabilities = found.marginals[step, column]
            if not probabilities.any():
                continue
            best = np.argsort(-probabilities, kind="stable")[: ALTERNATIVES + 1].tolist()
            of = posteriors.get(column)
            bounds = np.full(2 * len(LEVELS), np.nan) if of is None else _bounds(of, step)
            yield StepRow(
                key=key,
                known=known,
                step=step + 1,
                field=field.name,
                reached=found.running[step].item() / found.running[0].item(),
                value=field.token(best[0]),
                probability=float(probabilities[best[0]]),
                alternatives=tuple(
                    (field.token(each), float(probabilities[each])) for each in best[1:] if probabilities[each]
                ),
                mean=None if of is None else _known(of.mean[step]),
                median=None if of is None else _known(of.median[step]),
                **dict(zip(INTERVALS, map(_known, bounds.tolist()), strict=True)),
                outside=float(found.outside[step, column]),
            )


def rest_row(key: str, known: int, found: Continuation, tokenizer: Tokenizer[Any]) -> RestRow:
    """Summed over samples."""
    field = next((i for i, each in enumerate(tokenizer.fields) if each.name == tokenizer.elapsed), None)
    times: dict[str, float | None] = dict.fromkeys(TIMES)
    if field is not None:
        sums = found.sums(field, tokenizer.fields[field].centres or ())
        quantiles = np.quantile(sums, NOMINAL.ravel())
        times = dict(zip(TIMES, [float(sums.mean()), float(np.median(sums)), *quantiles.tolist()], strict=True))
    first = tokenizer.fields[0]
    rests = Counter(
        tuple(first.token(each) for each in ids[:n, 0].tolist())
        for ids, n in zip(found.ids, found.length.tolist(), strict=True)
    )
    ((rest, count),) = rests.most_common(1)
    return RestRow(
        key=key,
        known=known,
        ended=float(found.ended.mean()),
        positions_mean=float(found.length.mean()),
        positions_median=float(np.median(found.length)),
        **times,
        rest=rest,
        rest_share=count / len(found.length),
    )


def drawn_rows(key: str, found: Continuation, tokenizer: Tokenizer[Any]) -> Iterator[DrawnRow]:
    """Every value that was drawn."""
    for sample, (ids, length) in enumerate(zip(found.ids, found.length.tolist(), strict=True)):
        for step in range(length):
            for field, value in zip(tokenizer.fields, ids[step].tolist(), strict=True):
                if value != field.mask_id:
                    centres = field.centres or ()
                    number = centres[value] if value < len(centres) else None
                    yield DrawnRow(key, sample, step + 1, field.name, field.token(value), number)


def as_dict(row: StepRow | RestRow | DrawnRow) -> dict[str, Any]:
    """The row as a table takes it: probabilities of alternatives to 6 digits."""
    if isinstance(row, StepRow):
        return vars(row) | {"alternatives": [[value, round(p, 6)] for value, p in row.alternatives]}
    return vars(row) | ({"rest": list(row.rest)} if isinstance(row, RestRow) else {})


def _bounds(of: Posterior, step: int) -> Float[np.ndarray, " bounds"]:
    return np.stack([of.low[step], of.high[step]], axis=1).ravel()


def _known(number: float) -> float | None:
    return None if np.isnan(number) else float(number)
