"""The `event` tokenizer: one position an event, a field for what happened, each chosen attribute, and the time."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from operator import not_
from typing import Annotated, Any

import numpy as np
import pydantic
from jaxtyping import Bool, Float64, Int32, Int64, Integer

from maskseq.errors import UsageError
from maskseq.survey import Suggestion
from maskseq.tokenizer import Tokenizer
from maskseq.types import ABSENT, END, OTHER, Encoded, Field, LegalCells
from maskseq_events.activities import Activities, name_of
from maskseq_events.bins import ValueBins
from maskseq_events.case import ABSENT_TIME, UNKNOWN, UNKNOWN_TIME, Case, Parts, Value
from maskseq_events.columns import Column, Ids, MessageIds, to_numbers
from maskseq_events.drain import Templates
from maskseq_events.fit import learn
from maskseq_events.legal import legal_cells
from maskseq_events.rebuild import FIRST_MONDAY, NO_CLUE, Clues, first_moment, place
from maskseq_events.survey import suggest_events
from maskseq_events.times import DAY, HOUR, SECOND

WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


@dataclass(frozen=True, kw_only=True)
class EventTokenizer(Tokenizer[Case]):
    """Events as rows of fields.

    Fields: `activity`; one per column; then, for logs with time, `gap` (since the event before, logarithmic bins,
    `[ABSENT]` at the first event), `hour` and `weekday` (of the clock on the wall). All three belong to the source
    `time`: hiding the timestamp of event e hides gap e, gap e+1, hour e and weekday e. Logs that say no year have no
    weekday: `[ABSENT]`, or no field where the training records had none. With `end`, a last position
    whose activity is `[END]` says that the case is over. Values outside a vocabulary are `[OTHER]`.
    """

    activities: tuple[str, ...]
    columns: tuple[Column, ...] = ()
    gaps: ValueBins | None = None
    """Bins of time gaps in microseconds; None for logs without time."""
    start: int = FIRST_MONDAY
    """Where decoded logs begin: the Monday before the first training event; microseconds since 1970 UTC."""
    end: bool = True
    static: bool = False
    """Whether cases begin with static facts, which have no time, before the events that have."""
    weekdays: Annotated[bool, pydantic.Field(exclude_if=bool)] = True  # as runs did that are older than this field
    """Whether there is a field for the weekday."""
    templates: Templates | None = None
    """For activities that are log messages: which of `activities` each message is a case of."""
    parts: Annotated[tuple[Parts, ...], pydantic.Field(exclude_if=not_)] = ()
    """What each of several columns says, for each of `activities`; none for activities of one column."""

    def __post_init__(self) -> None:
        if len(self.parts) not in (0, len(self.activities)):
            raise ValueError(f"there are {len(self.activities)} activities, but parts of {len(self.parts)}")

    @cached_property
    def fields(self) -> tuple[Field, ...]:  # type: ignore[override]
        controls = (OTHER, END) if self.end else (OTHER,)
        fields = [Field(name="activity", tokens=self.activities, controls=controls)]
        fields += [column.field for column in self.columns]
        if self.gaps is not None:
            seconds = tuple(centre / SECOND for centre in self.gaps.centres)
            labels = ("backwards", "0 s", *(f"from {edge / SECOND:.12g} s" for edge in self.gaps.edges[1:]))
            fields += [
                Field(name="gap", tokens=labels, controls=(ABSENT,), centres=seconds, unit="s", source="time"),
                Field(name="hour", tokens=tuple(f"{h:02d}" for h in range(24)), controls=(ABSENT,), source="time"),
            ]
            if self.weekdays:
                fields.append(Field(name="weekday", tokens=WEEKDAYS, controls=(ABSENT,), source="time"))
        return tuple(fields)

    @classmethod
    def fit(cls, records: Iterable[Case], **options: Any) -> "EventTokenizer":
        """Learn vocabularies and bins. Options are those of `maskseq_events.fit.EventFitOptions`."""
        return cls(**learn(records, options))

    @classmethod
    def suggest(cls, records: Sequence[Any]) -> Suggestion | None:
        return suggest_events(records)

    def encode(self, record: Case) -> Encoded:
        n_events = len(record)
        ids = np.empty((n_events + self.end, len(self.fields)), dtype=self._dtype)
        ids[:n_events, 0], legal = self._activity_cells(record)
        for index, column in enumerate(self.columns, 1):
            lookup = column.ids
            if column.scope == "case":
                ids[:, index] = lookup[record.case_attributes.get(column.name)]
                continue
            values = record.attributes.get(column.name)
            ids[:n_events, index] = lookup[None] if values is None else [lookup[value] for value in values]
        if self.gaps is not None:
            ids[:n_events, self._gap :] = self._time_ids(record)
        return Encoded(self.closed(ids), legal)

    def closed(self, ids: Integer[np.ndarray, "length fields"]) -> Integer[np.ndarray, "length fields"]:
        """As by default, but that what holds for the whole case holds at its end too."""
        closed = super().closed(ids)
        if self.end:  # otherwise these are the ids that were given
            closed[-1:, self._case_scope] = ids[-1:, self._case_scope]
        return closed

    def extended(self, ids: Integer[np.ndarray, "length fields"], n: int) -> Integer[np.ndarray, "_ fields"]:
        """What holds for the whole case holds later, too."""
        extended = super().extended(ids, n)
        if len(ids):
            extended[len(ids) :, self._case_scope] = ids[-1, self._case_scope]
        return extended

    @property
    def elapsed(self) -> str | None:
        return None if self.gaps is None else "gap"

    def decode(self, ids: Integer[np.ndarray, "length fields"]) -> Case:
        """The events as a case called "decoded", its timestamps rebuilt from `start` on; `[MASK]` becomes `?`."""
        if self.end and len(ids) and ids[-1, 0] == self.fields[0].control_id(END):
            ids = ids[:-1]
        n_events = len(ids)
        controls = (*self.fields[0].controls, UNKNOWN)
        names = (*self.activities, *controls)
        events = {c.name: tuple(c.texts[i] for i in ids[:, f]) for f, c in enumerate(self.columns, 1)}
        time, offset = np.full(n_events, ABSENT_TIME, dtype=np.int64), np.zeros(n_events, dtype=np.int32)
        if self.gaps is not None and n_events:
            clues = self._clues(ids)
            hour = ids[:, self._hour]
            holes = hour < 24
            time = np.where(hour == self.fields[self._hour].mask_id, UNKNOWN_TIME, time)
            if holes.any():
                first = int(np.argmax(holes))
                holes[first] = False
                time[first] = first_moment(clues, first, self.start)
                time = place(clues, time, offset, holes)
        return Case(
            key="decoded",
            activity=tuple(names[i] for i in ids[:, 0]),
            time=time,
            offset=offset,
            attributes={c.name: events[c.name] for c in self.columns if c.scope == "event"},
            case_attributes={
                c.name: events[c.name][0] if n_events else UNKNOWN for c in self.columns if c.scope == "case"
            },
            kinds={c.name: "categorical" if c.bins is None else "numeric" for c in self.columns},
        )

    def beyond(self, record: Case) -> Float64[np.ndarray, "length fields"]:
        """Of numeric attributes and, where an event is later than the one before, of gaps."""
        n_events = len(record)
        found = np.full((n_events + self.end, len(self.fields)), np.nan)
        for index, column in enumerate(self.columns, 1):
            if column.bins is None:
                continue
            if column.scope == "case":
                values = [record.case_attributes.get(column.name)]
                found[:1, index] = column.bins.widths_beyond(to_numbers(values))
            elif (values_of_events := record.attributes.get(column.name)) is not None:
                found[:n_events, index] = column.bins.widths_beyond(to_numbers(values_of_events))
        if self.gaps is not None and n_events > 1:
            gap = np.diff(record.time).astype(np.float64)
            gap[~(record.timed[1:] & record.timed[:-1])] = np.nan
            found[1:n_events, -3] = self.gaps.widths_beyond(np.where(gap < 0, 0, gap))
        return found

    def units(self, ids: Integer[np.ndarray, "length fields"]) -> Int64[np.ndarray, "length fields 2"]:
        """Event e of the cell's own column; of `gap`, timestamps e-1 and e; of a case attribute, always unit 0."""
        ranges = np.array(super().units(ids), dtype=np.int64)
        ranges[:, self._case_scope] = (0, 1)
        if self.gaps is not None:
            ranges[:, self._gap, 0] -= 1
        return ranges

    def allowed(self, ids: Integer[np.ndarray, "length fields"]) -> LegalCells | None:
        """Of unknown cells: `[END]` stands at the last position only, no gap runs backwards, only static facts have no
        time and only the first event and those behind a fact no gap, no attribute is absent that never was in training,
        and all cells of a case attribute say the same. So the first one filled decides, as it does of what is a fact.
        """
        return legal_cells(
            ids,
            self.fields,
            case_scope=self._case_scope,
            never_absent=self._never_absent,
            ends=self.end,
            gap=self._gap if self.static and self.gaps is not None else None,
        )

    def splice(
        self, record: Case, ids: Integer[np.ndarray, "length fields"], holes: Bool[np.ndarray, "length fields"]
    ) -> Case:
        """Write hole values into the case: names, values, and timestamps that stay between their known neighbours.

        A timestamp is a hole where its `hour` is. What was not filled, or is outside the vocabulary, becomes unknown.
        Of an activity that is known in part, that part stays.
        """
        n_events = len(record)
        activity, parts = list(record.activity), None if record.parts is None else list(record.parts)
        for event in np.flatnonzero(holes[:n_events, 0]).tolist():
            token = int(ids[event, 0])
            if parts is None:
                activity[event] = self.activities[token] if token < len(self.activities) else UNKNOWN
                continue
            known = parts[event] if UNKNOWN in parts[event] else (UNKNOWN,) * len(parts[event])
            parts[event] = self._several.fitting(known).get(token, known)
            activity[event] = name_of(parts[event])
        attributes, case_attributes = dict(record.attributes), dict(record.case_attributes)
        for index, column in enumerate(self.columns, 1):
            events = np.flatnonzero(holes[:, index] if column.scope == "case" else holes[:n_events, index])
            if len(events) == 0:
                continue
            if column.scope == "case":
                case_attributes[column.name] = column.written(int(ids[events[0], index]))
                continue
            values = list(attributes.get(column.name) or [None] * n_events)
            for event in events.tolist():
                values[event] = column.written(int(ids[event, index]))
            attributes[column.name] = tuple(values)
        time, offset = record.time, record.offset
        if self.gaps is not None and holes[:n_events, self._hour].any():
            time, offset = self._fill_time(record, ids[:n_events], holes[:n_events, self._hour])
        return replace(
            record,
            activity=tuple(activity),
            parts=None if parts is None else tuple(parts),
            time=time,
            offset=offset,
            attributes=attributes,
            case_attributes=case_attributes,
        )

    def unfillable(self, record: Case) -> list[str]:
        parts = [] if record.parts is None else record.parts
        return [
            f"{record.key}:{event + 1}, activity {' + '.join(repr(part) for part in known)}"
            for event, known in enumerate(parts)
            if UNKNOWN in known and not self._several.fitting(known)
        ]

    def resized(self, record: Case, start: int, stop: int, length: int) -> Case:
        if record.origin is not None and not hasattr(record.origin, "resized"):
            raise UsageError(
                f"{record.key}: events can be added to tables only\n\nhint: convert the log to CSV",
                code="not-supported",
            )
        return record.resized(start, stop, length)

    def put_numbers(
        self, record: Case, cells: Integer[np.ndarray, "cells 2"], numbers: Float64[np.ndarray, "cells"]
    ) -> Case:
        """Write numbers in place of the centres of numeric attributes; timestamps stay as `splice` placed them."""
        attributes, case_attributes = dict(record.attributes), dict(record.case_attributes)
        for index, column in enumerate(self.columns, 1):
            mine = np.flatnonzero((cells[:, 1] == index) & (cells[:, 0] < len(record)))
            if column.bins is None or len(mine) == 0:
                continue
            texts = [column.number_text(number) for number in numbers[mine].tolist()]
            if column.scope == "case":
                case_attributes[column.name] = texts[0]
                continue
            values = list(attributes[column.name])
            for event, text in zip(cells[mine, 0].tolist(), texts, strict=True):
                values[event] = text
            attributes[column.name] = tuple(values)
        return replace(record, attributes=attributes, case_attributes=case_attributes)

    def _fill_time(
        self, record: Case, ids: Integer[np.ndarray, "events fields"], holes: Bool[np.ndarray, "events"]
    ) -> tuple[Int64[np.ndarray, "events"], Int32[np.ndarray, "events"]]:
        hour = ids[:, self._hour]
        filled = holes & (hour < 24)
        # A window does not show all that stands in front of it; a fact behind a known moment stays unknown.
        static = holes & (hour == self.fields[self._hour].control_id(ABSENT)) & ~np.logical_or.accumulate(record.timed)
        time = np.where(holes, np.where(static, ABSENT_TIME, UNKNOWN_TIME), record.time)
        anchors = np.flatnonzero(time > ABSENT_TIME)
        offset = record.offset.copy()
        if len(anchors):  # the clock of the known event before, else of the one behind
            nearest = np.maximum(np.searchsorted(anchors, np.arange(len(time)), side="right") - 1, 0)
            offset[holes] = record.offset[anchors[nearest]][holes]
        return place(self._clues(ids), time, offset, filled), offset

    def _clues(self, ids: Integer[np.ndarray, "events fields"]) -> Clues:
        assert self.gaps is not None
        gap, hour, *weekday = ids[:, self._gap :].astype(np.int64).T
        return Clues.of(gap, hour, weekday[0] if weekday else np.full_like(hour, NO_CLUE), self.gaps)

    def _time_ids(self, record: Case) -> Int64[np.ndarray, "events times"]:
        time = record.time
        gap_field, *clock_fields = self.fields[self._gap :]
        wall = time + record.offset * np.int64(SECOND)
        ids = np.empty((len(time), 1 + len(clock_fields)), dtype=np.int64)
        ids[:, 1] = wall // HOUR % 24
        ids[:1, 0] = gap_field.control_id(ABSENT)
        ids[1:, 0] = np.searchsorted(self._gap_edges, time[1:] - time[:-1], side="right")
        if self.weekdays:
            ids[:, 2] = (wall - FIRST_MONDAY) // DAY % 7
        if time.min(initial=0) <= ABSENT_TIME:
            unknown, absent = time == UNKNOWN_TIME, time == ABSENT_TIME
            ids[1:, 0][unknown[1:] | unknown[:-1]] = gap_field.mask_id
            ids[1:, 0][absent[1:] | absent[:-1]] = gap_field.control_id(ABSENT)
            for column, field in enumerate(clock_fields, 1):
                ids[unknown, column] = field.mask_id
                ids[absent, column] = field.control_id(ABSENT)
        if self.weekdays and not record.dated:
            ids[:, 2] = clock_fields[1].control_id(ABSENT)
        return ids

    @property
    def _gap(self) -> int:
        """Which field is the gap, where there is time."""
        return 1 + len(self.columns)

    @property
    def _hour(self) -> int:
        return self._gap + 1

    @cached_property
    def _dtype(self) -> np.dtype[np.unsignedinteger]:
        return self.vocabulary.dtype

    @cached_property
    def _gap_edges(self) -> Int64[np.ndarray, "edges"]:
        assert self.gaps is not None
        return np.asarray(self.gaps.edges, dtype=np.int64)

    def _activity_cells(self, record: Case) -> tuple[list[int], LegalCells | None]:
        """The id of each activity, and of those that are known in part, which agree with that part.

        One that none agrees with is outside the vocabulary, whatever the rest of it is.
        """
        if record.parts is None:
            return [self._activity_ids[name] for name in record.activity], None
        field, ids = self.fields[0], []
        cells, allowed = [], []
        for event, (name, parts) in enumerate(zip(record.activity, record.parts, strict=True)):
            if UNKNOWN not in parts:
                known = self._several.ids.get(parts, field.control_id(OTHER))
                ids.append(known if self.parts else self._activity_ids[name])
                continue
            fitting = list(self._several.fitting(parts))
            ids.append(field.mask_id if fitting else field.control_id(OTHER))
            if len(fitting) < len(self.activities):
                cells.append((event, 0))
                allowed.append(np.isin(np.arange(self._n_outputs), fitting or ids[-1:]))
        return ids, LegalCells(np.array(cells), np.array(allowed)) if cells else None

    @cached_property
    def _several(self) -> Activities:
        return Activities(self.activities, self.parts)

    @cached_property
    def _n_outputs(self) -> int:
        return max(field.n_predictable for field in self.fields)

    @cached_property
    def _never_absent(self) -> Bool[np.ndarray, "fields"]:
        never = [False, *(not column.absent for column in self.columns)]
        return np.array(never + [False] * (len(self.fields) - len(never)))

    @cached_property
    def _activity_ids(self) -> dict[Value, int]:
        field = self.fields[0]
        ids: dict[Value, int] = {name: i for i, name in enumerate(self.activities)}
        ids[UNKNOWN] = field.mask_id
        if self.templates is not None:
            return MessageIds(ids, field.control_id(OTHER), self.templates)
        return Ids(ids, field.control_id(OTHER))

    @cached_property
    def _case_scope(self) -> Bool[np.ndarray, "fields"]:
        scope = [False, *(column.scope == "case" for column in self.columns)]
        return np.array(scope + [False] * (len(self.fields) - len(scope)))
