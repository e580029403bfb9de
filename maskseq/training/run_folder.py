"""The run folder: whose it is, who is at work in it, and the metrics that grow in it."""

import dataclasses
import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from maskseq.errors import UsageError
from maskseq.model.checkpoint import read_json
from maskseq.storage.outputs import explained, write
from maskseq.storage.standard_json import to_json
from maskseq.training.events import CheckpointSaved, Finished, Started, Step, Stopped, Tested, Validation
from maskseq.training.metrics import METRICS

RECIPE = "recipe.json"

Recorded = Started | Step | Validation | Tested | CheckpointSaved | Stopped | Finished
KINDS: dict[type, str] = {
    Started: "started",
    Step: "step",
    Validation: "validation",
    Tested: "test",
    CheckpointSaved: "checkpoint",
    Stopped: "stopped",
    Finished: "finished",
}
"""The `kind` of a line in `metrics.jsonl`. Steps and validations are those of one undisturbed run, each once; the
others tell of the processes that made it."""


Canonical = Callable[[Mapping[str, Any]], dict[str, Any]]
"""What two identities are compared as, one of them perhaps of an older version."""


def claim(run: Path, identity: dict[str, Any], canonical: Canonical = dict) -> None:
    """Make `run` the folder of the run that `identity` describes, new or begun before.

    `UsageError` when the folder holds a run of another identity, naming where the two differ, or holds something else.
    """
    identity = json.loads(to_json(identity, lossless=True))  # as it will be read back: tuples are lists
    recipe = run / RECIPE
    if recipe.exists():
        differences = _differences(canonical(read_json(recipe)), canonical(identity))
        if differences:
            raise UsageError(
                f"{run} holds another run: {'; '.join(differences[:3])}"
                + (f" and {len(differences) - 3} more differences" if len(differences) > 3 else "")
                + "\n\nhint: choose another output folder, or go on from this run with --extend"
            )
        return
    for name in ("checkpoints", METRICS, "latest", "report.html"):  # which would be cut or replaced
        if os.path.lexists(run / name):
            raise UsageError(f"{run} holds {name} but no {RECIPE}: it is not a run that could go on")
    write(recipe, to_json(identity, lossless=True, ascii=False, indent=1))


class Metrics:
    """`metrics.jsonl`: one JSON object a line, in order of steps, however often the run was interrupted."""

    def __init__(self, run: Path, *, step: int, write: bool = True) -> None:
        """Append after `step`: what a lost future or a cut last line has left behind it is dropped.

        `write=False` is for the ranks that do not write.
        """
        path = run / METRICS
        self._file = _cut(path, step).open("a", encoding="utf-8") if write else None

    def write(self, event: Recorded) -> None:
        """One line, flushed: the event's class as its `kind`, the time, and what it says."""
        if self._file is not None:
            values = dataclasses.asdict(event)
            if isinstance(event, Step | Validation | Tested):
                split, whole = values.pop("scores"), event.scores.all
                del split["all"]
                values |= {"loss": whole.loss, "bits": whole.bits, "accuracy": whole.accuracy, "cells": whole.cells}
                values |= split
            line = {"kind": KINDS[type(event)], "time": round(time.time(), 3), **values}
            with explained(Path(self._file.name)):
                self._file.write(to_json(line) + "\n")
                self._file.flush()

    def sync(self) -> None:
        """Down to the disk, before a checkpoint claims that these steps were made."""
        if self._file is not None:
            with explained(Path(self._file.name)):
                os.fsync(self._file.fileno())

    def close(self) -> None:
        if self._file is not None:
            with explained(Path(self._file.name)):
                self._file.close()


def _cut(path: Path, step: int) -> Path:
    """Drop the lines of later steps and what is no whole line."""
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    kept = [line for line in lines if line.endswith(b"\n") and _step_of(line) <= step]
    if len(kept) < len(lines):
        write(path, b"".join(kept))
    return path


def _step_of(line: bytes) -> float:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")


def _differences(old: Any, new: Any, where: str = "") -> list[str]:
    """Where two JSON values differ, as `key: old there, new here`."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted(old.keys() | new.keys())
        return [d for key in keys for d in _differences(old.get(key), new.get(key), f"{where}.{key}".lstrip("."))]
    return [] if old == new else [f"{where or 'recipe'} is {_short(old)} there and {_short(new)} here"]


def _short(value: Any) -> str:
    text = to_json(value, ascii=False)
    return text if len(text) <= 40 else text[:37] + "..."
