"""Mixtures of all simple methods, and the held-out cells that their weights are fitted on."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Integer

from maskseq.evaluation.holdout import mask_spans
from maskseq.predict.blend import LOWEST, Blend, Gate
from maskseq.predict.protocol import Example, Predict
from maskseq.tokenizer import Tokenizer
from maskseq.types import Encoded, Vocabulary

EQUAL, FITTED = "equal mixture", "fitted mixture"
CELLS = 4000
"""Held-out cells that weights are fitted on."""
SEGMENT = 512
"""Positions of the pieces that they are masked in."""
MASKED_SHARE = 0.15
HIDDEN = (1, 1, 2, 5, 16)


class Mixture:
    """Methods as one: the mean of their probabilities, a little of the uniform distribution in each."""

    def __init__(self, predicts: Mapping[str, Predict], vocabulary: Vocabulary) -> None:
        self.predicts, self.blend = dict(predicts), Blend(predicts, None, vocabulary)

    def __call__(
        self, examples: Sequence[Example], cells: Sequence[Integer[np.ndarray, "_ 2"]]
    ) -> list[Float[np.ndarray, "_ _"]]:
        """Log-probabilities of the requested cells."""
        answers = self.blend.answers(examples, cells)
        mixed = np.logaddexp.reduce(answers, axis=0) - np.log(len(answers))
        mixed[mixed <= LOWEST / 2] = -np.inf
        return np.split(mixed, np.cumsum([len(requested) for requested in cells])[:-1])

    def fitted(
        self,
        examples: Sequence[Example],
        cells: Sequence[Integer[np.ndarray, "_ 2"]],
        truth: Integer[np.ndarray, " cells"],
    ) -> Blend:
        """The same methods, weighted by what they answer about these cells."""
        blend = self.blend
        classes = blend.situations(examples, cells)
        gate = Gate.fit(blend.answers(examples, cells), truth, classes, blend.situations.n)
        return Blend(self.predicts, gate, blend.vocabulary)


def mixtures(
    predicts: dict[str, Predict], tokenizer: Tokenizer[Any], selection: Sequence[Encoded], *, seed: int = 0
) -> dict[str, Predict]:
    """The methods as one, at equal weights and, where there are held-out sequences, at fitted ones."""
    equal = Mixture(predicts, tokenizer.vocabulary)
    found: dict[str, Predict] = {EQUAL: equal}
    seen, cells, truth = masked_cells(selection, tokenizer, CELLS, seed)
    if cells:
        found[FITTED] = equal.fitted(seen, cells, truth)
    return found


def masked_cells(
    selection: Sequence[Encoded], tokenizer: Tokenizer[Any], n_cells: int, seed: int
) -> tuple[list[Example], list[Integer[np.ndarray, "_ 2"]], Integer[np.ndarray, " cells"]]:
    """Segments with `n_cells` cells masked, about; the positions and fields of these cells; and their true ids."""
    seen, cells, truths = [], [], [np.empty(0, np.int64)]
    rng = np.random.default_rng(seed)
    segments = [(i, start) for i, each in enumerate(selection) for start in range(0, len(each), SEGMENT)]
    for which in rng.permutation(len(segments)).tolist():
        i, start = segments[which]
        segment = selection[i].cut(start, start + SEGMENT)
        masked = mask_spans(segment, tokenizer, rng, lengths=HIDDEN, share=MASKED_SHARE)
        requested = np.argwhere(segment.scorable(masked))
        if not len(requested):
            continue
        cells.append(requested)
        truths.append(segment.ids[tuple(requested.T)].astype(np.int64))
        numbers = None if segment.numbers is None else np.where(masked, np.nan, segment.numbers)
        seen.append(Example(tokenizer.vocabulary.masked(segment.ids, masked), numbers))
        if sum(map(len, cells)) >= n_cells:
            break
    return seen, cells, np.concatenate(truths)
