"""TOML files as the dataclasses that describe them: read, changed by `--set`, with today's names, checked."""

import dataclasses
import json
import tomllib
import typing
import warnings
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Any

from pydantic import TypeAdapter, ValidationError

from maskseq.contract import renamed
from maskseq.errors import UsageError, first_problem, nearest
from maskseq.storage.places import is_url


def load_as(cls: type, path: Path, overrides: Sequence[str] = (), *, paths: Sequence[str] = ()) -> Any:
    """A file as an object of `cls`, with `a.b=value` overrides laid on top; `paths` are keys as of `resolve_paths`."""
    table = read_toml(path)
    for override in overrides:
        lay_over(table, override)
    refuse_unknown(cls, table, str(path))
    resolve_paths(table, paths, path.parent)
    return validated(cls, table, str(path))


def read_toml(path: Path) -> dict[str, Any]:
    """The table of a file; `UsageError` where there is none, or one that is not TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(
            f"{path}: no such recipe\n\nhint: `maskseq recipes list` shows those that ship", code="missing-file"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read as a recipe: {error}", code="bad-option") from None
    except (ValueError, RecursionError) as error:  # also numbers and nests beyond all bounds
        raise UsageError(f"{path}: not valid TOML: {error}", code="bad-option") from None


def resolve_paths(table: dict[str, Any], keys: Sequence[str], folder: Path) -> None:
    """Take the values of some keys (`data.files`), where they are there, as paths relative to a folder."""

    def resolved(name: object) -> object:
        return str(folder / name) if isinstance(name, str) and not is_url(name) else name

    for key in keys:
        *sections, last = key.split(".")
        section: Any = table
        for each in sections:
            section = section.get(each) if isinstance(section, dict) else None
        if isinstance(section, dict) and last in section:
            value = section[last]
            section[last] = [resolved(each) for each in value] if isinstance(value, list) else resolved(value)


def lay_over(table: dict[str, Any], override: str) -> None:
    """Lay one `a.b=value` on the table; a value that is not TOML is taken as a string."""
    top = table
    key, equals, text = override.partition("=")
    known_as = renamed.key_today(key.strip())
    parts = known_as.split(".")
    if not equals or not all(parts):
        raise UsageError(
            f"--set {override}: expected section.key=value, such as --set masking.ratio=0.4", code="bad-option"
        )
    if known_as != key.strip():
        warn_of_older({key.strip(): known_as}, "--set")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        value = text
    for depth, part in enumerate(parts[:-1]):
        inner = table.setdefault(part, {})
        if not isinstance(inner, dict):
            raise UsageError(
                f"--set {override}: {'.'.join(parts[: depth + 1])} is a value, not a section", code="bad-option"
            )
        table = inner
    table[parts[-1]] = value
    if isinstance(value, dict):
        warn_of_older(renamed.older_keys(top), "--set")
        top.update(today(top))


def warn_of_older(names: Mapping[str, str], where: str) -> None:
    """Warn of keys that stand under older names, given with those of today."""
    if names:
        renames = ", ".join(f"{old} is now {new}" for old, new in names.items())
        warnings.warn(f"{where}: {renames}; the older names are still read", FutureWarning, stacklevel=3)


def today(table: Mapping[str, Any]) -> dict[str, Any]:
    """The table with today's names of its keys; `UsageError` where a key stands under both its names."""
    if both := renamed.twice(table):
        old, new = both
        raise UsageError(
            f"the recipe has {new!r} and, under its old name, {old!r}\n\nhint: give {new!r} alone", code="bad-option"
        )
    return renamed.of_recipe(table)


def refuse_unknown(
    cls: type, table: object, where: str, section: str = "", names: Collection[str] | None = None
) -> None:
    """`UsageError` for keys that are not among `names` (None: the fields of `cls`), here and in inner sections.

    pydantic ignores them in plain dataclasses.
    """
    if not isinstance(table, dict):
        return  # a value of the wrong kind: pydantic says it better
    hints = typing.get_type_hints(cls)
    names = sorted(names or (field.name for field in dataclasses.fields(cls)))
    for key, value in table.items():
        if key not in names:
            hint = nearest(key, names, f"it may hold {', '.join(names)}")
            place = f"{where}: {section}" if section else where
            raise UsageError(f"{place}: unknown key {key!r}\n\nhint: {hint}", code="unknown-option")
        inner = dataclass_in(hints.get(key))
        if inner is not None:
            refuse_unknown(inner, value, where, f"{section}.{key}" if section else key)


def dataclass_in(hint: object) -> type | None:
    """The dataclass in `X` or `X | None`."""
    options = typing.get_args(hint) if isinstance(hint, UnionType) else (hint,)
    return next((o for o in options if isinstance(o, type) and dataclasses.is_dataclass(o)), None)


def validated(cls: type, table: object, where: str) -> Any:
    """The table as an object of `cls`; `UsageError` for a value of the wrong kind, in `where`."""
    try:
        return TypeAdapter(cls).validate_json(json.dumps(table, default=str))  # TOML knows dates
    except ValidationError as error:
        (key, problem), given = first_problem(error), error.errors()[0]["input"]
        shown = "" if isinstance(given, dict) else f" (given: {given!r})"
        raise UsageError(f"{where}: {key or 'the recipe'}: {problem}{shown}", code="bad-option") from None
