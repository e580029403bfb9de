"""WAV sound files. Read and written; samples are in units of full scale, from -1 to below 1."""

import struct
import wave
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import Float64, UInt8

from maskseq.errors import DataError, UsageError
from maskseq.files import create, read_bytes
from maskseq.formats import Format
from maskseq.survey import CERTAIN, Claim, Head
from maskseq_signals.files import recording_name
from maskseq_signals.libsndfile import decompressed, opened
from maskseq_signals.pcm import FLOAT, PCM, WIDTHS, Coding
from maskseq_signals.recording import Recording, recorded

BEGINNINGS = (b"RIFF", b"RF64", b"BW64")
"""The last two are for files beyond 4 GiB: the chunk `ds64` has their lengths."""
EXTENSIBLE = 0xFFFE
SUBTYPE = bytes.fromhex("000000001000800000aa00389b71")
"""What follows the kind of the samples in an extensible description."""
SAID_ELSEWHERE = 0xFFFFFFFF
STREAMED = 0x7FFF0000
"""Lengths from which on a program did not know how much it was going to write."""


@dataclass(frozen=True, kw_only=True)
class Sound:
    """What a recording remembers of its file: every byte, of which those of the samples may change."""

    content: bytes
    start: int
    """Where the samples begin."""
    stop: int
    n_channels: int
    coding: Coding
    rate: int

    @property
    def samples(self) -> UInt8[np.ndarray, "samples width"]:
        return np.frombuffer(self.content, np.uint8)[self.start : self.stop].reshape(-1, self.coding.width)

    def values(self) -> Float64[np.ndarray, "steps channels"]:
        return self.coding.decode(self.samples).reshape(-1, self.n_channels)


@dataclass(frozen=True, kw_only=True)
class Compressed:
    """A file whose samples have no bytes of their own."""

    kind: int
    rate: int


@dataclass(frozen=True, kw_only=True)
class Wav(Format[Recording]):
    """PCM of 8, 16, 24 or 32 bits, floats of 32 or 64, A-law and mu-law; the recording is called like the file.

    NaN among floats is an unknown value; all values of other files are known. Written back, everything but the samples
    that changed is copied from the file: titles, markers and whatever else stands before and behind the samples.
    Compressed sound (ADPCM, GSM) is read with libsndfile, and written as PCM of 16 bits.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".wav",)

    @classmethod
    def recognize(cls, head: Head) -> Claim | None:
        if head.content[:4] not in BEGINNINGS or head.content[8:12] != b"WAVE":
            return super().recognize(head)
        return Claim(strength=CERTAIN, why="a sound file")

    def read(self, path: Path) -> Iterator[Recording]:
        content = read_bytes(path)
        sound = _sound(content, path)
        values = _decompressed(content, sound, path) if isinstance(sound, Compressed) else sound.values()
        yield recorded(
            path,
            key=recording_name(path),
            channels=values,
            names=tuple(f"channel_{index}" for index in range(1, values.shape[1] + 1)),
            rate=float(sound.rate),
            origin=None if isinstance(sound, Compressed) else sound,
        )

    def write(self, records: Iterable[Recording], path: Path) -> None:
        """The file that the recording was read from, with the samples that changed; else a new one of 16 bits.

        Values beyond full scale are clipped, but for floats.
        """
        recordings = list(records)
        if len(recordings) != 1 or recordings[0].rate is None or not _can_hold(recordings[0]):
            raise UsageError(
                f"{path}: a sound file holds one recording with a rate, all of whose values are known",
                code="not-supported",
            )
        (record,) = recordings
        content = _updated(record) if isinstance(record.origin, Sound) else None
        with create(path) as file:
            if content is not None:
                file.write(content)
                return
            with wave.open(file, "wb") as sound:
                sound.setnchannels(record.channels.shape[1])
                sound.setsampwidth(2)
                sound.setframerate(round(record.rate or 0))
                sound.writeframes(Coding(PCM, 2).encode(record.channels.ravel()).tobytes())


def _can_hold(record: Recording) -> bool:
    """Whether the file has a way to say which values are unknown, if some are."""
    floats = isinstance(record.origin, Sound) and record.origin.coding.kind == FLOAT
    return floats or not np.isnan(record.channels).any()


def _sound(content: bytes, path: Path) -> Sound | Compressed:
    """The layout of a file: a sequence of chunks, of which `fmt ` describes the samples and `data` holds them."""
    if content[:4] not in BEGINNINGS or content[8:12] != b"WAVE":
        raise DataError(path, "no sound file: it does not begin with RIFF and WAVE")
    layout: bytes | None = None
    length = None
    position = 12
    while position + 8 <= len(content):
        name, size = struct.unpack_from("<4sI", content, position)
        position += 8
        if name == b"data" and layout is not None:
            size = length if length and size == SAID_ELSEWHERE else size
            return _described(content, layout, position, size, path)
        if name == b"fmt ":
            layout = content[position : position + size]
        elif name == b"ds64" and size >= 16 and position + 16 <= len(content):
            length = struct.unpack_from("<Q", content, position + 8)[0]
        position += size + size % 2  # a chunk of an odd number of bytes is followed by one more
    missing = "samples" if layout is not None else "description of its samples"
    raise DataError(path, f"no sound file, or a damaged one (there is no {missing} in it)")


def _described(content: bytes, layout: bytes, start: int, size: int, path: Path) -> Sound | Compressed:
    """The samples of `size` bytes from `start` on, as the chunk `fmt ` says."""
    if len(layout) < 16:
        raise DataError(path, f"no sound file, or a damaged one ({len(layout)} bytes describe its samples)")
    kind, n_channels, rate, _, promised, bits = struct.unpack_from("<HHIIHH", layout)
    if kind == EXTENSIBLE and layout[26:40] == SUBTYPE:
        (kind,) = struct.unpack_from("<H", layout, 24)
    if kind not in WIDTHS:
        return Compressed(kind=kind, rate=rate)
    width = (bits + 7) // 8
    frame = n_channels * width
    if width not in WIDTHS[kind] or rate == 0:
        known = ", ".join(str(8 * each) for each in WIDTHS[kind])
        raise DataError(path, f"has samples of {bits} bits at a rate of {rate}; of kind {kind}, {known} bits are read")
    if rate * frame >= 1 << 32:  # what the header itself says of bytes a second has 32 bits
        raise DataError(path, f"has {rate:,} samples a second, more than a sound file can say it has")
    if n_channels == 0 or promised not in (0, frame):  # 0: some writers leave it out
        raise DataError(path, f"is damaged: {n_channels} channels of {bits} bits, but {promised} bytes for all of them")
    n_frames, there = size // frame, (len(content) - start) // frame
    if _is_streamed(content, size, there * frame):
        n_frames = there
    if there < n_frames or not n_frames:
        raise DataError(path, f"is cut short: {there:,} of {n_frames:,} frames")
    stop = start + n_frames * frame
    return Sound(content=content, start=start, stop=stop, n_channels=n_channels, coding=Coding(kind, width), rate=rate)


def _is_streamed(content: bytes, size: int, there: int) -> bool:
    """Whether the program that wrote the file could not go back to say how long it became.

    A length of 0 may be true; then that of the whole file is, too.
    """
    if size == 0:
        return int.from_bytes(content[4:8], "little") + 8 < len(content)
    return size >= STREAMED and size > there


def _decompressed(content: bytes, sound: Compressed, path: Path) -> Float64[np.ndarray, "steps channels"]:
    with opened(content, path, f"sound of kind 0x{sound.kind:04x}") as stream:
        return decompressed(stream, "int16", path, len(content)) / 32768


def _updated(record: Recording) -> bytes:
    """The bytes of the file that the recording was read from, but for the samples that changed."""
    sound: Sound = record.origin
    was, now = sound.values(), record.channels
    if now.shape != was.shape:
        raise UsageError(
            f"recording {record.key!r} has other steps or channels than the sound it was read from",
            code="not-supported",
        )
    changed = (now != was) & ~(np.isnan(now) & np.isnan(was))
    samples = sound.samples.copy()
    samples[changed.ravel()] = sound.coding.encode(now[changed])
    return sound.content[: sound.start] + samples.tobytes() + sound.content[sound.stop :]
