"""The contestants of train_speed.py: one encoder by maskseq, transformers and x-transformers, on the same documents."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from maskseq.model.config import EncoderConfig
from maskseq.model.encoder import Encoder
from maskseq.training.loss import Batch, FieldCells, MaskedLoss
from maskseq.types import Field, Vocabulary

N_TOKENS = 60  # ids of the one field; with [MASK] and [PAD] still 64 at most
RATIO = 0.3  # share of cells that are hidden and scored
WINDOW = 64
BATCHES = (8, 16, 32)  # documents on a device
MEMORY = 6e9  # bytes of activations that a padded batch may take, at about 100 bytes a cell, layer and dimension


@dataclass(frozen=True)
class Shape:
    """Layers, width, heads of 64, GeGLU of 1.5 widths: the ratio of ModernBERT."""

    name: str
    n_layers: int
    hidden_size: int

    @property
    def n_heads(self) -> int:
        return self.hidden_size // 64

    @property
    def intermediate_size(self) -> int:
        return self.hidden_size * 3 // 2


SHAPES = {shape.name: shape for shape in (Shape("nano", 4, 128), Shape("small", 6, 256), Shape("d512", 8, 512))}
DOCUMENTS = ("lognormal", "64", "1024", "4096", "16384")


@dataclass(frozen=True)
class Case:
    """One shape on one set of documents."""

    shape: Shape
    documents: str
    lengths: tuple[int, ...]
    ids: tuple[Tensor, ...]
    scored: tuple[Tensor, ...]  # Bool, like ids
    row_tokens: int

    @property
    def n_tokens(self) -> int:
        return sum(self.lengths)

    @property
    def windows(self) -> list[int | None]:
        """Every third layer global, as in ModernBERT, where documents are long enough for windows to matter."""
        local = max(self.lengths) >= 4096
        return [WINDOW if local and layer % 3 else None for layer in range(self.shape.n_layers)]

    @property
    def flops(self) -> float:
        """Three times the forward pass over all documents, without padding."""
        shape, d = self.shape, self.shape.hidden_size
        matrices = 2 * self.n_tokens * shape.n_layers * (4 * d * d + 3 * d * shape.intermediate_size)
        attention = sum(4 * d * pairs(n, window) for n in self.lengths for window in self.windows)
        head = 2 * sum(int(s.sum()) for s in self.scored) * d * (d + N_TOKENS)
        return 3.0 * (matrices + attention + head)


def pairs(length: int, window: int | None) -> int:
    """Pairs of a query and a key that it sees."""
    if window is None or window >= length:
        return length * length
    return length * (2 * window + 1) - window * (window + 1)


def make_case(shape: Shape, documents: str, n_tokens: int, row_tokens: int, draw: int) -> Case:
    """Documents of `n_tokens` tokens in all: log-normal lengths with mean 200, or all of one length."""
    rng = np.random.default_rng(draw)
    lengths: list[int] = []
    while (left := n_tokens - sum(lengths)) > 0:
        drawn = int(rng.lognormal(np.log(200) - 0.5, 1.0)) if documents == "lognormal" else int(documents)
        lengths.append(min(max(drawn, 8), 2048 if documents == "lognormal" else drawn, left))
    ids = tuple(torch.from_numpy(rng.integers(N_TOKENS, size=n)) for n in lengths)
    scored = tuple(torch.from_numpy(rng.random(n) < RATIO) for n in lengths)
    return Case(shape, documents, tuple(lengths), ids, scored, row_tokens)


# ---- contestants: each returns a function that trains on all documents once ---------------------------------------

Epoch = Callable[[], None]


def maskseq(case: Case, dtype: torch.dtype, *, compiled: bool = False) -> Epoch:
    """Pack the documents end to end into rows, one step a row."""
    shape = case.shape
    local = any(window is not None for window in case.windows)
    config = EncoderConfig(
        vocabulary=Vocabulary.of([Field(name="x", tokens=tuple(map(str, range(N_TOKENS))))]),
        n_layers=shape.n_layers,
        hidden_size=shape.hidden_size,
        n_heads=shape.n_heads,
        intermediate_size=shape.intermediate_size,
        global_every=3 if local else 1,
        window=WINDOW if local else None,
    )
    loss = MaskedLoss(Encoder(config))
    optimizer = torch.optim.AdamW(loss.parameters(), lr=1e-4, fused=True)
    rows = [packed(case, documents) for documents in packing(case)]
    run = torch.compile(loss) if compiled else loss

    def epoch() -> None:
        for batch in rows:
            value, _ = run(batch, float(batch.scored[0].weight.sum()), dtype=dtype)
            value.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    return epoch


def packing(case: Case) -> list[list[int]]:
    """Longest first, each into the emptiest row: rows of `row_tokens` to within a few tokens, as a real plan's are."""
    rows: list[list[int]] = [[] for _ in range(max(round(case.n_tokens / case.row_tokens), 1))]
    for document in sorted(range(len(case.lengths)), key=lambda i: -case.lengths[i]):
        min(rows, key=lambda row: sum(case.lengths[i] for i in row)).append(document)
    return [row for row in rows if row]


def packed(case: Case, documents: Sequence[int]) -> Batch:
    lengths = [case.lengths[i] for i in documents]
    ids = torch.cat([case.ids[i] for i in documents])
    (token,) = torch.cat([case.scored[i] for i in documents]).nonzero(as_tuple=True)
    cells = FieldCells(token, ids[token], torch.ones(len(token)), torch.zeros_like(token))
    inputs = ids.index_fill(0, token, N_TOKENS)
    cu_seqlens = torch.tensor([0, *np.cumsum(lengths)], dtype=torch.int32)
    return Batch(inputs[:, None], torch.cat([torch.arange(n) for n in lengths]), cu_seqlens, max(lengths), (cells,))


def padded(case: Case, size: int, order: str) -> list[dict[str, Tensor]]:
    """Batches of `size` documents, padded to the longest of each."""
    n = len(case.lengths)
    chosen = np.argsort(case.lengths) if order == "sorted" else np.random.default_rng(1).permutation(n)
    batches = []
    for first in range(0, n, size):
        documents = chosen[first : first + size].tolist()
        longest = max(case.lengths[i] for i in documents)
        ids = torch.full((len(documents), longest), N_TOKENS + 1)
        labels = torch.full_like(ids, -100)
        for row, i in enumerate(documents):
            ids[row, : case.lengths[i]] = case.ids[i].masked_fill(case.scored[i], N_TOKENS)
            labels[row, : case.lengths[i]] = case.ids[i].masked_fill(~case.scored[i], -100)
        batches.append({"input_ids": ids, "labels": labels, "attention_mask": (ids != N_TOKENS + 1).long()})
    return batches


def fits(case: Case, batches: list[dict[str, Tensor]]) -> bool:
    """Whether the largest batch leaves room for others on the machine."""
    cells = max(batch["input_ids"].numel() for batch in batches)
    return cells * case.shape.hidden_size * case.shape.n_layers * 100 < MEMORY


def padded_epoch(loss: nn.Module, batches: list[dict[str, Tensor]], dtype: torch.dtype) -> Epoch:
    optimizer = torch.optim.AdamW(loss.parameters(), lr=1e-4, fused=True)

    def epoch() -> None:
        for batch in batches:
            with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
                value = loss(**batch)
            value.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    return epoch


class Transformers(nn.Module):
    """ModernBertForMaskedLM as its Trainer calls it."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        from transformers import ModernBertConfig, ModernBertForMaskedLM

        shape = case.shape
        kinds = ["full_attention" if window is None else "sliding_attention" for window in case.windows]
        config = ModernBertConfig(
            vocab_size=N_TOKENS + 4,
            hidden_size=shape.hidden_size,
            intermediate_size=shape.intermediate_size,
            num_hidden_layers=shape.n_layers,
            num_attention_heads=shape.n_heads,
            max_position_embeddings=max(case.lengths),
            local_attention=2 * WINDOW,
            layer_types=kinds,
            **dict.fromkeys(
                ("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"), N_TOKENS + 1
            ),
            attn_implementation="sdpa",
        )
        self.model = ModernBertForMaskedLM(config).train()

    def forward(self, input_ids: Tensor, labels: Tensor, attention_mask: Tensor) -> Tensor:
        loss: Tensor = self.model(input_ids=input_ids, labels=labels, attention_mask=attention_mask).loss
        return loss


class XTransformers(nn.Module):
    """An x-transformers encoder with rotary positions, gated MLP and its flash option, which calls SDPA."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        from x_transformers import Encoder as Layers
        from x_transformers import TransformerWrapper

        shape = case.shape
        self.model = TransformerWrapper(
            num_tokens=N_TOKENS + 2,
            max_seq_len=max(case.lengths),
            use_abs_pos_emb=False,
            attn_layers=Layers(
                dim=shape.hidden_size,
                depth=shape.n_layers,
                heads=shape.n_heads,
                attn_dim_head=64,
                ff_mult=1.5,
                ff_glu=True,
                ff_no_bias=True,
                rotary_pos_emb=True,
                rotary_emb_dim=64,
                attn_flash=True,
            ),
        )

    def forward(self, input_ids: Tensor, labels: Tensor, attention_mask: Tensor) -> Tensor:
        logits = self.model(input_ids, mask=attention_mask.bool())
        return nn.functional.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), ignore_index=-100)


@dataclass(frozen=True)
class Contestant:
    """Who trains, in which precision, and the ways of batching of which the best counts."""

    name: str
    precision: str
    batches: str
    epochs: dict[str, Epoch]


def contestants(case: Case, peers: Sequence[str], precisions: Sequence[str], *, compiled: bool) -> list[Contestant]:
    """Everybody on this case; a peer with ragged documents once for each way in which its users batch them."""
    field = []
    for precision in precisions:
        dtype = {"bf16": torch.bfloat16, "fp32": torch.float32}[precision]
        field.append(Contestant("maskseq", precision, "packed", {"": maskseq(case, dtype)}))
        if compiled:
            field.append(
                Contestant("maskseq, compiled", precision, "packed", {"": maskseq(case, dtype, compiled=True)})
            )
        for name, kind in (("transformers", Transformers), ("x-transformers", XTransformers)):
            if name in peers and not (kind is XTransformers and any(case.windows)):  # it has no such windows
                loss = kind(case)
                for order in ("one batch", "random", "sorted") if len(set(case.lengths)) > 1 else ("unpadded",):
                    field.append(Contestant(name, precision, order, padded_epochs(case, loss, order, dtype)))
    return field


def padded_epochs(case: Case, loss: nn.Module, order: str, dtype: torch.dtype) -> dict[str, Epoch]:
    """An epoch for each batch size, named by it: those of a device, or all documents at once."""
    n = len(case.lengths)
    sizes = {"one batch": {n}, "unpadded": {*BATCHES, n}}.get(order, {*BATCHES})
    ways = {size: padded(case, size, order) for size in sorted({min(size, n) for size in sizes})}
    smallest = min(ways)
    return {str(n): padded_epoch(loss, ways[n], dtype) for n in ways if n == smallest or fits(case, ways[n])}
