"""The module of each prior that adds to the embeddings, by its name in `PriorSwitches`, in the order of adding."""

from maskseq.model.priors.linear_prior import LinearPrior
from maskseq.model.priors.ngram import NgramEmbeddings, NgramPrior
from maskseq.model.priors.phase import PhaseEmbeddings
from maskseq.model.priors.prior import Prior
from maskseq.model.priors.reference import Reference

PRIORS: dict[str, type[Prior]] = {
    "phase_embeddings": PhaseEmbeddings,
    "ngram_embeddings": NgramEmbeddings,
    "ngram_prior": NgramPrior,
    "linear_prior": LinearPrior,
    "reference": Reference,
}
