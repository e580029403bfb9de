"""Vectors for sequences or their positions: the encoder's hidden states after the last norm."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Integer

from maskseq.errors import UsageError
from maskseq.inference.predict import run_packed, windows
from maskseq.model.encoder import Encoder
from maskseq.tokenizer import Symmetry
from maskseq.types import Encoded

Pooling = Literal["mean", "max", "none"]


def embed_records(
    model: Encoder,
    records: Iterable[tuple[str, Encoded]],
    *,
    pooling: Pooling = "mean",
    symmetries: Sequence[Symmetry[Any]] = (),
    context: int,
    batch_tokens: int = 16384,
    precision: Literal["bf16", "fp32"] = "fp32",
) -> Iterator[tuple[str, Float[np.ndarray, "..."]]]:
    """Embed keys and encoded records as they come: one float32 vector each, or with pooling "none" one a position.

    Records longer than the context are read in overlapping windows, and every position counts once. With symmetries the
    hidden states of all views are averaged position by position, so that both strands of DNA embed alike.
    """
    if pooling not in ("mean", "max", "none"):
        raise UsageError(f"pooling is {pooling!r}; it can be mean, max or none")
    batch: list[_Part] = []
    room = batch_tokens
    for part in _parts(records, context):
        batch.append(part)
        room -= len(part.ids)
        if room <= 0:
            yield from _embed(model, batch, pooling, symmetries, precision)
            batch, room = [], batch_tokens
    yield from _embed(model, batch, pooling, symmetries, precision)


@dataclass
class _Record:
    """A record under way: what its positions have come to so far."""

    key: str
    n: int = 0
    mean: Float[np.ndarray, " hidden"] | float = 0.0
    """Their sum, in float64, until the end."""
    max: Float[np.ndarray, " hidden"] | float = -np.inf
    none: list[Float[np.ndarray, "_ hidden"]] = field(default_factory=list)

    def add(self, states: Float[np.ndarray, "positions hidden"], pooling: Pooling) -> None:
        self.n += len(states)
        if pooling == "mean":
            self.mean = self.mean + states.sum(axis=0, dtype=np.float64)
        elif pooling == "max":
            self.max = np.maximum(self.max, states.max(axis=0))
        else:
            self.none.append(states)

    def result(self, pooling: Pooling) -> Float[np.ndarray, "..."]:
        found = {"mean": np.asarray(self.mean) / self.n, "max": np.asarray(self.max)}
        return found[pooling].astype(np.float32) if pooling in found else np.concatenate(self.none)


@dataclass(frozen=True)
class _Part:
    """A window of a record; `kept` says which of its positions count."""

    of: _Record
    ids: Integer[np.ndarray, "window fields"]
    kept: slice
    is_last: bool


def _parts(records: Iterable[tuple[str, Encoded]], context: int) -> Iterator[_Part]:
    for key, encoded in records:
        if not len(encoded):
            raise UsageError(f"record {key!r} is empty: there is nothing to embed")
        record = _Record(key)
        for window, kept in windows(len(encoded), context):
            inside = slice(kept.start - window.start, kept.stop - window.start)
            yield _Part(record, encoded.ids[window], inside, kept.stop == len(encoded))


def _embed(
    model: Encoder,
    batch: list[_Part],
    pooling: Pooling,
    symmetries: Sequence[Symmetry[Any]],
    precision: Literal["bf16", "fp32"],
) -> Iterator[tuple[str, Float[np.ndarray, "..."]]]:
    """The windows of a batch through all views; the records that are complete after it."""
    pieces = [part.ids for part in batch]
    hidden = _hidden(model, pieces, precision)
    for symmetry in symmetries:
        seen = _hidden(model, [symmetry.ids(ids) for ids in pieces], precision)
        hidden = [mine + (other[::-1] if symmetry.reverse else other) for mine, other in zip(hidden, seen, strict=True)]
    for part, states in zip(batch, hidden, strict=True):
        part.of.add(states[part.kept] / np.float32(1 + len(symmetries)), pooling)
        if part.is_last:
            yield part.of.key, part.of.result(pooling)


def _hidden(
    model: Encoder, pieces: Sequence[Integer[np.ndarray, "_ _"]], precision: Literal["bf16", "fp32"]
) -> list[Float[np.ndarray, "_ hidden"]]:
    states: list[Float[np.ndarray, "_ hidden"]] = [np.empty((0, 0), np.float32)] * len(pieces)
    for packed in run_packed(model, pieces, batch_tokens=sum(map(len, pieces)), precision=precision):
        rows = packed.hidden.to(dtype=torch.float32, device="cpu").numpy()
        for i, start in zip(packed.which, packed.starts, strict=True):
            states[i] = rows[start : start + len(pieces[i])]
    return states
