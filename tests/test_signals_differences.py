"""Differences with a level: what a sample changes by, without losing where it is."""

import json
from dataclasses import replace

import numpy as np
import pytest

from maskseq.errors import UsageError
from maskseq.testing import check_tokenizer
from maskseq.types import ABSENT, MASK
from maskseq_signals.differences import DifferenceTokenizer
from maskseq_signals.recording import Recording


def recording(length, key="r", seed=0, holes=0.1):
    rng = np.random.default_rng((seed, length))
    values = 1000 + np.cumsum(rng.normal(size=(length, 2)), axis=0) * [1, 0.01]
    values[rng.random(values.shape) < holes] = np.nan
    return Recording(key=key, channels=values, names=("a", "b"), units=("mV", "hPa"))


RECORDS = [recording(length, f"r{length}") for length in (2, 3, 30, 200)]


@pytest.fixture(scope="module")
def tokenizer():
    return DifferenceTokenizer.fit(RECORDS, bins=32, levels=8)


def test_the_contract_of_tokenizers_is_kept(tokenizer):
    report = check_tokenizer(tokenizer, RECORDS)
    assert {"no leak", "splice", "units"} <= set(report.checked)
    assert DifferenceTokenizer.from_state(json.loads(json.dumps(tokenizer.state()))) == tokenizer


def test_ids_say_the_step_and_the_level(tokenizer):
    record = recording(40, seed=3)
    ids = tokenizer.encode(record).ids
    for channel in range(2):
        level, step = tokenizer.fields[2 * channel : 2 * channel + 2]
        x = record.channels[:, channel]
        for t in range(40):
            assert (level.token(ids[t, 2 * channel]) == MASK) == np.isnan(x[t])
            token = step.token(ids[t, 2 * channel + 1])
            if t == 0:
                assert token == ABSENT
            elif np.isnan(x[t]) or np.isnan(x[t - 1]):
                assert token == MASK
            else:
                edges = (-np.inf, *tokenizer.channels[channel].differences.edges, np.inf)
                bin_of = int(ids[t, 2 * channel + 1])
                assert edges[bin_of] <= x[t] - x[t - 1] < edges[bin_of + 1]


def test_decoding_stays_within_the_level_and_keeps_detail_that_levels_lose(tokenizer):
    record = recording(200, seed=1, holes=0)
    ids = tokenizer.encode(record).ids
    decoded = tokenizer.decode(ids).channels
    np.testing.assert_array_equal(
        tokenizer.encode(Recording(key="d", channels=decoded, names=("a", "b"), units=("mV", "hPa"))).ids[:, ::2],
        ids[:, ::2],
    )
    steps = np.abs(np.diff(decoded, axis=0) - np.diff(record.channels, axis=0))
    widths = [np.diff(channel.levels.centres)[0] for channel in tokenizer.channels]
    assert (np.median(steps, axis=0) < np.array(widths) / 10).all()


def test_a_gap_is_filled_from_both_sides_and_nothing_else_changes(tokenizer):
    record = recording(200, seed=1, holes=0)
    ids = tokenizer.encode(record).ids
    masked = record.channels.copy()
    masked[50:60, 0] = masked[0:3, 1] = masked[190:, 1] = np.nan
    gaps = replace(record, channels=masked)
    holes = tokenizer.encode(gaps).ids != ids
    filled = tokenizer.splice(gaps, ids, holes).channels
    known = ~np.isnan(masked)
    np.testing.assert_array_equal(filled[known], record.channels[known])
    for channel, rows in ((0, slice(50, 60)), (1, slice(0, 3)), (1, slice(190, 200))):
        width = np.diff(tokenizer.channels[channel].levels.centres)[0]
        assert (np.abs(filled[rows, channel] - record.channels[rows, channel]) <= width).all()
    linear = np.interp(np.arange(50, 60), [49, 60], record.channels[[49, 60], 0])
    error = np.abs(filled[50:60, 0] - record.channels[50:60, 0])
    assert error.mean() < np.abs(linear - record.channels[50:60, 0]).mean()


def test_what_differences_lose_is_reported(tokenizer):
    record = recording(200, seed=1, holes=0)
    ids = tokenizer.encode(record).ids
    loss = tokenizer.losses(record, ids)["b"]
    centres = np.array(tokenizer.channels[1].differences.centres)
    error = np.abs(np.diff(record.channels[:, 1]) - centres[ids[1:, 3]])
    assert (loss.unit, loss.values, loss.largest) == ("hPa", 199, error.max())


def test_wrong_options_are_named():
    with pytest.raises(UsageError, match="no option 'bin'"):
        DifferenceTokenizer.fit(RECORDS, bin=3)
    with pytest.raises(UsageError, match="2 or more"):
        DifferenceTokenizer.fit(RECORDS, bins=1)
    with pytest.raises(UsageError, match="no training recordings"):
        DifferenceTokenizer.fit([])
    empty = Recording(key="e", channels=np.array([[1.0], [np.nan], [2.0]]), names=("a",))
    with pytest.raises(UsageError, match="channel 'a' has no two known values in a row"):
        DifferenceTokenizer.fit([empty])
