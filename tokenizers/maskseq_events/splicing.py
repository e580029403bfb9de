"""Change some places of a text and nothing else."""

from collections.abc import Iterable
from typing import AnyStr


def spliced(text: AnyStr, edits: Iterable[tuple[int, int, AnyStr]]) -> AnyStr:
    """The text with what stands from one place to another (half-open) replaced; edits do not overlap."""
    pieces: list[AnyStr] = []
    done = 0
    for start, stop, new in sorted(edits, key=lambda edit: edit[:2]):
        pieces += text[done:start], new
        done = stop
    pieces.append(text[done:])
    return text[:0].join(pieces)
