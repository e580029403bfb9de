"""What counting reaches on the rows that checkpoints are chosen by: what a validation is measured against."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from pydantic import TypeAdapter, ValidationError

from maskseq.baselines.frequencies import loss_of, nats_of
from maskseq.baselines.gating import POSITIONS, count_experts
from maskseq.corpus.budget import reaching
from maskseq.corpus.reader import Corpus
from maskseq.errors import DataError, first_problem
from maskseq.model.checkpoint import read_json
from maskseq.packing.rows import PackedRow, PackedRows
from maskseq.predict.blend import FLOOR
from maskseq.predict.protocol import Example, Predict
from maskseq.storage.outputs import write
from maskseq.storage.run_folder import RunFolder
from maskseq.storage.standard_json import to_json

CELLS = 2000
"""About how many cells of each protocol counted methods answer."""

LEAST = 0.05
"""Of the loss of frequencies, what a method needs at least: skills over nearly nothing would outweigh all others."""
Losses = dict[str, float]
"""By protocol, nats per scored cell."""
_ADAPTER = TypeAdapter(dict[str, Losses])


def best_losses(
    rows: Mapping[str, tuple[PackedRows, int]],
    counts: Sequence[Int[np.ndarray, "_"]],
    corpus: Corpus,
    experts: Mapping[str, Predict],
) -> Losses:
    """For each protocol, the loss of the best method: of training frequencies, or of one of the experts.

    `rows` are those of a validation, and how many of them. A protocol without scored cells is left out. What an expert
    saves of the loss of frequencies is found on a sample of the cells, and holds for all.
    """
    nats = nats_of(counts)
    found = {}
    for name, (each, most) in rows.items():
        drawn = [each.row(number) for number in range(most)]
        by_frequencies = loss_of(counts, drawn)
        if by_frequencies > 0:
            sample = ScoredSample.of(drawn, corpus)
            of_cells = np.array([nats[field][value] for field, value in zip(sample.fields, sample.truth, strict=True)])
            level = float(sample.weights @ of_cells)
            shares = [sample.lost(method, corpus) / level for method in experts.values()] if level > 0 else []
            found[name] = by_frequencies * max(min([1.0, *shares]), LEAST)
    return found


@dataclass(frozen=True)
class ScoredSample:
    """Scored cells of some segments of rows."""

    examples: list[Example]
    cells: list[Int[np.ndarray, "_ 2"]]
    fields: Int[np.ndarray, " cells"]
    truth: Int[np.ndarray, " cells"]
    weights: Float[np.ndarray, " cells"]

    @classmethod
    def of(cls, rows: Sequence[PackedRow], corpus: Corpus) -> "ScoredSample":
        """About `CELLS` of them, of segments in random order."""
        segments = [
            (row, row.sequence[number], number, start, stop)
            for row in rows
            for number, (start, stop) in enumerate(pairwise(row.cu_seqlens.tolist()))
            if row.sequence[number] >= 0
        ]
        examples, cells, truth, weights, n = [], [], [np.empty(0, np.int64)], [np.empty(0)], 0
        for number in np.random.default_rng(0).permutation(len(segments)).tolist():
            row, sequence, number_in_row, start, stop = segments[number]
            scored = np.argwhere(row.weights[start:stop] > 0)
            if n >= CELLS or not len(scored):
                continue
            begin = int(corpus.starts[sequence]) + int(row.start[number_in_row])
            examples.append(Example(row.inputs[start:stop], key=corpus.key(sequence), start=begin))
            cells.append(scored)
            truth.append(row.targets[start:stop][tuple(scored.T)].astype(np.int64))
            weights.append(row.weights[start:stop][tuple(scored.T)].astype(np.float64))
            n += len(scored)
        fields = np.concatenate([np.empty(0, np.int64), *(each[:, 1] for each in cells)])
        return cls(examples, cells, fields, np.concatenate(truth), np.concatenate(weights))

    def lost(self, method: Predict, corpus: Corpus) -> float:
        """Nats by a counted method, weighted as the cells are, in all."""
        answers: list[Float[np.ndarray, "_ _"]] = []
        for part in reaching(range(len(self.cells)), lambda i: len(self.examples[i].ids), POSITIONS):
            answers += method([self.examples[i] for i in part], [self.cells[i] for i in part])
        answered = np.concatenate([np.asarray(each, np.float64) for each in answers])
        n_outputs = np.array(corpus.tokenizer.vocabulary.n_outputs)[self.fields]
        probability = (1 - FLOOR) * np.exp(answered[np.arange(len(self.truth)), self.truth]) + FLOOR / n_outputs
        return float(self.weights @ -np.log(probability))


def experts_of(corpus: Corpus) -> dict[str, Predict]:
    """Those that a blend of ids is made of, counted on training data; none for numbers, whose experts wait for a file.

    Nor where several tokens share units: experts count tokens there that nothing is filled with.
    """
    of_ids = None in corpus.tokenizer.vocabulary.centres and corpus.tokenizer.by_unit() is None
    return count_experts(corpus, ("train",)) if of_ids else {}


def read_losses(run: Path) -> dict[str, Losses] | None:
    """Those that a run has on record for its held-out parts; None where it has none."""
    file = RunFolder(run).simple_losses
    if not file.exists():
        return None
    try:
        return _ADAPTER.validate_python(read_json(file))
    except ValidationError as error:
        raise DataError(
            file,
            ": ".join(first_problem(error)) + "\n\nhint: without it the run goes on, compared with frequencies",
            code="damaged-file",
        ) from None


def write_losses(run: Path, losses: Mapping[str, Losses]) -> None:
    """Keep them in the run folder: a run that goes on is to choose as it would have without the break."""
    file = RunFolder(run).simple_losses
    if not file.exists():
        write(file, to_json(losses, lossless=True, indent=1))
