"""Holes made on purpose: where they may be, and what calibration learns from them."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskseq.calibration.fit import fit_calibration, fit_temperature, nats_of
from maskseq.evaluation.holdout import calibrate_on, held_out_fills, mask_spans, segments_of
from maskseq.infill.sampler import InfillConfig
from maskseq.infill.window_plan import runs
from maskseq.predict.calibrated import span_classes
from maskseq.predict.protocol import of_ids
from maskseq.tokenizer import Tokenizer
from maskseq.types import Encoded, Field, ListRecord
from maskseq_genomics.kmer import KmerTokenizer

STEP = np.array([[0.9, 0.08, 0.02], [0.05, 0.9, 0.05], [0.1, 0.05, 0.85]])


class Letters(Tokenizer[ListRecord]):
    fields = (Field(name="letter", tokens=tuple("abc")),)

    def encode(self, record: ListRecord) -> Encoded:
        return Encoded(np.array(record.values))

    def decode(self, ids: np.ndarray) -> list[list[int]]:
        return ids.tolist()


class Events(Letters):
    fields = (Field(name="x", tokens=tuple("abc")), Field(name="y", tokens=tuple("ab")))


@settings(deadline=None)
@given(st.integers(0, 200), st.sampled_from([0.05, 0.2, 0.5]), st.integers(0, 10**6))
def test_spans_hide_known_cells_only_and_keep_to_their_share(length: int, share: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    ids = np.stack([rng.integers(0, 4, length), rng.integers(0, 3, length)], axis=1)
    holes = mask_spans(Encoded(ids), Events(), rng, lengths=(1, 2, 4), share=share)
    assert not (holes & (ids == np.array([3, 2]))).any()
    assert np.count_nonzero(holes.any(axis=1)) <= max(share * length, 1)
    for column in range(2):
        assert {stop - start for start, stop in runs(holes[:, column])} <= {1, 2, 4}


def test_every_length_gets_about_as_many_cells() -> None:
    ids = np.zeros((50_000, 1), int)
    holes = mask_spans(Encoded(ids), Letters(), np.random.default_rng(0), lengths=(1, 2, 4, 8), share=0.1)
    spans = [stop - start for start, stop in runs(holes[:, 0])]
    cells = np.bincount(spans, weights=spans)[[1, 2, 4, 8]]
    assert cells.sum() == pytest.approx(5_000, rel=0.02)
    assert cells.min() > 0.75 * cells.max()


def test_no_visible_word_gives_a_hidden_one_away() -> None:
    tokenizer = KmerTokenizer(k=3, overlapping=True)
    ids = np.random.default_rng(0).integers(0, 64, (300, 1))
    holes = mask_spans(Encoded(ids), tokenizer, np.random.default_rng(1), lengths=(1,), share=0.05)[:, 0]
    inner = [stop - start for start, stop in runs(holes) if start > 0 and stop < len(ids)]
    assert min(inner) == 5  # one word, and the two on either side that share bases with it


@of_ids
def markov(sequences: Sequence[np.ndarray], cells: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The exact conditionals of a Markov chain."""
    answers = []
    for ids, requested in zip(sequences, cells, strict=True):
        evidence = np.where(ids == 3, 1.0, np.eye(4)[ids[:, 0]][:, :3])
        forward, backward = [np.full(3, 1 / 3)], [np.ones(3)]
        for seen in evidence[:-1]:
            after = (forward[-1] * seen) @ STEP
            forward.append(after / after.sum())
        for seen in evidence[:0:-1]:
            before = STEP @ (backward[-1] * seen)
            backward.append(before / before.sum())
        weight = np.array(forward) * np.array(backward[::-1])
        answers.append(np.log(weight / weight.sum(axis=1, keepdims=True))[requested[:, 0]])
    return answers


def test_even_an_exact_model_is_overconfident_within_long_holes_and_calibration_mends_it() -> None:
    """Values committed late are stated given early ones, which may be wrong; single cells are honest as they are."""
    rng = np.random.default_rng(0)
    records = []
    for number in range(30):
        letters = [0]
        for _ in range(300):
            letters.append(int(rng.choice(3, p=STEP[letters[-1]])))
        records.append((f"r{number}", Encoded(np.array(letters)[:, None])))
    made = held_out_fills(
        markov, records, InfillConfig(gamma=0.0), tokenizer=Letters(), context=64, lengths=(1, 16), share=0.2
    )
    fills = list(made)
    assert all(set(span_classes(fill.cells).tolist()) <= {1, 9} for fill, _ in fills)
    short, long = fit_calibration(fills).groups
    assert short.temperature == pytest.approx(1, abs=0.12)
    assert short.ece_before < 0.03
    assert long.temperature > 1.5
    assert long.ece_before > 0.2
    assert long.ece_after < 0.6 * long.ece_before


@pytest.mark.parametrize("lengths", [[100], [40, 7, 90], [300, 300, 300], [5] * 41])
def test_pieces_cover_what_there_is_for_about_so_many_cells(lengths: list[int]) -> None:
    numbered = np.arange(sum(lengths))[:, None]
    ends = np.cumsum([0, *lengths])
    records = [(f"r{i}", Encoded(numbered[a:b])) for i, (a, b) in enumerate(pairwise(ends.tolist()))]
    segments, rounds = segments_of(records, context=64, cells=400, share=0.2, seed=1)
    assert max(len(segment) for _, segment in segments) <= 64
    assert len({key for key, _ in segments}) == len(segments)
    found = np.concatenate([segment.ids[:, 0] for _, segment in segments])
    assert len(np.unique(found)) == len(found)
    assert 250 <= 0.2 * len(found) * rounds <= 600
    few, once = segments_of(records, context=64, cells=2, share=0.2, seed=1)
    assert len(few) < len(segments) or len(segments) <= 2
    assert once == 1


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 200), outputs=st.integers(2, 9), sharp=st.floats(0.2, 6), seed=st.integers(0, 1 << 20))
def test_no_temperature_is_better_than_the_fitted_one(n: int, outputs: int, sharp: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.ones(outputs), size=n) ** sharp
    probabilities[:, -1] *= rng.random(n) < 0.5  # what a grammar forbids
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    truth = rng.integers(outputs, size=n)
    found = fit_temperature(probabilities, truth)
    best = min(nats_of(probabilities, truth, t) for t in np.geomspace(0.05, 20, 400))
    assert nats_of(probabilities, truth, found) <= best + 1e-6 * max(best, 1)


@pytest.mark.parametrize("probabilities", [np.eye(3)[[0, 1, 0]], np.full((3, 3), 1 / 3), np.eye(3)[[2, 2, 2]]])
def test_a_temperature_that_changes_nothing_is_one(probabilities: np.ndarray) -> None:
    assert fit_temperature(probabilities, np.array([0, 1, 0])) == 1


class Seven(Letters):
    fields = tuple(Field(name=name, tokens=tuple("abc")) for name in "tuvwxyz")


@pytest.mark.parametrize("tokenizer", [Letters(), Seven()])
def test_a_calibration_asks_about_as_many_cells_as_are_requested(tokenizer: Letters) -> None:
    rng, n_fields = np.random.default_rng(0), len(tokenizer.fields)
    records = [(f"r{i}", Encoded(rng.integers(3, size=(300, n_fields)))) for i in range(20)]
    predict = of_ids(lambda ids, cells: [np.log(np.full((len(each), 3), 1 / 3)) for each in cells])
    found = calibrate_on(predict, records, InfillConfig(), tokenizer=tokenizer, context=64, cells=2000)
    assert 1200 <= sum(group.n_cells for group in found.groups) <= 3000
