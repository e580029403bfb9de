"""Files of formats: read, gzipped or not, and written aside. Every fault is a `DataError` that names the file.

Formats outside this repository may use it as well:

    with open_bytes(path) as file:
        for line in file: ...
"""

import gzip
import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from maskseq.errors import DataError
from maskseq.storage.outputs import replacing

COMPRESSED = (".gz", ".bgz")
GZIP = b"\x1f\x8b"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
"""What some programs put before UTF-8 text, without meaning anything by it."""
FREE = 1 << 30
"""Bytes that any compressed file may become, however small it is."""
RATIO = 200
"""What more than that may not exceed, as a multiple of the file's size. Real data shrink to a 100th at most; a file
made to fill the memory to a 1000th."""


@contextmanager
def open_bytes(path: Path) -> Iterator[BinaryIO]:
    """The bytes of a file, decompressed if it is gzipped (in any number of members), whatever its name.

    `DataError` if it is missing, damaged, or decompresses to absurdly more than its size.
    """
    inflated: _Inflated | None = None
    try:
        with path.open("rb") as raw:
            zipped = raw.read(2) == GZIP
            raw.seek(0)
            if zipped:
                inflated = _Inflated(raw, path)
                yield io.BufferedReader(inflated, 1 << 17)
            else:
                yield raw
    except (OSError, EOFError, zlib.error) as error:
        place = f"after {inflated.done:,} decompressed bytes" if inflated and not _of_system(error) else ""
        raise DataError(path, broken(error), place=place) from None
    except ValueError as error:
        if "null byte" in str(error):  # in the name
            raise DataError(repr(str(path)), "no file can have this name") from None
        raise


def lines_of(file: BinaryIO, longest: int) -> Iterator[bytes]:
    """Lines with their ends, of at most `longest` bytes; in a file without any newline, carriage returns end them."""
    first = file.readline(longest)
    yield from [first] if first.endswith(b"\n") or len(first) == longest else first.splitlines(keepends=True)
    yield from iter(partial(file.readline, longest), b"")


def is_file(path: Path) -> bool:
    """Whether there is such a file; one whose name would be too long is not there."""
    try:
        return path.is_file()
    except OSError:
        return False


def is_gzipped(file: BinaryIO) -> bool:
    """Whether a file of `open_bytes` is being decompressed."""
    return isinstance(getattr(file, "raw", None), _Inflated)


def read_bytes(path: Path) -> bytes:
    """The whole content of a file, decompressed if it is gzipped. `DataError` if it is empty, too."""
    with open_bytes(path) as file:
        content = file.read()
    if not content:
        raise DataError(path, "the file is empty")
    return content


def refuse_bomb(path: Path, packed: int, unpacked: int, *, place: str = "") -> None:
    """`DataError` if so many bytes cannot sensibly be what so many packed ones stand for."""
    limit = max(FREE, RATIO * packed)
    if unpacked > limit:
        problem = f"decompresses to more than {limit:,} bytes from {packed:,}; if that is meant, decompress it first"
        raise DataError(path, problem, place=place)


def broken(error: Exception) -> str:
    """What an error of the operating system or of gzip means to the user."""
    match error:
        case EOFError():
            return "the gzip file is cut short; get a whole copy"
        case gzip.BadGzipFile() | zlib.error():
            return f"the gzip data are damaged ({error}); get a whole copy"
        case FileNotFoundError():
            return "no such file"
        case OSError():
            return f"cannot be read: {error.strerror or error}"
    return str(error)


def _of_system(error: Exception) -> bool:
    return isinstance(error, OSError) and not isinstance(error, gzip.BadGzipFile)


class _Inflated(io.RawIOBase):
    """What a gzip file decompresses to."""

    def __init__(self, raw: BinaryIO, path: Path) -> None:
        self._gzip, self._path, self._packed = gzip.GzipFile(fileobj=raw), path, path.stat().st_size
        self.done = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        n = self._gzip.readinto(buffer)
        self.done += n
        refuse_bomb(self._path, self._packed, self.done)
        return n


@contextmanager
def create(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which replaces `path` only once it is whole: one may write over the file one reads from.

    Compressed output (.gz, .bgz) is BGZF (what `bgzip` writes): gzip to every reader, indexable by samtools, the same
    bytes each time.
    """
    with replacing(path, durable=False) as aside, aside.open("wb") as raw:
        if path.name.lower().endswith(COMPRESSED):
            with BgzfWriter(raw) as file:
                yield file
        else:
            yield raw


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
