"""Where things stand in the text of an XML document, so that some can be changed and the rest stays as it is."""

import re
from xml.sax.saxutils import escape, quoteattr

from maskseq.errors import UsageError

_NAME = re.compile(rb"<[^\s/>]+")
_ATTRIBUTE = re.compile(rb"\s+([^\s=]+)\s*=\s*(\"[^\"]*\"|'[^']*')")
_CLOSE = re.compile(rb"\s*/?>")
_NO_CHARACTER = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

Edit = tuple[int, int, bytes]
"""Bytes from, to (half-open), and what stands there afterwards."""


def start_tag(xml: bytes, begin: int) -> tuple[dict[bytes, tuple[int, int]], int]:
    """Where the values in a start tag stand, quotes included, and where it ends."""
    name = _NAME.match(xml, begin)
    assert name is not None
    spans, position = {}, name.end()
    while match := _ATTRIBUTE.match(xml, position):
        position = match.end()
        spans[match[1]] = match.span(2)
    close = _CLOSE.match(xml, position)
    assert close is not None
    return spans, close.end()


def tag_name(xml: bytes, begin: int) -> bytes:
    """The name in a start tag, with its prefix."""
    name = _NAME.match(xml, begin)
    assert name is not None
    return name.group()[1:]


def is_empty_tag(xml: bytes, stop: int) -> bool:
    """Whether the start tag that ends at `stop` ends its element, too: `<a/>`."""
    return xml[stop - 2 : stop] == b"/>"


def end_tag_end(xml: bytes | bytearray, begin: int) -> int:
    """Where the end tag that begins at `begin` ends."""
    return xml.index(b">", begin) + 1


def first_inside(xml: bytes, begin: int, stop: int, elements: bytes) -> Edit:
    """The edit that puts elements first into another, whose start tag is `begin:stop`."""
    if is_empty_tag(xml, stop):
        return stop - 2, stop, b">" + elements + b"</" + tag_name(xml, begin) + b">"
    return stop, stop, elements


def quoted(value: str) -> str:
    """A value with quotes around it, as it stands in a start tag."""
    return quoteattr(_checked(value))


def escaped(value: str) -> str:
    """A value as it stands between tags."""
    return escape(_checked(value), {"\r": "&#13;"})


def _checked(value: str) -> str:
    if wrong := _NO_CHARACTER.search(value):
        raise UsageError(
            f"{value!r} cannot be written into XML, which has no character {wrong.group()!r}\n\nhint: write it as CSV",
            code="not-supported",
        )
    return value
