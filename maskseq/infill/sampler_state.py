"""One way to fill one sequence, step by step: what stands where, what is still legal, and what comes next."""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from maskseq.constraints import Constraint, narrowed, propagate
from maskseq.errors import UsageError, check_seed
from maskseq.infill.order import Frontier, OrderConfig, choose, draw, phases, remask
from maskseq.predict.posterior import numbers_in
from maskseq.predict.protocol import Example, PredictJointly
from maskseq.predict.stated import Stated
from maskseq.types import LegalCells, Vocabulary

Key = int | tuple[int, ...]
FARTHEST = 6.0  # standard deviations of a number, given those before it, that the next ones learn of at most
MAX_STARTS = 20  # how often a sample may run into a dead end of its constraints


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
    beam: int = 1
    """With `left_to_right` at temperature 0: keep so many partial fills, and find the most probable ones as a whole
    (beam search; exact where nothing has to be dropped). `samples` are then the best of them, best first."""
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_seed(self.seed)
        if self.temperature < 0 or not 0 < self.top_p <= 1 or (self.top_k is not None and self.top_k < 1):
            raise UsageError(
                f"temperature is {self.temperature}, top_k {self.top_k}, top_p {self.top_p}\n\n"
                f"hint: temperature ≥ 0, top_k ≥ 1 (or none), 0 < top_p ≤ 1",
                code="bad-option",
            )
        if self.samples < 1:
            raise UsageError(f"samples is {self.samples}; at least 1 is needed", code="bad-option")
        if self.beam < 1 or (self.beam > 1 and not self._may_search):
            raise UsageError(
                f"beam is {self.beam}; it is at least 1, and more only for the order left_to_right at temperature 0, "
                f"without blocks or refinement",
                code="bad-option",
            )
        if self.samples > max(self.beam, 1) and self.temperature == 0 and not self.is_random:
            raise UsageError(
                f"{self.samples} samples at temperature 0 would all be the same\n\nhint: set temperature to 1",
                code="bad-option",
            )

    @property
    def _may_search(self) -> bool:
        return self.order == "left_to_right" and self.temperature == 0 and self.block is None and self.refine == 0


@dataclass(frozen=True)
class SamplerInput:
    """A sequence with its hole cells hidden, and what may stand in them before any is filled."""

    example: Example
    """All its hole cells are `[MASK]`."""
    cells: Int[np.ndarray, "cells 2"]
    legal: Bool[np.ndarray, "cells outputs"]
    """By the vocabulary and the sequence's own narrowed cells: what does not change."""
    allowed: Bool[np.ndarray, "cells outputs"]
    """By the constraints as well, at the start."""
    mask_ids: Int[np.ndarray, " cells"]
    other_ids: Int[np.ndarray, " cells"]
    """−1 where the field has no `[OTHER]`."""
    constraints: Sequence[Constraint]
    key: Key
    name: str
    centres: Sequence[tuple[float, ...] | None] = ()
    """Of each field."""

    @classmethod
    def of(
        cls,
        vocabulary: Vocabulary,
        example: Example,
        hole: Bool[np.ndarray, "length fields"],
        key: Key,
        name: str,
        legal_cells: LegalCells | None,
        constraints: Sequence[Constraint],
    ) -> "SamplerInput":
        cells = np.argwhere(hole)
        mask_ids = np.asarray(vocabulary.mask_ids)[cells[:, 1]]
        others = np.array([-1 if other is None else other for other in vocabulary.other_ids])[cells[:, 1]]
        masked, numbers = example.ids.copy(), example.numbers
        masked[tuple(cells.T)] = mask_ids
        given = vocabulary.known(masked) if example.given is None else example.given & ~hole
        if numbers is not None:
            numbers = np.where(hole, np.nan, numbers)
        legal = narrowed(legal_cells, cells, vocabulary.committable[cells[:, 1]])
        allowed = propagate(constraints, masked, cells, legal)
        check_feasible(name, cells[~allowed.any(axis=1)], vocabulary)
        seen = replace(example, ids=masked, numbers=numbers, given=given)
        return cls(seen, cells, legal, allowed, mask_ids, others, constraints, key, name, vocabulary.centres)


def check_feasible(name: str, stuck: Int[np.ndarray, "cells 2"], vocabulary: Vocabulary) -> None:
    """`UsageError` if there are cells that no value may fill."""
    if len(stuck):
        listed = ", ".join(f"{position + 1} ({vocabulary.names[field]})" for position, field in stuck[:5].tolist())
        more = ", …" if len(stuck) > 5 else ""
        raise UsageError(
            f"{name}: no value is allowed in {len(stuck)} cell(s), at position {listed}{more}\n\n"
            f"hint: the rules, and the values around the hole, contradict each other",
            code="bad-option",
        )


class SamplerState:
    """One sample of one sequence: which of its cells are filled, with what, and what comes next."""

    def __init__(self, plan: SamplerInput, config: InfillConfig, sample: int) -> None:
        n, outputs = plan.allowed.shape
        self.plan, self.config = plan, config
        self.rng = np.random.default_rng((config.seed, *flat_key(plan.key), sample))
        self.values, self.committed_at = np.zeros(n, np.int64), np.zeros(n, np.int64)
        self.log_prob, self.legal_mass, self.other_mass = np.zeros(n), np.zeros(n), np.zeros(n)
        self.probabilities = np.zeros((n, outputs), np.float32)
        self.marginals = np.zeros((n, outputs), np.float32)
        self.numbers = np.full(n, np.nan)
        self.stated: Stated | None = None
        self.parts: tuple[Float[np.ndarray, "cells outputs"], ...] = ()
        """What each expert says of the cells, given the known ones alone, where there are several."""
        self.n_passes, self.n_starts = 0, 0
        self.start()

    def start(self) -> None:
        """Hide every hole cell; also where a dead end leads back to."""
        self.ids, self.allowed = self.plan.example.ids.copy(), self.plan.allowed.copy()
        self.numbers[:] = np.nan
        self.masked = np.ones(len(self.values), bool)
        self.phases, self.step = phases(self.plan.cells[:, 0], self.config, self.rng), 0
        self.n_starts += 1

    @property
    def given_by_experts(self) -> Float[np.ndarray, "cells experts"]:
        """The probability of each value by each expert."""
        rows = np.arange(len(self.values))
        return np.stack([part[rows, self.values] for part in self.parts], axis=1)

    @property
    def example(self) -> Example:
        """What the predictor may see now."""
        numbers = self.plan.example.numbers
        if numbers is not None:
            numbers = numbers.copy()
            numbers[tuple(self.plan.cells.T)] = self.numbers
        return replace(self.plan.example, ids=self.ids, numbers=numbers)

    @property
    def requested(self) -> Int[np.ndarray, " asked"]:
        """Hole cells to predict next: the hidden ones of this phase; all of them at first, for the marginals."""
        if self.n_passes == 0:
            return np.arange(len(self.masked))
        return np.asarray(self.phases[0][self.masked[self.phases[0]]])

    def advance(
        self,
        log_probs: Float[np.ndarray, "asked outputs"],
        stated: Stated | None = None,
        joint: PredictJointly | None = None,
    ) -> None:
        """Take the steps that one forward pass allows: up to the first that changes a cell.

        With `joint`, that is asked how stated numbers depend on one another; these are drawn in one pass, each given
        those before it, where the order leaves it to the dependence how many are.
        """
        phase = self.phases[0]
        if self.n_passes == 0:
            self.marginals[:], self.stated = np.exp(restrict(log_probs, self.allowed)[0]), stated
            log_probs, stated = log_probs[phase], None if stated is None else stated.at(phase)
        waiting, filled = phase[self.masked[phase]], phase[~self.masked[phase]]
        as_read = self.plan.example.numbers is not None  # else numbers that are drawn are not kept
        if joint is not None and stated is not None and as_read and self.config.order == "entropy_bounded":
            factors = joint.jointly(self.example, self.plan.cells[waiting])
            if factors:
                self._end(all(self._draw_jointly(waiting, stated, joint, *each) for each in factors))
                return
        restricted, _ = restrict(log_probs, self.allowed[waiting])
        commits = doubted = np.empty(0, np.int64)
        while len(commits) + len(doubted) == 0:
            frontier = Frontier(restricted, self.log_prob[filled], self.step)
            commits = choose(frontier, self.config, self.rng)
            doubted = filled[remask(frontier, self.config, self.rng)]
            self.step += 1
        noise = self.rng.gumbel(size=(len(commits), log_probs.shape[1]))  # float64: arXiv 2409.02908
        alive = self._draw_all(waiting[commits], log_probs[commits], noise)  # surest first
        made = commits[~self.masked[waiting[commits]]]
        self._number(waiting[made], None if stated is None else stated.at(made))
        self._end(alive and self._hide(doubted))

    def _end(self, alive: bool) -> None:
        """What follows a pass: the next phase if this one is done, or a new start from a dead end."""
        self.n_passes += 1
        if not alive:
            self._start_over()
        elif not self.masked[self.phases[0]].any():
            self.phases, self.step = self.phases[1:], 0
            if self.phases and not self._hide(self.phases[0]):
                self._start_over()

    def _draw_jointly(
        self,
        waiting: Int[np.ndarray, " waiting"],
        stated: Stated,
        joint: PredictJointly,
        which: Int[np.ndarray, " some"],
        factor: Float[np.ndarray, "some some"],
    ) -> bool:
        """Draw and commit some of the waiting cells one after the other, each given the numbers before it.

        The first ones may be drawn already, with an earlier group.
        """
        cells, stated, n = waiting[which], stated.at(which), len(which)
        n_drawn = int(np.count_nonzero(~self.masked[cells]))
        noise = self.rng.gumbel(size=(n - n_drawn, self.allowed.shape[1]))
        own = np.zeros(n)
        # The most probable numbers are the means, which leave the others where they are: all at once then.
        step = 1 if self.config.temperature > 0 else max(n - n_drawn, 1)
        if step == 1 and n_drawn:
            before = slice(0, n_drawn)
            reached = stated.at(np.arange(n_drawn)).scores(self.numbers[cells[before]][:, None])[:, 0]
            own[before] = np.linalg.solve(factor[before, before], np.clip(reached, -FARTHEST, FARTHEST))
        for start in range(n_drawn, n, step):
            now = slice(start, start + step)
            score, spread = factor[now] @ own, np.diagonal(factor)[now]
            conditional = stated.at(np.arange(n)[now]).given(score, spread)
            (log_probs,) = joint.of_bins([conditional], [self.plan.cells[cells[now]]])
            if not self._draw_all(cells[now], log_probs, noise[start - n_drawn : start - n_drawn + step]):
                return False
            self._number(cells[now], conditional)
            if step == 1:
                reached = stated.at(np.array([start])).scores(self.numbers[cells[now]][:, None])[:, 0]
                own[now] = np.clip((reached - score) / spread, -FARTHEST, FARTHEST)
        return True

    def _draw_all(
        self,
        cells: Int[np.ndarray, " now"],
        log_probs: Float[np.ndarray, "now outputs"],
        noise: Float[np.ndarray, "now outputs"],
    ) -> bool:
        """Draw values for these cells; under constraints, where each commit narrows the others, one by one."""
        size = 1 if self.plan.constraints else max(len(cells), 1)
        groups = [slice(i, i + size) for i in range(0, len(cells), size)]
        return all(self._draw(cells[g], log_probs[g], noise[g]) for g in groups)

    def _draw(
        self,
        cells: Int[np.ndarray, " now"],
        log_probs: Float[np.ndarray, "now outputs"],
        noise: Float[np.ndarray, "now outputs"],
    ) -> bool:
        """Draw values for these cells and commit them."""
        config = self.config
        restricted, _ = restrict(log_probs, self.allowed[cells])
        values = draw(restricted, noise, temperature=config.temperature, top_k=config.top_k, top_p=config.top_p)
        return self.commit(cells, log_probs, values)

    def commit(
        self,
        cells: Int[np.ndarray, " now"],
        log_probs: Float[np.ndarray, "now outputs"],
        values: Int[np.ndarray, " now"],
    ) -> bool:
        """Put these values and narrow the rest by them; False if that leaves a cell without any legal id."""
        restricted, mass = restrict(log_probs, self.allowed[cells])
        rows, others = np.arange(len(cells)), self.plan.other_ids[cells]
        self.ids[tuple(self.plan.cells[cells].T)] = self.values[cells] = values
        self.log_prob[cells] = restricted[rows, values]
        self.probabilities[cells] = np.exp(restricted)
        self.legal_mass[cells] = mass
        self.other_mass[cells] = np.where(others < 0, 0.0, np.exp(log_probs[rows, others]))
        self.committed_at[cells] = self.n_passes
        self.masked[cells] = False
        return self._narrow()

    def _number(self, cells: Int[np.ndarray, " now"], stated: Stated | None) -> None:
        """Say which numbers these values stand for: stated ones, if they are drawn within their bins, or centres."""
        if self.plan.example.numbers is None or not len(cells):
            return
        fields, values = self.plan.cells[cells, 1], self.values[cells]
        drawn = self.config.temperature > 0 and stated is not None
        ranks = self.rng.random(len(cells)) if drawn else None
        for field in np.unique(fields).tolist():
            mine = np.flatnonzero(fields == field)
            centres = self.plan.centres[field]
            if centres is not None:
                part = None if stated is None else stated.at(mine)
                rank = None if ranks is None else ranks[mine]
                self.numbers[cells[mine]] = numbers_in(values[mine], np.asarray(centres), part, rank)

    def extended(
        self, log_probs: Float[np.ndarray, "asked outputs"], value: int, stated: Stated | None = None
    ) -> "SamplerState | None":
        """A copy with this value in the first hidden cell; None if that leaves a cell without any legal id."""
        twin = copy(self)
        for name, mine in vars(self).items():
            if isinstance(mine, np.ndarray):
                setattr(twin, name, mine.copy())
        first = np.flatnonzero(self.masked)[:1]
        alive = twin.commit(first, log_probs[:1], np.array([value]))
        twin._number(first, None if stated is None else stated.at(np.arange(1)))
        twin.n_passes += 1
        return twin if alive else None

    def _hide(self, cells: Int[np.ndarray, " cells"]) -> bool:
        self.ids[tuple(self.plan.cells[cells].T)] = self.plan.mask_ids[cells]
        self.numbers[cells] = np.nan
        self.masked[cells] = True
        return len(cells) == 0 or self._narrow()

    def _narrow(self) -> bool:
        """Ask the constraints again about all hidden cells; False if one of them has no legal id left."""
        if not self.plan.constraints:
            return True
        masked = self.masked
        self.allowed[masked] = propagate(
            self.plan.constraints, self.ids, self.plan.cells[masked], self.plan.legal[masked]
        )
        return bool(self.allowed[masked].any(axis=1).all())

    def _start_over(self) -> None:
        if self.n_starts == MAX_STARTS or (self.config.temperature == 0 and not self.config.is_random):
            raise dead_end(self.plan.name, self.n_starts)
        self.start()


def dead_end(name: str, times: int) -> UsageError:
    """What to say when every way that was tried ends in a cell without any legal id."""
    return UsageError(
        f"{name}: the constraints led into a dead end, {times} time(s)\n\n"
        f"hint: each can be met, but together they are too tight to be met step by step; loosen one, join "
        f"automata with &, or draw with a temperature above 0",
        code="bad-option",
    )


def restrict(
    log_probs: Float[np.ndarray, "some outputs"], legal: Bool[np.ndarray, "some outputs"]
) -> tuple[Float[np.ndarray, "some outputs"], Float[np.ndarray, " some"]]:
    """Log-probabilities over the legal ids, normalised, and the mass that those ids had."""
    kept = np.where(legal, log_probs, -np.inf)
    total: Float[np.ndarray, "some 1"] = np.logaddexp.reduce(kept, axis=1, keepdims=True)
    # A model that calls every legal value impossible has no opinion among them.
    kept = np.where(np.isneginf(total), np.where(legal, 0.0, -np.inf), kept)
    return kept - np.logaddexp.reduce(kept, axis=1, keepdims=True), np.exp(total[:, 0])


def flat_key(key: Key) -> tuple[int, ...]:
    """The numbers of a key, to make a longer key of."""
    return key if isinstance(key, tuple) else (key,)
