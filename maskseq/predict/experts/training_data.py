"""What experts are counted on: training sequences, and which record each of them is."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
from jaxtyping import Float, Integer

from maskseq.corpus.reader import COUNTED, Corpus, Split
from maskseq.tokenizer import Tokenizer

Ids = Integer[np.ndarray, "_ _"]


@dataclass(frozen=True)
class TrainingData:
    """Training sequences, which lie in records."""

    keys: Sequence[str]
    """Of their records; an empty one is nobody's."""
    sequences: Sequence[Ids]
    """Ids, `[MASK]` where a cell is unknown."""
    numbers: Sequence[Float[np.ndarray, "_ _"]] | None = None
    """Values of ordinal fields as they were read, in their units; NaN where unknown or not ordinal."""
    starts: Sequence[int] = ()
    """Where each sequence begins in its record, in positions (none: all at 0)."""
    again: Mapping[str, Sequence[tuple[int, int]]] = field(default_factory=dict)
    """By the key of a record of the file at hand, sequences that it holds under another name, and where each begins."""

    @classmethod
    def of(cls, sequences: Iterable[Ids]) -> "TrainingData":
        """Sequences of records whose names nobody knows."""
        found = list(sequences)
        return cls([""] * len(found), found)

    @property
    def n_positions(self) -> int:
        return sum(map(len, self.sequences))

    def views(self, tokenizer: Tokenizer[Any]) -> list[Ids]:
        """Each sequence, followed by its images."""
        return views_of(self.sequences, tokenizer)


def training_data(corpus: Corpus, parts: Sequence[Split] = ("train",), *, most: int = COUNTED) -> TrainingData:
    """The first sequences of some parts of a corpus, about `most` positions in all.

    Where all fields are ordinal, with the numbers that they were rounded from, if the corpus has them.
    """
    ordinal = None not in corpus.tokenizer.vocabulary.centres
    keys, sequences, numbers, starts, room = [], [], [], [], most
    for index, encoded in chain.from_iterable(corpus.each(part, numbers=ordinal) for part in parts):
        keys.append(corpus.key(index))
        sequences.append(encoded.ids)
        starts.append(int(corpus.starts[index]))
        numbers += [] if encoded.numbers is None else [encoded.numbers]
        room -= len(encoded)
        if room <= 0:
            break
    return TrainingData(keys, sequences, numbers if len(numbers) == len(keys) else None, starts)


def views_of(sequences: Sequence[Ids], tokenizer: Tokenizer[Any]) -> list[Ids]:
    """Each sequence, followed by its images."""
    symmetries = tokenizer.symmetries()
    return list(chain.from_iterable((ids, *(each.ids(ids) for each in symmetries)) for ids in sequences))
