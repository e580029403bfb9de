"""One channel as one field, or as two of one source: a coarse level, and what is left of it."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float64, Int64, Integer

from maskseq.types import Field, QuantizationError
from maskseq_signals.bins import Bins


@dataclass(frozen=True, kw_only=True)
class Channel:
    """How one channel is quantized. Everything is in its physical unit and was fitted on training recordings."""

    name: str
    unit: str = ""
    bins: Bins
    """Bins of the values; with `levels`, of their deviations from the level's centre."""
    levels: Bins | None = None
    low: float
    """Values below are clipped into the first bin."""
    high: float
    """Values above are clipped into the last bin."""

    @cached_property
    def fields(self) -> tuple[Field, ...]:
        parts = {"": self.bins} if self.levels is None else {" level": self.levels, " residual": self.bins}
        return tuple(
            Field(name=self.name + part, tokens=bins.texts, centres=bins.centres, unit=self.unit, source=self.name)
            for part, bins in parts.items()
        )

    def encode(self, values: Float64[np.ndarray, "length"]) -> Int64[np.ndarray, "length parts"]:
        """The ids of the channel's fields; NaN is `[MASK]` in all of them."""
        if self.levels is None:
            ids = self.bins.ids(values)[:, None]
        else:
            level = self.levels.ids(values)
            ids = np.stack([level, self.bins.ids(values - self.levels.values(level))], axis=1)
        return np.where(np.isnan(values)[:, None], [field.mask_id for field in self.fields], ids)

    def numbers(self, values: Float64[np.ndarray, "length"]) -> Float64[np.ndarray, "length parts"]:
        """What the ids of the channel's fields were rounded from; those of a level and its residual add up to it."""
        if self.levels is None:
            return values[:, None]
        level = np.where(np.isnan(values), np.nan, self.levels.values(self.levels.ids(values)))
        return np.stack([level, values - level], axis=1)

    def decode(self, ids: Integer[np.ndarray, "length parts"]) -> Float64[np.ndarray, "length"]:
        """The centre of each value's bin; NaN where an id is reserved."""
        values = self.bins.values(ids[:, -1])
        return values if self.levels is None else values + self.levels.values(ids[:, 0])

    def written(self, ids: Integer[np.ndarray, "length parts"], decimals: int | None) -> Float64[np.ndarray, "length"]:
        """What a file gets for these ids: centres with no more digits than the bins tell, nor than the file has."""
        enough = self.bins.decimals
        if self.levels is None and (decimals is None or decimals >= enough):
            return self.bins.short_values(ids[:, 0])
        return self.rounded(self.decode(ids), decimals)

    def rounded(self, values: Float64[np.ndarray, "length"], decimals: int | None) -> Float64[np.ndarray, "length"]:
        """Values with no more digits than the bins tell, nor than the file has."""
        enough = self.bins.decimals
        digits = enough if decimals is None else min(decimals, enough)
        return (
            np.array([round(v, digits) for v in values.tolist()]) + 0.0
        )  # np.round is off by an ulp at times; no -0.0

    def loss(
        self, values: Float64[np.ndarray, "length"], ids: Integer[np.ndarray, "length parts"]
    ) -> QuantizationError:
        """How far the known values are from what their ids decode to."""
        known = ~np.isnan(values)
        error = np.abs(values - self.decode(ids))[known]
        return QuantizationError(
            unit=self.unit,
            values=len(error),
            clipped=int(np.count_nonzero((values < self.low) | (values > self.high))),
            absolute=float(error.sum()),
            squared=float(np.square(error).sum()),
            largest=float(error.max(initial=0.0)),
        )
