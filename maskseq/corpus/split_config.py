"""What a recipe says about a split: the section `[data.split]`."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import PurePath
from typing import Any, Literal

from maskseq.errors import UsageError, check_seed

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
    else by record. time: records (cases) that start after a boundary; of those that overlap one, what is behind it is
    asked about, what is before it is context, and nothing trains. start: as time, but those that overlap a boundary
    belong before it, as in most published figures: a claim of skill needs `time`."""
    selection: float | str = 0.05
    """Share to hold out for selection: of raw units by record, of each long record by region, of the records by time.
    Or another file, whose records are the selection data."""
    test: float | str = 0.0
    """The same for the test; 0: there are two parts, and figures are those of the selection data."""
    validation: float | str | None = None
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
    near_copies: float = 0.9
    """Records of 500 units or more count as duplicates as well where more than this share of the words of one (31 bases
    or amino acids, on either strand) occurs in the other; 1: none do. For tokenizers with `strands`."""
    seed: int = 0

    def __post_init__(self) -> None:
        check_seed(self.seed)
        if self.validation is not None and self.validation != self.selection:
            if self.selection != type(self).selection:
                raise UsageError(
                    f"the share for selection is {self.selection}, and under its old name, validation, "
                    f"{self.validation}\n\nhint: give `selection` alone",
                    code="bad-option",
                )
            object.__setattr__(self, "selection", self.validation)
        object.__setattr__(self, "validation", self.selection)
        for part, name in ((SELECTION, "selection (or validation)"), (TEST, "test")):
            if not 0 <= self.shares[part] < 1:
                raise UsageError(
                    f"the {name} share is {self.shares[part]}; give a number from 0 to below 1, or a file",
                    code="bad-option",
                )
        if not sum(self.shares.values()) < 1:
            raise UsageError(
                f"selection ({self.selection}) and test ({self.test}) leave nothing to train on", code="bad-option"
            )
        if not 0 < self.near_copies <= 1:
            raise UsageError(
                f"near_copies is {self.near_copies}; give a share above 0, or 1 to look for none", code="bad-option"
            )
        for part, places in ((SELECTION, (*self.keys, *self.regions)), (TEST, (*self.test_keys, *self.test_regions))):
            if part in self.files and places:
                raise UsageError(
                    f"{places[0]!r} is to be held out, and the file {self.files[part]}, for the same part",
                    code="bad-option",
                )
        if "" in self.files.values():
            raise UsageError(
                "a file to hold out has an empty name\n\nhint: give a share, such as 0.1, or a file", code="bad-option"
            )
        if self.guard is not None and self.guard < 0:
            raise UsageError(f"the guard gap is {self.guard} positions; give 0 or more", code="bad-option")
        for given, what, by in (
            (self.regions or self.test_regions, "regions are", "region"),
            (self.keys or self.test_keys, "keys are", "record"),
            (self.group, "a group is", "record"),
        ):
            if given and self.by not in ("auto", by):
                raise UsageError(
                    f'{what} given, but the split is by {self.by!r}\n\nhint: use by = "{by}"', code="bad-option"
                )
        if (self.regions or self.test_regions) and (self.keys or self.test_keys or self.group):
            raise UsageError(
                "a split is by region or by record: give regions, or keys and a group, not both", code="bad-option"
            )
        if both := set(self.keys) & set(self.test_keys):
            raise UsageError(
                f"{min(both)!r} is among the keys for selection and among those for the test", code="bad-option"
            )

    @property
    def has_test(self) -> bool:
        """Whether a third part is asked for."""
        return bool(self.test or self.test_regions or self.test_keys)

    @property
    def shares(self) -> dict[int, float]:
        """By part, what to hold out of the files that are trained on."""
        requested = {SELECTION: self.selection, TEST: self.test}
        return {part: 0.0 if isinstance(share, str) else share for part, share in requested.items()}

    @property
    def files(self) -> dict[int, str]:
        """By part, the file that is that part as a whole."""
        requested = {SELECTION: self.selection, TEST: self.test}
        return {part: file for part, file in requested.items() if isinstance(file, str)}

    def with_files(self, place: Callable[[str], str]) -> "SplitConfig":
        """The same with other places of its files."""
        places = {part: place(file) for part, file in self.files.items()}
        selection, test = places.get(SELECTION, self.selection), places.get(TEST, self.test)
        return replace(self, selection=selection, validation=None, test=test)

    @property
    def holds_out(self) -> bool:
        """Whether anything is to be held out of the files that are trained on."""
        places = self.regions or self.test_regions or self.keys or self.test_keys
        return bool(places or any(self.shares.values()))

    @property
    def by_time(self) -> bool:
        """Whether records may be divided by the times of their raw units."""
        return self.by == "time" and self.holds_out

    @property
    def seeks_near_copies(self) -> bool:
        """Whether it matters which records are nearly the same."""
        return self.holds_out and self.by != "none" and self.duplicates == "together" and self.near_copies < 1

    @property
    def gap(self) -> int:
        """Positions of a guard gap where the record is long enough for it."""
        return GUARD if self.guard is None else self.guard

    def identity(self) -> dict[str, Any]:
        """As corpora and runs keep it: the share under its first name, later keys only where they are used.

        Where files lie has no say in it.
        """
        named = self.with_files(lambda file: PurePath(file).name)
        kept: dict[str, Any] = {"validation": named.selection}
        for each in fields(self):
            value = getattr(named, each.name)
            later = each.name not in ("selection", "validation") and value != each.default
            if each.name in FIRST_KEYS or later:
                kept[each.name] = list(value) if isinstance(value, tuple) else value
        return kept
