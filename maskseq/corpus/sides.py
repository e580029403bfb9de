"""The part of each record, and the regions of long ones that are held out: all that a split decides."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Bool, Int, Int8, Integer, UInt64

from maskseq.corpus.hashing import mixed
from maskseq.corpus.record_table import RecordTable, Region
from maskseq.corpus.regions import LONG, check_disjoint, draw_regions, parse_region
from maskseq.corpus.split_config import DUPLICATE, OVERLAPPING, SELECTION, TEST, TRAIN, SplitConfig
from maskseq.errors import DataError, UsageError


@dataclass(frozen=True)
class Division:
    """What becomes of each record."""

    by: str
    notes: list[str]
    side: Int8[np.ndarray, "records"]
    """`TRAIN`, `SELECTION`, `TEST`, or why it is in no part: `DUPLICATE`, `OVERLAPPING`."""
    regions: Sequence[Region] = ()
    """Those that are held out of training records."""
    boundaries: dict[int, float] = field(default_factory=dict)
    """By time, when each held-out part begins."""
    before: Int[np.ndarray, "records"] | None = None
    """By time, of records that overlap a boundary and are asked about behind it, the raw units before it; else 0."""


def choose(table: RecordTable, config: SplitConfig) -> Division:
    """The side of every record, and the regions that are held out of training records.

    Records of a file that is a part as a whole follow those that are divided, which know nothing of them.
    """
    if table.given is None:
        return _divided(table, config)
    choice = _divided(table.at(table.given == TRAIN), config)
    leader = _leaders(table, config)
    side = table.given.copy()
    side[side == TRAIN] = choice.side
    for part in config.files:
        mine = table.given == part
        side[mine & np.isin(leader, leader[~mine & (side < part)])] = DUPLICATE
    before = None if choice.before is None else np.pad(choice.before, (0, len(table) - len(choice.before)))
    return replace(choice, side=side, before=before)


def _divided(table: RecordTable, config: SplitConfig) -> Division:
    """The same of records that are all to be divided."""
    by, notes = _resolve(table, config)
    leader = _leaders(table, config)
    side = np.full(len(table), TRAIN, np.int8)
    if by == "record":
        return Division(by, notes, _by_record(table, config, leader))
    if by in ("time", "start"):
        side, before, boundaries = _by_time(table, config, overlapping=by == "time")
        for part in (SELECTION, TEST):  # a copy of what an earlier part holds
            side[(side == part) & np.isin(leader, leader[side < part])] = DUPLICATE
        return Division(by, notes, side, boundaries=boundaries, before=before)
    if by == "none":
        return Division(by, notes, side)
    regions = _regions(table, config, leader)
    side[_copies_of_cut(regions, leader)] = DUPLICATE  # a copy would carry the held-out region into training
    return Division(by, notes, side, [region for region in regions if side[region.record] == TRAIN])


def _resolve(table: RecordTable, config: SplitConfig) -> tuple[str, list[str]]:
    if config.regions or config.test_regions:
        return "region", []
    if config.by == "none" or not config.holds_out:
        return "none", []
    by = "record" if config.keys or config.test_keys or config.group else config.by
    if by != "auto":
        if by == "record" and len(table) == 1:
            raise UsageError(
                'a single record cannot be split by record\n\nhint: use by = "region" to hold out a part of it, '
                'or by = "none"',
                code="not-supported",
            )
        return by, []
    longest = int(table.units.max())
    share = max(config.shares.values())
    if len(table) == 1 or longest > max(share * int(table.units.sum()), LONG):
        return "region", [f"chosen because the longest record has {longest:,} units"]
    return "record", []


def first_alike(labels: Integer[np.ndarray, "records"]) -> Int[np.ndarray, "records"]:
    """For each record, the first one with the same label."""
    _, first, group = np.unique(labels, return_index=True, return_inverse=True)
    return first[group]


def _leaders(table: RecordTable, config: SplitConfig) -> Int[np.ndarray, "records"]:
    """For each record, the first one that it must stand with: of its group or of (nearly) the same content, over any
    number of records between them.
    """
    leader = themselves = np.arange(len(table))
    links = [_groups(table, config)]
    if config.duplicates == "together":
        links.append(first_alike(table.content_hashes))
        if table.near is not None:
            links.append(first_alike(table.near))
    while True:
        before = leader
        for link in links:
            smallest = themselves.copy()
            np.minimum.at(smallest, link, leader)
            leader = smallest[link]
        if np.array_equal(leader, before):
            return leader


def _groups(table: RecordTable, config: SplitConfig) -> Int[np.ndarray, "records"]:
    """For each record, the first one of its group."""
    themselves = np.arange(len(table))
    if table.groups is None:
        return themselves
    if not table.groups.any():
        raise UsageError(
            f"no record has an attribute {config.group!r}\n\n"
            f"hint: data.split.group names an attribute of records, such as a column of cases",
            code="unknown-name",
        )
    return np.where(table.groups == 0, themselves, first_alike(table.groups))


def _by_record(
    table: RecordTable, config: SplitConfig, leader: Int[np.ndarray, "records"]
) -> Int8[np.ndarray, "records"]:
    """Whole records: those that are named, then those that are drawn."""
    side = np.full(len(table), TRAIN, np.int8)
    named = {TEST: config.test_keys, SELECTION: config.keys}
    for part, keys in named.items():
        found = [_named(table, key) for key in keys]
        chosen = np.isin(leader, leader[[record for each in found for record in each]]) if found else leader < 0
        side[chosen & (side == TRAIN)] = part
    # Groups are drawn whole, but without copies in others: what is fitted before copies are known draws the same.
    group = _groups(table, config)
    units = np.bincount(group, table.units, minlength=len(table)).astype(np.int64)
    labels = table.key_hashes if table.groups is None else np.where(table.groups, table.groups, table.key_hashes)
    for part, salt in ((SELECTION, 0), (TEST, 2)):
        share = config.shares[part]
        if share and not named[part]:
            free = (side == TRAIN) & (group == np.arange(len(table)))
            chosen = _draw(units, labels, free, share * int(table.units.sum()), key=(config.seed, salt))
            side[chosen[group[leader]] & (side == TRAIN)] = part
    return side


def _named(table: RecordTable, key: str) -> list[int]:
    found = table.find(key)
    if not found:
        raise UsageError(
            f"the split names the record {key!r}, and no record has this key{table.hint(key)}", code="unknown-name"
        )
    return found


def _draw(
    units: Int[np.ndarray, "records"],
    labels: UInt64[np.ndarray, "records"],
    free: Bool[np.ndarray, "records"],
    budget: float,
    *,
    key: tuple[int, int],
) -> Bool[np.ndarray, "records"]:
    """Free records in the order of their hashed labels, as long as they fit into the budget; at least the shortest."""
    order = np.argsort(mixed(labels, key), kind="stable")
    order, chosen = order[free[order]], np.zeros(len(units), bool)
    while len(order := order[units[order] <= budget]):
        n_fit = int(np.searchsorted(np.cumsum(units[order]), budget, side="right"))
        chosen[order[:n_fit]] = True
        budget -= int(units[order[:n_fit]].sum())
        order = order[n_fit:]
    left = np.flatnonzero(free)
    if not chosen.any() and len(left) > 1:
        chosen[left[np.argmin(units[left])]] = True
    return chosen


def _by_time(
    table: RecordTable, config: SplitConfig, *, overlapping: bool
) -> tuple[Int8[np.ndarray, "records"], Int[np.ndarray, "records"], dict[int, float]]:
    """By the start of records; where `overlapping` matters, those that end in a later part belong to it from its
    boundary on, or to none where nobody knows which of their units lie behind it.
    """
    if table.spans is None:
        raise UsageError(
            "a split by time needs records with times\n\n"
            'hint: use by = "record", or a format whose records have a span()',
            code="not-supported",
        )
    starts, ends = table.spans.T
    if not np.isfinite(table.spans).all():
        missing = int((~np.isfinite(table.spans)).any(axis=1).sum())
        raise DataError(
            "corpus",
            f'{missing:,} records have no time; split by = "record" instead, or give them one',
            code="too-little-data",
        )
    boundaries: dict[int, float] = {}
    last = 0
    for part in (TEST, SELECTION):
        if share := config.shares[part]:
            last = min(last + max(round(share * len(table)), 1), len(table))
            boundaries[part] = float(np.sort(starts)[-last])
    side, until = np.full((2, len(table)), TRAIN, np.int8)
    for part, boundary in sorted(boundaries.items()):
        side[starts >= boundary] = until[ends >= boundary] = part
    before = np.zeros(len(table), np.int64)
    for record in np.flatnonzero(until > side).tolist() if overlapping else ():
        before[record] = table.units_before(record, boundaries[int(until[record])])
        side[record] = until[record] if before[record] else OVERLAPPING
    return side, before, boundaries


def _regions(table: RecordTable, config: SplitConfig, leader: Int[np.ndarray, "records"]) -> list[Region]:
    """Those that are given; of a part that none are given for, those that its share asks for.

    A record whose copy is cut is left out, so nothing is drawn in it.
    """
    given = {SELECTION: config.regions, TEST: config.test_regions}
    regions = check_disjoint([parse_region(text, table, part) for part, texts in given.items() for text in texts])
    for part, salt in ((SELECTION, 1), (TEST, 3)):
        share = config.shares[part]
        if share and not given[part]:
            key = (config.seed, salt)
            used = ~_copies_of_cut(regions, leader)
            regions += draw_regions(table, share, part, key=key, guard=config.gap, taken=regions, records=used)
    return regions


def _copies_of_cut(regions: Sequence[Region], leader: Int[np.ndarray, "records"]) -> Bool[np.ndarray, "records"]:
    """The records that (nearly) repeat one with a held-out region; which of several is cut, selection decides first."""
    kept: dict[int, int] = {}
    for region in sorted(regions, key=lambda region: (region.part, region.record)):
        kept.setdefault(int(leader[region.record]), region.record)
    copies = np.isin(leader, list(kept))
    copies[list(kept.values())] = False
    return copies
