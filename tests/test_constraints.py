"""Constraints against brute force: what is kept is exactly what some allowed completion uses."""

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskseq.constraints import Automaton, Constraint, Grammar, Total, count_between, narrowed, propagate, transitions
from maskseq.errors import UsageError
from maskseq.infill.sampler import InfillConfig, infill
from maskseq.predict.protocol import Example, of_ids
from maskseq.types import Field, LegalCells, Vocabulary
from maskseq_genomics.kmer import KmerTokenizer
from maskseq_genomics.sequence import Sequence as Dna

ABCD = Vocabulary.of([Field(name="letter", tokens=tuple("abcd"))])
MASK = 4


def brute_force(
    ids: np.ndarray, cells: np.ndarray, allowed: np.ndarray, holds: Callable[[np.ndarray], bool]
) -> np.ndarray:
    """By trying every way of filling the cells."""
    kept = np.zeros_like(allowed)
    for values in itertools.product(*(np.flatnonzero(row) for row in allowed)):
        filled = ids.copy()
        filled[tuple(cells.T)] = values
        if holds(filled[:, 0]):
            kept[np.arange(len(cells)), list(values)] = True
    return kept


@st.composite
def partly_filled(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    length = draw(st.integers(1, 7))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    ids = rng.integers(0, 4, (length, 1))
    holes = np.zeros(length, bool)
    holes[rng.permutation(length)[: draw(st.integers(1, 5))]] = True
    ids[holes] = MASK
    cells = np.argwhere(holes[:, None])
    return ids, cells, rng.random((len(cells), 4)) < 0.8


FOLLOWS = np.array([[1, 1, 0, 0], [0, 0, 1, 1], [1, 0, 0, 0], [0, 0, 1, 0]], dtype=bool)
NEVER_FALLS = np.triu(np.ones((4, 4), bool))
IS_AB = np.array([True, True, False, False])


def walk(letters: np.ndarray) -> bool:
    return all(FOLLOWS[a, b] for a, b in itertools.pairwise(letters))


RULES: dict[str, tuple[Constraint, Callable[[np.ndarray], bool]]] = {
    "process graph": (transitions(FOLLOWS), walk),
    "process graph with ends": (
        transitions(FOLLOWS, first=IS_AB, last=~IS_AB),
        lambda s: walk(s) and s[0] < 2 and s[-1] >= 2,
    ),
    "monotone": (transitions(NEVER_FALLS), lambda s: bool((np.diff(s) >= 0).all())),
    "count": (count_between(IS_AB, 2, 3), lambda s: 2 <= np.count_nonzero(s < 2) <= 3),
    "count in a stretch": (
        count_between(IS_AB, 1, 2).on(1, 4),
        lambda s: 1 <= np.count_nonzero(s[1:4] < 2) <= 2,
    ),
    "graph and count": (
        transitions(FOLLOWS) & count_between(IS_AB, 2, 3),
        lambda s: walk(s) and 2 <= np.count_nonzero(s < 2) <= 3,
    ),
    "total": (Total(np.array([0.0, 1.0, 2.0, 3.0]), 5.0, 6.0), lambda s: 5 <= s.sum() <= 6),
}


@settings(deadline=None, max_examples=60)
@given(partly_filled(), st.sampled_from(list(RULES)))
def test_an_id_is_kept_exactly_if_some_completion_uses_it(
    data: tuple[np.ndarray, np.ndarray, np.ndarray], name: str
) -> None:
    ids, cells, allowed = data
    rule, holds = RULES[name]
    expected = brute_force(ids, cells, allowed, holds)
    kept = rule(ids, cells, allowed)
    if name == "total":  # bounds only: exact where each cell's allowed values are a run
        assert (kept >= expected).all()
        runs = [np.flatnonzero(row) for row in allowed]
        if all(len(run) and np.ptp(run) == len(run) - 1 for run in runs):
            assert np.array_equal(kept, expected)
    else:
        stretch = (cells[:, 0] >= 1) & (cells[:, 0] < 4) if name == "count in a stretch" else np.ones(len(cells), bool)
        assert np.array_equal(kept[stretch], expected[stretch])


def test_cells_of_other_fields_and_places_are_left_alone() -> None:
    ids = np.array([[4, 0], [4, 4], [4, 1]])
    cells, allowed = np.argwhere(ids == 4), np.ones((4, 4), bool)
    kept = count_between(IS_AB, 1, 1).on(1, 2)(ids, cells, allowed)
    assert cells.tolist() == [[0, 0], [1, 0], [1, 1], [2, 0]]
    assert kept.tolist() == [[True] * 4, [True, True, False, False], [True] * 4, [True] * 4]
    assert Total(np.arange(4.0), 3, 3, field=1, start=1)(ids, cells, allowed)[2].tolist() == [False, False, True, False]


def test_cells_that_will_stay_unknown_may_be_anything() -> None:
    ids = np.array([[0], [4], [4]])  # position 1 stays unknown
    cells, allowed = np.array([[2, 0]]), np.ones((1, 4), bool)
    assert transitions(FOLLOWS)(ids, cells, allowed).tolist() == [[True, True, True, True]]
    assert transitions(NEVER_FALLS & FOLLOWS)(ids, cells, allowed).tolist() == [[True, True, True, True]]
    only_a = np.zeros((4, 4), bool)
    only_a[0, 0] = True
    assert transitions(only_a)(ids, cells, allowed).tolist() == [[True, False, False, False]]
    assert Total(np.arange(4.0), 6, 9)(ids, cells, allowed).tolist() == [[False, False, False, True]]


def test_a_joined_automaton_accepts_what_both_accept() -> None:
    both = transitions(FOLLOWS) & count_between(IS_AB, 2, 2) & transitions(NEVER_FALLS | np.tri(4, k=-2, dtype=bool))
    ids = np.full((5, 1), MASK)
    kept = both(ids, np.argwhere(ids == MASK), np.ones((5, 4), bool))
    expected = brute_force(
        ids,
        np.argwhere(ids == MASK),
        np.ones((5, 4), bool),
        lambda s: walk(s) and np.count_nonzero(s < 2) == 2 and (np.diff(s) != -1).all(),
    )
    assert np.array_equal(kept, expected)
    with pytest.raises(ValueError, match="same field and stretch"):
        transitions(FOLLOWS) & count_between(IS_AB, 2, 2).on(1, 3)


def test_rules_that_narrow_one_another_are_asked_again() -> None:
    first = Automaton(np.array([[0, -1, -1, -1]]), np.array([True])).on(0, 1)  # position 0 is an a
    ids, cells = np.full((3, 1), MASK), np.argwhere(np.ones((3, 1), bool))
    only_b_follows_a = transitions(np.array([[0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [1, 0, 0, 0]], dtype=bool))
    kept = propagate([only_b_follows_a, first], ids, cells, np.ones((3, 4), bool))
    assert [np.flatnonzero(row).tolist() for row in kept] == [[0], [1], [2]]


@of_ids
def random_predict(sequences: Sequence[np.ndarray], cells: Sequence[np.ndarray]) -> list[np.ndarray]:
    answers = []
    for ids, requested in zip(sequences, cells, strict=True):
        logits = np.random.default_rng(ids.ravel()).normal(size=(len(ids), 4))[requested[:, 0]] * 2
        answers.append(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))
    return answers


def fill(ids: np.ndarray, rules: Sequence[Constraint], **options: object) -> list[np.ndarray]:
    config = InfillConfig(**({"temperature": 1.0, "samples": 20} | options))
    (made,) = infill(
        random_predict, [Example(ids)], [ids == MASK], config, vocabulary=ABCD, keys=[1], constraints=[rules]
    )
    return [made.written(ids, sample)[:, 0] for sample in range(config.samples)]


@pytest.mark.parametrize("order", ["one_shot", "entropy_bounded", "left_to_right", "ancestral", "remdm", "confidence"])
def test_every_order_fills_within_the_rules(order: str) -> None:
    ids = np.array([0, 4, 4, 4, 2, 4, 4, 4, 4, 1])[:, None]
    walks = transitions(FOLLOWS)
    for letters in fill(ids, [walks & count_between(IS_AB, 7, 8)], order=order, steps=3):
        assert walk(letters)
        assert 7 <= np.count_nonzero(letters < 2) <= 8


def test_refinement_keeps_the_rules() -> None:
    for letters in fill(np.full((8, 1), MASK), [transitions(FOLLOWS)], order="one_shot", refine=2, refine_share=0.4):
        assert walk(letters)


def test_a_dead_end_starts_over() -> None:
    """Bounds on a total do not see which sums exist, so some tries fail, and some totals do for good."""
    ids = np.full((6, 1), MASK)
    values = np.array([0.0, 1.0, 3.0, 7.0])
    for letters in fill(ids, [Total(values, 13.0, 13.0)]):
        assert values[letters].sum() == 13
    with pytest.raises(UsageError, match="dead end"):
        fill(ids, [Total(np.array([0.0, 2.0, 4.0, 6.0]), 13.0, 13.0)])


def test_rules_that_cannot_be_met_are_reported_before_the_model_runs() -> None:
    @of_ids
    def predict(sequences: Sequence[np.ndarray], cells: Sequence[np.ndarray]) -> list[np.ndarray]:
        raise AssertionError("the model was run")

    ids = np.array([[0], [4], [4], [0]])  # a ? ? a: but only c leads back to a, and a leads to a or b
    no_aa = FOLLOWS & ~np.eye(4, dtype=bool)
    possible = infill(
        random_predict,
        [Example(ids)],
        [ids == 4],
        InfillConfig(),
        vocabulary=ABCD,
        keys=[1],
        constraints=[[transitions(no_aa)]],
    )
    assert possible[0].values.tolist() == [[1, 2]]
    with pytest.raises(UsageError, match="no value is allowed in 2 cell"):
        infill(
            predict,
            [Example(ids)],
            [ids == 4],
            InfillConfig(),
            vocabulary=ABCD,
            keys=[1],
            constraints=[[transitions(no_aa) & count_between(IS_AB, 4, 4)]],
        )


def test_any_callable_is_a_constraint() -> None:
    def alternates(ids: np.ndarray, cells: np.ndarray, allowed: np.ndarray) -> np.ndarray:
        return allowed & ((cells[:, :1] % 2 == 0) == IS_AB)

    for letters in fill(np.full((6, 1), MASK), [alternates]):
        assert ((letters < 2) == (np.arange(6) % 2 == 0)).all()


def test_overlapping_words_agree_because_the_grammar_is_asked_after_every_commit() -> None:
    tokenizer = KmerTokenizer(k=3, overlapping=True)
    record = Dna(key="x", residues=b"ACGTTGNNNNNGATTACA")
    encoded = tokenizer.encode(record)
    holes = ~tokenizer.vocabulary.known(encoded.ids)

    @of_ids
    def predict(sequences: Sequence[np.ndarray], cells: Sequence[np.ndarray]) -> list[np.ndarray]:
        n = tokenizer.vocabulary.n_outputs[0]
        return [np.random.default_rng(len(requested)).normal(size=(len(requested), n)) for requested in cells]

    config = InfillConfig(order="one_shot", temperature=1.0, samples=10)
    (made,) = infill(
        predict,
        [Example(encoded.ids)],
        [holes],
        config,
        vocabulary=tokenizer.vocabulary,
        keys=[0],
        legal=[encoded.legal],
        constraints=[[Grammar(tokenizer.allowed)]],
    )
    seen = set()
    for sample in range(10):
        words = tokenizer.decode(made.written(encoded.ids, sample)).split()
        assert all(a[1:] == b[:-1] for a, b in itertools.pairwise(words))
        filled = words[0] + "".join(word[-1] for word in words[1:])
        assert filled.startswith("ACGTTG")
        assert filled.endswith("GATTACA")
        seen.add(filled)
    assert len(seen) > 1


def test_narrowing_by_legal_cells_ignores_other_cells() -> None:
    cells = np.array([[1, 0], [1, 1], [3, 0]])
    legal = LegalCells(np.array([[0, 0], [1, 1], [2, 1], [3, 0], [9, 1]]), np.eye(5, 4, dtype=bool))
    assert narrowed(legal, cells, np.ones((3, 4), bool)).tolist() == [
        [True] * 4,
        [False, True, False, False],
        [False] * 3 + [True],
    ]
    assert narrowed(None, cells, np.ones((3, 4), bool)).all()
