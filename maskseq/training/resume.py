"""What a run goes on from: its own newest checkpoint, the checkpoint of another run, or nothing."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from maskseq.model import checkpoint
from maskseq.model.choice import Kernels
from maskseq.model.encoder import Encoder
from maskseq.storage.run_folder import CheckpointFolder, RunFolder
from maskseq.training import state
from maskseq.training.device import choose_precision
from maskseq.training.spec import TrainingSpec
from maskseq.training.state import Position


@dataclass(frozen=True, kw_only=True)
class Start:
    """Where a run stands before its next step, and how it computes."""

    position: Position
    precision: str
    kernels: Kernels
    checkpoint: Path | None
    """What holds its weights and moments; None: the run is new."""
    own: bool
    """Whether that checkpoint is one of this run."""
    moments: bool
    """Whether its moments are those of the run's optimizer."""


def resume(
    model: Encoder, spec: TrainingSpec, run: RunFolder, device: torch.device, *, warn: Callable[[str], object]
) -> Start:
    """Give the model the weights that the run goes on from, if there are some, and the kernels that it computes with.

    Warns of moments that the run cannot take up.
    """
    own, optimizer = newest(run, warn), spec.optimizer.name
    source = own or (spec.origin.checkpoint if spec.origin else None)
    position, precision, moments = Position(), choose_precision(spec.config.precision, device), False
    saved = None
    if source:
        checkpoint.check_tokenizer(source, spec.tokenizer, state=own is not None)
        saved = state.read_saved(source)
        moments = saved.optimizer == optimizer
        if own:
            position, precision = saved.position, saved.precision
        elif spec.origin:
            position = spec.origin.position
            if not moments:
                warn(f"{optimizer} begins with new moments: {source} holds {saved.optimizer}'s")
        weights = CheckpointFolder(source).model
        checkpoint.fill(model, checkpoint.read_tensors(weights), weights)
    kind = device.type, torch.bfloat16 if precision == "bf16" else torch.float32, model.config.head_size
    kernels = (saved.kernels or Kernels.unrecorded(*kind)).usable(*kind) if own and saved else Kernels.here(*kind)
    model.compute_with(kernels)
    return Start(
        position=position,
        precision=precision,
        kernels=kernels,
        checkpoint=source,
        own=own is not None,
        moments=moments,
    )


def newest(run: RunFolder, warn: Callable[[str], object]) -> Path | None:
    """The checkpoint of this run to go on from, if there is one."""
    return checkpoint.newest_checkpoint(run.path, warn) if checkpoint.checkpoints(run.path) else None
