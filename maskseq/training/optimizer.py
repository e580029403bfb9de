"""AdamW, StableAdamW and Muon, with weight decay on matrices only."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from maskseq.contract.own import found as own_part
from maskseq.contract.own import is_own
from maskseq.training.config import OptimizerConfig

Role = Literal["matrix", "output", "embedding", "vector"]


def make_optimizer(model: nn.Module, config: OptimizerConfig) -> "Optimizers":
    """One optimizer, or for Muon two: Muon for the matrices of the layers, AdamW for everything else."""
    members: dict[tuple[str, float], list[Tensor]] = {}
    by_name = dict(model.named_parameters())
    for info in parameter_groups(model, config):
        members.setdefault((info.optimizer, info.weight_decay), []).append(by_name[info.name])
    optimizers: list[torch.optim.Optimizer] = []
    for kind in dict.fromkeys(kind for kind, _ in members):
        groups = [{"params": p, "weight_decay": decay} for (k, decay), p in members.items() if k == kind]
        optimizers.append(_make(kind, groups, config))
    return Optimizers(optimizers, by_name, config.lr)


@dataclass(frozen=True)
class ParameterGroup:
    """What becomes of one parameter, for `maskseq inspect` and for the optimizer alike."""

    name: str
    shape: tuple[int, ...]
    role: Role
    optimizer: str
    weight_decay: float


def parameter_groups(model: nn.Module, config: OptimizerConfig) -> list[ParameterGroup]:
    """Each trainable parameter with its optimizer and weight decay, in the model's order."""
    listed = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            role = _role(model, name, parameter)
            optimizer = config.name if config.name != "muon" or role == "matrix" else "adamw"
            decay = config.weight_decay if role in ("matrix", "output") else 0.0
            listed.append(ParameterGroup(name, tuple(parameter.shape), role, optimizer, decay))
    return listed


class Optimizers:
    """The optimizers of a model behind the calls that a step needs, their state by parameter name."""

    def __init__(self, members: Iterable[torch.optim.Optimizer], parameters: Mapping[str, Tensor], lr: float) -> None:
        self.members = list(members)
        self.parameters = dict(parameters)
        self.lr = lr

    def step(self, factor: float = 1.0) -> None:
        """Update the weights with `factor` times the full learning rate, and forget the gradients."""
        for member in self.members:
            for group in member.param_groups:
                group["lr"] = self.lr * factor
            member.step()
            member.zero_grad()

    def state(self) -> dict[str, Tensor]:
        """Every state tensor, as `KEY/PARAMETER`; the tensors themselves, not copies."""
        tensors = {}
        for name, parameter in self.parameters.items():
            for member in self.members:
                for key, value in member.state.get(parameter, {}).items():
                    tensors[f"{key}/{name}"] = value
        return tensors

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take up the tensors of `state`."""
        found: dict[str, dict[str, Tensor]] = {}
        for path, tensor in tensors.items():
            key, _, name = path.partition("/")
            found.setdefault(name, {})[key] = tensor
        names = {parameter: name for name, parameter in self.parameters.items()}
        for member in self.members:
            parameters = [parameter for group in member.param_groups for parameter in group["params"]]
            saved = member.state_dict()
            saved["state"] = {i: found[names[p]] for i, p in enumerate(parameters) if names[p] in found}
            member.load_state_dict(saved)


class StableAdamW(torch.optim.Optimizer):
    """AdamW whose learning rate is cut, tensor by tensor, when gradients outgrow their second moment.

    Wortsman et al. 2023 (2304.13013), algorithm 2, with the debiased betas of AdaFactor; update for update the
    StableAdamW of torch-optimi that trained ModernBERT. Needs no gradient clipping.
    """

    def __init__(
        self,
        params: Any,
        *,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.98),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group)

    def _update(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.tensor(0.0)
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        state["step"] += 1
        beta1, beta2 = (_debiased(beta, int(state["step"])) for beta in group["betas"])
        mean, square = state["exp_avg"], state["exp_avg_sq"]
        mean.lerp_(gradient, 1 - beta1)
        square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)

        rms = gradient.square().div_(square.clamp(min=group["eps"] ** 2)).mean().sqrt()
        lr = group["lr"] / rms.clamp(min=1)
        parameter.mul_(1 - lr * group["weight_decay"])
        parameter.sub_(mean / square.sqrt().add_(group["eps"]) * lr)


def _debiased(beta: float, step: int) -> float:
    """The beta that makes the moving average of `step` values unbiased without a correction of its own."""
    return (beta**step - beta) / (beta**step - 1)


def _make(kind: str, groups: list[dict[str, Any]], config: OptimizerConfig) -> torch.optim.Optimizer:
    if is_own(kind):
        made: torch.optim.Optimizer = own_part("optimizer", kind)(groups, config)
        return made
    if kind == "muon":
        # The RMS of a Muon update is matched to AdamW's (Liu et al. 2025, 2502.16982), so one lr serves both.
        return torch.optim.Muon(
            groups, lr=config.lr, momentum=config.momentum, eps=config.eps, adjust_lr_fn="match_rms_adamw"
        )
    if kind == "adamw":
        return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, eps=config.eps, fused=True)
    return StableAdamW(groups, lr=config.lr, betas=config.betas, eps=config.eps)


def _role(model: nn.Module, name: str, parameter: Tensor) -> Role:
    """Embeddings are known by their module, matrices of the layers by their place in a `ModuleList`."""
    owner, _, _ = name.rpartition(".")
    if parameter.ndim < 2:
        return "vector"
    if isinstance(model.get_submodule(owner), nn.Embedding):
        return "embedding"
    steps = owner.split(".")
    ancestors = (model.get_submodule(".".join(steps[:depth])) for depth in range(1, len(steps)))
    return "matrix" if parameter.ndim == 2 and any(isinstance(a, nn.ModuleList) for a in ancestors) else "output"
