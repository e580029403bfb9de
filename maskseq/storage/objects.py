"""Requests to an object store through `obstore`, every fault of which is one clear line."""

import importlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

from maskseq.errors import MaskseqError, UsageError
from maskseq.storage.outputs import explained

NO_BUCKET = re.compile(r"NoSuchBucket|ContainerNotFound|bucket does not exist", re.IGNORECASE)
RETRIES: dict[str, Any] = {}
"""Settings of `obstore` for requests that fail; its own are 10 retries within 3 minutes."""
Version = dict[str, str]
"""Identifies one content of an object: its e_tag or version."""


class Objects:
    """The objects below a URL. Names are relative; a missing object is a `FileNotFoundError`."""

    def __init__(self, url: str) -> None:
        try:
            self._stores: Any = importlib.import_module("obstore.store")
        except ImportError:
            raise UsageError(
                f"{url} needs the package obstore\n\nhint: pip install 'maskseq[cloud]'", code="missing-extra"
            ) from None
        self._obstore: Any = importlib.import_module("obstore")
        self._errors: Any = importlib.import_module("obstore.exceptions")
        self.url = url.rstrip("/")
        try:
            self.client = self._connect()
        except self._errors.BaseError as error:
            raise UsageError(f"{url} cannot be opened: {_gist(error)}", code="unreachable") from error

    def get(self, name: str) -> bytes:
        return self.get_version(name)[0]

    def get_version(self, name: str) -> tuple[bytes, Version]:
        with self.explained(name):
            result = self._obstore.get(self.client, name)
            version = {key: result.meta[key] for key in ("e_tag", "version") if result.meta[key] is not None}
            return bytes(result.bytes()), version

    def download(self, name: str, path: Path) -> None:
        with self.explained(name), path.open("wb") as file:
            for block in self._obstore.get(self.client, name):
                with explained(path):
                    file.write(block)
                    file.flush()

    def put(self, name: str, *pieces: bytes | memoryview) -> None:
        with self.explained(name):
            self._obstore.put(self.client, name, pieces[0] if len(pieces) == 1 else iter(pieces))

    def put_if(self, name: str, data: bytes, version: Version | None) -> bool:
        """Replace just this version of an object (None: create it); False where something else is there.

        Stores that know no such condition simply write.
        """
        with self.explained(name):
            try:
                self._obstore.put(self.client, name, data, mode="create" if version is None else version)
            except (self._errors.AlreadyExistsError, self._errors.PreconditionError):
                return False
            except self._errors.NotSupportedError:
                self._obstore.put(self.client, name, data)
        return True

    def delete(self, names: Sequence[str]) -> None:
        """Delete objects; a missing one is not an error."""
        if names:
            with self.explained(names[0]), suppress(FileNotFoundError):
                self._obstore.delete(self.client, list(names))

    def names(self, below: str = "") -> list[str]:
        """Objects and prefixes directly below, sorted."""
        with self._listing(below):
            found = self._obstore.list_with_delimiter(self.client, below or None)
        paths = [*found["common_prefixes"], *(meta["path"] for meta in found["objects"])]
        return sorted(PurePosixPath(path).name for path in paths)

    def below(self, prefix: str) -> list[str]:
        """All objects whose names begin with `prefix` and a slash, in full."""
        with self._listing(prefix):
            return [meta["path"] for batch in self._obstore.list(self.client, prefix) for meta in batch]

    @contextmanager
    def explained(self, name: str) -> Iterator[None]:
        """Turn what the store refuses into one line; a missing object stays a `FileNotFoundError`."""
        try:
            yield
        except (FileNotFoundError, PermissionError, self._errors.BaseError) as error:
            if NO_BUCKET.search(str(error)):
                raise UsageError(f"{self.url}: there is no such bucket", code="missing-file") from error
            if isinstance(error, FileNotFoundError):
                raise
            place = f"{self.url}/{name}" if name else self.url
            if isinstance(
                error, (PermissionError, self._errors.PermissionDeniedError, self._errors.UnauthenticatedError)
            ):
                raise UsageError(
                    f"{place}: access is denied: {_gist(error)}\n\n"
                    f"hint: credentials come from the environment, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
                    code="unreachable",
                ) from error
            raise MaskseqError(
                f"{place}: {_gist(error)}\n\nhint: once the store answers, the same command goes on where it was"
            ) from error

    @contextmanager
    def _listing(self, below: str) -> Iterator[None]:
        if isinstance(self.client, self._stores.HTTPStore):
            raise UsageError(
                f"{self.url}: a web server is only read from\n\nhint: build in a folder or a bucket",
                code="not-supported",
            )
        with self.explained(below):
            yield

    def _connect(self) -> Any:
        if self.url.startswith("memory:"):
            return _memory(self.url)
        options = {"client_options": {"allow_http": True}} if self.url.startswith("http://") else {}
        return self._stores.from_url(self.url, retry_config=RETRIES, **options)


@cache
def _memory(url: str) -> Any:
    """The one store of this process that goes by this name."""
    return importlib.import_module("obstore.store").MemoryStore()


def _gist(error: Exception) -> str:
    """The error message of a store, without the request, the retries and the XML around it."""
    line = str(error).split("\n\nDebug source", 1)[0]
    message = re.search(r"<Message>(.*?)</Message>", line, re.DOTALL)
    return " ".join((message[1] if message else line.rsplit(" - ", 1)[-1]).split())[:300]
