"""EDF and BDF: bit for bit what two other libraries read, and what instruments write instead of what they should."""

import re

import numpy as np
import pytest

from maskseq.errors import DataError, DataWarning
from maskseq.survey import Head
from maskseq_signals.edf import Edf

N_RECORDS = 6


def field(text, width):
    return (text if isinstance(text, bytes) else str(text).encode()).ljust(width)


def edf(labels=("C3", "C4"), *, unit="uV", low="-100", high="100", digital=(-32768, 32767), n_records=N_RECORDS,
        duration="1", samples=50, kind=b""):  # fmt: skip
    """A file of random samples; `low` and `high` may be lists, of which each is one channel's."""
    n = len(labels)
    lows, highs = ([each] * n if isinstance(each, str) else each for each in (low, high))
    header = field("0", 8) + field("X X X X", 80) + field("Startdate X X X X", 80) + b"01.01.2001.00.00"
    header += field(256 * (n + 1), 8) + field(kind, 44) + field(n_records, 8) + field(duration, 8) + field(n, 4)
    for texts, width in (
        (labels, 16), ([""] * n, 80), ([unit] * n, 8), (lows, 8), (highs, 8), ([digital[0]] * n, 8),
        ([digital[1]] * n, 8), ([""] * n, 80), ([samples] * n, 8), ([""] * n, 32),
    ):  # fmt: skip
        header += b"".join(field(text, width) for text in texts)
    body = np.random.default_rng(len(labels)).integers(-30_000, 30_000, (N_RECORDS, n, samples))
    return header + body.astype("<i2").tobytes(), body.transpose(0, 2, 1).reshape(-1, n)


def read(path, content, **options):
    path.write_bytes(content)
    return list(Edf(**options).read(path))


@pytest.mark.parametrize("name", ["EEGMMIDB_S001R04.edf", "mne_test.edf"])
def test_real_files_are_what_other_libraries_read(name, shared_data):
    edfio, pyedflib = pytest.importorskip("edfio"), pytest.importorskip("pyedflib")
    path = shared_data / "signals" / name
    signals = edfio.read_edf(path).signals
    chosen = [signal for signal in signals if signal.sampling_frequency == signals[0].sampling_frequency]
    (record,) = Edf(channels=tuple(signal.label for signal in chosen)).read(path)
    assert record.units == tuple(signal.physical_dimension for signal in chosen)
    np.testing.assert_array_equal(record.channels, np.stack([signal.data for signal in chosen], axis=1))
    with pyedflib.EdfReader(str(path)) as reader:
        labels = reader.getSignalLabels()
        for column, label in zip(record.channels.T, record.names, strict=True):
            np.testing.assert_allclose(column, reader.readSignal(labels.index(label)), rtol=1e-12, atol=1e-9)


def test_bdf_is_what_another_library_reads(tmp_path):
    edfio = pytest.importorskip("edfio")
    rng = np.random.default_rng(0)
    signals = [edfio.BdfSignal(rng.normal(size=512), 256, label=label, physical_dimension="uV") for label in "ab"]
    edfio.Bdf(signals).write(tmp_path / "x.bdf")
    (record,) = Edf().read(tmp_path / "x.bdf")
    written = edfio.read_bdf(tmp_path / "x.bdf").signals
    np.testing.assert_array_equal(record.channels, np.stack([signal.data for signal in written], axis=1))


def test_dead_channels_are_left_out(tmp_path, shared_cases):
    content, digital = edf(("C3", "off", "C4"), low=["-100", "0", "-100"], high=["100", "0", "100"])
    with pytest.warns(DataWarning, match="1 dead of 3 channels .*off"):
        (record,) = read(tmp_path / "x.edf", content)
    assert record.names == ("C3", "C4")
    np.testing.assert_allclose(record.channels, (digital[:, [0, 2]] + 32768) * 200 / 65535 - 100)
    with pytest.raises(DataError, match="'off'"):
        read(tmp_path / "x.edf", content, channels=("C3", "off"))
    with pytest.raises(DataError, match="'C3'"):
        read(tmp_path / "x.edf", edf(digital=(7, 7))[0])
    with pytest.warns(DataWarning, match="EEG Fp1"):
        (record,) = Edf().read(shared_cases / "signals" / "e_dmin_eq_dmax.edf")
    assert (record.names, len(record)) == (("Fp2",), 600)


def test_an_unknown_number_of_records_is_as_many_as_there_are(tmp_path, shared_cases):
    whole, _ = edf()
    content, _ = edf(n_records=-1)
    with pytest.warns(DataWarning, match="6 are there"):
        (record,) = read(tmp_path / "x.edf", content)
    (expected,) = read(tmp_path / "y.edf", whole)
    np.testing.assert_array_equal(record.channels, expected.channels)
    with pytest.warns(DataWarning, match="6 are there"):
        (record,) = Edf().read(shared_cases / "signals" / "e_nrec_m1.edf")
    assert len(record) == 600


@pytest.mark.parametrize("change", [-1, -150, -200, -900, 1, 77, 200, 512])
def test_whole_records_of_cut_or_padded_files(change, tmp_path):
    content, _ = edf()
    (expected,) = read(tmp_path / "y.edf", content)
    changed = content[:change] if change < 0 else content + bytes(change)
    whole = N_RECORDS + min(change // 200, 0)
    reported = f"{whole} of 6 data records" if change < 0 else f"{change} bytes behind"
    with pytest.warns(DataWarning, match=reported):
        (record,) = read(tmp_path / "x.edf", changed)
    np.testing.assert_array_equal(record.channels, expected.channels[: whole * 50])
    with pytest.raises(DataError, match="is cut short"):
        read(tmp_path / "x.edf", content[: 768 + 199])


def test_bytes_changed_in_transit_are_no_padding(tmp_path):
    content, _ = edf(samples=4000)
    mangled = content[:768] + content[768:].replace(b"\n", b"\r\n")
    assert len(content) < len(mangled) < len(content) + 1000
    with pytest.raises(DataError, match="transferred as text"):
        read(tmp_path / "x.edf", mangled)


@pytest.mark.parametrize("encoding", ["latin-1", "utf-8"])
def test_labels_and_units_in_other_encodings(encoding, tmp_path, shared_cases):
    content, _ = edf(("Temp °C".encode(encoding), "C4"), unit="µV".encode(encoding))
    (record,) = read(tmp_path / "x.edf", content)
    assert (record.names, record.units) == (("Temp °C", "C4"), ("µV", "µV"))
    (record,) = Edf().read(shared_cases / "signals" / "e_latin.edf")
    assert (record.names, record.units) == (("Temp °C", "Fp2"), ("µV", "uV"))


def test_decimal_commas_in_the_header(tmp_path):
    commas, _ = edf(low="-100,5", high="99,25", duration="0,5")
    points, _ = edf(low="-100.5", high="99.25", duration="0.5")
    (record,), (expected,) = read(tmp_path / "x.edf", commas), read(tmp_path / "y.edf", points)
    np.testing.assert_array_equal(record.channels, expected.channels)
    assert record.rate == expected.rate == 100


@pytest.mark.parametrize("n", [64, 300, 1100])
def test_many_channels(n, tmp_path):
    content, digital = edf([f"E{i}" for i in range(n)], low="-32768", high="32767", samples=10)
    (record,) = read(tmp_path / "x.edf", content)
    np.testing.assert_allclose(record.channels, digital)
    assert Edf.recognize(Head.of(tmp_path / "x.edf")).options == {}


def test_headers_that_are_none(tmp_path):
    content, _ = edf()
    for start, text, reported in (
        (236, "0", "0 data records"), (236, "-2", "-2 data records"), (236, "nan", "records should be a number"),
        (244, "0", "data records of 0 s"), (252, "1_0", "signals should be a number"), (184, "512", "no EDF header"),
        (256 + 216 * 2, "0.5", "0.5 samples"), (256 + 104 * 2, "low", "range of signal 1 should be a number"),
    ):  # fmt: skip
        changed = (
            content[:start] + field(text, 4 if start == 252 else 8) + content[start + (4 if start == 252 else 8) :]
        )
        with pytest.raises(DataError, match=re.escape(reported)):
            read(tmp_path / "x.edf", changed)
