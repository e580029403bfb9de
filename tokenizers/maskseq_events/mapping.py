"""Which column of a table of events is what: as the user says, else by the names that such columns usually have."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from maskseq.errors import DataError

# Names that columns go by, in the order of preference; compared in lower case without anything but letters and digits.
CASE_NAMES = ("caseconceptname", "caseid", "case", "traceid", "trace", "sessionid", "session", "subjectid")
ACTIVITY_NAMES = ("conceptname", "activity", "activityid", "activityname", "eventname", "event", "task", "code")
START_NAMES = ("starttimestamp", "starttime", "startdate", "start", "begin", "begintime", "started")
TIME_NAMES = ("timetimestamp", "timestamp", "completetimestamp", "time", "endtimestamp", "endtime", "datetime", "date")


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Which column of a table is what."""

    names: tuple[str, ...]
    case: int | None
    """None: rows are parted into sessions."""
    activity: tuple[int, ...]
    time: tuple[int, ...]
    """Several say it together, in this order; none: there is no time."""
    start: int | None
    attributes: dict[str, int]
    case_attributes: dict[str, int]

    @property
    def moment(self) -> int | None:
        """Where the whole timestamp is: in its column, or behind the columns, where several say it together."""
        return None if not self.time else self.time[0] if len(self.time) == 1 else len(self.names)

    @cached_property
    def unread(self) -> dict[str, int]:
        """The other columns."""
        read = {self.case, self.start, *self.time, *self.activity}
        read |= {*self.attributes.values(), *self.case_attributes.values()}
        return {name: index for index, name in enumerate(self.names) if index not in read}


def find_columns(
    names: Sequence[str],
    path: Path,
    *,
    case: str | None,
    activity: str | tuple[str, ...] | None,
    time: str | tuple[str, ...] | None,
    start: str | None,
    attributes: tuple[str, ...] | None,
    case_attributes: tuple[str, ...],
    empty_unknown: tuple[str, ...],
) -> Columns:
    """Find columns by name; None: by their usual names (`attributes`: all others). `DataError` lists what is there."""

    def find(role: str, name: str | None, usual: Sequence[str] = ()) -> int:
        return _find(role, name, usual, names, path)

    case_index = None if case == "" else find("case", case, CASE_NAMES)
    several = (activity,) if activity is None or isinstance(activity, str) else activity
    activities = tuple(find("activity", name, ACTIVITY_NAMES) for name in several)
    several_times = (time,) if time is None or isinstance(time, str) else time
    times = tuple(find("time", name, TIME_NAMES) for name in several_times if name != "")
    start_index = None if start is None else find("start", start)
    if attributes is None:
        taken = {case_index, *activities, *times, start_index}
        others = {name: index for index, name in enumerate(names) if index not in taken}
    else:
        others = {name: find("attributes", name) for name in (*attributes, *case_attributes)}
    of_case = {find("case_attributes", name) for name in case_attributes}
    of_case |= {index for name, index in others.items() if name.startswith("case:")}
    for name in empty_unknown:
        find("empty_unknown", name)
    return Columns(
        names=tuple(names),
        case=case_index,
        activity=activities,
        time=times,
        start=start_index,
        attributes={name: index for name, index in others.items() if index not in of_case},
        case_attributes={name.removeprefix("case:"): index for name, index in others.items() if index in of_case},
    )


def usual_column(usual: Sequence[str], names: Sequence[str]) -> int | None:
    """The column that goes by the most preferred of the usual names."""
    plain = [re.sub(r"[^a-z0-9]", "", column.lower()) for column in names]
    return next((plain.index(name) for name in usual if name in plain), None)


def _find(role: str, name: str | None, usual: Sequence[str], names: Sequence[str], path: Path) -> int:
    shown = ", ".join(map(repr, names[:40]))
    if name is not None:
        if name in names:
            return list(names).index(name)
        raise DataError(path, f"there is no column {name!r} ({role}); the columns are {shown}", place="header")
    index = usual_column(usual, names)
    if index is not None:
        return index
    without = {
        "time": "; a log without timestamps says time = ''",
        "case": "; a log without cases says case = '' and idle = 1800 (seconds) or session_lines = 100",
    }
    none = without.get(role, "")
    raise DataError(
        path, f"which column is the {role}? say {role} = 'NAME'{none}; the columns are {shown}", place="header"
    )
