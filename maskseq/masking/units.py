"""The raw units that the cells of a segment depend on, and what follows from hiding some of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Integer

from maskseq.tokenizer import Tokenizer
from maskseq.types import Encoded, Field

BLOCK = 1 << 16
"""Positions of a long record that are looked at together."""


@dataclass(frozen=True)
class RawUnits:
    """The raw units that the cells of a segment depend on: those of all sources on one line, a point apart."""

    start: Integer[np.ndarray, "length fields"]
    stop: Integer[np.ndarray, "length fields"]
    source: Integer[np.ndarray, "line"]
    """The source of each point of the line, numbered in order of appearance."""
    plain: bool
    """Each cell is a unit of its own, in order: the line is the cells, column by column. Only a short cut."""
    given: Bool[np.ndarray, "fields"]
    """Fields whose cells no mask hides."""

    @classmethod
    def of(cls, units: Integer[np.ndarray, "length fields 2"], fields: Sequence[Field]) -> "RawUnits":
        length, n_fields, _ = units.shape
        given = np.array([each.given for each in fields], dtype=bool)
        columns: dict[str, list[int]] = {}
        for column, each in enumerate(fields):
            columns.setdefault(each.source, []).append(column)
        one_each = np.arange(length)[:, None, None] + np.arange(2)
        if not length or (len(columns) == n_fields and (units - units[:1, :, :1] == one_each).all()):
            start = one_each[..., 0] + np.arange(n_fields) * (length + 1)
            return cls(start, start + 1, np.repeat(np.arange(n_fields), length + 1), True, given)
        start, stop = units[..., 0], units[..., 1]
        low, high = start.min(axis=0).tolist(), stop.max(axis=0).tolist()
        shift = np.zeros(n_fields, dtype=np.int64)
        sizes: list[int] = []
        for members in columns.values():
            begin, end = min(low[c] for c in members), max(high[c] for c in members)
            shift[members] = sum(sizes) - begin
            sizes.append(end - begin + 1)  # the one more keeps runs of one source from touching the next
        return cls(start + shift, stop + shift, np.repeat(np.arange(len(sizes)), sizes), False, given)

    def units(self, cells: Bool[np.ndarray, "length fields"]) -> Bool[np.ndarray, "line"]:
        """The units that at least one of the cells depends on."""
        if self.plain:
            line = np.zeros((cells.shape[1], len(cells) + 1), dtype=bool)
            line[:, :-1] = cells.T
            return line.ravel()
        n = len(self.source)
        opened = np.bincount(self.start[cells], minlength=n) - np.bincount(self.stop[cells], minlength=n)
        return np.cumsum(opened) > 0

    def cells(self, units: Bool[np.ndarray, "line"]) -> Bool[np.ndarray, "length fields"]:
        """The cells that depend on at least one of the units, but for those that are given."""
        if self.plain:
            length, n_fields = self.start.shape
            cells = np.ascontiguousarray(units.reshape(n_fields, length + 1)[:, :-1].T)
        else:
            before = _count_before(units)
            cells = np.asarray(before[self.stop] > before[self.start])
        cells[:, self.given] = False
        return cells

    def widened(self, cells: Bool[np.ndarray, "length fields"]) -> Bool[np.ndarray, "length fields"]:
        """These cells, and all that depend on units which they depend on: masked together, none gives another away."""
        return self.cells(self.units(cells))

    @cached_property
    def owner(self) -> Integer[np.ndarray, "line"]:
        """The position that each unit belongs to: that of the narrowest cell which depends on it, the first of those.

        A timestamp belongs to its own event, whose time of day depends on nothing else, and not to the next event,
        whose gap depends on it too. (Points that no cell depends on have an arbitrary owner.)
        """
        if self.plain:
            length, n_fields = self.start.shape
            return np.tile(np.arange(length + 1), n_fields)
        width = self.stop - self.start
        rank = width * len(width) + np.arange(len(width))[:, None]
        flat = width.ravel()
        within = np.arange(flat.sum()) - np.repeat(np.cumsum(flat) - flat, flat)
        best = np.full(len(self.source), np.iinfo(np.int64).max)
        np.minimum.at(best, np.repeat(self.start.ravel(), flat) + within, np.repeat(rank.ravel(), flat))
        return np.asarray(best % len(width))

    @cached_property
    def latest(self) -> Integer[np.ndarray, "length fields"]:
        """The last position that one of the units of each cell belongs to; −1 for cells without units.

        Its own, where something of the cell is new; one before, where all of it is known already; a later one, where
        the cell depends on what follows.
        """
        length, n_fields = self.start.shape
        if self.plain or not length:
            return np.repeat(np.arange(length)[:, None], n_fields, axis=1)
        width = (self.stop - self.start).ravel()
        begin = np.cumsum(width) - width
        line = np.repeat(self.start.ravel(), width) + np.arange(width.sum()) - np.repeat(begin, width)
        found = np.full(len(width), -1)
        found[width > 0] = np.maximum.reduceat(self.owner[line], begin[width > 0])
        return found.reshape(length, n_fields)

    def tied(
        self, cells: Bool[np.ndarray, "length fields"], units: Bool[np.ndarray, "line"], *, runs: bool
    ) -> Integer[np.ndarray, "cells"]:
        """Number the cells, those that depend on the same `units` alike (directly or through others).

        Each cell must depend on one. `runs`: neighbouring units tie cells, too.
        """
        if self.plain and not runs:
            return np.arange(np.count_nonzero(cells))
        before = _count_before(units)
        first, last = before[self.start[cells]], before[self.stop[cells]] - 1
        n = int(before[-1])
        opened = np.bincount(first, minlength=n) - np.bincount(last, minlength=n)
        links = np.cumsum(opened)[:-1] > 0  # from unit j to unit j + 1, of the n given
        if runs:
            links |= np.diff(np.flatnonzero(units)) == 1
        return np.asarray(np.concatenate([[0], np.cumsum(~links)])[first])


def raw_units(tokenizer: Tokenizer[Any], encoded: Encoded) -> RawUnits:
    """The raw units of a segment, for planning what is masked together."""
    return RawUnits.of(tokenizer.units_of(encoded), tokenizer.fields)


def unit_blocks(
    tokenizer: Tokenizer[Any], encoded: Encoded
) -> Iterator[tuple[int, Integer[np.ndarray, "block fields 2"]]]:
    """`Tokenizer.units_of` a record of any length, a block at a time: its first position, and its ranges of units."""
    if encoded.units is not None:
        yield 0, encoded.units
        return
    ids = encoded.ids
    end = 0  # of the position before the block, which every block but the first reads again
    for start in range(0, len(ids), BLOCK):
        begin = max(start - 1, 0)
        block = tokenizer.units(ids[begin : start + BLOCK])
        own = position_units(block)
        origin = end - int(own[0, 1]) if start else 0
        end = origin + int(own[-1, 1])
        yield start, origin + block[start - begin :]


def position_units(units: Integer[np.ndarray, "length fields 2"]) -> Integer[np.ndarray, "length 2"]:
    """The raw units that each position stands for: those of its cell that begins last.

    Other cells of a position may depend on what was before, or on what holds for the whole record.
    """
    last = units[..., 0].argmax(axis=1)
    return np.asarray(units[np.arange(len(units)), last])


def distinct(numbers: Integer[np.ndarray, "n"]) -> Integer[np.ndarray, "distinct"]:
    """The distinct values, in order, of small numbers ≥ 0; faster than `np.unique`."""
    present = np.zeros(int(numbers.max()) + 1, dtype=bool)
    present[numbers] = True
    return np.flatnonzero(present)


def _count_before(units: Bool[np.ndarray, "line"]) -> Integer[np.ndarray, "line_plus_1"]:
    """How many of the units lie before each point of the line."""
    return np.concatenate([[0], np.cumsum(units)])
