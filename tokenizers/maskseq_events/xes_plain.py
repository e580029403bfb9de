"""A short cut for XES traces as every tool writes them: elements of the form `<string key="…" value="…"/>` only.

Such a trace is cut at its quotes, several times as fast as expat can call back. What the texts between the values may
be is checked against a strict pattern, so a trace that is read here is well-formed XML; everything else is expat's.
"""

import re
from dataclasses import dataclass, field

from maskseq_events.case import Kind

_BETWEEN = re.compile(
    r"(?P<first><trace>)?(?(first)|\s*/>)\s*(?P<close></event>\s*)?(?P<open><event>\s*)?<(?P<tag>[a-z]+) key="
)
_LAST = re.compile(r"\s*/>\s*</event>\s*</trace>")
_TAGS = {"string", "date", "int", "float", "boolean", "id"}
_CONTROLS = bytes(byte for byte in range(0x20) if byte not in b"\t\n\r")  # no XML text may contain them
_SAME, _FIRST, _NEXT = range(3)
"""What follows a separator: an attribute of the same holder, of the first event, of the next event."""


@dataclass(slots=True)
class PlainTraces:
    """Reads plain traces; remembers the separators it has checked."""

    kinds: dict[str, Kind]
    """Gets what the first occurrence of each attribute declares; those of traces are called `case:…`."""
    separators: dict[str, tuple[int, Kind]] = field(default_factory=dict)

    def read(self, xml: bytes) -> tuple[dict[str, str], list[dict[str, str]]] | None:
        """Attributes of the trace and of each of its events; None if it is not as plain as that."""
        try:
            text = xml.decode("utf-8")
        except UnicodeDecodeError:
            return None
        parts = text.split('"')
        between, keys, values = parts[0:-1:4], parts[1::4], parts[3::4]
        if len(parts) % 4 != 1 or len(parts) == 1 or set(parts[2::4]) != {" value="} or not _LAST.fullmatch(parts[-1]):
            return None
        if not between[0].startswith("<trace>") or "&" in text or len(xml.translate(None, _CONTROLS)) < len(xml):
            return None
        markup = "".join(between) + parts[-1]
        if any(text.count(character) != markup.count(character) for character in "<\n\r\t"):
            return None  # within a value: not allowed, or to be normalized
        attributes: dict[str, str] = {}
        events: list[dict[str, str]] = []
        holder, prefix, kinds, known = attributes, "case:", self.kinds, self.separators
        for separator, key, value in zip(between, keys, values, strict=True):
            step, kind = known.get(separator) or self._learn(separator)
            if step != _SAME:
                if step < 0 or (step == _FIRST) != (not events):
                    return None
                holder, prefix = {}, ""
                events.append(holder)
            if key in holder:
                return None  # one key twice
            holder[key] = value
            name = prefix + key if prefix else key
            if name not in kinds:
                kinds[name] = kind
        return (attributes, events) if events else None

    def _learn(self, separator: str) -> tuple[int, Kind]:
        """What a separator says; a negative step if it is not plain."""
        match = _BETWEEN.fullmatch(separator)
        step = -1
        if match and match["tag"] in _TAGS and len(self.separators) < 10_000:
            known_step = {(False, False): _SAME, (False, True): _FIRST, (True, True): _NEXT}
            step = known_step.get((match["close"] is not None, match["open"] is not None), -1)
            if match["first"] and match["close"]:
                step = -1
        kind: Kind = "numeric" if match and match["tag"] in ("int", "float") else "categorical"
        if step >= 0:
            self.separators[separator] = step, kind
        return step, kind
