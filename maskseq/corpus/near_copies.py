"""Records that are nearly the same: those whose words occur, nearly all, in another record, on either strand.

A word is `WORD` letters in a row. Each record is sketched by the `SKETCH` smallest hashes of its words; where most of a
sketch occurs in another record, its words are counted there (containment; sketches after Broder 1997,
doi:10.1109/SEQUEN.1997.666900). Records are read a stretch at a time; kept are a sketch of each, and the words of some
candidates.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Int, Integer, UInt8, UInt64

from maskseq.corpus.hashing import mixed
from maskseq.tokenizer import UNKNOWN_LETTER, Tokenizer

WORD = 31
"""Letters: so long that a word is found twice in a genome only where something was copied."""
SHORTEST = 500
"""Raw units of the records that are compared: shorter ones, such as reads, lie over each other all along a genome."""
SKETCH = 64
LIKELY = 0.75
"""Share of a sketch that a candidate has. Of a record with nine tenths of its words in another one, the sketch has less
than that with odds of about 1 in 10,000."""
STRETCH = 1 << 20
"""Positions that are read at a time."""
MOST_WORDS = 1 << 22
"""Words of candidates that are kept at a time; of longer records a uniform sample is counted."""
BASE = np.uint64(0x9E3779B97F4A7C15)

Words = UInt64[np.ndarray, " words"]
ReadWords = Callable[[int], Iterator[Words]]
"""The words of a record, as hashes, in several arrays."""


def near_copies(
    tokenizer: Tokenizer[Any],
    units: Int[np.ndarray, " records"],
    read: Callable[[int], Iterable[Integer[np.ndarray, "_ _"]]],
    share: float,
) -> Int[np.ndarray, " records"] | None:
    """The same number for records that are nearly the same; None where none are, or the tokenizer does not say.

    `units` are the raw units of each record; `read` gives its ids, in stretches that overlap by `WORD` - 1 positions.
    """
    if type(tokenizer).strands is Tokenizer.strands:
        return None
    long = np.flatnonzero(units >= SHORTEST).tolist()
    leader = leaders(lambda record: words_of(tokenizer, read(record)), long, len(units), share)
    return leader if (leader != np.arange(len(units))).any() else None


def leaders(read: ReadWords, records: Sequence[int], n_records: int, share: float) -> Int[np.ndarray, " n_records"]:
    """For each record, the first one of its group: two of `records` stand in one where more than `share` of the
    different words of the one with fewer words occur in the other.
    """
    leader = np.arange(n_records)
    if len(records) < 2:
        return leader
    sketches, lengths = {}, {}
    for record in records:
        sketches[record], lengths[record] = _sketch(read(record))
    index = _Index.of(sketches)
    for record in sorted(records, key=lambda each: (-lengths[each], each)):
        found = index.counts(read(record))
        likely = [
            other
            for other, n in found.items()
            if n >= LIKELY * len(sketches[other]) and (lengths[other], -other) < (lengths[record], -record)
        ]
        for other, common in _shared(read, record, [o for o in likely if leader[o] != leader[record]], lengths):
            if common > share and leader[other] != leader[record]:
                first, last = sorted((int(leader[other]), int(leader[record])))
                leader[leader == last] = first
    return leader


def words_of(tokenizer: Tokenizer[Any], stretches: Iterable[Any]) -> Iterator[Words]:
    """The words of the ids that come in stretches, each the same number on either strand; none over unknown letters."""
    for ids in stretches:
        strands = tokenizer.strands(ids)
        if not strands or len(strands[0]) < WORD:
            continue
        first, *others = map(_hashes, strands)
        for other in others:
            first = np.minimum(first, other[::-1])
        yield first[_known(strands[0])]


def _hashes(letters: UInt8[np.ndarray, " letters"]) -> Words:
    """A number for the word that begins at each letter: a polynomial, from words of 1, 2, 4, … letters."""
    with np.errstate(over="ignore"):
        power, length = BASE, 1
        run = mixed(np.arange(256, dtype=np.uint64), (WORD,))[letters]
        total, done = run, 1
        while done < WORD:  # WORD is one less than a power of two: every one of these words is needed once
            run = run[:-length] * power + run[length:]
            power, length = power * power, 2 * length
            total = total[: len(total) - length] * power + run[done : done + len(total) - length]
            done += length
    return mixed(total, (WORD, 1))


def _known(letters: UInt8[np.ndarray, " letters"]) -> Bool[np.ndarray, " words"]:
    """Whether the word that begins at each letter has no unknown one."""
    unknown = np.cumsum(np.concatenate([[0], letters == UNKNOWN_LETTER]))
    return np.asarray(unknown[WORD:] == unknown[:-WORD])


def _sketch(words: Iterator[Words]) -> tuple[Words, int]:
    """The smallest different hashes, and the number of words."""
    smallest, n = np.empty(0, np.uint64), 0
    for some in words:
        n += len(some)
        if len(some) > SKETCH:
            some = np.unique(some)
        smallest = np.unique(np.concatenate([smallest, some[:SKETCH]]))[:SKETCH]
    return smallest, n


@dataclass(frozen=True)
class _Index:
    """The words of several records, to be looked up."""

    words: Words
    """Different ones, sorted."""
    first: Int[np.ndarray, " words_plus_1"]
    owners: Int[np.ndarray, " entries"]
    """Those of word i stand at `first[i] : first[i + 1]`."""

    @classmethod
    def of(cls, words: dict[int, Words]) -> "_Index":
        together = np.concatenate([np.empty(0, np.uint64), *words.values()])
        owners = np.repeat(np.array(list(words), np.int64), [len(each) for each in words.values()])
        order = np.argsort(together, kind="stable")
        different, first = np.unique(together[order], return_index=True)
        return cls(different, np.append(first, len(order)), owners[order])

    def counts(self, words: Iterator[Words]) -> dict[int, int]:
        """How many of the words of each record are among these."""
        found = np.zeros(len(self.words), bool)
        for some in words:
            at = np.searchsorted(self.words, some)
            at[at == len(self.words)] = 0
            found[at[self.words[at] == some]] = True
        entries = np.repeat(found, np.diff(self.first))
        owners, n = np.unique(self.owners[entries], return_counts=True)
        return dict(zip(owners.tolist(), n.tolist(), strict=True))


def _shared(
    read: ReadWords, record: int, others: Sequence[int], lengths: dict[int, int]
) -> Iterator[tuple[int, float]]:
    """The share of the words of each of the others that occur in the record."""
    batch: dict[int, Words] = {}
    for number, other in enumerate(others, 1):
        step = np.uint64(1 + lengths[other] // MOST_WORDS)
        kept = [np.empty(0, np.uint64), *(some[some % step == 0] for some in read(other))]
        batch[other] = np.unique(np.concatenate(kept))
        if sum(map(len, batch.values())) > MOST_WORDS or number == len(others):
            found = _Index.of(batch).counts(read(record))
            yield from ((each, found.get(each, 0) / max(len(words), 1)) for each, words in batch.items())
            batch = {}
