"""Open the files of event logs, gzipped or not; whatever is wrong with one becomes a `DataError` with its place."""

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from maskseq.errors import DataError, UsageError

GZIP = b"\x1f\x8b"
BOMS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


@contextmanager
def open_log(path: Path) -> Iterator[BinaryIO]:
    """The bytes of a file, decompressed if it is gzipped, whatever its name. `DataError` if it cannot be read."""
    try:
        with path.open("rb") as raw:
            zipped = raw.read(2) == GZIP
            raw.seek(0)
            if zipped:
                with gzip.open(raw) as unzipped:
                    yield unzipped
            else:
                yield raw
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(path, broken(error)) from None


def broken(error: Exception) -> str:
    """What an error of the operating system or of gzip means to the user."""
    match error:
        case EOFError():
            return "the gzip file is cut short: its end is missing"
        case gzip.BadGzipFile() | zlib.error():
            return f"the gzip file is damaged ({error})"
        case FileNotFoundError():
            return "no such file"
        case OSError():
            return f"cannot be read: {error.strerror or error}"
    return str(error)


def read_lines(path: Path, encoding: str = "utf-8") -> Iterator[str]:
    """The lines of a text file, their line ends included, as they are.

    `DataError` names the line that is not of this encoding, or up to which a damaged gzip file could be read.
    """
    number = 0
    try:
        with open_log(path) as file:
            for number, line in enumerate(file, 1):
                if number == 1 and line[:2] in BOMS:
                    raise DataError(path, f"this is {BOMS[line[:2]]}; save or convert it as UTF-8 (iconv -t utf-8)")
                yield line.decode(encoding)
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise DataError(
            path,
            f"byte 0x{byte:02x} is not {encoding}; if the file has another encoding, say encoding = 'latin-1' "
            f"(or which it is)",
            place=f"line {number}",
        ) from None
    except LookupError:
        raise UsageError(
            f"there is no text encoding called {encoding!r}\n\nhint: such as utf-8, latin-1, cp1252"
        ) from None
    except DataError as error:
        if error.place or not number:
            raise
        raise DataError(path, error.problem, place=f"after line {number}") from None


@contextmanager
def create(path: Path) -> Iterator[BinaryIO]:
    """A new file to write bytes to, gzipped (without a time stamp, so the same content gives the same file) for .gz."""
    with path.open("wb") as raw:
        if path.name.lower().endswith(".gz"):
            with gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0) as zipped:
                yield zipped
        else:
            yield raw
