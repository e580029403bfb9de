"""What an encoder gives for tokens: all that its logits need."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class States:
    """Hidden states of tokens, and what priors computed there that logits start from.

    `states[tokens]` are those of some tokens, such as the positions of masked cells: logits are for these, not for a
    whole row.
    """

    hidden_states: Float[Tensor, "tokens hidden"]
    prior: Mapping[str, Float[Tensor, "tokens *values"]] = field(default_factory=dict)
    """By the name of the prior; those that only add to the embeddings have none."""

    def __getitem__(self, tokens: Int[Tensor, "n"]) -> "States":
        # index_select: its backward adds up in one order on a CPU, that of hidden_states[tokens] does not
        return States(
            self.hidden_states.index_select(0, tokens),
            {name: values.index_select(0, tokens) for name, values in self.prior.items()},
        )
