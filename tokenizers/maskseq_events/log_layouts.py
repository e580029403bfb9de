"""How the lines of well-known logs are cut."""

import re
from dataclasses import dataclass

from maskseq_events.times import TimeLayout

_REQUEST = (
    r'"(?:(?P<method>[A-Z]+|\?) (?P<path>\?(?=[ "])|[^ "?]*)(?:\?(?=[ "])|(?P<query>\?[^ "]+))?'  # a lone ? is none
    r'(?: (?P<protocol>[^"]*))?'
    r'|(?P<malformed>(?:[^"\\]|\\.)*))"'
)
_AGENT = r'(?: "(?P<referer>(?:[^"\\]|\\.)*)" "(?P<agent>(?:[^"\\]|\\.)*)")?'


@dataclass(frozen=True)
class Layout:
    """A pattern for a whole line, and what its named groups mean."""

    pattern: str
    time_layout: str | None = None
    session: str | None = None
    activity: str = "message"
    instead: str | None = None
    """The group that is the activity of lines in which the other takes no part: a request that is none."""
    session_pattern: str | None = None

    @property
    def needs_year(self) -> bool:
        """Its timestamps say none."""
        return self.time_layout is not None and not re.search("%[Yyc]", self.time_layout)

    def fits(self, line: str) -> bool:
        """Whether a line is of this layout, its timestamp included."""
        match = re.fullmatch(self.pattern, line)
        if match is None:
            return False
        try:
            year = 2000 if self.needs_year else None  # a leap year, for lines of 29 February
            TimeLayout(self.time_layout, year=year).parse(match["time"])
        except ValueError:
            return False
        return True


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
}
