"""What the attributes of a XES trace or event are called where some stand in others, or one key occurs again."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

WITHOUT_VALUE = ("list", "container", "values")


@dataclass(frozen=True, slots=True)
class Place:
    """Where an attribute stands that is not called by its key alone."""

    holder: str
    """The name of the attribute that it stands in; "": in the event or trace itself."""
    key: str
    number: int
    """Of those in this holder that have this key, from 1."""

    @property
    def plain(self) -> str:
        """The name without the number."""
        return f"{self.holder}/{self.key}" if self.holder else self.key

    @property
    def name(self) -> str:
        return f"{self.plain}#{self.number}" if self.number > 1 else self.plain


@dataclass(slots=True)
class XesNames:
    """Names the elements of one trace or event as they open and close.

    `list/org:resource` is `org:resource` in the attribute `list`; the second of this key there is
    `list/org:resource#2`.
    """

    counts: Counter[str] = field(default_factory=Counter)
    open: list[str] = field(default_factory=list)
    """Of each element that is open, the name; that of its holder, if it has no key."""

    def enter(self, key: str | None) -> tuple[str, Place]:
        """The name of an element that opens here, and where that is."""
        holder = self.open[-1] if self.open else ""
        if key is None:
            self.open.append(holder)
            return holder, Place(holder, "", 0)
        plain = Place(holder, key, 1).plain
        self.counts[plain] += 1
        place = Place(holder, key, self.counts[plain])
        self.open.append(place.name)
        return place.name, place

    def leave(self) -> None:
        self.open.pop()


def with_those_needed(
    wanted: Mapping[str, Place], places: Mapping[str, Place], there: Collection[str]
) -> dict[str, Place]:
    """The attributes that are to be added, with others that are needed for these names: those that they stand in, and
    those of the same key before them. Of one key, in the order of their numbers.
    """
    found, left = dict(wanted), list(wanted.values())
    while left:
        place = left.pop()
        before = {each.name: each for n in range(1, place.number) for each in [replace(place, number=n)]}
        if place.holder:
            before[place.holder] = places.get(place.holder, Place("", place.holder, 1))
        new = {name: each for name, each in before.items() if name not in there and name not in found}
        found |= new
        left += new.values()
    return dict(sorted(found.items(), key=lambda each: each[1].number))
