"""Templates of log messages by Drain (He et al., ICWS 2017): a tree of fixed depth, online, in one pass.

Our own, because drain3 (MIT, last released in 2022) pins a `jsonpickle` of 2021, whose files can run code, and because
a tokenizer's state must be plain JSON: here it is the list of templates.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from maskseq_events.patterns import Pattern

WILDCARD = "<*>"
_CACHED = 100_000


@dataclass(frozen=True, kw_only=True)
class Drain:
    """How messages become templates. Defaults are those of the paper's authors for most logs."""

    depth: int = 4
    """Levels of the tree: messages are told apart by their number of words, then by their first `depth - 3` words."""
    similarity: float = 0.5
    """Share of words that a message must have in common with a template to belong to it."""
    max_children: int = 100
    """Branches of a node; further first words share a branch."""
    masks: tuple[str, ...] = (r"(\d+\.){3}\d+(:\d+)?", r"0x[0-9a-fA-F]+", r"blk_-?\d+")
    """Patterns of what varies by its nature; replaced by `<*>` before anything else."""

    def __post_init__(self) -> None:
        if self.depth < 3 or self.max_children < 1 or not 0 < self.similarity <= 1:
            raise ValueError("depth must be at least 3, max_children at least 1 and similarity above 0 and at most 1")
        for mask in self.masks:
            try:
                Pattern(mask)
            except ValueError as error:
                raise ValueError(f"the mask {error}") from None

    def words(self, message: str) -> tuple[str, ...]:
        for mask in self._masks:
            message = mask.sub(WILDCARD, message)
        return tuple(message.split())

    @cached_property
    def _masks(self) -> tuple[Pattern, ...]:
        return tuple(map(Pattern, self.masks))


@dataclass(slots=True, eq=False)
class Group:
    """Messages of one template."""

    words: list[str]
    count: int = 0

    @property
    def template(self) -> str:
        return " ".join(self.words)


@dataclass(slots=True)
class _Node:
    children: dict[str, "_Node"] = field(default_factory=dict)
    groups: list[Group] = field(default_factory=list)


@dataclass
class DrainTree:
    """Finds templates while messages are added; a template only ever gets more general."""

    drain: Drain
    groups: list[Group] = field(default_factory=list)
    _roots: dict[int, _Node] = field(default_factory=dict)

    def add(self, message: str, times: int = 1) -> Group:
        words = self.drain.words(message)
        leaf = self._leaf(words)
        group = self._similar(leaf.groups, words)
        if group is None:
            group = Group(list(words))
            leaf.groups.append(group)
            self.groups.append(group)
        else:
            for index, (old, new) in enumerate(zip(group.words, words, strict=True)):
                if old != new:
                    group.words[index] = WILDCARD
        group.count += times
        return group

    def _leaf(self, words: Sequence[str]) -> _Node:
        node = self._roots.setdefault(len(words), _Node())
        for word in words[: self.drain.depth - 3]:
            branch = WILDCARD if any(character.isdigit() for character in word) else word
            if branch not in node.children and len(node.children) >= self.drain.max_children - 1:
                branch = WILDCARD  # one branch is kept for all words that find no room
            node = node.children.setdefault(branch, _Node())
        return node

    def _similar(self, groups: Sequence[Group], words: Sequence[str]) -> Group | None:
        """The group with most words in common, of equals the one with most wildcards; None if none has enough."""
        best, best_score = None, (-1.0, -1)
        for group in groups:
            same = sum(old == new for old, new in zip(group.words, words, strict=True) if old != WILDCARD)
            score = same / max(len(words), 1), group.words.count(WILDCARD)
            if score > best_score:
                best, best_score = group, score
        return best if best is not None and (best_score[0] >= self.drain.similarity or not words) else None


@dataclass(frozen=True, kw_only=True)
class Templates:
    """Fitted templates. A message belongs to the one whose constant words it has, the most of them if to several."""

    drain: Drain
    texts: tuple[str, ...]

    def match(self, message: str) -> str | None:
        """The template of a message, None if it fits none; the same for every order of messages."""
        known = self._cache.get(message)
        if known is not None:
            return known or None
        words = self.drain.words(message)
        best, most = "", -1
        for text, template, constants in self._by_length.get(len(words), ()):
            if constants > most and all(map(_fits, template, words)):
                best, most = text, constants
        if len(self._cache) < _CACHED:
            self._cache[message] = best
        return best or None

    @cached_property
    def _by_length(self) -> dict[int, list[tuple[str, list[str], int]]]:
        by_length: dict[int, list[tuple[str, list[str], int]]] = {}
        for text in self.texts:
            words = text.split()
            by_length.setdefault(len(words), []).append((text, words, len(words) - words.count(WILDCARD)))
        return by_length

    @cached_property
    def _cache(self) -> dict[str, str]:
        return {}


def _fits(template: str, word: str) -> bool:
    return template in (word, WILDCARD)
