"""Which segments of sequences share a packed row: planned from lengths alone, every token exactly once an epoch.

    sequences ─cut→ segments ─chunks, shuffled→ blocks ─best fit→ rows of T tokens

A sequence longer than the context is cut into windows with a random phase an epoch, so that no position is always at an
edge; in a circle, the last window goes on behind the origin. `cut` cuts some of the others in two. The tokens of a
split, one sequence after the other, are divided into *chunks*, which are stored contiguously; a *block* is a few chunks
drawn at random, the unit that is read and packed. So memory holds one block, rows mix distant parts of the corpus, and
any block can be planned alone. Everything is a pure function of lengths and a key.

The packer of ModernBERT (`sequence_packer.py`) is greedy over a buffer, and the last partial batch drops what it
holds; here a block is packed whole.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from maskseq.corpus.hashing import mixed
from maskseq.errors import UsageError

CHUNK_TOKENS = 1 << 19
BLOCK_CHUNKS = 8  # a block is ~4 M tokens
LENGTHS_AT_ONCE = 1 << 22
SHORTEST_CUT = 2
"""Positions of what is cut off, at least: an event and the mark of the end."""


@dataclass(frozen=True, kw_only=True)
class PackingConfig:
    """The shape of a stage's rows."""

    row_tokens: int = 8192
    """Tokens of a row, T."""
    context: int = 1024
    """The longest segment. Longer sequences are cut into windows, of the largest length up to this that fills rows."""
    cut: float = 0.0
    """In training, the share of other sequences that are cut in two at a random place, drawn anew each epoch: for data
    that breaks off where recording does, as cases that still run do when a log is taken. Where sequences end with a
    mark, the first segment's last position becomes one (`Tokenizer.closed`): the mark then means nothing but the end of
    what was recorded."""

    open: float = 0.0
    """The share of segments that are shown as *open prefixes*: only how they begin, up to a random place, without a
    mark of the end, and with the last positions masked (`masking.tail`). So a run learns what comes next, and that the
    end is one of the outcomes: `maskseq next` needs it."""

    def __post_init__(self) -> None:
        for name in ("cut", "open"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"{name} = {getattr(self, name)} must be a share between 0 and 1", code="bad-option")
        if not 1 <= self.context <= self.row_tokens:
            raise UsageError(
                f"context = {self.context} must be at least 1 and at most row_tokens = {self.row_tokens}",
                code="bad-option",
            )

    @property
    def window(self) -> int:
        """Length of the windows that long sequences are cut into."""
        return self.row_tokens // -(-self.row_tokens // self.context)

    def planned(self) -> dict[str, Any]:
        """What decides which segments there are, and which share a row."""
        return {name: value for name, value in asdict(self).items() if name != "open"}

    def breaks_off(self, start: int, length: int, of: int) -> bool:
        """Whether a segment is the first of a sequence of so many positions that was cut in two."""
        return start == 0 and length < of <= self.context


@dataclass(frozen=True)
class Block:
    """The rows of one block. Segments are sorted by row."""

    sequence: Int[np.ndarray, "segments"]
    """Counted within the split."""
    start: Int[np.ndarray, "segments"]
    """Within the sequence. In a circle, a segment may begin before its end and end behind its beginning."""
    length: Int[np.ndarray, "segments"]
    rows: Int[np.ndarray, "rows_plus_1"]
    """Row `r` has the segments `rows[r]:rows[r + 1]`."""

    @property
    def n_rows(self) -> int:
        return len(self.rows) - 1


class PackingPlan:
    """The blocks of every epoch of a split, planned one at a time.

    `key` is (seed, stage). Ten million sequences of 200 tokens take seconds an epoch; memory is one block and one
    entry a chunk.
    """

    def __init__(
        self,
        lengths: Int[np.ndarray, "sequences"],
        config: PackingConfig,
        *,
        key: tuple[int, ...],
        chunk_tokens: int = CHUNK_TOKENS,
        circular: Bool[np.ndarray, "sequences"] | None = None,
    ) -> None:
        self.circular = circular
        self.lengths, self.config, self.key, self.chunk_tokens = lengths, config, key, chunk_tokens
        self._order = lru_cache(2)(self._shuffled_chunks)

    def n_blocks(self) -> int:
        """The same for every epoch."""
        return -(-self._n_chunks // BLOCK_CHUNKS)

    @property
    def n_tokens(self) -> int:
        """Tokens of an epoch."""
        return self._chunks[2]

    def block(self, epoch: int, index: int) -> Block:
        """Plan one block of an epoch."""
        chunks = np.sort(self._order(epoch)[index * BLOCK_CHUNKS : (index + 1) * BLOCK_CHUNKS])
        segments = [self._segments(epoch, int(chunk)) for chunk in chunks]
        sequence, start, length = (np.concatenate(column) for column in zip(*segments, strict=True))
        return self._packed(sequence, start, length, np.random.default_rng((*self.key, epoch, 1, index)))

    def epoch(self, epoch: int) -> Iterator[Block]:
        """All blocks of an epoch."""
        for index in range(self.n_blocks()):
            yield self.block(epoch, index)

    def _packed(
        self,
        sequence: Int[np.ndarray, "segments"],
        start: Int[np.ndarray, "segments"],
        length: Int[np.ndarray, "segments"],
        rng: np.random.Generator,
    ) -> Block:
        shuffled = rng.permutation(len(length))  # so that equal lengths meet other neighbours each epoch
        row = best_fit(length[shuffled], self.config.row_tokens)
        n_rows = int(row.max(initial=-1)) + 1
        row = rng.permutation(n_rows)[row]  # best fit starts with the long ones
        order = _stable_order(row, n_rows)
        chosen = shuffled[order]
        rows = np.searchsorted(row[order], np.arange(n_rows + 1))
        return Block(sequence[chosen], start[chosen], length[chosen], rows)

    def _segments(self, epoch: int, chunk: int) -> tuple[Int[np.ndarray, "segments"], ...]:
        """Sequence, start and length of the segments that begin within a chunk."""
        first_sequence, stream_start, _ = self._chunks
        begin, end = chunk * self.chunk_tokens, (chunk + 1) * self.chunk_tokens
        first = int(first_sequence[chunk])
        last_sequence = int(first_sequence[chunk + 1]) if chunk + 1 < self._n_chunks else len(self.lengths) - 1
        sequence = np.arange(first, last_sequence + 1)
        length = self.lengths[first : last_sequence + 1].astype(np.int64)
        stream = int(stream_start[chunk]) + np.cumsum(length) - length  # where each sequence begins in the split

        context, window = self.config.context, self.config.window
        phase = mixed(sequence.astype(np.uint64), (*self.key, epoch, 2))
        luck = mixed(sequence.astype(np.uint64), (*self.key, epoch, 3)) / 2.0**64
        short = length <= context
        cut = short & (luck < self.config.cut) & (length >= 2 * SHORTEST_CUT)
        places = np.where(cut, length - 2 * SHORTEST_CUT + 1, window).astype(np.uint64)
        head = np.where(cut, SHORTEST_CUT, 1) + (phase % places).astype(np.int64)  # the first segment's length
        head = np.where(short & ~cut, length, head)
        step = np.where(short, context, window)  # what is left of a short one is one segment
        n_segments = 1 + np.maximum(-(-(length - head) // step), 0)
        # Segment 0 begins at 0, segment j at head + (j - 1) * step; this chunk has those from `low` to below `high`.
        low = np.where(stream >= begin, 0, 1 + np.maximum(-(-(begin - stream - head) // step), 0))
        high = np.where(stream >= end, 0, 1 + np.maximum(-(-(end - stream - head) // step), 0))
        count = np.maximum(np.minimum(high, n_segments) - low, 0)
        of = np.repeat(np.arange(len(sequence)), count)
        j = np.arange(len(of)) - np.repeat(np.cumsum(count) - count, count) + low[of]
        segment_start = np.where(j == 0, 0, head[of] + (j - 1) * step[of])
        segment_length = np.where(j == 0, head[of], np.minimum(step[of], length[of] - segment_start))
        if self.circular is None:
            return sequence[of], segment_start, segment_length
        # In a circle, the last segment takes from the first what makes it a whole window.
        last = length - head - (n_segments - 2) * step
        borrowed = np.where(self.circular[first : last_sequence + 1] & ~short, np.minimum(window - last, head), 0)[of]
        begins, ends = j == 0, j == n_segments[of] - 1
        segment_start += np.where(begins, borrowed, 0)
        segment_length += np.where(ends, borrowed, 0) - np.where(begins, borrowed, 0)
        left = segment_length > 0
        return sequence[of][left], segment_start[left], segment_length[left]

    def _shuffled_chunks(self, epoch: int) -> Int[np.ndarray, "chunks"]:
        return np.random.default_rng((*self.key, epoch, 0)).permutation(self._n_chunks)

    @property
    def _n_chunks(self) -> int:
        return len(self._chunks[0])

    @cached_property
    def _chunks(self) -> tuple[Int[np.ndarray, "chunks"], Int[np.ndarray, "chunks"], int]:
        """For each chunk the sequence that its first token is in and where that begins in the split; and all tokens."""
        firsts, streams = [], []
        before = 0
        for start in range(0, len(self.lengths), LENGTHS_AT_ONCE):
            ends = before + np.cumsum(self.lengths[start : start + LENGTHS_AT_ONCE], dtype=np.int64)
            total = int(ends[-1])
            edges = np.arange(-(-before // self.chunk_tokens), -(-total // self.chunk_tokens)) * self.chunk_tokens
            within = np.searchsorted(ends, edges, side="right")
            firsts.append(start + within)
            streams.append(np.where(within > 0, ends[within - 1], before))
            before = total
        none = np.empty(0, np.int64)
        return np.concatenate([none, *firsts]), np.concatenate([none, *streams]), before


def best_fit(lengths: Int[np.ndarray, "segments"], row_tokens: int) -> Int[np.ndarray, "segments"]:
    """The row of each segment by best-fit decreasing: the longest first, each into the fullest row that still takes it.

    Equal lengths are placed together: the fullest row that takes one takes as many as it can, so the work is a step for
    each pair of a length and a free space, not for each segment.
    """
    order = _stable_order(row_tokens - lengths, row_tokens)
    sizes, counts = np.unique(lengths, return_counts=True)
    placed: list[int] = []  # the row of each segment, the longest first
    rows_with: dict[int, list[int]] = {}  # by free space
    spaces: list[int] = []  # the keys of rows_with, sorted
    n_rows = 0
    for size, n_left in zip(sizes[::-1].tolist(), counts[::-1].tolist(), strict=True):
        while n_left:
            at = bisect_left(spaces, size)
            if at == len(spaces):
                per_row = row_tokens // size
                n_new = -(-n_left // per_row)
                if row_tokens not in rows_with:
                    insort(spaces, row_tokens)
                rows_with[row_tokens] = list(range(n_rows, n_rows + n_new))
                n_rows += n_new
            space = spaces[at]
            rows, per_row = rows_with[space], space // size
            n_full = min(n_left // per_row, len(rows))
            if n_full:
                chosen, per_chosen = rows[-n_full:], per_row
                del rows[-n_full:]
            else:
                chosen, per_chosen = [rows.pop()], n_left
            if not rows:
                del rows_with[space], spaces[at]
            for row in chosen:
                placed += [row] * per_chosen
            n_left -= per_chosen * len(chosen)
            rest = space - per_chosen * size
            if rest:
                if rest not in rows_with:
                    insort(spaces, rest)
                rows_with.setdefault(rest, []).extend(chosen)
    row_of = np.empty(len(lengths), np.int64)
    row_of[order] = placed
    return row_of


def _stable_order(values: Int[np.ndarray, "n"], largest: int) -> Int[np.ndarray, "n"]:
    """`argsort`; 16-bit values are radix-sorted, several times as fast."""
    return np.argsort(values.astype(np.min_scalar_type(largest)), kind="stable")
