"""Numbers that are drawn together: as one pass for each of them draws them, and as the law of the Gaussian says."""

from collections.abc import Sequence

import numpy as np
import pytest

from maskseq.infill.sampler import InfillConfig, infill
from maskseq.model.gaussian import Stationary
from maskseq.predict.experts.local import Local
from maskseq.predict.experts.number_experts import Numbered, count_numbers
from maskseq.predict.experts.number_prior import count_blend
from maskseq.predict.experts.numbers import NumberPredict
from maskseq.predict.protocol import Example, Fill, Predict, PredictJointly
from maskseq.types import LegalCells
from maskseq_signals.recording import Recording
from maskseq_signals.tokenizer import QuantizeTokenizer

DRAWN = InfillConfig(temperature=1.0, samples=200)


def walk(rng: np.random.Generator, length: int) -> np.ndarray:
    noise = rng.normal(size=(length + 100, 2))
    smooth = np.stack([np.convolve(column, 0.9 ** np.arange(60), mode="valid")[:length] for column in noise.T], axis=1)
    return np.asarray(smooth + 0.6 * smooth[:, ::-1])


TRAIN = walk(np.random.default_rng(0), 4000)


def recording(values: np.ndarray) -> Recording:
    return Recording(key="r", channels=values, names=("a", "b"))


TOKENIZER = QuantizeTokenizer.fit([recording(TRAIN)], bins=64)
NUMBERED = Numbered([TOKENIZER.encode(recording(TRAIN)).ids], [TRAIN])
GAUSSIAN = Stationary.count([TRAIN], window=200)
FREQUENCIES = [np.full(n, 1 / n) for n in TOKENIZER.vocabulary.n_outputs]
PREDICT = NumberPredict(GAUSSIAN.posterior, TOKENIZER.vocabulary, FREQUENCIES, GAUSSIAN.joint)


def with_holes(holes: Sequence[tuple[int, int]], length: int = 100) -> tuple[Example, np.ndarray]:
    values = walk(np.random.default_rng(7), length)
    masked = np.zeros(values.shape, bool)
    for start, stop in holes:
        masked[start:stop] = True
    return Example(TOKENIZER.encode(recording(values)).ids, values), masked


def filled(predict: Predict, holes: Sequence[tuple[int, int]], config: InfillConfig = DRAWN, length: int = 100) -> Fill:
    example, masked = with_holes(holes, length)
    return infill(predict, [example], [masked], config, vocabulary=TOKENIZER.vocabulary, keys=[3])[0]


def test_draws_of_one_pass_are_those_of_the_gaussian() -> None:
    fill = filled(PREDICT, [(40, 46)])
    assert (fill.n_passes == 1).all()
    example, masked = with_holes([(40, 46)])
    assert example.numbers is not None
    ((cells, covariance),) = GAUSSIAN.joint(np.where(masked, np.nan, example.numbers), masked)
    np.testing.assert_array_equal(cells, fill.cells)
    scale = GAUSSIAN.std[cells[:, 1]]
    expected, mean = covariance * np.outer(scale, scale), GAUSSIAN.posterior(np.where(masked, np.nan, example.numbers))
    assert fill.numbers is not None
    sd = np.sqrt(np.diagonal(expected))
    off = (fill.numbers - mean[0][masked]) / sd
    np.testing.assert_allclose(off.mean(axis=0), 0, atol=0.2)
    np.testing.assert_allclose(off.T @ off / len(off), expected / np.outer(sd, sd), atol=0.25)


def test_the_chain_rule_is_that_of_one_pass_a_number() -> None:
    """The same numbers, put in one by one with a pass for each, have the same probability."""
    fill = filled(PREDICT, [(40, 46)], InfillConfig(temperature=1.0, samples=5))
    example, masked = with_holes([(40, 46)])
    assert fill.numbers is not None
    for sample in range(5):
        ids, numbers = TOKENIZER.vocabulary.masked(example.ids, masked), np.where(masked, np.nan, example.numbers)
        total = 0.0
        for i, cell in enumerate(fill.cells):
            (answer,) = PREDICT([Example(ids, numbers)], [cell[None]])
            legal = np.where(TOKENIZER.vocabulary.committable[cell[1]], answer[0], -np.inf)
            total += legal[fill.values[sample, i]] - np.logaddexp.reduce(legal)
            numbers = numbers.copy()
            numbers[tuple(cell)] = fill.numbers[sample, i]
        assert fill.joint[sample] == pytest.approx(total, abs=0.02 * len(fill.cells))


def test_without_drawing_means_are_filled_and_the_rest_is_surer() -> None:
    config = InfillConfig()
    fill = filled(PREDICT, [(40, 60)], config)
    assert fill.stated is not None
    assert fill.numbers is not None
    np.testing.assert_allclose(fill.numbers[0], fill.stated.mean)
    alone = np.log(np.take_along_axis(fill.marginals, fill.values[0][:, None].astype(np.int64), axis=1))[:, 0]
    assert fill.log_prob[0].sum() > alone.sum() + 5


def test_gaps_apart_are_drawn_together_and_long_ones_block_by_block() -> None:
    assert filled(PREDICT, [(20, 24), (150, 154), (300, 304)], InfillConfig(), 400).n_passes == 1
    long = filled(PREDICT, [(120, 190)], InfillConfig(temperature=1.0, samples=12), 400)
    assert 1 < long.n_passes[0] <= 4
    assert long.numbers is not None
    steps = np.abs(np.diff(long.numbers.reshape(12, -1, 2), axis=1)).mean(axis=(0, 2))
    assert steps.max() < 2 * steps.mean()  # no jump from one block to the next


def test_what_is_not_legal_is_not_drawn() -> None:
    example, masked = with_holes([(40, 46)])
    cells = np.argwhere(masked)
    allowed = np.zeros((len(cells), TOKENIZER.vocabulary.committable.shape[1]), bool)
    allowed[:, 10:40] = True
    (fill,) = infill(
        PREDICT,
        [example],
        [masked],
        InfillConfig(temperature=1.0, samples=20),
        vocabulary=TOKENIZER.vocabulary,
        keys=[3],
        legal=[LegalCells(cells, allowed)],
    )
    assert ((fill.values >= 10) & (fill.values < 40)).all()
    assert np.isfinite(fill.joint).all()


def test_a_blend_is_drawn_in_few_passes_whatever_its_methods_are() -> None:
    blend = count_blend(NUMBERED, TOKENIZER, context=200)
    fill = filled(blend, [(20, 30), (100, 110)], InfillConfig(), 200)
    assert fill.n_passes == 1
    one_by_one = filled(blend, [(20, 30), (100, 110)], InfillConfig(order="left_to_right"), 200)
    assert one_by_one.n_passes == len(fill.cells)
    np.testing.assert_array_equal(fill.marginals, one_by_one.marginals)
    lines = count_numbers(NUMBERED, TOKENIZER)["lines"]
    assert isinstance(lines, PredictJointly)
    assert filled(lines, [(20, 30)], InfillConfig()).n_passes > 5


SCATTERED = [(start, start + 2) for start in range(6, 390, 7)]


def test_scattered_cells_are_drawn_in_one_pass_by_the_chain_rule() -> None:
    """Blocks side by side are drawn each given those before it: as if each number had a pass of its own."""
    fill = filled(PREDICT, SCATTERED, InfillConfig(temperature=1.0, samples=3), 400)
    assert (fill.n_passes == 1).all()
    assert fill.numbers is not None
    example, masked = with_holes(SCATTERED, 400)
    for sample in range(3):
        ids, numbers = TOKENIZER.vocabulary.masked(example.ids, masked), np.where(masked, np.nan, example.numbers)
        apart = []
        for i, cell in enumerate(fill.cells):
            (answer,) = PREDICT([Example(ids, numbers)], [cell[None]])
            legal = np.where(TOKENIZER.vocabulary.committable[cell[1]], answer[0], -np.inf)
            one = legal[fill.values[sample, i]] - np.logaddexp.reduce(legal)
            apart.append(fill.log_prob[sample, i] - one)
            numbers = numbers.copy()
            numbers[tuple(cell)] = fill.numbers[sample, i]
        assert abs(np.mean(apart)) < 0.01
        assert np.quantile(np.abs(apart), 0.95) < 0.2  # blocks begin elsewhere when some numbers are known


def test_what_is_requested_is_found_as_if_all_were() -> None:
    example, masked = with_holes(SCATTERED, 400)
    assert example.numbers is not None
    shown = np.where(masked, np.nan, example.numbers)
    requested = masked & (np.arange(400) > 150)[:, None] & (np.arange(400) < 260)[:, None]
    for method in (GAUSSIAN, GAUSSIAN.diffuse(), GAUSSIAN.diffuse(trend=True), Local.count([TRAIN], GAUSSIAN)):
        assert method is not None
        for some, every in zip(method.some(shown, requested), method.posterior(shown), strict=True):
            np.testing.assert_array_equal(some[requested], every[requested])
        assert np.isnan(method.some(shown, requested)[0][masked]).any()
