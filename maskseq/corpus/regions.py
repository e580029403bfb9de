"""Held-out regions of long records: as the user writes them, or drawn at places that the names of records decide."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Bool

from maskseq.corpus.hashing import mixed
from maskseq.corpus.record_table import RecordTable, Region
from maskseq.errors import UsageError

LONG = 10_000
"""A record is long, for `by="auto"`, from this many units on (if it exceeds the share to hold out, too). Not a number
of guard gaps: stages with longer contexts, hence wider gaps, must hold out the same regions."""
GAPS = 20
"""A guard gap is at most this fraction of its record: a short record would be all gap."""


def parse_region(text: str, table: RecordTable, part: int) -> Region:
    """The region that `text` names."""
    key, _, span = text.rpartition(":")
    first, _, last = span.replace(",", "").partition("-")
    if not (first.isdigit() and last.isdigit()):
        raise UsageError(
            f'region {text!r} is not of the form "KEY:START-END", such as "chrI:10001-20000"', code="bad-option"
        )
    records = table.find(key) if key else list(range(len(table)))
    if len(records) != 1:
        if key and not records:
            raise UsageError(f"region {text!r}: no record has the key {key!r}{table.hint(key)}", code="unknown-name")
        what = f"{len(records)} records have the key {key!r}" if key else f"there are {len(table)} records"
        raise UsageError(
            f'region {text!r}: {what}\n\nhint: name one record, as in "KEY:START-END"; the second of a key is KEY#2',
            code="bad-option",
        )
    units = int(table.units[records[0]])
    if not 1 <= int(first) <= int(last) <= units:
        raise UsageError(
            f"region {text!r} does not lie within the record, which has the units 1-{units}", code="bad-option"
        )
    return Region(records[0], int(first) - 1, int(last), part)


def check_disjoint(regions: Sequence[Region]) -> list[Region]:
    """The regions in the order of records and places; `UsageError` where two overlap."""
    ordered = sorted(regions, key=lambda r: (r.record, r.start))
    for one, other in pairwise(ordered):
        if one.record == other.record and other.start < one.stop:
            raise UsageError(
                f"the regions {one.start + 1}-{one.stop} and {other.start + 1}-{other.stop} of one record overlap",
                code="bad-option",
            )
    return ordered


def draw_regions(
    table: RecordTable,
    share: float,
    part: int,
    *,
    key: tuple[int, int],
    guard: int,
    taken: Sequence[Region],
    records: Bool[np.ndarray, "records"],
) -> list[Region]:
    """One region for each long record of `records`, or for the longest if none is; the record's name keys its place.

    It lies a guard gap apart from the regions that are `taken`, and is shorter where there is no room for the share.
    """
    long = np.flatnonzero(records & (table.units > max(share * int(table.units.sum()), LONG)))
    if not len(long):
        long = np.array([np.argmax(np.where(records, table.units, 0))])
    places = mixed(table.key_hashes[long], key) / 2.0**64
    regions = []
    for record, place in zip(long.tolist(), places.tolist(), strict=True):
        units = int(table.units[record])
        free = _free(record, units, taken, gap=min(guard, units // GAPS))
        length = min(max(round(share * units), 1), max((stop - start for start, stop in free), default=0))
        if length:
            room = [max(stop - start - length + 1, 0) for start, stop in free]
            at = int(place * sum(room))
            for (start, _), here in zip(free, room, strict=True):
                if at < here:
                    regions.append(Region(record, start + at, start + at + length, part))
                    break
                at -= here
    return regions


def _free(record: int, units: int, taken: Sequence[Region], *, gap: int) -> list[tuple[int, int]]:
    """The stretches of a record that are a gap apart from every region that is taken."""
    free, begin = [], 0
    for region in sorted((region for region in taken if region.record == record), key=lambda r: r.start):
        free.append((begin, region.start - gap))
        begin = region.stop + gap
    free.append((begin, units))
    return [(start, stop) for start, stop in free if start < stop]
