"""Experts that say what stands behind their answers."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int, Integer

from maskseq.predict.protocol import Example

SUPPORTED = 20
"""Training cells from which on an answer is well supported."""
Answers = tuple[list[Float[np.ndarray, "_ _"]], Float[np.ndarray, " cells"]]
"""Log-probabilities, and the evidence of each requested cell."""


class Evident(ABC):
    """A `Predict` whose answers and evidence come from one look-up; the last one is kept for whoever asks for both."""

    n_supports = 1
    """Classes of evidence, which weights of a mixture may depend on; 1 for none."""

    def __init__(self) -> None:
        self._kept: tuple[bytes, Answers] | None = None

    @abstractmethod
    def answers(self, examples: Sequence[Example], cells: Sequence[Integer[np.ndarray, "_ 2"]]) -> Answers:
        """Log-probabilities of the asked cells, and how much evidence there is for each."""

    def __call__(
        self, examples: Sequence[Example], cells: Sequence[Integer[np.ndarray, "_ 2"]]
    ) -> list[Float[np.ndarray, "_ _"]]:
        """Log-probabilities of the asked cells, from the known cells around them."""
        return [each.copy() for each in self._looked_up(examples, cells)[0]]

    def support(
        self, examples: Sequence[Example], cells: Sequence[Integer[np.ndarray, "_ 2"]]
    ) -> Int[np.ndarray, " cells"]:
        """The class of evidence of each requested cell: whether `SUPPORTED` training cells or more stand behind it."""
        if self.n_supports == 1:
            return np.zeros(sum(map(len, cells)), np.int64)
        return (self._looked_up(examples, cells)[1] > SUPPORTED).astype(np.int64)

    def _looked_up(self, examples: Sequence[Example], cells: Sequence[Integer[np.ndarray, "_ 2"]]) -> Answers:
        requested = hashlib.blake2b(repr([(each.key, each.start, each.ids.shape) for each in examples]).encode())
        for each in (*(example.ids for example in examples), *cells):
            requested.update(f"{each.shape}{each.dtype}".encode())
            requested.update(each.tobytes())
        kept = self._kept  # another thread may ask something else meanwhile
        if kept is None or kept[0] != requested.digest():
            kept = self._kept = requested.digest(), self.answers(examples, cells)
        return kept[1]
