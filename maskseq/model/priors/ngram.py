"""What stands next to a position, as an input of the encoder: rows of tables, learned or counted on training data."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Int, Integer
from torch import Tensor, nn

from maskseq.model.config import EncoderConfig
from maskseq.model.embedding import Embedding
from maskseq.model.linear import Linear
from maskseq.model.numbers import Numbers
from maskseq.model.priors.config import context_rows
from maskseq.model.priors.prior import Prior
from maskseq.types import Vocabulary

STRENGTHS = 2.0 ** np.arange(-3, 9)
"""How many observations the distribution of one neighbour less on each side may be worth."""


def combinations(
    ids: Int[Tensor, "tokens fields"], positions: Int[Tensor, "tokens"], left: int, right: int, vocabulary: Vocabulary
) -> Int[Tensor, "tokens fields"]:
    """The ids next to each position, field by field, as the digits of a number; beyond a segment all are `[MASK]`."""
    n_rows, masks = ids.new_tensor(vocabulary.n_rows), ids.new_tensor(vocabulary.mask_ids)
    code = torch.zeros_like(ids)
    for offset in (*range(-left, 0), *range(1, right + 1)):
        # Positions count from 0 in each segment, so no other segment has the one that would stand there.
        same = positions.roll(-offset, dims=0) == positions + offset
        code = code * n_rows + torch.where(same[:, None], ids.roll(-offset, dims=0), masks)
    return code


class NgramEmbeddings(Prior):
    """Learned embeddings of the ids around a position: a table for each context, the fields one after another in it."""

    parameters_under = "neighbours"

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config)
        self.contexts = config.ngram_embeddings.contexts
        for number, context in enumerate(self.contexts):
            self.add_module(str(number), Embedding(context_rows(self.vocabulary, context), config.hidden_size))

    def embed(
        self,
        masked: Float[Tensor, "tokens hidden"],
        ids: Int[Tensor, "tokens fields"],
        positions: Int[Tensor, "tokens"],
        numbers: Numbers | None = None,
    ) -> tuple[Float[Tensor, "tokens hidden"], None]:
        for (left, right), learned in zip(self.contexts, self.parameters(), strict=True):
            codes = combinations(ids, positions, left, right, self.vocabulary)
            tables = torch.split(learned, [n ** (left + right) for n in self.vocabulary.n_rows])
            for field, table in enumerate(tables):
                masked = masked + F.embedding(codes[:, field], table)
        return masked, None


class NgramPrior(Prior):
    """What each field's table of counts says of a position, as an input of the encoder."""

    parameters_under = "tables"
    counted = True

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config)
        self.depth = config.ngram_prior.depth
        for field in range(self.vocabulary.n_fields):
            self.add_module(str(field), CountedTable(config, field))

    def embed(
        self,
        masked: Float[Tensor, "tokens hidden"],
        ids: Int[Tensor, "tokens fields"],
        positions: Int[Tensor, "tokens"],
        numbers: Numbers | None = None,
    ) -> tuple[Float[Tensor, "tokens hidden"], None]:
        codes = combinations(ids, positions, self.depth, self.depth, self.vocabulary)
        for field, table in enumerate(self.children()):
            masked = masked + table(codes[:, field])
        return masked, None

    @torch.no_grad()
    def count(self, sequences: Sequence[Integer[np.ndarray, "_ _"]]) -> None:
        for field, table in enumerate(self.children()):
            assert isinstance(table, CountedTable)
            counted = context_table(
                (ids[:, field] for ids in sequences),
                n_rows=self.vocabulary.n_rows[field],
                n_outputs=self.vocabulary.n_outputs[field],
                mask_id=self.vocabulary.mask_ids[field],
                depth=self.depth,
            )
            table.log_p.copy_(torch.from_numpy(counted))


class CountedTable(nn.Module):
    """A field's table, of which a row is an input of the encoder."""

    def __init__(self, config: EncoderConfig, field: int) -> None:
        super().__init__()
        n_rows, n_outputs = config.vocabulary.n_rows[field], config.vocabulary.n_outputs[field]
        size = n_rows ** (2 * config.ngram_prior.depth), n_outputs
        # No buffer: what is saved, resumed and exported are parameters, and this is one that nothing updates.
        self.log_p = nn.Parameter(torch.empty(size), requires_grad=False)
        self.project = Linear(n_outputs, config.hidden_size, bias=False)

    def forward(self, codes: Int[Tensor, "tokens"]) -> Float[Tensor, "tokens hidden"]:
        return self.project(F.embedding(codes, self.log_p))  # type: ignore[no-any-return]


def context_table(
    sequences: Iterable[Integer[np.ndarray, " _"]], *, n_rows: int, n_outputs: int, mask_id: int, depth: int
) -> Float32[np.ndarray, "rows outputs"]:
    """Of one field, log P(id | `depth` neighbours on either side), less its mean over the ids.

    Rows are numbered by the neighbours' ids, from left to right, as digits of a number; `[MASK]` among them stands for
    any id, and beyond the ends of a sequence everything is `[MASK]`. Of the outermost pair of neighbours

        P = (count + s · P without the pair) / (total + s),

    down to the uniform distribution; the strength s of each pair makes the training cells most likely, each left out of
    the counts in turn.
    """
    counts = _counts(sequences, n_rows, n_outputs, mask_id, depth)
    for axis in range(2 * depth):
        counts[(slice(None),) * axis + (mask_id,)] = counts.sum(axis=axis)
    table = np.full(n_outputs, 1 / n_outputs)
    for pairs in range(depth + 1):
        outer = depth - pairs
        inside = (mask_id,) * outer + (slice(None),) * (2 * pairs) + (mask_id,) * outer
        below = table[None, ..., None, :] if pairs else table
        table = _interpolated(counts[inside], below)
    log_p = np.log(table).reshape(-1, n_outputs)
    return np.asarray(log_p - log_p.mean(axis=1, keepdims=True), np.float32)


def _counts(
    sequences: Iterable[Integer[np.ndarray, " _"]], n_rows: int, n_outputs: int, mask_id: int, depth: int
) -> Int[np.ndarray, "..."]:
    """How often each id stood between each combination of neighbours: an axis for each of them, the last for the id."""
    shape = (*(n_rows,) * (2 * depth), n_outputs)
    counts = np.zeros(np.prod(shape), np.int64)
    for sequence in sequences:
        ids = np.pad(sequence.astype(np.int64), depth, constant_values=mask_id)
        length = len(sequence)
        code = np.zeros(length, np.int64)
        for offset in (*range(depth), *range(depth + 1, 2 * depth + 1)):
            code = code * n_rows + ids[offset : offset + length]
        scored = (sequence < n_outputs) & (sequence != mask_id)
        code = code[scored] * n_outputs + sequence[scored]
        if length > len(counts):
            counts += np.bincount(code, minlength=len(counts))
        else:  # without a pass over the table for every short record
            np.add.at(counts, code, 1)
    return counts.reshape(shape)


def _interpolated(counts: Int[np.ndarray, "..."], below: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    totals = counts.sum(axis=-1, keepdims=True)
    seen = counts > 0
    hits, of, prior = (np.broadcast_to(each, counts.shape)[seen] for each in (counts, totals, below))
    likelihoods = [(hits * np.log((hits - 1 + s * prior) / (of - 1 + s))).sum() for s in STRENGTHS]
    strength = STRENGTHS[int(np.argmax(likelihoods))]
    return np.asarray((counts + strength * below) / (totals + strength))
