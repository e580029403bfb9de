"""What a split is decided by: a row for each record, and the pieces of records that it results in."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

import numpy as np
from jaxtyping import Bool, Float, Int, Int8, UInt64

from maskseq.corpus.hashing import hash64
from maskseq.corpus.parts import Part
from maskseq.errors import PluginError
from maskseq.formats import COMPARED, most_alike
from maskseq.types import Record

UNALIGNED = 64
"""What is added to the number of a variant whose raw units are not those of its record."""


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
    """0 for a record; not 0 for its variants, which stand behind it; negative where they run backwards,
    beyond `UNALIGNED` where their raw units are others."""
    groups: UInt64[np.ndarray, "records"] | None = None
    """The same number for records that must stand in one part; 0 for a record that belongs to no others."""
    names: Callable[[], Sequence[str]] = tuple
    """Keys of the first records, for messages."""
    near: Int[np.ndarray, "records"] | None = None
    """The same number for records that are nearly the same; None where none are."""
    given: Int8[np.ndarray, "records"] | None = None
    """Of records of a file that is a part as a whole, that part; they follow the others, for which it is 0."""

    moments: Float[np.ndarray, "own_units"] | None = None
    """The time of each raw unit of the records, variants left out, one record after the other; NaN: not known."""

    @cached_property
    def own(self) -> "RecordTable":
        """The records alone, by which everything is decided."""
        if self.variant is None or not self.variant.any():
            return self
        return self.at(self.variant == 0)

    def at(self, kept: Bool[np.ndarray, "records"]) -> "RecordTable":
        """Some of the records, without their unknown runs; none of them may be a variant."""
        return RecordTable(
            self.positions[kept],
            self.units[kept],
            self.key_hashes[kept],
            self.content_hashes[kept],
            spans=None if self.spans is None else self.spans[kept],
            groups=None if self.groups is None else self.groups[kept],
            names=self.names,
            near=None if self.near is None else self.near[kept],
            given=None if self.given is None else self.given[kept],
            moments=None if self.moments is None else self.moments[self._units_of(kept)],
        )

    def _units_of(self, kept: Bool[np.ndarray, "records"]) -> Bool[np.ndarray, "own_units"]:
        own = slice(None) if self.variant is None else self.variant == 0
        return np.repeat(kept[own], self.units[own])

    def units_before(self, record: int, moment: float) -> int:
        """The raw units of a record before the first from which on all known times are a moment or later.

        0 where that is not known, or there is none. Of a table without variants.
        """
        if self.moments is None:
            return 0
        stop = int(self._last_unit[record])
        times = self.moments[stop - int(self.units[record]) : stop]
        before = np.flatnonzero(times < moment)
        behind = np.flatnonzero(times >= moment)
        behind = behind[behind > before[-1]] if len(before) else behind
        return int(behind[0]) if len(behind) else 0

    @cached_property
    def _last_unit(self) -> Int[np.ndarray, "records"]:
        return np.cumsum(self.units)

    def find(self, key: str) -> list[int]:
        """The records with that key; KEY#n also means the n-th of several with one key (`maskseq.formats`)."""
        found = self._of_key(key)
        first, _, number = key.rpartition("#")
        alike = self._of_key(first) if number.isdecimal() and len(number) < 10 else []
        if len(alike) > 1 and 1 <= int(number) <= len(alike):
            found.append(alike[int(number) - 1])
        return found

    def hint(self, key: str) -> str:
        """Which keys there are instead of one that no record has, for a message."""
        names = dict.fromkeys(self.names())
        return f"\n\nhint: there are {most_alike(key, names)}" if names else ""

    def _of_key(self, key: str) -> list[int]:
        found: list[int] = np.flatnonzero(self.key_hashes == np.uint64(hash64(key.encode()))).tolist()
        return found

    def __len__(self) -> int:
        return len(self.positions)


def record_table(parts: Sequence[Part]) -> RecordTable:
    """The records of a corpus, part after part."""
    spans = [_spans(part) for part in parts if part.n_records]
    groups = [part.groups for part in parts if part.n_records]
    hashes = np.concatenate([part.hashes for part in parts])
    first = np.cumsum([0] + [part.n_positions for part in parts])
    given = np.concatenate([np.full(part.n_records, part.given, np.int8) for part in parts])
    return RecordTable(
        positions=np.concatenate([np.diff(part.offsets) for part in parts]),
        units=np.concatenate([part.units for part in parts]),
        key_hashes=hashes[:, 0],
        content_hashes=hashes[:, 1],
        spans=np.concatenate([s for s in spans if s is not None]) if all(s is not None for s in spans) else None,
        variant=np.concatenate([part.variants for part in parts]),
        unknown=np.concatenate([part.unknown + begin for part, begin in zip(parts, first, strict=False)]),
        groups=np.concatenate([g for g in groups if g is not None]) if all(g is not None for g in groups) else None,
        names=lambda: [*islice((part.key(record) for part in parts for record in range(part.n_records)), COMPARED)],
        given=given if given.any() else None,
        moments=np.concatenate([p.moments for p in parts]) if any(p.has_moments for p in parts) else None,
    )


def _spans(part: Part) -> Float[np.ndarray, "records 2"] | None:
    """Those of a part; of records that are not to be divided, times do not matter."""
    return np.full((part.n_records, 2), np.nan) if part.given and part.spans is None else part.spans


def moments_of(records: Sequence[Record]) -> Float[np.ndarray, "units"] | None:
    """When each raw unit of the records was, one record after the other; None where that is known of none.

    `PluginError` for a record that does not say it for each of its units.
    """
    found = [record.moments() for record in records]
    if all(times is None for times in found):
        return None
    for record, times in zip(records, found, strict=True):
        if times is not None and np.shape(times) != (len(record),):
            problem = f"moments() gave {np.size(times)} times for {len(record)} raw units"
            raise PluginError(type(record).__name__, problem, record=record.key)
    return np.concatenate(
        [np.full(len(r), np.nan) if times is None else times for r, times in zip(records, found, strict=True)]
    )


def group_number(record: Record, attribute: str) -> int:
    """The number of the group that a record belongs to by this attribute; 0 where it has none."""
    value = record.group(attribute)
    return 0 if value is None else hash64(value.encode())


@dataclass(frozen=True)
class Segments:
    """Contiguous pieces of records, in file order."""

    record: Int[np.ndarray, "segments"]
    start: Int[np.ndarray, "segments"]
    length: Int[np.ndarray, "segments"]
    context: Int[np.ndarray, "segments"] | None = None
    """How many positions at the beginning of each are context only: never asked about (None: none)."""

    @property
    def shown(self) -> Int[np.ndarray, "segments"]:
        """The same as numbers."""
        return np.zeros_like(self.length) if self.context is None else self.context

    def __len__(self) -> int:
        return len(self.record)

    @property
    def positions(self) -> int:
        return int(self.length.sum())


@dataclass(frozen=True)
class Region:
    """A held-out range of raw units of one record, half-open from 0."""

    record: int
    start: int
    stop: int
    part: int
    """Which part of the split it is."""
