"""Where in its period a position stands, as an input of the encoder."""

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from maskseq.model.config import EncoderConfig
from maskseq.model.embedding import Embedding
from maskseq.model.numbers import Numbers
from maskseq.model.priors.prior import Prior


class PhaseEmbeddings(Prior):
    """For each period a learned embedding of every remainder."""

    parameters_under = "periods"
    sees_neighbours = False

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config)
        for number, period in enumerate(config.phase_embeddings.periods):
            self.add_module(str(number), Embedding(period, config.hidden_size))

    def embed(
        self,
        masked: Float[Tensor, "tokens hidden"],
        ids: Int[Tensor, "tokens fields"],
        positions: Int[Tensor, "tokens"],
        numbers: Numbers | None = None,
    ) -> tuple[Float[Tensor, "tokens hidden"], None]:
        for phases in self.parameters():
            masked = masked + F.embedding(positions % len(phases), phases)
        return masked, None
