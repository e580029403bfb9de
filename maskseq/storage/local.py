"""A folder of this machine whose files survive a crash: fsync, atomic replacement, one builder at a time."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from maskseq.storage.folder import Folder, inside
from maskseq.storage.outputs import claimed, discard, explained, locked, replacing, sweep


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

        from maskseq.storage.complete import Complete

        return Complete(LocalStore(self.path, read_only=True))

    def names(self, below: str = "") -> list[str]:
        folder = self.path / below
        return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []

    def parts(self, below: str) -> list[str]:
        return [name for name in self.names(below) if not name.startswith(".") and (self.path / below / name).is_dir()]

    def write(self, name: str, *pieces: bytes | memoryview) -> None:
        with replacing(self.path / name) as aside, aside.open("wb") as file:
            file.writelines(pieces)

    def write_part(self, name: str, files: Mapping[str, bytes]) -> None:
        target = self.path / name
        with explained(target):
            target.parent.mkdir(parents=True, exist_ok=True)
        with claimed(target, shared=True) as work:
            for file, data in files.items():
                path = work.content / file
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            try:
                work.publish()
            except OSError:
                if not target.is_dir():  # else another try of the same part was faster; its bytes are the same
                    raise

    def remove(self, name: str) -> None:
        if (self.path / name).exists():
            discard(self.path / name)

    def sweep(self) -> None:
        for folder in (self.path, self.path / "parts", *(self.path / "parts").glob("[!.]*")):
            sweep(folder)

    @contextmanager
    def exclusive(self, *, shared_as: str | None = None) -> Iterator[None]:
        """`shared_as` holds the whole together with others, and its own share alone."""
        busy = f"{self}: another process is building this corpus"
        hint = "\n\nhint: wait for it to end, or give another output folder"
        with explained(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        with (
            locked(self.path / ".lock", busy + hint, shared=shared_as is not None),
            locked(self.path / f".lock-{shared_as or 'whole'}", busy + hint),
        ):
            yield
