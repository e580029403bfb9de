"""Read signal files, gzipped or not, and write them aside; whatever is wrong becomes a `DataError`."""

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from maskseq.errors import DataError

GZIP = b"\x1f\x8b"


def read_bytes(path: Path) -> bytes:
    """The whole content of a file, decompressed if it is gzipped. `DataError` if it is missing, empty or damaged."""
    try:
        content = path.read_bytes()
        if content[:2] == GZIP:
            content = gzip.decompress(content)
    except FileNotFoundError:
        raise DataError(path, "no such file") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(path, f"the gzip file is damaged or cut short ({error}); get a whole copy") from None
    except OSError as error:
        raise DataError(path, f"cannot be read: {error.strerror or error}") from None
    if not content:
        raise DataError(path, "the file is empty")
    return content


def read_text(path: Path, encoding: str = "utf-8") -> str:
    """The text of a file, line ends and byte order mark as they are; `DataError` names the line that is no text."""
    content = read_bytes(path)
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            path, f"byte 0x{content[error.start]:02x} is not {encoding}; is it another file type?", place=f"line {line}"
        ) from None


def plain_name(path: Path) -> str:
    """The file's name without its endings, which names its recording."""
    return Path(path.name.removesuffix(".gz")).stem


@contextmanager
def create(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which replaces `path` only once it is whole; gzipped, without a time stamp, for .gz."""
    aside = path.with_name(path.name + ".part")
    try:
        with aside.open("wb") as raw:
            if path.name.lower().endswith(".gz"):
                with gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0) as zipped:
                    yield zipped
            else:
                yield raw
        aside.replace(path)
    except OSError as error:
        raise DataError(path, f"cannot be written: {error.strerror or error}") from None
    finally:
        aside.unlink(missing_ok=True)
