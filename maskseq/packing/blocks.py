"""The tokens of one block in memory, read in large spans and cut in NumPy."""

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from maskseq.corpus.reader import Corpus
from maskseq.packing.packing import Block
from maskseq.types import Encoded

SPAN_BYTES = 8 << 20  # the most that one call reads when it reads across gaps
GAP_BYTES = 1 << 20  # a gap up to this is read and thrown away: cheaper than another call


@dataclass(frozen=True)
class LoadedBlock:
    """A planned block and its tokens."""

    plan: Block
    content: Encoded
    """Its segments, one after the other."""
    at: Int[np.ndarray, "segments"]
    """Where each segment begins in `content`."""

    def segment(self, index: int) -> Encoded:
        return self.content.cut(int(self.at[index]), int(self.at[index] + self.plan.length[index]))


class Blocks:
    """One block in memory, the one that was asked for last, and perhaps the next one on its way.

    One caller at a time: `PackedRows` holds a lock.
    """

    def __init__(self, load: Callable[[int, int], LoadedBlock]) -> None:
        """`load` reads a block by its epoch and number."""
        self._load = load
        self._current: tuple[tuple[int, int], LoadedBlock] | None = None
        self._upcoming: tuple[tuple[int, int], Future[LoadedBlock]] | None = None

    def get(self, epoch: int, block: int) -> LoadedBlock:
        wanted = (epoch, block)
        if self._current is None or self._current[0] != wanted:
            upcoming, self._upcoming, self._current = self._upcoming, None, None  # frees memory before more is read
            ready = upcoming is not None and upcoming[0] == wanted
            self._current = (wanted, upcoming[1].result() if upcoming and ready else self._load(epoch, block))
        return self._current[1]

    def read_ahead(self, reader: Executor, epoch: int, block: int) -> None:
        """Begin to read a block that will be asked for."""
        self._upcoming = ((epoch, block), reader.submit(self._load, epoch, block))


def load_block(corpus: Corpus, plan: Block, *, first_sequence: int, numbers: bool = False) -> LoadedBlock:
    """Read the segments of a block; its sequences count from `first_sequence` of the corpus.

    With `numbers`, also what ids were rounded from, NaN where that is not kept.
    """
    vocabulary = corpus.tokenizer.vocabulary
    sequence = first_sequence + plan.sequence
    order = np.argsort(corpus.offsets[sequence] + plan.start)
    at = np.empty_like(plan.length)
    at[order] = np.cumsum(plan.length[order]) - plan.length[order]
    offset, length, destination = _stored(corpus, sequence, plan, at)
    ids = np.empty((int(length.sum()), vocabulary.n_fields), vocabulary.dtype)
    weights, units = None, None
    read_numbers = np.full(ids.shape, np.nan) if numbers else None
    for runs in _spans(offset, length, destination, ids.itemsize * ids.shape[1]):
        begin = runs[0][0]
        read = corpus.read_span(begin, runs[-1][1], numbers=numbers)
        for start, stop, segment in runs:
            here = slice(int(destination[segment]), int(destination[segment]) + stop - start)
            ids[here] = read.ids[start - begin : stop - begin]
            if read.weights is not None:
                weights = np.ones(ids.shape, np.float32) if weights is None else weights
                weights[here] = read.weights[start - begin : stop - begin]
            if read_numbers is not None and read.numbers is not None:
                read_numbers[here] = read.numbers[start - begin : stop - begin]
            if read.units is not None:
                units = np.empty((*ids.shape, 2), np.int64) if units is None else units
                units[here] = read.units[start - begin : stop - begin]
    return LoadedBlock(plan, Encoded(ids, weights=weights, numbers=read_numbers, units=units), at)


def _stored(
    corpus: Corpus, sequence: Int[np.ndarray, "segments"], plan: Block, at: Int[np.ndarray, "segments"]
) -> tuple[Int[np.ndarray, "stretches"], Int[np.ndarray, "stretches"], Int[np.ndarray, "stretches"]]:
    """The stretches that the segments are stored in, in stored order: where each begins, its length, and where it goes.

    A segment across the origin of a circle is two.
    """
    begin = corpus.offsets[sequence]
    beyond = np.maximum(plan.start + plan.length - corpus.lengths[sequence], 0)
    across = np.flatnonzero(beyond)
    offset = np.concatenate([begin + plan.start, begin[across]])
    length = np.concatenate([plan.length - beyond, beyond[across]])
    destination = np.concatenate([at, (at + plan.length - beyond)[across]])
    order = np.argsort(offset)
    return offset[order], length[order], destination[order]


def _spans(
    offset: Int[np.ndarray, "stretches"],
    length: Int[np.ndarray, "stretches"],
    destination: Int[np.ndarray, "stretches"],
    row_bytes: int,
) -> Iterator[list[tuple[int, int, int]]]:
    """Group stretches in stored order into what is read together: runs without gaps as (start, stop, first stretch)."""
    end = offset + length
    gaps = (offset[1:] != end[:-1]) | (destination[1:] != (destination + length)[:-1])
    first = np.concatenate([[0], np.flatnonzero(gaps) + 1])
    last = np.concatenate([first[1:], [len(offset)]]) - 1
    span: list[tuple[int, int, int]] = []
    for start, stop, segment in zip(offset[first].tolist(), end[last].tolist(), first.tolist(), strict=True):
        if span and ((start - span[-1][1]) * row_bytes > GAP_BYTES or (stop - span[0][0]) * row_bytes > SPAN_BYTES):
            yield span
            span = []
        span.append((start, stop, segment))
    yield span
