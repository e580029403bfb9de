"""Fit the `quantize` tokenizer: range and bins of each channel, from training recordings, in one streaming pass."""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Float64
from pydantic import ConfigDict

from maskseq.errors import UsageError
from maskseq.tokenizer import with_options
from maskseq_signals.bins import mulaw_bins, quantile_bins, uniform_bins
from maskseq_signals.channel import Channel
from maskseq_signals.clock import TimeStep
from maskseq_signals.recording import Recording

Scheme = Literal["uniform", "quantile", "mulaw", "level"]
SAMPLE_SEED = int.from_bytes(b"quantize")  # none that synthetic signals are likely to be made with
MAX_STEPS = 1 << 17
"""Time steps that quantiles and medians are computed from; of more, this many are drawn at random."""


@dataclass(frozen=True, kw_only=True)
class SignalFitOptions:
    """What the `quantize` tokenizer is fitted with: the `[tokenizer]` table of a recipe."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    scheme: Scheme = "quantile"
    """uniform: equal widths over the training range. quantile: about equal counts, centres are means. mulaw: finest
    around the median, for spiky signals. level: two fields, uniform `levels` and `bins` within one, for signals whose
    detail is small beside their offset."""
    bins: int = 256
    """Bins of a channel (fewer where values tie); with `level`, within one level."""
    levels: int = 32
    """Levels of the scheme `level`."""
    mu: float = 255.0
    """The μ of the scheme `mulaw`."""
    channels: tuple[str, ...] | None = None
    """Which channels become fields, in this order (default: those of the first training recording)."""

    def __post_init__(self) -> None:
        if self.bins < 2 or self.levels < 2:
            raise ValueError("bins and levels must be at least 2")
        if not self.mu > 0:
            raise ValueError("mu must be above 0")
        if self.channels is not None and (not self.channels or len(set(self.channels)) < len(self.channels)):
            raise ValueError("channels must name at least one, and each once")

    @classmethod
    def of(cls, options: dict[str, Any]) -> "SignalFitOptions":
        return with_options(cls, options, "quantize")


def learn(records: Iterable[Recording], options: dict[str, Any]) -> dict[str, Any]:
    """The state of a `QuantizeTokenizer`, from training recordings.

    Raises `UsageError` for wrong options, or a channel without any known value; `DataError` for a recording that lacks
    a channel or has it in another unit than the first. Warns where ties leave fewer bins than were asked.
    """
    wanted = SignalFitOptions.of(options)
    names, units = wanted.channels, None
    sample, rates, steps_of = Sample(), set[float | None](), list[TimeStep | None]()
    for record in records:
        names = names or record.names
        columns = record.select(names, units or [None] * len(names))
        units = units or tuple(record.units[column] for column in columns)
        sample.add(record.channels[:, columns])
        rates.add(record.rate)
        steps_of.append(TimeStep.of(record))
    if names is None or units is None:
        raise UsageError(
            "the quantize tokenizer was given no training recordings to be fitted on", code="too-little-data"
        )
    steps, low, high = sample.steps(), sample.low.tolist(), sample.high.tolist()
    channels = tuple(
        _channel(name, unit, steps[:, i], low[i], high[i], wanted)
        for i, (name, unit) in enumerate(zip(names, units, strict=True))
    )
    if wanted.scheme == "quantile":
        _warn_of_ties({each.name: len(each.bins.centres) for each in channels}, wanted.bins)
    rate = rates.pop() if len(rates) == 1 else None
    return {"scheme": wanted.scheme, "channels": channels, "rate": rate, "step": TimeStep.common(steps_of)}


def _warn_of_ties(found: dict[str, int], wanted: int) -> None:
    fewer = [f"{name!r}: {n}" for name, n in found.items() if n < wanted]
    if fewer:
        others = f" and {len(fewer) - 4} more" if len(fewer) > 4 else ""
        warnings.warn(
            f"channel {', '.join(fewer[:4])}{others}: quantile bins instead of {wanted}, as equal values share one",
            stacklevel=3,
        )


@dataclass
class Sample:
    """The range of each channel, and at most `MAX_STEPS` time steps, each drawn with the same probability.

    Drawn by a random key a step and not by a stride, which a period of the signal could be a multiple of.
    """

    low: Float64[np.ndarray, "channels"] = field(default_factory=lambda: np.array([np.inf]))
    high: Float64[np.ndarray, "channels"] = field(default_factory=lambda: np.array([-np.inf]))
    share: float = 1.0
    n_steps: int = 0
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(SAMPLE_SEED))
    kept: list[tuple[Float64[np.ndarray, "steps"], Float64[np.ndarray, "steps channels"]]] = field(default_factory=list)

    def add(self, values: Float64[np.ndarray, "steps channels"]) -> None:
        """Take in one recording, some steps at a time."""
        for start in range(0, len(values), MAX_STEPS):
            self._add(values[start : start + MAX_STEPS])

    def _add(self, values: Float64[np.ndarray, "steps channels"]) -> None:
        self.low = np.fmin(self.low, np.fmin.reduce(values, axis=0, initial=np.inf))
        self.high = np.fmax(self.high, np.fmax.reduce(values, axis=0, initial=-np.inf))
        keys = self.rng.random(len(values))
        chosen = keys < self.share
        self.kept.append((keys[chosen], values[chosen]))
        self.n_steps += int(chosen.sum())
        while self.n_steps > MAX_STEPS:
            self.share /= 2
            self.kept = [(keys[keys < self.share], values[keys < self.share]) for keys, values in self.kept]
            self.n_steps = sum(len(keys) for keys, _ in self.kept)

    def steps(self) -> Float64[np.ndarray, "steps channels"]:
        return np.concatenate([values for _, values in self.kept])


def _channel(
    name: str, unit: str, values: Float64[np.ndarray, "steps"], low: float, high: float, wanted: SignalFitOptions
) -> Channel:
    if low > high:
        raise UsageError(
            f"channel {name!r} has no known value in the training recordings\n\n"
            f"hint: choose others with the tokenizer option channels = [...]",
            code="too-little-data",
        )
    known = values[~np.isnan(values)]
    levels = None
    match wanted.scheme:
        case "uniform":
            bins = uniform_bins(low, high, wanted.bins)
        case "quantile":
            bins = quantile_bins(known if len(known) else np.array([low, high]), wanted.bins)
        case "mulaw":
            middle = float(np.median(known)) if len(known) else (low + high) / 2
            bins = mulaw_bins(middle, max(high - middle, middle - low), wanted.bins, wanted.mu)
        case "level":
            levels = uniform_bins(low, high, wanted.levels)
            half = (high - low) / len(levels.centres) / 2
            bins = uniform_bins(-half, half, wanted.bins)
    return Channel(name=name, unit=unit, bins=bins, levels=levels, low=low, high=high)
