"""Figures of an evaluation against scikit-learn, formulas written out, and worlds whose truth is known."""

from collections import Counter
from dataclasses import replace
from functools import lru_cache
from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from maskseq.baselines.span_table import SpanTable
from maskseq.errors import UsageError
from maskseq.evaluation import figures as evaluate
from maskseq.evaluation import numbers as evaluate_numbers
from maskseq.evaluation.figures import ScoredCells, ask, bootstrap, compare, interval
from maskseq.evaluation.gaps import compare_gaps, edit_distance, exactly_right, joint_figures
from maskseq.evaluation.protocols import MaskedExample, Protocol
from maskseq.infill.sampler import InfillConfig
from maskseq.masking.config import MaskingConfig
from maskseq.predict.experts import imputers
from maskseq.predict.experts.tables import ContextTables
from maskseq.predict.protocol import of_ids
from maskseq.types import Encoded, Field, LegalCells, Vocabulary
from maskseq_events.case import Case
from maskseq_events.tokenizer import EventTokenizer
from maskseq_genomics.kmer import KmerTokenizer
from maskseq_genomics.nucleotide import NucleotideTokenizer
from maskseq_signals.recording import Recording
from maskseq_signals.tokenizer import QuantizeTokenizer

ABC = Vocabulary.of([Field(name="x", tokens=tuple("abc"))])
LEVELS = Vocabulary.of([Field(name="x", tokens=tuple("abcd"), centres=(0.0, 1.0, 2.0, 5.0), unit="V")])


def masked_example(
    ids: list[int], masked: list[int], *, region: str = "r", span: int = 1, objective: str = "p"
) -> MaskedExample:
    truth = np.array(ids)[:, None]
    mask = np.zeros(truth.shape, bool)
    mask[masked] = True
    return MaskedExample(region, truth, mask, np.argwhere(mask), span, objective, len(masked) / len(ids))


def fixed(distribution: list[float]):
    """A `Predict` that says the same of every cell."""

    @of_ids
    def predict(sequences, cells):
        with np.errstate(divide="ignore"):
            return [np.tile(np.log(distribution), (len(requested), 1)) for requested in cells]

    return predict


def test_bits_accuracy_and_confidence_of_a_known_distribution() -> None:
    examples = [masked_example([0, 1, 2, 0], [0, 1]), masked_example([0, 0, 1], [2])]
    answers = ask(fixed([0.5, 0.25, 0.25]), examples, ABC)
    np.testing.assert_allclose(answers.bits, [1, 2, 2])
    np.testing.assert_array_equal(answers.value, [0, 0, 0])
    np.testing.assert_allclose(answers.confidence, 0.5)


def test_nothing_is_saved_on_nothing() -> None:
    found = evaluate.saved(np.array([1.0, 0.0, 3.0]), np.array([2.0, 0.0, 0.0]))
    np.testing.assert_array_equal(found, [0.5, np.nan, np.nan])


def test_nobody_sees_what_is_hidden() -> None:
    seen = []

    @of_ids
    def predict(sequences, cells):
        seen.extend(s.copy() for s in sequences)
        return [np.log(np.full((len(requested), 3), 1 / 3)) for requested in cells]

    ask(predict, [masked_example([0, 1, 2], [1])], ABC)
    assert seen[0][:, 0].tolist() == [0, 3, 2]


def test_batches_do_not_change_answers() -> None:
    rng = np.random.default_rng(0)
    examples = [
        masked_example(rng.integers(3, size=n).tolist(), [n // 2]) for n in rng.integers(3, 30, size=40).tolist()
    ]
    tables = ContextTables([p.truth for p in examples], vocabulary=ABC, depth=2)
    np.testing.assert_array_equal(
        ask(tables, examples, ABC, positions=10).bits, ask(tables, examples, ABC, positions=10**6).bits
    )


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=60))
def test_macro_f1_is_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    truth, answered = (np.array(column) for column in zip(*pairs, strict=True))
    cells = ScoredCells.of([masked_example(truth.tolist(), list(range(len(truth))))])
    expected = f1_score(truth, answered, labels=np.unique(truth), average="macro", zero_division=0)
    assert evaluate.macro_f1(cells, answered) == pytest.approx(expected)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 3), max_size=7), st.lists(st.integers(0, 3), max_size=7))
def test_edit_distance_follows_its_recursion(a: list[int], b: list[int]) -> None:
    @lru_cache
    def distance(i: int, j: int) -> int:
        if not i or not j:
            return i + j
        replaced = distance(i - 1, j - 1) + (a[i - 1] != b[j - 1])
        return min(distance(i - 1, j) + 1, distance(i, j - 1) + 1, replaced)

    assert edit_distance(a, b) == distance(len(a), len(b))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0.01, 1), min_size=4, max_size=4), st.integers(0, 3))
def test_ranked_score_is_the_energy_form(weights: list[float], truth: int) -> None:
    """CRPS = E|X − y| − ½ E|X − X'| (Gneiting & Raftery 2007, eq. 21)."""
    centres = LEVELS.centres[0]
    assert centres is not None
    p, x = np.array(weights) / sum(weights), np.array(centres)
    energy = p @ np.abs(x - x[truth]) - 0.5 * p @ np.abs(x[:, None] - x) @ p
    found = evaluate.ranked_score(np.array([weights]), centres, np.array([truth]))
    assert found[0] == pytest.approx(energy)


def test_errors_in_physical_and_z_scored_units() -> None:
    examples = [masked_example([0, 3, 1], [0, 1])]
    means = {"m": ask(fixed([0.5, 0.5, 0, 0]), examples, LEVELS).mean}
    truth = evaluate_numbers.true_numbers(examples, LEVELS)
    reported = evaluate_numbers.ordinal_errors(ScoredCells.of(examples), truth, means, LEVELS, {0: 2.0})["x"]["by"]["m"]
    assert reported["MAE"] == pytest.approx((0.5 + 4.5) / 2)
    assert reported["MSE"] == pytest.approx((0.25 + 20.25) / 2)
    assert reported["MSE, z-scored"] == pytest.approx((0.25 + 20.25) / 2 / 4)
    assert reported["MAE, z-scored"] == pytest.approx(1.25)


def test_bootstrap_intervals_cover_the_mean() -> None:
    """Regions of correlated cells: 95 % intervals hold the true mean in about 95 % of the worlds."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(200):
        centre = rng.normal(size=40)
        region = np.repeat(np.arange(40), 5)
        values = centre[region] + 0.1 * rng.normal(size=200)
        low, high = interval(bootstrap(region, 40, values)[0])
        held += low < 0 < high
    assert 175 <= held <= 199


def test_a_win_is_paired() -> None:
    """Two models that differ by little on cells that differ by much: paired, the little is certain."""
    rng = np.random.default_rng(0)
    examples = [masked_example([0, 1, 2], [1], region=str(i)) for i in range(100)]
    cells = ScoredCells.of(examples)
    base = ask(fixed([0.3, 0.4, 0.3]), examples, ABC)
    hard = rng.exponential(5, size=100)
    reported = compare(
        cells, {"m": replace(base, bits=hard), "b": replace(base, bits=hard + 0.05 * rng.random(100))}, product="m"
    ).to_json()
    assert reported["wins in bits"] is True
    assert reported["wins in accuracy"] is False
    assert reported["best baseline"] == "b"
    assert reported["by"]["m"]["bits, 95 %"][1] > reported["by"]["b"]["bits"] > reported["by"]["m"]["bits, 95 %"][0]
    assert reported["skill"] == pytest.approx(1 - reported["by"]["m"]["bits"] / reported["by"]["b"]["bits"])


def test_breakdown_adds_up() -> None:
    examples = [
        masked_example([0, 1, 2, 0, 1], [1, 2], span=2, objective="a"),
        masked_example([0, 0, 0], [0], objective="b"),
    ]
    cells = ScoredCells.of(examples)
    reported = evaluate.breakdown(cells, {"m": ask(fixed([0.5, 0.25, 0.25]), examples, ABC)}, ["x"])
    for groups in reported.values():
        assert sum(group.cells for group in groups.values()) == 3
    assert reported["objective"]["a"].by["m"].bits == pytest.approx(2)
    assert reported["span"]["2"].cells == 2


# ---- joint fills --------------------------------------------------------------------------------------------------


def test_joint_figures_by_hand() -> None:
    examples = [masked_example([0, 1, 2, 0], [1, 2], span=2), masked_example([2, 2, 2, 0], [1, 2], span=2)]
    reported = joint_figures(examples, [np.array([1, 2]), np.array([2, 0])], 0)
    assert reported.to_json() == {"gaps": 2, "exact": 0.5, "accuracy": 0.75, "edits a cell": 0.25}


def test_fill_is_joint() -> None:
    """X y are equal; each alone is a coin: cells filled one after the other agree always."""

    @of_ids
    def predict(sequences, cells):
        answers = []
        for ids, requested in zip(sequences, cells, strict=True):
            rows = []
            for position, _ in requested.tolist():
                other = int(ids[1 - position, 0])
                rows.append(np.eye(3)[other] if other < 3 else np.array([0.5, 0.5, 0]))
            with np.errstate(divide="ignore"):
                answers.append(np.log(np.array(rows).reshape(-1, 3)))
        return answers

    examples = [masked_example([0, 0], [0, 1], span=2) for _ in range(8)]
    values = evaluate.fill(predict, examples, ABC, InfillConfig(temperature=1.0, seed=3))
    assert all(a == b for a, b in values)
    assert {int(a) for a, _ in values} == {0, 1}


def test_fill_asks_what_is_allowed_again_after_each_value() -> None:
    """Neighbours that may not be equal, which only the first of them to be filled tells."""

    @of_ids
    def predict(sequences, cells):
        return [np.log(np.tile([0.2, 0.7, 0.1], (len(requested), 1))) for requested in cells]

    def allowed(ids):
        cells = np.argwhere(ids == ABC.mask_ids[0])
        beside = [{int(ids[i, 0]) for i in (at - 1, at + 1) if 0 <= i < len(ids)} for at, _ in cells]
        return LegalCells(cells, np.array([[i not in taken for i in range(3)] for taken in beside])) if beside else None

    examples = [masked_example([2, 0, 1, 2], [1, 2], span=2)]
    (values,) = evaluate.fill(predict, examples, ABC, InfillConfig(), allowed=allowed)
    assert sorted(values.tolist()) == [0, 1]


def test_fill_leaves_other_hidden_cells_hidden() -> None:
    """What stands in cells that are not asked for is never made up, so values are the most probable on the whole."""
    seen = []

    @of_ids
    def predict(sequences, cells):
        seen.extend(ids.tolist() for ids in sequences)
        return [np.log(np.tile([0.2, 0.7, 0.1], (len(requested), 1))) for requested in cells]

    whole = masked_example([0, 1, 2, 0], [1, 2])
    (values,) = evaluate.fill(predict, [replace(whole, cells=whole.cells[:1])], ABC, InfillConfig())
    assert values.tolist() == [1]
    assert all(ids[2] == [ABC.mask_ids[0]] for ids in seen)


def test_whole_gaps_are_compared_in_pairs() -> None:
    """Who is right wherever the other is, and once more in each of many records, wins."""
    examples = [replace(masked_example([0, 1, 2, 0], [1, 2], span=2), region=str(i // 2)) for i in range(80)]
    right, wrong = np.array([1, 2]), np.array([1, 1])
    values = {
        "model": [right] * 80,
        "worse": [wrong] * 80,
        "good": [right if i % 2 else wrong for i in range(80)],
    }
    reported = {name: each.to_json() for name, each in compare_gaps(examples, values, 0, product="model").items()}
    assert reported["model"]["best baseline"] == "good"
    assert reported["model"]["exact gained, 95 %"] == [0.5, 0.5]
    assert reported["model"]["wins"]
    assert reported["good"]["exact, 95 %"] == [0.5, 0.5]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 2), min_size=2, max_size=6), st.integers(0, 10**6))
def test_the_order_of_what_has_one_time_does_not_count(truth: list[int], seed: int) -> None:
    """By brute force: right is every fill that permutes the truth among cells of one moment inside the gap."""
    rng = np.random.default_rng(seed)
    n = len(truth)
    tied = rng.random(n) < 0.5
    cells = np.flatnonzero(rng.random(n) < 0.8).tolist() or [0]
    whole = replace(masked_example(truth, cells, span=len(cells)), tied=tied[:, None])
    right = set()
    for order in permutations(range(len(cells))):
        ways = [sorted((cells[i], cells[j])) for i, j in enumerate(order)]
        if all(set(range(low, high + 1)) <= set(cells) and tied[low + 1 : high + 1].all() for low, high in ways):
            right.add(tuple(truth[cells[j]] for j in order))
    for filled in product(range(3), repeat=len(cells)):
        assert exactly_right([whole], [np.array(filled)], 0)[0] == (filled in right)


def test_span_tables_never_fill_in_the_mark_of_the_end() -> None:
    """After `a` mostly comes the end; but a hole is not the end, and from an unknown place the left neighbour tells."""
    end = 9
    sequences = [np.array([0, end])] * 5 + [np.array([0, 1, 2, end])] * 3 + [np.array([3, 3, 3, end])]
    table = SpanTable(sequences, 1, depth=2, end=end)
    masked = np.array([False, True, False, False])
    assert table.fill(np.array([0, 1, 2, end]), masked) == (1,)
    assert table.fill(np.array([0, 7, 3, end]), masked) == (1,)  # 0 ? 3 was never seen; 0 ? was
    assert table.fill(np.array([8, 7, 8, end]), masked) == (0,)  # nothing was: the most frequent of all


def test_span_tables_fill_in_only_what_a_fill_may_have() -> None:
    """`[OTHER]` is what no fill can write: most often it stood after `a`, and the next most frequent one is taken."""
    other = 2
    sequences = [np.array([0, other, 1])] * 5 + [np.array([0, 3, 1])] * 3 + [np.array([other, 4, other])] * 2
    table = SpanTable(sequences, 1, depth=2, fillable=np.array([True, True, False, True, True]))
    masked = np.array([False, True, False])
    assert table.fill(np.array([0, 9, 1]), masked) == (3,)
    assert table.fill(np.array([other, 9, other]), masked) == (4,)  # it is a neighbour like any other


def counted_span(
    sequences: list[list[int]], ids: list[int], first: int, length: int, *, depth: int, end: int | None
) -> tuple[int, ...]:
    """By counting all spans in the widest context that was seen; a `Counter` remembers which of them came first."""

    def marked(s: list[int]) -> list[int]:
        return [-1] * depth + [-2 if x == end else x for x in s] + [-2] * depth

    def context(whole: list[int], at: int, left: int, right: int) -> tuple[list[int], list[int]]:
        return whole[at - left : at], whole[at + length : at + length + right]

    for level in (*((each, each) for each in range(depth, 0, -1)), (1, 0), (0, 0)):
        requested = context(marked(ids), first + depth, *level)
        found: Counter[tuple[int, ...]] = Counter()
        for whole in map(marked, sequences):
            for at in range(depth, len(whole) - depth - length + 1):
                span = tuple(whole[at : at + length])
                if -2 not in span and context(whole, at, *level) == requested:
                    found[span] += 1
        if found:
            return found.most_common(1)[0][0]
    return (0,) * length


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from([0, 1, 2, 40_000]), min_size=1, max_size=12), min_size=1, max_size=6),
    st.integers(1, 6),
    st.integers(1, 4),
    st.sampled_from([None, 2]),
    st.integers(0, 10**6),
)
def test_span_tables_are_as_counted(
    sequences: list[list[int]], length: int, depth: int, end: int | None, pick: int
) -> None:
    """Ties included. Ids of 40,000 need several words for a context."""
    table = SpanTable([np.array(s) for s in sequences], length, depth=depth, end=end)
    ids = [*sequences[pick % len(sequences)], *[pick % 3] * length]
    first = pick % (len(ids) - length + 1)
    masked = np.zeros(len(ids), bool)
    masked[first : first + length] = True
    expected = counted_span(sequences, ids, first, length, depth=depth, end=end)
    assert table.fill(np.array(ids), masked) == expected
    assert table.fill(np.array(ids), masked) == expected  # from what it remembers


# ---- protocols ----------------------------------------------------------------------------------------------------


def encoded(length: int, seed: int = 0) -> Encoded:
    return Encoded(np.random.default_rng(seed).integers(4, size=(length, 1)).astype(np.uint8))


def test_isolated_hides_one_base_in_64() -> None:
    examples = list(
        Protocol.parse("isolated", MaskingConfig()).examples(
            [("k", encoded(5000))], NucleotideTokenizer(), context=1024
        )
    )
    assert [len(p.truth) for p in examples] == [1024] * 4 + [904]
    for p in examples:
        gaps = np.diff(np.flatnonzero(p.masked[:, 0]))
        assert (gaps == 64).all()
        assert len(p.cells) in (len(p.truth) // 64, len(p.truth) // 64 + 1)


def test_isolated_hides_every_word_over_the_base() -> None:
    """Overlapping 3-mers: what covers a hidden base is hidden: 3 words."""
    tokenizer = KmerTokenizer(k=3, overlapping=True)
    ids = np.random.default_rng(0).integers(64, size=(300, 1))
    (only,) = Protocol.parse("isolated", MaskingConfig()).examples([("k", Encoded(ids))], tokenizer, context=512)
    units = tokenizer.units(ids)[:, 0]
    for position in np.flatnonzero(only.masked[:, 0]).tolist():
        group = np.flatnonzero(only.masked[:, 0])
        overlap = [p for p in group.tolist() if units[p, 0] < units[position, 1] and units[position, 0] < units[p, 1]]
        assert len(overlap) >= 3 or position < 3 or position > 296


@pytest.mark.parametrize("text", ["gap-5", "block-5", "field-5", "point-20", "masked", "event", "isolated"])
def test_protocols_depend_on_key_and_seed_alone(text: str) -> None:
    protocol, tokenizer = Protocol.parse(text, MaskingConfig()), NucleotideTokenizer()
    records = [("a", encoded(300, 1)), ("b", encoded(200, 2))]

    def masked(records, seed=0):
        found = protocol.examples(records, tokenizer, context=128, seed=seed)
        return {(p.truth.tobytes(), p.masked.tobytes()) for p in found}

    assert masked(records) == masked(records[::-1]) == masked(records[:1]) | masked(records[1:])
    if text != "event":
        assert masked(records) != masked(records, seed=1)


def test_gaps_have_known_neighbours() -> None:
    protocol = Protocol.parse("gap-5", MaskingConfig())
    for p in protocol.examples([("k", encoded(900))], NucleotideTokenizer(), context=64):
        positions = np.flatnonzero(p.masked[:, 0])
        assert len(positions) == p.span == 5
        assert (np.diff(positions) == 1).all()
        assert positions[0] > 0
        assert positions[-1] < len(p.truth) - 1


def test_points_hide_their_share() -> None:
    (p,) = Protocol.parse("point-50", MaskingConfig()).examples(
        [("k", encoded(4000))], NucleotideTokenizer(), context=4000
    )
    assert p.ratio == pytest.approx(0.5, abs=0.04)


def test_an_event_takes_all_its_fields_and_the_next_gap() -> None:
    rng = np.random.default_rng(0)
    logs = [
        Case(
            key=str(i),
            activity=tuple(rng.choice(list("ABC"), size=6).tolist()),
            time=np.cumsum(rng.integers(1, 10**11, size=6)),
            offset=np.zeros(6, np.int32),
            attributes={"room": tuple(rng.choice(list("xy"), size=6).tolist())},
            case_attributes={},
        )
        for i in range(50)
    ]
    tokenizer = EventTokenizer.fit(logs, attributes=["room"], gap_bins=8)
    case = tokenizer.encode(logs[0])
    examples = list(Protocol.parse("event", MaskingConfig()).examples([("c", case)], tokenizer, context=64))
    assert len(examples) == len(logs[0])  # the mark of the end is no event
    gap = tokenizer.vocabulary.names.index("gap")
    for position, p in enumerate(examples):
        assert p.masked[position].all()
        others = p.masked.copy()
        others[position] = False
        if position + 1 < len(case):
            assert others[position + 1, gap]
            others[position + 1, gap] = False
        assert not others.any()


def test_gaps_are_asked_at_every_place_and_their_other_fields_stay_hidden() -> None:
    cases = [Case(key="c", activity=tuple("ABCABBC"), time=np.arange(7) * 10**9, offset=np.zeros(7, np.int32))]
    tokenizer = EventTokenizer.fit(cases, min_count=1)
    case = tokenizer.encode(cases[0])
    protocol = Protocol.parse("gaps-5", MaskingConfig())
    examples = list(protocol.examples([("c", case)], tokenizer, context=64, fields=("activity",)))
    assert [p.cells.tolist() for p in examples] == [[[i + j, 0] for j in range(5)] for i in range(3)]
    for first, p in enumerate(examples):
        assert p.masked[first : first + 5].all()


def test_fields_are_asked_one_at_a_time() -> None:
    leads = Recording(key="r", channels=np.random.default_rng(0).normal(size=(200, 2)), names=("I", "II"))
    tokenizer = QuantizeTokenizer.fit([leads], bins=8)
    protocol = Protocol.parse("field-30", MaskingConfig())
    examples = list(protocol.examples([("r", tokenizer.encode(leads))], tokenizer, context=100))
    assert [np.unique(p.cells[:, 1]).tolist() for p in examples] == [[0], [1], [0], [1]]
    for p in examples:
        assert np.count_nonzero(p.masked) == p.span == 30 == np.ptp(p.cells[:, 0]) + 1
        assert p.masked[tuple(p.cells.T)].all()


@pytest.mark.parametrize("text", ["gap", "gap-0", "gap-x", "everything", "point-1.5", "isolated-3"])
def test_unknown_protocols_are_named(text: str) -> None:
    with pytest.raises(UsageError, match=f"unknown protocol '{text}'"):
        Protocol.parse(text, MaskingConfig())


def test_long_records_are_drawn_in_stretches() -> None:
    examples = list(
        Protocol.parse("isolated", MaskingConfig()).examples(
            [("long", encoded(25_000)), ("short", encoded(500))], NucleotideTokenizer(), context=1000
        )
    )
    assert {p.region for p in examples} == {"short", *(f"long:{i}" for i in range(19))}  # 25,500 / 20 positions each
    many = [("long", encoded(25_000)), *((str(i), encoded(500)) for i in range(20))]
    examples = list(Protocol.parse("isolated", MaskingConfig()).examples(many, NucleotideTokenizer(), context=1000))
    assert {p.region for p in examples} == {"long:0", "long:1", "long:2", *map(str, range(20))}


def test_windows_of_one_length_may_overlap() -> None:
    """Every window is whole, and one begins every `stride` positions."""
    protocol = Protocol.parse("point-50", MaskingConfig())
    examples = protocol.examples([("a", encoded(250))], NucleotideTokenizer(), context=96, stride=12)
    whole = encoded(250).ids
    assert [p.truth.tolist() for p in examples] == [whole[i : i + 96].tolist() for i in range(0, 155, 12)]


# ---- imputers -----------------------------------------------------------------------------------------------------


def test_imputers_by_hand() -> None:
    nan = np.nan
    values = np.array([[nan, 1, nan, nan, 4, nan]]).T
    np.testing.assert_allclose(imputers.linear(values)[:, 0], [1, 1, 2, 3, 4, 4])
    np.testing.assert_allclose(imputers.last(values)[:, 0], [1, 1, 1, 1, 4, 4])
    np.testing.assert_allclose(imputers.mean(values)[:, 0], [2.5, 1, 2.5, 2.5, 4, 2.5])
    periodic = np.array([[1, 2, 3, 1, nan, 3, 1, 4, 3]]).T
    assert imputers.imputer("seasonal-3")(periodic)[4, 0] == pytest.approx(3)


@pytest.mark.parametrize("name", [*imputers.IMPUTERS, "seasonal-4"])
def test_imputers_keep_what_is_known(name: str) -> None:
    rng = np.random.default_rng(0)
    values = np.cumsum(rng.normal(size=(60, 3)), axis=0)
    values[rng.random(values.shape) < 0.3] = np.nan
    known = ~np.isnan(values)
    filled = imputers.imputer(name)(values)
    np.testing.assert_array_equal(filled[known], values[known])
    assert not np.isnan(filled).any()


def test_spline_is_exact_on_cubics() -> None:
    x = np.arange(12.0)
    values = (x**3 - 4 * x)[:, None]
    masked = values.copy()
    masked[[3, 6, 7], 0] = np.nan
    np.testing.assert_allclose(imputers.spline(masked), values, atol=1e-9)


def test_columns_that_depend_on_each_other() -> None:
    """Y = 2x: regression finds the hidden y exactly, a straight line in time does not."""
    x = np.random.default_rng(0).normal(size=(80, 1))
    values = np.hstack([x, 2 * x])
    masked = values.copy()
    masked[::7, 1] = np.nan
    assert np.abs(imputers.iterative(masked) - values).max() < 0.05
    assert np.abs(imputers.linear(masked) - values).max() > 0.5


def test_unknown_imputers_are_named() -> None:
    with pytest.raises(UsageError, match="seasonal-N"):
        imputers.imputer("magic")
