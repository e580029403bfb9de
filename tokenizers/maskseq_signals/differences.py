"""The `quantize-differences` tokenizer: of each channel, the step from the sample before, and a coarse level."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64, Integer

from maskseq.errors import UsageError
from maskseq.tokenizer import ABOUT, Tokenizer
from maskseq.types import ABSENT, Encoded, Field, LegalCells, QuantizationError
from maskseq_signals import clock
from maskseq_signals.bins import Bins, mulaw_bins, uniform_bins, widths_beyond
from maskseq_signals.clock import TimeStep
from maskseq_signals.fit import Sample
from maskseq_signals.recording import Recording


@dataclass(frozen=True, kw_only=True)
class DifferenceChannel:
    """How one channel is quantized, in its physical unit."""

    name: str
    unit: str = ""
    levels: Bins
    differences: Bins
    low: float
    high: float
    """The range of the training values."""

    def encode(self, values: Float64[np.ndarray, "length"]) -> Int64[np.ndarray, "length 2"]:
        """Level and difference; a difference to an unknown value is unknown, that of the first sample absent."""
        level, difference = (len(bins.centres) for bins in (self.levels, self.differences))
        steps = np.diff(values, prepend=np.nan)
        ids = np.stack([self.levels.ids(values), self.differences.ids(steps)], axis=1)
        ids[np.isnan(values), 0] = level
        ids[np.isnan(steps), 1] = difference + 1
        ids[:1, 1] = difference
        return ids

    def filled(
        self, values: Float64[np.ndarray, "length"], ids: Integer[np.ndarray, "length 2"]
    ) -> Float64[np.ndarray, "length"]:
        """The values with each NaN in the bin of its level, as near to the sum of the differences as that allows.

        What the differences of a run miss the known value behind it by is spread over the run.
        """
        filled = values.copy()
        centre, step = self.levels.values(ids[:, 0]), self.differences.values(ids[:, 1])
        edges = np.array([-np.inf, *self.levels.edges, np.inf])
        known_level = ids[:, 0] < len(self.levels.centres)
        bin_of = np.where(known_level, ids[:, 0], 0)
        low = np.where(known_level, edges[bin_of], -np.inf)
        high = np.where(known_level, np.nextafter(edges[bin_of + 1], -np.inf), np.inf)
        holes = np.flatnonzero(np.isnan(values))
        for run in np.split(holes, np.flatnonzero(np.diff(holes) > 1) + 1):
            if len(run) == 0:
                continue
            first, behind = int(run[0]), int(run[-1]) + 1
            previous = filled[first - 1] if first else np.nan
            for t in run.tolist():
                moved = previous + step[t]
                previous = centre[t] if np.isnan(moved) else min(max(moved, low[t]), high[t])
                filled[t] = previous
            if behind < len(values) and not np.isnan(missed := values[behind] - previous - step[behind]):
                spread = filled[run] + missed * np.arange(1, len(run) + 1) / (len(run) + 1)
                filled[run] = np.clip(spread, low[run], high[run])
        return filled


@dataclass(frozen=True, kw_only=True)
class DifferenceTokenizer(Tokenizer[Recording]):
    """Slow signals of fine detail: a difference (finest around zero) and a level a sample, both of one source.

    A difference depends on two samples: hiding sample t hides level t and the differences t and t + 1.
    """

    channels: tuple[DifferenceChannel, ...]
    step: TimeStep | None = field(default=None, metadata=ABOUT)
    """As in `quantize`."""

    @cached_property
    def fields(self) -> tuple[Field, ...]:  # type: ignore[override]
        fields = []
        for channel in self.channels:
            for part, bins in ((" level", channel.levels), (" difference", channel.differences)):
                made = Field(
                    name=channel.name + part,
                    tokens=bins.texts,
                    controls=(ABSENT,) * (part == " difference"),
                    centres=bins.centres,
                    unit=channel.unit,
                    source=channel.name,
                )
                fields.append(made)
        return tuple(fields)

    @classmethod
    def fit(
        cls, records: Iterable[Recording], *, bins: int = 128, levels: int = 32, mu: float = 255.0, **unknown: Any
    ) -> "DifferenceTokenizer":
        """`bins` of differences, μ-law around zero (`mu`), and uniform `levels` over the training range."""
        if unknown or bins < 2 or levels < 2 or mu <= 0:
            problem = f"there is no option {min(unknown)!r}" if unknown else "bins and levels of 2 or more, mu above 0"
            raise UsageError(
                f"tokenizer quantize-differences: {problem} (options: bins, levels, mu)", code="bad-option"
            )
        values, steps, lengths = Sample(), Sample(), list[TimeStep | None]()
        first: Recording | None = None
        for record in records:
            first = first or record
            columns = record.select(first.names, first.units)
            lengths.append(TimeStep.of(record))
            values.add(record.channels[:, columns])
            steps.add(np.diff(record.channels[:, columns], axis=0))
        if first is None:
            raise UsageError(
                "the tokenizer quantize-differences was given no training recordings to be fitted on",
                code="too-little-data",
            )
        channels = []
        for index, (name, unit) in enumerate(zip(first.names, first.units, strict=True)):
            low, high = float(values.low[index]), float(values.high[index])
            reach = max(-float(steps.low[index]), float(steps.high[index]))
            if not (low <= high and reach > -np.inf):
                raise UsageError(
                    f"channel {name!r} has no two known values in a row in the training recordings",
                    code="too-little-data",
                )
            levels_of, steps_of = uniform_bins(low, high, levels), mulaw_bins(0.0, reach, bins, mu)
            channels.append(
                DifferenceChannel(name=name, unit=unit, levels=levels_of, differences=steps_of, low=low, high=high)
            )
        return cls(channels=tuple(channels), step=TimeStep.common(lengths))

    def encode(self, record: Recording) -> Encoded:
        ids = [channel.encode(record.channels[:, column]) for channel, column in self._matched(record)]
        return Encoded(np.concatenate(ids, axis=1).astype(self.vocabulary.dtype))

    def decode(self, ids: Integer[np.ndarray, "length fields"]) -> Recording:
        """Sums of differences, kept within their levels, as a recording called "decoded"."""
        nothing = np.full(len(ids), np.nan)
        values = [channel.filled(nothing, ids[:, 2 * i : 2 * i + 2]) for i, channel in enumerate(self.channels)]
        names, units = zip(*((channel.name, channel.unit) for channel in self.channels), strict=True)
        return Recording(key="decoded", channels=np.stack(values, axis=1), names=names, units=units)

    def units(self, ids: Integer[np.ndarray, "length fields"]) -> Int64[np.ndarray, "length fields 2"]:
        """Sample t; of its difference, the samples t - 1 and t."""
        ranges = np.array(super().units(ids), dtype=np.int64)
        ranges[:, 1::2, 0] -= 1
        return ranges

    def allowed(self, ids: Integer[np.ndarray, "length fields"]) -> LegalCells | None:
        """Only the first difference is absent."""
        masks = np.array([field.mask_id for field in self.fields])
        cells = np.argwhere((ids == masks) & (np.arange(len(masks)) % 2 == 1))
        cells = cells[cells[:, 0] > 0]
        if not len(cells):
            return None
        return LegalCells(cells, np.arange(max(masks)) < masks[cells[:, 1], None] - 1)

    def beyond(self, record: Recording) -> Float64[np.ndarray, "length fields"]:
        found = [
            widths_beyond(record.channels[:, column], channel.low, channel.high)
            for channel, column in self._matched(record)
        ]
        return np.repeat(np.stack(found, axis=1), 2, axis=1)

    def unlike(self, record: Recording) -> str | None:
        return clock.unlike(self.step, record)

    def splice(
        self, record: Recording, ids: Integer[np.ndarray, "length fields"], holes: Bool[np.ndarray, "length fields"]
    ) -> Recording:
        """A sample is a hole where its level and its difference are. What was not filled becomes unknown."""
        values = record.channels.copy()
        for index, (channel, column) in enumerate(self._matched(record)):
            parts = slice(2 * index, 2 * index + 2)
            hole = np.array(holes[:, parts].all(axis=1))
            hole[:1] = holes[:1, parts.start]  # it has no difference
            reported = np.where(hole, np.nan, values[:, column])
            values[hole, column] = channel.filled(reported, ids[:, parts])[hole]
        return replace(record, channels=values)

    def losses(self, record: Recording, ids: Integer[np.ndarray, "length fields"]) -> Mapping[str, QuantizationError]:
        """Of each sample, what its difference loses, the sample before being known."""
        losses = {}
        for index, (channel, column) in enumerate(self._matched(record)):
            values = record.channels[:, column]
            error = np.abs(np.diff(values) - channel.differences.values(ids[1:, 2 * index + 1]))
            error = error[~np.isnan(error)]
            losses[channel.name] = QuantizationError(
                unit=channel.unit,
                values=len(error),
                clipped=int(np.count_nonzero((values < channel.low) | (values > channel.high))),
                absolute=float(error.sum()),
                squared=float(np.square(error).sum()),
                largest=float(error.max(initial=0.0)),
            )
        return losses

    def _matched(self, record: Recording) -> Iterable[tuple[DifferenceChannel, int]]:
        columns = record.select([c.name for c in self.channels], [c.unit for c in self.channels])
        return zip(self.channels, columns, strict=True)
