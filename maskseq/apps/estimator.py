"""Fine-tuning as estimators of scikit-learn: records in place of rows, for Pipeline, clone and GridSearchCV."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from maskseq.apps.finetune import fit_task
from maskseq.contract.fence import encode
from maskseq.errors import UsageError
from maskseq.tasks.config import FitConfig, HeadConfig, HeadKind, Kind, LabelSource, TaskConfig, TaskData
from maskseq.tasks.examples import TaskExample, split_shares
from maskseq.tasks.task_model import TaskModel
from maskseq.trained import load
from maskseq.types import Record


class _SequenceEstimator(BaseEstimator):
    """What both share. Parameters are those of a task file; `run` is a run folder."""

    def __init__(
        self,
        run: str | Path,
        *,
        head: HeadKind = "mean",
        train: str = "full",
        epochs: int = 20,
        patience: int = 4,
        batch: int = 32,
        lr: float = 5e-4,
        head_lr: float = 1e-3,
        class_weights: str = "none",
        symmetries: bool = False,
        selection: float = 0.15,
        seed: int = 0,
    ) -> None:
        self.run = run
        self.head = head
        self.train = train
        self.epochs = epochs
        self.patience = patience
        self.batch = batch
        self.lr = lr
        self.head_lr = head_lr
        self.class_weights = class_weights
        self.symmetries = symmetries
        self.selection = selection
        self.seed = seed

    def _fit(self, X: Sequence[Record], labels: Sequence[str], kind: Kind) -> None:
        if len(X) != len(labels):
            raise UsageError(
                f"{len(X):,} records and {len(labels):,} labels: there must be one each", code="bad-option"
            )
        loaded = load(self.run)  # anew, since fitting changes it
        config = TaskConfig(
            kind=kind,
            data=TaskData(files=("X",), selection=self.selection),
            labels=LabelSource(column="y"),
            head=HeadConfig(kind=self.head),
            training=FitConfig(
                train=self.train,  # type: ignore[arg-type]
                epochs=self.epochs,
                patience=self.patience,
                batch=self.batch,
                lr=self.lr,
                head_lr=self.head_lr,
                class_weights=self.class_weights,  # type: ignore[arg-type]
                symmetries=self.symmetries,
            ),
            seed=self.seed,
        )
        seen = [encode(loaded.tokenizer, record) for record in X]
        examples = [
            TaskExample(key=str(i), group=str(i), ids=each.ids, numbers=each.numbers, labels=(label,))
            for i, (each, label) in enumerate(zip(seen, labels, strict=True))
        ]
        shares = {"selection": self.selection}
        parts = split_shares(examples, shares, seed=self.seed, stratify=kind != "regression")
        self.model_: TaskModel
        self.model_, self.history_ = fit_task(config, loaded, parts)

    def _predict(self, X: Sequence[Record]) -> np.ndarray:
        check_is_fitted(self, "model_")
        seen = [encode(self.model_.tokenizer, record) for record in X]
        return self.model_.predict(
            [TaskExample(key=str(i), group="", ids=each.ids, numbers=each.numbers) for i, each in enumerate(seen)]
        )


class SequenceClassifier(ClassifierMixin, _SequenceEstimator):
    """A run, fine-tuned for classes of records: `SequenceClassifier("runs/mine").fit(records, labels)`."""

    def fit(self, X: Sequence[Record], y: Sequence[Any]) -> "SequenceClassifier":
        """Fit on records and their classes; a share of them decides when to stop and how sure predictions are."""
        self.classes_, index = np.unique(np.asarray(y), return_inverse=True)
        self._fit(X, [str(i) for i in index.tolist()], "binary" if len(self.classes_) == 2 else "multiclass")
        return self

    def predict_proba(self, X: Sequence[Record]) -> np.ndarray:
        """Calibrated probabilities of `classes_`."""
        found, known = self._predict(X), [int(name) for name in self.model_.space.classes]
        probabilities = np.zeros((len(found), len(self.classes_)))
        probabilities[:, known] = found
        return probabilities

    def predict(self, X: Sequence[Record]) -> np.ndarray:
        """The most probable class of each."""
        return np.asarray(self.classes_[self.predict_proba(X).argmax(axis=1)])


class SequenceRegressor(RegressorMixin, _SequenceEstimator):
    """The same for numbers."""

    def fit(self, X: Sequence[Record], y: Sequence[float]) -> "SequenceRegressor":
        """Fit on records and their numbers."""
        self._fit(X, [repr(float(value)) for value in y], "regression")
        return self

    def predict(self, X: Sequence[Record]) -> np.ndarray:
        """The value of each."""
        return self._predict(X)[:, 0]
