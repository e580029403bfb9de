"""What covariances say of hidden numbers: as conditioning says it, as formulas do, piece by piece, and no more."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

sys.path.insert(0, str(Path(__file__).parent))

from maskseq.errors import UsageError
from maskseq.interop.convert import export_onnx
from maskseq.model.config import EncoderConfig
from maskseq.model.encoder import Encoder
from maskseq.model.priors import linear_prior
from maskseq.model.priors.config import LinearPriorConfig, OrdinalBasisConfig
from maskseq.model.priors.linear_prior import Covariances, numbers, offsets
from maskseq.model.states import States
from maskseq.predict.encoder import EncoderPredict
from maskseq.predict.protocol import Example
from maskseq.types import Field, Vocabulary

CENTRES = tuple(np.linspace(-3, 3, 61).tolist())
VOCABULARY = Vocabulary.of(
    [
        Field(name="level", tokens=tuple(map(str, range(61))), centres=CENTRES),
        Field(name="letter", tokens=tuple("abc")),
        Field(name="other", tokens=tuple(map(str, range(61))), centres=CENTRES),
    ]
)
MASK = VOCABULARY.mask_ids[0]
SHAPE = {"n_layers": 1, "hidden_size": 16, "n_heads": 2, "intermediate_size": 8}
DISTANCES = (1, 3)
PRIORS = {
    "linear_prior": LinearPriorConfig(distances=DISTANCES),
    "ordinal_basis": OrdinalBasisConfig(cosines=4),
}


def two_channels(n: int, seed: int = 0) -> np.ndarray:
    """A smooth channel and one that follows it, with noise, as ids of `VOCABULARY`."""
    rng = np.random.default_rng(seed)
    smooth = np.convolve(rng.normal(size=n + 8), np.ones(9) / 3, mode="valid")
    both = np.stack([smooth, 0.8 * smooth + 0.3 * rng.normal(size=n)], axis=1)
    bins = np.abs(both[:, :, None] - np.array(CENTRES)).argmin(axis=2)
    return np.insert(bins, 1, rng.integers(3, size=n), axis=1)


def conditioned(counted: Covariances, z: np.ndarray, known: np.ndarray, position: int, channel: int) -> list[float]:
    """Mean and variance of one number, by conditioning the joint distribution of its neighbourhood."""
    n_fields = z.shape[1]
    sigma = counted.covariance.double().numpy() + linear_prior.LEAST_VARIANCE * np.eye(len(counted.covariance))
    places = [(offset, field) for offset in counted.offsets for field in range(n_fields)]
    here = places.index((0, channel))
    seen = [
        i
        for i, (offset, field) in enumerate(places)
        if 0 <= position + offset < len(z) and known[position + offset, field]
    ]
    data = [z[position + places[i][0], places[i][1]] for i in seen]
    gain = np.linalg.solve(sigma[np.ix_(seen, seen)], sigma[seen, here]) if seen else np.zeros(0)
    own = counted.covariance[here, here].item()
    return [float(gain @ data) if seen else 0.0, float(own - gain @ sigma[seen, here]) if seen else own]


COUNTED = Covariances.count([two_channels(2_000)], VOCABULARY, offsets(DISTANCES))


@given(st.lists(st.tuples(st.integers(1, 9), st.floats(0, 1), st.integers(0, 99)), min_size=1, max_size=4))
@settings(max_examples=40, deadline=None)
def test_pieces_of_a_row_are_conditioned_each_alone(segments: list[tuple[int, float, int]]) -> None:
    texts = [numbers(two_channels(length, seed), VOCABULARY) for length, _, seed in segments]
    knowns = [np.random.default_rng(seed).random((length, 2)) < share for length, share, seed in segments]
    values, known = torch.tensor(np.concatenate(texts)).float(), torch.tensor(np.concatenate(knowns))
    positions = torch.cat([torch.arange(len(text)) for text in texts])
    found = COUNTED.predict(values, known, positions, ~known).numpy()
    first = 0
    for text, seen in zip(texts, knowns, strict=True):
        z = (text - COUNTED.mean.numpy()) / COUNTED.std.numpy()
        for position, channel in np.ndindex(*text.shape):
            expected = [0.0, 1.0] if seen[position, channel] else conditioned(COUNTED, z, seen, position, channel)
            np.testing.assert_allclose(found[first + position, channel], expected, atol=2e-4, rtol=1e-3)
        first += len(text)


def test_gaps_of_a_piece_are_filled_in_its_units_and_the_rest_is_kept() -> None:
    values = numbers(two_channels(40, 4), VOCABULARY)
    gaps = np.random.default_rng(1).random(values.shape) < 0.4
    filled = COUNTED.fill(np.where(gaps, np.nan, values))
    np.testing.assert_array_equal(filled[~gaps], values[~gaps])
    mean, std = COUNTED.mean.double().numpy(), COUNTED.std.double().numpy()
    for position, channel in np.argwhere(gaps).tolist():
        expected = conditioned(COUNTED, (values - mean) / std, ~gaps, position, channel)[0]
        assert filled[position, channel] == pytest.approx(expected * std[channel] + mean[channel], abs=2e-3)
    assert np.abs(filled - values)[gaps].mean() < 0.5 * np.abs(values)[gaps].mean()


def test_many_positions_are_solved_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = two_channels(50, 3)
    values = torch.tensor(numbers(ids, VOCABULARY)).float()
    known = torch.tensor(np.random.default_rng(0).random(values.shape) < 0.5)
    at_once = COUNTED.predict(values, known, torch.arange(50), ~known)
    monkeypatch.setattr(linear_prior, "SOLVED", 7 * len(COUNTED.covariance) ** 2)
    torch.testing.assert_close(COUNTED.predict(values, known, torch.arange(50), ~known), at_once)


def test_an_autoregression_is_interpolated_as_its_formula_says() -> None:
    rho = 0.9  # E[x₀ | x₋₁, x₁] = ρ/(1 + ρ²)·(x₋₁ + x₁), variance (1 − ρ²)/(1 + ρ²); of x₋₁ alone ρ·x₋₁ and 1 − ρ²
    steps = np.array(offsets((1,)))
    covariance = torch.tensor(rho ** np.abs(steps[:, None] - steps)).float()
    exact = Covariances((-1, 0, 1), torch.tensor([5.0]), torch.tensor([2.0]), covariance)
    values = torch.tensor([[6.0], [0.0], [9.0], [0.0], [0.0]])
    known = torch.tensor([[True], [False], [True], [False], [False]])
    mean, variance = exact.predict(values, known, torch.arange(5), ~known)[:, 0].unbind(-1)
    assert mean[1] == pytest.approx(rho / (1 + rho**2) * (0.5 + 2.0), abs=1e-4)
    assert variance[1] == pytest.approx((1 - rho**2) / (1 + rho**2), abs=1e-4)
    assert mean[3] == pytest.approx(rho * 2.0, abs=1e-4)
    assert variance[3] == pytest.approx(1 - rho**2, abs=1e-4)
    assert [mean[4].item(), variance[4].item()] == pytest.approx([0, 1], abs=1e-6)


def test_covariances_are_those_of_whole_neighbourhoods() -> None:
    ids = two_channels(3_000, 1)
    ids[100, 0] = ids[2_000, 2] = MASK  # unknown: neighbourhoods with them do not count
    found = Covariances.count([ids[:1_000], ids[1_000:]], VOCABULARY, offsets(DISTANCES))
    z = (numbers(ids, VOCABULARY) - found.mean.numpy()) / found.std.numpy()
    rows = [
        np.concatenate([z[i + offset] for offset in found.offsets])
        for part in (range(3, 997), range(1_003, 2_997))
        for i in part
    ]
    whole = np.array([row for row in rows if not np.isnan(row).any()])
    assert len(whole) < len(rows)
    np.testing.assert_allclose(found.covariance.numpy(), whole.T @ whole / len(whole), atol=1e-5)
    np.testing.assert_allclose(found.mean.numpy(), np.nanmean(numbers(ids, VOCABULARY), axis=0), atol=1e-6)


def test_with_few_whole_neighbourhoods_each_pair_counts_where_both_are_known() -> None:
    ids = two_channels(60, 1)
    ids[::3, 0] = MASK
    found = Covariances.count([ids], VOCABULARY, (-1, 0, 1))
    z = (numbers(ids, VOCABULARY) - found.mean.numpy()) / found.std.numpy()
    padded = np.pad(z, ((1, 1), (0, 0)), constant_values=np.nan)
    around = np.concatenate([padded[:-2], padded[1:-1], padded[2:]], axis=1)
    pairs = np.nanmean(around[:, :, None] * around[:, None, :], axis=0)
    eigenvalues, vectors = np.linalg.eigh(pairs)
    expected = vectors @ np.diag(np.maximum(eigenvalues, 0)) @ vectors.T
    np.testing.assert_allclose(found.covariance.numpy(), expected, atol=1e-5)


def test_nothing_to_count_and_constant_channels_are_no_trouble() -> None:
    constant = two_channels(200)
    constant[:, 2] = 7
    for sequences in ([], [two_channels(1)], [constant]):
        counted = Covariances.count(sequences, VOCABULARY, offsets((1, 2)))
        values = torch.tensor(numbers(constant[:5], VOCABULARY)).float()
        known = torch.tensor([[False, True]] * 2 + [[True, False]] * 3)
        found = counted.predict(values, known, torch.arange(5), ~known)
        assert torch.isfinite(found).all()
        assert (found[..., 1] > 0).all()


def test_equal_channels_that_hardly_move_can_be_solved() -> None:
    """Hundreds of numbers that are nearly the same: the hardest matrix there is."""
    smooth = np.sin(np.arange(6_000) / 500)
    bins = np.abs(smooth[:, None] * 3 - np.array(CENTRES)).argmin(axis=1)
    ids = np.stack([bins, np.zeros_like(bins), bins], axis=1)
    counted = Covariances.count([ids], VOCABULARY, offsets(range(1, 128)))
    assert len(counted.covariance) == 510
    values = torch.tensor(numbers(ids[1_000:1_400], VOCABULARY)).float()
    masked = torch.zeros(values.shape, dtype=torch.bool)
    masked[::40] = True
    mean, variance = counted.predict(values, ~masked, torch.arange(400), masked).unbind(-1)
    error = (mean * counted.std + counted.mean - values)[masked]
    assert error.abs().max() < 0.15  # a bin and a half
    assert (variance[masked] < 0.01).all()


def test_an_untrained_encoder_answers_with_the_predicted_normal_distribution() -> None:
    model = Encoder(EncoderConfig(vocabulary=VOCABULARY, decoder_bias=False, **PRIORS, **SHAPE), seed=0)
    model.embeddings.count([two_channels(2_000)])
    with torch.no_grad():
        model.head.dense.weight.zero_()
        linear = model.embeddings.priors["linear_prior"]
        linear.trust.weight.zero_()
    seen = two_channels(12, 5)
    seen[4:6, 0] = MASK
    seen[5, 2] = MASK
    cells = np.array([[4, 0], [5, 0], [5, 2], [0, 1]])
    found = EncoderPredict(model)([Example(seen)], [cells])[0]
    z = (numbers(seen, VOCABULARY) - COUNTED.mean.numpy()) / COUNTED.std.numpy()
    for row, (position, channel) in enumerate([(4, 0), (5, 0), (5, 1)]):
        mean, variance = conditioned(COUNTED, z, ~np.isnan(z), position, channel)
        centres = (np.array(CENTRES) - COUNTED.mean[channel].item()) / COUNTED.std[channel].item()
        density = norm.pdf(centres, mean, np.sqrt(variance))
        probabilities = np.exp(found[row, :61])
        assert probabilities.sum() > 0.9  # what is left is of ids that are no numbers
        np.testing.assert_allclose(probabilities / probabilities.sum(), density / density.sum(), atol=2e-4)
    assert np.exp(found[3, :3]).sum() == pytest.approx(1, abs=1e-5)


def test_only_hidden_numbers_are_embedded_and_as_far_as_they_are_explained() -> None:
    model = Encoder(EncoderConfig(vocabulary=VOCABULARY, embedding_norm=False, **PRIORS, **SHAPE), seed=0)
    model.embeddings.count([two_channels(2_000)])
    linear = model.embeddings.priors["linear_prior"]
    ids = torch.tensor(two_channels(6, 2))
    ids[2, 0] = MASK
    added = linear.embeddings_of(linear.predict(ids, torch.arange(6)))
    assert (added[[0, 1, 3, 4, 5]] == 0).all()
    alone = torch.full_like(ids[:1], MASK)  # nothing is known
    nothing = linear.embeddings_of(linear.predict(alone, torch.arange(1)))
    assert nothing.norm() < 0.01 * added[2].norm()
    # A number that is all but explained has nearly the embedding of its bin.
    certain = torch.tensor([[[0.0, 1e-6], [0.0, 1.0]]])
    certain[0, 0, 0] = (CENTRES[20] - linear.mean[0]) / linear.std[0]
    bin_20 = torch.as_tensor(linear_prior.weights(CENTRES, 4))[20] @ linear.embeddings[0].weight
    torch.testing.assert_close(linear.embeddings_of(certain)[0], bin_20, atol=1e-5, rtol=1e-4)


def test_what_cannot_be_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="context_sees_target must be true"):
        EncoderConfig(vocabulary=VOCABULARY, context_sees_target=False, **PRIORS, **SHAPE)
    for bad in ((0,), (-1,), (2, 2)):
        with pytest.raises(UsageError, match="must be distances from 1 on, each of them once"):
            EncoderConfig(vocabulary=VOCABULARY, linear_prior=LinearPriorConfig(distances=bad), **SHAPE)
    with pytest.raises(UsageError, match="covariances of 602 numbers, of which at most 512 are possible"):
        EncoderConfig(vocabulary=VOCABULARY, linear_prior=LinearPriorConfig(distances=tuple(range(1, 151))), **SHAPE)
    model = Encoder(EncoderConfig(vocabulary=VOCABULARY, linear_prior=LinearPriorConfig(distances=(1,)), **SHAPE))
    with pytest.raises(KeyError, match="linear_prior"):
        model.logits(States(torch.zeros(1, 16)), 0)
    pytest.importorskip("onnxscript")
    with pytest.raises(UsageError, match="linear_prior"):
        export_onnx(model, tmp_path / "model.onnx")
