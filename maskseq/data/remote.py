"""Corpora in object stores: s3://, gs://, az://, https:// and file:// URLs, through `obstore`.

A corpus is a folder of files that never change, so any tool copies it there (`aws s3 cp --recursive`).
"""

import importlib
import io
from pathlib import Path
from typing import Any

import numpy as np

from maskseq.data.storage import Folder, digest
from maskseq.errors import DataError, UsageError


def open_folder(path: str | Path) -> Folder:
    """A folder of this machine, or behind a URL (as text: a `Path` would spoil its slashes)."""
    return RemoteFolder(str(path)) if "://" in str(path) else Folder(Path(path))


class RemoteFolder(Folder):
    """A folder of an object store. Credentials come from the environment, as its own tools take them."""

    def __init__(self, url: str) -> None:
        try:
            self._obstore: Any = importlib.import_module("obstore")
        except ImportError:
            raise UsageError(f"reading {url} needs the package obstore\n\nhint: pip install 'maskseq[cloud]'") from None
        self.url = url.rstrip("/")
        try:
            options = {"client_options": {"allow_http": True}} if url.startswith("http://") else {}
            self._objects = self._obstore.store.from_url(self.url, **options)
        except self._obstore.exceptions.BaseError as error:
            raise UsageError(f"{url} cannot be opened: {_first_line(error)}") from error

    def __str__(self) -> str:
        return self.url

    def read(self, name: str) -> bytes:
        return bytes(self._ask("get", name).bytes())

    def size(self, name: str) -> int:
        return int(self._ask("head", name)["size"])

    def file_digest(self, name: str) -> str:
        return digest(self.read(name))

    def map_array(self, name: str) -> Any:
        return np.load(io.BytesIO(self.read(name)))

    @property
    def store(self) -> Any:
        from zarr.storage import ObjectStore

        return ObjectStore(self._objects, read_only=True)

    def _ask(self, request: str, name: str) -> Any:
        try:
            return getattr(self._obstore, request)(self._objects, name)
        except self._obstore.exceptions.BaseError as error:
            raise DataError(f"{self.url}/{name}", f"cannot be read: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0]
