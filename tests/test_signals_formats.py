"""Recordings of instruments and archives: values against independent decoding, and damaged files refused."""

import shutil
import wave

import numpy as np
import pytest

from maskseq.errors import DataError, DataWarning, UsageError
from maskseq.testing import check_tokenizer
from maskseq_signals.edf import Edf
from maskseq_signals.tokenizer import QuantizeTokenizer
from maskseq_signals.ucr import Ts, UcrTable
from maskseq_signals.wav import Wav
from maskseq_signals.wfdb import Wfdb


@pytest.fixture(scope="session")
def signals(shared_data):
    return shared_data / "signals"


def copied(folder, tmp_path, *names):
    for name in names:
        shutil.copy(folder / name, tmp_path / name)
    return tmp_path / names[0]


@pytest.mark.parametrize(
    ("name", "shape", "rate", "names"),
    [
        ("100", (650_000, 2), 360, ("MLII", "V5")),
        ("3975656_0005", (906_259, 2), 125, ("MCL1", "V")),
        ("s0010_re", (38_400, 15), 1000, ("i", "ii", "iii")),
    ],
)
def test_wfdb_records_agree_with_their_checksums(name, shape, rate, names, signals):
    (record,) = Wfdb().read(signals / "wfdb" / f"{name}.hea")
    assert (record.key, record.channels.shape, record.rate) == (name, shape, rate)
    assert record.names[: len(names)] == names
    assert set(record.units) == {"mV"}


def test_format_212_decoded_bit_by_bit(signals):
    (record,) = Wfdb().read(signals / "wfdb" / "100.hea")
    data = (signals / "wfdb" / "100.dat").read_bytes()
    bits = "".join(f"{byte:08b}" for byte in data[:3000])
    expected = []
    for i in range(0, len(bits), 24):
        one, two = bits[i + 12 : i + 16] + bits[i : i + 8], bits[i + 8 : i + 12] + bits[i + 16 : i + 24]
        expected += [int(b, 2) - (4096 if b[0] == "1" else 0) for b in (one, two)]
    assert (record.channels[:1000].ravel() * 200 + 1024).round().tolist() == expected
    assert expected[:2] == [995, 1011]


def test_format_212_knows_negative_and_unknown_samples(tmp_path):
    """0x800 is the unknown sample, 0xFFF is -1; an odd number of samples ends within a triple of bytes."""
    (tmp_path / "x.dat").write_bytes(bytes([0xFF, 0x8F, 0x00, 0x05, 0x00]))
    (tmp_path / "x.hea").write_text("x 1 10 3\nx.dat 212 1 12 0 -1 -2044 0 lead I\n")
    (record,) = Wfdb().read(tmp_path / "x.hea")
    assert record.names == ("lead I",)
    assert np.array_equal(record.channels[:, 0], [-1, np.nan, 5], equal_nan=True)


def test_format_16_in_two_files(signals):
    header = signals / "wfdb" / "s0010_re.hea"
    assert [path.name for path in Wfdb().sources(header)] == ["s0010_re.hea", "s0010_re.dat", "s0010_re.xyz"]
    (record,) = Wfdb().read(header)
    first = np.fromfile(signals / "wfdb" / "s0010_re.dat", "<i2").reshape(-1, 12)
    second = np.fromfile(signals / "wfdb" / "s0010_re.xyz", "<i2").reshape(-1, 3)
    np.testing.assert_allclose(record.channels, np.hstack([first, second]) / 2000)


@pytest.mark.parametrize("offset", [0, 123_456, 1_949_999])
def test_one_changed_byte_of_wfdb_is_refused(offset, signals, tmp_path):
    header = copied(signals / "wfdb", tmp_path, "100.hea", "100.dat")
    data = bytearray((tmp_path / "100.dat").read_bytes())
    data[offset] ^= 0x10
    (tmp_path / "100.dat").write_bytes(data)
    with pytest.raises(DataError, match=r"100\.dat: signal .* (another checksum|begins with)"):
        list(Wfdb().read(header))


@pytest.mark.parametrize(
    ("header", "reported"),
    [
        ("x 1 10 4\nx.dat 16 1 16 0 1\n", r"x\.dat: is cut short: 6 bytes of samples, but the header promises 8"),
        (
            "x 1 10 3\nx.dat 99 1\n",
            r"x\.dat: its samples are of format 99, which is not read; those are: 8, 16, 24, 32",
        ),
        ("x 1 10 3\ny.dat 16 1\n", r"y\.dat: no such file"),
        ("x 2 10 3\nx.dat 16 1\n", r"promises 2 signals of 3 samples and describes 1"),
        ("x/2 1 10 3\nx_1 1\nx_2 2\n", r"x_1\.hea: no such file"),
        ("x/2 1 10 3\n~ 1\n", r"promises 2 segments of 3 samples and describes 1"),
        ("x/1 1 10 3\n../x 3\n", r"line 2: '\.\./x' is no file beside"),
        ("x/1 1 10 3\nx 3\n", r"is a segment of x\.hea, but has segments itself"),
        ("x/1 1 10 3\n~ 4\n", r"promises 3 frames, but its segments have 4"),
        ("x/1 1 10 0\n~ 4\n", r"no signal with samples"),
        ("x 1 10 3\nx.dat 16x9999\n", r"line 2: 9,999 samples a frame"),
        ("hello\n", r"no WFDB header"),
        ("# only a comment\n", r"no WFDB header"),
    ],
)
def test_broken_wfdb_headers_are_told(header, reported, tmp_path):
    (tmp_path / "x.hea").write_text(header)
    (tmp_path / "x.dat").write_bytes(bytes(6))
    with pytest.raises(DataError, match=reported):
        list(Wfdb().read(tmp_path / "x.hea"))


def test_edf_agrees_with_its_bytes(signals):
    """EEGMMIDB: 64 channels of 160 samples a data record, then annotations; digital equals physical there."""
    path = signals / "EEGMMIDB_S001R04.edf"
    (record,) = Edf().read(path)
    assert (record.channels.shape, record.rate, set(record.units)) == ((20_000, 64), 160, {"uV"})
    body = np.frombuffer(path.read_bytes()[256 * 66 :], "<i2").reshape(125, -1)
    expected = body[:, : 64 * 160].reshape(125, 64, 160).transpose(0, 2, 1).reshape(-1, 64)
    np.testing.assert_allclose(record.channels, expected)


def test_edf_channels_can_be_chosen(signals):
    (record,) = Edf(channels=("A3", "A1")).read(signals / "mne_test.edf")
    assert (record.names, record.channels.shape, record.rate) == (("A3", "A1"), (3072, 2), 512)
    with pytest.raises(UsageError, match="has no channel 'Z9'"):
        list(Edf(channels=("Z9",)).read(signals / "mne_test.edf"))


def test_damaged_edf_is_refused(signals, tmp_path):
    for name, reported in (("crlf", "data record 1: it does not begin with the time"), ("utf8", r"U\+FFFD")):
        with pytest.raises(DataError, match=reported):
            list(Edf().read(signals / "corrupt" / f"EEGMMIDB_S001R01_{name}_mangled.edf"))
    mangled = bytearray((signals / "corrupt" / "EEGMMIDB_S001R01_crlf_mangled.edf").read_bytes())
    mangled[192:197] = b"     "  # as if it were plain EDF, which puts no time into its records
    whole = (signals / "mne_test.edf").read_bytes()
    for content, reported in (
        (mangled, "line feed bytes follows a CR: it was transferred as text"),
        (whole[:100], "no EDF header: header size should be a number"),
        (b"hello" * 99, "no EDF header"),
    ):
        (tmp_path / "x.edf").write_bytes(content)
        with pytest.raises(DataError, match=reported):
            list(Edf().read(tmp_path / "x.edf"))
    with pytest.raises(DataError, match="has no signals, only annotations"):
        list(Edf().read(signals / "wfdb_test_edfann.edf"))


def test_ts_archives(signals):
    records = list(Ts().read(signals / "ucr" / "BasicMotions_TEST.ts"))
    assert len(records) == 40
    assert {record.channels.shape for record in records} == {(100, 6)}
    assert {record.label for record in records} == {"Standing", "Running", "Walking", "Badminton"}
    last = (signals / "ucr" / "BasicMotions_TEST.ts").read_text().splitlines()[-1].split(":")
    assert records[-1].channels[:, 5].tolist() == [float(text) for text in last[5].split(",")]
    (first, *_) = Ts().read(signals / "ucr" / "GunPoint_TRAIN.ts")
    assert (first.key, first.label, first.channels.shape) == ("GunPoint_TRAIN/1", "2", (150, 1))


def test_series_with_time_stamps(tmp_path):
    """In order of time; a missing step is unknown; times and classes may have what separates channels."""
    first = "(2024-01-01 00:02:00,3),(2024-01-01 00:00:00,1),(2024-01-01 00:01:00,2),(2024-01-01 00:04:00,?)"
    second = first.replace(",3)", ",-3)").replace(",1)", ",-1)")
    (tmp_path / "x.ts").write_text(
        f"@timeStamps true\n@classLabel true a b\n@data\n{first}:{second}:a\n(0,1.5),(1,2.5):(0,4),(1,5):b\n"
    )
    with pytest.warns(DataWarning, match="1 time step missing"):
        one, two = Ts().read(tmp_path / "x.ts")
    expected = [[1, -1], [2, 2], [3, -3], [np.nan, np.nan], [np.nan, np.nan]]
    np.testing.assert_array_equal(one.channels, expected)
    assert one.times[:2] == ("2024-01-01 00:00:00", "2024-01-01 00:01:00")
    assert (one.label, two.label, two.channels.tolist()) == ("a", "b", [[1.5, 4], [2.5, 5]])


def test_ucr_tables(signals, tmp_path):
    records = list(UcrTable().read(signals / "ucr" / "ECG200_TRAIN.txt"))
    table = np.loadtxt(signals / "ucr" / "ECG200_TRAIN.txt")
    assert np.array_equal([record.channels[:, 0] for record in records], table[:, 1:])
    assert [record.label for record in records] == [f"{label:g}" for label in table[:, 0]]
    (tmp_path / "x.tsv").write_text("a\t1\t2\tNaN\nb\t1\tNaN\t3\n")
    short, holed = UcrTable().read(tmp_path / "x.tsv")
    assert short.channels[:, 0].tolist() == [1, 2]
    assert np.array_equal(holed.channels[:, 0], [1, np.nan, 3], equal_nan=True)


@pytest.mark.parametrize(
    ("text", "reported"),
    [
        ("@problemName x\n1,2\n", "line 2: there is no @data line"),
        ("@data\n1,2:3\n", r"line 2: a series of channels of \[1, 2\] values"),
        ("@data\n1,x\n", "line 2: could not convert"),
        ("@timestamps true\n@data\n1,2,3\n", "line 3: a series with time stamps"),
        ("@timestamps true\n@data\n(0,1),(1,2):(0,1),(2,2)\n", "line 3: the channels of a series have different"),
        ("@data\n", "there are no series"),
    ],
)
def test_broken_archives_are_told(text, reported, tmp_path):
    (tmp_path / "x.ts").write_text(text)
    with pytest.raises(DataError, match=reported):
        list(Ts().read(tmp_path / "x.ts"))


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_sound_comes_back_byte_for_byte(width, tmp_path):
    full = 1 << (8 * width - 1)
    samples = np.random.default_rng(0).integers(-full, full, (500, 2))
    samples[0] = (-full, full - 1)
    path = tmp_path / "x.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((2, width, 8000, 0, "NONE", ""))
        shifted = samples + full if width == 1 else samples
        frames = b"".join(int(v).to_bytes(width, "little", signed=width > 1) for v in shifted.ravel())
        file.writeframes(frames)
    (record,) = Wav().read(path)
    assert record.rate == 8000
    assert np.array_equal(record.channels * full, samples)
    Wav().write([record], tmp_path / "y.wav")
    assert (tmp_path / "y.wav").read_bytes() == path.read_bytes()
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match=r"is cut short: \d+ of 500 frames"):
        list(Wav().read(path))
    path.write_bytes(b"RIFFnothing")
    with pytest.raises(DataError, match="no sound file"):
        list(Wav().read(path))


def test_contract_on_an_electrocardiogram_and_an_encephalogram(signals):
    (ecg,) = Wfdb().read(signals / "wfdb" / "100.hea")
    (eeg,) = Edf(channels=("Cz..", "Oz..")).read(signals / "EEGMMIDB_S001R04.edf")
    for record, scheme in ((ecg.cut(0, 20_000), "mulaw"), (eeg, "level")):
        report = check_tokenizer(QuantizeTokenizer.fit([record], scheme=scheme), [record])
        assert set(report.round_trip.values()) == {1.0}
