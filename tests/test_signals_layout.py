"""Which way an array lies, and which rows of a table belong together: recognized, or asked about, never guessed."""

import json
import tomllib
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from maskseq.cli import app
from maskseq.errors import DataError, UsageError
from maskseq.plugins import format_for
from maskseq.survey import Head
from maskseq_signals.arrays import Npy, Npz


def maskseq(*arguments, code=0):
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    assert result.exit_code == code, result.output
    return result


def begun(path, folder, *options):
    found = json.loads(maskseq("init", path, "-o", folder / "r.toml", "--json", *options).stdout)
    return found, tomllib.loads((folder / "r.toml").read_text())


def through(path, recipe, folder):
    """Read as a recipe says; written back untouched, and with every unknown value filled."""
    reader = format_for(path, recipe["data"]["format"], **recipe["data"].get("format_options", {}))
    records = list(reader.read(path))
    reader.write(records, folder / f"same{path.suffix}")
    filled = [replace(each, channels=np.where(np.isnan(each.channels), 9, each.channels)) for each in records]
    reader.write(filled, folder / f"filled{path.suffix}")
    return records


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["float32", ">f8"])
def test_channel_first_arrays_are_recognized_and_come_back_as_they_were(dtype, order, tmp_path):
    array = np.random.default_rng(0).normal(size=(3, 600)).cumsum(axis=1)
    array[1, 5:9] = np.nan
    np.save(tmp_path / "s.npy", np.asarray(array, dtype, order=order))
    found, recipe = begun(tmp_path / "s.npy", tmp_path)
    assert recipe["data"]["format_options"] == {"channels_first": True}
    assert "3 x 600" in found["files"]["s.npy"]
    (record,) = through(tmp_path / "s.npy", recipe, tmp_path)
    assert np.array_equal(record.channels, array.astype(dtype).T, equal_nan=True)
    assert (tmp_path / "same.npy").read_bytes() == (tmp_path / "s.npy").read_bytes()
    filled = np.load(tmp_path / "filled.npy")
    assert (filled.dtype, filled.shape) == (np.dtype(dtype), (3, 600))
    assert np.array_equal(filled, np.nan_to_num(array.astype(dtype), nan=9))


def test_an_array_of_more_channels_than_steps_is_asked_about(tmp_path):
    np.save(tmp_path / "s.npy", np.zeros((2, 600)))
    np.savez(tmp_path / "s.npz", a=np.zeros((16, 600)))
    for reader, name in ((Npy, "s.npy"), (Npz, "s.npz")):
        with pytest.raises(DataError, match="channels_first = true"):
            list(reader().read(tmp_path / name))
        for first, length in ((True, 600), (False, None)):
            (record,) = reader(channels_first=first).read(tmp_path / name)
            assert len(record) == (length or len(np.load(tmp_path / name)["a"] if name == "s.npz" else np.zeros(2)))
    (record,) = Npy(channels_first=True, names=("x", "y")).read(tmp_path / "s.npy")
    assert record.names == ("x", "y")
    (record,) = Npy(names=tuple(map(str, range(600)))).read(tmp_path / "s.npy")
    assert len(record) == 2
    with pytest.raises(UsageError, match="other steps"):
        Npy().write([replace(record, channels=record.channels[:1])], tmp_path / "t.npy")
    maskseq("init", tmp_path / "s.npy", "-o", tmp_path / "x.toml", "--set", "data.format_options.channels_first=false")


@pytest.mark.parametrize(
    ("shapes", "first"),
    [
        ([(600, 3)], False), ([(3, 600)], True), ([(600,)], None), ([(4, 4)], False),
        ([(12, 5), (12, 90), (12, 31)], True), ([(5, 12), (90, 12), (31, 12)], False), ([(2, 2), (2, 9)], True),
        ([(3, 50), (600, 3)], False), ([(3, 50), (4, 600), (9, 7)], True),
    ],
)  # fmt: skip
def test_the_side_that_arrays_share_is_that_of_the_channels(shapes, first, tmp_path):
    np.savez(tmp_path / "s.npz", **{f"a{i}": np.zeros(shape) for i, shape in enumerate(shapes)})
    claim = Npz.recognize(Head.of(tmp_path / "s.npz"))
    assert claim.options.get("channels_first") is first


def test_arrays_read_as_before_keep_the_identity_of_their_corpora():
    assert Npy().identity() == {"names": (), "units": (), "rate": None, "suffixes": (".npy",)}
    assert Npy(channels_first=True).identity()["channels_first"]
