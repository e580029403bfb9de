"""Packed, masked rows: a pure function of one integer, the global row number.

`PackedRows.row(number)` is the same whatever was asked before, on whatever rank and with however many workers, so the
state of the data is that number and nothing else. `prefetch` computes rows ahead in a thread.
"""

import threading
import zlib
from bisect import bisect_right
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from itertools import count
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Int, Int8, Int32, Integer

from maskseq.corpus.reader import Corpus, Split, stored_name
from maskseq.errors import UsageError
from maskseq.masking.plan import MaskingConfig, mask_piece
from maskseq.packing.blocks import LoadedBlock, load_block
from maskseq.packing.packing import CHUNK_TOKENS, PackingConfig, PackingPlan
from maskseq.packing.prefetch import ahead_of
from maskseq.storage.folder import digest, to_json
from maskseq.storage.outputs import write
from maskseq.types import Encoded


@dataclass(frozen=True)
class PackedRow:
    """Packed pieces. What they leave free is *filler*: pieces of `[MASK]` of their own at the end, never scored."""

    inputs: Integer[np.ndarray, "tokens fields"]
    """What the encoder sees."""
    targets: Integer[np.ndarray, "tokens fields"]
    """The true ids; of a sequence that is cut, its end there."""
    weights: Float32[np.ndarray, "tokens fields"]
    """Loss weight of each cell: 0 where it is not scored."""
    positions: Int32[np.ndarray, "tokens"]
    """From 0 in each piece."""
    cu_seqlens: Int32[np.ndarray, "pieces_plus_1"]
    """Where each piece begins, and the end of the last."""
    max_seqlen: int
    """Length of the longest piece, filler included."""
    objective: Int8[np.ndarray, "pieces"]
    """Index into `maskseq.masking.plan.OBJECTIVES`; -1 for filler."""
    ratio: Float32[np.ndarray, "pieces"]
    """The share of raw units that was planned to be hidden; 0 for filler."""
    target: Bool[np.ndarray, "tokens"]
    """Positions in the target regions of the infill objective."""
    sequence: Int[np.ndarray, "pieces"]
    """Index of the corpus sequence; -1 for filler."""
    start: Int[np.ndarray, "pieces"]
    """Where the piece begins in its sequence; -1 for filler."""
    n_tokens: int
    """Tokens without filler."""


class PackedRows:
    """The rows of one split in one stage, numbered from 0 through all epochs."""

    def __init__(
        self,
        corpus: Corpus,
        *,
        split: Split = "train",
        config: PackingConfig,
        masking: MaskingConfig,
        seed: int,
        stage: int = 0,
        symmetry: bool = True,
        mask_epoch: int | None = None,
        total_tokens: int | None = None,
        decay_start: float = 1.0,
        cache: Path | None = None,
        chunk_tokens: int = CHUNK_TOKENS,
    ) -> None:
        """`symmetry` draws one of the tokenizer's symmetries (or none) for each piece; `mask_epoch` fixes the masks,
        for validation; `total_tokens` and `decay_start` (a share of them) place a row on the masking schedule.

        `cache` is a folder where the row counts of completed epochs are kept, which resuming would else plan again.
        """
        span = corpus.span_of(split)
        if span.start == span.stop:
            raise UsageError(
                f"{corpus.path}: the {split} split is empty\n\nhint: tokenize again with another share or split"
            )
        self.corpus, self.config, self.masking, self.cache = corpus, config, masking, cache
        self.total_tokens, self.decay_start = total_tokens, decay_start
        self._key, self._mask_epoch, self._first = (seed, stage), mask_epoch, span.start
        self._plan = PackingPlan(corpus.lengths[span], config, key=self._key, chunk_tokens=chunk_tokens)
        tokenizer = corpus.tokenizer
        self._fields, self._vocabulary = tokenizer.fields, tokenizer.vocabulary
        self._field_weights = np.array(masking.weights_of(self._vocabulary.names), np.float32)
        self._symmetries = tokenizer.symmetries() if symmetry else ()
        self._mask_ids = np.asarray(self._vocabulary.mask_ids, np.int64)
        identity = [corpus.fingerprint, stored_name(split), asdict(config), self._key, chunk_tokens]
        self._plan_id = digest(to_json(identity))
        self.fingerprint = digest(to_json([*identity, asdict(masking), symmetry, mask_epoch]))
        """Identifies the whole stream of rows: what a checkpoint must agree with to continue it."""
        self._planned = lru_cache(2)(self._plan.block)
        self._current: tuple[int, int, LoadedBlock] | None = None
        self._upcoming: tuple[int, int, Future[LoadedBlock]] | None = None
        self._epoch_starts = [0]  # number of the first row of each epoch, as far as known
        self._ends: list[list[int]] = []  # of each epoch, the rows up to the end of each block, as far as known
        self._lock = threading.Lock()

    def n_rows(self, epoch: int = 0) -> int:
        """Rows of an epoch, which differ a little because windows begin elsewhere. Plans it (and those before it)."""
        with self._lock:
            while len(self._epoch_starts) < epoch + 2:
                self._plan_epoch(len(self._epoch_starts) - 1)
            return self._epoch_starts[epoch + 1] - self._epoch_starts[epoch]

    @property
    def n_tokens(self) -> int:
        """Tokens of an epoch: every token of the split."""
        return self._plan.n_tokens

    def epoch_of(self, number: int) -> int:
        """The epoch that a row belongs to."""
        with self._lock:
            return self._locate(number)[0]

    def row(self, number: int) -> PackedRow:
        """The row with this number, counted through all epochs."""
        with self._lock:
            epoch, block, index = self._locate(number)
            loaded = self._load(epoch, block)
        progress = 0.0 if self.total_tokens is None else number * self.config.row_tokens / self.total_tokens
        return self._assemble(loaded, index, epoch, progress)

    def prefetch(self, first: int, step: int = 1, *, ahead: int = 8) -> Generator[PackedRow]:
        """Rows `first`, `first + step`, … without end, computed in a thread up to `ahead` of the consumer.

        The block after the current one is read meanwhile, in another: a slow disk or store is waited for only when it
        is slower than the training. What goes wrong there is raised here. Closing the generator ends the threads.
        """
        return ahead_of(self._read_ahead(first, step), ahead)

    def _read_ahead(self, first: int, step: int) -> Iterator[PackedRow]:
        """The rows, with the next block being read beside."""
        here = None
        with ThreadPoolExecutor(1, thread_name_prefix="maskseq-blocks") as reader:
            for number in count(first, step):
                row = self.row(number)
                with self._lock:
                    epoch, block, _ = self._locate(number)
                    if here != (epoch, block):
                        here = (epoch, block)
                        after = (epoch, block + 1) if block + 1 < self._plan.n_blocks() else (epoch + 1, 0)
                        self._upcoming = (*after, reader.submit(self._read, *after))
                yield row

    def _assemble(self, loaded: LoadedBlock, index: int, epoch: int, progress: float) -> PackedRow:
        plan, n_tokens = loaded.plan, self.config.row_tokens
        pieces = range(plan.rows[index], plan.rows[index + 1])
        inputs = np.tile(self._mask_ids, (n_tokens, 1))
        targets, weights = inputs.copy(), np.zeros(inputs.shape, np.float32)
        target = np.zeros(n_tokens, bool)
        objective, ratio, end = [], [], 0
        for piece in pieces:
            sequence, start = self._first + int(plan.sequence[piece]), int(plan.start[piece])
            rng = np.random.default_rng(
                (*self._key, epoch if self._mask_epoch is None else self._mask_epoch, sequence, start)
            )
            encoded = loaded.piece(piece)
            if self.config.breaks_off(start, len(encoded), int(self.corpus.lengths[sequence])):
                encoded = replace(encoded, ids=self.corpus.tokenizer.closed(encoded.ids))
            encoded = self._turned(encoded, rng)
            scorable = self._vocabulary.known(encoded.ids)
            if encoded.weights is not None:
                scorable &= encoded.weights > 0
            mask = mask_piece(
                encoded.ids,
                self.corpus.tokenizer.units_of(encoded),
                scorable,
                self._fields,
                self.masking,
                rng=rng,
                progress=progress,
                in_decay=progress >= self.decay_start,
            )
            here = slice(end, end + len(encoded))
            inputs[here], targets[here], target[here] = mask.inputs, encoded.ids, mask.target
            weights[here] = np.where(mask.hidden & scorable, 1 if encoded.weights is None else encoded.weights, 0)
            weights[here] *= self._field_weights
            objective.append(mask.objective)
            ratio.append(mask.ratio)
            end = here.stop
        filler = _filler_lengths(n_tokens - end, self.config.context)
        lengths = np.concatenate([plan.length[pieces.start : pieces.stop], filler]).astype(np.int32)
        cu_seqlens = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        none = np.full(len(filler), -1)
        return PackedRow(
            inputs=inputs,
            targets=targets,
            weights=weights,
            positions=np.arange(n_tokens, dtype=np.int32) - np.repeat(cu_seqlens[:-1], lengths),
            cu_seqlens=cu_seqlens,
            max_seqlen=int(lengths.max()),
            objective=np.concatenate([objective, none]).astype(np.int8),
            ratio=np.concatenate([ratio, 0.0 * none]).astype(np.float32),
            target=target,
            sequence=np.concatenate([self._first + plan.sequence[pieces.start : pieces.stop], none]),
            start=np.concatenate([plan.start[pieces.start : pieces.stop], none]),
            n_tokens=end,
        )

    def _turned(self, encoded: Encoded, rng: np.random.Generator) -> Encoded:
        """The piece under a symmetry drawn at random, the identity included."""
        if not self._symmetries:
            return encoded
        choice = int(rng.integers(len(self._symmetries) + 1))
        return encoded if choice == 0 else self._symmetries[choice - 1].encoded(encoded)

    def _locate(self, number: int) -> tuple[int, int, int]:
        """Epoch, block and row within the block; plans the blocks before it that were not planned yet."""
        if number < 0:
            raise ValueError(f"row {number}: rows are numbered from 0")
        epoch = bisect_right(self._epoch_starts, number) - 1
        while not self._plan_epoch(epoch, until=number):
            epoch += 1
        within = number - self._epoch_starts[epoch]
        block = bisect_right(self._ends[epoch], within)
        return epoch, block, within - (self._ends[epoch][block - 1] if block else 0)

    def _plan_epoch(self, epoch: int, until: int | None = None) -> bool:
        """Count the rows of the epoch's blocks up to row `until` (None: all). Whether it has that row."""
        if epoch == len(self._ends):
            self._ends.append(self._cached_ends(epoch))
        ends, start, n_blocks = self._ends[epoch], self._epoch_starts[epoch], self._plan.n_blocks()
        while len(ends) < n_blocks and (until is None or not ends or start + ends[-1] <= until):
            ends.append((ends[-1] if ends else 0) + self._planned(epoch, len(ends)).n_rows)
            if len(ends) == n_blocks:
                self._keep_ends(epoch, ends)
        if len(ends) == n_blocks and len(self._epoch_starts) == epoch + 1:
            self._epoch_starts.append(start + ends[-1])
        return until is not None and until < start + ends[-1]

    def _cached_ends(self, epoch: int) -> list[int]:
        """Row counts of a completed epoch, if they are cached and intact."""
        if self.cache is None or not (path := self._cache_file(epoch)).is_file():
            return []
        body, check = path.read_bytes()[:-4], path.read_bytes()[-4:]
        if zlib.crc32(body).to_bytes(4, "little") != check:
            return []  # damaged: planned again
        ends: list[int] = np.frombuffer(body, "<i8").tolist()
        return ends

    def _keep_ends(self, epoch: int, ends: list[int]) -> None:
        if self.cache is not None:
            self.cache.mkdir(parents=True, exist_ok=True)
            body = np.array(ends, "<i8").tobytes()
            write(self._cache_file(epoch), body + zlib.crc32(body).to_bytes(4, "little"), shared=True)

    def _cache_file(self, epoch: int) -> Path:
        assert self.cache is not None
        return self.cache / f"plan-{self._plan_id[:12]}-{epoch}.bin"

    def _load(self, epoch: int, block: int) -> LoadedBlock:
        if self._current is None or self._current[:2] != (epoch, block):
            upcoming, self._upcoming, self._current = self._upcoming, None, None  # frees memory before more is read
            if upcoming is not None and upcoming[:2] == (epoch, block):
                loaded = upcoming[2].result()
            else:
                loaded = self._read(epoch, block)
            self._current = (epoch, block, loaded)
        return self._current[2]

    def _read(self, epoch: int, block: int) -> LoadedBlock:
        return load_block(self.corpus, self._planned(epoch, block), first_sequence=self._first)


def concatenate(rows: Sequence[PackedRow]) -> PackedRow:
    """Several rows as one: a micro-batch."""
    if len(rows) == 1:
        return rows[0]
    tokens = np.cumsum([0] + [len(row.inputs) for row in rows])
    ends = [row.cu_seqlens[1:] + before for row, before in zip(rows, tokens, strict=False)]
    together = {
        name: np.concatenate([getattr(row, name) for row in rows])
        for name in ("inputs", "targets", "weights", "positions", "objective", "ratio", "target", "sequence", "start")
    }
    return PackedRow(
        **together,
        cu_seqlens=np.concatenate([[0], *ends]).astype(np.int32),
        max_seqlen=max(row.max_seqlen for row in rows),
        n_tokens=sum(row.n_tokens for row in rows),
    )


def _filler_lengths(n_tokens: int, context: int) -> list[int]:
    """Filler is cut like everything else: its positions stay below the context, and so does its cost in attention."""
    whole, rest = divmod(n_tokens, context)
    return [context] * whole + [rest] * (rest > 0)
