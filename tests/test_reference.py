"""Densities around a closed form: they begin at it, come from visible numbers only, and add up."""

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from jaxtyping import Float
from safetensors.torch import load_file
from scipy.stats import norm
from served import client
from typer.testing import CliRunner

from maskseq.apps.infill import infill_file
from maskseq.apps.pretrain import pretrain
from maskseq.apps.rows import rows_of
from maskseq.cli import app
from maskseq.contract.fence import encode
from maskseq.corpus.dress import ReadAs
from maskseq.corpus.reader import Corpus
from maskseq.errors import UsageError
from maskseq.interop.convert import export_hf, export_onnx
from maskseq.model.encoder import Encoder, EncoderConfig
from maskseq.model.gaussian import Stationary
from maskseq.model.numbers import Numbers
from maskseq.model.priors.config import LinearPriorConfig, ReferenceConfig
from maskseq.packing.folds import FOLDS, WHOLE, fold_of
from maskseq.predict.around import NumberEncoderPredict
from maskseq.predict.embed import embed_records
from maskseq.predict.experts.numbers import NumberPredict
from maskseq.predict.posterior import bin_edges
from maskseq.predict.protocol import Example, PredictNumbers
from maskseq.predict.stated import RANKS
from maskseq.recipe import load_recipe
from maskseq.tasks.config import LabelSource, TaskConfig, TaskData
from maskseq.tasks.examples import unlabelled_examples
from maskseq.tasks.fit import network_outputs
from maskseq.tasks.network import task_network
from maskseq.tokenizer import Symmetry
from maskseq.trained import load
from maskseq.training.events import Event, Step
from maskseq.types import ABSENT, Field, Vocabulary
from maskseq_signals.recording import Recording

CENTRES = tuple(np.linspace(-3, 3, 40).tolist())
VOCABULARY = Vocabulary.of([Field(name=name, tokens=tuple(map(str, range(40))), centres=CENTRES) for name in "ab"])
SHAPE: dict[str, Any] = {"n_layers": 2, "hidden_size": 16, "n_heads": 2, "intermediate_size": 16}
SHARES = [np.full(40, 1 / 40)] * 2


def wave(length: int, seed: int = 0) -> Float[np.ndarray, "length 2"]:
    """Two smooth channels that know of one another."""
    rng = np.random.default_rng(seed)
    steps = rng.normal(0, 0.3, (length + 40, 2)) @ np.array([[1, 0.5], [0, 1]])
    smooth = np.stack([np.convolve(column, np.hanning(20), mode="valid") for column in steps.T], axis=1)
    return np.asarray(np.round(smooth[:length], 4))


TRAIN = wave(2000)
FOLD = fold_of(0, 1, np.arange(2000), 2000)


def encoder(*, corrected: bool = False, **reference: Any) -> Encoder:
    """One whose closed forms are counted; `corrected`: and whose corrections are random."""
    config = EncoderConfig(vocabulary=VOCABULARY, reference=ReferenceConfig(bins=8, **reference), **SHAPE)
    model = Encoder(config)
    prior = model.embeddings.reference
    assert prior is not None
    prior.count_numbers([TRAIN], [FOLD], SHARES)
    if corrected:
        with torch.no_grad():
            prior.correction.weight.normal_(0, 0.3, generator=torch.Generator().manual_seed(1))
    return model


def masked_window(seed: int = 3, share: float = 0.4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Numbers with some of them masked, their ids, and the masked cells."""
    values = wave(80, seed)
    masked = np.random.default_rng(seed).random(values.shape) < share
    ids = np.where(masked, 40, np.abs(values[..., None] - np.array(CENTRES)).argmin(axis=-1))
    return np.where(masked, np.nan, values), ids, np.argwhere(masked)


@pytest.mark.parametrize(("level", "form"), [("fixed", 0), ("free", 1), ("trend", 2)])
def test_it_begins_at_the_closed_form(level: Any, form: int) -> None:
    values, ids, cells = masked_window()
    counted = replace(Stationary.count([TRAIN]), free=form)
    found = NumberEncoderPredict(encoder(level=level))
    expected = NumberPredict(counted.posterior, VOCABULARY, SHARES)
    (mine,), (theirs,) = (each.stated([Example(ids, values)], [cells]) for each in (found, expected))
    np.testing.assert_allclose(mine.mean, theirs.mean, atol=1e-7)
    np.testing.assert_allclose(mine.quantiles, theirs.quantiles, atol=1e-7)
    (in_bins,), (theirs_in_bins,) = (each([Example(ids, values)], [cells]) for each in (found, expected))
    np.testing.assert_allclose(in_bins, theirs_in_bins, atol=1e-4)
    assert isinstance(found, PredictNumbers)


def test_what_trains_begins_at_the_closed_form() -> None:
    values, ids, cells = masked_window()
    mean, variance = Stationary.count([TRAIN]).diffuse().posterior(values)
    states = encoder()(
        torch.from_numpy(ids),
        torch.arange(80),
        torch.tensor([0, 80], dtype=torch.int32),
        80,
        numbers=Numbers(torch.from_numpy(values), torch.tensor([WHOLE])),
    )
    edges = bin_edges(np.array(CENTRES))[1:-1]
    for position, field in cells[::7].tolist():
        logits = encoder().logits(states[torch.tensor([position])], field)[0].exp().detach().numpy()
        below = norm.cdf(edges, mean[position, field], np.sqrt(variance[position, field]))
        np.testing.assert_allclose(logits, np.diff(below, prepend=0, append=1), atol=2e-6)


@pytest.mark.parametrize("far", [0.0, 50.0])
def test_mass_in_absolute_bins_is_that_of_the_density_with_open_tails(far: float) -> None:
    """By brute force, from finely spaced quantiles."""
    values, ids, cells = masked_window()
    model = encoder(corrected=True)
    prior = model.embeddings.reference
    assert prior is not None
    states = model(
        torch.from_numpy(ids),
        torch.arange(80),
        torch.tensor([0, 80], dtype=torch.int32),
        80,
        numbers=Numbers(torch.from_numpy(values + far), torch.tensor([WHOLE])),
    )
    ranks = (np.arange(40_000) + 0.5) / 40_000
    for position, field in cells[::9].tolist():
        here = states[torch.tensor([position])]
        mass = model.logits(here, field)[0].exp().detach().numpy()
        assert mass.sum() == pytest.approx(1, abs=1e-5)
        mean, quantiles = prior.stated(model.head(here.hidden_states), field, here.prior["reference"], ranks)
        drawn = quantiles[0].detach().numpy()
        assert (np.diff(drawn) >= 0).all()
        assert mean.item() == pytest.approx(drawn.mean(), abs=2e-3)
        counts = np.bincount(np.searchsorted(bin_edges(np.array(CENTRES))[1:-1], drawn), minlength=40)
        np.testing.assert_allclose(mass, counts / 40_000, atol=2e-4)


def test_ids_that_are_no_bins_are_as_frequent_as_in_training() -> None:
    """In training as in predictions."""
    fields = [Field(name="a", tokens=tuple(map(str, range(40))), centres=CENTRES, controls=(ABSENT,))]
    vocabulary = Vocabulary.of(fields)
    model = Encoder(EncoderConfig(vocabulary=vocabulary, reference=ReferenceConfig(bins=8), **SHAPE))
    prior = model.embeddings.reference
    assert prior is not None
    absent = fields[0].control_id(ABSENT)
    shares = np.full(vocabulary.n_outputs[0], 0.95 / (vocabulary.n_outputs[0] - 1))
    shares[absent] = 0.05
    prior.count_numbers([TRAIN[:, :1]], [FOLD], [shares])
    values, ids, cells = (each[:, :1] for each in masked_window())
    ids = np.where(np.isnan(values), vocabulary.mask_ids, ids)
    cells = np.argwhere(np.isnan(values))
    states = model(
        torch.from_numpy(ids),
        torch.arange(80),
        torch.tensor([0, 80], dtype=torch.int32),
        80,
        numbers=Numbers(torch.from_numpy(values), torch.tensor([WHOLE])),
    )
    trained_on = model.logits(states[torch.from_numpy(cells[:, 0])], 0).exp().detach().numpy()
    (predicted,) = NumberEncoderPredict(model)([Example(ids, values)], [cells])
    np.testing.assert_allclose(trained_on.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(trained_on[:, absent], 0.05, rtol=1e-3)
    np.testing.assert_allclose(np.exp(predicted)[:, : trained_on.shape[1]], trained_on, atol=5e-3)


def test_no_masked_number_changes_an_answer() -> None:
    values, ids, cells = masked_window()
    wrong = np.where(np.isnan(values), 77.0, values)  # what a caller should not have given
    predict = NumberEncoderPredict(encoder(corrected=True))
    (right,), (same,) = (predict.stated([Example(ids, each)], [cells]) for each in (values, wrong))
    np.testing.assert_array_equal(right.quantiles, same.quantiles)


def test_answers_do_not_depend_on_the_company() -> None:
    values, ids, cells = masked_window()
    other, other_ids, other_cells = masked_window(5)
    predict = NumberEncoderPredict(encoder(corrected=True))
    (alone,) = predict.stated([Example(ids[:50], values[:50])], [cells[cells[:, 0] < 50]])
    _, together = predict.stated(
        [Example(other_ids, other), Example(ids[:50], values[:50])], [other_cells, cells[cells[:, 0] < 50]]
    )
    np.testing.assert_allclose(alone.quantiles, together.quantiles, atol=1e-5)


@pytest.mark.parametrize("level", ["free", "trend"])
@pytest.mark.parametrize(("gain", "offset"), [(1.0, 100.0), (3.0, -7.0), (0.01, 0.0)])
def test_a_reference_moves_with_its_numbers(level: Any, gain: float, offset: float) -> None:
    """And so do corrections, where the encoder does not see absolute bins."""
    values, ids, cells = masked_window()
    for sees_bins in (True, False):
        predict = NumberEncoderPredict(encoder(corrected=not sees_bins, level=level, sees_bins=sees_bins))
        (before,), (after,) = (
            predict.stated([Example(ids, each)], [cells]) for each in (values, gain * values + offset)
        )
        np.testing.assert_allclose(after.mean, gain * before.mean + offset, atol=1e-4 * gain)
        np.testing.assert_allclose(after.quantiles, gain * before.quantiles + offset, atol=1e-4 * gain)


def test_without_numbers_the_centres_of_bins_are_known() -> None:
    values, ids, cells = masked_window()
    centres = np.where(np.isnan(values), np.nan, np.array(CENTRES)[np.minimum(ids, 39)])
    predict = NumberEncoderPredict(encoder(corrected=True))
    (plain,), (explicit,) = (predict.stated([Example(ids, each)], [cells]) for each in (None, centres))
    np.testing.assert_array_equal(plain.quantiles, explicit.quantiles)


def test_each_part_of_training_is_left_out_once() -> None:
    prior = encoder().embeddings.reference
    assert prior is not None
    changed = TRAIN.copy()
    changed[FOLD == 2] = 5 * changed[FOLD == 2] + 3
    again = encoder().embeddings.reference
    assert again is not None
    again.count_numbers([changed], [FOLD], SHARES)
    for fold in range(1 + FOLDS):
        same = np.array_equal(prior.form(fold).covariance, again.form(fold).covariance)
        assert same == (fold == 2)
    records = [TRAIN[:500], TRAIN[500:1000], TRAIN[1000:1500], TRAIN[1500:]]
    prior.count_numbers(records, [fold_of(i, 4, np.arange(500), 500) for i in range(4)], SHARES)
    expected = Stationary.count(records[1:3])  # the first and the fourth are of one part
    np.testing.assert_allclose(prior.form(1).mean, expected.mean, rtol=1e-12)
    np.testing.assert_allclose(prior.form(1).covariance, expected.covariance, atol=1e-9)


RECIPE: dict[str, Any] = {
    "tokenizer": {"name": "quantize", "bins": 32},
    "data": {"split": {"by": "region", "selection": 0.2, "test": 0.0}},
    "packing": {"context": 64, "row_tokens": 128},
    "model": {**SHAPE, "preset": "nano", "reference": {"bins": 8}},
    "masking": {"tokens": {"weight": 1.0}, "spans": {"weight": 1.0, "mean_length": 4}},
    "training": {"tokens": 12 * 128, "rows": 1, "validate_every": 0.5, "checkpoint_every": 4 * 128, "device": "cpu"},
    "calibrate": False,
}


def recordings() -> list[Recording]:
    return [Recording(key="r", channels=TRAIN, names=("a", "b"))]


def trained(output: Path, on_event: Callable[[Event], None] = lambda event: None, **changes: Any) -> Any:
    return pretrain(RECIPE | changes, output=output, records=recordings(), on_event=on_event)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return trained(tmp_path_factory.mktemp("run"), blend=False)


def drifted(values: Float[np.ndarray, "length 2"]) -> str:
    """A file of values far beyond all bins, with a hole."""
    rows = [",".join("" if 30 <= i < 34 else repr(float(x) + 40) for x in row) for i, row in enumerate(values)]
    return "\n".join(["a,b", *rows]) + "\n"


def test_rows_carry_numbers_as_they_were_read_but_no_masked_one(run: Any) -> None:
    recipe = load_recipe(RECIPE)
    corpus = Corpus.open(run.path / "corpus", trust_code=True)
    training, selection = rows_of(recipe, corpus)
    row = training.row(0)
    assert row.numbers is not None
    assert row.fold is not None
    assert np.isnan(row.numbers[row.weights > 0]).all()
    for sequence, start, stop, fold in zip(
        *(each.tolist() for each in (row.sequence, row.cu_seqlens[:-1], row.cu_seqlens[1:], row.fold)), strict=True
    ):
        here, first = slice(start, stop), int(row.start[np.searchsorted(row.cu_seqlens, start)])
        read = row.numbers[here]
        if sequence < 0:
            continue
        offset = int(corpus.offsets[sequence]) + first
        stored = corpus.read_span(offset, offset + stop - start, numbers=True).numbers
        assert stored is not None
        np.testing.assert_array_equal(read[~np.isnan(read)], stored[~np.isnan(read)])
        assert 1 <= fold <= FOLDS
    assert selection is not None
    held_out = selection.row(0).fold
    assert held_out is not None
    assert set(held_out[selection.row(0).sequence >= 0].tolist()) == {WHOLE}
    plain = load_recipe(RECIPE | {"model": SHAPE | {"preset": "nano"}})
    assert rows_of(plain, corpus)[0].row(0).numbers is None


def test_a_run_that_was_broken_off_ends_as_one_that_was_not(run: Any, tmp_path: Path) -> None:
    def break_off(event: Event) -> None:
        if isinstance(event, Step) and event.step == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path, break_off, blend=False)
    again = trained(tmp_path, blend=False)
    whole, resumed = (
        load_file(each.path / "checkpoints" / (each.path / "latest").read_text().strip() / "model.safetensors")
        for each in (run, again)
    )
    torch.testing.assert_close(resumed, whole, rtol=0, atol=0)


def test_a_run_predicts_as_its_encoder_in_memory_does_and_fills_what_drifted(run: Any, tmp_path: Path) -> None:
    values = wave(64, 9)
    (tmp_path / "in.csv").write_text(drifted(values))
    infill_file(run, tmp_path / "in.csv", output=tmp_path / "out", read_as=ReadAs(format="signal-csv"))
    filled = np.genfromtxt(tmp_path / "out" / "in.csv", delimiter=",", skip_header=1)
    assert np.abs(filled - values - 40).max() < 3  # all bins end below 10
    with next((tmp_path / "out").glob("*fills.csv")).open() as file:
        assert len(list(csv.DictReader(file))) == 8


def test_a_server_fills_what_drifted_as_the_command_line_does(run: Any, tmp_path: Path) -> None:
    text = drifted(wave(64, 9))
    (tmp_path / "in.csv").write_text(text)
    infill_file(run, tmp_path / "in.csv", output=tmp_path / "out", read_as=ReadAs(format="signal-csv"))
    with client(load(run.path)) as web:
        answer = web.post("/infill", json={"name": "in.csv", "text": text, "format": "signal-csv"}).json()
    assert answer["file"]["text"] == (tmp_path / "out" / "in.csv").read_text()


def test_vectors_and_tasks_see_numbers_beyond_the_bins(run: Any) -> None:
    """Two signals whose ids are all the same, as all is beyond the last bin."""
    far = [Recording(key=str(i), channels=wave(60, 7 + i) + 40, names=("a", "b")) for i in range(2)]
    ids = [run.tokenizer.encode(each).ids for each in far]
    assert (ids[0] == ids[1]).all()
    one, other = (vector for _, vector in run.embed(far))
    assert np.abs(one - other).max() > 1e-3
    config = TaskConfig(kind="binary", data=TaskData(files=("x",)), labels=LabelSource(column="y"))
    examples = list(unlabelled_examples(config, far, run.tokenizer, 64))
    network = task_network(config, run.model, 2)
    seen = []
    network.head.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
    network_outputs(network, examples, (), torch.device("cpu"), torch.float32)
    assert (seen[0][0] - seen[0][1]).abs().max() > 1e-3
    views = (mirror(run),)
    forth, back = (
        next(embed_records(run.model, [("r", encode(run.tokenizer, each))], symmetries=views, context=64))[1]
        for each in (far[0], replace(far[0], channels=far[0].channels[::-1].copy()))
    )
    np.testing.assert_allclose(forth, back, atol=1e-5)


def mirror(run: Any) -> Symmetry[Any]:
    same = tuple(tuple(range(each.mask_id + 1)) for each in run.tokenizer.fields)
    return Symmetry(name="backwards", transform=lambda record: record, id_maps=same, reverse=True)


def test_symmetries_that_it_does_not_average_are_refused(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(run.tokenizer), "symmetries", lambda self: (mirror(run),))
    with pytest.raises(UsageError, match="symmetries"):
        run.predict()
    with pytest.raises(UsageError, match="symmetries"):
        trained(tmp_path)
    assert not (tmp_path / "checkpoints").exists()
    assert isinstance(run.predict(symmetries=False), NumberEncoderPredict)


def test_it_is_an_expert_of_a_blend(tmp_path: Path) -> None:
    blended = trained(tmp_path)
    assert "encoder" in blended.experts.used()
    values, _, cells = masked_window()
    ids = blended.tokenizer.encode(Recording(key="x", channels=values, names=("a", "b"))).ids
    (stated,) = blended.predict_fills().stated([Example(ids, values)], [cells])
    assert np.isfinite(stated.quantiles).all()
    assert stated.quantiles.shape == (len(cells), len(RANKS))


def test_what_cannot_be_is_refused(run: Any, tmp_path: Path) -> None:
    for bad in (1, -1, 10**9):
        with pytest.raises(UsageError, match=r"reference\.bins"):
            EncoderConfig(vocabulary=VOCABULARY, reference=ReferenceConfig(bins=bad), **SHAPE)
    both: dict[str, Any] = {"linear_prior": LinearPriorConfig(distances=(1,)), "reference": ReferenceConfig(bins=8)}
    with pytest.raises(UsageError, match="linear_prior"):
        EncoderConfig(vocabulary=VOCABULARY, **both, **SHAPE)
    with pytest.raises(UsageError, match="next_head"):
        EncoderConfig(vocabulary=VOCABULARY, next_head=True, reference=ReferenceConfig(bins=8), **SHAPE)
    with pytest.raises(UsageError, match="context_sees_target"):
        EncoderConfig(vocabulary=VOCABULARY, context_sees_target=False, reference=ReferenceConfig(bins=8), **SHAPE)
    one = Vocabulary.of([Field(name="a", tokens=tuple(map(str, range(40))), centres=CENTRES)])
    with pytest.raises(UsageError, match="reference"):
        export_hf(Encoder(EncoderConfig(vocabulary=one, reference=ReferenceConfig(bins=8), **SHAPE)), tmp_path / "hf")
    assert not (tmp_path / "hf").exists()
    result = CliRunner().invoke(app, ["export", str(run.path), "--to", "onnx", "--output", str(tmp_path / "m.onnx")])
    assert result.exit_code == 2
    pytest.importorskip("onnxscript")
    with pytest.raises(UsageError, match="reference"):
        export_onnx(run.model, tmp_path / "model.onnx")
    letters = [Field(name="letter", tokens=tuple("abc"))]
    with pytest.raises(UsageError, match="letter"):
        load_recipe(RECIPE).check_fields(letters)
