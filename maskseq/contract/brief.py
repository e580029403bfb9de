"""Short reprs for values that hold arrays: what a notebook shows of them fits on a line or two."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, TypeVar

C = TypeVar("C", bound=type)
LONGEST = 60
"""Characters of a text, and of a short sequence, that are shown whole."""


def brief(cls: C) -> C:
    """Give a dataclass a short repr: of arrays their shape, of modules their size, of what is long its length."""

    def shown(self: Any) -> str:
        inside = ", ".join(f"{each.name}={in_brief(getattr(self, each.name))}" for each in fields(self) if each.repr)
        return f"{type(self).__name__}({inside})"

    cls.__repr__ = shown  # type: ignore[assignment]
    return cls


def in_brief(value: object) -> str:
    """A value on a line."""
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if shape is not None and dtype is not None:
        return f"{str(dtype).removeprefix('torch.')}[{', '.join(map(str, shape))}]"
    if hasattr(value, "n_parameters") and hasattr(value, "parameters"):
        return f"{type(value).__name__}({value.n_parameters:,} parameters)"
    if isinstance(value, str):
        return repr(value if len(value) <= LONGEST else value[: LONGEST - 1] + "…")
    if isinstance(value, Mapping | Sequence | frozenset | set) and not isinstance(value, bytes):
        text = repr(value) if len(value) < 5 and not any(map(_is_large, value)) else ""
        return text if 0 < len(text) <= LONGEST else f"{type(value).__name__} of {len(value):,}"
    text = repr(value)
    return text if len(text) <= 2 * LONGEST else f"{type(value).__name__}(…)"


def _is_large(value: object) -> bool:
    return not isinstance(value, str | int | float | bool | None) and not isinstance(value, tuple)
