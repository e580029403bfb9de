"""A table of vectors that costs nothing to make without values."""

from torch import nn


class Embedding(nn.Embedding):
    """`nn.Embedding`, made on the meta device in no time."""

    def reset_parameters(self) -> None:
        """Draw initial values, but not on the meta device, where it changes nothing and loads torch's compiler."""
        if not self.weight.is_meta:
            super().reset_parameters()
