"""A trained encoder whose densities are around a reference, as a predictor that states numbers."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Integer

from maskseq.model.encoder import Encoder
from maskseq.predict.encoder import EncoderPredict, run_packed
from maskseq.predict.experts.numbers import binned
from maskseq.predict.protocol import Example
from maskseq.predict.stated import RANKS, Stated


class NumberEncoderPredict(EncoderPredict):
    """An `EncoderPredict` of an encoder with a reference: it knows numbers as they were read, and states numbers.

    What it states is not bound to the bins, so that it follows a signal beyond what it was trained on.
    """

    def __init__(
        self, model: Encoder, *, batch_tokens: int = 16384, precision: Literal["bf16", "fp32"] = "fp32"
    ) -> None:
        super().__init__(model, batch_tokens=batch_tokens, precision=precision)
        reference = model.embeddings.reference
        assert reference is not None
        self.reference, self.frequencies = reference, reference.frequencies()

    def __call__(
        self, examples: Sequence[Example], cells: Sequence[Integer[np.ndarray, "_ 2"]]
    ) -> list[Float[np.ndarray, "_ _"]]:
        """Log-probabilities of the asked cells: what it states, over bins."""
        return self.of_bins(self.stated(examples, cells), cells)

    def of_bins(
        self, stated: Sequence[Stated], cells: Sequence[Integer[np.ndarray, "_ 2"]]
    ) -> list[Float[np.ndarray, "_ _"]]:
        """The mass of the stated numbers in each bin, and a little of the frequencies, as closed forms have it."""
        vocabulary = self.model.config.vocabulary
        return [
            binned(answered, requested, vocabulary, self.frequencies)
            for answered, requested in zip(stated, cells, strict=True)
        ]

    def stated(self, examples: Sequence[Example], cells: Sequence[Integer[np.ndarray, "_ 2"]]) -> list[Stated]:
        """Means and quantiles of the densities."""
        found = [Stated(np.full(len(each), np.nan), np.full((len(each), len(RANKS)), np.nan)) for each in cells]
        sequences = [each.ids for each in examples]
        for packed in run_packed(
            self.model,
            sequences,
            batch_tokens=self.batch_tokens,
            precision=self.precision,
            numbers=[each.numbers for each in examples],
        ):
            for which, start in zip(packed.which, packed.starts, strict=True):
                for field in np.unique(cells[which][:, 1]).tolist():
                    mine = np.flatnonzero(cells[which][:, 1] == field)
                    requested = torch.from_numpy(start + cells[which][mine, 0])
                    with torch.inference_mode():
                        states = packed.states[requested.to(packed.states.hidden_states.device)]
                        hidden = self.model.head(states.hidden_states)
                        stated = self.reference.stated(hidden, field, states.prior["reference"], RANKS)
                    found[which].mean[mine], found[which].quantiles[mine] = (each.cpu().numpy() for each in stated)
        return found
