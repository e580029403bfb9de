"""Holes of unknown length, against Bayes' rule by enumeration."""

import itertools
from collections.abc import Sequence

import numpy as np
import pytest

from maskseq.constraints import transitions
from maskseq.errors import UsageError
from maskseq.infill.sampler import InfillConfig
from maskseq.lengths.evidence import fill_lengths
from maskseq.predict.protocol import of_ids
from maskseq.types import Field, Vocabulary

ABC = Vocabulary.of([Field(name="letter", tokens=tuple("abc"))])
MASK = 3
STEP = np.array([[0.05, 0.9, 0.05], [0.1, 0.1, 0.8], [0.7, 0.2, 0.1]])  # mostly a → b → c → a
START = np.array([0.5, 0.3, 0.2])


@of_ids
def chain(sequences: Sequence[np.ndarray], cells: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The exact conditionals of a Markov chain, by forward-backward."""
    answers = []
    for ids, asked in zip(sequences, cells, strict=True):
        evidence = np.where(ids == MASK, 1.0, np.eye(4)[ids[:, 0]][:, :3])
        forward, backward = [START], [np.ones(3)]
        for seen in evidence[:-1]:
            forward.append((forward[-1] * seen) @ STEP)
        for seen in evidence[:0:-1]:
            backward.append(STEP @ (backward[-1] * seen))
        weight = np.array(forward) * np.array(backward[::-1])
        answers.append(np.log(weight / weight.sum(axis=1, keepdims=True))[asked[:, 0]])
    return answers


def probability(letters: np.ndarray) -> float:
    return float(START[letters[0]] * np.prod(STEP[letters[:-1], letters[1:]]))


KNOWN = np.array([0, 1, 2, 0, 2, 0, 1])[:, None]  # between 0 and 2 a b is missing, or b c a b, …
AT = 4


def test_the_posterior_of_the_length_is_bayes_rule() -> None:
    """P(length) by summing the chain's probability over everything that could stand in the hole."""
    total = []
    for length in range(5):
        fillings = itertools.product(range(3), repeat=length)
        total.append(sum(probability(np.insert(KNOWN[:, 0], AT, filling)) for filling in fillings))
    exact = np.array(total) / sum(total)
    made = fill_lengths(chain, KNOWN, AT, (0, 4), InfillConfig(gamma=0.0), vocabulary=ABC, key=1)
    found = {candidate.length: candidate.posterior for candidate in made}
    assert [found[length] for length in range(5)] == pytest.approx(exact)
    assert [candidate.length for candidate in made] == np.argsort(-exact).tolist()


def test_each_length_comes_filled_with_its_scores() -> None:
    config = InfillConfig(gamma=0.0, temperature=1.0, samples=5)
    for candidate in fill_lengths(chain, KNOWN, AT, (0, 3), config, vocabulary=ABC, key=1):
        letters = candidate.ids[:, 0]
        assert np.array_equal(np.delete(letters, np.arange(AT, AT + candidate.length)), KNOWN[:, 0])
        fillings = itertools.product(range(3), repeat=candidate.length)
        total = sum(probability(np.insert(KNOWN[:, 0], AT, filling)) for filling in fillings)
        assert np.exp(candidate.joint) == pytest.approx(probability(letters) / total)
        assert candidate.mean * max(candidate.length, 1) == pytest.approx(candidate.joint)


def test_a_hole_at_the_end_is_judged_by_what_comes_before_it() -> None:
    made = fill_lengths(chain, KNOWN, len(KNOWN), (0, 2), InfillConfig(), vocabulary=ABC, key=1)
    # A chain that goes on after its last known letter says nothing about for how long.
    assert [candidate.posterior for candidate in made] == pytest.approx([1 / 3] * 3)


def test_rules_hold_for_every_length() -> None:
    cycle = np.roll(np.eye(3, dtype=bool), 1, axis=1)
    known = np.array([0, 1, 0, 1, 2])[:, None]  # a b | a b c: a c is missing, or c a b c, …
    with pytest.raises(UsageError, match="no value is allowed"):
        fill_lengths(
            chain, known, 2, (2, 2), InfillConfig(), vocabulary=ABC, key=1, constraints=lambda _: [transitions(cycle)]
        )
    (only,) = fill_lengths(
        chain, known, 2, (4, 4), InfillConfig(), vocabulary=ABC, key=1, constraints=lambda _: [transitions(cycle)]
    )
    assert only.ids[2:6, 0].tolist() == [2, 0, 1, 2]


@pytest.mark.parametrize(("at", "lengths"), [(0, (3, 2)), (0, (-1, 2)), (8, (0, 1)), (-1, (0, 1))])
def test_impossible_requests_are_refused(at: int, lengths: tuple[int, int]) -> None:
    with pytest.raises(UsageError):
        fill_lengths(chain, KNOWN, at, lengths, InfillConfig(), vocabulary=ABC, key=1)


def test_evidence_finds_the_true_length_more_often_than_scores_of_the_fill() -> None:
    """Lengths 0–4. With n = 300: right in 43 % of the cases, against 18 % for either score and 20 % for guessing."""
    rng = np.random.default_rng(0)
    right = {"evidence": 0, "mean": 0, "joint": 0}
    for key in range(60):
        letters = [rng.choice(3, p=START)]
        for _ in range(11):
            letters.append(rng.choice(3, p=STEP[letters[-1]]))
        length = int(rng.integers(0, 5))
        ids = np.delete(letters, np.arange(AT, AT + length))[:, None]
        made = fill_lengths(chain, ids, AT, (0, 4), InfillConfig(gamma=0.0), vocabulary=ABC, key=key)
        for score in right:
            right[score] += max(made, key=lambda candidate: getattr(candidate, score)).length == length
    assert right["evidence"] > 1.5 * max(right["mean"], right["joint"])
