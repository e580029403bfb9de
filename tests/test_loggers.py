"""What the loggers have stored, read back with their own tools; those that are not installed are skipped."""

import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from small_run import STEP, small_run

from maskseq.errors import UsageError
from maskseq.training.events import Event, Step, Validation
from maskseq.training.loggers import logging_to

IDENTITY = {"recipe": "small"}


def run_twice(run: Path, logger: str) -> dict[int, Step]:
    """Six steps, interrupted after the fourth with a checkpoint at the third; the steps that were made, by number."""
    steps: dict[int, Step] = {}
    for stop in (4, 99):
        with logging_to(logger, run, IDENTITY) as log:

            def listen(event: Event, log: Any = log, stop: int = stop) -> None:
                log(event)
                if isinstance(event, Step):
                    steps[event.step] = event
                    if event.step == stop:
                        raise KeyboardInterrupt

            options = {"tokens": 6 * STEP, "checkpoint_every": 3 * STEP, "validate_every": 3 * STEP}
            try:
                small_run(run, on_event=listen, identity=IDENTITY, **options)
            except KeyboardInterrupt:
                assert stop == 4
    return steps


LOGGED: list[tuple[str, float, int]] = []


class Memory:
    def __init__(self, run: Path, identity: dict[str, Any], step: int) -> None:
        assert identity == IDENTITY
        LOGGED.append(("opened after", 0.0, step))

    def log(self, values: Mapping[str, float], step: int) -> None:
        LOGGED.extend((name, value, step) for name, value in values.items())

    def close(self) -> None:
        LOGGED.append(("closed", 0.0, 0))


def test_a_logger_of_ones_own_sees_every_number_and_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "my_logger", sys.modules[__name__])
    LOGGED.clear()
    steps = run_twice(tmp_path, "my_logger:Memory")
    opened = [(name, step) for name, _, step in LOGGED if name in ("opened after", "closed")]
    assert opened == [("opened after", 0), ("closed", 0), ("opened after", 3), ("closed", 0)]
    names = {name for name, _, _ in LOGGED}
    assert {"train/bits", "train/lr", "train/objective/spans/accuracy", "validation/ratio/0.2-0.4/bits"} <= names
    assert {"train/field/size/bits", "validation/bits", "train/tokens_per_s"} <= names
    bits = {step: value for name, value, step in LOGGED if name == "train/bits"}
    assert bits == {n: s.scores.all.loss / math.log(2) for n, s in steps.items()}


def test_tensorboard_shows_each_step_once(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    steps = run_twice(tmp_path, "tensorboard")
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    shown = {e.step: e.value for e in events.Scalars("train/bits")}
    assert shown == pytest.approx({n: s.scores.all.bits for n, s in steps.items()})
    assert [e.step for e in events.Scalars("train/bits")] == [1, 2, 3, 4, 5, 6]
    assert [e.step for e in events.Scalars("validation/accuracy")] == [0, 3, 6]


def test_wandb_stores_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    run_twice(tmp_path, "wandb")
    files = sorted(tmp_path.rglob("*.wandb"))
    assert len(files) == 2
    assert len({file.name for file in files}) == 1  # both are parts of the run with one id
    assert all(b"train/bits" in file.read_bytes() for file in files)


def test_trackio_stores_each_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    pytest.importorskip("trackio")
    from trackio.sqlite_storage import SQLiteStorage

    steps = run_twice(tmp_path / "run", "trackio")
    (name,) = SQLiteStorage.get_runs("maskseq")
    stored = {log["step"]: log["train/bits"] for log in SQLiteStorage.get_logs("maskseq", name) if "train/bits" in log}
    assert stored == pytest.approx({n: s.scores.all.bits for n, s in steps.items()})


def test_mlflow_stores_each_step_in_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri(f"file:{tmp_path / 'mlflow'}")
    steps = run_twice(tmp_path / "run", "mlflow")
    (stored,) = mlflow.search_runs(experiment_names=["maskseq"], output_format="list")
    history = mlflow.MlflowClient().get_metric_history(stored.info.run_id, "train/bits")
    assert {m.step: m.value for m in history} == pytest.approx({n: s.scores.all.bits for n, s in steps.items()})


def test_a_logger_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no logger 'tensorbord'"), logging_to("tensorbord", tmp_path, {}):
        pass
    with pytest.raises(UsageError, match="cannot load logger"), logging_to("no_such_module:Logger", tmp_path, {}):
        pass


def test_validation_numbers_carry_their_own_prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "my_logger", sys.modules[__name__])
    LOGGED.clear()
    validations: list[Validation] = []
    with logging_to("my_logger:Memory", tmp_path, IDENTITY) as log:

        def listen(event: Event) -> None:
            log(event)
            if isinstance(event, Validation):
                validations.append(event)

        small_run(tmp_path, tokens=2 * STEP, on_event=listen, identity=IDENTITY)
    logged = {(name, step): value for name, value, step in LOGGED}
    assert [logged["validation/accuracy", v.step] for v in validations] == [v.scores.all.accuracy for v in validations]
