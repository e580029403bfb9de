"""Text files in blocks and lines, plain or gzipped; every fault is a `DataError` that says where."""

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

from maskseq.errors import DataError
from maskseq.files import BYTE_ORDER_MARK, open_bytes

BLOCK = 1 << 20  # bytes: fits the cache, so that the passes over a block run at memory-free speed

EMPTY = "the file is empty"


def read_text(path: Path) -> tuple[bytes, Iterator[bytes]]:
    """The byte-order mark that the text begins with, or nothing, and what follows it, in blocks of at most 1 MiB.

    Several gzip members are read as one text. Whether it is compressed, its content says, not its name.
    """
    blocks = _blocks(path)
    first = next(blocks)
    text = first.removeprefix(BYTE_ORDER_MARK)
    if not text:
        raise DataError(path, EMPTY)
    return first[: len(first) - len(text)], chain([text], blocks)


def _blocks(path: Path) -> Iterator[bytes]:
    with open_bytes(path) as file:
        block = file.read(BLOCK)
        if not block:
            raise DataError(path, EMPTY)
        while block:
            yield block
            block = file.read(BLOCK)


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
