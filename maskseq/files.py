"""Files of formats: read, compressed or not, and written aside. Every fault is a `DataError` that names the file.

Formats outside this repository may use it as well:

    with open_bytes(path) as file:
        for line in file: ...
"""

import codecs
import gzip
import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any, BinaryIO

from maskseq.errors import DataError
from maskseq.storage.outputs import replacing

COMPRESSED = (".gz", ".bgz")
GZIP, ZIP = b"\x1f\x8b", b"PK\x03\x04"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
"""What some programs put before UTF-8 text, without meaning anything by it."""
WIDE = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}
"""Byte-order marks of UTF-16."""
FREE = 1 << 30
"""Bytes that any compressed file may become, however small it is."""
RATIO = 200
"""What more than that may not exceed, as a multiple of the file's size. Real data shrink to a 100th at most; a file
made to fill the memory to a 1000th."""


@contextmanager
def open_bytes(path: Path) -> Iterator[BinaryIO]:
    """The bytes of a file, decompressed if it is gzipped (in any number of members), whatever its name, or if it is a
    zip archive of one file whose name says so (`.zip`), as many files of other kinds are zip archives.

    `DataError` if it is missing, damaged, or decompresses to absurdly more than its size.
    """
    inflated: _Inflated | None = None
    try:
        with path.open("rb") as raw:
            start = raw.read(4)
            raw.seek(0)
            if start[:2] == GZIP:
                inflated = _Inflated(gzip.GzipFile(fileobj=raw), path)
            elif start == ZIP and path.name.lower().endswith(".zip"):
                inflated = _Inflated(_open_member(raw, path), path)
            yield io.BufferedReader(inflated, 1 << 17) if inflated else raw
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        place = f"after {inflated.done:,} decompressed bytes" if inflated and not _of_system(error) else ""
        code = "missing-file" if isinstance(error, FileNotFoundError) else "malformed-data"
        raise DataError(path, broken(error), place=place, code=code) from None
    except ValueError as error:
        if "null byte" in str(error):  # in the name
            raise DataError(repr(str(path)), "no file can have this name", code="system") from None
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


def plain_name(path: Path) -> str:
    """The file's name in lower case, without the ending of a compressed file; that of the file in a zip archive."""
    name = path.name.lower()
    if name.endswith(".zip"):
        try:
            with zipfile.ZipFile(path) as archive:
                return Path(_member(archive, path).filename).name.lower()
        except (OSError, ValueError, zipfile.BadZipFile):  # it does not exist yet, or `open_bytes` says what is wrong
            return name.removesuffix(".zip")
    return name.removesuffix(".gz").removesuffix(".bgz")


def text_encoding(start: bytes, encoding: str) -> str:
    """How a text that begins with these bytes is encoded: as its byte-order mark of UTF-16 says, else as given.

    With this encoding, the mark is a character of the text (U+FEFF), and comes back when the text is written.
    """
    unmarked = {"utf-16": "utf-16-le", "utf-8-sig": "utf-8"}  # others would write a mark before each piece of text
    return WIDE.get(start[:2]) or unmarked.get(codecs.lookup(encoding).name, encoding)


def is_gzipped(file: BinaryIO) -> bool:
    """Whether a file of `open_bytes` is being decompressed."""
    return isinstance(getattr(file, "raw", None), _Inflated)


def read_bytes(path: Path) -> bytes:
    """The whole content of a file, decompressed if it is gzipped. `DataError` if it is empty, too."""
    with open_bytes(path) as file:
        content = file.read()
    if not content:
        raise DataError(path, "the file is empty", code="empty-data")
    return content


def refuse_bomb(path: Path, packed: int, unpacked: int, *, place: str = "") -> None:
    """`DataError` if so many bytes cannot sensibly be what so many packed ones stand for."""
    limit = max(FREE, RATIO * packed)
    if unpacked > limit:
        problem = f"decompresses to more than {limit:,} bytes from {packed:,}; if that is meant, decompress it first"
        raise DataError(path, problem, place=place, code="too-large")


def broken(error: Exception) -> str:
    """What an error of the operating system, of gzip or of zip means to the user."""
    match error:
        case EOFError():
            return "the gzip file is cut short; get a whole copy"
        case gzip.BadGzipFile() | zlib.error():
            return f"the gzip data are damaged ({error}); get a whole copy"
        case zipfile.BadZipFile():
            return f"the zip archive is damaged ({error}); get a whole copy"
        case FileNotFoundError():
            return "no such file"
        case OSError():
            return f"cannot be read: {error.strerror or error}"
    return str(error)


def _of_system(error: Exception) -> bool:
    return isinstance(error, OSError) and not isinstance(error, gzip.BadGzipFile)


def _member(archive: zipfile.ZipFile, path: Path) -> zipfile.ZipInfo:
    """The only file in a zip archive, leaving out what macOS adds."""
    infos = [i for i in archive.infolist() if not i.is_dir() and not i.filename.startswith("__MACOSX/")]
    if len(infos) != 1:
        names = ", ".join(repr(i.filename) for i in infos[:5]) + ", …" * (len(infos) > 5)
        problem = f"a zip archive of {len(infos)} files{': ' * bool(infos)}{names}; one is read, so unpack it first"
        raise DataError(path, problem, code="not-supported")
    return infos[0]


def _open_member(raw: BinaryIO, path: Path) -> IO[bytes]:
    archive = zipfile.ZipFile(raw)
    try:
        return archive.open(_member(archive, path))
    except (RuntimeError, NotImplementedError) as error:  # encrypted, or packed in a way that Python does not know
        raise DataError(
            path, f"the zip archive cannot be unpacked here ({error}); unpack it first", code="not-supported"
        ) from None


class _Inflated(io.RawIOBase):
    """What a compressed file decompresses to."""

    def __init__(self, stream: Any, path: Path) -> None:
        self._stream, self._path, self._packed = stream, path, path.stat().st_size
        self.done = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        n: int = self._stream.readinto(buffer)
        self.done += n
        refuse_bomb(self._path, self._packed, self.done)
        return n


@contextmanager
def create(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which replaces `path` only once it is whole: one may write over the file one reads from.

    Compressed output (.gz, .bgz) is BGZF (what `bgzip` writes): gzip to every reader, indexable by samtools, the same
    bytes each time. One called .zip is an archive of this one file.
    """
    with replacing(path, durable=False) as aside, aside.open("wb") as raw:
        if path.name.lower().endswith(COMPRESSED):
            with BgzfWriter(raw) as file:
                yield file
        elif path.name.lower().endswith(".zip"):
            info = zipfile.ZipInfo(path.name[: -len(".zip")])  # whose time is always the same
            info.compress_type = zipfile.ZIP_DEFLATED
            with zipfile.ZipFile(raw, "w") as archive, archive.open(info, "w", force_zip64=True) as member:
                yield member
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
