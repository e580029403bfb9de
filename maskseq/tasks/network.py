"""An encoder with a head: examples in, outputs of their labels. Which weights learn, and at which rate."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.utils import parametrize

from maskseq.contract.own import is_own
from maskseq.model.encoder import Encoder
from maskseq.model.numbers import Numbers
from maskseq.predict.encoder import packed_numbers, windows
from maskseq.tasks.config import FitConfig, TaskConfig
from maskseq.tasks.examples import TaskExample
from maskseq.tasks.heads import OwnHead, TaskHead
from maskseq.tokenizer import Symmetry
from maskseq.types import Encoded


@dataclass(frozen=True)
class TaskBatch:
    """Some examples as one forward pass takes them: windows end to end, and where the positions of each record are."""

    ids: Int[Tensor, "tokens fields"]
    positions: Int[Tensor, " tokens"]
    cu_seqlens: Int[Tensor, " bounds"]
    max_seqlen: int
    target: Bool[Tensor, " tokens"]
    token: Int[Tensor, "records longest"]
    """The token of each position of each record; 0 behind the last."""
    real: Bool[Tensor, "records longest"]
    answers: Int[Tensor, " answers"] | None
    """Of labelled positions, their place in the flattened [records, longest]; None: records are labelled."""
    numbers: Numbers | None = None
    """What ids were rounded from, where that is known of any."""

    @classmethod
    def of(
        cls,
        examples: Sequence[TaskExample],
        context: int,
        mask_ids: Sequence[int],
        device: torch.device,
        symmetry: Symmetry[Any] | None = None,
    ) -> "TaskBatch":
        """As they are, or seen through a symmetry. Long records are cut into overlapping windows."""
        pieces, numbers, tokens, ends = [], [], [], 0
        for each in examples:
            seen = Encoded(each.ids, numbers=each.numbers)
            seen = seen if symmetry is None else symmetry.encoded(seen)
            own = []
            for window, kept in windows(len(seen), context) if len(seen) else ():
                pieces.append(seen.ids[window])
                numbers.append(None if seen.numbers is None else seen.numbers[window])
                own.append(ends + np.arange(kept.start - window.start, kept.stop - window.start))
                ends += len(pieces[-1])
            tokens.append(np.concatenate([np.empty(0, np.int64), *own]))
        longest = max(1, *map(len, tokens))
        token, real = np.zeros((len(examples), longest), np.int64), np.zeros((len(examples), longest), bool)
        for row, own_tokens in enumerate(tokens):
            token[row, : len(own_tokens)], real[row, : len(own_tokens)] = own_tokens, True
        answers = None
        if any(each.at is not None for each in examples):
            labelled = [(row, each.at) for row, each in enumerate(examples) if each.at is not None]
            answers = np.concatenate([row * longest + at for row, at in labelled])
        lengths = [len(piece) for piece in pieces]
        ends_of = np.cumsum([0, *lengths])
        flat = np.concatenate(pieces).astype(np.int64)
        positions = np.arange(ends_of[-1]) - np.repeat(ends_of[:-1], lengths)

        def on(array: np.ndarray) -> Tensor:
            return torch.from_numpy(array).to(device)

        return cls(
            ids=on(flat),
            positions=on(positions),
            cu_seqlens=on(ends_of.astype(np.int32)),
            max_seqlen=max(lengths, default=0),
            target=on((flat == np.asarray(mask_ids)).any(axis=1)),
            token=on(token),
            real=on(real),
            answers=None if answers is None else on(answers),
            numbers=None if all(each is None for each in numbers) else packed_numbers(pieces, numbers),
        )


class TaskNetwork(nn.Module):
    """The encoder and the head of a task."""

    def __init__(self, encoder: Encoder, head: TaskHead | OwnHead) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(
        self, batch: TaskBatch, *, dropout_keys: Int[Tensor, "rows"] | None = None, dtype: torch.dtype | None = None
    ) -> Float[Tensor, "answers outputs"]:
        """Float32 outputs of each label."""
        states = self.encoder(
            batch.ids,
            batch.positions,
            batch.cu_seqlens,
            batch.max_seqlen,
            numbers=batch.numbers,
            target=batch.target,
            dropout_keys=dropout_keys,
            dtype=dtype,
        )
        # index_select: its backward adds up in one order on a CPU
        hidden = states.hidden_states.float().index_select(0, batch.token.flatten()).unflatten(0, batch.token.shape)
        if batch.answers is None:
            answer: Tensor = self.head(hidden, batch.real, dropout_keys)
            return answer
        each = self.head.each(hidden, batch.real, dropout_keys).flatten(0, 1)
        return each.index_select(0, batch.answers)

    def learning(self) -> dict[str, nn.Parameter]:
        """The weights that learn, by their names."""
        return {name: p for name, p in self.named_parameters() if p.requires_grad}


def task_network(config: TaskConfig, encoder: Encoder, n_outputs: int) -> TaskNetwork:
    """The encoder as pretrained, and a new head whose values are drawn from the seed."""
    kind = config.head.kind_of(per_unit=config.labels.per_unit)
    size = encoder.config.hidden_size
    made = OwnHead if is_own(kind) else TaskHead
    return TaskNetwork(
        encoder, made(config.head, kind, hidden_size=size, n_outputs=n_outputs, seed=2 * config.seed + 1)
    )


class LowRankChange(nn.Module):
    """W + (α/r) B A, of which A and B learn (Hu et al. 2021, arXiv 2106.09685); B begins with zeros."""

    def __init__(self, shape: torch.Size, rank: int, alpha: float, generator: torch.Generator) -> None:
        super().__init__()
        rows, columns = shape
        bound = 1 / math.sqrt(columns)
        self.scale = alpha / rank
        self.a = nn.Parameter(torch.empty(rank, columns).uniform_(-bound, bound, generator=generator))
        self.b = nn.Parameter(torch.zeros(rows, rank))

    def forward(self, weight: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows columns"]:
        return weight + self.scale * (self.b @ self.a).to(weight.dtype)


def choose_what_learns(network: TaskNetwork, config: FitConfig, seed: int) -> None:
    """Freeze what does not learn; of `lora`, add the low-rank changes to all matrices of the layers."""
    if config.train == "full":
        return
    for parameter in network.encoder.parameters():
        parameter.requires_grad_(False)
    if config.train == "lora":
        generator = torch.Generator().manual_seed(seed)
        for module in _matrices(network.encoder):
            change = LowRankChange(module.weight.shape, config.rank, config.alpha, generator)
            parametrize.register_parametrization(module, "weight", change)


def merge_changes(encoder: Encoder) -> None:
    """Add low-rank changes to the matrices that they belong to: what is left is a plain encoder."""
    for module in _matrices(encoder):
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight")


def parameter_groups(network: TaskNetwork, config: FitConfig) -> list[dict[str, Any]]:
    """Weights that learn, by their rate and decay: the head's, and of the encoder layer by layer."""
    n_layers = len(network.encoder.layers)
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in network.learning().items():
        if name.startswith("head."):
            lr = config.head_lr
        else:
            lr = config.lr * config.layer_decay ** (n_layers - _depth(name, n_layers))
        decay = config.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((lr, decay), []).append(parameter)
    return [{"params": params, "lr": lr, "weight_decay": decay} for (lr, decay), params in groups.items()]


def _depth(name: str, n_layers: int) -> int:
    """0 for embeddings, n for the n-th layer and what is behind the last one."""
    parts = name.split(".")
    if parts[1] == "layers":
        return int(parts[2]) + 1
    return 0 if parts[1] == "embeddings" else n_layers


def _matrices(encoder: Encoder) -> Iterator[nn.Linear]:
    for layer in encoder.layers:
        yield from [module for module in layer.modules() if isinstance(module, nn.Linear)]  # a list: callers change it
