"""The `quantize` tokenizer: one position a time step, one ordinal field a channel (two with a level)."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Integer

from maskseq.errors import DataError
from maskseq.survey import Suggestion
from maskseq.tokenizer import ABOUT, Tokenizer
from maskseq.types import Encoded, Field, QuantizationError
from maskseq_signals import clock
from maskseq_signals.bins import widths_beyond
from maskseq_signals.channel import Channel
from maskseq_signals.clock import TimeStep
from maskseq_signals.fit import Scheme, learn
from maskseq_signals.recording import Recording
from maskseq_signals.survey import suggest_bins

BLOCK = 1 << 18


@dataclass(frozen=True, kw_only=True)
class QuantizeTokenizer(Tokenizer[Recording]):
    """Samples as bins of their values, channel by channel.

    The scale is fitted once, on training recordings, and stored: one that is computed for each window would change
    with what the window hides. An unknown value (NaN) is `[MASK]`; one outside the training range falls in the first
    or last bin, and `losses` counts it. The two fields of a channel with levels share a source and are hidden
    together: either alone would tell about the value.
    """

    channels: tuple[Channel, ...]
    scheme: Scheme
    """How the channels were fitted."""
    rate: float | None = None
    """Samples a second of all training recordings; others are refused. None: unknown, or of several rates."""
    step: TimeStep | None = field(default=None, metadata=ABOUT)
    """How far apart the steps of all training recordings are; where others are, `unlike` says it."""

    @cached_property
    def fields(self) -> tuple[Field, ...]:  # type: ignore[override]
        return tuple(each for channel in self.channels for each in channel.fields)

    @classmethod
    def fit(cls, records: Iterable[Recording], **options: Any) -> "QuantizeTokenizer":
        """Learn range and bins of each channel. Options are those of `maskseq_signals.fit.SignalFitOptions`."""
        return cls(**learn(records, options))

    @classmethod
    def suggest(cls, records: Sequence[Any]) -> Suggestion | None:
        return suggest_bins(records)

    def encode(self, record: Recording) -> Encoded:
        ids = np.empty((len(record), len(self.fields)), dtype=self._dtype)
        for channel, column, parts in self._matched(record):
            for block in _blocks(len(record)):
                ids[block, parts] = channel.encode(record.channels[block, column])
        return Encoded(ids)

    def decode(self, ids: Integer[np.ndarray, "length fields"]) -> Recording:
        """The centres of the bins in physical units, as a recording called "decoded"; `[MASK]` becomes NaN."""
        values = [channel.decode(ids[:, parts]) for channel, parts in zip(self.channels, self._parts, strict=True)]
        return Recording(
            key="decoded",
            channels=np.stack(values, axis=1),
            names=tuple(channel.name for channel in self.channels),
            units=tuple(channel.unit for channel in self.channels),
            rate=self.rate,
        )

    def numbers(self, record: Recording) -> Float64[np.ndarray, "length fields"]:
        return np.concatenate(
            [channel.numbers(record.channels[:, column]) for channel, column, _ in self._matched(record)], axis=1
        )

    def beyond(self, record: Recording) -> Float64[np.ndarray, "length fields"]:
        found = np.empty((len(record), len(self.fields)))
        for channel, column, parts in self._matched(record):
            found[:, parts] = widths_beyond(record.channels[:, column], channel.low, channel.high)[:, None]
        return found

    def unlike(self, record: Recording) -> str | None:
        return clock.unlike(self.step, record)

    def splice(
        self, record: Recording, ids: Integer[np.ndarray, "length fields"], holes: Bool[np.ndarray, "length fields"]
    ) -> Recording:
        """Write the centres of hole cells into the recording, rounded to the digits that its channel has.

        A sample is a hole where all fields of its channel are. What was not filled becomes unknown.
        """
        values = record.channels.copy()
        for channel, column, parts in self._matched(record):
            steps = np.flatnonzero(holes[:, parts].all(axis=1))
            values[steps, column] = channel.written(ids[steps, parts], record.digits[column])
        return replace(record, channels=values)

    def put_numbers(
        self, record: Recording, cells: Integer[np.ndarray, "cells 2"], numbers: Float64[np.ndarray, "cells"]
    ) -> Recording:
        """Write numbers in place of the centres, rounded alike; the two fields of a channel with levels are summed.

        The mean of a sum is the sum of the means; of medians that is only nearly so.
        """
        values = record.channels.copy()
        for channel, column, parts in self._matched(record):
            inside = (cells[:, 1] >= parts.start) & (cells[:, 1] < parts.stop)
            n_parts = parts.stop - parts.start
            steps, first, counts = np.unique(cells[inside, 0], return_index=True, return_counts=True)
            whole = counts == n_parts
            parted = numbers[inside][first[whole, None] + np.arange(n_parts)]
            values[steps[whole], column] = channel.rounded(parted.sum(axis=1), record.digits[column])
        return replace(record, channels=values)

    def losses(self, record: Recording, ids: Integer[np.ndarray, "length fields"]) -> Mapping[str, QuantizationError]:
        """Of each channel, the round-trip error, and how many values lie outside the training range."""
        losses = {}
        for channel, column, parts in self._matched(record):
            blocks = (channel.loss(record.channels[b, column], ids[b, parts]) for b in _blocks(len(record)))
            losses[channel.name] = sum(blocks, QuantizationError(unit=channel.unit))
        return losses

    def _matched(self, record: Recording) -> Iterable[tuple[Channel, int, slice]]:
        """Each channel, its column in the recording, and its fields."""
        if self.rate is not None and record.rate is not None and record.rate != self.rate:
            raise DataError(
                record.key,
                f"has {record.rate:g} samples a second, but the tokenizer was fitted on {self.rate:g}; resample it",
            )
        columns = record.select([c.name for c in self.channels], [c.unit for c in self.channels])
        return zip(self.channels, columns, self._parts, strict=True)

    @cached_property
    def _parts(self) -> tuple[slice, ...]:
        ends = np.cumsum([len(channel.fields) for channel in self.channels]).tolist()
        return tuple(slice(start, end) for start, end in zip([0, *ends[:-1]], ends, strict=True))

    @cached_property
    def _dtype(self) -> np.dtype[np.unsignedinteger]:
        return self.vocabulary.dtype


def _blocks(length: int) -> Iterator[slice]:
    """Stretches of a recording: a day of samples is encoded in little more memory than its ids take."""
    return (slice(start, start + BLOCK) for start in range(0, length, BLOCK))
