"""Raw text logs: lines cut by a pattern, events to sessions by a key, by silence, or by number."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from maskseq.errors import DataError, UsageError
from maskseq.files import create
from maskseq.formats import ADDED
from maskseq.survey import Claim, Head
from maskseq_events.case import Case, Value
from maskseq_events.files import MARK, encoding_of, read_lines
from maskseq_events.line_claims import claim_lines
from maskseq_events.log_layouts import ANSI, LAYOUTS, Layout, layout_called
from maskseq_events.notation import message_field, time_fields
from maskseq_events.patterns import Pattern
from maskseq_events.rows import Rows, Tried
from maskseq_events.table import EventTable
from maskseq_events.times import TimeLayout

_NAME = re.compile(r"\.(log|txt|out|err)([.-]\d+)*$|^(syslog|messages|catalina|access|error)([.-]\d+)*$")
"""How logs are called, rotated ones, too."""


@dataclass(frozen=True)
class _LogHeader:
    before: str
    """What precedes the first event."""
    end: str
    """What ends the lines."""
    encoding: str


@dataclass(frozen=True, kw_only=True)
class TextLog(EventTable):
    """Raw logs, one event a line. The named groups of a pattern are the columns: `time`, `message`, and others.

    An activity that is free text needs the tokenizer option `templates`. `-` is absent. Written back, lines and what
    did not change in them are copied as they were.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".log",)

    layout: str = "access"
    """The name of a known layout, or one of your own: as loghub writes them (`<Date> <Time> <Level> <Content>`;
    `<Level:5>` is five characters wide), or a regular expression with named groups that fits a whole line."""
    session: str | None = None
    """The group that tells sessions apart: a client, a process."""
    session_pattern: str | None = None
    """Or what to look for in the message: the first match is the session, as in `blk_-?\\d+`."""
    session_lines: int | None = None
    """Or that many lines are a session."""
    idle: float | None = None
    """A session ends when nothing happens for longer than this, in seconds; the next is called `KEY#2`."""
    continued: bool = False
    """A line that does not fit belongs to the event before it, as those of a stack trace do, and before the first event
    to none; else it is an error."""
    comments: str = field(default="", metadata=ADDED)
    """Lines that begin like this are no events, such as `#`; empty: there are none."""
    encoding: str = "utf-8"
    absent: tuple[str, ...] = ("-", "")

    def __post_init__(self) -> None:
        try:
            groups = self._pattern.groups
            if self.session_pattern is not None:
                Pattern(self.session_pattern)
        except ValueError as error:
            raise UsageError(f"the pattern {error}", code="bad-option") from None
        if not groups:
            known = ", ".join(LAYOUTS)
            raise UsageError(
                f"the layout {self.layout!r} has no named groups\n\nhint: known layouts are {known}", code="bad-option"
            )
        given = sum(option is not None for option in (self.session, self.session_pattern, self.session_lines))
        if given > 1:
            raise UsageError(
                "session, session_pattern and session_lines exclude each other; give one of them", code="bad-option"
            )
        if not given and self.idle is None and not (self._known.session or self._known.session_pattern):
            raise UsageError(
                "what is a session of this log?\n\nhint: say session = 'GROUP', session_pattern = 'REGEX', "
                "session_lines = 100, or idle = 1800 (seconds)",
                code="bad-option",
            )
        if self._session is not None and self._session not in groups:
            raise UsageError(
                f"session = {self._session!r} is no group of the pattern; there are {', '.join(groups)}",
                code="unknown-name",
            )
        super().__post_init__()
        assert self._layout  # which checks it

    @classmethod
    def recognize(cls, head: Head) -> Claim | None:
        """The layout that fits its lines; else, if its name is that of a log, each line is a message."""
        return claim_lines(head, by_name=_NAME.search(head.name) is not None)

    def _roles(self) -> dict[str, Any]:
        groups = self._pattern.groups
        activity = self.activity or (self._known.activity if self._known.activity in groups else message_field(groups))
        time = self.time if self.time is not None else time_fields(groups)
        return {"case": "session", "activity": activity, "time": time}

    def _open(self, path: Path) -> tuple[Sequence[str], _LogHeader, Iterator[Tried]]:
        rows = self._rows(path)
        _, before, _ = next(rows)  # what precedes the first event
        first = next(read_lines(path, self.encoding), "")
        end = "\r" if first.endswith("\r") else "\n"
        return ["session", *self._pattern.groups], _LogHeader(before, end, encoding_of(path, self.encoding)), rows

    def _rows(self, path: Path) -> Iterator[Tried]:
        """First what precedes the first event; then each with its line, and the lines behind it that are none."""
        held: Tried = (0, "", ())
        n_events = 0
        for number, line in enumerate(read_lines(path, self.encoding), 1):
            if number == 1 and line.startswith(MARK):
                held, line = (0, MARK, ()), line.removeprefix(MARK)
            if self.comments and line.startswith(self.comments):
                held = held[0], held[1] + line, held[2]
                continue
            try:
                cells = self._cells(line, None)
                session = self._key(cells, n_events) if cells else None
            except UsageError as error:
                raise UsageError(f"{path}, line {number}: {error}", code="bad-option") from None
            if not cells and line.strip() and not self.continued:
                shown = line.strip()[:60]
                hint = "say continued = true if it belongs to the line before, or name another layout"
                problem = f"{shown!r} is not of the layout {self.layout!r}; {hint}"
                yield held
                held = number, line, DataError(path, problem, place=f"line {number}")
                continue
            if session is None:
                held = held[0], held[1] + line, held[2]
                continue
            yield held
            n_events += 1
            held = number, line, (session, *cells[1:])
        yield held

    def _key(self, cells: Sequence[Value], index: int) -> str | None:
        """The session of an event; None for one that belongs to none."""
        if self._session is not None:
            return cells[1 + self._pattern.groups.index(self._session)]
        if self._session_pattern is not None:
            found = self._session_pattern.search(" ".join(cell for cell in cells if cell))
            return found.group() if found else None
        return str(index // self.session_lines + 1) if self.session_lines else "all"

    def _cells(self, raw: str, header: _LogHeader | None) -> Sequence[Value]:
        """The groups of the first line, behind the place of the session; none if it does not fit."""
        match = self._pattern.fullmatch(self._line(raw, header))
        if match is None:
            return ()
        if self._known.fixed:
            return (None, *[text and text.strip() for text in self._pattern.texts(match)])
        instead = self._known.instead
        if instead is None or match[instead] is None:
            return (None, *self._pattern.texts(match))
        return (None, *self._with_instead(match, match[instead]))

    def _line(self, raw: str, header: _LogHeader | None) -> str:
        """The first line of an event, without its end and without colours."""
        line = raw.partition("\n" if header is None else header.end)[0].removesuffix("\r")
        return ANSI.sub("", line) if "\x1b" in line else line

    def _with_instead(self, match: Any, text: str) -> Sequence[Value]:
        """What the groups of a line say in which something else stands for the activity."""
        names, texts = self._pattern.groups, list(self._pattern.texts(match))
        for name in self._activity_groups:
            if match[name] is None:
                texts[names.index(name)] = text or "-"  # it is known to be empty
        if text in self._holes:  # one hole, not two
            texts[names.index(str(self._known.instead))] = None
        return texts

    def _replaced(self, raw: str, changes: dict[int, Value], header: _LogHeader) -> str:
        match = self._pattern.fullmatch(self._line(raw, header))
        assert match is not None
        place = _places(raw)
        edits = {}
        for index, new in changes.items():
            start, stop = self._span(match, index)
            text = self._written(new).ljust(stop - start) if self._known.fixed else self._written(new)
            edits[place(start), place(stop - 1) + 1 if stop > start else place(start)] = text
        for (start, stop), text in sorted(edits.items(), reverse=True):
            raw = raw[:start] + text + raw[stop:]
        self._check(raw, changes, header)
        return raw

    def _span(self, match: Any, index: int) -> tuple[int, int]:
        """Where the text of a column stands in its line."""
        name = self._pattern.groups[index - 1]
        if match[name] is None and name in self._activity_groups and self._known.instead is not None:
            name = self._known.instead
        if match[name] is None:
            raise UsageError(
                f"this line has no {name!r} that could be changed: {match.string[:60]!r}", code="not-supported"
            )
        start, stop = match.span(name)
        return start, stop

    def _written(self, value: Value) -> str:
        return self.absent[0] if value is None else value

    def _check(self, raw: str, changes: dict[int, Value], header: _LogHeader) -> None:
        """A line must still be one of its layout, which says what was written into it."""
        cells = self._cells(raw, header)
        for index, value in changes.items():
            same = cells and ((cells[index] or "") == self._written(value) or self._holes >= {cells[index], value})
            if not same:
                name, answered = self._pattern.groups[index - 1], raw.strip()[:60]
                problem = (
                    f"{self._written(value)!r} cannot be written as {name!r}: {answered!r} would be read otherwise"
                )
                raise UsageError(f"{problem}\n\nhint: convert the log to CSV", code="not-supported")

    def _owns(self, origin: Rows) -> bool:
        return isinstance(origin.header, _LogHeader)

    def _write_rows(self, header: _LogHeader, rows: Sequence[tuple[int, str]], path: Path) -> None:
        with create(path) as file:
            file.write(header.before.encode(header.encoding))
            for _, raw in rows:
                file.write(raw.encode(header.encoding))

    def _write_new(self, cases: Sequence[Case], path: Path) -> None:
        raise UsageError(
            f"{path}: cases that come from elsewhere cannot be written as a text log\n\n"
            f"hint: write them as CSV, XES, JSON Lines or Parquet",
            code="not-supported",
        )

    @cached_property
    def _activity_groups(self) -> tuple[str, ...]:
        activity = self._roles()["activity"]
        return (activity,) if isinstance(activity, str) else tuple(activity or ())

    @cached_property
    def _known(self) -> Layout:
        return layout_called(self.layout, self.time_layout)

    @cached_property
    def _pattern(self) -> Pattern:
        return Pattern(self._known.pattern, ours=self.layout in LAYOUTS)

    @property
    def _session(self) -> str | None:
        own = self.session_pattern is None and self.session_lines is None
        return self.session or (self._known.session if own else None)

    @cached_property
    def _session_pattern(self) -> Pattern | None:
        pattern = self.session_pattern or (None if self._session or self.session_lines else self._known.session_pattern)
        return None if pattern is None else Pattern(pattern)

    @cached_property
    def _layout(self) -> TimeLayout:
        return TimeLayout(self.time_layout or self._known.time_layout, self.time_zone, self.year)


def _places(raw: str) -> Callable[[int], int]:
    """Where in a text the characters are that are left of it without colours."""
    if "\x1b" not in raw:
        return lambda index: index
    colours = list(ANSI.finditer(raw))

    def place(index: int) -> int:
        for colour in colours:
            if colour.start() > index:
                break
            index += len(colour.group())
        return index

    return place
