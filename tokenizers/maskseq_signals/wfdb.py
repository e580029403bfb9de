"""WFDB (PhysioNet) records, of signal formats 16, 80 and 212 (WFDB manual, header(5) and signal(5)). Read only."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import Int16

from maskseq.errors import DataError, UsageError
from maskseq.files import is_file, read_bytes
from maskseq.formats import distinct
from maskseq.survey import Claim, Head
from maskseq.tokenizer import Format
from maskseq_signals.bins import fitting_decimals
from maskseq_signals.delimited import SignalCsv
from maskseq_signals.files import plain_name, read_text
from maskseq_signals.recording import Recording, recorded

UNKNOWN = {"16": -(1 << 15), "80": -(1 << 7), "212": -(1 << 11)}
"""The value of each format that says that a sample is not known."""


@dataclass(frozen=True, kw_only=True)
class Signal:
    """One signal line of a header."""

    file: str
    format: str
    offset: int
    """Bytes before the first sample of the file."""
    gain: float
    """Digital steps a physical unit."""
    baseline: int
    """The digital value that is 0 in physical units."""
    unit: str
    first: int | None
    checksum: int | None
    name: str


SIGNAL = re.compile(
    r"(?P<file>\S+)\s+(?P<format>\d+)(?P<packing>[x:]\d+)?(?:\+(?P<offset>\d{1,18}))?"
    r"(?:\s+(?P<gain>[\d.eE+-]+)(?:\((?P<baseline>-?\d{1,10})\))?(?:/(?P<unit>\S+))?"
    r"(?:\s+\d+(?:\s+(?P<zero>-?\d{1,10})(?:\s+(?P<first>-?\d{1,10})(?:\s+(?P<checksum>-?\d{1,10})(?:\s+-?\d+(?:\s+(?P<name>.+))?)?)?)?)?)?)?\s*$"
)


@dataclass(frozen=True, kw_only=True)
class Wfdb(Format[Recording]):
    """One record: give its header (.hea); the data files lie beside it. Checksums are verified."""

    suffixes: ClassVar[tuple[str, ...]] = (".hea",)

    @classmethod
    def recognize(cls, head: Head) -> Claim | None:
        header = head.path.with_suffix(".hea")
        if head.path.suffix not in (".hea", "") and is_file(header) and head.path.name in _files(_header(header)[2]):
            raise DataError(head.path, f"has the samples of a WFDB record; give its header, {header.name}")
        return super().recognize(head)

    def sources(self, path: Path) -> list[Path]:
        return [path, *(path.with_name(name) for name in _files(_header(path)[2]))]

    def read(self, path: Path) -> Iterator[Recording]:
        rate, length, signals = _header(path)
        found: dict[int, np.ndarray] = {}
        for name in _files(signals):
            columns = [i for i, signal in enumerate(signals) if signal.file == name]
            samples = _samples(path.with_name(name), [signals[i] for i in columns], length)
            found |= dict(zip(columns, samples.T, strict=True))
        values = np.empty((length, len(signals)))
        for index, signal in enumerate(signals):
            digital, physical = found[index], values[:, index]
            _verify(signal, digital, path)
            np.subtract(digital, signal.baseline, out=physical, dtype=np.float64)
            physical /= signal.gain
            physical[digital == UNKNOWN[signal.format]] = np.nan
        yield recorded(
            path,
            key=plain_name(path),
            channels=values,
            names=distinct([signal.name for signal in signals]),
            units=tuple(signal.unit for signal in signals),
            rate=rate,
            decimals=tuple(fitting_decimals(1 / signal.gain) for signal in signals),
        )

    def write(self, records: Iterable[Recording], path: Path) -> None:
        raise UsageError(f"{path}: WFDB is read only\n\nhint: write the recordings as CSV or NPZ")

    def written_as(self, path: Path) -> tuple[Format[Recording], Path]:
        return SignalCsv(), path.with_suffix(".csv")


def _files(signals: list[Signal]) -> list[str]:
    """The data files, in the order of the header."""
    return list(dict.fromkeys(signal.file for signal in signals))


def _header(path: Path) -> tuple[float, int, list[Signal]]:
    lines = [(n, line.strip()) for n, line in enumerate(read_text(path).removeprefix("\ufeff").splitlines(), 1)]
    lines = [(n, line) for n, line in lines if line and not line.startswith("#")]
    words = lines[0][1].split() if lines else []
    if len(words) > 0 and "/" in words[0]:
        raise DataError(path, "is a record of several segments; read the headers of its segments one by one")
    try:
        n_signals, rate, length = int(words[1]), float(words[2].partition("/")[0]), int(words[3])
    except (IndexError, ValueError):
        raise DataError(
            path, "no WFDB header: its first line must be NAME SIGNALS RATE SAMPLES", place="line 1"
        ) from None
    told = lines[1 : n_signals + 1]
    if len(told) < n_signals or n_signals < 1 or length < 1:
        raise DataError(path, f"the header promises {n_signals} signals of {length} samples and describes {len(told)}")
    if not 0 < rate < np.inf:
        raise DataError(path, f"a rate of {rate} samples a second", place=f"line {lines[0][0]}")
    return rate, length, [_signal(line, index, path, n) for index, (n, line) in enumerate(told)]


def _signal(line: str, index: int, path: Path, number: int) -> Signal:
    match = SIGNAL.match(line)
    if match is None:
        raise DataError(path, f"cannot be understood as a signal: {line!r}", place=f"line {number}")
    if match["format"] not in UNKNOWN or match["packing"]:
        told = match["format"] + (match["packing"] or "")
        raise DataError(
            path, f"signal format {told} is not read; those are: {', '.join(UNKNOWN)}", place=f"line {number}"
        )
    if Path(match["file"]).name != match["file"] or "\0" in line:
        raise DataError(path, f"{match['file']!r} is no file beside the header", place=f"line {number}")
    try:
        gain = float(match["gain"] or 0)
    except ValueError:
        gain = np.nan
    if not abs(gain) < np.inf or 0 < abs(gain) < 1e-300:
        raise DataError(path, f"a gain of {match['gain']}", place=f"line {number}")
    zero = int(match["zero"] or 0)
    return Signal(
        file=match["file"],
        format=match["format"],
        offset=int(match["offset"] or 0),
        gain=gain or 200.0,  # 0 or nothing: uncalibrated, for which the manual sets 200
        baseline=zero if match["baseline"] is None else int(match["baseline"]),
        unit=match["unit"] or "mV",
        first=None if match["first"] is None else int(match["first"]),
        checksum=None if match["checksum"] is None else int(match["checksum"]),
        name=(match["name"] or f"signal_{index + 1}").strip(),
    )


def _samples(path: Path, signals: list[Signal], length: int) -> Int16[np.ndarray, "length signals"]:
    """The samples of the signals that share a data file, interleaved there. A day of them is long: no wider copies."""
    kinds = {(signal.format, signal.offset) for signal in signals}
    if len(kinds) > 1:
        raise DataError(path, "its signals are said to be of different formats")
    (kind, offset), n = kinds.pop(), length * len(signals)
    content = np.frombuffer(read_bytes(path), dtype=np.uint8)[offset:]
    size = {"16": 2 * n, "80": n, "212": (3 * n + 1) // 2}[kind]
    if len(content) < size:
        raise DataError(path, f"is cut short: {len(content):,} bytes of samples, but the header promises {size:,}")
    content = content[:size]
    match kind:
        case "16":
            flat = content.view("<i2").astype(np.int16, copy=False)
        case "80":
            flat = content.astype(np.int16) - np.int16(128)
        case _:
            flat = _unpacked_212(content)[:n]
    return flat.reshape(length, len(signals))


def _unpacked_212(content: np.ndarray) -> Int16[np.ndarray, "samples"]:
    """Two 12-bit samples in three bytes: low bits of the first, high bits of both, low bits of the second."""
    low, nibbles, high = np.pad(content, (0, -len(content) % 3)).reshape(-1, 3).T
    pairs = np.empty((len(low), 2), dtype=np.int16)
    pairs[:, 0] = low | (nibbles.astype(np.int16) & 0x0F) << 8
    pairs[:, 1] = high | (nibbles.astype(np.int16) & 0xF0) << 4
    pairs[pairs >= 1 << 11] -= 1 << 12
    return pairs.ravel()


def _verify(signal: Signal, column: Int16[np.ndarray, "length"], path: Path) -> None:
    """The header's initial value, and its 16-bit sum of all samples."""
    if signal.first is not None and column[0] != signal.first:
        problem = f"signal {signal.name!r} begins with {column[0]}, but the header says {signal.first}"
    elif signal.checksum is not None and (int(column.sum(dtype=np.int64)) - signal.checksum) % (1 << 16):
        problem = f"signal {signal.name!r} has another checksum than the header says"
    else:
        return
    raise DataError(path.with_name(signal.file), f"{problem}: the data are damaged, or of another record")
