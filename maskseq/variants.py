"""Changes of records that a file lists, such as a genome's variants: what a plug-in defines to have them scored."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from maskseq.errors import DataError
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


class VariantFormat(ABC, Generic[R]):
    """Files that list variants; plug-ins of the entry-point group `maskseq.variants`."""

    suffixes: ClassVar[tuple[str, ...]] = ()
    """File name endings that it reads, lower case, without the `.gz` of a compressed file."""
    columns: ClassVar[tuple[str, ...]] = ()
    """Names of what identifies a variant."""

    @abstractmethod
    def read(self, path: Path) -> Iterator[ListedVariant[R]]:
        """Stream the variants; `DataError` with file and line where it is broken."""


class Records:
    """The records that variants are about, one in memory at a time: quick where both files have the same order."""

    def __init__(self, read: Callable[[], Iterable[Record]]) -> None:
        """`read()` streams the records from the first on."""
        self._read = read
        self._stream: Iterator[Record] = iter(())
        self._current: Record | None = None

    def find(self, variant: ListedVariant[Any]) -> Record:
        """The record of a variant; `DataError` if there is none."""
        if self._current is not None and self._current.key == variant.key:
            return self._current
        names: list[str] = []
        for again in (False, True):
            if again:
                self._stream = iter(self._read())
            for record in self._stream:
                if record.key == variant.key:
                    self._current = record
                    return record
                names.append(record.key)
        raise DataError(
            variant.path,
            f"there is no record {variant.key!r}; there are {', '.join(sorted(set(names))[:5])}",
            place=variant.place,
        )


@dataclass(frozen=True)
class Stretch:
    """What a model sees of a variant and around it."""

    before: Record
    after: Record
    changed: tuple[int, int]
    """Which units of `before` are changed, half-open."""


def stretches(
    variants: Iterable[ListedVariant[Any]], records: Records, context: int
) -> Iterator[tuple[ListedVariant[Any], Stretch | None]]:
    """Each variant with as much around it as the context holds, itself in the middle but for the ends of the record.

    None if it is longer than half the context.
    """
    for variant in variants:
        record = records.find(variant)
        replaced = variant.stop - variant.start
        size = context - max(variant.length - replaced, 0)
        start = max(min((variant.start + variant.stop - size) // 2, len(record) - size), 0)
        before, after = variant.pair(record, start, min(start + size, len(record)))
        fits = max(variant.length, replaced) <= context // 2
        yield variant, Stretch(before, after, (variant.start - start, variant.stop - start)) if fits else None
