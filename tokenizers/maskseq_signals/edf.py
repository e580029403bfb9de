"""EDF, EDF+ and BDF files. Read only.

What others accept without a word is refused here: files whose bytes were changed in transit. A file of the right length
may still be garbage, so the structure within is checked, too.
"""

import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import Float64, Int64, Integer, UInt8

from maskseq.errors import DataError, DataWarning, UsageError
from maskseq.files import read_bytes
from maskseq.formats import Format, distinct
from maskseq.survey import CERTAIN, Claim, Head
from maskseq_signals.bins import fitting_decimals
from maskseq_signals.delimited import SignalCsv
from maskseq_signals.edf_header import EdfHeader, EdfSignal, read_header
from maskseq_signals.files import recording_name
from maskseq_signals.integers import little_endian
from maskseq_signals.recording import Recording, recorded
from maskseq_signals.timeline import FARTHEST, Timeline, spread

ONSET = re.compile(rb"([+-]\d{1,15}(?:\.\d{0,15})?)(?:\x15[\d.]*)?\x14")
MANY_FEEDS = 1000
"""Line feed bytes that are no accident if each follows a CR."""


@dataclass(frozen=True, kw_only=True)
class Edf(Format[Recording]):
    """One recording a file, in physical units; several where the file has long gaps. Its channels must be of one rate:
    else choose some.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".edf", ".bdf")

    channels: tuple[str, ...] | None = None
    """Channels to read, all of one rate (default: all, which then must be of one rate)."""

    @classmethod
    def recognize(cls, head: Head) -> Claim | None:
        """With the channels of the commonest rate where there are several."""
        if not (head.content.startswith((b"0       ", b"\xffBIOSEMI")) and head.name.endswith(cls.suffixes)):
            return super().recognize(head)
        if not head.whole and len(head.content) < 256 * 1000:
            return Claim(strength=CERTAIN, why="the header of EDF or BDF")
        channels = _channels(read_header(head.content, head.path))
        live = {name: signal.samples for name, signal in channels.items() if signal.gain}
        counts = Counter(live.values())
        if len(counts) < 2:
            return Claim(strength=CERTAIN, why="the header of EDF or BDF")
        most = counts.most_common(1)[0][0]
        chosen = [name for name, samples in live.items() if samples == most]
        why = f"the header of EDF or BDF; of its {len(channels)} channels, the {len(chosen)} of the commonest rate"
        return Claim(strength=CERTAIN, why=why, options={"channels": chosen})

    def read(self, path: Path) -> Iterator[Recording]:
        content = read_bytes(path)
        header = _checked(content, path)
        chosen = self._chosen(_channels(header), path)
        counts = {signal.samples for signal in chosen.values()}
        if not header.duration > 0:
            raise DataError(path, f"data records of {header.duration:g} s", place="byte 244")
        if len(counts) > 1:
            reported = ", ".join(f"{count / header.duration:g}" for count in sorted(counts))
            raise DataError(path, f"channels of different rates ({reported} a second); choose some: channels = [...]")
        per_record = counts.pop()
        rate = per_record / header.duration
        values = np.empty((header.n_records * per_record, len(chosen)))
        for column, signal in enumerate(chosen.values()):  # a day of them is long: no more than one beside the result
            np.add(_samples(content, header, signal), signal.offset, out=values[:, column], dtype=np.float64)
            values[:, column] *= signal.gain
        onsets = _onsets(content, header, path)
        if onsets is None:
            onsets = np.arange(header.n_records) * (per_record / rate)
        for key, stretch in _in_order(path, onsets, rate, per_record):
            yield recorded(
                path,
                key=key,
                channels=values if stretch is None else spread(values, stretch),
                names=tuple(chosen),
                units=tuple(signal.unit for signal in chosen.values()),
                rate=rate,
                start=float(onsets[0 if stretch is None else stretch[0] // per_record]),
                decimals=tuple(fitting_decimals(abs(signal.gain)) for signal in chosen.values()),
            )

    def write(self, records: Iterable[Recording], path: Path) -> None:
        raise UsageError(f"{path}: EDF is read only\n\nhint: write the recordings as CSV or NPZ", code="not-supported")

    def written_as(self, path: Path) -> tuple[Format[Recording], Path]:
        return SignalCsv(), path.with_suffix(".csv")

    def _chosen(self, channels: dict[str, EdfSignal], path: Path) -> dict[str, EdfSignal]:
        """Those that are asked for, or all that are not dead."""
        if not channels:
            raise DataError(path, "has no signals, only annotations; read those as an event log")
        missing = [name for name in self.channels or () if name not in channels]
        if missing:
            raise UsageError(
                f"{path} has no channel {missing[0]!r}\n\nhint: it has {', '.join(channels)}", code="unknown-name"
            )
        dead = [name for name in self.channels or channels if not channels[name].gain]
        if len(dead) == len(self.channels or channels) or (dead and self.channels):
            raise DataError(path, f"the header gives a range without any width for channel {dead[0]!r}")
        if dead:
            reported = f"{len(dead)} dead of {len(channels)} channels left out, as their range has no width"
            warnings.warn(f"{path}: {reported}: {', '.join(dead)}", DataWarning, stacklevel=3)
        return {name: channels[name] for name in self.channels or channels if name not in dead}


def _channels(header: EdfHeader) -> dict[str, EdfSignal]:
    signals = [signal for signal in header.signals if not signal.is_annotation]
    return dict(zip(distinct([signal.label for signal in signals]), signals, strict=True))


def _records(content: bytes, header: EdfHeader) -> UInt8[np.ndarray, "records bytes"]:
    n_bytes = header.n_records * header.record_bytes
    return np.frombuffer(content, np.uint8, n_bytes, header.size).reshape(header.n_records, -1)


def _samples(content: bytes, header: EdfHeader, signal: EdfSignal) -> Integer[np.ndarray, "samples"]:
    start, stop = (at * header.width for at in (signal.place, signal.place + signal.samples))
    return little_endian(_records(content, header)[:, start:stop].reshape(-1, header.width))


def _in_order(
    path: Path, onsets: Float64[np.ndarray, "records"], rate: float, per_record: int
) -> Iterator[tuple[str, Int64[np.ndarray, "steps"] | None]]:
    """The samples of each stretch without a long gap, -1 where they are missing; None for all of them, without gaps."""
    gaps = np.clip(np.rint((np.diff(onsets) - per_record / rate) * rate), -1, FARTHEST).astype(np.int64)
    back = np.flatnonzero(gaps < 0)
    if len(back):
        before, after = onsets[back[0]], onsets[back[0] + 1]
        problem = f"begins at {after:g} s, before the end of the one that begins at {before:g} s"
        raise DataError(path, problem, place=f"data record {back[0] + 2}")
    if not gaps.any():  # a day of samples has no room for their numbers
        return iter([(recording_name(path), None)])
    samples = np.arange(len(onsets) * per_record)
    moves = np.ones(len(samples) - 1, np.int64)
    moves[per_record - 1 :: per_record][: len(gaps)] += gaps
    timeline = Timeline(path, lambda sample: f"data record {sample // per_record + 1}", hint="")
    parts = list(timeline.parted(samples, moves))
    timeline.tell()
    return zip(distinct([recording_name(path)] * len(parts)), parts, strict=True)


def _checked(content: bytes, path: Path) -> EdfHeader:
    """The header, with the number of data records that are there, of which is warned if it is another one.

    Refuse a file whose bytes were changed in transit.
    """
    promised = read_header(content, path)
    header, reported = promised.holding(len(content), path)
    if reported and content.count(b"\xef\xbf\xbd") > 100:
        why = "every byte above 127 was replaced (U+FFFD), as if it were text: get a whole copy"
        raise DataError(path, f"has {len(content):,} bytes, which are not those that its header promises; {why}")
    keepers = _time_keepers(content, header)
    if keepers is not None:
        wrong = np.flatnonzero((keepers[:, 0] != ord("+")) & (keepers[:, 0] != ord("-")))
        if len(wrong):
            raise DataError(
                path,
                "it does not begin with the time that EDF+ puts there: the bytes have shifted, as when a line feed "
                "was turned into CR LF in transit; get a whole copy",
                place=f"data record {wrong[0] + 1}",
            )
    values = np.frombuffer(content, dtype=np.uint8)[header.size :]
    feeds = np.flatnonzero(values == 0x0A)
    more = len(values) - promised.n_records * header.record_bytes if promised.n_records > 0 else 0
    if (len(feeds) >= MANY_FEEDS or 0 < more <= len(feeds)) and (values[np.maximum(feeds - 1, 0)] == 0x0D).all():
        raise DataError(path, f"each of its {len(feeds):,} line feed bytes follows a CR: it was transferred as text")
    if reported:
        warnings.warn(f"{path}: {reported}", DataWarning, stacklevel=3)
    return header


def _time_keepers(content: bytes, header: EdfHeader) -> UInt8[np.ndarray, "records bytes"] | None:
    """The annotations of each data record that begin with its time; None where the file has none."""
    keeper = next((signal for signal in header.signals if signal.is_annotation), None)
    if not header.extended or keeper is None:
        return None
    start, stop = (at * header.width for at in (keeper.place, keeper.place + keeper.samples))
    return _records(content, header)[:, start:stop]


def _onsets(content: bytes, header: EdfHeader, path: Path) -> Float64[np.ndarray, "records"] | None:
    """When each data record begins, in seconds; None where the file does not say it, as it has no gaps."""
    keepers = _time_keepers(content, header)
    if keepers is None:
        if header.discontinuous:
            raise DataError(path, "has gaps, as its header says, but no annotations that say where")
        return None
    found = [ONSET.match(keeper.tobytes()) for keeper in keepers]
    if None in found:
        number = found.index(None)
        reported = keepers[number].tobytes().partition(b"\x14")[0][:20]
        raise DataError(path, f"{reported!r} is not the time at which it begins", place=f"data record {number + 1}")
    return np.array([float(match[1]) for match in found if match])
