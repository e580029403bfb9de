"""`metrics.jsonl` as a run writes it; `metrics.py` reads it."""

import dataclasses
import json
import os
import time
from pathlib import Path

from maskseq.storage.outputs import explained, write
from maskseq.storage.run_folder import RunFolder
from maskseq.storage.standard_json import to_json
from maskseq.training.events import CheckpointSaved, Finished, PlateauEnded, Started, Step, Stopped, Tested, Validation

Recorded = Started | Step | Validation | Tested | PlateauEnded | CheckpointSaved | Stopped | Finished
KINDS: dict[type, str] = {
    Started: "started",
    Step: "step",
    Validation: "validation",
    Tested: "test",
    PlateauEnded: "plateau",
    CheckpointSaved: "checkpoint",
    Stopped: "stopped",
    Finished: "finished",
}
"""The `kind` of a line in `metrics.jsonl`. Steps, validations and the end of a plateau are those of one undisturbed
run, each once; the others are about the processes that made it."""


class MetricsWriter:
    """`metrics.jsonl`: one JSON object a line, in order of steps, however often the run was interrupted."""

    def __init__(self, run: RunFolder, *, step: int, write: bool = True) -> None:
        """Append after `step`: what a lost future or a cut last line has left behind it is dropped.

        `write=False` is for the ranks that do not write.
        """
        self._file = _cut(run.metrics, step).open("a", encoding="utf-8") if write else None

    def write(self, event: Recorded) -> None:
        """One line, flushed: the event's class as its `kind`, the time, and what it says."""
        if self._file is not None:
            values = dataclasses.asdict(event)
            if isinstance(event, Step | Validation | Tested):
                split, whole = values.pop("scores"), event.scores.all
                del split["all"]
                values |= {"loss": whole.loss, "bits": whole.bits, "accuracy": whole.accuracy, "cells": whole.cells}
                values |= {name: each for name, each in split.items() if each or name not in ("by_protocol", "skills")}
            if isinstance(event, Validation):
                values["merit"] = event.scores.merit
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
    """Drop the lines of later steps and incomplete lines."""
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
