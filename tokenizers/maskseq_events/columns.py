"""One attribute as a field: by a list of its values, or by bins of its numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal

import numpy as np
import pydantic
from jaxtyping import Float64

from maskseq.types import ABSENT, OTHER, Field
from maskseq_events.bins import ValueBins
from maskseq_events.case import UNKNOWN, Value, field_name
from maskseq_events.drain import Templates


@dataclass(frozen=True, kw_only=True)
class Column:
    """How one attribute becomes a field: by a list of its values, or by bins of its numbers."""

    name: str
    scope: Literal["event", "case"] = "event"
    """A case attribute stands at every event of its case and is one raw unit: it is hidden everywhere or nowhere."""
    values: tuple[str, ...] = ()
    bins: ValueBins | None = None
    whole: bool = False
    """All training numbers were whole: so are those that are written back."""
    absent: Annotated[bool, pydantic.Field(exclude_if=bool)] = True
    """Whether training showed events or cases without it: else no hole is filled as absent."""

    @cached_property
    def field(self) -> Field:
        name = field_name(f"case:{self.name}" if self.scope == "case" else self.name)
        if self.bins is None:
            return Field(name=name, tokens=self.values, controls=(OTHER, ABSENT))
        return Field(name=name, tokens=self.bins.labels(), controls=(OTHER, ABSENT), centres=self.bins.centres)

    @cached_property
    def texts(self) -> tuple[Value, ...]:
        """What each id is written as."""
        tokens = self.values if self.bins is None else self.bins.texts(whole=self.whole)
        return (*tokens, OTHER, None, UNKNOWN)

    @cached_property
    def ids(self) -> dict[Value, int]:
        reserved: dict[Value, int] = {None: self.field.control_id(ABSENT), UNKNOWN: self.field.mask_id}
        other = self.field.control_id(OTHER)
        if self.bins is None:
            return Ids(reserved | {value: index for index, value in enumerate(self.values)}, other)
        return NumberIds(reserved, other, self.bins)

    def written(self, token: int) -> Value:
        """What a hole filled with this id is written as; outside the vocabulary stays unknown."""
        return UNKNOWN if token == self.field.control_id(OTHER) else self.texts[token]

    def number_text(self, number: float) -> str:
        """A number as it is written into a hole."""
        return str(round(number)) if self.whole else f"{number:.6g}"


class Ids(dict[Value, int]):
    """Value to id; what is not listed is `other`."""

    def __init__(self, ids: dict[Value, int], other: int) -> None:
        super().__init__(ids)
        self.other = other

    def __missing__(self, value: Value) -> int:
        return self.other


class NumberIds(Ids):
    """Number text to bin; texts that are no numbers are `other`. Remembers up to a million texts."""

    def __init__(self, ids: dict[Value, int], other: int, bins: ValueBins) -> None:
        super().__init__(ids, other)
        self.edges = np.asarray(bins.edges)

    def __missing__(self, value: Value) -> int:
        number = to_number(value)
        token = self.other if number is None else int(np.searchsorted(self.edges, number, side="right"))
        if len(self) < 1_000_000:
            self[value] = token
        return token


class MessageIds(Ids):
    """Log message to the id of its template."""

    def __init__(self, ids: dict[Value, int], other: int, templates: Templates) -> None:
        super().__init__(ids, other)
        self.templates = templates

    def __missing__(self, message: Value) -> int:
        template = self.templates.match(message or "")
        return self.other if template is None else self.get(template, self.other)


def to_number(value: Value) -> float | None:
    """The finite number that a text says, or None."""
    try:
        number = float(value) if value is not None else np.nan
    except ValueError:
        return None
    return number if np.isfinite(number) else None


def to_numbers(values: Sequence[Value]) -> Float64[np.ndarray, "n"]:
    """What texts say as numbers, NaN where they say none."""
    return np.array([np.nan if (number := to_number(value)) is None else number for value in values])
