"""What a long command has done so far, kept on disk: after a kill, the same work is not done again.

Batches of windows are a pure function of what is filled or scored, and so is what comes of them. It is kept under a
digest of all that went into it. Asked again for the same batch, the journal answers with the same bits; for any other
it knows none.
"""

import hashlib
import json
import shutil
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import numpy as np

from maskseq.predict.protocol import Fill
from maskseq.predict.stated import Stated
from maskseq.storage.outputs import replacing
from maskseq.storage.standard_json import to_json

IDENTITY = "identity.json"
_OF_CELLS = tuple(field.name for field in fields(Fill) if field.default is MISSING and field.name != "n_passes")
_STATED = ("mean", "quantiles")
_OPTIONAL = ("numbers", "experts")


class Journal:
    """Fills of one sample each, or other arrays, by batch, in a folder that belongs to one piece of work."""

    def __init__(self, folder: Path, identity: dict[str, Any]) -> None:
        """`identity` is all that decides the results but the batches; a journal of other work is emptied."""
        self.folder = folder
        reported = to_json(identity, lossless=True, sort_keys=True)
        if _identity_in(folder) != json.loads(reported):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            (folder / IDENTITY).write_text(reported, encoding="utf-8")

    def place(self, inputs: Sequence[np.ndarray | None]) -> Path:
        """Where what comes of a batch with these inputs is on record, or will be."""
        return self.folder / f"{_digest(inputs)}.npz"

    def arrays(
        self, inputs: Sequence[np.ndarray | None], make: Callable[[], dict[str, np.ndarray]]
    ) -> dict[str, np.ndarray]:
        """Arrays that come of a batch: those on record, or those made now and put on record."""
        path = self.place(inputs)
        found = _saved(path)
        if found is None:
            found = make()
            _save(path, found)
        return found


def _identity_in(folder: Path) -> Any:
    """What a journal says that it is of; None if nothing does. Which version began it, as some say, does not count."""
    try:
        found = json.loads((folder / IDENTITY).read_text(encoding="utf-8"))
        return {key: value for key, value in found.items() if key != "maskseq"}
    except (OSError, ValueError, AttributeError, RecursionError):
        return None


def write_fills(path: Path, fills: Sequence[Fill]) -> None:
    """Put the fills of a batch on record, of one sample each."""
    joined = Fill.joined([fills])
    arrays = {name: getattr(joined, name) for name in _OF_CELLS}
    arrays |= {name: getattr(joined, name) for name in _OPTIONAL if getattr(joined, name) is not None}
    if joined.stated is not None:
        arrays |= {"mean": joined.stated.mean, "quantiles": joined.stated.quantiles}
    counts = np.array([len(fill.cells) for fill in fills])
    passes = np.array([int(fill.n_passes[0]) for fill in fills])
    _save(path, {"counts": counts, "passes": passes, **arrays})


def _save(path: Path, arrays: dict[str, Any]) -> None:
    with replacing(path) as aside, aside.open("wb") as file:
        np.savez(file, **arrays)


def _saved(path: Path) -> dict[str, np.ndarray] | None:
    """Arrays on record; None if there are none, or they are damaged (each has a CRC-32)."""
    try:
        with path.open("rb") as file, np.load(file) as saved:
            return {name: saved[name] for name in saved.files}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def read_fills(path: Path) -> list[Fill] | None:
    """The fills of a batch, if they are on record."""
    arrays = _saved(path)
    if arrays is None or not {*_OF_CELLS, "counts", "passes"} <= arrays.keys():
        return None
    ends = np.cumsum(arrays.pop("counts"))
    passes = arrays.pop("passes")
    parts = {
        name: np.split(array, ends[:-1], axis=0 if name in ("cells", "marginals", *_STATED) else 1)
        for name, array in arrays.items()
    }
    stated = [Stated(*each) for each in zip(*(parts.pop(name) for name in _STATED if name in parts), strict=True)]
    return [
        Fill(
            n_passes=passes[i : i + 1],
            stated=stated[i] if stated else None,
            **{name: each[i] for name, each in parts.items()},
        )
        for i in range(len(ends))
    ]


def _digest(inputs: Sequence[np.ndarray | None]) -> str:
    digest = hashlib.sha256()
    for each in inputs:
        array = np.ascontiguousarray(np.empty(0) if each is None else each)
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()[:40]
