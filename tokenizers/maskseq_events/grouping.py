"""Group the rows of a table by case, in memory or out of it."""

import heapq
import marshal
import tempfile
from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from typing import IO, Any, TypeVar

Row = TypeVar("Row", bound=tuple[Any, ...])


def group_rows(rows: Iterable[tuple[str, Row]], *, max_rows: int) -> Iterator[tuple[str, list[Row]]]:
    """Each case with its rows in file order; cases in the order in which they first appear.

    No more than `max_rows` rows are held at a time: beyond that, runs of rows are spilled to temporary files, each
    sorted by case, and merged at the end. What is always held is one number for each case. A row is a tuple of str,
    int, float, None and tuples of such.
    """
    index_of: dict[str, int] = {}
    held: dict[str, list[Row]] = {}
    n_held = 0
    spilled: list[IO[bytes]] = []
    try:
        for key, row in rows:
            if key in held:
                held[key].append(row)
            else:
                held[key] = [row]
                index_of.setdefault(key, len(index_of))
            n_held += 1
            if n_held == max_rows:
                spilled.append(_spill(held, index_of))
                held, n_held = {}, 0
        if not spilled:
            yield from held.items()
            return
        last = sorted((index_of[key], key, rows) for key, rows in held.items())
        runs: list[Iterator[tuple[int, str, list[Row]]]] = [*map(_load, spilled), iter(last)]
        # heapq.merge is stable: of one case, the rows of an earlier run come first
        merged = heapq.merge(*runs, key=itemgetter(0))
        for _, parts in groupby(merged, key=itemgetter(0)):
            first, *others = parts
            yield first[1], first[2] + [row for part in others for row in part[2]]
    finally:
        for file in spilled:
            file.close()


def _spill(held: dict[str, list[Row]], index_of: dict[str, int]) -> IO[bytes]:
    """Write a run to an anonymous temporary file (which nobody else can name, so marshal is safe here)."""
    file = tempfile.TemporaryFile(prefix="maskseq-")  # noqa: SIM115 (group_rows closes it)
    for index, key in sorted((index_of[key], key) for key in held):
        marshal.dump((index, key, held[key]), file)
    file.seek(0)
    return file


def _load(file: IO[bytes]) -> Iterator[tuple[int, str, list[Row]]]:
    while True:
        try:
            yield marshal.load(file)
        except EOFError:
            return
