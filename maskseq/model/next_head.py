"""The head of an encoder that was also trained causally: what comes next, read one position before.

The state behind a position, in a piece that looks to the left only, says how the next position is distributed. Its
fields follow each other in their declared order: each is given those before it, as far as they are known. So the
probabilities of all fields of all positions multiply to that of the whole sequence.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from maskseq.model.config import EncoderConfig
from maskseq.model.linear import Linear


class NextHead(nn.Module):
    """A dense layer over the state before a position and what is known of the position; the decoder is shared."""

    def __init__(self, config: EncoderConfig, norm: nn.Module) -> None:
        super().__init__()
        self.config = config
        self.begin = nn.Parameter(torch.empty(config.hidden_size))
        """The state before the first position."""
        self.known = Linear(config.hidden_size, config.hidden_size, bias=False)
        self.dense = Linear(config.hidden_size, config.hidden_size, bias=config.head_bias)
        self.norm = norm

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
