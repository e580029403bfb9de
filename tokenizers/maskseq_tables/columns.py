"""How columns become fields: by their values, by an order of them, by bins of numbers, or by the calendar."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from jaxtyping import Float64, Int64

from maskseq.types import ABSENT, OTHER, Field
from maskseq_events.bins import ValueBins
from maskseq_events.case import UNKNOWN, UNKNOWN_TIME, Value
from maskseq_events.columns import Ids, NumberIds, to_numbers
from maskseq_events.times import DAY, HOUR, MINUTE, SECOND, TimeLayout
from maskseq_tables.record import Order, TableRows

Kind = Literal["categories", "levels", "numbers"]
Part = Literal["gap", "minute", "hour", "weekday", "day", "month"]
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
NAMES: dict[str, tuple[str, ...]] = {
    "minute": tuple(f"{n:02d}" for n in range(60)),
    "hour": tuple(f"{n:02d}" for n in range(24)),
    "weekday": WEEKDAYS,
    "day": tuple(str(n) for n in range(1, 32)),
    "month": tuple(str(n) for n in range(1, 13)),
}
"""What the parts of a time are called."""


@dataclass(frozen=True, kw_only=True)
class TableColumn:
    """A column that becomes one field."""

    name: str
    kind: Kind
    values: tuple[str, ...] = ()
    """Categories by falling count, or levels in their order."""
    bins: ValueBins | None = None
    decimals: int = 0
    """Digits behind the point that numbers are written with."""
    padded: bool = False
    """Whether zeros at the end are written, as in 1.50."""
    absent: bool = False
    """Whether training showed cells that do not apply."""
    given: bool = False
    whole: bool = False
    """One value holds for a whole sequence: all its cells are one raw unit, hidden everywhere or nowhere."""

    def __post_init__(self) -> None:
        if (self.bins is None) == (self.kind == "numbers"):
            raise ValueError(f"column {self.name!r} of {self.kind} has {'no ' * (self.bins is None)}bins")

    @cached_property
    def field(self) -> Field:
        controls = (OTHER, ABSENT) if self.absent else (OTHER,)
        tokens, centres = self.values, None
        if self.bins is not None:
            tokens, centres = self.bins.labels(), self.bins.centres
        elif self.kind == "levels":
            centres = tuple(float(rank) for rank in range(len(tokens)))
        return Field(name=self.name, tokens=tokens, controls=controls, centres=centres, given=self.given)

    @cached_property
    def ids(self) -> dict[Value, int]:
        """Values to ids. What nobody knows of a given column is as good as outside the vocabulary."""
        other = self.field.control_id(OTHER)
        nothing = self.field.control_id(ABSENT) if self.absent else other
        reserved: dict[Value, int] = {None: nothing, UNKNOWN: other if self.given else self.field.mask_id}
        if self.bins is not None:
            return NumberIds(reserved, other, self.bins)
        return Ids(reserved | {value: index for index, value in enumerate(self.values)}, other)

    @cached_property
    def texts(self) -> tuple[Value, ...]:
        """What each id is written as; what is outside the vocabulary stays unknown."""
        tokens: Sequence[Value] = self.values
        if self.bins is not None:
            tokens = [self._centre_text(index) for index in range(len(self.bins.centres))]
        return (*tokens, UNKNOWN, *([None] if self.absent else []), UNKNOWN)

    def number_text(self, number: float) -> str:
        """A number as it is written into a hole: in the notation of the column, or the nearest level."""
        if self.kind == "levels":
            return self.values[int(np.clip(round(number), 0, len(self.values) - 1))]
        text = f"{number:.{self.decimals}f}"
        if "." in text and not self.padded:
            text = text.rstrip("0").rstrip(".")
        return "0" if text == "-0" else text

    def numbers(self, values: Sequence[Value]) -> Float64[np.ndarray, "rows"]:
        """What cells stand for in the unit of the field; NaN where they are no numbers."""
        if self.kind == "levels":
            ranks = {value: float(rank) for rank, value in enumerate(self.values)}
            return np.array([np.nan if value is None else ranks.get(value, np.nan) for value in values])
        return to_numbers(values) if self.bins is not None else np.full(len(values), np.nan)

    def _centre_text(self, index: int) -> str:
        """The centre of a bin in the notation of the column where that lies in the bin, else as short as does."""
        assert self.bins is not None
        centre, edges = self.bins.centres[index], self.bins.edges
        texts = (self.number_text(centre), f"{centre:.6g}")
        return next((text for text in texts if np.searchsorted(edges, float(text), "right") == index), repr(centre))


@dataclass(frozen=True, kw_only=True)
class Calendar:
    """A part of a time, or what the order grew by since the row before: given, as times are known."""

    column: str
    part: Part
    bins: ValueBins | None = None
    """Of gaps, in microseconds between times."""
    timed: bool = True
    """Whether the column holds times; else gaps are differences of numbers."""

    def __post_init__(self) -> None:
        if (self.bins is None) == (self.part == "gap"):
            raise ValueError(f"the part {self.part!r} of {self.column!r} has {'no ' * (self.bins is None)}bins")

    @cached_property
    def field(self) -> Field:
        name = f"{self.column} ({self.part})"
        if self.bins is None:
            return Field(name=name, tokens=NAMES[self.part], controls=(OTHER,), source=self.column, given=True)
        unit = SECOND if self.timed else 1
        return Field(
            name=name,
            tokens=self.bins.labels(),
            controls=(OTHER, ABSENT),
            centres=tuple(centre / unit for centre in self.bins.centres),
            unit="s" if self.timed else "",
            source=self.column,
            given=True,
        )

    def ids(self, record: TableRows) -> Int64[np.ndarray, "rows"]:
        """Of each row; `[OTHER]` where the time is not known, and `[ABSENT]` for the gap before the first row."""
        other = self.field.control_id(OTHER)
        order = order_of(record, self.column)
        if order is None or order.timed != self.timed:
            return np.full(len(record), other)
        if self.bins is not None:
            found = np.full(len(record), self.field.control_id(ABSENT))
            steps = np.diff(order.values)
            found[1:] = np.where(np.isnan(steps), other, np.searchsorted(self.bins.edges, steps, side="right"))
            return found
        known = ~np.isnan(order.values)
        assert order.offset is not None
        wall = np.where(known, order.values, 0).astype(np.int64) + order.offset * np.int64(SECOND)
        return np.where(known, part_of(wall, self.part), other)


def part_of(wall: Int64[np.ndarray, "rows"], part: str) -> Int64[np.ndarray, "rows"]:
    """A part of moments on the wall, in microseconds since 1970, counted from 0."""
    days = wall // DAY
    dates = days.astype("M8[D]")
    found = {
        "minute": wall // MINUTE % 60,
        "hour": wall // HOUR % 24,
        "weekday": (days + 3) % 7,  # 1970 began on a Thursday
        "day": (dates - dates.astype("M8[M]")).astype(np.int64),
        "month": dates.astype("M8[M]").astype(np.int64) % 12,
    }
    return np.asarray(found[part])


def order_of(record: TableRows, column: str) -> Order | None:
    """Times or numbers of a column as the record is ordered by them, or else times in ISO 8601, NaN where unknown."""
    if record.order is not None and record.order.name == column:
        return record.order
    cells = record.columns.get(column)
    if cells is None:
        return None
    moments, offsets = np.full(len(record), np.nan), np.zeros(len(record), np.int32)
    layout = TimeLayout()
    for row, cell in enumerate(cells):
        if cell is None or cell == UNKNOWN:
            continue
        try:
            moment, offsets[row] = layout.parse(cell)
        except ValueError:
            continue
        if moment != UNKNOWN_TIME:
            moments[row] = moment
    return Order(name=column, values=moments, offset=offsets)
