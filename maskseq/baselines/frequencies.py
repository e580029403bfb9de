"""Whether fills say more than frequencies do: a model's distributions against training frequencies."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Integer

from maskseq.contract.identity import is_named
from maskseq.corpus.reader import Corpus
from maskseq.errors import DataError, MaskseqError
from maskseq.model.checkpoint import read_json
from maskseq.packing.rows import PackedRow
from maskseq.predict.protocol import Fill
from maskseq.storage.outputs import write
from maskseq.storage.run_folder import CheckpointFolder, RunFolder
from maskseq.storage.standard_json import to_json
from maskseq.tokenizer import Tokenizer

LEVEL = 0.02
"""Fills of a field are at the level of frequencies where their distributions differ from those of training by less than
this share of the field's entropy, on average. Small models of pure noise stayed below 0.004 (one that had seen 3,000
values 130 times: 0.025), models of what can be learned came to 0.08 and more."""
BLOCK = 1 << 14
"""Cells that are looked at together."""
MIDDLE = 32
"""Unknown positions on either side of a unit that is asked about."""


@dataclass(frozen=True)
class Frequencies:
    """How probable each value of each field is where nothing else is known."""

    fields: tuple[Float[np.ndarray, "_"], ...]
    """Values are domain tokens: predictions of controls are mostly grammar."""

    @classmethod
    def of(cls, counts: Sequence[Int[np.ndarray, "_"]], tokenizer: Tokenizer[Any]) -> "Frequencies":
        """Of what infill fills: tokens, or the raw units that tokens share."""
        smooth = [(each + 0.5) / (each + 0.5).sum() for each in counts]
        view = tokenizer.by_unit()
        if view is not None:
            tokenizer, smooth = view[0], _by_unit(view, smooth)
        values = [each[: field.n_tokens] for each, field in zip(smooth, tokenizer.fields, strict=True)]
        return cls(tuple(each / each.sum() for each in values))

    def gains(self, fill: Fill) -> tuple[Float[np.ndarray, " cells"], Float[np.ndarray, " cells"]]:
        """For each filled cell, in bits: what its distribution says beyond frequencies, and what there is to say.

        That is their Kullback–Leibler divergence and the entropy of the frequencies, both among the values that the
        cell may take; NaN where that is one value, or the cell was given none.
        """
        gain, entropy = np.full((2, len(fill.cells)), np.nan)
        for column, frequencies in enumerate(self.fields):
            valued = (fill.cells[:, 1] == column) & (fill.values[0] < len(frequencies))
            mine = np.flatnonzero(valued)
            for some in np.split(mine, range(BLOCK, len(mine), BLOCK)):
                answered = fill.marginals[some, : len(frequencies)].astype(np.float64)
                possible = answered > 0
                choice = possible.sum(axis=1) > 1
                known = np.where(possible, frequencies, 0)
                gain[some[choice]] = _divergence(answered[choice], known[choice])
                entropy[some[choice]] = _entropy(known[choice])
        return gain, entropy


@dataclass
class Chance:
    """What was filled, field by field, against frequencies (None: they are not known)."""

    names: Sequence[str]
    frequencies: Frequencies | None
    gained: Float[np.ndarray, " fields"] = field(init=False)
    there: Float[np.ndarray, " fields"] = field(init=False)

    def __post_init__(self) -> None:
        self.gained, self.there = np.zeros((2, len(self.names)))

    def add(self, fill: Fill) -> Float[np.ndarray, " cells"]:
        """Count the fill of a record; per cell, the bits gained over frequencies, NaN if unknown."""
        if self.frequencies is None:
            return np.full(len(fill.cells), np.nan)
        gain, entropy = self.frequencies.gains(fill)
        counted = ~np.isnan(gain)
        for total, each in ((self.gained, gain), (self.there, entropy)):
            total += np.bincount(fill.cells[counted, 1], each[counted], len(self.names))
        return gain

    def shares(self) -> dict[str, float]:
        """Per filled field, the gain over frequencies, as a share of its entropy."""
        return {
            name: float(gained / there)
            for name, gained, there in zip(self.names, self.gained, self.there, strict=True)
            if there > 0
        }

    def warning(self) -> str | None:
        """Which fields were filled at the level of frequencies."""
        poor = [f"{name} ({share:.1%})" for name, share in self.shares().items() if share < LEVEL]
        if not poor:
            return None
        return (
            f"fills of {', '.join(poor)} are at the level of frequencies: the model says hardly more about them than "
            f"how often each value occurs in training (in brackets: what it adds, as a share of the field's entropy)"
        )


def count(sequences: Iterable[Integer[np.ndarray, "_ _"]], tokenizer: Tokenizer[Any]) -> list[Int[np.ndarray, "_"]]:
    """How often each id of each field stands in sequences and their mirror images; what is unknown is left out."""
    vocabulary, symmetries = tokenizer.vocabulary, tokenizer.symmetries()
    counts = [np.zeros(n, np.int64) for n in vocabulary.n_outputs]
    for ids in sequences:
        for view in (ids, *(each.ids(ids) for each in symmetries)):
            for column, total in enumerate(counts):
                total += np.bincount(view[:, column], minlength=len(total) + 1)[: len(total)]
    return counts


def nats_of(counts: Sequence[Int[np.ndarray, "_"]]) -> list[Float[np.ndarray, "_"]]:
    """What each id of each field costs by its frequency."""
    return [-np.log((each + 0.5) / (each + 0.5).sum()) for each in counts]


def loss_of(counts: Sequence[Int[np.ndarray, "_"]], rows: Iterable[PackedRow]) -> float:
    """Nats per scored cell of the rows, weighted as they are, by these frequencies; 0 where no cell is scored."""
    nats = nats_of(counts)
    lost = weight = 0.0
    for row in rows:
        for column, values in enumerate(nats):
            (scored,) = np.nonzero(row.weights[:, column])
            weights = row.weights[scored, column].astype(np.float64)
            lost += float(weights @ values[row.targets[scored, column]])
            weight += float(weights.sum())
    return lost / weight if weight else 0.0


def training_counts(run: Path, corpus: Corpus) -> list[Int[np.ndarray, "_"]]:
    """How often each id occurs in training, as the run has it on record, or else counted now."""
    file = RunFolder(run).frequencies
    if file.exists():
        with suppress(DataError):  # damaged, or of other tokens, which the checkpoint will report
            return _read(file, corpus.tokenizer)
    return count(corpus.training_ids(), corpus.tokenizer)


def write_frequencies(run: Path, corpus: Corpus, counts: Sequence[Int[np.ndarray, "_"]]) -> None:
    """Keep in the run folder how often each id occurs in training, for the day when the corpus is gone."""
    file = RunFolder(run).frequencies
    if file.exists():
        return
    kept = {"tokenizer": corpus.tokenizer.fingerprint, "counts": [each.tolist() for each in counts]}
    write(file, to_json(kept, lossless=True, ascii=False, indent=1))


def read_frequencies(checkpoint: Path, run: Path, tokenizer: Tokenizer[Any]) -> Frequencies | None:
    """What a run's folder says, or else what its corpus does; None if neither is there. `DataError` if broken."""
    folders = list(dict.fromkeys((RunFolder(run), CheckpointFolder(checkpoint).run)))
    for path in (folder.frequencies for folder in folders):
        if path.exists():
            return Frequencies.of(_read(path, tokenizer), tokenizer)
    for folder in folders:
        try:
            corpus = Corpus.open(folder.corpus)
        except MaskseqError:
            continue
        if corpus.tokenizer.fingerprint == tokenizer.fingerprint:
            return Frequencies.of(count(corpus.training_ids(), tokenizer), tokenizer)
    return None


def _read(path: Path, tokenizer: Tokenizer[Any]) -> list[Int[np.ndarray, "_"]]:
    saved = read_json(path)
    try:
        counts = [np.array(each, np.int64) for each in saved["counts"]]
    except (KeyError, TypeError, ValueError, OverflowError):
        counts = []
    fits = [each.shape for each in counts] == [(n,) for n in tokenizer.vocabulary.n_outputs]
    if not fits or min(each.min() for each in counts) < 0 or not is_named(saved.get("tokenizer"), tokenizer):
        raise DataError(
            path,
            "does not hold how often each value of this run's fields occurs\n\nhint: delete it",
            code="damaged-file",
        )
    return counts


def _by_unit(
    view: tuple[Tokenizer[Any], Callable[[Any], Any]], tokens: Sequence[Float[np.ndarray, "_"]]
) -> list[Float[np.ndarray, "_"]]:
    """What the frequencies of tokens say of a raw unit, all of whose neighbours are unknown."""
    units, of_units = view
    width = max(map(len, tokens))
    table = np.stack([np.pad(np.log(each), (0, width - len(each)), constant_values=-np.inf) for each in tokens])
    ask = of_units(lambda sequences, cells: [table[requested[:, 1]] for requested in cells])
    vocabulary = units.vocabulary
    nothing = np.tile(np.array(vocabulary.mask_ids, vocabulary.dtype), (2 * MIDDLE + 1, 1))
    cells = np.array([[MIDDLE, column] for column in range(vocabulary.n_fields)])
    (answer,) = ask([nothing], [cells])
    return [np.exp(row[:n]) for row, n in zip(np.asarray(answer), vocabulary.n_outputs, strict=True)]


def _entropy(known: Float[np.ndarray, "cells values"]) -> Float[np.ndarray, " cells"]:
    even = (known > 0).astype(np.float64)
    return np.asarray(np.log2(even.sum(axis=1)) - _divergence(known, even))


def _divergence(
    answered: Float[np.ndarray, "cells values"], known: Float[np.ndarray, "cells values"]
) -> Float[np.ndarray, " cells"]:
    """The Kullback–Leibler divergence of one distribution from another, in bits; neither need sum to 1."""
    answered = answered / answered.sum(axis=1, keepdims=True)
    known = known / known.sum(axis=1, keepdims=True)
    there = answered > 0
    ratio = np.divide(answered, known, where=there, out=np.ones_like(answered))
    return np.asarray((answered * np.log2(ratio)).sum(axis=1))
