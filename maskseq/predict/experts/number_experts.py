"""All methods that state numbers, counted on the numbers of training records."""

import importlib.util
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Integer

from maskseq.predict.experts import imputers
from maskseq.predict.experts.gaussian import Aligned, Stationary
from maskseq.predict.experts.local import Local
from maskseq.predict.experts.numbers import NumberPredict, Series, Spread, Values, centres_of
from maskseq.predict.protocol import Predict
from maskseq.tokenizer import Tokenizer


@runtime_checkable
class HasNumbers(Protocol):
    """Training records, as far as numbers are concerned."""

    @property
    def sequences(self) -> Sequence[Integer[np.ndarray, "_ _"]]:
        """Their ids."""

    @property
    def numbers(self) -> Series | None:
        """What the ids were rounded from; None where only the centres of bins are known."""


class Numbered(NamedTuple):
    """The plainest of them."""

    sequences: Sequence[Integer[np.ndarray, "_ _"]]
    numbers: Series | None = None


def count_numbers(data: HasNumbers, tokenizer: Tokenizer[Any], periods: Sequence[int] = ()) -> dict[str, Predict]:
    """Gaussians, lines and seasons, by name. All fields are ordinal; `periods` are those of seasons, in positions."""
    frequencies = frequencies_of(data.sequences, tokenizer)
    posteriors = posteriors_of(series_of(data, tokenizer), periods)
    return {name: NumberPredict(each, tokenizer.vocabulary, frequencies) for name, each in posteriors.items()}


def series_of(data: HasNumbers, tokenizer: Tokenizer[Any]) -> list[Float[np.ndarray, "_ _"]]:
    """The numbers of training records, as exactly as they are known; NaN where they are not."""
    centres = [centres_of(ids, tokenizer.vocabulary) for ids in data.sequences]
    if data.numbers is None:
        return centres
    return [np.where(np.isnan(each), near, each) for each, near in zip(data.numbers, centres, strict=True)]


def frequencies_of(
    sequences: Sequence[Integer[np.ndarray, "_ _"]], tokenizer: Tokenizer[Any]
) -> list[Float[np.ndarray, " _"]]:
    """The shares of ids, field by field."""
    vocabulary, found = tokenizer.vocabulary, []
    for field, n_ids in enumerate(vocabulary.n_outputs):
        ids = np.concatenate([each[:, field] for each in sequences])
        counts = np.bincount(ids[ids < n_ids], minlength=n_ids) + 0.5 * vocabulary.predictable[field, :n_ids]
        found.append(counts / counts.sum())
    return found


def posteriors_of(series: Series, periods: Sequence[int]) -> dict[str, Callable[[Values], tuple[Values, Values]]]:
    """By name, what says means and variances of hidden numbers."""
    plain = Stationary.count(series)
    found: dict[str, Callable[[Values], tuple[Values, Values]]] = {
        "Gaussian": plain.posterior,
        "Gaussian, any level": plain.diffuse().posterior,
        "Gaussian, any level and trend": plain.diffuse(trend=True).posterior,
    }
    aligned = Aligned.count(series, plain)
    if aligned is not None:
        found["Gaussian by position"] = aligned.posterior
    local = Local.count(series, plain.diffuse())
    if local is not None:
        found["Gaussian of alike windows"] = local.posterior
    for name, fill in _fills(periods).items():
        found[name] = Spread.count(fill, series).posterior
    return found


def _fills(periods: Sequence[int]) -> dict[str, Callable[[Values], Values]]:
    fills: dict[str, Callable[[Values], Values]] = {"lines": imputers.linear, "last value": imputers.last}
    if importlib.util.find_spec("scipy") is not None:
        fills["splines"] = imputers.spline
    for period in periods:
        fills[f"season of {period}"] = imputers.imputer(f"seasonal-{period}")
    return fills
