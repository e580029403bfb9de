"""Text files in blocks and lines, plain or gzipped; every fault is a `DataError` that says where."""

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

from maskseq.errors import DataError
from maskseq.files import BYTE_ORDER_MARK, COMPRESSED, is_gzipped, open_bytes

BLOCK = 1 << 20  # bytes: fits the cache, so that the passes over a block run at memory-free speed

EMPTY = "the file is empty"
_NOT_GZIP = "is not a gzip file although its name ends like one; rename it, or compress it with gzip"
_GZIP = "is a gzip file although its name does not say so; give it a name that ends in .gz"


def read_text(path: Path) -> tuple[bytes, Iterator[bytes]]:
    """The byte-order mark that the text begins with, or nothing, and what follows it, in blocks of at most 1 MiB.

    Several gzip members are read as one text. The name must say whether it is compressed, as an index beside it counts
    plain bytes.
    """
    blocks = _blocks(path)
    first = next(blocks)
    text = first.removeprefix(BYTE_ORDER_MARK)
    if not text:
        raise DataError(path, EMPTY)
    return first[: len(first) - len(text)], chain([text], blocks)


def _blocks(path: Path) -> Iterator[bytes]:
    compressed = path.name.lower().endswith(COMPRESSED)
    done = 0
    with open_bytes(path) as file:
        while block := file.read(BLOCK):
            if not done and is_gzipped(file) != compressed:
                raise DataError(path, _NOT_GZIP if compressed else _GZIP)
            yield block
            done += len(block)
    if not done:
        raise DataError(path, EMPTY)


def lines_of(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Lines with their ends; in a text without any newline, lone carriage returns end them."""
    plain = True
    pieces: list[bytes] = []
    for block in blocks:
        *lines, last = block.split(b"\n")
        for line in lines:
            yield b"".join([*pieces, line, b"\n"])
            pieces, plain = [], False
        pieces.append(last)
    if any(pieces):
        yield from b"".join(pieces).splitlines(keepends=True) if plain else [b"".join(pieces)]
