"""What a recipe says about a split: the section `[data.split]`."""

from dataclasses import dataclass, fields
from typing import Any, Literal

from maskseq.errors import UsageError

TRAIN, SELECTION, TEST, DUPLICATE, OVERLAPPING = range(5)
PARTS = {TRAIN: "train", SELECTION: "validation", TEST: "test"}
"""What corpora on disk call the parts: the second had this name before there was a third."""
GUARD = 1024
FIRST_KEYS = ("by", "guard", "regions", "duplicates", "seed")
"""Keys of the first release: the others are part of an identity where they are used."""


@dataclass(frozen=True, kw_only=True)
class SplitConfig:
    """What to hold out: for selection (what choices are made by) and for a test (what figures are reported of)."""

    by: Literal["auto", "record", "region", "time", "start", "none"] = "auto"
    """auto: by region where a record is longer than both 10,000 units and the share to hold out, or is the only one;
    else by record. time: records (cases) that start after a boundary; those that overlap one are left out. start: as
    time, but those that overlap a boundary belong before it, as in most published figures: a claim of skill needs
    `time`."""
    selection: float = 0.05
    """Share to hold out for selection: of raw units by record, of each long record by region, of the records by
    time."""
    test: float = 0.0
    """Share to hold out for the test; 0: there are two parts, and figures are those of the selection data."""
    validation: float | None = None
    """Old name of `selection`."""
    guard: int | None = None
    """Positions left out on either side of a held-out region (default: the context of the recipe, else 1,024)."""
    regions: tuple[str, ...] = ()
    """Hold out exactly these for selection, as "KEY:START-END" (1-based, inclusive), or "START-END" of the only
    record."""
    test_regions: tuple[str, ...] = ()
    """The same for the test."""
    keys: tuple[str, ...] = ()
    """Hold out exactly the records with these keys for selection; KEY#2 is the second of several with one key."""
    test_keys: tuple[str, ...] = ()
    """The same for the test."""
    group: str = ""
    """By record: those that share the value of this attribute stand in one part, such as the cases of one customer."""
    duplicates: Literal["together", "ignore"] = "together"
    """together: duplicates stand in one part; where place or time decides the part, the later copies are left out."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.validation is not None and self.validation != self.selection:
            if self.selection != type(self).selection:
                raise UsageError(
                    f"the share for selection is {self.selection}, and under its old name, validation, "
                    f"{self.validation}\n\nhint: give `selection` alone"
                )
            object.__setattr__(self, "selection", self.validation)
        object.__setattr__(self, "validation", self.selection)
        for name, share in (("selection (or validation)", self.selection), ("test", self.test)):
            if not 0 <= share < 1:
                raise UsageError(f"the {name} share is {share}; give a number from 0 to below 1")
        if not self.selection + self.test < 1:
            raise UsageError(f"selection ({self.selection}) and test ({self.test}) leave nothing to train on")
        if self.guard is not None and self.guard < 0:
            raise UsageError(f"the guard gap is {self.guard} positions; give 0 or more")
        for given, what, by in (
            (self.regions or self.test_regions, "regions are", "region"),
            (self.keys or self.test_keys, "keys are", "record"),
            (self.group, "a group is", "record"),
        ):
            if given and self.by not in ("auto", by):
                raise UsageError(f'{what} given, but the split is by {self.by!r}\n\nhint: use by = "{by}"')
        if (self.regions or self.test_regions) and (self.keys or self.test_keys or self.group):
            raise UsageError("a split is by region or by record: give regions, or keys and a group, not both")
        if both := set(self.keys) & set(self.test_keys):
            raise UsageError(f"{min(both)!r} is among the keys for selection and among those for the test")

    @property
    def has_test(self) -> bool:
        """Whether a third part is asked for."""
        return bool(self.test or self.test_regions or self.test_keys)

    @property
    def holds_out(self) -> bool:
        """Whether anything is to be held out."""
        return bool(self.selection or self.regions or self.keys or self.has_test)

    @property
    def gap(self) -> int:
        """Positions of a guard gap where the record is long enough for it."""
        return GUARD if self.guard is None else self.guard

    def identity(self) -> dict[str, Any]:
        """As corpora and runs keep it: the share under its first name, later keys only where they are used."""
        kept: dict[str, Any] = {"validation": self.selection}
        for each in fields(self):
            value = getattr(self, each.name)
            later = each.name not in ("selection", "validation") and value != each.default
            if each.name in FIRST_KEYS or later:
                kept[each.name] = list(value) if isinstance(value, tuple) else value
        return kept
