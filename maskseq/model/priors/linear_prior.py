"""What known numbers around a masked one say of it, by their covariances: its best linear prediction.

Of a masked number h and the known ones k around it, of all channels,

    mean = Σ_hk Σ_kk⁻¹ k,    variance = Σ_hh − Σ_hk Σ_kk⁻¹ Σ_kh

(Bishop 2006, eq. 2.81 and 2.82; simple kriging), whatever is known. Straight lines, what was there a day ago and what
other channels say are special cases. An encoder that is given this only has to learn where it is wrong.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int, Integer
from torch import Tensor, nn

from maskseq.model.config import EncoderConfig
from maskseq.model.embedding import Embedding
from maskseq.model.linear import Linear
from maskseq.model.numbers import Numbers
from maskseq.model.priors.ordinal_basis import n_shared, weights
from maskseq.model.priors.prior import Prior
from maskseq.types import Vocabulary

COUNTED = 1 << 14
"""Positions that are counted at a time."""
SOLVED = 1 << 23
"""Entries of the matrices that are solved at a time."""
ENOUGH = 10
"""Positions for each of the numbers around them, from which covariances are taken of whole neighbourhoods only."""
LEAST_VARIANCE = 1e-5
"""Of z-scored numbers: what keeps matrices of equal channels invertible, rounded to float32 as they are stored."""


@dataclass(frozen=True)
class Covariances:
    """Means, standard deviations and covariances of the numbers at some distances from a position.

    `offsets` are these distances, 0 among them. Covariances are of z-scored numbers, ordered by offset, then by field.
    """

    offsets: tuple[int, ...]
    mean: Float[Tensor, "fields"]
    std: Float[Tensor, "fields"]
    covariance: Float[Tensor, "variables variables"]

    @classmethod
    def count(
        cls, sequences: Iterable[Integer[np.ndarray, "_ _"]], vocabulary: Vocabulary, offsets: tuple[int, ...]
    ) -> "Covariances":
        """Those of these sequences of ids, at the positions whose whole neighbourhood is known.

        Where there are too few, of each pair of numbers at the positions where both are known. That is second best:
        numbers that drift differ between the positions of one pair and those of another.
        """
        values = [numbers(ids, vocabulary) for ids in sequences]
        whole = np.concatenate(values) if values else np.empty((0, len(vocabulary.ordinal)))
        n = np.maximum((~np.isnan(whole)).sum(axis=0), 1)
        mean = np.nansum(whole, axis=0) / n
        std = np.sqrt(np.nansum((whole - mean) ** 2, axis=0) / n)
        std[std == 0] = 1.0
        size = len(offsets) * whole.shape[1]
        complete, n_complete = np.zeros((size, size)), 0
        products, pairs = np.zeros((size, size)), np.zeros((size, size))
        for each in values:
            z = (each - mean) / std
            for first in range(0, len(z), COUNTED):
                around = _around(z, offsets, first, min(first + COUNTED, len(z)))
                known = ~np.isnan(around)
                around[~known] = 0
                products += around.T @ around
                pairs += known.T.astype(np.float64) @ known
                all_known = around[known.all(axis=1)]
                complete += all_known.T @ all_known
                n_complete += len(all_known)
        enough = n_complete >= ENOUGH * size
        covariance = complete / n_complete if enough else _positive(products / np.maximum(pairs, 1))
        return cls(offsets, *(torch.from_numpy(each.astype(np.float32)) for each in (mean, std, covariance)))

    @torch.no_grad()
    def predict(
        self,
        values: Float[Tensor, "tokens fields"],
        known: Bool[Tensor, "tokens fields"],
        positions: Int[Tensor, "tokens"],
        wanted: Bool[Tensor, "tokens fields"],
    ) -> Float[Tensor, "tokens fields 2"]:
        """Means and variances of wanted numbers, z-scored, from the known ones of their segment.

        Elsewhere the mean is 0 and the variance 1.
        """
        z = torch.where(known, (values - self.mean) / self.std, 0.0)
        found = torch.stack([torch.zeros_like(z), torch.ones_like(z)], dim=-1)
        size, n_fields = len(self.covariance), z.shape[1]
        here = self.offsets.index(0) * n_fields
        (tokens,) = torch.nonzero(wanted.any(dim=1), as_tuple=True)
        for at in torch.split(tokens, max(SOLVED // size**2, 1)):
            around, seen = [], []
            for offset in self.offsets:
                there = (at + offset).clamp(0, len(z) - 1)
                # Positions count from 0 in each segment, so no other segment has the one that would stand there.
                same = (positions[there] == positions[at] + offset)[:, None]
                around.append(z[there])
                seen.append(known[there] & same)
            of = torch.cat(seen, dim=1).double()
            covariance = self.covariance.double()
            # What is not known is made independent of everything, and 0.
            matrix = covariance * of[:, :, None] * of[:, None, :]
            matrix.diagonal(dim1=1, dim2=2).add_(1 - of + LEAST_VARIANCE)
            to_here = covariance[:, here : here + n_fields] * of[:, :, None]
            factor = torch.linalg.cholesky(matrix)
            half = torch.linalg.solve_triangular(factor, to_here, upper=False)
            data = torch.linalg.solve_triangular(factor, (torch.cat(around, dim=1) * of)[:, :, None], upper=False)
            mean = (half * data).sum(dim=1)
            variance = covariance.diagonal()[here : here + n_fields] - half.square().sum(dim=1)
            found[at] = torch.stack([mean, variance.clamp(min=LEAST_VARIANCE)], dim=-1).float()
        nothing = found.new_tensor([0.0, 1.0])
        return torch.where(wanted[..., None], found, nothing)

    def fill(self, values: Float[np.ndarray, "length fields"]) -> Float[np.ndarray, "length fields"]:
        """The numbers of one segment with means in place of NaN, in their units."""
        known = torch.from_numpy(~np.isnan(values))
        positions = torch.arange(len(values))
        mean = self.predict(torch.from_numpy(values.astype(np.float32)), known, positions, ~known)[..., 0]
        return np.where(np.isnan(values), (mean * self.std + self.mean).double().numpy(), values)


class LinearPrior(Prior):
    """The linear prediction of masked numbers, as an input of the encoder and as where its logits start."""

    parameters_under = "linear_context"
    counted = True
    starts_logits = True
    no_onnx = "it has no operator that solves equations"

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config)
        self.n_cosines = config.ordinal_basis.cosines
        self.fields = config.vocabulary.ordinal
        self.offsets = offsets(config.linear_prior.distances)
        n, size = len(self.fields), len(self.fields) * len(self.offsets)
        # No buffers: what is saved, resumed and exported are parameters, and these are some that nothing updates.
        self.mean, self.std = (nn.Parameter(torch.empty(n), requires_grad=False) for _ in range(2))
        self.covariance = nn.Parameter(torch.empty(size, size), requires_grad=False)
        rows = [n_shared(self._centres(field), self.n_cosines) for field in self.fields]
        self.embeddings = nn.ModuleList(Embedding(n_rows, config.hidden_size) for n_rows in rows)
        self.trust = Linear(config.hidden_size, n, bias=True)

    def count(self, sequences: Sequence[Integer[np.ndarray, "_ _"]]) -> None:
        counted = Covariances.count(sequences, self.vocabulary, self.offsets)
        with torch.no_grad():
            for name in ("mean", "std", "covariance"):
                getattr(self, name).copy_(getattr(counted, name))

    def predict(
        self, ids: Int[Tensor, "tokens fields"], positions: Int[Tensor, "tokens"]
    ) -> Float[Tensor, "tokens ordinal 2"]:
        """Means and variances of the numbers that `[MASK]` hides, z-scored; mean 0 and variance 1 elsewhere."""
        columns = [self._values(ids[:, field], field) for field in self.fields]
        values, known = (torch.stack(each, dim=1) for each in zip(*columns, strict=True))
        masked = torch.stack([ids[:, field] == self.vocabulary.mask_ids[field] for field in self.fields], dim=1)
        counted = Covariances(self.offsets, self.mean, self.std, self.covariance)
        return counted.predict(values, known, positions, masked)

    def embed(
        self,
        masked: Float[Tensor, "tokens hidden"],
        ids: Int[Tensor, "tokens fields"],
        positions: Int[Tensor, "tokens"],
        numbers: Numbers | None = None,
    ) -> tuple[Float[Tensor, "tokens hidden"], Float[Tensor, "tokens ordinal 2"]]:
        predicted = self.predict(ids, positions)
        return masked + self.embeddings_of(predicted), predicted

    def embeddings_of(self, predicted: Float[Tensor, "tokens ordinal 2"]) -> Float[Tensor, "tokens hidden"]:
        """Embeddings of the predicted numbers, each times the share of its variance that is explained."""
        mean, variance = predicted.unbind(-1)
        explained = (1 - variance).clamp(min=0)
        parts = [
            (self._mixture(mean[:, i] * self.std[i] + self.mean[i], field) * explained[:, i, None]) @ learned
            for i, (field, learned) in enumerate(zip(self.fields, self.embeddings.parameters(), strict=True))
        ]
        return torch.stack(parts).sum(dim=0)

    def evidence(
        self, masked: Float[Tensor, "n hidden"], field: int, values: Float[Tensor, "n ordinal 2"]
    ) -> Float[Tensor, "n bins"] | None:
        """The predicted Gaussian at a field's bins, narrower or wider as it is trusted."""
        if field not in self.fields:
            return None
        i = self.fields.index(field)
        mean, variance = values[:, i, None].unbind(-1)
        z = (torch.tensor(self._centres(field), device=masked.device) - self.mean[i]) / self.std[i]
        precision = self.trust(masked)[:, i, None].float().exp() / variance
        score = -0.5 * precision * (z - mean).square()
        return score.log_softmax(dim=-1) + math.log(len(z))  # type: ignore[no-any-return]

    def _centres(self, field: int) -> tuple[float, ...]:
        centres = self.vocabulary.centres[field]
        assert centres is not None
        return centres

    def _values(self, ids: Int[Tensor, "tokens"], field: int) -> tuple[Float[Tensor, "tokens"], Bool[Tensor, "tokens"]]:
        centres = torch.tensor(self._centres(field), device=ids.device)
        return centres[ids.clamp(max=len(centres) - 1)], ids < len(centres)

    def _mixture(self, values: Float[Tensor, "tokens"], field: int) -> Float[Tensor, "tokens rows"]:
        """How much of each learned row is in the embedding of a number: that of the bins, linear between centres."""
        of_bins = torch.as_tensor(weights(self._centres(field), self.n_cosines), device=values.device)
        centres = torch.tensor(self._centres(field), device=values.device)
        if len(centres) == 1:
            return of_bins.expand(len(values), -1)
        below = torch.searchsorted(centres, values.contiguous()).clamp(1, len(centres) - 1) - 1
        share = (values - centres[below]) / (centres[below + 1] - centres[below])
        return torch.lerp(of_bins[below], of_bins[below + 1], share.clamp(0, 1)[:, None])


def offsets(distances: Iterable[int]) -> tuple[int, ...]:
    """These distances on either side, and 0 between them."""
    each = sorted(distances)
    return (*(-distance for distance in reversed(each)), 0, *each)


def numbers(ids: Integer[np.ndarray, "length fields"], vocabulary: Vocabulary) -> Float64[np.ndarray, "length ordinal"]:
    """The centres of known bins, in their units; NaN elsewhere."""
    columns = []
    for field in vocabulary.ordinal:
        centres = np.asarray(vocabulary.centres[field])
        column = ids[:, field].astype(np.int64)
        columns.append(np.where(column < len(centres), centres[np.minimum(column, len(centres) - 1)], np.nan))
    return np.stack(columns, axis=1)


def _around(
    z: Float64[np.ndarray, "length fields"], offsets: tuple[int, ...], start: int, stop: int
) -> Float64[np.ndarray, "part variables"]:
    """What stands at each offset from some positions; NaN beyond the ends."""
    parts = []
    for offset in offsets:
        there = np.arange(start, stop) + offset
        inside = (there >= 0) & (there < len(z))
        parts.append(np.where(inside[:, None], z[there.clip(0, len(z) - 1)], np.nan))
    return np.concatenate(parts, axis=1)


def _positive(covariance: Float64[np.ndarray, "n n"]) -> Float64[np.ndarray, "n n"]:
    """The nearest matrix without negative eigenvalues, which pairs counted at different places may cause."""
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray((vectors * values.clip(min=0)) @ vectors.T)
