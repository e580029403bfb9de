"""Holes of unknown length, against Bayes' rule by enumeration."""

import itertools
from collections.abc import Sequence

import numpy as np
import pytest

from maskseq.errors import UsageError
from maskseq.infill.sampler import InfillConfig, infill
from maskseq.lengths.evidence import length_evidence
from maskseq.predict.protocol import Example, of_ids
from maskseq.types import Field, Vocabulary

ABC = Vocabulary.of([Field(name="letter", tokens=tuple("abc"))])
MASK = 3
STEP = np.array([[0.05, 0.9, 0.05], [0.1, 0.1, 0.8], [0.7, 0.2, 0.1]])  # mostly a → b → c → a
START = np.array([0.5, 0.3, 0.2])


@of_ids
def chain(sequences: Sequence[np.ndarray], cells: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The exact conditionals of a Markov chain, by forward-backward."""
    answers = []
    for ids, requested in zip(sequences, cells, strict=True):
        evidence = np.where(ids == MASK, 1.0, np.eye(4)[ids[:, 0]][:, :3])
        forward, backward = [START], [np.ones(3)]
        for seen in evidence[:-1]:
            forward.append((forward[-1] * seen) @ STEP)
        for seen in evidence[:0:-1]:
            backward.append(STEP @ (backward[-1] * seen))
        weight = np.array(forward) * np.array(backward[::-1])
        answers.append(np.log(weight / weight.sum(axis=1, keepdims=True))[requested[:, 0]])
    return answers


def probability(letters: np.ndarray) -> float:
    return float(START[letters[0]] * np.prod(STEP[letters[:-1], letters[1:]]))


KNOWN = np.array([0, 1, 2, 0, 2, 0, 1])[:, None]  # between 0 and 2 a b is missing, or b c a b, …
AT = 4


def posterior(ids: np.ndarray, at: int, lengths: tuple[int, int]) -> np.ndarray:
    (evidence,) = length_evidence(chain, [ids], [at], lengths, vocabulary=ABC)
    return np.exp(evidence - np.logaddexp.reduce(evidence))


def test_the_posterior_of_the_length_is_bayes_rule() -> None:
    """P(length) by summing the chain's probability over everything that could stand in the hole."""
    total = []
    for length in range(5):
        fillings = itertools.product(range(3), repeat=length)
        total.append(sum(probability(np.insert(KNOWN[:, 0], AT, filling)) for filling in fillings))
    assert posterior(KNOWN, AT, (0, 4)) == pytest.approx(np.array(total) / sum(total))


def test_a_hole_at_the_end_is_judged_by_what_comes_before_it() -> None:
    # A chain that goes on after its last known letter says nothing about for how long.
    assert posterior(KNOWN, len(KNOWN), (0, 2)) == pytest.approx([1 / 3] * 3)


def test_several_places_are_judged_as_each_alone() -> None:
    places = [2, AT, len(KNOWN)]
    together = length_evidence(chain, [KNOWN] * 3, places, (0, 3), vocabulary=ABC)
    for place, found in zip(places, together, strict=True):
        assert np.exp(found - np.logaddexp.reduce(found)) == pytest.approx(posterior(KNOWN, place, (0, 3)))


@pytest.mark.parametrize(("at", "lengths"), [(0, (3, 2)), (0, (-1, 2)), (8, (0, 1)), (-1, (0, 1))])
def test_impossible_requests_are_refused(at: int, lengths: tuple[int, int]) -> None:
    with pytest.raises(UsageError):
        length_evidence(chain, [KNOWN], [at], lengths, vocabulary=ABC)


def log_probability_of_the_fill(ids: np.ndarray, at: int, length: int, key: int) -> float:
    tried = np.insert(ids, at, np.full((length, 1), MASK), axis=0)
    hole = np.zeros(tried.shape, bool)
    hole[at : at + length] = True
    (fill,) = infill(chain, [Example(tried)], [hole], InfillConfig(gamma=0.0), vocabulary=ABC, keys=[(key, length)])
    return float(fill.joint[0])


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
        joint = np.array([log_probability_of_the_fill(ids, AT, n, key) for n in range(5)])
        scores = {"evidence": posterior(ids, AT, (0, 4)), "mean": joint / np.maximum(range(5), 1), "joint": joint}
        for score, found in scores.items():
            right[score] += int(found.argmax()) == length
    assert right["evidence"] > 1.5 * max(right["mean"], right["joint"])
