"""Rules about encoding, each a function of a `RecordCase` that raises where the rule is broken."""

import json
from collections.abc import Sequence
from itertools import islice
from typing import Any

import numpy as np
from jaxtyping import Bool, Integer

from maskseq.plugins import tokenizer_from_json, tokenizer_to_json
from maskseq.storage.standard_json import to_json
from maskseq.testing.case import CellCounts, RecordCase, equal, require, require_cells
from maskseq.testing.twin import importable
from maskseq.tokenizer import Tokenizer
from maskseq.types import END, Encoded, LegalCells, Record

WINDOW = 512  # positions of a record that are looked at where the whole would take too long
NEIGHBOURHOOD = 32  # positions whose cells are compared pair by pair
VARIANTS = 12  # of each record
ENOUGH = 50  # cells that a share is judged by, at least


def rebuild(tokenizer: Tokenizer[Any]) -> Tokenizer[Any]:
    """`state` goes through JSON and back to an equal tokenizer, by name too where the class can be imported."""
    names = [field.name for field in tokenizer.fields]
    require(names and len(set(names)) == len(names), f"its fields are {names}", "name at least one, each differently")
    given = {field.source for field in tokenizer.fields if field.given}
    shared = sorted(given & {field.source for field in tokenizer.fields if not field.given})
    hint = (
        "what is computed from a value that may be masked is not a covariate: give it a source of its own, or mask it"
    )
    require(not shared, f"given fields share the sources {shared} with others", hint)
    require(not all(field.given for field in tokenizer.fields), "all fields are given", "leave one that can be asked")
    cls = type(tokenizer)
    twin = cls.from_state(json.loads(to_json(tokenizer.state(), lossless=True)))
    if importable(cls):
        twin = tokenizer_from_json(json.loads(to_json(tokenizer_to_json(tokenizer), lossless=True)), trust_code=True)
    require(
        twin.fingerprint == tokenizer.fingerprint and twin.fields == tokenizer.fields,
        "rebuilt from its JSON state, it is another tokenizer",
        "everything that encoding depends on must be a dataclass field of a type that JSON can hold",
    )
    return twin


def encode(case: RecordCase) -> None:
    """`encode` returns ids in range of their fields, and finite weights ≥ 0."""
    require(isinstance(case.encoded, Encoded), f"encode returns a {type(case.encoded).__name__}", "return an Encoded")
    ids, weights, fields = case.ids, case.encoded.weights, case.tokenizer.fields
    require(
        ids.ndim == 2 and ids.shape[1] == len(fields) and ids.dtype.kind in "iu",
        f"ids have shape {ids.shape} and dtype {ids.dtype}",
        f"return integers [length, {len(fields)}], a column for each field",
    )
    rows = np.array([field.n_rows for field in fields])
    require_cells((ids >= 0) & (ids < rows), "an id is out of range", f"ids run from 0 to below {rows.tolist()}")
    hint = "give what nobody knows an id of its own there, such as that of [OTHER]"
    require_cells(ids < case.tokenizer.vocabulary.n_ids, "a cell of a given field is [MASK]", hint)
    if weights is not None:
        problem = f"weights have shape {weights.shape} and dtype {weights.dtype}"
        require(weights.shape == ids.shape and weights.dtype.kind == "f", problem, "return floats, one for each id")
        require_cells(np.isfinite(weights) & (weights >= 0), "a weight is negative or not finite", "0 is the least")


def numbers(case: RecordCase) -> None:
    """`numbers` and `beyond` say a float of each cell, or nothing at all."""
    for name in ("numbers", "beyond"):
        answered = getattr(case.tokenizer, name)(case.record)
        if answered is not None:
            problem = f"{name} has shape {answered.shape} and dtype {answered.dtype}, the ids have {case.ids.shape}"
            require(
                answered.shape == case.ids.shape and answered.dtype.kind == "f", problem, "return a float for each id"
            )


def determinism(case: RecordCase) -> None:
    """Encoding again, and by a twin that has not seen the record before, gives the same; so do the units."""
    for other, what in ((case.tokenizer, "asked again"), (case.twin, "rebuilt from JSON")):
        same_units = np.array_equal(other.units_of(case.encoded), case.units)
        require(same_units, f"{what}, units differ", "compute units from the ids that are given alone")
        same = equal(other.encode(case.record), case.encoded)
        require(same, f"{what}, it encodes differently", "compute ids from the record and the dataclass fields alone")
        found = [(each.ids, each.weights, each.circular) for each in other.encode_many([case.record, case.record])]
        same = equal(found, [(case.ids, case.encoded.weights, case.encoded.circular)] * 2)
        require(same, f"{what}, encode_many differs from encode", "it gives the ids and weights of each record")


def decode(case: RecordCase) -> None:
    """`decode` accepts every id sequence."""
    some = case.ids[case.window(WINDOW)]
    rows = np.array([field.n_rows for field in case.tokenizer.fields])
    anything = case.rng.integers(np.broadcast_to(rows, some.shape)).astype(some.dtype)
    for ids in (some, case.masked(some, np.ones(some.shape, dtype=bool)), anything, some[:0]):
        case.tokenizer.decode(ids)


def units(case: RecordCase) -> None:
    """Each cell depends on at least one unit, and cells of a window share units as they do in the whole record."""
    units, shape = case.units, (*case.ids.shape, 2)
    problem = f"units have shape {units.shape} and dtype {units.dtype}"
    require(units.shape == shape and units.dtype.kind in "iu", problem, f"return integers {list(shape)}")
    hint = "ranges are half-open: [start, stop) with start < stop"
    require_cells(units[..., 0] < units[..., 1], "a cell depends on no unit", hint)
    window = case.window(NEIGHBOURHOOD)
    sources = [field.source for field in case.tokenizer.fields]
    alone = case.tokenizer.units_of(case.encoded.cut(window.start, window.stop))
    require(
        np.array_equal(_sharing(alone, sources), _sharing(units[window], sources)),
        f"cells of positions {window.start} to {window.stop} share other units when seen alone",
        "compute units from the ids that are given, counting from the first of them",
    )


def record_units(case: RecordCase) -> None:
    """Units of a whole record run from 0 to its length; each belongs to a cell, and each known value to one of them.

    A cell may reach beyond (the gap before the first event); one that lies outside altogether stands for no raw value,
    such as an end mark or padding.
    """
    length, starts, stops = len(case.record), case.units[..., 0], case.units[..., 1]
    hint = (
        "units are counted from 0 to len(record), which must be in the same units; where ids do not determine how many "
        "units a token has, let encode give Encoded.units"
    )
    n_tokens = np.array([field.n_tokens for field in case.tokenizer.fields])
    outside = ((stops <= 0) | (starts >= length)) & (case.ids < n_tokens)
    require_cells(~outside, f"a value lies outside the record, which has the units 0 to {length}, half-open", hint)
    covered = np.zeros(length + 1, np.int64)
    for column, field in enumerate(case.tokenizer.fields):
        first, last = np.clip(starts[:, column], 0, length), np.clip(stops[:, column], 0, length)
        covered += np.bincount(first, minlength=length + 1) - np.bincount(last, minlength=length + 1)
        case.tally.depending[field.source] += int((last - first).sum())
    missing = np.flatnonzero(np.cumsum(covered)[:length] == 0)
    if len(missing):
        require(False, f"no cell depends on unit {missing[0]} of {length}", hint)
    for source in {field.source for field in case.tokenizer.fields}:
        case.tally.cells[source] += length * case.ids.size
    if type(case.record).cut is not Record.cut:
        start, stop = sorted(case.rng.integers(length + 1, size=2).tolist())
        found = len(case.record.cut(start, stop))
        problem = f"cut({start}, {stop}) of the record has {found} raw units instead of {stop - start}"
        require(found == stop - start, problem, "cut counts what __len__ counts")


def legal(case: RecordCase) -> None:
    """`legal` and `allowed` are well-formed, and contain every id that is known."""
    narrowed = case.encoded.legal
    if narrowed is not None:
        _well_formed(case, narrowed, "legal")
        i, f = narrowed.cells.T
        column = np.minimum(case.ids[i, f], narrowed.allowed.shape[1] - 1)  # [MASK] may have none
        lost = case.known[i, f] & ~narrowed.allowed[np.arange(len(i)), column]
        if lost.any():
            hint = "legal ids narrow what a cell may be; they must contain what it is"
            require(False, "legal excludes the id of the cell itself", hint, cell=narrowed.cells[lost][0].tolist())

    window = case.window(WINDOW)
    ids, requested = case.ids[window], case.known[window] & (case.rng.random(case.ids[window].shape) < 0.3)
    grammar = case.tokenizer.allowed(case.masked(ids, requested))
    if grammar is not None:
        _well_formed(case, grammar, "allowed")
        i, f = grammar.cells.T
        for position, column, allowed in zip(i, f, grammar.allowed, strict=True):
            if requested[position, column]:
                name = case.tokenizer.fields[column].name
                case.tally.narrowed[name] += 1
                case.tally.excluded[name] += not allowed[ids[position, column]]


def closed(case: RecordCase) -> None:
    """What is closed keeps all but its last position, which says what the last one of the record says of its end."""
    for length in (1, (len(case.ids) + 1) // 2):
        ids = case.ids[:length]
        requested = ids.copy()
        reported = case.tokenizer.closed(requested)
        require(np.array_equal(requested, ids), "closed writes into the ids that it is given", "change a copy")
        same = reported.shape == ids.shape and reported.dtype == ids.dtype and np.array_equal(reported[:-1], ids[:-1])
        require(same, "closed changes more than the last position", "the record breaks off there, and nothing else")
        for index, field in enumerate(case.tokenizer.fields):
            end = field.control_id(END) if END in field.controls else None
            lost = len(ids) > 0 and case.ids[-1, index] == end != reported[-1, index]
            require(not lost, f"closed ids do not end with [END] in field {field.name!r}", "records do: put it there")


def grammar_verdict(tally: CellCounts) -> None:
    """`allowed` may exclude freaks, but not what records contain."""
    for name, n in tally.narrowed.items():
        share = tally.excluded[name] / n
        problem = f"allowed excludes {share:.0%} of the true ids of field {name!r}"
        require(n < ENOUGH or share < 0.1, problem, "a grammar may exclude freaks, not what records contain")


def variants(case: RecordCase) -> None:
    """Variants have the same fields and raw units, and what their ids depend on follows without knowing them."""
    tokenizer, length = case.tokenizer, len(case.record)
    twins = case.twin.variants(case.record)
    for variant, twin in islice(zip(tokenizer.variants(case.record), twins, strict=True), VARIANTS):
        name, encoded = variant.name, variant.tokenizer.encode(variant.record)
        require(variant.tokenizer.fields == tokenizer.fields, f"{name}: has other fields", "keep the fields")
        problem = f"{name}: has {len(variant.record)} raw units instead of {length}"
        hint = "transform records without adding or losing units, or say aligned=False"
        require(len(variant.record) == length or not variant.aligned, problem, hint)
        same = np.array_equal(twin.tokenizer.encode(twin.record).ids, encoded.ids)
        require(same, f"{name}: rebuilt from JSON, it differs", "derive variants from the record alone")
        same = np.array_equal(tokenizer.units_of(encoded), variant.tokenizer.units_of(encoded))
        require(
            same, f"{name}: units(ids) differ from its own", "leave out variants whose ids do not determine their units"
        )


def augmentations(case: RecordCase) -> None:
    """Each augmentation does the same to records and to what they are encoded as."""
    tokenizer = case.tokenizer
    rows = [field.n_rows for field in tokenizer.fields]
    for each in tokenizer.augmentations():
        for ids, n, field in zip(each.id_maps, rows, tokenizer.fields, strict=True):
            images = [image for image in ids if image >= 0]
            sound = len(ids) == n and len(set(images)) == len(images) and max(images, default=0) < n
            hint = "give the image of every id, each another one, -1 for none, and [MASK] for [MASK]"
            require(sound and ids[field.mask_id] == field.mask_id, f"{each.name}: a map of ids is not one", hint)
        image, seen = each.transform(case.record), each.encoded(case.encoded)
        hint = "declare only what holds exactly for every record that it changes"
        require((image is None) == (seen is None), f"{each.name}: changes only the record, or only its ids", hint)
        if image is not None:
            require(equal(tokenizer.encode(image), seen), f"{each.name}: encode(g(record)) differs from its ids", hint)


def symmetries(case: RecordCase) -> None:
    """Each symmetry is an involution, and does the same to records and to what they are encoded as."""
    tokenizer = case.tokenizer
    rows = [field.n_rows for field in tokenizer.fields]
    sources = [field.source for field in tokenizer.fields]
    for symmetry in tokenizer.symmetries():
        order = list(symmetry.field_order or range(len(rows)))
        maps = [sorted(m) == list(range(n)) and m[-1] == n - 1 for m, n in zip(symmetry.id_maps, rows, strict=True)]
        require(
            all(maps) and sorted(order) == list(range(len(rows))) and [rows[f] for f in order] == rows,
            f"{symmetry.name}: its maps are not permutations, or move [MASK]",
            "give each field of the result the image of every id, [MASK] last and fixed",
        )
        anything = case.rng.integers(np.broadcast_to(rows, (64, len(rows))))
        hint = "a symmetry undoes itself: each id map is its own inverse"
        require(
            np.array_equal(symmetry.ids(symmetry.ids(anything)), anything), f"{symmetry.name}, twice: ids differ", hint
        )
        image = symmetry.transform(case.record)
        back = tokenizer.encode(symmetry.transform(image))
        require(equal(back, case.encoded), f"{symmetry.name}, twice: the record encodes differently", hint)
        encoded = tokenizer.encode(image)
        require(
            equal(encoded, symmetry.encoded(case.encoded)),
            f"{symmetry.name}: encode(g(record)) differs from G(encode(record)) in ids, weights or legal cells",
            "declare only what holds exactly for every record, else nothing",
        )
        window = case.window(NEIGHBOURHOOD)
        moved = np.stack([symmetry.cells(case.units[..., end]) for end in (0, 1)], axis=-1)[window]
        require(
            np.array_equal(
                _sharing(tokenizer.units_of(encoded)[window], sources), _sharing(moved, [sources[f] for f in order])
            ),
            f"{symmetry.name}: cells of the image share other units",
            "units must follow the symmetry, too",
        )


def _well_formed(case: RecordCase, legal: LegalCells, what: str) -> None:
    predictable = case.tokenizer.vocabulary.predictable
    cells, allowed = legal.cells, legal.allowed
    require(
        cells.shape == (len(cells), 2) and allowed.shape == (len(cells), predictable.shape[1]),
        f"{what} has cells of shape {cells.shape} and allowed of shape {allowed.shape}",
        f"shapes are [cells, 2] and [cells, {predictable.shape[1]}]",
    )
    inside = (cells >= 0).all() and (cells < (len(case.ids), len(predictable))).all()
    increasing = (np.diff(cells[:, 0] * len(predictable) + cells[:, 1]) > 0).all()
    require(inside and increasing, f"{what}.cells are unsorted, repeated or outside", "sort by position, then field")
    wrong = ~allowed.any(axis=1) | (allowed & ~predictable[cells[:, 1]]).any(axis=1)
    if wrong.any():
        problem = f"{what} allows no id at all, or one that the field does not predict"
        require(False, problem, "allow at least one id, all below n_predictable", cell=cells[wrong][0].tolist())


def _sharing(units: Integer[np.ndarray, "length fields 2"], sources: Sequence[str]) -> Bool[np.ndarray, "cells cells"]:
    """Which pairs of cells depend on a common unit."""
    start, stop = units[..., 0].ravel(), units[..., 1].ravel()
    source = np.tile([sources.index(name) for name in sources], len(units))
    meet = (start[:, None] < stop) & (start < stop[:, None])
    return np.asarray(meet & (source[:, None] == source))
