"""What a prior is: something known of a position before the first layer, learned or counted."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from jaxtyping import Float, Int, Integer
from torch import Tensor, nn

from maskseq.model.config import EncoderConfig
from maskseq.model.numbers import Numbers


class Prior(nn.Module, ABC):
    """An addend of the embeddings, and for some priors of the logits. The switches of each are in `config.py`."""

    parameters_under: ClassVar[str]
    """The name of its parameters in checkpoints, below `embeddings`. Never changed: older runs have them so."""
    counted: ClassVar[bool] = False
    """Whether `count` must have seen the training data before the first step."""

    sees_neighbours: ClassVar[bool] = True
    """Whether it looks at other positions, on either side: causal segments go without it then."""
    starts_logits: ClassVar[bool] = False
    """Whether `embed` gives values, from which `evidence` goes on."""
    gives_logits: ClassVar[bool] = False
    """Whether `embed` gives values, from which `logits` makes those of all fields, in place of the decoder."""
    no_onnx: ClassVar[str] = ""
    """Why ONNX cannot have it, if it cannot."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.vocabulary = config.vocabulary

    @abstractmethod
    def embed(
        self,
        masked: Float[Tensor, "tokens hidden"],
        ids: Int[Tensor, "tokens fields"],
        positions: Int[Tensor, "tokens"],
        numbers: Numbers | None = None,
    ) -> tuple[Float[Tensor, "tokens hidden"], Float[Tensor, "tokens *values"] | None]:
        """The embeddings with its own added, and the values that `evidence` or `logits` goes on from."""

    def evidence(
        self, masked: Float[Tensor, "n hidden"], field: int, values: Float[Tensor, "n *values"]
    ) -> Float[Tensor, "n ids"] | None:
        """What is added to the logits of the first ids of a field, from the last hidden states and `embed`'s values.

        None where it knows nothing of the field.
        """
        return None

    def logits(
        self, masked: Float[Tensor, "n hidden"], field: int, values: Float[Tensor, "n *values"]
    ) -> Float[Tensor, "n outputs"]:
        """Those of a field, from the states behind the head and `embed`'s values."""
        raise NotImplementedError

    def count(self, sequences: Sequence[Integer[np.ndarray, "_ _"]]) -> None:
        """Take what it needs from the training data, as sequences of ids."""
