"""Records that run across a boundary of a split by time: how many, and how much of the data trains nothing for it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int

from maskseq.corpus.reader import Corpus
from maskseq.corpus.record_table import RecordTable
from maskseq.corpus.sides import Division, choose
from maskseq.corpus.split_config import DUPLICATE, OVERLAPPING, PARTS

MUCH = 0.25
"""The share of all positions from which on leaving them out is warned of."""


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """What neither trains nor is asked about at the boundaries. Long records are the likeliest to overlap one."""

    records: int
    share: float
    """Of all positions: of those records, what is before the boundary, and everything where units have no times."""
    requested: float
    """Of all positions, what of those records is asked about, because it is behind the boundary."""
    mean_length: float
    mean_length_of_kept: float

    @property
    def reported(self) -> dict[str, Any]:
        """For people to read."""
        return {
            "records": self.records,
            "share of tokens": round(self.share, 4),
            "share that is asked about": round(self.requested, 4),
            "mean length": round(self.mean_length, 1),
            "mean length of those kept": round(self.mean_length_of_kept, 1),
        }

    def __str__(self) -> str:
        return (
            f"{self.records:,} records overlap a time boundary and train nothing: what is before it, {self.share:.1%} "
            f"of the tokens, is left out, what is behind it, {self.requested:.1%}, is asked about; their mean length "
            f"is {self.mean_length:.1f}, that of the others {self.mean_length_of_kept:.1f}"
        )

    @property
    def warning(self) -> str | None:
        """What to say where that is much."""
        if self.share <= MUCH:
            return None
        return (
            f'{self}; data.split.by = "start" trains on them (figures are then flattered by what runs at the same '
            f'time), by = "record" leaves time out of it'
        )


def overlap(table: RecordTable, choice: Division, requested: Int[np.ndarray, "records"]) -> Overlap | None:
    """What a split by time leaves out of these records (none of them variants); None where it is nothing.

    `asked` are the positions of each record that are asked about, as far as it overlaps a boundary.
    """
    if choice.before is None or not len(table):
        return None
    parted = (choice.side == OVERLAPPING) | ((choice.before > 0) & (choice.side != DUPLICATE))
    kept = np.isin(choice.side, list(PARTS)) & ~parted
    if not parted.any():
        return None
    total, of_these, behind = (
        int(each.sum()) for each in (table.positions, table.positions[parted], requested[parted])
    )
    return Overlap(
        records=int(parted.sum()),
        share=(of_these - behind) / total,
        requested=behind / total,
        mean_length=float(table.positions[parted].mean()),
        mean_length_of_kept=float(table.positions[kept].mean()) if kept.any() else 0.0,
    )


def overlap_of(corpus: Corpus) -> Overlap | None:
    """The same of a corpus; None where the split is another."""
    if corpus.manifest["split"]["by"] != "time":
        return None
    records, table = corpus.records, corpus.table
    requested = np.bincount(table.record, table.length - table.context, len(records)).astype(np.int64)
    own = np.ones(len(records), bool) if records.variant is None else records.variant == 0
    return overlap(records.own, choose(records.own, corpus.split_config), requested[own])
