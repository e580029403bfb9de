"""How residues stand in the lines of a file: lines of one width, or verbatim where they are otherwise."""

import re
from collections.abc import Iterator
from itertools import chain

import numpy as np
from jaxtyping import Bool

SPACE = b" \t\r\n"
IS_SPACE = np.isin(np.arange(256), list(SPACE))
PRINTABLE = bytes(b for b in range(0x21, 0x7F) if b != ord(">"))
COMMENT = b";"
_COMMENT_LINES = re.compile(rb"(?m)^;.*$")
_LONE_RETURN = re.compile(rb"\r[^\n]")


def line_end(first: bytes) -> bytes:
    """The last byte of a line, by the first block of a file: a newline, or in old Mac files a carriage return."""
    return b"\r" if b"\n" not in first and _LONE_RETURN.search(first) else b"\n"


def preamble(blocks: Iterator[bytes], end: bytes) -> tuple[bytes, Iterator[bytes]]:
    """Blank and comment lines at the beginning of a text, and the blocks from the first other line on."""
    before: list[bytes] = []
    in_comment = False
    for block in blocks:
        at = 0
        while at < len(block):
            if in_comment:
                found = block.find(end, at)
                at, in_comment = (len(block), True) if found < 0 else (found + 1, False)
            elif block.startswith(COMMENT, at):
                in_comment = True
            elif block[at] in SPACE:
                at += 1
            else:
                return b"".join([*before, block[:at]]), chain([block[at:]], blocks)
        before.append(block)
    return b"".join(before), iter(())


def without_comments(body: bytes, end: bytes) -> bytes:
    """The lines with blanks in place of every comment, as long as before."""
    if COMMENT not in body:
        return body
    if end == b"\r":
        return without_comments(body.translate(_SWAPPED), b"\n").translate(_SWAPPED)
    return _COMMENT_LINES.sub(lambda found: b" " * len(found[0]), body)


_SWAPPED = bytes.maketrans(b"\r\n", b"\n\r")


def is_residue(body: bytes, end: bytes) -> Bool[np.ndarray, "bytes"]:
    """Which bytes of verbatim lines are residues."""
    return ~IS_SPACE[np.frombuffer(without_comments(body, end), np.uint8)]


def place(body: bytes, position: int, end: bytes) -> tuple[int, int]:
    """Line and column, from 0, of a residue in verbatim lines."""
    at = int(np.flatnonzero(is_residue(body, end))[position])
    return body.count(end, 0, at), at - (body.rfind(end, 0, at) + 1)


def laid_out(residues: bytes, *, width: int, newline: bytes, body: bytes | None) -> bytes:
    """Residues in their lines: those of `body`, where it has a place for each, or else lines of `width`."""
    if body is not None:
        places = is_residue(body, newline[-1:])
        if places.sum() == len(residues):
            letters = np.frombuffer(body, np.uint8).copy()
            letters[places] = np.frombuffer(residues, np.uint8)
            return letters.tobytes()
    return wrapped(residues, width, newline)


def wrapped(residues: bytes, width: int, newline: bytes) -> bytes:
    """Break into lines of `width`; the last one has no line end."""
    if len(residues) <= width:
        return residues
    n_lines = (len(residues) - 1) // width  # whole lines that another one follows
    lines = np.empty((n_lines, width + len(newline)), np.uint8)
    lines[:, :width] = np.frombuffer(residues, np.uint8, n_lines * width).reshape(n_lines, width)
    lines[:, width:] = np.frombuffer(newline, np.uint8)
    return lines.tobytes() + residues[n_lines * width :]


def is_wrapped(content: bytes, n_residues: int, width: int, newline: bytes) -> bool:
    """Whether `content` is what `wrapped` makes of its residues."""
    if n_residues == len(content):
        return True
    n_breaks = (n_residues - 1) // width
    line = width + len(newline)
    return len(content) - n_residues == n_breaks * len(newline) and all(
        content[width + i :: line] == newline[i : i + 1] * n_breaks for i in range(len(newline))
    )  # so all the space there is lies where the breaks belong
