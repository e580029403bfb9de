"""From hidden states to logits: the prediction head, the head of what comes next, and the decoder that they share."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from maskseq.model.config import EncoderConfig
from maskseq.model.layer import Norm
from maskseq.model.linear import Linear


class PredictionHead(nn.Module):
    """What stands between the last hidden state and the decoder, shared by all fields."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.activation = F.silu if config.head == "silu" else F.gelu
        self.dense = Linear(config.hidden_size, config.hidden_size, bias=config.head_bias)
        self.norm = Norm(config)

    def forward(self, hidden: Float[Tensor, "n hidden"]) -> Float[Tensor, "n hidden"]:
        return self.norm(self.activation(self.dense(hidden)))  # type: ignore[no-any-return]


class NextHead(nn.Module):
    """The head of an encoder that was also trained causally: what comes next, read one position before.

    The state at a position, in a segment that looks to the left only, gives the distribution of the next position. Its
    fields follow each other in their declared order, and each is given those before it, as far as they are known: the
    probabilities of all fields of all positions multiply to that of the whole sequence.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.begin = nn.Parameter(torch.empty(config.hidden_size))
        """The state before the first position."""
        self.known = Linear(config.hidden_size, config.hidden_size, bias=False)
        self.dense = Linear(config.hidden_size, config.hidden_size, bias=config.head_bias)
        self.norm = Norm(config)

    def forward(
        self,
        states: Float[Tensor, "tokens hidden"],
        before: Int[Tensor, " n"],
        ids: Int[Tensor, "n fields"],
        field: int,
        table: Callable[[int], Tensor],
    ) -> Float[Tensor, "n hidden"]:
        """What the decoder reads of `field` of some positions, from the tokens before them (−1: there is none).

        `ids` are those of the positions, `[MASK]` where they are not to be seen; `table` has the embeddings of a field.
        """
        # index_select: its backward adds up in one order on a CPU
        hidden = states.index_select(0, before.clamp(min=0))
        hidden = torch.where((before < 0)[:, None], self.begin.to(hidden.dtype), hidden)
        vocabulary = self.config.vocabulary
        facts = hidden.new_zeros(hidden.shape, dtype=torch.float32)
        for other, mask_id in enumerate(vocabulary.mask_ids):
            if other < field or (other in vocabulary.given and other != field):
                seen: Bool[Tensor, " n"] = ids[:, other] != mask_id
                facts = facts + F.embedding(ids[:, other], table(other)) * seen[:, None]
        return self.norm(F.gelu(self.dense(hidden + self.known(facts.to(hidden.dtype)))))  # type: ignore[no-any-return]


class Decoder(nn.Module):
    """Rows that turn a hidden state into logits, grouped by field; tied, they are the embedding table's."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.vocabulary = config.vocabulary
        n_outputs = sum(config.vocabulary.n_outputs)
        used = not (config.reference.on and config.reference.fits(config.vocabulary))
        self.weight = nn.Parameter(torch.empty(n_outputs, config.hidden_size)) if used and not config.tied else None
        self.bias = nn.Parameter(torch.empty(n_outputs)) if used and config.decoder_bias else None

    def forward(
        self, hidden: Float[Tensor, "n hidden"], field: int, table: Float[Tensor, "ids hidden"] | None
    ) -> Float[Tensor, "n outputs"]:
        vocabulary = self.vocabulary
        n = vocabulary.n_outputs[field]
        first = sum(vocabulary.n_outputs[:field])
        if self.weight is not None:
            weight = self.weight[first : first + n]
        else:
            assert table is not None
            weight = table[:n]
        logits = F.linear(hidden, weight.to(hidden.dtype)).float()
        if self.bias is not None:
            logits = logits + self.bias[first : first + n]
        never = list(vocabulary.unpredictable[field])
        if never:
            logits[:, never] = -math.inf
        return logits
