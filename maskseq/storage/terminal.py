"""Text of files and users, before it is shown on a terminal."""

import re

UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that steer a terminal (C0 but for tab and line feed, DEL, C1), that reorder what is shown (embeddings,
overrides and isolates of the bidirectional algorithm), that only some programs take for line ends, and halves of
surrogate pairs, which stand for the bytes of a file name that are not text."""


def escaped(text: str) -> str:
    """The text with whatever could deceive its reader as Python's escapes; other text stays as it is."""
    return UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def in_one_line(text: str) -> str:
    """The same, for a cell of a table or a line of its own: tabs and line feeds are escaped as well."""
    return escaped(text).replace("\t", "\\t").replace("\n", "\\n")
