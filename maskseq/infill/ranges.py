"""Which stretches of a file a user wants hidden: `KEY:START-END` as samtools writes them, BED, or by the clock."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Bool, Integer

from maskseq.errors import DataError, UsageError
from maskseq.formats import Name, Names, most_alike
from maskseq.masking.units import unit_blocks
from maskseq.tokenizer import Tokenizer
from maskseq.types import Encoded, Field, Record

T = TypeVar("T")


@dataclass(frozen=True)
class Moments:
    """From one moment up to another, as the user wrote them."""

    start: str
    stop: str


@dataclass(frozen=True)
class Where:
    """Positions whose given fields have some values, such as a rectangle of an image: `row=2-4,column=1-3`."""

    bounds: tuple[tuple[str, str, str], ...]
    """Field, first and last value, which are equal texts or numbers."""

    def stretches(self, record: Record, tokenizer: Tokenizer[Any], encoded: Encoded) -> list[tuple[int, int]]:
        """Runs of raw units of these positions; `UsageError` if there are none, or a field is not a given one."""
        inside = np.ones(len(encoded), dtype=bool)
        columns = {field.name: index for index, field in enumerate(tokenizer.fields) if field.given}
        for name, first, last in self.bounds:
            if name not in columns:
                raise UsageError(
                    f"--mask {name}=…: {name!r} is not a given field\n\nhint: {', '.join(columns) or 'there is none'}",
                    code="bad-option",
                )
            inside &= _between(tokenizer.fields[columns[name]], encoded.ids[:, columns[name]], first, last)
        shown = ",".join(f"{name}={first}-{last}" for name, first, last in self.bounds)
        if not inside.any():
            raise UsageError(f"{record.key} has no position with {shown}", code="bad-option")
        units = tokenizer.units_of(encoded)[inside]
        requested = units[:, [not field.given for field in tokenizer.fields]].reshape(-1, 2)
        wanted = np.zeros(len(record) + 1, dtype=bool)
        for start, stop in np.clip(requested, 0, len(record)).tolist():
            wanted[start:stop] = True
        edges = np.flatnonzero(np.diff(wanted, prepend=False, append=False)).reshape(-1, 2)
        return [(start, stop) for start, stop in edges.tolist()]


def _between(
    field: Field, ids: Integer[np.ndarray, " positions"], first: str, last: str
) -> Bool[np.ndarray, " positions"]:
    """Where a field has a value from `first` to `last`: numbers by their size, others by their text."""
    if field.centres is None:
        return np.array([field.token(each) == first == last for each in ids.tolist()], dtype=bool)
    if not (_is_number(first) and _is_number(last)):
        raise UsageError(f"--mask {field.name}={first}-{last}: {field.name!r} holds numbers", code="bad-option")
    numbers = np.concatenate([field.centres, np.full(field.n_rows - len(field.centres), np.nan)])[ids]
    return np.asarray((numbers >= float(first)) & (numbers <= float(last)))


Range = tuple[int, int] | Moments | Where
"""Raw units, half-open, counted from 0; moments, which each record finds its units between; or values of given
fields."""


def read_ranges(texts: Iterable[str]) -> dict[str, list[Range]]:
    """Ranges by record key, in the order given; "" for ranges of the only record of a file.

    Of several records of one key, the n-th is called KEY#n (`maskseq.formats`).
    """
    ranges: dict[str, list[Range]] = {}
    for text in texts:
        found = _read_bed(Path(text)) if text.endswith(".bed") else [_parse(text)]
        for key, each in found:
            ranges.setdefault(key, []).append(each)
    return ranges


def within(records: Iterable[Record], ranges: Mapping[str, Sequence[Range]]) -> Iterator[Record]:
    """These stretches of the records, each as a record of its own; without ranges, the records.

    `UsageError` for a range that leaves its record, or of a record that is not there. Records are called as
    `maskseq.formats` says.
    """
    names = Names(ranges)
    for record in records:
        name = names.next(record.key)
        for each in requests(ranges, name):
            if isinstance(each, Where):
                raise UsageError(
                    f"{name.text}: values of fields cut nothing out of a record: give units or moments",
                    code="bad-option",
                )
            start, stop = _inside(record, each)
            yield replace(record.cut(start, stop), key=f"{name.text}@{start}")
        if not ranges:
            yield record if name.text == record.key else replace(record, key=name.text)
    names.check()


def requests(requested: Mapping[str, Sequence[T]], name: Name) -> list[T]:
    """What is asked of the record of that name."""
    return [each for text in name.meant_by for each in requested.get(text, ())]


def masked_cells(
    tokenizer: Tokenizer[Any], encoded: Encoded, record: Record, ranges: Sequence[Range]
) -> Bool[np.ndarray, "length fields"]:
    """Every cell that depends on a unit of the ranges; `UsageError` where a range leaves the record or hides none."""
    masked = np.zeros(encoded.ids.shape, dtype=bool)
    if not ranges:
        return masked
    stretches = [
        part
        for each in ranges
        for part in (
            each.stretches(record, tokenizer, encoded)
            if isinstance(each, Where)
            else _parts(record, each, circular=encoded.circular)
        )
    ]
    wanted = np.zeros(len(record) + 1, dtype=bool)
    changes = np.zeros(len(record) + 1, dtype=np.int64)  # of how many hidden cells depend on a unit
    for start, stop in stretches:
        wanted[start:stop] = True
    before = np.concatenate([[0], np.cumsum(wanted)])
    requested = np.array([not field.given for field in tokenizer.fields])
    for at, units in unit_blocks(tokenizer, encoded):
        first, last = np.clip(units, 0, len(record)).transpose(2, 0, 1)
        here = (before[last] > before[first]) & requested
        masked[at : at + len(units)] = here
        changes += np.bincount(first[here], minlength=len(changes)) - np.bincount(last[here], minlength=len(changes))
    hides = np.cumsum(changes)
    for start, stop in stretches:
        if not hides[start:stop].any():
            raise UsageError(
                f"{record.key}:{start + 1}-{stop} hides nothing: no cell says anything about these units",
                code="nothing-to-do",
            )
    return masked


def field_cells(
    tokenizer: Tokenizer[Any], encoded: Encoded, n_units: int, names: Sequence[str]
) -> Bool[np.ndarray, "length fields"]:
    """Every cell of these fields that says something about a unit of the record.

    Fields that are computed from the same raw column go together. `UsageError` if there is no such field.
    """
    fields = tokenizer.fields
    check_fields(tokenizer, names)
    sources = {field.source for field in fields if field.name in names or field.source in names}
    columns = np.array([field.source in sources for field in fields])
    masked = np.zeros(encoded.ids.shape, dtype=bool)
    for at, units in unit_blocks(tokenizer, encoded):
        masked[at : at + len(units)] = (units[..., 0] < n_units) & (units[..., 1] > 0) & columns
    return masked


def check_fields(tokenizer: Tokenizer[Any], names: Sequence[str]) -> None:
    """`UsageError` if there is no field, nor source of fields, of one of these names."""
    known = sorted({name for field in tokenizer.fields for name in (field.name, field.source)})
    unknown = sorted(set(names) - set(known))
    given = [field.name for field in tokenizer.fields if field.given and {field.name, field.source} & set(names)]
    if given:
        raise UsageError(
            f"field {given[0]!r} is given: it is context, and cannot be hidden or filled", code="bad-option"
        )
    if unknown:
        raise UsageError(
            f"there is no field {unknown[0]!r}\n\nhint: the fields are {most_alike(unknown[0], known)}",
            code="unknown-name",
        )


def _parts(record: Record, wanted: tuple[int, int] | Moments, *, circular: bool) -> list[tuple[int, int]]:
    """A range; one across the origin of a circle, such as 4990-10, in two parts."""
    if circular and not isinstance(wanted, Moments) and wanted[1] <= wanted[0] < len(record):
        return [_inside(record, (wanted[0], len(record))), _inside(record, (0, wanted[1]))]
    return [_inside(record, wanted)]


def _inside(record: Record, wanted: tuple[int, int] | Moments) -> tuple[int, int]:
    start, stop = _units(record, wanted)
    if not 0 <= start < stop:
        raise UsageError(
            f"{record.key}:{start + 1}-{stop}: units count from 1, and END is not before START but in circular records",
            code="bad-option",
        )
    if stop > len(record):
        raise UsageError(
            f"{record.key}:{start + 1}-{stop} leaves the record, which has the units 1-{len(record)}",
            code="outside-record",
        )
    return start, stop


def _units(record: Record, wanted: tuple[int, int] | Moments) -> tuple[int, int]:
    if not isinstance(wanted, Moments):
        return wanted
    try:
        start, stop = record.between(wanted.start, wanted.stop)
    except ValueError as error:
        raise UsageError(f"{record.key}, from {wanted.start} to {wanted.stop}: {error}", code="bad-option") from None
    if start >= stop:
        raise UsageError(f"{record.key} has nothing from {wanted.start} up to {wanted.stop}", code="outside-record")
    return start, stop


def _parse(text: str) -> tuple[str, Range]:
    if where := re.fullmatch(r"(?:(.*):)?((?:[^:=,]+=[^=,]+)(?:,[^:=,]+=[^=,]+)*)", text):
        pairs = [part.split("=") for part in where[2].split(",")]
        spans = [re.fullmatch(r"(-?[^-]+)-(.+)", value) for _, value in pairs]
        bounds = [
            (name, span[1], span[2]) if span and _is_number(span[1]) else (name, value, value)
            for (name, value), span in zip(pairs, spans, strict=True)
        ]
        return where[1] or "", Where(tuple(bounds))
    since, dots, until = text.partition("..")
    if dots:
        key, _, start = since.partition(":")
        return (key, Moments(start, until)) if start else ("", Moments(since, until))
    key, _, span = text.rpartition(":")
    before, _, middle = key.rpartition(":")
    if _is_number(middle) and _is_number(span):
        return before, Moments(middle, span)
    first, dash, last = span.replace(",", "").partition("-")
    if not (_is_unit(first) and (_is_unit(last) or not dash)):
        raise UsageError(
            f"{text}: expected KEY:START-END (1-based, inclusive), such as chr1:1001-1050, a .bed, or two moments: "
            f"KEY:0.5:2 (seconds) or KEY:2024-01-31..2024-02-02; or values of given fields: KEY:row=2-4,column=1-3",
            code="bad-option",
        )
    start_unit, stop_unit = int(first) - 1, int(last or first)
    if min(start_unit, stop_unit - 1) < 0:
        raise UsageError(f"{text}: the first unit is 1", code="bad-option")
    return key, (start_unit, stop_unit)


def _is_unit(text: str) -> bool:
    return text.isdecimal() and len(text) <= 18


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _read_bed(path: Path) -> list[tuple[str, Range]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise DataError(path, "no such file", code="missing-file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(path, f"cannot be read as text: {error}", code="malformed-data") from None
    ranges: list[tuple[str, Range]] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith(("#", "track", "browser")):
            continue
        columns = line.split("\t")
        if len(columns) < 3 or not (_is_unit(columns[1]) and _is_unit(columns[2])):
            raise DataError(
                path, "expected name, start and end, separated by tabs", place=f"line {number}", code="malformed-data"
            )
        start, stop = int(columns[1]), int(columns[2])
        if start >= stop:
            raise DataError(
                path,
                f"the stretch {start}-{stop} is empty (BED is 0-based, half-open)",
                place=f"line {number}",
                code="malformed-data",
            )
        ranges.append((columns[0], (start, stop)))
    if not ranges:
        raise DataError(path, "names no stretch", code="nothing-to-do")
    return ranges
