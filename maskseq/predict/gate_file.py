"""A gate stored with the checkpoint that it was fitted for: a JSON file outside its digests."""

import hashlib
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter, ValidationError

from maskseq.errors import DataError, first_problem
from maskseq.model.checkpoint import read_json, weights_digest
from maskseq.predict.blend import HOLES, Gate
from maskseq.storage.outputs import write
from maskseq.storage.run_folder import CheckpointFolder
from maskseq.storage.standard_json import to_json

HINT = "hint: `maskseq blend` fits it again"
MOST, LARGEST = 1 << 20, 1000
"""Weights of a file that is read: how many, and how large."""


@dataclass(frozen=True, kw_only=True)
class StoredGate:
    """A gate, and what it is true of."""

    checkpoint: str
    """SHA-256 of the weights that it was fitted for."""
    experts: tuple[str, ...]
    """Their names: the columns of the weights."""
    weights: tuple[tuple[float, ...], ...]
    """A row for each class of cells."""
    corpus: str
    """Fingerprint of the corpus that the experts are counted on."""
    corpus_path: str = ""
    """Where it lay; "": in the run folder."""
    holes: tuple[int, ...] = HOLES
    """Lengths of holes from which on a class begins."""
    n_cells: int = 0
    n_regions: int = 0
    """What it was fitted on: records, or stretches of long ones."""
    form: str = ""
    """Fitted weights, equal ones, or the expert that is taken alone."""
    fitted_on: str = ""
    """Which data."""
    bits: dict[str, float] = field(default_factory=dict)
    """A cell, of each form that was compared, on regions left out."""
    notes: tuple[str, ...] = ()
    """What there is to know about the fit, in words."""

    def __post_init__(self) -> None:
        n = len(self.experts)
        if not n or len(set(self.experts)) < n or not self.weights:
            raise ValueError("a gate weighs at least one expert, each once")
        if len(self.weights) * n > MOST or any(len(row) != n for row in self.weights):
            raise ValueError(f"each class has as many weights as there are experts: {n}")
        if any(not 0 <= weight <= LARGEST for row in self.weights for weight in row) or not all(map(any, self.weights)):
            raise ValueError(f"weights are numbers from 0 to {LARGEST}, and not all of a class are 0")

    @property
    def gate(self) -> Gate:
        return Gate(np.array(self.weights, np.float64), self.n_cells)

    def reported(self) -> str:
        """What was found, in one line: figures are of cells whose regions the weights were not fitted on."""
        if not self.bits:
            return f"blend: {self.form} for {', '.join(self.experts)} ({'; '.join(self.notes)})"
        found = ", ".join(f"{name} {bits:.3f}" for name, bits in sorted(self.bits.items(), key=lambda each: each[1]))
        return f"blend: {self.form} ({'; '.join(self.notes)}); bits a cell: {found}"

    @property
    def digest(self) -> str:
        """Of all that decides the answers, given the checkpoint."""
        decisive = (self.checkpoint, self.experts, self.weights, self.corpus, self.holes)
        return hashlib.sha256(to_json(decisive, lossless=True).encode()).hexdigest()


_ADAPTER = TypeAdapter(StoredGate)


def write_gate(checkpoint: Path, gate: StoredGate) -> Path:
    """Write it into the checkpoint folder, in place of an earlier one; nothing else there is touched."""
    path = CheckpointFolder(checkpoint).gate
    write(path, to_json(_ADAPTER.dump_python(gate), lossless=True, indent=1))
    return path


def read_gate(checkpoint: Path) -> StoredGate | None:
    """The one that lies in the checkpoint folder; None, with a warning, for one that is broken or of other weights."""
    path = CheckpointFolder(checkpoint).gate
    if not path.exists():
        return None
    problem = None
    try:
        found = _ADAPTER.validate_python(read_json(path))
    except ValidationError as error:
        problem = ": ".join(first_problem(error)).removeprefix(": ")
    except DataError as error:
        problem = error.problem
    else:
        if found.checkpoint != weights_digest(checkpoint):
            problem = "was fitted for other weights than those of this checkpoint"
        elif found.holes != HOLES:
            problem = f"has classes of holes from {found.holes} on, and this version has {HOLES}"
        else:
            return found
    warnings.warn(f"{path}: {problem}; the encoder predicts alone\n\n{HINT}", stacklevel=2)
    return None
