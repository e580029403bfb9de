"""The record of a signal file: what its channels measured, step by step. A value that is not known is NaN."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64

from maskseq.errors import DataError
from maskseq.types import Record
from maskseq_signals.times import to_moments


@dataclass(frozen=True, kw_only=True, eq=False)
class Recording(Record):
    """Channels that were sampled together, in physical units. A raw unit is one sample of one channel."""

    channels: Float64[np.ndarray, "length channels"]
    names: tuple[str, ...]
    units: tuple[str, ...] = ()
    """Physical unit of each channel, "" where the file does not say (default: nowhere)."""
    rate: float | None = None
    """Samples a second, where the file says it."""
    start: float = 0.0
    """Where the first step is, in seconds on the clock of the file; of use where there is a rate."""
    times: Sequence[str] | None = None
    """The time column of a table, verbatim; "" at steps that it has no row for."""
    decimals: tuple[int | None, ...] = ()
    """Digits behind the point that each channel is written with (None, the default: as many as its bins need)."""
    digits: tuple[int | None, ...] = ()
    """Those that its known values have, without zeros at the end; what is filled gets no more (default: `decimals`)."""
    label: str | None = None
    """The class that an archive of labelled series gives; never encoded."""
    unread: Mapping[str, int] = field(default_factory=dict, compare=False)
    """How many unknown values stand in columns of the file that are no channels."""
    origin: Any = field(default=None, compare=False, repr=False)
    """What the format that read it needs to write it back."""

    def __post_init__(self) -> None:
        n_channels = len(self.names)
        if not self.units:
            object.__setattr__(self, "units", ("",) * n_channels)
        if not self.decimals:
            object.__setattr__(self, "decimals", (None,) * n_channels)
        if not self.digits:
            object.__setattr__(self, "digits", self.decimals)
        if not n_channels == len(self.units) == len(self.decimals) == len(self.digits) == self.channels.shape[1]:
            raise ValueError(
                f"recording {self.key!r}: {self.channels.shape[1]} channels, {n_channels} names, {len(self.units)} "
                f"units, {len(self.decimals)} decimals"
            )
        repeated = [name for name, n in Counter(self.names).items() if n > 1]
        if repeated:
            raise ValueError(f"recording {self.key!r}: two channels are called {repeated[0]!r}")
        endless = np.argwhere(np.isinf(self.channels))
        if len(endless):
            step, channel = endless[0].tolist()
            raise DataError(
                self.key,
                "the value is infinite; an unknown value is NaN (an empty cell of a table)",
                place=f"step {step + 1}, channel {self.names[channel]!r}",
            )

    def __len__(self) -> int:
        return len(self.channels)

    def group(self, attribute: str) -> str | None:
        """Its class, as `label`."""
        return self.label if attribute == "label" else None

    def unknown_values(self) -> dict[str, int]:
        """By channel."""
        counts = dict(zip(self.names, np.isnan(self.channels).sum(axis=0).tolist(), strict=True)) | dict(self.unread)
        return {name: n for name, n in counts.items() if n}

    def between(self, start: str, stop: str) -> tuple[int, int]:
        """By the column of times, where there is one; else in seconds on the clock of the file."""
        try:
            if self.times is not None:
                known, texts = self._known_times()
                moments, ends = to_moments(texts), to_moments([start, stop])
                if (moments.dtype.kind == "M") == (ends.dtype.kind == "M"):
                    first, last = np.append(np.flatnonzero(known), len(self))[np.searchsorted(moments, ends)].tolist()
                    return first, last
            seconds = float(start), float(stop)
        except ValueError:
            raise ValueError("these are no times as the recording has them, nor seconds from its start") from None
        if self.rate is None:
            raise ValueError("the recording says neither times nor how many samples a second it has")
        first, last = (math.ceil((each - self.start) * self.rate - 1e-9) for each in seconds)
        return max(first, 0), min(last, len(self))

    def cut(self, start: int, stop: int) -> "Recording":
        """The steps `start:stop` as a recording of their own, which no longer belongs to a file."""
        times = None if self.times is None else self.times[start:stop]
        begin = self.start + start / self.rate if self.rate else self.start
        return replace(self, channels=self.channels[start:stop], start=begin, times=times, origin=None)

    def span(self) -> tuple[float, float] | None:
        """By the column of times, if it holds dates: those of the first and the last step, in seconds since 1970.

        Numbers are none, even those that may be dates, such as 20240131.
        """
        times = self.times or ()
        known = [next((time for time in each if time), "") for each in (times, reversed(times))]
        if not known[0] or known[0].strip().isdecimal():
            return None
        try:
            ends = to_moments(known)
        except ValueError:
            return None
        if ends.dtype.kind != "M":
            return None
        first, last = (ends.astype(np.int64) / 1e6).tolist()
        return min(first, last), max(first, last)

    def moments(self) -> Float64[np.ndarray, "steps"] | None:
        """Of each step, where the column of times holds dates; NaN where a time is missing."""
        if self.times is None or self.span() is None:
            return None
        known, texts = self._known_times()
        try:
            dates = to_moments(texts)
        except ValueError:
            return None
        found = np.full(len(self), np.nan)
        found[known] = dates.astype(np.int64) / 1e6
        return found

    def _known_times(self) -> tuple[Bool[np.ndarray, "length"], Sequence[str]]:
        """Which steps have a time, and these."""
        times = self.times or ()
        known = np.fromiter(map(bool, times), bool, len(times))
        return known, times if known.all() else [time for time in times if time]

    def bare(self) -> "Recording":
        """Without the table or array that it was read from."""
        return replace(self, origin=None)

    def select(self, names: Sequence[str], units: Sequence[str | None]) -> list[int]:
        """Which columns the named channels are; `DataError` if one is missing, or in another unit than given."""
        places = {name: column for column, name in enumerate(self.names)}
        for name, unit in zip(names, units, strict=True):
            if name not in places:
                raise DataError(self.key, f"has no channel {name!r}; it has {', '.join(self.names)}")
            found = self.units[places[name]]
            if unit is not None and found != unit:
                raise DataError(
                    self.key,
                    f"channel {name!r} is in {found or 'no unit'}, but the tokenizer knows it in {unit or 'none'}",
                )
        return [places[name] for name in names]


def recorded(path: Path, **content: Any) -> Recording:
    """A `Recording` that was read from a file, which the `DataError` names if it is none."""
    try:
        return Recording(**content)
    except DataError as error:
        raise DataError(path, error.problem, place=f"{content['key']}, {error.place}") from None
    except ValueError as error:
        raise DataError(path, str(error)) from None
