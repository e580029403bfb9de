"""ESM-2 in transformers' layout: the same logits from random weights, and proteins filled end to end."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from maskseq.cli import app
from maskseq.errors import DataError, UsageError
from maskseq.interop.convert import export_onnx, import_hf
from maskseq.model.checkpoint import read_json, write_json
from maskseq.trained import load
from maskseq_genomics.protein import ProteinTokenizer

transformers = pytest.importorskip("transformers")
TOKENS = ["<cls>", "<pad>", "<eos>", "<unk>", *"LAGVSERTIDPKQNFYMHWCXBUZO.-", "<null_1>", "<mask>"]
MASK = TOKENS.index("<mask>")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights, larger than usual ones, so that nothing is near 0."""
    config = transformers.EsmConfig(
        vocab_size=len(TOKENS),
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=64,
        position_embedding_type="rotary",
        token_dropout=True,
        emb_layer_norm_before=False,
        layer_norm_eps=1e-5,
        pad_token_id=1,
        mask_token_id=MASK,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        max_position_embeddings=128,
    )
    torch.manual_seed(0)
    model = transformers.EsmForMaskedLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    path = tmp_path_factory.mktemp("esm") / "esm2"
    model.save_pretrained(path)
    (path / "vocab.txt").write_text("\n".join(TOKENS))
    return path


def test_logits_are_those_of_transformers(folder: Path) -> None:
    theirs = transformers.EsmForMaskedLM.from_pretrained(folder).eval()
    ours, own = import_hf(folder)
    assert own is None
    rng = np.random.default_rng(0)
    pieces = []
    for length in (12, 1, 30):
        ids = rng.integers(4, 24, size=length)
        ids[rng.random(length) < 0.3] = MASK
        pieces.append(ids)
    ends = torch.tensor(np.cumsum([0, *map(len, pieces)]), dtype=torch.int32)
    flat = torch.from_numpy(np.concatenate(pieces))[:, None]
    positions = torch.cat([torch.arange(len(piece)) for piece in pieces])
    with torch.inference_mode():
        states = ours.eval()(flat, positions, ends, 30)
        found = ours.logits(states, 0)
        for start, piece in zip(ends.tolist(), pieces, strict=False):
            framed = torch.tensor([[0, *piece.tolist(), 2]])
            expected = theirs(input_ids=framed, attention_mask=torch.ones_like(framed)).logits[0, 1:-1]
            mine = found[start : start + len(piece)]
            predictable = [i for i in range(len(TOKENS)) if torch.isfinite(mine[:, i]).all()]
            assert len(predictable) > 20
            torch.testing.assert_close(mine[:, predictable], expected[:, predictable], atol=1e-4, rtol=1e-4)


def test_proteins_are_filled_with_our_tokenizer(folder: Path, tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        done = CliRunner().invoke(
            app, ["import-hf", str(folder), "-o", str(tmp_path / "run"), "--tokenizer", "protein"]
        )
    assert done.exit_code == 0, done.output
    assert "no token *" in " ".join([done.output, *(str(each.message) for each in caught)])
    (tmp_path / "new.fasta").write_text(">p1\nMKVXXLAGSERTIDPKQNFY\n>p2\nMALWX\n")
    command = ["infill", tmp_path / "run", tmp_path / "new.fasta", "-o", tmp_path / "new-filled"]
    done = CliRunner().invoke(app, [*map(str, command)])
    assert done.exit_code == 0, done.output
    lines = (tmp_path / "new-filled" / "new.fasta").read_text().splitlines()
    assert lines[0] == ">p1"
    assert lines[1][:3] + lines[1][5:] == "MKVLAGSERTIDPKQNFY"
    assert not {"X", "*"} & set(lines[1] + lines[3])
    opened, theirs = load(tmp_path / "run"), transformers.EsmForMaskedLM.from_pretrained(folder).eval()
    ids = torch.tensor([[0, *(TOKENS.index(letter) for letter in "MALW"), MASK, 2]])
    with torch.inference_mode():
        logits = theirs(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, 5]
    letters = [token for token in ProteinTokenizer().fields[0].tokens if token in TOKENS]
    expected = logits[[TOKENS.index(letter) for letter in letters]].log_softmax(dim=0)
    records = list(opened.reader(tmp_path / "new.fasta").read(tmp_path / "new.fasta"))
    (_, found) = opened.infill(records, symmetries=False)
    marginals = np.log(found.filled.fill.marginals[0])
    mine = [marginals[ProteinTokenizer().fields[0].tokens.index(letter)] for letter in letters]
    np.testing.assert_allclose(mine, expected.numpy(), atol=1e-3)


def test_what_is_no_esm_2_is_refused(folder: Path, tmp_path: Path) -> None:
    config = read_json(folder / "config.json")
    other = tmp_path / "esm1b"
    other.mkdir()
    (other / "vocab.txt").write_text("\n".join(TOKENS))
    write_json(other / "config.json", config | {"position_embedding_type": "absolute"})
    with pytest.raises(DataError, match="RoPE"):
        import_hf(other)
    with pytest.raises(UsageError, match="frame"):
        export_onnx(import_hf(folder)[0], tmp_path / "esm.onnx")
