r"""Layouts of lines in the notation of loghub: `<Date> <Time> <Level> \[<Thread>\] <Component>: <Content>`.

What stands between the fields is a regular expression in which a blank is any number of them; where that makes no
sense, as in `[<Level>]`, it is the text itself. `<Level:5>` is a field of five characters, for columns by position.
"""

import re
from collections.abc import Sequence

from maskseq.formats import distinct

_FIELD = re.compile(r"<([^<>:]+)(?::(\d+))?>")
TIMES = (
    *(("month", "date", "time"), ("date", "day", "time"), ("month", "day", "time"), ("date", "time")),
    *(("timestamp",), ("datetime",), ("time",), ("date",)),
)
"""Fields that say together when something happened, in lower case; the first of which a layout has all."""
MESSAGES = ("message", "content", "msg", "text", "log", "body")


def is_notation(layout: str) -> bool:
    return "(?" not in layout and _FIELD.search(layout) is not None


def is_fixed(layout: str) -> bool:
    return any(field[2] for field in _FIELD.finditer(layout))


def pattern_of(layout: str) -> str:
    """The regular expression for a whole line; its groups are the fields, by names that groups can have."""
    between = _FIELD.sub("\0", layout).split("\0")
    found = list(_FIELD.finditer(layout))
    plain = [re.sub(r"\W+", "_", field[1]).strip("_") for field in found]
    names = [name.replace("#", "_") for name in distinct([f"_{n}" if n[:1].isdigit() else n for n in plain])]
    fixed = is_fixed(layout)
    anything = [r"\S*?" if text.startswith(" ") and not fixed else ".*?" for text in between[1:]]
    widths = [f".{{{field[2]}}}" if field[2] else any_ for field, any_ in zip(found, anything, strict=True)]
    groups = [f"(?P<{name}>{width})" for name, width in zip(names, widths, strict=True)]
    spaced = [re.sub(" +", r"\\s+", text) for text in between]
    exact = [re.escape(text) for text in between]
    for texts in (exact,) if fixed else (spaced, exact):
        pattern = "".join(a + b for a, b in zip(texts, [*groups, ""], strict=True))
        if _has_groups(pattern, names):
            return pattern
    raise ValueError(f"{layout!r} is no layout: its fields need different names")


def _has_groups(pattern: str, names: Sequence[str]) -> bool:
    try:
        return list(re.compile(pattern).groupindex) == list(names)
    except re.error:
        return False


def time_fields(groups: Sequence[str]) -> str | tuple[str, ...]:
    """The groups that say when something happened; empty: none does."""
    lower = {name.lower(): name for name in groups}
    found = next((names for names in TIMES if all(name in lower for name in names)), ())
    fields = tuple(lower[name] for name in found)
    return fields if len(fields) > 1 else fields[0] if fields else ""


def message_field(groups: Sequence[str]) -> str | None:
    """The group that says what happened, by its usual name."""
    return next((name for name in groups if name.lower() in MESSAGES), None)


def of_fields_line(line: str) -> str:
    """The layout that a line `#Fields: date time s-ip` of the W3C's extended log format declares."""
    return " ".join(f"<{name}>" for name in line.split()[1:])
