"""Tokenizers and formats, found lazily by entry point or by `module:Class`. Built-ins use the same door.

`load` is the only place where a name becomes code. Names that the user gives in a call may be `module:Class`; names
found inside a folder (a run, a checkpoint, a corpus) load installed entry points only, unless that call trusts them.
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from maskseq.contract import renamed
from maskseq.contract.fence import fenced
from maskseq.contract.identity import another, checked_form, difference, in_fields, saved_form
from maskseq.contract.installed import Group, entry_name, identity_name, offers
from maskseq.errors import UsageError, first_problem, nearest
from maskseq.files import plain_name
from maskseq.formats import Format
from maskseq.tokenizer import Tokenizer
from maskseq.variants import VariantFormat

BASES: dict[Group, type] = {"tokenizers": Tokenizer, "formats": Format, "variants": VariantFormat}
Trust = bool | frozenset[str]
"""Which code may be loaded that is not an installed plug-in: any, none, or what these names mean."""


def available(group: Group) -> list[str]:
    """The names of installed plug-ins, whether or not they can be loaded."""
    return sorted(offers(group))


def load(group: Group, name: str, *, trust_code: Trust = False) -> type[Any]:
    """The class behind a plug-in name, or behind `module:Class` where `trust_code` allows it.

    `UsageError` says why there is none: an unknown name, one that two packages offer, code that cannot be imported.
    """
    kind = group[:-1]
    points = offers(group).get(name, ())
    if len(points) > 1:
        raise UsageError(
            f"{kind} {name!r} is offered twice: by {' and by '.join(map(_origin, points))}\n\n"
            f"hint: uninstall one of them, or name the class as module:Class",
            code="ambiguous-name",
        )
    if points:
        return _imported(group, name, points[0])
    if ":" not in name:
        hint = nearest(name, available(group), f"installed: {listed(group)}")
        raise UsageError(f"there is no {kind} called {name!r}\n\nhint: {hint}", code="unknown-name")
    if trust_code is not True and name not in (trust_code or ()):
        raise UsageError(
            f"this folder asks for the code {name!r}, which is not an installed plug-in\n\n"
            f"hint: pass --trust-code (trust_code=True in Python) if you know where the folder comes from",
            code="untrusted-code",
        )
    return _imported(group, name, EntryPoint(name, name, f"maskseq.{group}"))


def usable(group: Group) -> dict[str, type[Any]]:
    """All that can be loaded, by name. The others are left out, with one warning that says why."""
    return dict(one_by_one(group, available(group)))


def nearest_first(group: Group, to: type) -> Iterator[tuple[str, type[Any]]]:
    """All that can be loaded, each when it is asked for: those of the package that `to` is of come first."""
    package = to.__module__.partition(".")[0]
    offered = offers(group)
    far = {name: all(each.module.partition(".")[0] != package for each in offered[name]) for name in offered}
    yield from one_by_one(group, sorted(available(group), key=far.__getitem__))


def one_by_one(group: Group, names: Sequence[str]) -> Iterator[tuple[str, type[Any]]]:
    """Those of these plug-ins that can be loaded. The others are left out, with one warning that says why."""
    skipped = []
    for name in names:
        try:
            cls = load(group, name)
        except UsageError as error:
            skipped.append(str(error).partition("\n")[0])
        else:
            yield name, cls
    if skipped:
        warnings.warn(f"skipped, as `maskseq doctor` lists: {'; '.join(skipped)}", stacklevel=3)


def listed(group: Group) -> str:
    """The names that can be used, for a hint, and why others cannot."""
    rows = inventory(group)
    broken = dict.fromkeys(row["loads"] for row in rows if row["loads"] != "yes")
    names = ", ".join(row["name"] for row in rows if row["loads"] == "yes") or "none"
    return names + (f"; not {'; '.join(broken)}" if broken else "")


def inventory(*groups: Group) -> list[dict[str, str]]:
    """Every installed plug-in: its name, group, package and version, and whether it loads or why not."""
    rows = []
    for group in groups or BASES:
        for name, points in sorted(offers(group).items()):
            try:
                load(group, name)
                loads = "yes"
            except UsageError as error:
                loads = " ".join(str(error).partition("\n\n")[0].split())
            rows += [
                {
                    "name": name,
                    "group": group,
                    "package": _origin(point),
                    "version": point.dist.version if point.dist else "",
                    "loads": loads,
                }
                for point in points
            ]
    return rows


def name_of(group: Group, cls: type) -> str:
    """The name that `load` finds the class by: its entry point's if it has one, else `module:Class`."""
    return entry_name(group, cls) or f"{cls.__module__}:{cls.__qualname__}"


def tokenizer_to_json(tokenizer: Tokenizer[Any]) -> dict[str, Any]:
    """What `tokenizer.json` and the corpus manifest hold."""
    return saved_form(tokenizer)


def tokenizer_from_json(
    saved: object, *, trust_code: Trust = False, known: Tokenizer[Any] | None = None, file: Path | str = ""
) -> Tokenizer[Any]:
    """Rebuild a saved tokenizer and check that it is the one that was saved.

    `known` is one that is here already: where it is the one that was saved, nothing is loaded. `file` is where it was
    saved, for errors.
    """
    form = checked_form(saved, file)
    name = form["name"]
    if known is not None:
        with fenced(known, "fields", file=file):
            other = difference(form, known)
        if other is None:
            return known
        if name == name_of("tokenizers", type(known)) and in_fields(form, known):
            raise another(name, other, file)
    cls = load("tokenizers", name, trust_code=trust_code)
    with fenced(cls, "from_state", file=file):
        tokenizer: Tokenizer[Any] = cls.from_state(renamed.of_state(identity_name("tokenizers", cls), form["state"]))
        other, _ = difference(form, tokenizer), tokenizer.vocabulary
    if other is not None:
        raise another(name, other, file)
    return tokenizer


def format_for(path: Path, name: str | None = None, **options: Any) -> Format[Any]:
    """The format that the caller calls `name`, or the one that reads files ending like `path`."""
    return open_format(path, name, options, trust_code=True)


def open_format(
    path: Path, name: str | None, options: dict[str, Any], *, trust_code: Trust, source: Path | str = ""
) -> Format[Any]:
    """The format called `name`, or the one that reads files ending like `path`; `source` is where options are from."""
    if name is not None:
        return _with_options(name, load("formats", name, trust_code=trust_code), options, source)
    plain = plain_name(path)
    formats = usable("formats")
    for candidate, cls in formats.items():
        if any(plain.endswith(suffix) for suffix in cls.suffixes):
            return _with_options(candidate, cls, options, source)
    known = sorted({suffix for cls in formats.values() for suffix in cls.suffixes})
    raise UsageError(
        f"{path}: no format reads files that end like this\n\n"
        f"hint: name one with --format ({listed('formats')}); known endings: {', '.join(known)}",
        code="unknown-file",
    )


def variants_for(path: Path) -> VariantFormat[Any]:
    """The format that reads variants from files ending like `path`."""
    plain = plain_name(path)
    formats = usable("variants")
    for each in formats.values():
        if plain.endswith(each.suffixes):
            return each()  # type: ignore[no-any-return]
    known = ", ".join(suffix for each in formats.values() for suffix in each.suffixes)
    raise UsageError(
        f"{path}: no format reads variants from files that end like this\n\nhint: known endings: {known}",
        code="unknown-file",
    )


def _imported(group: Group, name: str, point: EntryPoint) -> type[Any]:
    """The class that an entry point names. Whatever importing raises, exits with or lacks: a `UsageError`."""
    kind, base = group[:-1], BASES[group]
    try:
        found = point.load()
    except (Exception, SystemExit) as error:
        problem = " ".join(f"{type(error).__name__}: {error}".split())
        installed = name != point.value
        hint = (
            "pip install 'maskseq[genomics,events,signals]' installs what the built-in ones need"
            if installed
            else "the form is module:Class, and the module must be importable from here (installed, or its folder on "
            "PYTHONPATH)"
        )
        raise UsageError(
            f"{kind} {name!r}{f' of {_origin(point)}' * installed} cannot be imported: {problem}\n\nhint: {hint}",
            code="not-supported",
        ) from error
    if not (isinstance(found, type) and issubclass(found, base)):
        raise UsageError(
            f"{kind} {name!r}: {point.value} is not a subclass of maskseq's {base.__name__}", code="bad-option"
        )
    return found


def _with_options(name: str, cls: type[Any], options: dict[str, Any], source: Path | str) -> Format[Any]:
    """A format with its options, which are its dataclass fields; `UsageError` names a wrong one."""
    where = f"{source}: format {name!r}" if str(source) else f"format {name!r}"
    known = {field.name for field in fields(cls)} if is_dataclass(cls) else set()
    unknown = sorted(options.keys() - known)
    if unknown:
        raise UsageError(
            f"{where} has no option {unknown[0]!r} (options: {', '.join(sorted(known)) or 'none'})",
            code="unknown-option",
        )
    with fenced(cls, "__init__", file=source):
        if not options:
            return cls()  # type: ignore[no-any-return]
        try:
            return TypeAdapter(cls).validate_python(options)  # type: ignore[no-any-return]
        except ValidationError as error:
            option, problem = first_problem(error)
            raise UsageError(f"{where}, option {option}: {problem}", code="bad-option") from None


def _origin(point: EntryPoint) -> str:
    return point.dist.name if point.dist else point.value
