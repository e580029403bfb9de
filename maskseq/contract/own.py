"""Parts of a user's own, named `module:name` in a recipe or handed over as a callable in Python.

A callable in a recipe is called by its module and name there, and kept for this process. Recipes and options that a
user gives are meant; a name that a folder holds is looked up only where that call trusts it. `found` has what was
looked up before: so what runs long after the recipe was read needs no word about trust.
"""

from collections.abc import Callable, Iterable
from importlib.metadata import EntryPoint
from typing import Any, Literal

from maskseq.errors import MaskseqError, PluginError, UsageError
from maskseq.plugins import Trust

Kind = Literal[
    "order", "objective", "optimizer", "schedule", "loss", "head", "baseline", "expert", "callback", "acceptance"
]
_HANDED: dict[str, Any] = {}
"""Callables that Python code has put in the place of a name."""
_FOUND: dict[str, Any] = {}
"""What was looked up in this process, by name."""


def is_own(name: object) -> bool:
    """Whether a name means a part of the user's own rather than one of ours."""
    return isinstance(name, str) and ":" in name


def named(part: Any) -> str:
    """The name of a callable, under which it is found in this process; `TypeError` for what is none."""
    if not callable(part):
        raise TypeError(f"{type(part).__name__} is neither a value of a recipe nor a part that can be called")
    name = f"{part.__module__}:{getattr(part, '__qualname__', type(part).__qualname__)}"
    _HANDED[name] = part
    return name


def look_up(kind: Kind, name: str, *, trust_code: Trust) -> Any:
    """The part of this name, imported where `trust_code` allows it.

    Raises:
        UsageError: It is not trusted, cannot be imported, or cannot be called.
    """
    if trust_code is not True and name not in (trust_code or ()):
        raise UsageError(
            f"this folder needs the {kind} {name!r}, which is code of its own\n\n"
            f"hint: pass --trust-code (trust_code=True in Python) if you know where the folder comes from",
            code="untrusted-code",
        )
    part = _HANDED.get(name)
    if part is None:
        try:
            part = EntryPoint(name, name, "maskseq.own").load()
        except (Exception, SystemExit) as error:
            problem = " ".join(f"{type(error).__name__}: {error}".split())
            raise UsageError(
                f"{kind} {name!r} cannot be imported: {problem}\n\nhint: the form is module:name, and the module must "
                f"be importable from here (installed, or its folder on PYTHONPATH)",
                code="not-supported",
            ) from error
    if not callable(part):
        raise UsageError(f"{kind} {name!r} is a {type(part).__name__}, which cannot be called", code="not-supported")
    _FOUND[name] = part
    return part


def found(kind: Kind, name: str) -> Callable[..., Any]:
    """The part of a name that was looked up before; what it raises is reported as its fault."""
    part = _FOUND.get(name)
    if part is None:
        raise UsageError(
            f"{kind} {name!r} was not looked up in this process: it needs trust where it is first named",
            code="untrusted-code",
        )

    def fenced(*given: Any, **options: Any) -> Any:
        try:
            return part(*given, **options)
        except (MaskseqError, OSError, MemoryError, KeyboardInterrupt):
            raise
        except (Exception, SystemExit) as error:
            problem = " ".join(f"{type(error).__name__}: {error}".split())
            raise PluginError(f"{kind} {name!r}", problem) from error

    return fenced


def refuse_other_names(kind: Kind, name: str, known: Iterable[str], *, key: str = "") -> None:
    """`UsageError` for a name that is neither one of ours nor of the form `module:name`."""
    known = list(known)
    if name not in known and not is_own(name):
        raise UsageError(
            f"{key}there is no {kind} {name!r}\n\nhint: {', '.join(known)}, or your own as module:name",
            code="unknown-name",
        )
