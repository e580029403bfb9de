"""What a split is decided by: a row for each record, and the pieces of records that it results in."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int, Int8, UInt64

from maskseq.corpus.hashing import hash64
from maskseq.corpus.parts import Part
from maskseq.types import Record


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
    groups: UInt64[np.ndarray, "records"] | None = None
    """The same number for records that must stand in one part; 0 for a record that belongs to no others."""

    @cached_property
    def own(self) -> "RecordTable":
        """The records alone, by which everything is decided."""
        if self.variant is None or not self.variant.any():
            return self
        own = self.variant == 0
        return RecordTable(
            self.positions[own],
            self.units[own],
            self.key_hashes[own],
            self.content_hashes[own],
            spans=None if self.spans is None else self.spans[own],
            groups=None if self.groups is None else self.groups[own],
        )

    def find(self, key: str) -> list[int]:
        """The records with that key; KEY#n also means the n-th of several with one key (`maskseq.formats`)."""
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


def record_table(parts: Sequence[Part]) -> RecordTable:
    """The records of a corpus, part after part."""
    spans = [part.spans for part in parts if part.n_records]
    groups = [part.groups for part in parts if part.n_records]
    hashes = np.concatenate([part.hashes for part in parts])
    first = np.cumsum([0] + [part.n_positions for part in parts])
    return RecordTable(
        positions=np.concatenate([np.diff(part.offsets) for part in parts]),
        units=np.concatenate([part.units for part in parts]),
        key_hashes=hashes[:, 0],
        content_hashes=hashes[:, 1],
        spans=np.concatenate([s for s in spans if s is not None]) if all(s is not None for s in spans) else None,
        variant=np.concatenate([part.variants for part in parts]),
        unknown=np.concatenate([part.unknown + begin for part, begin in zip(parts, first, strict=False)]),
        groups=np.concatenate([g for g in groups if g is not None]) if all(g is not None for g in groups) else None,
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
