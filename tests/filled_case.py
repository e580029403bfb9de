"""Cases filled by a model that has learned nothing, which likes another value best in each cell."""

from typing import Any

import numpy as np

from maskseq.constraints import Grammar
from maskseq.infill.sampler import InfillConfig, infill
from maskseq.predict.protocol import Example, Predict
from maskseq.tokenizer import Tokenizer
from maskseq_events.case import Case


def undecided(tokenizer: Tokenizer[Any], seed: int = 0) -> Predict:
    rng, n = np.random.default_rng(seed), max(tokenizer.vocabulary.n_outputs)
    return lambda sequences, cells: [np.log(rng.dirichlet(np.full(n, 0.1), size=len(c))) for c in cells]


def fill(tokenizer: Tokenizer[Case], case: Case, seed: int = 0) -> Case:
    """The case with all its holes filled, as `Run.infill` does it."""
    encoded = tokenizer.encode(case)
    holes = ~tokenizer.vocabulary.known(encoded.ids)
    (filled,) = infill(
        undecided(tokenizer, seed),
        [Example(encoded.ids)],
        [holes],
        InfillConfig(temperature=1.0),
        vocabulary=tokenizer.vocabulary,
        keys=[seed],
        legal=[encoded.legal],
        constraints=[[Grammar(tokenizer.allowed)]],
    )
    return tokenizer.splice(case, filled.written(encoded.ids), holes)
