"""Sizes beyond all bounds end in one line, before anything of that size is made."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from corpora import Letters, memory
from typer.testing import CliRunner
from untrained import load_model, untrained

from maskseq.cli import app
from maskseq.errors import DataError, MaskseqError, UsageError
from maskseq.interop.convert import export_hf, import_hf
from maskseq.model.checkpoint import seal
from maskseq.model.config import EncoderConfig
from maskseq.model.encoder import Encoder
from maskseq.recipe import check_memory, load_recipe
from maskseq.types import Field, Vocabulary
from maskseq_genomics.nucleotide import NucleotideTokenizer

ABSURD: dict[str, tuple[Any, ...]] = {
    "n_layers": (10**7, 10**15, 0, -1, 1.5, "x", None),
    "intermediate_size": (10**12, 10**9, -1, float("nan")),
    "hidden_size": (10**12, 1 << 30, -8, []),
    "n_heads": (10**12, 0, -1),
    "max_positions": (10**15, -1, float("inf"), "many"),
    "token_types": (10**12, 1 << 31, -1),
    "phase_embeddings": tuple({"periods": each} for each in ([10**12], [1 << 31], [-1], [2.5])),
    "ngram_embeddings": tuple({"contexts": each} for each in ([[10**9, 10**9]], [[1, 10**15]], [[-1, 3]])),
    "ngram_prior": tuple({"depth": each} for each in (10**9, -1, float("nan"))),
    "linear_prior": tuple({"distances": each} for each in ([10**15], [1, 1], [-1])),
    "reference": tuple({"bins": each} for each in (10**12, -1, 1)),
    "ordinal_basis": tuple({"cosines": each} for each in (10**12, -1)),
    "global_every": (10**12, 0),
    "window": (-(10**12), float("nan")),
    "rope_theta": (float("nan"), float("inf"), -1.0, 0),
    "rope_fraction": (float("nan"), 10**9, -1),
    "norm_eps": (float("nan"), -1.0),
    "mlp_dropout": (float("nan"), 1, -1),
    "init_std": (float("nan"), -1.0),
    "vocabulary": ({}, {"names": ["x"], "n_rows": [10**15], "n_outputs": [10**15], "mask_ids": [0]}),
    "positions": ("learned", "nowhere"),
}


@pytest.mark.parametrize("name", ABSURD)
def test_a_config_that_the_weights_do_not_have_allocates_nothing(tmp_path: Path, name: str) -> None:
    checkpoint = untrained(Letters(), tmp_path / "run").checkpoint
    config = json.loads((checkpoint / "config.json").read_text())
    before, began = memory("VmRSS"), time.process_time()
    for value in ABSURD[name]:
        changed = config | {"encoder": config["encoder"] | {name: value}}
        (checkpoint / "config.json").write_text(json.dumps(changed))
        (checkpoint / "digests.json").unlink()
        seal(checkpoint)
        try:
            load_model(checkpoint, trust_code=True)
        except DataError as error:
            line = str(error).partition("\n\n")[0]
            assert str(checkpoint) in line
            assert "\n" not in line
            assert len(line) < 500
        else:
            assert name in ("n_heads", "window", "global_every", "mlp_dropout"), f"{name} = {value} was accepted"
    assert memory("VmRSS") - before < 100e6
    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    "wrong",
    [
        {"intermediate_size": 10**7},
        {"num_hidden_layers": 10**7},
        {"num_hidden_layers": 10**7, "layer_types": None},
        {"hidden_size": 10**9},
    ],
    ids=str,
)
def test_a_hugging_face_folder_whose_weights_are_others_allocates_nothing(
    tmp_path: Path, wrong: dict[str, Any]
) -> None:
    export_hf(untrained(NucleotideTokenizer(), tmp_path / "run").model, tmp_path / "hf")
    config = json.loads((tmp_path / "hf" / "config.json").read_text())
    before, began = memory("VmRSS"), time.process_time()
    (tmp_path / "hf" / "config.json").write_text(json.dumps(config | wrong))
    with pytest.raises((DataError, UsageError), match=r"config\.json|hidden_size"):
        import_hf(tmp_path / "hf")
    assert memory("VmRSS") - before < 100e6
    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model.n_layers", 10**7),
        ("model.intermediate_size", 10**9),
        ("model.max_positions", 10**15),
        ("model.ordinal_basis.cosines", 10**15),
        ("packing.row_tokens", 10**15),
        ("packing.context", 10**15),
    ],
)
def test_a_recipe_beyond_this_machine_ends_before_it_begins(tmp_path: Path, key: str, value: int) -> None:
    (tmp_path / "a.fa").write_text(">a\n" + "ACGT" * 500 + "\n")
    (tmp_path / "recipe.toml").write_text('[data]\nfiles = ["a.fa"]\n[tokenizer]\nname = "nucleotide"\n')
    arguments = ["pretrain", str(tmp_path / "recipe.toml"), "-o", str(tmp_path / "run"), "--set", f"{key}={value}"]
    for more in ([], ["--dry-run"]):
        result = CliRunner().invoke(app, [*arguments, *more])
        assert result.exit_code == 2, result.output
        assert "Traceback" not in result.output
    assert not (tmp_path / "run").exists()


def test_the_least_number_of_parameters_is_a_lower_bound() -> None:
    vocabulary = Vocabulary.of([Field(name="x", tokens=("a", "b"))])
    for mlp in ("gelu", "geglu", "swiglu"):
        for positions in ("rope", "learned", "sinusoidal"):
            config = EncoderConfig(
                vocabulary=vocabulary,
                n_layers=3,
                hidden_size=16,
                n_heads=2,
                intermediate_size=24,
                max_positions=50,
                mlp=mlp,  # type: ignore[arg-type]
                positions=positions,  # type: ignore[arg-type]
            )
            n = Encoder(config).n_parameters
            assert 0.8 * n < config.least_parameters <= n


def test_a_usual_recipe_fits() -> None:
    check_memory(load_recipe({"data": {"files": ["x.fa"]}, "tokenizer": {"name": "nucleotide"}}))
    with pytest.raises(MaskseqError, match="GiB"):
        check_memory(
            load_recipe(
                {
                    "data": {},
                    "tokenizer": {},
                    "model": {"preset": "nano", "n_layers": 10**8},
                }
            )
        )
