"""NPZ archives in which a rate, labels or names stand beside the signals."""

from dataclasses import replace

import numpy as np
import pytest

from maskseq.errors import DataWarning, UsageError
from maskseq.survey import Head
from maskseq_signals.arrays import Npz


def laid(folder, **arrays):
    np.savez(folder / "x.npz", **arrays)
    return folder / "x.npz"


def begun(path):
    options = dict(Npz.recognize(Head.of(path)).options)
    reader = Npz(**{key: tuple(value) if isinstance(value, list) else value for key, value in options.items()})
    return options, reader, list(reader.read(path))


def test_rates_labels_and_names_are_no_recordings(tmp_path):
    values = np.random.default_rng(0).normal(size=(500, 3))
    others = {"fs": np.array(250), "labels": np.arange(500), "names": np.array(["a", "b", "c"])}
    path = laid(tmp_path, X=values, **others)
    options, reader, (record,) = begun(path)
    assert options == {"channels_first": False, "arrays": ["X"], "rate": 250.0}
    assert (record.key, record.rate, record.channels.shape) == ("X", 250, (500, 3))
    changed = record.channels.copy()
    changed[3, 1] = 7
    reader.write([replace(record, channels=changed)], tmp_path / "y.npz")
    with np.load(tmp_path / "y.npz") as written:
        assert set(written.files) == {"X", *others}
        np.testing.assert_array_equal(written["X"], changed)
        for name, array in others.items():
            np.testing.assert_array_equal(written[name], array)
            assert written[name].dtype == array.dtype


def test_several_recordings_stay_several(tmp_path):
    options, _, records = begun(laid(tmp_path, a=np.arange(50.0), b=np.arange(30.0)))
    assert (options, [record.key for record in records]) == ({}, ["a", "b"])


def test_an_option_chooses(tmp_path):
    path = laid(tmp_path, a=np.arange(50.0), b=np.arange(30.0), text=np.array(["x"]))
    assert [record.key for record in Npz(arrays=("b", "a")).read(path)] == ["b", "a"]
    with pytest.raises(UsageError, match="'c'"):
        list(Npz(arrays=("c",)).read(path))


def test_objects_beside_the_signal_do_not_refuse_it(tmp_path):
    path = laid(tmp_path, a=np.arange(50.0), who=np.array([{"age": 5}], dtype=object))
    with pytest.warns(DataWarning, match="who"):
        (record,) = begun(path)[2]
    assert record.key == "a"
