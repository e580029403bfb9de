"""Tables of events, one row an event: rows of a file to cases, and cases back to their very rows."""

import itertools
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskseq.errors import DataError, UsageError
from maskseq.formats import OnBroken, attempted, stop
from maskseq_events.activities import to_write
from maskseq_events.case import (
    ABSENT_TIME,
    UNKNOWN,
    Case,
    Value,
    plain_rows,
)
from maskseq_events.durations import DURATION, started
from maskseq_events.grouping import group_rows
from maskseq_events.mapping import Columns
from maskseq_events.rows import POINT, Row, RowError, Rows, Tried, parted, split_at_silence
from maskseq_events.table_cases import TableCases
from maskseq_events.times import SECOND, YearClock


@dataclass(frozen=True, kw_only=True)
class EventTable(TableCases):
    """Reads and writes tables of events; formats say how rows lie in their files."""

    def read(self, path: Path) -> Iterator[Case]:
        return self._read(path, None, stop)

    def attempts(self, path: Path) -> Iterator[Case | DataError]:
        """A row that does not fit its table or its case is left out of it, and written back as it was."""
        return attempted(lambda on_broken: self._read(path, None, on_broken))

    def preview(self, path: Path, n_units: int) -> Iterator[Case]:
        """The cases of the first rows, twice as many as asked, as cases may go on behind the rows that are read."""
        return self._read(path, 2 * n_units, stop)

    def _read(self, path: Path, n_rows: int | None, on_broken: OnBroken) -> Iterator[Case]:
        for case in self._cases(path, n_rows, on_broken):
            yield from [case] if self.idle is None else split_at_silence(case, round(self.idle * SECOND))

    def _cases(self, path: Path, n_rows: int | None, on_broken: OnBroken) -> Iterator[Case]:
        names, header, rows = self._open(path)
        columns = self._columns(names, path)
        clock = YearClock(self._layout) if self._layout.yearless else None

        def keyed() -> Iterator[tuple[str, Row]]:
            n_events, above, trailing = 0, None, None  # whether rows end with a delimiter, as the first one does
            for number, raw, cells in itertools.islice(rows, n_rows):
                if not isinstance(cells, DataError):
                    ended = len(cells) == len(names) + 1 and cells[-1] in (None, "")
                    trailing = ended if trailing is None else trailing
                    cells = cells[:-1] if trailing and ended else cells
                try:
                    checked = self._checked(cells, columns, path, number, above)
                except DataError as error:
                    above = None  # this row may have said another case
                    error.kept = [(number, raw)]
                    on_broken(error)
                    continue
                key = str(n_events // self.session_lines + 1) if self.session_lines else "all"
                if columns.case is not None:
                    key = above = str(checked[columns.case])
                n_events += 1
                if len(columns.time) > 1:
                    checked = (*checked, self._joined(checked, columns))
                yield key, self._dated((number, raw, checked), columns, clock)

        empty = True
        for key, group in group_rows(keyed(), max_rows=self.max_rows):
            empty = False
            while group:
                try:
                    case = self._case(key, group, columns, header, path)
                except RowError as error:
                    error.kept = [(number, raw) for number, raw, _ in group if number == error.number]
                    on_broken(error)
                    group = [row for row in group if row[0] != error.number]
                else:
                    yield case
                    break
        if empty:
            raise DataError(path, "there are no events in this file")

    def write(self, records: Iterable[Case | DataError], path: Path) -> None:
        """Rows in the order of the file they came from; cells that did not change are copied as they were.

        All rows are held in memory. Cases that came from elsewhere are written as a plain new table.
        """
        header: Any = None
        columns: Columns | None = None
        rows: list[tuple[int, Any]] = []
        new: list[Case] = []
        for case in records:
            if isinstance(case, DataError):
                rows.extend(case.kept)
                continue
            origin = case.origin
            if not (isinstance(origin, Rows) and self._owns(origin)):
                new.append(case)
                continue
            if columns is not None and (origin.columns, origin.header) != (columns, header):
                raise UsageError(
                    f"{path}: cases of different files cannot be written into one table", code="not-supported"
                )
            header, columns = origin.header, origin.columns
            rows.extend(self._updated(case, origin))
        if columns is None:
            self._write_new(new, path)
            return
        if new:
            raise UsageError(
                f"{path}: {new[0].key!r} does not come from the table that the other cases come from",
                code="not-supported",
            )
        rows.sort(key=lambda row: row[0])
        self._write_rows(header, rows, path)

    # What a format of this kind defines

    @abstractmethod
    def _open(self, path: Path) -> tuple[Sequence[str], Any, Iterator[Tried]]:
        """Column names, whatever else `_write_rows` needs, and the rows with cells of text, or None for absent."""

    @abstractmethod
    def _owns(self, origin: Rows) -> bool:
        """Whether this format can write rows of this origin."""

    @abstractmethod
    def _cells(self, raw: Any, header: Any) -> Sequence[Any]:
        """The cells of a row again."""

    @abstractmethod
    def _replaced(self, raw: Any, changes: dict[int, Value], header: Any) -> Any:
        """The row with some cells changed, None: to absent."""

    @abstractmethod
    def _write_rows(self, header: Any, rows: Sequence[tuple[int, Any]], path: Path) -> None:
        """Write rows, each with its number, in their order."""

    @abstractmethod
    def _write_new(self, cases: Sequence[Case], path: Path) -> None:
        """Write a `NewTable`."""

    def _beside(self, raw: Any, header: Any) -> Any:
        """A row for an event that was added next to this one. Default: rows cannot be added."""
        raise UsageError(
            "events cannot be added to a log of this kind\n\nhint: convert it to CSV", code="not-supported"
        )

    # Cases back to rows

    def _updated(self, case: Case, origin: Rows) -> Iterator[tuple[int, Any]]:
        columns, old = origin.columns, origin.was
        if old == case and not origin.added and origin.named is None:
            yield from zip(origin.numbers, origin.raw, strict=True)
            return
        cells = plain_rows([self._cells(raw, origin.header) for raw in origin.raw], self.unknown)
        like: Sequence[str] = ()
        if columns.time:  # the longest is the most precise
            known = ([row[i] for i in columns.time] for row, there in zip(cells, old.timed, strict=True) if there)
            like = max(known, key=lambda texts: sum(map(len, texts)), default=())
        for event, (number, raw, row) in enumerate(zip(origin.numbers, origin.raw, cells, strict=True)):
            changes = self._case_again(origin) if event == origin.first else {}
            added = event in origin.added
            if added:
                raw = self._beside(raw, origin.header)
                kept = {columns.case, *columns.case_attributes.values()}
                changes |= {index: None for index in range(len(columns.names)) if index not in kept}
            was = (old.activity[event],) if old.parts is None else old.parts[event]
            for index, part, before in zip(columns.activity, to_write(case, old, event), was, strict=True):
                if added or part != before:  # one that becomes absent is an empty text, where there was a text
                    changes[index] = "" if part is None and row[index] is not None else part
            if columns.time and (added or old.time[event] != case.time[event]):
                moment, offset = int(case.time[event]), int(case.offset[event])
                empty = [i for i in columns.time if added or row[i] in self._holes or row[i] in self.absent]
                texts: Sequence[Value] = [None if moment == self.missing_time == ABSENT_TIME else self.unknown[0]]
                if case.timed[event]:  # else a fact that has none, or one that nobody knows
                    texts = parted(self._layout.render(moment, offset, " ".join(like) or None), like, len(columns.time))
                of_time = dict(zip(columns.time, itertools.cycle(texts), strict=False))
                changes |= {i: text for i, text in of_time.items() if not empty or i in empty}
            if columns.start is not None and (added or row[columns.start] in self._holes):
                begun = started(int(case.time[event]), case.attributes[DURATION][event])
                if begun is not None:
                    begin = self._layout.render(begun, int(case.offset[event]), " ".join(like) or None)
                    changes[columns.start] = begin
            for name, index in columns.attributes.items():
                if added or old.attributes[name][event] != case.attributes[name][event]:
                    changes[index] = self._text(case.attributes[name][event])
            for name, index in columns.case_attributes.items():
                changed = old.case_attributes[name] != case.case_attributes[name]
                if changed and self._values(name, row[index : index + 1]) != (None,):
                    changes[index] = self._text(case.case_attributes[name])
            yield number, self._replaced(raw, changes, origin.header) if changes else raw

    def _case_again(self, origin: Rows) -> dict[int, Value]:
        """The case's cell of the row that was first and is there no longer, for the one that is first now."""
        index = origin.columns.case
        return {index: self._cells(origin.named, origin.header)[index]} if self.case_above and index is not None else {}

    def _text(self, value: Value) -> Value:
        if self.decimal == "," and value is not None and POINT.fullmatch(value):
            return value.replace(".", ",")
        return self.unknown[0] if value == UNKNOWN else value
