"""How rows stand in files of different kinds, whatever their columns mean: read, changed cell by cell, written back."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from maskseq_events.case import Value
from maskseq_events.rows import Tried


class ColumnChoice(NamedTuple):
    """Columns by their numbers."""

    needed: Collection[int]
    """Those whose values must have a text."""
    read: Collection[int]
    """These, and others whose values are left out where they have none."""


Choose = Callable[[Sequence[str]], ColumnChoice]
"""Which of these columns to read; `DataError` where one is missing."""


class RowFile(ABC):
    """One kind of file. Rows that were not changed are written as they were."""

    @abstractmethod
    def open(self, path: Path, choose: Choose) -> tuple[Sequence[str], Any, Iterator[Tried]]:
        """Column names, whatever else `write` needs, and the rows with cells of text, or None for nothing."""

    @abstractmethod
    def owns(self, header: object) -> bool:
        """Whether rows under this header come from a file of this kind."""

    @abstractmethod
    def cells(self, raw: Any, header: Any) -> Sequence[Any]:
        """The cells of a row again."""

    @abstractmethod
    def replaced(self, raw: Any, changes: dict[int, Value], header: Any) -> Any:
        """The row with some cells changed, None: to nothing."""

    @abstractmethod
    def write(self, header: Any, rows: Sequence[tuple[int, Any]], path: Path) -> None:
        """Write rows, each with its number, in their order."""

    def place(self, number: int) -> str:
        """Where a row is, for the user to find it."""
        return f"line {number}"

    def numeric(self, header: Any) -> Collection[str]:
        """Columns that the file declares as numbers that need not be whole."""
        return ()
