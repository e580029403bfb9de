"""All that is counted on training data to compare a model with."""

from collections.abc import Iterable, Sequence
from functools import cache, cached_property
from typing import Any

import numpy as np
from jaxtyping import Integer

from maskseq.baselines.crossfit import FOLDS, cross_fitted
from maskseq.baselines.mixtures import FITTED, mixtures
from maskseq.baselines.span_table import SpanTable
from maskseq.contract.own import found as own_part
from maskseq.errors import UsageError
from maskseq.model.priors.linear_prior import Covariances, offsets
from maskseq.predict.experts.copies import Repeats
from maskseq.predict.experts.counted import DEEP, SMALL, SPANS, count, is_small, seasons, thinned
from maskseq.predict.experts.left_out import OwnRecords, with_file
from maskseq.predict.experts.markov import MAX_TABLE, Markov, MarkovPredict
from maskseq.predict.experts.tables import ContextTables
from maskseq.predict.experts.training_data import TrainingData
from maskseq.predict.protocol import Example, Predict
from maskseq.tokenizer import Tokenizer
from maskseq.types import END, Encoded

FREQUENCIES = "frequencies"
MARKOV_ORDER = 2
MARKOV_ENTRIES = 16
"""Of its table for each training position, at most: chains over many bins of few samples know nothing."""
CROSS_FITTED = f"weights of the mixture are fitted on {FOLDS} blocks of training data, each counted without it"


class Baselines:
    """What is counted on training sequences: frequencies, a Markov chain, tables of contexts and spans, covariances."""

    def __init__(
        self,
        sequences: TrainingData | Iterable[Integer[np.ndarray, "_ _"]],
        tokenizer: Tokenizer[Any],
        depth: int,
        distances: tuple[int, ...] = (),
        *,
        every: bool = False,
        selection: Iterable[Encoded] | None = (),
        periods: Sequence[int] = (),
        own: Sequence[str] = (),
        file: Sequence[Example] = (),
    ) -> None:
        """Count on training sequences.

        Args:
            sequences: Training sequences, with the keys of their records or as mere ids.
            tokenizer: Theirs.
            depth: Neighbours on a side that tables and spans look at, at most.
            distances: Of the numbers that covariances look at (default: those of `depth`).
            every: All methods of `maskseq.predict.experts.counted` that suit the vocabulary, and mixtures of them.
            selection: Held-out sequences, on which the weights of a mixture are fitted. Without them it is
                cross-fitted, unless training data are so large that a part of them could be held out. None: no weights
                are fitted, because training data may be what is asked about.
            periods: Of seasons, in positions (default: one is looked for).
            own: The user's, which were looked up.
            file: What is known of the file at hand, which frequencies, tables and chains count as well; each record
                is left out where it is asked about.
        """
        self.tokenizer, self.depth, self.distances = tokenizer, depth, distances or tuple(range(1, depth + 1))
        vocabulary = tokenizer.vocabulary
        data = sequences if isinstance(sequences, TrainingData) else TrainingData.of(sequences)
        self.sequences = list(data.sequences)
        positions = data.n_positions
        if not positions:
            raise UsageError("there are no training sequences to count baselines on", code="too-little-data")
        self.views = data.views(tokenizer)
        """Of the training sequences alone."""
        self.tables = f"{depth} + {depth} neighbours"
        seen = with_file(data, file, tokenizer) if file else data
        views, records = seen.views(tokenizer), OwnRecords(seen, tokenizer)
        self.predicts: dict[str, Predict] = {
            FREQUENCIES: ContextTables(views, vocabulary=vocabulary, depth=0, records=records),
            self.tables: ContextTables(views, vocabulary=vocabulary, depth=depth, records=records),
        }
        if max(vocabulary.n_outputs) ** (MARKOV_ORDER + 1) <= min(MAX_TABLE, MARKOV_ENTRIES * positions):
            chains = [
                Markov.count((ids[:, field] for ids in views), n_ids=n_ids, order=MARKOV_ORDER)
                for field, n_ids in enumerate(vocabulary.n_outputs)
            ]
            self.predicts[f"order-{MARKOV_ORDER} Markov chain"] = MarkovPredict(chains, views, records)
        self.fillers = [self.tables]
        """Methods that also fill whole gaps, cell by cell."""
        self.notes: list[str] = []
        """What was left out to save memory."""
        self.mixtures: tuple[str, ...] = ()
        """Methods that are mixtures of the others."""
        if every:
            self.notes += [note for note in (thinned(data, tokenizer),) if note]
            periods = periods or seasons(self.sequences, tokenizer)
            small = is_small(positions, tokenizer)
            added = count(seen, tokenizer, periods=periods, small=small)
            self.fillers += [name for name in (DEEP, SPANS) if name in added]
            mixed = mixtures(added, tokenizer, list(selection or ()))
            if FITTED not in mixed and selection is not None and positions <= SMALL:
                fitted = cross_fitted(added, self.sequences, tokenizer, periods=periods)
                mixed |= {} if fitted is None else {FITTED: fitted}
                self.notes += [CROSS_FITTED] if fitted is not None else []
            self.mixtures = tuple(mixed)
            self.predicts |= added | mixed

        self.predicts |= {name: own_part("baseline", name)(data, tokenizer) for name in own}

    def spreads(self) -> dict[int, float]:
        """For each ordinal field, the standard deviation of training values, in its unit."""
        found = {}
        for field, centres in enumerate(self.tokenizer.vocabulary.centres):
            if centres is not None:
                ids = np.concatenate([each[:, field] for each in self.sequences])
                spread = float(np.asarray(centres)[ids[ids < len(centres)]].std()) if (ids < len(centres)).any() else 0
                found[field] = spread or 1.0
        return found

    @cached_property
    def covariances(self) -> Covariances:
        """Of the numbers around a position."""
        return Covariances.count(self.sequences, self.tokenizer.vocabulary, offsets(self.distances))

    @cached_property
    def repeats(self) -> Repeats | None:
        """Which cells stand in an exact repeat of training; None but for genomes: one field with a mirror image."""
        vocabulary = self.tokenizer.vocabulary
        if vocabulary.n_fields > 1 or None not in vocabulary.centres or not self.tokenizer.symmetries():
            return None
        return Repeats(self.views, n_ids=vocabulary.n_outputs[0])

    @cache  # noqa: B019 (as long-lived as the evaluation)
    def span_table(self, field: int, length: int) -> SpanTable:
        """The most frequent spans of a field."""
        requested = self.tokenizer.fields[field]
        end = requested.control_id(END) if END in requested.controls else None
        fillable = self.tokenizer.vocabulary.committable[field]
        return SpanTable((ids[:, field] for ids in self.views), length, self.depth, end, fillable)
