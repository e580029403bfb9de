"""Which hidden cells to commit next, and the draw of a value: pure functions of the model's distributions.

No order looks at the values that will be drawn, only at the distributions they are drawn from. So wherever the
conditionals are exact, committing one cell at a time samples the exact joint distribution, whatever the order.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Bool, Float, Int

from maskseq.contract.own import found as own_part
from maskseq.contract.own import is_own, look_up, named, refuse_other_names
from maskseq.errors import UsageError

OrderName = Literal[
    "one_shot", "ancestral", "confidence", "margin", "entropy", "threshold", "entropy_bounded", "left_to_right", "remdm"
]


@dataclass(frozen=True, kw_only=True)
class OrderConfig:
    """In which order the cells of a hole are committed, and how many at a time."""

    order: OrderName | str | Callable[..., Any] = "entropy_bounded"
    """One of ours, or your own as `module:name`, in Python also the callable itself: (`Frontier`, this config,
    Generator) → indices into the masked cells that are committed now, at least one."""
    gamma: float = 0.1
    """`entropy_bounded`: nats of dependence that one step may ignore; 0 commits one cell at a time."""
    steps: int = 16
    """`ancestral`, `remdm`, `confidence`, `margin` and `entropy`: the passes to spend (never more than needed)."""
    schedule: Literal["cosine", "linear"] = "cosine"
    """`confidence`, `margin` and `entropy`: how the number of hidden cells falls from step to step."""
    threshold: float = 0.9
    """`threshold`: commit every cell whose most probable value is at least this probable."""
    noise: float = 0.0
    """`confidence`, `margin` and `entropy`: Gumbel noise on the scores, falling to 0 with the steps. MaskGIT uses
    4.5; without any, sure but dull values come first and long holes fill with repeats."""
    block: int | None = None
    """Finish each block of this many positions before the next one (semi-autoregressive)."""
    refine: int = 0
    """Sweeps of block-Gibbs after the filling: every filled cell is hidden once a sweep and filled again."""
    refine_share: float = 0.15
    """The share of the hole that is hidden at a time in a sweep, at least one cell."""

    def __post_init__(self) -> None:
        if callable(self.order):
            object.__setattr__(self, "order", named(self.order))
        refuse_other_names("order", str(self.order), get_args(OrderName))
        if is_own(self.order):
            look_up("order", str(self.order), trust_code=True)  # who names it in this call means it
        if self.schedule not in ("cosine", "linear"):
            raise UsageError(f"schedule is {self.schedule!r}; it can be cosine or linear", code="bad-option")
        if self.steps < 1:
            raise UsageError(f"steps is {self.steps}; at least 1 is needed", code="bad-option")
        if not (self.gamma >= 0 and self.noise >= 0):
            raise UsageError(f"gamma is {self.gamma} and noise {self.noise}; both must be 0 or more", code="bad-option")
        if not 0 < self.threshold <= 1:
            raise UsageError(
                f"threshold is {self.threshold}; it is a probability, above 0 and at most 1", code="bad-option"
            )
        if self.block is not None and self.block < 1:
            raise UsageError(f"block is {self.block}; it is a number of positions, at least 1", code="bad-option")
        if self.refine < 0 or not 0 < self.refine_share <= 1:
            raise UsageError("refine must be at least 0, and refine_share above 0 and at most 1", code="bad-option")

    @property
    def is_random(self) -> bool:
        """Whether the order itself, not only the values, differs from sample to sample."""
        return self.order in ("ancestral", "remdm") or (self.order in _SCORES and self.noise > 0) or self.refine > 0


@dataclass(frozen=True)
class Frontier:
    """What an order sees of one sample: the cells of the current phase, hidden and committed."""

    log_probs: Float[np.ndarray, "hidden outputs"]
    """Of each hidden cell, first position first: log-probabilities over its legal ids, normalised."""
    committed: Float[np.ndarray, " committed"]
    """Of each cell committed so far: the log-probability that its value had then."""
    step: int

    @property
    def n_cells(self) -> int:
        return len(self.log_probs) + len(self.committed)


def choose(frontier: Frontier, config: OrderConfig, rng: np.random.Generator) -> Int[np.ndarray, " commits"]:
    """Indices into the hidden cells that this step commits, surest first; only random orders may choose none."""
    if is_own(config.order):
        return _own(frontier, config, rng)
    return _ORDERS[str(config.order)](frontier, config, rng)


def _own(frontier: Frontier, config: OrderConfig, rng: np.random.Generator) -> Int[np.ndarray, " commits"]:
    """What an order of the user's own chooses; at least one cell, or it would never end."""
    chosen = np.unique(np.asarray(own_part("order", str(config.order))(frontier, config, rng), np.int64))
    if not len(chosen) or chosen[0] < 0 or chosen[-1] >= len(frontier.log_probs):
        raise UsageError(
            f"order {config.order!r} must choose at least one of {len(frontier.log_probs)} masked cells, not {chosen}",
            code="bad-option",
        )
    return chosen


def remask(frontier: Frontier, config: OrderConfig, rng: np.random.Generator) -> Bool[np.ndarray, " committed"]:
    """Which committed cells to hide again: none, but for ReMDM with its `conf` schedule (arXiv 2503.00307).

    Cell i is hidden with probability σ_max · softmax(−p)_i: least sure first, about one a step, none in the last.
    """
    if config.order != "remdm" or len(frontier.committed) == 0 or frontier.step == 0:
        return np.zeros(len(frontier.committed), bool)
    alpha, alpha_next = frontier.step / config.steps, (frontier.step + 1) / config.steps
    sigma_max = min(1.0, max(0.0, 1 - alpha_next) / alpha)
    doubt = np.exp(-np.exp(frontier.committed))
    return np.asarray(rng.random(len(doubt)) < sigma_max * doubt / doubt.sum())


def phases(
    positions: Int[np.ndarray, " cells"], config: OrderConfig, rng: np.random.Generator
) -> list[Int[np.ndarray, " phase"]]:
    """Which hole cells are filled together: all at once or block by block, then the groups of each Gibbs sweep."""
    n = len(positions)
    if n == 0:
        return []
    blocks = np.zeros(n, np.int64) if config.block is None else positions // config.block
    parts = np.split(np.arange(n), np.flatnonzero(np.diff(blocks)) + 1)
    n_groups = min(n, round(1 / config.refine_share))
    for _ in range(config.refine):
        parts += [np.sort(group) for group in np.array_split(rng.permutation(n), n_groups)]
    return parts


def draw(
    log_probs: Float[np.ndarray, "cells outputs"],
    noise: Float[np.ndarray, "cells outputs"],
    *,
    temperature: float,
    top_k: int | None,
    top_p: float,
) -> Int[np.ndarray, " cells"]:
    """One value for each cell by the Gumbel-max trick, after temperature, then top-k, then top-p."""
    if temperature == 0:
        return np.asarray(np.argmax(log_probs, axis=1))
    scores = log_probs / temperature
    order = np.argsort(-scores, axis=1, kind="stable")
    rank = np.argsort(order, axis=1, kind="stable")
    if top_k is not None:
        scores = np.where(rank < top_k, scores, -np.inf)
    if top_p < 1:
        probabilities = np.exp(scores - np.logaddexp.reduce(scores, axis=1)[:, None])
        descending = np.take_along_axis(probabilities, order, axis=1)
        before = np.cumsum(descending, axis=1) - descending  # the most probable value has 0 before it: always kept
        scores = np.where(np.take_along_axis(before, rank, axis=1) < top_p, scores, -np.inf)
    return np.asarray(np.argmax(scores + noise, axis=1))


def entropy(log_probs: Float[np.ndarray, "cells outputs"]) -> Float[np.ndarray, " cells"]:
    """Entropy in nats of each row."""
    finite = np.where(np.isneginf(log_probs), 0.0, log_probs)
    return np.asarray(-np.sum(np.exp(log_probs) * finite, axis=1))


def _one_shot(frontier: Frontier, config: OrderConfig, rng: np.random.Generator) -> Int[np.ndarray, " commits"]:
    return np.arange(len(frontier.log_probs))


def _left_to_right(frontier: Frontier, config: OrderConfig, rng: np.random.Generator) -> Int[np.ndarray, " commits"]:
    return np.arange(1)


def _ancestral(frontier: Frontier, config: OrderConfig, rng: np.random.Generator) -> Int[np.ndarray, " commits"]:
    """MDLM with the log-linear schedule α = 1 − t: P(commit) = (α_s − α_t) / (1 − α_t) = 1 / steps left."""
    steps_left = max(config.steps - frontier.step, 1)
    return np.flatnonzero(rng.random(len(frontier.log_probs)) < 1 / steps_left)


def _entropy_bounded(frontier: Frontier, config: OrderConfig, rng: np.random.Generator) -> Int[np.ndarray, " commits"]:
    """The k most certain cells, k the largest with Σ H − max H ≤ γ.

    That sum bounds the mutual information that drawing the k cells independently ignores (arXiv 2505.24857).
    """
    entropies = entropy(frontier.log_probs)
    order = np.argsort(entropies, kind="stable")
    all_but_last = np.concatenate([[0.0], np.cumsum(entropies[order])[:-1]])  # ascending: the last is the largest
    return order[: np.count_nonzero(all_but_last <= config.gamma)]


def _threshold(frontier: Frontier, config: OrderConfig, rng: np.random.Generator) -> Int[np.ndarray, " commits"]:
    best = frontier.log_probs.max(axis=1)
    order = np.argsort(-best, kind="stable")
    return order[: max(1, np.count_nonzero(best >= math.log(config.threshold)))]


def _by_score(frontier: Frontier, config: OrderConfig, rng: np.random.Generator) -> Int[np.ndarray, " commits"]:
    """The best-scored cells, as many as the schedule wants visible after this step (MaskGIT, LLaDA, Dream)."""
    n_masked = len(frontier.log_probs)
    share = min((frontier.step + 1) / config.steps, 1.0)
    masked_share = math.cos(math.pi / 2 * share) if config.schedule == "cosine" else 1 - share
    n_commit = max(1, n_masked - math.floor(frontier.n_cells * masked_share + 1e-9))
    scores = _SCORES[str(config.order)](frontier.log_probs)
    if config.noise:
        scores = scores + config.noise * (1 - share) * rng.gumbel(size=n_masked)
    return np.argsort(-scores, kind="stable")[:n_commit]


def _margin(log_probs: Float[np.ndarray, "hidden outputs"]) -> Float[np.ndarray, " hidden"]:
    if log_probs.shape[1] == 1:
        return np.ones(len(log_probs))
    two_best = np.exp(np.partition(log_probs, -2, axis=1)[:, -2:])
    margins: Float[np.ndarray, " hidden"] = two_best[:, 1] - two_best[:, 0]
    return margins


_SCORES: dict[str, Callable[[Float[np.ndarray, "hidden outputs"]], Float[np.ndarray, " hidden"]]] = {
    "confidence": lambda log_probs: log_probs.max(axis=1),
    "margin": _margin,
    "entropy": lambda log_probs: -entropy(log_probs),
}

_ORDERS: dict[str, Callable[[Frontier, OrderConfig, np.random.Generator], Int[np.ndarray, " commits"]]] = {
    "one_shot": _one_shot,
    "left_to_right": _left_to_right,
    "ancestral": _ancestral,
    "remdm": _ancestral,
    "entropy_bounded": _entropy_bounded,
    "threshold": _threshold,
    "confidence": _by_score,
    "margin": _by_score,
    "entropy": _by_score,
}
