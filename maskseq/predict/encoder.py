"""A trained encoder as the function that infilling and scoring ask: log-probabilities of masked cells."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int, Integer

from maskseq.corpus.budget import within
from maskseq.model.encoder import Encoder
from maskseq.model.numbers import Numbers
from maskseq.model.states import States
from maskseq.packing.folds import WHOLE
from maskseq.predict.protocol import Example
from maskseq.tokenizer import Symmetry


@dataclass(frozen=True)
class Packed:
    """Some of the sequences, end to end in one forward pass."""

    which: list[int]
    """Their indices among those given."""
    starts: list[int]
    """Where each begins in `states`."""
    states: States


class EncoderPredict:
    """A `Predict` of an encoder: packs sequences without padding, runs the head at the asked cells only.

    With `symmetries` (`tokenizer.symmetries()`), every sequence is also run through each of them, and the
    log-probabilities are averaged and normalised again: the product of the views, each with an equal say. Pass `()` for
    the plain model. The result does not depend on what else is in the call, but for the rounding of the kernels.
    """

    def __init__(
        self,
        model: Encoder,
        symmetries: Sequence[Symmetry[Any]] = (),
        *,
        batch_tokens: int = 16384,
        precision: Literal["bf16", "fp32"] = "fp32",
    ) -> None:
        """`batch_tokens` bounds a forward pass, unless one sequence alone is longer."""
        self.model, self.symmetries = model, tuple(symmetries)
        self.batch_tokens, self.precision = batch_tokens, precision
        self.n_outputs = model.config.vocabulary.predictable.shape[1]

    def __call__(
        self, examples: Sequence[Example], cells: Sequence[Integer[np.ndarray, "_ 2"]]
    ) -> list[Float[np.ndarray, "_ _"]]:
        """Float32 log-probabilities of each asked cell; −inf for ids that its field cannot predict."""
        sequences, n = [each.ids for each in examples], len(examples)
        views, requests = list(sequences), list(cells)  # all views share the passes
        for symmetry in self.symmetries:
            views += [symmetry.ids(np.asarray(ids)) for ids in sequences]
            requests += [_moved(symmetry, requested, len(ids)) for ids, requested in zip(sequences, cells, strict=True)]
        seen = self._plain(views, requests)
        answers = seen[:n]
        for number, symmetry in enumerate(self.symmetries, start=1):
            mine = slice(number * n, (number + 1) * n)
            for answer, other, requested in zip(answers, seen[mine], requests[mine], strict=True):
                answer += self._renamed(symmetry, other, requested[:, 1])
        for answer in answers if self.symmetries else ():
            answer /= 1 + len(self.symmetries)
            answer -= np.logaddexp.reduce(answer, axis=1, keepdims=True)
        return answers

    def _plain(
        self, sequences: Sequence[Integer[np.ndarray, "_ _"]], cells: Sequence[Integer[np.ndarray, "_ 2"]]
    ) -> list[Float[np.ndarray, "_ _"]]:
        ends = np.cumsum([0, *map(len, cells)])
        log_probs = np.full((ends[-1], self.n_outputs), -np.inf, np.float32)
        for packed in run_packed(self.model, sequences, batch_tokens=self.batch_tokens, precision=self.precision):
            rows = np.concatenate([np.arange(ends[i], ends[i + 1]) for i in packed.which])
            tokens = np.concatenate(
                [start + cells[i][:, 0] for i, start in zip(packed.which, packed.starts, strict=True)]
            )
            fields = np.concatenate([cells[i][:, 1] for i in packed.which])
            for field in np.unique(fields).tolist():
                mine = fields == field
                requested = torch.from_numpy(tokens[mine]).to(packed.states.hidden_states.device)
                with torch.inference_mode():
                    logits = self.model.logits(packed.states[requested], field)
                    answer = logits.log_softmax(dim=-1).cpu().numpy()
                log_probs[rows[mine], : answer.shape[1]] = answer
        return np.split(log_probs, ends[1:-1])

    def _renamed(
        self,
        symmetry: Symmetry[Any],
        log_probs: Float[np.ndarray, "cells outputs"],
        columns: Integer[np.ndarray, " cells"],
    ) -> Float[np.ndarray, "cells outputs"]:
        """Log-probabilities over ids of the transformed `columns`, as those of the ids that they are images of."""
        restored = log_probs.copy()
        for column in np.unique(columns).tolist():
            images = np.asarray(symmetry.id_maps[column])[: self.model.config.vocabulary.n_outputs[column]]
            rows = columns == column
            restored[rows, : len(images)] = log_probs[rows][:, images]
        return restored


def run_packed(
    model: Encoder,
    sequences: Sequence[Integer[np.ndarray, "_ _"]],
    *,
    batch_tokens: int,
    precision: Literal["bf16", "fp32"],
    depth: int | None = None,
    numbers: Sequence[Float[np.ndarray, "_ _"] | None] | None = None,
) -> Iterator[Packed]:
    """The encoder over all sequences, longest first, as many to a forward pass as fit `batch_tokens`.

    `numbers` are what ids were rounded from, for an encoder with a reference; NaN, or None, where only ids are known.

    An encoder whose context does not see the target takes for target whatever has a masked value.
    """
    device = next(model.parameters()).device
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    for which in batches([len(ids) for ids in sequences], batch_tokens):
        pieces = [sequences[i] for i in which]
        lengths = [len(piece) for piece in pieces]
        ends = np.cumsum([0, *lengths])
        flat = np.concatenate(pieces).astype(np.int64)
        target = ~model.config.vocabulary.known(flat).all(axis=1)
        ids = torch.from_numpy(flat).to(device)
        positions = torch.from_numpy(np.arange(ends[-1]) - np.repeat(ends[:-1], lengths)).to(device)
        with torch.inference_mode():
            states = model(
                ids,
                positions,
                torch.from_numpy(ends.astype(np.int32)).to(device),
                max(lengths),
                numbers=None if numbers is None else packed_numbers(pieces, [numbers[i] for i in which]),
                target=torch.from_numpy(target).to(device),
                dtype=dtype,
                depth=depth,
            )
        yield Packed(which, ends[:-1].tolist(), states)


def packed_numbers(
    pieces: Sequence[Integer[np.ndarray, "_ _"]], numbers: Sequence[Float[np.ndarray, "_ _"] | None]
) -> Numbers:
    """Those of pieces that are packed, asked of all that was counted; NaN where there are none."""
    found = [np.full(ids.shape, np.nan) if own is None else own for ids, own in zip(pieces, numbers, strict=True)]
    return Numbers(torch.from_numpy(np.concatenate(found).astype(np.float64)), torch.full((len(pieces),), WHOLE))


def batches(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Indices of what goes into each forward pass: longest first, empty ones left out."""
    order = sorted((i for i, n in enumerate(lengths) if n), key=lambda i: -lengths[i])
    return within(order, (lengths.__getitem__, batch_tokens))


def _moved(symmetry: Symmetry[Any], cells: Integer[np.ndarray, "cells 2"], length: int) -> Int[np.ndarray, "cells 2"]:
    """Where the symmetry takes these cells of a sequence."""
    position = length - 1 - cells[:, 0] if symmetry.reverse else cells[:, 0]
    column = cells[:, 1] if symmetry.field_order is None else np.argsort(symmetry.field_order)[cells[:, 1]]
    return np.stack([position, column], axis=1)


OVERLAP = 1 / 2
"""Of windows of what is scored or embedded."""


def windows(length: int, context: int, overlap: float = OVERLAP) -> Iterator[tuple[slice, slice]]:
    """Cover a long sequence: what each window reads, and the part of it to keep; every position is kept once.

    Where windows overlap by half, what is kept has a quarter of the context on either side (but for the ends).
    """
    if length <= context:
        yield slice(0, length), slice(0, length)
        return
    step = max(int((1 - overlap) * context), 1)
    margin = (context - step) // 2
    starts = [*range(0, length - context, step), length - context]
    kept = 0
    for start in starts:
        until = length if start == starts[-1] else start + margin + step
        yield slice(start, start + context), slice(kept, until)
        kept = until
