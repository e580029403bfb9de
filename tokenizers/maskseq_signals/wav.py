"""PCM sound files. Read and written; samples are in units of full scale, from -1 to below 1."""

import struct
import wave
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import Int64, UInt8

from maskseq.errors import DataError, UsageError
from maskseq.files import create, read_bytes
from maskseq.survey import CERTAIN, Claim, Head
from maskseq.tokenizer import Format
from maskseq_signals.files import plain_name
from maskseq_signals.integers import little_endian
from maskseq_signals.recording import Recording, recorded

PCM = (1).to_bytes(2, "little")
EXTENSIBLE = (0xFFFE).to_bytes(2, "little")
PCM_SUBTYPE = PCM + bytes.fromhex("000000001000800000aa00389b71")


@dataclass(frozen=True, kw_only=True)
class Sound:
    """What a recording remembers of its file: every byte, of which those of the samples may change."""

    content: bytes
    start: int
    """Where the samples begin."""
    stop: int
    n_channels: int
    width: int
    """Bytes a sample."""
    rate: int

    @property
    def samples(self) -> UInt8[np.ndarray, "samples width"]:
        return np.frombuffer(self.content, np.uint8)[self.start : self.stop].reshape(-1, self.width)


@dataclass(frozen=True, kw_only=True)
class Wav(Format[Recording]):
    """PCM of 8, 16, 24 or 32 bits; the recording is called like the file. All values of a sound file are known.

    Written back, everything but the samples that changed is copied from the file: titles, markers and whatever else
    stands before and behind the samples.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".wav",)

    @classmethod
    def recognize(cls, head: Head) -> Claim | None:
        if head.content[:4] != b"RIFF" or head.content[8:12] != b"WAVE":
            return super().recognize(head)
        return Claim(strength=CERTAIN, why="a sound file")

    def read(self, path: Path) -> Iterator[Recording]:
        sound = _sound(read_bytes(path), path)
        samples = _integers(sound.samples).reshape(-1, sound.n_channels)
        yield recorded(
            path,
            key=plain_name(path),
            channels=samples / _full_scale(sound.width),
            names=tuple(f"channel_{index}" for index in range(1, sound.n_channels + 1)),
            rate=float(sound.rate),
            origin=sound,
        )

    def write(self, records: Iterable[Recording], path: Path) -> None:
        """The file that the recording was read from, with the samples that changed; else a new one of 16 bits.

        Values beyond full scale are clipped.
        """
        recordings = list(records)
        if len(recordings) != 1 or recordings[0].rate is None or np.isnan(recordings[0].channels).any():
            raise UsageError(f"{path}: a sound file holds one recording with a rate, all of whose values are known")
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
                sound.writeframes(_bytes(_digital(record, 2), 2).tobytes())


def _sound(content: bytes, path: Path) -> Sound:
    """The layout of a file: a sequence of chunks, of which `fmt ` describes the samples and `data` holds them."""
    if content[:4] != b"RIFF" or content[8:12] != b"WAVE":
        raise DataError(path, "no PCM sound file: it does not begin with RIFF and WAVE")
    layout: bytes | None = None
    position = 12
    while position + 8 <= len(content):
        name, size = struct.unpack_from("<4sI", content, position)
        position += 8
        if name == b"data" and layout is not None:
            return _described(content, layout, position, size, path)
        if name == b"fmt ":
            layout = content[position : position + size]
        position += size + size % 2  # a chunk of an odd number of bytes is followed by one more
    missing = "samples" if layout is not None else "description of its samples"
    raise DataError(path, f"no PCM sound file, or a damaged one (there is no {missing} in it)")


def _described(content: bytes, layout: bytes, start: int, size: int, path: Path) -> Sound:
    """The samples of `size` bytes from `start` on, as the chunk `fmt ` says."""
    plain, extended = layout[:2] == PCM, layout[:2] == EXTENSIBLE and layout[24:40] == PCM_SUBTYPE
    if len(layout) < 16 or not (plain or extended):
        raise DataError(path, f"no PCM sound file: its samples are of kind 0x{layout[1::-1].hex()}, or compressed")
    n_channels, rate, _, promised, bits = struct.unpack_from("<HIIHH", layout, 2)
    width = (bits + 7) // 8
    frame = n_channels * width
    if not 1 <= width <= 4 or rate == 0:
        raise DataError(path, f"has samples of {bits} bits at a rate of {rate}; 8 to 32 bits are read")
    if rate * frame >= 1 << 32:  # what the header itself says of bytes a second has 32 bits
        raise DataError(path, f"has {rate:,} samples a second, more than a sound file can say it has")
    if n_channels == 0 or promised not in (0, frame):  # 0: some writers leave it out
        raise DataError(path, f"is damaged: {n_channels} channels of {bits} bits, but {promised} bytes for all of them")
    n_frames, there = size // frame, min(size, len(content) - start) // frame
    if there < n_frames or not n_frames:
        raise DataError(path, f"is cut short: {there:,} of {n_frames:,} frames")
    return Sound(
        content=content, start=start, stop=start + n_frames * frame, n_channels=n_channels, width=width, rate=rate
    )


def _updated(record: Recording) -> bytes:
    """The bytes of the file that the recording was read from, but for the samples that changed."""
    sound: Sound = record.origin
    was = _integers(sound.samples)
    now = _digital(record, sound.width)
    if now.size != was.size or record.channels.shape[1] != sound.n_channels:
        raise UsageError(f"recording {record.key!r} has other steps or channels than the sound it was read from")
    samples = np.where((now != was)[:, None], _bytes(now, sound.width), sound.samples)
    return sound.content[: sound.start] + samples.tobytes() + sound.content[sound.stop :]


def _full_scale(width: int) -> float:
    return float(1 << (8 * width - 1))


def _digital(record: Recording, width: int) -> Int64[np.ndarray, "samples"]:
    """The values as integers, channel by channel of each step."""
    full = _full_scale(width)
    return np.clip(np.rint(record.channels * full), -full, full - 1).astype(np.int64).ravel()


def _integers(samples: UInt8[np.ndarray, "samples width"]) -> Int64[np.ndarray, "samples"]:
    """Signed samples; 8-bit files store them unsigned, all others as little-endian two's complement."""
    width = samples.shape[1]
    if width == 1:
        return samples[:, 0].astype(np.int64) - 128
    return little_endian(samples).astype(np.int64)


def _bytes(samples: Int64[np.ndarray, "samples"], width: int) -> UInt8[np.ndarray, "samples width"]:
    if width == 1:
        return (samples + 128).astype(np.uint8)[:, None]
    return samples.astype("<i4").reshape(-1, 1).view(np.uint8)[:, :width]
