"""Which plug-ins are installed: their entry points by name, and the name of a class."""

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Literal

Group = Literal["tokenizers", "formats", "variants"]


@cache
def offers(group: Group) -> dict[str, tuple[EntryPoint, ...]]:
    """Installed plug-ins by name; more than one where several packages offer different classes under it."""
    found: dict[str, tuple[EntryPoint, ...]] = {}
    for point in entry_points(group=f"maskseq.{group}"):
        others = found.get(point.name, ())
        if point.value not in [other.value for other in others]:
            found[point.name] = (*others, point)
    return found


def entry_name(group: Group, cls: type) -> str | None:
    """The name of the class's entry point; None if it has none."""
    value = f"{cls.__module__}:{cls.__qualname__}"
    for name, points in offers(group).items():
        if any(point.attr == cls.__qualname__ and (point.value == value or _same(point, cls)) for point in points):
            return name
    return None


def identity_name(group: Group, cls: type) -> str:
    """What a class is called wherever its file of code is moved to: its entry point, or else the class's own name."""
    return entry_name(group, cls) or cls.__qualname__


def _same(point: EntryPoint, cls: type) -> bool:
    if point.module.split(".")[0] != cls.__module__.split(".")[0]:
        return False
    try:
        return point.load() is cls
    except (Exception, SystemExit):  # one that cannot be imported is not the class that we hold
        return False
