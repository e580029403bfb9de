"""Several positions ahead from a predictor of the next one: what lies between is drawn, and answers are averaged."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int, Integer

from maskseq.infill.window_plan import key_number
from maskseq.predict.protocol import Example, Predict
from maskseq.types import Vocabulary

SAMPLES = 32
"""Continuations that an answer is averaged over."""


class RolledOut:
    """A `Predict` that looks to the left only, asked about several masked positions at once.

    It was trained with everything before a position known. So only the first position of a sequence is asked as it is;
    later ones are answered by the mean of what it says behind continuations that it draws itself, an estimate of the
    probability given the known positions alone. The draws of a sequence depend on nothing but its key and its place.
    """

    in_order = True
    """See `maskseq.predict.protocol.in_order`."""

    def __init__(self, predict: Predict, vocabulary: Vocabulary, *, samples: int = SAMPLES, seed: int = 0) -> None:
        self.predict, self.vocabulary, self.samples, self.seed = predict, vocabulary, samples, seed
        self.masks = np.array(vocabulary.mask_ids)

    def __call__(
        self, examples: Sequence[Example], cells: Sequence[Integer[np.ndarray, "_ 2"]]
    ) -> list[Float[np.ndarray, "_ _"]]:
        """Log-probabilities of each requested cell."""
        found = [np.asarray(each) for each in self.predict(examples, cells)]
        for each, requested, answers in zip(examples, cells, found, strict=True):
            first = min(int(requested[:, 0].min(initial=len(each.ids))), self._tail(each))
            later = requested[:, 0] > first
            if later.any():
                answers[later] = self._averaged(each, requested[later], first, answers.shape[1])
        return found

    def _tail(self, example: Example) -> int:
        """Where the masked positions begin that a sequence ends with.

        What is drawn from there on is the same, whichever of them are requested.
        """
        known = np.flatnonzero((example.ids != self.masks).all(axis=1))
        return int(known[-1]) + 1 if len(known) else 0

    def _averaged(
        self, example: Example, requested: Integer[np.ndarray, "n 2"], first: int, width: int
    ) -> Float[np.ndarray, "n ids"]:
        """Of cells behind the first position that is asked about."""
        rng = np.random.default_rng((self.seed, key_number(example.key), example.start, len(example.ids)))
        drawn = np.repeat(example.ids[None], self.samples, axis=0)
        found = np.full((len(requested), width), -np.inf)
        for position in range(first, int(requested[:, 0].max()) + 1):
            for field in range(drawn.shape[2]):
                mine = np.flatnonzero((requested == (position, field)).all(axis=1))
                is_masked = example.ids[position, field] == self.masks[field]
                if not len(mine) and not is_masked:
                    continue
                log_p = self._next(example, drawn, position, field)
                found[mine] = np.logaddexp.reduce(log_p, axis=0) - np.log(self.samples)
                if is_masked:
                    drawn[:, position, field] = _draw(log_p, rng)
        return found

    def _next(
        self, example: Example, drawn: Int[np.ndarray, "samples length fields"], position: int, field: int
    ) -> Float[np.ndarray, "samples _"]:
        """Of one cell behind each continuation, which are cut behind it: nothing that follows is seen."""
        behind = [
            Example(np.ascontiguousarray(ids[: position + 1]), key=example.key, start=example.start) for ids in drawn
        ]
        answers = self.predict(behind, [np.array([[position, field]])] * len(behind))
        return np.concatenate([np.asarray(each, np.float64) for each in answers])


def _draw(log_p: Float[np.ndarray, "samples ids"], rng: np.random.Generator) -> Int[np.ndarray, " samples"]:
    """An id of each row, by its probabilities."""
    sums = np.cumsum(np.exp(log_p.astype(np.float64)), axis=1)
    below = sums < rng.random((len(sums), 1)) * sums[:, -1:]
    return np.asarray(below.sum(axis=1).clip(max=log_p.shape[1] - 1))
