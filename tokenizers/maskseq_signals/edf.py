"""EDF, EDF+ and BDF files, read with edfio (the extra `signals`). Read only.

What edfio and others accept without a word is refused here: files whose bytes were changed in transit. A file of the
right length may still be garbage, so the structure within is checked, too.
"""

import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float64, Int64, UInt8

from maskseq.errors import DataError, MaskseqError, UsageError
from maskseq.files import read_bytes
from maskseq.formats import distinct
from maskseq.survey import CERTAIN, Claim, Head
from maskseq.tokenizer import Format
from maskseq_signals.bins import fitting_decimals
from maskseq_signals.delimited import SignalCsv
from maskseq_signals.files import plain_name
from maskseq_signals.recording import Recording, recorded
from maskseq_signals.timeline import FARTHEST, Timeline, spread

ONSET = re.compile(rb"([+-]\d{1,15}(?:\.\d{0,15})?)(?:\x15[\d.]*)?\x14")
ANNOTATIONS = ("EDF Annotations", "BDF Annotations")


@dataclass(frozen=True, kw_only=True)
class Header:
    """What the fixed-width header says of the layout (edfplus.info/specs)."""

    size: int
    n_records: int
    labels: tuple[str, ...]
    samples: tuple[int, ...]
    """Samples a data record of each signal."""
    width: int
    """Bytes a sample."""
    extended: bool
    """EDF+ or BDF+: the first annotation of each data record says when it begins."""
    discontinuous: bool


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
        header = _header(head.content, head.path)
        signals = [(n, s) for n, s in zip(header.labels, header.samples, strict=True) if n not in ANNOTATIONS]
        rates = Counter(samples for _, samples in signals)
        if len(rates) < 2:
            return Claim(strength=CERTAIN, why="the header of EDF or BDF")
        most = rates.most_common(1)[0][0]
        names = distinct([name for name, _ in signals])
        chosen = [name for name, (_, samples) in zip(names, signals, strict=True) if samples == most]
        why = f"the header of EDF or BDF; of its {len(names)} channels, the {len(chosen)} of the commonest rate"
        return Claim(strength=CERTAIN, why=why, options={"channels": chosen})

    def read(self, path: Path) -> Iterator[Recording]:
        content = read_bytes(path)
        header = _header(content, path)
        _check(content, header, path)
        with _explained(path):
            signals = _signals(content, path)
            names = distinct([signal.label for signal in signals])
        if not names:
            raise DataError(path, "has no signals, only annotations; read those as an event log")
        missing = [name for name in self.channels or () if name not in names]
        if missing:
            raise UsageError(f"{path} has no channel {missing[0]!r}\n\nhint: it has {', '.join(names)}")
        wanted = names if self.channels is None else self.channels
        chosen = [signals[names.index(name)] for name in wanted]
        with _explained(path):
            rates = {float(signal.sampling_frequency) for signal in chosen}
            steps = [(s.physical_max - s.physical_min) / (s.digital_max - s.digital_min) for s in chosen]
            units = tuple(signal.physical_dimension for signal in chosen)
            decimals = tuple(fitting_decimals(abs(step)) for step in steps)
        if len(rates) > 1:
            told = ", ".join(f"{rate:g}" for rate in sorted(rates))
            raise DataError(path, f"channels of different rates ({told} a second); choose some: channels = [...]")
        with _explained(path):
            values = np.empty((len(chosen[0].digital), len(chosen)))
            for index, signal in enumerate(chosen):  # a day of them is long: no more than one beside the result
                values[:, index] = signal.data
        rate, per_record = rates.pop(), len(values) // header.n_records
        onsets = _onsets(content, header, path)
        if onsets is None:
            onsets = np.arange(header.n_records) * (per_record / rate)
        for key, stretch in _in_order(path, onsets, rate, per_record):
            yield recorded(
                path,
                key=key,
                channels=values if stretch is None else spread(values, stretch),
                names=wanted,
                units=units,
                rate=rate,
                start=float(onsets[0 if stretch is None else stretch[0] // per_record]),
                decimals=decimals,
            )

    def write(self, records: Iterable[Recording], path: Path) -> None:
        raise UsageError(f"{path}: EDF is read only\n\nhint: write the recordings as CSV or NPZ")

    def written_as(self, path: Path) -> tuple[Format[Recording], Path]:
        return SignalCsv(), path.with_suffix(".csv")


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
        return iter([(plain_name(path), None)])
    samples = np.arange(len(onsets) * per_record)
    moves = np.ones(len(samples) - 1, np.int64)
    moves[per_record - 1 :: per_record][: len(gaps)] += gaps
    timeline = Timeline(path, lambda sample: f"data record {sample // per_record + 1}", hint="")
    parts = list(timeline.parted(samples, moves))
    timeline.tell()
    return zip(distinct([plain_name(path)] * len(parts)), parts, strict=True)


def _signals(content: bytes, path: Path) -> list[Any]:
    try:
        import edfio
    except ImportError:
        raise UsageError(f"{path}: reading EDF needs edfio\n\nhint: pip install 'maskseq[signals]'") from None
    read = edfio.read_bdf if content[:1] == b"\xff" else edfio.read_edf
    return list(read(io.BytesIO(content)).signals)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """What a broken header causes, which edfio lets through, some of it only when a value is asked for."""
    try:
        yield
    except MaskseqError:
        raise
    except Exception as error:
        raise DataError(path, f"is no valid EDF: {error or type(error).__name__}".replace("\n", " ")) from None


def _check(content: bytes, header: Header, path: Path) -> None:
    """Refuse a file whose length, padding or time-keeping annotations are not what its header says."""
    expected = header.size + header.n_records * sum(header.samples) * header.width
    if len(content) != expected:
        mangled = content.count(b"\xef\xbf\xbd") > 100
        why = "; every byte above 127 was replaced (U+FFFD), as if it were text" if mangled else ""
        raise DataError(
            path, f"has {len(content):,} bytes, but its header promises {expected:,}{why}: get a whole copy"
        )
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
    if len(feeds) >= 1000 and (values[np.maximum(feeds - 1, 0)] == 0x0D).all():
        raise DataError(path, f"each of its {len(feeds):,} line feed bytes follows a CR: it was transferred as text")


def _time_keepers(content: bytes, header: Header) -> UInt8[np.ndarray, "records bytes"] | None:
    """The annotations of each data record that begin with its time; None where the file has none."""
    annotations = [i for i, label in enumerate(header.labels) if label in ANNOTATIONS]
    if not header.extended or not annotations:
        return None
    body = np.frombuffer(content, dtype=np.uint8)[header.size :].reshape(header.n_records, -1)
    before = sum(header.samples[: annotations[0]]) * header.width
    return body[:, before : before + header.samples[annotations[0]] * header.width]


def _onsets(content: bytes, header: Header, path: Path) -> Float64[np.ndarray, "records"] | None:
    """When each data record begins, in seconds; None where the file does not say it, as it has no gaps."""
    keepers = _time_keepers(content, header)
    if keepers is None:
        if header.discontinuous:
            raise DataError(path, "has gaps, as its header says, but no annotations that say where")
        return None
    found = [ONSET.match(keeper.tobytes()) for keeper in keepers]
    if None in found:
        number = found.index(None)
        told = keepers[number].tobytes().partition(b"\x14")[0][:20]
        raise DataError(path, f"{told!r} is not the time at which it begins", place=f"data record {number + 1}")
    return np.array([float(match[1]) for match in found if match])


def _header(content: bytes, path: Path) -> Header:
    def number(start: int, size: int, what: str) -> int:
        try:
            return int(content[start : start + size])
        except ValueError:
            text = content[start : start + size]
            raise DataError(
                path, f"no EDF header: {what} should be a number, not {text!r}", place=f"byte {start}"
            ) from None

    size, n_records, n_signals = number(184, 8, "header size"), number(236, 8, "records"), number(252, 4, "signals")
    if size != 256 * (n_signals + 1) or n_records < 1 or n_signals < 1:
        raise DataError(path, f"no EDF header: {n_signals} signals, {n_records} data records, {size} bytes of header")
    samples = [number(256 + 216 * n_signals + 8 * i, 8, f"samples of signal {i + 1}") for i in range(n_signals)]
    if min(samples) < 1:
        raise DataError(path, f"signal {samples.index(min(samples)) + 1} has {min(samples)} samples a data record")
    labels = [content[256 + 16 * i : 272 + 16 * i].decode("latin-1").strip() for i in range(n_signals)]
    return Header(
        size=size,
        n_records=n_records,
        labels=tuple(labels),
        samples=tuple(samples),
        width=3 if content[:1] == b"\xff" else 2,
        extended=content[192:197] in (b"EDF+C", b"EDF+D", b"BDF+C", b"BDF+D"),
        discontinuous=content[192:197] in (b"EDF+D", b"BDF+D"),
    )
