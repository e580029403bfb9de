"""Which records, or which regions of long records, are held out for validation. Pure functions of the record table.

Never by random window: a window overlaps its neighbours. Whole records are drawn by a keyed hash of their names, so
most keep their side when others join the file; exact duplicates, also up to the tokenizer's symmetries (a contig and
its reverse complement), follow the first of them.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Int, Int8, UInt64

from maskseq.data.hashing import hash64, mixed
from maskseq.data.unknown import UnknownRuns, cut_out
from maskseq.errors import DataError, UsageError
from maskseq.types import Record

TRAIN, VALIDATION, DUPLICATE, OVERLAPPING = 0, 1, 2, 3
LONG = 10_000
"""A record is long, for `by="auto"`, from this many units on (if it exceeds the share to hold out, too). Not a number
of guard gaps: stages with longer contexts, hence wider gaps, must hold out the same regions."""
GUARD = 1024
GAPS = 20
"""A guard gap is at most this fraction of its record: a short record would be all gap."""


@dataclass(frozen=True, kw_only=True)
class SplitConfig:
    """What to hold out for validation."""

    by: Literal["auto", "record", "region", "time", "start", "none"] = "auto"
    """auto: by region where a record is longer than both 10,000 units and the share to hold out, or is the only one;
    else by record. time: records (cases) that start after the boundary; those that overlap it are left out. start: as
    time, but those that overlap it are trained on, as in most published figures: a claim of skill needs `time`."""
    validation: float = 0.05
    """Share to hold out: of raw units by record, of each long record by region, of the records by time."""
    guard: int | None = None
    """Positions left out on either side of a held-out region (default: the context of the recipe, else 1,024)."""
    regions: tuple[str, ...] = ()
    """Hold out exactly these, as "KEY:START-END" (1-based, inclusive), or "START-END" of the only record."""
    duplicates: Literal["together", "ignore"] = "together"
    """together: duplicates stand on one side; where place or time decides the side, the later copies are left out."""
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.validation < 1:
            raise UsageError(f"the validation share is {self.validation}; give a number from 0 to below 1")
        if self.guard is not None and self.guard < 0:
            raise UsageError(f"the guard gap is {self.guard} positions; give 0 or more")
        if self.regions and self.by not in ("auto", "region"):
            raise UsageError(f'regions are given, but the split is by {self.by!r}\n\nhint: use by = "region"')


@dataclass(frozen=True)
class RecordTable:
    """What a split may depend on: one row for each record of the corpus."""

    positions: Int[np.ndarray, "records"]
    units: Int[np.ndarray, "records"]
    key_hashes: UInt64[np.ndarray, "records"]
    content_hashes: UInt64[np.ndarray, "records"]
    spans: Float[np.ndarray, "records 2"] | None = None
    unknown: Int[np.ndarray, "runs 2"] | None = None
    """Long runs of unknown positions: start and stop, through all records one after the other."""
    variant: Int8[np.ndarray, "records"] | None = None
    """0 for a record; not 0 for its variants, which stand behind it; negative where they run backwards."""

    @cached_property
    def own(self) -> "RecordTable":
        """The records alone, by which everything is decided."""
        if self.variant is None or not self.variant.any():
            return self
        own = self.variant == 0
        spans = None if self.spans is None else self.spans[own]
        return RecordTable(self.positions[own], self.units[own], self.key_hashes[own], self.content_hashes[own], spans)

    def find(self, key: str) -> list[int]:
        """The records with that key; KEY#n also means the n-th of several with one key (`maskseq.names`)."""
        found = self._of_key(key)
        first, _, number = key.rpartition("#")
        alike = self._of_key(first) if number.isdecimal() and len(number) < 10 else []
        if len(alike) > 1 and 1 <= int(number) <= len(alike):
            found.append(alike[int(number) - 1])
        return found

    def _of_key(self, key: str) -> list[int]:
        found: list[int] = np.flatnonzero(self.key_hashes == np.uint64(hash64(key.encode()))).tolist()
        return found

    def __len__(self) -> int:
        return len(self.positions)


@dataclass(frozen=True)
class Segments:
    """Contiguous pieces of records, in file order."""

    record: Int[np.ndarray, "segments"]
    start: Int[np.ndarray, "segments"]
    length: Int[np.ndarray, "segments"]


@dataclass(frozen=True)
class Region:
    """A held-out range of raw units of one record, half-open from 0."""

    record: int
    start: int
    stop: int


Locate = Callable[[Region], tuple[int, int, int, int]]
"""Positions of a region: (first, last + 1) of those that lie wholly inside, and of those that meet it at all."""


def split_records(
    table: RecordTable, config: SplitConfig, unknown: UnknownRuns, *, locate: Locate
) -> tuple[Segments, Segments, dict[str, Any]]:
    """Divide the records of a corpus: training segments, validation segments, and the report for the manifest.

    Segments are cut at `unknown` runs. `locate` turns raw units into positions.
    """
    choice = _choose(table.own, config)
    train, validation, placed = _segments(table, choice, config, locate)
    n_positions = int(train.length.sum() + validation.length.sum())
    train, validation = _known_parts(train, table, unknown), _known_parts(validation, table, unknown)
    leaders = _leaders(table.own)
    report: dict[str, Any] = {
        "by": choice.by,
        "notes": choice.notes,
        "regions": placed,
        "duplicate_records": int((leaders != np.arange(len(leaders))).sum()),
        "repeated_keys": len(table.own) - len(np.unique(table.own.key_hashes)),
        "left_out": {
            "positions": int(table.positions.sum() - train.length.sum() - validation.length.sum()),
            "in_unknown_runs": n_positions - int(train.length.sum() + validation.length.sum()),
            "duplicates": int((choice.side == DUPLICATE).sum()),
            "overlapping_the_boundary": int((choice.side == OVERLAPPING).sum()),
        },
        "config": asdict(config),
        "unknown": asdict(unknown),
    }
    if choice.boundary is not None:
        report["boundary"] = datetime.fromtimestamp(choice.boundary, UTC).isoformat()
    for name, segments in (("train", train), ("validation", validation)):
        report[name] = {"sequences": len(segments.length), "positions": int(segments.length.sum())}
    if not len(train.length):
        raise UsageError(
            f"nothing is left to train on: the split by {choice.by} holds out or leaves out everything "
            f"({int(table.positions.sum()):,} positions in {len(table.own):,} records)\n\n"
            f"hint: hold out less, or make the guard gap ({_guard(config)}) smaller"
        )
    if not len(validation.length) and choice.by != "none":
        choice.notes.append("nothing is held out: too few data for the share that was asked, or nothing known in it")
    return train, validation, report


def training_records(read: Callable[[], Iterable[Record]], config: SplitConfig) -> Iterator[Record]:
    """The records that training will see, for what is fitted before there is a corpus; `read` is called twice.

    What is held out is what the build holds out, except where that needs the ids: duplicates and skipped records. Of a
    record with held-out regions come the segments between them, without the guard gaps, by its `cut(start, stop)`.
    """
    rows = [(len(record), hash64(record.key.encode()), record.span()) for record in read()]
    if not rows:
        return
    units = np.array([row[0] for row in rows])
    spans = [row[2] for row in rows if row[2] is not None]
    keys = np.array([row[1] for row in rows], np.uint64)
    each_its_own = np.arange(len(rows), dtype=np.uint64)
    table = RecordTable(units, units, keys, each_its_own, np.array(spans) if len(spans) == len(rows) else None)
    choice = _choose(table, config)
    train, _, _ = _segments(table, choice, config, lambda region: (region.start, region.stop) * 2)
    first = np.searchsorted(train.record, np.arange(len(table) + 1))
    for index, record in enumerate(read()):
        for segment in range(first[index], first[index + 1]):
            start, length = int(train.start[segment]), int(train.length[segment])
            yield record if length == len(record) else record.cut(start, start + length)


@dataclass(frozen=True)
class _Choice:
    by: str
    notes: list[str]
    side: Int8[np.ndarray, "records"]
    regions: list[Region]
    boundary: float | None = None


def _choose(table: RecordTable, config: SplitConfig) -> _Choice:
    """The side of every record, and the regions that are held out of training records."""
    by, notes = _resolve(table, config)
    themselves = np.arange(len(table))
    leader = _leaders(table) if config.duplicates == "together" else themselves
    side = np.full(len(table), TRAIN, np.int8)
    if by == "record":
        side[_draw(table, config)[leader]] = VALIDATION
        return _Choice(by, notes, side, [])
    if by in ("time", "start"):
        side, boundary = _by_time(table, config, overlapping=OVERLAPPING if by == "time" else TRAIN)
        side[(side == VALIDATION) & np.isin(leader, leader[side == TRAIN])] = DUPLICATE
        return _Choice(by, notes, side, [], boundary)
    if by == "none":
        return _Choice(by, notes, side, [])
    regions = _check_disjoint([_parse(text, table) for text in config.regions]) or _draw_regions(table, config)
    cut = np.unique([region.record for region in regions])
    _, first = np.unique(leader[cut], return_index=True)
    side[np.isin(leader, leader[cut])] = DUPLICATE  # a copy would carry the held-out region into training
    side[cut[first]] = TRAIN
    return _Choice(by, notes, side, [region for region in regions if side[region.record] == TRAIN])


def _resolve(table: RecordTable, config: SplitConfig) -> tuple[str, list[str]]:
    if config.regions:
        return "region", []
    if config.by == "none" or config.validation == 0:
        return "none", []
    if config.by != "auto":
        if config.by == "record" and len(table) == 1:
            raise UsageError(
                'a single record cannot be split by record\n\nhint: use by = "region" to hold out a part of it, '
                'or by = "none"'
            )
        return config.by, []
    longest = int(table.units.max())
    if len(table) == 1 or longest > max(config.validation * int(table.units.sum()), LONG):
        return "region", [f"chosen because the longest record has {longest:,} units"]
    return "record", []


def _leaders(table: RecordTable) -> Int[np.ndarray, "records"]:
    """Of each record, the first one with the same content."""
    _, first, group = np.unique(table.content_hashes, return_index=True, return_inverse=True)
    return first[group]


def _draw(table: RecordTable, config: SplitConfig) -> Bool[np.ndarray, "records"]:
    """Records in the order of their hashed keys, as long as they fit into the share; at least the shortest one."""
    order = np.argsort(mixed(table.key_hashes, (config.seed, 0)), kind="stable")
    budget = config.validation * int(table.units.sum())
    chosen = np.zeros(len(table), bool)
    while len(order := order[table.units[order] <= budget]):
        n_fit = int(np.searchsorted(np.cumsum(table.units[order]), budget, side="right"))
        chosen[order[:n_fit]] = True
        budget -= int(table.units[order[:n_fit]].sum())
        order = order[n_fit:]
    if not chosen.any() and len(table) > 1:
        chosen[np.argmin(table.units)] = True
    return chosen


def _by_time(table: RecordTable, config: SplitConfig, *, overlapping: int) -> tuple[Int8[np.ndarray, "records"], float]:
    if table.spans is None:
        raise UsageError(
            "a split by time needs records with times\n\n"
            'hint: use by = "record", or a format whose records have a span()'
        )
    starts, ends = table.spans.T
    if not np.isfinite(table.spans).all():
        missing = int((~np.isfinite(table.spans)).any(axis=1).sum())
        raise DataError("corpus", f'{missing:,} records have no time; split by = "record" instead, or give them one')
    last = max(round(config.validation * len(table)), 1)
    boundary = float(np.sort(starts)[-last])
    side = np.where(starts >= boundary, VALIDATION, np.where(ends < boundary, TRAIN, overlapping))
    return side.astype(np.int8), boundary


def _draw_regions(table: RecordTable, config: SplitConfig) -> list[Region]:
    """Of every long record (or, if none is, of the longest), one region at a place keyed by its name."""
    long = np.flatnonzero(table.units > max(config.validation * int(table.units.sum()), LONG))
    if not len(long):
        long = np.array([np.argmax(table.units)])
    places = mixed(table.key_hashes[long], (config.seed, 1)) / 2.0**64
    regions = []
    for record, place in zip(long.tolist(), places.tolist(), strict=True):
        units = int(table.units[record])
        length = max(round(config.validation * units), 1)
        start = int(place * (units - length + 1))
        regions.append(Region(record, start, start + length))
    return regions


def _parse(text: str, table: RecordTable) -> Region:
    key, _, span = text.rpartition(":")
    first, _, last = span.replace(",", "").partition("-")
    if not (first.isdigit() and last.isdigit()):
        raise UsageError(f'region {text!r} is not of the form "KEY:START-END", such as "chrI:10001-20000"')
    records = table.find(key) if key else list(range(len(table)))
    if len(records) != 1:
        what = f"{len(records)} records have the key {key!r}" if key else f"there are {len(table)} records"
        raise UsageError(
            f'region {text!r}: {what}\n\nhint: name one record, as in "KEY:START-END"; the second of a key is KEY#2'
        )
    units = int(table.units[records[0]])
    if not 1 <= int(first) <= int(last) <= units:
        raise UsageError(f"region {text!r} does not lie within the record, which has the units 1-{units}")
    return Region(records[0], int(first) - 1, int(last))


def _check_disjoint(regions: list[Region]) -> list[Region]:
    ordered = sorted(regions, key=lambda r: (r.record, r.start))
    for one, other in pairwise(ordered):
        if one.record == other.record and other.start < one.stop:
            raise UsageError(
                f"the regions {one.start + 1}-{one.stop} and {other.start + 1}-{other.stop} of one record overlap"
            )
    return ordered


def _by_record(regions: list[Region]) -> dict[int, list[Region]]:
    grouped: dict[int, list[Region]] = {}
    for region in sorted(regions, key=lambda r: (r.record, r.start)):
        grouped.setdefault(region.record, []).append(region)
    return grouped


def _guard(config: SplitConfig) -> int:
    return GUARD if config.guard is None else config.guard


def _segments(
    table: RecordTable, choice: _Choice, config: SplitConfig, locate: Locate
) -> tuple[Segments, Segments, list[dict[str, Any]]]:
    """Whole records by their side; a record with regions: training, guard gap, validation, guard gap, training.

    Variants are divided at the same raw units as their records.
    """
    rows: dict[int, list[tuple[int, int, int]]] = {TRAIN: [], VALIDATION: []}  # of cut records: record, start, stop
    placed, guard = [], _guard(config)
    variant = np.zeros(len(table), np.int8) if table.variant is None else table.variant
    own = np.cumsum(variant == 0) - 1  # of each row, its record
    by_record = _by_record(_in_variants(choice.regions, table, variant, own))
    for record, held_out in by_record.items():
        length = int(table.positions[record])
        gap = min(guard, length // GAPS)
        train_from = 0
        for region in held_out:
            inside_start, inside_stop, meets_start, meets_stop = locate(region)
            rows[TRAIN].append((record, train_from, meets_start - gap))
            rows[VALIDATION].append((record, inside_start, inside_stop))
            train_from = meets_stop + gap
            if variant[record] == 0:
                placed.append({"record": record, "first": region.start + 1, "last": region.stop, "guard": gap})
        rows[TRAIN].append((record, train_from, length))
    whole = ~np.isin(np.arange(len(table)), list(by_record))
    train, validation = (
        _in_order(
            np.flatnonzero(whole & (choice.side[own] == name)), table, [row for row in rows[name] if row[1] < row[2]]
        )
        for name in (TRAIN, VALIDATION)
    )
    return train, validation, placed


def _in_variants(
    regions: list[Region], table: RecordTable, variant: Int8[np.ndarray, "records"], own: Int[np.ndarray, "records"]
) -> list[Region]:
    """The regions in every sequence of their records; where one runs backwards, they are counted from its end."""
    placed = []
    for region in regions:
        for row in range(int(np.searchsorted(own, region.record)), int(np.searchsorted(own, region.record, "right"))):
            units = int(table.units[row])
            backwards = variant[row] < 0
            start, stop = (units - region.stop, units - region.start) if backwards else (region.start, region.stop)
            placed.append(Region(row, start, stop))
    return placed


def _known_parts(segments: Segments, table: RecordTable, unknown: UnknownRuns) -> Segments:
    """The segments without long runs of unknown positions."""
    if table.unknown is None:
        return segments
    ends = np.cumsum(table.positions)
    begin = (ends - table.positions)[segments.record] + segments.start
    start, stop = cut_out(np.stack([begin, begin + segments.length], axis=1), table.unknown, unknown).T
    record = np.searchsorted(ends, start, side="right")
    return Segments(record, start - (ends - table.positions)[record], stop - start)


def _in_order(whole: Int[np.ndarray, "n"], table: RecordTable, cut: list[tuple[int, int, int]]) -> Segments:
    pieces = np.array(cut, np.int64).reshape(-1, 3)
    record = np.concatenate([whole, pieces[:, 0]])
    start = np.concatenate([np.zeros_like(whole), pieces[:, 1]])
    length = np.concatenate([table.positions[whole], pieces[:, 2] - pieces[:, 1]])
    order = np.lexsort((start, record))
    return Segments(record[order], start[order], length[order])
