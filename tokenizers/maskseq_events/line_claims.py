"""What `maskseq init` is told of text logs: the layout of their lines, and what may be a session."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from maskseq.survey import BY_NAME, CERTAIN, LIKELY, Choice, Claim, Head
from maskseq_events.log_layouts import ANSI, LAYOUTS, Layout, Likely, begins_event, likely_layouts
from maskseq_events.notation import of_fields_line, pattern_of

LINES = 100
"""Events of a session, where nothing tells sessions apart."""
IDLE = 1800
"""Seconds of silence that end one."""
ENOUGH = 0.95
"""Share of the lines that say a session, from which on it may be taken for one."""
LONGER = 100
"""How much longer all that happened would take if its dates were read in another order: then they are not meant so."""
FEWEST = 3
"""Lines that a layout fits, from which on the others may be parts of them."""


def claim_lines(head: Head, *, by_name: bool) -> Claim | None:
    """The layout that fits the lines; `by_name`: its name says that the file is a log."""
    lines = [ANSI.sub("", line) for line in head.lines[:1000]]
    if not lines:
        return None
    declared = next((line for line in lines if line.startswith("#Fields: ")), None)
    if declared is not None:
        return _of_fields(declared)
    found = likely_layouts(lines)
    name, layout, n, *others = _meant(lines, found) if found else ("", LAYOUTS["timed"], 0)
    few = n < len(lines) / 2 and not (layout.match(lines[0]) and n >= min(FEWEST, len(lines)))
    if few or not (by_name or (name != "timed" and n >= ENOUGH * len(lines))):
        return _messages() if by_name and not head.name.endswith(".txt") else None
    options: dict[str, Any] = {"layout": name}
    if "TIME" in LAYOUTS[name].pattern and layout.time_layout is not None:
        options["time_layout"] = layout.time_layout
    why = f"{n / len(lines):.0%} of the first lines are of the layout {name!r}"
    if name == "timed":
        why = f"{n / len(lines):.0%} of the first lines begin with a timestamp"
    odd = [line for line in lines if layout.match(line) is None]
    if odd and not all(begins_event(layout, line) for line in odd):
        options["continued"] = True
    if layout.needs_year:
        why += ", which says no year: there are no weekdays unless year = … says that of the first line"
    claim = _with_sessions(lines, layout, options, why)
    if others:
        choices = [Choice(why=f"{why} ({each})", options={**claim.options, "time_layout": each}) for each in others]
        doubt = f"the timestamps fit {' and '.join(map(str, (layout.time_layout, *others)))} alike"
        return replace(claim, doubt=doubt, instead=(*choices, *claim.instead))
    return replace(claim, strength=LIKELY) if name == "timed" else claim


def _meant(lines: Sequence[str], found: Sequence[Likely]) -> tuple[Any, ...]:
    """Name, layout and number of lines of the one that is meant, and other time layouts that fit as well.

    Where days are taken for years, all that happened would take far longer: then the dates are not meant so.
    """
    name, _, n = found[0]
    alike = [layout for of, layout, fits in found if (of, fits) == (name, n)]
    moments = [layout.moments(lines) for layout in alike]
    spans = [max(each) - min(each) for each in moments]
    least = min((span for span in spans if span), default=0)
    near = [i for i, span in enumerate(spans) if span <= LONGER * least]
    first, *others = near or range(1)
    return name, alike[first], n, *(alike[i].time_layout for i in others if moments[i] != moments[first])


def _with_sessions(lines: Sequence[str], layout: Layout, options: dict[str, Any], why: str) -> Claim:
    """By what the layout takes for a session, else by number; and by silence."""
    by_number = Choice(why=f"{why}; {LINES} lines are a session", options={**options, "session_lines": LINES})
    by_time = Choice(why=f"{why}; a session ends with half an hour of silence", options={**options, "idle": IDLE})
    own = layout.session or layout.session_pattern
    if own is None:
        groups = [each for each in (layout.source, "pid") if each is not None and f"<{each}>" in layout.pattern]
        own = next((each for each in groups if _tells(lines, layout, each)), None)
        options = options if own is None else {**options, "session": own}
    if own is None or (layout.session and not _tells(lines, layout, layout.session, most=1.0)):
        return Claim(strength=CERTAIN, why=by_number.why, options=by_number.options, instead=(by_time,))
    by_key = Choice(why=f"{why}; each {own} is a session", options=options)
    if own != "client":
        return Claim(strength=CERTAIN, why=by_key.why, options=by_key.options, instead=(by_number, by_time))
    why = f"{by_key.why}, which ends after half an hour of silence"
    return Claim(strength=CERTAIN, why=why, options={**options, "idle": IDLE}, instead=(by_key, by_number))


def _tells(lines: Sequence[str], layout: Layout, group: str, *, most: float = 0.5) -> bool:
    """Whether nearly all lines say this group, which is neither the same in all of them nor another in each."""
    values = [match[group] for line in lines if (match := layout.match(line))]
    known = [value for value in values if value not in (None, "-", "")]
    return len(known) >= ENOUGH * len(values) and 1 < len(set(known)) <= most * len(known)


def _of_fields(declared: str) -> Claim:
    """The extended log format of the W3C, as IIS writes it."""
    layout = of_fields_line(declared)
    options = {"layout": layout, "comments": "#"}
    why = f"lines of the fields that it declares, {', '.join(declared.split()[1:])}"
    groups = pattern_of(layout)
    activity = next((name for name in ("cs_uri_stem", "cs_method") if f"<{name}>" in groups), None)
    if activity is not None:
        options["activity"] = activity
    by_number: dict[str, Any] = {**options, "session_lines": LINES}
    if "<c_ip>" not in groups:
        return Claim(strength=CERTAIN, why=f"{why}; {LINES} lines are a session", options=by_number)
    return Claim(
        strength=CERTAIN,
        why=f"{why}; each client is a session, which ends after half an hour of silence",
        options={**options, "session": "c_ip", "idle": IDLE},
        instead=(Choice(why=f"{why}; {LINES} lines are a session", options=by_number),),
    )


def _messages() -> Claim:
    return Claim(
        strength=BY_NAME,
        why="each line is a message, a hundred of them are a session",
        options={"layout": "(?P<message>.*)", "session_lines": LINES},
        doubt=f"its lines are of no layout that is known ({', '.join(LAYOUTS)}); another one is written like "
        "<Date> <Time> <Level> <Content>, or as a regular expression with groups such as time and message",
    )
