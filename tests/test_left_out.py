"""A record is asked about as if it had not been counted: experts that were counted without it answer the same."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskseq.predict.experts.copies import CopyPredict
from maskseq.predict.experts.deep_tables import DeepTables
from maskseq.predict.experts.left_out import GUARD, OwnRecords, with_file
from maskseq.predict.experts.markov import Markov, MarkovPredict
from maskseq.predict.experts.span_predict import SpanPredict
from maskseq.predict.experts.tables import ContextTables
from maskseq.predict.experts.training_data import TrainingData
from maskseq.predict.protocol import Example
from maskseq.tokenizer import Tokenizer
from maskseq.types import Encoded, Field, ListRecord, Vocabulary
from maskseq_genomics.nucleotide import NucleotideTokenizer


class Pairs(Tokenizer[ListRecord]):
    """Two fields, of three and of two ids."""

    fields = (Field(name="x", tokens=tuple("abc")), Field(name="y", tokens=tuple("de")))

    def encode(self, record: ListRecord) -> Encoded:
        return Encoded(np.array(record.values, np.uint8))

    def decode(self, ids: np.ndarray) -> list[list[int]]:
        return ids.tolist()


TWO = Vocabulary.of(Pairs.fields)
DNA = NucleotideTokenizer()


def case(rows: list[tuple[int, int]]) -> np.ndarray:
    return np.array(rows, np.uint8).reshape(-1, 2)


CASES = st.lists(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), min_size=1, max_size=8).map(case), min_size=2, max_size=7
)


def same_strengths(of: Any, also: Any) -> None:
    """What is fitted on all data is not what is compared."""
    also.index.fitted.update(of.index.fitted)


@settings(max_examples=80, deadline=None)
@given(CASES, st.integers(0, 10**6), st.integers(0, 2**16 - 1), st.booleans())
def test_tables_answer_as_if_the_record_had_not_been_counted(
    sequences: list[np.ndarray], pick: int, masked: int, past_holes: bool
) -> None:
    which = pick % len(sequences)
    record = sequences[which]
    holes = np.array([masked >> i & 1 for i in range(record.size)], bool).reshape(record.shape)
    holes[0, 0] = True
    requested = [np.argwhere(holes)]
    data = TrainingData([f"case {i}" for i in range(len(sequences))], sequences)
    options = {"vocabulary": TWO, "left": 3, "right": 3, "past_holes": past_holes}
    full = DeepTables(sequences, **options, records=OwnRecords(data, Pairs()))
    without = DeepTables([ids for i, ids in enumerate(sequences) if i != which], **options)
    seen = TWO.masked(record, holes)
    (answer,), support = full.answers([Example(seen, key=f"case {which}")], requested)
    same_strengths(full, without)
    (expected,), behind = without.answers([Example(seen)], requested)
    np.testing.assert_allclose(answer, expected, atol=1e-9)
    np.testing.assert_array_equal(support, behind)


@settings(max_examples=50, deadline=None)
@given(CASES, st.integers(0, 10**6), st.integers(0, 2**16 - 1))
def test_frequencies_tables_and_chains_answer_as_if_the_record_had_not_been_counted(
    sequences: list[np.ndarray], pick: int, masked: int
) -> None:
    """Asked together with an example of nobody's and one of another record."""
    which, other = pick % len(sequences), (pick + 1) % len(sequences)
    asked, requested = [], []
    for ids in (sequences[which], sequences[other], sequences[which]):
        holes = np.array([masked >> i & 1 for i in range(ids.size)], bool).reshape(ids.shape)
        holes[0, 0] = True
        asked.append(TWO.masked(ids, holes))
        requested.append(np.argwhere(holes))
    keys = [f"case {which}", f"case {other}", ""]
    examples = [Example(ids, key=key) for ids, key in zip(asked, keys, strict=True)]
    records = OwnRecords(TrainingData([f"case {i}" for i in range(len(sequences))], sequences), Pairs())
    left_out = [[ids for i, ids in enumerate(sequences) if i != own] for own in (which, other, None)]
    for depth in (0, 2):
        full = ContextTables(sequences, vocabulary=TWO, depth=depth, records=records)
        for table in full.fields:
            table.__dict__["depth"] = depth
        found = full(examples, requested)
        for answer, example, cells, rest in zip(found, examples, requested, left_out, strict=True):
            without = ContextTables(rest, vocabulary=TWO, depth=depth)
            for table, fitted in zip(without.fields, full.fields, strict=True):
                table.__dict__["depth"] = depth
                for level in fitted.levels:  # strengths that are fitted on all data are not what is compared
                    table.levels[level] = replace(table._level(level), strength=fitted.levels[level].strength)
            np.testing.assert_allclose(answer, without([example], [cells])[0], atol=1e-9)

    def chains(counted: list[np.ndarray]) -> list[Markov]:
        return [Markov.count((ids[:, i] for ids in counted), n_ids=n, order=2) for i, n in enumerate(TWO.n_outputs)]

    found = MarkovPredict(chains(sequences), sequences, records)(examples, requested)
    for answer, example, cells, rest in zip(found, examples, requested, left_out, strict=True):
        np.testing.assert_allclose(answer, MarkovPredict(chains(rest))([example], [cells])[0], atol=1e-9)


@settings(max_examples=50, deadline=None)
@given(CASES, st.integers(0, 10**6), st.integers(1, 3))
def test_spans_answer_as_if_the_record_had_not_been_counted(
    sequences: list[np.ndarray], pick: int, length: int
) -> None:
    which = pick % len(sequences)
    record = sequences[which]
    first = pick % len(record)
    holes = np.zeros(record.shape, bool)
    holes[first : first + length] = True
    data = TrainingData([f"case {i}" for i in range(len(sequences))], sequences)
    full = SpanPredict(sequences, vocabulary=TWO, depth=2, records=OwnRecords(data, Pairs()))
    without = SpanPredict([ids for i, ids in enumerate(sequences) if i != which], vocabulary=TWO, depth=2)
    seen, requested = TWO.masked(record, holes), [np.argwhere(holes)]
    (answer,), support = full.answers([Example(seen, key=f"case {which}")], requested)
    same_strengths(full, without)
    (expected,), behind = without.answers([Example(seen)], requested)
    np.testing.assert_allclose(answer, expected, atol=1e-9)
    np.testing.assert_array_equal(support, behind)


def dna(seed: int, n: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(4, size=(n, 1)).astype(np.uint8)


def mirrored(ids: np.ndarray) -> np.ndarray:
    (mirror,) = DNA.symmetries()
    return mirror.ids(ids)


def every(step: int, ids: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    masked = ids.copy()
    masked[step // 2 :: step] = 4
    return masked, [np.argwhere(masked == 4)]


def copies(keys: Sequence[str], sequences: Sequence[np.ndarray], starts: Sequence[int] = ()) -> CopyPredict:
    data = TrainingData(list(keys), list(sequences), starts=list(starts))
    return CopyPredict(data.views(DNA), vocabulary=DNA.vocabulary, records=OwnRecords(data, DNA))


@pytest.mark.parametrize("start", [0, 3000])
@pytest.mark.parametrize("begin", [0, 500])
def test_no_window_is_a_copy_of_itself_nor_of_its_other_strand(start: int, begin: int) -> None:
    """`begin`: where the training sequence begins in its record."""
    genome = dna(0, 9000)
    masked, requested = every(20, genome[start : start + 400])
    (answer,), odds = copies(["g"], [genome], [begin]).answers(
        [Example(masked, key="g", start=begin + start)], requested
    )
    assert odds.max() < 0
    assert np.abs(np.exp(answer) - 0.25).max() < 0.05
    other = Example(masked, key="another", start=begin + start)  # whoever has another name is copied
    assert copies(["g"], [genome], [begin]).answers([other], requested)[1].min() > 5 if start else True


def test_repeats_elsewhere_are_copied_all_the_same() -> None:
    genome = dna(0, 12_000)
    genome[8000:8400] = genome[1000:1400]
    genome[10_000:10_400] = mirrored(genome[1000:1400])
    masked, requested = every(20, genome[1000:1400])
    (answer,), odds = copies(["g"], [genome]).answers([Example(masked, key="g", start=1000)], requested)
    assert (answer.argmax(axis=1) == genome[1000:1400][requested[0][:, 0], 0]).all()
    assert odds.min() > 5


def test_copies_answer_as_if_the_window_had_not_been_indexed() -> None:
    genome = dna(3, 9000)
    genome[7000:7300] = genome[3100:3400]
    masked, requested = every(10, genome[3000:3600])
    (answer,), _ = copies(["g"], [genome]).answers([Example(masked, key="g", start=3000)], requested)
    without = genome.copy()
    without[3000 - GUARD : 3600 + GUARD] = 4
    alone = CopyPredict([without, mirrored(without)], vocabulary=DNA.vocabulary)
    np.testing.assert_allclose(np.exp(answer), np.exp(alone([Example(masked)], requested)[0]), atol=0.02)


@pytest.mark.parametrize("turned", [False, True])
def test_copies_of_a_whole_record_are_no_copies_whatever_their_name(turned: bool) -> None:
    genome, other = dna(0, 1500), dna(1, 1500)
    twin = mirrored(genome) if turned else genome
    expert = copies(["a", "b", "c"], [genome, twin, other])
    masked, requested = every(20, genome)
    for key in ("a", "b", "somebody", ""):
        assert expert.answers([Example(masked, key=key)], requested)[1].max() < 0, key
    window, cells = every(20, genome[200:600])
    assert expert.answers([Example(window, key="a", start=200)], cells)[1].max() < 0
    near = genome.copy()
    near[700] = (near[700] + 1) % 4  # another record, however alike
    masked, requested = every(20, near)
    assert expert.answers([Example(masked, key="d")], requested)[1].min() > 5


def test_a_record_of_the_same_name_that_holds_something_else_is_not_left_out() -> None:
    genome = dna(0, 3000)
    expert = copies(["chr1"], [genome])
    elsewhere = dna(1, 3000)
    elsewhere[1000:1400] = genome[2000:2400]
    masked, requested = every(20, elsewhere[1000:1400])
    assert expert.answers([Example(masked, key="chr1", start=1000)], requested)[1].min() > 5


def test_a_filled_cell_that_differs_does_not_bring_the_record_back() -> None:
    genome = dna(0, 3000)
    masked, requested = every(20, genome[1000:1400])
    masked[5:300:4] = (masked[5:300:4] + 1) % 4
    requested = [np.argwhere(masked == 4)]
    assert copies(["g"], [genome]).answers([Example(masked, key="g", start=1000)], requested)[1].max() < 0


def test_variants_of_a_training_genome_are_judged_as_an_unseen_one_would_be() -> None:
    """Reference against alternative: the locus itself says nothing, and repeats say what they are worth."""
    genome = dna(5, 20_000)
    genome[15_000:15_300] = genome[2000:2300]
    rng = np.random.default_rng(0)
    positions = np.sort(rng.choice(np.arange(1500, 3000), 80, replace=False))
    expert = copies(["g"], [genome])
    odds = {}
    for key in ("g", "not counted"):
        found = []
        for at in positions.tolist():
            window = genome[at - 100 : at + 101].copy()
            window[100] = 4
            (answered,) = expert([Example(window, key=key, start=at - 100)], [np.array([[100, 0]])])
            alternative = (int(genome[at, 0]) + 1) % 4
            found.append(answered[0, genome[at, 0]] - answered[0, alternative])
        odds[key] = np.array(found)
    inside = (positions > 2010) & (positions < 2290)
    assert odds["not counted"].min() > 3
    assert np.abs(odds["g"][~inside & ((positions < 1950) | (positions > 2350))]).max() < 0.1
    assert odds["g"][inside].min() > 3


def test_identical_cases_keep_counting_and_an_odd_one_stays_odd() -> None:
    """The last id repeats the first, in every case but one, which was counted as well."""
    sequences = [case([(i % 3, 0), (1, 0), (i % 3, 1)]) for i in range(90)]
    sequences[40][2, 0] = (sequences[40][2, 0] + 1) % 3
    data = TrainingData([str(i) for i in range(90)], sequences)
    table = DeepTables(sequences, vocabulary=TWO, left=2, right=0, records=OwnRecords(data, Pairs()))
    cell, surprise = [np.array([[2, 0]])], []
    for i, ids in enumerate(sequences):
        seen = ids.copy()
        seen[2, 0] = 3
        (answer,), support = table.answers([Example(seen, key=str(i))], cell)
        surprise.append(-answer[0, ids[2, 0]])
        assert support.tolist() == [29]  # those that begin alike, less itself
    assert np.argmax(surprise) == 40
    assert surprise[40] > 3 > 0.3 > np.median(surprise)


@settings(max_examples=60, deadline=None)
@given(CASES, CASES, st.integers(0, 10**6), st.integers(0, 2**16 - 1))
def test_the_known_cells_of_other_records_of_a_file_count(
    train: list[np.ndarray], file: list[np.ndarray], pick: int, masked: int
) -> None:
    """As if they had been training data with unknown cells; what is hidden has no influence at all."""
    which = pick % len(file)
    holes = [np.array([masked >> (i + j) & 1 for i in range(ids.size)], bool) for j, ids in enumerate(file)]
    seen = [TWO.masked(ids, hole.reshape(ids.shape)) for ids, hole in zip(file, holes, strict=True)]
    seen[which][0, 0] = 3
    data = TrainingData([f"case {i}" for i in range(len(train))], train)
    joined = with_file(data, [Example(ids, key=f"new {i}") for i, ids in enumerate(seen)], Pairs())
    full = DeepTables(joined.sequences, vocabulary=TWO, left=2, right=2, records=OwnRecords(joined, Pairs()))
    others = [*train, *(ids for i, ids in enumerate(seen) if i != which)]
    expected = DeepTables(others, vocabulary=TWO, left=2, right=2)
    requested = [np.argwhere(seen[which] == np.array(TWO.mask_ids))]
    answer, support = full.answers([Example(seen[which], key=f"new {which}")], requested)
    same_strengths(full, expected)
    wanted, behind = expected.answers([Example(seen[which])], requested)
    np.testing.assert_allclose(answer[0], wanted[0], atol=1e-9)
    np.testing.assert_array_equal(support, behind)


def test_a_training_record_in_the_file_counts_once() -> None:
    train = [case([(0, 0), (1, 1), (2, 0)]), case([(1, 0), (1, 1)])]
    data = TrainingData(["a", "b"], train)
    masked = train[0].copy()
    masked[1, 0] = 3
    longer = np.concatenate([train[1], case([(2, 1)])])  # the case went on
    joined = with_file(data, [Example(masked, key="a"), Example(longer, key="b"), Example(longer)], Pairs())
    assert list(joined.keys) == ["a", "b", "b"]
    assert joined.sequences[2].tolist() == [[3, 2], [3, 2], [2, 1]]
    (own,) = (OwnRecords(joined, Pairs()).of(Example(longer, key="b")),)
    assert {each.view for each in own} == {1, 2}


def test_windows_of_a_file_keep_their_places_and_numbers() -> None:
    data = TrainingData(["a"], [case([(0, 0)])], [np.zeros((1, 2))])
    window = Example(case([(1, 0), (2, 1)]), numbers=np.ones((2, 2)), key="n", start=7)
    joined = with_file(data, [window, Example(case([(1, 1)]), key="m")], Pairs())
    assert list(joined.starts) == [0, 7, 0]
    assert joined.numbers is not None
    assert [each.tolist() for each in joined.numbers[:2]] == [[[0, 0]], [[1, 1], [1, 1]]]
    assert np.isnan(joined.numbers[2]).all()


def test_evidence_is_a_class_of_each_cell() -> None:
    genome = dna(0, 5000)
    genome[3000:3200] = genome[1000:1200]
    expert = copies(["g"], [genome])
    masked, requested = every(40, genome[900:1300])
    masked[101] = 4  # beside a cell at 100
    examples = [Example(masked, key="g", start=900)]
    classes = expert.support(examples, requested)
    assert classes.min() >= 0
    assert classes.max() < expert.n_supports
    copied, near = np.divmod(classes, 4)
    inside = (requested[0][:, 0] > 110) & (requested[0][:, 0] < 290)
    assert copied[inside].min() > copied[requested[0][:, 0] > 340].max()
    assert near[requested[0][:, 0] == 100].tolist() == [0]
    assert near[requested[0][:, 0] == 180].tolist() == [3]
    one = Vocabulary.of([Field(name="x", tokens=tuple("abc"))])
    table = DeepTables([np.array([[0], [1], [2]] * 30 + [[0], [0], [0]])], vocabulary=one, left=1, right=1)
    usual, odd = (Example(np.array(ids)[:, None]) for ids in ([0, 3, 2], [0, 3, 0]))
    assert table.support([usual, odd], [np.array([[1, 0]])] * 2).tolist() == [1, 0]


@pytest.mark.parametrize("change", [None, "a base", "a stretch masked", "another beginning"])
def test_a_training_genome_under_another_name_is_left_out(change: str | None) -> None:
    """A window of it is answered as before the record was counted; a genome that differs is another one."""
    genome, other = dna(0, 6000), dna(1, 3000)
    data = TrainingData(["genome", "other"], [genome[1000:5000], other], starts=[1000, 0])
    file = genome.copy()
    if change == "a base":
        file[2500] = (file[2500] + 1) % 4
    if change == "a stretch masked":
        file[2500:2600] = 4
    if change == "another beginning":
        file = file[700:]
    seen = with_file(data, [Example(file, key="renamed")], DNA)
    window = file[1500:2000].copy()
    masked, cells = every(40, window)
    example = Example(masked, key="renamed", start=1500)
    full = CopyPredict(seen.views(DNA), vocabulary=DNA.vocabulary, records=OwnRecords(seen, DNA))
    (answer,) = full([example], cells)
    truth = window[tuple(cells[0].T)]
    right = np.exp(answer[np.arange(len(truth)), truth]).mean()
    assert right > 0.8 if change == "a base" else right < 0.4
    if change != "a base":
        assert OwnRecords(seen, DNA).of(example)
        counted = sum(np.count_nonzero(ids < 4) for ids in seen.sequences)
        assert counted == len(other) + np.count_nonzero(genome < 4) - 700 * (change == "another beginning")  # once


def test_short_cases_that_are_alike_are_no_record_under_another_name() -> None:
    cases = [np.zeros((500, 1), np.uint8), np.ones((500, 1), np.uint8)]
    data = TrainingData(["a", "b"], cases)
    assert not with_file(data, [Example(cases[0], key="c")], DNA).again
