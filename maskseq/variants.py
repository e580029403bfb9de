"""Changes of records that a file lists, such as a genome's variants: what a plug-in defines to have them scored."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from maskseq.errors import DataError
from maskseq.formats import most_alike, named
from maskseq.types import Record

R = TypeVar("R", bound=Record)


@dataclass(frozen=True, kw_only=True)
class ListedVariant(ABC, Generic[R]):
    """The units `start:stop` of a record in place of which there are `length` others."""

    key: str
    """The record's."""
    start: int
    stop: int
    length: int
    columns: tuple[str, ...]
    """What the file says of it, as the `columns` of its format."""
    path: str
    place: str
    """Where it is listed."""

    @abstractmethod
    def pair(self, record: R, start: int, stop: int) -> tuple[R, R]:
        """The units `start:stop` of the record as they are, and with the change.

        `DataError` where the record is not what the file takes it for.
        """


@dataclass(frozen=True, kw_only=True)
class Unscored:
    """A listed change that has no score."""

    columns: tuple[str, ...]
    """What the file says of it, as the `columns` of its format."""
    reason: str


Listed = ListedVariant[R] | Unscored


class VariantFormat(ABC, Generic[R]):
    """Files that list variants; plug-ins of the entry-point group `maskseq.variants`."""

    suffixes: ClassVar[tuple[str, ...]] = ()
    """File name endings that it reads, lower case, without the `.gz` of a compressed file."""
    columns: ClassVar[tuple[str, ...]] = ()
    """Names of what identifies a variant."""

    @abstractmethod
    def read(self, path: Path) -> Iterator[Listed[R]]:
        """Stream the variants of a file.

        An entry that is broken, or of a kind that has no score, is an `Unscored`, so that it ends neither the file nor
        its own row; `DataError` where the file itself cannot be read.
        """


class Records:
    """The records that variants are about, one in memory at a time: quick where both files have the same order."""

    def __init__(self, read: Callable[[], Iterable[Record]]) -> None:
        """`read()` streams the records from the first on; they are called as `maskseq.formats` says."""
        self._read = read
        self._stream: Iterator[tuple[str, Record]] = iter(())
        self._current: tuple[str, Record] | None = None
        self._names: set[str] | None = None
        """All keys, once the records were read to their end from the first on."""

    def find(self, key: str) -> Record:
        """The record of that name; `LookupError` says which records there are."""
        if self._current is not None and self._current[0] == key:
            return self._current[1]
        if self._names is None or key in self._names:
            for again in (False, True):
                if again:
                    self._stream = named(self._read())
                names = set()
                for name, record in self._stream:
                    names.add(name)
                    if name == key:
                        self._current = name, record
                        return record
            self._names = names
        raise LookupError(f"there is no record {key!r}; there are {most_alike(key, sorted(self._names))}")


@dataclass(frozen=True)
class Stretch:
    """What a model sees of a variant and around it."""

    before: Record
    after: Record
    changed: tuple[int, int]
    """Which units of `before` are changed, half-open."""


def stretches(
    variants: Iterable[Listed[Any]], records: Records, context: int
) -> Iterator[tuple[ListedVariant[Any], Stretch] | tuple[Listed[Any], str]]:
    """Each variant with as much around it as the context holds, itself in the middle but for the ends of the record.
    Circles have none, and a variant may cross their origin.

    Or with the reason why it has no score.
    """
    for variant in variants:
        if isinstance(variant, Unscored):
            yield variant, variant.reason
            continue
        try:
            yield variant, _stretch(variant, records.find(variant.key), context)
        except LookupError as error:
            yield variant, str(error.args[0])
        except DataError as error:
            yield variant, error.problem


def _stretch(variant: ListedVariant[Any], record: Record, context: int) -> Stretch:
    """`DataError` where the variant does not lie in the record, or is too long to be seen with what is around it."""
    replaced = variant.stop - variant.start
    size = context - max(variant.length - replaced, 0)
    start = (variant.start + variant.stop - size) // 2
    beyond = variant.stop > len(record) or (len(record) > context and not 0 <= start <= len(record) - size)
    if 0 <= variant.start < len(record) and replaced <= len(record) and beyond:  # the origin, if it is a circle
        by = (variant.start + replaced // 2 - len(record) // 2) % len(record)
        if (turned := record.turned(by)) is not None:
            record, moved = turned, (variant.start - by) % len(record)
            variant = replace(variant, start=moved, stop=moved + replaced)
            start = (variant.start + variant.stop - size) // 2
    problem, code = "", "outside-record"
    if not 0 <= variant.start <= variant.stop <= len(record):
        problem = (
            f"it reaches from {variant.start + 1:,} to {variant.stop:,}, but {record.key!r} ends at {len(record):,}"
        )
    elif (longest := max(variant.length, replaced)) > context // 2:
        code = "not-supported"
        problem = f"it has {longest:,} units, more than half of the model's context of {context:,}"
    if problem:
        raise DataError(variant.path, problem, place=variant.place, code=code)
    start = max(min(start, len(record) - size), 0)
    before, after = variant.pair(record, start, min(start + size, len(record)))
    return Stretch(before, after, (variant.start - start, variant.stop - start))
