"""The traces of a XES file, one by one, with the bytes that each was read from. DTDs and entities are refused."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from xml.parsers import expat

from maskseq.errors import DataError
from maskseq.files import WIDE, open_bytes
from maskseq_events.case import Kind
from maskseq_events.xes_names import WITHOUT_VALUE, Place, XesNames
from maskseq_events.xes_plain import PlainTraces
from maskseq_events.xml_text import end_tag_end

BLOCK = 1 << 18
OPEN, CLOSE, EMPTY = b"<trace>", b"</trace>", b"<trace/>"


@dataclass(slots=True)
class ParsedTrace:
    """A trace as it stands in its file."""

    number: int
    """From 1; traces without events count."""
    line: int
    attributes: dict[str, str] = field(default_factory=dict)
    events: list[dict[str, str]] = field(default_factory=list)
    before: bytes = b""
    """From the end of the trace before (or the start of the file) up to this trace."""
    xml: bytes = b""


@dataclass(slots=True)
class ParsedLog:
    """What is known of the log as a whole, filled in while it is read."""

    encoding: str = "utf-8"
    kinds: dict[str, Kind] = field(default_factory=dict)
    """Of each event attribute, and each `case:` attribute, what its first occurrence declares."""
    places: dict[str, Place] = field(default_factory=dict)
    """Where attributes stand that are not called by their keys, those of traces as `case:…`."""
    after: bytes = b""
    """What follows the last trace with events; known when all traces are read."""


def parse_traces(path: Path, log: ParsedLog) -> Iterator[ParsedTrace]:
    """The traces that have events. `DataError` names line and column of what is not XES."""
    n_read = 0
    try:
        for trace in _Parser(path, log, short_cut=True).traces():
            n_read += 1
            yield trace
    except _NoShortCut:
        yield from islice(_Parser(path, log, short_cut=False).traces(), n_read, None)


def keys_in(head: bytes) -> tuple[set[str], set[str]]:
    """The names of attributes of traces, and those of events, in the beginning of a file."""
    parser = _Parser(Path(), ParsedLog(), short_cut=False)
    parser.raw += head
    with suppress(_NotXes, expat.ExpatError, LookupError, ValueError):
        parser.expat.Parse(head)
    traces = [*parser.finished, *([parser.trace] if parser.trace else [])]
    events = {key for trace in traces for event in trace.events for key in event}
    return {key for trace in traces for key in trace.attributes}, events


class _Parser:
    """expat, fed with the file; a plain trace is read by `PlainTraces` and expat gets `<trace/>` in its place.

    expat must then report that empty trace. If it does not, what looks like a trace is part of a comment, and the file
    is read again without the short cut.
    """

    def __init__(self, path: Path, log: ParsedLog, *, short_cut: bool) -> None:
        self.path, self.log, self.short_cut = path, log, short_cut
        self.plain = PlainTraces(log.kinds)
        self.raw = bytearray()  # the file from offset `base` on
        self.base = 0
        self.done = 0  # offset up to which the file belongs to finished traces
        self.skipped = 0  # bytes and lines of the file that expat has not seen
        self.skipped_lines = 0
        self.depth = 0
        self.trace: ParsedTrace | None = None
        self.event: dict[str, str] | None = None
        self.names = XesNames()  # in the trace
        self.inside = XesNames()  # in the event
        self.latest = ParsedTrace(0, 0)
        self.finished: list[ParsedTrace] = []
        self.expat = expat.ParserCreate()
        self.expat.StartElementHandler, self.expat.EndElementHandler = self._start, self._end
        self.expat.StartDoctypeDeclHandler, self.expat.XmlDeclHandler = self._refuse, self._declare

    def traces(self) -> Iterator[ParsedTrace]:
        try:
            with open_bytes(self.path) as file:
                fed = 0  # up to where `raw` has been parsed
                while block := file.read(BLOCK):
                    if not self.raw and self.base == 0 and block[:2] in WIDE:
                        raise _NotXes("this is UTF-16; save or convert it as UTF-8")
                    self.raw += block
                    fed = self._feed(fed)
                    yield from self.finished
                    self.finished.clear()
                    unused = self.done - self.base
                    del self.raw[:unused]
                    self.base, fed = self.done, fed - unused
                self.expat.Parse(self.raw[fed:])
                self.expat.Parse(b"", True)
                yield from self.finished
        except _NotXes as error:
            raise DataError(self.path, str(error), place=self._place()) from None
        except expat.ExpatError as error:
            raise DataError(self.path, _meaning(error.code), place=self._place()) from None
        except DataError as error:
            place = self._place() if self.raw or self.base else ""
            raise DataError(self.path, error.problem, place=place) from None
        except (LookupError, ValueError):
            problem = f"the parser knows no encoding called {self.log.encoding!r}; convert the file to UTF-8"
            raise DataError(self.path, problem, place=self._place()) from None
        self.log.after = bytes(self.raw[self.done - self.base :])

    def _feed(self, fed: int) -> int:
        """Parse as much of `raw` as can be parsed now; returns up to where."""
        raw = self.raw
        while self.short_cut:
            begin = raw.find(OPEN, fed)
            if begin < 0:
                stop = len(raw) - len(OPEN)  # the next trace may begin in these last bytes
            else:
                self.expat.Parse(raw[fed:begin])
                fed = begin
                stop = raw.find(CLOSE, begin) + len(CLOSE)
                if stop >= len(CLOSE):
                    self._trace(bytes(raw[begin:stop]))
                    fed = stop
                    continue
                stop = fed
            break
        else:
            stop = len(raw)
        if stop > fed:
            self.expat.Parse(raw[fed:stop])
        return max(stop, fed)

    def _trace(self, xml: bytes) -> None:
        """Parse what stands between `<trace>` and `</trace>`, by the short cut if it is plain."""
        content = self.plain.read(xml) if self.log.encoding.lower() in ("utf-8", "us-ascii") else None
        if content is None:
            self.expat.Parse(xml)
            return
        number = self.latest.number
        self.expat.Parse(EMPTY)
        trace = self.latest
        if trace.number == number:
            raise _NoShortCut
        trace.attributes, trace.events = content
        self._finish(trace, self.done + len(trace.before) + len(xml))
        self.skipped += len(xml) - len(EMPTY)
        self.skipped_lines += xml.count(b"\n")

    def _finish(self, trace: ParsedTrace, stop: int) -> None:
        begin = self.done + len(trace.before)
        trace.xml = bytes(self.raw[begin - self.base : stop - self.base])
        self.done = stop
        self.finished.append(trace)

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self.depth += 1
        if self.depth >= 4 and self.event is not None:
            self._add(tag, attributes, self.event, self.inside, "")
        elif self.depth >= 3 and self.trace is not None:
            if self.depth == 3 and _local(tag) == "event":
                self.event, self.inside = {}, XesNames()
                self.trace.events.append(self.event)
            else:
                self._add(tag, attributes, self.trace.attributes, self.names, "case:")
        elif self.depth == 2 and _local(tag) == "trace":
            begin = self.expat.CurrentByteIndex + self.skipped
            before = bytes(self.raw[self.done - self.base : begin - self.base])
            self.trace = self.latest = ParsedTrace(self.latest.number + 1, self._line(), before=before)
            self.names = XesNames()
        elif self.depth == 2 and _local(tag) == "event":
            raise _NotXes("an event outside of any trace")
        elif self.depth == 1 and _local(tag) != "log":
            raise _NotXes(f"the root element is <{tag}>, not <log>: this is not XES")

    def _end(self, tag: str) -> None:
        self.depth -= 1
        if self.depth >= 3 and self.event is not None:
            self.inside.leave()
        elif self.depth == 2 and self.event is not None:
            self.event = None
        elif self.depth >= 2 and self.trace is not None:
            self.names.leave()
        elif self.depth == 1 and self.trace is not None:
            if self.trace.events:
                index = self.expat.CurrentByteIndex + self.skipped - self.base
                self._finish(self.trace, end_tag_end(self.raw, index) + self.base)
            self.trace = None

    def _add(self, tag: str, attributes: dict[str, str], holder: dict[str, str], names: XesNames, prefix: str) -> None:
        key, value, kind = attributes.get("key"), attributes.get("value"), _local(tag)
        if (key is None or value is None) and kind not in WITHOUT_VALUE:
            raise _NotXes(f"<{tag}> without a {'value' if key is not None else 'key'}")
        name, place = names.enter(key)
        if key is not None and name != key:
            self.log.places[prefix + name] = place
        if key is not None and value is not None:
            holder[name] = value
            self.log.kinds.setdefault(prefix + name, "numeric" if kind in ("int", "float") else "categorical")

    def _refuse(self, *_: object) -> None:
        raise _NotXes("a document type declaration; XES has none, and entities are not expanded here")

    def _declare(self, version: str, encoding: str | None, standalone: int) -> None:
        self.log.encoding = encoding or "utf-8"

    def _line(self) -> int:
        return self.expat.CurrentLineNumber + self.skipped_lines

    def _place(self) -> str:
        return f"line {self._line()}, column {self.expat.CurrentColumnNumber + 1}"


class _NotXes(Exception):  # noqa: N818
    pass


class _NoShortCut(Exception):  # noqa: N818
    pass


def _local(tag: str) -> str:
    return tag.rpartition(":")[2]


def _meaning(code: int) -> str:
    codes = expat.errors.codes
    if code in (codes[expat.errors.XML_ERROR_NO_ELEMENTS], codes[expat.errors.XML_ERROR_UNCLOSED_TOKEN]):
        return "the XML ends too early: the file is empty or cut short"
    return f"not valid XML: {expat.ErrorString(code)}"
