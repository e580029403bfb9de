"""A `Predict` that keeps its answers, so that what several are made of need not be asked again."""

import hashlib
from collections.abc import Sequence
from threading import Lock

import numpy as np
from jaxtyping import Float, Int, Integer

from maskseq.predict.protocol import Example, Predict, in_order

REMEMBERED = 1 << 28
"""Bytes of answers that are kept."""


class Remembered:
    """A `Predict`, with whatever else it offers, that keeps its answers."""

    def __init__(self, predict: Predict) -> None:
        self.predict = predict
        self.kept: dict[bytes, list[Float[np.ndarray, "_ _"]]] = {}
        self.size = 0
        self.lock = Lock()

    def __call__(
        self, examples: Sequence[Example], cells: Sequence[Integer[np.ndarray, "_ 2"]]
    ) -> list[Float[np.ndarray, "_ _"]]:
        """What the method answers."""
        key = hashlib.blake2b(digest_size=16)
        key.update(repr([(each.key, each.start) for each in examples]).encode())
        arrays = [each for example in examples for each in (example.ids, example.numbers) if each is not None]
        for each in (*arrays, *cells):
            key.update(f"{each.shape}{each.dtype}".encode())
            key.update(np.ascontiguousarray(each).tobytes())
        with self.lock:
            found = self.kept.get(key.digest())
        if found is None:
            found = [np.asarray(each) for each in self.predict(examples, cells)]
            with self.lock:
                self._keep(key.digest(), found)
        return [each.copy() for each in found]

    def _keep(self, key: bytes, answers: list[Float[np.ndarray, "_ _"]]) -> None:
        """Keep answers, and forget the oldest ones where there is no room."""
        if key not in self.kept:  # another thread may have asked the same
            self.kept[key] = answers
            self.size += sum(each.nbytes for each in answers)
        while self.size > REMEMBERED and len(self.kept) > 1:
            self.size -= sum(each.nbytes for each in self.kept.pop(next(iter(self.kept))))

    @property
    def in_order(self) -> bool:
        """As the method is: see `maskseq.predict.protocol.in_order`."""
        return in_order(self.predict)

    @property
    def n_supports(self) -> int:
        """See `maskseq.predict.blend.Supported`: of a method that reports none, there is one class."""
        return int(getattr(self.predict, "n_supports", 1))

    def support(
        self, examples: Sequence[Example], cells: Sequence[Integer[np.ndarray, "_ 2"]]
    ) -> Int[np.ndarray, " cells"]:
        """What the method reports."""
        if self.n_supports == 1:
            return np.zeros(sum(map(len, cells)), np.int64)
        found: Int[np.ndarray, " cells"] = self.predict.support(examples, cells)  # type: ignore[attr-defined]
        return found
