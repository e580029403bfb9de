"""Data files of WFDB records, unpacked to integers: signal(5) of the WFDB manual."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from jaxtyping import Integer, UInt8

from maskseq.errors import DataError
from maskseq.files import read_bytes
from maskseq_signals.integers import little_endian
from maskseq_signals.libsndfile import decompressed, opened
from maskseq_signals.wfdb_header import WfdbSignal

BITS = {"8": 8, "16": 16, "24": 24, "32": 32, "61": 16, "80": 8, "160": 16, "212": 12, "310": 10, "311": 10}
BLOCKS = {"212": (2, 3), "310": (3, 4), "311": (3, 4)}
"""Samples, and the bytes that hold them, where samples share bytes."""
FLAC = {"508": 8, "516": 16, "524": 24}
DIFFERENCES = "8"
"""The format whose numbers are what each sample adds to the one before."""
UNKNOWN = {kind: -(1 << (bits - 1)) for kind, bits in (BITS | FLAC).items() if kind != DIFFERENCES}
"""The value of each format that says that a sample is not known."""
SUBTYPES = {"PCM_S8": 8, "PCM_16": 16, "PCM_24": 24}
"""What libsndfile calls FLAC streams of so many bits."""


def read_samples(path: Path, signals: Sequence[WfdbSignal], length: int) -> list[Integer[np.ndarray, "samples"]]:
    """All samples of the signals that share a data file: `length` frames, or, where that is 0, as many as it holds.

    A day of samples is long: no wider copies.
    """
    kinds = {(signal.format, signal.offset) for signal in signals}
    if len(kinds) > 1:
        raise DataError(path, "its signals are said to be of different formats")
    kind, offset = kinds.pop()
    if kind in FLAC:
        return _flac(path, signals, length)
    if kind not in BITS:
        known = ", ".join([*BITS, *FLAC])
        raise DataError(path, f"its samples are of format {kind}, which is not read; those are: {known}")
    width = sum(signal.per_frame for signal in signals)
    content = np.frombuffer(read_bytes(path), dtype=np.uint8)[offset:]
    per_block, n_bytes = BLOCKS.get(kind, (1, BITS[kind] // 8))
    n = length * width or len(content) * per_block // n_bytes // width * width
    size = -(-n * n_bytes // per_block) + (kind == "310" and n % 3 == 2)  # its second sample ends in the fourth byte
    if len(content) < size or not n:
        raise DataError(path, f"is cut short: {len(content):,} bytes of samples, but the header promises {size:,}")
    frames = _unpacked(kind, content[:size], n).reshape(-1, width)
    ends = np.cumsum([0, *(signal.per_frame for signal in signals)]).tolist()
    columns = [frames[:, start:stop].reshape(-1) for start, stop in pairwise(ends)]
    if kind != DIFFERENCES:
        return columns
    return [c.cumsum(dtype=np.int64) + (signal.first or 0) for c, signal in zip(columns, signals, strict=True)]


def _unpacked(kind: str, content: UInt8[np.ndarray, "bytes"], n: int) -> Integer[np.ndarray, "samples"]:
    match kind:
        case "8":
            return content.view(np.int8)
        case "16":
            return content.view("<i2").astype(np.int16, copy=False)
        case "61":
            return content.view(">i2").astype(np.int16, copy=False)
        case "24":
            return little_endian(content.reshape(-1, 3))
        case "32":
            return content.view("<i4").astype(np.int32, copy=False)
        case "80":
            return content.astype(np.int16) - np.int16(128)
        case "160":
            return (content.view("<u2") ^ np.uint16(1 << 15)).view(np.int16)
    whole = np.pad(content, (0, -len(content) % BLOCKS[kind][1]))
    return {"212": _unpacked_212, "310": _unpacked_310, "311": _unpacked_311}[kind](whole)[:n]


def _unpacked_212(content: UInt8[np.ndarray, "bytes"]) -> Integer[np.ndarray, "samples"]:
    """Two samples in three bytes: low bits of the first, high bits of both, low bits of the second."""
    low, nibbles, high = content.reshape(-1, 3).T
    pairs = np.empty((len(low), 2), dtype=np.int16)
    pairs[:, 0] = low | (nibbles.astype(np.int16) & 0x0F) << 8
    pairs[:, 1] = high | (nibbles.astype(np.int16) & 0xF0) << 4
    return _signed(pairs, 12)


def _unpacked_310(content: UInt8[np.ndarray, "bytes"]) -> Integer[np.ndarray, "samples"]:
    """Three samples in two words of 16 bits: above the lowest bit of each, and the five highest bits of both."""
    first, second = content.view("<u2").astype(np.uint16, copy=False).reshape(-1, 2).T
    triples = np.empty((len(first), 3), dtype=np.int16)
    triples[:, 0] = first >> 1 & 0x3FF
    triples[:, 1] = second >> 1 & 0x3FF
    triples[:, 2] = first >> 11 | second >> 11 << 5
    return _signed(triples, 10)


def _unpacked_311(content: UInt8[np.ndarray, "bytes"]) -> Integer[np.ndarray, "samples"]:
    """Three samples in a word of 32 bits, the first in the lowest."""
    words = content.view("<u4")
    triples = np.empty((len(words), 3), dtype=np.int16)
    for index in range(3):
        triples[:, index] = words >> 10 * index & 0x3FF
    return _signed(triples, 10)


def _signed(samples: Integer[np.ndarray, "blocks n"], bits: int) -> Integer[np.ndarray, "samples"]:
    samples[samples >= 1 << (bits - 1)] -= 1 << bits
    return samples.reshape(-1)


def _flac(path: Path, signals: Sequence[WfdbSignal], length: int) -> list[Integer[np.ndarray, "samples"]]:
    """A channel a signal, all with equally many samples a frame; the offset counts samples."""
    packed, per_frame, bits = read_bytes(path), {signal.per_frame for signal in signals}, FLAC[signals[0].format]
    if len(per_frame) > 1:
        raise DataError(path, f"signals of {sorted(per_frame)} samples a frame cannot share a FLAC file")
    if not packed.startswith(b"fLaC"):
        raise DataError(path, "is no FLAC file, as its header says")
    with opened(packed, path, "FLAC") as stream:
        found = SUBTYPES.get(stream.subtype, 0)
        if stream.channels != len(signals) or not 0 < found <= bits:
            problem = f"{stream.channels} channels of {stream.subtype}, but the header describes {len(signals)}"
            raise DataError(path, f"{problem} of at most {bits} bits")
        samples = decompressed(stream, "int32" if found > 16 else "int16", path, len(packed))
    samples >>= samples.dtype.itemsize * 8 - found  # they come in the highest bits
    samples, k = samples[signals[0].offset :], per_frame.pop()
    frames = length or len(samples) // k
    if len(samples) < frames * k or not frames:
        problem = f"{len(samples):,} samples of each signal, but the header promises {frames * k:,}"
        raise DataError(path, f"is cut short: {problem}")
    return list(samples[: frames * k].T)
