"""Mixtures of all simple methods, and the held-out cells that their weights are fitted on."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Integer

from maskseq.evaluation.holdout import hide_spans
from maskseq.predict.experts.mixture import Mixture
from maskseq.predict.protocol import Example, Predict
from maskseq.tokenizer import Tokenizer
from maskseq.types import Encoded

EQUAL, FITTED = "equal mixture", "fitted mixture"
CELLS = 4000
"""Held-out cells that weights are fitted on."""
PIECE = 512
"""Positions of the pieces that they are hidden in."""
HIDDEN_SHARE = 0.15
HIDDEN = (1, 1, 2, 5, 16)


def mixtures(
    predicts: dict[str, Predict], tokenizer: Tokenizer[Any], selection: Sequence[Encoded], *, seed: int = 0
) -> dict[str, Predict]:
    """The methods as one, at equal weights and, where there are held-out sequences, at fitted ones."""
    equal = Mixture(predicts, tokenizer.vocabulary)
    found: dict[str, Predict] = {EQUAL: equal}
    seen, cells, truth = hidden_cells(selection, tokenizer, CELLS, seed)
    if cells:
        found[FITTED] = equal.fitted(seen, cells, truth)
    return found


def hidden_cells(
    selection: Sequence[Encoded], tokenizer: Tokenizer[Any], n_cells: int, seed: int
) -> tuple[list[Example], list[Integer[np.ndarray, "_ 2"]], Integer[np.ndarray, " cells"]]:
    """Pieces with about so many cells hidden, which cells these are, and what truly stands there."""
    seen, cells, truths = [], [], [np.empty(0, np.int64)]
    rng = np.random.default_rng(seed)
    pieces = [(i, start) for i, each in enumerate(selection) for start in range(0, len(each), PIECE)]
    for which in rng.permutation(len(pieces)).tolist():
        i, start = pieces[which]
        piece = selection[i].cut(start, start + PIECE)
        hidden = hide_spans(piece, tokenizer, rng, lengths=HIDDEN, share=HIDDEN_SHARE)
        asked = np.argwhere(piece.scorable(hidden))
        if not len(asked):
            continue
        cells.append(asked)
        truths.append(piece.ids[tuple(asked.T)].astype(np.int64))
        numbers = None if piece.numbers is None else np.where(hidden, np.nan, piece.numbers)
        seen.append(Example(tokenizer.vocabulary.masked(piece.ids, hidden), numbers))
        if sum(map(len, cells)) >= n_cells:
            break
    return seen, cells, np.concatenate(truths)
