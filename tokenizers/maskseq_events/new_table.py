"""Cases that no table had, as the rows of a new one."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from maskseq.errors import UsageError
from maskseq_events.activities import columns_of
from maskseq_events.case import UNKNOWN, UNKNOWN_TIME, Case, Value
from maskseq_events.times import TimeLayout


def refuse_undated(case: Case) -> None:
    """A file whose timestamps say their year cannot take a case that knows none."""
    if case.timed.any() and not case.dated:
        raise UsageError(
            f"the timestamps of {case.key!r} say no year\n\nhint: read them with it: year = 2024", code="not-supported"
        )


@dataclass(frozen=True)
class NewTable:
    """Cases that came from elsewhere, as columns `case`, `activity`, `time`, attributes and `case:` attributes.

    An activity of several parts has further columns, `activity#2` and so on.
    """

    cases: Sequence[Case]
    names: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        for case in self.cases:
            refuse_undated(case)
        timed = ("time",) if any(case.timed.any() for case in self.cases) else ()
        attributes = dict.fromkeys(name for case in self.cases for name in case.attributes)
        of_case = dict.fromkeys(f"case:{name}" for case in self.cases for name in case.case_attributes)
        activity = max((columns_of(case, ("activity",)) for case in self.cases), key=len, default=("activity",))
        object.__setattr__(self, "names", ("case", *activity, *timed, *attributes, *of_case))

    def rows(self) -> Iterator[dict[str, Value]]:
        layout = TimeLayout()
        for case in self.cases:
            fixed = {f"case:{name}": value for name, value in case.case_attributes.items()}
            for event, activity in enumerate(case.activity):
                row: dict[str, Value] = dict.fromkeys(self.names)
                parts = (activity,) if case.parts is None else case.parts[event]
                row |= {"case": case.key, **dict(zip(columns_of(case, ("activity",)), parts, strict=True))}
                if "time" in row:
                    moment = int(case.time[event])
                    if case.timed[event]:
                        row["time"] = layout.render(moment, int(case.offset[event]))
                    elif moment == UNKNOWN_TIME:
                        row["time"] = UNKNOWN
                row |= {name: values[event] for name, values in case.attributes.items()} | fixed
                yield row
