"""Tables of events in files of rows."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from maskseq_events.case import Kind, Value
from maskseq_events.mapping import Columns
from maskseq_events.row_files import ColumnChoice, RowFile
from maskseq_events.rows import Rows, Tried
from maskseq_events.table import EventTable


class FileTable(EventTable):
    """A table in a file of rows, as other domains have such files, too."""

    @property
    @abstractmethod
    def _file(self) -> RowFile:
        """The kind of file."""

    def _open(self, path: Path) -> tuple[Sequence[str], Any, Iterator[Tried]]:
        return self._file.open(path, lambda names: self._chosen(self._columns(names, path)))

    def _chosen(self, columns: Columns) -> ColumnChoice:
        roles = (columns.case, columns.start, *columns.time, *columns.activity)
        needed = {index for index in roles if index is not None}
        read = needed | {*columns.attributes.values(), *columns.case_attributes.values()}
        return ColumnChoice(needed if self.attributes is None else read, read)

    def _owns(self, origin: Rows) -> bool:
        return self._file.owns(origin.header)

    def _cells(self, raw: Any, header: Any) -> Sequence[Any]:
        return self._file.cells(raw, header)

    def _replaced(self, raw: Any, changes: dict[int, Value], header: Any) -> Any:
        return self._file.replaced(raw, changes, header)

    def _write_rows(self, header: Any, rows: Sequence[tuple[int, Any]], path: Path) -> None:
        self._file.write(header, rows, path)

    def _place(self, number: int) -> str:
        return self._file.place(number)

    def _kinds(self, header: Any) -> dict[str, Kind]:
        return dict.fromkeys(self._file.numeric(header), "numeric")
