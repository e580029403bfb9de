"""Which values may stand in the unknown cells of a case."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Integer

from maskseq.types import ABSENT, END, OTHER, Field, LegalCells
from maskseq_events.case import TIME_FIELDS


def legal_cells(
    ids: Integer[np.ndarray, "length fields"],
    fields: Sequence[Field],
    *,
    case_scope: Bool[np.ndarray, "fields"],
    never_absent: Bool[np.ndarray, "fields"],
    ends: bool,
    gap: int | None,
) -> LegalCells | None:
    """See `EventTokenizer.allowed`.

    Args:
        ids: Of a case.
        fields: Of the tokenizer.
        case_scope: Fields whose cells all say the same.
        never_absent: Fields that no training case was without.
        ends: Whether a last position says that the case is over.
        gap: Which field is the gap, where some events may be static facts.
    """
    unknown = ids == np.array([field.mask_id for field in fields])
    narrowed = unknown & (never_absent | [field.name in ("activity", *TIME_FIELDS) for field in fields])
    activity = fields[0]
    over = ends and bool(np.isin(ids[-1:, 0], [activity.control_id(END), activity.mask_id]).any())
    if over:
        narrowed[-1] &= case_scope  # it is the end, which has no time and no attributes, or may be
    reported = {}
    for index in np.flatnonzero(case_scope & unknown.any(axis=0) & ~unknown.all(axis=0)).tolist():
        first = int(ids[np.argmin(unknown[:, index]), index])
        if first != fields[index].control_id(OTHER):  # which is never filled in
            reported[index] = first
            narrowed[:, index] = unknown[:, index]
    cells = np.argwhere(narrowed)
    if len(cells) == 0:
        return None
    allowed = np.zeros((len(cells), max(field.n_predictable for field in fields)), dtype=bool)
    must, may = _facts(ids[: len(ids) - over], fields, gap)
    for row, (position, index) in enumerate(cells):
        field = fields[index]
        if index in reported:
            allowed[row, reported[index]] = True
            continue
        allowed[row, : field.n_predictable] = True
        if field.name == "activity" and ends:
            allowed[row, field.control_id(END)] = False
        if field.name == "gap":
            allowed[row, 0] = False
            behind = max(position - 1, 0)
            allowed[row, : field.n_tokens] &= not must[behind]
            allowed[row, field.control_id(ABSENT)] = position == 0 or may[behind]
        elif never_absent[index]:
            allowed[row, field.control_id(ABSENT)] = False
        elif field.name in TIME_FIELDS:
            allowed[row, : field.n_tokens] = not must[position]
            allowed[row, field.control_id(ABSENT)] = may[position]
    return LegalCells(cells, allowed)


def _facts(
    ids: Integer[np.ndarray, "events fields"], fields: Sequence[Field], gap: int | None
) -> tuple[Bool[np.ndarray, "events"], Bool[np.ndarray, "events"]]:
    """Which events must be static facts, and which may be, by what the others are: facts stand first."""
    if gap is None:
        none = np.zeros(len(ids), dtype=bool)
        return none, none
    fields, ids = fields[gap:], ids[:, gap:]
    absent = ids == np.array([field.control_id(ABSENT) for field in fields])
    known = ids < np.array([field.n_tokens for field in fields])
    fact, timed = np.zeros((2, len(ids)), dtype=bool)
    fact |= absent[:, 1:].any(axis=1)
    timed |= known.any(axis=1)
    fact[:-1] |= absent[1:, 0]  # a gap needs two times
    timed[:-1] |= known[1:, 0]
    may = ~np.logical_or.accumulate(timed)
    return np.logical_or.accumulate(fact[::-1])[::-1] & may, may
