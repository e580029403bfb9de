"""Quantization of signals: the contract on real recordings, errors in physical units, and where values end up."""

import json
import tomllib
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from maskseq.errors import DataError, UsageError
from maskseq.testing import check_tokenizer
from maskseq_signals.bins import mulaw_bins, quantile_bins, uniform_bins
from maskseq_signals.delimited import SignalCsv
from maskseq_signals.fit import MAX_STEPS
from maskseq_signals.recording import Recording
from maskseq_signals.tokenizer import QuantizeTokenizer

SCHEMES = ("uniform", "quantile", "mulaw", "level")
pytestmark = pytest.mark.filterwarnings("ignore:channel .* quantile bins instead of")
numbers = st.floats(-1e9, 1e9)


def recording(*columns, key="r", **more):
    names = tuple("abcdefg"[: len(columns)])
    return Recording(key=key, channels=np.array(columns, dtype=float).T, names=names, **more)


@cache
def temperatures(shared_data):
    (ett,) = SignalCsv().read(shared_data / "signals" / "ETTh1.csv")
    return ett


def whole(tokenizer, length):
    return np.ones((length, len(tokenizer.fields)), dtype=bool)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_contract_on_weekly_co2(scheme, samples):
    (co2,) = SignalCsv().read(samples / "co2.csv")
    tokenizer = QuantizeTokenizer.fit([co2], scheme=scheme)
    report = check_tokenizer(tokenizer, [co2])
    assert set(report.skipped) == {"symmetries", "variants", "augmentations"}
    assert set(report.round_trip.values()) == {1.0}
    unknown = np.isnan(co2.channels[:, 0])
    assert unknown.sum() == 59
    assert np.array_equal(~tokenizer.vocabulary.known(tokenizer.encode(co2).ids).any(axis=1), unknown)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_contract_on_transformer_temperatures(scheme, shared_data):
    some = temperatures(shared_data).cut(0, 2000)
    holed = replace(some, channels=np.where(np.random.default_rng(1).random((2000, 7)) < 0.1, np.nan, some.channels))
    report = check_tokenizer(QuantizeTokenizer.fit([some], scheme=scheme), [some, holed])
    assert set(report.skipped) == {"symmetries", "variants", "augmentations"}
    assert set(report.round_trip.values()) == {1.0}


def test_uniform_error_is_at_most_half_a_bin(shared_data):
    ett = temperatures(shared_data)
    tokenizer = QuantizeTokenizer.fit([ett], scheme="uniform", bins=100)
    ids = tokenizer.encode(ett).ids
    half = (ett.channels.max(axis=0) - ett.channels.min(axis=0)) / 100 / 2
    assert (np.abs(tokenizer.decode(ids).channels - ett.channels) <= half * (1 + 1e-9)).all()
    filled = tokenizer.splice(ett, ids, whole(tokenizer, len(ett)))
    assert (np.abs(filled.channels - ett.channels) <= half * 1.1).all()  # rounded to a tenth of a bin
    assert (tokenizer.encode(filled).ids == ids).all()


@given(st.lists(numbers, min_size=2, max_size=50), st.integers(2, 300))
@example(values=[0.0, 2.225073858507e-311], n_bins=39)
def test_uniform_bound_holds_for_any_numbers(values, n_bins):
    values = np.array(values)
    bins = uniform_bins(values.min(), values.max(), n_bins)
    half = (values.max() - values.min()) / len(bins.centres) / 2
    slack = 8 * np.spacing(np.abs(values).max()) + n_bins * np.spacing(half)  # the latter counts among subnormals only
    assert (np.abs(bins.values(bins.ids(values)) - values) <= half + slack).all()


@given(st.lists(numbers, min_size=2, max_size=50), st.integers(2, 10), st.integers(2, 50))
def test_level_and_residual_are_as_exact_as_that_many_uniform_bins(values, levels, n_bins):
    record = recording(values)
    tokenizer = QuantizeTokenizer.fit([record], scheme="level", levels=levels, bins=n_bins)
    back = tokenizer.decode(tokenizer.encode(record).ids).channels
    (channel,) = tokenizer.channels
    n = len(channel.levels.centres) * len(channel.bins.centres)
    half = (max(values) - min(values)) / n / 2
    slack = 32 * np.spacing(max(map(abs, values))) + n * np.spacing(half)
    assert (np.abs(back - record.channels) <= half + slack).all()


@given(st.lists(numbers, min_size=1, max_size=60), st.integers(2, 20))
def test_quantile_centres_are_the_means_of_their_bins(values, n_bins):
    values = np.array(values)
    bins = quantile_bins(values, n_bins)
    ids = bins.ids(values)
    assert set(ids) == set(range(len(bins.centres)))
    for index, centre in enumerate(bins.centres):
        assert centre == pytest.approx(values[ids == index].mean(), rel=1e-9, abs=1e-6)


def test_quantile_bins_are_equally_full_without_ties():
    values = np.random.default_rng(0).lognormal(size=10_000)
    bins = quantile_bins(values, 40)
    assert (np.bincount(bins.ids(values)) == 250).all()


def test_tied_quantile_edges_are_merged_with_a_warning():
    record = recording([0.0] * 90 + list(range(1, 11)))
    with pytest.warns(UserWarning, match=r"channel 'a': \d+.*: quantile bins instead of 10"):
        tokenizer = QuantizeTokenizer.fit([record], scheme="quantile", bins=10)
    ids = tokenizer.encode(record).ids[:, 0]
    assert len(set(ids[:90])) == 1
    assert tokenizer.fields[0].centres[0] == 0.0


def test_mulaw_bins_are_uniform_after_companding():
    """Against the formula: sign(u) ln(1 + μ|u|) / ln(1 + μ)."""
    bins = mulaw_bins(3.0, 50.0, 16, 255.0)
    u = (np.array(bins.edges) - 3.0) / 50.0
    companded = np.sign(u) * np.log(1 + 255 * np.abs(u)) / np.log(256)
    np.testing.assert_allclose(companded, np.linspace(-1, 1, 17)[1:-1], atol=1e-12)


def test_detail_on_a_large_offset_survives():
    """1000 ± 1 in one recording, 0 ± 1 in another: 256 bins of one field see nothing of it, level and residual do."""
    wave = np.sin(np.arange(500) / 9)
    records = [recording(1000 + wave, key="high"), recording(wave, key="low")]
    flat = QuantizeTokenizer.fit(records, scheme="uniform")
    fine = QuantizeTokenizer.fit(records, scheme="level")
    for record in records:
        assert len(np.unique(flat.encode(record).ids)) <= 2
        error = fine.decode(fine.encode(record).ids).channels - record.channels
        assert np.abs(error).max() <= 1002 / 32 / 256 / 2 * (1 + 1e-9)
        assert np.corrcoef(record.channels[:, 0], record.channels[:, 0] + error[:, 0])[0, 1] > 0.995


def test_both_fields_of_a_level_are_one_source_and_unit():
    tokenizer = QuantizeTokenizer.fit([recording(np.arange(100.0), np.arange(100.0))], scheme="level")
    assert [field.source for field in tokenizer.fields] == ["a", "a", "b", "b"]
    assert [field.name for field in tokenizer.fields] == ["a level", "a residual", "b level", "b residual"]
    ids = tokenizer.encode(recording(np.arange(10.0), np.arange(10.0))).ids
    units = tokenizer.units(ids)
    assert (units[:, 0] == units[:, 1]).all()


@pytest.mark.parametrize("scheme", ["uniform", "level"])
def test_numbers_are_what_was_rounded(scheme):
    """Those of a channel's fields add up to the sample as the file has it, and lie in their bins."""
    values = np.array([0.1, 0.234, np.nan, 7.77, 9.9])
    tokenizer = QuantizeTokenizer.fit([recording(values, values**2)], scheme=scheme, bins=8, levels=4)
    numbers = tokenizer.numbers(recording(values, values**2))
    n = len(tokenizer.fields) // 2
    np.testing.assert_allclose(numbers[:, :n].sum(axis=1), values)
    np.testing.assert_allclose(numbers[:, n:].sum(axis=1), values**2)
    ids = tokenizer.encode(recording(values, values**2)).ids
    centres = np.stack(
        [np.append(f.centres, np.nan)[column] for f, column in zip(tokenizer.fields, ids.T, strict=True)]
    )
    widths = np.array([np.diff(f.centres).max() for f in tokenizer.fields])
    assert (np.abs(numbers - centres.T)[~np.isnan(numbers[:, 0])] <= widths / 2 + 1e-9).all()


def test_scale_does_not_depend_on_what_is_hidden_or_cut():
    record = recording(np.random.default_rng(0).normal(size=400))
    tokenizer = QuantizeTokenizer.fit([record])
    ids = tokenizer.encode(record).ids
    holes = replace(record, channels=np.where(np.arange(400)[:, None] % 3 == 0, np.nan, record.channels))
    known = np.arange(400) % 3 > 0
    assert (tokenizer.encode(holes).ids[known] == ids[known]).all()
    assert (tokenizer.encode(record.cut(100, 130)).ids == ids[100:130]).all()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_values_outside_the_training_range_are_clipped_and_counted(scheme):
    tokenizer = QuantizeTokenizer.fit([recording(np.linspace(-5, 5, 300))], scheme=scheme, bins=16)
    strange = recording([-1e6, -5.1, -5.0, 0.0, 5.0, 5.1, 1e6, np.nan])
    ids = tokenizer.encode(strange).ids
    loss = tokenizer.losses(strange, ids)["a"]
    assert (loss.values, loss.clipped) == (7, 4)
    assert loss.largest >= 1e6 - 5
    assert (ids[0] == ids[2]).all()
    assert (ids[6] == ids[4]).all()
    decoded = tokenizer.decode(ids).channels[:, 0]
    assert decoded[:-1].min() >= -5.0001
    assert decoded[:-1].max() <= 5.0001
    assert np.isnan(decoded[-1])


def test_filled_values_have_the_digits_of_their_channel():
    record = recording([316.1, 320.4, np.nan, 371.5], [3.0, 700.0, np.nan, 12.0], decimals=(1, 0))
    tokenizer = QuantizeTokenizer.fit([record], scheme="uniform")
    holes = np.isnan(record.channels)
    ids = tokenizer.encode(record).ids
    ids[2] = (100, 200)
    filled = tokenizer.splice(record, ids, holes).channels
    exact = tokenizer.decode(ids).channels
    assert filled[2, 0] == round(exact[2, 0], 1)
    assert filled[2, 1] == round(exact[2, 1])
    assert np.array_equal(filled[~holes], record.channels[~holes])


def test_digits_suffice_to_tell_bins_apart_and_no_more():
    record = recording(np.linspace(0, 1000, 1001))
    for scheme in SCHEMES:
        tokenizer = QuantizeTokenizer.fit([record], scheme=scheme, bins=37)
        ids = np.stack([np.arange(37)] * len(tokenizer.fields), axis=1)
        ids = ids[: min(field.n_tokens for field in tokenizer.fields)]
        longer = recording(np.zeros(len(ids)))
        filled = tokenizer.splice(longer, ids, whole(tokenizer, len(ids)))
        assert (tokenizer.encode(filled).ids == ids).all()
        assert max(len(repr(value).partition(".")[2]) for value in filled.channels[:, 0].tolist()) <= 3


def test_a_hole_that_was_not_filled_stays_unknown():
    record = recording([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
    tokenizer = QuantizeTokenizer.fit([record], scheme="level", bins=4, levels=2)
    ids = tokenizer.encode(record).ids
    ids[1, 0] = tokenizer.fields[0].mask_id
    holes = np.zeros(ids.shape, dtype=bool)
    holes[1, :2] = True
    filled = tokenizer.splice(record, ids, holes).channels
    assert np.isnan(filled[1, 0])
    assert np.array_equal(np.delete(filled.ravel(), 2), np.delete(record.channels.ravel(), 2))


def test_channels_are_found_by_name():
    record = recording([1.0, 2.0, 3.0], [10.0, 20.0, 30.0])
    tokenizer = QuantizeTokenizer.fit([record], scheme="uniform", bins=3, channels=["b"])
    swapped = Recording(key="s", channels=record.channels[:, ::-1], names=("b", "a"))
    assert tokenizer.encode(record).ids[:, 0].tolist() == [0, 1, 2]
    assert (tokenizer.encode(swapped).ids == tokenizer.encode(record).ids).all()
    filled = tokenizer.splice(swapped, np.array([[2], [2], [2]]), np.array([[True], [False], [False]]))
    assert filled.channels[0, 0] == pytest.approx(tokenizer.fields[0].centres[2], abs=1)
    assert np.array_equal(filled.channels[:, 1], swapped.channels[:, 1])


@pytest.mark.parametrize(
    ("change", "reported"),
    [
        ({"names": ("x",)}, r"has no channel 'a'; it has x"),
        ({"units": ("uV",)}, r"channel 'a' is in uV, but the tokenizer knows it in mV"),
        ({"rate": 125.0}, r"has 125 samples a second, but the tokenizer was fitted on 360"),
    ],
)
def test_other_channels_units_and_rates_are_refused(change, reported):
    record = recording([1.0, 2.0], units=("mV",), rate=360.0)
    tokenizer = QuantizeTokenizer.fit([record])
    with pytest.raises(DataError, match=reported):
        tokenizer.encode(replace(record, **change))


def test_an_infinite_value_is_refused_with_its_place():
    with pytest.raises(DataError, match="r: step 2, channel 'a': the value is infinite"):
        recording([1.0, np.inf])


@pytest.mark.parametrize(
    ("options", "reported"),
    [
        ({"scheme": "kmeans"}, "option scheme: Input should be 'uniform', 'quantile', 'mulaw' or 'level'"),
        ({"bin": 3}, r"option bin: .*\(options: scheme, bins"),
        ({"bins": 1}, "bins and levels must be at least 2"),
        ({"channels": ["z"]}, "has no channel 'z'"),
        ({"channels": ["b"]}, "channel 'b' has no known value"),
    ],
)
def test_wrong_options_are_told(options, reported):
    with pytest.raises((UsageError, DataError), match=reported):
        QuantizeTokenizer.fit([recording([1.0, 2.0], [np.nan, np.nan])], **options)
    with pytest.raises(UsageError, match="no training recordings"):
        QuantizeTokenizer.fit([])


def test_constant_channels_have_one_bin():
    record = recording([7.25] * 10)
    for scheme in SCHEMES:
        tokenizer = QuantizeTokenizer.fit([record], scheme=scheme)
        assert (tokenizer.decode(tokenizer.encode(record).ids).channels == 7.25).all()


def test_long_recordings_are_fitted_on_a_fair_sample():
    """Of many records as of one long: the same number of steps is drawn, periods do not alias, the range is exact."""
    n = 3 * MAX_STEPS
    values = np.arange(n) % 24 + np.random.default_rng(0).random(n)
    values[[5, -5]] = (-100, 100)
    one = QuantizeTokenizer.fit([recording(values)], bins=24)
    many = QuantizeTokenizer.fit([recording(part) for part in np.split(values, 48)], bins=24)
    assert one == many
    assert (one.channels[0].low, one.channels[0].high) == (-100, 100)
    counts = np.bincount(one.encode(recording(values)).ids[:, 0], minlength=24)
    assert np.abs(counts / (n / 24) - 1).max() < 0.05


def test_round_trip_errors_are_those_of_the_decoded_values_in_the_unit_of_the_channel():
    values = np.random.default_rng(0).normal(80, 4, 5000)
    values[::7] = np.nan
    record = recording(values)
    tokenizer = QuantizeTokenizer.fit([record], scheme="uniform", bins=64)
    ids = tokenizer.encode(record).ids
    error = np.abs(tokenizer.decode(ids).channels[:, 0] - values)
    halves = [tokenizer.losses(record.cut(a, b), ids[a:b])["a"] for a, b in ((0, 1234), (1234, 5000))]
    total = halves[0] + halves[1]
    assert total.values == np.count_nonzero(~np.isnan(values))
    assert total.clipped == 0
    np.testing.assert_allclose(total.absolute / total.values, np.nanmean(error))
    np.testing.assert_allclose((total.squared / total.values) ** 0.5, np.sqrt(np.nanmean(error**2)))
    assert total.largest == np.nanmax(error)
    width = (np.nanmax(values) - np.nanmin(values)) / 64
    assert total.largest <= width / 2 * 1.0001
    np.testing.assert_allclose((total.squared / total.values) ** 0.5, width / 12**0.5, rtol=0.05)  # uniform noise


def test_state_is_plain_json():
    tokenizer = QuantizeTokenizer.fit([recording([1.0, 2.0, 5.0])], scheme="level", bins=4, levels=2)
    assert QuantizeTokenizer.from_state(json.loads(json.dumps(tokenizer.state()))) == tokenizer


def test_the_co2_recipe_fits_what_ships(samples):
    table = tomllib.loads((samples.parent / "co2.toml").read_text())
    options = {name: value for name, value in table["tokenizer"].items() if name != "name"}
    tokenizer = QuantizeTokenizer.fit(SignalCsv().read(samples / "co2.csv"), **options)
    assert tokenizer.describe() == {"co2": "512 bins, 313.059 to 373.841"}
