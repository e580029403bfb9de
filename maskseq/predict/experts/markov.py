"""Markov chains with both sides of a hole in view: what a model must at least beat, counted in seconds."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int, Integer

from maskseq.errors import UsageError
from maskseq.predict.experts.left_out import OwnRecords
from maskseq.predict.protocol import Example

MAX_TABLE = 1 << 24


@dataclass(frozen=True)
class Markov:
    """A Markov chain of one field: how probable each id is after the `order` ids before it.

    P(id | ids before) = (count + smoothing) / (total + smoothing · n_ids).

    *Why* it is a fair opponent: `marginals` is exact inference, given everything known on both sides of a hole. *Why*
    only what was seen is stored: of 128 bins of a signal, less than 1 % of all triples ever occur, and the rest of the
    table is the smoothing alone, so that a step costs what was seen and not 128³.
    """

    n_ids: int
    order: int
    codes: Int[np.ndarray, " entries"]
    """What was seen: `order` ids, oldest first, and the id after them, as digits of a number."""
    counts: Int[np.ndarray, " entries"]
    smoothing: float

    @classmethod
    def count(
        cls, sequences: Iterable[Integer[np.ndarray, "_"]], *, n_ids: int, order: int = 2, smoothing: float = 0.5
    ) -> "Markov":
        """Count in training sequences; ids of `n_ids` and above (`[MASK]`) break a context. Dirichlet-smoothed."""
        if order < 1 or n_ids ** (order + 1) > MAX_TABLE:
            raise UsageError(
                f"a Markov table of order {order} over {n_ids} ids has {n_ids}^{order + 1} entries; lower it",
                code="bad-option",
            )
        return cls(n_ids, order, *_transitions(sequences, n_ids, order), smoothing)

    def without(self, sequences: Iterable[Integer[np.ndarray, "_"]]) -> "Markov":
        """The same, had these stretches of what was counted not been there."""
        codes, times = _transitions(sequences, self.n_ids, self.order)
        left = self.counts.copy()
        left[np.searchsorted(self.codes, codes)] -= times
        return replace(self, counts=np.maximum(left, 0))

    @cached_property
    def totals(self) -> Float[np.ndarray, " contexts"]:
        """How often each context was seen, smoothing included; the denominators of all probabilities."""
        seen = np.bincount(self.codes // self.n_ids, self.counts, self.n_ids**self.order)
        return np.asarray(seen + self.smoothing * self.n_ids)

    def marginals(
        self, ids: Integer[np.ndarray, "length"], masked: Bool[np.ndarray, "length"]
    ) -> Float[np.ndarray, "cells ids"]:
        """P(id | everything that is not hidden) of each hidden position, by the forward-backward algorithm.

        Positions with ids outside the table count as hidden, too, but are not in the answer.
        """
        n_ids = self.n_ids
        dark = masked | (ids >= n_ids)
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
        return np.asarray(answer[masked])

    def _forward_backward(self, evidence: Float[np.ndarray, "length ids"]) -> Float[np.ndarray, "length ids"]:
        """Posterior of each position; a state is the last `order` ids, as digits of a number."""
        n_ids, n_states = self.n_ids, len(self.totals)
        before, after = self.codes // n_ids, self.codes % n_states
        states = np.empty((len(evidence) + 1, n_states))
        states[0] = self.totals / self.totals.sum()
        for i, seen in enumerate(evidence):
            weight = states[i] / self.totals
            counted = np.bincount(after, weight[before] * self.counts, n_states).reshape(-1, n_ids)
            smoothed = self.smoothing * weight.reshape(n_ids, -1).sum(axis=0)[:, None]  # the same for every id
            ahead = (counted + smoothed) * seen
            states[i + 1] = ahead.ravel() / ahead.sum()
        posterior = np.empty_like(evidence)
        behind = np.ones(n_states)
        for i in range(len(evidence) - 1, -1, -1):
            both = (states[i + 1] * behind).reshape(-1, n_ids).sum(axis=0)
            posterior[i] = both / both.sum()
            onward = behind.reshape(-1, n_ids) * evidence[i]
            counted = np.bincount(before, onward.ravel()[after] * self.counts, n_states).reshape(n_ids, -1)
            smoothed = self.smoothing * onward.sum(axis=1)  # the same after every oldest id
            behind = (counted + smoothed).ravel() / self.totals
            behind /= behind.max()
        return posterior


def _transitions(
    sequences: Iterable[Integer[np.ndarray, "_"]], n_ids: int, order: int
) -> tuple[Int[np.ndarray, " entries"], Int[np.ndarray, " entries"]]:
    """Codes of what follows what in sequences, increasing, and how often each occurs."""
    seen = [np.empty(0, np.int64)]
    for ids in sequences:
        wide = ids.astype(np.int64)
        codes = np.zeros(max(len(ids) - order, 0), np.int64)
        whole = np.ones(len(codes), bool)
        for back in range(order + 1):
            part = wide[back : back + len(codes)]
            codes = codes * n_ids + part
            whole &= part < n_ids
        seen.append(codes[whole])
    codes, counts = np.unique(np.concatenate(seen), return_counts=True)
    return codes, counts


def best_order(
    sequences: Sequence[Integer[np.ndarray, "_"]], *, n_ids: int, largest: int, smoothing: float = 0.5
) -> int:
    """The order whose chain finds each training id most likely, itself left out; 1 where a longer one exceeds a table.

    `largest` bounds the entries of a table, and with them the cost of a step.
    """
    worth = {}
    for order in range(1, 64):
        if order > 1 and n_ids ** (order + 1) > min(largest, MAX_TABLE):
            break
        chain = Markov.count(sequences, n_ids=n_ids, order=order, smoothing=smoothing)
        totals = chain.totals[chain.codes // n_ids] - 1
        likely = chain.counts * np.log((chain.counts - 1 + smoothing) / totals)
        # Ids that begin a sequence have no context of this length: each chain is judged by those that have one.
        worth[order] = float(likely.sum() / max(chain.counts.sum(), 1)) if len(chain.counts) else -np.inf
    return max(worth, key=lambda order: worth[order])


class MarkovPredict:
    """Chains of the fields of a sequence as a `Predict`: each asked cell given all known cells of its field."""

    def __init__(
        self,
        chains: Sequence[Markov],
        views: Sequence[Integer[np.ndarray, "_ _"]] = (),
        records: OwnRecords | None = None,
    ) -> None:
        """`records` are those whose `views` were counted: each is left out where it is asked about."""
        self.chains, self.views, self.records = chains, views, records

    def __call__(
        self, examples: Sequence[Example], cells: Sequence[Integer[np.ndarray, "_ 2"]]
    ) -> list[Float[np.ndarray, "_ _"]]:
        """Log-probabilities of the asked cells."""
        width = max(chain.n_ids for chain in self.chains)
        answers = []
        for example, requested in zip(examples, cells, strict=True):
            ids, own = example.ids, [] if self.records is None else self.records.of(example)
            counted = [self.views[view][start:stop] for view, start, stop in own]
            answer = np.full((len(requested), width), -np.inf)
            for field, chain in enumerate(self.chains):
                mine = np.flatnonzero(requested[:, 1] == field)
                if len(mine):
                    masked = np.zeros(len(ids), bool)
                    masked[requested[mine, 0]] = True
                    row = np.cumsum(masked) - 1  # of each position among the hidden ones
                    if counted:
                        chain = chain.without(each[:, field] for each in counted)
                    found = np.log(chain.marginals(ids[:, field], masked))
                    answer[mine, : found.shape[1]] = found[row[requested[mine, 0]]]
            answers.append(answer)
        return answers
