"""What a checkpoint says about a run in progress, read back exactly on any number of ranks.

`checkpoint_writer.py` writes it: `checkpoints/step_N/training_state` holds one `rank_R.safetensors` for each rank that
has something of its own, and `layout.json`, which says where the parts of each tensor are and where the run stood.
Model, tokenizer and digests of the checkpoint are `maskseq.model.checkpoint`'s.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from maskseq.errors import DataError
from maskseq.model.checkpoint import check, newest_checkpoint, read_json
from maskseq.model.choice import Kernels
from maskseq.storage.folder import inside
from maskseq.storage.run_folder import CheckpointFolder, RunFolder


@dataclass(frozen=True, kw_only=True)
class Position:
    """Where a run stands. With the seed this is everything that order, masks and dropout depend on."""

    step: int = 0
    row: int = 0
    """The global number of the next row: the whole state of the data."""
    tokens: int = 0
    """Tokens seen in this stage; filler is not counted."""
    stage: int = 0
    earlier_tokens: int = 0
    """Tokens seen in the stages before this one."""
    decay_from: int | None = None
    """The tokens after which the plateau was ended before its time, the weights being those of the best checkpoint."""
    ended: bool = False
    """Whether a callback has ended the run here."""


@dataclass(frozen=True, kw_only=True)
class Saved:
    """What `layout.json` says about a checkpoint."""

    position: Position
    precision: str
    """What `auto` was resolved to, so that a run that moves to another machine computes as before."""
    kernels: Kernels | None = None
    """Those that were chosen when the run began, for the same reason; None: the run is older than this record."""
    optimizer: str
    """Whose moments the tensors are."""
    keep: bool
    """Whether the checkpoint stays when newer ones push out others."""


@dataclass(frozen=True)
class Origin:
    """The checkpoint that a new run begins from, with its weights and moments, and the position it begins at."""

    checkpoint: Path
    position: Position


def next_stage(source: Path, warn: Callable[[str], object] = warnings.warn) -> Origin:
    """Begin a new stage, such as a longer context, from a checkpoint or the newest one of a run.

    Rows, tokens and schedules count from 0 again.
    """
    checkpoint = _sound_checkpoint(source, warn)
    before = read_saved(checkpoint).position
    position = Position(stage=before.stage + 1, earlier_tokens=before.earlier_tokens + before.tokens)
    return Origin(checkpoint, position)


def branch(source: Path, warn: Callable[[str], object] = warnings.warn) -> Origin:
    """Go on from a checkpoint, or the newest one of a run, under another recipe: another length, tail or learning rate.

    Rows and tokens go on counting, so that a stable run and a branch that decays are together one run.
    """
    checkpoint = _sound_checkpoint(source, warn)
    return Origin(checkpoint, replace(read_saved(checkpoint).position, decay_from=None, ended=False))


def identity(origin: Origin) -> dict[str, Any]:
    """What identifies an origin wherever its folder is moved to."""
    return {"stage": origin.position.stage, "digests": read_json(CheckpointFolder(origin.checkpoint).digests)}


def read_saved(checkpoint: Path) -> Saved:
    """Where the run stood; `DataError` when the file does not say."""
    path = CheckpointFolder(checkpoint).layout
    layout = read_json(path)
    try:
        return Saved(
            position=Position(**layout["position"]),
            precision=str(layout["precision"]),
            kernels=None if layout.get("kernels") is None else Kernels(**layout["kernels"]),
            optimizer=str(layout["optimizer"]),
            keep=bool(layout["keep"]),
        )
    except (KeyError, TypeError) as error:
        raise DataError(path, f"is not a training state of this version ({error})", code="damaged-file") from None


def read_tensors(checkpoint: Path, adapt: Callable[[str, Tensor], Tensor]) -> dict[str, Tensor]:
    """All state tensors, each put together from its parts and handed to `adapt(name, tensor)` before the next.

    So a rank of a sharded run holds one whole tensor at a time, and any number of ranks can read what any other
    number has written.
    """
    folder = CheckpointFolder(checkpoint).state
    layout = read_json(CheckpointFolder(checkpoint).layout)["tensors"]
    tensors = {}
    try:
        files = {name: safe_open(folder / inside(folder, name), "pt") for names in layout.values() for name in names}
        for name, where in layout.items():
            parts = [files[file].get_tensor(name) for file in where]  # type: ignore[no-untyped-call]
            tensors[name] = adapt(name, torch.cat(parts) if len(parts) > 1 else parts[0])
    except (OSError, SafetensorError) as error:
        raise DataError(folder, f"is not a whole training state ({error})", code="damaged-file") from None
    return tensors


def _sound_checkpoint(source: Path, warn: Callable[[str], object]) -> Path:
    if RunFolder(source).checkpoints.is_dir():
        return newest_checkpoint(source, warn)
    check(source)
    return source


def n_shards(length: int, world: int) -> int:
    """How many ranks hold rows of a tensor that FSDP2 cuts along dimension 0, as `torch.chunk` does."""
    return -(-length // -(-length // world))


def rank_file(rank: int) -> str:
    """The name of a rank's part."""
    return f"rank_{rank}.safetensors"
