"""The context does not see the target: in attention, in the encoder, in training and when a trained model is asked."""

import contextlib
import functools
import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))

import corpora
from corpora import random_texts
from small_run import weights

import maskseq
from maskseq.corpus.build import build_from_records
from maskseq.corpus.reader import Corpus
from maskseq.errors import UsageError
from maskseq.infill.sampler import InfillConfig, infill
from maskseq.interop.convert import export_hf
from maskseq.masking.config import Infill, MaskingConfig, Spans, Tokens
from maskseq.model.attention.context_target import ContextTargetAttention
from maskseq.model.attention.packed import packed_self_attention
from maskseq.model.config import EncoderConfig
from maskseq.model.encoder import Encoder
from maskseq.model.rotary import Rotation, rotate, rotation
from maskseq.packing.packing import PackingConfig
from maskseq.packing.rows import PackedRow, PackedRows, concatenate
from maskseq.predict.encoder import EncoderPredict
from maskseq.predict.protocol import Example
from maskseq.recipe import load_recipe
from maskseq.training.events import Event, Step
from maskseq.training.loss import Batch, MaskedLoss

TOKENIZER = corpora.Letters()
CPU = torch.device("cpu")
LENGTHS = (11, 1, 6, 17)


def boundaries(lengths: tuple[int, ...] | list[int]) -> Tensor:
    return torch.tensor([0, *np.cumsum(lengths)], dtype=torch.int32)


def dense(
    qkv: Tensor, rotation: Rotation, cu_seqlens: Tensor, *, target: Tensor, interleaved: bool = False, **_: Any
) -> Tensor:
    """The definition: one matrix of scores with the block mask, −inf wherever a query may not see a key."""
    segment = torch.repeat_interleave(torch.arange(len(cu_seqlens) - 1), torch.diff(cu_seqlens.long()))
    sees = (segment[:, None] == segment) & (target[:, None] | ~target)
    q, k, v = qkv.unbind(1)
    if rotation is not None:
        q, k = rotate(torch.stack([q, k], 1), rotation, interleaved=interleaved).unbind(1)
    scores = torch.einsum("qhd,khd->hqk", q, k) / math.sqrt(q.shape[-1])
    return torch.einsum("hqk,khd->qhd", scores.masked_fill(~sees, -math.inf).softmax(-1), v)


@settings(max_examples=40, deadline=None)
@given(
    segments=st.lists(st.lists(st.booleans(), min_size=1, max_size=150), min_size=1, max_size=5),
    rotary=st.booleans(),
)
def test_attention_is_dense_attention_under_the_block_mask(segments: list[list[bool]], rotary: bool) -> None:
    """Whatever is target: nothing of a piece, all of it, or any positions between."""
    generator = torch.Generator().manual_seed(0)
    target, cu_seqlens = (
        torch.tensor([flag for segment in segments for flag in segment]),
        boundaries([len(segment) for segment in segments]),
    )
    qkv, grad = (torch.randn(len(target), n, 2, 8, generator=generator, dtype=torch.float64) for n in (3, 1))
    positions = torch.cat([torch.arange(len(segment)) for segment in segments])
    turn = rotation(positions, 8, 100.0) if rotary else None
    found, expected = qkv.clone().requires_grad_(), qkv.clone().requires_grad_()
    longest = max(map(len, segments))
    ours = ContextTargetAttention.of(target, cu_seqlens)(found, turn, cu_seqlens, max_seqlen=longest)
    theirs = dense(expected, turn, cu_seqlens, target=target)
    torch.testing.assert_close(ours, theirs)
    ours.backward(grad[:, 0])
    theirs.backward(grad[:, 0])
    torch.testing.assert_close(found.grad, expected.grad)


# The encoder

SWITCHES: dict[str, dict[str, Any]] = {
    "rope": {},
    "interleaved": {"rope_style": "interleaved", "rope_fraction": 0.5},
    "learned": {"positions": "learned", "max_positions": 32, "placement": "post", "final_norm": False},
    "sinusoidal": {"positions": "sinusoidal"},
}
SHAPE = {"n_layers": 3, "hidden_size": 32, "n_heads": 2, "intermediate_size": 24}


def encoder(*, context_sees_target: bool = False, **switches: Any) -> Encoder:
    config = EncoderConfig(
        vocabulary=TOKENIZER.vocabulary, context_sees_target=context_sees_target, **{**SHAPE, **switches}
    )
    model = Encoder(config, seed=3)
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.empty_like(parameter).normal_(0, 0.15, generator=generator))
    return model


def packed(seed: int = 0) -> tuple[tuple[Tensor, Tensor, Tensor, int], Tensor]:
    """A row, and which of its positions are target: some, the only one, none, and some."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.stack([torch.randint(0, n, (sum(LENGTHS),), generator=generator) for n in (5, 3)], dim=1)
    target = torch.rand(sum(LENGTHS), generator=generator) < 0.4
    target[11], target[12:18] = True, False
    return (ids, torch.cat([torch.arange(n) for n in LENGTHS]), boundaries(LENGTHS), max(LENGTHS)), target


@pytest.mark.parametrize("switches", SWITCHES.values(), ids=SWITCHES)
def test_the_encoder_and_its_gradients_are_those_of_the_block_mask(switches: dict[str, Any]) -> None:
    model, (row, target) = encoder(**switches).double(), packed()
    grad = torch.randn(len(target), 32, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = model(*row, target=target).hidden_states
    found.backward(grad)
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    expected = model(*row, attend=functools.partial(dense, target=target)).hidden_states
    expected.backward(grad)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradients, {name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert (found - model(*row).hidden_states).abs().max() > 0.01  # the mask matters


def test_the_context_is_the_same_whatever_the_target_holds() -> None:
    (ids, *layout), target = packed()
    other = torch.where(target[:, None], (ids + 1) % torch.tensor([5, 3]), ids)
    for sees in (False, True):
        model = encoder(context_sees_target=sees)
        one, two = (model(x, *layout, target=target).hidden_states for x in (ids, other))
        assert torch.equal(one[~target], two[~target]) == (not sees)
        assert not torch.equal(one[target], two[target])


def test_the_target_is_the_same_wherever_the_tokens_of_a_piece_stand() -> None:
    """Xiao et al. move each source before its target and keep the true positions: that computes the same."""
    model, ((ids, positions, cu_seqlens, longest), target) = encoder(), packed()
    segment = torch.repeat_interleave(torch.arange(len(LENGTHS)), torch.tensor(LENGTHS))
    order = torch.argsort(2 * segment + target, stable=True)
    moved = model(ids[order], positions[order], cu_seqlens, longest, target=target[order])
    expected = model(ids, positions, cu_seqlens, longest, target=target)[order]
    torch.testing.assert_close(moved.hidden_states, expected.hidden_states, atol=1e-5, rtol=1e-5)


def test_a_packed_piece_is_the_piece_alone() -> None:
    model, ((ids, positions, cu_seqlens, longest), target) = encoder(), packed()
    together = model(ids, positions, cu_seqlens, longest, target=target).hidden_states
    for start, stop in zip(cu_seqlens[:-1].tolist(), cu_seqlens[1:].tolist(), strict=True):
        here, n = slice(start, stop), stop - start
        alone = model(ids[here], positions[here], boundaries([n]), n, target=target[here]).hidden_states
        torch.testing.assert_close(together[here], alone, atol=1e-5, rtol=1e-5)


def test_a_piece_without_target_is_context_as_in_any_encoder() -> None:
    model, (row, target) = encoder(), packed()
    found, expected = (
        model(*row, **how).hidden_states for how in ({"target": target}, {"attend": packed_self_attention})
    )
    torch.testing.assert_close(found[12:18], expected[12:18], atol=1e-5, rtol=1e-5)


def test_it_compiles() -> None:
    """In more than one graph: how many positions are target is a matter of the data."""
    model, (row, target) = encoder(n_layers=1), packed()
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="eager")
    found, expected = (each(*row, target=target).hidden_states for each in (compiled, model))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


# What cannot be


def test_windows_are_refused() -> None:
    with pytest.raises(
        UsageError, match=r"context_sees_target = false needs every layer .* global_every must be 1, not 3"
    ):
        encoder(global_every=3, window=4)
    recipe = {"data": {"files": ["a.fa"]}, "tokenizer": {"name": "nucleotide"}}
    switches = ["model.context_sees_target=false", "masking.infill.weight=1"]
    assert load_recipe(recipe, switches).encoder_config(TOKENIZER.vocabulary).context_sees_target is False
    with pytest.raises(UsageError, match="context_sees_target = false needs every layer"):
        load_recipe(recipe, [*switches, "model.preset=modernbert-base"])


def test_a_recipe_without_targets_is_refused_before_anything_is_read() -> None:
    recipe = {"data": {"files": ["there is none"]}, "tokenizer": {"name": "nucleotide"}}
    with pytest.raises(UsageError, match=r"only the infill objective has them\n\nhint: set masking.infill.weight"):
        load_recipe(recipe, ["model.context_sees_target=false"])


def test_hugging_face_has_no_such_encoder(tmp_path: Path) -> None:
    one_field = replace(encoder().config, vocabulary=type(TOKENIZER.vocabulary).of(TOKENIZER.fields[:1]))
    with pytest.raises(UsageError, match="cannot have context_sees_target = False"):
        export_hf(Encoder(one_field), tmp_path)


# Training, and what the trained model answers

OBJECTIVES = MaskingConfig(tokens=Tokens(weight=1.0), spans=Spans(weight=1.0), infill=Infill(weight=2.0))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("corpus") / "c"
    return build_from_records(random_texts(30, 90), output=folder, tokenizer=TOKENIZER)


@pytest.fixture(scope="module")
def row(corpus: Corpus) -> PackedRow:
    """Pieces of all objectives, and filler, in one row."""
    rows = PackedRows(corpus, config=PackingConfig(row_tokens=512, context=64), masking=OBJECTIVES, seed=1)
    row = concatenate([rows.row(number) for number in range(rows.n_rows())])
    assert set(row.objective.tolist()) == {-1, 0, 1, 2}
    return row


def test_the_loss_of_a_row_of_all_objectives_is_that_of_its_pieces_alone(row: PackedRow) -> None:
    """Only infill has targets; the other pieces of the row, and its filler, are not touched by them."""
    model = encoder()
    batch, one_way = Batch.of(row, CPU), MaskedLoss(model)
    loss, _ = one_way(batch, 1.0)
    segments = list(zip(row.cu_seqlens[:-1], row.cu_seqlens[1:], strict=True))
    expected = 0.0
    for objective, (start, stop) in zip(row.objective, segments, strict=True):
        here, n = slice(start, stop), int(stop - start)
        ids, target = torch.from_numpy(row.inputs[here].astype(np.int64)), torch.from_numpy(row.target[here])
        assert bool(target.any()) == (objective == 2)
        attend = functools.partial(dense, target=target) if objective == 2 else None
        states = model(ids, torch.arange(n), boundaries([n]), n, attend=attend)
        for field in range(2):
            log_p = model.logits(states, field).log_softmax(-1)
            truth = torch.from_numpy(row.targets[here, field].astype(np.int64))
            scored = torch.from_numpy(row.weights[here, field])
            picked = log_p[torch.arange(n), truth.clamp(max=log_p.shape[1] - 1)]
            expected -= (scored * picked).sum().item()
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_a_trained_model_is_asked_under_the_mask_it_was_trained_under(row: PackedRow) -> None:
    """Where a whole target is hidden and nothing of its context, training and `predict` see the same."""
    target = row.target[:, None] & TOKENIZER.vocabulary.known(row.targets)
    row = replace(
        row,
        inputs=np.where(target, TOKENIZER.vocabulary.mask_ids, np.minimum(row.targets, [3, 1])),
        target=target.all(axis=1),
        weights=target.astype(np.float32),
    )
    model = encoder()
    loss, _ = MaskedLoss(model)(Batch.of(row, CPU), float(row.weights.sum()))
    segments = [
        slice(a, b) for a, b in zip(row.cu_seqlens[:-1], row.cu_seqlens[1:], strict=True) if row.target[a:b].any()
    ]
    cells = [np.argwhere(target[segment]) for segment in segments]
    truth = np.concatenate([row.targets[segment][tuple(c.T)] for segment, c in zip(segments, cells, strict=True)])

    def nats(model: Encoder) -> float:
        answers = np.concatenate(EncoderPredict(model)([Example(row.inputs[segment]) for segment in segments], cells))
        return float(-answers[np.arange(len(truth)), truth].mean())

    assert nats(model) == pytest.approx(loss.item(), rel=1e-5)
    seeing = encoder(context_sees_target=True)
    assert abs(nats(seeing) - loss.item()) > 1e-3


RECIPE = {
    "data": {},
    "tokenizer": {"name": "corpora:Letters"},
    "model": {**SHAPE, "context_sees_target": False, "mlp_dropout": 0.1},
    "packing": {"row_tokens": 256, "context": 64},
    "masking": {"tokens": {"weight": 1}, "spans": {"weight": 1}, "infill": {"weight": 2}},
    "training": {"tokens": 12 * 256, "rows": 1, "precision": "fp32", "checkpoint_every": 5 * 256},
    "optimizer": {"lr": 1e-2},
}


def test_a_recipe_trains_it_and_a_broken_run_ends_in_the_same_bits(corpus: Corpus, tmp_path: Path) -> None:
    def break_off(event: Event) -> None:
        if isinstance(event, Step) and event.step == 8:
            raise KeyboardInterrupt

    for run, listeners in (("whole", [print]), ("broken", [break_off, print])):
        for listen in listeners:
            with contextlib.suppress(KeyboardInterrupt):
                maskseq.pretrain(RECIPE, output=tmp_path / run, corpus=corpus, on_event=listen)
    torch.testing.assert_close(weights(tmp_path / "broken"), weights(tmp_path / "whole"), rtol=0, atol=0)
    run = maskseq.load(tmp_path / "whole", trust_code=True)
    assert run.model.config.context_sees_target is False
    lines = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if line["kind"] == "step"]
    assert np.mean(losses[-4:]) < np.mean(losses[:4])

    ids = TOKENIZER.encode(corpora.Text(key="r", text="abcdabcd??abcd?abcdabcd")).ids
    holes, n = ~TOKENIZER.vocabulary.known(ids), len(ids)
    (fill,) = infill(
        run.predict(symmetries=False),
        [Example(ids)],
        [holes],
        InfillConfig(),
        vocabulary=TOKENIZER.vocabulary,
        keys=[0],
    )
    target = torch.from_numpy(holes.any(axis=1))
    attend = functools.partial(dense, target=target)
    with torch.no_grad():
        states = run.model(torch.from_numpy(ids).long(), torch.arange(n), boundaries([n]), n, attend=attend)
        expected = run.model.logits(states[target.nonzero()[:, 0]], 0).softmax(-1).numpy()
    np.testing.assert_allclose(fill.marginals[fill.cells[:, 1] == 0], expected, atol=1e-5)

    plain = {**RECIPE, "model": {**RECIPE["model"], "context_sees_target": True}}
    maskseq.pretrain(plain, output=tmp_path / "plain", corpus=corpus)
    table = "embeddings.tok_embeddings.weight"
    assert not torch.equal(weights(tmp_path / "plain")[table], weights(tmp_path / "whole")[table])
