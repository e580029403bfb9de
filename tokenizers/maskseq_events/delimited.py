"""Event logs in CSV and TSV."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

from maskseq.errors import UsageError
from maskseq.files import create
from maskseq.formats import ADDED, distinct
from maskseq.survey import Claim, Head
from maskseq_events.case import Case, plain_rows
from maskseq_events.claims import claim_table, with_options
from maskseq_events.delimited_rows import CsvHeader, DelimitedRows, first_row, is_aside
from maskseq_events.file_table import FileTable
from maskseq_events.headers import are_units, delimiter_of, table_start
from maskseq_events.new_table import NewTable


@dataclass(frozen=True, kw_only=True)
class Csv(FileTable):
    """Event logs in CSV or TSV, one row an event, with a header.

    A first line `sep=;`, as spreadsheets write it, names the delimiter.

    A column name that occurs again gets a number: `Variant`, `Variant#2`. Written back, every line and every cell
    that did not change is copied from the file as it was, quotes and line ends included.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".csv", ".tsv")
    dress = MappingProxyType({"delimiter": (None,), "decimal": (".", ","), "encoding": ("utf-8", "cp1252")})

    delimiter: str | None = None
    """Default: whichever of `,` `;` tab `|` cuts the header into most columns."""
    encoding: str = "utf-8"
    preamble: int = field(default=0, metadata=ADDED)
    """Lines before the header that are no part of the table, such as a title."""
    units: bool = field(default=False, metadata=ADDED)
    """The row behind the header says units, and is no event."""
    names: tuple[str, ...] = field(default=(), metadata=ADDED)
    """Names of the columns, for a file without a header."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.delimiter is not None and len(self.delimiter) != 1:
            raise UsageError(f"delimiter must be one character, not {self.delimiter!r}", code="bad-option")

    @classmethod
    def recognize(cls, head: Head) -> Claim | None:
        if not head.name.endswith((*cls.suffixes, ".txt")) or not head.lines:
            return None
        skipped, lines = table_start(head)
        try:
            names, *rows = csv.reader(lines, delimiter=delimiter_of(lines[0]), strict=True)
            rows = [row for row in rows if not is_aside(row, names)]
        except csv.Error:
            return super().recognize(head)
        units = are_units(rows)
        claim = claim_table(list(distinct(names)), plain_rows(rows[units:]), super().recognize(head))
        claim = claim and with_options(
            claim, **{"preamble": skipped} if skipped else {}, **{"units": True} if units else {}
        )
        return claim and claim.encoded(head)

    @cached_property
    def _file(self) -> DelimitedRows:
        return DelimitedRows(
            delimiter=self.delimiter,
            encoding=self.encoding,
            preamble=self.preamble,
            units=self.units,
            names=self.names,
            nothing=next(iter(self.absent), ""),
        )

    def _beside(self, raw: str, header: CsvHeader) -> str:
        own = first_row(raw, header.delimiter)
        line = own.rstrip("\r\n")
        return line + ("\r\n" if own[len(line) :].startswith("\r\n") else header.end)

    def _write_new(self, cases: Sequence[Case], path: Path) -> None:
        table = NewTable(cases)
        delimiter = self.delimiter or ("\t" if ".tsv" in path.name.lower() else ",")
        text = io.StringIO(newline="")
        writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")
        writer.writerow(table.names)
        writer.writerows(["" if value is None else value for value in row.values()] for row in table.rows())
        with create(path) as file:
            file.write(text.getvalue().encode(self.encoding))
