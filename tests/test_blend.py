"""The blend: as good as whoever is right in each situation, unharmed by noise and by copies."""

from collections.abc import Sequence

import numpy as np
import pytest

from maskseq.predict.blend import EQUAL, FEWEST, FITTED, Blend, Gate, Situations, choose
from maskseq.predict.protocol import Example
from maskseq.types import Field, Vocabulary

N_IDS, LENGTH = 5, 40
TWO = Vocabulary.of([Field(name=name, tokens=tuple("abcde")) for name in ("x", "y")])


class Knows:
    """Right in one situation: what it says there is what truth is drawn from; elsewhere it is something else."""

    def __init__(self, right: Sequence[bool], seed: int) -> None:
        self.right, self.seed = np.array(right), seed

    def __call__(self, examples: Sequence[Example], cells: Sequence[np.ndarray]) -> list[np.ndarray]:
        answers = []
        for example, requested in zip(examples, cells, strict=True):
            situation = Situations((), TWO)([example], [requested])
            truth, other = (law(example.key, requested, seed) for seed in (0, self.seed))
            answers.append(np.log(np.where(self.right[situation][:, None], truth, other)))
        return answers


def law(key: str, requested: np.ndarray, seed: int) -> np.ndarray:
    """A distribution for each cell, a function of its place."""
    rows = np.random.default_rng((int(key), seed)).dirichlet(np.full(N_IDS, 0.4), size=(LENGTH, 2))
    return np.asarray(np.maximum(rows[tuple(requested.T)], 1e-4))


def source(n: int, seed: int) -> tuple[list[Example], list[np.ndarray], np.ndarray, np.ndarray]:
    """Examples with holes of all lengths, their cells, the truth drawn from the law, and the record of each cell."""
    rng = np.random.default_rng(seed)
    examples, cells, truths, regions, total = [], [], [], [], 0
    while total < n:
        ids = rng.integers(N_IDS, size=(LENGTH, 2))
        masked = np.zeros((LENGTH, 2), bool)
        for field in range(2):
            for start in range(1, LENGTH - 8, 9):
                masked[start : start + int(rng.choice([1, 2, 3, 6])), field] = True
        key = str(seed * 100_000 + len(examples))
        requested = np.argwhere(masked)
        p = law(key, requested, 0)
        p /= p.sum(axis=1, keepdims=True)
        truths.append((p.cumsum(axis=1) < rng.random((len(p), 1))).sum(axis=1))
        regions.append(np.full(len(requested), len(examples)))
        examples.append(Example(TWO.masked(ids.astype(np.uint8), masked), key=key))
        cells.append(requested)
        total += len(requested)
    return examples, cells, np.concatenate(truths), np.concatenate(regions)


def bits(predict: object, examples: list[Example], cells: list[np.ndarray], truth: np.ndarray) -> float:
    answered = np.concatenate(predict(examples, cells))  # type: ignore[operator]
    return float(-answered[np.arange(len(truth)), truth].mean() / np.log(2))


def fitted(experts: dict[str, object], data: tuple[list[Example], list[np.ndarray], np.ndarray, np.ndarray]) -> Blend:
    examples, cells, truth, regions = data
    plain = Blend(experts, None, TWO)  # type: ignore[arg-type]
    chosen = choose(
        tuple(experts),
        plain.answers(examples, cells),
        truth,
        plain.situations(examples, cells),
        plain.situations.n,
        regions,
    )
    assert chosen.form == FITTED
    return Blend(experts, chosen.gate, TWO)  # type: ignore[arg-type]


N = Situations((), TWO).n


@pytest.fixture(scope="module")
def learned() -> tuple[list[Example], list[np.ndarray], np.ndarray, np.ndarray]:
    return source(12_000, 1)


@pytest.fixture(scope="module")
def requested() -> tuple[list[Example], list[np.ndarray], np.ndarray, np.ndarray]:
    return source(8_000, 2)


def specialists() -> dict[str, object]:
    """In each situation one of the three is right."""
    of = np.arange(N) % 3
    return {f"expert {each}": Knows(of == each, 10 + each) for each in range(3)}


def test_a_blend_is_within_a_hundredth_of_an_oracle(learned: tuple, requested: tuple) -> None:
    """Each expert is right in one known situation, and an oracle asks that one."""
    examples, cells, truth, _ = requested
    blend = fitted(specialists(), learned)
    oracle = bits(Knows([True] * N, 0), examples, cells, truth)
    assert bits(blend, examples, cells, truth) < 1.01 * oracle
    for each in specialists().values():
        assert bits(each, examples, cells, truth) > 1.3 * oracle


def test_noise_costs_nothing(learned: tuple, requested: tuple) -> None:
    examples, cells, truth, _ = requested
    experts = specialists()
    with_noise = bits(fitted(experts | {"noise": Knows([False] * N, 99)}, learned), examples, cells, truth)
    assert with_noise < 1.002 * bits(fitted(experts, learned), examples, cells, truth)


def test_a_copy_of_an_expert_changes_nothing(learned: tuple, requested: tuple) -> None:
    examples, cells, truth, _ = requested
    experts = specialists()
    doubled = bits(fitted(experts | {"again": experts["expert 1"]}, learned), examples, cells, truth)
    assert doubled == pytest.approx(bits(fitted(experts, learned), examples, cells, truth), rel=0.002)


def test_a_gate_that_does_not_hold_elsewhere_is_not_used() -> None:
    """Pure chance in every class: whatever is fitted beats nobody on regions left out."""
    rng = np.random.default_rng(0)
    n = 400
    answered = np.log(rng.dirichlet(np.ones(N_IDS), size=(4, n)))
    truth = rng.integers(N_IDS, size=n)
    chosen = choose(tuple("abcd"), answered, truth, rng.integers(6, size=n), 6, rng.integers(40, size=n))
    assert chosen.form == EQUAL or chosen.bits[FITTED] <= min(chosen.bits.values())
    right = np.full((n, N_IDS), np.log(0.01))
    right[np.arange(n), truth] = np.log(0.96)
    answered = np.stack([right, answered[1]])
    chosen = choose(("right", "noise"), answered, truth, rng.integers(6, size=n), 6, rng.integers(40, size=n))
    assert chosen.bits[chosen.form] == min(chosen.bits.values())
    assert chosen.bits[chosen.form] <= chosen.bits["right"]


def test_one_expert_is_taken_alone_only_where_it_is_clearly_better() -> None:
    """Of two that are equally good, one wins by chance; of a good one and three that are confidently wrong, one is."""
    rng = np.random.default_rng(1)
    n = 200
    truth, regions = rng.integers(N_IDS, size=n), rng.integers(10, size=n)
    noise = np.log(rng.dirichlet(np.full(N_IDS, 20), size=(2, n)))
    assert choose(("a", "b"), noise, truth, np.zeros(n, int), 1, regions).form in (EQUAL, FITTED)
    right, wrong = np.full((2, n, N_IDS), np.log(0.0025))
    right[np.arange(n), truth] = wrong[np.arange(n), (truth + 1) % N_IDS] = np.log(0.99)
    chosen = choose(tuple("abcd"), np.stack([right, wrong, wrong, wrong]), truth, np.zeros(n, int), 1, regions)
    assert chosen.form in ("a", FITTED)


def test_weights_are_equal_where_there_is_little_to_fit_on() -> None:
    rng = np.random.default_rng(0)
    n = FEWEST - 1
    answered = np.log(rng.dirichlet(np.ones(N_IDS), size=(2, n)))
    chosen = choose(("a", "b"), answered, rng.integers(N_IDS, size=n), np.zeros(n, int), 3, np.arange(n))
    assert chosen.form == EQUAL
    assert (chosen.gate.weights == 0.5).all()


def test_few_regions_share_their_weights(learned: tuple) -> None:
    """Thousands of cells of three records say nothing of situations in others."""
    examples, cells, truth, regions = learned
    experts = specialists()
    plain = Blend(experts, None, TWO)  # type: ignore[arg-type]
    answered, classes = plain.answers(examples, cells), plain.situations(examples, cells)
    few = choose(tuple(experts), answered, truth, classes, N, regions % 3)
    assert (few.gate.weights == few.gate.weights[0]).all()
    many = choose(tuple(experts), answered, truth, classes, N, regions).gate.weights
    assert len(np.unique(many[np.unique(classes)], axis=0)) == len(np.unique(classes))


def test_a_situation_that_was_not_seen_has_the_common_weights(learned: tuple) -> None:
    examples, cells, truth, _ = learned
    plain = Blend(specialists(), None, TWO)  # type: ignore[arg-type]
    answered, classes = plain.answers(examples, cells), plain.situations(examples, cells)
    common = Gate.fit(answered, truth, classes, N + 1, by_class=False).weights[0]
    weights = Gate.fit(answered, truth, classes, N + 1).weights
    np.testing.assert_allclose(weights[N], common)
    assert not np.allclose(weights[0], common, rtol=0.1)


def test_masses_of_controls_are_kept_and_sum_to_one() -> None:
    field = Field(name="x", tokens=tuple("ab"), controls=("[OTHER]",))
    vocabulary = Vocabulary.of([field, Field(name="y", tokens=tuple("abcd"))])

    def says(examples: Sequence[Example], cells: Sequence[np.ndarray]) -> list[np.ndarray]:
        answer = np.full((len(cells[0]), max(vocabulary.n_outputs)), -np.inf)
        for row, column in enumerate(cells[0][:, 1].tolist()):
            possible = vocabulary.predictable[column]
            answer[row, possible] = np.log(1 / possible.sum())
        return [answer]

    masked = np.array([[0, 0], [0, 1], [1, 0]])
    ids = vocabulary.masked(np.zeros((2, 2), np.uint8), np.ones((2, 2), bool))
    (answer,) = Blend({"a": says, "b": says}, None, vocabulary)([Example(ids)], [masked])
    np.testing.assert_allclose(np.exp(answer).sum(axis=1), 1)
    assert np.exp(answer[0, field.control_id("[OTHER]")]) == pytest.approx(1 / 3, rel=1e-5)
    assert np.isneginf(answer[0, 3])


def test_experts_report_their_support() -> None:
    """Of the same field and hole, cells with other support are other classes, and have weights of their own."""

    class Seen:
        n_supports = 2

        def __call__(self, examples: Sequence[Example], cells: Sequence[np.ndarray]) -> list[np.ndarray]:
            return [np.log(np.full((len(each), N_IDS), 0.2)) for each in cells]

        def support(self, examples: Sequence[Example], cells: Sequence[np.ndarray]) -> np.ndarray:
            return np.concatenate([each[:, 0] % 2 for each in cells])

    def sure(examples: Sequence[Example], cells: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [np.log(np.tile([0.96, 0.01, 0.01, 0.01, 0.01], (len(each), 1))) for each in cells]

    plain = Blend({"seen": Seen(), "sure": sure}, None, TWO)
    assert plain.situations.n == 2 * N
    weights = np.zeros((2 * N, 2))
    weights[0::2, 0], weights[1::2, 1] = 1, 1
    ids = TWO.masked(np.zeros((4, 2), np.uint8), np.ones((4, 2), bool))
    (answer,) = Blend(plain.experts, Gate(weights, 0), TWO)([Example(ids)], [np.array([[0, 0], [1, 0]])])
    np.testing.assert_allclose(np.exp(answer[:, 0]), [0.2, 0.96], rtol=1e-5)


def test_an_expert_without_weight_is_not_asked() -> None:
    def never(examples: object, cells: object) -> list[np.ndarray]:
        raise AssertionError

    def flat(examples: Sequence[Example], cells: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [np.log(np.full((len(each), N_IDS), 0.2)) for each in cells]

    ids = TWO.masked(np.zeros((2, 2), np.uint8), np.ones((2, 2), bool))
    (answer,) = Blend({"flat": flat, "never": never}, Gate.alone(0, 2, N), TWO)([Example(ids)], [np.array([[0, 0]])])
    np.testing.assert_allclose(np.exp(answer), 0.2)
