"""Regular expressions that users write: they may take long, but not forever.

In most, the next character decides every choice, so that Python's `re` takes as many steps as there are characters.
Others may take exponentially many; those are left to the package `regex`, which can stop, and is slower on short lines.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from importlib import import_module
from itertools import pairwise
from operator import methodcaller
from time import perf_counter
from typing import Any

from maskseq.errors import UsageError

BUDGET = 3.0
"""Seconds of the processor that one pattern may take beyond a millisecond a text and a microsecond a character."""
LONGEST = 500
"""Characters of a pattern that is looked into."""
STEPS = 10_000
"""Parts of a pattern that are looked at, repetitions within repetitions several times."""
LONG = 4096
"""Characters up to which a search, which may begin at each of them, is short however it ends."""


@dataclass
class Pattern:
    """A regular expression; `ValueError` if it is none. What takes too long ends in a `UsageError`."""

    text: str
    ours: bool = False
    """It is known to be short on every text."""
    _left: float = field(init=False, repr=False)
    """Seconds that are left of the budget."""

    def __post_init__(self) -> None:
        self._left = BUDGET
        try:
            self._plain = re.compile(self.text)
        except (re.error, RecursionError, OverflowError) as error:
            raise ValueError(f"{self.text[:200]!r} is no regular expression: {error}") from None
        self.groups = tuple(self._plain.groupindex)

    @cached_property
    def fullmatch(self) -> Callable[[str], Any]:
        """The match of a whole text, or None."""
        return self._plain.fullmatch if self._decided else partial(self._timed, "fullmatch")

    def search(self, text: str) -> Any:
        """The first match in a text, or None."""
        return self._plain.search(text) if len(text) <= LONG and self._decided else self._timed("search", text)

    def sub(self, new: str, text: str) -> str:
        """The text with each match replaced by `new`, in which a backslash is none."""
        if len(text) <= LONG and self._decided:
            return self._plain.sub(new, text)
        return str(self._timed("sub", new, text))

    @cached_property
    def texts(self) -> Callable[[Any], Sequence[str | None]]:
        """What each named group of a match matched."""
        return methodcaller("groups") if len(self.groups) == self._plain.groups else self._named

    def _named(self, match: Any) -> Sequence[str | None]:
        return [match[name] for name in self.groups]

    def _timed(self, method: str, *texts: str) -> Any:
        begin = perf_counter()
        try:
            result = getattr(self._stoppable, method)(*texts, timeout=self._left)
            self._left -= max(perf_counter() - begin - 1e-3 - 1e-6 * len(texts[-1]), 0.0)
            if self._left <= 0:
                raise TimeoutError
        except TimeoutError:
            self._left = 1e-3  # of what is tried again, as little
            shown = f"{texts[-1][:40]!r}{'…' * (len(texts[-1]) > 40)}"
            raise UsageError(
                f"the pattern {self.text!r} takes too long, at last on {shown}\n\nhint: write it so that one text can "
                f"match in one way only: [^ ]+ in place of .+, and no repetition within a repetition",
                code="bad-option",
            ) from None
        return result

    @cached_property
    def _decided(self) -> bool:
        return self.ours or is_decided(self.text)

    @cached_property
    def _stoppable(self) -> Any:
        try:
            regex = import_module("regex")
        except ImportError:
            raise UsageError(
                f"the pattern {self.text!r} needs the package regex, which can stop what takes too long\n\n"
                f"hint: pip install 'maskseq[events]'",
                code="missing-extra",
            ) from None
        try:
            return regex.compile(self.text)
        except (regex.error, RecursionError, OverflowError) as error:
            raise UsageError(
                f"the package regex does not read the pattern {self.text[:200]!r}: {error}", code="bad-option"
            ) from None


def is_decided(pattern: str) -> bool:
    """Whether the next character decides every choice of a pattern: whether to repeat, and which alternative to take.

    What is not understood (flags, references, looking ahead) is not decided, nor are very long patterns.
    """
    if len(pattern) > LONGEST:
        return False
    parsed = import_module("re._parser").parse(pattern)
    if parsed.state.flags & ~re.UNICODE.value:
        return False
    try:
        _Choices(_Alphabet(parsed)).first(parsed, frozenset())
    except _Undecided:
        return False
    return True


class _Undecided(Exception):  # noqa: N818
    pass


Chars = frozenset[Any]
END = "end"


@dataclass
class _Choices:
    """Which characters a part of a pattern may begin with, given those that may follow it."""

    alphabet: "_Alphabet"
    steps: int = 0

    def first(self, items: Iterable[tuple[Any, Any]], follow: Chars) -> Chars:
        for operation, argument in reversed(list(items)):
            follow = self._before(operation, argument, follow)
        return follow

    def _before(self, operation: Any, argument: Any, follow: Chars) -> Chars:
        self.steps += 1
        if self.steps > STEPS:
            raise _Undecided
        match str(operation):
            case "LITERAL" | "NOT_LITERAL" | "IN" | "ANY":
                return self.alphabet.chars(operation, argument)
            case "AT":
                return follow
            case "SUBPATTERN" if not argument[1] and not argument[2]:
                return self.first(argument[3], follow)
            case "BRANCH":
                firsts = [self.first(branch, follow) for branch in argument[1]]
                if sum(map(len, firsts)) > len(frozenset().union(*firsts)):
                    raise _Undecided
                return frozenset().union(*firsts)
            case "MAX_REPEAT" | "MIN_REPEAT":
                least, most, items = argument
                return self._before_repeat(least, most, items, follow)
        raise _Undecided

    def _before_repeat(self, least: int, most: int, items: Any, follow: Chars) -> Chars:
        once = self.first(items, frozenset({END}))
        if END in once or (least != most and once & follow):
            raise _Undecided
        self.first(items, once | follow)  # which follows within and behind the repetition
        return once if least else once | follow


class _Alphabet:
    """Characters in classes that no part of a pattern tells apart: by what it names, and digits, words and blanks."""

    def __init__(self, parsed: Any) -> None:
        cuts = sorted({0, 10, 11, 0x110000, *_cuts(parsed)})
        self.classes = [(a, kind) for a, b in pairwise(cuts) for kind in _kinds(a, b)]

    def chars(self, operation: Any, argument: Any) -> Chars:
        return frozenset(each for each in self.classes if self._fits(str(operation), argument, *each))

    def _fits(self, operation: str, argument: Any, code: int, kind: str) -> bool:
        match operation:
            case "LITERAL":
                return bool(code == argument)
            case "NOT_LITERAL":
                return bool(code != argument)
            case "ANY":
                return code != 10
            case "RANGE":
                return bool(argument[0] <= code <= argument[1])
            case "CATEGORY":
                name = str(argument).removeprefix("CATEGORY_")
                inside = {"DIGIT": kind == "digit", "SPACE": kind == "space", "WORD": kind in ("digit", "word")}
                return inside[name.removeprefix("NOT_")] != name.startswith("NOT_")
            case "IN":
                negated = str(argument[0][0]) == "NEGATE"
                return any(self._fits(str(op), arg, code, kind) for op, arg in argument[negated:]) != negated
        raise _Undecided


def _cuts(items: Iterable[Any]) -> Iterator[int]:
    """Where the characters that a pattern names begin, and those behind them."""
    for item in items:
        if isinstance(item, tuple) and len(item) == 2 and str(item[0]) in ("LITERAL", "NOT_LITERAL"):
            yield from (item[1], item[1] + 1)
        elif isinstance(item, tuple) and len(item) == 2 and str(item[0]) == "RANGE":
            yield from (item[1][0], item[1][1] + 1)
        elif isinstance(item, tuple | list) or hasattr(item, "data"):
            yield from _cuts(item)


def _kinds(start: int, stop: int) -> set[str]:
    """Of the characters `start` to `stop`; of many, all kinds that there are."""
    if stop - start > 256:
        return {"digit", "space", "word", "other"}
    return {_kind(chr(code)) for code in range(start, stop)}


def _kind(character: str) -> str:
    if character.isdecimal():
        return "digit"
    if character.isspace():
        return "space"
    return "word" if character.isalnum() or character == "_" else "other"
