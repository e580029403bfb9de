"""How the lines of well-known logs are cut."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from maskseq_events.notation import is_fixed, is_notation, pattern_of
from maskseq_events.stamps import STAMPS, stamp
from maskseq_events.times import TimeLayout

ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
"""What colours the text of a terminal."""

_REQUEST = (
    r'"(?:(?P<method>[A-Z]+|\?) (?P<path>\?(?=[ "])|[^ "?]*)(?:\?(?=[ "])|(?P<query>\?[^ "]+))?'  # a lone ? is none
    r'(?: (?P<protocol>[^"]*))?'
    r'|(?P<malformed>(?:[^"\\]|\\.)*))"'
)
_LEVEL = (
    r"(?P<level>(?i:trace|debug|fine(?:r|st)?|config|info|notice|warn(?:ing)?|err(?:or)?|severe|crit(?:ical)?|alert|"
    r"emerg|fatal|panic))\b"
)
_PAIR = r"(?:.*? )?"
"""What precedes a `key=value` among others, in any order."""
_AGENT = r'(?: "(?P<referer>(?:[^"\\]|\\.)*)" "(?P<agent>(?:[^"\\]|\\.)*)")?'


@dataclass(frozen=True)
class Layout:
    """A pattern for a whole line, and what its named groups mean."""

    pattern: str
    """In which `TIME` is a timestamp, of ISO 8601 unless the user says another layout."""
    time_layout: str | None = None
    session: str | None = None
    source: str | None = None
    """The group that may be taken for the session, though not all lines have it."""
    activity: str = "message"
    instead: str | None = None
    """The group that is the activity of lines in which the other takes no part: a request that is none."""
    session_pattern: str | None = None
    fixed: bool = False
    """Its columns are told apart by position, and filled up with blanks."""

    @property
    def needs_year(self) -> bool:
        """Its timestamps say none."""
        return TimeLayout.says_no_year(self.time_layout)

    def at(self, time_layout: str | None) -> "Layout":
        """With the timestamps of this layout."""
        if "TIME" not in self.pattern:
            return self
        pattern = self.pattern.replace("TIME", f"(?P<time>{stamp(time_layout)})(?!\\d|[.,:]\\d)")
        return replace(self, pattern=pattern, time_layout=time_layout)

    @cached_property
    def _reads(self) -> tuple[re.Pattern[str], TimeLayout]:
        year = 2000 if self.needs_year else None  # a leap year, for lines of 29 February
        return re.compile(self.pattern), TimeLayout(self.time_layout, year=year)

    def match(self, line: str) -> re.Match[str] | None:
        """The line, cut, if it is of this layout, its timestamp included."""
        pattern, layout = self._reads
        match = pattern.fullmatch(line)
        try:
            return match if match is None or layout.parse(match["time"]) else None
        except ValueError:
            return None

    def moments(self, lines: Iterable[str]) -> list[int]:
        """The times of the lines that are of this layout, in microseconds."""
        matches = filter(None, map(self.match, lines))
        return [self._reads[1].parse(match["time"])[0] for match in matches]


LAYOUTS = {
    "access": Layout(  # common and combined log format of Apache and nginx
        rf"(?P<client>\S+) (?P<ident>\S+) (?P<user>\S+) \[(?P<time>[^\]]+)\] {_REQUEST} "
        rf"(?P<status>\d{{3}}|[-?]) (?P<bytes>\d+|[-?]){_AGENT}.*",
        "%d/%b/%Y:%H:%M:%S %z",
        session="client",
        activity="path",
        instead="malformed",
    ),
    "apache_error": Layout(
        r"\[(?P<time>[^\]]+)\] \[(?P<level>[^\]]+)\] (?:\[client (?P<client>[^\]]+)\] )?(?P<message>.*)",
        "%a %b %d %H:%M:%S %Y",
    ),
    "hdfs": Layout(
        r"(?P<time>\d{6} \d{6}) (?P<pid>\d+) (?P<level>\w+) (?P<component>[^ :]+): (?P<message>.*)",
        "%y%m%d %H%M%S",
        session_pattern=r"blk_-?\d+",
    ),
    "haproxy": Layout(
        r"(?:\w{3} [ \d]\d \d\d:\d\d:\d\d \S+ )?(?:(?P<process>[^\[: ]+)\[(?P<pid>\d+)\]: )?"
        r"(?P<client>\S+):(?P<port>\d+) \[(?P<time>[^\]]+)\] (?P<frontend>\S+) (?P<backend>[^ /]+)/(?P<server>\S+) "
        r"(?P<timers>[-+\d/]+) (?P<status>\d{3}|-1|[-?]) \+?(?P<bytes>\d+|[-?]) (?P<cookies>\S+ \S+) "
        rf"(?P<termination>\S{{4}}) (?P<connections>[+\d/]+) (?P<queues>[\d/]+)"
        rf"(?P<captured>(?: \{{[^}}]*\}})*) {_REQUEST}",
        "%d/%b/%Y:%H:%M:%S.%f",
        session="client",
        activity="path",
        instead="malformed",
    ),
    "syslog": Layout(
        r"(?P<time>\w{3} [ \d]\d \d\d:\d\d:\d\d) (?P<host>\S+) (?P<process>[^\[: ]+)(?:\[(?P<pid>\d+)\])?: "
        r"(?P<message>.*)",
        "%b %d %H:%M:%S",
        session="pid",
    ),
    "bgl": Layout(
        r"(?P<label>\S+) \d+ \S+ (?P<node>\S+) (?P<time>\S+) \S+ (?P<type>\S+) (?P<component>\S+) (?P<level>\S+) "
        r"(?P<message>.*)",
        "%Y-%m-%d-%H.%M.%S.%f",
        session="node",
    ),
    "rfc5424": Layout(
        r"<(?P<priority>\d{1,3})>\d{1,2} TIME (?P<host>\S+) (?P<process>\S+) (?P<pid>\S+) (?P<msgid>\S+) "
        r'(?P<data>-|(?:\[(?:[^\]"]|"(?:[^"\\]|\\.)*")*\])+)(?: \ufeff?(?P<message>.*))?',
        source="pid",
    ),
    "nginx_error": Layout(
        r"TIME \[(?P<level>\w+)\] (?P<pid>\d+)#(?P<thread>\d+): (?:\*(?P<connection>\d+) )?(?P<message>.*)",
        source="pid",
    ),
    "apache24_error": Layout(
        r"\[(?P<time>[^\]]+)\] \[(?P<module>[^:\]]*):(?P<level>[^\]]+)\] \[pid (?P<pid>\d+)(?::tid (?P<tid>\d+))?\] "
        r"(?:\[client (?P<client>[^\]]+)\] )?(?P<message>.*)",
        "%a %b %d %H:%M:%S.%f %Y",
        source="pid",
    ),
    "mysql": Layout(
        r"TIME +(?P<thread>\d+) \[(?P<level>\w+)\] (?:\[(?P<code>[A-Z]+-\d+)\] \[(?P<subsystem>\w+)\] )?"
        r"(?P<message>.*)",
        source="thread",
    ),
    "cri": Layout(r"TIME (?P<stream>stdout|stderr) (?P<tag>[FP]) (?P<message>.*)"),  # containers of Kubernetes
    "klog": Layout(
        r"(?P<level>[IWEF])(?P<time>\d{4} \d\d:\d\d:\d\d\.\d+) +(?P<pid>\d+) (?P<source>[^\]]+)\] (?P<message>.*)",
        "%m%d %H:%M:%S.%f",
        source="pid",
    ),
    "spring": Layout(
        rf"TIME +{_LEVEL} +(?P<pid>\d+) +--- +(?:\[(?P<app>[^\]]*)\] +)?\[ *(?P<thread>[^\]]*)\] (?P<logger>\S+) +: "
        r"(?P<message>.*)",
        source="thread",
    ),
    "logback": Layout(
        rf"TIME +\[(?P<thread>[^\]]*)\] +{_LEVEL} +(?P<logger>\S+) +(?:- )?(?P<message>.*)", source="thread"
    ),
    "log4j": Layout(
        rf"TIME(?: -)? +\[?{_LEVEL}\]? +(?:\[(?P<thread>[^\]]*)\] +(?:- )?)?"
        r"(?P<logger>[^\s:\[]\S*?)(?:: | +- )(?P<message>.*)",
        source="thread",
    ),
    "python": Layout(rf"TIME +- +(?P<logger>\S+) +- +{_LEVEL} +- +(?P<message>.*)"),
    "syslog_iso": Layout(  # rsyslog, and journalctl -o short-iso
        r"TIME (?P<host>[\w.-]+) (?P<process>[^\[: ]+)(?:\[(?P<pid>\d+)\])?: (?P<message>.*)",
        source="process",
    ),
    "logfmt": Layout(  # key=value pairs in any order, as Go programs write them
        rf'(?={_PAIR}(?:time|ts|t|timestamp)="?TIME"?(?: |$))(?:(?={_PAIR}(?:level|lvl|severity)="?(?P<level>[^" ]+))|)'
        rf'(?:(?={_PAIR}(?:logger|component|caller|module)="?(?P<logger>[^" ]+))|)'
        rf'{_PAIR}(?:msg|message)="?(?P<message>(?<=")(?:[^"\\]|\\.)*(?=")|(?<!")[^" ]*)"?(?: .*)?'
    ),
    "timed": Layout(  # anything that begins with a timestamp
        rf"[\[(<]?TIME[\])>]?(?:[ \t|,:;-]*[\[(<]?{_LEVEL}[\])>]?)?[ \t|,:;-]*(?P<message>.*)"
    ),
}
"""By name. What fits a log better than others is tried first; `timed` fits whatever begins with a timestamp."""


def layout_called(name: str, time_layout: str | None) -> Layout:
    """The layout of a name, in the notation of loghub, or of a regular expression; with timestamps of this layout."""
    if name in LAYOUTS:
        return LAYOUTS[name].at(time_layout)
    return Layout(pattern_of(name), fixed=is_fixed(name)) if is_notation(name) else Layout(name)


Likely = tuple[str, Layout, int]
"""The name of a layout, the layout, and how many lines it fits."""


def likely_layouts(lines: Sequence[str]) -> list[Likely]:
    """Those that fit nearly as many lines as any, the one that is meant first."""
    begins = {each: LAYOUTS["timed"].at(each) for each in STAMPS}
    starts = {each: sum(layout.match(line) is not None for line in lines) for each, layout in begins.items()}
    inside = [each for each in STAMPS if starts[each] and starts[each] == max(starts.values())] or [None]
    found: list[Likely] = []
    for name, known in LAYOUTS.items():
        for each in inside if "TIME" in known.pattern else (None,):
            layout = known.at(each)
            n = sum(layout.match(line) is not None for line in lines)
            if n:
                found.append((name, layout, n))
    most = max((n for *_, n in found), default=0)
    return [each for each in found if each[2] >= 0.9 * most]


def begins_event(layout: Layout, line: str) -> bool:
    """Whether a line that is not of this layout has a timestamp of it after all: then it is no part of another."""
    return re.search(stamp(layout.time_layout), line[:200]) is not None
