"""Sound files: what stands around the samples, and every sample that was not filled, comes back byte for byte."""

import struct
import wave
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskseq.errors import DataError, UsageError
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


def test_sounds_that_are_no_pcm_or_damaged_are_refused(tmp_path):
    floats = chunk(b"fmt ", struct.pack("<HHIIHH", 3, 1, 8000, 32000, 4, 32))
    uneven = described(2, 2).replace(struct.pack("<H", 4), struct.pack("<H", 3))
    told = {
        "kind 0x0003": riff(floats, chunk(b"data", bytes(8))),
        "no samples": riff(described(1, 2), INFO),
        "no description": riff(INFO),
        "does not begin with RIFF": b"RF64" + riff(described(1, 2), chunk(b"data", bytes(8)))[4:],
        "2 of 4 frames": riff(described(1, 2), chunk(b"data", bytes(8)))[:-4],
        "is damaged": riff(uneven, chunk(b"data", b"1234")),
    }  # fmt: skip
    for problem, content in told.items():
        (tmp_path / "x.wav").write_bytes(content)
        with pytest.raises(DataError, match=problem):
            list(Wav().read(tmp_path / "x.wav"))


def test_a_recording_of_another_length_is_not_written_into_the_sound(tmp_path):
    (tmp_path / "x.wav").write_bytes(riff(described(1, 2), chunk(b"data", bytes(8))))
    (record,) = Wav().read(tmp_path / "x.wav")
    with pytest.raises(UsageError, match="other steps"):
        Wav().write([replace(record, channels=record.channels[:2])], tmp_path / "y.wav")
    assert not (tmp_path / "y.wav").exists()
    Wav().write([record.cut(0, 2)], tmp_path / "z.wav")
    with wave.open(str(tmp_path / "z.wav")) as sound:
        assert (sound.getnframes(), sound.getsampwidth()) == (2, 2)
