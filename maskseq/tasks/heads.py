"""From hidden states to outputs: of a whole record by pooling, or of each position."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from maskseq.contract.own import found as own_part
from maskseq.model.dropout import dropout
from maskseq.tasks.config import HeadConfig

PLACE = 1_000_000
"""Tells the head's dropout apart from the encoder's."""


class TaskHead(nn.Module):
    """Padded hidden states in, and which of them are real; outputs of each record, or of each position."""

    def __init__(self, config: HeadConfig, kind: str, *, hidden_size: int, n_outputs: int, seed: int) -> None:
        super().__init__()
        self.config, self.kind = config, kind
        device = torch.get_default_device()
        with torch.device("meta"):
            if kind == "attention":
                self.query = nn.Linear(hidden_size, 1)
            if kind == "positions":
                self.narrow = nn.Linear(hidden_size, config.width)
            if kind == "cnn":
                self.convolution = nn.Conv1d(hidden_size, config.width, config.kernel, padding=config.kernel // 2)
            self.output = nn.Linear(self._features(hidden_size), n_outputs)
        self.to_empty(device=device)
        generator = torch.Generator().manual_seed(seed)
        for parameter in self.parameters():
            value = torch.zeros(parameter.shape)
            if parameter.ndim > 1:
                bound = 1 / math.sqrt(parameter[0].numel())
                value.uniform_(-bound, bound, generator=generator)
            with torch.no_grad():
                parameter.copy_(value)

    def _features(self, hidden_size: int) -> int:
        if self.kind == "positions":
            return self.config.bins * self.config.width
        return self.config.width if self.kind == "cnn" else hidden_size

    def forward(
        self,
        hidden: Float[Tensor, "records longest hidden"],
        real: Bool[Tensor, "records longest"],
        dropout_keys: Int[Tensor, "rows"] | None,
    ) -> Float[Tensor, "..."]:
        """[records, outputs]; of `linear`, and of `cnn` within `positions`, see `each`."""
        return self._answer(self._pooled(hidden, real), dropout_keys)

    def each(
        self,
        hidden: Float[Tensor, "records longest hidden"],
        real: Bool[Tensor, "records longest"],
        dropout_keys: Int[Tensor, "rows"] | None,
    ) -> Float[Tensor, "records longest outputs"]:
        """Outputs of every position."""
        features = self._convolved(hidden, real) if self.kind == "cnn" else hidden
        return self._answer(features, dropout_keys)

    def _answer(self, features: Tensor, dropout_keys: Tensor | None) -> Tensor:
        answer: Tensor = self.output(dropout(features, self.config.dropout, dropout_keys, PLACE))
        return answer

    def _pooled(self, hidden: Tensor, real: Tensor) -> Tensor:
        weight = real.to(hidden.dtype)
        n = weight.sum(dim=1, keepdim=True).clamp(min=1)
        if self.kind == "mean":
            return torch.einsum("nlh,nl->nh", hidden, weight / n)
        if self.kind == "attention":
            scores = self.query(hidden)[..., 0].masked_fill(~real, torch.finfo(hidden.dtype).min)
            return torch.einsum("nlh,nl->nh", hidden, scores.softmax(dim=1) * weight)
        if self.kind == "positions":
            binned = shares_of_bins(real, self.config.bins).to(hidden.dtype)
            return torch.einsum("nbl,nlw->nbw", binned, F.gelu(self.narrow(hidden))).flatten(1)
        features = self._convolved(hidden, real) if self.kind == "cnn" else hidden
        lowest = features.masked_fill(~real[..., None], torch.finfo(hidden.dtype).min).amax(dim=1)
        return torch.where(real.any(dim=1, keepdim=True), lowest, torch.zeros_like(lowest))

    def _convolved(self, hidden: Tensor, real: Tensor) -> Tensor:
        padded = hidden * real[..., None]
        found: Tensor = F.gelu(self.convolution(padded.transpose(1, 2))).transpose(1, 2)
        return found


class OwnHead(nn.Module):
    """A head of the user's own, as `HeadConfig.kind` describes it; its initial values are drawn from the seed."""

    def __init__(self, config: HeadConfig, name: str, *, hidden_size: int, n_outputs: int, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.own = own_part("head", name)(config, hidden_size, n_outputs)

    def forward(
        self,
        hidden: Float[Tensor, "records longest hidden"],
        real: Bool[Tensor, "records longest"],
        dropout_keys: Int[Tensor, "rows"] | None,
    ) -> Float[Tensor, "..."]:
        answer: Tensor = self.own(hidden, real)
        return answer

    each = forward


def shares_of_bins(real: Bool[Tensor, "records longest"], bins: int) -> Float[Tensor, "records bins longest"]:
    """How much each position has in each of `bins` equal stretches of its record; every bin's shares add up to 1.

    A record shorter than the bins has its positions in several of them, so that no bin is empty.
    """
    length = real.sum(dim=1).clamp(min=1).double()[:, None, None]
    edge = torch.arange(bins + 1, device=real.device, dtype=torch.float64) / bins
    low, high = edge[:-1][None, :, None] * length, edge[1:][None, :, None] * length
    position = torch.arange(real.shape[1], device=real.device, dtype=torch.float64)[None, None, :]
    overlap = (torch.minimum(high, position + 1) - torch.maximum(low, position)).clamp(min=0)
    return (overlap / (length / bins) * real[:, None, :]).float()
