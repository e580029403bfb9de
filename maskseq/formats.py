"""What reads files into records and writes them back, and what the records of a file are called.

Several records of a file may have one key. A record answers to its key and, as the n-th record of that key in its
file, to KEY#n. The first is called by its key in all that is written about it, the others KEY#2, KEY#3, …; if a key
reads like that itself, it gets a number behind it as well. A request that two records answer to is refused, so that
none is ever meant by accident.
"""

import difflib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

from maskseq.errors import DataError, UsageError
from maskseq.survey import BY_NAME, Claim, Head
from maskseq.types import Record

R = TypeVar("R", bound=Record)

ADDED: Mapping[str, Any] = MappingProxyType({"added": True})
"""For `field(default=…, metadata=ADDED)`: an option that a format got later. Corpora read with its default keep their
identity."""


OnBroken = Callable[[DataError], None]
"""What is done with a broken record: nothing else than `stop` where files are to be read whole or not at all."""


def stop(error: DataError) -> None:
    raise error


def attempted(read: Callable[[OnBroken], Iterator[R]]) -> Iterator[R | DataError]:
    """Records, and between them the errors that `read` reported; one that it raised ends them."""
    broken: list[DataError] = []
    try:
        for record in read(broken.append):
            yield from broken
            broken.clear()
            yield record
    except DataError as error:
        error.ends = True
        broken.append(error)
    yield from broken


class Format(ABC, Generic[R]):
    r"""Files to records and back. Options, where a format has any, are dataclass fields.

    A subclass defines `read` and `write`; a frozen dataclass where it has options. `maskseq.files` opens and writes
    files, compressed or not.

    Example:
        >>> from maskseq import ListRecord
        >>> class Lines(Format[ListRecord]):
        ...     suffixes = (".notes",)
        ...
        ...     def read(self, path):
        ...         for number, line in enumerate(path.read_text().splitlines(), 1):
        ...             yield ListRecord(key=str(number), values=line.split())
        ...
        ...     def write(self, records, path):
        ...         path.write_text("".join(" ".join(map(str, record.values)) + "\n" for record in records))
        >>> Lines().suffixes
        ('.notes',)
    """

    suffixes: ClassVar[tuple[str, ...]] = ()
    """File name endings that it reads, lower case, without the `.gz` of a compressed file."""
    dress: ClassVar[Mapping[str, tuple[Any, ...]]] = MappingProxyType({})
    """Options that only say how a text is written, such as its decimal sign, and the values that they may have. A run
    tries them on a file that is written otherwise than its training files.
    """

    def identity(self) -> dict[str, Any]:
        """The options that identify corpora: those of the first release, and of later ones what is not default."""
        options = getattr(self, "__dataclass_fields__", {})
        values = {name: getattr(self, name) for name in options}
        return {
            name: value
            for name, value in values.items()
            if not (options[name].metadata.get("added") and value == options[name].default)
        }

    def sources(self, path: Path) -> Sequence[Path]:
        """Every file that `read(path)` takes content from: a corpus keeps their digests. Default: `path` alone."""
        return [path]

    @abstractmethod
    def read(self, path: Path) -> Iterator[R]:
        """Stream the records of a file.

        Raises:
            DataError: With file and line (or offset) where it is broken.
        """

    def attempts(self, path: Path) -> Iterator[R | DataError]:
        """`read` that does not stop: in place of a record that is broken comes its `DataError`, then the next record.

        An error whose `kept` is given comes back to `write` among the records, which puts that in its place.
        Default: what follows the first error is not read, which is right for formats of one record a file. Others read
        with `attempted`.
        """
        return attempted(lambda _: self.read(path))

    @abstractmethod
    def write(self, records: Iterable[R], path: Path) -> None:
        """Write records so that everything untouched is byte-equal to what was read.

        Raises:
            UsageError: The records cannot be written in this format.
        """

    def written_as(self, path: Path) -> "tuple[Format[R], Path]":
        """The format and the name that records of the file `path` are written in. Default: its own; a format that is
        only read names another.
        """
        return self, path

    @classmethod
    def recognize(cls, head: Head) -> Claim | None:
        """Whether the file that begins like this is of this format, for `maskseq init`. Default: its name says so."""
        ending = next((suffix for suffix in cls.suffixes if head.name.endswith(suffix)), None)
        return None if ending is None else Claim(strength=BY_NAME, why=f"its name ends in {ending}")

    def preview(self, path: Path, n_units: int) -> Iterator[R]:
        """The first records of a file, for `maskseq init`, which stops after about `n_units` raw units.

        Default: `read`, which is left off. Formats that read the whole file before the first record override it.
        """
        return self.read(path)


COMPARED = 20_000
"""Names that a wrong one is compared with."""
ONLY = ""
"""The name that means the only record of a file."""


class Name(NamedTuple):
    """How one record is called."""

    text: str
    """No other record of the file has it."""
    meant_by: tuple[str, ...]
    """The requests that mean it, `ONLY` among them."""


class Names:
    """The names of the records of one file, which are given in order."""

    def __init__(self, requested: Iterable[str] = ()) -> None:
        """`asked` are the names that requests use."""
        self._asked = set(requested)
        self._counts = Counter[str]()
        self._numbered: set[str] = set()
        """Names that are not the record's key."""
        self._answered: dict[str, str] = {}
        """For each request, the name of the record that answered to it."""

    def next(self, key: str) -> Name:
        """How the next record is called, whose key is this.

        Raises:
            UsageError: A request means this record as well as an earlier one.
        """
        self._counts[key] += 1
        number = self._counts[key]
        text = key
        if number > 1 or text in self._numbered:
            text = f"{key}#{number}"
            while text in self._counts or text in self._numbered:
                text += f"#{number}"
            self._numbered.add(text)
        answers = {key, text, f"{key}#{number}"}
        if number == 1:  # the number of a key that stays alone is needed by none, another record's key may be
            answers -= {f"{key}#1"} & self._counts.keys()
        meant_by = sorted(answers & self._asked - {ONLY})
        for requested in meant_by:
            self._answer(requested, text)
        if ONLY in self._asked and self._counts.total() > 1:
            raise UsageError(
                "the file has several records\n\nhint: say which one, as in KEY:START-END", code="ambiguous-name"
            )
        return Name(text, (*meant_by, ONLY))

    def check(self) -> None:
        """After the last record: `UsageError` if no record answered to a request."""
        missing = sorted(self._asked - self._answered.keys() - {ONLY})
        if missing:
            raise UsageError(
                f"no record is called {missing[0]!r}; the file has {most_alike(missing[0], self._counts) or 'none'}",
                code="unknown-name",
            )
        if ONLY in self._asked and not self._counts:
            raise UsageError("the file has no records", code="too-little-data")

    def _answer(self, requested: str, name: str) -> None:
        other = self._answered.setdefault(requested, name)
        if other != name:
            raise UsageError(
                f"several records answer to {requested!r}\n\n"
                f"hint: the n-th record of a key is KEY#n: {requested}#1, {requested}#2 and so on",
                code="ambiguous-name",
            )


def most_alike(name: str, known: Collection[str], most: int = 10) -> str:
    """Names that there are, for a message: those most like `name` first, and how many more."""
    some = list(known)[:COMPARED]
    plain = name.lower()
    ratio = {each: difflib.SequenceMatcher(None, each.lower(), plain).ratio() for each in some}
    shown = sorted(some, key=lambda each: -ratio[each])[:most]
    more = len(known) - len(shown)
    return ", ".join(shown) + f" and {more:,} more" * (more > 0)


def named(records: Iterable[R]) -> Iterator[tuple[str, R]]:
    """Each record behind the name that it is called by."""
    names = Names()
    return ((names.next(record.key).text, record) for record in records)


def distinct(names: Sequence[str]) -> tuple[str, ...]:
    """Names of columns or channels, a number added to those that occur again: `EEG`, `EEG#2`."""
    seen: Counter[str] = Counter()
    found: dict[str, None] = {}
    for name in names:
        text = name
        while text in found or seen[name] == 0:
            seen[name] += 1
            text = name if seen[name] == 1 else f"{name}#{seen[name]}"
        found[text] = None
    return tuple(found)
