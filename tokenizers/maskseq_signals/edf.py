"""EDF, EDF+ and BDF files, read with edfio (the extra `signals`). Read only.

What edfio and others accept without a word is refused here: files whose bytes were changed in transit. A file of the
right length may still be garbage, so the structure within is checked, too.
"""

import io
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from maskseq.errors import DataError, MaskseqError, UsageError
from maskseq.files import read_bytes
from maskseq.survey import CERTAIN, Claim, Head
from maskseq.tokenizer import Format
from maskseq_signals.bins import fitting_decimals
from maskseq_signals.delimited import SignalCsv
from maskseq_signals.files import plain_name
from maskseq_signals.recording import Recording, distinct, recorded

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


@dataclass(frozen=True, kw_only=True)
class Edf(Format[Recording]):
    """One recording a file, in physical units. Its channels must be of one rate: else choose some."""

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
        _check(content, path)
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
        yield recorded(
            path,
            key=plain_name(path),
            channels=values,
            names=wanted,
            units=units,
            rate=rates.pop(),
            decimals=decimals,
        )

    def write(self, records: Iterable[Recording], path: Path) -> None:
        raise UsageError(f"{path}: EDF is read only\n\nhint: write the recordings as CSV or NPZ")

    def written_as(self, path: Path) -> tuple[Format[Recording], Path]:
        return SignalCsv(), path.with_suffix(".csv")


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


def _check(content: bytes, path: Path) -> None:
    """Refuse a file whose length, padding or time-keeping annotations are not what its header says."""
    header = _header(content, path)
    per_record = sum(header.samples) * header.width
    expected = header.size + header.n_records * per_record
    if len(content) != expected:
        mangled = content.count(b"\xef\xbf\xbd") > 100
        why = "; every byte above 127 was replaced (U+FFFD), as if it were text" if mangled else ""
        raise DataError(
            path, f"has {len(content):,} bytes, but its header promises {expected:,}{why}: get a whole copy"
        )
    body = np.frombuffer(content, dtype=np.uint8)[header.size :].reshape(header.n_records, per_record)
    ends = np.cumsum(header.samples) * header.width
    annotations = [i for i, label in enumerate(header.labels) if label in ANNOTATIONS]
    if header.extended and annotations:
        first = annotations[0]
        begins = body[:, ends[first] - header.samples[first] * header.width]
        wrong = np.flatnonzero((begins != ord("+")) & (begins != ord("-")))
        if len(wrong):
            raise DataError(
                path,
                "it does not begin with the time that EDF+ puts there: the bytes have shifted, as when a line feed "
                "was turned into CR LF in transit; get a whole copy",
                place=f"data record {wrong[0] + 1}",
            )
    values = body.reshape(-1)
    feeds = np.flatnonzero(values == 0x0A)
    if len(feeds) >= 1000 and (values[np.maximum(feeds - 1, 0)] == 0x0D).all():
        raise DataError(path, f"each of its {len(feeds):,} line feed bytes follows a CR: it was transferred as text")


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
    )
