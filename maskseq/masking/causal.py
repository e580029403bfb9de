"""Causal segments: seen whole, by an encoder that looks to the left only, and asked for every next position."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Integer

from maskseq.errors import UsageError
from maskseq.masking.config import OBJECTIVES
from maskseq.masking.plan import SegmentMask
from maskseq.masking.units import RawUnits
from maskseq.types import END, Field

HINT = "leave that field out, or set masking.causal = 0"


def causal_segment(
    ids: Integer[np.ndarray, "length fields"],
    units: Integer[np.ndarray, "length fields 2"],
    fields: Sequence[Field],
    *,
    begins: bool,
) -> SegmentMask:
    """Nothing is masked; asked are all cells that the positions before them do not give away.

    `begins`: the segment begins where its sequence does, so that its first position is asked, too: given nothing.
    """
    return SegmentMask(
        masked=asked_in_order(ids, units, fields, begins=begins, hint=HINT),
        inputs=ids,
        objective=OBJECTIVES.index("causal"),
        ratio=1.0,
        target=np.zeros(len(ids), bool),
    )


def asked_in_order(
    ids: Integer[np.ndarray, "length fields"],
    units: Integer[np.ndarray, "length fields 2"],
    fields: Sequence[Field],
    *,
    begins: bool,
    hint: str = "leave that field out",
) -> Bool[np.ndarray, "length fields"]:
    """The cells of a sequence that are not known from those before them, read from left to right.

    `UsageError`, with this hint, where a cell depends on what follows: positions before it would give that away.
    """
    raw = RawUnits.of(units, fields)
    place = np.arange(len(ids))[:, None]
    asked = (raw.latest == place) & ~raw.given
    ahead = (raw.latest > place) & ~raw.given
    if ahead.any():
        name = fields[int(np.flatnonzero(ahead.any(axis=0))[0])].name
        raise UsageError(
            f"field {name!r} depends on positions behind its own, so sequences cannot be read from left to right\n\n"
            f"hint: {hint}",
            code="bad-option",
        )
    asked[: 0 if begins else 1] = False
    return np.asarray(asked)


def seen_fields(length: int, fields: Sequence[Field], rng: np.random.Generator) -> Bool[np.ndarray, "length fields"]:
    """The fields of each position that later ones of it are given: all (one time in two), none, or some.

    *Why*: the likelihood of a sequence is asked with all of them. But what comes next is asked with nothing known of
    the position, and, once it is known not to be the end, with the field of the mark and some others.
    """
    ends, given = np.array([END in each.controls for each in fields]), np.array([each.given for each in fields])
    how, some = rng.random(length)[:, None], (rng.random((length, len(fields))) < 0.5) | ends
    return np.asarray((how < 0.5) | ((how < 0.75) & some) | given)
