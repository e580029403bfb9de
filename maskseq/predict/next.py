"""A trained encoder as a predictor of what comes next: by its causal side, whose head is read one position before."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int, Integer
from torch import Tensor

from maskseq.model.encoder import Encoder
from maskseq.model.states import States
from maskseq.predict.encoder import batches
from maskseq.predict.protocol import Example


@dataclass(frozen=True)
class CausalPass:
    """Some sequences, end to end, in one forward pass that looks to the left only."""

    which: list[int]
    starts: list[int]
    states: States


class NextPredict:
    """A `Predict` of what comes next, for encoders with a head of it.

    Each requested cell is given the positions before its own, and those fields of its own position that are declared
    before it and known; what stands behind is never seen.
    """

    in_order = True
    """See `maskseq.predict.protocol.in_order`."""

    def __init__(
        self, model: Encoder, *, batch_tokens: int = 16384, precision: Literal["bf16", "fp32"] = "fp32"
    ) -> None:
        assert model.next_head is not None
        self.model, self.batch_tokens, self.precision = model, batch_tokens, precision
        self.n_outputs = model.config.vocabulary.predictable.shape[1]

    def __call__(
        self, examples: Sequence[Example], cells: Sequence[Integer[np.ndarray, "_ 2"]]
    ) -> list[Float[np.ndarray, "_ _"]]:
        """Float32 log-probabilities of each requested cell; −inf for ids that its field cannot predict."""
        ends = np.cumsum([0, *map(len, cells)])
        log_probs = np.full((ends[-1], self.n_outputs), -np.inf, np.float32)
        for packed in run_causal(
            self.model, [each.ids for each in examples], batch_tokens=self.batch_tokens, precision=self.precision
        ):
            rows = np.concatenate([np.arange(ends[i], ends[i + 1]) for i in packed.which])
            requested = np.concatenate([cells[i] for i in packed.which]).astype(np.int64)
            begin = np.repeat(packed.starts, [len(cells[i]) for i in packed.which])
            before = np.where(requested[:, 0] > 0, begin + requested[:, 0] - 1, -1)
            events = [examples[i].ids[cells[i][:, 0]] for i in packed.which]
            for field in np.unique(requested[:, 1]).tolist():
                mine = requested[:, 1] == field
                answer = next_log_probs(
                    self.model, packed.states, before[mine], np.concatenate(events)[mine].astype(np.int64), field
                )
                log_probs[rows[mine], : answer.shape[1]] = answer.cpu().numpy()
        return np.split(log_probs, ends[1:-1])


def next_log_probs(
    model: Encoder,
    states: States,
    before: Int[np.ndarray, " n"],
    events: Int[np.ndarray, "n fields"],
    field: int,
) -> Float[Tensor, "n outputs"]:
    """Log-probabilities of a field at some positions, given the tokens before them and what is known there."""
    device = states.hidden_states.device
    with torch.inference_mode():
        logits = model.next_logits(
            states, torch.from_numpy(before).to(device), torch.from_numpy(events).to(device), field
        )
        return logits.log_softmax(dim=-1)


def run_causal(
    model: Encoder,
    sequences: Sequence[Integer[np.ndarray, "_ _"]],
    *,
    batch_tokens: int,
    precision: Literal["bf16", "fp32"],
) -> Iterator[CausalPass]:
    """The encoder over all sequences, each looking to the left only."""
    device = next(model.parameters()).device
    for which in batches([len(ids) for ids in sequences], batch_tokens):
        lengths = [len(sequences[i]) for i in which]
        ends = np.cumsum([0, *lengths])
        flat = np.concatenate([sequences[i] for i in which]).astype(np.int64)
        with torch.inference_mode():
            states = model(
                torch.from_numpy(flat).to(device),
                torch.from_numpy(np.arange(ends[-1]) - np.repeat(ends[:-1], lengths)).to(device),
                torch.from_numpy(ends.astype(np.int32)).to(device),
                max(lengths),
                causal=torch.ones(len(lengths), dtype=torch.bool, device=device),
                dtype=torch.bfloat16 if precision == "bf16" else torch.float32,
            )
        yield CausalPass(which, ends[:-1].tolist(), states)
