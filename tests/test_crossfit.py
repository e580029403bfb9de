"""Cross-fitting: each block is asked about by what was counted on the others, and weights hold for other data."""

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))

from corpora import Letters, Text, complement

from maskseq.apps.evaluate import evaluate_baselines
from maskseq.baselines import baselines as all_methods
from maskseq.baselines.baselines import FREQUENCIES, Baselines
from maskseq.baselines.crossfit import FOLDS, GAPS, GUARD, blocks, cross_fitted
from maskseq.baselines.mixtures import EQUAL, FITTED, masked_cells, mixtures
from maskseq.comparison.question import Question
from maskseq.corpus.build import build_from_records
from maskseq.corpus.splits import SplitConfig
from maskseq.predict.blend import Blend, Gate
from maskseq.predict.experts.counted import count
from maskseq.predict.experts.training_data import TrainingData
from maskseq.predict.protocol import Predict
from maskseq.types import Encoded
from maskseq_genomics.nucleotide import NucleotideTokenizer

lengths_of = st.one_of(
    st.lists(st.integers(1, 60), min_size=1, max_size=40), st.lists(st.integers(1, 3000), min_size=1, max_size=6)
)


@settings(max_examples=150, deadline=None)
@given(lengths_of, st.integers(2, 6))
def test_every_position_is_asked_once_by_what_has_not_counted_it(lengths: list[int], n: int) -> None:
    """Each id is a number of its own, so that a copy is told from the original by nobody but itself."""
    ends = np.cumsum(lengths)
    sequences = [np.arange(end - length, end)[:, None] for end, length in zip(ends.tolist(), lengths, strict=True)]
    which = np.repeat(np.arange(len(lengths)), lengths)
    total, asked_by = int(ends[-1]), []
    for counted, requested in blocks(sequences, Plain(), n):
        mine = np.concatenate([np.empty(0, int), *(ids[:, 0] for ids in requested)])
        others = np.concatenate([np.empty(0, int), *(ids[:, 0] for ids in counted)])
        asked_by.append(mine)
        assert not set(mine.tolist()) & set(others.tolist())
        if max(lengths) * n <= total:
            assert len(mine) + len(others) == total
            assert not set(which[mine].tolist()) & set(which[others].tolist())
            continue
        assert abs(len(mine) - total / n) <= 1
        for sequence in np.unique(which[mine]).tolist():
            gap = min(GUARD, lengths[sequence] // GAPS)
            here, there = mine[which[mine] == sequence], others[which[others] == sequence]
            left_out = lengths[sequence] - len(here) - len(there)
            assert left_out <= 2 * gap
            if len(there):
                assert np.abs(here[:, None] - there[None]).min() > gap
    assert sorted(np.concatenate(asked_by).tolist()) == list(range(total))


class Plain(NucleotideTokenizer):
    """Without symmetries."""

    def symmetries(self) -> tuple:
        return ()


def test_copies_and_their_images_are_asked_together() -> None:
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(list("abcd"), size=rng.integers(20, 40))) for _ in range(60)]
    texts[50], texts[55] = texts[2], complement(Text(key="", text=texts[2])).text
    tokenizer = Letters()
    sequences = [tokenizer.encode(Text(key="", text=text)).ids for text in texts]
    for _, requested in blocks(sequences, tokenizer):
        found = {tokenizer.decode(ids) for ids in requested}
        assert len({text in found for text in (texts[2], texts[50], texts[55])}) == 1


def repeating(rng: np.random.Generator, table: np.ndarray, length: int) -> np.ndarray:
    ids = [0, 0]
    for _ in range(length):
        ids.append(int(rng.choice(4, p=table[ids[-2], ids[-1]])))
    return np.array(ids, np.uint8)[:, None]


def nats(predict: Predict, sequences: list[np.ndarray], tokenizer: NucleotideTokenizer) -> float:
    seen, cells, truth = masked_cells([Encoded(ids) for ids in sequences], tokenizer, 3000, 1)
    answered = np.concatenate(predict(seen, cells))
    return float(-answered[np.arange(len(truth)), truth].mean())


def test_weights_hold_for_data_that_nobody_saw() -> None:
    """They are as good as those fitted on data held out for it, and better than equal ones."""
    rng, tokenizer = np.random.default_rng(0), NucleotideTokenizer()
    table = rng.dirichlet(np.full(4, 0.5), size=(4, 4))
    train, new, other = ([repeating(rng, table, 4000)] for _ in range(3))
    methods = count(TrainingData.of(train), tokenizer)
    crossed = cross_fitted(methods, train, tokenizer)
    assert crossed is not None
    kept = {name: methods[name] for name in crossed.experts}
    found = mixtures(kept, tokenizer, [Encoded(ids) for ids in other])
    best, equal = (nats(found[name], new, tokenizer) for name in (FITTED, EQUAL))
    assert nats(crossed, new, tokenizer) < min(equal, best + 0.02)


def test_weights_are_those_of_blocks_cut_by_hand() -> None:
    rng, tokenizer = np.random.default_rng(1), NucleotideTokenizer()
    train = repeating(rng, rng.dirichlet(np.full(4, 0.5), size=(4, 4)), 3998)  # 4000, with what it begins from
    methods = count(TrainingData.of([train]), tokenizer)
    crossed = cross_fitted(methods, [train], tokenizer)
    assert crossed is not None
    answered, truths, classes = [], [], []
    for start in range(0, 4000, 800):
        counted = [ids for ids in (train[: max(start - 200, 0)], train[start + 1000 :]) if len(ids)]
        alone = count(TrainingData.of(counted), tokenizer)
        seen, cells, truth = masked_cells([Encoded(train[start : start + 800])], tokenizer, 800, 0)
        blend = Blend({name: alone[name] for name in crossed.experts}, None, tokenizer.vocabulary)
        answered.append(blend.answers(seen, cells))
        truths.append(truth)
        classes.append(blend.situations(seen, cells))
    gate = Gate.fit(
        np.concatenate(answered, axis=1), np.concatenate(truths), np.concatenate(classes), blend.situations.n
    )
    np.testing.assert_allclose(crossed.gate.weights, gate.weights, rtol=1e-6)
    assert crossed.experts.keys() == methods.keys()
    assert all(crossed.experts[name] is methods[name] for name in methods)  # counted on everything


def test_a_corpus_of_two_parts_is_cross_fitted_on_training_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    records = [Text(key=f"r{i}", text="".join(rng.choice(list("abcd"), size=40))) for i in range(80)]
    corpus = build_from_records(records, output=tmp_path / "c", tokenizer=Letters(), split=SplitConfig(selection=0.2))
    given: list[list[np.ndarray]] = []
    original = all_methods.cross_fitted

    def spied(methods: object, sequences: list[np.ndarray], *rest: object, **options: object) -> object:
        given.append(sequences)
        return original(methods, sequences, *rest, **options)

    monkeypatch.setattr(all_methods, "cross_fitted", spied)
    answered: list[str] = []
    reported = evaluate_baselines(
        tmp_path / "c",
        question=Question(cells=500, every=True),
        trust_code=True,
        on_progress=lambda what, done, of: answered.append(what),
    ).to_json()
    assert "selection data" in reported["of"]["data"]
    assert FITTED in str(reported["protocols"]["masked"])
    (sequences,) = given
    trained = [encoded.ids.tolist() for _, encoded in corpus.each("train")]
    assert [ids.tolist() for ids in sequences] == trained
    assert any(str(FOLDS) in each and "blocks" in each for each in answered)
    assert FREQUENCIES in str(reported)


def test_little_or_much_data_is_not_cut() -> None:
    tokenizer = NucleotideTokenizer()
    tiny = Baselines([np.zeros((3, 1), np.uint8)], tokenizer, 2, every=True)
    assert EQUAL in tiny.predicts
    assert FITTED not in tiny.predicts
