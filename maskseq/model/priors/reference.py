"""A density of masked numbers around what a Gaussian says of them: the encoder learns where that is wrong.

Of a masked number x with the conditional mean m and the standard deviation s of a closed form
(`maskseq.model.gaussian`) let u = ((x − m)/s − δ)·exp(−τ). Its rank Φ(u) has a histogram of equally wide bins with the
probabilities p, so that x has a density with the tails of a Gaussian. δ, τ and log p are linear in the last hidden
state, by weights that begin at 0: then the density is that of the closed form. Integrated between the edges of absolute
bins, of which the outermost are open, it gives the probabilities of ids.

Nothing but known numbers decides m and s. In training they come from what was counted without the part of the data that
a segment is of: a form errs too little on what it was counted on.
"""

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor, nn

from maskseq.model.config import EncoderConfig
from maskseq.model.gaussian import WINDOW, Matrices, Stationary, Values, block_toeplitz, moments, positive
from maskseq.model.linear import Linear
from maskseq.model.numbers import Numbers
from maskseq.model.priors.prior import Prior
from maskseq.packing.folds import FILLER, FOLDS, WHOLE

FLOOR = 1e-6
"""Of the frequencies in every answer, so that nothing that occurs is impossible."""
NARROWEST = 1e-3
"""The least by which the numbers of a segment are divided, as a share of a field's deviation in training."""
WIDEST = 4.0
"""The most that log-widths are corrected by."""
FEATURES = 4
"""Inputs for each field: a known number, or else the mean and the log-width; and which of both it is."""
FREE = {"fixed": 0, "free": 1, "trend": 2}
"""Of what shapes nothing is assumed, by `ReferenceConfig.level`."""


@dataclass(frozen=True)
class _Made:
    """Closed forms that were made of stored covariances, which takes a while."""

    version: object = None
    content: bytes = b""
    forms: dict[int, Stationary] = field(default_factory=dict)


class Reference(Prior):
    """What a Gaussian says of masked numbers, as an input and as where densities begin. All fields are numbers."""

    parameters_under = "density"
    gives_logits = True
    no_onnx = "it has no operator that solves equations"

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config)
        n = config.vocabulary.n_fields
        self.free, self.bins = FREE[config.reference.level], config.reference.bins
        self.sees_bins = config.reference.sees_bins
        self.width = max(WINDOW // n, 1)
        # Parameters that nothing updates, as in `LinearPrior`. Two each: what float32 leaves out is in the second.
        self.mean, self.std = (nn.Parameter(torch.empty(2, 1 + FOLDS, n), requires_grad=False) for _ in range(2))
        self.lags = nn.Parameter(torch.empty(2, 1 + FOLDS, self.width, n, n), requires_grad=False)
        self.shares = nn.Parameter(torch.empty(sum(config.vocabulary.n_outputs)), requires_grad=False)
        self.numbers = Linear(FEATURES * n, config.hidden_size, bias=False)
        self.correction = Linear(config.hidden_size, n * (2 + self.bins), bias=True)
        self._made = _Made()

    def count_numbers(
        self,
        series: Sequence[Float[np.ndarray, "_ fields"]],
        folds: Sequence[Int[np.ndarray, " _"]],
        shares: Sequence[Float[np.ndarray, " _"]],
    ) -> None:
        """Count closed forms on training numbers: on all, and without each part; `folds` says which each is of.

        `shares` are those of ids, field by field.
        """
        with torch.no_grad():
            for fold in range(1 + FOLDS):
                kept = [part for values, of in zip(series, folds, strict=True) for part in _without(values, of, fold)]
                mean, std, lags = _counted(kept or list(series), self.width)
                for stored, found in ((self.mean, mean), (self.std, std), (self.lags, lags)):
                    rounded = torch.from_numpy(found.astype(np.float32))
                    rest = torch.from_numpy(found) - rounded.double()
                    stored[0, fold], stored[1, fold] = rounded, rest.float()
            self.shares.copy_(torch.from_numpy(np.concatenate(shares)))

    def form(self, fold: int = WHOLE) -> Stationary:
        """The closed form that was counted on all of the training data, or without one of its parts."""
        stored = self.mean, self.std, self.lags
        version = tuple((id(each), each._version) for each in stored)
        if self._made.version != version:  # perhaps the average of the weights stands in for them, and holds the same
            content = hashlib.sha256(b"".join(each.detach().cpu().numpy().tobytes() for each in stored)).digest()
            forms = self._made.forms if self._made.content == content else {}
            self._made = _Made(version, content, forms)
        forms = self._made.forms
        if fold not in forms:
            mean, std, lags = (each.detach()[:, fold].double().sum(dim=0).cpu().numpy() for each in stored)
            matrices = Matrices(positive(block_toeplitz(lags)))
            forms[fold] = Stationary(mean, np.where(std > 0, std, 1.0), matrices, self.free)
        return forms[fold]

    def frequencies(self) -> list[Float[np.ndarray, " _"]]:
        """The shares of ids in training, field by field."""
        ends = np.cumsum(self.vocabulary.n_outputs)[:-1]
        return np.split(self.shares.detach().double().cpu().numpy(), ends)

    def shown(self, ids: Int[Tensor, "tokens fields"]) -> Int[Tensor, "tokens fields"]:
        """What the encoder sees of the ids in addition to the numbers: all of them, or only which are known."""
        if self.sees_bins:
            return ids
        n_bins = torch.tensor([len(centres or ()) for centres in self.vocabulary.centres], device=ids.device)
        return torch.where(ids < n_bins, 0, ids)

    def embed(
        self,
        masked: Float[Tensor, "tokens hidden"],
        ids: Int[Tensor, "tokens fields"],
        positions: Int[Tensor, "tokens"],
        numbers: Numbers | None = None,
    ) -> tuple[Float[Tensor, "tokens hidden"], Float64[Tensor, "tokens fields 2"]]:
        at, known = positions.cpu().numpy(), self._known(ids, numbers)
        starts = np.flatnonzero(at == 0)
        folds = np.full(len(starts), WHOLE) if numbers is None else numbers.fold.cpu().numpy()
        found, features = np.empty((2, *known.shape)), np.empty((*known.shape, FEATURES), np.float32)
        for fold, start, stop in zip(folds.tolist(), starts, [*starts[1:], len(known)], strict=True):
            segment = slice(start, stop)
            found[:, segment], features[segment] = self._of_segment(known[segment], fold)
        stated = torch.from_numpy(np.stack([found[0], found[1]], axis=-1)).to(ids.device)
        inputs = torch.from_numpy(features).flatten(1).to(ids.device)
        return masked + self.numbers(inputs), stated

    def _of_segment(
        self, values: Values, fold: int
    ) -> tuple[Float64[np.ndarray, "2 length fields"], Float[np.ndarray, "length fields features"]]:
        """Means and standard deviations where numbers are masked, and what the encoder is given of all."""
        form = self.form(max(fold, WHOLE))
        masked = np.isnan(values)
        if fold == FILLER:
            mean, variance = np.broadcast_to(form.mean, values.shape), np.broadcast_to(form.std**2, values.shape)
        else:
            mean, variance = _posterior(form, values)
        sd = np.sqrt(np.where(masked, variance, form.std**2) + 1e-12 * form.std**2)
        centre, unit = form.mean, form.std
        if self.free:
            n = np.maximum((~masked).sum(axis=0), 1)
            centre = np.where(masked.all(axis=0), centre, np.where(masked, 0, values).sum(axis=0) / n)
            spread = np.sqrt((np.where(masked, 0, values - centre) ** 2).sum(axis=0) / n)
            unit = np.where((~masked).sum(axis=0) > 1, np.maximum(spread, NARROWEST * unit), unit)
        z = np.arcsinh((mean - centre) / unit)
        features = [np.where(masked, 0, z), np.where(masked, z, 0), np.where(masked, np.log(sd / unit), 0), masked]
        return np.stack([mean, sd]), np.stack(features, axis=-1).astype(np.float32)

    def _known(self, ids: Int[Tensor, "tokens fields"], numbers: Numbers | None) -> Values:
        """What is visible, as it was read or else as the centres of bins; whatever an id hides is NaN."""
        columns = []
        for column, each in zip(ids.cpu().numpy().T, self.vocabulary.centres, strict=True):
            of_ids = np.append(np.asarray(each), np.nan)
            columns.append(of_ids[np.minimum(column, len(of_ids) - 1)])
        centres = np.stack(columns, axis=1)
        if numbers is None:
            return centres
        read = numbers.values.cpu().numpy()
        return np.where(np.isnan(centres) | np.isnan(read), centres, read)

    def logits(
        self, hidden: Float[Tensor, "n hidden"], field: int, stated: Float64[Tensor, "n fields 2"]
    ) -> Float[Tensor, "n outputs"]:
        """The logarithms of the mass in each absolute bin."""
        (mean, sd), (shift, width, ranks) = stated[:, field, :, None].unbind(1), self._corrections(hidden, field)
        centres = torch.tensor(self.vocabulary.centres[field], dtype=torch.float64, device=hidden.device)
        edges = (centres[1:] + centres[:-1]) / 2
        rank = torch.special.ndtr(((edges - mean) / sd - shift) * (-width).exp()) * self.bins
        which = rank.detach().long().clamp(max=self.bins - 1)
        cumulated = ranks.cumsum(dim=-1) - ranks
        below = cumulated.gather(1, which) + ranks.gather(1, which) * (rank - which)
        mass = torch.diff(below, dim=-1, prepend=torch.zeros_like(mean), append=torch.ones_like(mean)).clamp(min=0)
        shares = (
            torch.split(self.shares.detach(), list(self.vocabulary.n_outputs))[field].double().expand(len(mass), -1)
        )
        of_bins, others = shares[:, : len(centres)], shares[:, len(centres) :]
        found = torch.cat([mass * of_bins.sum(dim=-1, keepdim=True), others], dim=-1)
        found = (1 - FLOOR) * found + FLOOR * shares
        return found.log().float()

    def stated(
        self,
        hidden: Float[Tensor, "n hidden"],
        field: int,
        stated: Float64[Tensor, "n fields 2"],
        at: Float64[np.ndarray, " ranks"],
    ) -> tuple[Float64[Tensor, "n"], Float64[Tensor, "n ranks"]]:
        """The mean of the density, and its quantiles at some ranks; not bound to any bins."""
        (mean, sd), (shift, width, ranks) = stated[:, field, :, None].unbind(1), self._corrections(hidden, field)
        # Of a standard normal number within each bin of ranks: φ(q_k) − φ(q_k+1), times the number of bins.
        edges = torch.special.ndtri(torch.arange(1, self.bins, dtype=torch.float64, device=mean.device) / self.bins)
        height = torch.cat([edges.new_zeros(1), (-0.5 * edges.square()).exp() / math.sqrt(2 * math.pi)])
        within = (height - torch.cat([height[1:], height[:1]])) * self.bins
        wanted = torch.as_tensor(at, device=mean.device).expand(len(mean), -1)
        above = ranks.cumsum(dim=-1)
        which = torch.searchsorted(above, wanted.contiguous()).clamp(max=self.bins - 1)
        below = (above - ranks).gather(1, which)
        rank = (which + ((wanted - below) / ranks.gather(1, which)).clamp(0, 1)) / self.bins
        u = torch.cat([ranks @ within[:, None], torch.special.ndtri(rank.clamp(1e-12, 1 - 1e-12))], dim=1)
        found = mean + sd * (shift + width.exp() * u)
        return found[:, 0], found[:, 1:]

    def _corrections(
        self, hidden: Float[Tensor, "n hidden"], field: int
    ) -> tuple[Float64[Tensor, "n 1"], Float64[Tensor, "n 1"], Float64[Tensor, "n bins"]]:
        """Where the density is moved to, in standard deviations, its log-width, and the histogram of ranks."""
        found = self.correction(hidden).unflatten(-1, (-1, 2 + self.bins))[:, field].double()
        shift, width, ranks = found.split([1, 1, self.bins], dim=-1)
        return shift, WIDEST * torch.tanh(width / WIDEST), ranks.softmax(dim=-1)


def _posterior(form: Stationary, values: Values) -> tuple[Values, Values]:
    """As the form has it, but all masked numbers of a segment that is one window at once: one system of equations."""
    masked = np.isnan(values)
    if len(values) > form.width or not masked.any():
        return form.posterior(values)
    mean, variance = values.copy(), np.zeros_like(values)
    z = (values - form.mean) / form.std
    fields = np.nonzero(masked)[1]
    found, spread = form.of_window(z, masked)
    mean[masked] = found * form.std[fields] + form.mean[fields]
    variance[masked] = spread * form.std[fields] ** 2
    return mean, variance


def _without(values: Values, folds: Int[np.ndarray, " length"], left_out: int) -> Iterator[Values]:
    """The stretches of a series outside a part, without what is next to it."""
    kept = folds != left_out
    if kept.all():
        yield values
        return
    gap = min(WINDOW // values.shape[1], int((~kept).sum()) // 4)
    for start, stop in np.flatnonzero(np.diff(kept, prepend=False, append=False)).reshape(-1, 2).tolist():
        part = values[start + gap * (start > 0) : stop - gap * (stop < len(values))]
        if len(part) > 1:
            yield part


def _counted(
    series: Sequence[Float[np.ndarray, "_ fields"]], width: int
) -> tuple[Float[np.ndarray, " fields"], Float[np.ndarray, " fields"], Float[np.ndarray, "lags fields fields"]]:
    """Moments of each field, and covariances at each lag, as `Stationary` has them; 0 beyond the longest series."""
    mean, std = moments(series)
    found = Stationary.lags_of(series, mean, std, width=min(max(map(len, series)), width))
    return mean, std, np.concatenate([found, np.zeros((width - len(found), *found.shape[1:]))])
