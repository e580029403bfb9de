"""What lies in a run folder and in its checkpoints, and under which names. Nothing here reads or writes."""

from dataclasses import dataclass
from pathlib import Path

from maskseq.contract.renamed import in_folder

RECIPE, METRICS, FREQUENCIES, REPORT = "recipe.json", "metrics.jsonl", "frequencies.json", "report.html"
SIMPLE_LOSSES = "simple_losses.json"
CHECKPOINTS, LATEST, BEST, CORPUS, TENSORBOARD = "checkpoints", "latest", "best", "corpus", "tensorboard"
MODEL, CONFIG, TOKENIZER, DIGESTS = "model.safetensors", "config.json", "tokenizer.json", "digests.json"
STATE, LAYOUT, CALIBRATION, LENGTH_HEAD, GATE = (
    "training_state",
    "layout.json",
    "calibration.json",
    "length_head.safetensors",
    "gate.json",
)
TASK, TASK_HEAD, TASK_FIGURES = "task.json", "task_head.safetensors", "task_figures.json"


@dataclass(frozen=True)
class RunFolder:
    """The paths of a run. What lies there under an older name (`contract/renamed.py`) is found under that."""

    path: Path

    @property
    def recipe(self) -> Path:
        """The run's identity: the resolved recipe and the fingerprint of its corpus."""
        return in_folder(self.path, RECIPE)

    @property
    def metrics(self) -> Path:
        return in_folder(self.path, METRICS)

    @property
    def frequencies(self) -> Path:
        """How often each id occurs in training."""
        return in_folder(self.path, FREQUENCIES)

    @property
    def simple_losses(self) -> Path:
        """What simple methods reach on the rows that the run is validated on."""
        return in_folder(self.path, SIMPLE_LOSSES)

    @property
    def report(self) -> Path:
        return in_folder(self.path, REPORT)

    @property
    def corpus(self) -> Path:
        """The corpus, unless the recipe names another place."""
        return in_folder(self.path, CORPUS)

    @property
    def checkpoints(self) -> Path:
        """The folder that holds all of them."""
        return in_folder(self.path, CHECKPOINTS)

    @property
    def latest(self) -> Path:
        """A text file with the name of the newest checkpoint."""
        return in_folder(self.path, LATEST)

    @property
    def best(self) -> Path:
        """A text file with the name of the best checkpoint by selection data, if one was chosen."""
        return in_folder(self.path, BEST)

    @property
    def tensorboard(self) -> Path:
        return in_folder(self.path, TENSORBOARD)

    @property
    def is_run(self) -> bool:
        """Whether checkpoints lie here, or have lain; a checkpoint of its own has neither."""
        return self.latest.exists() or self.checkpoints.is_dir()

    @property
    def results(self) -> tuple[Path, ...]:
        """What training writes over or cuts: none of it may lie in a folder without a recipe."""
        return self.checkpoints, self.metrics, self.latest, self.best, self.report

    def checkpoint(self, step: int) -> Path:
        return self.checkpoints / f"step_{step}"

    def row_counts(self, plan: str, epoch: int) -> Path:
        """The cached row counts of an epoch that is packed by the plan of this digest."""
        return self.path / f"plan-{plan[:12]}-{epoch}.bin"


@dataclass(frozen=True)
class CheckpointFolder:
    """The paths of a checkpoint, and of what is fitted to it afterwards."""

    path: Path

    @property
    def run(self) -> RunFolder:
        """The run that it belongs to, where it still lies in one."""
        return RunFolder(self.path.parent.parent)

    @property
    def recipe(self) -> Path:
        """A copy of the run's, which the seal covers."""
        return self.path / RECIPE

    @property
    def model(self) -> Path:
        return self.path / MODEL

    @property
    def config(self) -> Path:
        return self.path / CONFIG

    @property
    def tokenizer(self) -> Path:
        return self.path / TOKENIZER

    @property
    def digests(self) -> Path:
        """The seal, written last."""
        return self.path / DIGESTS

    @property
    def state(self) -> Path:
        """The folder of what training needs to go on."""
        return self.path / STATE

    @property
    def layout(self) -> Path:
        """Where the parts of the state lie, and where the run stood."""
        return self.state / LAYOUT

    @property
    def calibration(self) -> Path:
        return self.path / CALIBRATION

    @property
    def length_head(self) -> Path:
        return self.path / LENGTH_HEAD

    @property
    def gate(self) -> Path:
        """How much the encoder and each expert are worth."""
        return self.path / GATE

    @property
    def task(self) -> Path:
        """What it was fine-tuned for."""
        return self.path / TASK

    @property
    def task_head(self) -> Path:
        return self.path / TASK_HEAD

    @property
    def task_figures(self) -> Path:
        """How well it does, compared with simple methods."""
        return self.path / TASK_FIGURES
