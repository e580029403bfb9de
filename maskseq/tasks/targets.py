"""What is predicted, as numbers: classes, sets of labels or standardised values; losses and probabilities of them."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from maskseq.errors import DataError, UsageError
from maskseq.tasks.config import Kind, LabelSource
from maskseq.tasks.examples import TaskExample
from maskseq.tasks.labels import listed

MOST_CLASSES = 1000


@dataclass(frozen=True, kw_only=True)
class TargetSpace:
    """Labels as numbers and back, fixed by the training part."""

    kind: Kind
    classes: tuple[str, ...] = ()
    """In the order of the outputs; of `binary` the second one is the positive one. None for numbers."""
    mean: float = 0.0
    scale: float = 1.0
    """Of numbers: outputs are (value − mean) / scale."""
    separator: str = ";"

    @classmethod
    def fit(cls, kind: Kind, source: LabelSource, train: Sequence[TaskExample]) -> "TargetSpace":
        """From the labels of the training part; `DataError` for one class only, `UsageError` for the wrong kind."""
        labels = [label for each in train for label in each.labels]
        if kind == "regression":
            values = _numbers(train)
            if len(np.unique(values)) < 2:
                raise DataError(
                    "the training data",
                    f"all {len(values):,} labels are {values[0]:g}: nothing to learn",
                    code="too-little-data",
                )
            return cls(kind=kind, mean=float(values.mean()), scale=float(values.std()))
        if kind == "multilabel":
            labels = [part for label in labels for part in parted(label, source.separator)]
        classes = _ordered(set(labels))
        if len(classes) < 2 - (kind == "multilabel"):
            found = f"all {len(labels):,} labels are {classes[0]!r}" if classes else "there are no labels"
            raise DataError("the training data", f"{found}: a task needs two classes", code="too-little-data")
        if kind == "binary" and len(classes) > 2:
            raise UsageError(
                f"kind = 'binary', but there are {len(classes):,} classes: {listed(classes)}", code="bad-option"
            )
        if len(classes) > MOST_CLASSES:
            raise UsageError(
                f"{len(classes):,} classes are more than {MOST_CLASSES:,}: are these keys or numbers? "
                f"({listed(classes)})",
                code="bad-option",
            )
        if source.positive is not None and kind == "binary":
            if source.positive not in classes:
                raise UsageError(
                    f"labels.positive = {source.positive!r} is none of the classes {listed(classes)}",
                    code="unknown-name",
                )
            classes = (*(each for each in classes if each != source.positive), source.positive)
        return cls(kind=kind, classes=classes, separator=source.separator)

    @property
    def n_outputs(self) -> int:
        return {"binary": 1, "regression": 1}.get(self.kind, len(self.classes))

    def targets(self, examples: Iterable[TaskExample]) -> Float[np.ndarray, "answers columns"]:
        """One row an answer: the class's number, the value, or of `multilabel` 0 and 1 of each label.

        `DataError` names a label that the training part does not have.
        """
        examples = list(examples)
        if self.kind == "regression":
            return _numbers(examples)[:, None]
        index = {name: i for i, name in enumerate(self.classes)}
        rows = []
        for each in examples:
            for label in each.labels:
                parts = parted(label, self.separator) if self.kind == "multilabel" else [label]
                if strange := [part for part in parts if part not in index]:
                    raise DataError(
                        f"record {each.key!r}",
                        f"the class {strange[0]!r} is not in the training data, which has {listed(self.classes)}",
                        code="bad-label",
                    )
                if self.kind == "multilabel":
                    rows.append([float(name in parts) for name in self.classes])
                else:
                    rows.append([float(index[label])])
        width = len(self.classes) if self.kind == "multilabel" else 1
        return np.array(rows, dtype=np.float64).reshape(-1, width)

    def class_weights(self, targets: Float[np.ndarray, "answers columns"]) -> Float[np.ndarray, " classes"] | None:
        """Those that give every class an equal say; None for numbers and for sets of labels."""
        if self.kind not in ("binary", "multiclass"):
            return None
        counts = np.bincount(targets[:, 0].astype(int), minlength=len(self.classes))
        return np.asarray(len(targets) / (len(self.classes) * np.maximum(counts, 1)), dtype=np.float64)

    def losses(
        self, outputs: Float[Tensor, "answers outputs"], targets: Float[Tensor, "answers columns"]
    ) -> Float[Tensor, " answers"]:
        """Nats, or squared errors in units of the training part's variance."""
        if self.kind == "regression":
            return (outputs[:, 0] - (targets[:, 0] - self.mean) / self.scale) ** 2
        if self.kind == "binary":
            return F.binary_cross_entropy_with_logits(outputs[:, 0], targets[:, 0], reduction="none")
        if self.kind == "multiclass":
            return F.cross_entropy(outputs, targets[:, 0].long(), reduction="none")
        return F.binary_cross_entropy_with_logits(outputs, targets, reduction="none").mean(dim=1)

    def predictions(
        self, outputs: Float[np.ndarray, "answers outputs"], temperature: float = 1.0
    ) -> Float[np.ndarray, "answers columns"]:
        """Probabilities of all classes (of `binary` two columns), or the value in its own unit."""
        outputs = np.asarray(outputs, dtype=np.float64)
        if self.kind == "regression":
            return outputs * self.scale + self.mean
        scaled = outputs / temperature
        if self.kind == "multiclass":
            shifted = np.exp(scaled - scaled.max(axis=1, keepdims=True))
            return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))
        positive = np.where(scaled >= 0, 1 / (1 + np.exp(-np.abs(scaled))), 1 - 1 / (1 + np.exp(-np.abs(scaled))))
        return np.concatenate([1 - positive, positive], axis=1) if self.kind == "binary" else positive

    def named(self, prediction: Float[np.ndarray, " columns"]) -> str | float:
        """The most probable class, the labels above one half, or the value."""
        if self.kind == "regression":
            return float(prediction[0])
        if self.kind == "multilabel":
            return self.separator.join(n for n, p in zip(self.classes, prediction, strict=True) if p > 0.5)
        return self.classes[int(prediction.argmax())]

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "classes": list(self.classes),
            "mean": self.mean,
            "scale": self.scale,
            "separator": self.separator,
        }


def fit_temperature(
    space: TargetSpace, outputs: Float[np.ndarray, "answers outputs"], targets: Float[np.ndarray, "answers columns"]
) -> float:
    """What outputs are divided by so that probabilities of the selection part are calibrated (golden section)."""
    if space.kind == "regression":
        return 1.0
    given, wanted = torch.from_numpy(np.asarray(outputs, np.float64)), torch.from_numpy(targets)

    def loss(log_temperature: float) -> float:
        return float(space.losses(given / math.exp(log_temperature), wanted).mean())

    low, high = math.log(0.1), math.log(20.0)
    ratio = (math.sqrt(5) - 1) / 2
    for _ in range(40):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, right) if loss(left) <= loss(right) else (left, high)
    found = (low + high) / 2
    return math.exp(found) if loss(found) < loss(0.0) else 1.0


def half_width(errors: Float[np.ndarray, " answers"], coverage: float) -> float:
    """Split conformal: what a new absolute error stays below with at least this probability, by those seen.

    Infinite where they are too few to bound it: a new error exceeds all n with probability 1 / (n + 1).
    """
    ordered = np.sort(np.abs(errors))
    rank = math.ceil((len(ordered) + 1) * coverage)
    return float(ordered[rank - 1]) if rank <= len(ordered) else math.inf


def parted(label: str, separator: str) -> list[str]:
    """The labels of a set; none of an empty one or of `-`."""
    return [part.strip() for part in label.split(separator) if part.strip() not in ("", "-")]


def _ordered(names: set[str]) -> tuple[str, ...]:
    """Numbers by size, other names by their letters."""
    try:
        return tuple(sorted(names, key=lambda name: (float(name), name)))
    except ValueError:
        return tuple(sorted(names))


def _numbers(examples: Sequence[TaskExample]) -> Float[np.ndarray, " answers"]:
    values = []
    for each in examples:
        for label in each.labels:
            try:
                values.append(float(label))
            except ValueError:
                values.append(math.nan)
            if not math.isfinite(values[-1]):
                raise DataError(
                    f"record {each.key!r}",
                    f"the label {label!r} is not a number, which kind 'regression' needs",
                    code="bad-label",
                )
    return np.array(values, dtype=np.float64)
