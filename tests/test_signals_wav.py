"""Sound files: what stands around the samples, and every sample that was not filled, comes back byte for byte."""

import struct
import wave
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskseq.errors import DataError, UsageError
from maskseq_signals.pcm import Coding
from maskseq_signals.wav import Wav

GUID = bytes.fromhex("0100000000001000800000aa00389b71")


def chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def riff(*chunks: bytes) -> bytes:
    body = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def described(n_channels: int, width: int, rate: int = 8000, *, extensible: bool = False) -> bytes:
    frame = n_channels * width
    plain = struct.pack("<HHIIHH", 0xFFFE if extensible else 1, n_channels, rate, rate * frame, frame, 8 * width)
    return chunk(b"fmt ", plain + (struct.pack("<HHI", 22, 8 * width, 3) + GUID if extensible else b""))


def through(content: bytes, folder: Path, change=lambda values: values) -> bytes:
    (folder / "x.wav").write_bytes(content)
    (record,) = Wav().read(folder / "x.wav")
    Wav().write([replace(record, channels=change(record.channels.copy()))], folder / "y.wav")
    return (folder / "y.wav").read_bytes()


INFO = chunk(b"LIST", b"INFO" + chunk(b"INAM", b"a title") + chunk(b"IART", b"somebody"))
CUE = chunk(b"cue ", struct.pack("<IIIIIII", 1, 1, 5, int.from_bytes(b"data", "little"), 0, 0, 5))
BEXT = chunk(b"bext", bytes(range(256)) + b"odd")
CHUNKS = st.lists(
    st.tuples(st.sampled_from([b"LIST", b"cue ", b"bext", b"JUNK", b"id3 ", b"iXML"]), st.binary(max_size=9)),
    max_size=4,
)


@settings(max_examples=150, deadline=None)
@given(
    before=CHUNKS,
    between=CHUNKS,
    behind=CHUNKS,
    tail=st.binary(max_size=5),
    width=st.integers(1, 4),
    n_channels=st.integers(1, 3),
    extensible=st.booleans(),
    data=st.data(),
)
def test_only_filled_samples_change_whatever_stands_around_them(
    before, between, behind, tail, width, n_channels, extensible, data, tmp_path_factory
):
    n = n_channels * data.draw(st.integers(1, 7))
    full = 1 << (8 * width - 1)
    samples = data.draw(st.lists(st.integers(-full, full - 1), min_size=n, max_size=n))

    def frames(values):
        signed = width > 1
        return b"".join(int(v + (0 if signed else full)).to_bytes(width, "little", signed=signed) for v in values)

    around = [
        riff(*(chunk(*each) for each in before), described(n_channels, width, extensible=extensible),
             *(chunk(*each) for each in between)),
        b"".join(chunk(*each) for each in behind) + tail,
    ]  # fmt: skip
    folder = tmp_path_factory.mktemp("wav")
    content = around[0] + chunk(b"data", frames(samples)) + around[1]
    assert through(content, folder) == content
    filled = data.draw(st.dictionaries(st.integers(0, n - 1), st.integers(-full, full - 1), max_size=3))
    expected = [filled.get(index, value) for index, value in enumerate(samples)]

    def fill(values):
        for index, value in filled.items():
            values[index // n_channels, index % n_channels] = value / full
        return values

    assert through(content, folder, fill) == around[0] + chunk(b"data", frames(expected)) + around[1]


def test_titles_markers_and_broadcast_data_are_kept_around_a_fill(tmp_path):
    def sound(*values):
        return riff(BEXT, described(1, 1), INFO, chunk(b"data", bytes(values)), CUE, chunk(b"LIST", b"adtl" + b"x" * 3))

    content = sound(128, 0, 255)  # an odd number of bytes: one of padding
    assert through(content, tmp_path) == content

    def fill(values):
        values[1] = 0.5
        return values

    assert through(content, tmp_path, fill) == sound(128, 192, 255)
    with wave.open(str(tmp_path / "y.wav")) as file:
        assert file.readframes(9) == bytes([128, 192, 255])


def test_sounds_that_are_damaged_are_refused(tmp_path):
    uneven = described(2, 2).replace(struct.pack("<H", 4), struct.pack("<H", 3))
    odd = described(1, 2).replace(struct.pack("<HH", 1, 1), struct.pack("<HH", 3, 1))
    reported = {
        "no samples": riff(described(1, 2), INFO),
        "no description": riff(INFO),
        "does not begin with RIFF": b"RIFX" + riff(described(1, 2), chunk(b"data", bytes(8)))[4:],
        "2 of 4 frames": riff(described(1, 2), chunk(b"data", bytes(8)))[:-4],
        "0 of 0 frames": riff(described(1, 2), chunk(b"data", b"")),
        "is damaged": riff(uneven, chunk(b"data", b"1234")),
        "samples of 16 bits .* 32, 64 bits": riff(odd, chunk(b"data", bytes(8))),
        "0x0002": riff(odd.replace(struct.pack("<HH", 3, 1), struct.pack("<HH", 2, 1)), chunk(b"data", b"")),
    }  # fmt: skip
    for problem, content in reported.items():
        (tmp_path / "x.wav").write_bytes(content)
        with pytest.raises(DataError, match=problem):
            list(Wav().read(tmp_path / "x.wav"))


SUBTYPES = ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ALAW", "ULAW"]


@pytest.mark.parametrize("subtype", SUBTYPES)
@pytest.mark.parametrize("container", ["WAV", "WAVEX", "RF64"])
def test_every_kind_of_samples_is_what_libsndfile_reads(subtype, container, tmp_path):
    soundfile = pytest.importorskip("soundfile")
    path = tmp_path / "x.wav"
    samples = np.random.default_rng(0).uniform(-1, 1, (5000, 2))
    samples[:3] = [[-1, 0], [1, -0.0], [1e-9, 0.5]]
    soundfile.write(path, samples, 8000, format=container, subtype=subtype)
    (record,) = Wav().read(path)
    expected, rate = soundfile.read(path)
    np.testing.assert_array_equal(record.channels, expected)
    assert (record.rate, record.names) == (rate, ("channel_1", "channel_2"))
    content = path.read_bytes()
    assert through(content, tmp_path) == content
    new = np.array([0.25, -0.5])

    def fill(values):
        values[7] = new
        return values

    filled = through(content, tmp_path, fill)
    assert len(filled) == len(content)
    (tmp_path / "y.wav").write_bytes(filled)
    written, _ = soundfile.read(tmp_path / "y.wav")
    np.testing.assert_allclose(written[7], new, atol=1 / 64 if "LAW" in subtype else 1 / 200)
    np.testing.assert_array_equal(np.delete(written, 7, axis=0), np.delete(expected, 7, axis=0))


@pytest.mark.parametrize("kind", [6, 7])
def test_all_bytes_of_the_laws_of_telephones(kind, tmp_path):
    """Each is the nearest to its own value; the two zeros are one."""
    soundfile = pytest.importorskip("soundfile")
    layout = chunk(b"fmt ", struct.pack("<HHIIHH", kind, 1, 8000, 8000, 1, 8))
    (tmp_path / "x.wav").write_bytes(riff(layout, chunk(b"data", bytes(range(256)))))
    (record,) = Wav().read(tmp_path / "x.wav")
    np.testing.assert_array_equal(record.channels[:, 0], soundfile.read(tmp_path / "x.wav")[0])
    coding = Coding(kind, 1)
    codes = coding.encode(record.channels[:, 0])
    np.testing.assert_array_equal(coding.decode(codes), record.channels[:, 0])
    between = np.random.default_rng(0).uniform(-1, 1, 500)
    error = np.abs(coding.decode(coding.encode(between)) - between)
    np.testing.assert_array_equal(error, np.abs(record.channels[:, 0] - between[:, None]).min(axis=1))


def test_unknown_samples_of_floats_are_filled_and_written_as_floats(tmp_path):
    layout = chunk(b"fmt ", struct.pack("<HHIIHH", 3, 1, 8000, 32000, 4, 32))
    samples = np.array([0.1, np.nan, 3.5, -0.25], "<f4")
    content = riff(INFO, layout, chunk(b"data", samples.tobytes()), CUE)
    assert through(content, tmp_path) == content

    def fill(values):
        assert np.isnan(values[:, 0]).tolist() == [False, True, False, False]
        values[1] = 1.75
        return values

    samples[1] = 1.75
    assert through(content, tmp_path, fill) == riff(INFO, layout, chunk(b"data", samples.tobytes()), CUE)
    (tmp_path / "x.wav").write_bytes(riff(layout, chunk(b"data", np.array([1, np.inf], "<f4").tobytes())))
    with pytest.raises(DataError, match="step 2"):
        list(Wav().read(tmp_path / "x.wav"))


@pytest.mark.parametrize("size", [0, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
@pytest.mark.parametrize("tail", [b"", b"x"])
def test_streamed_sound_ends_with_the_file(size, tail, tmp_path):
    """A program that writes to a pipe cannot say how much it is going to write."""
    samples = np.arange(-4, 4, dtype="<i2")
    whole = riff(described(2, 2), chunk(b"data", samples.tobytes()))
    at = whole.index(b"data") + 4
    streamed = whole[:4] + struct.pack("<I", min(size, 0xFFFFFFFF)) + whole[8:at] + struct.pack("<I", size)
    content = streamed + whole[at + 4 :] + tail
    (tmp_path / "x.wav").write_bytes(content)
    (record,) = Wav().read(tmp_path / "x.wav")
    np.testing.assert_array_equal(record.channels.ravel() * 32768, samples)
    assert through(content, tmp_path) == content


@pytest.mark.parametrize("subtype", ["IMA_ADPCM", "MS_ADPCM", "GSM610"])
def test_compressed_sound_is_read_and_written_as_pcm(subtype, tmp_path):
    soundfile = pytest.importorskip("soundfile")
    samples = np.sin(np.arange(4000) / 9) / 2
    soundfile.write(tmp_path / "x.wav", samples, 8000, subtype=subtype)
    (record,) = Wav().read(tmp_path / "x.wav")
    expected, _ = soundfile.read(tmp_path / "x.wav")
    np.testing.assert_array_equal(record.channels[:, 0], expected)
    Wav().write([record], tmp_path / "y.wav")
    written, _ = soundfile.read(tmp_path / "y.wav")
    np.testing.assert_array_equal(written, expected)
    assert soundfile.info(tmp_path / "y.wav").subtype == "PCM_16"


def test_a_recording_of_another_length_is_not_written_into_the_sound(tmp_path):
    (tmp_path / "x.wav").write_bytes(riff(described(1, 2), chunk(b"data", bytes(8))))
    (record,) = Wav().read(tmp_path / "x.wav")
    with pytest.raises(UsageError, match="other steps"):
        Wav().write([replace(record, channels=record.channels[:2])], tmp_path / "y.wav")
    assert not (tmp_path / "y.wav").exists()
    Wav().write([record.cut(0, 2)], tmp_path / "z.wav")
    with wave.open(str(tmp_path / "z.wav")) as sound:
        assert (sound.getnframes(), sound.getsampwidth()) == (2, 2)
