"""Several methods as one: their mean, and a log-linear mixture whose weights are fitted on held-out cells.

    log p = Σ_e w_e(class) · log p_e − log Z,    w = softplus(b + B[class])

(Genest & Zidek 1986, doi:10.1214/ss/1177013825). Fitting starts at equal weights and is drawn towards them, so that few
cells change little; with fewer than `FEWEST` weights stay equal.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Integer
from torch import Tensor
from torch.nn.functional import softplus

from maskseq.predict.protocol import Example, Predict
from maskseq.types import Vocabulary

FLOOR = 1e-6
"""Of the uniform distribution in each method's answer: none may rule out what is true."""
FEWEST = 100
"""Cells below which nothing is fitted."""
ENOUGH = 1000
"""Cells from which on classes have weights of their own."""
PENALTY = 3.0
STEPS = 60
HOLES = (1, 2, 5)
"""Lengths of holes from which on a class begins."""
REMEMBERED = 1 << 28
"""Bytes of answers that are kept."""


class Remembered:
    """A `Predict` that keeps its answers, so that a mixture need not ask what was asked already."""

    def __init__(self, predict: Predict) -> None:
        self.predict = predict
        self.kept: dict[bytes, list[Float[np.ndarray, "_ _"]]] = {}
        self.size = 0

    def __call__(
        self, examples: Sequence[Example], cells: Sequence[Integer[np.ndarray, "_ 2"]]
    ) -> list[Float[np.ndarray, "_ _"]]:
        """What the method answers."""
        key = hashlib.blake2b(digest_size=16)
        key.update(repr([(each.key, each.start) for each in examples]).encode())
        arrays = [each for example in examples for each in (example.ids, example.numbers) if each is not None]
        for each in (*arrays, *cells):
            key.update(f"{each.shape}{each.dtype}".encode())
            key.update(np.ascontiguousarray(each).tobytes())
        if key.digest() not in self.kept:
            found = [np.asarray(each) for each in self.predict(examples, cells)]
            self.size += sum(each.nbytes for each in found)
            self.kept[key.digest()] = found
            while self.size > REMEMBERED and len(self.kept) > 1:
                self.size -= sum(each.nbytes for each in self.kept.pop(next(iter(self.kept))))
        return [each.copy() for each in self.kept[key.digest()]]


@dataclass(frozen=True)
class Gate:
    """How much each method is worth in each class of cells."""

    weights: Float[np.ndarray, "classes methods"]
    n_cells: int
    """That it was fitted on."""

    @classmethod
    def equal(cls, n_methods: int, n_classes: int, n_cells: int = 0) -> "Gate":
        return cls(np.full((n_classes, n_methods), 1 / n_methods), n_cells)

    @classmethod
    def fit(
        cls,
        log_probs: Float[np.ndarray, "methods cells ids"],
        truth: Int[np.ndarray, " cells"],
        classes: Int[np.ndarray, " cells"],
        n_classes: int,
    ) -> "Gate":
        """The most likely weights, drawn towards equal ones: L-BFGS from there."""
        n_methods, n_cells, _ = log_probs.shape
        if n_cells < FEWEST:
            return cls.equal(n_methods, n_classes, n_cells)
        said = torch.from_numpy(log_probs).double()
        target, group = torch.from_numpy(truth).long(), torch.from_numpy(classes).long()
        start = torch.full((n_methods,), float(np.log(np.expm1(1 / n_methods))), dtype=torch.float64)
        b = start.clone().requires_grad_()
        by_class = torch.zeros((n_classes, n_methods), dtype=torch.float64, requires_grad=n_cells >= ENOUGH)
        fitted = [each for each in (b, by_class) if each.requires_grad]
        optimizer = torch.optim.LBFGS(fitted, max_iter=STEPS, line_search_fn="strong_wolfe")

        def closure() -> Tensor:
            optimizer.zero_grad()
            weights = softplus(b + by_class)[group]
            mixed = torch.einsum("nm,mni->ni", weights, said).log_softmax(dim=-1)
            penalty = (b - start).square().sum() + by_class.square().sum()
            loss: Tensor = -mixed.gather(1, target[:, None]).mean() + PENALTY * penalty / n_cells
            loss.backward()  # type: ignore[no-untyped-call]
            return loss

        optimizer.step(closure)  # type: ignore[no-untyped-call]
        return cls(softplus(b + by_class).detach().numpy(), n_cells)


class Mixture:
    """Methods as one `Predict`: the mean of their probabilities, or log-linear as a gate says."""

    def __init__(self, predicts: Mapping[str, Predict], vocabulary: Vocabulary, gate: Gate | None = None) -> None:
        self.predicts, self.vocabulary, self.gate = dict(predicts), vocabulary, gate

    @property
    def n_classes(self) -> int:
        return self.vocabulary.n_fields * len(HOLES)

    def __call__(
        self, examples: Sequence[Example], cells: Sequence[Integer[np.ndarray, "_ 2"]]
    ) -> list[Float[np.ndarray, "_ _"]]:
        """Log-probabilities of the asked cells."""
        said = self.answers(examples, cells)
        ends = np.cumsum([0, *map(len, cells)])
        if self.gate is None:
            mixed = np.logaddexp.reduce(said, axis=0) - np.log(len(said))
        else:
            weights = self.gate.weights[self.classes(examples, cells)]
            with np.errstate(invalid="ignore"):
                mixed = np.where(np.isinf(said[0]), -np.inf, np.einsum("nm,mni->ni", weights, np.maximum(said, -1e9)))
            mixed -= np.logaddexp.reduce(mixed, axis=1, keepdims=True)
        return np.split(mixed, ends[1:-1])

    def fitted(
        self,
        examples: Sequence[Example],
        cells: Sequence[Integer[np.ndarray, "_ 2"]],
        truth: Int[np.ndarray, " cells"],
    ) -> "Mixture":
        """The same methods, weighted by what they say of these cells."""
        said = np.maximum(self.answers(examples, cells), -1e4)  # impossible for all of them alike
        gate = Gate.fit(said, truth, self.classes(examples, cells), self.n_classes)
        return Mixture(self.predicts, self.vocabulary, gate)

    def answers(
        self, examples: Sequence[Example], cells: Sequence[Integer[np.ndarray, "_ 2"]]
    ) -> Float[np.ndarray, "methods cells ids"]:
        """Log-probabilities of every method, a little of the uniform distribution in each."""
        fields = np.concatenate([np.empty(0, np.int64), *(asked[:, 1] for asked in cells)])
        possible = self.vocabulary.predictable[fields]
        uniform = possible / np.maximum(possible.sum(axis=1, keepdims=True), 1)
        said = []
        for predict in self.predicts.values():
            found = np.exp(np.concatenate([np.asarray(each, np.float64) for each in predict(examples, cells)]))
            said.append((1 - FLOOR) * np.where(possible, found, 0) + FLOOR * uniform)
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(np.stack(said)))

    def classes(
        self, examples: Sequence[Example], cells: Sequence[Integer[np.ndarray, "_ 2"]]
    ) -> Int[np.ndarray, " cells"]:
        """Of each cell, its field and how long the hole is that it lies in."""
        found = [np.empty(0, np.int64)]
        for ids, asked in zip((each.ids for each in examples), cells, strict=True):
            sizes = holes(~self.vocabulary.known(np.asarray(ids)))[tuple(asked.T)]
            group = np.searchsorted(HOLES, np.maximum(sizes, 1), side="right") - 1
            found.append(asked[:, 1] * len(HOLES) + group)
        return np.concatenate(found).astype(np.int64)


def holes(hidden: Bool[np.ndarray, "length fields"]) -> Int[np.ndarray, "length fields"]:
    """Of each hidden cell, how many hidden cells of its field stand side by side there; 0 of known ones."""
    sizes = np.zeros(hidden.shape, np.int64)
    for field, column in enumerate(hidden.T):
        edges = np.flatnonzero(np.diff(column, prepend=False, append=False)).reshape(-1, 2)
        for start, stop in edges.tolist():
            sizes[start:stop, field] = stop - start
    return sizes
