"""Deep tables, spans and copies against counting by hand."""

from itertools import pairwise, takewhile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskseq.plugins import format_for
from maskseq.predict.experts import neighbour_index, span_predict
from maskseq.predict.experts.context_index import ContextIndex, Line, Tally
from maskseq.predict.experts.copies import CopyPredict, Repeats
from maskseq.predict.experts.deep_tables import DeepTables, merged
from maskseq.predict.experts.neighbour_index import FLOOR, Law
from maskseq.predict.experts.span_predict import SpanPredict
from maskseq.predict.protocol import Example
from maskseq.types import Field, Vocabulary
from maskseq_genomics.nucleotide import NucleotideTokenizer

ABC = Vocabulary.of([Field(name="x", tokens=tuple("abc"))])
END, UNKNOWN, BEYOND = 3, 4, 5
SEQUENCES = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=12), min_size=1, max_size=6)
"""Id 3 is `[MASK]`."""


def columns(sequences: list[list[int]]) -> list[np.ndarray]:
    return [np.array(s) for s in sequences]


def digit(s: list[int], at: int) -> int:
    if not 0 <= at < len(s):
        return END if at in (-1, len(s)) else BEYOND
    return UNKNOWN if s[at] == 3 else s[at]


@settings(max_examples=100, deadline=None)
@given(SEQUENCES, st.lists(st.integers(-3, 3), max_size=40), st.integers(0, 10**6), st.integers(1, 3))
def test_stretches_of_sorted_places_are_counted_as_by_hand(
    sequences: list[list[int]], path: list[int], pick: int, n_groups: int
) -> None:
    """At every depth of a path, also of one that 64 bits do not hold, and of groups of places."""
    line = Line(columns(sequences), 3, 4, 1)
    groups = np.arange(len(line.places)) % n_groups
    index = ContextIndex(line, line.places, tuple(path), None if n_groups == 1 else groups, n_groups)
    requested, group = sequences[pick % len(sequences)], pick % n_groups
    at = pick % len(requested)
    wanted = np.array([[digit(requested, at + offset) for offset in path]], np.int64).reshape(1, -1)
    low, high = index.stretches(index.edges[[group]], index.edges[[group + 1]], wanted)
    every = [(s, i) for s in sequences for i in range(len(s))][group::n_groups]
    for depth in range(len(path) + 1):
        seen = [digit(s, i) for s, i in every if all(digit(s, i + o) == digit(requested, at + o) for o in path[:depth])]
        assert high[depth, 0] - low[depth, 0] == len(seen)
        assert index.tally(low[depth], high[depth])[0].tolist() == [seen.count(x) for x in range(3)]


def test_long_stretches_are_counted_as_by_hand() -> None:
    """Longer than the blocks between which counts are stored."""
    ids = np.random.default_rng(0).integers(4, size=3000)
    low, high = np.sort(np.random.default_rng(1).integers(len(ids) + 1, size=(2, 200)), axis=0)
    expected = [[np.count_nonzero(ids[a:b] == x) for x in range(3)] for a, b in zip(low, high, strict=True)]
    assert Tally(ids, 3)(low, high).tolist() == expected


def interpolated(
    law: Law, sequences: list[list[int]], requested: list[int], at: int, path: tuple[int, ...], used: int
) -> np.ndarray:
    """The formula, with counts of loops over lists; strengths are those that were fitted."""
    answer = below = np.full(3, 1 / 3)
    places = [(s, i) for s in sequences for i in range(len(s)) if digit(s, i) < 3]
    for level, strengths in enumerate(law):
        if level > used:
            break
        if np.isnan(strengths[0]):  # no level
            continue
        kept = [(s, i) for s, i in places if all(digit(s, i + o) == digit(requested, at + o) for o in path[:level])]
        below = below if len(kept) == len(places) else answer
        places = kept
        counts = np.bincount([digit(s, i) for s, i in kept], minlength=3)[:3]
        size = min(int(np.ceil(np.log2(max(counts.sum(), 1)))), 9)
        strength = strengths[2 * size + int(counts.max() == counts.sum())]
        answer = (counts + strength * below) / (counts.sum() + strength)
    return (1 - FLOOR) * answer + FLOOR / 3


@settings(max_examples=60, deadline=None)
@given(SEQUENCES, st.integers(0, 10**6), st.booleans(), st.booleans())
def test_deep_tables_interpolate_counts(
    sequences: list[list[int]], pick: int, by_pairs: bool, past_holes: bool
) -> None:
    if not any(x != 3 for s in sequences for x in s):
        return
    table = DeepTables(
        [c[:, None] for c in columns(sequences)],
        vocabulary=ABC,
        left=3,
        right=3,
        by_pairs=by_pairs,
        past_holes=past_holes,
    )
    requested = list(sequences[pick % len(sequences)])
    at = pick % len(requested)
    requested[at] = 3
    (answer,) = table([Example(np.array(requested)[:, None])], [np.array([[at, 0]])])
    path, used, like = looked_at(table, requested, at)
    expected = interpolated(table.index.law(0, like), sequences, requested, at, path, used)
    np.testing.assert_allclose(np.exp(answer[0]), expected, rtol=1e-9)
    assert answer[0].max() == pytest.approx(np.log(expected.max()))


def looked_at(table: DeepTables, s: list[int], at: int) -> tuple[tuple[int, ...], int, tuple[int, ...]]:
    """The path, how much of it is known, and the path that lends its strengths."""
    runs = []
    for sign in (-1, 1):
        known = [digit(s, at + sign * far) != UNKNOWN for far in (1, 2, 3)]
        runs.append(len(list(takewhile(lambda each: each != table.past_holes, known))))
    path = table._path(*runs)
    used = len(list(takewhile(lambda offset: digit(s, at + offset) != UNKNOWN, path)))
    return path, used, table._like(*runs)


def test_paths_begin_at_the_nearest_known_neighbour() -> None:
    table = DeepTables([np.zeros((3, 1), int)], vocabulary=ABC, left=3, right=3)
    requested = [0, 0, 3, 3, 0, 3, 0]  # of the one in the middle, known from 2 away on, and 1 and 3 away
    assert looked_at(table, requested, 3)[:2] == ((-2, 1, -3, 2, 3), 3)
    assert looked_at(table, [3] * 9, 4)[:2] == ((), 0)
    prefixes = DeepTables([np.zeros((3, 1), int)], vocabulary=ABC, left=3, right=0)
    assert looked_at(prefixes, [0] * 7, 3)[:2] == ((-1, -2, -3), 3)
    strict = DeepTables([np.zeros((3, 1), int)], vocabulary=ABC, left=3, right=3, past_holes=False)
    assert looked_at(strict, requested, 3)[1] == 1


def test_prefix_tables_see_nothing_on_the_right() -> None:
    ids = np.random.default_rng(0).integers(3, size=(200, 1))
    table = DeepTables([ids], vocabulary=ABC, left=6, right=0)
    other = ids.copy()
    other[101:] = (other[101:] + 1) % 3
    cell = [np.array([[100, 0]])]
    np.testing.assert_array_equal(table([Example(ids)], cell)[0], table([Example(other)], cell)[0])


def test_a_law_is_found_past_a_hole() -> None:
    """Every fourth id repeats the one two before, and its neighbours are hidden."""
    rng = np.random.default_rng(0)
    ids = rng.integers(3, size=(3000, 1))
    ids[2::4] = ids[::4]
    masked = ids.copy()
    requested = np.arange(1002, 1602, 4)
    masked[requested - 1] = masked[requested + 1] = masked[requested] = 3
    cells = np.stack([requested, 0 * requested], axis=1)
    bits = {}
    for past in (False, True):
        answer = DeepTables([ids[:1000], ids[1600:]], vocabulary=ABC, past_holes=past)([Example(masked)], [cells])[0]
        bits[past] = -answer[np.arange(len(requested)), ids[requested, 0]].mean() / np.log(2)
    assert bits[False] > 1.5 > 1.2 > bits[True]


def test_what_was_kept_longest_ago_is_sorted_again(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = np.random.default_rng(0).integers(3, size=(500, 1))
    table = DeepTables([ids], vocabulary=ABC)
    masked = ids.copy()
    masked[[50, 51, 90]] = 3
    (first,) = table([Example(masked)], [np.array([[50, 0]])])
    monkeypatch.setattr(neighbour_index, "MAX_KEPT", 1)
    table([Example(masked)], [np.array([[90, 0]])])
    assert len(table.index.kept) == 1
    np.testing.assert_array_equal(table([Example(masked)], [np.array([[50, 0]])])[0], first)


@pytest.mark.parametrize("limit", [0, 1, 100])
def test_it_does_not_matter_by_how_much_places_are_sorted(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    """What is not sorted is compared one by one, unless that is too much."""
    ids = np.random.default_rng(0).integers(3, size=(400, 1))
    masked = ids.copy()
    masked[::5] = masked[1::7] = 3
    requested = [Example(masked, key="case 0")], [np.argwhere(masked == 3)]
    (expected,) = SpanPredict([ids], vocabulary=ABC)(*requested)
    monkeypatch.setattr(neighbour_index, "MAX_LEFT", limit)
    (answer,) = SpanPredict([ids], vocabulary=ABC)(*requested)
    np.testing.assert_allclose(answer, expected, rtol=1e-12)


def test_more_cells_than_fit_are_thinned_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbour_index, "MAX_PLACES", 100)
    table = DeepTables([np.zeros((1000, 1), int)], vocabulary=ABC)
    assert table.step == 10
    assert len(table.index.places) == 100


def test_symmetries_share_their_levels() -> None:
    tokenizer = NucleotideTokenizer()
    ids = np.random.default_rng(0).integers(4, size=(600, 1))
    (mirror,) = tokenizer.symmetries()
    table = DeepTables([ids, mirror.ids(ids)], vocabulary=tokenizer.vocabulary, by_pairs=True, past_holes=False)
    positions = np.arange(20, 580, 31)
    masked = ids.copy()
    masked[positions] = 4
    (here,) = table([Example(masked)], [np.stack([positions, 0 * positions], axis=1)])
    (there,) = table([Example(mirror.ids(masked))], [np.stack([599 - positions, 0 * positions], axis=1)])
    np.testing.assert_allclose(here, there[:, np.asarray(mirror.id_maps[0])[:4]], rtol=1e-9)


@settings(max_examples=100, deadline=None)
@given(SEQUENCES, st.integers(0, 10**6), st.integers(0, 2**12 - 1))
def test_spans_agree_with_all_that_is_known_around_them(sequences: list[list[int]], pick: int, masked: int) -> None:
    """Half-filled holes among them: what is known behind other masked cells counts as well."""
    if not any(x != 3 for s in sequences for x in s):
        return
    table = SpanPredict([c[:, None] for c in columns(sequences)], vocabulary=ABC, depth=2)
    requested = [3 if masked >> i & 1 else x for i, x in enumerate(sequences[pick % len(sequences)])]
    at = pick % len(requested)
    requested[at] = 3
    (answer,) = table([Example(np.array(requested)[:, None])], [np.array([[at, 0]])])
    known = [[o * sign for o in range(1, 20) if digit(requested, at + o * sign) != UNKNOWN] for sign in (-1, 1)]
    path = [each for pair in zip(known[0][:2], known[1][:2], strict=True) for each in pair]
    like = table._like(*(min(abs(side[0]), span_predict.FAR) for side in known))
    expected = interpolated(table.index.law(0, like), sequences, requested, at, tuple(path), len(path))
    np.testing.assert_allclose(np.exp(answer[0]), expected, rtol=1e-9)


def test_what_is_filled_behind_a_masked_cell_tells_which_span_it_is() -> None:
    """Of two equally frequent spans, the one whose last cell is there already."""
    cases = [np.array([0, 1, 1, 1, 2])[:, None], np.array([0, 2, 2, 2, 2])[:, None]] * 20
    table = SpanPredict(cases, vocabulary=ABC)
    for filled in (1, 2):
        seen = np.array([0, 3, 3, filled, 2])[:, None]
        (answer,) = table([Example(seen)], [np.array([[1, 0], [2, 0]])])
        assert answer.argmax(axis=1).tolist() == [filled, filled]


def test_copies_are_found_under_holes_and_on_the_other_strand() -> None:
    tokenizer = NucleotideTokenizer()
    (mirror,) = tokenizer.symmetries()
    rng = np.random.default_rng(0)
    genome = rng.integers(4, size=(20_000, 1))
    copies = CopyPredict([genome, mirror.ids(genome)], vocabulary=tokenizer.vocabulary)
    copied = mirror.ids(genome[5000:5200])
    copied[::50] = (copied[::50] + 1) % 4  # some have changed since
    masked = copied.copy()
    requested = np.array([30, 31, 32, 75, 120])
    masked[requested] = 4
    (answer,) = copies([Example(masked)], [np.stack([requested, 0 * requested], axis=1)])
    assert (answer.argmax(axis=1) == copied[requested, 0]).all()
    np.testing.assert_allclose(np.exp(answer).sum(axis=1), 1)
    assert np.exp(answer.max(axis=1)).min() > 0.85
    (elsewhere,) = copies([Example(rng.integers(4, size=(200, 1)))], [np.stack([requested, 0 * requested], axis=1)])
    np.testing.assert_allclose(np.exp(elsewhere), 0.25, atol=0.02)


def test_copies_are_the_posterior_mixture_over_all_diagonals() -> None:
    """Two sources that disagree: weights are those of their scores, by the formula."""
    vocabulary = NucleotideTokenizer().vocabulary
    rng = np.random.default_rng(1)
    source = rng.integers(4, size=(65, 1))
    other = source.copy()
    other[32] = (source[32] + 1) % 4
    other[20] = (source[20] + 1) % 4  # a mismatch within reach
    copies = CopyPredict([source, other], vocabulary=vocabulary)
    masked = source.copy()
    masked[32] = 4
    (answer,) = copies([Example(masked)], [np.array([[32, 0]])])
    match, mismatch = np.log(0.9 * 4), np.log(0.1 * 4 / 3)
    n_places = 2 * (65 - 12 + 1)
    weights = 0.05 / n_places * np.exp([64 * match, 63 * match + mismatch])
    chance = 0.95
    expected = np.full(4, chance / 4)
    for weight, id_ in zip(weights, (source[32, 0], other[32, 0]), strict=True):
        expected += weight * np.where(np.arange(4) == id_, 0.9, 0.1 / 3)
    np.testing.assert_allclose(np.exp(answer[0]), expected / expected.sum(), rtol=1e-6)


def test_cells_in_exact_repeats_are_named() -> None:
    rng = np.random.default_rng(0)
    genome = rng.integers(4, size=(3000, 1))
    test = rng.integers(4, size=(400, 1))
    test[100:200] = genome[1000:1100]
    test[150] = (test[150] + 1) % 4  # the cell itself may differ; its neighbours then have another flank
    cells = np.array([[position, 0] for position in range(400)])
    (found,) = Repeats([genome], n_ids=4, flank=12)([test], [cells])
    inside = [i for i in range(112, 188) if abs(i - 150) > 12 or i == 150]
    assert np.flatnonzero(found).tolist() == inside


def test_merged_takes_sides_in_turn() -> None:
    assert merged([1, 2, 3], [1]) == (-1, 1, -2, -3)
    assert all(abs(a) <= abs(b) for a, b in pairwise(merged(range(1, 5), range(1, 5))))


@pytest.mark.soak
def test_twelve_neighbours_on_a_side_find_the_repeats_of_e_coli(shared_data: Path) -> None:
    """All isolated bases of the last fifth: 1.847 bits at 5 + 5, 1.792 at 12 + 12, in some seconds of CPU."""
    path = shared_data / "genomics/ecoli_K12_MG1655.fasta.gz"
    tokenizer = NucleotideTokenizer()
    ids = tokenizer.encode(next(iter(format_for(path, None).read(path)))).ids
    cut = int(0.8 * len(ids))
    views = [ids[:cut], *(each.ids(ids[:cut]) for each in tokenizer.symmetries())]
    positions = np.arange(32, len(ids) - cut, 64)
    cells, truth = np.stack([positions, 0 * positions], axis=1), ids[cut:][positions, 0]
    masked = ids[cut:].copy()
    masked[positions] = 4
    table = DeepTables(views, vocabulary=tokenizer.vocabulary, by_pairs=True, past_holes=False)
    (answer,) = table([Example(masked)], [cells])
    assert -answer[np.arange(len(truth)), truth].mean() / np.log(2) == pytest.approx(1.792, abs=0.004)
