"""How files that nobody has described yet could be read, and the question where that is not clear.

A reading is a format with its options. What speaks for it, the formats say (`Claim`); the user's own words come first.
"""

import json
import shlex
import tomllib
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from maskseq import plugins
from maskseq.contract.fence import fenced
from maskseq.contract.installed import Group
from maskseq.errors import PluginError, UsageError
from maskseq.storage.toml_text import toml_value
from maskseq.survey import CERTAIN, GENERAL, Choice, Claim, Head


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A format and its options, and what they take a file for."""

    format: str
    options: Mapping[str, Any]
    why: str

    @property
    def overrides(self) -> list[str]:
        """Its options as `--set` takes them."""
        return [f"data.format_options.{name}={_typed(value)}" for name, value in self.options.items()]


@dataclass(frozen=True, kw_only=True)
class Readings:
    """The ways to read some files, the likeliest first."""

    each: tuple[Reading, ...]
    format: str
    """The format that knows the files best, or that the user gave."""
    doubt: str
    """Why it is not clear that the first is right; empty where it is."""
    chosen: bool
    """The user has named the first one in full."""
    reported: dict[str, str] = field(default_factory=dict)
    """What to report about each file."""


class UndecidedError(UsageError):
    """The content of a file does not say how to read it.

    `candidates` are the ways that can be read, the likeliest first: `format` and `overrides` are what `init`
    takes, `command` is what is typed, `why` and `records` say what it takes the file for and what it finds.
    """

    def __init__(self, file: Path, doubt: str, candidates: Sequence[Mapping[str, Any]]) -> None:
        self.file, self.doubt, self.candidates = file, doubt, tuple(candidates)
        lines = [f"  {each['command']}\n    {each['why']}: {each['records']}" for each in candidates]
        text = f"{file}: {doubt}\n\nhint: choose; --yes takes the first\n" + "\n".join(lines)
        super().__init__(text, code="undecided")

    def to_json(self) -> dict[str, Any]:
        question = {"file": str(self.file), "undecided": self.doubt, "candidates": list(self.candidates)}
        return super().to_json() | question


def readings_of(files: Sequence[Path], wanted: str | None, given: Mapping[str, Any]) -> Readings:
    """The ways to read files that are all of one format, where the user gave a format, some of its options, or neither.

    `UsageError` where no format knows a file or they are of different formats.
    """
    claims = {path: _claims(Head.of(path), wanted) for path in files}
    for path, found in claims.items():
        if not found:
            known = plugins.listed("formats")
            raise UsageError(
                f"{path}: no format recognizes this file\n\nhint: name one with --format ({known}); its options, such "
                f"as the names of columns, with --set data.format_options.OPTION=VALUE",
                code="unknown-file",
            )
    first, name = files[0], claims[files[0]][0][0]
    odd = next((path for path in files if name not in [of for of, _ in claims[path]]), None)
    if odd is not None:
        raise UsageError(
            f"{first} looks like {name}, but {odd} like {claims[odd][0][0]}; a recipe reads one format\n\n"
            f"hint: begin a recipe for each, or say what they are with --format",
            code="unknown-file",
        )
    reported = {path.name: _told(name, found) for path, found in claims.items()}
    each, doubt = _ways(claims[first])
    exact = [way for way in each if way.format == wanted and _agree(way.options, given, all_given=True)]
    if exact:
        return Readings(
            each=(max(exact, key=lambda way: len(way.options)),), format=name, doubt="", chosen=True, reported=reported
        )
    kept = _narrowed(each, name, given)
    doubt = doubt if kept == each or len(kept) > 1 else ""
    return Readings(each=kept, format=name, doubt=doubt, chosen=False, reported=reported)


def _told(name: str, claims: Sequence[tuple[str, Claim]]) -> str:
    (own,), others = ([claim for of, claim in claims if of == name], [pair for pair in claims if pair[0] != name])
    also = "; ".join(f"{other} ({claim.why})" for other, claim in others)
    return f"{name}: {own.why}" + (f". Also possible, with --format: {also}" if also else "")


def answers(group: Group, method: str, about: Any) -> Iterator[tuple[str, Any]]:
    """What each plug-in that can be loaded answers; one that fails, and that nobody named, is passed over."""
    for name, cls in plugins.usable(group).items():
        try:
            with fenced(cls, method):
                answer = getattr(cls, method)(about)
        except PluginError as error:
            warnings.warn(str(error).partition("\n")[0], stacklevel=2)
            continue
        yield name, answer


def _claims(head: Head, wanted: str | None) -> list[tuple[str, Claim]]:
    """Claims to a file, the surest first, without those that are far less sure."""
    if wanted is not None:
        cls = plugins.load("formats", wanted, trust_code=True)
        with fenced(cls, "recognize", file=head.path):
            claim = cls.recognize(head)
        if claim is None:
            return [(wanted, Claim(strength=CERTAIN, why="as you say"))]
        own = tuple(choice for choice in claim.instead if choice.format in (None, wanted))
        answered = {"options": claim.options, "doubt": claim.doubt if own or claim.options else "", "instead": own}
        return [(wanted, Claim(strength=CERTAIN, why="as you say", **answered))]
    found = [(name, claim) for name, claim in answers("formats", "recognize", head) if claim]
    claims = sorted(found, key=lambda pair: -pair[1].strength)
    return [pair for pair in claims if pair[1].strength >= claims[0][1].strength - 1]


def _ways(claims: Sequence[tuple[str, Claim]]) -> tuple[tuple[Reading, ...], str]:
    """The readings that claims to one file offer, and why the first is in doubt. Formats that do no more than accept
    its name, or any content of its kind, are not an alternative to one that knows its content.
    """
    (name, surest), *others = claims
    equal = [other for other, claim in others if claim.strength == surest.strength]
    doubt = surest.doubt or (f"it may be {' or '.join([name, *equal])} as well" if equal else "")
    offered = [(name, surest), *((n, c) for n, c in others if c.strength > GENERAL or surest.strength <= GENERAL)]
    ways = [
        Reading(format=choice.format or of, options=choice.options, why=choice.why)
        for of, claim in offered
        for choice in _choices(claim)
    ]
    return tuple(ways), doubt


def _choices(claim: Claim) -> Iterable[Choice]:
    """A claim in doubt that has no options offers nothing itself."""
    own = () if claim.doubt and not claim.options else (Choice(why=claim.why, options=claim.options),)
    return *own, *claim.instead


def _narrowed(ways: tuple[Reading, ...], format: str, given: Mapping[str, Any]) -> tuple[Reading, ...]:
    """Those that agree with the options that the user gave; where none does, what all of this format have in common.

    Options are meant for the format that knows the file: another one agrees only if it needs all of them.
    """
    agreeing = tuple(
        way
        for way in ways
        if _agree(way.options, given) and (way.format == format or given.keys() <= way.options.keys())
    )
    if agreeing or not given:
        return agreeing
    of_format = [way.options for way in ways if way.format == format]
    shared = {
        name: value
        for name, value in (of_format[0] if of_format else {}).items()
        if name not in given and all(options.get(name) == value for options in of_format)
    }
    return (Reading(format=format, options=shared, why="as you say"),)


def _agree(options: Mapping[str, Any], given: Mapping[str, Any], *, all_given: bool = False) -> bool:
    """Whether no option has another value than the user gave; `all_given`: and the user gave them all."""
    names = options.keys() if all_given else options.keys() & given.keys()
    return all(name in given and json.dumps(options[name]) == json.dumps(given[name]) for name in names)


def command(files: Sequence[Path], output: Path, reading: Reading, *, overrides: Sequence[str], usual: Path) -> str:
    """What to type to have files read in this way; other `overrides` are kept."""
    kept = [text for text in overrides if not text.strip().startswith(("data.format=", "data.format_options."))]
    where = [] if output == usual else ["-o", str(output)]
    settings = [part for text in [*reading.overrides, *kept] for part in ("--set", text)]
    return shlex.join(["maskseq", "init", *map(str, files), *where, "--format", reading.format, *settings])


def _typed(value: Any) -> str:
    """As `--set` understands it: a text as it is, where TOML would not take it for something else."""
    if isinstance(value, int):
        return json.dumps(value)
    if isinstance(value, str) and value == value.strip() and value:
        try:
            tomllib.loads(f"value = {value}")
        except (ValueError, RecursionError):
            return value
    return toml_value(value)
