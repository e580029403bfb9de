"""Vectors for sequences or their positions: the encoder's hidden states after the last norm, or behind a layer."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Integer

from maskseq.corpus.budget import reaching, within
from maskseq.errors import UsageError
from maskseq.model.encoder import Encoder
from maskseq.predict.encoder import run_packed, windows
from maskseq.tokenizer import Symmetry
from maskseq.types import Encoded

Pooling = Literal["mean", "max", "none"]
Keyed = tuple[str, Encoded]


@dataclass(frozen=True, kw_only=True)
class Embedder:
    """How records become vectors. With symmetries the hidden states of all views are averaged position by position, so
    that both strands of DNA embed alike. Records longer than the context are read in overlapping windows, and every
    position counts once.
    """

    model: Encoder
    context: int
    pooling: Pooling = "mean"
    symmetries: Sequence[Symmetry[Any]] = ()
    batch_tokens: int = 16384
    precision: Literal["bf16", "fp32"] = "fp32"
    layer: int | None = None
    """Behind which layer hidden states are taken, 0 for the embeddings (default: behind the last norm)."""

    def __post_init__(self) -> None:
        if self.pooling not in ("mean", "max", "none"):
            raise UsageError(f"pooling is {self.pooling!r}; it can be mean, max or none", code="bad-option")
        n_layers = self.model.config.n_layers
        if self.layer is not None and not 0 <= self.layer < n_layers:
            raise UsageError(
                f"layer = {self.layer}: this encoder has {n_layers} layers\n\nhint: it can be 0 (embeddings) to "
                f"{n_layers - 1}; without it, states are those behind the last layer and its norm",
                code="bad-option",
            )

    def groups(self, records: Iterable[Keyed]) -> Iterator[list[Keyed]]:
        """Records that share their batches: as many as fit, and a longer one alone.

        To the last bit, what a group comes to depends on nothing else: whoever begins at one goes on as if all had
        been read from the start.
        """
        return within(records, (_length, self.batch_tokens))

    def vectors(self, group: Sequence[Keyed]) -> Iterator[tuple[int, Float[np.ndarray, "vectors hidden"]]]:
        """The index of a record in the group and float32 vectors of it: one, or with pooling "none" one a position.

        Those of a long record come in several runs of positions, so that no record is too long for memory. The one of
        a record without positions is NaN.
        """
        if self.pooling == "none":
            yield from self._states(group)
            return
        n, total, done = 0, np.zeros(0), 0
        lengths = [len(encoded) for _, encoded in group]
        nothing = np.full((1, self.model.config.hidden_size), np.nan, np.float32)
        for index, states in self._states(group):
            yield from ((empty, nothing) for empty in range(done, index))
            found = states.sum(axis=0, dtype=np.float64) if self.pooling == "mean" else states.max(axis=0)
            if n:
                found = total + found if self.pooling == "mean" else np.maximum(total, found)
            n, total = n + len(states), found
            if n == lengths[index]:
                yield index, (total / n if self.pooling == "mean" else total).astype(np.float32)[None]
                n = 0
            done = index + (n == 0)
        yield from ((empty, nothing) for empty in range(done, len(group)))

    def _states(self, group: Sequence[Keyed]) -> Iterator[tuple[int, Float[np.ndarray, "positions hidden"]]]:
        """The hidden states of every position, record after record."""
        cut = (
            _Window(index, seen.cut(window.start, window.stop), kept.start - window.start, kept.stop - window.start)
            for index, (_, encoded) in enumerate(group)
            if len(encoded)
            for seen, beyond in [_opened(encoded, self.context)]
            for window, kept in _within(len(seen), self.context, beyond)
        )
        for batch in reaching(cut, lambda window: len(window.seen) * self.views, self.batch_tokens):
            yield from self._run(batch)

    @property
    def views(self) -> int:
        """How often each window is run."""
        return 1 + len(self.symmetries)

    def _run(self, batch: Sequence["_Window"]) -> Iterator[tuple[int, Float[np.ndarray, "positions hidden"]]]:
        """The windows of a batch through all views, in one pass."""
        segments = [window.seen for window in batch]
        views = [*segments, *(symmetry.encoded(seen) for symmetry in self.symmetries for seen in segments)]
        hidden, n = self._hidden([each.ids for each in views], [each.numbers for each in views]), len(segments)
        for i, window in enumerate(batch):
            states = hidden[i]
            for number, symmetry in enumerate(self.symmetries, start=1):
                seen = hidden[number * n + i]
                states = states + (seen[::-1] if symmetry.reverse else seen)
            yield window.record, states[window.start : window.stop] / np.float32(self.views)

    def _hidden(
        self, segments: Sequence[Integer[np.ndarray, "_ _"]], numbers: Sequence[Float[np.ndarray, "_ _"] | None]
    ) -> list[Float[np.ndarray, "_ hidden"]]:
        states: list[Float[np.ndarray, "_ hidden"]] = [np.empty((0, 0), np.float32)] * len(segments)
        every = sum(map(len, segments))
        for packed in run_packed(
            self.model,
            segments,
            batch_tokens=every,
            precision=self.precision,
            depth=self.layer,
            numbers=None if self.model.embeddings.reference is None else numbers,
        ):
            rows = packed.states.hidden_states.to(dtype=torch.float32, device="cpu").numpy()
            for i, start in zip(packed.which, packed.starts, strict=True):
                states[i] = rows[start : start + len(segments[i])]
        return states


def _opened(encoded: Encoded, context: int) -> tuple[Encoded, int]:
    """The ids and numbers, and how many of either end are there as context only: a long circle goes on beyond its
    origin.
    """
    beyond = context // 4 if encoded.circular and len(encoded) > context else 0
    ids, numbers = (
        each if each is None or not beyond else np.concatenate([each[-beyond:], each, each[:beyond]])
        for each in (encoded.ids, encoded.numbers)
    )
    assert ids is not None
    return Encoded(ids, numbers=numbers), beyond


def _within(length: int, context: int, beyond: int) -> Iterator[tuple[slice, slice]]:
    """The windows, and what is kept of each without so much at either end."""
    for window, kept in windows(length, context):
        inner = slice(max(kept.start, beyond), min(kept.stop, length - beyond))
        if inner.start < inner.stop or not beyond:
            yield window, inner


def _length(record: Keyed) -> int:
    return len(record[1])


@dataclass(frozen=True)
class _Window:
    """A window of the group's n-th record, of which the positions `start:stop` count."""

    record: int
    seen: Encoded
    start: int
    stop: int


def embed_records(
    model: Encoder,
    records: Iterable[Keyed],
    *,
    pooling: Pooling = "mean",
    symmetries: Sequence[Symmetry[Any]] = (),
    context: int,
    batch_tokens: int = 16384,
    precision: Literal["bf16", "fp32"] = "fp32",
    layer: int | None = None,
) -> Iterator[tuple[str, Float[np.ndarray, "..."]]]:
    """Embed keys and encoded records as they come: one float32 vector each, or with pooling "none" one a position."""
    embedder = Embedder(
        model=model,
        context=context,
        pooling=pooling,
        symmetries=symmetries,
        batch_tokens=batch_tokens,
        precision=precision,
        layer=layer,
    )
    none = np.empty((0, model.config.hidden_size), np.float32)
    for group in embedder.groups(records):
        parts: list[list[Float[np.ndarray, "_ hidden"]]] = [[] for _ in group]
        for index, vectors in embedder.vectors(group):
            parts[index].append(vectors)
        for (key, _), found in zip(group, parts, strict=True):
            yield key, np.concatenate([none, *found]) if pooling == "none" else found[0][0]
