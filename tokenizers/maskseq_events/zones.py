"""Zones of time by the names that files give them: IANA names, and abbreviations that mean one thing only."""

from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

UTC_NAMES = ("UTC", "GMT", "Z")


class UnknownZoneError(ValueError):
    """A name of no zone, or of several."""


def zone_place(layout: str) -> int | None:
    """Which word of a `strptime` layout names the zone; None: none does."""
    words = layout.split()
    return words.index("%Z") if "%Z" in words else None


def zone_called(name: str, wall: datetime, own: ZoneInfo | None) -> tzinfo:
    """The zone of a time on the wall; `own` is the one that the user named. An abbreviation is a fixed offset."""
    if name in UTC_NAMES:
        return UTC
    if own is not None:
        for fold in (0, 1):
            local = wall.replace(tzinfo=own, fold=fold)
            if local.tzname() == name:
                return timezone(local.utcoffset() or timedelta(0), name)
    offsets = _offsets().get(name, frozenset())
    if len(offsets) == 1:
        return timezone(timedelta(seconds=next(iter(offsets))), name)
    if "/" in name:
        try:
            return ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            pass
    meaning = f"may be UTC{' or UTC'.join(map(_shown, sorted(offsets)))}" if offsets else "is not known"
    raise UnknownZoneError(f"the time zone {name[:20]!r} {meaning}; time_zone = 'AREA/CITY' says where it is meant")


@cache
def _offsets() -> dict[str, frozenset[int]]:
    """What abbreviations stand for, in seconds from UTC, in all zones, winter and summer, of these years."""
    found: dict[str, set[int]] = {}
    for name in available_timezones():
        zone = ZoneInfo(name)
        for month in (1, 7):
            local = datetime(2024, month, 1, tzinfo=zone)
            offset, abbreviation = local.utcoffset(), local.tzname()
            if offset is not None and abbreviation and abbreviation.isalpha():
                found.setdefault(abbreviation, set()).add(offset.days * 86_400 + offset.seconds)
    return {abbreviation: frozenset(offsets) for abbreviation, offsets in found.items()}


def _shown(seconds: int) -> str:
    minutes = abs(seconds) // 60
    return f"{'-' if seconds < 0 else '+'}{minutes // 60:02d}:{minutes % 60:02d}"
