"""What some masked examples look like, and what a method predicts there: for the page of an evaluation."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from maskseq.evaluation.figures import seen
from maskseq.evaluation.protocols import MaskedExample
from maskseq.predict.protocol import Predict
from maskseq.tokenizer import Tokenizer
from maskseq.types import Field

WIDTH = 60
"""Positions of an example that are shown."""
BEST = 5
"""Values of a masked cell that are shown, the most probable one first."""


def shown(example: MaskedExample, tokenizer: Tokenizer[Any], method: str, predict: Predict) -> dict[str, Any]:
    """What stands around the first scored cell, what is masked of it and what is predicted there, field by field."""
    first = max(int(example.cells[0, 0]) - WIDTH // 2, 0)
    around = slice(first, first + WIDTH)
    (found,) = predict([seen(example, tokenizer.vocabulary)], [example.cells])
    answers = dict(zip(map(tuple, example.cells.tolist()), found, strict=True))
    fields = {}
    for column, field in enumerate(tokenizer.fields):
        truth = example.truth[around, column].tolist()
        answered = [answers.get((position, column)) for position in range(first, first + len(truth))]
        fields[field.name] = {
            "truth": [field.token(token) for token in truth],
            "hidden": example.masked[around, column].tolist(),
            "best": [None if each is None else best(field, each) for each in answered],
        }
        if field.centres is not None:
            given = example.numbers if example.numbers is not None else np.full(example.truth.shape, np.nan)
            read = zip(truth, given[around, column].tolist(), strict=True)
            fields[field.name] |= {
                "unit": field.unit,
                "numbers": [number_of(field, token) if np.isnan(number) else number for token, number in read],
                "stated": [None if each is None else stated(field.centres, each) for each in answered],
            }
    return {"from": first + 1, "of": example.key, "filled by": method, "fields": fields}


def best(field: Field, log_p: Float[np.ndarray, " ids"]) -> list[tuple[str, float]]:
    """The most probable values and their probabilities."""
    p = np.exp(np.asarray(log_p, np.float64))
    return [(field.token(i), float(p[i])) for i in np.argsort(-p, kind="stable")[:BEST].tolist() if p[i] > 0]


def stated(centres: Sequence[float], log_p: Float[np.ndarray, " ids"]) -> list[float]:
    """Where a tenth, the half and nine tenths of what is stated of numbers lie."""
    p = np.cumsum(np.exp(np.asarray(log_p, np.float64)[: len(centres)]))
    return [centres[i] for i in np.searchsorted(p, np.array([0.1, 0.5, 0.9]) * p[-1]).clip(max=len(p) - 1).tolist()]


def number_of(field: Field, token: int) -> float | None:
    """The centre of the token's bin; None for a token that does not stand for a number."""
    return field.centres[token] if field.centres is not None and token < len(field.centres) else None
