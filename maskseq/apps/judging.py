"""What a run is judged by while it trains: rows of the data that it does not learn from, and simple methods' losses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from jaxtyping import Int

from maskseq.baselines.gating import let_go
from maskseq.baselines.simple_losses import best_losses, experts_of, read_losses
from maskseq.corpus.reader import Corpus, Split
from maskseq.masking.config import Infill, MaskingConfig, Replacement, Spans, Tokens
from maskseq.model.checkpoint import checkpoints
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
    """By protocol, the loss of the best simple method, that of training itself being `AS_TRAINED`."""

    @property
    def requested(self) -> dict[str, tuple[PackedRows, int]]:
        """By protocol, the rows, and how many of them."""
        return {AS_TRAINED: (self.rows, min(self.n, self.rows.n_rows(0))), **self.others}

    def __call__(self, learner: TrainStep) -> Scores:
        whole = learner.score(self.rows, self.n)
        by_protocol = {name: learner.score(rows, n, again=True).all for name, (rows, n) in self.others.items()}
        reached = {AS_TRAINED: whole.all, **by_protocol}
        skills = {name: 1 - reached[name].loss / loss for name, loss in self.references.items()}
        return replace(whole, by_protocol=by_protocol, skills=skills)


def judging(
    recipe: Recipe, corpus: Corpus, output: Path, counts: Sequence[Int[np.ndarray, "_"]], *, keep: bool = True
) -> dict[Split, OnRows]:
    """The validation on each held-out part that there is.

    Masked as in training, single cells and gaps, each compared with the best simple method: that is frequencies, and
    where the run is to have a blend, what that counts. A run that has begun goes on with the losses that it has on
    record; those of older versions knew frequencies only. `keep`: what was counted, for the gate.
    """
    parts: tuple[Split, ...] = ("selection", "test")
    found = {part: _of_part(recipe, corpus, part) for part in parts if len(corpus.sequences(part))}
    recorded = read_losses(output)
    if recorded is None:
        experts = experts_of(corpus) if found and recipe.blend and not checkpoints(output) else {}
        recorded = {part: best_losses(each.requested, counts, corpus, experts) for part, each in found.items()}
        if not keep:
            let_go(corpus, ("train",))
    return {part: replace(each, references=recorded.get(part, {})) for part, each in found.items()}


def _of_part(recipe: Recipe, corpus: Corpus, part: Split) -> OnRows:
    """Single cells and gaps are of a quarter as many rows: together they take half as long again.

    Where a part has fewer rows, these are asked about again, under other masks.
    """
    n, rows = recipe.training.validation_rows, rows_of_part(recipe, corpus, part)
    others = {
        name: (rows_of_part(recipe, corpus, part, masking), max(n // 4, 1))
        for name, masking in protocol_masks(recipe).items()
    }
    return OnRows(rows, n, others)


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


def held_out_rows(recipe: Recipe, corpus: Corpus, part: Split) -> PackedRows | None:
    """The rows of a held-out part under one fixed mask key; None where there are none."""
    return rows_of_part(recipe, corpus, part) if len(corpus.sequences(part)) else None


def rows_of_part(recipe: Recipe, corpus: Corpus, part: Split, masking: MaskingConfig | None = None) -> PackedRows:
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
