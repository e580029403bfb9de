"""What is run together: as many things in a row as a budget has room for."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def within(items: Iterable[T], *limits: tuple[Callable[[T], int], int]) -> Iterator[list[T]]:
    """Groups of items, each limit a size of an item and how much of it a group may have.

    An item that exceeds a limit alone is a group of its own.
    """
    group: list[T] = []
    room = [budget for _, budget in limits]
    for item in items:
        sizes = [size(item) for size, _ in limits]
        if group and any(size > left for size, left in zip(sizes, room, strict=True)):
            yield group
            group, room = [], [budget for _, budget in limits]
        group.append(item)
        room = [left - size for size, left in zip(sizes, room, strict=True)]
    if group:
        yield group


def reaching(items: Iterable[T], size: Callable[[T], int], budget: int) -> Iterator[list[T]]:
    """Groups of items that end with the one that reaches the budget: nothing is read ahead of the group it is in."""
    group: list[T] = []
    room = budget
    for item in items:
        group.append(item)
        room -= size(item)
        if room <= 0:
            yield group
            group, room = [], budget
    if group:
        yield group
