"""The switches of an encoder: one dataclass, without torch, so that recipes are checked before anything is loaded."""

from dataclasses import dataclass, fields
from operator import not_
from typing import Annotated, ClassVar, Literal

import pydantic
from pydantic import ConfigDict

from maskseq.errors import UsageError
from maskseq.model.priors.config import PriorSwitches
from maskseq.types import Vocabulary

MAX_SIZE = 1 << 31
"""What no single size comes near: beyond it, tensors are not even described."""


@dataclass(frozen=True, kw_only=True)
class EncoderConfig(PriorSwitches):
    """Shape and switches of an encoder; the defaults are the ModernBERT family's, and no priors."""

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
    """The longest segment: rows of the `learned` table; for the others a statement that exports repeat."""
    rope_theta: float = 10_000.0
    """Base of the rotary wavelengths in global layers."""
    rope_theta_local: float = 10_000.0
    """The same in layers with a window."""
    rope_fraction: float = 1.0
    """Share of each head's dimensions that turns; the first ones do."""
    rope_fields: tuple[str, ...] = ()
    """Given ordinal fields whose numbers are coordinates, in place of the position: each has an equal share of what
    turns, such as row and column of an image (axial RoPE)."""
    rope_gaps: str = ""
    """A given ordinal field of what has passed since the position before, such as time: its running sum is the
    coordinate, in place of the position."""
    rope_unit: float = 1.0
    """How much of `rope_fields` or `rope_gaps`, in their units, turns as one position does."""
    rope_style: Literal["half", "interleaved"] = "half"
    """Which dimensions turn together: i and i + n/2 (`half`), or 2i and 2i + 1 (`interleaved`)."""

    global_every: int = 1
    """Layers 0, n, 2n, … attend to the whole segment, the others to ± `window`; 1: all attend to everything."""
    window: int | None = None
    """Keys on either side, inclusive: 64 is ModernBERT's `local_attention = 128`, 129 keys."""
    context_sees_target: bool = True
    """False: what surrounds a target attends to itself only, while the target attends to everything (Xiao et al. 2025).
    In training, targets are those of the `infill` objective; afterwards every position with a masked value is one."""

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

    frame: bool = False
    """A learned token before and behind each segment, as ESM-2 has `<cls>` and `<eos>`: seen, never predicted."""
    mask_scaling: float = 0.0
    """Token dropout of ESM-2: masked positions embed as 0, and the others times (1 − this) ÷ (1 − the share that is
    masked). 0: none."""

    head: Literal["none", "gelu", "silu"] = "gelu"
    """Dense layer, this activation and a norm before the decoder, or nothing."""
    head_bias: bool = False
    next_head: Annotated[bool, pydantic.Field(exclude_if=not_)] = False
    """A second head, of what comes next: `masking.causal` trains it. Encoders without it are saved as before it was."""
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
        self._check_sizes()
        self._check_positions()
        self._check_attention()
        self.check_priors(self.vocabulary, context_sees_target=self.context_sees_target)

    def _check_sizes(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, int | float) and not value <= MAX_SIZE:
                raise UsageError(f"{field.name} must be a number up to {MAX_SIZE:,}, not {value}", code="bad-option")
        for name in ("rope_theta", "rope_theta_local", "rope_unit", "init_std", "init_cutoff"):
            if getattr(self, name) <= 0:
                raise UsageError(f"{name} must be above 0, not {getattr(self, name)}", code="bad-option")
        for name in ("norm_eps", "token_types"):
            if getattr(self, name) < 0:
                raise UsageError(f"{name} must be at least 0, not {getattr(self, name)}", code="bad-option")
        for name in ("n_layers", "hidden_size", "n_heads", "intermediate_size", "max_positions", "global_every"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, not {getattr(self, name)}", code="bad-option")
        if self.hidden_size % self.n_heads:
            raise UsageError(
                f"hidden_size {self.hidden_size} is not a multiple of n_heads {self.n_heads}", code="bad-option"
            )
        for name in ("embedding_dropout", "attention_dropout", "mlp_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 0 and below 1, not {getattr(self, name)}", code="bad-option")

    def _check_positions(self) -> None:
        if not 0 < self.rope_fraction <= 1:
            raise UsageError(
                f"rope_fraction must be above 0 and at most 1, not {self.rope_fraction}", code="bad-option"
            )
        if self.positions == "rope" and (self.rotary_size < 2 or self.rotary_size % 2):
            raise UsageError(
                f"rope_fraction {self.rope_fraction} of head size {self.head_size} turns {self.rotary_size} "
                f"dimensions; it must be an even number of them",
                code="bad-option",
            )
        if self.rope_fields and self.rope_gaps:
            raise UsageError(
                "give rope_fields (coordinates) or rope_gaps (steps between positions), not both", code="bad-option"
            )
        if (self.rope_fields or self.rope_gaps) and self.positions != "rope":
            raise UsageError(
                f"rope_fields and rope_gaps need positions = 'rope', not {self.positions!r}", code="bad-option"
            )
        if len(self.rope_fields) > self.rotary_size // 2:
            raise UsageError(
                f"{len(self.rope_fields)} rope_fields share {self.rotary_size // 2} planes of rotation",
                code="bad-option",
            )

    def _check_attention(self) -> None:
        if self.global_every > 1 and (self.window is None or self.window < 0):
            raise UsageError(
                f"global_every = {self.global_every} leaves layers with local attention: "
                f"window must say how far they see (64 in ModernBERT), not {self.window}",
                code="bad-option",
            )
        if self.global_every > 1 and not self.context_sees_target:
            raise UsageError(
                f"context_sees_target = false needs every layer to attend to whole segments: "
                f"global_every must be 1, not {self.global_every}",
                code="bad-option",
            )
        dropouts = self.embedding_dropout, self.attention_dropout, self.mlp_dropout
        plain = self.positions == "rope" and self.context_sees_target and not (self.rope_fields or self.rope_gaps)
        if self.frame and (any(dropouts) or not plain):
            raise UsageError(
                "frame goes with plain RoPE, without dropout, and with a context that sees its target",
                code="bad-option",
            )
        if self.next_head and (self.frame or not self.context_sees_target):
            raise UsageError(
                "next_head needs causal segments, which go without frame and with a context that sees its target",
                code="bad-option",
            )
        if self.next_head and self.reference.on:
            raise UsageError("next_head answers in bins, and reference around numbers: choose one", code="bad-option")
        if not 0 <= self.mask_scaling < 1 or (self.mask_scaling and self.embedding_norm):
            raise UsageError(
                f"mask_scaling = {self.mask_scaling} is a share below 1, and goes without embedding_norm",
                code="bad-option",
            )

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

    def axes(self) -> list[tuple[int, tuple[float, ...]]]:
        """The fields of `rope_fields`, or of `rope_gaps`, and the number of each of their ids, in units; else 0.

        Raises:
            UsageError: There is no such field, or it is not a given one of numbers.
        """
        found = []
        for name in self.rope_fields or ((self.rope_gaps,) if self.rope_gaps else ()):
            given = {self.vocabulary.names[index]: index for index in self.vocabulary.given}
            index = given.get(name, -1)
            centres = self.vocabulary.centres[index] if name in given else None
            if centres is None:
                able = [each for each, index in given.items() if self.vocabulary.centres[index] is not None]
                raise UsageError(
                    f"model.rope_fields, rope_gaps: {name!r} is not a given field of numbers, which all positions know"
                    f"\n\nhint: {'those are ' + ', '.join(able) if able else 'there is none'}",
                    code="bad-option",
                )
            others = (0.0,) * (self.vocabulary.n_rows[index] - len(centres))
            found.append((index, tuple(centre / self.rope_unit for centre in centres) + others))
        return found

    def window_of(self, layer: int) -> int | None:
        """How far layer `layer` sees on either side; None: everything."""
        return self.window if layer % self.global_every else None
