"""Several positions ahead from a predictor of the next one, against sums over all that may stand between."""

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np

from maskseq.generate.rolled_out import RolledOut
from maskseq.predict.protocol import Example
from maskseq.types import END, Field, Vocabulary

FIELDS = (Field(name="a", tokens=("x", "y"), controls=(END,)), Field(name="b", tokens=("p", "q")))
VOCABULARY = Vocabulary.of(FIELDS)
TABLE = np.random.default_rng(5).dirichlet(np.ones(3), size=(4, 3))
SECOND = np.random.default_rng(6).dirichlet(np.ones(2), size=(3, 3))


class Chain:
    """Of the first field by the two ids before; of the second by the first of its own and the second before.

    As a causal encoder, it takes what is masked before a position for a value of its own: an answer behind one is none.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []

    def __call__(self, examples: Sequence[Example], cells: Sequence[Any]) -> list[Any]:
        found = []
        for example, requested in zip(examples, cells, strict=True):
            answers = np.full((len(requested), 3), -np.inf)
            for n, (at, field) in enumerate(requested.tolist()):
                self.asked.append((at, field))
                before, own = example.ids[at - 1].astype(int), example.ids[at].astype(int)
                if field == 0:
                    answers[n] = np.log(TABLE[min(before[0], 3), min(before[1], 2)])
                else:
                    answers[n, :2] = np.log(SECOND[min(own[0], 2), min(before[1], 2)])
            found.append(answers)
        return found


def exact(first: int, second: int, steps: int) -> list[np.ndarray]:
    """The probabilities of both fields so many positions on, by summing over every path."""
    found = [np.zeros(3), np.zeros(2)]
    for path in product(product(range(3), range(2)), repeat=steps):
        p, (a, b) = 1.0, (first, second)
        for next_a, next_b in path:
            p *= TABLE[a, b, next_a] * SECOND[next_a, b, next_b]
            a, b = next_a, next_b
        found[0][a] += p
        found[1][b] += p
    return found


def masked(length: int, known: int) -> np.ndarray:
    ids = np.zeros((length, 2), np.int64)
    ids[known:] = VOCABULARY.mask_ids
    return ids


def test_answers_several_positions_on_are_those_of_all_paths() -> None:
    predict = RolledOut(Chain(), VOCABULARY, samples=4000)
    cells = np.array([[at, field] for at in (1, 2, 3) for field in (0, 1)])
    (found,) = predict([Example(masked(4, 1), key="case")], [cells])
    for steps in (2, 3):
        a, b = exact(0, 0, steps)
        np.testing.assert_allclose(np.exp(found[2 * steps - 2]), a, atol=0.02)
        np.testing.assert_allclose(np.exp(found[2 * steps - 1, :2]), b, atol=0.02)


def test_fields_between_that_nobody_asked_about_are_drawn_as_well() -> None:
    predict = RolledOut(Chain(), VOCABULARY, samples=4000)
    (found,) = predict([Example(masked(4, 1), key="case")], [np.array([[1, 0], [3, 0]])])
    np.testing.assert_allclose(np.exp(found[1]), exact(0, 0, 3)[0], atol=0.02)


def test_one_position_is_asked_as_it_is() -> None:
    chain = Chain()
    cells = np.array([[2, 0], [2, 1]])
    (found,) = RolledOut(chain, VOCABULARY)([Example(masked(3, 2))], [cells])
    (plain,) = Chain()([Example(masked(3, 2))], [cells])
    np.testing.assert_array_equal(found, plain)
    assert chain.asked == [(2, 0), (2, 1)]


def test_answers_do_not_depend_on_the_company() -> None:
    predict = RolledOut(Chain(), VOCABULARY, samples=8)
    some = [Example(masked(length, 1), key=f"case {length}") for length in (3, 4)]
    cells = [np.array([[1, 0], [each.ids.shape[0] - 1, 0]]) for each in some]
    together = predict(some, cells)
    for each, mine, answer in zip(some, cells, together, strict=True):
        np.testing.assert_array_equal(predict([each], [mine])[0], answer)
