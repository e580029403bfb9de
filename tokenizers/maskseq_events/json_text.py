"""Where values stand in the text of a JSON document, so that some can be changed and the rest stays as it is."""

import json
import re
from typing import Any

from maskseq_events.case import Value

_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()

Span = tuple[int, int]


def as_json(value: Value, *, unquoted: bool) -> str:
    """A value as JSON, if `unquoted` as the number or truth value that it may be."""
    if value is None:
        return "null"
    if unquoted:
        try:
            if isinstance(json.loads(value, parse_constant=refuse_constant), int | float):
                return value
        except ValueError:
            pass
    return json.dumps(value, ensure_ascii=False)


def refuse_constant(name: str) -> Any:
    """For `json.loads`, which would read NaN and Infinity."""
    raise ValueError(f"{name} is no JSON number")


def object_spans(text: str, begin: int) -> tuple[dict[str, Span], int]:
    """Of the object that begins here: where each value stands, and where another pair could be added."""
    spans: dict[str, Span] = {}
    end = begin + 1
    position = _after_space(text, end)
    while text[position] != "}":
        name, position = _DECODER.raw_decode(text, position)
        start = _after_space(text, _after_space(text, position) + 1)  # behind the colon
        _, end = _DECODER.raw_decode(text, start)
        spans[name] = (start, end)
        position = _after_comma(text, end)
    return spans, end


def array_spans(text: str, begin: int) -> tuple[list[Span], int]:
    """Of the array that begins here: where each element stands, and where another could be added."""
    spans: list[Span] = []
    end = begin + 1
    position = _after_space(text, end)
    while text[position] != "]":
        _, end = _DECODER.raw_decode(text, position)
        spans.append((position, end))
        position = _after_comma(text, end)
    return spans, end


def _after_comma(text: str, position: int) -> int:
    position = _after_space(text, position)
    return _after_space(text, position + 1) if text[position] == "," else position


def _after_space(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    assert match is not None
    return match.end()
