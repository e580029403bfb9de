"""PCM sound files. Read and written; samples are in units of full scale, from -1 to below 1."""

import io
import wave
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from maskseq.errors import DataError, UsageError
from maskseq.files import create, read_bytes
from maskseq.survey import CERTAIN, Claim, Head
from maskseq.tokenizer import Format
from maskseq_signals.files import plain_name
from maskseq_signals.recording import Recording, recorded


@dataclass(frozen=True, kw_only=True)
class Wav(Format[Recording]):
    """PCM of 8, 16, 24 or 32 bits; the recording is called like the file. All values of a sound file are known."""

    suffixes: ClassVar[tuple[str, ...]] = (".wav",)

    @classmethod
    def recognize(cls, head: Head) -> Claim | None:
        if head.content[:4] != b"RIFF" or head.content[8:12] != b"WAVE":
            return super().recognize(head)
        return Claim(strength=CERTAIN, why="a sound file")

    def read(self, path: Path) -> Iterator[Recording]:
        try:
            with wave.open(io.BytesIO(read_bytes(path))) as file:
                n_channels, width, rate, n_frames, *_ = file.getparams()
                frames = file.readframes(n_frames)
        except (wave.Error, EOFError, RuntimeError) as error:  # RuntimeError: a chunk that ends behind the file
            raise DataError(path, f"no PCM sound file, or a damaged one ({str(error) or 'it is cut short'})") from None
        if len(frames) != n_frames * n_channels * width or not frames:
            got = len(frames) // (n_channels * width)
            raise DataError(path, f"is cut short: {got:,} of {n_frames:,} frames")
        if width > 4 or rate == 0:
            raise DataError(path, f"has samples of {8 * width} bits at a rate of {rate}; 8 to 32 bits are read")
        if rate * n_channels * width >= 1 << 32:  # what the header itself says of bytes a second has 32 bits
            raise DataError(path, f"has {rate:,} samples a second, more than a sound file can say it has")
        samples = _integers(frames, width).reshape(-1, n_channels)
        yield recorded(
            path,
            key=plain_name(path),
            channels=samples / float(1 << (8 * width - 1)),
            names=tuple(f"channel_{index}" for index in range(1, n_channels + 1)),
            rate=float(rate),
            origin=width,
        )

    def write(self, records: Iterable[Recording], path: Path) -> None:
        """At the width that the recording was read with, else 16 bits; values beyond full scale are clipped."""
        recordings = list(records)
        if len(recordings) != 1 or recordings[0].rate is None or np.isnan(recordings[0].channels).any():
            raise UsageError(f"{path}: a sound file holds one recording with a rate, all of whose values are known")
        (record,) = recordings
        width = record.origin if isinstance(record.origin, int) else 2
        full = 1 << (8 * width - 1)
        samples = np.clip(np.rint(record.channels * full), -full, full - 1).astype(np.int64)
        with create(path) as file, wave.open(file, "wb") as sound:
            sound.setnchannels(record.channels.shape[1])
            sound.setsampwidth(width)
            sound.setframerate(round(record.rate or 0))
            sound.writeframes(_bytes(samples, width))


def _integers(frames: bytes, width: int) -> np.ndarray:
    """Signed samples; 8-bit files store them unsigned, all others as little-endian two's complement."""
    if width == 1:
        return np.frombuffer(frames, dtype=np.uint8).astype(np.int64) - 128
    wide = np.zeros((len(frames) // width, 4), dtype=np.uint8)
    wide[:, 4 - width :] = np.frombuffer(frames, dtype=np.uint8).reshape(-1, width)
    return wide.view("<i4")[:, 0].astype(np.int64) >> (8 * (4 - width))


def _bytes(samples: np.ndarray, width: int) -> bytes:
    if width == 1:
        return (samples + 128).astype(np.uint8).tobytes()
    return samples.astype("<i4").reshape(-1, 1).view(np.uint8)[:, :width].tobytes()
