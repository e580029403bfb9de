"""What a fit needs to go on: the weights that learn, the best ones so far, moments, and where it stood."""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from maskseq.model.checkpoint import read_tensors, write_tensors
from maskseq.storage.outputs import replacing
from maskseq.storage.standard_json import to_json
from maskseq.tasks.network import TaskNetwork

SAVED, PLACE = "fit.safetensors", "place"


@dataclass
class FitState:
    """Where a fit stands, besides its weights and moments."""

    best: dict[str, Tensor]
    best_loss: float = math.inf
    step: int = 0
    waited: int = 0
    """Epochs since the best one."""
    loss_sum: float = 0.0
    """Losses of the steps of the epoch at hand."""
    history: list[dict[str, float]] = field(default_factory=list)


def write_state(folder: Path, state: FitState, network: TaskNetwork, optimizer: torch.optim.Optimizer) -> None:
    """Replace the state in `folder`, whole or not at all."""
    learning = network.learning()
    tensors = {f"weight/{name}": p for name, p in learning.items()}
    tensors |= {f"best/{name}": p for name, p in state.best.items()}
    for name, parameter in learning.items():
        for moment, value in optimizer.state[parameter].items():
            tensors[f"{moment}/{name}"] = value
    place = {
        "step": state.step,
        "waited": state.waited,
        "loss_sum": state.loss_sum.hex(),
        "best_loss": state.best_loss.hex(),
        "history": [{key: float(value).hex() for key, value in epoch.items()} for epoch in state.history],
    }
    with replacing(folder / SAVED) as aside:
        plain = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
        write_tensors(aside, plain, {PLACE: to_json(place)})


def read_state(folder: Path, network: TaskNetwork, optimizer: torch.optim.Optimizer) -> FitState | None:
    """The state, with weights and moments put where they belong; None where there is none."""
    saved = folder / SAVED
    if not saved.exists():
        return None
    tensors = read_tensors(saved)
    with safe_open(saved, framework="pt") as file:
        place = json.loads(file.metadata()[PLACE])
    learning = network.learning()
    with torch.no_grad():
        for name, parameter in learning.items():
            parameter.copy_(tensors[f"weight/{name}"])
    for name, parameter in learning.items():
        moments = {
            key.partition("/")[0]: value
            for key, value in tensors.items()
            if key.partition("/")[2] == name and key.partition("/")[0] not in ("weight", "best")
        }
        if moments:
            device = parameter.device
            optimizer.state[parameter] = {
                moment: value if moment == "step" else value.to(device) for moment, value in moments.items()
            }
    return FitState(
        best={name: tensors[f"best/{name}"].to(parameter.device) for name, parameter in learning.items()},
        best_loss=float.fromhex(place["best_loss"]),
        step=place["step"],
        waited=place["waited"],
        loss_sum=float.fromhex(place["loss_sum"]),
        history=[{key: float.fromhex(value) for key, value in epoch.items()} for epoch in place["history"]],
    )
