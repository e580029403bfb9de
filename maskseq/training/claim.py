"""Whose a run folder is: the identity of the run that lies in it, and how another one differs."""

import json
import os
from collections.abc import Callable, Mapping
from typing import Any

from maskseq.errors import UsageError
from maskseq.model.checkpoint import read_json
from maskseq.storage.outputs import write
from maskseq.storage.run_folder import RunFolder
from maskseq.storage.standard_json import to_json

Canonical = Callable[[Mapping[str, Any]], dict[str, Any]]
"""What two identities are compared as, one of them perhaps of an older version."""


def claim(run: RunFolder, identity: dict[str, Any], canonical: Canonical = dict) -> None:
    """Make `run` the folder of the run that `identity` describes, new or begun before.

    `UsageError` when the folder holds a run of another identity, naming where the two differ, or holds something else.
    """
    identity = json.loads(to_json(identity, lossless=True))  # as it will be read back: tuples are lists
    if run.recipe.exists():
        differences = _differences(canonical(read_json(run.recipe)), canonical(identity))
        if differences:
            raise UsageError(
                f"{run.path} holds another run: {'; '.join(differences[:3])}"
                + (f" and {len(differences) - 3} more differences" if len(differences) > 3 else "")
                + "\n\nhint: choose another output folder, or go on from this run with --extend",
                code="other-data",
            )
        return
    for path in run.results:
        if os.path.lexists(path):
            raise UsageError(
                f"{run.path} holds {path.name} but no {run.recipe.name}: it is not a run that could go on",
                code="foreign-folder",
            )
    write(run.recipe, to_json(identity, lossless=True, ascii=False, indent=1))


def _differences(old: Any, new: Any, where: str = "") -> list[str]:
    """Where two JSON values differ, as `key: old there, new here`."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted(old.keys() | new.keys())
        return [d for key in keys for d in _differences(old.get(key), new.get(key), f"{where}.{key}".lstrip("."))]
    return [] if old == new else [f"{where or 'recipe'} is {_short(old)} there and {_short(new)} here"]


def _short(value: Any) -> str:
    text = to_json(value, ascii=False)
    return text if len(text) <= 40 else text[:37] + "..."
