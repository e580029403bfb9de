"""The lines of event logs, compressed or not; whatever is wrong with one becomes a `DataError` with its place."""

import codecs
import io
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from maskseq.errors import DataError, UsageError
from maskseq.files import lines_of, open_bytes, text_encoding

WIDE = ("utf-16", "utf-32")
"""How encodings are called in which a line end is more than one byte."""
MARK = "\ufeff"
"""A byte-order mark, as a character."""
LONGEST = 1 << 28
"""Bytes of a line: one that is longer is no line of a log, and would fill the memory."""


def read_lines(path: Path, encoding: str = "utf-8") -> Iterator[str]:
    """The lines of a text file, their line ends included, as they are.

    `DataError` names the line that is not of this encoding, or up to which a damaged gzip file could be read.
    """
    number = 0
    try:
        with open_bytes(path) as file:
            encoding = text_encoding(file.peek(2), encoding)  # type: ignore[attr-defined]
            wide = _is_wide(encoding)
            lines: Iterator[Any] = _wide_lines(file, encoding) if wide else lines_of(file, LONGEST)
            for number, line in enumerate(lines, 1):
                if len(line) == LONGEST:
                    problem = f"has over {LONGEST:,} bytes: this is no file of lines"
                    raise DataError(path, problem, place=f"line {number}")
                yield line if wide else line.decode(encoding)
    except UnicodeError as error:
        found = f"byte 0x{error.object[error.start]:02x}" if isinstance(error, UnicodeDecodeError) else str(error)
        raise DataError(
            path,
            f"{found} is not {encoding}; if the file has another encoding, say encoding = 'latin-1' (or which it is)",
            place=f"line {number}",
        ) from None
    except LookupError:
        raise UsageError(
            f"there is no text encoding called {encoding!r}\n\nhint: such as utf-8, latin-1, cp1252",
            code="unknown-name",
        ) from None
    except DataError as error:
        if not number or error.place.startswith("line "):
            raise
        raise DataError(path, error.problem, place=f"after line {number}") from None


def encoding_of(path: Path, encoding: str) -> str:
    """The encoding of a file, in which it is to be written back: the given one, but for a mark of UTF-16."""
    with open_bytes(path) as file:
        return text_encoding(file.read(2), encoding)


def _is_wide(encoding: str) -> bool:
    return codecs.lookup(encoding).name.startswith(WIDE)


def _wide_lines(file: BinaryIO, encoding: str) -> Iterator[str]:
    text = io.TextIOWrapper(file, encoding, newline="\n")
    yield from iter(partial(text.readline, LONGEST), "")
