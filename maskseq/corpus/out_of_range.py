"""Known numbers outside the range that a tokenizer was fitted on: they are clipped, which misleads a model."""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float, Int

from maskseq.contract.fence import beyond_of
from maskseq.tokenizer import Tokenizer
from maskseq.types import Field, Record

R = TypeVar("R", bound=Record)

OUTSIDE = 0.05
"""Widths of the training range by which a number is outside: new data always reach a little further than old."""
SHARE = 0.01
"""The share of a column's numbers outside the training range from which on a warning is given."""
FEWEST = 3
"""So many, too, unless they are a tenth of all."""
FAR = 1.5
"""Widths of the training range by which a single number is too far outside to be passed over, as −9999 would be."""
NEAR = 8
"""Known numbers on either side that count as near a fill."""


@dataclass
class OutOfRange:
    """How many numbers lie outside, by the columns of the data that fields are computed from."""

    fields: Sequence[Field]
    numbers: Int[np.ndarray, " fields"] = field(init=False)
    outside: Int[np.ndarray, " fields"] = field(init=False)
    far: Int[np.ndarray, " fields"] = field(init=False)

    def __post_init__(self) -> None:
        self.numbers, self.outside, self.far = np.zeros((3, len(self.fields)), np.int64)

    def add(self, beyond: Float[np.ndarray, "length fields"] | None) -> None:
        """Take in what `Tokenizer.beyond` says of a record."""
        if beyond is not None:
            self.numbers += np.count_nonzero(~np.isnan(beyond), axis=0)
            self.outside += np.count_nonzero(beyond > OUTSIDE, axis=0)
            self.far += np.count_nonzero(beyond > FAR, axis=0)

    def without(self, other: "OutOfRange") -> "OutOfRange":
        """Of the rest, if the other one was counted among these."""
        rest = OutOfRange(self.fields)
        rest.numbers, rest.outside = self.numbers - other.numbers, self.outside - other.outside
        rest.far = self.far - other.far
        return rest

    def shares(self) -> dict[str, float]:
        """For each column that has numbers outside, their share."""
        return {name: outside / numbers for name, (numbers, outside, _) in self._columns().items() if outside}

    def warning(self, among: str = "numbers") -> str | None:
        """The columns of which too many numbers are outside, or some too far; `among` says which they are."""
        columns = [
            f"{name} ({outside / numbers:.1%} of {numbers:,})"
            for name, (numbers, outside, far) in self._columns().items()
            if far or (outside > 0 and outside >= max(SHARE * numbers, min(FEWEST, numbers / 10)))
        ]
        if not columns:
            return None
        shown = ", ".join(columns[:5]) + (f" and {len(columns) - 5} more" if len(columns) > 5 else "")
        return (
            f"{among} outside the range that is trained on: {shown}; they are clipped to it, and values near "
            f"them cannot be trusted. Are units, codes for missing values and the file right?"
        )

    def _columns(self) -> dict[str, tuple[int, int, int]]:
        counts: dict[str, tuple[int, int, int]] = {}
        for each, *mine in zip(self.fields, *(c.tolist() for c in (self.numbers, self.outside, self.far)), strict=True):
            before = counts.get(each.source, (0, 0, 0))
            counts[each.source] = (before[0] + mine[0], before[1] + mine[1], before[2] + mine[2])
        return counts


def watched(records: Iterable[R], tokenizer: Tokenizer[Any]) -> Iterator[R]:
    """The records; a warning follows the last one where too many of their numbers lie outside the training range."""
    seen = OutOfRange(tokenizer.fields)
    for record in records:
        seen.add(beyond_of(tokenizer, record))
        yield record
    if text := seen.warning():
        warnings.warn(text, stacklevel=2)


def nearby(
    beyond: Float[np.ndarray, "length fields"] | None, cells: Int[np.ndarray, "cells 2"]
) -> Float[np.ndarray, " cells"]:
    """For each filled cell, how many of the `NEAR` nearest known numbers of its field on either side lie outside.

    NaN in fields without numbers.
    """
    found = np.full(len(cells), np.nan)
    if beyond is None:
        return found
    filled = np.zeros(beyond.shape, bool)
    filled[tuple(cells.T)] = True
    for column in np.unique(cells[:, 1]).tolist():
        known = np.flatnonzero(~np.isnan(beyond[:, column]) & ~filled[:, column])
        if not len(known):
            continue
        mine = cells[:, 1] == column
        before = np.concatenate([[0], np.cumsum(beyond[known, column] > OUTSIDE)])
        at = np.searchsorted(known, cells[mine, 0])
        found[mine] = before[np.minimum(at + NEAR, len(known))] - before[np.maximum(at - NEAR, 0)]
    return found
