"""A trained estimate of how much is missing: a head on the encoder's states at the two sides of a gap.

Its objective: stretches of 0 … `most` positions are taken out of known sequences and the ends are joined; the head
says, from the states of the two positions that meet, how many are gone (cross-entropy). The encoder stays as it is. All
lengths are equally frequent in training, so what the head says is, but for a constant, the likelihood of each.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Integer
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from maskseq.errors import DataError, UsageError, check_seed
from maskseq.infill.window_plan import key_number
from maskseq.lengths.evidence import LengthScorer
from maskseq.model.checkpoint import weights_digest, write_tensors
from maskseq.model.encoder import Encoder
from maskseq.predict.encoder import run_packed
from maskseq.storage.outputs import replacing
from maskseq.storage.run_folder import CheckpointFolder
from maskseq.storage.standard_json import to_json
from maskseq.tokenizer import Tokenizer
from maskseq.types import Encoded, Progress

REACH = 64
"""Positions on either side of a gap that the encoder sees."""
EPOCHS, BATCH, LEARNING_RATE = 30, 256, 1e-3


class LengthHead(nn.Module):
    """Log-probabilities of 0 … `most` missing positions between two neighbours."""

    def __init__(self, hidden_size: int, most: int, *, seed: int = 0) -> None:
        super().__init__()
        self.hidden_size, self.most = hidden_size, most
        self.dense = nn.Linear(2 * hidden_size, hidden_size)
        self.lengths = nn.Linear(hidden_size, most + 1)
        generator = torch.Generator().manual_seed(seed)
        for layer in (self.dense, self.lengths):
            nn.init.normal_(layer.weight, std=layer.in_features**-0.5, generator=generator)
            nn.init.zeros_(layer.bias)

    def forward(self, sides: Float[Tensor, "gaps 2 hidden"]) -> Float[Tensor, "gaps lengths"]:
        normed = F.layer_norm(sides, sides.shape[-1:])
        return self.lengths(F.gelu(self.dense(normed.flatten(1)))).log_softmax(dim=-1)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class FittedHead:
    """A head, and how well it does on sequences that it was not fitted on."""

    head: LengthHead
    accuracy: float
    """The share of gaps whose length it gets right; 1 / (most + 1) is guessing."""
    nats: float
    """Cross-entropy a gap; log(most + 1) is guessing."""


def fit_length_head(
    model: Encoder,
    records: Iterable[tuple[str, Encoded]],
    *,
    tokenizer: Tokenizer[Any],
    most: int,
    gaps: int = 20_000,
    seed: int = 0,
    on_progress: Progress = lambda done, of: None,
) -> FittedHead:
    """Fit on gaps made in known records; every fifth record judges, and says when to stop.

    `UsageError` where the records have no room for such gaps.
    """
    if most < 1:
        raise UsageError(f"most is {most}; at least 1 position must be able to miss", code="bad-option")
    check_seed(seed)
    made = list(_examples(list(records), tokenizer, most, gaps, seed))
    judging = torch.tensor([record % 5 == 4 for record, _, _, _ in made])
    if len(made) < 100 or judging.all() or not judging.any():
        raise UsageError(
            f"{len(made)} gaps of up to {most} positions can be made in these records; 100 are needed, in 5 records\n\n"
            f"hint: give it more data, or cut long records",
            code="too-little-data",
        )
    sides = []
    for first in range(0, len(made), BATCH):
        some = made[first : first + BATCH]
        sides.append(side_states(model, [ids for _, ids, _, _ in some], [at for _, _, at, _ in some]))
        on_progress(first + len(some), len(made))
    truth = torch.tensor([length for _, _, _, length in made])
    return _fit(torch.cat(sides), truth, judging, LengthHead(sides[0].shape[-1], most, seed=seed), seed)


def save_length_head(checkpoint: Path, fitted: FittedHead) -> Path:
    """Write it into the checkpoint's folder; it names the model by its digest."""
    path = CheckpointFolder(checkpoint).length_head
    reported = {
        "most": fitted.head.most,
        "accuracy": fitted.accuracy,
        "nats": fitted.nats,
        "model": weights_digest(checkpoint),
    }
    with replacing(path) as aside:
        write_tensors(aside, fitted.head.state_dict(), metadata={"length_head": to_json(reported)})
    return path


def load_length_head(checkpoint: Path) -> LengthHead:
    """`UsageError` if there is none; `DataError` if it is damaged or of other weights."""
    path = CheckpointFolder(checkpoint).length_head
    if not path.exists():
        raise UsageError(
            f"{checkpoint} has no length head\n\nhint: fit one with `maskseq fit-lengths`", code="missing-file"
        )
    try:
        with safe_open(path, framework="pt") as file:
            reported = json.loads(file.metadata()["length_head"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is not a dict)
        head = LengthHead(tensors["dense.weight"].shape[0], int(reported["most"]))
        head.load_state_dict(tensors)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise DataError(path, f"is not a length head ({error}); fit it again", code="damaged-file") from None
    if reported["model"] != weights_digest(checkpoint):
        raise DataError(
            path, "was fitted for other weights than those of this checkpoint; fit it again", code="other-data"
        )
    return head.eval()


def length_judge(model: Encoder, head: LengthHead) -> LengthScorer:
    """The head as a scorer of how many positions are missing."""

    def judge(
        sequences: Sequence[Integer[np.ndarray, "_ _"]], places: Sequence[int], lengths: tuple[int, int]
    ) -> Float[np.ndarray, "sequences lengths"]:
        low, high = lengths
        if high > head.most:
            raise UsageError(
                f"the length head was fitted for up to {head.most} missing positions, not {high}", code="bad-option"
            )
        if any(at in (0, len(ids)) for ids, at in zip(sequences, places, strict=True)):
            raise UsageError(
                "the length head looks at both sides of a hole: it cannot begin or end a record", code="not-supported"
            )
        near = [ids[max(at - REACH, 0) : at + REACH] for ids, at in zip(sequences, places, strict=True)]
        with torch.inference_mode():
            reported = head(side_states(model, near, [min(at, REACH) for at in places]))
        return np.asarray(reported.numpy()[:, low : high + 1].astype(np.float64))

    return judge


def _fit(
    sides: Float[Tensor, "gaps 2 hidden"],
    truth: Int[Tensor, "gaps"],
    judging: Tensor,
    head: LengthHead,
    seed: int,
) -> FittedHead:
    """The head of the epoch that judged best."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(head.parameters(), lr=LEARNING_RATE, weight_decay=0.01)
    learn = (~judging).nonzero()[:, 0]
    best, kept = float("inf"), head.state_dict()
    for _ in range(EPOCHS):
        for batch in torch.split(learn[torch.randperm(len(learn), generator=generator)], BATCH):
            loss = F.nll_loss(head(sides[batch]), truth[batch])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
        with torch.no_grad():
            judged = float(F.nll_loss(head(sides[judging]), truth[judging]))
        if judged < best:
            best, kept = judged, {name: value.clone() for name, value in head.state_dict().items()}
    head.load_state_dict(kept)
    with torch.no_grad():
        right = head(sides[judging]).argmax(dim=1) == truth[judging]
    return FittedHead(head.eval(), float(right.float().mean()), best)


def side_states(
    model: Encoder, sequences: Sequence[Integer[np.ndarray, "_ _"]], places: Sequence[int]
) -> Float[Tensor, "gaps 2 hidden"]:
    """The encoder's states right before and right after each place."""
    found: dict[int, Tensor] = {}
    for packed in run_packed(model, sequences, batch_tokens=16384, precision="fp32"):
        hidden = packed.states.hidden_states
        for which, start in zip(packed.which, packed.starts, strict=True):
            found[which] = hidden[start + places[which] - 1 : start + places[which] + 1].float().cpu()
    return torch.stack([found[i] for i in range(len(sequences))]).clone()  # out of inference mode


def _examples(
    records: Sequence[tuple[str, Encoded]], tokenizer: Tokenizer[Any], most: int, gaps: int, seed: int
) -> Iterable[tuple[int, Integer[np.ndarray, "_ _"], int, int]]:
    """Number of the record, ids with a stretch taken out, where it was, and how long it had been."""
    room = np.array([max(len(encoded) - most - 2, 0) for _, encoded in records], dtype=np.float64)
    if not room.sum():
        return
    shares = np.minimum(np.ceil(room / room.sum() * gaps), 4 * room).astype(int)
    for number, ((key, encoded), n) in enumerate(zip(records, shares.tolist(), strict=True)):
        rng = np.random.default_rng((seed, key_number(key)))
        known = np.asarray(encoded.scorable(tokenizer.vocabulary.askable(encoded.ids)).any(axis=1))
        units, own = tokenizer.units_of(encoded), np.arange(len(encoded))[:, None]
        astride = np.asarray((units[..., 0] < own) & (units[..., 1] > own))  # such as the time since the event before
        for _ in range(n):
            length = int(rng.integers(most + 1))
            at = int(rng.integers(1, len(encoded) - length))
            left, right = slice(max(at - REACH, 0), at), slice(at + length, at + length + REACH)
            if known[at - 1] and known[at + length]:
                after = encoded.ids[right].copy()
                after[:1] = tokenizer.vocabulary.masked(after[:1], astride[at + length][None])
                yield number, np.concatenate([encoded.ids[left], after]), at - left.start, length
