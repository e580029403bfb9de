"""Numbers reach predictors as they were read, and what is filled in comes from stated numbers and not from bins."""

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from untrained import untrained

from maskseq.apps.infill import infill_file
from maskseq.corpus.build import build_from_records
from maskseq.corpus.dress import ReadAs
from maskseq.infill.sampler import InfillConfig, infill
from maskseq.predict.experts.number_experts import Numbered, count_numbers
from maskseq.predict.experts.number_prior import count_blend
from maskseq.predict.predictor import Predictor
from maskseq.predict.protocol import Example, Predict
from maskseq.predict.stated import RANKS, Stated
from maskseq.tokenizer import Tokenizer
from maskseq.trained import TrainedModel
from maskseq_genomics.nucleotide import NucleotideTokenizer
from maskseq_signals.recording import Recording
from maskseq_signals.tokenizer import QuantizeTokenizer


def wave(length: int, seed: int = 0) -> np.ndarray:
    """Two smooth channels that know of one another."""
    rng = np.random.default_rng(seed)
    steps = rng.normal(0, 0.1, (length + 40, 2)) @ np.array([[1, 0.5], [0, 1]])
    smooth = np.stack([np.convolve(column, np.hanning(20), mode="valid") for column in steps.T], axis=1)
    return np.asarray(np.round(smooth[:length], 4))


def recording(values: np.ndarray, key: str = "r") -> Recording:
    return Recording(key=key, channels=values, names=("a", "b"))


TRAIN = wave(2000)
TOKENIZER = QuantizeTokenizer.fit([recording(TRAIN)], bins=32)


@pytest.fixture(scope="module")
def methods() -> dict[str, Predict]:
    return count_numbers(Numbered([TOKENIZER.encode(recording(TRAIN)).ids], [TRAIN]), TOKENIZER)


@pytest.fixture(scope="module")
def blend() -> Predict:
    return count_blend(Numbered([TOKENIZER.encode(recording(TRAIN)).ids], [TRAIN]), TOKENIZER, context=64)


@pytest.fixture
def predicting_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Predict], TrainedModel]:
    """A run that predicts by something else than its encoder."""
    run = untrained(TOKENIZER, tmp_path / "run")

    def by(predict: Predict) -> TrainedModel:
        predictor = Predictor(predict=predict, tokenizer=TOKENIZER, context=64)
        monkeypatch.setattr(TrainedModel, "predictor", lambda *_, **__: predictor)
        return run

    return by


def filled(
    run: TrainedModel, values: np.ndarray, folder: Path, **options: Any
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """The numbers of a CSV file after infilling it, and the table."""
    folder.mkdir()
    rows = [",".join("" if np.isnan(x) else repr(float(x)) for x in row) for row in values]
    (folder / "in.csv").write_text("\n".join(["a,b", *rows]) + "\n")
    infill_file(run, folder / "in.csv", output=folder / "out", read_as=ReadAs(format="signal-csv"), **options)
    written = np.genfromtxt(folder / "out" / "in.csv", delimiter=",", skip_header=1)
    with next((folder / "out").glob("*fills.csv")).open() as file:
        return written, list(csv.DictReader(file))


def with_gaps(values: np.ndarray, length: int = 6) -> tuple[np.ndarray, np.ndarray]:
    masked = np.zeros(values.shape, bool)
    for start in range(20, len(values) - 20, 40):
        masked[start : start + length, (start // 40) % 2] = True
    return np.where(masked, np.nan, values), masked


def test_a_sensor_that_drifted_out_of_its_bins_is_filled_as_well_as_before(
    predicting_by: Callable[[Predict], TrainedModel], blend: Predict, tmp_path: Path
) -> None:
    truth = wave(400, seed=1)
    errors, widths = {}, {}
    for offset in (0.0, 10.0):
        shown, masked = with_gaps(truth + offset)
        written, table = filled(predicting_by(blend), shown, tmp_path / str(offset))
        errors[offset] = float(((written - truth - offset)[masked] ** 2).mean())
        inside = [
            float(r["low95"]) <= t <= float(r["high95"]) for r, t in zip(table, (truth + offset)[masked], strict=True)
        ]
        widths[offset] = np.mean([float(row["high95"]) - float(row["low95"]) for row in table])
        assert np.mean(inside) > 0.8
    line = np.interp(np.arange(400), np.flatnonzero(~masked[:, 0]), truth[~masked[:, 0], 0])
    assert errors[0.0] < 0.5 * ((line - truth[:, 0])[masked[:, 0]] ** 2).mean()
    assert errors[10.0] < 1.3 * errors[0.0]
    assert widths[10.0] < 1.5 * widths[0.0]


@pytest.mark.parametrize("name", ["Gaussian, any level", "Gaussian, any level and trend", "Gaussian of alike windows"])
def test_level_free_fills_and_intervals_move_with_a_file(
    predicting_by: Callable[[Predict], TrainedModel], methods: dict[str, Predict], name: str, tmp_path: Path
) -> None:
    """X → a·x + b on a whole file, through CSV."""
    truth, a, b = wave(200, seed=2), 4.0, 1000.0
    tables = []
    for gain, offset in ((1.0, 0.0), (a, b)):
        shown, _ = with_gaps(gain * truth + offset)
        tables.append(filled(predicting_by(methods[name]), shown, tmp_path / str(gain))[1])
    if name == "Gaussian of alike windows":  # which windows are alike depends on the gain
        shown, _ = with_gaps(truth + b)
        tables[1], a = filled(predicting_by(methods[name]), shown, tmp_path / "moved")[1], 1.0
    for before, after in zip(*tables, strict=True):
        for column in ("mean", "median", "low50", "high95"):
            # Windows that are all but as near as each other may change places by rounding.
            exact = 2e-6 if name == "Gaussian of alike windows" else 1e-8
            assert float(after[column]) == pytest.approx(a * float(before[column]) + b, abs=exact * b)


def test_no_hidden_number_changes_a_fill(
    predicting_by: Callable[[Predict], TrainedModel], blend: Predict, tmp_path: Path
) -> None:
    truth = wave(120, seed=3)
    other = truth.copy()
    other[50:60] += 100 * np.random.default_rng(0).normal(size=(10, 2)).round(3)
    tables = [
        filled(predicting_by(blend), values, tmp_path / str(i), ranges={"in": [(50, 60)]})[1]
        for i, values in enumerate((truth, other))
    ]
    for one, another in zip(*tables, strict=True):
        assert {k: v for k, v in one.items() if k != "truth"} == {k: v for k, v in another.items() if k != "truth"}


class Constant:
    """States the same everywhere, and keeps what it was shown."""

    def __init__(self, mean: float, sd: float) -> None:
        self.mean, self.sd, self.seen = mean, sd, list[Example]()

    def __call__(self, examples: Any, cells: Any) -> Any:
        return self.of_bins(self.stated(examples, cells), cells)

    def stated(self, examples: Any, cells: Any) -> list[Stated]:
        self.seen += examples
        return [Stated.gaussian(np.full(len(each), self.mean), np.full(len(each), self.sd**2)) for each in cells]

    def of_bins(self, stated: Any, cells: Any) -> list[np.ndarray]:
        n = TOKENIZER.fields[0].n_tokens
        bins = [np.full((len(each), n), -np.inf) for each in cells]
        for each in bins:
            each[:, -1] = 0  # the outermost bin
        return bins


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_later_passes_see_the_numbers_that_fills_stand_for(temperature: float) -> None:
    predict = Constant(50.0, 0.5)
    values = wave(40)
    hole = np.zeros(values.shape, bool)
    hole[10:14, 0] = True
    example = Example(TOKENIZER.encode(recording(values)).ids, values)
    config = InfillConfig(order="left_to_right", temperature=temperature)
    (fill,) = infill(predict, [example], [hole], config, vocabulary=TOKENIZER.vocabulary, keys=[0])
    assert fill.numbers is not None
    assert fill.stated is not None
    first, last = predict.seen[0], predict.seen[-1]
    assert first.numbers is not None
    assert last.numbers is not None
    assert last.given is not None
    assert np.isnan(first.numbers[hole]).all()
    np.testing.assert_array_equal(first.numbers[~hole], values[~hole])
    np.testing.assert_array_equal(last.numbers[10:13, 0], fill.numbers[0, :3])
    assert not last.given[hole].any()
    assert last.given[~hole].all()
    np.testing.assert_allclose(fill.numbers, 50, atol=4)
    assert (len(np.unique(fill.numbers)) == 1) == (temperature == 0)


def test_stated_numbers_are_gaussians_beyond_their_quantiles() -> None:
    from scipy.stats import norm

    answered = Stated.gaussian(np.array([1.0, -20.0]), np.array([4.0, 0.25]))
    requested = np.array([[-5.0, 1.0, 9.0], [-21.0, -20.0, -18.5]])
    np.testing.assert_allclose(answered.below(requested), norm.cdf(requested, [[1], [-20]], [[2], [0.5]]), rtol=1e-6)
    ranks = np.array([[1e-4, 0.3, 0.9999]] * 2)
    np.testing.assert_allclose(answered.quantile(ranks), norm.ppf(ranks, [[1], [-20]], [[2], [0.5]]), rtol=1e-9)
    lumpy = Stated(np.zeros(1), np.sort(np.random.default_rng(0).normal(size=(1, len(RANKS))) ** 3, axis=1))
    np.testing.assert_allclose(lumpy.below(lumpy.quantile(ranks[:1])), ranks[:1], atol=1e-6)


def test_a_corpus_keeps_numbers_beside_bins(tmp_path: Path) -> None:
    values = [wave(n, seed=n) for n in (50, 70, 30)]
    values[1][5:9] = np.nan
    records = [recording(each, key=f"r{i}") for i, each in enumerate(values)]
    corpus = build_from_records(records, output=tmp_path / "corpus", tokenizer=TOKENIZER, part_units=60)
    found = {corpus.key(i): each.numbers for i, each in corpus.each("train", numbers=True)}
    for i, each in enumerate(values):
        if f"r{i}" in found:
            np.testing.assert_array_equal(found[f"r{i}"], each)
    assert all(each.numbers is None for _, each in corpus.each("train"))
    dna = NucleotideTokenizer()
    assert not dna.keeps_numbers


def test_a_corpus_without_numbers_stays_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def records() -> Iterator[Recording]:
        return iter([recording(wave(50, seed=n), key=f"r{n}") for n in range(3)])

    with monkeypatch.context() as older:
        older.setattr(Tokenizer, "keeps_numbers", False)
        before = build_from_records(records(), output=tmp_path / "corpus", tokenizer=TOKENIZER)
    now = build_from_records(records(), output=tmp_path / "corpus", tokenizer=TOKENIZER)
    assert now.manifest == before.manifest
    assert all(each.numbers is None for _, each in now.each("train", numbers=True))
