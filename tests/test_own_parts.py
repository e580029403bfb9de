"""Parts of a user's own: by name in a recipe, as callables in Python, resumed exactly, and trusted only where given."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import own_parts
import pytest
import torch
from safetensors.torch import load_file
from small_run import STEP, Letters, small_encoder, small_run, weights
from test_tables_tokenizer import nights
from test_tasks import dna_task
from untrained import untrained

import maskseq
from maskseq.apps.evaluate import evaluate_run
from maskseq.apps.finetune import finetune
from maskseq.comparison.question import Question
from maskseq.contract.own import look_up
from maskseq.errors import PluginError, UsageError
from maskseq.infill.order import OrderConfig
from maskseq.infill.sampler import InfillConfig
from maskseq.masking.config import OBJECTIVES, MaskingConfig, Own, Tokens
from maskseq.masking.plan import mask_segment
from maskseq.model.checkpoint import read_json
from maskseq.recipe import load_recipe
from maskseq.storage.standard_json import to_json
from maskseq.training.stop_signals import Interrupted
from maskseq_genomics.nucleotide import NucleotideTokenizer

TRAINED_WITH = {
    "optimizer": {"name": "own_parts:sgd", "lr": 0.01},
    "schedule": {"factor": "own_parts:halved"},
    "loss": "own_parts:focal",
}


@pytest.fixture(autouse=True)
def _known() -> None:
    """As `pretrain` looks them up."""
    for kind, name in (("optimizer", "sgd"), ("schedule", "halved"), ("loss", "focal"), ("callback", "stop_at_step_3")):
        look_up(kind, f"own_parts:{name}", trust_code=True)  # type: ignore[arg-type]


def test_the_optimizer_and_schedule_are_what_updates(tmp_path: Path) -> None:
    """The first step of SGD takes the learning rate times its momentum buffer, here without a warm-up."""
    optimizer = {"name": "own_parts:sgd", "lr": 0.25, "clip": 0.0}
    small_run(tmp_path / "run", tokens=STEP, optimizer=optimizer, schedule={"factor": "own_parts:halved"}, judge=False)
    begun, after = dict(small_encoder().named_parameters()), weights(tmp_path / "run")
    (state,) = (load_file(path) for path in (tmp_path / "run").rglob("rank_0.safetensors"))
    buffers = {name.partition("/")[2]: value for name, value in state.items() if name.startswith("momentum_buffer/")}
    assert len(buffers) > 5
    for name, buffer in buffers.items():
        torch.testing.assert_close(begun[name].detach() - after[name], 0.25 * buffer, rtol=1e-3, atol=1e-6)


def test_a_killed_run_with_own_parts_ends_in_the_same_bits(tmp_path: Path) -> None:
    small_run(tmp_path / "whole", **TRAINED_WITH)  # type: ignore[arg-type]
    with pytest.raises(Interrupted):
        small_run(tmp_path / "killed", signal_at=21, **TRAINED_WITH)  # type: ignore[arg-type]
    small_run(tmp_path / "killed", **TRAINED_WITH)  # type: ignore[arg-type]
    one, other = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    assert all(torch.equal(one[name], other[name]) for name in one)
    small_run(tmp_path / "usual", optimizer=TRAINED_WITH["optimizer"], schedule=TRAINED_WITH["schedule"])
    assert any(not torch.equal(one[name], value) for name, value in weights(tmp_path / "usual").items())


def test_a_callback_ends_the_run_for_good(tmp_path: Path) -> None:
    for _ in range(2):  # the second call finds it ended
        result = small_run(tmp_path / "run", callbacks=("own_parts:stop_at_step_3",))
        assert result.position.step == 3
    text = (tmp_path / "run" / "metrics.jsonl").read_text()
    assert text.count('"kind": "step"') == 3
    assert "three are enough" in text


def test_an_objective_chooses_what_is_masked() -> None:
    config = MaskingConfig(tokens=Tokens(weight=0.0), own=Own(name="own_parts:every_second", weight=1.0))
    look_up("objective", "own_parts:every_second", trust_code=True)
    ids = np.zeros((9, 2), np.uint8)
    units = np.repeat(np.arange(9), 2).reshape(9, 2)[..., None] + np.array([0, 1])
    mask = mask_segment(ids, units, np.ones((9, 2), bool), Letters().fields, config, rng=np.random.default_rng(0))
    assert OBJECTIVES[mask.objective] == "own"
    flat = mask.masked.T.ravel()  # units of one source behind those of the other
    assert (np.diff(np.flatnonzero(flat)) == 2).all()
    assert config.without_own == MaskingConfig()


def test_an_order_fills_last_cells_first() -> None:
    config = InfillConfig(order=own_parts.last_first)
    assert config.order == "own_parts:last_first"
    with pytest.raises(UsageError, match="order"):
        OrderConfig(order="upwards")
    with pytest.raises(UsageError, match="cannot be imported"):
        OrderConfig(order="own_parts:nothing")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a table, made with own parts: names in the recipe, and callables in Python."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "nights.csv").write_text(nights(24, holes=0.05))
    recipe: dict[str, Any] = {
        "data": {
            "files": [str(folder / "nights.csv")],
            "format": "table",
            "format_options": {"key": "night", "order": "at"},
            "split": {"by": "record", "selection": 0.2, "test": 0.2},
        },
        "tokenizer": {"name": "columns", "columns": ["stage", "device"]},
        "model": {"preset": "nano", "n_layers": 1, "hidden_size": 32, "n_heads": 2},
        "packing": {"row_tokens": 256, "context": 64},
        "masking": {"own": {"name": own_parts.every_second, "weight": 1.0}},
        "optimizer": {"name": "own_parts:sgd", "lr": 0.01},
        "schedule": {"factor": own_parts.halved},
        "training": {"tokens": 2_000, "rows": 1, "loss": own_parts.focal, "device": "cpu", "comparison_cells": 20},
        "experts": [own_parts.Always],
    }
    maskseq.pretrain(recipe, output=folder / "run")
    return folder / "run"


def test_callables_stand_in_the_recipe_by_their_names(run: Path) -> None:
    saved = read_json(run / "recipe.json")["recipe"]
    assert saved["masking"]["own"]["name"] == "own_parts:every_second"
    assert saved["training"]["loss"] == "own_parts:focal"
    with pytest.warns(FutureWarning, match="selection"):  # an identity has the names that it had
        assert load_recipe(saved).own_parts


def test_a_run_with_an_expert_of_its_own_opens_with_trust_only(run: Path) -> None:
    with pytest.raises(UsageError, match="expert 'own_parts:Always'"):
        maskseq.load(run)
    opened = maskseq.load(run, trust_code=True)
    assert "own_parts:Always" in opened.experts.stored.experts  # type: ignore[union-attr]
    assert maskseq.load(run, trust_code=frozenset({"own_parts:Always"})).path == run


def test_what_only_trained_is_not_imported_by_infill(run: Path, tmp_path: Path) -> None:
    """Without its gate the run needs none of its own parts."""
    bare = tmp_path / "bare"
    shutil.copytree(run, bare)
    for gate in bare.rglob("gate.json"):
        gate.unlink()
    (tmp_path / "new.csv").write_text(nights(2, holes=0.2))
    code = (
        "import sys, maskseq\nfrom pathlib import Path\nfrom maskseq.apps.infill import infill_file\n"
        f"run, folder = maskseq.load({str(bare)!r}), Path({str(tmp_path)!r})\n"
        "infill_file(run, folder / 'new.csv', output=folder / 'out')\n"
        "assert 'own_parts' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_baseline_is_compared_with(run: Path) -> None:
    question = Question(protocols=("isolated",), cells=40, every=False, own=(own_parts.Always,))
    found = to_json(evaluate_run(run, question=question, trust_code=True).to_json())
    assert '"own_parts:Always"' in found


def test_a_head_is_fine_tuned_and_opens_with_trust_only(tmp_path: Path) -> None:
    untrained(NucleotideTokenizer(), tmp_path / "dna")
    task = dna_task(tmp_path, extra='[head]\nkind = "own_parts:SumHead"\n[training]\nepochs = 1\n', n=40)
    finetune(tmp_path / "dna", task, output=tmp_path / "tuned")
    with pytest.raises(UsageError, match="head 'own_parts:SumHead'"):
        _ = maskseq.load(tmp_path / "tuned").task
    head = maskseq.load(tmp_path / "tuned", trust_code=True).task.network.head
    assert type(head.own) is own_parts.SumHead  # type: ignore[union-attr]


def test_what_fails_is_reported_as_a_fault_of_the_part(tmp_path: Path) -> None:
    look_up("loss", "own_parts:fails", trust_code=True)
    with pytest.raises(PluginError, match="own_parts:fails"):
        small_run(tmp_path / "run", loss="own_parts:fails")


@pytest.mark.parametrize(
    ("section", "value"),
    [
        ("optimizer", {"name": "sgd"}),
        ("training", {"loss": "focal"}),
        ("schedule", {"factor": "halved"}),
        ("masking", {"own": {"weight": 1.0}}),
        ("experts", ["tables"]),
    ],
)
def test_names_of_another_form_are_refused(section: str, value: Any) -> None:
    recipe = {"data": {"corpus": "x"}, "tokenizer": {"name": "nucleotide"}, section: value}
    with pytest.raises(UsageError, match="module:name"):
        load_recipe(recipe)
