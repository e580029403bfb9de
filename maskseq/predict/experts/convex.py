"""Convex weights of methods that err together, from the products of their errors."""

import numpy as np
from jaxtyping import Float

RIDGE = 1e-3
"""Of the smallest mean square: what draws weights towards equal ones."""


def convex_weights(gram: Float[np.ndarray, "methods methods"]) -> Float[np.ndarray, " methods"]:
    """Weights w ≥ 0 of sum 1 with the least wᵀGw, drawn a little towards equal ones.

    They are v / Σv for the v ≥ 0 with the least vᵀGv − 2·Σv, found by active sets (Lawson & Hanson 1974, ch. 23).
    """
    n = len(gram)
    size = np.trace(gram) / n
    if not size > 0:
        return np.full(n, 1 / n)
    best = float(np.diag(gram).min())
    g = gram / best + RIDGE * np.eye(n)
    active = np.zeros(n, bool)
    v = np.zeros(n)
    for _ in range(8 * n):
        gain = 1 - g @ v
        if active.all() or gain[~active].max() < 1e-9:
            break
        active[np.argmax(np.where(active, -np.inf, gain))] = True
        while True:
            target = np.zeros(n)
            target[active] = np.linalg.solve(g[np.ix_(active, active)], np.ones(int(active.sum())))
            if (target[active] > 0).all():
                v = target
                break
            falling = active & (target <= 0)
            step = (v[falling] / np.maximum(v[falling] - target[falling], 1e-300)).min()
            v = v + step * (target - v)
            active &= v > 1e-12
            v[~active] = 0
            if not active.any():
                return np.full(n, 1 / n)
    return np.asarray(v / v.sum())
