"""Where a corpus lies: a folder of this machine or of an object store, behind the same few operations; and digests."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from maskseq.errors import DataError
from maskseq.storage import standard_json

BLOCK = 1 << 16
"""Bytes that one digest covers: how exactly `verify` says where a file is damaged."""
SEAL = "part.json"
"""The file of a part that says it is whole: where nothing can be renamed, it is written last and removed first."""


class Folder(ABC):
    """Files under relative names with forward slashes. None ever changes, but for the manifest, which is replaced.

    A missing file is a `FileNotFoundError`; other faults of an object store are a `MaskseqError` of one line. Folders
    travel to worker processes, which reach the same files.
    """

    @abstractmethod
    def read(self, name: str) -> bytes:
        """The whole file."""

    @abstractmethod
    def local_file(self, name: str) -> AbstractContextManager[Path]:
        """The file on this machine: itself, or a copy that goes when the context ends (what is mapped stays)."""

    @cached_property
    @abstractmethod
    def chunks(self) -> Any:
        """The folder as a zarr store in which a missing chunk is an error, not zeros."""

    @abstractmethod
    def names(self, below: str = "") -> list[str]:
        """Files and folders directly in a folder, sorted; none where it does not exist."""

    @abstractmethod
    def parts(self, below: str) -> list[str]:
        """The parts in a folder that are whole, sorted."""

    @abstractmethod
    def write(self, name: str, *pieces: bytes | memoryview) -> None:
        """The whole file or nothing, replacing what was there."""

    @abstractmethod
    def write_part(self, name: str, files: Mapping[str, bytes]) -> None:
        """All files of a part, `SEAL` among them, or none that count. Equal ones may be there: parts are pure."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """A file, or a folder and all that is in it; a part is never left looking whole."""

    @abstractmethod
    def sweep(self) -> None:
        """Remove what writers that were killed left half-written."""

    @abstractmethod
    def exclusive(self, *, shared_as: str | None = None) -> AbstractContextManager[None]:
        """Be the only builder here; with `shared_as`, beside others that share the work under other names.

        `UsageError` where another is at work. A builder that was killed blocks nobody (in an object store: for long).
        """


def inside(folder: object, name: str) -> str:
    """The name, which was read from a file of the folder; `DataError` if it leads out of the folder."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name:
        raise DataError(str(folder), f"names the file {name!r}, which would lie outside of it", code="damaged-file")
    return name


def digest(*pieces: bytes | memoryview) -> str:
    """SHA-256 of the pieces, one after the other."""
    together = hashlib.sha256()
    for piece in pieces:
        together.update(piece)
    return together.hexdigest()


def file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def block_digests(data: bytes) -> list[str]:
    """One short digest for each `BLOCK` bytes."""
    starts = range(0, len(data), BLOCK)
    return [hashlib.blake2b(data[start : start + BLOCK], digest_size=8).hexdigest() for start in starts]


def to_json(value: Any) -> bytes:
    """The one way that a value is written, so that equal content is equal bytes."""
    return standard_json.to_json(value, lossless=True, ascii=False, indent=1, sort_keys=True).encode() + b"\n"
