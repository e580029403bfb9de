"""What counting reaches on the rows that checkpoints are chosen by: what a validation is measured against."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from pydantic import TypeAdapter, ValidationError

from maskseq.baselines.frequencies import loss_of
from maskseq.baselines.gating import count_experts
from maskseq.corpus.reader import Corpus
from maskseq.errors import DataError, first_problem
from maskseq.model.checkpoint import read_json
from maskseq.packing.rows import PackedRow, PackedRows
from maskseq.predict.blend import FLOOR
from maskseq.predict.protocol import Example, Predict
from maskseq.storage.outputs import write
from maskseq.storage.run_folder import RunFolder
from maskseq.storage.standard_json import to_json

CELLS = 1000
"""Of each protocol that counted methods are asked about, about."""

Losses = dict[str, float]
"""By protocol, nats per scored cell."""
_ADAPTER = TypeAdapter(dict[str, Losses])


def best_losses(
    rows: Mapping[str, tuple[PackedRows, int]],
    counts: Sequence[Int[np.ndarray, "_"]],
    corpus: Corpus,
    experts: Mapping[str, Predict],
) -> Losses:
    """Of each protocol, the loss of the best method: of training frequencies, or of one of the experts.

    `rows` are those of a validation, and how many of them. A protocol without scored cells is left out.
    """
    found = {}
    for name, (each, most) in rows.items():
        drawn = [each.row(number) for number in range(most)]
        by_frequencies = loss_of(counts, drawn)
        if by_frequencies > 0:
            found[name] = min([by_frequencies, *(loss_by(method, drawn, corpus) for method in experts.values())])
    return found


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
        raise DataError(file, ": ".join(first_problem(error)) + "\n\nhint: delete it", code="damaged-file") from None


def write_losses(run: Path, losses: Mapping[str, Losses]) -> None:
    """Keep them in the run folder: a run that goes on is to choose as it would have without the break."""
    file = RunFolder(run).simple_losses
    if not file.exists():
        write(file, to_json(losses, lossless=True, indent=1))


def loss_by(method: Predict, rows: Iterable[PackedRow], corpus: Corpus) -> float:
    """Nats per scored cell of the first segments, weighted as they are, by a counted method."""
    examples, cells, truths, weights, room = [], [], [], [], CELLS
    for row in rows:
        for number, (start, stop) in enumerate(
            zip(row.cu_seqlens[:-1].tolist(), row.cu_seqlens[1:].tolist(), strict=True)
        ):
            scored = np.argwhere(row.weights[start:stop] > 0)
            if row.sequence[number] < 0 or not len(scored) or room <= 0:
                continue
            examples.append(Example(row.inputs[start:stop], key=corpus.key(row.sequence[number])))
            cells.append(scored)
            truths.append(row.targets[start:stop][tuple(scored.T)])
            weights.append(row.weights[start:stop][tuple(scored.T)].astype(np.float64))
            room -= len(scored)
    if not examples:
        return float("inf")
    answered = np.concatenate([np.asarray(each, np.float64) for each in method(examples, cells)])
    truth, weight = np.concatenate(truths), np.concatenate(weights)
    n_outputs = np.array(corpus.tokenizer.vocabulary.n_outputs)[np.concatenate(cells)[:, 1]]
    probability = (1 - FLOOR) * np.exp(answered[np.arange(len(truth)), truth]) + FLOOR / n_outputs
    nats: Float[np.ndarray, " cells"] = -np.log(probability)
    return float(weight @ nats / weight.sum())
