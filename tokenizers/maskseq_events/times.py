"""Timestamps as files write them: to microseconds and back, in the file's own layout."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from functools import cached_property
from math import floor
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
from jaxtyping import Int32, Int64

from maskseq.errors import UsageError
from maskseq_events.case import UNKNOWN_TIME
from maskseq_events.spreadsheet import EXCEL, parse_serial, render_serial
from maskseq_events.zones import UnknownZoneError, zone_called, zone_place

SECOND = 1_000_000
MINUTE, HOUR, DAY = 60 * SECOND, 3600 * SECOND, 86_400 * SECOND
WEEK = 7 * DAY

EPOCH_UNITS = {"epoch_s": 1, "epoch_ms": 10**3, "epoch_us": 10**6, "epoch_ns": 10**9}
"""How many of each are a second."""
COUNTED = (*EPOCH_UNITS, EXCEL)
"""Layouts that are plain numbers."""
LONGEST = 200
"""Characters of a timestamp: no more are looked at, as a pattern takes the square of their number."""
UNDATED = 2000
"""The year that timestamps begin in where nobody knows it: a leap year, which has all days."""
HALF_A_YEAR, ELEVEN_MONTHS = timedelta(days=183), timedelta(days=335)
_DATED = re.compile(r"\d{4}-\d\d-\d\dT")
_EPOCH = datetime(1970, 1, 1)
YEAR_1, YEAR_10000 = ((datetime(year, 1, 1) - _EPOCH).days * DAY for year in (1, 9999))
YEAR_10000 += 365 * DAY
_PLAIN = re.compile(r"(?:\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:\n|$))+", re.ASCII)
_ZONE_WIDTHS = {body + zone: zone for body in (19, 23, 26) for zone in (0, 1, 6)}
_OFFSETS = {"Z": 0} | {
    f"{sign}{minutes // 60:02d}:{minutes % 60:02d}": (1 if sign == "+" else -1) * minutes * 60
    for sign in "+-"
    for minutes in range(24 * 60)
}
_ISO = re.compile(
    r"(?P<year>\d{4})(?P<dash>[-/]?)\d\d(?P=dash)\d\d"
    r"(?:(?P<separator>[T ]+)\d\d(?P<colon>:?)(?:\d\d)?(?P<seconds>:?\d\d)?(?:(?P<point>[.,])(?P<digits>\d+))?"
    r"(?P<zone>\s*(?:Z|z|UTC|GMT|[+-]\d\d:?(?:\d\d)?))?)?$"
)


@dataclass(frozen=True)
class TimeLayout:
    """How a column writes its timestamps.

    Without a `layout`, ISO 8601 and its common relatives (`2012/10/09 14:50:17.000`) are read. Others are named: a
    `strptime` pattern such as `%d.%m.%Y %H:%M`, or `epoch_s`, `epoch_ms`, `epoch_us`, `epoch_ns`, `excel` (days since
    1899-12-30, as spreadsheets count). A timestamp that says no zone is taken in `zone` (an IANA name; None: as UTC).
    `%Z`, between blanks, is the name of a zone: UTC, an IANA name, or an abbreviation, if all places that use it mean
    the same, or `zone` uses it. Digits beyond the microsecond are not used.
    """

    layout: str | None = None
    zone: str | None = None
    year: int | None = None
    """Of the first timestamp, where they say none, as those of syslog (default: it is not known)."""
    _zone: ZoneInfo | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        named = self.layout is not None and self.layout not in COUNTED
        if named and not self.yearless and self.year is not None:
            raise UsageError(
                f"timestamps of the layout {self.layout!r} say their year\n\nhint: leave out `year`", code="bad-option"
            )
        if self.yearless and self.year is None and not re.search("%j|%d.*%[mbB]|%[mbB].*%d", self.layout or ""):
            raise UsageError(
                f"timestamps of the layout {self.layout!r} say no date\n\nhint: name a column that says day and month",
                code="bad-option",
            )
        if named and "%Z" in str(self.layout) and zone_place(str(self.layout)) is None:
            raise UsageError(
                f"in {self.layout!r}, %Z must stand between blanks: a name of a zone is a word", code="bad-option"
            )
        try:
            object.__setattr__(self, "_zone", ZoneInfo(self.zone) if self.zone else None)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise UsageError(
                f"there is no time zone called {self.zone!r}\n\nhint: use an IANA name such as Europe/Rome",
                code="unknown-name",
            ) from None

    @cached_property
    def yearless(self) -> bool:
        """Its timestamps say no year."""
        named = self.layout is not None and self.layout not in COUNTED
        return named and not re.search("%[YyGcxD]", self.layout or "")

    @property
    def dated(self) -> bool:
        """The year is known, and with it the weekday."""
        return not self.yearless or self.year is not None

    def parse(self, text: str) -> tuple[int, int]:
        """(microseconds since 1970 UTC, seconds of offset from UTC); `ValueError` says what is wrong."""
        if len(text) > LONGEST:
            raise ValueError(_not_a_time(text[:LONGEST], self.layout))
        if self.layout in EPOCH_UNITS:
            return _parse_epoch(text, EPOCH_UNITS[self.layout]), 0
        try:
            if self.layout == EXCEL:
                return self._located(_EPOCH + timedelta(microseconds=parse_serial(text)))
            moment = _parse_iso(text.strip()) if self.layout is None else self._strptime(text.strip())
        except UnknownZoneError:
            raise
        except ValueError:
            begin = f"; its year is counted on from {self.first_year} (year = … says another)" if self.yearless else ""
            raise ValueError(_not_a_time(text, self.layout) + begin) from None
        return self._located(moment)

    def _located(self, moment: datetime) -> tuple[int, int]:
        """What `parse` says of a moment; of one without a zone, in that of the layout."""
        if moment.tzinfo is None and self._zone is not None:
            moment = moment.replace(tzinfo=self._zone)
        wall = moment.replace(tzinfo=None) - _EPOCH
        micros = wall.days * DAY + wall.seconds * SECOND + wall.microseconds
        if moment.tzinfo is None:
            return micros, 0
        offset = moment.utcoffset()
        seconds = offset.days * 86_400 + offset.seconds if offset else 0
        return micros - seconds * SECOND, seconds

    def _strptime(self, text: str) -> datetime:
        assert self.layout is not None
        if not self.yearless:
            return self._read(text, self.layout)
        return datetime.fromisoformat(text) if _DATED.match(text) else self.in_year(text, self.first_year)

    def _read(self, text: str, layout: str) -> datetime:
        place = zone_place(layout)
        if place is None:
            return datetime.strptime(text, layout)
        words, codes = text.split(), layout.split()
        if len(words) != len(codes):
            raise ValueError(text)
        name = words.pop(place)
        del codes[place]
        wall = datetime.strptime(" ".join(words), " ".join(codes))
        return wall.replace(tzinfo=zone_called(name, wall, self._zone))

    def in_year(self, text: str, year: int) -> datetime:
        """What a timestamp that says no year stands for in this one; `ValueError` if that has no such day."""
        return self._read(f"{year:04d} {text}", f"%Y {self.layout}")

    @property
    def first_year(self) -> int:
        return UNDATED if self.year is None else self.year

    def parse_all(self, texts: Sequence[str | None]) -> tuple[Int64[np.ndarray, "events"], Int32[np.ndarray, "events"]]:
        """`parse` of each text; None gives `UNKNOWN_TIME`. The `ValueError` has the index of the text, too."""
        iso = self.layout is None or self.yearless
        fast = _parse_alike(texts) if iso and self.zone is None else None
        if fast is not None:
            return fast
        time, offset = np.full(len(texts), UNKNOWN_TIME, dtype=np.int64), np.zeros(len(texts), dtype=np.int32)
        for index, text in enumerate(texts):
            if text is not None:
                try:
                    time[index], offset[index] = self.parse(text)
                except ValueError as error:
                    raise ValueError(str(error), index) from None
        return time, offset

    def render(self, micros: int, offset: int, like: str | None = None) -> str:
        """A moment in the layout of the text `like`, rounded down to its precision (None: ISO 8601 with its zone)."""
        if self.layout in EPOCH_UNITS:
            return _render_epoch(micros, EPOCH_UNITS[self.layout], like)
        if self.layout == EXCEL:
            return render_serial(micros + offset * SECOND, like)
        moment = _EPOCH + timedelta(microseconds=micros + offset * SECOND)
        if self.layout is not None:
            place = zone_place(self.layout)
            if place is None:
                return moment.replace(tzinfo=timezone(timedelta(seconds=offset))).strftime(self.layout)
            name = like.split()[place] if like else "UTC"
            moment = moment.replace(tzinfo=timezone(timedelta(seconds=offset)))
            moment = moment.astimezone(zone_called(name, moment.replace(tzinfo=None), self._zone))
            return moment.strftime(re.sub("%Z", name, self.layout))
        form = _ISO.match(like.strip()) if like else None
        if form is None:
            return moment.replace(tzinfo=timezone(timedelta(seconds=offset)) if offset else UTC).isoformat()
        dash, colon = form["dash"], form["colon"]
        text = moment.strftime(f"%Y{dash}%m{dash}%d").zfill(8 + 2 * len(dash))
        if form["separator"] is None:
            return text
        text += form["separator"] + moment.strftime(f"%H{colon}%M")
        if form["seconds"]:
            text += moment.strftime(f"{colon}%S")
        if form["digits"]:
            text += form["point"] + f"{moment.microsecond:06d}".ljust(9, "0")[: len(form["digits"])]
        return text + _zone_like(form["zone"], offset)


@dataclass
class YearClock:
    """Gives timestamps that say no year theirs, read in the order of the file: they roll over at New Year.

    A step back by more than half a year goes on into the next one; a step of eleven months or more is a line out of
    order at New Year.
    """

    layout: TimeLayout
    _last: datetime | None = None

    def dated(self, text: str) -> str:
        """The timestamp in ISO 8601, with its year; a text that is none stays as it is."""
        last = self._last
        year = self.layout.first_year if last is None else last.year
        moment = self._moment(text, year)
        if last is not None and moment is None:  # 29 February
            later = self._moment(text, year + 1)
            moment = later if later is not None and later - last < HALF_A_YEAR else None
        elif last is not None and moment is not None and moment - last < -HALF_A_YEAR:
            moment = self._moment(text, year + 1)
        elif last is not None and moment is not None and moment - last > ELEVEN_MONTHS:
            moment = self._moment(text, year - 1) or moment
        if moment is None:
            return text
        self._last = moment
        return moment.isoformat()

    def begun(self, text: str) -> str:
        """The timestamp in ISO 8601 of what began before, or at, the moment that was dated last."""
        if self._last is None:
            return text
        moments = [self._moment(text, year) for year in (self._last.year, self._last.year - 1)]
        return next((m.isoformat() for m in moments if m is not None and m <= self._last), text)

    def _moment(self, text: str, year: int) -> datetime | None:
        try:
            return self.layout.in_year(text.strip(), year)
        except ValueError:
            return None


def _parse_iso(text: str) -> datetime:
    iso = text.replace("/", "-", 2) if text[4:5] == "/" else text
    try:
        return datetime.fromisoformat(iso)
    except ValueError:  # a blank before the zone, or its name
        return datetime.fromisoformat(re.sub(r"\s*(?:UTC|GMT)$", "Z", re.sub(r"\s+(?=[+-]\d|Z$)", "", iso)))


def _parse_alike(
    texts: Sequence[str | None],
) -> tuple[Int64[np.ndarray, "events"], Int32[np.ndarray, "events"]] | None:
    """A short cut for ISO texts of one length, several times as fast; None if they are not of that kind."""
    width = len(texts[0] or "") if texts else 0
    zone = _ZONE_WIDTHS.get(width)
    if zone is None or None in texts or set(map(len, texts)) != {width}:  # type: ignore[arg-type]
        return None
    known = [text for text in texts if text]
    bodies = [text[: width - zone] for text in known] if zone else known
    if not _PLAIN.fullmatch("\n".join(bodies)):
        return None  # numpy would read more, such as zones, and warn
    try:
        offset = np.array([_OFFSETS[text[-zone:]] for text in known] if zone else [0] * len(known), dtype=np.int32)
        wall = np.array(bodies, dtype="M8[us]").astype(np.int64)
    except (ValueError, KeyError):
        return None
    if wall.min() < YEAR_1:  # numpy knows a year 0
        return None
    return wall - offset * np.int64(SECOND), offset


def _zone_like(zone: str | None, offset: int) -> str:
    if zone is None:
        return ""
    if zone.strip() in ("Z", "z", "UTC", "GMT"):
        if offset == 0:
            return zone
        zone = "+00:00"
    minutes = abs(offset) // 60
    colon = ":" if ":" in zone else ""
    blank = zone[: len(zone) - len(zone.lstrip())]
    return f"{blank}{'-' if offset < 0 else '+'}{minutes // 60:02d}{colon}{minutes % 60:02d}"


def _parse_epoch(text: str, unit: int) -> int:
    try:
        moment = Decimal(text.strip())
        if abs(moment) < 1e21 and YEAR_1 <= moment * SECOND / unit < YEAR_10000:  # 1e999999999 takes hours to write out
            return floor(moment * SECOND / unit)
    except (ArithmeticError, ValueError):
        pass
    raise ValueError(
        f"{text[:40]!r} is not a number of seconds, milli-, micro- or nanoseconds since 1970, from year 1 to 9999"
    )


def _render_epoch(micros: int, unit: int, like: str | None) -> str:
    digits = len(like.partition(".")[2]) if like else 0
    scaled = micros * unit * 10**digits // SECOND
    if not digits:
        return str(scaled)
    sign = "-" if scaled < 0 else ""
    return f"{sign}{abs(scaled) // 10**digits}.{abs(scaled) % 10**digits:0{digits}d}"


def _not_a_time(text: str, layout: str | None) -> str:
    shown = repr(text[:40])
    if layout is not None:
        return f"{shown} is not a timestamp of the layout {layout!r}"
    if re.fullmatch(r"\d{9,19}(\.\d+)?", text.strip()):
        return (
            f"{shown} is not a timestamp; counted from 1970, it needs time_layout = 'epoch_s', 'epoch_ms', 'epoch_us' "
            f"or 'epoch_ns'"
        )
    if re.fullmatch(r"[2-6]\d{4}([.,]\d+)?", text.strip()):
        return f"{shown} is not a timestamp; counted in days since 1899-12-30, it needs time_layout = 'excel'"
    if re.match(r"\d{1,2}[./-]\d{1,2}[./-]\d{2,4}", text.strip()):
        return f"{shown} may be day or month first: say which, such as time_layout = '%d/%m/%Y %H:%M:%S'"
    return f"{shown} is not a timestamp; other layouts than ISO 8601 are named, such as time_layout = '%d.%m.%Y %H:%M'"
