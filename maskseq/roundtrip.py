"""A file in, the same file out with its holes filled, beside a table of what was filled and how surely."""

import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from maskseq.data.corpus import Corpus
from maskseq.errors import MaskseqError, UsageError
from maskseq.inference.baselines import MAX_TABLE, Markov
from maskseq.inference.infill import InfillConfig
from maskseq.inference.table import Row, rows, table_writer
from maskseq.plugins import format_for
from maskseq.ranges import Range
from maskseq.report import write_report
from maskseq.run import FilledRecord, Run

BASELINE_ORDER = 2
BASELINE_POSITIONS = 1 << 25
SHOWN_ROWS = 5000
"""Rows that the report may show; the table has them all."""


def infill_file(
    run: Run,
    file: Path,
    *,
    output: Path,
    ranges: dict[str, list[Range]],
    rules: Sequence[str] = (),
    format: str | None = None,
    config: InfillConfig,
    fill_long_holes: bool = False,
    symmetries: bool = True,
    on_progress: Callable[[int, int | None], None] = lambda done, of: None,
    on_warning: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Fill the unknown cells of a file and those in `ranges`; write it with `fills.csv` and `report.html` to `output`.

    The folder appears when all is done. Returns the summary that the report begins with; where known values were
    hidden, it scores the fills against them. Raises `UsageError` when `output` exists or a range names no record.
    """
    if output.exists():
        raise UsageError(f"{output} exists already\n\nhint: choose another folder with --output")
    reader = format_for(file, format)
    score = Score(_baselines(run) if ranges else ())
    shown: list[Row] = []
    left: list[str] = []
    found: set[str] = set()
    n_records = n_filled = 0
    aside = output.with_name(output.name + ".tmp")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        with table_writer(aside / "fills.csv") as write_rows:

            def filled_records() -> Iterator[Any]:
                nonlocal n_records, n_filled
                for each in run.infill(
                    reader.read(file), ranges=ranges, rules=rules, config=config, symmetries=symmetries,
                    fill_long_holes=fill_long_holes,
                ):  # fmt: skip
                    table = list(rows(each.filled, each.before.ids, run.tokenizer))
                    write_rows(table)
                    shown.extend(table[: SHOWN_ROWS - len(shown)])
                    left.extend(f"{each.filled.key}:{start + 1}-{stop}" for start, stop in each.filled.left)
                    score.add(each)
                    found.add(each.filled.key)
                    n_records += 1
                    n_filled += len(each.filled.fill.cells)
                    on_progress(n_filled, None)
                    yield each.record

            reader.write(filled_records(), aside / file.name)
        _check_found(ranges, found, n_records)
        summary: dict[str, Any] = {
            "filled": {"file": str(output / file.name), "records": n_records, "cells": n_filled},
            "order": config.order,
        }
        if left:
            on_warning(
                f"{len(left)} holes longer than half the context were left: {', '.join(left[:3])}; see the report"
            )
            summary["left"] = left
        if score.cells:
            summary["against what was hidden"] = score.summary()
        write_report(aside / "report.html", summary, shown)
        aside.replace(output)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return summary


def _check_found(ranges: dict[str, list[Range]], found: set[str], n_records: int) -> None:
    missing = sorted(set(ranges) - found - {""})
    if missing:
        raise UsageError(f"no record is called {missing[0]!r}; the file has {', '.join(sorted(found)[:3])}")
    if "" in ranges and n_records != 1:
        raise UsageError(f"the file has {n_records} records\n\nhint: say which one, as in KEY:START-END")


@dataclass
class Tally:
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
class Score:
    """Fills against what was known and hidden on purpose, beside what simple tables would have said."""

    baselines: Sequence[Markov | None]
    """Of each field."""
    cells: int = 0
    right: int = 0
    holes: int = 0
    exact: int = 0
    uniform_nats: float = 0.0
    model: Tally = field(default_factory=Tally)
    baseline: Tally = field(default_factory=Tally)

    def add(self, each: FilledRecord) -> None:
        """Score one record. The model's bits are those of each cell given the known ones alone, as the baseline's."""
        fill, ids = each.filled.fill, each.before.ids
        for column, markov in enumerate(self.baselines):
            positions = fill.cells[:, 0]
            scored = np.flatnonzero((fill.cells[:, 1] == column) & (ids[positions, column] < fill.marginals.shape[1]))
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
            self.uniform_nats += len(scored) * math.log(markov.transition.shape[-1])
            hidden = np.zeros(len(ids), bool)
            hidden[where] = True
            self.baseline.add(markov.marginals(ids[:, column].astype(np.int64), hidden), truth)

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


def _baselines(run: Run) -> list[Markov | None]:
    """Counted on the run's corpus, where that is still in the run folder."""
    try:
        return count_baselines(Corpus.open(run.path / "corpus", trust_code=True))
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
    seen = 0
    for sequence in corpus.sequences("train").tolist():
        ids = corpus.read(sequence).ids
        for view in (ids, *(symmetry.ids(ids) for symmetry in corpus.tokenizer.symmetries())):
            yield view[:, column]
        seen += len(ids)
        if seen >= BASELINE_POSITIONS:
            return
