"""Variants are scored as the law that wrote the sequence would, and surprises are found where they are."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from untrained import untrained

from maskseq.predict.protocol import Predict, of_ids
from maskseq.scoring.score import Score
from maskseq.scoring.surprise import position_rows, record_row
from maskseq.scoring.variants import FLANK, VariantScore, score_variants
from maskseq.trained import TrainedModel
from maskseq.variants import Records, stretches
from maskseq_genomics import sequence
from maskseq_genomics.bpe import BpeTokenizer
from maskseq_genomics.kmer import KmerTokenizer
from maskseq_genomics.nucleotide import NucleotideTokenizer
from maskseq_genomics.vcf import SmallVariant

STEP = np.random.default_rng(0).dirichlet(np.full(4, 0.7), 4)
START = np.array([0.4, 0.3, 0.2, 0.1])


def exact(
    sequences: Sequence[np.ndarray], cells: Sequence[np.ndarray], step: np.ndarray = STEP, start: np.ndarray = START
) -> list[np.ndarray]:
    """The conditionals of a Markov chain of bases: forward and backward messages."""
    answers: list[np.ndarray] = [np.empty(0)] * len(sequences)
    for length in {len(ids) for ids in sequences}:
        these = [i for i, ids in enumerate(sequences) if len(ids) == length]
        ids = np.stack([sequences[i][:, 0] for i in these])
        seen = np.where(ids[..., None] == 4, 1.0, np.eye(5)[ids][..., :4])
        forward, backward = [np.tile(start, (len(these), 1))], [np.ones((len(these), 4))]
        for at in range(length - 1):
            forward.append((forward[-1] * seen[:, at]) @ step)
            backward.append((backward[-1] * seen[:, length - 1 - at]) @ step.T)
            for message in (forward, backward):
                message[-1] /= message[-1].sum(axis=1, keepdims=True)
        weight = np.stack(forward, axis=1) * np.stack(backward[::-1], axis=1)
        with np.errstate(divide="ignore"):
            found = np.log(weight / weight.sum(axis=-1, keepdims=True))
        for row, i in enumerate(these):
            answers[i] = found[row, cells[i][:, 0]]
    return answers


def log_probability(letters: str) -> float:
    ids = ["ACGT".index(letter) for letter in letters]
    return math.log(START[ids[0]]) + sum(math.log(STEP[a, b]) for a, b in pairwise(ids))


def variant(letters: str, start: int, was: int, becomes: str) -> SmallVariant:
    there = letters[start : start + was]
    return SmallVariant(
        key="g",
        start=start,
        stop=start + was,
        length=len(becomes),
        columns=("g", str(start + 1), ".", there, becomes),
        path="v.vcf",
        place="line 1",
        was=there.encode(),
        becomes=becomes.encode(),
    )


EXACT = of_ids(exact)


def scores(letters: str, *variants: SmallVariant, context: int = 64, predict: Predict = EXACT) -> list[VariantScore]:
    record = sequence.Sequence(key="g", residues=letters.encode())
    listed = stretches(variants, Records(lambda: [record]), context)
    return list(score_variants(predict, listed, tokenizer=NucleotideTokenizer()))


def scored(letters: str, *variants: SmallVariant) -> list[float]:
    return [each.log_ratio for each in scores(letters, *variants)]


BASES = st.text("ACGT", min_size=1, max_size=4)


@settings(max_examples=60)
@given(before=st.text("ACGT", max_size=12), was=BASES, after=st.text("ACGT", max_size=12), data=st.data())
def test_substitutions_are_scored_as_whole_sequences_are(before: str, was: str, after: str, data: Any) -> None:
    becomes = data.draw(st.text("ACGT", min_size=len(was), max_size=len(was)))
    letters = before + was + after
    (found,) = scored(letters, variant(letters, len(before), len(was), becomes))
    assert found == pytest.approx(log_probability(before + becomes + after) - log_probability(letters), abs=1e-9)


def beginnings(letters: str, changed: str) -> int:
    """How many letters two texts begin with alike."""
    return next((i for i, (a, b) in enumerate(zip(letters, changed, strict=False)) if a != b), 10**6)


def given_the_rest(letters: str, start: int, stop: int) -> float:
    """By the formula of chains: of a stretch, which ends nowhere near the ends of the text or at them."""
    ids = ["ACGT".index(letter) for letter in letters]
    if start == stop:
        return 0.0
    steps = [math.log(STEP[a, b]) for a, b in pairwise(ids[max(start - 1, 0) : stop + 1])]
    across = np.linalg.matrix_power(STEP, stop - start + (start > 0))
    into = across[ids[start - 1]] if start else START @ np.linalg.matrix_power(STEP, stop)
    return (
        sum(steps) + (0.0 if start else math.log(START[ids[0]])) - (math.log(into[ids[stop]]) if stop < len(ids) else 0)
    )


def by_flanks(letters: str, changed: str) -> float:
    """By the formula, of what both begin and end with, but not of what could belong to either."""
    shorter = min(len(letters), len(changed))
    start = min(beginnings(letters, changed), shorter)
    end = min(beginnings(letters[::-1], changed[::-1]), shorter)
    left, right = min(start, shorter - end), min(end, shorter - start)
    ratio = 0.0
    for text, sign in ((changed, 1), (letters, -1)):
        behind = len(text) - right
        if left < behind:
            ratio += sign * given_the_rest(text, max(left - FLANK, 0), left)
            ratio += sign * given_the_rest(text, behind, min(behind + FLANK, len(text)))
        else:
            ratio += sign * given_the_rest(text, max(left - FLANK, 0), min(behind + FLANK, len(text)))
    return ratio


@pytest.mark.parametrize("at", [0, 3, 30, 55])
@pytest.mark.parametrize(("was", "becomes"), [(1, "CTT"), (4, "A"), (1, "TGCATG"), (2, "GCA"), (1, "AAAAAAAAAAA")])
def test_indels_are_scored_by_their_flanks_alone(at: int, was: int, becomes: str) -> None:
    letters = "".join(np.random.default_rng(1).choice(list("ACGT"), 60))
    (found,) = scores(letters, variant(letters, at, was, becomes), context=100)
    assert math.isnan(found.log_ratio)
    assert found.flank_log_ratio == pytest.approx(by_flanks(letters, letters[:at] + becomes + letters[at + was :]))


@pytest.mark.parametrize("kind", ["insertions", "deletions"])
def test_scores_of_random_indels_do_not_measure_their_length(kind: str) -> None:
    """Only the places where an indel touches its flanks count: means are near 0, and agree within three errors."""
    rng = np.random.default_rng(7)
    step = rng.dirichlet(np.full(4, 4.0), 4)

    @of_ids
    def predict(sequences: Sequence[np.ndarray], cells: Sequence[np.ndarray]) -> list[np.ndarray]:
        return exact(sequences, cells, step)

    found: dict[int, list[float]] = {1: [], 3: [], 10: []}
    for length, ratios in found.items():
        for _ in range(25):
            ids = [int(rng.choice(4, p=START))]
            while len(ids) < 120:
                ids.append(int(rng.choice(4, p=step[ids[-1]])))
            letters = "".join("ACGT"[i] for i in ids)
            places = rng.integers(20, 90, size=10).tolist()
            indels = [
                variant(letters, at, 1, letters[at] + "".join(rng.choice(list("ACGT"), length)))
                if kind == "insertions"
                else variant(letters, at, 1 + length, letters[at])
                for at in places
            ]
            ratios += [each.flank_log_ratio for each in scores(letters, *indels, context=100, predict=predict)]
    means = {length: float(np.mean(ratios)) for length, ratios in found.items()}
    errors = {length: float(np.std(ratios) / len(ratios) ** 0.5) for length, ratios in found.items()}
    for length in (3, 10):
        assert abs(means[length] - means[1]) < 3 * math.hypot(errors[1], errors[length]), (means, errors)
    assert all(abs(mean) < 0.5 for mean in means.values()), means


ORDER = 3
TABLE = np.random.default_rng(5).dirichlet(np.full(4, 0.3), (4,) * ORDER)
TABLE[0, 1, 0] = [0.02, 0.94, 0.02, 0.02]  # ACA, then C
TABLE[1, 0, 1] = [0.94, 0.02, 0.02, 0.02]  # CAC, then A


def of_order_k(letters: str) -> float:
    ids = ["ACGT".index(letter) for letter in letters]
    return sum(math.log(TABLE[(*ids[i - ORDER : i], ids[i])]) for i in range(ORDER, len(ids)))


@of_ids
def predict_order_k(sequences: Sequence[np.ndarray], cells: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Conditionals of a chain of higher order: one of order 1 whose states are words of three bases."""
    n = 4**ORDER
    step = np.zeros((n, n))
    for state in range(n):
        for base in range(4):
            step[state, state * 4 % n + base] = TABLE[state // 16, state // 4 % 4, state % 4, base]
    answers = []
    for ids, requested in zip(sequences, cells, strict=True):
        bases = ids[:, 0]
        fits = [np.array([bases[i] in (4, state % 4) for state in range(n)]) for i in range(ORDER - 1, len(bases))]
        for place in range(ORDER - 1):
            fits[0] &= np.array([bases[place] in (4, state // 4 ** (ORDER - 1 - place) % 4) for state in range(n)])
        forward, backward = [fits[0] / fits[0].sum()], [np.ones(n)]
        for fit in fits[1:]:
            forward.append(forward[-1] @ step * fit)
            forward[-1] /= forward[-1].sum()
        for fit in fits[:0:-1]:
            backward.append(step @ (backward[-1] * fit))
            backward[-1] /= backward[-1].sum()
        joint = np.stack(forward) * np.stack(backward[::-1])
        by_base = joint.reshape(len(joint), n // 4, 4).sum(axis=1)
        with np.errstate(divide="ignore"):
            answers.append(np.log(by_base / by_base.sum(axis=1, keepdims=True))[requested[:, 0] - ORDER + 1])
    return answers


def test_a_disruptive_insertion_scores_below_another_unit_of_a_repeat() -> None:
    rng = np.random.default_rng(3)
    ends = ["".join(rng.choice(list("ACGT"), 25)) for _ in range(2)]
    letters = f"{ends[0]}G{'AC' * 8}T{ends[1]}"
    first = 26  # of the repeat
    inserted = {more: variant(letters, first + 7, 1, letters[first + 7] + more) for more in ("AC", "TG", "GTT")}
    elsewhere = variant(letters, first + 11, 1, letters[first + 11] + "AC")
    neutral, *disruptive, moved = scores(letters, *inserted.values(), elsewhere, context=160, predict=predict_order_k)
    assert neutral.flank_log_ratio == pytest.approx(0, abs=1e-9)
    assert moved.flank_log_ratio == neutral.flank_log_ratio  # the same sequence, aligned otherwise
    for each in disruptive:
        assert each.flank_log_ratio < neutral.flank_log_ratio - 1
        text = letters[: each.variant.start] + each.variant.becomes.decode() + letters[each.variant.stop :]
        assert of_order_k(text) / len(text) < of_order_k(letters) / len(letters)


@pytest.mark.parametrize(
    "tokenizer", [KmerTokenizer(k=3), KmerTokenizer(k=3, overlapping=True)], ids=["words", "overlapping"]
)
@pytest.mark.parametrize("becomes", ["ACG", "ACGT", ""])
def test_words_that_are_not_the_same_on_both_sides_count_on_neither(tokenizer: KmerTokenizer, becomes: str) -> None:
    """A model that says the same of everything is asked about the same cells before and after."""
    letters = "ACGTTGCATGCCGATTACGATTGACCA"

    @of_ids
    def flat(sequences: Sequence[np.ndarray], cells: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [np.full((len(each), 84), -math.log(84)) for each in cells]

    record = sequence.Sequence(key="g", residues=letters.encode())
    listed = stretches([variant(letters, 9, 1, letters[9] + becomes)], Records(lambda: [record]), 60)
    (found,) = score_variants(flat, listed, tokenizer=tokenizer)
    assert (found.flank_log_ratio if becomes else found.log_ratio) == pytest.approx(0, abs=1e-9)
    assert found.before < 0


def test_substitutions_that_move_borders_of_tokens_are_scored_as_such() -> None:
    tokenizer = BpeTokenizer(merges=(("A", "C"), ("AC", "G")))
    letters = "TTTTGGACGTTTTGG"
    n = tokenizer.fields[0].n_tokens

    @of_ids
    def flat(sequences: Sequence[np.ndarray], cells: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [np.full((len(each), n), -1.0) for each in cells]

    record = sequence.Sequence(key="g", residues=letters.encode())
    listed = stretches([variant(letters, 7, 1, "T")], Records(lambda: [record]), 60)
    (found,) = score_variants(flat, listed, tokenizer=tokenizer)
    assert (found.before, found.after) == (-1, -3)  # ACG, and A, T, G


def test_no_word_over_a_changed_base_is_seen() -> None:
    tokenizer = KmerTokenizer(k=3, overlapping=True)
    letters = "ACGTTGCATGCCGATTACGA"
    requested: list[tuple[np.ndarray, np.ndarray]] = []

    @of_ids
    def watch(sequences: Sequence[np.ndarray], cells: Sequence[np.ndarray]) -> list[np.ndarray]:
        requested.extend(zip(sequences, cells, strict=True))
        return [np.full((len(each), 84), -math.log(84)) for each in cells]

    record = sequence.Sequence(key="g", residues=letters.encode())
    listed = stretches([variant(letters, 9, 1, "A")], Records(lambda: [record]), 40)
    (found,) = score_variants(watch, listed, tokenizer=tokenizer)
    assert found.log_ratio == pytest.approx(0)
    first = [ids for ids, cells in requested if cells[0, 0] == 7]
    assert first
    assert all((ids[7:10] == tokenizer.fields[0].mask_id).all() for ids in first)
    assert len(requested) == 5  # three words of each, of which the first is asked of one masked sequence


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    return untrained(NucleotideTokenizer(), tmp_path_factory.mktemp("run"))


def test_both_strands_have_an_equal_say(run: TrainedModel) -> None:
    letters = "".join(np.random.default_rng(3).choice(list("ACGT"), 50))
    turned = letters.translate(str.maketrans("ACGT", "TGCA"))[::-1]
    ratios = []
    for text, each in ((letters, variant(letters, 20, 1, "A")), (turned, variant(turned, 29, 1, "T"))):
        record = sequence.Sequence(key="g", residues=text.encode())
        (score,) = run.score_variants([each], lambda record=record: [record])
        ratios.append(score.log_ratio)
    assert ratios[0] == pytest.approx(ratios[1], abs=1e-5)


def test_rows_tell_where_the_surprise_is() -> None:
    bits = np.array([[1.0, np.nan], [0.5, 7.0], [np.nan, np.nan], [1.5, 2.0]], np.float32)
    row = record_row(Score("case 1", bits), ["activity", "gap"])
    assert (row["max_bits"], row["max_position"], row["max_field"], row["cells"]) == (7.0, 2, "gap", 5)
    assert row["bits"] == pytest.approx(12 / 5)
    assert list(row["fields"].items()) == [("gap", 4.5), ("activity", 1.0)]
    rows = list(position_rows(Score("case 1", bits), ["activity", "gap"]))
    found = [(each["bits"], each["top_field"]) for each in rows]
    assert found == [(1.0, "activity"), (7.5, "gap"), (None, None), (3.5, "gap")]
    assert record_row(Score("empty", np.full((2, 2), np.nan, np.float32)), ["a", "b"])["bits"] is None
