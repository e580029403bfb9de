"""Rules about hiding: other raw values are written where a mask hides them, and nothing visible may notice."""

from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Integer

from maskseq.errors import MaskseqError
from maskseq.masking.config import MaskingConfig, Spans
from maskseq.masking.plan import mask_segment
from maskseq.masking.units import RawUnits
from maskseq.testing.case import CellCounts, RecordCase, equal, require, require_cells
from maskseq.testing.rules import ENOUGH, WINDOW
from maskseq.types import OTHER, ListRecord

MASKS = MaskingConfig(ratio=(0.05, 0.5), mode=("cell", "position"), spans=Spans(weight=1.0, mean_length=4.0))
APART = 32  # units between single ones


def splice(case: RecordCase) -> None:
    """`splice` changes nothing without holes, and nothing visible where the record's own ids fill them."""
    tokenizer, ids = case.tokenizer, case.ids
    same = tokenizer.splice(case.record, ids, np.zeros(ids.shape, dtype=bool))
    require(equal(same, case.record), "without holes, the record changes", "copy from the record what is not a hole")
    if tokenizer.boundaries_depend_on_data:
        return
    holes = _some_masked(case)
    other = tokenizer.encode(tokenizer.splice(case.record, ids, holes)).ids
    hint = "write only units that no visible cell depends on"
    require(other.shape == ids.shape, "filled with its own ids, the record changes its length", hint)
    require_cells((other == ids) | holes, "filled with the record's own ids, a visible cell changes", hint)
    for f, field in enumerate(tokenizer.fields):
        never = field.control_id(OTHER) if OTHER in field.controls else -1  # what infill does not write
        requested = holes[:, f] & case.known[:, f] & (ids[:, f] != never)
        case.tally.spliced[field.name] += int(requested.sum())
        case.tally.returned[field.name] += int((other[requested, f] == ids[requested, f]).sum())


def splice_verdict(tally: CellCounts) -> None:
    """Most cells come back."""
    for name, n in tally.spliced.items():
        share = tally.returned[name] / max(n, 1)
        problem = f"only {share:.0%} of the cells of field {name!r} come back when they are filled with their own ids"
        require(n < ENOUGH or share >= 0.5, problem, "splice must write what encodes to the ids that it is given")


def no_leak(case: RecordCase) -> None:
    """With other masked raw values, the record encodes to the same visible cells."""
    has_splice = case.tokenizer.defines("splice")
    for _ in range(case.rounds if len(case.ids) <= WINDOW else 1):
        if isinstance(case.record, ListRecord):
            _exchange_values(case)
        if has_splice:
            _fill_otherwise(case, _some_masked(case))
            _fill_otherwise(case, _single_units_masked(case), tally=case.tally)


def leak_verdict(tally: CellCounts) -> None:
    """Where a single unit is masked, its cells can change; else visible ones determine them, or nothing is written."""
    for source, n in tally.offered.items():
        problem = (
            f"not one of {n} masked cells of source {source!r} can be filled with another value: either visible cells "
            f"depend on the same units, so that they leak, or splice does not write them"
        )
        hint = "units must cover every raw value that a cell is computed from, and splice write every hole unit"
        require(n < ENOUGH or tally.moved[source], problem, hint)


def _fill_otherwise(
    case: RecordCase, holes: Bool[np.ndarray, "length fields"], *, tally: CellCounts | None = None
) -> None:
    ids = case.ids
    filled = np.where(holes, _random_ids(case, holes), ids).astype(ids.dtype)
    other = case.tokenizer.encode(case.tokenizer.splice(case.record, filled, holes)).ids
    _require_unmoved(case, other, holes)
    if tally is not None:
        for f, field in enumerate(case.tokenizer.fields):
            offered = holes[:, f] & (filled[:, f] != ids[:, f])
            tally.offered[field.source] += int(offered.sum())
            tally.moved[field.source] += int((other[offered, f] != ids[offered, f]).sum())


def _exchange_values(case: RecordCase) -> None:
    """The same without `splice`, for plain lists: unit u of every source is value u, and others come from the pool."""
    n = len(case.record)
    start = int(case.rng.integers(n + 1)) // WINDOW * WINDOW
    masked = np.zeros(n, dtype=bool)
    masked[start : start + WINDOW] = case.rng.random(len(masked[start : start + WINDOW])) < case.rng.uniform(0.05, 0.5)
    values = list(case.record.values)
    for u in np.flatnonzero(masked).tolist():
        values[u] = case.pool[int(case.rng.integers(len(case.pool)))]
    try:
        other = case.tokenizer.encode(replace(case.record, values=values)).ids
    except (ValueError, MaskseqError):
        return  # values of elsewhere do not fit here
    before = np.concatenate([[0], np.cumsum(masked)])[np.clip(case.units, 0, n)]
    _require_unmoved(case, other, before[..., 1] > before[..., 0])


def _require_unmoved(
    case: RecordCase, other: Integer[np.ndarray, "other fields"], masked: Bool[np.ndarray, "length fields"]
) -> None:
    ids = case.ids
    require(
        other.shape == ids.shape,
        f"with other masked raw values the record has {len(other)} positions instead of {len(ids)}",
        "set boundaries_depend_on_data where the number of tokens depends on their content",
    )
    moved = np.argwhere((other != ids) & ~masked)
    if len(moved):
        i, f = moved[0].tolist()
        field = case.tokenizer.fields[f]
        before, after = (field.token(int(each[i, f])) for each in (ids, other))
        require(
            False,
            f"a visible cell depends on masked raw values: it turns from {before} to {after} when they change, though "
            f"its units are {field.source!r} {case.units[i, f].tolist()}, half-open",
            "units must cover every raw value that a cell is computed from, and splice write only units that no "
            "visible cell depends on",
            cell=(i, f),
        )


def _some_masked(case: RecordCase) -> Bool[np.ndarray, "length fields"]:
    """A mask as training makes them, planned within a random window."""
    scorable = _known_in_window(case)
    return mask_segment(case.ids, case.units, scorable, case.tokenizer.fields, MASKS, rng=case.rng).masked


def _single_units_masked(case: RecordCase) -> Bool[np.ndarray, "length fields"]:
    """What hides with units of one source, far from each other and from the ends, where fewer cells overlap."""
    raw = RawUnits.of(case.units, case.tokenizer.fields)
    known = raw.units(_known_in_window(case))
    candidates = np.flatnonzero(known & (raw.source == case.rng.integers(raw.source.max(initial=0) + 1)))
    candidates = candidates[len(candidates) // 4 : len(candidates) - len(candidates) // 4]
    chosen = np.zeros(len(raw.source), dtype=bool)
    if len(candidates):
        chosen[candidates[case.rng.integers(min(APART, len(candidates))) :: APART]] = True
    return raw.cells(chosen)


def _known_in_window(case: RecordCase) -> Bool[np.ndarray, "length fields"]:
    known, window = np.zeros(case.ids.shape, dtype=bool), case.window(WINDOW)
    known[window] = case.known[window]
    return known


def _random_ids(case: RecordCase, holes: Bool[np.ndarray, "length fields"]) -> Integer[np.ndarray, "length fields"]:
    """Random domain ids, legal ones where a cell is narrowed."""
    n_tokens = np.array([field.n_tokens for field in case.tokenizer.fields])
    ids = case.rng.integers(np.broadcast_to(n_tokens, holes.shape))
    narrowed: dict[tuple[int, int], np.ndarray] = {}
    for legal in (case.encoded.legal, case.tokenizer.allowed(case.masked(case.ids, holes))):
        if legal is not None:
            i, f = legal.cells.T
            for row in np.flatnonzero(holes[i, f]):
                cell = (int(i[row]), int(f[row]))
                narrowed[cell] = legal.allowed[row] & narrowed.get(cell, np.bool_(True))
    for cell, allowed in narrowed.items():
        require(allowed.any(), "legal and allowed leave no id together", "both contain the true id", cell=cell)
        if not allowed[ids[cell]]:
            ids[cell] = case.rng.choice(np.flatnonzero(allowed))
    return ids
