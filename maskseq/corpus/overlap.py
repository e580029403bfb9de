"""Records that a split by time leaves out because they run across a boundary: how many, and how much of the data."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from maskseq.corpus.reader import Corpus
from maskseq.corpus.record_table import RecordTable
from maskseq.corpus.sides import choose
from maskseq.corpus.split_config import OVERLAPPING, PARTS, SplitConfig

MUCH = 0.25
"""The share of all positions from which on leaving them out is warned of."""


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """What is left out at the boundaries. Long records are the likeliest to overlap one."""

    records: int
    share: float
    """Of all positions."""
    mean_length: float
    mean_length_of_kept: float

    @property
    def told(self) -> dict[str, Any]:
        """For people to read."""
        return {
            "records": self.records,
            "share of tokens": round(self.share, 4),
            "mean length": round(self.mean_length, 1),
            "mean length of those kept": round(self.mean_length_of_kept, 1),
        }

    def __str__(self) -> str:
        return (
            f"{self.records:,} records that overlap a time boundary are left out: {self.share:.1%} of the tokens; "
            f"their mean length is {self.mean_length:.1f}, that of the others {self.mean_length_of_kept:.1f}"
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


def overlap(table: RecordTable, config: SplitConfig) -> Overlap | None:
    """What a split by time leaves out of these records; None where it is nothing, or the split is another."""
    table = table.own
    if config.by != "time" or not len(table) or (choice := choose(table, config)).by != "time":
        return None
    left, kept = choice.side == OVERLAPPING, np.isin(choice.side, list(PARTS))
    if not left.any():
        return None
    return Overlap(
        records=int(left.sum()),
        share=float(table.positions[left].sum() / table.positions.sum()),
        mean_length=float(table.positions[left].mean()),
        mean_length_of_kept=float(table.positions[kept].mean()) if kept.any() else 0.0,
    )


def overlap_of(corpus: Corpus) -> Overlap | None:
    """The same of a corpus."""
    return overlap(corpus.records, corpus.split_config) if corpus.manifest["split"]["by"] == "time" else None
