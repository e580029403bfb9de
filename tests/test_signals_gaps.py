"""EDF with gaps: recordings that stop and go on are read with their times, and written with them."""

import io
import warnings
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from maskseq.errors import DataError, DataWarning, UsageError
from maskseq_signals.delimited import SignalCsv
from maskseq_signals.edf import Edf
from maskseq_signals.recording import Recording

edfio = pytest.importorskip("edfio", reason="these files are written by edfio")


def field(text, size):
    return str(text).ljust(size).encode()


def laid(path: Path, onsets, *, kind="EDF+D", per_record=10, duration=1, width=2, annotations=True):
    """Bytes by the specification: two channels of counters, and the time-keeping annotations of each data record."""
    extra = 20 if annotations else 0
    samples = [per_record, per_record, *([extra] if annotations else [])]
    n = len(samples)
    first = b"\xffBIOSEMI" if width == 3 else field(0, 8)
    low, high = -(1 << (8 * width - 1)), (1 << (8 * width - 1)) - 1
    label = f"{kind[:3]} Annotations"
    head = first + field("X X X X", 80) + field("Startdate 01-JAN-2024 X X X", 80) + b"01.01.2400.00.00"
    head += field(256 * (n + 1), 8) + field(kind, 44) + field(len(onsets), 8) + field(duration, 8) + field(n, 4)
    rows = [
        (["a", "b", label], 16), ([""] * 3, 80), (["uV", "uV", ""], 8), ([low, low, -1], 8), ([high, high, 1], 8),
        ([low] * 3, 8), ([high] * 3, 8), ([""] * 3, 80), ([*samples, extra], 8), ([""] * 3, 32),
    ]  # fmt: skip
    head += b"".join(field(text, size) for texts, size in rows for text in texts[:n])
    body = b""
    for number, onset in enumerate(onsets):
        counters = np.arange(number * per_record, (number + 1) * per_record)
        for values in (counters, -counters):
            body += b"".join(int(v).to_bytes(width, "little", signed=True) for v in values)
        if annotations:
            body += f"{onset}\x14\x14\0".encode().ljust(extra * width, b"\0")
    path.write_bytes(head + body)
    return path


def read(path):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        records = list(Edf().read(path))
    return records, "".join(str(each.message) for each in caught if issubclass(each.category, DataWarning))


@pytest.mark.parametrize(("kind", "width"), [("EDF+D", 2), ("EDF+C", 2), ("BDF+D", 3)])
def test_long_gaps_begin_recordings_that_keep_their_times(kind, width, tmp_path):
    suffix = ".bdf" if width == 3 else ".edf"
    path = laid(tmp_path / f"x{suffix}", ["+0.5", "+1.5", "+2.5", "+60", "+61.0", "+3600.25"], kind=kind, width=width)
    records, reported = read(path)
    assert [(each.key, each.start, len(each), each.rate) for each in records] == [
        ("x", 0.5, 30, 10), ("x#2", 60, 20, 10), ("x#3", 3600.25, 10, 10),
    ]  # fmt: skip
    assert np.concatenate([each.channels for each in records])[:, 0].tolist() == list(range(60))
    assert "2 gaps" in reported
    assert "data record 3" in reported
    assert records[1].between("60.5", "61") == (5, 10)
    writer, target = Edf().written_as(path)
    writer.write(records, target)
    rows = [line.split(",") for line in target.read_text().splitlines()[1:]]
    seconds = [onset + step / 10 for onset in (0.5, 1.5, 2.5, 60, 61, 3600.25) for step in range(10)]
    assert [float(row[0]) for row in rows] == pytest.approx(seconds, abs=1e-6)
    assert [float(row[2]) for row in rows] == [-each for each in range(60)]
    with pytest.warns(DataWarning, match="2 gaps"):
        again = list(SignalCsv().read(target))
    assert [(each.key, len(each)) for each in again] == [("x", 30), ("x#2", 20), ("x#3", 10)]


def test_short_gaps_are_unknown_samples(tmp_path):
    (record,), reported = read(laid(tmp_path / "x.edf", ["+0", "+1.5", "+2.5"]))
    known = [*range(10), *[np.nan] * 5, *range(10, 30)]
    assert np.array_equal(record.channels[:, 0], known, equal_nan=True)
    assert "5 time steps missing in 1 gap, the first behind data record 1" in reported


def test_files_without_gaps_are_one_recording(tmp_path):
    for onsets, kind, start in ((["+0", "+1", "+2"], "EDF+D", 0), (["+0.25", "+1.25"], "EDF+C", 0.25)):
        (record,), reported = read(laid(tmp_path / "x.edf", onsets, kind=kind))
        assert (record.key, record.start, len(record), reported) == ("x", start, 10 * len(onsets), "")
    (record,), reported = read(laid(tmp_path / "x.edf", [0, 0], kind="", annotations=False))
    assert (record.start, len(record), reported) == (0, 20, "")
    thirds = [f"+{step / 3:.6f}" for step in range(3000)]
    (record,), reported = read(laid(tmp_path / "x.edf", thirds, duration="0.333333"))
    assert (len(record), reported) == (30_000, "")


@pytest.mark.parametrize(
    ("onsets", "options", "reported"),
    [
        (["+0", "+1", "+1.5"], {}, "data record 3: begins at 1.5 s, before the end"),
        (["+0", "+5", "+1"], {}, "data record 3: begins at 1 s"),
        (["+0", "+1x"], {}, "data record 2: .* is not the time"),
        (["+0", "+1"], {"annotations": False}, "no annotations"),
    ],
)
def test_times_that_cannot_be_are_refused(onsets, options, reported, tmp_path):
    with pytest.raises(DataError, match=reported):
        list(Edf().read(laid(tmp_path / "x.edf", onsets, **options)))


def test_what_edfio_writes_with_an_offset_is_read_with_it(tmp_path):
    signals = [edfio.EdfSignal(np.arange(16.0), 8, label="C3", physical_dimension="uV")]
    starttime = datetime(2024, 1, 1, 12, 0, 0, 250_000).time()
    out = io.BytesIO()
    edfio.Edf(signals, starttime=starttime, annotations=[edfio.EdfAnnotation(0.5, None, "x")]).write(out)
    (tmp_path / "x.edf").write_bytes(out.getvalue())
    (record,), reported = read(tmp_path / "x.edf")
    assert (record.start, reported) == (0.25, "")


def test_only_stretches_of_one_recording_become_one_table(tmp_path):
    def recording(key, start, name="a"):
        return Recording(key=key, channels=np.zeros((10, 1)), names=(name,), rate=10.0, start=start)

    with pytest.raises(UsageError, match="cannot be written as one"):
        SignalCsv().write([recording("x", 0.0), recording("y", 0.5)], tmp_path / "x.csv")
    with pytest.raises(UsageError, match="cannot be written as one"):
        SignalCsv().write([recording("x", 0.0), recording("y", 5.0, "b")], tmp_path / "x.csv")


def test_long_recordings_have_a_time_for_each_step(tmp_path):
    record = Recording(key="x", channels=np.zeros((50, 1)), names=("a",), rate=4096.0, start=432_000.0)
    SignalCsv().write([record], tmp_path / "x.csv")
    times = [float(line.split(",")[0]) for line in (tmp_path / "x.csv").read_text().splitlines()[1:]]
    assert times == pytest.approx([432_000 + step / 4096 for step in range(50)], abs=1e-5)
