"""The switches of an encoder: one dataclass, without torch, so that recipes are checked before anything is loaded."""

from dataclasses import dataclass, fields
from typing import ClassVar, Literal

from pydantic import ConfigDict

from maskseq.errors import UsageError
from maskseq.types import Vocabulary

MAX_NEIGHBOUR_ROWS = 1 << 20
MAX_TABLE = 1 << 24
MAX_SIZE = 1 << 31
"""What no single size comes near: beyond it, tensors are not even described."""
MAX_VARIABLES = 512
"""Numbers whose covariances `linear_context` may take: each hidden one costs a system of that many equations."""


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """Shape and switches of an encoder; the defaults are the ModernBERT family's."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", allow_inf_nan=False)

    vocabulary: Vocabulary
    n_layers: int
    hidden_size: int
    n_heads: int
    intermediate_size: int
    """Width inside the MLP; of each half, for a gated one."""

    positions: Literal["rope", "learned", "sinusoidal"] = "rope"
    """`sinusoidal` is Vaswani et al. 2017 §3.4–3.5: embeddings times √hidden_size, plus sines and cosines."""
    max_positions: int = 8192
    """The longest piece: rows of the `learned` table; for the others a statement that exports repeat."""
    rope_theta: float = 10_000.0
    """Base of the rotary wavelengths in global layers."""
    rope_theta_local: float = 10_000.0
    """The same in layers with a window."""
    rope_fraction: float = 1.0
    """Share of each head's dimensions that turns; the first ones do."""
    rope_style: Literal["half", "interleaved"] = "half"
    """Which dimensions turn together: i and i + n/2 (`half`), or 2i and 2i + 1 (`interleaved`)."""

    periods: tuple[int, ...] = ()
    """Periods, in positions, that the data have: 3 bases a codon, 24 hours a day. Of each, a position is also given its
    remainder, an embedding a value, counted from where its piece begins. Rotary angles cannot tell periods below 2π
    apart from longer ones, and hit none exactly."""

    global_every: int = 1
    """Layers 0, n, 2n, … attend to the whole piece, the others to ± `window`; 1: all attend to everything."""
    window: int | None = None
    """Keys on either side, inclusive: 64 is ModernBERT's `local_attention = 128`, 129 keys."""
    context_sees_target: bool = True
    """False: what surrounds a target attends to itself only, while the target attends to everything (Xiao et al. 2025).
    In training, targets are those of the `infill` objective; afterwards every position with a hidden value is one."""

    mlp: Literal["gelu", "geglu", "swiglu"] = "geglu"
    norm: Literal["layernorm", "rmsnorm"] = "layernorm"
    norm_eps: float = 1e-5
    norm_bias: bool = False
    placement: Literal["pre", "post"] = "pre"
    """Norms before attention and MLP (`pre`), or after each residual sum (`post`, Vaswani et al., BERT)."""
    embedding_norm: bool = True
    first_norm: bool = False
    """Pre-norm only: whether layer 0 normalises again before attention what `embedding_norm` has normalised."""
    final_norm: bool = True
    attention_bias: bool = False
    mlp_bias: bool = False
    token_types: int = 0
    """Rows of BERT's segment table, of which row 0 is added everywhere; 0: there is none."""
    neighbours: tuple[tuple[int, int], ...] = ()
    """Further embeddings of a position: of the ids next to it, so many on the left and on the right, itself left out.
    Each pair has a table with a row for every combination of ids (n-gram embeddings: Huang et al. 2025, arXiv
    2501.16975, here on both sides)."""
    context_table: int = 0
    """Neighbours on either side whose context table is a further input: log P(id | neighbours), counted on the training
    data before the first step and then left as it is, so that training starts from what a table knows. 0: none."""

    waves: int = 0
    """Embeddings of ordinal fields as mixtures of so many waves over their bins, and of a line: neighbouring bins are
    alike from the first step on (see `maskseq.model.priors.ordinal_basis`). For numbers, of which there are few. 0: a
    row for each."""

    linear_context: tuple[int, ...] = ()
    """How far away, in positions and on either side, numbers are from which hidden ones are predicted linearly, by the
    covariances of all channels there and here (see `maskseq.model.priors.linear_prior`). They are counted on the
    training data before the first step and then left as they are; the prediction is an input, and logits start from it.
    (): none."""

    head: Literal["none", "gelu", "silu"] = "gelu"
    """Dense layer, this activation and a norm before the decoder, or nothing."""
    head_bias: bool = False
    decoder_bias: bool = True
    tied: bool = True
    """The decoder uses the rows of the embedding table."""

    embedding_dropout: float = 0.0
    attention_dropout: float = 0.0
    """On the output of attention; its probabilities are never dropped (no packed kernel does it)."""
    mlp_dropout: float = 0.0
    """On the output of the MLP."""

    init: Literal["full_megatron", "truncated_normal", "normal", "uniform"] = "full_megatron"
    init_std: float = 0.02
    """Standard deviation before truncation, or half the range of `uniform`."""
    init_cutoff: float = 2.0
    """Where truncated normals are cut, in standard deviations."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, int | float) and not value <= MAX_SIZE:
                raise UsageError(f"{field.name} must be a number up to {MAX_SIZE:,}, not {value}")
        for name in ("rope_theta", "rope_theta_local", "init_std", "init_cutoff"):
            if getattr(self, name) <= 0:
                raise UsageError(f"{name} must be above 0, not {getattr(self, name)}")
        for name in ("norm_eps", "token_types"):
            if getattr(self, name) < 0:
                raise UsageError(f"{name} must be at least 0, not {getattr(self, name)}")
        for name in ("n_layers", "hidden_size", "n_heads", "intermediate_size", "max_positions", "global_every"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.hidden_size % self.n_heads:
            raise UsageError(f"hidden_size {self.hidden_size} is not a multiple of n_heads {self.n_heads}")
        if self.positions == "rope" and (self.rotary_size < 2 or self.rotary_size % 2):
            raise UsageError(
                f"rope_fraction {self.rope_fraction} of head size {self.head_size} turns {self.rotary_size} "
                f"dimensions; it must be an even number of them"
            )
        if self.global_every > 1 and (self.window is None or self.window < 0):
            raise UsageError(
                f"global_every = {self.global_every} leaves layers with local attention: "
                f"window must say how far they see (64 in ModernBERT), not {self.window}"
            )
        if self.global_every > 1 and not self.context_sees_target:
            raise UsageError(
                f"context_sees_target = false needs every layer to attend to whole pieces: "
                f"global_every must be 1, not {self.global_every}"
            )
        if any(not 2 <= period <= MAX_SIZE for period in self.periods):
            raise UsageError(f"periods are whole numbers of positions from 2 on, not {list(self.periods)}")
        for pair in self.neighbours:
            if (
                min(pair) < 0
                or max(pair) > MAX_SIZE
                or not 1 <= self.neighbour_rows(pair) <= MAX_NEIGHBOUR_ROWS
                or pair == (0, 0)
            ):
                raise UsageError(
                    f"neighbours = {list(pair)} needs {self.neighbour_rows(pair):,} embeddings; name at least one "
                    f"neighbour, and so few that there are at most {MAX_NEIGHBOUR_ROWS:,} combinations of their ids"
                )
        rows = zip(self.vocabulary.n_rows, self.vocabulary.n_outputs, strict=True)
        size = max(power(n, 2 * self.context_table) * outputs for n, outputs in rows)
        if self.context_table < 0 or size > MAX_TABLE:
            raise UsageError(
                f"context_table = {self.context_table} needs {size:,} probabilities for a field; at most {MAX_TABLE:,} "
                f"are possible: name fewer neighbours, from 0 on"
            )
        distances = self.linear_context
        if (
            min(distances, default=1) < 1
            or max(distances, default=1) > MAX_SIZE
            or len(set(distances)) < len(distances)
        ):
            raise UsageError(f"linear_context = {list(distances)} must be distances from 1 on, each of them once")
        variables = (2 * len(distances) + 1) * len(self.vocabulary.ordinal)
        if distances and variables > MAX_VARIABLES:
            raise UsageError(
                f"linear_context = {list(distances)} takes covariances of {variables} numbers, of which at "
                f"most {MAX_VARIABLES} are possible: name fewer distances"
            )
        if (self.neighbours or self.context_table or distances) and not self.context_sees_target:
            raise UsageError(
                "neighbours, context_table and linear_context would show the target to its context: "
                "context_sees_target must be true"
            )
        if self.waves < 0:
            raise UsageError(f"waves = {self.waves} must be 0 or more")
        if not 0 < self.rope_fraction <= 1:
            raise UsageError(f"rope_fraction must be above 0 and at most 1, not {self.rope_fraction}")
        for name in ("embedding_dropout", "attention_dropout", "mlp_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 0 and below 1, not {getattr(self, name)}")

    def neighbour_rows(self, pair: tuple[int, int]) -> int:
        """Combinations of the ids of so many neighbours, over all fields."""
        return sum(power(n_rows, sum(pair)) for n_rows in self.vocabulary.n_rows)

    @property
    def least_parameters(self) -> int:
        """The matrices of the layers and the table of positions: what an encoder has in any case."""
        h, width = self.hidden_size, self.intermediate_size * (2 if self.mlp == "gelu" else 3)
        positions = self.max_positions if self.positions == "learned" else 0
        return self.n_layers * (4 * h * h + h * width) + positions * h

    @property
    def head_size(self) -> int:
        return self.hidden_size // self.n_heads

    @property
    def rotary_size(self) -> int:
        """Dimensions of a head that RoPE turns."""
        return int(self.head_size * self.rope_fraction)

    def window_of(self, layer: int) -> int | None:
        """How far layer `layer` sees on either side; None: everything."""
        return self.window if layer % self.global_every else None


def power(base: int, exponent: int) -> int:
    """`base ** exponent`, or something beyond all limits instead of a number with a billion digits."""
    return int(base ** max(min(exponent, 64), 0))
