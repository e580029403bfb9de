"""WFDB (PhysioNet) records, read as the reference library reads them. Read only."""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float64, Integer

from maskseq.errors import DataError, DataWarning, UsageError
from maskseq.files import FREE, RATIO, is_file
from maskseq.formats import ADDED, Format
from maskseq.survey import Choice, Claim, Head
from maskseq_signals.bins import fitting_decimals
from maskseq_signals.delimited import SignalCsv
from maskseq_signals.files import recording_name
from maskseq_signals.recording import Recording, recorded
from maskseq_signals.wfdb_header import EMPTY, LAYOUT, NULL, USUAL_RATE, WfdbHeader, WfdbSignal, read_header
from maskseq_signals.wfdb_samples import DIFFERENCES, UNKNOWN, read_samples

Frames = Literal["mean", "samples"]


@dataclass(frozen=True, kw_only=True)
class WfdbSegment:
    """A record without segments: the whole of what is read, or one segment of it."""

    path: Path
    header: WfdbHeader
    """Without signals where nothing was recorded."""
    length: int
    """Frames; 0: as many as the data files hold."""


@dataclass(frozen=True, kw_only=True)
class Wfdb(Format[Recording]):
    """One record: give its header (.hea); the data files and the headers of segments lie beside it.

    What a segment does not have, and what lies between segments, is unknown.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".hea",)

    channels: tuple[str, ...] | None = field(default=None, metadata=ADDED)
    """Signals to read (default: all)."""
    frames: Frames = field(default="mean", metadata=ADDED)
    """Of signals with several samples a frame: their mean, the default of the WFDB library, or all samples; then the
    signals that are read must have equally many."""
    checksums: bool = field(default=True, metadata=ADDED)
    """Refuse samples that are not those of the header's initial values and checksums."""

    @classmethod
    def recognize(cls, head: Head) -> Claim | None:
        """With all samples where all signals have equally many a frame."""
        header = head.path.with_suffix(".hea")
        if head.path.suffix not in (".hea", "") and is_file(header) and head.path.name in read_header(header).files:
            raise DataError(head.path, f"has the samples of a WFDB record; give its header, {header.name}")
        claim = super().recognize(head)
        if claim is None or not head.name.endswith(cls.suffixes):
            return claim
        try:
            header_only = read_header(head.path)
            counts = {s.name: s.per_frame for s in _signals(head.path, *_parts(head.path, header_only))}
        except DataError:
            return claim  # reading it says what is wrong
        most = max(counts.values(), default=1)
        if most == 1:
            return claim
        finest = [name for name, n in counts.items() if n == most]
        if len(finest) == len(counts):
            return replace(claim, why=f"{claim.why}; {most} samples a frame", options={"frames": "samples"})
        why = f"{claim.why}; signals of {_listed(counts.values())} samples a frame, of which means are taken"
        options = {"channels": finest, "frames": "samples"}
        return replace(claim, why=why, instead=(Choice(why=f"only those of {most} samples a frame", options=options),))

    def sources(self, path: Path) -> list[Path]:
        header = read_header(path)
        _, parts = _parts(path, header)
        headers = [_header_of(path, name) for name, _ in header.segments if name != EMPTY]
        data = [part.path.with_name(name) for part in parts for name in part.header.files]
        return list(dict.fromkeys([path, *headers, *data]))

    def read(self, path: Path) -> Iterator[Recording]:
        header = read_header(path)
        layout, parts = _parts(path, header)
        chosen = self._chosen(_signals(path, layout, parts), path)
        per_frame = self._samples_a_frame(chosen, path)
        if not header.segments:
            found = self._digital(parts[0], chosen)
            values = np.empty(
                (max(len(each) for _, each in found.values()) // chosen[0].per_frame * per_frame, len(chosen))
            )
            self._measure(found, chosen, values)
        else:
            ends = (np.cumsum([0, *(part.length for part in parts)]) * per_frame).tolist()
            _refuse_emptiness(path, parts, ends[-1] * len(chosen))
            values = np.full((ends[-1], len(chosen)), np.nan)
            for part, (start, stop) in zip(parts, pairwise(ends), strict=True):
                self._measure(self._digital(part, chosen), chosen, values[start:stop])
        yield recorded(
            path,
            key=recording_name(path),
            channels=values,
            names=tuple(signal.name for signal in chosen),
            units=tuple(signal.unit for signal in chosen),
            rate=(header.rate or USUAL_RATE) * per_frame,
            decimals=tuple(fitting_decimals(1 / signal.gain) for signal in chosen),
        )

    def write(self, records: Iterable[Recording], path: Path) -> None:
        raise UsageError(f"{path}: WFDB is read only\n\nhint: write the recordings as CSV or NPZ", code="not-supported")

    def written_as(self, path: Path) -> tuple[Format[Recording], Path]:
        return SignalCsv(), path.with_suffix(".csv")

    def _chosen(self, signals: Sequence[WfdbSignal], path: Path) -> list[WfdbSignal]:
        """Those with samples, or those that are asked for."""
        names = {signal.name: signal for signal in signals if signal.format != NULL}
        if not names:
            raise DataError(path, "has no signal with samples")
        missing = [name for name in self.channels or () if name not in names]
        if missing:
            raise UsageError(
                f"{path} has no samples of a signal {missing[0]!r}\n\nhint: it has {', '.join(names)}",
                code="unknown-name",
            )
        empty = [signal.name for signal in signals if signal.format == NULL]
        if empty and self.channels is None:
            warnings.warn(f"{path}: no samples of {', '.join(empty)}: left out", DataWarning, stacklevel=3)
        return [names[name] for name in self.channels or names]

    def _samples_a_frame(self, chosen: Sequence[WfdbSignal], path: Path) -> int:
        """How many steps of each frame are read."""
        counts = {signal.per_frame for signal in chosen}
        if self.frames == "samples":
            if len(counts) > 1:
                problem = f"signals of {_listed(counts)} samples a frame; choose some of equally many: channels = [...]"
                raise DataError(path, problem)
            return counts.pop()
        if max(counts) > 1:
            reported = f"signals of {_listed(counts)} samples a frame are read as the mean of each frame"
            hint = 'frames = "samples" reads all, of signals of equally many: channels = [...]'
            warnings.warn(f"{path}: {reported} ({hint})", DataWarning, stacklevel=3)
        return 1

    def _digital(
        self, part: WfdbSegment, chosen: Sequence[WfdbSignal]
    ) -> dict[str, tuple[WfdbSignal, Integer[np.ndarray, "_"]]]:
        """The samples of the signals that a part has, as they are in its files."""
        wanted, length = {signal.name for signal in chosen}, part.header.length
        found: dict[str, tuple[WfdbSignal, np.ndarray]] = {}
        for file in part.header.files:
            signals = [signal for signal in part.header.signals if signal.file == file]
            if wanted.isdisjoint(signal.name for signal in signals):
                continue
            for signal, digital in zip(signals, read_samples(part.path.with_name(file), signals, length), strict=True):
                if self.checksums and part.header.length:  # of an unknown length, checksums count for nothing
                    _verify(signal, digital, part.path)
                length = len(digital) // signal.per_frame
                if length < part.length:
                    problem = f"has {length:,} frames, but the record that it is a segment of promises {part.length:,}"
                    raise DataError(part.path, problem)
                if signal.name in wanted:
                    found[signal.name] = signal, digital[: (part.length or length) * signal.per_frame]
        return found

    def _measure(
        self,
        found: dict[str, tuple[WfdbSignal, Integer[np.ndarray, "_"]]],
        chosen: Sequence[WfdbSignal],
        values: Float64[np.ndarray, "steps channels"],
    ) -> None:
        """Put samples in physical units into the columns of their signals."""
        for column, name in enumerate(signal.name for signal in chosen):
            if name in found:
                signal, digital = found[name]
                smooth = signal.per_frame > 1 and self.frames == "mean"
                (_means if smooth else _each)(signal, digital, values[:, column])
                late = signal.skew * (signal.per_frame if self.frames == "samples" else 1)
                if late:
                    values[:, column] = np.concatenate([values[late:, column], np.full(min(late, len(values)), np.nan)])


def _parts(path: Path, header: WfdbHeader) -> tuple[WfdbHeader | None, list[WfdbSegment]]:
    """The header of the layout, if there is one, and what follows each other in a record."""
    if not header.segments:
        return None, [WfdbSegment(path=path, header=header, length=header.length)]
    layout, segments = None, header.segments
    if segments[0][1] == LAYOUT:
        layout = None if segments[0][0] == EMPTY else read_header(_header_of(path, segments[0][0]))
        segments = segments[1:]
    parts = []
    for name, length in segments:
        if name == EMPTY:
            parts.append(WfdbSegment(path=path, header=WfdbHeader(rate=None, length=length), length=length))
            continue
        part = WfdbSegment(path=_header_of(path, name), header=read_header(_header_of(path, name)), length=length)
        if part.header.segments:
            raise DataError(part.path, f"is a segment of {path.name}, but has segments itself")
        if None not in (part.header.rate, header.rate) and part.header.rate != header.rate:
            problem = f"{part.header.rate} frames a second, but {header.rate} in {path.name}, which it is a segment of"
            raise DataError(part.path, problem)
        parts.append(part)
    total = sum(part.length for part in parts)
    if not total or header.length not in (0, total):
        raise DataError(path, f"promises {header.length:,} frames, but its segments have {total:,}")
    return layout, parts


def _header_of(path: Path, name: str) -> Path:
    return path.with_name(f"{name}.hea")


def _signals(path: Path, layout: WfdbHeader | None, parts: Sequence[WfdbSegment]) -> list[WfdbSignal]:
    """All signals of a record, in the order of its layout; each as the first segment that has it says."""
    found: dict[str, WfdbSignal] = {} if layout is None else {signal.name: signal for signal in layout.signals}
    for part in parts:
        for signal in part.header.signals:
            known = found.get(signal.name, signal)
            if known.per_frame != signal.per_frame or (known.format != NULL and known.unit != signal.unit):
                reported = f"{signal.per_frame} samples a frame in {signal.unit}"
                other = f"{known.per_frame} in {known.unit} elsewhere in {path.name}"
                raise DataError(part.path, f"signal {signal.name!r} has {reported}, but {other}")
            found[signal.name] = signal if known.format == NULL else known
    return list(found.values())


def _refuse_emptiness(path: Path, parts: Sequence[WfdbSegment], n_values: int) -> None:
    """Refuse segments of which hardly anything can be there, before room is made for them."""
    files = {part.path.with_name(name) for part in parts for name in part.header.files}
    there = sum(file.stat().st_size for file in files if is_file(file))
    if 8 * n_values > max(FREE, RATIO * there):
        raise DataError(path, f"promises {n_values:,} values, but its data files have {there:,} bytes")


def _each(signal: WfdbSignal, digital: Integer[np.ndarray, "steps"], values: Float64[np.ndarray, "steps"]) -> None:
    """Physical units, NaN where the sample is not known."""
    np.subtract(digital, signal.baseline, out=values, dtype=np.float64)
    values /= signal.gain
    if signal.format in UNKNOWN:
        values[digital == UNKNOWN[signal.format]] = np.nan


def _means(signal: WfdbSignal, digital: Integer[np.ndarray, "samples"], values: Float64[np.ndarray, "steps"]) -> None:
    """The mean of each frame's known samples, in whole digital steps towards zero, as the WFDB library rounds them."""
    frames = digital.reshape(-1, signal.per_frame)
    known = frames != UNKNOWN[signal.format] if signal.format in UNKNOWN else np.ones(frames.shape, dtype=bool)
    n_known = known.sum(axis=1)
    sums = np.where(known, frames, 0).sum(axis=1, dtype=np.int64)
    np.trunc(sums / np.maximum(n_known, 1), out=values)
    values -= signal.baseline
    values /= signal.gain
    values[n_known == 0] = np.nan


def _listed(counts: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(set(counts), reverse=True)))


def _verify(signal: WfdbSignal, column: Integer[np.ndarray, "samples"], path: Path) -> None:
    """The header's initial value, and its 16-bit sum of all samples.

    Differences begin with the one to the initial value, and a skewed signal with samples of other frames.
    """
    starts = signal.first is not None and signal.format != DIFFERENCES and not signal.skew
    if starts and column[0] != signal.first:
        problem = f"signal {signal.name!r} begins with {column[0]}, but the header says {signal.first}"
    elif signal.checksum is not None and (int(column.sum(dtype=np.int64)) - signal.checksum) % (1 << 16):
        problem = f"signal {signal.name!r} has another checksum than the header says"
    else:
        return
    hint = "to read them nevertheless, set checksums = false"
    raise DataError(
        path.with_name(signal.file), f"{problem}: the data are damaged, or of another record\n\nhint: {hint}"
    )
