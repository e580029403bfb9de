"""The `columns` tokenizer: one position a row, a field for each chosen column of any table."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64, Integer

from maskseq.survey import Suggestion
from maskseq.tokenizer import Tokenizer, described
from maskseq.types import OTHER, Encoded, Field, LegalCells
from maskseq_events.case import UNKNOWN, Value
from maskseq_tables.columns import Calendar, TableColumn
from maskseq_tables.fit import learn
from maskseq_tables.record import TableRows
from maskseq_tables.survey import suggest_columns


@dataclass(frozen=True, kw_only=True)
class ColumnsTokenizer(Tokenizer[TableRows]):
    """Rows of a table as rows of fields, each field from one column.

    Categories have an id each, ordered levels and bins of numbers are ordinal, parts of times are given. Values outside
    the vocabulary are `[OTHER]`, as are unknown values of given columns. A column that holds for a whole sequence is
    one raw unit.
    """

    columns: tuple[TableColumn, ...]
    calendar: tuple[Calendar, ...] = ()

    @cached_property
    def fields(self) -> tuple[Field, ...]:  # type: ignore[override]
        return (*(column.field for column in self.columns), *(part.field for part in self.calendar))

    @classmethod
    def fit(cls, records: Iterable[TableRows], **options: Any) -> "ColumnsTokenizer":
        """Learn vocabularies and bins. Options are those of `maskseq_tables.fit.ColumnsFitOptions`."""
        return cls(**learn(records, options))

    @classmethod
    def suggest(cls, records: Sequence[Any]) -> Suggestion | None:
        return suggest_columns(records)

    def encode(self, record: TableRows) -> Encoded:
        ids = np.empty((len(record), len(self.fields)), dtype=self._dtype)
        for index, column in enumerate(self.columns):
            values = record.columns.get(column.name)
            if values is None:  # the table has no such column
                ids[:, index] = column.ids[UNKNOWN]
                continue
            if column.whole and not column.given:
                _of_all(column.name, values)
            lookup = column.ids
            ids[:, index] = [lookup[value] for value in values]
        for index, part in enumerate(self.calendar, len(self.columns)):
            ids[:, index] = part.ids(record)
        return Encoded(ids)

    def decode(self, ids: Integer[np.ndarray, "length fields"]) -> list[dict[str, str]]:
        """A row of the names of its tokens for each position."""
        return [
            {field.name: field.token(token) for field, token in zip(self.fields, row, strict=True)}
            for row in ids.tolist()
        ]

    def numbers(self, record: TableRows) -> Float64[np.ndarray, "length fields"]:
        found = np.full((len(record), len(self.fields)), np.nan)
        for index, column in enumerate(self.columns):
            if (values := record.columns.get(column.name)) is not None:
                found[:, index] = column.numbers(values)
        return found

    def beyond(self, record: TableRows) -> Float64[np.ndarray, "length fields"]:
        found = self.numbers(record)
        for index, column in enumerate(self.columns):
            found[:, index] = np.nan if column.bins is None else column.bins.widths_beyond(found[:, index])
        return found

    def describe(self) -> Mapping[str, str]:
        whole = {column.name for column in self.columns if column.whole}
        return {
            field.name: described(field)
            + ", given" * field.given
            + ", one for a whole sequence" * (field.name in whole and not field.given)
            for field in self.fields
        }

    def units(self, ids: Integer[np.ndarray, "length fields"]) -> Int64[np.ndarray, "length fields 2"]:
        """The row; of a column that holds for a whole sequence, always unit 0."""
        ranges = np.array(super().units(ids), dtype=np.int64)
        ranges[:, self._whole] = (0, 1)
        return ranges

    def allowed(self, ids: Integer[np.ndarray, "length fields"]) -> LegalCells | None:
        """All cells of a column that holds for a whole sequence say the same: the first one filled decides."""
        unknown = ids == np.array([field.mask_id for field in self.fields])
        cells: list[tuple[int, int]] = []
        answered: list[int] = []
        for index in np.flatnonzero(self._whole & unknown.any(axis=0) & ~unknown.all(axis=0)).tolist():
            first = int(ids[np.argmin(unknown[:, index]), index])
            if first != self.fields[index].control_id(OTHER):  # which is never filled in
                rows = np.flatnonzero(unknown[:, index]).tolist()
                cells += [(row, index) for row in rows]
                answered += [first] * len(rows)
        if not cells:
            return None
        order = sorted(range(len(cells)), key=cells.__getitem__)
        allowed = np.zeros((len(cells), max(field.n_predictable for field in self.fields)), dtype=bool)
        allowed[np.arange(len(cells)), np.array(answered)[order]] = True
        return LegalCells(np.array(cells)[order], allowed)

    def splice(
        self, record: TableRows, ids: Integer[np.ndarray, "length fields"], holes: Bool[np.ndarray, "length fields"]
    ) -> TableRows:
        """Write values and centres of bins into the holes; what is outside the vocabulary stays unknown."""
        columns = dict(record.columns)
        for index, column in enumerate(self.columns):
            rows = np.flatnonzero(holes[:, index]).tolist()
            if column.given or not rows or column.name not in columns:
                continue
            texts: list[Value] = [column.texts[token] for token in ids[rows, index].tolist()]
            if column.whole:
                known = [value for row, value in enumerate(columns[column.name]) if not holes[row, index]]
                texts = [next((value for value in known if value != UNKNOWN), texts[0])] * len(rows)
            columns[column.name] = _with(columns[column.name], rows, texts)
        return replace(record, columns=columns)

    def put_numbers(
        self, record: TableRows, cells: Integer[np.ndarray, "cells 2"], numbers: Float64[np.ndarray, " cells"]
    ) -> TableRows:
        """Write numbers in the notation of their columns."""
        columns = dict(record.columns)
        for index, column in enumerate(self.columns):
            mine = np.flatnonzero(cells[:, 1] == index)
            if column.field.centres is None or column.given or not len(mine) or column.name not in columns:
                continue
            texts = [column.number_text(number) for number in numbers[mine].tolist()]
            if column.whole:
                texts = texts[:1] * len(texts)
            columns[column.name] = _with(columns[column.name], cells[mine, 0].tolist(), texts)
        return replace(record, columns=columns)

    @cached_property
    def _dtype(self) -> np.dtype[np.unsignedinteger]:
        return self.vocabulary.dtype

    @cached_property
    def _whole(self) -> Bool[np.ndarray, "fields"]:
        flags = [column.whole and not column.given for column in self.columns]
        return np.array([*flags, *[False] * len(self.calendar)])


def _with(values: Sequence[Value], rows: Sequence[int], texts: Sequence[Value]) -> tuple[Value, ...]:
    changed = list(values)
    for row, text in zip(rows, texts, strict=True):
        changed[row] = text
    return tuple(changed)


def _of_all(name: str, values: Sequence[Value]) -> None:
    """`ValueError` unless the known values of a column are one."""
    known = list(dict.fromkeys(value for value in values if value != UNKNOWN))
    if len(known) > 1:
        raise ValueError(
            f"column {name!r} has {known[0]!r} and {known[1]!r}, but one value holds for a whole sequence (whole)"
        )
