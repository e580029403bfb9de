"""Markov chains against brute force: every completion enumerated."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskseq.errors import UsageError
from maskseq.predict.experts.markov import Markov


def table(chain: Markov) -> np.ndarray:
    """All probabilities of an id after others: an axis for each of them, oldest first, the last for the id."""
    counts = np.full(chain.n_ids ** (chain.order + 1), chain.smoothing)
    counts[chain.codes] += chain.counts
    counts = counts.reshape((chain.n_ids,) * (chain.order + 1))
    return counts / counts.sum(axis=-1, keepdims=True)


def brute_force(chain: Markov, ids: np.ndarray, masked: np.ndarray) -> np.ndarray:
    """Sum the probabilities of all completions (and of all that may stand before the first position)."""
    n, order, n_ids = len(ids), chain.order, chain.n_ids
    transition, prior = table(chain), (chain.totals / chain.totals.sum()).reshape((n_ids,) * order)
    weight = np.zeros((n, n_ids))
    choices = [range(n_ids) if dark else [int(i)] for i, dark in zip(ids, masked | (ids >= n_ids), strict=True)]
    for before in itertools.product(range(n_ids), repeat=order):
        for filled in itertools.product(*choices):
            whole = (*before, *filled)
            p = prior[before]
            for i in range(n):
                p *= transition[whole[i : i + order + 1]]
            weight[np.arange(n), list(filled)] += p
    return (weight / weight.sum(axis=1, keepdims=True))[masked]


@given(data=st.data(), order=st.integers(1, 3), length=st.integers(1, 7))
def test_marginals_equal_enumeration(data: st.DataObject, order: int, length: int) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    chain = Markov.count([rng.integers(0, 3, 200)], n_ids=3, order=order, smoothing=0.1)
    ids = rng.integers(0, 4, length)  # 3 is [MASK]: unknown, and not asked for
    masked = rng.random(length) < 0.5
    np.testing.assert_allclose(chain.marginals(ids, masked), brute_force(chain, ids, masked), rtol=1e-9, atol=1e-12)


def test_counts_are_the_frequencies_and_masks_break_contexts() -> None:
    chain = Markov.count([np.array([0, 1, 0, 1, 2, 0, 1])], n_ids=2, order=1, smoothing=0.0)
    np.testing.assert_allclose(table(chain), [[0, 1], [1, 0]])  # 0→1 three times, 1→0 once, nothing across the 2


def test_a_long_known_stretch_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 4, 400)
    chain = Markov.count([ids], n_ids=4, order=2)
    masked = np.zeros(400, bool)
    masked[[50, 51, 200]] = True
    near = np.concatenate([chain.marginals(ids[48:54], masked[48:54]), chain.marginals(ids[198:203], masked[198:203])])
    np.testing.assert_allclose(chain.marginals(ids, masked), near, rtol=1e-9)


def test_a_table_too_large_is_refused() -> None:
    with pytest.raises(UsageError, match="entries"):
        Markov.count([], n_ids=4096, order=2)
