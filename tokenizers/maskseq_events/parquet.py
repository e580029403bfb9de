"""Event logs in Parquet, one row an event, and MEDS, the standard for health records in Parquet. Needs pyarrow."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from maskseq.formats import distinct
from maskseq.survey import CERTAIN, LIKELY, Claim, Head
from maskseq_events.case import ABSENT_TIME, Case, plain_rows
from maskseq_events.claims import ROWS, claim_table
from maskseq_events.file_table import FileTable
from maskseq_events.new_table import NewTable
from maskseq_events.parquet_rows import ParquetRows, arrow, first_rows, names_of


@dataclass(frozen=True, kw_only=True)
class Parquet(FileTable):
    """Event logs in Parquet. Null is absent; numbers are read as Python writes them, other types as their text.

    Written back, the rows are taken from the source file, which must still be there, with all its columns, types and
    metadata; values that did not change are equal, though the bytes of a Parquet file depend on who wrote it.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".parquet", ".pq")

    @classmethod
    def recognize(cls, head: Head) -> Claim | None:
        if not head.content.startswith(b"PAR1"):
            return None
        names, rows = first_rows(head.path, ROWS)
        claim = claim_table(list(distinct(names)), plain_rows(rows), super().recognize(head))
        return claim and replace(claim, strength=min(claim.strength, LIKELY))

    @cached_property
    def _file(self) -> ParquetRows:
        return ParquetRows(unknown=self.unknown)

    def _write_new(self, cases: Sequence[Case], path: Path) -> None:
        pa, pq, _ = arrow()
        new = NewTable(cases)
        rows = list(new.rows())
        numeric = {name for case in cases for name, kind in case.kinds.items() if kind == "numeric"}
        columns = {}
        for name in new.names:
            column = pa.array([row[name] for row in rows], pa.string())
            kind = pa.timestamp("us", "UTC") if name == "time" else pa.float64() if name in numeric else pa.string()
            try:
                columns[name] = column.cast(kind)
            except pa.ArrowInvalid:  # `?`, or a value that is no number after all
                columns[name] = column
        pq.write_table(pa.table(columns), path)


@dataclass(frozen=True, kw_only=True)
class Meds(Parquet):
    """Health records in the Medical Event Data Standard: a shard of its `data` folder, subjects as cases.

    A row without time is a static fact, and stands first. `numeric_value` and `text_value` are attributes. The bins of
    `numeric_value` are shared by all codes.
    """

    suffixes: ClassVar[tuple[str, ...]] = ()
    missing_time: ClassVar[int] = ABSENT_TIME

    @classmethod
    def recognize(cls, head: Head) -> Claim | None:
        if not head.content.startswith(b"PAR1"):
            return None
        names = names_of(head.path)
        if not {"subject_id", "time", "code", "numeric_value"} <= set(names):
            return None
        return Claim(strength=CERTAIN, why="the columns of MEDS: subject_id, time, code, numeric_value")

    case: str | None = "subject_id"
    activity: str | tuple[str, ...] | None = "code"
    time: str | tuple[str, ...] | None = "time"
