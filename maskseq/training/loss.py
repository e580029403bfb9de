"""What is minimised and what is counted: weighted cross-entropy of the scored cells, the head run on those only."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor, nn

from maskseq.contract.brief import brief
from maskseq.contract.own import found as own_part
from maskseq.masking.config import OBJECTIVES
from maskseq.model.encoder import Encoder
from maskseq.model.numbers import Numbers
from maskseq.model.states import States
from maskseq.packing.rows import CAUSAL, PackedRow
from maskseq.training.events import CellScore, Scores

RATIO_BINS = ("0.0-0.2", "0.2-0.4", "0.4-0.6", "0.6-0.8", "0.8-1.0")
N_GROUPS = len(OBJECTIVES) * len(RATIO_BINS)
SUMS = ("cells", "weight", "loss", "correct")  # the last two times weight


@brief
@dataclass(frozen=True)
class FieldCells:
    """The scored cells of one field in a micro-batch."""

    token: Int[Tensor, "cells"]
    """Where they are in the packed row."""
    target: Int[Tensor, "cells"]
    weight: Float[Tensor, "cells"]
    group: Int[Tensor, "cells"]
    """Which objective and bin of mask ratios their segment belongs to."""


@brief
@dataclass(frozen=True)
class Batch:
    """A micro-batch as tensors. Scored cells are found in NumPy, before anything waits for a device."""

    ids: Int[Tensor, "tokens fields"]
    positions: Int[Tensor, "tokens"]
    cu_seqlens: Int[Tensor, " bounds"]
    max_seqlen: int
    scored: tuple[FieldCells, ...]
    target: Bool[Tensor, "tokens"] | None = None
    """Positions in target regions; None: there are none."""
    causal: Bool[Tensor, " segments"] | None = None
    """Which segments look to the left only; None: none does."""
    following: tuple[FieldCells, ...] = ()
    """The scored cells of these segments, field by field: `scored` has none of them then."""
    seen: Bool[Tensor, "tokens fields"] | None = None
    """As in `PackedRow`."""
    numbers: Numbers | None = None
    """What the ids were rounded from; None: not asked for."""

    @classmethod
    def of(cls, row: PackedRow, device: torch.device) -> "Batch":
        def tensor(array: np.ndarray, dtype: type = np.int64) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(array, dtype)).to(device, non_blocking=True)

        ratio_bin = np.minimum((row.ratio * len(RATIO_BINS)).astype(np.int64), len(RATIO_BINS) - 1)
        group = np.repeat(row.objective * len(RATIO_BINS) + ratio_bin, np.diff(row.cu_seqlens))

        numbers = None
        if row.numbers is not None and row.fold is not None:
            numbers = Numbers(torch.from_numpy(row.numbers), torch.from_numpy(row.fold))

        def cells(weights: np.ndarray) -> Iterator[FieldCells]:
            for field in range(row.targets.shape[1]):
                (token,) = np.nonzero(weights[:, field])
                target, weight = row.targets[token, field], weights[token, field]
                yield FieldCells(tensor(token), tensor(target), tensor(weight, np.float32), tensor(group[token]))

        causal = row.objective == CAUSAL
        inside = np.repeat(causal, np.diff(row.cu_seqlens))[:, None]
        following: dict[str, Any] = {}
        if row.seen is not None:
            following = {"causal": tensor(causal, np.bool_), "seen": tensor(row.seen, np.bool_)}
            following["following"] = tuple(cells(np.where(inside, row.weights, 0)))
        return cls(
            tensor(row.inputs),
            tensor(row.positions),
            tensor(row.cu_seqlens, np.int32),
            row.max_seqlen,
            tuple(cells(np.where(inside, 0, row.weights))),
            tensor(row.target, np.bool_),
            numbers=numbers,
            **following,
        )

    def event(self, tokens: Int[Tensor, " cells"], mask_ids: Sequence[int]) -> Int[Tensor, "cells fields"]:
        """The ids of these tokens of causal segments, `[MASK]` where later fields are not given them."""
        assert self.seen is not None
        ids, seen = self.ids.index_select(0, tokens), self.seen.index_select(0, tokens)
        return torch.where(seen, ids, ids.new_tensor(mask_ids))

    def before(self, tokens: Int[Tensor, " cells"]) -> Int[Tensor, " cells"]:
        """The token before each of these in its segment; −1 for the first."""
        return torch.where(self.positions.index_select(0, tokens) > 0, tokens - 1, -1)

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "Batch":
        """The same batch on another device; Lightning moves batches so."""

        def moved(tensor: Tensor) -> Tensor:
            return tensor.to(device, non_blocking=non_blocking)

        def optional(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else moved(tensor)

        def cells(fields: tuple[FieldCells, ...]) -> tuple[FieldCells, ...]:
            return tuple(
                FieldCells(moved(each.token), moved(each.target), moved(each.weight), moved(each.group))
                for each in fields
            )

        return replace(
            self,
            ids=moved(self.ids),
            positions=moved(self.positions),
            cu_seqlens=moved(self.cu_seqlens),
            scored=cells(self.scored),
            following=cells(self.following),
            target=optional(self.target),
            causal=optional(self.causal),
            seen=optional(self.seen),
        )


class MaskedLoss(nn.Module):
    """An encoder and its loss as one module, so that DDP and FSDP see everything that has parameters."""

    def __init__(self, encoder: Encoder, *, z_loss: float = 0.0, smoothing: float = 0.0, own: str = "") -> None:
        """`z_loss` weighs the squared log-partition (PaLM, 2204.02311 §5); 0: none.

        `smoothing` is the standard deviation, in bins, of the Gaussian that spreads the target of an ordinal field
        over its neighbours; 0: none. `own` is a loss of the user's in place of cross-entropy (`TrainingConfig.loss`).
        """
        super().__init__()
        self.encoder = encoder
        self.z_loss = z_loss
        self.own = own_part("loss", own) if own else None
        vocabulary = encoder.config.vocabulary
        self.spread: list[Tensor | None] = [
            gaussian_targets(len(centres), n, smoothing) if smoothing and centres is not None else None
            for centres, n in zip(vocabulary.centres, vocabulary.n_outputs, strict=True)
        ]

    def forward(
        self,
        batch: Batch,
        total_weight: float,
        *,
        dropout_keys: Int[Tensor, "rows"] | None = None,
        dtype: torch.dtype | None = None,
    ) -> tuple[Float[Tensor, ""], Float64[Tensor, "fields groups sums"]]:
        """The batch's share of the step's loss, Σ w·CE ÷ `total_weight`, and detached sums for the metrics.

        `total_weight` is Σ w over all rows of the step: shares of micro-batches and ranks add up to its mean.
        """
        states = self.encoder(
            batch.ids,
            batch.positions,
            batch.cu_seqlens,
            batch.max_seqlen,
            numbers=batch.numbers,
            target=batch.target,
            causal=batch.causal,
            dropout_keys=dropout_keys,
            dtype=dtype,
        )
        loss = states.hidden_states.new_zeros((), dtype=torch.float32)
        tallies = []
        for field, cells, logits in self._logits(batch, states):
            cross_entropy = F.cross_entropy(logits, cells.target, reduction="none")
            tallies.append(tally(logits.detach(), cross_entropy.detach(), cells))
            minimised = cross_entropy
            spread = self.spread[field]
            if spread is not None:
                minimised = soft_cross_entropy(logits, spread.to(logits.device)[cells.target])
            if self.own is not None:
                minimised = self.own(logits, cells.target, self.encoder.config.vocabulary.names[field])
            if self.z_loss:
                minimised = minimised + self.z_loss * logits.logsumexp(-1).square()
            loss = loss + (cells.weight * minimised).sum()
        if self.encoder.next_head is not None and not batch.following:  # ranks wait for the gradient of every weight
            loss = loss + sum(0.0 * weight.sum() for weight in self.encoder.next_head.parameters())
        together = torch.stack(tallies)
        return loss / total_weight, together.view(-1, len(batch.scored), *together.shape[1:]).sum(dim=0)

    def _logits(self, batch: Batch, states: States) -> Iterator[tuple[int, FieldCells, Tensor]]:
        """Of the scored cells, field by field: masked ones, then those of causal segments."""
        for field, cells in enumerate(batch.scored):
            yield field, cells, self.encoder.logits(states[cells.token], field)
        for field, cells in enumerate(batch.following):
            event = batch.event(cells.token, self.encoder.config.vocabulary.mask_ids)
            yield field, cells, self.encoder.next_logits(states, batch.before(cells.token), event, field)


def gaussian_targets(n_tokens: int, n_outputs: int, width: float) -> Float[Tensor, "outputs outputs"]:
    """Row t: the target distribution of true id t. Bins share with their neighbours, controls stay one-hot."""
    targets = torch.eye(n_outputs)
    bins = torch.arange(n_tokens)
    targets[:n_tokens, :n_tokens] = torch.softmax(-((bins[:, None] - bins) ** 2) / (2 * width**2), dim=-1)
    return targets


def soft_cross_entropy(
    logits: Float[Tensor, "cells outputs"], targets: Float[Tensor, "cells outputs"]
) -> Float[Tensor, "cells"]:
    """−Σ q log p, where a target of 0 counts 0 even against a logit of −inf."""
    log_p = torch.log_softmax(logits, dim=-1)
    return -(targets * log_p.masked_fill(targets == 0, 0.0)).sum(-1)


def tally(
    logits: Float[Tensor, "cells outputs"], cross_entropy: Float[Tensor, "cells"], cells: FieldCells
) -> Float64[Tensor, "groups sums"]:
    """`SUMS` of each group of cells, in float64 so that many steps can be added up."""
    weight = cells.weight.double()
    correct = logits.argmax(-1) == cells.target
    sums = torch.stack([torch.ones_like(weight), weight, weight * cross_entropy, weight * correct], dim=-1)
    return torch.zeros(N_GROUPS, len(SUMS), dtype=torch.float64, device=logits.device).index_add_(0, cells.group, sums)


def no_tallies(n_fields: int, device: torch.device) -> Float64[Tensor, "fields groups sums"]:
    """Where sums begin."""
    return torch.zeros(n_fields, N_GROUPS, len(SUMS), dtype=torch.float64, device=device)


def scores(tallies: Float64[Tensor, "fields groups sums"], field_names: tuple[str, ...]) -> Scores:
    """Means of what was tallied: of all cells, by objective, by mask ratio and by field."""
    sums = tallies.cpu().numpy().reshape(len(field_names), len(OBJECTIVES), len(RATIO_BINS), len(SUMS))

    def score(of: np.ndarray) -> CellScore:
        cells, weight, loss, correct = of.reshape(-1, len(SUMS)).sum(axis=0).tolist()
        return CellScore(loss=loss / weight, accuracy=correct / weight, cells=int(cells))

    def each(names: tuple[str, ...], axis: int) -> dict[str, CellScore]:
        parts = zip(names, np.moveaxis(sums, axis, 0), strict=True)
        return {name: score(part) for name, part in parts if part[..., 0].any()}

    whole = score(sums) if sums[..., 0].any() else CellScore(loss=0.0, accuracy=0.0, cells=0)
    return Scores(
        all=whole, by_objective=each(OBJECTIVES, 1), by_ratio=each(RATIO_BINS, 2), by_field=each(field_names, 0)
    )
