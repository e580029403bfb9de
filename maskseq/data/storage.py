"""Files that survive a crash: digests, fsync, atomic replacement, one writer at a time."""

import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from maskseq.errors import DataError, UsageError

BLOCK = 1 << 16
"""Bytes that one digest covers: how exactly `verify` says where a file is damaged."""


def digest(data: bytes | memoryview) -> str:
    return hashlib.sha256(data).hexdigest()


def file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def block_digest(block: bytes) -> str:
    return hashlib.blake2b(block, digest_size=8).hexdigest()


def block_digests(data: bytes) -> list[str]:
    """One short digest for each `BLOCK` bytes."""
    return [block_digest(data[start : start + BLOCK]) for start in range(0, len(data), BLOCK)]


def to_json(value: Any) -> bytes:
    """The one way that a value is written, so that equal content is equal bytes."""
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False).encode() + b"\n"


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Write the whole file or nothing, also across a power cut: aside, fsync, rename, fsync of the folder."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with aside.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)  # a full disk gets its space back
        raise
    sync(path.parent)


def sync(path: Path) -> None:
    """Force a file's content, or a folder's list of names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    for parent, _, names in os.walk(folder):
        for name in names:
            sync(Path(parent, name))
        sync(Path(parent))


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what the operating system refuses while writing into one line that says what to do."""
    try:
        yield
    except OSError as error:
        hint = "mend that and run the same command again"
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            hint = "make room and run the same command again"
        raise DataError(
            path, f"cannot be written: {os.strerror(error.errno or 0)}\n\nhint: {hint}; it resumes with what is missing"
        ) from error


@contextmanager
def exclusive(folder: Path, *, shared_as: str | None = None) -> Iterator[None]:
    """Be the only builder of `folder`; with `shared_as`, beside others that share it under other names.

    `flock` releases by itself when the process dies, so that a killed build never blocks the next one.
    """
    with (folder / ".lock").open("a") as whole, (folder / f".lock-{shared_as or 'whole'}").open("a") as own:
        try:
            fcntl.flock(whole, (fcntl.LOCK_SH if shared_as else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            fcntl.flock(own, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"{folder}: another process is building this corpus\n\n"
                f"hint: wait for it to end, or give another output folder"
            ) from None
        yield


class Folder:
    """A folder of this machine, to read from. Names are relative, with forward slashes."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    def read(self, name: str) -> bytes:
        """The whole file; `FileNotFoundError` when it is missing."""
        return (self.path / name).read_bytes()

    def size(self, name: str) -> int:
        return (self.path / name).stat().st_size

    def file_digest(self, name: str) -> str:
        """SHA-256 of the whole file; `FileNotFoundError` when it is missing."""
        return file_digest(self.path / name)

    def map_array(self, name: str) -> Any:
        """An .npy file, mapped rather than loaded."""
        return np.load(self.path / name, mmap_mode="r")

    @cached_property
    def store(self) -> Any:
        """The same folder as a zarr store."""
        from zarr.storage import LocalStore

        return LocalStore(self.path, read_only=True)
