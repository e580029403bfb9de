"""Signals in NumPy files: `.npy` holds one recording, `.npz` one an array; [length], [length, channels] or [channels,
length].
"""

import io
import math
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float64

from maskseq.errors import DataError, DataWarning, UsageError
from maskseq.files import create, read_bytes, refuse_bomb
from maskseq.formats import ADDED, Format
from maskseq.survey import CERTAIN, Claim, Head
from maskseq_signals.cells import decimals_of_values
from maskseq_signals.files import recording_name
from maskseq_signals.recording import Recording, recorded

RATE_NAMES = {
    "fs",
    "sfreq",
    "srate",
    "rate",
    "sampling_rate",
    "sample_rate",
    "samplerate",
    "sampling_frequency",
    "freq",
}
LABEL_NAMES = {"y", "label", "labels", "target", "targets", "class", "classes", "t", "time", "times", "timestamps"}
SMALLEST_SHARE = 100
"""An array may be so many times as small as the largest and still hold a recording."""


@dataclass(frozen=True, kw_only=True)
class Held:
    """What a recording remembers: the array it was read from."""

    array: np.ndarray
    channels_first: bool
    others: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Arrays of the same file that are no recordings."""

    def by_step(self, array: np.ndarray) -> np.ndarray:
        """A view of such an array as [length, channels]."""
        if array.ndim == 1:
            return array[:, None]
        return array.T if self.channels_first else array

    def values(self) -> Float64[np.ndarray, "length channels"]:
        with np.errstate(invalid="ignore"):  # a NaN that signals is a NaN
            return self.by_step(self.array).astype(np.float64, order="C")


@dataclass(frozen=True, kw_only=True)
class ArrayFormat(Format[Recording]):
    """Options of both. NaN is an unknown value. Written back, an array keeps its dtype, shape and memory order."""

    names: tuple[str, ...] = ()
    """Names of the channels (default: channel_1, channel_2, …)."""
    units: tuple[str, ...] = ()
    rate: float | None = None
    """Samples a second."""
    channels_first: bool | None = field(default=None, metadata=ADDED)
    """Whether arrays are [channels, length] (default: [length, channels], but arrays that would have fewer steps than
    channels are refused, unless `names` names the channels)."""

    def _recording(self, key: str, array: np.ndarray, path: Path) -> Recording:
        if array.ndim not in (1, 2) or array.dtype.kind not in "fiu" or not array.size:
            raise DataError(
                path,
                f"an array of shape {array.shape} and dtype {array.dtype}; a recording is [length] or "
                f"[length, channels] of real numbers (of an NPZ, arrays = [...] chooses)",
                place=key,
            )
        if self.channels_first is None and not self.names and array.ndim == 2 and array.shape[0] < array.shape[1]:
            problem = f"{array.shape[0]} steps of {array.shape[1]} channels, or as many channels as steps?"
            hint = "set channels_first = true for arrays of [channels, length], or = false"
            raise DataError(path, f"{problem}\n\nhint: {hint}", place=key)
        held = Held(array=array, channels_first=bool(self.channels_first))
        values = held.values()
        names = self.names or tuple(f"channel_{index}" for index in range(1, values.shape[1] + 1))
        if len(names) != values.shape[1]:
            problem = f"{values.shape[1]} channels, but the format option names has {len(names)}"
            other = "true" if not self.channels_first else "false"
            hint = f"; arrays are [length, channels]: transpose it, or set channels_first = {other}"
            raise DataError(path, problem + (hint if len(names) == len(values) else ""), place=key)
        return recorded(
            path,
            key=key,
            channels=values,
            names=names,
            units=self.units,
            rate=self.rate,
            decimals=tuple(decimals_of_values(c) for c in held.by_step(array).T)
            if array.dtype.kind == "f"
            else (0,) * len(names),
            origin=held,
        )


def _layout(shapes: Sequence[tuple[int, ...]]) -> tuple[dict[str, Any], str]:
    """The option that says what arrays of these shapes are, and what to tell of it.

    A recording has more steps than channels; of several arrays, all have the same channels.
    """
    tables = [shape for shape in shapes if len(shape) == 2]
    if not tables:
        return {}, ""
    rows, columns = ({shape[side] for shape in tables} for side in (0, 1))
    alike = (len(rows) == 1) - (len(columns) == 1)
    wide = [shape for shape in tables if shape[0] < shape[1]]
    first = alike > 0 or (alike == 0 and len(wide) > len(tables) / 2)
    shown = (wide or tables)[0]
    why = f"; {shown[0]:,} x {shown[1]:,} numbers are taken for [{'channels, length' if first else 'length, channels'}]"
    return {"channels_first": first}, why


@dataclass(frozen=True, kw_only=True)
class Npy(ArrayFormat):
    """One array a file; the recording is called like the file."""

    suffixes: ClassVar[tuple[str, ...]] = (".npy",)

    @classmethod
    def recognize(cls, head: Head) -> Claim | None:
        if not head.content.startswith(b"\x93NUMPY"):
            return super().recognize(head)
        options, why = _layout([_shape(io.BytesIO(head.content))])
        return Claim(strength=CERTAIN, why=f"it begins with the signature of NumPy arrays{why}", options=options)

    def read(self, path: Path) -> Iterator[Recording]:
        yield self._recording(recording_name(path), _loaded(path, np.ndarray), path)

    def write(self, records: Iterable[Recording], path: Path) -> None:
        arrays = [_array(record) for record in records]
        if len(arrays) != 1:
            raise UsageError(
                f"{path}: a .npy holds one recording, not {len(arrays)}\n\nhint: write .npz", code="not-supported"
            )
        with create(path) as file:
            np.save(file, arrays[0], allow_pickle=False)


@dataclass(frozen=True, kw_only=True)
class Npz(ArrayFormat):
    """Several arrays a file; each recording is called like its array."""

    suffixes: ClassVar[tuple[str, ...]] = (".npz",)

    arrays: tuple[str, ...] | None = field(default=None, metadata=ADDED)
    """Arrays that are recordings (default: all)."""

    @classmethod
    def recognize(cls, head: Head) -> Claim | None:
        """With the arrays that are recordings, where others such as a rate or labels stand beside them."""
        claim = super().recognize(head)
        if claim is None:
            return None
        try:
            with zipfile.ZipFile(head.path) as archive:
                found = {
                    n.removesuffix(".npy"): _described(file) for n in archive.namelist() for file in [archive.open(n)]
                }
        except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError):
            return claim  # reading it says what is wrong
        chosen = _recordings(found)
        options, why = _layout([found[name][0] for name in chosen])
        if len(chosen) < len(found):
            options["arrays"] = chosen
            why += f"; {', '.join(chosen)} of {len(found)} arrays"
        if rate := _rate(head.path, [name for name in found if name not in chosen]):
            options["rate"] = rate
            why += f"; {rate:g} samples a second"
        return replace(claim, why=claim.why + why, options=options)

    def read(self, path: Path) -> Iterator[Recording]:
        archive = _loaded(path, np.lib.npyio.NpzFile)
        if not archive.files:
            raise DataError(path, "holds no arrays")
        missing = [name for name in self.arrays or () if name not in archive.files]
        if missing:
            raise UsageError(
                f"{path} has no array {missing[0]!r}\n\nhint: it has {', '.join(archive.files)}", code="unknown-name"
            )
        chosen = self.arrays or tuple(archive.files)
        others = _others(archive, [key for key in archive.files if key not in chosen], path)
        for key in chosen:
            recording = self._recording(key, _member(archive, key, path), path)
            yield replace(recording, origin=replace(recording.origin, others=others))

    def write(self, records: Iterable[Recording], path: Path) -> None:
        with create(path) as file:
            arrays: dict[str, np.ndarray] = {}
            for record in records:
                others = record.origin.others if isinstance(record.origin, Held) else {}
                arrays |= {**others, record.key: _array(record)}
            np.savez_compressed(file, allow_pickle=False, **arrays)


def _loaded(path: Path, kind: type) -> Any:
    content = read_bytes(path)
    try:
        loaded = np.load(io.BytesIO(content), allow_pickle=False)
        members = loaded.zip.infolist() if isinstance(loaded, np.lib.npyio.NpzFile) and loaded.zip else []
    except Exception as error:  # numpy reads the header as Python, and lets what that causes through
        raise DataError(path, f"no NumPy file, or a damaged one ({_line(error)})") from None
    refuse_bomb(path, len(content), sum(member.file_size for member in members))
    if not isinstance(loaded, kind):
        raise DataError(path, "the name ends in .npy but it holds an .npz archive, or the other way round: rename it")
    return loaded


def _member(archive: Any, key: str, path: Path) -> np.ndarray:
    try:
        array = archive[key]
    except Exception as error:  # what a damaged archive causes comes from zipfile, zlib, ast and numpy
        raise DataError(path, f"cannot be read: {_line(error)}", place=key) from None
    if not isinstance(array, np.ndarray):
        raise DataError(path, "is no NumPy array", place=key)
    return array


def _others(archive: Any, keys: Sequence[str], path: Path) -> dict[str, np.ndarray]:
    """Arrays that are written back as they are; what cannot be read, such as Python's objects, is warned of."""
    found = {}
    for key in keys:
        try:
            found[key] = _member(archive, key, path)
        except DataError as error:
            warnings.warn(f"{error}: not written back", DataWarning, stacklevel=3)
    return found


def _recordings(found: Mapping[str, tuple[tuple[int, ...], str]]) -> list[str]:
    """Arrays of real numbers that may be signals: none of labels beside others, nor far smaller than the largest."""
    sizes = {
        name: math.prod(shape)
        for name, (shape, kind) in found.items()
        if len(shape) in (1, 2) and kind in ("f", "i", "u")
    }
    large = [name for name, size in sizes.items() if size * SMALLEST_SHARE >= max(sizes.values())]
    return [name for name in large if name.lower() not in LABEL_NAMES] or large or list(found)


def _rate(path: Path, names: Sequence[str]) -> float | None:
    """The only number of an array that is called like a rate."""
    for name in names:
        if name.lower() in RATE_NAMES:
            value = _member(_loaded(path, np.lib.npyio.NpzFile), name, path)
            if value.size == 1 and value.dtype.kind in "fiu" and 0 < value.item() < np.inf:
                return float(value.item())
    return None


def _shape(file: Any) -> tuple[int, ...]:
    return _described(file)[0]


def _described(file: Any) -> tuple[tuple[int, ...], str]:
    """Shape and kind of the array of a .npy, from its header; () if it has none that can be read."""
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
    except Exception:  # as in `_loaded`
        return (), ""
    return tuple(shape), dtype.kind


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _array(record: Recording) -> np.ndarray:
    """The array that the recording was read from, with the values that changed."""
    held = record.origin
    if not isinstance(held, Held):
        return record.channels
    array = held.array.copy(order="K")
    values = held.by_step(array)
    if values.shape != record.channels.shape:
        raise UsageError(
            f"recording {record.key!r} has other steps or channels than the array it was read from",
            code="not-supported",
        )
    was = held.values()
    changed = (record.channels != was) & ~(np.isnan(record.channels) & np.isnan(was))
    values[changed] = record.channels[changed]
    return array
