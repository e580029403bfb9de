"""Headers of EDF, EDF+ and BDF files (edfplus.info/specs), and what instruments write instead."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from maskseq.errors import DataError

ANNOTATIONS = ("EDF Annotations", "BDF Annotations")
WIDTHS = (16, 80, 8, 8, 8, 8, 8, 80, 8, 32)
"""Characters of what the header says of each signal, one thing of all signals behind the other."""
LABEL, _, UNIT, LOW, HIGH, DIGITAL_LOW, DIGITAL_HIGH, _, SAMPLES, _ = range(len(WIDTHS))


@dataclass(frozen=True, kw_only=True)
class EdfSignal:
    """How one signal, or the annotations, are stored."""

    label: str
    unit: str
    place: int
    """Where its samples begin in each data record, in samples of all signals."""
    samples: int
    """In each data record."""
    gain: float
    """Physical units a digital step; 0: the header gives no range, which makes it a dead channel."""
    offset: float
    """In digital steps."""

    @property
    def is_annotation(self) -> bool:
        return self.label in ANNOTATIONS


@dataclass(frozen=True, kw_only=True)
class EdfHeader:
    """What the header says of the layout."""

    size: int
    n_records: int
    """-1 where the header does not say it."""
    duration: float
    """Of a data record, in seconds."""
    signals: tuple[EdfSignal, ...]
    width: int
    """Bytes a sample."""
    extended: bool
    """EDF+ or BDF+: the first annotation of each data record says when it begins."""
    discontinuous: bool

    @property
    def record_bytes(self) -> int:
        return sum(signal.samples for signal in self.signals) * self.width

    def holding(self, n_bytes: int, path: Path) -> tuple["EdfHeader", str]:
        """With as many data records as are whole in a file of so many bytes, and what was wrong with their number."""
        there = max(n_bytes - self.size, 0) // self.record_bytes
        n_records = there if self.n_records < 0 else min(self.n_records, there)
        if n_records < 1:
            raise DataError(
                path, f"is cut short: {n_bytes:,} bytes, but one data record ends at {self.size + self.record_bytes:,}"
            )
        left = n_bytes - self.size - n_records * self.record_bytes
        reported = []
        if self.n_records < 0:
            reported.append(f"its header does not say how many data records it has; {n_records:,} are there")
        elif n_records < self.n_records:
            reported.append(f"cut short: {n_records:,} of {self.n_records:,} data records are there")
        if left:
            reported.append(f"{left:,} bytes behind the last whole data record are left out")
        return replace(self, n_records=n_records), "; ".join(reported)


def read_header(content: bytes, path: Path) -> EdfHeader:
    """`DataError` names the byte at which a number should stand."""

    def number(start: int, size: int, what: str) -> float:
        text = content[start : start + size]
        try:
            value = float(text.strip(b" \0").replace(b",", b"."))
        except ValueError:
            value = np.nan
        if not abs(value) < np.inf or b"_" in text:
            raise DataError(path, f"no EDF header: {what} should be a number, not {text!r}", place=f"byte {start}")
        return value

    size, n_records, n_signals = number(184, 8, "header size"), number(236, 8, "records"), number(252, 4, "signals")
    if size != 256 * (n_signals + 1) or not (n_records == -1 or n_records >= 1) or not 1 <= n_signals < 10_000:
        raise DataError(
            path, f"no EDF header: {n_signals:g} signals, {n_records:g} data records, {size:g} bytes of header"
        )
    n, width = int(n_signals), 3 if content[:1] == b"\xff" else 2

    def place(what: int, signal: int) -> int:
        return 256 + sum(WIDTHS[:what]) * n + WIDTHS[what] * signal

    def text(what: int, signal: int) -> str:
        return _text(content[place(what, signal) : place(what, signal) + WIDTHS[what]])

    signals, begin = [], 0
    for i in range(n):
        samples = number(place(SAMPLES, i), 8, f"samples of signal {i + 1}")
        if samples < 1:
            raise DataError(path, f"signal {i + 1} has {samples:g} samples a data record")
        label = text(LABEL, i)
        ends = [0.0] * 4  # those of annotations mean nothing
        if label not in ANNOTATIONS:
            ends = [number(place(what, i), 8, f"an end of the range of signal {i + 1}") for what in range(LOW, LOW + 4)]
        gain, offset = _scale(*ends)
        signals.append(
            EdfSignal(label=label, unit=text(UNIT, i), place=begin, samples=int(samples), gain=gain, offset=offset)
        )
        begin += int(samples)
    kind = content[192:197]
    return EdfHeader(
        size=int(size),
        n_records=int(n_records),
        duration=number(244, 8, "duration of a data record"),
        signals=tuple(signals),
        width=width,
        extended=kind in (b"EDF+C", b"EDF+D", b"BDF+C", b"BDF+D"),
        discontinuous=kind in (b"EDF+D", b"BDF+D"),
    )


def _scale(low: float, high: float, digital_low: float, digital_high: float) -> tuple[float, float]:
    """Gain and offset; 0 for a range that has no width, of values or of digital steps."""
    if low == high or digital_low == digital_high:
        return 0.0, 0.0
    gain = (high - low) / (digital_high - digital_low)
    return (gain, high / gain - digital_high) if abs(gain) > 1e-300 else (0.0, 0.0)


def _text(field: bytes) -> str:
    """ASCII, says the specification; there are files in UTF-8 and in Latin-1."""
    try:
        text = field.decode()
    except UnicodeDecodeError:
        text = field.decode("latin-1")
    return text.strip(" \0")
