"""Corpora in object stores: s3://, gs://, az:// and memory:// URLs to build and read, https:// to read.

Nothing can be renamed there, so the objects of a part go to their final names, and its seal follows last. A corpus is
a folder of plain files all the same, which any tool copies (`aws s3 cp --recursive`). Credentials come from the
environment, as `obstore` takes them.
"""

import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from maskseq.errors import UsageError
from maskseq.storage.folder import SEAL, Folder, inside
from maskseq.storage.lease import Lease
from maskseq.storage.objects import Objects

AT_ONCE = 8  # objects of a part in flight: a small one costs a round trip, too


class RemoteFolder(Folder):
    """A prefix of an object store. A part is whole once its seal is there."""

    def __init__(self, url: str) -> None:
        self._objects = Objects(url)
        self._lease: Lease | None = None

    def __str__(self) -> str:
        return self._objects.url

    def __reduce__(self) -> tuple[object, ...]:
        if self._objects.url.startswith("memory:"):
            raise UsageError(f"{self} lives in this process alone\n\nhint: build with one worker", code="not-supported")
        return RemoteFolder, (self._objects.url,)

    def read(self, name: str) -> bytes:
        return self._objects.get(inside(self, name))

    @contextmanager
    def local_file(self, name: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="maskseq-") as aside:
            copy = Path(aside, PurePosixPath(name).name)
            self._objects.download(inside(self, name), copy)
            yield copy

    @cached_property
    def chunks(self) -> Any:
        from zarr.storage import ObjectStore

        from maskseq.storage.complete import Complete

        return Complete(ObjectStore(self._objects.client, read_only=True), self._objects.explained)

    def names(self, below: str = "") -> list[str]:
        return self._objects.names(below)

    def parts(self, below: str) -> list[str]:
        seals = (path for path in map(PurePosixPath, self._objects.below(below)) if path.name == SEAL)
        return sorted(path.parent.name for path in seals)

    def write(self, name: str, *pieces: bytes | memoryview) -> None:
        self._confirm()
        self._objects.put(name, *pieces)

    def write_part(self, name: str, files: Mapping[str, bytes]) -> None:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for _ in pool.map(lambda file: self._objects.put(f"{name}/{file}", files[file]), files.keys() - {SEAL}):
                pass  # raises what a thread raised
        self._objects.put(f"{name}/{SEAL}", files[SEAL])

    def remove(self, name: str) -> None:
        self._confirm()
        objects = self._objects.below(name) or [name]
        seals = [path for path in objects if PurePosixPath(path).name == SEAL]
        self._objects.delete(seals)
        self._objects.delete([path for path in objects if path not in seals])

    def sweep(self) -> None:
        """Nothing: an object is whole or not there, and a part without its seal is written again."""

    @contextmanager
    def exclusive(self, *, shared_as: str | None = None) -> Iterator[None]:
        with Lease.held(self._objects, shared_as) as self._lease:
            yield
        self._lease = None

    def _confirm(self) -> None:
        """Parts may be written by anybody, being pure; only the one builder replaces or removes anything."""
        if self._lease is not None:
            self._lease.confirm()
