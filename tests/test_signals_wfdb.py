"""WFDB records: sample for sample what the reference library reads, in all formats, layouts and frames."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskseq.errors import DataError, DataWarning, UsageError
from maskseq.survey import Head
from maskseq_signals.wfdb import Wfdb

wfdb = pytest.importorskip("wfdb")

PLAIN = ["8", "16", "24", "32", "61", "80", "160", "212", "310", "311"]
FLAC = ["508", "516", "524"]
CASES = {"f8": "f8", "f61": "f61", "f310": "f310", "f16nolen": "f16nolen"}


def read(path, **options):
    (record,) = Wfdb(**options).read(path)
    return record


def same(record, reference):
    """A smoothed reference."""
    np.testing.assert_array_equal(record.channels, reference.p_signal)
    assert record.rate == reference.fs


@pytest.mark.parametrize("name", CASES)
def test_small_cases_are_what_the_reference_library_reads(name, shared_cases):
    path = shared_cases / "signals" / f"{name}.hea"
    same(read(path), wfdb.rdrecord(str(path.with_suffix(""))))


@pytest.mark.parametrize("name", ["100", "3975656_0005", "s0010_re"])
def test_real_records_are_what_the_reference_library_reads(name, shared_data):
    path = shared_data / "signals" / "wfdb" / f"{name}.hea"
    reference = wfdb.rdrecord(str(path.with_suffix("")))
    record = read(path)
    same(record, reference)
    assert (list(record.names), list(record.units)) == (reference.sig_name, reference.units)


@settings(max_examples=200, derandomize=True)
@given(
    kind=st.sampled_from(PLAIN),
    signals=st.lists(st.tuples(st.integers(1, 3), st.booleans()), min_size=1, max_size=3),
    skew=st.integers(0, 3),
    frames=st.integers(4, 9),
    offset=st.integers(0, 5),
    message=st.sampled_from(["{}", "0", ""]),
    seed=st.integers(0, 99),
)
def test_any_bytes_in_any_format(kind, signals, skew, frames, offset, message, seed, tmp_path_factory):
    """Any bytes are samples. Several a frame; skewed; behind other bytes; of a length that is given, 0 or missing."""
    folder = tmp_path_factory.mktemp("wfdb")
    if kind == "8" or max(n for n, _ in signals) > 1:  # there the reference fails at skew, or reads zeros
        skew = 0
    if message == "0":  # then bytes are counted, and what fills up a group of 2 or 3 samples would count, too
        frames *= 6
    n = frames * sum(count for count, _ in signals)
    content = np.random.default_rng(seed).integers(0, 256, 4 * n + 8 + offset, dtype=np.uint8)
    if kind == "311":
        content[offset + 3 :: 4] &= 0x3F  # bits that mean nothing
    size = {"212": (3 * n + 1) // 2, "310": -(-n // 3) * 4, "311": -(-n // 3) * 4}.get(kind)
    size = size or n * {"8": 1, "80": 1, "24": 3, "32": 4}.get(kind, 2)
    (folder / "r.dat").write_bytes(content[: offset + size].tobytes())
    lines = [
        f"r.dat {kind}x{count}:{skew * late}+{offset} {10 + i}(-3)/uV 12 0 {7 * i} 0 0 lead {i}"
        for i, (count, late) in enumerate(signals)
    ]
    for name, length in (("r", message.format(frames)), ("whole", frames)):  # the reference takes 0 for a length
        (folder / f"{name}.hea").write_text("\n".join([f"{name} {len(signals)} 100 {length}", *lines]) + "\n")
    expected = wfdb.rdrecord(str(folder / ("whole" if message == "0" else "r")), smooth_frames=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        for column, (count, _) in enumerate(signals):
            name = f"lead {column}"
            record = read(folder / "r.hea", channels=(name,), frames="samples", checksums=False)
            assert record.rate == 100 * count
            reference = expected.e_p_signal[column]
            assert len(record) == len(reference)
            np.testing.assert_array_equal(record.channels[:, 0], reference)
            if count == 1:
                continue
            mean = read(folder / "r.hea", channels=(name,), checksums=False)
            smooth = wfdb.rdrecord(str(folder / "whole"), channels=[column])
            known = ~np.isnan(reference).reshape(-1, count).any(axis=1)  # the reference takes "unknown" for a number
            if message == "{}":
                np.testing.assert_array_equal(mean.channels[known], smooth.p_signal[known])


@pytest.mark.parametrize("kind", ["16", "24", "32", "80", "212", *FLAC])
def test_formats_that_the_reference_library_writes(kind, tmp_path):
    """With initial values and checksums, and with unknown samples among the known ones."""
    bits = {"16": 16, "24": 24, "32": 32, "80": 8, "212": 12, "508": 8, "516": 16, "524": 24}[kind]
    low = -(1 << (bits - 1))
    samples = np.random.default_rng(int(kind)).integers(low + 1, -low, (701, 3))
    samples[5] = (low, low + 1, -low - 1)
    wfdb.wrsamp(
        "r", fs=250.5, units=["mV", "uV", "mmHg"], sig_name=["I", "II", "ABP"], d_signal=samples, fmt=[kind] * 3,
        adc_gain=[200.0, 3.5, 7], baseline=[0, -9, 5], write_dir=str(tmp_path),
    )  # fmt: skip
    record = read(tmp_path / "r.hea")
    same(record, wfdb.rdrecord(str(tmp_path / "r")))
    assert (record.names, record.units) == (("I", "II", "ABP"), ("mV", "uV", "mmHg"))
    assert np.argwhere(np.isnan(record.channels)).tolist() == [[5, 0]]


def several_a_frame(folder, kinds=("516", "516", "16"), counts=(4, 4, 1)):
    """Two leads of four samples a frame in one file, and one signal of one in another."""
    rng = np.random.default_rng(1)
    samples = [np.cumsum(rng.integers(-5, 6, 50 * n)) for n in counts]
    wfdb.wrsamp(
        "r", fs=62.5, units=["mV"] * len(counts), sig_name=["I", "II", "Resp"], e_d_signal=samples, fmt=list(kinds),
        adc_gain=[200.0] * 3, baseline=[0] * 3, samps_per_frame=list(counts), write_dir=str(folder),
    )  # fmt: skip
    return folder / "r.hea", samples


@pytest.mark.parametrize("kinds", [("516", "516", "16"), ("24", "24", "24")])
def test_means_of_frames_or_all_samples(kinds, tmp_path):
    path, samples = several_a_frame(tmp_path, kinds)
    with pytest.warns(DataWarning, match="4, 1 samples a frame"):
        same(read(path), wfdb.rdrecord(str(tmp_path / "r")))
    record = read(path, channels=("II", "I"), frames="samples")
    assert (record.rate, len(record)) == (250, 200)
    np.testing.assert_array_equal(record.channels, np.stack([samples[1], samples[0]], axis=1) / 200)
    with pytest.raises(DataError, match="4, 1 samples a frame"):
        read(path, frames="samples")
    with pytest.raises(UsageError, match="'V9'"):
        read(path, channels=("V9",))


def test_init_reads_all_samples_where_frames_are_alike(tmp_path):
    path, _ = several_a_frame(tmp_path)
    mixed = Wfdb.recognize(Head.of(path))
    assert dict(mixed.options) == {}
    assert [dict(choice.options) for choice in mixed.instead] == [{"channels": ["I", "II"], "frames": "samples"}]
    path, _ = several_a_frame(tmp_path, ("16",) * 3, (4, 4, 4))
    assert dict(Wfdb.recognize(Head.of(path)).options) == {"frames": "samples"}


def segments(folder, layout):
    """Segments of 40, 30 and 50 frames with a hole of 20; of a layout, not all have all signals, nor one gain."""
    rng = np.random.default_rng(2)
    content = {"r_1": (40, ["II", "ABP"]), "r_2": (30, ["ABP"]), "r_3": (50, ["V", "II"])}
    lines = []
    for number, (name, (length, signals)) in enumerate(content.items()):
        chosen = signals if layout else ["II", "ABP"]
        wfdb.wrsamp(
            name, fs=125, units=["mV" if s != "ABP" else "mmHg" for s in chosen], sig_name=chosen,
            d_signal=rng.integers(-100, 100, (length, len(chosen))), fmt=["212"] * len(chosen),
            adc_gain=[100.0 + number * layout] * len(chosen), baseline=[number] * len(chosen), write_dir=str(folder),
        )  # fmt: skip
        lines.append(f"{name} {length}")
    if layout:
        lines = ["r_layout 0", lines[0], "~ 20", *lines[1:]]
        (folder / "r_layout.hea").write_text(
            "r_layout 3 125 0\n~ 0 200/mV 0 0 0 0 0 II\n~ 0 1/mmHg 0 0 0 0 0 ABP\n~ 0 200/mV 0 0 0 0 0 V\n"
        )
    total = 140 if layout else 120
    (folder / "r.hea").write_text(f"r/{len(lines)} {3 if layout else 2} 125 {total}\n" + "\n".join(lines) + "\n")
    return folder / "r.hea"


@pytest.mark.parametrize("layout", [False, True])
def test_records_of_several_segments(layout, tmp_path):
    path = segments(tmp_path, layout)
    record, reference = read(path), wfdb.rdrecord(str(tmp_path / "r"))
    same(record, reference)
    assert list(record.names) == reference.sig_name
    assert np.isnan(record.channels).any() == layout
    sources = {each.name for each in Wfdb().sources(path)}
    assert sources == {each.name for each in tmp_path.iterdir()}
    assert sources <= {each.name for each in Wfdb().sources(path) if each.exists()}
    chosen = read(path, channels=("ABP",))
    np.testing.assert_array_equal(chosen.channels[:, 0], reference.p_signal[:, 1])


def test_what_segments_contradict_is_refused(tmp_path):
    path = segments(tmp_path, True)
    header = path.read_text()
    segment = (tmp_path / "r_3.hea").read_text()
    for changed, reported in (
        (segment.replace("mV", "uV", 2), "r_3.hea: signal .* in uV, but"),
        (segment.replace("125", "250"), "r_3.hea: 250.0 frames a second, but 125.0"),
        (segment.replace(" 50\n", " 49\n"), "r_3"),
    ):
        (tmp_path / "r_3.hea").write_text(changed)
        with pytest.raises(DataError, match=reported):
            read(path, checksums=False)
    (tmp_path / "r_3.hea").write_text(segment)
    path.write_text(header.replace("~ 20", f"~ {10**15}").replace(" 140", ""))
    with pytest.raises(DataError, match=r"promises .* values, but its data files have"):
        read(path)


def test_a_signal_without_samples_is_left_out(tmp_path):
    path = segments(tmp_path, True)
    layout = tmp_path / "r_layout.hea"
    layout.write_text(layout.read_text().replace("r_layout 3", "r_layout 4") + "~ 0 200/mV 0 0 0 0 0 aVR\n")
    with pytest.warns(DataWarning, match="aVR"):
        assert read(path).names == ("II", "ABP", "V")


def test_headers_that_say_little(tmp_path):
    """250 frames a second, 200 steps a mV, as many samples as there are; units of any encoding; a name in its place."""
    (tmp_path / "x.dat").write_bytes(np.array([200, -100, 7], "<i2").tobytes())
    (tmp_path / "x.hea").write_text("x 1\nx.dat 16\n")
    same(read(tmp_path / "x.hea"), wfdb.rdrecord(str(tmp_path / "x")))
    (tmp_path / "x.hea").write_bytes("x 1 250 3\nx.dat 16 10/µV ECG lead\n".encode("latin-1"))
    record = read(tmp_path / "x.hea")
    assert (record.names, record.units, record.channels[:, 0].tolist()) == (("ECG lead",), ("µV",), [20, -10, 0.7])


def test_checksums_can_be_passed_over(tmp_path):
    (tmp_path / "x.dat").write_bytes(np.array([200, -100, 7], "<i2").tobytes())
    (tmp_path / "x.hea").write_text("x 1 250 3\nx.dat 16 10/mV 16 0 199 1 0 I\n")
    with pytest.raises(DataError, match="checksums = false"):
        read(tmp_path / "x.hea")
    assert read(tmp_path / "x.hea", checksums=False).channels[:, 0].tolist() == [20, -10, 0.7]


def test_damaged_flac_is_refused(tmp_path):
    path, _ = several_a_frame(tmp_path)
    content = (tmp_path / "r_1.dat").read_bytes()
    for damaged, reported in (
        (b"RIFF" + content[4:], "is no FLAC file"),
        (content[:60], "FLAC"),
        (content[:-40], "r_1.dat"),
    ):
        (tmp_path / "r_1.dat").write_bytes(damaged)
        with pytest.raises(DataError, match=reported):
            read(path, channels=("I",), frames="samples")
