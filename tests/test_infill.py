"""Infilling against an exactly enumerable joint distribution, and the laws that hold for any model."""

import itertools
from collections import Counter
from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskseq.errors import UsageError
from maskseq.infill.order import OrderName
from maskseq.infill.sampler import InfillConfig, infill
from maskseq.predict.protocol import Example, Fill, of_ids, with_ids
from maskseq.types import ABSENT, OTHER, Field, LegalCells, Vocabulary

SYMBOLS, LENGTH, MASK = 3, 6, 3
TOY = Vocabulary.of([Field(name="symbol", tokens=("a", "b", "c"))])


class Joint:
    """A Markov chain over three symbols that likes to stay or to step from a to b to c, as a table of all sequences."""

    def __init__(self) -> None:
        step = np.array([[0.6, 0.38, 0.02], [0.02, 0.5, 0.48], [0.3, 0.1, 0.6]])
        self.sequences = np.array(list(itertools.product(range(SYMBOLS), repeat=LENGTH)))
        self.probabilities = np.prod(step[self.sequences[:, :-1], self.sequences[:, 1:]], axis=1) / SYMBOLS
        self.calls = 0

    @cache  # noqa: B019 - one instance a test
    def conditional(self, ids: tuple[int, ...]) -> np.ndarray:
        """Log-probability of each symbol at each position, given the known ids: by enumeration."""
        known = np.array(ids) != MASK
        weight = self.probabilities * (self.sequences[:, known] == np.array(ids)[known]).all(axis=1)
        sums = [[weight[self.sequences[:, i] == s].sum() for s in range(SYMBOLS)] for i in range(LENGTH)]
        with np.errstate(divide="ignore"):
            return np.log(np.array(sums) / weight.sum())

    def predict(self, examples: Sequence[Example], cells: Sequence[np.ndarray]) -> list[np.ndarray]:
        sequences = [each.ids for each in examples]
        self.calls += 1
        return [
            self.conditional(tuple(ids[:, 0].tolist()))[requested[:, 0]]
            for ids, requested in zip(sequences, cells, strict=True)
        ]

    def posterior(self, ids: np.ndarray) -> dict[tuple[int, ...], float]:
        """Exact p(ids in the holes | known ids)."""
        known = ids != MASK
        fits = (self.sequences[:, known] == ids[known]).all(axis=1)
        weight = self.probabilities[fits] / self.probabilities[fits].sum()
        return dict(zip(map(tuple, self.sequences[fits][:, ~known].tolist()), weight.tolist(), strict=True))


@pytest.fixture
def joint() -> Joint:
    return Joint()


GAP = np.array([0, MASK, MASK, MASK, 0, 0])  # 27 fills, strongly coupled


def fill_gap(joint: Joint, ids: np.ndarray = GAP, **options: object) -> Fill:
    config = InfillConfig(**options)
    return infill(joint.predict, [Example(ids[:, None])], [ids[:, None] == MASK], config, vocabulary=TOY, keys=[7])[0]


def total_variation(fill: Fill, posterior: dict[tuple[int, ...], float]) -> float:
    counts = Counter(map(tuple, fill.values.tolist()))
    assert set(counts) <= set(posterior)
    return sum(abs(counts[key] / len(fill.values) - p) for key, p in posterior.items()) / 2


N = 600
SAMPLING_NOISE = 0.1  # exact draws, 600 at a time, stay within .098 of this posterior (the most of 1000 repeats)


@pytest.mark.parametrize(
    "options",
    [
        {"order": "left_to_right"},
        {"order": "entropy_bounded", "gamma": 0.0},
        {"order": "confidence", "steps": 1000},  # a schedule so slow that every step commits one cell
        {"order": "margin", "steps": 1000, "schedule": "linear"},
        {"order": "entropy", "steps": 1000, "schedule": "linear", "noise": 2.0},
        {"order": "left_to_right", "block": 2},
    ],
    ids=lambda options: options["order"],
)
def test_one_cell_at_a_time_samples_the_exact_joint_in_any_order(joint: Joint, options: dict[str, object]) -> None:
    fill = fill_gap(joint, samples=N, temperature=1.0, **options)
    assert total_variation(fill, joint.posterior(GAP)) < SAMPLING_NOISE


@pytest.mark.parametrize("options", [{"order": "left_to_right"}, {"order": "entropy_bounded", "gamma": 0.0}])
def test_the_joint_probability_is_the_exact_one_by_the_chain_rule(joint: Joint, options: dict[str, object]) -> None:
    fill = fill_gap(joint, samples=40, temperature=1.0, **options)
    posterior = joint.posterior(GAP)
    exact = [posterior[tuple(values)] for values in fill.values.tolist()]
    assert np.exp(fill.joint) == pytest.approx(exact, rel=1e-9)


LADDERS = {
    "entropy_bounded": [{"order": "one_shot"}, {"gamma": 1.0}, {"gamma": 0.0}],
    "ancestral": [{"order": "ancestral", "steps": steps} for steps in (1, 4, 16)],
    "remdm": [{"order": "remdm", "steps": steps} for steps in (1, 4, 16)],
}


@pytest.mark.parametrize("ladder", LADDERS)
def test_quality_is_bought_with_passes(joint: Joint, ladder: str) -> None:
    """From independent marginals, .56 from the exact joint in total variation, each rung down costs passes."""
    fills = [fill_gap(joint, samples=N, temperature=1.0, **options) for options in LADDERS[ladder]]
    error = [total_variation(fill, joint.posterior(GAP)) for fill in fills]
    passes = [float(fill.n_passes.mean()) for fill in fills]
    assert error[0] == pytest.approx(0.56, abs=0.05)
    assert error[0] > 2 * error[1] > 2.5 * error[2]
    assert passes == sorted(passes)
    assert passes[0] == 1
    if ladder != "remdm":  # which hides again what was right as well: at 16 steps still .11, after 7 passes
        assert error[2] < SAMPLING_NOISE
        assert passes[2] <= 3


def test_the_entropy_bound_spends_its_passes_better_than_chance(joint: Joint) -> None:
    bounded = fill_gap(joint, gamma=1.0, samples=N, temperature=1.0)
    ancestral = fill_gap(joint, order="ancestral", steps=3, samples=N, temperature=1.0)
    assert bounded.n_passes.mean() <= ancestral.n_passes.mean()
    assert total_variation(bounded, joint.posterior(GAP)) < total_variation(ancestral, joint.posterior(GAP))


def test_block_gibbs_refinement_repairs_a_one_shot_fill(joint: Joint) -> None:
    refined = fill_gap(joint, order="one_shot", samples=N, temperature=1.0, refine=4, refine_share=0.3)
    assert total_variation(refined, joint.posterior(GAP)) < SAMPLING_NOISE  # without: .56
    assert (refined.n_passes == 1 + 4 * 3).all()


def test_the_marginals_are_the_posterior_of_each_cell_alone(joint: Joint) -> None:
    fill = fill_gap(joint, order="left_to_right")
    assert fill.marginals == pytest.approx(np.exp(joint.conditional(tuple(GAP))[1:4]), rel=1e-6)


def test_at_temperature_zero_left_to_right_is_greedy(joint: Joint) -> None:
    expected = GAP.copy()
    for position in range(1, 4):
        expected[position] = joint.conditional(tuple(expected.tolist()))[position].argmax()
    fill = fill_gap(joint, order="left_to_right")
    assert fill.written(GAP[:, None])[:, 0].tolist() == expected.tolist()
    assert fill.step[0].tolist() == [0, 1, 2]


def test_passes_are_shared_and_counted(joint: Joint) -> None:
    fill = fill_gap(joint, order="left_to_right", samples=50, temperature=1.0)
    assert joint.calls == 3  # all samples together, a step at a time
    assert (fill.n_passes == 3).all()
    many = Joint()
    ancestral = fill_gap(many, order="ancestral", steps=1000)
    assert ancestral.n_passes[0] <= 3  # steps that commit nothing cost no pass


# What follows holds for any model: a random table of logits stands for one.

TWO_FIELDS = Vocabulary.of(
    [
        Field(name="activity", tokens=tuple("abcde"), controls=(OTHER,)),
        Field(name="size", tokens=("S", "L"), controls=(ABSENT,)),
    ]
)


@of_ids
def random_predict(sequences: Sequence[np.ndarray], cells: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Log-probabilities that depend, arbitrarily, on every id of the sequence and on the cell."""
    answers = []
    for ids, requested in zip(sequences, cells, strict=True):
        all_cells = np.random.default_rng(ids.ravel()).normal(size=(*ids.shape, 6)) * 2
        logits = np.where(TWO_FIELDS.predictable[requested[:, 1]], all_cells[tuple(requested.T)], -np.inf)
        answers.append(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))
    return answers


orders = st.sampled_from(OrderName.__args__)
configs = st.builds(
    InfillConfig,
    order=orders,
    gamma=st.sampled_from([0.0, 0.5, 3.0]),
    steps=st.integers(1, 6),
    noise=st.sampled_from([0.0, 1.0]),
    block=st.none() | st.integers(1, 5),
    refine=st.integers(0, 1),
    temperature=st.sampled_from([0.5, 1.0]),
    top_k=st.none() | st.integers(1, 3),
    top_p=st.sampled_from([0.7, 1.0]),
    samples=st.integers(1, 2),
    seed=st.integers(0, 3),
)


@st.composite
def partly_known(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    length = draw(st.integers(1, 12))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    ids = np.stack([rng.integers(0, 7, length), rng.integers(0, 4, length)], axis=1).astype(np.uint8)  # masks included
    return ids, rng.random(ids.shape) < draw(st.sampled_from([0.1, 0.5, 1.0]))


@settings(deadline=None)
@given(partly_known(), configs)
def test_known_cells_never_change_and_holes_are_filled_with_legal_ids(
    data: tuple[np.ndarray, np.ndarray], config: InfillConfig
) -> None:
    ids, holes = data
    before = ids.copy()

    @of_ids
    def predict(sequences: Sequence[np.ndarray], cells: Sequence[np.ndarray]) -> list[np.ndarray]:
        for seen in sequences:
            assert np.array_equal(seen[~holes], ids[~holes])  # at every step, not only in the result
        return with_ids(random_predict)(sequences, cells)

    (fill,) = infill(predict, [Example(ids)], [holes], config, vocabulary=TWO_FIELDS, keys=[0])
    assert np.array_equal(ids, before)
    for sample in range(config.samples):
        filled = fill.written(ids, sample)
        assert np.array_equal(filled[~holes], ids[~holes])
        assert np.array_equal(filled[holes], fill.values[sample])
    assert TWO_FIELDS.committable[fill.cells[:, 1], fill.values].all()
    chosen = np.take_along_axis(fill.probabilities, fill.values[..., None], axis=2)[..., 0]
    assert np.exp(fill.log_prob) == pytest.approx(chosen, rel=1e-5)


@settings(deadline=None, max_examples=40)
@given(st.lists(partly_known(), min_size=2, max_size=5), configs, st.randoms())
def test_results_do_not_depend_on_who_shares_the_batch(
    data: list[tuple[np.ndarray, np.ndarray]], config: InfillConfig, random: object
) -> None:
    def fill(numbers: list[int]) -> list[Fill]:
        return infill(
            random_predict,
            [Example(each) for each in [data[i][0] for i in numbers]],
            [data[i][1] for i in numbers],
            config,
            vocabulary=TWO_FIELDS,
            keys=numbers,
        )

    alone = [fill([i])[0] for i in range(len(data))]
    order = list(range(len(data)))
    random.shuffle(order)
    for number, together in zip(order, fill(order), strict=True):
        assert np.array_equal(together.values, alone[number].values)
        assert np.array_equal(together.log_prob, alone[number].log_prob)


def test_a_sample_does_not_depend_on_how_many_are_drawn(joint: Joint) -> None:
    few = fill_gap(joint, samples=3, temperature=1.0)
    many = fill_gap(joint, samples=9, temperature=1.0)
    assert np.array_equal(few.values, many.values[:3])
    assert not np.array_equal(many.values, fill_gap(joint, samples=9, temperature=1.0, seed=1).values)


def test_legal_cells_narrow_the_fill_and_renormalise(joint: Joint) -> None:
    cells = LegalCells(np.array([[0, 0], [2, 0], [3, 0]]), np.array([[1, 0, 0], [0, 0, 1], [1, 1, 0]], dtype=bool))
    fill = infill(
        joint.predict,
        [Example(GAP[:, None])],
        [GAP[:, None] == MASK],
        InfillConfig(order="left_to_right", samples=50, temperature=1.0),
        vocabulary=TOY,
        keys=[0],
        legal=[cells],
    )[0]
    assert (fill.values[:, 1] == 2).all()
    assert (fill.values[:, 2] < 2).all()
    assert fill.log_prob[:, 1] == pytest.approx(0.0)  # the only legal value is certain,
    before = GAP.copy()
    before[1] = fill.values[0, 0]
    assert fill.legal_mass[0, 1] == pytest.approx(
        np.exp(joint.conditional(tuple(before.tolist()))[2, 2])
    )  # if unlikely


def test_cells_that_nothing_may_fill_are_reported_before_the_model_runs(joint: Joint) -> None:
    impossible = LegalCells(np.array([[2, 0]]), np.zeros((1, 3), dtype=bool))
    with pytest.raises(UsageError, match=r"5: no value is allowed in 1 cell.*position 3 \(symbol\)"):
        infill(
            joint.predict,
            [Example(GAP[:, None])],
            [GAP[:, None] == MASK],
            InfillConfig(),
            vocabulary=TOY,
            keys=[5],
            legal=[impossible],
        )
    assert joint.calls == 0


def test_other_is_never_committed_and_its_mass_is_reported() -> None:
    log_probs = np.log(np.array([[0.05, 0.05, 0.0, 0.0, 0.1, 0.8]]) + 1e-300)

    @of_ids
    def predict(sequences: Sequence[np.ndarray], cells: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [np.repeat(log_probs, len(requested), axis=0) for requested in cells]

    ids = np.full((4, 2), [6, 0])
    holes = np.tile([True, False], (4, 1))
    (fill,) = infill(predict, [Example(ids)], [holes], InfillConfig(), vocabulary=TWO_FIELDS, keys=[0])
    assert (fill.values == 4).all()
    assert fill.other_mass[0] == pytest.approx(0.8)
    assert fill.legal_mass[0] == pytest.approx(0.2)
    assert np.exp(fill.log_prob[0]) == pytest.approx(0.5)


def test_nothing_to_fill_needs_no_model(joint: Joint) -> None:
    ids = np.zeros((LENGTH, 1), dtype=int)
    (fill,) = infill(
        joint.predict, [Example(ids)], [np.zeros_like(ids, dtype=bool)], InfillConfig(), vocabulary=TOY, keys=[0]
    )
    assert joint.calls == 0
    assert np.array_equal(fill.written(ids), ids)
    assert (fill.joint.tolist(), fill.n_passes.tolist()) == ([0.0], [0])


def test_samples_that_would_be_alike_are_refused() -> None:
    with pytest.raises(UsageError, match="set temperature to 1"):
        InfillConfig(samples=4)
    InfillConfig(samples=4, order="ancestral")


# ---- beam search --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beam", [9, 27])
def test_a_beam_that_drops_nothing_finds_the_most_probable_fills(joint: Joint, beam: int) -> None:
    """Nine partial fills are all there are of two cells: the best 9 (or all 27) of the enumerated posterior."""
    fill = fill_gap(joint, order="left_to_right", beam=beam, samples=beam)
    best = sorted(joint.posterior(GAP).values(), reverse=True)[:1]
    assert np.exp(fill.joint[0]) == pytest.approx(best[0])
    assert (np.diff(fill.joint) <= 1e-12).all()
    if beam == 27:
        found = {tuple(values): np.exp(p) for values, p in zip(fill.values.tolist(), fill.joint, strict=True)}
        assert found == pytest.approx({k: p for k, p in joint.posterior(GAP).items() if p > 0})


def test_a_wider_beam_is_never_worse_than_a_greedy_fill(joint: Joint) -> None:
    greedy = fill_gap(joint, order="left_to_right")
    worse = 0
    for known in itertools.product(range(SYMBOLS), repeat=2):
        ids = np.array([known[0], MASK, MASK, MASK, MASK, known[1]])
        plain = fill_gap(joint, ids, order="left_to_right").joint[0]
        wide = fill_gap(joint, ids, order="left_to_right", beam=81).joint[0]
        assert wide >= plain - 1e-12
        worse += wide > plain + 1e-9
    assert worse > 0  # greedy misses the mode somewhere
    assert greedy.n_passes[0] == 3


def test_a_beam_keeps_what_is_legal_and_known(joint: Joint) -> None:
    """With b forbidden in the middle, the best of what is left."""
    cells = LegalCells(np.array([[2, 0]]), np.array([[True, False, True]]))
    (fill,) = infill(
        joint.predict,
        [Example(GAP[:, None])],
        [GAP[:, None] == MASK],
        InfillConfig(order="left_to_right", beam=27),
        vocabulary=TOY,
        keys=[0],
        legal=[cells],
    )
    allowed = {k: p for k, p in joint.posterior(GAP).items() if k[1] != 1}
    assert fill.values[0, 1] != 1
    assert allowed[tuple(fill.values[0].tolist())] > 0


def test_sequences_of_different_lengths_share_a_beam_search(joint: Joint) -> None:
    short = np.array([0, MASK, 0, 0, 0, 0])
    config = InfillConfig(order="left_to_right", beam=4)
    rows = [GAP[:, None], short[:, None]]
    both = infill(
        joint.predict, [Example(each) for each in rows], [r == MASK for r in rows], config, vocabulary=TOY, keys=[0, 1]
    )
    for row, fill in zip(rows, both, strict=True):
        (alone,) = infill(joint.predict, [Example(row)], [row == MASK], config, vocabulary=TOY, keys=[0])
        assert np.array_equal(alone.values, fill.values)


@pytest.mark.parametrize(
    "options",
    [{"beam": 0}, {"beam": 2}, {"beam": 2, "order": "left_to_right", "temperature": 1.0},
     {"beam": 2, "order": "left_to_right", "samples": 3}],
)  # fmt: skip
def test_a_beam_that_cannot_be_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        InfillConfig(**options)
