"""What simple fills say of hidden numbers, as an input of the encoder: straight lines, and the same time of other days.

On many signals they beat published networks, and an encoder needs far more data than one signal has to learn drawing
a line. With their answers at hand it only learns where they are wrong.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from maskseq.model.config import EncoderConfig
from maskseq.model.waves import n_shared, weights


class SimpleFills(nn.Module):
    """Of one ordinal field: embeddings of what each simple fill puts where `[MASK]` stands, nothing elsewhere."""

    def __init__(self, config: EncoderConfig, field: int) -> None:
        super().__init__()
        centres = config.vocabulary.centres[field]
        assert centres is not None
        self.field, self.mask_id, self.centres = field, config.vocabulary.mask_ids[field], centres
        self.n_waves, self.periods = config.simple_fills, config.periods
        n_rows = n_shared(centres, self.n_waves)
        self.fills = nn.ModuleList(nn.Embedding(n_rows, config.hidden_size) for _ in range(1 + len(self.periods)))

    def forward(
        self, ids: Int[Tensor, "tokens fields"], positions: Int[Tensor, "tokens"]
    ) -> Float[Tensor, "tokens hidden"]:
        ids = ids[:, self.field]
        centres = torch.tensor(self.centres, device=ids.device)
        known = ids < len(centres)
        values = centres[ids.clamp(max=len(centres) - 1)]
        answers = [straight_line(values, known, positions)]
        answers += [one_period_away(values, known, positions, period) for period in self.periods]
        parts = []
        for (value, weight), learned in zip(answers, self.fills.parameters(), strict=True):
            mixture = self._mixture(value, centres) * (weight * (ids == self.mask_id))[:, None]
            parts.append(mixture @ learned)
        return torch.stack(parts).sum(dim=0)

    def _mixture(self, values: Float[Tensor, "tokens"], centres: Float[Tensor, "bins"]) -> Float[Tensor, "tokens rows"]:
        """How much of each learned row is in the embedding of a number: that of the bins, linear between centres."""
        of_bins = torch.as_tensor(weights(self.centres, self.n_waves), device=values.device)
        if len(centres) == 1:
            return of_bins.expand(len(values), -1)
        below = torch.searchsorted(centres, values).clamp(1, len(centres) - 1) - 1
        share = (values - centres[below]) / (centres[below + 1] - centres[below])
        return torch.lerp(of_bins[below], of_bins[below + 1], share.clamp(0, 1)[:, None])


Answer = tuple[Float[Tensor, "tokens"], Float[Tensor, "tokens"]]
"""Numbers, and what each weighs; 0 where there is none."""


def straight_line(
    values: Float[Tensor, "tokens"], known: Bool[Tensor, "tokens"], positions: Int[Tensor, "tokens"]
) -> Answer:
    """Linear between the nearest known numbers of a piece, constant beyond the outermost; none where it knows none.

    It weighs 1 over the distance to the nearest of them: in the midst of a long gap a line says little.
    """
    at = torch.arange(len(values), device=values.device)
    start = at - positions
    before = torch.where(known, at, -1).cummax(dim=0).values
    after = torch.where(known, at, len(values)).flip(0).cummin(dim=0).values.flip(0)
    has_before = before >= start
    right = after.clamp(max=len(values) - 1)
    has_after = (after < len(values)) & (start[right] == start)
    low, high = values[before.clamp(min=0)], values[right]
    share = (at - before) / (after - before).clamp(min=1)
    line = torch.where(has_before & has_after, torch.lerp(low, high, share), torch.where(has_before, low, high))
    far = len(values)
    nearest = torch.minimum(torch.where(has_before, at - before, far), torch.where(has_after, after - at, far))
    return line, (has_before | has_after) / nearest.clamp(min=1)


def one_period_away(
    values: Float[Tensor, "tokens"], known: Bool[Tensor, "tokens"], positions: Int[Tensor, "tokens"], period: int
) -> Answer:
    """The mean of the known numbers one period before and after."""
    total, n = torch.zeros_like(values), torch.zeros_like(values)
    for offset in (-period, period):
        # Positions count from 0 in each piece, so no other piece has the one that would stand there.
        there = (positions.roll(-offset) == positions + offset) & known.roll(-offset)
        total, n = total + torch.where(there, values.roll(-offset), 0.0), n + there
    return total / n.clamp(min=1), (n > 0).to(values.dtype)
