"""JSON as RFC 8259 has it, without the literals NaN and Infinity: whatever is printed or kept is written here."""

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np


def to_json(
    value: Any, *, lossless: bool = False, ascii: bool = True, indent: int | None = None, sort_keys: bool = False
) -> str:
    """A value as JSON text. Numbers that are not finite become null; `lossless`: `"NaN"`, `"Infinity"`, `"-Infinity"`.

    These texts are read back as numbers wherever a number is expected. `ascii=False` keeps other letters as they are.
    What JSON has no word for (paths, dates) is written as `str` shows it.
    """

    def written(plain: Any) -> str:
        return json.dumps(
            plain, allow_nan=False, default=_plain, ensure_ascii=ascii, indent=indent, sort_keys=sort_keys
        )

    try:
        text = written(value)
    except ValueError:
        text = written(_finite(value, lossless))
    return text.encode("utf-8", "backslashreplace").decode()  # half a surrogate pair has no UTF-8, but a \u escape


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else str(value)


def _finite(value: Any, lossless: bool) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(each, lossless) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each, lossless) for each in value]
    if isinstance(value, np.generic | np.ndarray):
        return _finite(value.tolist(), lossless)
    if not isinstance(value, float) or math.isfinite(value):
        return value
    if not lossless:
        return None
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
