"""What may stand in masked cells: rules that narrow, at every step of infilling, the ids that each may still take.

The core knows masks and callables only. A rule that never changes is a `LegalCells` (a value bound, an IUPAC motif, a
fixed cell). One that depends on the other cells is a `Constraint`: any function that narrows. Two kinds are ready made
for plug-ins and users to build theirs from: an `Automaton` (reading frames, process graphs, counts, monotone columns)
and a `Total` (elapsed time, amounts).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int, Integer

from maskseq.types import LegalCells

Constraint = Callable[
    [Integer[np.ndarray, "length fields"], Integer[np.ndarray, "cells 2"], Bool[np.ndarray, "cells outputs"]],
    Bool[np.ndarray, "cells outputs"],
]
"""A partly filled sequence, its masked cells (position, field) and which ids each may take so far → which ids each may
take under this rule too. Other cells that are `[MASK]` stay unknown. A rule that looks ahead (keeps an id only if the
rest can still be filled) never runs into a dead end by itself."""


def propagate(
    constraints: Sequence[Constraint],
    ids: Integer[np.ndarray, "length fields"],
    cells: Integer[np.ndarray, "cells 2"],
    allowed: Bool[np.ndarray, "cells outputs"],
) -> Bool[np.ndarray, "cells outputs"]:
    """Narrow by every constraint, again and again until none narrows further."""
    before = -1
    while constraints and (remaining := int(np.count_nonzero(allowed))) != before:
        before = remaining
        for constraint in constraints:
            allowed = allowed & constraint(ids, cells, allowed)
        if len(constraints) == 1 and isinstance(constraints[0], Automaton):
            break  # it finds everything at once
    return allowed


def narrowed(
    legal: LegalCells | None, cells: Integer[np.ndarray, "cells 2"], allowed: Bool[np.ndarray, "cells outputs"]
) -> Bool[np.ndarray, "cells outputs"]:
    """`allowed`, narrowed where `legal` has something to say about one of these (sorted) cells."""
    if legal is None or not len(cells):
        return allowed
    width = 1 + max(cells[:, 1].max(), legal.cells[:, 1].max(initial=0))
    wanted, given = (each[:, 0].astype(np.int64) * width + each[:, 1] for each in (cells, legal.cells))
    row = np.minimum(np.searchsorted(wanted, given), len(wanted) - 1)
    found = wanted[row] == given
    allowed = allowed.copy()
    np.logical_and.at(allowed[:, : legal.allowed.shape[1]], row[found], legal.allowed[found])
    return allowed


def intersection(first: LegalCells, second: LegalCells) -> LegalCells:
    """What both leave of each cell that one of them narrows."""
    cells = np.unique(np.concatenate([first.cells, second.cells]), axis=0)
    width = max(first.allowed.shape[1], second.allowed.shape[1])
    return LegalCells(cells, narrowed(second, cells, narrowed(first, cells, np.ones((len(cells), width), bool))))


@dataclass(frozen=True)
class Grammar:
    """A tokenizer's `allowed(ids)` as a constraint, asked again after every commit."""

    legal: Callable[[Integer[np.ndarray, "length fields"]], LegalCells | None]

    def __call__(
        self,
        ids: Integer[np.ndarray, "length fields"],
        cells: Integer[np.ndarray, "cells 2"],
        allowed: Bool[np.ndarray, "cells outputs"],
    ) -> Bool[np.ndarray, "cells outputs"]:
        return narrowed(self.legal(ids), cells, allowed)


@dataclass(frozen=True, eq=False)
class Automaton:
    """Any rule about one field that a machine with finitely many states can check, reading ids from left to right.

    It starts in state 0 before position `start` and must be in an accepting state after position `stop - 1`. An id is
    kept only if some way of filling the other masked cells is accepted: exact, and without dead ends. Two automata over
    the same stretch make one by `a & b`, which is exact for both together; given separately, each is exact alone.

    Args:
        next: The state after reading an id in a state, −1 where that id is not allowed; a column for each predictable
            id.
        accepting: States that the stretch may end in.
        field: The index of the field.
        start: The first position of the stretch.
        stop: The position behind its last (default: the end of the sequence).

    Example:
        >>> one_or_two = count_between(np.array([True, False]), 1, 2)  # of id 0, among two ids
        >>> one_or_two.next.tolist(), one_or_two.accepting.tolist()
        ([[1, 0], [2, 1], [-1, 2]], [False, True, True])
    """

    next: Int[np.ndarray, "states outputs"]
    """The state after reading an id in a state, −1 where that id is not allowed. A column for each predictable id."""
    accepting: Bool[np.ndarray, " states"]
    field: int = 0
    start: int = 0
    stop: int | None = None
    """None: to the end of the sequence."""

    def on(self, start: int, stop: int | None, *, field: int | None = None) -> "Automaton":
        """The same rule about another stretch or field."""
        return replace(self, start=start, stop=stop, field=self.field if field is None else field)

    def __and__(self, other: "Automaton") -> "Automaton":
        """Both rules at once: the product of the machines, as far as it can be reached."""
        if (self.field, self.start, self.stop) != (other.field, other.start, other.stop):
            raise ValueError("only automata about the same field and stretch can be joined")
        pairs, rows, number = [(0, 0)], [], {(0, 0): 0}
        for a, b in pairs:  # grows while it is walked
            row = []
            for after in zip(self.next[a].tolist(), other.next[b].tolist(), strict=True):
                if -1 not in after and after not in number:
                    number[after] = len(pairs)
                    pairs.append(after)
                row.append(number.get(after, -1))
            rows.append(row)
        accepting = np.array([self.accepting[a] and other.accepting[b] for a, b in pairs])
        return replace(self, next=np.array(rows), accepting=accepting)

    def __call__(
        self,
        ids: Integer[np.ndarray, "length fields"],
        cells: Integer[np.ndarray, "cells 2"],
        allowed: Bool[np.ndarray, "cells outputs"],
    ) -> Bool[np.ndarray, "cells outputs"]:
        stop = len(ids) if self.stop is None else self.stop
        mine = np.flatnonzero((cells[:, 1] == self.field) & (cells[:, 0] >= self.start) & (cells[:, 0] < stop))
        n_states, n_ids = self.next.shape
        column = ids[self.start : stop, self.field]
        readable = column[:, None] == np.arange(n_ids)
        readable[column >= n_ids] = True  # unknown, and not to be filled: anything
        readable[cells[mine, 0] - self.start] = allowed[mine, :n_ids]

        kept = allowed.copy()
        kept[mine] = False
        row_of = dict(zip((cells[mine, 0] - self.start).tolist(), mine.tolist(), strict=True))
        reached = [np.zeros(1, np.int64)]  # states after i ids, going forward
        for may in readable:
            after = np.zeros(n_states + 1, bool)  # one more: −1 ends up there
            after[self.next[reached[-1]][:, may]] = True
            reached.append(np.flatnonzero(after[:-1]))
        hopeful = np.append(self.accepting, False)  # states from which the rest can be read, going backward
        for i in range(len(column) - 1, -1, -1):
            steps = hopeful[self.next[reached[i]]] & readable[i]
            if i in row_of:
                kept[row_of[i], :n_ids] = steps.any(axis=0)
            hopeful = np.zeros(n_states + 1, bool)
            hopeful[reached[i]] = steps.any(axis=1)
        return kept


def joined(constraints: Sequence[Constraint]) -> list[Constraint]:
    """The same rules, with automata about one stretch of one field made into one, which is exact for all of them."""
    automata: dict[tuple[int, int, int | None], Automaton] = {}
    others: list[Constraint] = []
    for constraint in constraints:
        if isinstance(constraint, Automaton):
            place = constraint.field, constraint.start, constraint.stop
            automata[place] = automata[place] & constraint if place in automata else constraint
        else:
            others.append(constraint)
    return [*automata.values(), *others]


def transitions(
    follows: Bool[np.ndarray, "outputs outputs"],
    *,
    first: Bool[np.ndarray, " outputs"] | None = None,
    last: Bool[np.ndarray, " outputs"] | None = None,
) -> Automaton:
    """`follows[a, b]`: id b may come right after id a (a process graph; `a ≤ b` for a column that never falls).

    `first` and `last` are the ids that the stretch may begin and end with (None: any).
    """
    n = len(follows)
    to = np.arange(1, n + 1)  # state 0 has read nothing, state i + 1 has just read id i
    starts = np.where(np.ones(n, bool) if first is None else first, to, -1)
    accepting = np.append(True, np.ones(n, bool) if last is None else last)
    return Automaton(np.vstack([starts, np.where(follows, to, -1)]), accepting)


def count_between(counts: Bool[np.ndarray, " outputs"], low: int, high: int) -> Automaton:
    """At least `low` and at most `high` of the ids read are among those that count."""
    states = np.arange(high + 1)
    more = np.where(states < high, states + 1, -1)
    return Automaton(np.where(counts[None], more[:, None], states[:, None]), states >= low)


@dataclass(frozen=True, eq=False)
class Total:
    """The values of one field over a stretch sum to between `low` and `high`: gaps that fill a known time.

    Bounds are kept by what the other masked cells can still add at least and at most. Where their values leave no gaps
    wider than `high − low` there are no dead ends; with coarser values the fill may have to start over.

    Args:
        values: What each predictable id adds; NaN for ids that may not stand here.
        low: The least sum.
        high: The greatest sum.
        field: The index of the field.
        start: The first position of the stretch.
        stop: The position behind its last (default: the end of the sequence).

    Example:
        >>> four = Total(np.array([1.0, 2.0, 3.0]), low=4, high=4)
        >>> ids, cells = np.array([[0], [3]]), np.array([[1, 0]])  # the first adds 1, the second is masked
        >>> four(ids, cells, np.ones((1, 3), bool)).tolist()
        [[False, False, True]]
    """

    values: Float[np.ndarray, " outputs"]
    """What each id adds; NaN for ids that may not stand here."""
    low: float
    high: float
    field: int = 0
    start: int = 0
    stop: int | None = None

    def __call__(
        self,
        ids: Integer[np.ndarray, "length fields"],
        cells: Integer[np.ndarray, "cells 2"],
        allowed: Bool[np.ndarray, "cells outputs"],
    ) -> Bool[np.ndarray, "cells outputs"]:
        stop = len(ids) if self.stop is None else self.stop
        mine = np.flatnonzero((cells[:, 1] == self.field) & (cells[:, 0] >= self.start) & (cells[:, 0] < stop))
        n_ids = len(self.values)
        column = ids[self.start : stop, self.field].astype(np.int64)
        known = np.setdiff1d(np.arange(len(column)), cells[mine, 0] - self.start)
        unknown = column[known] >= n_ids  # not to be filled: anything
        fixed = np.nansum(self.values[column[known[~unknown]]])
        may = allowed[mine, :n_ids] & ~np.isnan(self.values)
        kept = allowed.copy()
        kept[mine] = False
        if not may.any(axis=1).all():
            return kept
        lowest, highest = np.nanmin(self.values), np.nanmax(self.values)
        least = np.where(may, self.values, highest).min(axis=1)
        most = np.where(may, self.values, lowest).max(axis=1)
        others_least = fixed + unknown.sum() * lowest + least.sum() - least
        others_most = fixed + unknown.sum() * highest + most.sum() - most
        rounding = 1e-9 * len(column) * max(abs(lowest), abs(highest))
        values = np.nan_to_num(self.values)
        fits = (values + others_least[:, None] <= self.high + rounding) & (
            values + others_most[:, None] >= self.low - rounding
        )
        kept[mine, :n_ids] = may & fits
        return kept
