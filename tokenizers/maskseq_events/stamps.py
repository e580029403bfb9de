"""What timestamps look like in a line: regular expressions made of `strptime` layouts."""

import re

ISO = r"\d{4}[-/]\d\d[-/]\d\d[T ]\d\d:\d\d(?::\d\d(?:[.,]\d{1,9})?)?(?: ?(?:Z\b|UTC\b|GMT\b|[+-]\d\d:?\d\d\b))?"
EPOCHS = {"epoch_s": r"\d{10}(?:\.\d+)?", "epoch_ms": r"\d{13}", "epoch_us": r"\d{16}", "epoch_ns": r"\d{19}"}
CODES = {
    **{"%Y": r"\d{4}", "%y": r"\d\d", "%m": r"\d{1,2}", "%d": r"[ \d]?\d", "%j": r"\d{3}"},
    **{"%H": r"\d{1,2}", "%I": r"\d{1,2}", "%M": r"\d\d", "%S": r"\d\d", "%f": r"\d{1,6}", "%p": r"[AaPp][Mm]"},
    **{"%b": r"[A-Z][a-z]{2}", "%B": r"[A-Z][a-z]+", "%a": r"[A-Z][a-z]{2}", "%A": r"[A-Z][a-z]+"},
    **{"%z": r"(?:[+-]\d\d:?\d\d|Z)", "%Z": r"[A-Za-z]+(?:/[\w+-]+)*", "%%": "%"},
}
STAMPS = (
    *(None, "%d/%b/%Y:%H:%M:%S %z", "%a %b %d %H:%M:%S.%f %Y", "%a %b %d %H:%M:%S %Y", "%a %b %d %H:%M:%S %Z %Y"),
    *("%Y-%m-%d %H:%M:%S %Z", "%Y-%m-%d-%H.%M.%S.%f", "%Y.%m.%d %H:%M:%S", "%Y%m%d-%H:%M:%S:%f", "%Y%m%d %H:%M:%S"),
    *("%b %d, %Y %I:%M:%S %p", "%b %d %Y %H:%M:%S", "%b %d %H:%M:%S.%f", "%b %d %H:%M:%S"),
    *("%d-%b-%Y %H:%M:%S.%f", "%d-%b-%Y %H:%M:%S", "%d %b %Y %H:%M:%S,%f", "%d %b %Y %H:%M:%S"),
    *("%d.%m.%Y %H:%M:%S", "%m/%d/%Y %I:%M:%S %p", "%d/%m/%Y %I:%M:%S %p", "%m/%d/%Y %H:%M:%S", "%d/%m/%Y %H:%M:%S"),
    *("%y/%m/%d %H:%M:%S", "%m/%d/%y %H:%M:%S", "%d/%m/%y %H:%M:%S", "%y%m%d %H%M%S", "%m-%d %H:%M:%S.%f"),
    *EPOCHS,
)
"""Layouts that a line may begin with, None for ISO 8601; of those that fit a file alike, the first is taken."""


def stamp(layout: str | None) -> str:
    """What a timestamp of this layout looks like."""
    if layout is None or layout in EPOCHS:
        return ISO if layout is None else EPOCHS[layout]
    parts = re.split(r"(%.)", layout)
    return "".join(CODES.get(part, r"\S+") if part.startswith("%") else re.escape(part) for part in parts)
