"""What each order commits, against the formulas of its paper worked out by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskseq.errors import UsageError
from maskseq.infill.order import Frontier, OrderConfig, choose, draw, entropy, phases, remask


def frontier(probabilities: list[list[float]], *, committed: list[float] = (), step: int = 0) -> Frontier:
    with np.errstate(divide="ignore"):
        return Frontier(np.log(np.array(probabilities)), np.log(np.array(committed, dtype=float)), step)


def chosen(seen: Frontier, seed: int = 0, **options: object) -> list[int]:
    return choose(seen, OrderConfig(**options), np.random.default_rng(seed)).tolist()


THREE = frontier([[0.5, 0.5, 0.0], [0.98, 0.02, 0.0], [0.1, 0.0, 0.9]])  # H = .693, .098, .325 nats


def test_entropy_is_shannons_in_nats() -> None:
    expected = [
        math.log(2),
        -(0.98 * math.log(0.98) + 0.02 * math.log(0.02)),
        -(0.1 * math.log(0.1) + 0.9 * math.log(0.9)),
    ]
    assert entropy(THREE.log_probs) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("gamma", "expected"),
    [(0.0, [1]), (0.097, [1]), (0.099, [1, 2]), (0.42, [1, 2]), (0.43, [1, 2, 0])],  # Σ H − max H: 0, .098, .423
)
def test_entropy_bounded_commits_the_most_cells_whose_entropies_but_the_largest_fit(
    gamma: float, expected: list[int]
) -> None:
    assert chosen(THREE, order="entropy_bounded", gamma=gamma) == expected


def test_cells_without_entropy_are_free() -> None:
    certain = frontier([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])
    assert chosen(certain, order="entropy_bounded", gamma=0.0) == [0, 2, 1]


def test_threshold_commits_what_is_sure_enough_and_always_one() -> None:
    assert chosen(THREE, order="threshold", threshold=0.9) == [1, 2]
    assert chosen(THREE, order="threshold", threshold=0.99) == [1]


def test_scores_rank_as_their_names_say() -> None:
    seen = frontier([[0.6, 0.2, 0.2], [0.55, 0.45, 0.0], [0.5, 0.25, 0.25]])
    # best: .60 .55 .50; margins: .40 .10 .25; entropies: .95 .69 1.04
    assert chosen(seen, order="confidence", steps=3, schedule="linear") == [0]
    assert chosen(seen, order="margin", steps=3, schedule="linear") == [0]
    assert chosen(seen, order="entropy", steps=3, schedule="linear") == [1]
    ranked = {order: chosen(seen, order=order, steps=1) for order in ("confidence", "margin", "entropy")}
    assert ranked == {"confidence": [0, 1, 2], "margin": [0, 2, 1], "entropy": [1, 0, 2]}


@pytest.mark.parametrize(("schedule", "masked"), [("linear", [30, 20, 10, 0]), ("cosine", [36, 28, 15, 0])])
def test_schedules_leave_hidden_what_their_formula_says(schedule: str, masked: list[int]) -> None:
    """Of 40 cells in 4 steps: 40·(1 − r), or ⌊40·cos(πr/2)⌋ as in MaskGIT."""
    seen, left = [], 40
    for step in range(4):
        state = Frontier(np.log(np.full((left, 4), 0.25)), np.zeros(40 - left), step)
        left -= len(chosen(state, order="confidence", steps=4, schedule=schedule))
        seen.append(left)
    assert seen == masked


def test_ancestral_commits_each_cell_with_probability_one_over_the_steps_left() -> None:
    uniform = Frontier(np.log(np.full((20_000, 2), 0.5)), np.zeros(0), 2)
    assert len(chosen(uniform, order="ancestral", steps=6)) == pytest.approx(
        20_000 / 4, abs=4 * math.sqrt(20_000 * 3 / 16)
    )
    assert len(chosen(Frontier(uniform.log_probs, np.zeros(0), 5), order="ancestral", steps=6)) == 20_000


def test_remdm_hides_the_doubtful_again_with_the_papers_probabilities() -> None:
    probabilities = np.array([0.2, 0.9, 0.5])
    state = Frontier(np.zeros((1, 1)), np.log(probabilities), 3)
    rng = np.random.default_rng(0)
    counts = sum(remask(state, OrderConfig(order="remdm", steps=5), rng) for _ in range(4000))
    sigma_max = (1 - 4 / 5) / (3 / 5)
    expected = sigma_max * np.exp(-probabilities) / np.exp(-probabilities).sum()
    assert counts / 4000 == pytest.approx(expected, abs=0.02)
    last = Frontier(np.zeros((1, 1)), np.log(probabilities), 4)
    assert not any(remask(last, OrderConfig(order="remdm", steps=5), rng).any() for _ in range(100))
    assert not remask(state, OrderConfig(order="ancestral", steps=5), rng).any()


def test_noise_on_the_scores_varies_the_order_and_fades() -> None:
    options = {"order": "confidence", "steps": 3, "schedule": "linear", "noise": 4.5}
    assert len({tuple(chosen(THREE, seed=seed, **options)) for seed in range(30)}) == 3
    at_the_end = Frontier(THREE.log_probs, np.zeros(0), 2)
    assert all(chosen(at_the_end, seed=seed, **options) == [1, 2, 0] for seed in range(30))


def test_draws_follow_the_tempered_and_truncated_distribution() -> None:
    probabilities = np.array([0.5, 0.3, 0.15, 0.05])
    rows = np.log(np.tile(probabilities, (40_000, 1)))
    noise = np.random.default_rng(0).gumbel(size=rows.shape)

    def shares(**options: object) -> np.ndarray:
        settings = {"temperature": 1.0, "top_k": None, "top_p": 1.0} | options
        return np.bincount(draw(rows, noise, **settings), minlength=4) / len(rows)

    def normalised(p: np.ndarray) -> np.ndarray:
        return p / p.sum()

    assert shares() == pytest.approx(probabilities, abs=0.01)
    assert shares(temperature=0.5) == pytest.approx(normalised(probabilities**2), abs=0.01)
    assert shares(top_k=2) == pytest.approx([0.625, 0.375, 0, 0], abs=0.01)
    assert shares(top_p=0.7) == pytest.approx([0.625, 0.375, 0, 0], abs=0.01)  # .5 is not enough, .8 is
    assert shares(top_p=0.4) == pytest.approx([1, 0, 0, 0])
    assert shares(temperature=0.0) == pytest.approx([1, 0, 0, 0])


@given(
    st.lists(st.integers(0, 200), min_size=1, max_size=60, unique=True),
    st.none() | st.integers(1, 50),
    st.integers(0, 3),
    st.floats(0.01, 1.0),
)
def test_phases_fill_every_cell_once_and_revisit_each_once_a_sweep(
    positions: list[int], block: int | None, refine: int, share: float
) -> None:
    cells = np.array(sorted(positions))
    parts = phases(cells, OrderConfig(block=block, refine=refine, refine_share=share), np.random.default_rng(0))
    together = np.concatenate(parts)
    assert np.array_equal(np.bincount(together, minlength=len(cells)), np.full(len(cells), 1 + refine))
    first = [
        part for part in parts if np.array_equal(part, together[: len(cells)][np.isin(together[: len(cells)], part)])
    ]
    if block is not None and refine == 0:
        assert [set(cells[part] // block) for part in first] == [{b} for b in sorted(set(cells // block))]


@pytest.mark.parametrize(
    "wrong",
    [
        {"order": "best"},
        {"schedule": "sine"},
        {"steps": 0},
        {"gamma": -1.0},
        {"noise": -0.1},
        {"gamma": math.nan},
        {"threshold": 0.0},
        {"threshold": 1.1},
        {"block": 0},
        {"refine": -1},
        {"refine_share": 0.0},
    ],
)
def test_wrong_options_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        OrderConfig(**wrong)
