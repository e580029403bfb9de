"""Cases that no table had, as the rows of a new one."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from maskseq.errors import UsageError
from maskseq_events.case import UNKNOWN, UNKNOWN_TIME, Case, Value
from maskseq_events.times import TimeLayout


def refuse_undated(case: Case) -> None:
    """A file whose timestamps say their year cannot take a case that knows none."""
    if case.timed.any() and not case.dated:
        raise UsageError(f"the timestamps of {case.key!r} say no year\n\nhint: read them with it: year = 2024")


@dataclass(frozen=True)
class NewTable:
    """Cases that came from elsewhere, as columns `case`, `activity`, `time`, attributes and `case:` attributes."""

    cases: Sequence[Case]
    names: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        for case in self.cases:
            refuse_undated(case)
        timed = ("time",) if any(case.timed.any() for case in self.cases) else ()
        attributes = dict.fromkeys(name for case in self.cases for name in case.attributes)
        of_case = dict.fromkeys(f"case:{name}" for case in self.cases for name in case.case_attributes)
        object.__setattr__(self, "names", ("case", "activity", *timed, *attributes, *of_case))

    def rows(self) -> Iterator[dict[str, Value]]:
        layout = TimeLayout()
        for case in self.cases:
            fixed = {f"case:{name}": value for name, value in case.case_attributes.items()}
            for event, activity in enumerate(case.activity):
                row: dict[str, Value] = dict.fromkeys(self.names)
                row |= {"case": case.key, "activity": activity}
                if "time" in row:
                    moment = int(case.time[event])
                    if case.timed[event]:
                        row["time"] = layout.render(moment, int(case.offset[event]))
                    elif moment == UNKNOWN_TIME:
                        row["time"] = UNKNOWN
                row |= {name: values[event] for name, values in case.attributes.items()} | fixed
                yield row
