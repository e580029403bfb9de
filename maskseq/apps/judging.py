"""What a run is judged by while it trains: rows of the data that it does not learn from, and a simple method's loss."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from jaxtyping import Int

from maskseq.baselines.frequencies import loss_of
from maskseq.corpus.reader import Corpus
from maskseq.masking.config import Infill, MaskingConfig, Replacement, Spans, Tokens
from maskseq.packing.rows import PackedRows
from maskseq.recipe import ANY, Recipe
from maskseq.training.events import Scores
from maskseq.training.step import TrainStep

AS_TRAINED = "masked as in training"


@dataclass(frozen=True)
class OnRows:
    """The validation of masked rows: their first `n`, but none twice, under the masks that the rows have."""

    rows: PackedRows
    n: int
    others: Mapping[str, tuple[PackedRows, int]] = field(default_factory=dict)
    """Rows under other masks, and how many of them, by the protocol that they stand for."""
    references: Mapping[str, float] = field(default_factory=dict)
    """By protocol, the loss of a simple method on the same cells, that of training itself being `AS_TRAINED`."""

    def __call__(self, learner: TrainStep) -> Scores:
        whole = learner.score(self.rows, self.n)
        by_protocol = {name: learner.score(rows, n, again=True).all for name, (rows, n) in self.others.items()}
        reached = {AS_TRAINED: whole.all, **by_protocol}
        skills = {name: 1 - reached[name].loss / loss for name, loss in self.references.items()}
        return replace(whole, by_protocol=by_protocol, skills=skills)


def judging(
    recipe: Recipe,
    corpus: Corpus,
    part: Literal["selection", "test"],
    counts: Sequence[Int[np.ndarray, "_"]],
) -> OnRows | None:
    """The validation on a held-out part: masked as in training, single cells and gaps, each compared with frequencies.

    Single cells and gaps are of a quarter as many rows: together they take half as long again. Where a part has fewer
    rows, these are asked about again, under other masks.
    """
    if not len(corpus.sequences(part)):
        return None
    n = recipe.training.validation_rows
    rows = rows_of_part(recipe, corpus, part)
    others = {
        name: (rows_of_part(recipe, corpus, part, masking), max(n // 4, 1))
        for name, masking in protocol_masks(recipe).items()
    }
    requested = {AS_TRAINED: (rows, min(n, rows.n_rows(0))), **others}
    losses = {name: loss_of(counts, map(each.row, range(most))) for name, (each, most) in requested.items()}
    return OnRows(rows, n, others, {name: loss for name, loss in losses.items() if loss > 0})


def protocol_masks(recipe: Recipe) -> dict[str, MaskingConfig]:
    """How single cells and gaps are masked: a tenth of what there is, so that what is around them is seen."""
    if not recipe.encoder_config(ANY).context_sees_target:
        return {}  # its targets are regions, which these are not
    usual = recipe.masking
    plain = replace(usual, ratio=0.1, schedule="constant", final_ratio=None, infill=Infill(weight=0.0))
    length = float(max(round(usual.spans.mean_length), 2))
    masked = Replacement(mask=1.0)
    return {
        "single cells": replace(
            plain, mode="cell", tokens=Tokens(weight=1.0, replacement=masked), spans=Spans(weight=0.0)
        ),
        "gaps": replace(
            plain,
            mode="position",
            tokens=Tokens(weight=0.0),
            spans=Spans(weight=1.0, lengths="fixed", mean_length=length, replacement=masked),
        ),
    }


def held_out_rows(recipe: Recipe, corpus: Corpus, part: Literal["selection", "test"]) -> PackedRows | None:
    """The rows of a held-out part under one fixed mask key; None where there are none."""
    return rows_of_part(recipe, corpus, part) if len(corpus.sequences(part)) else None


def rows_of_part(
    recipe: Recipe, corpus: Corpus, part: Literal["selection", "test"], masking: MaskingConfig | None = None
) -> PackedRows:
    """The rows of a held-out part: under the masks of training, every epoch the same; or under others, each its own."""
    return PackedRows(
        corpus,
        split=part,
        config=replace(recipe.packing, cut=0.0),
        masking=masking or recipe.masking,
        seed=recipe.seed,
        mask_epoch=0 if masking is None else None,
        numbers=recipe.reads_numbers,
    )
