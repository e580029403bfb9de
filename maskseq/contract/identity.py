"""Whether a tokenizer is the one that a folder was made with: its name, state and fields, down to the first token."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maskseq.contract import renamed
from maskseq.contract.installed import entry_name, identity_name
from maskseq.errors import DataError, UsageError
from maskseq.storage.standard_json import to_json
from maskseq.tokenizer import Tokenizer, has_default

HINT = (
    "install the version of the plug-in that the folder was made with; a vocabulary that is made from a set has "
    "another order in each process: sort it"
)


def saved_form(tokenizer: Tokenizer[Any]) -> dict[str, Any]:
    """What a folder keeps of a tokenizer: by what name it is found, how it is made again, and what its ids mean."""
    cls = type(tokenizer)
    return {
        "name": entry_name("tokenizers", cls) or f"{cls.__module__}:{cls.__qualname__}",
        "state": tokenizer.state(),
        "fingerprint": former_fingerprint(tokenizer),  # older versions read folders, too
        "fields": _fields(tokenizer),
    }


def checked_form(saved: object, file: Path | str) -> dict[str, Any]:
    """What was read from `file`, which must be a saved tokenizer."""
    kinds = {"name": str, "state": dict, "fingerprint": str}
    if isinstance(saved, dict) and all(isinstance(saved.get(key), kind) for key, kind in kinds.items()):
        return saved
    raise DataError(file, "is not a saved tokenizer: it needs a name, a state and a fingerprint", code="damaged-file")


def another(name: str, difference: str, file: Path | str) -> UsageError:
    """The error that says how a tokenizer is another than the one of a folder."""
    where = f"{file}: " if str(file) else ""
    return UsageError(
        f"{where}tokenizer {name!r} is another here than it was: {difference}\n\nhint: {HINT}", code="other-tokenizer"
    )


def former_fingerprint(tokenizer: Tokenizer[Any], saved: Mapping[str, Any] | None = None) -> str:
    """SHA-256 of module, class and state, by which folders used to know a tokenizer, without its fields.

    Of one that was rebuilt from a `saved` form, under the module and with the options that were saved.
    """
    cls = type(tokenizer)
    called = identity_name("tokenizers", cls)
    module, name = renamed.CLASSES.get(called, (cls.__module__, cls.__qualname__))
    state = tokenizer.state()
    if saved is not None:
        given, _, own = saved["name"].partition(":")
        module, name = (given, own) if own else (module, name)
        today = renamed.STATE.get(called, {})
        state = {key: state[now] for key in saved["state"] if (now := today.get(key, key)) in state}
    identity = json.dumps([module, name, state], sort_keys=True)
    return hashlib.sha256(identity.encode()).hexdigest()


def is_named(fingerprint: object, tokenizer: Tokenizer[Any]) -> bool:
    """Whether a fingerprint, of today's kind or of the one before, is the tokenizer's."""
    return fingerprint in (tokenizer.fingerprint, former_fingerprint(tokenizer))


def difference(saved: Mapping[str, Any], tokenizer: Tokenizer[Any]) -> str | None:
    """How a tokenizer differs from a saved one, in words; None if it does not.

    What was saved before fields were is known by its state alone.
    """
    own, name = identity_name("tokenizers", type(tokenizer)), str(saved["name"])
    if own != name and type(tokenizer).__qualname__ != name.rpartition(":")[2]:
        return f"it is {name!r} there and {own!r} here"
    reported = _in_state(renamed.of_state(own, saved["state"]), tokenizer)
    if reported is None and "fields" in saved:
        return in_fields(saved, tokenizer)
    if reported is None and former_fingerprint(tokenizer, saved) != saved["fingerprint"]:
        return f"its state does not have the fingerprint {saved['fingerprint'][:8]} of before: it was edited"
    return reported


def in_fields(saved: Mapping[str, Any], tokenizer: Tokenizer[Any]) -> str | None:
    """The first field, and of its tokens the first one, that are others than those saved; None if none is known to."""
    if "fields" not in saved:
        return None
    ours = _fields(tokenizer)
    theirs = saved["fields"] if isinstance(saved["fields"], list) else []
    names = [[each.get("name") if isinstance(each, dict) else None for each in side] for side in (theirs, ours)]
    if names[0] != names[1]:
        return f"its fields are {_listed(names[0])} there and {_listed(names[1])} here"
    for old, new, field in zip(theirs, ours, tokenizer.fields, strict=True):
        for key in ("tokens", "controls", "centres", *sorted(old.keys() | new.keys())):
            there = old[key] if key in old else new.get(key) if has_default(field, key) else None
            if there != new.get(key):
                return f"field {field.name!r}, {_first(key, there, new.get(key))}"
    return None


def _in_state(saved: Mapping[str, Any], tokenizer: Tokenizer[Any]) -> str | None:
    ours = _as_read(tokenizer.state())
    for key in sorted(saved.keys() | ours.keys()):
        if key in saved and key in ours and saved[key] == ours[key]:
            continue
        if key not in saved and has_default(tokenizer, key):
            continue
        return f"its option {key} is {_short(saved.get(key))} there and {_short(ours.get(key))} here"
    return None


def _first(key: str, there: Any, here: Any) -> str:
    """The first place where two lists differ, or two values."""
    if not (isinstance(there, list) and isinstance(here, list)):
        return f"{key}: {_short(there)} there and {_short(here)} here"
    if len(there) != len(here) and there[: len(here)] == here[: len(there)]:
        return f"{key}: {len(there):,} of them there and {len(here):,} here"
    at = next(index for index, pair in enumerate(zip(there, here, strict=False)) if pair[0] != pair[1])
    return f"{key}: number {at} is {_short(there[at])} there and {_short(here[at])} here"


def _fields(tokenizer: Tokenizer[Any]) -> list[dict[str, Any]]:
    fields: list[dict[str, Any]] = _as_read([dataclasses.asdict(field) for field in tokenizer.fields])
    return fields


def _as_read(value: Any) -> Any:
    """As it comes back from a file."""
    return json.loads(to_json(value, lossless=True))


def _listed(names: list[Any]) -> str:
    return ", ".join(map(str, names[:8])) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _short(value: Any) -> str:
    text = to_json(value, ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."
