"""Text files, plain or gzipped, read in blocks and written aside; every fault is a `DataError` that says where."""

import gzip
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from maskseq.errors import DataError

COMPRESSED = (".gz", ".bgz")
BLOCK = 1 << 20  # bytes: fits the cache, so that the passes over a block run at memory-free speed


def read_blocks(path: Path) -> Iterator[bytes]:
    """The decompressed content of a file in blocks of at most 1 MiB; several gzip members are read as one text."""
    compressed = path.name.lower().endswith(COMPRESSED)
    done = 0
    try:
        with path.open("rb") as raw:
            magic = raw.read(2)
            raw.seek(0)
            if not magic:
                raise DataError(path, "the file is empty")
            if (magic == b"\x1f\x8b") != compressed:
                raise DataError(path, _NOT_GZIP if compressed else _GZIP)
            file = gzip.open(raw) if compressed else raw  # noqa: SIM115 (it owns nothing; `raw` is closed)
            while block := file.read(BLOCK):
                yield block
                done += len(block)
    except EOFError:
        raise DataError(path, "the gzip file ends too early; get a whole copy", place=_after(done)) from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(path, f"the gzip data are damaged ({error}); get a whole copy", place=_after(done)) from None
    except OSError as error:
        raise DataError(path, f"cannot be read: {error.strerror or error}") from None
    if not done:
        raise DataError(path, "the file is empty")


_NOT_GZIP = "is not a gzip file although its name ends like one; rename it, or compress it with gzip"
_GZIP = "is a gzip file although its name does not say so; give it a name that ends in .gz"


def _after(done: int) -> str:
    return f"after {done:,} decompressed bytes"


@contextmanager
def create(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which replaces `path` only once it is whole: one may write over the file one reads from.

    Compressed output is BGZF (what `bgzip` writes): gzip to every reader, indexable by samtools, the same bytes each
    time.
    """
    aside = path.with_name(path.name + ".part")
    try:
        with aside.open("wb") as raw:
            if path.name.lower().endswith(COMPRESSED):
                with BgzfWriter(raw) as file:
                    yield file
            else:
                yield raw
        aside.replace(path)
    except OSError as error:
        raise DataError(path, f"cannot be written: {error.strerror or error}") from None
    finally:
        aside.unlink(missing_ok=True)


class BgzfWriter:
    """Gzip in independent members of at most 64 KiB, each of which states its own size (SAM specification, 4.1)."""

    _CONTENT = 0xFF00  # bytes a member, so that even incompressible ones stay below 64 KiB

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._pending = bytearray()

    def __enter__(self) -> "BgzfWriter":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            if self._pending:
                self._member(bytes(self._pending))
            self._member(b"")  # the end marker

    def write(self, data: bytes) -> None:
        self._pending += data
        whole = len(self._pending) - len(self._pending) % self._CONTENT
        for start in range(0, whole, self._CONTENT):
            self._member(bytes(self._pending[start : start + self._CONTENT]))
        del self._pending[:whole]

    def _member(self, content: bytes) -> None:
        deflate = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
        packed = deflate.compress(content) + deflate.flush()
        header = b"\x1f\x8b\x08\x04\0\0\0\0\0\xff\x06\0BC\x02\0" + struct.pack("<H", len(packed) + 25)
        self._file.write(header + packed + struct.pack("<II", zlib.crc32(content), len(content)))
