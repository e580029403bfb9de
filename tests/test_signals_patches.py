"""Patches: the same cells as `quantize` makes, several time steps a position."""

import json
from dataclasses import replace

import numpy as np
import pytest

from maskseq.errors import UsageError
from maskseq.masking.config import MaskingConfig
from maskseq.masking.plan import mask_segment
from maskseq.testing import check_tokenizer
from maskseq.types import ABSENT
from maskseq_signals.patches import PatchTokenizer
from maskseq_signals.recording import Recording
from maskseq_signals.tokenizer import QuantizeTokenizer


def recording(length, key="r", seed=0, holes=0.1):
    rng = np.random.default_rng((seed, length))
    values = np.cumsum(rng.normal(size=(length, 2)), axis=0) + np.array([0, 1000])
    values[rng.random(values.shape) < holes] = np.nan
    return Recording(key=key, channels=values, names=("a", "b"), units=("mV", "hPa"), rate=250.0)


RECORDS = [recording(length, f"r{length}") for length in (1, 5, 8, 16, 30, 31)]


@pytest.mark.parametrize("scheme", ["quantile", "level"])
@pytest.mark.parametrize("patch", [2, 5])
def test_the_contract_of_tokenizers_is_kept(scheme, patch):
    tokenizer = PatchTokenizer.fit(RECORDS, patch=patch, scheme=scheme, bins=8, levels=4)
    report = check_tokenizer(tokenizer, RECORDS)
    assert {"no leak", "splice", "units"} <= set(report.checked)
    assert PatchTokenizer.from_state(json.loads(json.dumps(tokenizer.state()))) == tokenizer


@pytest.mark.parametrize("length", [8, 30, 31])
def test_cells_are_those_of_single_steps_folded(length):
    record = recording(length)
    steps = QuantizeTokenizer.fit(RECORDS, bins=16)
    patches = PatchTokenizer(patch=4, steps=steps)
    flat, encoded = steps.encode(record).ids, patches.encode(record)
    assert len(encoded) == -(-length // 4)
    for position, fields in enumerate(encoded.ids):
        for column, (token, field) in enumerate(zip(fields, patches.fields, strict=True)):
            step, channel = position * 4 + column // 2, column % 2
            expected = steps.fields[channel].token(flat[step, channel]) if step < length else ABSENT
            assert field.token(token) == expected
            assert (field.source, field.name) == ("ab"[channel], f"{'ab'[channel]} +{column // 2}")
            scored = 1 if encoded.weights is None else encoded.weights[position, column]
            assert scored == (step < length)
    np.testing.assert_array_equal(patches.decode(encoded.ids).channels, steps.decode(flat).channels)
    assert patches.losses(record, encoded.ids) == steps.losses(record, flat)


def test_a_hidden_step_is_one_cell_of_its_position():
    tokenizer = PatchTokenizer.fit(RECORDS, patch=4, bins=8)
    encoded = tokenizer.encode(recording(32, holes=0))
    units = tokenizer.units(encoded.ids)
    piece = mask_segment(
        encoded.ids,
        units,
        np.ones(encoded.ids.shape, bool),
        tokenizer.fields,
        MaskingConfig(ratio=0.25, mode="cell"),
        rng=np.random.default_rng(0),
    )
    assert piece.masked.sum() == 16  # of 64 samples, a quarter
    assert 0 < piece.masked.any(axis=1).sum() <= 8


def test_filled_steps_are_written_where_they_belong():
    record = recording(30, holes=0)
    tokenizer = PatchTokenizer.fit([record], patch=4, scheme="uniform", bins=64)
    masked = record.channels.copy()
    masked[13:15, 1] = masked[29, 0] = np.nan
    gaps = replace(record, channels=masked)
    ids = tokenizer.encode(record).ids
    holes = tokenizer.encode(gaps).ids != ids
    assert holes.sum() == 3
    filled = tokenizer.splice(gaps, ids, holes)
    known = ~np.isnan(masked)
    np.testing.assert_array_equal(filled.channels[known], record.channels[known])
    width = np.ptp(record.channels, axis=0) / 64
    assert (np.abs(filled.channels - record.channels) <= width).all()
    cells = np.argwhere(holes)
    numbers = np.array([1.0, 2.0, 3.0])
    written = tokenizer.put_numbers(filled, cells, numbers)
    np.testing.assert_allclose(written.channels[[13, 14, 29], [1, 1, 0]], numbers)


def test_one_step_is_no_patch():
    with pytest.raises(UsageError, match="2 time steps or more"):
        PatchTokenizer.fit(RECORDS, patch=1, bins=8)
