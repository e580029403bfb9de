"""How long a recipe takes on this machine: a second of its training steps, and arithmetic."""

import tempfile
import time
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from maskseq.apps.rows import rows_of
from maskseq.apps.watch import duration
from maskseq.corpus.build import build_from_records
from maskseq.corpus.reader import Corpus
from maskseq.corpus.splits import SplitConfig
from maskseq.model.encoder import Encoder
from maskseq.recipe import Recipe
from maskseq.tokenizer import Tokenizer
from maskseq.training import parallel
from maskseq.training.device import choose_precision
from maskseq.training.step import TrainStep
from maskseq.types import Record

SECONDS = 1.0
"""How long steps are measured."""
PROBED_UNITS = 200_000
"""About how many raw units are tokenized for it."""


def estimate(recipe: Recipe, speed: float) -> dict[str, str]:
    """What a speed in tokens a second means for the whole run; validations and checkpoints take a little longer."""
    took = duration(recipe.training.tokens / speed)
    return {"speed": f"{speed:,.0f} tokens/s on this machine, now", "time": f"about {took}"}


def speed_on_records(recipe: Recipe, records: Sequence[Record], tokenizer: Tokenizer[Any]) -> float:
    """The same as `speed_of` where there is no corpus yet, on the first of some records."""
    first, left = [], PROBED_UNITS
    for record in records:
        first.append(record)
        left -= len(record)
        if left <= 0:
            break
    with tempfile.TemporaryDirectory() as aside:
        corpus = build_from_records(
            first, output=Path(aside) / "corpus", tokenizer=tokenizer, split=SplitConfig(by="none"), on_error="skip"
        )
        return speed_of(recipe, corpus)


def speed_of(recipe: Recipe, corpus: Corpus) -> float:
    """Tokens a second of training steps, rows included, after one that is not counted."""
    ranks = parallel.join(recipe.training.device)
    recipe.look_up_parts()
    rows, _ = rows_of(recipe, corpus)
    learner = TrainStep(
        Encoder(recipe.encoder_config(corpus.tokenizer.vocabulary), seed=recipe.seed),
        recipe.training,
        recipe.optimizer,
        ranks,
        precision=choose_precision(recipe.training.precision, ranks.device),
        dropout_key=(recipe.seed, 0),
    )
    began, tokens = time.perf_counter(), 0
    for step in count():
        numbers = range(step * recipe.training.rows, (step + 1) * recipe.training.rows)
        packed = [(number, rows.row(number)) for number in numbers]
        learner.backward(packed, float(np.sum([row.weights.sum() for _, row in packed])))
        learner.update(1.0)
        if step == 0:  # what is made once is not counted
            began = time.perf_counter()
            continue
        tokens += sum(row.n_tokens for _, row in packed)
        seconds = time.perf_counter() - began
        if seconds >= SECONDS:
            break
    return tokens / max(seconds, 1e-9)
