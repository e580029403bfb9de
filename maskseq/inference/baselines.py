"""What a model must beat: tables that are counted in seconds and see both sides of a hole."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Integer

from maskseq.errors import UsageError

MAX_TABLE = 1 << 24


@dataclass(frozen=True)
class Markov:
    """A Markov chain of one field: how probable each id is after the `order` ids before it.

    Why it is a fair opponent: `marginals` is exact inference, given everything known on both sides of a hole.
    """

    transition: Float[np.ndarray, "..."]
    """Axes: the `order` ids before, oldest first, then the id itself. Rows sum to 1."""
    prior: Float[np.ndarray, "..."]
    """How frequent each context is."""

    @property
    def order(self) -> int:
        return self.prior.ndim

    @classmethod
    def count(
        cls, sequences: Iterable[Integer[np.ndarray, "_"]], *, n_ids: int, order: int = 2, smoothing: float = 0.5
    ) -> "Markov":
        """Count in training sequences; ids of `n_ids` and above (`[MASK]`) break a context. Dirichlet-smoothed."""
        if order < 1 or n_ids ** (order + 1) > MAX_TABLE:
            raise UsageError(
                f"a Markov table of order {order} over {n_ids} ids has {n_ids}^{order + 1} entries; lower it"
            )
        counts = np.zeros(n_ids ** (order + 1), np.int64)
        for ids in sequences:
            wide = ids.astype(np.int64)
            codes = np.zeros(max(len(ids) - order, 0), np.int64)
            whole = np.ones(len(codes), bool)
            for back in range(order + 1):
                part = wide[back : back + len(codes)]
                codes = codes * n_ids + part
                whole &= part < n_ids
            counts += np.bincount(codes[whole], minlength=len(counts))
        table = counts.reshape((n_ids,) * (order + 1)) + smoothing
        contexts = table.sum(axis=-1)
        return cls(table / contexts[..., None], contexts / contexts.sum())

    def marginals(
        self, ids: Integer[np.ndarray, "length"], hidden: Bool[np.ndarray, "length"]
    ) -> Float[np.ndarray, "cells ids"]:
        """P(id | everything that is not hidden) of each hidden position, by the forward-backward algorithm.

        Positions with ids outside the table count as hidden, too, but are not in the answer.
        """
        n_ids = self.transition.shape[-1]
        dark = hidden | (ids >= n_ids)
        answer = np.zeros((len(ids), n_ids))
        # What is more than `order` known ids away from a dark position says nothing about it.
        near = np.convolve(dark, np.ones(2 * self.order + 1))[self.order : -self.order] > 0
        edges = np.flatnonzero(np.diff(near, prepend=False, append=False)).reshape(-1, 2)
        for start, stop in edges.tolist():
            evidence = np.ones((stop - start, n_ids))
            known = np.flatnonzero(~dark[start:stop])
            evidence[known] = 0
            evidence[known, ids[start + known]] = 1
            answer[start:stop] = self._forward_backward(evidence)
        return np.asarray(answer[hidden])

    def _forward_backward(self, evidence: Float[np.ndarray, "length ids"]) -> Float[np.ndarray, "length ids"]:
        """Posterior of each position; the axes of a state are the last `order` ids."""
        states: Float[np.ndarray, ...] = np.empty((len(evidence) + 1, *self.prior.shape))
        states[0] = self.prior
        for i, seen in enumerate(evidence):
            ahead = (states[i][..., None] * self.transition).sum(axis=0) * seen
            states[i + 1] = ahead / ahead.sum()
        posterior = np.empty_like(evidence)
        behind = np.ones_like(self.prior)
        others = tuple(range(self.order - 1))
        for i in range(len(evidence) - 1, -1, -1):
            both = (states[i + 1] * behind).sum(axis=others)
            posterior[i] = both / both.sum()
            behind = (self.transition * (evidence[i] * behind)[None]).sum(axis=-1)
            behind /= behind.max()
        return posterior


class MarkovPredict:
    """Chains of the fields of a sequence as a `Predict`: each asked cell given all known cells of its field."""

    def __init__(self, chains: Sequence[Markov]) -> None:
        self.chains = chains

    def __call__(
        self, sequences: Sequence[Integer[np.ndarray, "_ _"]], cells: Sequence[Integer[np.ndarray, "_ 2"]]
    ) -> list[Float[np.ndarray, "_ _"]]:
        """Log-probabilities of the asked cells."""
        width = max(chain.transition.shape[-1] for chain in self.chains)
        answers = []
        for ids, asked in zip(sequences, cells, strict=True):
            answer = np.full((len(asked), width), -np.inf)
            for field, chain in enumerate(self.chains):
                mine = np.flatnonzero(asked[:, 1] == field)
                if len(mine):
                    hidden = np.zeros(len(ids), bool)
                    hidden[asked[mine, 0]] = True
                    row = np.cumsum(hidden) - 1  # of each position among the hidden ones
                    found = np.log(chain.marginals(ids[:, field], hidden))
                    answer[mine, : found.shape[1]] = found[row[asked[mine, 0]]]
            answers.append(answer)
        return answers
