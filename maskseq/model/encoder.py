"""The encoder: packed sequences of ids in, hidden states and logits out.

Every choice on which published encoders differ is one field of `EncoderConfig`, so BERT, ModernBERT, NomicBERT,
NeoBERT and Xiao et al. are presets (`presets.py`) of this one file. Parameter names follow ModernBERT's.
"""

import math
from collections.abc import Iterable
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Integer
from torch import Tensor, nn

from maskseq.errors import UsageError
from maskseq.model.attention.causal import CausalAttention
from maskseq.model.attention.context_target import ContextTargetAttention
from maskseq.model.attention.packed import packed_self_attention
from maskseq.model.choice import Kernels
from maskseq.model.config import EncoderConfig
from maskseq.model.dropout import dropout
from maskseq.model.embedding import Embedding
from maskseq.model.head import Decoder, NextHead, PredictionHead
from maskseq.model.init import initialize
from maskseq.model.layer import Attend, Layer, Norm
from maskseq.model.linear import Linear
from maskseq.model.numbers import Numbers
from maskseq.model.priors.ordinal_basis import table_of, table_rows
from maskseq.model.priors.prior import Prior
from maskseq.model.priors.reference import Reference
from maskseq.model.priors.registry import PRIORS
from maskseq.model.rotary import Rotation, axial, coordinates_of, rotation
from maskseq.model.states import States


class Encoder(nn.Module):
    """A bidirectional transformer over packed segments, with one prediction head for each field.

    The caller decides about precision: parameters stay as they are (float32, usually), and each matrix is cast to the
    dtype of the residual stream where it is used. `forward(dtype=torch.bfloat16)` gives a bfloat16 stream with float32
    masters; autocast around a float32 stream works too. Embedding sums, rotary angles and logits are float32 always,
    norms compute their statistics in float32.
    """

    def __init__(self, config: EncoderConfig, *, seed: int | None = 0) -> None:
        """Initial values are drawn from a Generator of `seed`; with None they are left for the caller to fill."""
        super().__init__()
        device = torch.get_default_device()
        with torch.device("meta"):  # torch's own constructors would draw from the global generator
            self.config = config
            self.embeddings = Embeddings(config)
            self.layers = nn.ModuleList(Layer(config, index) for index in range(config.n_layers))
            self.final_norm = Norm(config) if config.final_norm else nn.Identity()
            self.head = nn.Identity() if config.head == "none" else PredictionHead(config)
            self.decoder = Decoder(config)
            self.next_head = NextHead(config) if config.next_head else None
        self.compute_with(Kernels())
        # As `to_empty`, whose `empty_like` of a meta tensor loads a package of algebra.
        self._apply(lambda each: torch.empty(each.shape, dtype=each.dtype, device=device))  # type: ignore[no-untyped-call]
        if seed is not None:
            initialize(self, config, seed)

    def forward(
        self,
        ids: Int[Tensor, "tokens fields"],
        positions: Int[Tensor, "tokens"],
        cu_seqlens: Int[Tensor, " bounds"],
        max_seqlen: int,
        *,
        numbers: Numbers | None = None,
        target: Bool[Tensor, "tokens"] | None = None,
        causal: Bool[Tensor, " segments"] | None = None,
        dropout_keys: Int[Tensor, "rows"] | None = None,
        dtype: torch.dtype | None = None,
        attend: Attend | None = None,
        depth: int | None = None,
    ) -> States:
        """States after the final norm, each segment as if it were alone.

        `numbers` are what ids were rounded from, where an encoder with a reference is to know it (None: the centres of
        bins).
        `target` says which positions an encoder with `context_sees_target = False` keeps from the others (None: none;
        other encoders ignore it). `causal` says which segments look to the left only (None: none does). The tokens are
        rows of equal length, and `dropout_keys` seed the dropout of each (None: no dropout). `dtype` is the residual
        stream's (None: the parameters'). `attend` replaces the attention function, as the ONNX export does. `depth`:
        the states behind so many layers, as they are (None: behind all).
        """
        config = self.config
        if config.positions == "learned" and max_seqlen > config.max_positions:
            raise UsageError(
                f"a segment of {max_seqlen} positions does not fit the {config.max_positions} learned ones\n\n"
                f"hint: shorten the context, or train with max_positions = {max_seqlen}",
                code="bad-option",
            )
        if attend is None:
            attend = partial(packed_self_attention, backend=self.kernels.attention)
            if target is not None and not config.context_sees_target:
                attend = ContextTargetAttention.of(target, cu_seqlens, backend=self.kernels.attention)
        causal_tokens = None
        if causal is not None:
            attend = CausalAttention.of(causal, cu_seqlens, backend=self.kernels.attention)
            causal_tokens = causal[segment_of(cu_seqlens)]
        hidden, prior = self.embeddings(ids, positions, causal_tokens, numbers)
        frame = self.embeddings.frame.weight if config.frame else None
        if config.mask_scaling:
            scale, masked = mask_scales(ids, cu_seqlens, config)
            hidden = hidden * (scale[segment_of(cu_seqlens)] * ~masked)[:, None]
            frame = None if frame is None else frame[:, None] * scale[:, None]
        hidden = dropout(hidden, config.embedding_dropout, dropout_keys, 0).to(dtype or hidden.dtype)
        kept = None
        if frame is not None:
            hidden, cu_seqlens, positions, kept = framed(hidden, frame, cu_seqlens)
            max_seqlen += 2
        everywhere, nearby = self.rotations(ids, positions)
        for index, layer in enumerate(self.layers):
            if index == depth:
                return States(hidden if kept is None else hidden[kept], prior)
            window = config.window_of(index)
            turn = everywhere if window is None else nearby
            hidden = layer(hidden, turn, cu_seqlens, max_seqlen, window, dropout_keys, attend)
        hidden = self.final_norm(hidden)
        return States(hidden if kept is None else hidden[kept], prior)

    def logits(self, states: States, field: int) -> Float[Tensor, "n outputs"]:
        """Scores, in float32, of every id of `field` that has a head row; −inf for those never to be predicted.

        Meant for the states of the cells in question, `states[tokens]`, not for those of a whole row.
        """
        masked = self.head(states.hidden_states)
        for name, prior in self.embeddings.priors.items():
            if prior.gives_logits:
                return prior.logits(masked, field, states.prior[name])
        table = self.embeddings.table(field) if self.config.tied else None
        logits = self.decoder(masked, field, table)
        for name, prior in self.embeddings.priors.items():
            if not prior.starts_logits:
                continue
            evidence = prior.evidence(states.hidden_states, field, states.prior[name])
            if evidence is not None:
                logits = logits + F.pad(evidence, (0, logits.shape[1] - evidence.shape[1]))
        return logits  # type: ignore[no-any-return]

    def next_logits(
        self, states: States, before: Int[Tensor, " n"], ids: Int[Tensor, "n fields"], field: int
    ) -> Float[Tensor, "n outputs"]:
        """As `logits`, of positions in causal segments, by the head of what comes next; see `NextHead.forward`."""
        assert self.next_head is not None
        hidden = self.next_head(states.hidden_states, before, ids, field, self.embeddings.table)
        return self.decoder(hidden, field, self.embeddings.table(field) if self.config.tied else None)  # type: ignore[no-any-return]

    def rotations(
        self, ids: Int[Tensor, "tokens fields"], positions: Int[Tensor, "framed"]
    ) -> tuple[Rotation, Rotation]:
        """Rotary angles for global and for local layers, from the θ that `config` has now: nothing to invalidate.

        A frame has positions, but no ids.
        """
        config = self.config
        if config.positions != "rope":
            return None, None
        angles = partial(rotation, positions)
        if axes := config.axes():
            angles = partial(axial, coordinates_of(ids, positions, axes, summed=bool(config.rope_gaps)))
        everywhere = angles(config.rotary_size, config.rope_theta)
        if config.global_every == 1:
            return everywhere, None
        return everywhere, angles(config.rotary_size, config.rope_theta_local)

    def compute_with(self, kernels: Kernels) -> None:
        """Use these kernels from now on; by default those that are fastest on the machine."""
        self.kernels = kernels
        for module in self.modules():
            if isinstance(module, Linear):
                module.widened = kernels.widened

    @property
    def n_parameters(self) -> int:
        return sum(p.numel() for p in self.parameters())


class Embeddings(nn.Module):
    """The sum of the fields' embeddings, from one table with an offset a field, plus absolute positions if any."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.tok_embeddings = Embedding(sum(table_rows(config)), config.hidden_size)
        if config.positions == "learned":
            self.positions = Embedding(config.max_positions, config.hidden_size)
        if config.frame:
            self.frame = Embedding(2, config.hidden_size)
        if config.token_types:
            self.token_types = Embedding(config.token_types, config.hidden_size)
        for name, prior in PRIORS.items():
            switches = getattr(config, name)
            if switches.on and switches.fits(config.vocabulary):
                self.add_module(prior.parameters_under, prior(config))
        self.norm = Norm(config) if config.embedding_norm else nn.Identity()

    def forward(
        self,
        ids: Int[Tensor, "tokens fields"],
        positions: Int[Tensor, "tokens"],
        causal: Bool[Tensor, " tokens"] | None = None,
        numbers: Numbers | None = None,
    ) -> tuple[Float[Tensor, "tokens hidden"], dict[str, Float[Tensor, "tokens *values"]]]:
        """The embeddings, and by its name what each prior knows that logits start from.

        Tokens of `causal` segments get nothing of priors that look at neighbours on both sides.
        """
        config = self.config
        prior = {}
        shown = self.reference.shown(ids) if self.reference is not None else ids
        # Gradients add up in float32 whatever the stream is.
        hidden = F.embedding(shown[:, 0], self.table(0))
        for field in range(1, config.vocabulary.n_fields):
            hidden = hidden + F.embedding(shown[:, field], self.table(field))
        if config.token_types:
            hidden = hidden + self.token_types.weight[0]
        for name, each in self.priors.items():
            added, values = each.embed(hidden, ids, positions, numbers)
            if causal is not None and each.sees_neighbours:
                added = torch.where(causal[:, None], hidden, added)
            hidden = added
            if values is not None:
                prior[name] = values
        if config.positions == "learned":
            hidden = hidden + self.positions(positions)
        elif config.positions == "sinusoidal":
            hidden = hidden * math.sqrt(config.hidden_size) + sinusoids(positions, config.hidden_size)
        return self.norm(hidden), prior

    def table(self, field: int) -> Float[Tensor, "ids hidden"]:
        """The embedding of each id of a field. Its rows are a slice, so its offset needs no tensor."""
        return table_of(self.tok_embeddings.weight, field, self.config)

    @property
    def priors(self) -> dict[str, Prior]:
        """Those that this encoder has, by their names, in the order in which they are added."""
        modules = {name: self._modules.get(prior.parameters_under) for name, prior in PRIORS.items()}
        return {name: module for name, module in modules.items() if module is not None}

    @property
    def reference(self) -> Reference | None:
        """That which densities are around, if there is one."""
        found = self.priors.get("reference")
        return found if isinstance(found, Reference) else None

    def count(self, sequences: Iterable[Integer[np.ndarray, "_ _"]]) -> None:
        """Let the priors that are counted take what they need from the training data, as sequences of ids."""
        counted = [prior for prior in self.priors.values() if prior.counted]
        kept = list(sequences) if counted else []
        for prior in counted:
            prior.count(kept)


def framed(
    hidden: Float[Tensor, "tokens hidden"],
    frame: Float[Tensor, "2 *segments hidden"],
    cu_seqlens: Int[Tensor, " bounds"],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The segments with a token before and one behind each: their embeddings, ends and positions, and where the tokens
    that were given now are. The frame is one for all segments, or one for each.
    """
    n = len(cu_seqlens) - 1
    ends = cu_seqlens + 2 * torch.arange(n + 1, device=cu_seqlens.device, dtype=cu_seqlens.dtype)
    kept = torch.arange(len(hidden), device=ends.device) + 1 + 2 * segment_of(cu_seqlens)
    longer = hidden.new_zeros(len(hidden) + 2 * n, hidden.shape[1]).index_copy(0, kept, hidden)
    for token, places in zip(frame.to(hidden.dtype), (ends[:-1], ends[1:] - 1), strict=True):
        longer = longer.index_copy(0, places.long(), token.expand(n, hidden.shape[1]))
    positions = torch.arange(len(longer), device=ends.device) - ends[:-1][segment_of(ends)]
    return longer, ends, positions, kept


def segment_of(cu_seqlens: Int[Tensor, " bounds"]) -> Int[Tensor, "tokens"]:
    """Which segment each token is of."""
    lengths = cu_seqlens.diff()
    return torch.repeat_interleave(torch.arange(len(lengths), device=lengths.device), lengths)


def mask_scales(
    ids: Int[Tensor, "tokens fields"], cu_seqlens: Int[Tensor, " bounds"], config: EncoderConfig
) -> tuple[Float[Tensor, "segments"], Bool[Tensor, "tokens"]]:
    """What makes up for the share of each segment that is masked, its frame counted (ESM-2), and what is."""
    masked = (ids == torch.tensor(config.vocabulary.mask_ids, device=ids.device)).any(dim=1)
    lengths = cu_seqlens.diff()
    n_masked = torch.zeros(len(lengths), device=ids.device).index_add(0, segment_of(cu_seqlens), masked.float())
    share = n_masked / (lengths + 2 * config.frame).clamp(min=1)
    return (1 - config.mask_scaling) / (1 - share).clamp(min=1e-6), masked


def sinusoids(positions: Int[Tensor, "tokens"], size: int) -> Float[Tensor, "tokens size"]:
    """PE(pos, 2i) = sin(pos / 10000^(2i/size)), PE(pos, 2i+1) = cos of the same (Vaswani et al. 2017, §3.5)."""
    exponents = torch.arange(0, size, 2, dtype=torch.float32, device=positions.device) / size
    angles = positions.float()[:, None] / 10_000.0**exponents
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2)[:, :size]
