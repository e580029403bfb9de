"""Named protocols that mask cells of held-out sequences, the same ones for all methods.

A protocol decides what is masked from a sequence's key and the seed alone. Cells that would give a masked one away are
masked with it (in a log, the next event's gap goes with an event's time), and are scored as well.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Integer

from maskseq.errors import UsageError
from maskseq.infill.window_plan import key_number
from maskseq.masking.config import OBJECTIVES, MaskingConfig
from maskseq.masking.plan import mask_segment
from maskseq.masking.units import RawUnits, raw_units
from maskseq.tokenizer import Tokenizer
from maskseq.types import END, Encoded

REGION = 10_000
"""Positions of a long sequence that the bootstrap draws together, at most."""
REMAINING = "remaining"
"""The protocol of the time until the end of a case, which masks no cells of a sequence."""
STRETCHES = 20
"""Fewer records than this are divided into about so many stretches, none shorter than a window."""
EVERY = 64
"""`isolated` hides one position in so many."""


@dataclass(frozen=True)
class MaskedExample:
    """A sequence, or a window of one, and the cells of it that are scored."""

    region: str
    """What belongs together when the bootstrap draws: a short record, or a stretch of a long one."""
    truth: Integer[np.ndarray, "length fields"]
    masked: Bool[np.ndarray, "length fields"]
    """What no method sees."""
    cells: Int[np.ndarray, "cells 2"]
    """(position, field) of those masked cells whose value is known, sorted: what is scored."""
    span: int
    """Positions of the gap; 1 where single positions or cells are masked."""
    objective: str
    """How cells were chosen: the protocol, or the training objective."""
    ratio: float
    """Share of the cells that is masked."""
    numbers: Float[np.ndarray, "length fields"] | None = None
    """What ordinal cells were rounded from; None: only the centres of bins are known."""
    key: str = ""
    """The record's, and"""
    start: int = 0
    """where the window begins in it: experts leave out what they have counted of it."""
    tied: Bool[np.ndarray, "length fields"] | None = None
    """Cells of positions of the same time as the one before, whose order says nothing, but for the time that passes;
    None: times are not known.
    """


@dataclass(frozen=True)
class Protocol:
    """How examples are made of held-out sequences. `Protocol.parse` reads its name."""

    name: str
    hide: Callable[["SourceWindow"], Iterator["MaskedCells"]]

    @staticmethod
    def is_open(text: str) -> bool:
        """Whether sequences of this protocol are open: what follows is not there, the mark of the end included."""
        return text.partition("-")[0] in ("next", "suffix", REMAINING)

    @classmethod
    def parse(cls, text: str, masking: MaskingConfig) -> "Protocol":
        """The protocol of this name; `UsageError` if there is none.

        masked: as in training, under `masking`. isolated: one position in 64, the others known. event: one position at
        a time, all its fields. gap-K: K positions on end, all their fields, at one place of each sequence. gaps-K: the
        same at every place, one at a time; events and gaps are never the mark of the end, nor context. block-K: K steps
        of each field, at a place of its own, at least 24 from either end where there is room. field-K: K steps of one
        field at a time, the other fields known. point-P: P per cent of the cells. next: every position, given those
        before it and nothing of what follows, the mark of the end among them. suffix-K: K positions on end alike.
        forecast-K: the last K positions of each window.
        """
        name, _, number = text.partition("-")
        whole: dict[str, Callable[[SourceWindow], Iterator[MaskedCells]]] = {
            "masked": lambda w: _masked(w, masking),
            "isolated": _isolated,
            "event": lambda w: _gaps(w, 1),
            "next": lambda w: _suffixes(w, 1),
        }
        if text in whole:
            return cls(text, whole[text])
        sized = ("gap", "gaps", "block", "field", "point", "suffix", "forecast")
        if name in sized and re.fullmatch(r"[1-9]\d*", number):
            n = int(number)
            makers: dict[str, Callable[[SourceWindow], Iterator[MaskedCells]]] = {
                "gap": lambda w: _gap(w, n),
                "gaps": lambda w: _gaps(w, n),
                "block": lambda w: _blocks(w, n),
                "field": lambda w: _each_field(w, n),
                "point": lambda w: _points(w, n / 100),
                "suffix": lambda w: _suffixes(w, n),
                "forecast": lambda w: _forecast(w, n),
            }
            return cls(text, makers[name])
        raise UsageError(
            f"unknown protocol {text!r}; there are masked, isolated, event, next, gap-K, gaps-K, block-K, field-K, "
            f"suffix-K, forecast-K, point-P and {REMAINING}, such as gap-5 (5 positions) or point-50 (50 % of cells)",
            code="unknown-name",
        )

    def examples(
        self,
        records: Sequence[tuple[str, Encoded]],
        tokenizer: Tokenizer[Any],
        *,
        context: int,
        stride: int | None = None,
        fields: Sequence[str] = (),
        seed: int = 0,
    ) -> Iterator[MaskedExample]:
        """Masked examples of each sequence, in windows of at most `context` positions side by side.

        Or in windows of exactly so many, one every `stride` positions. Only cells of `fields` (none: of all) are
        scored; the others stay masked with them.
        """
        wanted = np.array([not fields or field.name in fields for field in tokenizer.fields])
        total = sum(len(encoded) for _, encoded in records)
        stretch = REGION if len(records) >= STRETCHES else min(max(total // STRETCHES, context), REGION)
        for key, encoded in records:
            stop = len(encoded) if stride is None else len(encoded) - context + 1
            for start in range(0, stop, stride or context):
                segment = encoded.cut(start, start + context)
                rng = np.random.default_rng((seed, key_number(key), start))
                window = SourceWindow(segment, tokenizer, raw_units(tokenizer, segment), rng)
                region = key if len(encoded) <= stretch else f"{key}:{start // stretch}"
                for masked in self.hide(window):
                    stop = len(masked.cells)  # an open prefix is shorter than the window that it is of
                    requested = masked.cells & window.scorable[:stop] & wanted
                    if requested.any():
                        cells = np.argwhere(requested)
                        share = len(cells) / np.count_nonzero(window.scorable[:stop])
                        objective = masked.objective or self.name
                        ids, numbers = segment.ids[:stop], None if segment.numbers is None else segment.numbers[:stop]
                        tied = tied_positions(ids, tokenizer)
                        yield MaskedExample(
                            region, ids, masked.cells, cells, masked.span, objective, share, numbers, key, start, tied
                        )


def tied_positions(
    ids: Integer[np.ndarray, "length fields"], tokenizer: Tokenizer[Any]
) -> Bool[np.ndarray, "length fields"] | None:
    """Cells of positions of the same time as the one before: no time has elapsed (`Tokenizer.elapsed`)."""
    if tokenizer.elapsed is None:
        return None
    column = tokenizer.vocabulary.names.index(tokenizer.elapsed)
    centres = tokenizer.fields[column].centres
    assert centres is not None
    zero = np.flatnonzero(np.array(centres) == 0)
    tied = np.repeat(np.isin(ids[:, column], zero)[:, None], ids.shape[1], axis=1)
    tied[:1] = False
    tied[:, column] = False
    return tied


@dataclass(frozen=True)
class SourceWindow:
    """What a protocol hides cells of."""

    segment: Encoded
    tokenizer: Tokenizer[Any]
    units: RawUnits
    rng: np.random.Generator

    @cached_property
    def scorable(self) -> Bool[np.ndarray, "length fields"]:
        return self.segment.scorable(self.tokenizer.vocabulary.askable(self.segment.ids))

    @property
    def events(self) -> int:
        """Positions without the mark of the end, which nobody has to guess."""
        ends = [
            END in field.controls and last == field.control_id(END)
            for field, last in zip(self.tokenizer.fields, self.segment.ids[-1].tolist(), strict=True)
        ]
        return len(self.segment) - any(ends)

    def places(self, n: int, stop: int) -> Int[np.ndarray, " places"]:
        """Where `n` positions on end may be masked, all before `stop`: not among those that are context only."""
        weights = self.segment.weights
        requested = np.ones(len(self.segment), bool) if weights is None else (weights > 0).any(axis=1)
        skipped = np.concatenate([[0], np.cumsum(~requested)])
        first = np.arange(max(stop - n + 1, 0))
        return np.asarray(first[skipped[first + n] == skipped[first]])

    def with_all_that_tells(self, cells: Bool[np.ndarray, "length fields"]) -> Bool[np.ndarray, "length fields"]:
        """These cells, and those that depend on the same raw units."""
        return self.units.widened(cells)

    def positions(self, masked: Bool[np.ndarray, "length"]) -> Bool[np.ndarray, "length fields"]:
        """All cells of these positions, and those that depend on what belongs to them."""
        return self.units.cells(masked[np.minimum(self.units.owner, len(masked) - 1)] & self._any)

    @cached_property
    def _any(self) -> Bool[np.ndarray, "line"]:
        return self.units.units(np.ones(self.segment.ids.shape, bool))


@dataclass(frozen=True)
class MaskedCells:
    """One example's worth of masked cells."""

    cells: Bool[np.ndarray, "length fields"]
    """Of the window, or of as much of its beginning as is shown."""
    span: int = 1
    objective: str = ""


def _masked(window: SourceWindow, masking: MaskingConfig) -> Iterator[MaskedCells]:
    segment, tokenizer = window.segment, window.tokenizer
    units = tokenizer.units_of(segment)
    mask = mask_segment(segment.ids, units, window.scorable, tokenizer.fields, masking, rng=window.rng)
    yield MaskedCells(mask.masked, objective=OBJECTIVES[mask.objective])


def _isolated(window: SourceWindow) -> Iterator[MaskedCells]:
    length = len(window.segment)
    masked = np.zeros(length, bool)
    masked[int(window.rng.integers(min(EVERY, length))) :: EVERY] = True
    yield MaskedCells(window.positions(masked))


def _gap(window: SourceWindow, n: int) -> Iterator[MaskedCells]:
    """One gap, with a known position on either side where there is room; none in shorter sequences."""
    length = len(window.segment)
    if length < n + 2:
        return
    places = window.places(n, length - 1)
    places = places[places > 0]
    if not len(places):
        return
    first = int(places[window.rng.integers(len(places))])
    position = np.arange(length)
    yield MaskedCells(window.positions((first <= position) & (position < first + n)), span=n)


def _gaps(window: SourceWindow, n: int) -> Iterator[MaskedCells]:
    position = np.arange(len(window.segment))
    for first in window.places(n, window.events).tolist():
        yield MaskedCells(window.positions((first <= position) & (position < first + n)), span=n)


def _suffixes(window: SourceWindow, n: int) -> Iterator[MaskedCells]:
    """The mark of the end is one of the positions: that a sequence is over is an outcome."""
    for first in window.places(n, len(window.segment)).tolist():
        prefix = replace(window.segment.cut(0, first + n), numbers=None)
        shown = SourceWindow(prefix, window.tokenizer, raw_units(window.tokenizer, prefix), window.rng)
        yield MaskedCells(shown.positions(np.arange(first + n) >= first), span=n)


def _forecast(window: SourceWindow, n: int) -> Iterator[MaskedCells]:
    length = len(window.segment)
    if length > n:
        yield MaskedCells(window.positions(np.arange(length) >= length - n), span=n)


def _blocks(window: SourceWindow, n: int) -> Iterator[MaskedCells]:
    length, n_fields = window.segment.ids.shape
    if length < n + 2:
        return
    margin = min(24, (length - n) // 2)
    first = window.rng.integers(margin, length - n - margin + 1, size=n_fields)
    offset = np.arange(length)[:, None] - first
    yield MaskedCells(window.with_all_that_tells((offset >= 0) & (offset < n)), span=n)


def _each_field(window: SourceWindow, n: int) -> Iterator[MaskedCells]:
    length, n_fields = window.segment.ids.shape
    if length < n + 2:
        return
    for field, first in enumerate(window.rng.integers(1, length - n, size=n_fields).tolist()):
        chosen = np.zeros((length, n_fields), bool)
        chosen[first : first + n, field] = True
        yield MaskedCells(window.with_all_that_tells(chosen), span=n)


def _points(window: SourceWindow, share: float) -> Iterator[MaskedCells]:
    chosen = window.rng.random(window.segment.ids.shape) < share
    yield MaskedCells(window.with_all_that_tells(chosen & window.scorable))
