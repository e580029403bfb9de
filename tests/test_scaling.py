"""The arithmetic of docs/scaling.md against the files of a real run, and the document against the arithmetic."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

sys.path.insert(0, str(Path(__file__).parent))

from conftest import REPOSITORY
from small_run import STEP, small_encoder, small_run

from maskseq.training.config import OptimizerConfig, TrainingConfig
from maskseq.training.sizes import checkpoint_bytes, rank_memory


def tensor_bytes(path: Path) -> int:
    with safe_open(path, "pt") as file:
        return sum(file.get_tensor(name).nbytes for name in file.keys())  # noqa: SIM118 (no mapping)


@pytest.mark.parametrize("name", ["adamw", "stable_adamw", "muon"])
@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_checkpoints_are_as_large_as_calculated(tmp_path: Path, name: Any, ema: float) -> None:
    small_run(tmp_path, tokens=STEP, ema=ema, optimizer={"name": name})
    folder = tmp_path / "checkpoints" / "step_1"
    found = tensor_bytes(folder / "model.safetensors") + tensor_bytes(folder / "training_state" / "rank_0.safetensors")
    model = small_encoder()
    counters = 4 * sum(1 for _ in model.parameters())  # each parameter's number of steps
    assert 0 <= found - checkpoint_bytes(model, OptimizerConfig(name=name), ema=ema > 0) <= counters


def test_what_sharding_saves_is_what_belongs_to_weights() -> None:
    model, optimizer = small_encoder(), OptimizerConfig()
    whole, shared = (
        rank_memory(model, model.config, TrainingConfig(strategy=strategy), optimizer, row_tokens=1000, world=4)
        for strategy in ("ddp", "fsdp")
    )
    assert whole.activations == shared.activations
    n = model.n_parameters
    assert whole.weights == 20 * n  # weights, gradients, two moments, and the copy from before the step
    assert shared.weights == pytest.approx(whole.weights / 4 + 2 * 4 * n / model.config.n_layers, abs=4)


def test_the_document_shows_what_the_script_prints() -> None:
    path = REPOSITORY / "benchmarks" / "scaling.py"
    spec = importlib.util.spec_from_file_location("scaling", path)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    sys.modules["scaling"] = script  # dataclasses look their module up
    spec.loader.exec_module(script)
    text = (REPOSITORY / "docs" / "scaling.md").read_text()
    missing = [line for line in script.tables() if line not in text.splitlines()]
    assert missing == []
