"""The statistics of the panel, beside SciPy, brute force and what is known of them."""

import itertools

import numpy as np
import pytest
from scipy import stats

from benchmarks.panel.rule import Row, allowed_losses, holm, judged, pooled
from maskseq.evaluation.paired import FEWEST_REGIONS, MARGINS, Comparison, compared, reference, resampled


def test_the_interval_of_a_gain_is_that_of_scipys_paired_bootstrap() -> None:
    rng = np.random.default_rng(0)
    sizes = rng.integers(5, 50, size=40)
    theirs = sizes * rng.normal(2.0, 0.2, size=40)
    ours = theirs * rng.normal(0.97, 0.03, size=40)
    found = compared(ours, theirs, sizes, "bits")
    assert found.gain == pytest.approx(1 - ours.sum() / theirs.sum())
    scipy = stats.bootstrap(
        (ours, theirs),
        lambda a, b, axis: 1 - a.sum(axis=axis) / b.sum(axis=axis),
        paired=True,
        method="percentile",
        n_resamples=10_000,
        rng=np.random.default_rng(1),
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx((scipy.low, scipy.high), abs=6e-4)


def test_an_exact_share_gains_a_difference_weighted_by_gaps() -> None:
    ours, theirs, sizes = np.array([3.0, 0.0]), np.array([1.0, 1.0]), np.array([4, 1])
    found = compared(ours, theirs, sizes, "exact")
    assert found.gain == pytest.approx((3 - 2) / 5)
    assert (found.low, found.high) == pytest.approx((-1.0, 0.5))  # only the one region, or only the other


def test_all_resamples_of_few_regions_occur_as_often_as_enumeration_says() -> None:
    values = np.array([[0.0, 1.0, 10.0]])
    drawn = resampled(values, resamples=20_000)[0]
    draws = [sum(values[0, list(each)]) for each in itertools.product(range(3), repeat=3)]
    for total in set(draws):
        assert (drawn == total).mean() == pytest.approx(draws.count(total) / 27, abs=0.015)


@pytest.mark.parametrize("better", [-1, 1])
def test_a_loss_is_as_improbable_as_a_normal_distribution_says(better: int) -> None:
    rng = np.random.default_rng(2)
    theirs = np.full(200, 100.0)
    ours = theirs - better * rng.normal(0.5, 4.0, size=200)
    found = compared(ours, theirs, np.full(200, 100), "bits")
    z = found.gain / (np.std(1 - ours / theirs, ddof=1) / np.sqrt(200))
    assert found.p_loss == pytest.approx(stats.norm.sf(-z), abs=0.01)


def test_ties_lose_about_as_often_as_chance_allows() -> None:
    rng = np.random.default_rng(3)
    losses = 0
    for seed in range(200):
        ours, theirs = rng.normal(10, 1, size=(2, 60))
        losses += compared(ours, theirs, np.ones(60), "bits", seed=seed).loses()
    assert losses <= stats.binom.ppf(0.9999, 200, 0.035)


def test_a_tie_of_equal_answers_is_neither_won_nor_lost() -> None:
    same = np.arange(1.0, 30.0)
    for metric in MARGINS:
        found = compared(same, same, np.ones(29), metric)
        assert (found.gain, found.low, found.high, found.p_loss) == (0, 0, 0, 1)
        assert not found.loses()
        assert not found.wins()


@pytest.mark.parametrize("n", [1, 5, 27, 90, 400])
def test_chance_allows_as_many_losses_as_the_binomial_distribution_says(n: int) -> None:
    assert allowed_losses(n) == stats.binom.ppf(0.95, n, 0.025)


def test_of_ninety_comparisons_chance_loses_five() -> None:
    assert allowed_losses(90) == 5


def test_holm_rejects_what_its_definition_rejects() -> None:
    rng = np.random.default_rng(4)
    for _ in range(50):
        p = rng.random(8) ** 4
        rejected = set()
        for rank, each in enumerate(np.argsort(p)):  # from the smallest on, until the first that is too large
            if p[each] > 0.05 / (8 - rank):
                break
            rejected.add(int(each))
        assert {i for i, corrected in enumerate(holm(p.tolist())) if corrected <= 0.05} == rejected
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []


def test_families_count_alike_however_many_sets_they_have() -> None:
    mean, low, high = pooled({"many": [0.1] * 9, "one": [0.3]}, "exact")
    assert mean == pytest.approx(0.2)
    assert (low, high) == pytest.approx((0.1, 0.3))  # both draws may be of one family
    assert pooled({"only": [0.1, 0.3]}, "exact") == pytest.approx((0.2, 0.2, 0.2))


def test_a_tenfold_loss_and_a_tenth_of_it_pool_to_a_tie() -> None:
    assert pooled({"a": [1 - 10], "b": [1 - 0.1]}, "squared error") == pytest.approx((0.0, -9.0, 0.9))
    ratios = np.array([0.9, 1.2, 0.8])
    gains = {str(i): [1 - ratio] for i, ratio in enumerate(ratios)}
    assert pooled(gains, "bits")[0] == pytest.approx(1 - stats.gmean(ratios))


def test_the_reference_is_the_largest_share_or_the_smallest_loss() -> None:
    selection = {"a": 0.2, "b": 0.5, "c": 0.4}
    assert reference(selection, "exact") == "b"
    assert reference(selection, "bits") == reference(selection, "squared error") == "a"


def _row(name: str, gain: float, spread: float, *, family: str = "f", p: float = 0.5, regions: int = 50) -> Row:
    return Row(name, family, "log, single", "bits", Comparison(gain, gain - spread, gain + spread, p), regions)


def test_the_verdict_names_what_is_lost_and_how_surely() -> None:
    rows = [
        _row("won", 0.10, 0.02, family="a"),
        _row("lost within the margin", -0.005, 0.004, family="b", p=0.02),
        _row("lost", -0.05, 0.01, family="c", p=1e-4),
        _row("no claim", -0.5, 0.01, regions=FEWEST_REGIONS - 1, p=1e-4),
        _row("open", -0.02, 0.05, family="d"),
    ]
    verdict = judged(rows)
    assert verdict.comparisons == 4
    assert verdict.real == ("lost",)
    assert verdict.nominal == ("lost within the margin", "lost")
    assert verdict.after_holm == ("lost",)
    assert verdict.allowed == 1
    assert not verdict.never_worse
    assert verdict.pools["log, single"][0] == pytest.approx(1 - stats.gmean([0.90, 1.005, 1.05, 1.02]))
    assert [row.name for row in verdict.worst[:2]] == ["lost", "open"]
    assert judged(rows[:1]).never_worse
    assert judged(rows[:1]).better
    assert [row.name for row in rows if row.comparison.undecided(0.01)] == ["lost within the margin", "open"]
