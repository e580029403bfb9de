"""Open prefixes: segments as they look before they are over, with their last positions masked.

*Why*: an appended position of a sequence that is whole can only be the mark of its end. What comes next is learned
where sequences stop anywhere, and the mark is one of the outcomes.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Integer

from maskseq.masking.config import OBJECTIVES
from maskseq.masking.plan import SegmentMask
from maskseq.masking.units import RawUnits
from maskseq.types import Field


def prefixes(length: int, rng: np.random.Generator) -> list[int]:
    """The lengths of open prefixes in place of a segment of so many positions: it whole, or two that fill it.

    Each length occurs 2 / (length + 1) times on average, the whole included. So cells that weigh the inverse of that
    count as if every position were asked once: else short sequences, and with them ends, would count for more.
    """
    stop = int(rng.integers(length + 1)) if length > 1 else 0
    return [length] if stop in (0, length) else [stop, length - stop]


def mask_tail(
    ids: Integer[np.ndarray, "length fields"],
    units: Integer[np.ndarray, "length fields 2"],
    fields: Sequence[Field],
    *,
    positions: int,
) -> SegmentMask:
    """Mask the last positions of an open prefix: every unit that belongs to them, and all that depends on those.

    What they share with positions before, such as an attribute of the whole case, is seen.
    """
    raw = RawUnits.of(units, fields)
    last = (raw.owner >= len(ids) - positions) & raw.units(np.ones(ids.shape, bool))
    masked = raw.cells(last)
    inputs = np.where(masked, np.array([each.mask_id for each in fields], dtype=ids.dtype), ids)
    objective = OBJECTIVES.index("tail")
    return SegmentMask(masked, inputs, objective, positions / len(ids), np.arange(len(ids)) >= len(ids) - positions)
