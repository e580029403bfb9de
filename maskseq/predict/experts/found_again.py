"""Training sequences under another name: long records that hold what one of them holds, whatever they are called.

*Why* only long ones: short cases of a log are alike because they are frequent, which is what is counted; a thousand
positions without any difference are the same record. One that differs anywhere, such as a strain's genome, is another.
Stretches are compared where hashes of 64 positions agree (Karp & Rabin 1987, doi:10.1147/rd.312.0249).
"""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Integer, UInt64

from maskseq.predict.experts.training_data import TrainingData
from maskseq.predict.protocol import Example
from maskseq.types import Vocabulary

LONG = 1024
"""Known positions that agree, at least."""
ANCHOR = 64
"""Positions that are hashed together."""
ANCHORS = 32
"""Of each training sequence, evenly spaced."""
TRIED = 64
"""Places of a record at which it is compared with a training sequence, at most."""
CHUNK = 1 << 20
BASE = 0x9E3779B97F4A7C15
"""Odd, so that powers have inverses modulo 2^64."""


def found_again(
    file: Sequence[Example], data: TrainingData, vocabulary: Vocabulary
) -> dict[str, list[tuple[int, int]]]:
    """By the key of a record, the training sequences that it holds a long part of, and where each begins in it."""
    hashes, anchors = _anchors(data, vocabulary)
    found = {}
    for example in file if len(hashes) else ():
        rows, known = _rows(example.ids, vocabulary)
        tried: dict[tuple[int, int], None] = {}
        for place, which in _meetings(rows, hashes):
            index, position = anchors[which]
            tried[index, place - position] = None
            if len(tried) == TRIED:
                break
        same = [each for each in tried if _agrees(rows, known, data.sequences[each[0]], each[1], vocabulary)]
        if same and example.key:
            found[example.key] = [(index, begin + example.start) for index, begin in same]
    return found


def _anchors(
    data: TrainingData, vocabulary: Vocabulary
) -> tuple[UInt64[np.ndarray, " anchors"], list[tuple[int, int]]]:
    """Hashes in order, and of each the sequence and the position that it is of."""
    hashes, places = [np.empty(0, np.uint64)], []
    for index, ids in enumerate(data.sequences):
        if len(ids) < LONG:
            continue
        rows, known = _rows(ids, vocabulary)
        for position in np.linspace(0, len(ids) - ANCHOR, ANCHORS).astype(int).tolist():
            part = slice(position, position + ANCHOR)
            if known[part].all():
                hashes.append(_hashes(rows[part]))
                places.append((index, position))
    every = np.concatenate(hashes)
    order = np.argsort(every, kind="stable")
    return every[order], [places[each] for each in order.tolist()]


def _rows(
    ids: Integer[np.ndarray, "length fields"], vocabulary: Vocabulary
) -> tuple[UInt64[np.ndarray, " length"], np.ndarray]:
    """A number for what stands at each position, and whether all of it is known."""
    weights = np.array([pow(BASE, field + 1, 1 << 64) for field in range(ids.shape[1])], np.uint64)
    return (ids.astype(np.uint64) + np.uint64(1)) @ weights, np.asarray(vocabulary.known(ids).all(axis=1))


def _hashes(rows: UInt64[np.ndarray, " length"]) -> UInt64[np.ndarray, " starts"]:
    """Of `ANCHOR` positions from each one on."""
    n = len(rows) - ANCHOR + 1
    if n < 1:
        return np.empty(0, np.uint64)
    powers = np.cumprod(np.full(len(rows), BASE, np.uint64))
    back = np.cumprod(np.full(n, pow(BASE, -1, 1 << 64), np.uint64))
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(rows * powers)])
    return np.asarray((sums[ANCHOR:] - sums[:-ANCHOR]) * back)


def _meetings(rows: UInt64[np.ndarray, " length"], hashes: UInt64[np.ndarray, " anchors"]) -> Iterator[tuple[int, int]]:
    """Where an anchor stands in a record, and which one."""
    for first in range(0, len(rows), CHUNK):
        mine = _hashes(rows[first : first + CHUNK + ANCHOR - 1])
        at = np.minimum(np.searchsorted(hashes, mine), len(hashes) - 1)
        (places,) = np.nonzero(hashes[at] == mine)
        yield from zip((first + places).tolist(), at[places].tolist(), strict=True)


def _agrees(
    rows: UInt64[np.ndarray, " length"],
    known: np.ndarray,
    ids: Integer[np.ndarray, "_ _"],
    begin: int,
    vocabulary: Vocabulary,
) -> bool:
    """Whether a record and a training sequence that begins there hold the same wherever both are known."""
    first, stop = max(begin, 0), min(begin + len(ids), len(rows))
    if stop - first < LONG:
        return False
    theirs, known_there = _rows(ids[first - begin : stop - begin], vocabulary)
    both = known[first:stop] & known_there
    return bool(np.count_nonzero(both) >= LONG and (rows[first:stop] == theirs)[both].all())
