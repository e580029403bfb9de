"""Fill the holes of sequences with any model that can say how probable each value of a hidden cell is.

    fills = infill(predict, sequences, holes, InfillConfig(), vocabulary=tokenizer.vocabulary, keys=range(n))

A cell outside the holes is never written. `order.py` decides which hidden cells each step commits; what they may
become is one mask of legal ids (`[OTHER]` is never among them), applied again at every step.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int, Integer

from maskseq.errors import UsageError
from maskseq.inference.order import Frontier, OrderConfig, choose, draw, phases, remask
from maskseq.types import LegalCells, Vocabulary

Predict = Callable[
    [Sequence[Integer[np.ndarray, "_ _"]], Sequence[Int[np.ndarray, "_ 2"]]], Sequence[Float[np.ndarray, "_ _"]]
]
"""Sequences of ids and the (position, field) cells asked of each → of each asked cell, log-probabilities over the
ids of its field, −inf for ids that are not predictable or belong to another field."""

Constraint = Callable[[Integer[np.ndarray, "_ _"], Int[np.ndarray, "_ 2"]], Bool[np.ndarray, "_ _"]]
"""A partly filled sequence and some of its hidden cells → of each, which ids it may still take. Every id must leave
a way to fill the rest: a constraint that looks ahead never runs into a dead end by itself."""

Key = int | tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class InfillConfig(OrderConfig):
    """How holes are filled. The default gives the most probable values; set `temperature` to 1 to draw samples."""

    temperature: float = 0.0
    """0: the most probable value; 1: drawn from the model's distribution."""
    top_k: int | None = None
    """Draw among the k most probable values only."""
    top_p: float = 1.0
    """Draw among the fewest values whose probabilities reach this sum."""
    samples: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.temperature < 0 or not 0 < self.top_p <= 1 or (self.top_k is not None and self.top_k < 1):
            raise UsageError(
                f"temperature is {self.temperature}, top_k {self.top_k}, top_p {self.top_p}\n\n"
                f"hint: temperature ≥ 0, top_k ≥ 1 (or none), 0 < top_p ≤ 1"
            )
        if self.samples < 1:
            raise UsageError(f"samples is {self.samples}; at least 1 is needed")
        if self.samples > 1 and self.temperature == 0 and not self.is_random:
            raise UsageError(
                f"{self.samples} samples at temperature 0 would all be the same\n\nhint: set temperature to 1"
            )


@dataclass(frozen=True)
class Fill:
    """What was put into the holes of one sequence, and how surely."""

    ids: Integer[np.ndarray, "samples length fields"]
    cells: Int[np.ndarray, "cells 2"]
    """(position, field) of the filled cells, sorted; the axis `cells` of everything below."""
    probabilities: Float[np.ndarray, "samples cells outputs"]
    """The model's distribution over the legal ids that each value was drawn from, before temperature and truncation."""
    log_prob: Float[np.ndarray, "samples cells"]
    """Of each committed value, in that distribution."""
    legal_mass: Float[np.ndarray, "samples cells"]
    """The probability that the model gave to all legal ids together."""
    other_mass: Float[np.ndarray, "samples cells"]
    """The probability that the model gave to `[OTHER]`, a value outside the vocabulary."""
    marginals: Float[np.ndarray, "cells outputs"]
    """The distribution over the legal ids before anything was filled: the posterior given the known cells alone."""
    step: Int[np.ndarray, "samples cells"]
    """The forward pass, from 0, after which the value was committed."""
    n_passes: Int[np.ndarray, " samples"]

    @cached_property
    def joint(self) -> Float[np.ndarray, " samples"]:
        """Log-probability of each whole fill: the chain rule along the order in which its cells were committed.

        Exact (for this model and order) where cells were committed one at a time; cells committed in one step count
        as independent, and after remasking or refinement each cell counts with its last commit.
        """
        return np.asarray(self.log_prob.sum(axis=1))


def infill(
    predict: Predict,
    sequences: Sequence[Integer[np.ndarray, "_ _"]],
    holes: Sequence[Bool[np.ndarray, "_ _"]],
    config: InfillConfig,
    *,
    vocabulary: Vocabulary,
    keys: Sequence[Key],
    legal: Sequence[LegalCells | None] | None = None,
    constraints: Sequence[Sequence[Constraint]] | None = None,
) -> list[Fill]:
    """Fill the `holes` of every sequence, all of them together, one call of `predict` a step.

    Sample s of a sequence draws from `default_rng((seed, key, s))`: what else is in the call, and in which order, does
    not change it. `UsageError` names the cells that no id may fill, before the model is run.
    """
    n = len(sequences)
    plans = [
        _Plan.of(np.asarray(ids), hole, vocabulary, key, narrowed, rules)
        for ids, hole, key, narrowed, rules in zip(
            sequences, holes, keys, legal or [None] * n, constraints or [()] * n, strict=True
        )
    ]
    runs = [
        _Run(plan, config, np.random.default_rng((config.seed, *_flat(plan.key), sample)))
        for plan in plans
        for sample in range(config.samples)
    ]
    while active := [run for run in runs if not run.finished]:
        for run, log_probs in zip(active, _ask(predict, active), strict=True):
            run.advance(log_probs)
    return [_gather(runs[i * config.samples : (i + 1) * config.samples]) for i in range(n)]


def _ask(predict: Predict, runs: "Sequence[_Run]") -> list[Float[np.ndarray, "_ _"]]:
    """One forward pass for all runs; samples that are in the same state share it."""
    states = [(id(run.plan), run.ids.tobytes(), run.asked.tobytes()) for run in runs]
    distinct = dict(zip(states, runs, strict=True))
    answers = predict([run.ids for run in distinct.values()], [run.plan.cells[run.asked] for run in distinct.values()])
    by_state = dict(zip(distinct, answers, strict=True))
    return [np.asarray(by_state[state], dtype=np.float64) for state in states]


@dataclass(frozen=True)
class _Plan:
    """A sequence with its hole cells hidden, and what may stand in them."""

    ids: Integer[np.ndarray, "length fields"]
    cells: Int[np.ndarray, "cells 2"]
    allowed: Bool[np.ndarray, "cells outputs"]
    mask_ids: Integer[np.ndarray, " cells"]
    other_ids: Integer[np.ndarray, " cells"]
    """−1 where the field has no `[OTHER]`."""
    constraints: Sequence[Constraint]
    key: Key

    @classmethod
    def of(
        cls,
        ids: Integer[np.ndarray, "length fields"],
        hole: Bool[np.ndarray, "length fields"],
        vocabulary: Vocabulary,
        key: Key,
        legal: LegalCells | None,
        constraints: Sequence[Constraint],
    ) -> "_Plan":
        cells = np.argwhere(hole)
        allowed = vocabulary.committable[cells[:, 1]]
        if legal is not None:
            inside = hole[legal.cells[:, 0], legal.cells[:, 1]]
            row = np.cumsum(hole.ravel()).reshape(hole.shape) - 1  # which hole cell each cell is
            np.logical_and.at(allowed, row[tuple(legal.cells[inside].T)], legal.allowed[inside])
        hidden = ids.copy()
        mask_ids = np.asarray(vocabulary.mask_ids)[cells[:, 1]]
        hidden[tuple(cells.T)] = mask_ids
        others = np.array([-1 if other is None else other for other in vocabulary.other_ids])
        plan = cls(hidden, cells, allowed, mask_ids, others[cells[:, 1]], constraints, key)
        plan.check_feasible()
        return plan

    def legal(
        self, ids: Integer[np.ndarray, "length fields"], which: Int[np.ndarray, " asked"]
    ) -> Bool[np.ndarray, "asked outputs"]:
        """The ids that these hole cells may take, given everything committed so far."""
        allowed = self.allowed[which]
        for constraint in self.constraints:
            allowed = allowed & constraint(ids, self.cells[which])
        return np.asarray(allowed)

    def check_feasible(self) -> None:
        stuck = ~self.legal(self.ids, np.arange(len(self.cells))).any(axis=1)
        if stuck.any():
            raise _nothing_fits(self, np.flatnonzero(stuck))


class _Run:
    """One sample of one sequence: which of its cells are filled, with what, and what comes next."""

    def __init__(self, plan: _Plan, config: InfillConfig, rng: np.random.Generator) -> None:
        n, outputs = plan.allowed.shape
        self.plan, self.config, self.rng = plan, config, rng
        self.ids = plan.ids.copy()
        self.phases = phases(plan.cells[:, 0], config, rng)
        self.hidden = np.ones(n, bool)
        self.log_prob, self.legal_mass, self.other_mass = np.zeros(n), np.zeros(n), np.zeros(n)
        self.probabilities = np.zeros((n, outputs), np.float32)
        self.marginals = np.zeros((n, outputs), np.float32)
        self.committed_at = np.zeros(n, np.int64)
        self.n_passes, self.step = 0, 0

    @property
    def finished(self) -> bool:
        return not self.phases

    @property
    def asked(self) -> Int[np.ndarray, " asked"]:
        """Hole cells to predict next: the hidden ones of this phase; all of them at first, for the marginals."""
        if self.n_passes == 0:
            return np.arange(len(self.plan.cells))
        phase = self.phases[0]
        return np.asarray(phase[self.hidden[phase]])

    def advance(self, log_probs: Float[np.ndarray, "asked outputs"]) -> None:
        """Take the steps that one forward pass allows: up to the first that changes a cell."""
        asked, phase = self.asked, self.phases[0]
        if self.n_passes == 0:
            self.marginals[:] = np.exp(self._restrict(log_probs, asked)[0])
            log_probs = log_probs[phase]
        waiting = phase[self.hidden[phase]]
        filled = phase[~self.hidden[phase]]
        legal_log_probs, _ = self._restrict(log_probs, waiting)
        commits = doubted = np.empty(0, np.int64)
        while len(commits) + len(doubted) == 0:
            frontier = Frontier(legal_log_probs, self.log_prob[filled], self.step)
            commits = choose(frontier, self.config, self.rng)
            doubted = filled[remask(frontier, self.config, self.rng)]
            self.step += 1
        self._commit(waiting, commits, log_probs)
        self._hide(doubted)
        self.n_passes += 1
        if not self.hidden[phase].any():
            self.phases, self.step = self.phases[1:], 0
            if self.phases:
                self._hide(self.phases[0])

    def _commit(
        self,
        waiting: Int[np.ndarray, " hidden"],
        commits: Int[np.ndarray, " commits"],
        log_probs: Float[np.ndarray, "hidden outputs"],
    ) -> None:
        noise = self.rng.gumbel(size=(len(commits), log_probs.shape[1]))  # float64: arXiv 2409.02908
        # Under constraints each commit narrows the others, so they are made one after the other, surest first.
        groups = (
            np.split(np.arange(len(commits)), np.arange(1, len(commits))) if self.plan.constraints else [slice(None)]
        )
        for group in groups:
            rows = commits[group]
            cells = waiting[rows]
            restricted, mass = self._restrict(log_probs[rows], cells)
            values = draw(
                restricted,
                noise[group],
                temperature=self.config.temperature,
                top_k=self.config.top_k,
                top_p=self.config.top_p,
            )
            self.ids[tuple(self.plan.cells[cells].T)] = values
            self.log_prob[cells] = restricted[np.arange(len(rows)), values]
            self.probabilities[cells] = np.exp(restricted)
            self.legal_mass[cells] = mass
            others = self.plan.other_ids[cells]
            self.other_mass[cells] = np.where(others < 0, 0.0, np.exp(log_probs[rows, others]))
            self.committed_at[cells] = self.n_passes
            self.hidden[cells] = False

    def _hide(self, cells: Int[np.ndarray, " cells"]) -> None:
        self.ids[tuple(self.plan.cells[cells].T)] = self.plan.mask_ids[cells]
        self.hidden[cells] = True

    def _restrict(
        self, log_probs: Float[np.ndarray, "some outputs"], cells: Int[np.ndarray, " some"]
    ) -> tuple[Float[np.ndarray, "some outputs"], Float[np.ndarray, " some"]]:
        """Log-probabilities over the legal ids of these cells, normalised, and the mass that those ids had."""
        legal = self.plan.legal(self.ids, cells)
        if not legal.any(axis=1).all():
            raise _nothing_fits(self.plan, cells[~legal.any(axis=1)])
        kept = np.where(legal, log_probs, -np.inf)
        total: Float[np.ndarray, " some"] = np.logaddexp.reduce(kept, axis=1)
        # A model that calls every legal value impossible has no opinion among them.
        kept = np.where(np.isneginf(total[:, None]), np.where(legal, 0.0, -np.inf), kept)
        return kept - np.logaddexp.reduce(kept, axis=1)[:, None], np.exp(total)


def _gather(runs: Sequence[_Run]) -> Fill:
    plan = runs[0].plan
    return Fill(
        ids=np.stack([run.ids for run in runs]),
        cells=plan.cells,
        probabilities=np.stack([run.probabilities for run in runs]),
        log_prob=np.stack([run.log_prob for run in runs]),
        legal_mass=np.stack([run.legal_mass for run in runs]),
        other_mass=np.stack([run.other_mass for run in runs]),
        marginals=runs[0].marginals,
        step=np.stack([run.committed_at for run in runs]),
        n_passes=np.array([run.n_passes for run in runs]),
    )


def _nothing_fits(plan: _Plan, cells: Int[np.ndarray, " stuck"]) -> UsageError:
    listed = ", ".join(f"({position}, {field})" for position, field in plan.cells[cells[:5]])
    more = f" and {len(cells) - 5} more" if len(cells) > 5 else ""
    return UsageError(
        f"sequence {plan.key}: no value is allowed in {len(cells)} cell(s) (position, field): {listed}{more}\n\n"
        f"hint: the constraints, and the values around the hole, contradict each other"
    )


def _flat(key: Key) -> tuple[int, ...]:
    return key if isinstance(key, tuple) else (key,)
