"""Counted operations against torch's own counter and brute force; sizes against files."""

import sys
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parent))

from small_run import SEGMENTS, Letters, Synthetic

from maskseq.model.encoder import Encoder
from maskseq.model.flops import attended_pairs, forward_flops, head_flops, row_flops, training_flops
from maskseq.model.presets import preset
from maskseq.types import Field, Vocabulary

FIELDS = (Field(name="base", tokens=tuple("ACGT")), Field(name="size", tokens=tuple("01234567")))
VOCABULARY = Vocabulary.of(FIELDS)


def test_pairs_are_those_that_one_counts() -> None:
    for length, window in product((0, 1, 2, 5, 9, 40), (None, 0, 1, 3, 8, 64)):
        distance = abs(np.subtract.outer(np.arange(length), np.arange(length)))
        expected = distance.size if window is None else (distance <= window).sum()
        assert attended_pairs(np.array([length]), window) == [expected]


def test_context_that_does_not_see_the_target_costs_less() -> None:
    shape = {"n_layers": 3, "hidden_size": 32, "n_heads": 2, "intermediate_size": 48}
    both = preset("nano", VOCABULARY, **shape)
    one_way = replace(both, context_sees_target=False)
    lengths, targets = np.array([9, 5, 7]), np.array([4, 0, 7])
    allowed = 0
    for n, t in zip(lengths, targets, strict=True):
        target = np.arange(n) < t
        allowed += int((target[:, None] | ~target[None, :]).sum())  # a query of the target sees all, others the context
    missing = int((lengths**2).sum()) - allowed
    assert missing == 20
    difference = forward_flops(both, lengths, [3, 3], targets) - forward_flops(one_way, lengths, [3, 3], targets)
    assert difference == 3 * 4 * 32 * missing


def test_a_row_counts_its_pieces_without_filler() -> None:
    """Of the synthetic rows: four pieces, and seven tokens of filler that no objective belongs to."""
    config = preset("nano", Letters().vocabulary, n_layers=2, hidden_size=32, n_heads=2, intermediate_size=48)
    row = Synthetic(Letters().vocabulary).row(3)
    row = replace(row, objective=np.array([0, 1, 2, 0, -1], np.int8))
    scored = (row.weights > 0).sum(axis=0).tolist()
    assert row_flops(config, row) == training_flops(config, np.array(SEGMENTS), scored)
    assert row_flops(config, row) < training_flops(config, np.array([*SEGMENTS, 7]), scored)


def plain_attention(qkv: torch.Tensor, rotation: object, cu_seqlens: torch.Tensor, **options: object) -> torch.Tensor:
    """Each piece by itself, as products that torch's counter sees."""
    out = []
    for start, stop in zip(cu_seqlens[:-1].tolist(), cu_seqlens[1:].tolist(), strict=True):
        q, k, v = (x.transpose(0, 1) for x in qkv[start:stop].unbind(1))
        out.append(((q @ k.transpose(1, 2)).softmax(-1) @ v).transpose(0, 1))
    return torch.cat(out)


@pytest.mark.parametrize("name", ["nano", "bert-base", "neobert", "modernbert-base"])
def test_operations_are_those_that_torch_counts(name: str) -> None:
    """Global layers, where every pair is computed; forward, and backward as twice that."""
    shape = {"n_layers": 2, "hidden_size": 32, "n_heads": 2, "intermediate_size": 48, "global_every": 1}
    config = preset(name, VOCABULARY, **shape)
    model = Encoder(config)
    lengths, scored = [7, 20, 13], [11, 5]
    ids = torch.zeros(sum(lengths), 2, dtype=torch.int64)
    positions = torch.cat([torch.arange(n) for n in lengths])
    cu_seqlens = torch.tensor(np.cumsum([0, *lengths]), dtype=torch.int32)
    with FlopCounterMode(display=False) as forward:
        states = model(ids, positions, cu_seqlens, max(lengths), attend=plain_attention)
        logits = [model.logits(states[torch.arange(n)], field) for field, n in enumerate(scored)]
    assert forward_flops(config, np.array(lengths), scored) == forward.get_total_flops()
    with FlopCounterMode(display=False) as backward:
        sum(x.sum() for x in logits).backward()
    # torch leaves out what nobody asks for: here nothing, as the embedding has a gradient too
    assert training_flops(config, np.array(lengths), scored) == pytest.approx(
        forward.get_total_flops() + backward.get_total_flops()
    )
    assert head_flops(config, [0, 0]) == 0
