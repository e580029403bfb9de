"""Parts of a user's own, as a module of theirs would have them."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


def every_second(n: int, count: int, rng: np.random.Generator) -> np.ndarray:
    return np.arange(n) % 2 == int(rng.integers(2)) if n > 1 else np.ones(1, bool)


def sgd(groups: list[dict[str, Any]], config: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, lr=config.lr, momentum=0.9)


def halved(tokens: int, total: int) -> float:
    return 1.0 if 2 * tokens < total else 0.5


def focal(logits: Tensor, targets: Tensor, field: str) -> Tensor:
    nats = F.cross_entropy(logits, targets, reduction="none")
    return nats * (1 - torch.exp(-nats)) ** 2


def stop_at_step_3(event: Any) -> str | None:
    return "three are enough" if type(event).__name__ == "Step" and event.step == 3 else None


def last_first(frontier: Any, config: Any, rng: np.random.Generator) -> np.ndarray:
    return np.array([len(frontier.log_probs) - 1])


class Always:
    """Says that the first id of each field is nearly certain."""

    def __init__(self, data: Any, tokenizer: Any) -> None:
        self.n_outputs = tokenizer.vocabulary.n_outputs

    def __call__(self, examples: Any, cells: Any) -> list[np.ndarray]:
        found = []
        for requested in cells:
            answer = np.full((len(requested), max(self.n_outputs)), -np.inf)
            for row, field in enumerate(requested[:, 1].tolist()):
                answer[row, : self.n_outputs[field]] = np.log(0.01 / self.n_outputs[field])
                answer[row, 0] = np.log(0.99)
            found.append(answer - np.logaddexp.reduce(answer, axis=1, keepdims=True))
        return found


class SumHead(nn.Module):
    """Sums over real positions, then a matrix."""

    def __init__(self, config: Any, hidden_size: int, n_outputs: int) -> None:
        super().__init__()
        self.matrix = nn.Linear(hidden_size, n_outputs)

    def forward(self, hidden: Tensor, real: Tensor) -> Tensor:
        answer: Tensor = self.matrix((hidden * real[..., None]).sum(dim=1) / 10)
        return answer


def fails(*given: Any) -> Any:
    raise KeyError("of their own")


def accept_all(record: Any) -> bool:
    return True


def accept_none(record: Any) -> bool:
    return False
