"""What a recipe's run has learned, beside what a table of neighbours knows: the figures of recipes/README.md.

    python benchmarks/recipes.py RUN

Of each field, on all validation rows, every hidden cell being scored: bits and share right of the run; of a table of
the up to five visible neighbours on both sides in the same field, [MASK] being one of their values, counted on training
rows with training masks and interpolated from long contexts to short ones; and for signals the mean absolute error of
the posterior mean and of linear interpolation, both against the bin centres, in the channel's unit.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from maskseq.commands import rows_of
from maskseq.data.batches import Row, Rows
from maskseq.data.corpus import Corpus
from maskseq.model.checkpoint import load_model
from maskseq.model.encoder import Encoder
from maskseq.recipe import load_recipe
from maskseq.types import Field

TABLE_TOKENS = 6_000_000
"""Training tokens that the table is counted on, in whole epochs with fresh masks."""
VALIDATION_ROWS = 64
PRIOR = 16.0
"""What a longer context's counts are weighed against: as many events of the shorter one."""


class Neighbours:
    """Counts of ids, given the visible ids up to `reach` positions to either side."""

    def __init__(self, field: Field) -> None:
        self.n_ids, self.n_out = field.n_rows + 1, field.n_predictable  # one more: beyond the end of the piece
        self.reach = min(5, int(50 / (2 * np.log2(self.n_ids) + 0.1)))
        self.seen: list[list[np.ndarray]] = [[] for _ in range(self.reach + 1)]
        self.counts: list[tuple[np.ndarray, np.ndarray]] = []

    def contexts(self, row: Row, column: int, cells: np.ndarray) -> list[np.ndarray]:
        """Of each cell, its context of every reach, as one number."""
        ids = row.inputs[:, column].astype(np.int64)
        piece = np.repeat(np.arange(len(row.cu_seqlens) - 1), np.diff(row.cu_seqlens))
        codes = [np.zeros(len(cells), np.int64)]
        for step in range(1, self.reach + 1):
            code = codes[-1]
            for at in (cells - step, cells + step):
                inside = (at >= 0) & (at < len(ids))
                near = np.where(inside, at, cells)
                inside &= piece[near] == piece[cells]
                code = code * self.n_ids + np.where(inside, ids[near], self.n_ids - 1)
            codes.append(code)
        return codes

    def add(self, row: Row, column: int, cells: np.ndarray) -> None:
        targets = row.targets[cells, column].astype(np.int64)
        for seen, code in zip(self.seen, self.contexts(row, column, cells), strict=True):
            seen.append(code * self.n_out + targets)

    def close(self) -> None:
        self.counts = [np.unique(np.concatenate(seen), return_counts=True) for seen in self.seen]
        self.seen = []

    def predict(self, row: Row, column: int, cells: np.ndarray) -> np.ndarray:
        """Probabilities [cells, n_out]."""
        p = np.full((len(cells), self.n_out), 1 / self.n_out)
        for (keys, counts), code in zip(self.counts, self.contexts(row, column, cells), strict=True):
            wanted = code[:, None] * self.n_out + np.arange(self.n_out)
            at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
            n = np.where(keys[at] == wanted, counts[at], 0)
            p = (n + PRIOR * p) / (n.sum(axis=1, keepdims=True) + PRIOR)
        return p


def rows_until(rows: Rows, tokens: int) -> Iterator[Row]:
    number = 0
    while tokens > 0:
        row = rows.row(number)
        yield row
        number, tokens = number + 1, tokens - row.n_tokens


@torch.no_grad()
def encoder_probabilities(model: Encoder, row: Row, column: int, cells: np.ndarray) -> np.ndarray:
    hidden = model(*map(torch.from_numpy, (row.inputs.astype(np.int64), row.positions, row.cu_seqlens)), row.max_seqlen)
    return np.asarray(model.logits(hidden[torch.from_numpy(cells)], column).float().softmax(-1))


def interpolated(row: Row, values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Values at all positions, linear between the known ones of the same piece."""
    filled = np.full(len(values), values[known].mean() if known.any() else 0.0)
    for start, stop in zip(row.cu_seqlens[:-1], row.cu_seqlens[1:], strict=True):
        at = np.flatnonzero(known[start:stop])
        if len(at):
            filled[start:stop] = np.interp(np.arange(stop - start), at, values[start:stop][at])
    return filled


def main(run: Path) -> None:
    saved = json.loads((run / "recipe.json").read_text())
    corpus = Corpus.open(run / "corpus")
    recipe = load_recipe(saved.get("recipe", saved))
    training, validation = rows_of(recipe, corpus)
    assert validation is not None
    model, tokenizer = load_model(run)
    fields = tokenizer.fields
    tables = [Neighbours(field) for field in fields]
    for row in rows_until(training, min(TABLE_TOKENS, 20 * training.n_tokens)):
        for column, table in enumerate(tables):
            table.add(row, column, np.flatnonzero(row.weights[:, column] > 0))
    for table in tables:
        table.close()
    rows = [validation.row(n) for n in range(min(validation.n_rows(0), VALIDATION_ROWS))]
    signal = all(field.centres is not None for field in fields)
    print(
        f"{'field':24}{'cells':>9}{'bits':>9}{'right':>8}{'table':>9}{'right':>8}"
        + f"{'MAE':>10}{'linear':>10}" * signal
    )
    for column, (field, table) in enumerate(zip(fields, tables, strict=True)):
        sums: dict[str, float] = dict.fromkeys(("cells", "bits", "right", "table", "table right", "MAE", "linear"), 0.0)
        for row in rows:
            _measure(sums, row, column, field, encoder_probabilities, model, table, signal)
        n = max(sums.pop("cells"), 1)
        print(
            f"{field.name[:23]:24}{n:9.0f}{sums['bits'] / n:9.4f}{sums['right'] / n:8.1%}{sums['table'] / n:9.4f}"
            f"{sums['table right'] / n:8.1%}" + f"{sums['MAE'] / n:10.4g}{sums['linear'] / n:10.4g}" * signal
        )


def _measure(
    sums: dict[str, float], row: Row, column: int, field: Field, predict: Any, model: Encoder, table: Any, signal: bool
) -> None:
    cells = np.flatnonzero(row.weights[:, column] > 0)
    if not len(cells):
        return
    truth = row.targets[cells, column].astype(np.int64)
    ours, theirs = predict(model, row, column, cells)[:, : field.n_predictable], table.predict(row, column, cells)
    sums["cells"] += len(cells)
    for name, right, p in (("bits", "right", ours), ("table", "table right", theirs)):
        sums[name] -= float(np.log2(p[np.arange(len(cells)), truth]).sum())
        sums[right] += float((p.argmax(axis=1) == truth).sum())
    if signal:
        centres = np.array(field.centres)
        ids = row.inputs[:, column].astype(np.int64)
        known = (ids < len(centres)) & (row.weights[:, column] == 0)
        values = centres[np.minimum(ids, len(centres) - 1)]
        sums["MAE"] += float(np.abs(ours[:, : len(centres)] @ centres - centres[truth]).sum())
        sums["linear"] += float(np.abs(interpolated(row, values, known)[cells] - centres[truth]).sum())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
