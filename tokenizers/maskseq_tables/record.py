"""A sequence of a table: the rows that share a key, in their order, kept as columns of text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Float64, Int32

from maskseq.types import Record
from maskseq_events.case import UNKNOWN, Value


@dataclass(frozen=True, kw_only=True)
class Order:
    """What the rows of a sequence are ordered by."""

    name: str
    """Its column."""
    values: Float64[np.ndarray, "rows"]
    """Numbers as the column says them; of times, microseconds since 1970 UTC."""
    offset: Int32[np.ndarray, "rows"] | None = None
    """Of times, seconds that the clock on the wall was ahead of UTC; None for numbers."""

    @property
    def timed(self) -> bool:
        return self.offset is not None

    def cut(self, start: int, stop: int) -> "Order":
        offset = None if self.offset is None else self.offset[start:stop]
        return replace(self, values=self.values[start:stop], offset=offset)


@dataclass(frozen=True, kw_only=True, eq=False)
class TableRows(Record):
    """The rows of one key. Values are texts as the file writes them, numbers with a decimal point."""

    n_rows: int
    columns: Mapping[str, Sequence[Value]]
    """`UNKNOWN` where nobody knows, None where the column does not apply."""
    order: Order | None = None
    """None: the order of the file."""
    numeric: frozenset[str] = frozenset()
    """Columns that the file declares to be numbers."""
    unread: Mapping[str, int] = field(default_factory=dict)
    """How many unknown values stand in columns that are not read."""
    origin: Any = field(default=None, compare=False)
    """What the format needs to write the rows back byte for byte."""

    def __len__(self) -> int:
        return self.n_rows

    def span(self) -> tuple[float, float] | None:
        moments = self.moments()
        return None if moments is None or not len(moments) else (float(moments.min()), float(moments.max()))

    def moments(self) -> Float64[np.ndarray, "rows"] | None:
        return self.order.values / 1e6 if self.order is not None and self.order.timed else None

    def group(self, attribute: str) -> str | None:
        """The value of a column in the first row; None where nobody knows it."""
        values = self.columns.get(attribute, ())
        return None if not len(values) or values[0] == UNKNOWN else values[0]

    def column(self, name: str) -> Sequence[Value] | None:
        """A column; what nobody knows is None."""
        values = self.columns.get(name)
        return None if values is None else [None if value == UNKNOWN else value for value in values]

    def between(self, start: str, stop: str) -> tuple[int, int]:
        """Moments in ISO 8601, of UTC, or numbers of an order of numbers."""
        if self.order is None:
            return super().between(start, stop)
        try:
            since, until = (
                float(np.datetime64(text, "us").astype(np.int64)) if self.order.timed else float(text)
                for text in (start, stop)
            )
        except ValueError:
            example = "moments such as 2024-01-31T12:00" if self.order.timed else "numbers"
            raise ValueError(f"column {self.order.name!r} is ordered by {example}") from None
        inside = np.flatnonzero((self.order.values >= since) & (self.order.values < until))
        return (int(inside[0]), int(inside[-1]) + 1) if len(inside) else (0, 0)

    def unknown_values(self) -> dict[str, int]:
        counts = dict(self.unread)
        for name, values in self.columns.items():
            counts[name] = list(values).count(UNKNOWN)
        return {name: n for name, n in counts.items() if n}

    def sources(self) -> set[str]:
        return set(self.columns)

    def cut(self, start: int, stop: int) -> "TableRows":
        return replace(
            self,
            n_rows=stop - start,
            columns={name: values[start:stop] for name, values in self.columns.items()},
            order=None if self.order is None else self.order.cut(start, stop),
            origin=None,
        )

    def bare(self) -> "TableRows":
        return replace(self, origin=None)
