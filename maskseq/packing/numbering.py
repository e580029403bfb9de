"""Which row is where: the global number of a row as its epoch, its block and its place there. Integers only.

An epoch has the rows of its blocks, counted by planning them; a completed epoch's counts are cached.
"""

import zlib
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from maskseq.storage.outputs import write


@dataclass(frozen=True)
class RowPlace:
    """Where a row is."""

    epoch: int
    block: int
    index: int
    """Within the block."""


@dataclass
class RowNumbers:
    """The numbers of all rows, from 0 through all epochs; blocks are counted once, in order, when they are needed."""

    n_blocks: int
    """The same for every epoch."""
    count: Callable[[int, int], int]
    """Epoch and block → rows of that block."""
    cache: Callable[[int], Path] | None = None
    """Epoch → the file that keeps its counts; None: no cache."""
    _starts: list[int] = field(default_factory=lambda: [0])
    """Number of the first row of each epoch, as far as known."""
    _ends: list[list[int]] = field(default_factory=list)
    """For each epoch, its rows up to the end of each block, as far as known."""

    def n_rows(self, epoch: int) -> int:
        """Rows of an epoch. Counts it, and those before it."""
        while len(self._starts) < epoch + 2:
            self._count_epoch(len(self._starts) - 1)
        return self._starts[epoch + 1] - self._starts[epoch]

    def place(self, number: int) -> RowPlace:
        """Where row `number` is; counts the blocks before it that were not counted yet."""
        if number < 0:
            raise ValueError(f"row {number}: rows are numbered from 0")
        epoch = bisect_right(self._starts, number) - 1
        while not self._count_epoch(epoch, until=number):
            epoch += 1
        within = number - self._starts[epoch]
        block = bisect_right(self._ends[epoch], within)
        return RowPlace(epoch, block, within - (self._ends[epoch][block - 1] if block else 0))

    def after(self, epoch: int, block: int) -> tuple[int, int]:
        """Epoch and block of the block that follows."""
        return (epoch, block + 1) if block + 1 < self.n_blocks else (epoch + 1, 0)

    def _count_epoch(self, epoch: int, until: int | None = None) -> bool:
        """Count the rows of the epoch's blocks up to row `until` (None: all). Whether it has that row."""
        if epoch == len(self._ends):
            self._ends.append(_read(self.cache(epoch)) if self.cache else [])
        ends, start = self._ends[epoch], self._starts[epoch]
        while len(ends) < self.n_blocks and (until is None or not ends or start + ends[-1] <= until):
            ends.append((ends[-1] if ends else 0) + self.count(epoch, len(ends)))
            if len(ends) == self.n_blocks and self.cache:
                _keep(self.cache(epoch), ends)
        if len(ends) == self.n_blocks and len(self._starts) == epoch + 1:
            self._starts.append(start + ends[-1])
        return until is not None and until < start + ends[-1]


def _read(file: Path) -> list[int]:
    """The counts of a completed epoch, if they are cached and intact."""
    if not file.is_file():
        return []
    content = file.read_bytes()
    body, check = content[:-4], content[-4:]
    if zlib.crc32(body).to_bytes(4, "little") != check:
        return []  # damaged: counted again
    ends: list[int] = np.frombuffer(body, "<i8").tolist()
    return ends


def _keep(file: Path, ends: list[int]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    body = np.array(ends, "<i8").tobytes()
    write(file, body + zlib.crc32(body).to_bytes(4, "little"), shared=True)
