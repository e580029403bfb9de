"""A folder of this machine whose files survive a crash: fsync, atomic replacement, one builder at a time."""

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

from maskseq.data.storage import Folder, inside
from maskseq.errors import DataError, UsageError


class LocalFolder(Folder):
    """A part is a folder that is renamed when it is whole."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    def __reduce__(self) -> tuple[object, ...]:  # a worker may run in another directory
        return LocalFolder, (self.path.absolute(),)

    def read(self, name: str) -> bytes:
        return (self.path / inside(self, name)).read_bytes()

    @contextmanager
    def local_file(self, name: str) -> Iterator[Path]:
        yield self.path / inside(self, name)

    @cached_property
    def chunks(self) -> Any:
        from zarr.storage import LocalStore

        from maskseq.data.chunks import Complete

        return Complete(LocalStore(self.path, read_only=True))

    def names(self, below: str = "") -> list[str]:
        folder = self.path / below
        return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []

    def parts(self, below: str) -> list[str]:
        return [name for name in self.names(below) if not name.startswith(".") and (self.path / below / name).is_dir()]

    def write(self, name: str, *pieces: bytes | memoryview) -> None:
        with _explained(self.path / name), replacing(self.path / name) as file:
            file.writelines(pieces)

    def write_part(self, name: str, files: Mapping[str, bytes]) -> None:
        target = self.path / name
        aside = target.with_name(f".{target.name}.{uuid4().hex}.tmp")
        try:
            with _explained(target):
                for file, data in files.items():
                    path = aside / file
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(data)
                sync_tree(aside)
                _rename_unless_there(aside, target)
        finally:
            shutil.rmtree(aside, ignore_errors=True)  # a full disk gets its space back

    def remove(self, name: str) -> None:
        path = self.path / name
        if path.is_dir():
            path = path.replace(path.with_name(f".{path.name}.{uuid4().hex}.tmp"))  # gone at once, deleted in time
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

    def sweep(self) -> None:
        for pattern in (".*.tmp", "parts/.*.tmp", "parts/*/.*.tmp"):
            for path in self.path.glob(pattern):
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    @contextmanager
    def exclusive(self, *, shared_as: str | None = None) -> Iterator[None]:
        """`flock` releases by itself when the process dies, so that a killed build never blocks the next one."""
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / ".lock").open("a") as whole, (self.path / f".lock-{shared_as or 'whole'}").open("a") as own:
            try:
                fcntl.flock(whole, (fcntl.LOCK_SH if shared_as else fcntl.LOCK_EX) | fcntl.LOCK_NB)
                fcntl.flock(own, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UsageError(
                    f"{self}: another process is building this corpus\n\n"
                    f"hint: wait for it to end, or give another output folder"
                ) from None
            yield


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


def _rename_unless_there(aside: Path, target: Path) -> None:
    try:
        aside.rename(target)
    except OSError:
        if not target.is_dir():
            raise
        return  # another try of the same part was faster; its bytes are the same
    sync(target.parent)


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
def _explained(path: Path) -> Iterator[None]:
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
