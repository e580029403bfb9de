"""A fine-tuned network, on disk and at work: an encoder's checkpoint, with a head and the task in the same folder.

The folder is a checkpoint like any other, so that `embed` and `infill` open it, too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from pydantic import TypeAdapter, ValidationError

from maskseq.contract.own import is_own, look_up
from maskseq.errors import DataError, UsageError
from maskseq.model.checkpoint import (
    compare,
    read_json,
    read_shapes,
    read_tensors,
    save_model,
    write_json,
    write_tensors,
)
from maskseq.model.encoder import Encoder
from maskseq.plugins import Trust
from maskseq.storage.run_folder import CheckpointFolder
from maskseq.tasks.config import TaskConfig
from maskseq.tasks.examples import TaskExample
from maskseq.tasks.fit import network_outputs
from maskseq.tasks.network import TaskNetwork, task_network
from maskseq.tasks.targets import TargetSpace
from maskseq.tokenizer import Tokenizer
from maskseq.training.device import choose_device

FORMAT = 1
COVERAGE = 0.9
"""Coverage of the intervals that predicted numbers get."""


@dataclass(frozen=True, kw_only=True)
class TaskModel:
    """A network, what its outputs mean, and how sure it is."""

    config: TaskConfig
    space: TargetSpace
    network: TaskNetwork
    tokenizer: Tokenizer[Any]
    temperature: float = 1.0
    half_width: float = 0.0
    """Half the width of an interval around a predicted number; infinite where too few errors were seen to bound it."""

    @property
    def context(self) -> int:
        return self.network.encoder.config.max_positions

    def outputs(self, examples: Sequence[TaskExample]) -> Float[np.ndarray, "answers outputs"]:
        """Outputs for each label, before they are probabilities."""
        fit = self.config.training
        device = choose_device(fit.device)
        views = self.tokenizer.symmetries() if fit.symmetries else ()
        return network_outputs(self.network.to(device), examples, views, device, torch.float32)

    def predict(self, examples: Sequence[TaskExample]) -> Float[np.ndarray, "answers columns"]:
        """Calibrated probabilities of all classes, or values."""
        return self.space.predictions(self.outputs(examples), self.temperature)


def save_task(folder: Path, model: TaskModel) -> None:
    """Write the encoder, the head and the task into `folder` and seal it, with whatever else is in it."""
    folder.mkdir(exist_ok=True)
    paths = CheckpointFolder(folder)
    head = {name: value.detach().cpu().contiguous() for name, value in model.network.head.state_dict().items()}
    write_tensors(paths.task_head, head)
    task = {
        "format": FORMAT,
        "task": TypeAdapter(TaskConfig).dump_python(model.config, mode="json"),
        "targets": model.space.to_json(),
        "temperature": model.temperature,
        "half_width": model.half_width,
    }
    write_json(paths.task, task)
    save_model(folder, model.network.encoder.cpu(), model.tokenizer)


def load_task(folder: Path, encoder: Encoder, tokenizer: Tokenizer[Any], *, trust_code: Trust = False) -> TaskModel:
    """The task of a fine-tuned checkpoint; `UsageError` where there is none, `DataError` where it does not fit."""
    paths = CheckpointFolder(folder)
    if not paths.task.exists():
        raise UsageError(
            f"{folder} was not fine-tuned: it has no {paths.task.name}\n\n"
            f"hint: `maskseq finetune {folder} task.toml --output FOLDER` makes such a folder",
            code="not-supported",
        )
    saved = read_json(paths.task)
    if saved.get("format") != FORMAT:
        raise DataError(
            paths.task, f"has format {saved.get('format')!r}; this version reads format {FORMAT}", code="damaged-file"
        )
    try:
        config: TaskConfig = TypeAdapter(TaskConfig).validate_python(saved["task"])
        space: TargetSpace = TypeAdapter(TargetSpace).validate_python(saved["targets"])
        numbers = float(saved["temperature"]), float(saved["half_width"])
    except (KeyError, TypeError, ValidationError) as error:
        raise DataError(
            paths.task, f"is not a task ({' '.join(str(error).split())[:200]})", code="damaged-file"
        ) from None
    if is_own(config.head.kind):
        look_up("head", str(config.head.kind), trust_code=trust_code)
    network = task_network(config, encoder, space.n_outputs)
    expected = {name: tuple(value.shape) for name, value in network.head.state_dict().items()}
    compare(expected, read_shapes(paths.task_head), paths.task_head)
    network.head.load_state_dict(read_tensors(paths.task_head))
    return TaskModel(
        config=config,
        space=space,
        network=network,
        tokenizer=tokenizer,
        temperature=numbers[0],
        half_width=numbers[1],
    )
