"""The lines of event logs, gzipped or not; whatever is wrong with one becomes a `DataError` with its place."""

from collections.abc import Iterator
from pathlib import Path

from maskseq.errors import DataError, UsageError
from maskseq.files import lines_of, open_bytes

BOMS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
LONGEST = 1 << 28
"""Bytes of a line: one that is longer is no line of a log, and would fill the memory."""


def read_lines(path: Path, encoding: str = "utf-8") -> Iterator[str]:
    """The lines of a text file, their line ends included, as they are.

    `DataError` names the line that is not of this encoding, or up to which a damaged gzip file could be read.
    """
    number = 0
    try:
        with open_bytes(path) as file:
            for number, line in enumerate(lines_of(file, LONGEST), 1):
                if number == 1 and line[:2] in BOMS:
                    raise DataError(path, f"this is {BOMS[line[:2]]}; save or convert it as UTF-8 (iconv -t utf-8)")
                if len(line) == LONGEST:
                    problem = f"has over {LONGEST:,} bytes: this is no file of lines"
                    raise DataError(path, problem, place=f"line {number}")
                yield line.decode(encoding)
    except UnicodeError as error:
        found = f"byte 0x{error.object[error.start]:02x}" if isinstance(error, UnicodeDecodeError) else str(error)
        raise DataError(
            path,
            f"{found} is not {encoding}; if the file has another encoding, say encoding = 'latin-1' (or which it is)",
            place=f"line {number}",
        ) from None
    except LookupError:
        raise UsageError(
            f"there is no text encoding called {encoding!r}\n\nhint: such as utf-8, latin-1, cp1252"
        ) from None
    except DataError as error:
        if not number or error.place.startswith("line "):
            raise
        raise DataError(path, error.problem, place=f"after line {number}") from None
