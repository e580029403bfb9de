"""What a predictor sees and answers, and what infilling returns."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int, Integer

from maskseq.contract.brief import brief
from maskseq.predict.stated import Stated


@brief
@dataclass(frozen=True)
class Example:
    """What a predictor may see of one sequence, or of a window of it.

    Args:
        ids: `[MASK]` where the value is requested or unknown.
        numbers: Values of ordinal fields as they were read, in their units; NaN where masked, unknown or not ordinal
            (default: the centres of the bins are all that is known).
        key: The record's; predictors that count training data leave out what they have counted of it.
        start: Where the window begins in its record, in positions.

    Example:
        >>> example = Example(np.array([[0], [4], [2]]), key="chr1", start=100)  # the middle of three bases is masked
        >>> example.ids.shape
        (3, 1)
    """

    ids: Integer[np.ndarray, "length fields"]
    """`[MASK]` where the value is asked for or unknown."""
    numbers: Float[np.ndarray, "length fields"] | None = None
    """Values of ordinal fields as they were read, in their units; NaN where masked, unknown or not ordinal. None: the
    centres of the bins are all that is known."""
    key: str = ""
    """The record's. Experts that hold training data leave out what they have counted of it."""
    start: int = 0
    """Where the window begins in its record, in positions."""
    given: Bool[np.ndarray, "length fields"] | None = None
    """Which of the known cells the record has, where others were filled since. None: all of them."""


Predict = Callable[[Sequence[Example], Sequence[Integer[np.ndarray, "_ 2"]]], Sequence[Float[np.ndarray, "_ _"]]]
"""Examples and the (position, field) cells requested of each → of each requested cell, log-probabilities over the ids
of its field, −inf for ids that are not predictable or belong to another field."""


class PredictMore(Protocol):
    """A `Predict` that answers more than log-probabilities."""

    def __call__(
        self, examples: Sequence[Example], cells: Sequence[Integer[np.ndarray, "_ 2"]]
    ) -> Sequence[Float[np.ndarray, "_ _"]]: ...


@runtime_checkable
class PredictNumbers(PredictMore, Protocol):
    """A `Predict` that states numbers; its log-probabilities are what these say of bins."""

    def stated(self, examples: Sequence[Example], cells: Sequence[Integer[np.ndarray, "_ 2"]]) -> Sequence[Stated]:
        """For each requested cell, the number that is expected there, and how surely."""

    def of_bins(
        self, stated: Sequence[Stated], cells: Sequence[Integer[np.ndarray, "_ 2"]]
    ) -> Sequence[Float[np.ndarray, "_ _"]]:
        """Log-probabilities of the ids of cells of which this is stated."""


Factors = list[tuple[Int[np.ndarray, " some"], Float[np.ndarray, "some some"]]]
"""Groups of cells, by their numbers among those requested, and the lower Cholesky factors of their correlations."""


@runtime_checkable
class PredictJointly(PredictNumbers, Protocol):
    """A `PredictNumbers` that knows how numbers depend on one another, and so needs no pass for each of them."""

    def jointly(self, example: Example, cells: Integer[np.ndarray, "cells 2"]) -> Factors:
        """For some requested cells, or none: how the normal scores of their stated numbers are correlated.

        Groups are drawn one after the other, and are independent but for cells of earlier ones: those come first in a
        group, and the others are drawn given them. What is in no group waits until these are drawn.
        """


@runtime_checkable
class Rejects(PredictMore, Protocol):
    """A `Predict` that does not believe all that it sees."""

    def rejected(self, example: Example) -> Bool[np.ndarray, "length fields"]:
        """Which known values it takes for no measurements, and does without."""


@runtime_checkable
class PredictWithParts(PredictMore, Protocol):
    """A `Predict` that is made of several, and shows what each of them answers."""

    experts: Mapping[str, Predict]

    def with_parts(
        self, examples: Sequence[Example], cells: Sequence[Integer[np.ndarray, "_ 2"]]
    ) -> tuple[Sequence[Float[np.ndarray, "_ _"]], Sequence[Float[np.ndarray, "experts _ _"]]]:
        """What it answers, and the probabilities that each of the experts states; NaN of one without a say."""


def in_order(predict: Predict) -> bool:
    """Whether it looks at nothing behind a requested cell: no later position, and no field that is declared later.

    What is unknown before a cell must be drawn before such a predictor is asked. It says so by an attribute of this
    name, as does what is made of it.
    """
    return bool(getattr(predict, "in_order", False))


def answers_of(
    predict: Predict, examples: Sequence[Example], cells: Sequence[Integer[np.ndarray, "_ 2"]]
) -> tuple[Sequence[Float[np.ndarray, "_ _"]], Sequence[Stated | None]]:
    """Log-probabilities, and the numbers that they come from where the predictor states numbers."""
    if not isinstance(predict, PredictNumbers):
        return predict(examples, cells), [None] * len(examples)
    stated = predict.stated(examples, cells)
    return predict.of_bins(stated, cells), stated


PredictIds = Callable[
    [Sequence[Integer[np.ndarray, "_ _"]], Sequence[Integer[np.ndarray, "_ 2"]]], Sequence[Float[np.ndarray, "_ _"]]
]
"""The same of ids alone, as `Tokenizer.by_unit` wraps it."""


def of_ids(predict: PredictIds) -> Predict:
    """A predictor that looks at ids only."""
    return lambda examples, cells: predict([each.ids for each in examples], cells)


def with_ids(predict: Predict) -> PredictIds:
    """A predictor that is given ids only."""
    return lambda sequences, cells: predict([Example(ids) for ids in sequences], cells)


@brief
@dataclass(frozen=True)
class Fill:
    """What was put into the hole cells of one sequence, and how surely."""

    cells: Int[np.ndarray, "cells 2"]
    """(position, field) of the filled cells, sorted; the axis `cells` of everything below."""
    values: Integer[np.ndarray, "samples cells"]
    """The ids."""
    probabilities: Float[np.ndarray, "samples cells outputs"]
    """The model's distribution over the legal ids that each value was drawn from, before temperature and truncation."""
    log_prob: Float[np.ndarray, "samples cells"]
    """Log-probability of each value, in that distribution."""
    legal_mass: Float[np.ndarray, "samples cells"]
    """The probability that the model gave to all legal ids together."""
    other_mass: Float[np.ndarray, "samples cells"]
    """The probability that the model gave to `[OTHER]`, a value outside the vocabulary."""
    marginals: Float[np.ndarray, "cells outputs"]
    """The distribution over the legal ids before anything was filled: the posterior given the known cells alone."""
    step: Int[np.ndarray, "samples cells"]
    """The forward pass, from 0, after which the value was committed."""
    n_passes: Int[np.ndarray, " samples"]
    tails: Float[np.ndarray, "cells levels 2"] | None = None
    """Of ordinal cells, the quantiles of `marginals` that bound calibrated intervals (None: as the levels say)."""
    stated: Stated | None = None
    """The numbers that `marginals` come from, where the predictor states numbers."""
    numbers: Float[np.ndarray, "samples cells"] | None = None
    """The numbers that the values stand for: within their bins, or beyond all of them; None where it does not."""
    experts: Float[np.ndarray, "samples cells experts"] | None = None
    """What each expert gave the value, given the known cells alone; NaN of one without a say. None: there is one."""

    @cached_property
    def joint(self) -> Float[np.ndarray, " samples"]:
        """Log-probability of each whole fill: the chain rule along the order in which its cells were committed.

        Exact (for this model and order) where cells were committed one at a time; cells committed in one step count
        as independent, and after remasking or refinement each cell counts with its last commit.
        """
        return np.asarray(self.log_prob.sum(axis=1))

    def written(
        self, ids: Integer[np.ndarray, "length fields"], sample: int = 0
    ) -> Integer[np.ndarray, "length fields"]:
        """A copy of the sequence with the values of one sample in it."""
        filled = ids.copy()
        filled[tuple(self.cells.T)] = self.values[sample]
        return filled

    def led_by(self, sample: int) -> "Fill":
        """The same fill with this sample as the first one."""
        order = [sample, *(other for other in range(len(self.values)) if other != sample)]
        every = {name: getattr(self, name) for name in (*_PER_SAMPLE, "n_passes", "numbers", "experts")}
        led: dict[str, Any] = {name: None if each is None else each[order] for name, each in every.items()}
        return replace(self, **led)

    def shifted(self, by: int) -> "Fill":
        """The same fill in coordinates that begin `by` positions earlier."""
        return replace(self, cells=self.cells + np.array([by, 0]))

    def turned(self, by: int, length: int) -> "Fill":
        """The same fill of a circle of that length, which is read from position `by` on."""
        cells = np.stack([(self.cells[:, 0] - by) % length, self.cells[:, 1]], axis=1)
        order = np.lexsort((cells[:, 1], cells[:, 0]))
        return replace(
            self,
            cells=cells[order],
            marginals=self.marginals[order],
            tails=None if self.tails is None else self.tails[order],
            experts=None if self.experts is None else self.experts[:, order],
            numbers=None if self.numbers is None else self.numbers[:, order],
            stated=None if self.stated is None else self.stated.at(order),
            **{name: getattr(self, name)[:, order] for name in _PER_SAMPLE},
        )

    @classmethod
    def joined(cls, samples: Sequence[Sequence["Fill"]]) -> "Fill":
        """One fill from those of consecutive parts, given for each sample as a list of one-sample fills.

        A part without cells was not asked about: it has no numbers or experts, and takes none from the others.
        """
        asked = [[part for part in parts if len(part.cells)] for parts in samples]

        def stacked(name: str, samples: Sequence[Sequence["Fill"]] = samples) -> np.ndarray:
            return np.stack([np.concatenate([getattr(part, name)[0] for part in parts]) for parts in samples])

        def there(name: str) -> np.ndarray | None:
            known = [getattr(part, name) is not None for part in asked[0]]
            return stacked(name, asked) if known and all(known) else None

        return cls(
            cells=np.concatenate([part.cells for part in samples[0]]),
            marginals=np.concatenate([part.marginals for part in samples[0]]),
            n_passes=np.array([sum(int(part.n_passes[0]) for part in parts) for parts in samples]),
            stated=Stated.joined([part.stated for part in asked[0]]),
            numbers=there("numbers"),
            experts=there("experts"),
            **{name: stacked(name) for name in _PER_SAMPLE},
        )


_PER_SAMPLE = ("values", "probabilities", "log_prob", "legal_mass", "other_mass", "step")
