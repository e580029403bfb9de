"""Which queries meet which keys on a CPU: a packed row cut into a few batches of equal tiles, from `cu_seqlens` alone.

Global layers get one tile a segment; short segments of about one length share a batch, because a kernel call costs more
than their arithmetic. Windowed layers get bands over the whole row: blocks of 128 queries over the blocks of keys that
their windows reach (256 keys for ModernBERT's window of 64), 36 times less work than full attention at 16,384 tokens.
"""

import functools
import itertools
import math
from collections import defaultdict
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

BLOCK = 128  # queries of a banded tile
SHARED_LENGTH = 128  # segments up to this length share a batch; longer ones keep the cores busy alone
LENGTH_STEP = 16  # shared tiles are padded to a multiple of this, so a segment's tile depends on its own length only
HIDDEN = -1e30  # added to the score of a hidden key. Finite: a padded query sees no key, and softmax(-inf, …) is NaN


@runtime_checkable
class Tiles(Protocol):
    """A batch of equal tiles: how to cut it out of a packed row, and how to put results back.

    `queries` and `keys` read "tokens heads dim" as "n heads rows dim", with zeros where a tile is padded.
    """

    @property
    def bias(self) -> Float[Tensor, "n 1 _ keys"] | None:
        """What to add to the scores: 0, or HIDDEN; None where a tile hides nothing."""

    def queries(self, row: Float[Tensor, "tokens heads dim"]) -> Float[Tensor, "n heads queries dim"]: ...
    def keys(self, row: Float[Tensor, "tokens_k heads dim"]) -> Float[Tensor, "n heads keys dim"]: ...
    def put_queries(self, row: Float[Tensor, "tokens heads dim"], tiles: Tensor) -> None: ...
    def put_keys(self, row: Float[Tensor, "tokens_k heads dim"], tiles: Tensor) -> None: ...


@dataclass(frozen=True)
class TilePlan:
    """Batches of tiles that cover every (query, key) pair that may meet, each once."""

    batches: list[Tiles]
    complete: bool
    """Whether every query and every key is in some tile: not if a segment has queries but no keys, or the reverse."""


def plan(
    q: Float[Tensor, "tokens heads dim"],
    k: Float[Tensor, "tokens_k heads dim"],
    cu_seqlens_q: Int[Tensor, " bounds"],
    cu_seqlens_k: Int[Tensor, " bounds"],
    window: int,
) -> TilePlan:
    """Tiles for these boundaries; `window` < 0 means no window. Remembered: all layers of a step share one or two."""
    cu_q, cu_k = tuple(cu_seqlens_q.tolist()), tuple(cu_seqlens_k.tolist())
    for cu, n_tokens in ((cu_q, len(q)), (cu_k, len(k))):
        if not cu or cu[0] != 0 or cu[-1] != n_tokens:
            raise ValueError(
                f"cu_seqlens must run from 0 to the number of tokens, {n_tokens}, not {cu[:1]} to {cu[-1:]}"
            )
    return _plan(cu_q, cu_k, window, q.dtype, q.device)


@functools.lru_cache(maxsize=4)
def _plan(
    cu_q: tuple[int, ...], cu_k: tuple[int, ...], window: int, dtype: torch.dtype, device: torch.device
) -> TilePlan:
    if 0 <= window < max(_lengths(cu_q), default=0) - 1:  # else the window hides nothing
        return TilePlan([_bands(cu_q, window, dtype, device)], complete=True)
    lengths = zip(_lengths(cu_q), _lengths(cu_k), strict=True)
    return TilePlan(_segments(cu_q, cu_k, dtype, device), complete=all(bool(q) == bool(k) for q, k in lengths))


def _lengths(cu: tuple[int, ...]) -> list[int]:
    return [stop - start for start, stop in itertools.pairwise(cu)]


# ---- whole segments -------------------------------------------------------------------------------------------------


def _segments(cu_q: tuple[int, ...], cu_k: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> list[Tiles]:
    shared: dict[tuple[int, int], list[tuple[range, range]]] = defaultdict(list)
    alone: list[tuple[range, range]] = []
    for segment in range(len(cu_q) - 1):
        queries, keys = range(cu_q[segment], cu_q[segment + 1]), range(cu_k[segment], cu_k[segment + 1])
        if not queries or not keys:
            continue
        if max(len(queries), len(keys)) > SHARED_LENGTH:
            alone.append((queries, keys))
        else:
            shared[_padded(len(queries)), _padded(len(keys))].append((queries, keys))
    batches = [*shared.values(), *([segment] for segment in alone)]
    return [_segment_tiles([q for q, _ in batch], [k for _, k in batch], dtype, device) for batch in batches]


def _padded(length: int) -> int:
    return math.ceil(length / LENGTH_STEP) * LENGTH_STEP


@dataclass(frozen=True)
class Places:
    """Where the rows of equally long stretches lie in a packed row; shorter stretches are padded."""

    n: int
    rows: slice | Int[Tensor, "n_length"]  # a slice where they are adjacent and none is padded: nothing to copy
    real: Int[Tensor, "n_real"] | None  # which of `rows` are not padding; None: all
    padding: Int[Tensor, "n_padding"] | None

    def take(self, row: Float[Tensor, "tokens heads dim"]) -> Float[Tensor, "n heads length dim"]:
        """Cut the stretches out, zeros where they are padded."""
        taken = row[self.rows] if isinstance(self.rows, slice) else row.index_select(0, self.rows)
        if self.padding is not None:
            taken.index_fill_(0, self.padding, 0)
        return taken.view(self.n, -1, *row.shape[1:]).transpose(1, 2)

    def put(self, row: Float[Tensor, "tokens heads dim"], tiles: Float[Tensor, "n heads length dim"]) -> None:
        """Overwrite the stretches of a row."""
        if isinstance(self.rows, slice):
            row[self.rows].view(self.n, -1, *row.shape[1:]).copy_(tiles.transpose(1, 2))
            return
        rows, values = self.rows, tiles.transpose(1, 2).flatten(0, 1).to(row.dtype)
        if self.real is not None:
            rows, values = rows.index_select(0, self.real), values.index_select(0, self.real)
        row.index_copy_(0, rows, values)


@dataclass(frozen=True)
class SegmentTiles:
    """Every query of a segment sees every key of it."""

    query_places: Places
    key_places: Places
    bias: Float[Tensor, "n 1 1 keys"] | None

    def queries(self, row: Tensor) -> Tensor:
        return self.query_places.take(row)

    def keys(self, row: Tensor) -> Tensor:
        return self.key_places.take(row)

    def put_queries(self, row: Tensor, tiles: Tensor) -> None:
        self.query_places.put(row, tiles)

    def put_keys(self, row: Tensor, tiles: Tensor) -> None:
        self.key_places.put(row, tiles)


def _segment_tiles(queries: list[range], keys: list[range], dtype: torch.dtype, device: torch.device) -> SegmentTiles:
    query_places, key_places = _places(queries, device), _places(keys, device)
    if key_places.padding is None:
        return SegmentTiles(query_places, key_places, None)
    bias = torch.zeros(len(keys), 1, 1, _padded(len(keys[0])), dtype=dtype, device=device)
    bias.view(-1)[key_places.padding] = HIDDEN
    return SegmentTiles(query_places, key_places, bias)


def _places(stretches: list[range], device: torch.device) -> Places:
    lengths = {len(stretch) for stretch in stretches}
    adjacent = all(a.stop == b.start for a, b in itertools.pairwise(stretches))
    if len(lengths) == 1 and adjacent:
        return Places(len(stretches), slice(stretches[0].start, stretches[-1].stop), None, None)
    length = max(lengths) if len(lengths) == 1 else _padded(max(lengths))
    offsets = torch.arange(length)
    starts, sizes = torch.tensor([s.start for s in stretches]), torch.tensor([len(s) for s in stretches])
    real = offsets < sizes[:, None]
    rows = torch.where(real, starts[:, None] + offsets, starts[:, None]).flatten().to(device)
    if real.all():
        return Places(len(stretches), rows, None, None)
    real = real.flatten()
    return Places(len(stretches), rows, real.nonzero()[:, 0].to(device), (~real).nonzero()[:, 0].to(device))


# ---- bands --------------------------------------------------------------------------------------------------------


def _bands(cu: tuple[int, ...], window: int, dtype: torch.dtype, device: torch.device) -> "BandTiles":
    reach = math.ceil(2 * window / BLOCK)  # blocks of keys beyond the queries' own: BLOCK + 2 window keys, rounded up
    n_tokens, n_blocks = cu[-1], math.ceil(cu[-1] / BLOCK)
    first = torch.arange(n_blocks, device=device)[:, None] * BLOCK
    queries = first + torch.arange(BLOCK, device=device)
    keys = first + torch.arange(BLOCK * (reach + 1), device=device) - BLOCK * reach // 2
    boundaries = torch.tensor(cu[1:], device=device)
    segment_q, segment_k = (torch.bucketize(x, boundaries, right=True) for x in (queries, keys))
    seen = (segment_q[:, :, None] == segment_k[:, None, :]) & ((queries[:, :, None] - keys[:, None, :]).abs() <= window)
    seen &= ((keys >= 0) & (keys < n_tokens))[:, None, :]
    bias = torch.zeros(seen.shape, dtype=dtype, device=device).masked_fill_(~seen, HIDDEN)
    return BandTiles(n_tokens, n_blocks, reach, bias[:, None])


@dataclass(frozen=True)
class BandTiles:
    """Blocks of queries over the whole row, each over the `reach + 1` blocks of keys around it, which overlap."""

    n_tokens: int
    n_blocks: int
    reach: int
    bias: Float[Tensor, "n 1 queries keys"]

    def queries(self, row: Tensor) -> Tensor:
        missing = self.n_blocks * BLOCK - self.n_tokens
        padded = torch.cat([row, row.new_zeros(missing, *row.shape[1:])]) if missing else row
        return padded.view(self.n_blocks, BLOCK, *row.shape[1:]).transpose(1, 2)

    def keys(self, row: Tensor) -> Tensor:
        padded = row.new_zeros((self.n_blocks + self.reach) * BLOCK, *row.shape[1:])
        padded[self._inside] = row
        return padded.unfold(0, BLOCK * (self.reach + 1), BLOCK).movedim(-1, 2)  # a view: blocks overlap in memory

    def put_queries(self, row: Tensor, tiles: Tensor) -> None:
        row.copy_(tiles.transpose(1, 2).flatten(0, 1)[: self.n_tokens])

    def put_keys(self, row: Tensor, tiles: Tensor) -> None:
        padded = row.new_zeros(self.n_blocks + self.reach, BLOCK, *row.shape[1:])
        parts = tiles.transpose(1, 2).reshape(self.n_blocks, self.reach + 1, BLOCK, *row.shape[1:])
        for step in range(self.reach + 1):  # a key belongs to reach + 1 tiles: its gradients add up
            padded[step : step + self.n_blocks] += parts[:, step]
        row.copy_(padded.flatten(0, 1)[self._inside])

    @property
    def _inside(self) -> slice:
        before = BLOCK * self.reach // 2
        return slice(before, before + self.n_tokens)
