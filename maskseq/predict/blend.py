"""Several experts as one predictor: a log-linear pool whose weights depend on what is known before the answer.

    log p = Σ_e w_e(class) · log p_e − log Z,    w = softplus(b + B[class])

(Genest & Zidek 1986, doi:10.1214/ss/1177013825). A class is a field, the length of the hole, whether other fields are
known at the position, and what the experts report of their evidence. Common weights b are fitted first and drawn
towards equal ones, then those of the classes, drawn towards the common ones; on few cells the classes share their
weights, and on fewer still nothing is fitted.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Integer
from torch import Tensor
from torch.nn.functional import softplus

from maskseq.predict.protocol import Example, Predict, in_order
from maskseq.types import Vocabulary

ENCODER = "encoder"
"""The name of the expert that was trained."""
FLOOR = 1e-6
"""Of the uniform distribution in each expert's answer: none may rule out what is true."""
FEWEST = 100
"""Cells below which nothing is fitted."""
ENOUGH, REGIONS = 1000, 20
"""Cells, and regions that they come from, from which on classes have weights of their own."""
PENALTY = 3.0
STEPS = 60
FOLDS = 4
HOLES = (1, 2, 5)
"""Lengths of holes from which on a class begins."""
LOWEST = -1e4
"""Log-probability of what is impossible for all experts alike: finite, so that a weight may be 0."""
EQUAL, FITTED = "equal weights", "fitted weights"


@runtime_checkable
class Supported(Protocol):
    """What an expert may offer besides its answers: how much evidence there is for each of them, as a class.

    Such as how often a context was seen, or for a copy its log-odds and the distance to the nearest masked cell.
    """

    n_supports: int
    """Classes."""

    def support(
        self, examples: Sequence[Example], cells: Sequence[Integer[np.ndarray, "_ 2"]]
    ) -> Int[np.ndarray, " cells"]:
        """Of each requested cell, in `range(n_supports)`."""
        ...


@dataclass(frozen=True)
class Gate:
    """How much each expert is worth in each class of cells."""

    weights: Float[np.ndarray, "classes experts"]
    n_cells: int
    """That it was fitted on."""

    @classmethod
    def equal(cls, n_experts: int, n_classes: int, n_cells: int = 0) -> "Gate":
        return cls(np.full((n_classes, n_experts), 1 / n_experts), n_cells)

    @classmethod
    def alone(cls, expert: int, n_experts: int, n_classes: int, n_cells: int = 0) -> "Gate":
        """One of the experts, and none of the others."""
        weights = np.zeros((n_classes, n_experts))
        weights[:, expert] = 1
        return cls(weights, n_cells)

    @classmethod
    def fit(
        cls,
        log_probs: Float[np.ndarray, "experts cells ids"],
        truth: Int[np.ndarray, " cells"],
        classes: Int[np.ndarray, " cells"],
        n_classes: int,
        *,
        by_class: bool | None = None,
    ) -> "Gate":
        """The most likely weights, drawn towards equal ones: L-BFGS from there.

        `by_class`: whether classes have weights of their own, drawn towards the common ones (default: where there are
        cells enough). A class without a cell has the common ones.
        """
        n_experts, n_cells, _ = log_probs.shape
        if n_cells < FEWEST:
            return cls.equal(n_experts, n_classes, n_cells)
        own = n_cells >= ENOUGH if by_class is None else by_class
        answers = torch.from_numpy(log_probs).double()
        target, group = torch.from_numpy(truth).long(), torch.from_numpy(classes).long()
        equal = torch.full((1, n_experts), float(np.log(np.expm1(1 / n_experts))), dtype=torch.float64)
        found = _towards(equal, answers, target, torch.zeros_like(group)).expand(n_classes, n_experts)
        if own:
            found = _towards(found, answers, target, group)
        return cls(softplus(found).numpy().copy(), n_cells)

    def nats(
        self,
        log_probs: Float[np.ndarray, "experts cells ids"],
        truth: Int[np.ndarray, " cells"],
        classes: Int[np.ndarray, " cells"],
    ) -> Float[np.ndarray, " cells"]:
        """What the truth costs under these weights."""
        mixed = np.einsum("nm,mni->ni", self.weights[classes], log_probs)
        return np.asarray(np.logaddexp.reduce(mixed, axis=1) - mixed[np.arange(len(truth)), truth])


def _towards(start: Tensor, answers: Tensor, target: Tensor, group: Tensor) -> Tensor:
    """Raw weights, a row for each group of cells, that make the targets likely and are drawn towards `start`."""
    raw = start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([raw], max_iter=STEPS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        mixed = torch.einsum("nm,mni->ni", softplus(raw)[group], answers).log_softmax(dim=-1)
        penalty = PENALTY * (raw - start).square().sum() / len(target)
        loss: Tensor = penalty - mixed.gather(1, target[:, None]).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return raw.detach()


@dataclass(frozen=True)
class Chosen:
    """A gate, and why it is this one."""

    gate: Gate
    form: str
    """`FITTED`, `EQUAL` or the name of the expert that is taken alone."""
    bits: dict[str, float]
    """Of each form that was compared, a cell, on regions that its weights were not fitted on."""


def choose(
    names: Sequence[str],
    log_probs: Float[np.ndarray, "experts cells ids"],
    truth: Int[np.ndarray, " cells"],
    classes: Int[np.ndarray, " cells"],
    n_classes: int,
    regions: Int[np.ndarray, " cells"],
) -> Chosen:
    """Fitted weights if they beat equal ones and each expert alone on regions left out, or else equal ones.

    One expert alone is taken in their place where it is clearly better than they are. Regions (records, or stretches of
    long ones) are numbered from 0 in random order.
    """
    n_experts, n_cells = len(names), len(truth)
    equal = Gate.equal(n_experts, n_classes, n_cells)
    if n_cells < FEWEST or n_experts < 2:
        return Chosen(equal, EQUAL, {})
    own = n_cells >= ENOUGH and len(np.unique(regions)) >= REGIONS
    fold = regions % FOLDS
    nats = np.full(n_cells, np.nan)
    for each in np.unique(fold).tolist():
        learned, requested = fold != each, fold == each
        if not learned.any():
            continue
        gate = Gate.fit(log_probs[:, learned], truth[learned], classes[learned], n_classes, by_class=own)
        nats[requested] = gate.nats(log_probs[:, requested], truth[requested], classes[requested])
    forms = {FITTED: Gate.fit(log_probs, truth, classes, n_classes, by_class=own), EQUAL: equal}
    forms |= {name: Gate.alone(i, n_experts, n_classes, n_cells) for i, name in enumerate(names)}
    cost = {name: gate.nats(log_probs, truth, classes) for name, gate in forms.items()} | {FITTED: nats}
    bits = {name: float(each.mean() / np.log(2)) for name, each in cost.items()}
    best = min(bits, key=lambda name: np.inf if np.isnan(bits[name]) else bits[name])
    if best not in (FITTED, EQUAL) and not _clearly(cost[EQUAL] - cost[best], regions):
        best = EQUAL
    return Chosen(forms[best], best, {name: each for name, each in bits.items() if not np.isnan(each)})


def _clearly(gain: Float[np.ndarray, " cells"], regions: Int[np.ndarray, " cells"]) -> bool:
    """Whether a gain is more than two standard errors of what regions differ by."""
    sums = np.bincount(np.unique(regions, return_inverse=True)[1], gain)
    return bool(sums.sum() > 2 * np.sqrt((sums**2).sum()))


class Blend:
    """Experts as one `Predict`, weighted as a gate says."""

    def __init__(
        self,
        experts: Mapping[str, Predict],
        gate: Gate | None,
        vocabulary: Vocabulary,
        situations: "Situations | None" = None,
    ) -> None:
        """`gate`: its columns are the experts, in this order. None: all are worth the same everywhere.

        `situations` are its rows, where experts that are left out tell some of them apart.
        """
        self.experts, self.vocabulary = dict(experts), vocabulary
        self.situations = situations or Situations(tuple(self.experts.values()), vocabulary)
        self.gate = gate or Gate.equal(len(self.experts), self.situations.n)

    def __call__(
        self, examples: Sequence[Example], cells: Sequence[Integer[np.ndarray, "_ 2"]]
    ) -> list[Float[np.ndarray, "_ _"]]:
        """Log-probabilities of the requested cells."""
        possible = self._possible(cells)
        mixed = np.zeros(possible.shape)
        for weights, answer in self._weighed(examples, cells, possible):
            if answer is not None:
                mixed += weights * answer
        return self._pooled(mixed, possible, cells)

    def with_parts(
        self, examples: Sequence[Example], cells: Sequence[Integer[np.ndarray, "_ 2"]]
    ) -> tuple[list[Float[np.ndarray, "_ _"]], list[Float[np.ndarray, "experts _ _"]]]:
        """The same, and the probabilities that each expert states; NaN of one without a say."""
        possible = self._possible(cells)
        mixed = np.zeros(possible.shape)
        parts = np.full((len(self.experts), *possible.shape), np.nan, np.float32)
        for part, (weights, answer) in zip(parts, self._weighed(examples, cells, possible), strict=True):
            if answer is not None:
                mixed += weights * answer
                part[:] = np.where(possible, np.exp(answer), 0)
        ends = np.cumsum([len(requested) for requested in cells])[:-1]
        return self._pooled(mixed, possible, cells), np.split(parts, ends, axis=1)

    @property
    def in_order(self) -> bool:
        """Whether an expert that has a say looks at nothing behind: see `maskseq.predict.protocol.in_order`."""
        has_say: list[bool] = np.asarray(self.gate.weights.any(axis=0)).tolist()
        return any(some and in_order(each) for each, some in zip(self.experts.values(), has_say, strict=True))

    def _weighed(
        self,
        examples: Sequence[Example],
        cells: Sequence[Integer[np.ndarray, "_ 2"]],
        possible: Bool[np.ndarray, "cells ids"],
    ) -> Iterator[tuple[Float[np.ndarray, "cells 1"], Float[np.ndarray, "cells ids"] | None]]:
        """Of each expert its weights and its answer, which is not asked for where it has no weight."""
        weights = self.gate.weights[self.situations(examples, cells)]
        for column, predict in enumerate(self.experts.values()):
            some = weights[:, column].any()
            yield weights[:, column, None], _floored(predict(examples, cells), possible) if some else None

    def _pooled(
        self,
        mixed: Float[np.ndarray, "cells ids"],
        possible: Bool[np.ndarray, "cells ids"],
        cells: Sequence[Integer[np.ndarray, "_ 2"]],
    ) -> list[Float[np.ndarray, "_ _"]]:
        """Normalised, and by example."""
        mixed[~possible] = -np.inf
        if len(mixed):
            mixed -= np.logaddexp.reduce(mixed, axis=1, keepdims=True)
        return np.split(mixed, np.cumsum([len(requested) for requested in cells])[:-1])

    def answers(
        self, examples: Sequence[Example], cells: Sequence[Integer[np.ndarray, "_ 2"]]
    ) -> Float[np.ndarray, "experts cells ids"]:
        """Log-probabilities of every expert, a little of the uniform distribution in each; `LOWEST`: impossible."""
        possible = self._possible(cells)
        return np.stack([_floored(predict(examples, cells), possible) for predict in self.experts.values()])

    def _possible(self, cells: Sequence[Integer[np.ndarray, "_ 2"]]) -> Bool[np.ndarray, "cells ids"]:
        fields = np.concatenate([np.empty(0, np.int64), *(requested[:, 1] for requested in cells)])
        return np.asarray(self.vocabulary.predictable[fields])


def _floored(
    answer: Sequence[Float[np.ndarray, "_ _"]], possible: Bool[np.ndarray, "cells ids"]
) -> Float[np.ndarray, "cells ids"]:
    probabilities = np.zeros(possible.shape)
    if len(probabilities):
        found = np.exp(np.concatenate([np.asarray(each, np.float64) for each in answer]))
        probabilities[:, : found.shape[1]] = found
    uniform = possible / np.maximum(possible.sum(axis=1, keepdims=True), 1)
    mixed = (1 - FLOOR) * np.where(possible, probabilities, 0) + FLOOR * uniform
    return np.asarray(np.log(mixed, where=possible, out=np.full(possible.shape, LOWEST)))


class Situations:
    """What is known of each cell before anybody answers, as a class."""

    def __init__(self, experts: Sequence[Predict], vocabulary: Vocabulary) -> None:
        offered: list[object] = list(experts)
        self.experts = [each for each in offered if isinstance(each, Supported) and each.n_supports > 1]
        self.vocabulary = vocabulary
        self.n_beside = 2 if vocabulary.n_fields > 1 else 1
        self.n = vocabulary.n_fields * len(HOLES) * self.n_beside
        for each in self.experts:
            self.n *= each.n_supports

    def __call__(
        self, examples: Sequence[Example], cells: Sequence[Integer[np.ndarray, "_ 2"]]
    ) -> Int[np.ndarray, " cells"]:
        """Of each cell its field, the length of the hole, whether another field is known there, and the support."""
        found = [np.empty(0, np.int64)]
        for example, requested in zip(examples, cells, strict=True):
            masked = ~self.vocabulary.known(np.asarray(example.ids))
            sizes = holes(masked)[tuple(requested.T)]
            group = np.searchsorted(HOLES, np.maximum(sizes, 1), side="right") - 1
            group = requested[:, 1] * len(HOLES) + group
            if self.n_beside > 1:
                others = (~masked[requested[:, 0]]).sum(axis=1) - ~masked[tuple(requested.T)]
                group = group * self.n_beside + (others > 0)
            found.append(group)
        classes = np.concatenate(found).astype(np.int64)
        for each in self.experts:
            classes = classes * each.n_supports + each.support(examples, cells)
        return classes


def holes(masked: Bool[np.ndarray, "length fields"]) -> Int[np.ndarray, "length fields"]:
    """Of each masked cell, how many masked cells of its field stand side by side there; 0 of known ones."""
    sizes = np.zeros(masked.shape, np.int64)
    for field, column in enumerate(masked.T):
        edges = np.flatnonzero(np.diff(column, prepend=False, append=False)).reshape(-1, 2)
        for start, stop in edges.tolist():
            sizes[start:stop, field] = stop - start
    return sizes
