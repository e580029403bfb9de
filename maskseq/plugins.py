"""Tokenizers and formats, found lazily by entry point or by `module:Class`. Built-ins use the same door."""

import difflib
import importlib
from dataclasses import fields, is_dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from maskseq.errors import UsageError
from maskseq.tokenizer import Format, Tokenizer
from maskseq.variants import VariantFormat

Group = Literal["tokenizers", "formats", "variants"]


@cache
def available(group: Group) -> dict[str, EntryPoint]:
    """Installed plug-ins by name; two distributions that claim one name are an error."""
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=f"maskseq.{group}"):
        other = found.setdefault(point.name, point)
        if other.value != point.value:
            raise UsageError(
                f"{group[:-1]} {point.name!r} is offered twice: by {_origin(other)} and by {_origin(point)}\n\n"
                f"hint: uninstall one of them, or name the class as module:Class"
            )
    return found


def load(group: Group, name: str, *, trust_code: bool = True) -> type[Any]:
    """The class behind a plug-in name or `module:Class`.

    `trust_code=False` is for names found inside a run folder or corpus: those load installed entry points only.
    """
    points = available(group)
    if name in points:
        try:
            return points[name].load()  # type: ignore[no-any-return]
        except ImportError as error:
            raise UsageError(
                f"{group[:-1]} {name!r} of {_origin(points[name])} cannot be imported: {error}\n\n"
                f"hint: pip install 'maskseq[genomics,events,signals]' installs what the built-in ones need"
            ) from error
    if ":" not in name:
        near = difflib.get_close_matches(name, points, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"installed: {', '.join(sorted(points)) or 'none'}"
        raise UsageError(f"there is no {group[:-1]} called {name!r}\n\nhint: {hint}")
    if not trust_code:
        raise UsageError(
            f"this folder asks for the code {name!r}, which is not an installed plug-in\n\n"
            f"hint: pass --trust-code if you know where the folder comes from"
        )
    module, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)  # type: ignore[no-any-return]
    except (ImportError, AttributeError) as error:
        raise UsageError(
            f"cannot load {group[:-1]} {name!r}: {error}\n\nhint: the form is module:Class, and the module must be "
            f"importable from here (installed, or its folder on PYTHONPATH)"
        ) from error


def name_of(group: Group, cls: type) -> str:
    """The name that `load` finds the class by: its entry point's if it has one, else `module:Class`."""
    value = f"{cls.__module__}:{cls.__qualname__}"
    for name, point in available(group).items():
        if point.attr == cls.__qualname__ and (point.value == value or _same(point, cls)):
            return name
    return value


def tokenizer_to_json(tokenizer: Tokenizer[Any]) -> dict[str, Any]:
    """What `tokenizer.json` and the corpus manifest hold."""
    return {
        "name": name_of("tokenizers", type(tokenizer)),
        "state": tokenizer.state(),
        "fingerprint": tokenizer.fingerprint,
    }


def tokenizer_from_json(saved: dict[str, Any], *, trust_code: bool = False) -> Tokenizer[Any]:
    """Rebuild a saved tokenizer and check that it is the one that was saved."""
    tokenizer: Tokenizer[Any] = load("tokenizers", saved["name"], trust_code=trust_code).from_state(saved["state"])
    if tokenizer.fingerprint != saved["fingerprint"]:
        raise UsageError(
            f"tokenizer {saved['name']!r} was saved with fingerprint {saved['fingerprint'][:8]} but rebuilds as "
            f"{tokenizer.fingerprint[:8]}: the state was edited, or another version of the plug-in is installed"
        )
    return tokenizer


def format_for(path: Path, name: str | None = None, **options: Any) -> Format[Any]:
    """The format called `name`, or the one that reads files ending like `path`."""
    if name is not None:
        return _with_options(name, options)
    plain = path.name.lower().removesuffix(".gz").removesuffix(".bgz")
    suffixes: dict[str, str] = {}
    for candidate in available("formats"):
        for suffix in load("formats", candidate).suffixes:
            suffixes[suffix] = candidate
            if plain.endswith(suffix):
                return _with_options(candidate, options)
    raise UsageError(
        f"{path}: no format reads files that end like this\n\n"
        f"hint: name one with --format ({', '.join(sorted(available('formats')))}); known endings: "
        f"{', '.join(sorted(suffixes))}"
    )


def variants_for(path: Path) -> VariantFormat[Any]:
    """The format that reads variants from files ending like `path`."""
    plain = path.name.lower().removesuffix(".gz").removesuffix(".bgz")
    formats = {name: load("variants", name) for name in sorted(available("variants"))}
    for each in formats.values():
        if plain.endswith(each.suffixes):
            return each()  # type: ignore[no-any-return]
    known = ", ".join(suffix for each in formats.values() for suffix in each.suffixes)
    raise UsageError(f"{path}: no format reads variants from files that end like this\n\nhint: known endings: {known}")


def _with_options(name: str, options: dict[str, Any]) -> Format[Any]:
    """A format with its options, which are its dataclass fields; `UsageError` names a wrong one."""
    cls = load("formats", name)
    known = {field.name for field in fields(cls)} if is_dataclass(cls) else set()
    unknown = sorted(options.keys() - known)
    if unknown:
        raise UsageError(
            f"format {name!r} has no option {unknown[0]!r} (options: {', '.join(sorted(known)) or 'none'})"
        )
    if not options:
        return cls()  # type: ignore[no-any-return]
    try:
        return TypeAdapter(cls).validate_python(options)  # type: ignore[no-any-return]
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"format {name!r}, option {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def _origin(point: EntryPoint) -> str:
    return point.dist.name if point.dist else point.value


def _same(point: EntryPoint, cls: type) -> bool:
    return point.module.split(".")[0] == cls.__module__.split(".")[0] and point.load() is cls
