"""Fills of values that were masked on purpose, scored against them, compared with what simple tables fill."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from maskseq.corpus.reader import Corpus
from maskseq.errors import MaskseqError
from maskseq.infill.filling import FilledRecord
from maskseq.predict.experts.markov import MAX_TABLE, Markov
from maskseq.trained import TrainedModel

BASELINE_ORDER = 2


@dataclass
class FillTally:
    """Sums over scored cells."""

    right: int = 0
    nats: float = 0.0

    def add(self, probabilities: np.ndarray, truth: np.ndarray) -> None:
        """Count the most probable ids that are right, and the log-loss of the true ones."""
        p = probabilities[np.arange(len(truth)), truth]
        self.right += int((probabilities.argmax(axis=1) == truth).sum())
        self.nats -= float(np.log(np.maximum(p, 1e-12)).sum())

    def shown(self, cells: int) -> dict[str, Any]:
        return {"right": self.right / cells, "bits per cell": self.nats / cells / math.log(2)}


@dataclass
class FillScore:
    """Fills against known values that were masked on purpose, compared with the answers of simple tables."""

    baselines: Sequence[Markov | None]
    """One for each field."""
    n_outputs: Sequence[int]
    """For each field, which ids are values. Other ids mean unknown and cannot be scored."""
    cells: int = 0
    right: int = 0
    holes: int = 0
    exact: int = 0
    uniform_nats: float = 0.0
    model: FillTally = field(default_factory=FillTally)
    baseline: FillTally = field(default_factory=FillTally)

    def add(self, each: FilledRecord) -> None:
        """Score one record. The model's bits are those of each cell given the known ones alone, as the baseline's."""
        fill, ids = each.filled.fill, each.before.ids
        for column, markov in enumerate(self.baselines):
            positions = fill.cells[:, 0]
            known = ids[positions, column] < self.n_outputs[column]
            scored = np.flatnonzero((fill.cells[:, 1] == column) & known)
            if not len(scored):
                continue
            where = positions[scored]
            truth = ids[where, column].astype(np.int64)
            right = fill.values[0, scored] == truth
            self.cells += len(scored)
            self.right += int(right.sum())
            holes = np.split(right, np.flatnonzero(np.diff(where) > 1) + 1)
            self.holes += len(holes)
            self.exact += sum(bool(hole.all()) for hole in holes)
            self.model.add(fill.marginals[scored], truth)
            if markov is None:
                continue
            self.uniform_nats += len(scored) * math.log(markov.n_ids)
            masked = np.zeros(len(ids), bool)
            masked[where] = True
            self.baseline.add(markov.marginals(ids[:, column].astype(np.int64), masked), truth)

    def summary(self) -> dict[str, Any]:
        summary: dict[str, Any] = {
            "cells": self.cells,
            "right": self.right / self.cells,
            "holes": self.holes,
            "holes filled exactly": self.exact,
            "bits per cell": self.model.shown(self.cells)["bits per cell"],
        }
        if self.uniform_nats:
            summary |= {
                f"right, order-{BASELINE_ORDER} Markov": self.baseline.right / self.cells,
                f"bits per cell, order-{BASELINE_ORDER} Markov": self.baseline.shown(self.cells)["bits per cell"],
                "bits per cell, uniform": self.uniform_nats / self.cells / math.log(2),
            }
        return summary


def baselines_of(run: TrainedModel) -> list[Markov | None]:
    """Counted on the run's corpus, where that is still in the run folder and of the tokens that are filled in."""
    if run.fills is not run.tokenizer:
        return [None] * len(run.fills.fields)
    try:
        return count_baselines(run.corpus())
    except MaskseqError:
        return [None] * len(run.tokenizer.fields)


def count_baselines(corpus: Corpus) -> list[Markov | None]:
    """A Markov chain of each field, of training sequences and their mirror images; None for large vocabularies."""
    return [
        Markov.count(_training_ids(corpus, column), n_ids=n_ids, order=BASELINE_ORDER)
        if n_ids ** (BASELINE_ORDER + 1) <= MAX_TABLE
        else None
        for column, n_ids in enumerate(corpus.tokenizer.vocabulary.n_outputs)
    ]


def _training_ids(corpus: Corpus, column: int) -> Iterator[np.ndarray]:
    for ids in corpus.training_ids():
        for view in (ids, *(symmetry.ids(ids) for symmetry in corpus.tokenizer.symmetries())):
            yield view[:, column]
