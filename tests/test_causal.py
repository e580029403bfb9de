"""Causal segments: attention that looks to the left only, a head read one position before, and what it is asked for."""

import json
import math
import shutil
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))

from small_run import weights
from test_next import EVENTS, case, cases, corpus, log, maskseq, table
from test_one_way import boundaries

import maskseq as package
from maskseq.corpus.reader import Corpus
from maskseq.errors import UsageError
from maskseq.interop.convert import export_hf, import_hf
from maskseq.masking.causal import asked_in_order
from maskseq.masking.config import OBJECTIVES, MaskingConfig
from maskseq.model.attention.causal import CausalAttention
from maskseq.model.checkpoint import save_model
from maskseq.model.encoder import Encoder
from maskseq.model.presets import preset
from maskseq.model.rotary import rotate, rotation
from maskseq.packing.packing import PackingConfig
from maskseq.packing.rows import CAUSAL, PackedRow, PackedRows, concatenate
from maskseq.predict.next import NextPredict
from maskseq.predict.protocol import Example
from maskseq.recipe import load_recipe
from maskseq.scoring.exact import exact_by_prefixes, exact_scores
from maskseq.trained import TrainedModel, load
from maskseq.training.loss import Batch, MaskedLoss
from maskseq.types import Field
from maskseq_genomics.nucleotide import NucleotideTokenizer

__all__ = ["corpus", "log"]  # fixtures
SHAPE = {"n_layers": 2, "hidden_size": 32, "n_heads": 2, "intermediate_size": 32, "max_positions": 16}
CPU = torch.device("cpu")


def model_of(**switches: Any) -> Encoder:
    """With values that are far from where training begins, so that everything has an effect."""
    model = Encoder(preset("nano", EVENTS.vocabulary, **{**SHAPE, "next_head": True, **switches}), seed=3)
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.empty_like(parameter).normal_(0, 0.15, generator=generator))
    return model


def rows_of(corpus: Corpus, causal: float, **options: Any) -> PackedRows:
    given = {"config": PackingConfig(row_tokens=64, context=16), "masking": MaskingConfig(causal=causal), "seed": 3}
    return PackedRows(corpus, **{**given, **options})


@settings(max_examples=25, deadline=None)
@given(
    pieces=st.lists(st.tuples(st.integers(1, 40), st.booleans()), min_size=1, max_size=5),
    window=st.none() | st.integers(1, 20),
    interleaved=st.booleans(),
)
def test_attention_is_dense_attention_under_a_triangle(
    pieces: list[tuple[int, bool]], window: int | None, interleaved: bool
) -> None:
    generator = torch.Generator().manual_seed(0)
    lengths = [n for n, _ in pieces]
    causal, cu_seqlens = torch.tensor([flag for _, flag in pieces]), boundaries(lengths)
    qkv, grad = (torch.randn(sum(lengths), n, 2, 8, generator=generator, dtype=torch.float64) for n in (3, 1))
    place = torch.arange(sum(lengths))
    positions = torch.cat([torch.arange(n) for n in lengths])
    turn = rotation(positions, 8, 100.0)
    piece = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    sees = (piece[:, None] == piece) & (~causal[piece][:, None] | (place <= place[:, None]))
    if window is not None:
        sees &= (place[:, None] - place).abs() <= window

    def dense(x: Tensor) -> Tensor:
        q, k, v = x.unbind(1)
        q, k = rotate(torch.stack([q, k], 1), turn, interleaved=interleaved).unbind(1)
        scores = torch.einsum("qhd,khd->hqk", q, k) / math.sqrt(8)
        return torch.einsum("hqk,khd->qhd", scores.masked_fill(~sees, -math.inf).softmax(-1), v)

    found, expected = qkv.clone().requires_grad_(), qkv.clone().requires_grad_()
    attend = CausalAttention.of(causal, cu_seqlens)
    ours = attend(found, turn, cu_seqlens, max_seqlen=max(lengths), window=window, interleaved=interleaved)
    theirs = dense(expected)
    torch.testing.assert_close(ours, theirs)
    ours.backward(grad[:, 0])
    theirs.backward(grad[:, 0])
    torch.testing.assert_close(found.grad, expected.grad)


@settings(max_examples=50, deadline=None)
@given(pieces=st.lists(st.tuples(st.integers(0, 40), st.booleans()), max_size=8))
def test_every_token_is_in_one_batch_or_among_those_that_look_both_ways(pieces: list[tuple[int, bool]]) -> None:
    causal = torch.tensor([flag for _, flag in pieces], dtype=torch.bool)
    bounds = [0]
    for n, _ in pieces:
        bounds.append(bounds[-1] + n)
    tokens = [list(range(bounds[i], bounds[i + 1])) for i in range(len(pieces))]
    both_ways = [mine for mine, (_, flag) in zip(tokens, pieces, strict=True) if not flag]
    attend = CausalAttention.of(causal, torch.tensor(bounds, dtype=torch.int32))
    assert attend.both_ways.tolist() == [token for mine in both_ways for token in mine]
    assert attend.cu_both_ways.diff().tolist() == [len(mine) for mine in both_ways]
    found = []
    for batch in attend.batches:
        rows = batch.tokens.view(batch.n, -1).tolist()
        lengths = [len(set(row)) for row in rows]  # padded by the last token
        assert max(lengths) == len(rows[0])
        assert max(lengths) - min(lengths) < 16
        found += [sorted(set(row)) for row in rows]
        real = batch.tokens[batch.real].tolist()
        assert real == [token for row in rows for token in sorted(set(row))]
    assert sorted(found) == [mine for mine, (_, flag) in zip(tokens, pieces, strict=True) if flag and mine]


@pytest.mark.parametrize(
    "switches",
    [{}, {"ngram_prior": {"depth": 1}}, {"ngram_embeddings": {"contexts": [(1, 1)]}}, {"global_every": 2, "window": 3}],
    ids=["plain", "prior", "ngrams", "windows"],
)
def test_no_prediction_changes_with_what_follows(switches: dict[str, Any]) -> None:
    from pydantic import TypeAdapter

    from maskseq.model.config import EncoderConfig

    config = TypeAdapter(EncoderConfig).dump_python(model_of().config, mode="json") | switches
    model = Encoder(TypeAdapter(EncoderConfig).validate_python(config), seed=3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.empty_like(parameter).normal_(0, 0.2, generator=torch.Generator().manual_seed(1)))
    predict = NextPredict(model)
    ids = EVENTS.encode(case("x", "abbbbc")).ids
    rng = np.random.default_rng(0)
    every = np.argwhere(np.ones(ids.shape, bool))
    (truth,) = predict([Example(ids)], [every])
    for place in range(len(ids)):
        for field in range(ids.shape[1]):
            changed = ids.copy()
            changed[place, field] = (ids[place, field] + 1) % EVENTS.fields[field].n_rows
            n_ids = [each.n_predictable for each in EVENTS.fields]
            changed[place + 1 :] = rng.integers(0, n_ids, (len(ids) - place - 1, ids.shape[1]))
            (found,) = predict([Example(changed)], [every])
            until = (every[:, 0] < place) | ((every[:, 0] == place) & (every[:, 1] <= field))
            np.testing.assert_allclose(found[until], truth[until], atol=2e-6)
            later = (every[:, 0] == place) & (every[:, 1] > field) | (every[:, 0] == place + 1)
            assert not later.any() or not np.allclose(found[later], truth[later], atol=1e-6)


def test_causal_segments_are_seen_whole_and_asked_for_everything_that_is_new(corpus: Corpus) -> None:
    rows = rows_of(corpus, 1.0)
    names = EVENTS.vocabulary.names
    for number in range(rows.n_rows()):
        row = rows.row(number)
        for piece, (start, stop) in enumerate(pairwise(row.cu_seqlens.tolist())):
            if row.sequence[piece] < 0:
                continue
            here = slice(start, stop)
            assert row.objective[piece] == CAUSAL
            assert np.array_equal(row.inputs[here], row.targets[here])
            asked = row.weights[here] > 0
            assert asked[:, names.index("activity")].all()
            colour = asked[:, names.index("case:colour")]
            assert colour[0]  # it holds for the case: its first event tells it, the others repeat it
            assert not colour[1:].any()


def test_the_share_is_that_of_segments_and_without_it_rows_are_what_they_were(corpus: Corpus) -> None:
    counts = np.zeros(2)
    for seed in range(6):
        rows = rows_of(corpus, 0.25, seed=seed)
        for number in range(rows.n_rows()):
            real = rows.row(number).objective[rows.row(number).sequence >= 0]
            counts += np.count_nonzero(real == CAUSAL), len(real)
    assert abs(counts[0] / counts[1] - 0.25) < 0.08
    plain, off = rows_of(corpus, 0.0), rows_of(corpus, 0.0, masking=MaskingConfig())
    assert plain.fingerprint == off.fingerprint
    assert plain.row(0).seen is None


def test_the_loss_is_that_of_each_segment_alone(corpus: Corpus) -> None:
    rows = rows_of(corpus, 0.5)
    row = concatenate([rows.row(0), rows.row(1)])
    model = model_of()
    loss = MaskedLoss(model)
    total, tallies = loss(Batch.of(row, CPU), 1.0)
    assert {OBJECTIVES[i] for i in row.objective.tolist() if i >= 0} > {"causal"}
    assert row.seen is not None
    expected = 0.0
    mask_ids = np.array(EVENTS.vocabulary.mask_ids)
    for piece, (start, stop) in enumerate(pairwise(row.cu_seqlens.tolist())):
        if row.sequence[piece] < 0:
            continue
        if row.objective[piece] != CAUSAL:
            alone = _only(row, piece)
            expected += loss(Batch.of(alone, CPU), 1.0)[0].item()
            continue
        for place in range(start, stop):
            for field in np.flatnonzero(row.weights[place]).tolist():
                ids = row.targets[start : place + 1].copy()
                ids[-1] = np.where(row.seen[place], ids[-1], mask_ids)
                (found,) = NextPredict(model)([Example(ids)], [np.array([[place - start, field]])])
                expected -= float(found[0, row.targets[place, field]]) * row.weights[place, field]
    assert total.item() == pytest.approx(expected, rel=1e-5)
    assert tallies.shape[0] == len(EVENTS.fields)


def _only(row: PackedRow, piece: int) -> PackedRow:
    start, stop = row.cu_seqlens[piece : piece + 2].tolist()
    kept = np.zeros(row.weights.shape, bool)
    kept[start:stop] = True
    return replace(row, weights=np.where(kept, row.weights, 0).astype(np.float32))


def run_of(folder: Path, corpus: Corpus | None = None, **switches: Any) -> TrainedModel:
    save_model(folder, model_of(**switches), EVENTS)
    if corpus is not None:
        shutil.copytree(corpus.path, folder / "corpus")
    return load(folder, trust_code=True)


def test_the_likelihood_in_one_pass_is_that_of_prefix_after_prefix(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run")
    records = [(each.key, EVENTS.encode(each)) for each in (case("x", "abbc", "blue"), case("y", "a" * 30))]
    given: dict[str, Any] = {"tokenizer": EVENTS, "context": 16}
    whole = list(exact_scores(run.model, records, **given))
    steps = list(exact_by_prefixes(NextPredict(run.model), records[:1], **given))
    np.testing.assert_allclose(whole[0].bits, steps[0].bits, atol=1e-4)
    # Of a record longer than the context every position is scored once, those in its first window as if it were alone.
    asked = asked_in_order(records[1][1].ids, EVENTS.units_of(records[1][1]), EVENTS.fields, begins=True)
    assert np.array_equal(~np.isnan(whole[1].bits), asked)
    (first,) = exact_by_prefixes(NextPredict(run.model), [("y", records[1][1].cut(0, 16))], **given)
    np.testing.assert_allclose(whole[1].bits[:16], first.bits, atol=1e-4)


def test_probabilities_of_all_sequences_add_up_to_one(tmp_path: Path) -> None:
    """By brute force over the first fields of two positions, the rest summed out one after another."""
    run = run_of(tmp_path / "run")
    predict = NextPredict(run.model)
    ids = EVENTS.encode(case("x", "ab")).ids
    (first,) = predict([Example(ids)], [np.array([[1, 0]])])
    assert np.exp(first).sum() == pytest.approx(1, abs=1e-5)
    total = 0.0
    for activity in range(EVENTS.fields[0].n_predictable):
        changed = ids.copy()
        changed[1, 0] = activity
        (found,) = predict([Example(changed)], [np.array([[1, 2]])])
        total += float(np.exp(first[0, activity]) * np.exp(found[0]).sum())
    assert total == pytest.approx(1, abs=1e-5)


def test_a_field_that_tells_of_what_follows_is_refused() -> None:
    fields = (Field(name="now", tokens=("a", "b")), Field(name="ahead", tokens=("x", "y")))
    ids = np.zeros((3, 2), np.int64)
    place = np.arange(3)
    now = np.stack([place, place + 1], axis=1)
    shared = tuple(replace(each, source="both") for each in fields)
    units = np.stack([now, np.stack([place, place + 2], axis=1)], axis=1)
    with pytest.raises(UsageError, match="ahead"):
        asked_in_order(ids, units, shared, begins=True)
    behind = np.stack([now, np.stack([place - 1, place + 1], axis=1)], axis=1)
    asked = asked_in_order(ids, behind, shared, begins=True)
    assert asked.all()


def test_commands_use_the_head_or_say_what_is_missing(corpus: Corpus, log: Path, tmp_path: Path) -> None:
    run, out = run_of(tmp_path / "run", corpus), tmp_path / "next.csv"
    result = maskseq("next", run.path, log, "--by", "encoder", "--steps", 2, "--samples", 3, "-o", out, "--trust-code")
    assert result.exit_code == 0, result.output
    assert {row["step"] for row in table(out)} == {"1", "2"}
    exact = tmp_path / "exact.csv"
    result = maskseq("score", run.path, log, "--exact", "-o", exact, "--trust-code")
    assert result.exit_code == 0, result.output
    rows = table(exact)
    assert [row["key"] for row in rows] == ["x", "y"]
    for row in rows:
        total = float(row["bits"]) * int(row["cells"])
        assert float(row["log_likelihood"]) == pytest.approx(-total * math.log(2), rel=1e-5)
    refused = maskseq("score", run.path, log, "--exact", "--stride", "4", "-o", tmp_path / "no.csv", "--trust-code")
    assert refused.exit_code == 2
    assert "--stride" in refused.stderr
    assert not (tmp_path / "no.csv").exists()
    result = maskseq("score", run.path, log, "--exact", "--field", "activity", "-o", exact, "--trust-code")
    assert [int(row["cells"]) for row in table(exact)] == [4, 5]  # events and the mark of the end
    plain = run_of(tmp_path / "plain", corpus, next_head=False)
    for command in (("score", plain.path, log, "--exact"), ("next", plain.path, log, "--by", "encoder")):
        result = maskseq(*command, "-o", tmp_path / "no.csv", "--trust-code")
        assert result.exit_code == 2
        assert "masking.causal" in result.output
        assert not (tmp_path / "no.csv").exists()


def test_bits_by_prefixes_are_what_an_open_run_gives(corpus: Corpus, log: Path, tmp_path: Path) -> None:
    plain = run_of(tmp_path / "plain", corpus, next_head=False)
    (plain.path / "recipe.json").write_text(
        json.dumps({"recipe": {"data": {}, "tokenizer": {}, "packing": {"open": 0.3}}})
    )
    result = maskseq("score", plain.path, log, "--exact", "-o", tmp_path / "e.csv", "--trust-code")
    assert result.exit_code == 0, result.output
    assert len(table(tmp_path / "e.csv")) == 2


RECIPE = """
seed = 0
[data]
files = ["{log}"]
split = {{ by = "record", selection = 0.2 }}
[tokenizer]
name = "event"
attributes = ["colour"]
categorical = ["colour"]
[model]
preset = "nano"
n_layers = 1
hidden_size = 32
n_heads = 2
intermediate_size = 32
[packing]
row_tokens = 64
context = 16
[masking]
causal = 0.5
[training]
tokens = 640
precision = "fp32"
validate_every = 0.5
checkpoint_every = 0.5
comparison_cells = 0
"""


def test_training_resumes_exactly_and_learns_both(tmp_path: Path) -> None:
    lines = ["case,activity,time,colour"]
    for each in cases(40):
        lines += [
            f"{each.key},{name},2024-01-01 10:{i:02d}:00,{each.case_attributes['colour']}"
            for i, name in enumerate(each.activity)
        ]
    (tmp_path / "log.csv").write_text("\n".join(lines) + "\n")
    recipe = tmp_path / "r.toml"
    recipe.write_text(RECIPE.format(log=tmp_path / "log.csv"))
    made = load_recipe(recipe, ("blend=false", "calibrate=false"))
    package.pretrain(made, output=tmp_path / "whole")
    metrics = (tmp_path / "whole" / "metrics.jsonl").read_text()
    assert "causal" in metrics
    folder = tmp_path / "again"
    shutil.copytree(tmp_path / "whole", folder)
    steps = sorted((folder / "checkpoints").glob("step_*"), key=lambda each: int(each.name.removeprefix("step_")))
    middle = steps[-2]
    for each in steps[-1:]:
        shutil.rmtree(each)
    for name in ("latest", "best"):
        (folder / name).write_text(middle.name)
    package.pretrain(made, output=folder)
    assert _same(weights(tmp_path / "whole"), weights(folder))
    assert load(folder).model.next_head is not None


def _same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        (("masking.causal=1.5",), "causal"),
        (("masking.causal=0", "model.next_head=true"), "next_head"),
        (("model.context_sees_target=false", "masking.infill.weight=1.0"), "next_head"),
    ],
)
def test_what_does_not_go_together_is_refused(tmp_path: Path, changes: tuple[str, ...], word: str) -> None:
    recipe = tmp_path / "r.toml"
    recipe.write_text(RECIPE.format(log=tmp_path / "log.csv"))
    with pytest.raises(UsageError, match=word):
        load_recipe(recipe, changes).check()


def test_exports_know_nothing_of_it(tmp_path: Path) -> None:
    tokenizer = NucleotideTokenizer()
    shape = {**SHAPE, "max_positions": 32}
    with_head = Encoder(preset("nano", tokenizer.vocabulary, **shape, next_head=True), seed=3)
    plain = Encoder(preset("nano", tokenizer.vocabulary, **shape), seed=3)
    for name, model in (("with", with_head), ("plain", plain)):
        export_hf(model, tmp_path / name)
    for file in ("config.json", "model.safetensors"):
        assert (tmp_path / "with" / file).read_bytes() == (tmp_path / "plain" / file).read_bytes()
    assert import_hf(tmp_path / "with")[0].next_head is None
    assert "next_head" not in json.dumps(_saved(tmp_path / "saved", plain, tokenizer))


def _saved(folder: Path, model: Encoder, tokenizer: Any) -> Any:
    save_model(folder, model, tokenizer)
    return json.loads((folder / "config.json").read_text())
