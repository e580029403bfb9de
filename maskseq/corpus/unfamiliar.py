"""What a file has otherwise than the training files: columns that are not there, values that the vocabulary lacks, and
what the tokenizer says of its records.
"""

import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Int, Integer

from maskseq.contract.fence import encode, unlike
from maskseq.formats import most_alike
from maskseq.tokenizer import Tokenizer
from maskseq.types import Encoded, Record

R = TypeVar("R", bound=Record)
SHOWN = 3
"""Ways in which records are unlike those that were trained on."""
SHARE = 0.5
"""Share of a field's known values that the vocabulary lacks, from which on it is reported."""


@dataclass
class Unfamiliar:
    """Counts over the records of a file."""

    tokenizer: Tokenizer[Any]
    known: Int[np.ndarray, " fields"] = field(init=False)
    other: Int[np.ndarray, " fields"] = field(init=False)
    """Known values, and those of them that are none of the vocabulary."""
    sources: set[str] | None = field(default_factory=set)
    """Columns that some record has; None: records do not say."""
    n_records: int = 0
    unlike: Counter[str] = field(default_factory=Counter)
    """What the tokenizer says of how many records."""

    def __post_init__(self) -> None:
        self.known, self.other = np.zeros((2, len(self.tokenizer.fields)), np.int64)
        vocabulary = self.tokenizer.vocabulary
        self._n_tokens = np.array([each.n_tokens for each in self.tokenizer.fields])
        self._other_ids = np.array([-1 if other is None else other for other in vocabulary.other_ids])

    def add(self, record: Record, ids: Integer[np.ndarray, "length fields"]) -> None:
        """Take in a record and what it was encoded as."""
        other = (ids == self._other_ids).sum(axis=0)
        self.other += other
        self.known += (ids < self._n_tokens).sum(axis=0) + other
        self.n_records += 1
        sources = record.sources()
        if reported := unlike(self.tokenizer, record):
            self.unlike[reported] += 1
        self.sources = None if self.sources is None or sources is None else self.sources | set(sources)

    def warnings(self) -> list[str]:
        """What to say of the file, a line each."""
        fields = self.tokenizer.fields
        reported = [f"{n:,} of {self.n_records:,} records: {text}" for text, n in self.unlike.most_common(SHOWN)]
        if self.n_records and self.sources is not None:
            missing = [each.source for each in fields if each.source not in self.sources]
            if missing := [*dict.fromkeys(missing)]:
                others = sorted(self.sources - {each.source for each in fields}) or sorted(self.sources)
                reported.append(
                    f"there is no column {', '.join(map(repr, missing))}, which the run has a field for: its values "
                    f"count as absent. The other columns are {most_alike(missing[0], others)}"
                )
        strange = [
            f"{each.name} ({other / known:.0%} of {known:,})"
            for each, known, other in zip(fields, self.known.tolist(), self.other.tolist(), strict=True)
            if other and other >= SHARE * known
        ]
        if strange:
            reported.append(
                f"known values that the run's vocabulary does not have: {', '.join(strange)}; is this the right file "
                f"for the run, and is it read right?"
            )
        return reported


def encoded(records: Iterable[R], tokenizer: Tokenizer[Any]) -> Iterator[tuple[R, Encoded]]:
    """Records and their ids; behind the last one come warnings of what is unfamiliar in them."""
    seen = Unfamiliar(tokenizer)
    for record in records:
        ids = encode(tokenizer, record)
        seen.add(record, ids.ids)
        yield record, ids
    for text in seen.warnings():
        warnings.warn(text, stacklevel=2)
