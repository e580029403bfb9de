"""What plug-ins say of a file that they see for the first time: is it mine, and what recipe would suit it?

A format answers with a `Claim` to the beginning of a file, a tokenizer with a `Suggestion` to some of its records.
`maskseq init` asks them all; the core knows nothing of any domain.
"""

import codecs
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from maskseq.errors import DataError
from maskseq.files import BYTE_ORDER_MARK, WIDE, open_bytes, plain_name

HEAD_BYTES = 1 << 18

BY_NAME, POSSIBLE, LIKELY, CERTAIN = range(1, 5)
"""How sure a claim is: the file's name only; the content would do; it looks like this; nothing else looks like this."""
GENERAL = 1.5
"""For a format that reads any content of a kind, such as any table: it comes behind all that know more about it."""


@dataclass(frozen=True)
class Head:
    r"""The beginning of a file, decompressed where it is compressed, in UTF-8 where it is UTF-16, without a byte-order
    mark: what `Format.recognize` decides by.

    Example:
        >>> head = Head(Path("Notes.TXT.gz"), b"c e g\n\nd f\n", whole=True)
        >>> head.name, head.lines
        ('notes.txt', ['c e g', 'd f'])
    """

    path: Path
    content: bytes
    whole: bool
    """The file ends here."""

    @classmethod
    def of(cls, path: Path) -> "Head":
        """`DataError` for a file that cannot be read, or is empty."""
        with open_bytes(path) as file:
            content = file.read(HEAD_BYTES + 1)
        if not content:
            raise DataError(path, "the file is empty", code="empty-data")
        whole, content = len(content) <= HEAD_BYTES, content[:HEAD_BYTES]
        return cls(path, _narrow(content, whole).removeprefix(BYTE_ORDER_MARK), whole)

    @cached_property
    def name(self) -> str:
        """The file's name in lower case, without the ending of a compressed file; that of the file in a zip archive."""
        return plain_name(self.path)

    @cached_property
    def encoding(self) -> str:
        """UTF-8; where it is not, that of Windows in Western Europe, in which most other tables are."""
        try:
            self.content.decode()
        except UnicodeDecodeError as error:
            if self.whole or error.end < len(self.content):  # no character that is cut off
                return "cp1252"
        return "utf-8"

    @cached_property
    def lines(self) -> list[str]:
        """Its lines that are not blank, without line ends, nor one that is cut off; none if it is no text."""
        if b"\0" in self.content:
            return []
        lines = self.content.decode(self.encoding, errors="replace").splitlines()
        if not self.whole and len(lines) > 1:
            lines.pop()
        return [line for line in lines if line.strip()]


def _narrow(content: bytes, whole: bool) -> bytes:
    """UTF-16 with its byte-order mark as UTF-8; other content as it is."""
    try:
        wide = codecs.getincrementaldecoder(WIDE.get(content[:2], "ascii"))()
        return wide.decode(content, final=whole).encode() if content[:2] in WIDE else content
    except UnicodeError:
        return content


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One of several ways to read a file between which its content does not decide."""

    why: str
    """What this way takes the file for, for the user to read."""
    options: Mapping[str, Any] = field(default_factory=dict)
    format: str | None = None
    """Default: the format whose claim it belongs to."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A format can read a file: the answer of `Format.recognize`.

    Example:
        >>> claim = Claim(strength=LIKELY, why="each line has five columns", options={"delimiter": "|"})
        >>> claim.strength > BY_NAME
        True
    """

    strength: float
    """`BY_NAME` to `CERTAIN`, or `GENERAL`; of several formats the surest reads the file."""
    why: str
    """What speaks for it, for the user to read."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options that the format needs for this file."""
    doubt: str = ""
    """Why the options are no more than a guess, or, where there are none, why none can be guessed. `maskseq init` then
    asks: these options are the first choice, those of `instead` follow."""
    instead: tuple[Choice, ...] = ()
    """Other ways to read the file, the likeliest first. Without a doubt they are offered only where most records turn
    out to be a single unit."""

    def encoded(self, head: Head) -> "Claim":
        """With the encoding as an option, and a word about it, where it is not UTF-8."""
        if head.encoding == "utf-8":
            return self
        why = f"{self.why}; it is not UTF-8 and taken for {head.encoding} (Western European)"
        encoding = {"encoding": head.encoding}
        instead = tuple(replace(choice, options={**choice.options, **encoding}) for choice in self.instead)
        options = {} if self.doubt and not self.options else {**self.options, **encoding}
        return replace(self, why=why, options=options, instead=instead)


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much there is in files as a whole."""

    records: int
    units: int
    """Raw units of all of them."""
    longest: int
    """Raw units of the longest record."""

    @classmethod
    def of(cls, records: Sequence[Any]) -> "Size":
        """That of the files which the records are from, where it is known; else that of the records."""
        if isinstance(records, Surveyed):
            return records.size
        lengths = [len(record) for record in records]
        return cls(records=len(lengths), units=sum(lengths), longest=max(lengths, default=0))


class Surveyed(list[Any]):
    """Records from the beginning of files, with the size of the whole: what `Tokenizer.suggest` is given."""

    def __init__(self, records: Iterable[Any], size: Size) -> None:
        super().__init__(records)
        self.size = size


@dataclass(frozen=True, kw_only=True)
class Suggestion:
    """What a tokenizer found in some records, and the recipe that it would begin with: the answer of
    `Tokenizer.suggest`.

    Example:
        >>> suggestion = Suggestion(found={"notes": 12}, context=64, recipe={"tokenizer": {"floor": 5}})
        >>> suggestion.recipe["tokenizer"]
        {'floor': 5}
    """

    found: Mapping[str, object] = field(default_factory=dict)
    """Findings for the user to read, in the order in which they are told."""
    context: int = 512
    """Positions that a piece needs to be understood; longer records are cut."""
    recipe: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Sections of the recipe, such as `tokenizer` (its options, without the name), `masking`, `data.split`. What is
    left out, `maskseq init` chooses."""
    comments: Mapping[str, str] = field(default_factory=dict)
    """Why a value was chosen: a comment behind the line of a key such as `masking.ratio`."""
