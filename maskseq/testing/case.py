"""A record under test, and how a broken rule is reported."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Bool, Integer

from maskseq.errors import MaskseqError
from maskseq.tokenizer import Tokenizer
from maskseq.types import Encoded

T = TypeVar("T")


class ContractViolation(MaskseqError, AssertionError):  # noqa: N818
    """The rule that a tokenizer breaks, where, and how to fix it."""

    def __init__(self, rule: str, *, where: str, problem: str, hint: str) -> None:
        self.rule, self.where, self.problem, self.hint = rule, where, problem, hint
        super().__init__(f"{where} breaks the rule {rule!r}: {problem}\n\nhint: {hint}")

    @property
    def mend(self) -> str:
        """The name of `hint` up to version 0.1."""
        return self.hint


class BrokenError(Exception):
    """What a rule raises; `judge` adds which rule it was, and where."""

    def __init__(self, problem: str, hint: str, cell: Sequence[int] | None) -> None:
        self.problem, self.hint, self.cell = problem, hint, cell


def require(holds: object, problem: str, hint: str, *, cell: Sequence[int] | None = None) -> None:
    """Raise unless it holds."""
    if not holds:
        raise BrokenError(problem, hint, cell)


def require_cells(holds: Bool[np.ndarray, "length fields"], problem: str, hint: str) -> None:
    """Raise with the first cell for which it does not hold."""
    if not holds.all():
        raise BrokenError(problem, hint, np.argwhere(~holds)[0].tolist())


def judge(name: str, rule: Callable[[], T], *, tokenizer: Tokenizer[Any], where: str = "") -> T:
    """Follow a rule; whatever it raises breaks it."""
    place = [type(tokenizer).__name__, where]
    try:
        return rule()
    except BrokenError as broken:
        if broken.cell is not None:
            position, column = broken.cell
            place += [f"position {position}", f"field {tokenizer.fields[column].name!r}"]
        problem, hint, cause = broken.problem, broken.hint, None
    except Exception as error:
        problem, hint, cause = f"it raised {type(error).__name__}: {error}", "see the traceback above", error
    raise ContractViolation(name, where=", ".join(filter(None, place)), problem=problem, hint=hint) from cause


@dataclass(frozen=True)
class CellCounts:
    """Counts of cells over all records."""

    narrowed: Counter[str] = field(default_factory=Counter)
    """For each field, cells that the grammar narrows; `excluded`: those whose true id it does not allow."""
    excluded: Counter[str] = field(default_factory=Counter)
    spliced: Counter[str] = field(default_factory=Counter)
    """For each field, cells into which their own id was spliced; `returned`: those that encode to it again."""
    returned: Counter[str] = field(default_factory=Counter)
    offered: Counter[str] = field(default_factory=Counter)
    """For each source, cells into which another id was spliced; `moved`: those that then encode to another."""
    moved: Counter[str] = field(default_factory=Counter)
    depending: Counter[str] = field(default_factory=Counter)
    """Per source, cells that depend on a unit, summed over units; `cells`: all cells of records
    that have them, each record counted once a unit."""
    cells: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class RecordCase:
    """One record under test."""

    tokenizer: Tokenizer[Any]
    twin: Tokenizer[Any]
    """The tokenizer rebuilt from its JSON state."""
    record: Any
    rng: np.random.Generator
    tally: CellCounts
    pool: Sequence[Any]
    """Values of all records that are lists."""
    rounds: int
    """How often masked values are changed: more where records are few."""

    @cached_property
    def encoded(self) -> Encoded:
        return self.tokenizer.encode(self.record)

    @property
    def ids(self) -> Integer[np.ndarray, "length fields"]:
        return self.encoded.ids

    @cached_property
    def units(self) -> np.ndarray:
        """Whatever its shape is: the rule of units says what is wrong with it."""
        return self.tokenizer.units_of(self.encoded)

    @cached_property
    def known(self) -> Bool[np.ndarray, "length fields"]:
        """The cells that a mask may hide."""
        return self.tokenizer.vocabulary.askable(self.ids)

    def window(self, size: int) -> slice:
        """A random stretch of at most `size` positions."""
        start = int(self.rng.integers(max(len(self.ids) - size, 0) + 1))
        return slice(start, start + size)

    def masked(
        self, ids: Integer[np.ndarray, "some fields"], masked: Bool[np.ndarray, "some fields"]
    ) -> Integer[np.ndarray, "some fields"]:
        """The ids with `[MASK]` where masked."""
        return self.tokenizer.vocabulary.masked(ids, masked)


def equal(a: Any, b: Any) -> bool:
    """Deep equality of records and of what they are encoded as; arrays by value, NaN equal to itself."""
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        a, b = np.asarray(a), np.asarray(b)
        return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind in "fcmM")
    if is_dataclass(a):
        names = [f.name for f in fields(a) if f.compare]
        return type(a) is type(b) and all(equal(getattr(a, name), getattr(b, name)) for name in names)
    if isinstance(a, Mapping):
        return isinstance(b, Mapping) and a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return isinstance(b, list | tuple) and len(a) == len(b) and all(map(equal, a, b))
    return bool(a == b or (a != a and b != b))
