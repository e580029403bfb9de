"""Packed, masked rows: a pure function of one integer, the global row number.

`PackedRows.row(number)` is the same whatever was asked before, on whatever rank and with however many workers, so the
state of the data is that number and nothing else. `prefetch` computes rows ahead in a thread.
"""

import threading
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int, Int8, Int32, Integer

from maskseq.contract.brief import brief
from maskseq.contract.symmetry import Symmetry
from maskseq.corpus.reader import Corpus, Split, stored_name
from maskseq.errors import UsageError
from maskseq.masking.causal import causal_segment, seen_fields
from maskseq.masking.config import OBJECTIVES, MaskingConfig
from maskseq.masking.open_prefixes import mask_tail, prefixes
from maskseq.masking.plan import SegmentMask, mask_segment
from maskseq.packing.blocks import Blocks, LoadedBlock, load_block
from maskseq.packing.folds import FILLER, WHOLE, fold_of
from maskseq.packing.numbering import RowNumbers
from maskseq.packing.packing import CHUNK_TOKENS, PackingConfig, PackingPlan
from maskseq.packing.prefetch import ahead_of
from maskseq.storage.folder import digest, to_json
from maskseq.storage.run_folder import RunFolder
from maskseq.types import Encoded

CAUSAL = OBJECTIVES.index("causal")


@brief
@dataclass(frozen=True)
class PackedRow:
    """Packed segments. What they leave free is *filler*: segments of `[MASK]` of their own at the end, never scored."""

    inputs: Integer[np.ndarray, "tokens fields"]
    """What the encoder sees."""
    targets: Integer[np.ndarray, "tokens fields"]
    """The true ids; of a sequence that is cut, its end there."""
    weights: Float32[np.ndarray, "tokens fields"]
    """Loss weight of each cell: 0 where it is not scored."""
    positions: Int32[np.ndarray, "tokens"]
    """From 0 in each segment."""
    cu_seqlens: Int32[np.ndarray, "pieces_plus_1"]
    """Where each segment begins, and the end of the last."""
    max_seqlen: int
    """Length of the longest segment, filler included."""
    objective: Int8[np.ndarray, "segments"]
    """Index into `maskseq.masking.plan.OBJECTIVES`; -1 for filler."""
    ratio: Float32[np.ndarray, "segments"]
    """The share of raw units that was planned to be masked (of open prefixes: of positions); 0 for filler."""
    target: Bool[np.ndarray, "tokens"]
    """Positions in the target regions of the infill objective, and masked ends of open prefixes."""
    sequence: Int[np.ndarray, "segments"]
    """Index of the corpus sequence; -1 for filler."""
    start: Int[np.ndarray, "segments"]
    """Where the segment begins in its sequence; -1 for filler."""
    n_tokens: int
    """Tokens without filler."""
    numbers: Float64[np.ndarray, "tokens fields"] | None = None
    """What the inputs were rounded from, NaN where masked; None: not asked for."""
    fold: Int[np.ndarray, "segments"] | None = None
    """Which part of the training data each segment is of, as `maskseq.packing.folds` has it; None: not asked for."""
    seen: Bool[np.ndarray, "tokens fields"] | None = None
    """Of causal segments, the fields of each position that its later fields are given; None: no segment is causal."""


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
        numbers: bool = False,
    ) -> None:
        """`symmetry` draws one of the tokenizer's symmetries (or none) for each segment; `mask_epoch` fixes the masks,
        for validation; `total_tokens` and `decay_start` (a share of them) place a row on the masking schedule.

        `cache` is a folder where the row counts of completed epochs are kept, which resuming would else plan again.
        `numbers` adds what ids were rounded from.
        """
        span = corpus.span_of(split)
        if span.start == span.stop:
            raise UsageError(
                f"{corpus.path}: the {split} split is empty\n\nhint: tokenize again with another share or split",
                code="too-little-data",
            )
        self.corpus, self.config, self.masking = corpus, config, masking
        self.total_tokens, self.decay_start = total_tokens, decay_start
        self._key, self._mask_epoch, self._first = (seed, stage), mask_epoch, span.start
        circles = None if corpus.circular is None else corpus.circular[span]
        self._plan = PackingPlan(
            corpus.lengths[span], config, key=self._key, chunk_tokens=chunk_tokens, circular=circles
        )
        tokenizer = corpus.tokenizer
        self._fields, self._vocabulary = tokenizer.fields, tokenizer.vocabulary
        self._field_weights = np.array(masking.weights_of(self._vocabulary.names), np.float32)
        self._symmetries = tokenizer.symmetries() if symmetry else ()
        self._augmentations = tokenizer.augmentations() if symmetry and mask_epoch is None else ()
        self._mask_ids = np.asarray(self._vocabulary.mask_ids, np.int64)
        identity = [corpus.fingerprint, stored_name(split), config.planned(), self._key, chunk_tokens]
        masked = {name: value for name, value in asdict(masking).items() if name != "causal" or value}
        self.fingerprint = digest(to_json([*identity, config.open, masked, symmetry, mask_epoch]))
        """Identifies the whole stream of rows: what a checkpoint must agree with to continue it."""
        planned = lru_cache(2)(self._plan.block)
        self._numbers = RowNumbers(
            self._plan.n_blocks(),
            lambda epoch, block: planned(epoch, block).n_rows,
            partial(RunFolder(cache).row_counts, digest(to_json(identity))) if cache else None,
        )
        self._blocks = Blocks(
            lambda epoch, block: load_block(corpus, planned(epoch, block), first_sequence=span.start, numbers=numbers)
        )
        self._with_numbers, self._n_training = numbers, span.stop - span.start if split == "train" else 0
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"PackedRows({self.corpus!r}, rows of {self.config.row_tokens:,} tokens)"

    def n_rows(self, epoch: int = 0) -> int:
        """Rows of an epoch, which differ a little because windows begin elsewhere. Plans it (and those before it)."""
        with self._lock:
            return self._numbers.n_rows(epoch)

    @property
    def n_tokens(self) -> int:
        """Tokens of an epoch: every token of the split."""
        return self._plan.n_tokens

    def epoch_of(self, number: int) -> int:
        """The epoch that a row belongs to."""
        with self._lock:
            return self._numbers.place(number).epoch

    def row(self, number: int) -> PackedRow:
        """The row with this number, counted through all epochs."""
        with self._lock:
            place = self._numbers.place(number)
            loaded = self._blocks.get(place.epoch, place.block)
        progress = 0.0 if self.total_tokens is None else number * self.config.row_tokens / self.total_tokens
        return self._assemble(loaded, place.index, place.epoch, progress)

    def prefetch(self, first: int, step: int = 1, *, ahead: int = 8) -> Generator[PackedRow]:
        """Rows `first`, `first + step`, … without end, computed in a thread up to `ahead` of the consumer.

        The block after the current one is read meanwhile, in another: a slow disk or store is waited for only when it
        is slower than the training. What goes wrong there is raised here. Closing the generator ends the threads.
        """
        return ahead_of(self._read_ahead(first, step), ahead)

    def _read_ahead(self, first: int, step: int) -> Iterator[PackedRow]:
        """The rows; the next block is read meanwhile."""
        here = None
        with ThreadPoolExecutor(1, thread_name_prefix="maskseq-blocks") as reader:
            for number in count(first, step):
                row = self.row(number)
                with self._lock:
                    place = self._numbers.place(number)
                    if here != (place.epoch, place.block):
                        here = (place.epoch, place.block)
                        self._blocks.read_ahead(reader, *self._numbers.after(*here))
                yield row

    def _assemble(self, loaded: LoadedBlock, index: int, epoch: int, progress: float) -> PackedRow:
        plan, n_tokens = loaded.plan, self.config.row_tokens
        inputs = np.tile(self._mask_ids, (n_tokens, 1))
        targets, weights = inputs.copy(), np.zeros(inputs.shape, np.float32)
        numbers = np.full(inputs.shape, np.nan) if self._with_numbers else None
        target, seen = np.zeros(n_tokens, bool), np.zeros(inputs.shape, bool) if self.masking.causal else None
        objective, ratio, length, of, end = [], [], [], [], 0
        for segment in range(plan.rows[index], plan.rows[index + 1]):
            sequence, start = self._first + int(plan.sequence[segment]), int(plan.start[segment])
            rng = np.random.default_rng(
                (*self._key, epoch if self._mask_epoch is None else self._mask_epoch, sequence, start)
            )
            encoded = loaded.segment(segment)
            whole = int(self.corpus.lengths[sequence])
            begins, ends = start == 0, start + len(encoded) == whole
            if closed := self.config.breaks_off(start, len(encoded), whole):
                encoded = replace(encoded, ids=self.corpus.tokenizer.closed(encoded.ids))
            if symmetry := self._symmetry(rng):
                encoded = symmetry.encoded(encoded)
                begins = ends if symmetry.reverse else begins
            if self._augmentations:
                encoded = self._augmented(encoded, len(encoded) == whole, rng)
            # A mark that was set is not one of the outcomes.
            share, causal = (0.0, 0.0) if closed else (self.config.open, self.masking.causal)
            if share and rng.random() < share:
                masked = self._open(encoded, rng)
            elif causal and rng.random() < causal:
                assert seen is not None
                seen[end : end + len(encoded)] = seen_fields(len(encoded), self._fields, rng)
                masked = [(encoded, self._causal(encoded, begins=begins), 1.0)]
            else:
                masked = [(encoded, self._masked(encoded, progress, rng), 1.0)]
            for each, mask, weight in masked:
                here = slice(end, end + len(each))
                inputs[here], targets[here], target[here] = mask.inputs, each.ids, mask.target
                if numbers is not None and each.numbers is not None:
                    numbers[here] = np.where(mask.masked, np.nan, each.numbers)
                scored = mask.masked & self._scorable(each)
                weights[here] = np.where(scored, 1 if each.weights is None else each.weights, 0)
                weights[here] *= self._field_weights
                weights[here] *= weight
                objective.append(mask.objective)
                ratio.append(mask.ratio)
                length.append(len(each))
                of.append((sequence, start))
                end = here.stop
        filler = _filler_lengths(n_tokens - end, self.config.context)
        lengths = np.concatenate([length, filler]).astype(np.int32)
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
            sequence=np.concatenate([np.array([each for each, _ in of], np.int64), none]),
            start=np.concatenate([np.array([each for _, each in of], np.int64), none]),
            n_tokens=end,
            numbers=numbers,
            fold=self._folds(of, length, len(filler)) if self._with_numbers else None,
            seen=seen if CAUSAL in objective else None,
        )

    def _folds(
        self, of: Sequence[tuple[int, int]], length: Sequence[int], n_filler: int
    ) -> Int[np.ndarray, "segments"]:
        """Which part of the training data segments are of, by their middles; other data are of none."""
        found = [
            int(fold_of(sequence - self._first, self._n_training, np.array(start + size // 2), whole))
            if self._n_training
            else WHOLE
            for (sequence, start), size in zip(of, length, strict=True)
            for whole in [int(self.corpus.lengths[sequence])]
        ]
        return np.array([*found, *[FILLER] * n_filler])

    def _scorable(self, encoded: Encoded) -> Bool[np.ndarray, "length fields"]:
        return encoded.scorable(self._vocabulary.askable(encoded.ids))

    def _masked(self, encoded: Encoded, progress: float, rng: np.random.Generator) -> SegmentMask:
        return mask_segment(
            encoded.ids,
            self.corpus.tokenizer.units_of(encoded),
            self._scorable(encoded),
            self._fields,
            self.masking,
            rng=rng,
            progress=progress,
            in_decay=progress >= self.decay_start,
        )

    def _open(self, encoded: Encoded, rng: np.random.Generator) -> list[tuple[Encoded, SegmentMask, float]]:
        """A segment as one or two open prefixes, their ends masked, and what their cells weigh."""
        found = []
        for stop in prefixes(len(encoded), rng):
            prefix = encoded.cut(0, stop)
            positions = int(rng.integers(1, min(self.masking.tail.most, stop) + 1))
            mask = mask_tail(prefix.ids, self.corpus.tokenizer.units_of(prefix), self._fields, positions=positions)
            found.append((prefix, mask, (len(encoded) + 1) / 2))
        return found

    def _causal(self, encoded: Encoded, *, begins: bool) -> SegmentMask:
        return causal_segment(encoded.ids, self.corpus.tokenizer.units_of(encoded), self._fields, begins=begins)

    def _symmetry(self, rng: np.random.Generator) -> Symmetry[Any] | None:
        """One that is drawn at random; None for the identity."""
        choice = int(rng.integers(len(self._symmetries) + 1)) if self._symmetries else 0
        return self._symmetries[choice - 1] if choice else None

    def _augmented(self, encoded: Encoded, whole: bool, rng: np.random.Generator) -> Encoded:
        """The segment after one of the tokenizer's augmentations, or as it is: each as likely, if it can be done."""
        choice = int(rng.integers(len(self._augmentations) + 1))
        changed = self._augmentations[choice - 1].encoded(encoded, whole=whole) if choice else None
        return encoded if changed is None else changed


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
    numbers, fold = (
        [getattr(row, name) for row in rows if getattr(row, name) is not None] for name in ("numbers", "fold")
    )
    return PackedRow(
        **together,
        numbers=np.concatenate(numbers) if numbers else None,
        fold=np.concatenate(fold) if fold else None,
        cu_seqlens=np.concatenate([[0], *ends]).astype(np.int32),
        max_seqlen=max(row.max_seqlen for row in rows),
        n_tokens=sum(row.n_tokens for row in rows),
        seen=_together([row.seen for row in rows], [row.inputs for row in rows]),
    )


def _together(
    seen: Sequence[Bool[np.ndarray, "_ _"] | None], inputs: Sequence[Integer[np.ndarray, "_ _"]]
) -> Bool[np.ndarray, "_ _"] | None:
    """Of several rows; None where none of them has causal segments."""
    if all(each is None for each in seen):
        return None
    return np.concatenate(
        [np.zeros(ids.shape, bool) if each is None else each for each, ids in zip(seen, inputs, strict=True)]
    )


def _filler_lengths(n_tokens: int, context: int) -> list[int]:
    """Filler is cut like everything else: its positions stay below the context, and so does its cost in attention."""
    whole, rest = divmod(n_tokens, context)
    return [context] * whole + [rest] * (rest > 0)
