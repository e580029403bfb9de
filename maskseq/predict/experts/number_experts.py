"""All methods that state numbers, counted on the numbers of training records."""

import importlib.util
from collections.abc import Callable, Container, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Integer

from maskseq.model.gaussian import Stationary
from maskseq.predict.experts import imputers
from maskseq.predict.experts.aligned import Aligned
from maskseq.predict.experts.local import Local
from maskseq.predict.experts.numbers import NumberPredict, Series, Spread, Values, centres_of
from maskseq.predict.protocol import Predict
from maskseq.tokenizer import Tokenizer

LOCAL = "Gaussian of alike windows"
"""By far the slowest."""


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
    return {
        name: NumberPredict(
            each.posterior,
            tokenizer.vocabulary,
            frequencies,
            getattr(each, "joint", None),
            getattr(each, "some", None),
        )
        for name, each in methods_of(series_of(data, tokenizer), periods).items()
    }


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


@runtime_checkable
class Method(Protocol):
    """What states means and variances of masked numbers."""

    def posterior(self, values: Values) -> tuple[Values, Values]:
        """In place of NaN."""


def methods_of(series: Series, periods: Sequence[int], *, among: Container[str] | None = None) -> dict[str, Method]:
    """All methods that suit these series, by name; `among`: only these."""
    plain = Stationary.count(series)
    found: dict[str, Method] = {
        "Gaussian": plain,
        "Gaussian, any level": plain.diffuse(),
        "Gaussian, any level and trend": plain.diffuse(trend=True),
    }
    aligned = Aligned.count(series, plain)
    if aligned is not None:
        found["Gaussian by position"] = aligned
    local = Local.count(series, plain.diffuse())
    if local is not None:
        found[LOCAL] = local
    for name, fill in _fills(periods).items():
        if among is None or name in among:
            found[name] = Spread.count(fill, series)
    return {name: each for name, each in found.items() if among is None or name in among}


def _fills(periods: Sequence[int]) -> dict[str, Callable[[Values], Values]]:
    fills: dict[str, Callable[[Values], Values]] = {"lines": imputers.linear, "last value": imputers.last}
    if importlib.util.find_spec("scipy") is not None:
        fills["splines"] = imputers.spline
    for period in periods:
        fills[f"season of {period}"] = imputers.imputer(f"seasonal-{period}")
    return fills
