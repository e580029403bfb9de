"""A run's metrics in TensorBoard, Weights & Biases, trackio or MLflow, besides `metrics.jsonl`, which is always there.

with logging_to("tensorboard", run, identity) as listener:
    train(..., on_event=listener)
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from maskseq.errors import UsageError
from maskseq.storage.run_folder import RunFolder
from maskseq.training.events import Event, Listener, Scores, Started, Step, Tested, Validation


@runtime_checkable
class Logger(Protocol):
    """Takes numbers by name."""

    def log(self, values: Mapping[str, float], step: int) -> None: ...

    def close(self) -> None: ...


Open = Callable[[Path, dict[str, Any], int], Logger]
"""Opens the logger of a run folder, for a run of this identity that goes on after this step."""


@contextmanager
def logging_to(name: str, run: Path, identity: dict[str, Any]) -> Iterator[Listener]:
    """A listener that logs steps and validations to the logger called `name`, or to `module:function`, an `Open`."""
    open_logger = _find(name)
    opened: list[Logger] = []

    def listen(event: Event) -> None:
        if isinstance(event, Started):
            opened.append(open_logger(run, identity, event.step))
        elif isinstance(event, Step | Validation | Tested):
            opened[-1].log(numbers(event), event.step)

    try:
        yield listen
    finally:
        for logger in opened:
            logger.close()


NUMBERS = (
    "lr", "grad_norm", "update_ratio", "rows", "tokens", "tokens_per_s", "peak_share", "wait_share", "peak_memory",
)  # fmt: skip
"""What is logged of a step, besides its scores."""


def numbers(event: Step | Validation | Tested) -> dict[str, float]:
    """What is worth a curve, by names such as `train/bits` and `validation/objective/spans/accuracy`."""
    if isinstance(event, Validation):
        return _scores("validation", event.scores)
    if isinstance(event, Tested):
        return _scores("test", event.scores)
    return _scores("train", event.scores) | {f"train/{key}": getattr(event, key) for key in NUMBERS}


def _scores(prefix: str, scores: Scores) -> dict[str, float]:
    groups = {
        "": {"": scores.all},
        "/objective": scores.by_objective,
        "/ratio": scores.by_ratio,
        "/field": scores.by_field,
        "/protocol": scores.by_protocol,
    }
    return {f"{prefix}/skill/{name}": skill for name, skill in scores.skills.items()} | {
        f"{prefix}{group}{'/' + name if name else ''}/{key}": getattr(score, key)
        for group, members in groups.items()
        for name, score in members.items()
        for key in ("bits", "accuracy")
    }


class TensorBoard:
    """Event files in the folder `tensorboard` of the run."""

    def __init__(self, run: Path, identity: dict[str, Any], step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(RunFolder(run).tensorboard, purge_step=step + 1)

    def log(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class WandB:
    """A Weights & Biases run that is named after the run folder and goes on when that does."""

    def __init__(self, run: Path, identity: dict[str, Any], step: int) -> None:
        self._run = import_module("wandb").init(
            project="maskseq", name=run.name, id=_run_id(run), dir=run, config=identity, resume="allow"
        )

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._run.finish()


class Trackio:
    """A trackio run that is named after the run folder and goes on when that does."""

    def __init__(self, run: Path, identity: dict[str, Any], step: int) -> None:
        name = f"{run.name}-{_run_id(run)}"
        self._run = import_module("trackio").init(project="maskseq", name=name, config=identity, resume="allow")

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._run.finish()


class MLflow:
    """An MLflow run, where MLFLOW_TRACKING_URI says, that is found again by a tag."""

    def __init__(self, run: Path, identity: dict[str, Any], step: int) -> None:
        self._mlflow = mlflow = import_module("mlflow")
        tag = {"maskseq.run": _run_id(run)}
        mlflow.set_experiment("maskseq")
        query = f"tags.`maskseq.trained` = '{tag['maskseq.trained']}'"
        before = mlflow.search_runs(filter_string=query, output_format="list", max_results=1)
        mlflow.start_run(run_id=before[0].info.run_id if before else None, run_name=run.name, tags=tag)

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._mlflow.log_metrics(dict(values), step=step)

    def close(self) -> None:
        self._mlflow.end_run()


LOGGERS: dict[str, Open] = {"tensorboard": TensorBoard, "wandb": WandB, "trackio": Trackio, "mlflow": MLflow}


def _find(name: str) -> Open:
    if name in LOGGERS:
        try:
            import_module(name)
        except ImportError as error:
            raise UsageError(
                f"logger {name!r} is not installed: {error}\n\nhint: pip install {name}", code="missing-extra"
            ) from None
        return LOGGERS[name]
    module, _, attribute = name.partition(":")
    if not attribute:
        raise UsageError(
            f"there is no logger {name!r}\n\nhint: there are {', '.join(LOGGERS)}, and module:function",
            code="unknown-name",
        )
    try:
        found: Open = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UsageError(f"cannot load logger {name!r}: {error}", code="unknown-name") from None
    return found


def _run_id(run: Path) -> str:
    """The same whenever the run goes on."""
    return hashlib.sha256(str(run.resolve()).encode()).hexdigest()[:12]
