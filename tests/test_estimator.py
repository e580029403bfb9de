"""The estimators among scikit-learn's own tools."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from untrained import untrained

import maskseq
from maskseq.errors import MaskseqError
from maskseq_genomics.nucleotide import NucleotideTokenizer
from maskseq_genomics.sequence import Sequence

FAST = {"epochs": 4, "batch": 8, "lr": 3e-3, "head_lr": 1e-2}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "dna"
    untrained(NucleotideTokenizer(), folder)
    return folder


def records(n: int = 60) -> tuple[list[Sequence], np.ndarray]:
    rng = np.random.default_rng(0)
    shares = ((0.4, 0.1, 0.1, 0.4), (0.1, 0.4, 0.4, 0.1))
    letters = ["".join(rng.choice(list("ACGT"), 20, p=shares[i % 2])) for i in range(n)]
    classes = np.array(["at", "gc"])[np.arange(n) % 2]
    return [Sequence(key=str(i), residues=text.encode()) for i, text in enumerate(letters)], classes


def test_a_classifier_in_the_tools_of_scikit_learn(run: Path) -> None:
    X, y = records()
    model = maskseq.SequenceClassifier(run, **FAST)
    assert clone(model).get_params() == model.get_params()
    pipeline = make_pipeline(FunctionTransformer(), model).fit(X, y)
    assert pipeline.score(X, y) > 0.9
    shares = pipeline.predict_proba(X)
    assert shares.shape == (60, 2)
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    assert list(pipeline.classes_) == ["at", "gc"]
    assert cross_val_score(model, X, y, cv=2).mean() > 0.8
    search = GridSearchCV(model, {"head": ["mean", "max"]}, cv=2).fit(X, y)
    assert search.best_params_["head"] in ("mean", "max")


def test_a_regressor(run: Path) -> None:
    X, _ = records()
    y = np.array([record.residues.count(b"G") for record in X], dtype=float)
    model = maskseq.SequenceRegressor(run, **FAST).fit(X, y)
    assert model.score(X, y) > 0.3
    same = maskseq.SequenceRegressor(run, **FAST).fit(X, y)
    np.testing.assert_array_equal(model.predict(X), same.predict(X))


def test_records_without_labels_and_one_class_only_are_refused(run: Path) -> None:
    X, y = records(10)
    with pytest.raises(MaskseqError):
        maskseq.SequenceClassifier(run).fit(X, y[:9])
    with pytest.raises(MaskseqError):
        maskseq.SequenceClassifier(run).fit(X, ["a"] * 10)
