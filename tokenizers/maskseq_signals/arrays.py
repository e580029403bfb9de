"""Signals in NumPy files: `.npy` holds one recording, `.npz` one an array; [length] or [length, channels]."""

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from maskseq.errors import DataError, UsageError
from maskseq.files import create, read_bytes, refuse_bomb
from maskseq.survey import CERTAIN, Claim, Head
from maskseq.tokenizer import Format
from maskseq_signals.files import plain_name
from maskseq_signals.recording import Recording, recorded


@dataclass(frozen=True, kw_only=True)
class ArrayFormat(Format[Recording]):
    """Options of both. NaN is an unknown value. Written back, an array keeps its dtype, shape and memory order."""

    names: tuple[str, ...] = ()
    """Names of the channels (default: channel_1, channel_2, …)."""
    units: tuple[str, ...] = ()
    rate: float | None = None
    """Samples a second."""

    def _recording(self, key: str, array: np.ndarray, path: Path) -> Recording:
        if array.ndim not in (1, 2) or array.dtype.kind not in "fiu" or not array.size:
            raise DataError(
                path,
                f"an array of shape {array.shape} and dtype {array.dtype}; a recording is [length] or "
                f"[length, channels] of real numbers",
                place=key,
            )
        values = array.astype(np.float64).reshape(len(array), -1)
        names = self.names or tuple(f"channel_{index}" for index in range(1, values.shape[1] + 1))
        if len(names) != values.shape[1]:
            problem = f"{values.shape[1]} channels, but the format option names has {len(names)}"
            hint = "; arrays are [length, channels]: transpose it" if len(names) == len(values) else ""
            raise DataError(path, problem + hint, place=key)
        return recorded(
            path,
            key=key,
            channels=values,
            names=names,
            units=self.units,
            rate=self.rate,
            decimals=(None if array.dtype.kind == "f" else 0,) * len(names),
            origin=array,
        )


@dataclass(frozen=True, kw_only=True)
class Npy(ArrayFormat):
    """One array a file; the recording is called like the file."""

    suffixes: ClassVar[tuple[str, ...]] = (".npy",)

    @classmethod
    def recognize(cls, head: Head) -> Claim | None:
        if not head.content.startswith(b"\x93NUMPY"):
            return super().recognize(head)
        return Claim(strength=CERTAIN, why="it begins with the signature of NumPy arrays")

    def read(self, path: Path) -> Iterator[Recording]:
        yield self._recording(plain_name(path), _loaded(path, np.ndarray), path)

    def write(self, records: Iterable[Recording], path: Path) -> None:
        arrays = [_array(record) for record in records]
        if len(arrays) != 1:
            raise UsageError(f"{path}: a .npy holds one recording, not {len(arrays)}\n\nhint: write .npz")
        with create(path) as file:
            np.save(file, arrays[0], allow_pickle=False)


@dataclass(frozen=True, kw_only=True)
class Npz(ArrayFormat):
    """Several arrays a file; each recording is called like its array."""

    suffixes: ClassVar[tuple[str, ...]] = (".npz",)

    def read(self, path: Path) -> Iterator[Recording]:
        archive = _loaded(path, np.lib.npyio.NpzFile)
        if not archive.files:
            raise DataError(path, "holds no arrays")
        for key in archive.files:
            try:
                array = archive[key]
            except Exception as error:  # what a damaged archive causes comes from zipfile, zlib, ast and numpy
                raise DataError(path, f"cannot be read: {_line(error)}", place=key) from None
            if not isinstance(array, np.ndarray):
                raise DataError(path, "is no NumPy array", place=key)
            yield self._recording(key, array, path)

    def write(self, records: Iterable[Recording], path: Path) -> None:
        with create(path) as file:
            np.savez_compressed(file, allow_pickle=False, **{record.key: _array(record) for record in records})


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


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _array(record: Recording) -> np.ndarray:
    """The array that the recording was read from, with the values that changed."""
    if not isinstance(record.origin, np.ndarray):
        return record.channels
    array = record.origin.copy(order="K")
    flat = array.reshape(record.channels.shape)
    was = flat.astype(np.float64)
    changed = (record.channels != was) & ~(np.isnan(record.channels) & np.isnan(was))
    flat[changed] = record.channels[changed]
    return array
