"""Headers of WFDB records: header(5) of the WFDB manual, and what the reference library accepts beyond it."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from maskseq.errors import DataError
from maskseq.files import read_bytes
from maskseq.formats import distinct

USUAL_RATE = 250.0
"""Frames a second where the header says nothing."""
USUAL_GAIN = 200.0
"""Of signals that were not calibrated: the header says 0 or nothing."""
NULL = "0"
"""The format of a signal that has no samples, as in headers that only say how segments are laid out."""
MOST_SAMPLES = 1000
"""In a frame, of one signal."""
LAYOUT = 0
"""The length of a first segment that has no samples: its header says which signals the other segments may have."""
EMPTY = "~"
"""The name of a segment in which nothing was recorded."""

SIGNAL = re.compile(
    r"(?P<file>\S+)\s+(?P<format>\d{1,4})(?:x(?P<per_frame>\d{1,9}))?(?::(?P<skew>\d{1,18}))?(?:\+(?P<offset>\d{1,18}))?"
    r"(?:\s+(?P<gain>[\d.eE+-]+)(?:\((?P<baseline>-?\d{1,10})\))?(?:/(?P<unit>\S+))?"
    r"(?:\s+\d+(?:\s+(?P<zero>-?\d{1,10})(?:\s+(?P<first>-?\d{1,10})(?:\s+(?P<checksum>-?\d{1,10})"
    r"(?:\s+-?\d+(?:\s+(?P<name>.+))?)?)?)?)?)?)?(?:\s+(?P<early>[^\d\s+-].*))?\s*$"
)
"""A name may stand before the fields that precede it have been given (`early`)."""
SEGMENT = re.compile(r"(\S+)\s+(\d{1,18})\s*$")


@dataclass(frozen=True, kw_only=True)
class WfdbSignal:
    """One signal line of a header."""

    file: str
    format: str
    per_frame: int
    """Samples in each frame."""
    skew: int
    """Frames by which the samples are late."""
    offset: int
    """Bytes before the first sample of the file; of FLAC files, samples."""
    gain: float
    """Digital steps a physical unit."""
    baseline: int
    """The digital value that is 0 in physical units."""
    unit: str
    first: int | None
    checksum: int | None
    name: str


@dataclass(frozen=True, kw_only=True)
class WfdbHeader:
    """What a header says: of its signals, or of the segments that follow each other."""

    rate: float | None
    """Frames a second."""
    length: int
    """Frames; 0: as many as the data files hold."""
    signals: tuple[WfdbSignal, ...] = ()
    """Their names are distinct."""
    segments: tuple[tuple[str, int], ...] = ()
    """The name of each segment's record, and its frames."""

    @property
    def files(self) -> list[str]:
        """The data files, in the order of the header."""
        return list(dict.fromkeys(signal.file for signal in self.signals if signal.format != NULL))


def read_header(path: Path) -> WfdbHeader:
    """`DataError` names the line that is no part of a header."""
    content = read_bytes(path).removeprefix(b"\xef\xbb\xbf")
    try:
        text = content.decode()
    except UnicodeDecodeError:  # a unit such as µV
        text = content.decode("latin-1")
    lines = [(n, line.strip()) for n, line in enumerate(text.splitlines(), 1)]
    lines = [(n, line) for n, line in lines if line and not line.startswith("#")]
    words = lines[0][1].split() if lines else []
    segmented = "/" in "".join(words[:1])
    try:
        n_signals, rate = int(words[1]), float(words[2].partition("/")[0]) if len(words) > 2 else None
        length = int(words[3]) if len(words) > 3 else 0
        n_parts = int(words[0].partition("/")[2]) if segmented else n_signals
    except (IndexError, ValueError):
        problem = "no WFDB header: its first line must be NAME SIGNALS RATE SAMPLES"
        raise DataError(path, problem, place="line 1") from None
    described = lines[1 : max(n_parts, 0) + 1]
    if len(described) < n_parts or min(n_parts, n_signals) < 1 or length < 0:
        what = "segments" if segmented else "signals"
        raise DataError(
            path, f"the header promises {n_parts} {what} of {length} samples and describes {len(described)}"
        )
    if rate is not None and not 0 < rate < np.inf:
        raise DataError(path, f"a rate of {rate} samples a second", place=f"line {lines[0][0]}")
    if segmented:
        segments = tuple(_segment(line, path, number) for number, line in described)
        return WfdbHeader(rate=rate, length=length, segments=segments)
    names = _names([_match(line, path, number) for number, line in described])
    signals = [_signal(line, name, path, number) for (number, line), name in zip(described, names, strict=True)]
    return WfdbHeader(rate=rate, length=length, signals=tuple(signals))


def _segment(line: str, path: Path, number: int) -> tuple[str, int]:
    match = SEGMENT.match(line)
    if match is None:
        raise DataError(path, f"cannot be understood as a segment: {line!r}", place=f"line {number}")
    _beside(match[1], path, number)
    return match[1], int(match[2])


def _beside(name: str, path: Path, number: int) -> None:
    """Refuse names that lead out of the folder."""
    if Path(name).name != name or "\0" in name:
        raise DataError(path, f"{name!r} is no file beside the header", place=f"line {number}")


def _match(line: str, path: Path, number: int) -> re.Match[str]:
    match = SIGNAL.match(line)
    if match is None:
        raise DataError(path, f"cannot be understood as a signal: {line!r}", place=f"line {number}")
    return match


def _names(matches: list[re.Match[str]]) -> tuple[str, ...]:
    reported = [(match["name"] or match["early"] or f"signal_{i}").strip() for i, match in enumerate(matches, 1)]
    return distinct(reported)


def _signal(line: str, name: str, path: Path, number: int) -> WfdbSignal:
    match = _match(line, path, number)
    _beside(match["file"], path, number)
    try:
        gain = float(match["gain"] or 0)
    except ValueError:
        gain = np.nan
    if not abs(gain) < np.inf or 0 < abs(gain) < 1e-300:
        raise DataError(path, f"a gain of {match['gain']}", place=f"line {number}")
    per_frame = int(match["per_frame"] or 1) or 1
    if per_frame > MOST_SAMPLES:
        raise DataError(path, f"{per_frame:,} samples a frame", place=f"line {number}")
    zero = int(match["zero"] or 0)
    return WfdbSignal(
        file=match["file"],
        format=match["format"],
        per_frame=per_frame,
        skew=int(match["skew"] or 0),
        offset=int(match["offset"] or 0),
        gain=gain or USUAL_GAIN,
        baseline=zero if match["baseline"] is None else int(match["baseline"]),
        unit=match["unit"] or "mV",
        first=None if match["first"] is None else int(match["first"]),
        checksum=None if match["checksum"] is None else int(match["checksum"]),
        name=name,
    )
